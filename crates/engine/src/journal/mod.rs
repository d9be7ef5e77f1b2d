//! The run's durable memory: one SQLite file per journal folder.
//!
//! [`Journal`] opens it, answers questions and begins or ends runs. While a run goes on, one thread writes
//! ([`writer`]): checkpoints and their sums in one transaction, several times a second.
//! The format's version is SQLite's `user_version`; a file of a newer format is refused, an older one is
//! brought up.

mod corrections;
mod read;
mod records;
mod resources;
mod samples;
mod schema;
pub mod writer;

pub use corrections::Correction;
pub use records::{NewRun, RunKind, RunRecord, SliceRecord, TargetRecord};
pub use resources::Resource;
pub use samples::{MOST_SAMPLES, Sample, Stretch};
pub use writer::{BeforeCommit, JournalWriter};

use rusqlite::{Connection, OpenFlags, params};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use whimbrel_model::{FingerprintKey, RunId, Slice, StoreName};

/// A failure of the journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file or its folder cannot be used.
    #[error("cannot {action} the journal {path}")]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite failed; a full disk comes here.
    #[error("the journal {path} failed")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// Written by another whimbrel.
    #[error("the journal {path} has format {found}; this whimbrel reads format {}", schema::VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
    },
    /// The file is something else.
    #[error("{path} is not a journal of whimbrel")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Another process runs the same migration.
    #[error("another whimbrel runs `{migration}` at this moment")]
    Locked {
        /// Migration and environment.
        migration: String,
    },
    /// What is stored cannot be read.
    #[error("the journal {path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What cannot be read.
        what: String,
    },
    /// The writing thread has ended.
    #[error("the journal stopped writing: {0}")]
    Stopped(String),
}

impl JournalError {
    /// The next step.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::File { .. } => "choose another folder with --journal DIR".to_owned(),
            Self::Sqlite { source, .. } if is_full(source) => {
                "make room on the disk, then `whimbrel resume`; what was confirmed before is kept".to_owned()
            }
            Self::Sqlite { .. } | Self::Stopped(_) => {
                "look at the disk and the folder's permissions, then `whimbrel resume`".to_owned()
            }
            Self::Version { .. } => {
                "use the whimbrel that wrote it, or another folder with --journal DIR".to_owned()
            }
            Self::Foreign { .. } => {
                "give the folder of the journal, not a file of another program".to_owned()
            }
            Self::Locked { .. } => {
                "wait until it ends (`whimbrel status` shows how far it is), or stop it first".to_owned()
            }
            Self::Damaged { .. } => "begin anew with `run --new`; what the target holds stays".to_owned(),
        })
    }
}

impl JournalError {
    /// Whether there is no room left on the disk.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Sqlite { source, .. } => is_full(source),
            Self::File { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            _ => false,
        }
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
}

/// The journal's file and folder.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    connection: Connection,
}

/// A resource that is about to be made.
#[derive(Debug)]
pub struct ResourceNote<'a> {
    /// The migration.
    pub migration: &'a str,
    /// The environment.
    pub environment: Option<&'a str>,
    /// The run that makes it; `None` for `create`.
    pub run: Option<&'a RunId>,
    /// The store.
    pub store: &'a StoreName,
    /// What the store is.
    pub identity: &'a str,
    /// Its name there.
    pub name: &'a str,
}

