//! Failures of the file system and of SQLite as ours, decided on types and codes.

use rusqlite::ErrorCode;
use std::io;
use std::path::{Path, PathBuf};
use whimbrel_model::StoreName;
use whimbrel_store::{StoreError, StoreErrorKind};

/// A failure below the contract: what it is, and its cause.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// SQLite failed on the copy of the database.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// The file system failed on a file.
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    Io(PathBuf, io::Error),
    /// What is there is not what it should be.
    #[error("{what}")]
    Found { kind: StoreErrorKind, what: String, hint: Option<String> },
}

/// The result of an operation below the contract.
pub(crate) type Outcome<T> = Result<T, Fault>;

impl Fault {
    pub(crate) fn found(kind: StoreErrorKind, what: impl Into<String>) -> Self {
        Self::Found { kind, what: what.into(), hint: None }
    }

    /// What lies there is damaged or was never Chroma's.
    pub(crate) fn mismatch(what: impl Into<String>) -> Self {
        Self::found(StoreErrorKind::Mismatch, what)
    }

    /// A thread panicked.
    pub(crate) fn ended_badly(thread: &str) -> Self {
        Self::found(StoreErrorKind::Internal, format!("{thread} ended badly"))
    }

    /// What the file system said of a file.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |error| Self::Io(path.to_owned(), error)
    }

    /// Attaches the next step.
    pub(crate) fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Found { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// What it means for those who asked.
    pub(crate) fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Found { kind, .. } => *kind,
            Self::Io(_, error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StoreErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => StoreErrorKind::Forbidden,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreErrorKind::LimitReached,
                io::ErrorKind::UnexpectedEof => StoreErrorKind::Mismatch,
                _ => StoreErrorKind::Unreachable,
            },
            Self::Sqlite(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => StoreErrorKind::LimitReached,
                Some(ErrorCode::SystemIoFailure) => StoreErrorKind::Unreachable,
                Some(ErrorCode::OutOfMemory | ErrorCode::ApiMisuse) => StoreErrorKind::Internal,
                _ => StoreErrorKind::Mismatch,
            },
        }
    }

    /// The failure as the contract has it; `doing` says what failed on what.
    pub(crate) fn into_error(self, store: &StoreName, doing: &str) -> StoreError {
        let kind = self.kind();
        let sqlite = match &self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        };
        match self {
            Self::Found { what, hint, .. } => {
                let error = StoreError::new(kind, store, format!("{doing}: {what}"));
                match hint {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                }
            }
            cause => {
                let error = StoreError::new(kind, store, doing).caused_by(cause);
                match (kind, sqlite) {
                    (StoreErrorKind::LimitReached, _) => error.with_hint(
                        "the directory's database is copied before it is read: make room where temporary files are \
                         kept, or name another place in TMPDIR, then `whimbrel resume`",
                    ),
                    (_, Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt)) => error.with_hint(
                        "chroma.sqlite3 is damaged: `sqlite3 chroma.sqlite3 .recover` on a copy saves what is left",
                    ),
                    _ => error,
                }
            }
        }
    }
}
