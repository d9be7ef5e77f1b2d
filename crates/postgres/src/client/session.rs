//! One connection, set up the way that all work expects.

use super::connect::{self, Connected};
use super::line::Line;
use crate::config::PostgresConfig;
use crate::error::from_driver;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_postgres::SimpleQueryMessage;
use whimbrel_model::{Identity, StoreName};
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// How long a connection may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// What every session runs with. Values travel in binary form, except keys of slices and cursors: those are
/// text, so whatever forms text is fixed here.
const SETTINGS: &str = "\
SET client_encoding TO 'UTF8'; \
SET TimeZone TO 'UTC'; \
SET DateStyle TO 'ISO, YMD'; \
SET IntervalStyle TO 'postgres'; \
SET extra_float_digits TO 3; \
SET bytea_output TO 'hex'; \
SET standard_conforming_strings TO on; \
SET statement_timeout TO 0; \
SET idle_in_transaction_session_timeout TO 0; \
SET lock_timeout TO '30s'";

/// Asked in a message of its own: behind a pooler by transaction it may be another server process that answers, without
/// the settings.
const FACTS: &str = "SELECT pg_backend_pid(), current_setting('server_version'), \
current_setting('server_version_num'), current_setting('server_encoding'), current_setting('TimeZone'), \
current_setting('standard_conforming_strings'), pg_is_in_recovery(), current_user, current_database()";

/// Makes the server's process keep the memory of one `COPY` for the next. Rows are gathered there, a thousand at a time
/// whatever their size, and with the end of each `COPY` glibc gives their pages back to the system: to take new ones was
/// a seventh of the server's processor time where vectors are loaded. How much may lie idle is twice the largest piece
/// that was ever freed (mallopt(3), `M_MMAP_THRESHOLD`), so that one large piece is taken and freed. Eight megabytes,
/// some milliseconds; other allocators take no notice. Behind `OFFSET 0` the text is none that the planner works out
/// beforehand, and copies.
const KEEP_MEMORY: &str =
    "; SELECT octet_length(repeat(x, 2048)) FROM (SELECT repeat('x', 4096) AS x OFFSET 0) AS large";

/// What a session found out about its server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server {
    pub backend_pid: i32,
    /// `17.5`
    pub version: String,
    /// `170005`
    pub version_number: u32,
    /// Whether the server vouches for text being UTF-8: its own encoding is not SQL_ASCII.
    pub text_is_utf8: bool,
    /// Whether the server itself keeps text as UTF-8, and orders it so where it orders by bytes.
    pub keeps_utf8: bool,
    pub is_standby: bool,
    pub user: String,
    pub database: String,
    pub has_tls: bool,
    /// What identifies the database that it is connected to, once that was asked for: a connection stays with one.
    pub identity: Arc<OnceCell<Identity>>,
}

/// A connection.
pub(crate) struct Session {
    pub line: Line,
    pub server: Server,
    /// Where its driver runs: what must happen after a lease is dropped runs there too.
    pub runtime: Handle,
    driver: JoinHandle<()>,
    /// Whether batches have been written on it.
    has_written: bool,
}

impl Session {
    pub(crate) async fn connect(store: &StoreName, config: &PostgresConfig) -> Result<Self> {
        let Connected { client, driver, has_tls } = connect::connect(store, config).await?;
        let runtime = Handle::current();
        let line = Line::new(client);
        let mut session = Self { line, server: Server::default(), runtime, driver, has_written: false };
        let doing = || format!("cannot set up a session on {config}");
        // One round trip for both.
        let client = session.line.client();
        let (set, facts) = futures::join!(client.batch_execute(SETTINGS), client.simple_query(FACTS));
        set.map_err(|error| from_driver(store, doing(), error))?;
        let facts = facts.map_err(|error| from_driver(store, doing(), error))?;
        session.server = Server { has_tls, ..server_of(store, &facts)? };
        if !session.server.text_is_utf8 {
            // A database that vouches for nothing would end the whole read at the first text that is not
            // UTF-8; unchecked, such text is one unreadable row.
            let unchecked = session.line.client().batch_execute("SET client_encoding TO 'SQL_ASCII'").await;
            unchecked.map_err(|error| from_driver(store, doing(), error))?;
        }
        Ok(session)
    }

    /// Asks beforehand what would be asked with the first transaction that writes a batch.
    pub(super) async fn make_ready_to_write(&mut self) {
        let once = self.first_batch();
        let asked = self.line.client().simple_query(once).await;
        // It is for speed alone; a connection that is gone is found out where it is used.
        asked
            .map(drop)
            .unwrap_or_else(|error| tracing::debug!(%error, "a connection could not be made ready"));
    }

    /// What is asked once, with the first transaction that writes a batch; behind a semicolon, or nothing.
    pub(super) fn first_batch(&mut self) -> &'static str {
        if std::mem::replace(&mut self.has_written, true) { "" } else { KEEP_MEMORY }
    }

    /// Cuts the connection, whatever is on its way.
    pub(crate) fn abort(self) {
        self.driver.abort();
    }

    /// Says goodbye and waits until the connection is closed.
    pub(crate) async fn close(self) {
        let Self { line, mut driver, .. } = self;
        drop(line);
        if tokio::time::timeout(GOODBYE, &mut driver).await.is_err() {
            driver.abort();
        }
    }
}

fn server_of(store: &StoreName, facts: &[SimpleQueryMessage]) -> Result<Server> {
    let row = facts.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let protocol = || StoreError::new(StoreErrorKind::Protocol, store, "the server does not say who it is");
    let row = row.ok_or_else(protocol)?;
    let text = |index: usize| row.try_get(index).ok().flatten().ok_or_else(protocol);
    if text(4)? != "UTC" || text(5)? != "on" {
        return Err(is_transaction_pooler(store));
    }
    Ok(Server {
        backend_pid: text(0)?.parse().map_err(|_| protocol())?,
        version: text(1)?.to_owned(),
        version_number: text(2)?.parse().map_err(|_| protocol())?,
        text_is_utf8: text(3)? != "SQL_ASCII",
        keeps_utf8: text(3)? == "UTF8",
        is_standby: text(6)? == "t",
        user: text(7)?.to_owned(),
        database: text(8)?.to_owned(),
        has_tls: false,
        identity: Arc::default(),
    })
}

/// Settings or backends change between transactions: a pooler hands its connections out by transaction.
pub(crate) fn is_transaction_pooler(store: &StoreName) -> StoreError {
    let context =
        "this address is a connection pooler in transaction mode: a session does not keep its server process";
    StoreError::new(StoreErrorKind::Unsupported, store, context)
        .with_hint("use the address of the server itself, or of a pooler in session mode")
}