/// Held while a migration runs in an environment; the lock goes with the process.
#[derive(Debug)]
pub struct MigrationLock(#[expect(dead_code, reason = "the lock lives as long as the file is open")] File);

impl Journal {
    /// Opens the journal of a folder, making both where they are missing.
    ///
    /// # Errors
    /// The folder cannot be made, or the file is foreign or of another version.
    pub fn open(folder: &Path) -> Result<Self, JournalError> {
        std::fs::create_dir_all(folder).map_err(|source| JournalError::File {
            action: "make the folder of",
            path: folder.to_owned(),
            source,
        })?;
        let path = folder.join("journal.sqlite");
        let connection = Connection::open(&path).map_err(|source| sqlite(&path, source))?;
        schema::prepare(&connection, &path)?;
        Ok(Self { folder: folder.to_owned(), connection })
    }

    /// Opens the journal only where there is one.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn open_existing(folder: &Path) -> Result<Option<Self>, JournalError> {
        if folder.join("journal.sqlite").exists() { Self::open(folder).map(Some) } else { Ok(None) }
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a run keeps its log, rejects and summary.
    #[must_use]
    pub fn run_folder(&self, run: &RunId) -> PathBuf {
        self.folder.join("runs").join(run.as_str())
    }

    /// Takes the lock of a migration in an environment.
    ///
    /// # Errors
    /// [`JournalError::Locked`] where another process has it.
    pub fn lock(&self, migration: &str, environment: Option<&str>) -> Result<MigrationLock, JournalError> {
        let name = lock_name(migration, environment);
        let folder = self.folder.join("locks");
        let path = folder.join(format!("{name}.lock"));
        let failed = |source| JournalError::File { action: "lock", path: path.clone(), source };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        // `status` looks at the lock for an instant; that must not refuse a run.
        for _ in 0..5 {
            match file.try_lock() {
                Ok(()) => return Ok(MigrationLock(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        Err(JournalError::Locked { migration: name })
    }

    /// Whether some process runs the migration in the environment at this moment.
    #[must_use]
    pub fn is_running(&self, migration: &str, environment: Option<&str>) -> bool {
        let path = self.folder.join("locks").join(format!("{}.lock", lock_name(migration, environment)));
        File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The key of a migration's fingerprints; made the first time.
    ///
    /// # Errors
    /// The journal fails.
    pub fn fingerprint_key(
        &self,
        migration: &str,
        environment: Option<&str>,
    ) -> Result<FingerprintKey, JournalError> {
        let environment = environment.unwrap_or_default();
        let fresh = [*uuid::Uuid::new_v4().as_bytes(), *uuid::Uuid::new_v4().as_bytes()].concat();
        let version = whimbrel_model::canonical::VERSION;
        self.sql(self.connection.execute(
            "INSERT INTO migrations (name, environment, fingerprint_key, canonical_version) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
            params![migration, environment, blake3::hash(&fresh).as_bytes(), version],
        ))?;
        let bytes: Vec<u8> = self.sql(self.connection.query_row(
            "SELECT fingerprint_key FROM migrations WHERE name = ?1 AND environment = ?2",
            params![migration, environment],
            |row| row.get(0),
        ))?;
        let key = bytes.try_into().map_err(|_| self.damaged("a fingerprint key has not 32 bytes"))?;
        Ok(FingerprintKey::new(key))
    }

    /// Begins a run: the run itself and its stores' identities. An unfinished run of the same migration and
    /// environment is set aside.
    ///
    /// # Errors
    /// The journal fails.
    pub fn begin(&mut self, run: &NewRun) -> Result<(), JournalError> {
        let path = self.path();
        records::insert_run(&mut self.connection, run).map_err(|source| sqlite(&path, source))
    }

    /// Notes what the run's targets hold and which slices there are, in one transaction.
    ///
    /// # Errors
    /// The journal fails.
    pub fn planned(
        &mut self,
        run: &RunId,
        targets: &[TargetRecord],
        slices: &[Slice],
    ) -> Result<(), JournalError> {
        let path = self.path();
        records::insert_plan(&mut self.connection, run, targets, slices)
            .map_err(|source| sqlite(&path, source))
    }

    /// Marks a run as ended with an outcome.
    ///
    /// # Errors
    /// The journal fails.
    pub fn end(&self, run: &RunId, outcome: &str) -> Result<(), JournalError> {
        self.sql(self.connection.execute(
            "UPDATE runs SET outcome = ?2, ended_ms = ?3 WHERE id = ?1",
            params![run.as_str(), outcome, now_ms()],
        ))?;
        Ok(())
    }

    /// Notes that a run goes on: a new stretch, by this process. Where it goes on with another spec or other values,
    /// that is kept ([`RunRecord::was_respecified`]).
    ///
    /// # Errors
    /// The journal fails.
    pub fn continue_run(&self, run: &RunId, spec_digest: &str, shape: &str) -> Result<(), JournalError> {
        self.sql(self.connection.execute(
            "UPDATE runs SET outcome = NULL, ended_ms = NULL, epoch = epoch + 1, resumes = resumes + 1,
                    options = CASE WHEN spec_digest = ?2 AND shape = ?3 THEN options
                              ELSE json_set(options, '$.' || ?4, json('true')) END,
                    spec_digest = ?2, shape = ?3 WHERE id = ?1",
            params![run.as_str(), spec_digest, shape, records::RESPECIFIED],
        ))?;
        Ok(())
    }

    /// Notes that what is read from now on is read from another snapshot.
    ///
    /// # Errors
    /// The journal fails.
    pub fn set_epoch(&self, run: &RunId, epoch: u64) -> Result<(), JournalError> {
        let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
        self.sql(
            self.connection.execute("UPDATE runs SET epoch = ?2 WHERE id = ?1", params![run.as_str(), epoch]),
        )?;
        Ok(())
    }

    /// Notes a resource that whimbrel is about to make, so that `clean` can remove exactly that.
    ///
    /// # Errors
    /// The journal fails.
    pub fn note_resource(&self, note: &ResourceNote<'_>) -> Result<(), JournalError> {
        self.sql(self.connection.execute(
            "INSERT INTO resources (migration, environment, run, store, name, created_ms, identity)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                note.migration,
                note.environment.unwrap_or_default(),
                note.run.map(RunId::as_str),
                note.store.as_str(),
                note.name,
                now_ms(),
                note.identity,
            ],
        ))?;
        Ok(())
    }

    /// Starts the thread that writes while the run goes on. `before` is asked before checkpoints are stored.
    ///
    /// # Errors
    /// The journal cannot be opened a second time.
    pub fn writer(
        &self,
        run: &RunId,
        before: Option<Arc<dyn BeforeCommit>>,
    ) -> Result<JournalWriter, JournalError> {
        let path = self.path();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(|source| sqlite(&path, source))?;
        schema::configure(&connection).map_err(|source| sqlite(&path, source))?;
        Ok(JournalWriter::start(connection, path, run.clone(), before))
    }

    fn path(&self) -> PathBuf {
        self.folder.join("journal.sqlite")
    }

    fn sql<T>(&self, result: rusqlite::Result<T>) -> Result<T, JournalError> {
        result.map_err(|source| sqlite(&self.path(), source))
    }

    fn damaged(&self, what: impl Into<String>) -> JournalError {
        JournalError::Damaged { path: self.path(), what: what.into() }
    }
}

fn sqlite(path: &Path, source: rusqlite::Error) -> JournalError {
    if source.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) {
        return JournalError::Foreign { path: path.to_owned() };
    }
    JournalError::Sqlite { path: path.to_owned(), source }
}

fn lock_name(migration: &str, environment: Option<&str>) -> String {
    match environment {
        Some(environment) => format!("{migration}.{environment}"),
        None => migration.to_owned(),
    }
}

/// Milliseconds since 1970, by this machine's clock.
#[must_use]
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// How long a statement waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
