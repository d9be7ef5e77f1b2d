//! SQLite as a store: one file.
//!
//! Reading: slices are ranges of the rowid or of a key, each read by a thread with a connection of its own that only
//! reads; all connections of an epoch see one snapshot. See [`types`] for the type table.
//! Writing: one connection, one transaction a batch with its row in a ledger (`whimbrel_ledger`) beside the data; a
//! record that SQLite refuses undoes itself alone.

mod catalog;
mod client;
pub mod config;
mod encode;
mod error;
mod identity;
mod ledger;
mod source;
mod sql;
mod target;
pub mod types;
mod writer;

pub use config::SqliteConfig;

use async_trait::async_trait;
use client::Client;
use source::SqliteSource;
use std::path::PathBuf;
use std::sync::Arc;
use target::{SqliteTarget, Writing};
use whimbrel_model::{Identity, StoreName};
use whimbrel_store::structure::{Definition, Structure};
use whimbrel_store::{
    Finding, ReadRequest, Result, Source, Store, StoreError, StoreErrorKind, Target, WriteRequest,
};

/// A SQLite database. Opens its file when it is first asked for something.
pub struct SqliteStore {
    name: StoreName,
    client: Arc<Client>,
    writing: Arc<Writing>,
}

impl SqliteStore {
    /// The database that a configuration names. Does no I/O.
    #[must_use]
    pub fn new(name: StoreName, config: SqliteConfig) -> Self {
        let client = Arc::new(Client::new(&name, config));
        Self { name, client, writing: Arc::default() }
    }

    /// The store, which is written into: its file need not be there yet.
    #[must_use]
    pub fn written(self) -> Self {
        self.writing.announce();
        self
    }

    /// The store, with a script that makes its tables where they are missing.
    #[must_use]
    pub fn with_schema_file(mut self, path: PathBuf) -> Self {
        self.writing = Arc::new(Writing::with_schema_file(path));
        self
    }

    /// Runs a script of any number of statements in one transaction: all of it or nothing. Makes the file where it
    /// is missing.
    ///
    /// # Errors
    /// The store fails, or a statement does.
    pub async fn execute_script(&self, sql: &str) -> Result<()> {
        let mut lease = self.client.begin(true).await?;
        let (store, sql) = (self.name.clone(), sql.to_owned());
        let ran = lease.run(move |connection| {
            let ran = connection.execute_batch(&sql);
            ran.map_err(|error| {
                error::from_driver(&store, "the script failed, and nothing of it was kept", error)
            })
        });
        ran.await?;
        lease.commit().await
    }

    /// The first value of a query's first row as an integer; `None`: no row, or NULL.
    ///
    /// # Errors
    /// The store fails, or the value is no integer.
    pub async fn query_scalar_i64(&self, sql: &str) -> Result<Option<i64>> {
        let (store, sql) = (self.name.clone(), sql.to_owned());
        self.client
            .read_back(move |connection| {
                let found = connection.prepare(&sql).and_then(|mut statement| {
                    let mut rows = statement.query([])?;
                    rows.next()?.map_or(Ok(None), |row| row.get(0))
                });
                found.map_err(|error| error::from_driver(&store, "the query failed", error))
            })
            .await
    }

    /// Looks at a file that is there, without writing.
    async fn findings(&self) -> Result<Vec<Finding>> {
        let store = self.name.clone();
        let lease = self.client.readers.lease_for_a_look().await?;
        let shown = self.location();
        let path = self.client.config.path().to_owned();
        client::blocking(&self.name, move || {
            let connection = lease.connection()?;
            let failed = |error| error::from_driver(&store, "cannot look at the database", error);
            let text = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, String>(0)).map_err(failed);
            let (encoding, mode) = (text("PRAGMA encoding")?, text("PRAGMA journal_mode")?);
            let tables = catalog::names(&store, connection)?.len();
            let version = rusqlite::version();
            let mut findings = vec![Finding::good(format!(
                "{shown}: {tables} tables and views, {encoding}, journal mode {mode}, read by SQLite {version}"
            ))];
            if mode != "wal" {
                findings.push(Finding::good(
                    "the database is not in WAL mode: programs that write to it wait while it is read",
                ));
            }
            findings.push(Finding::good(format!("identity {}", identity::of_file(&store, connection, &path)?)));
            Ok(findings)
        })
        .await
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn location(&self) -> String {
        self.client.config.to_string()
    }

    async fn identity(&self) -> Result<Identity> {
        let (store, path) = (self.name.clone(), self.client.config.path().to_owned());
        // A target's file may be made by the run itself: then its place is what it is, and each table says more.
        if self.writing.is_used() {
            return Ok(Identity::new(format!("sqlite {}", identity::canonical(&path).display())));
        }
        let lease = self.client.readers.lease_for_a_look().await?;
        let look = move || identity::of_file(&store, lease.connection()?, &path);
        client::blocking(&self.name, look).await.map(Identity::new)
    }

    async fn check(&self) -> Vec<Finding> {
        let path = self.client.config.path();
        if self.writing.is_used() && !self.client.exists() {
            let folder = identity::canonical(path).parent().is_some_and(std::path::Path::is_dir);
            return vec![if folder {
                Finding::good(format!("{}: not there yet, `whimbrel create` makes it", self.location()))
            } else {
                let context = format!("the folder of {} does not exist", path.display());
                let error = StoreError::new(StoreErrorKind::NotFound, &self.name, context);
                Finding::bad(&error.with_hint("make the folder, or correct the path"))
            }];
        }
        self.findings().await.unwrap_or_else(|error| vec![Finding::bad(&error)])
    }

    async fn begin_epoch(&self) -> Result<()> {
        let readers = Arc::clone(&self.client.readers);
        client::blocking(&self.name, move || readers.begin_epoch()).await
    }

    fn source(&self, request: ReadRequest) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(SqliteSource::new(&self.client, request)))
    }

    fn target(&self, request: WriteRequest) -> Result<Arc<dyn Target>> {
        if let Some(path) = request.ignore.iter().find(|path| path.contains(['.', '['])) {
            let context = format!("`ignore` below a column ({path:?}) is not supported yet");
            return Err(StoreError::new(StoreErrorKind::Unsupported, &self.name, context));
        }
        Ok(Arc::new(SqliteTarget::new(&self.client, &self.writing, request)))
    }

    async fn structure(&self) -> Result<Structure> {
        let store = self.name.clone();
        let lease = self.client.readers.lease_for_a_look().await?;
        client::blocking(&self.name, move || catalog::structure(&store, lease.connection()?)).await
    }

    fn define(&self, structure: &Structure) -> Result<Definition> {
        target::define(&self.name, structure)
    }

    async fn close(&self) {
        self.client.close().await;
    }
}
