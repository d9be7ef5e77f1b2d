//! A private copy of a directory's database, and what is made ready of it.

mod copy;
mod scratch;

pub(crate) use copy::{FileState, Signature, state};

use crate::catalog::{self, Collection};
use crate::config::ChromaConfig;
use crate::error::{Fault, Outcome};
use crate::records::Prepared;
use rusqlite::{Connection, OpenFlags};
pub(crate) use scratch::Scratch;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// The database's name in a persistent directory.
pub(crate) const DATABASE: &str = "chroma.sqlite3";
/// How a database is opened that is only read. A connection is used by one thread at a time: SQLite need not lock it
/// for each column of each row.
pub(crate) const READ_ONLY: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

/// A store's directory.
pub(crate) struct Client {
    pub(crate) store: StoreName,
    pub(crate) config: ChromaConfig,
    present: Mutex<Option<Present>>,
}

/// The present copy, and what is ready to be read of it, by the collection's id. What is ready keeps the copy, and not
/// the other way about: a copy that kept it would never go.
#[derive(Clone)]
struct Present {
    epoch: Arc<Epoch>,
    ready: Arc<Mutex<HashMap<String, Arc<Prepared>>>>,
}

/// A copy of the database as it was at one moment, and the states of all files at that moment.
pub(crate) struct Epoch {
    directory: PathBuf,
    signature: Signature,
    scratch: Scratch,
}

impl Client {
    pub(crate) fn new(store: &StoreName, config: ChromaConfig) -> Self {
        Self { store: store.clone(), config, present: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Option<Present>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present copy; the first who asks has it made. Blocks.
    pub(crate) fn epoch(&self) -> Outcome<Arc<Epoch>> {
        Ok(self.present()?.epoch)
    }

    fn present(&self) -> Outcome<Present> {
        let mut held = self.held();
        if let Some(present) = &*held {
            return Ok(present.clone());
        }
        let epoch = Arc::new(Epoch::begin(self.config.path())?);
        let present = Present { epoch, ready: Arc::default() };
        *held = Some(present.clone());
        Ok(present)
    }

    /// A collection, ready to be read. Blocks; others who want one wait, as this goes through whole tables.
    pub(crate) fn prepared(&self, name: &str) -> Outcome<Arc<Prepared>> {
        let Present { epoch, ready } = self.present()?;
        let collection = catalog::find(&epoch.connection()?, &self.config, name)?;
        let mut ready = ready.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = ready.get(&collection.id) {
            return Ok(Arc::clone(prepared));
        }
        let id = collection.id.clone();
        let prepared = Arc::new(Prepared::make(&epoch, collection, self.config.lost)?);
        ready.insert(id, Arc::clone(&prepared));
        Ok(prepared)
    }

    /// Lets go of a copy that is no longer what the directory holds. Blocks.
    pub(crate) fn begin_epoch(&self) {
        let mut held = self.held();
        let is_present = held.as_ref().is_some_and(|present| present.epoch.is_present());
        if !is_present {
            *held = None;
        }
    }

    /// Lets go of the copy. Whoever still reads keeps it until the end.
    pub(crate) fn close(&self) {
        *self.held() = None;
    }

    /// Does something that may block, on a thread of its own; `doing` says what failed.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        doing: &str,
        work: impl FnOnce(&Self) -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        let client = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&client)).await {
            Ok(done) => done.map_err(|fault| fault.into_error(&self.store, doing)),
            Err(error) => {
                let context = format!("{doing}: the thread ended badly");
                Err(StoreError::new(StoreErrorKind::Internal, &self.store, context).caused_by(error))
            }
        }
    }
}

impl Epoch {
    /// Copies the database of a directory, in one state with its journal, and brings the copy in order.
    fn begin(directory: &Path) -> Outcome<Self> {
        copy::refuse_other_layouts(directory)?;
        let scratch = Scratch::make()?;
        let signature = copy::copy(directory, scratch.path())?;
        let epoch = Self { directory: directory.to_owned(), signature, scratch };
        // The first look rolls back what a killed writer left; a write-ahead log is folded in by leaving that mode.
        let connection = Connection::open(epoch.database())?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0))?;
        Ok(epoch)
    }

    /// Whether the directory is still what was copied.
    fn is_present(&self) -> bool {
        Signature::of(&self.directory).is_ok_and(|now| now == self.signature)
    }

    /// Where the copy is.
    pub(crate) fn database(&self) -> PathBuf {
        self.scratch.path().join(DATABASE)
    }

    /// Whether a journal or write-ahead log lay beside the database.
    pub(crate) fn had_journal(&self) -> bool {
        self.signature.had_journal()
    }

    /// A connection that reads the copy.
    pub(crate) fn connection(&self) -> Outcome<Connection> {
        Ok(Connection::open_with_flags(self.database(), READ_ONLY)?)
    }

    /// The folder of a segment's index, and the file states that go with the copy.
    pub(crate) fn segment(&self, segment: &str) -> (PathBuf, &Signature) {
        (self.directory.join(segment), &self.signature)
    }

    /// Where some of what is made ready of a collection is kept.
    pub(crate) fn ready_database(&self, collection: &Collection, what: &str) -> PathBuf {
        // Ids are UUIDs; whatever else stands there names no other place.
        let name: String = collection.id.chars().filter(char::is_ascii_alphanumeric).collect();
        self.scratch.path().join(format!("ready-{what}-{name}.sqlite3"))
    }
}

/// The directory has changed under a reader.
pub(crate) fn snapshot_lost(path: &Path) -> Fault {
    let what = format!("{} has changed since the database was copied", path.display());
    Fault::found(StoreErrorKind::SnapshotLost, what)
        .with_hint("stop the program that writes to the directory, then `whimbrel resume`")
}
