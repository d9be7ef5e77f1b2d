//! Connections: for reading, all of an epoch with one snapshot; for writing, one.

mod epoch;
mod lease;

pub(crate) use epoch::{ReadLease, Readers};
pub(crate) use lease::{WriteLease, WriteSlot};

use crate::config::SqliteConfig;
use crate::error::{from_driver, needs_recovery};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// How long SQLite itself waits for another program's lock before it says that the file is busy.
const BUSY: Duration = Duration::from_secs(5);
/// How many statements a connection keeps prepared.
const STATEMENTS: usize = 64;

/// The file and its connections.
pub(crate) struct Client {
    pub store: StoreName,
    pub config: SqliteConfig,
    pub readers: Arc<Readers>,
    writing: Arc<Mutex<WriteSlot>>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Reading a source, which is never written to.
    Source,
    /// Reading a target back: what a killed run has left in its journal may be undone.
    Target,
    /// Writing into a file that is there.
    Write,
    /// Writing into a file that is made where it is missing.
    Create,
}

impl Client {
    pub(crate) fn new(store: &StoreName, config: SqliteConfig) -> Self {
        Self {
            store: store.clone(),
            readers: Arc::new(Readers::new(store, &config)),
            config,
            writing: Arc::default(),
        }
    }

    /// Whether the file is there.
    pub(crate) fn exists(&self) -> bool {
        self.config.path().exists()
    }

    /// Runs something on a connection of its own that reads what is committed now.
    pub(crate) async fn read_back<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (store, config) = (self.store.clone(), self.config.clone());
        blocking(&self.store, move || work(&open_target(&store, &config)?)).await
    }

    /// Begins a transaction that writes, on the store's only connection for that; waits for its turn. With
    /// `create` the file is made where it is missing.
    pub(crate) async fn begin(&self, create: bool) -> Result<WriteLease> {
        let slot = Arc::clone(&self.writing).lock_owned().await;
        let (store, config) = (self.store.clone(), self.config.clone());
        let readers = Arc::clone(&self.readers);
        blocking(&self.store, move || {
            readers.make_way();
            let access = if create { Access::Create } else { Access::Write };
            WriteLease::begin(&store, slot, || open(&store, &config, access))
        })
        .await
    }

    /// Lets go of all connections.
    pub(crate) async fn close(&self) {
        self.readers.end_epoch();
        let mut slot = Arc::clone(&self.writing).lock_owned().await;
        // The last connection to close brings the write-ahead log home and removes it.
        let closed = blocking(&self.store, move || {
            slot.close();
            Ok(())
        });
        if let Err(error) = closed.await {
            tracing::warn!(%error, "the database could not be closed");
        }
    }
}

/// Opens a connection that reads a source.
fn open_source(store: &StoreName, config: &SqliteConfig) -> Result<Connection> {
    open(store, config, Access::Source)
}

/// Opens a connection that reads a target back.
pub(crate) fn open_target(store: &StoreName, config: &SqliteConfig) -> Result<Connection> {
    open(store, config, Access::Target)
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    store: &StoreName,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(StoreError::new(StoreErrorKind::Internal, store, "a thread ended badly").caused_by(error))
    })
}

fn open(store: &StoreName, config: &SqliteConfig, access: Access) -> Result<Connection> {
    let path = config.path();
    let is_new = look_at_file(store, path, access)?;
    let failed = |error| not_opened(store, path, error);
    let plain = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let flags = plain
        | match access {
            Access::Source => OpenFlags::SQLITE_OPEN_READ_ONLY,
            Access::Target | Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
            Access::Create => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        };
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    match set_up(&connection, access, is_new) {
        Ok(()) => Ok(connection),
        Err(error) if needs_recovery(&error) || (cannot_share(&error) && is_unfinished(path)) => {
            let context = format!("{} was left in the middle of a transaction", path.display());
            Err(StoreError::new(StoreErrorKind::Forbidden, store, context)
                .caused_by(error)
                .with_hint(crate::error::RECOVERY_HINT))
        }
        // A write-ahead log needs a file in shared memory beside it. Where neither is there, nor can be made,
        // nobody writes, and the file may be read as it lies.
        Err(error) if access == Access::Source && cannot_share(&error) => {
            let flags = plain | OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
            let connection = Connection::open_with_flags(immutable(path), flags).map_err(failed)?;
            set_up(&connection, access, is_new).map_err(failed)?;
            Ok(connection)
        }
        Err(error) => Err(failed(error)),
    }
}

