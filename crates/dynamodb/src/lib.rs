//! Amazon DynamoDB: read by parallel scans and queries, written with every limit of an item known before it is
//! sent.
//!
//! This crate knows no other store and nothing of flows: it gives and gets batches of Arrow records, and says
//! what became of each that it wrote.

mod backup;
mod capacity;
mod catalog;
mod classes;
mod client;
mod config;
mod count;
mod definition;
mod error;
mod gets;
mod held;
mod limits;
mod owner;
mod pacing;
mod source;
mod target;
mod types;
mod writer;

pub use config::{ConfigError, DuringRun, DynamoConfig, StaticCredentials};

use async_trait::async_trait;
use catalog::Catalog;
use client::Connector;
use pacing::Pacer;
use source::DynamoSource;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use target::DynamoTarget;
use whimbrel_model::{Identity, StoreName};
use whimbrel_store::{
    Finding, Raise, ReadRequest, Result, Source, Store, StoreError, StoreErrorKind, Target, WriteRequest,
};

/// A DynamoDB endpoint with an account behind it.
#[derive(Debug)]
pub struct DynamoStore {
    connector: Arc<Connector>,
    /// One limiter a table, shared by all flows into it.
    pacers: Mutex<HashMap<String, Arc<Pacer>>>,
}

impl DynamoStore {
    /// Does no I/O; the first request connects.
    #[must_use]
    pub fn new(name: StoreName, config: DynamoConfig) -> Self {
        Self { connector: Arc::new(Connector::new(name, config)), pacers: Mutex::default() }
    }

    fn pacer(&self, table: &str) -> Arc<Pacer> {
        let mut pacers = self.pacers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pacers.entry(table.to_owned()).or_insert_with(Pacer::new))
    }
}

#[async_trait]
impl Store for DynamoStore {
    fn name(&self) -> &StoreName {
        self.connector.name()
    }

    fn location(&self) -> String {
        self.connector.location()
    }

    fn price_region(&self) -> Option<String> {
        Some(self.connector.price_region())
    }

    async fn identity(&self) -> Result<Identity> {
        let catalog = Catalog::new(&self.connector);
        catalog.tables(1).await?;
        let region = &self.connector.connection().await?.region;
        Ok(Identity::new(match self.connector.shown_endpoint() {
            Some(endpoint) => format!("dynamodb {region} at {endpoint}"),
            None => format!("dynamodb {region}"),
        }))
    }

    async fn back_up(&self, tables: &[String], name: &str) -> Result<Option<Vec<String>>> {
        backup::back_up(&self.connector, tables, name).await.map(Some)
    }

    async fn raises(&self, tables: &[String]) -> Result<Vec<Raise>> {
        match self.connector.config().capacity {
            Some(wanted) => capacity::raises(&self.connector, wanted, tables).await,
            None => Ok(Vec::new()),
        }
    }

    async fn provision(&self, raise: &Raise, back: bool) -> Result<bool> {
        capacity::provision(&self.connector, raise, back).await
    }

    async fn check(&self) -> Vec<Finding> {
        let connection = match self.connector.connection().await {
            Ok(connection) => connection,
            Err(error) => return vec![Finding::bad(&error)],
        };
        let found = format!("credentials from {}, region {}", connection.credentials_from, connection.region);
        let mut findings = vec![Finding::good(found)];
        findings.push(match Catalog::new(&self.connector).tables(100).await {
            Ok(names) => {
                let more = if names.len() == 100 { " or more" } else { "" };
                Finding::good(format!("{} answers and lists {}{more} tables", self.location(), names.len()))
            }
            Err(error) => Finding::bad(&error),
        });
        findings
    }

    fn source(&self, request: ReadRequest) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(DynamoSource::new(&self.connector, request)?))
    }

    fn target(&self, request: WriteRequest) -> Result<Arc<dyn Target>> {
        let ignore = types::ignore::Ignore::parse(&request.ignore).map_err(|reason| {
            StoreError::new(
                StoreErrorKind::Unsupported,
                self.connector.name(),
                format!("`ignore` cannot be read: {reason}"),
            )
        })?;
        let pacer = self.pacer(&request.table);
        Ok(Arc::new(DynamoTarget::new(Arc::clone(&self.connector), pacer, request, ignore)))
    }
}
