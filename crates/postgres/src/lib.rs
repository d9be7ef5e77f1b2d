//! PostgreSQL as a store.
//!
//! Reading: slices are ranges of a key, each read by one `COPY … TO STDOUT (FORMAT binary)` that is decoded
//! straight into Arrow; all slices of an epoch see one exported snapshot. See [`types`] for the type table.
//! Writing: binary `COPY`, straight into a table that held nothing or into a staging table that one statement merges;
//! each batch is one transaction, with its row in a ledger beside the data. What PostgreSQL refuses is found by
//! halving.
//! Reading back, for comparison: the same `COPY`, encoded again as it would be written, so that equal records have
//! equal fingerprints.

mod catalog;
mod client;
pub mod config;
mod copy;
mod encode;
mod error;
mod ledger;
mod permissions;
mod rows;
mod source;
mod sql;
mod target;
mod template;
pub mod types;
mod value;
mod writer;

pub use config::PostgresConfig;

use async_trait::async_trait;
use client::{Connections, Lease, Purpose, first_value};
use source::PostgresSource;
use std::path::PathBuf;
use std::sync::Arc;
use target::{PostgresTarget, Writing};
use tokio_postgres::error::ErrorPosition;
use whimbrel_model::{Identity, StoreName};
use whimbrel_store::structure::{Definition, Structure};
use whimbrel_store::{
    Finding, ReadRequest, Result, Source, Store, StoreError, StoreErrorKind, TableNeed, Target, WriteRequest,
};

/// A PostgreSQL database. Connects when it is first asked for something.
pub struct PostgresStore {
    name: StoreName,
    config: Arc<PostgresConfig>,
    connections: Arc<Connections>,
    writing: Arc<Writing>,
}

impl PostgresStore {
    /// The database that a configuration names.
    #[must_use]
    pub fn new(name: StoreName, config: PostgresConfig) -> Self {
        let config = Arc::new(config);
        let connections = Arc::new(Connections::new(&name, &config));
        Self { name, config, connections, writing: Arc::default() }
    }

    /// The store, with a script that makes its tables where they are missing.
    #[must_use]
    pub fn with_schema_file(mut self, path: PathBuf) -> Self {
        self.writing = Arc::new(Writing { schema_file: Some(path), ..Writing::default() });
        self
    }

    /// Runs a script of any number of statements in one transaction: all of it or nothing. Ends the epoch of
    /// a store with a single connection.
    ///
    /// # Errors
    /// The store fails, or a statement does; the error names its line.
    pub async fn execute_script(&self, sql: &str) -> Result<()> {
        let lease = self.connections.lease(Purpose::Write).await?;
        if let Err(error) = lease.client().batch_execute(sql).await {
            let line = error.as_db_error().and_then(|db| match db.position() {
                Some(ErrorPosition::Original(at)) => Some(line_of(sql, *at)),
                _ => None,
            });
            let doing = match line {
                Some(line) => format!("the script failed at line {line}, and nothing of it was kept"),
                None => "the script failed, and nothing of it was kept".to_owned(),
            };
            return Err(error::from_driver(&self.name, doing, error));
        }
        lease.finish().await
    }

    /// The first value of a query's first row as an integer; `None`: no row, or NULL.
    ///
    /// # Errors
    /// The store fails, or the value is no 64-bit integer.
    pub async fn query_scalar_i64(&self, sql: &str) -> Result<Option<i64>> {
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let answer = lease.client().simple_query(sql).await;
        let answer = answer.map_err(|error| error::from_driver(&self.name, "the query failed", error))?;
        let value = first_value(&answer).map(str::parse).transpose().map_err(|error| {
            StoreError::new(StoreErrorKind::Mismatch, &self.name, "the query's value is no integer")
                .caused_by(error)
        })?;
        lease.finish().await?;
        Ok(value)
    }

    async fn findings(&self, lease: &Lease) -> Result<Vec<Finding>> {
        let server = lease.server();
        let tls = if server.has_tls { "over TLS" } else { "without TLS" };
        let mut findings = vec![Finding::good(format!(
            "{}: PostgreSQL {}, database `{}` as role `{}`, {tls}",
            self.config, server.version, server.database, server.user
        ))];
        if server.is_standby {
            findings.push(Finding::good(
                "the server is a standby: it can be read, and it may end a long read that holds back its replay",
            ));
        }
        if !server.text_is_utf8 {
            findings.push(Finding::good(
                "the database is SQL_ASCII: records whose text is not UTF-8 will be rejects",
            ));
        }
        let identity = catalog::identity(&self.name, lease, &self.config).await?;
        findings.push(Finding::good(format!("identity {identity}")));
        Ok(findings)
    }
}

/// The line, counted from 1, of a character, counted from 1.
pub(crate) fn line_of(sql: &str, character: u32) -> usize {
    let before = usize::try_from(character.saturating_sub(1)).unwrap_or(usize::MAX);
    1 + sql.chars().take(before).filter(|char| *char == '\n').count()
}

#[async_trait]
impl Store for PostgresStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn location(&self) -> String {
        self.config.to_string()
    }

    async fn identity(&self) -> Result<Identity> {
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let identity = catalog::identity(&self.name, &lease, &self.config).await?;
        lease.finish().await?;
        // Embedded databases are copies of one that was made once, and carry its system identifier.
        Ok(match &self.config.shown_as {
            Some(shown_as) => Identity::new(format!("{identity} in {shown_as}")),
            None => identity,
        })
    }

    async fn check(&self) -> Vec<Finding> {
        let found = async {
            let lease = self.connections.lease(Purpose::Catalog).await?;
            let findings = self.findings(&lease).await?;
            lease.finish().await?;
            self.connections.check_sessions().await?;
            Ok::<_, StoreError>(findings)
        };
        found.await.unwrap_or_else(|error| vec![Finding::bad(&error)])
    }

    async fn permissions(&self, needs: &[TableNeed]) -> Vec<Finding> {
        let found = async {
            let lease = self.connections.lease(Purpose::Catalog).await?;
            let asking = permissions::Permissions { store: &self.name, lease: &lease };
            let findings = asking.of(needs).await?;
            lease.finish().await?;
            Ok::<_, StoreError>(findings)
        };
        found.await.unwrap_or_else(|error| vec![Finding::bad(&error)])
    }

    async fn begin_epoch(&self) -> Result<()> {
        self.connections.begin_epoch().await
    }

    fn expect(&self, readers: usize, writers: usize) {
        self.connections.expect(readers, writers);
    }

    fn source(&self, request: ReadRequest) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(PostgresSource::new(&self.name, &self.connections, request)))
    }

    fn target(&self, request: WriteRequest) -> Result<Arc<dyn Target>> {
        let (config, connections) = (&self.config, &self.connections);
        Ok(Arc::new(PostgresTarget::new(&self.name, config, connections, &self.writing, request)))
    }

    async fn structure(&self) -> Result<Structure> {
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let structure = catalog::structure(&self.name, &lease).await?;
        lease.finish().await?;
        Ok(structure)
    }

    fn define(&self, structure: &Structure) -> Result<Definition> {
        target::define(&self.name, structure)
    }

    async fn close(&self) {
        self.connections.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::line_of;

    #[test]
    fn a_character_has_a_line() {
        assert_eq!(line_of("a\nb\nc", 1), 1);
        assert_eq!(line_of("ü\nb\nc", 3), 2);
        assert_eq!(line_of("a\nb\nc", 5), 3);
    }
}