fn set_up(connection: &Connection, access: Access, is_new: bool) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    match access {
        Access::Source | Access::Target => connection.execute_batch("PRAGMA query_only = ON")?,
        Access::Write | Access::Create => {
            // Readers and the writer do not wait for one another in this mode, and a commit is one sync.
            let mode = if is_new { "PRAGMA journal_mode = WAL; " } else { "" };
            let sql = format!(
                "{mode}PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -16000"
            );
            connection.execute_batch(&sql)?;
        }
    }
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

/// Whether SQLite could not have the shared memory that the write-ahead mode needs.
fn cannot_share(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// Whether a journal or a write-ahead log with something in it lies beside the file: without it the file is not what
/// was committed.
fn is_unfinished(path: &Path) -> bool {
    ["-wal", "-journal"]
        .iter()
        .any(|suffix| beside(path, suffix).metadata().is_ok_and(|found| found.len() > 0))
}

/// A file that SQLite keeps beside the database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The URI of a file that nobody changes.
fn immutable(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        let is_plain = byte.is_ascii_alphanumeric() || b"/._-~".contains(byte);
        if is_plain { uri.push(char::from(*byte)) } else { uri.push_str(&format!("%{byte:02X}")) }
    }
    uri + "?immutable=1"
}

/// Whether the file is still to be made, or is empty. It is looked at and never opened: whoever closes a file gives up
/// all locks that its process holds on it, those of SQLite's other connections among them.
fn look_at_file(store: &StoreName, path: &Path, access: Access) -> Result<bool> {
    let shown = path.display();
    match path.metadata() {
        Ok(found) if found.is_dir() => {
            let error = StoreError::new(StoreErrorKind::Mismatch, store, format!("{shown} is a folder"));
            Err(error.with_hint("`sqlite` takes the path of a database file"))
        }
        Ok(found) => Ok(found.len() == 0),
        Err(error) if error.kind() == ErrorKind::NotFound && access == Access::Create => Ok(true),
        Err(error) => {
            let (kind, hint) = match error.kind() {
                ErrorKind::NotFound if matches!(access, Access::Write | Access::Target) => {
                    (StoreErrorKind::NotFound, "make it with `whimbrel create` or `whimbrel run --create`")
                }
                ErrorKind::NotFound => (StoreErrorKind::NotFound, "paths are relative to the spec"),
                ErrorKind::PermissionDenied => {
                    (StoreErrorKind::Forbidden, "the permissions of its folder do not let whimbrel in")
                }
                _ => (StoreErrorKind::Unreachable, "look at the disk that it lies on"),
            };
            Err(StoreError::new(kind, store, format!("cannot open {shown}")).caused_by(error).with_hint(hint))
        }
    }
}

/// Why a file that is there could not be opened.
fn not_opened(store: &StoreName, path: &Path, error: rusqlite::Error) -> StoreError {
    let shown = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            let context = format!("{shown} is no SQLite database, or it is encrypted");
            StoreError::new(StoreErrorKind::Mismatch, store, context)
                .caused_by(error)
                .with_hint("whimbrel opens no encrypted databases: decrypt a copy of it first")
        }
        Some(ErrorCode::CannotOpen) if path.exists() => {
            StoreError::new(StoreErrorKind::Forbidden, store, format!("cannot open {shown}"))
                .caused_by(error)
                .with_hint("the permissions of the file or its folder do not let whimbrel in")
        }
        _ => from_driver(store, format!("cannot open {shown}"), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_uri() {
        assert_eq!(immutable(Path::new("/a b/c?d#e%.db")), "file:/a%20b/c%3Fd%23e%25.db?immutable=1");
    }
}
