//! Failures of SQLite as ours, decided on its codes.

use rusqlite::{Error, ErrorCode, ffi};
use whimbrel_model::StoreName;
use whimbrel_store::{StoreError, StoreErrorKind};

/// A hot journal or a write-ahead log that a connection for reading cannot bring in order.
const NEEDS_RECOVERY: [i32; 2] = [ffi::SQLITE_READONLY_ROLLBACK, ffi::SQLITE_READONLY_RECOVERY];

/// What SQLite's code of a failure means.
pub(crate) fn kind(error: &Error) -> StoreErrorKind {
    let Some(code) = error.sqlite_error_code() else {
        return match error {
            Error::InvalidColumnType(..)
            | Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..) => StoreErrorKind::Protocol,
            _ => StoreErrorKind::Mismatch,
        };
    };
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            StoreErrorKind::Overloaded
        }
        ErrorCode::SystemIoFailure => StoreErrorKind::Unreachable,
        ErrorCode::CannotOpen => StoreErrorKind::NotFound,
        ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::AuthorizationForStatementDenied => {
            StoreErrorKind::Forbidden
        }
        ErrorCode::OperationInterrupted | ErrorCode::OperationAborted => StoreErrorKind::Interrupted,
        ErrorCode::SchemaChanged => StoreErrorKind::Drift,
        ErrorCode::DiskFull => StoreErrorKind::LimitReached,
        ErrorCode::TooBig | ErrorCode::NoLargeFileSupport => StoreErrorKind::Unsupported,
        ErrorCode::InternalMalfunction | ErrorCode::ApiMisuse | ErrorCode::OutOfMemory => {
            StoreErrorKind::Internal
        }
        _ => StoreErrorKind::Mismatch,
    }
}

/// Whether a file needs a writer to bring it in order before it can be read.
pub(crate) fn needs_recovery(error: &Error) -> bool {
    error.sqlite_error().is_some_and(|error| NEEDS_RECOVERY.contains(&error.extended_code))
}

/// Whether the failure is about the values of one record, and not about the statement or the file.
pub(crate) fn is_about_a_record(error: &Error) -> bool {
    let codes = [ErrorCode::ConstraintViolation, ErrorCode::TypeMismatch, ErrorCode::TooBig];
    error.sqlite_error_code().is_some_and(|code| codes.contains(&code))
}

/// Whether a unique key is held already.
pub(crate) fn is_duplicate(error: &Error) -> bool {
    let codes =
        [ffi::SQLITE_CONSTRAINT_PRIMARYKEY, ffi::SQLITE_CONSTRAINT_UNIQUE, ffi::SQLITE_CONSTRAINT_ROWID];
    error.sqlite_error().is_some_and(|error| codes.contains(&error.extended_code))
}

/// Whether a foreign key refers to nothing.
pub(crate) fn is_orphan(error: &Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_CONSTRAINT_FOREIGNKEY)
}

/// The failure as the contract has it; `doing` says what failed on what.
pub(crate) fn from_driver(store: &StoreName, doing: impl Into<String>, error: Error) -> StoreError {
    let kind = kind(&error);
    let hint = match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Some(
            "somebody else holds the file; a run that gave up can be resumed; in WAL mode readers hold up nobody: PRAGMA journal_mode = WAL",
        ),
        Some(ErrorCode::NotADatabase) => {
            Some("the file is no SQLite database, or it is encrypted; whimbrel opens no encrypted ones")
        }
        Some(ErrorCode::DatabaseCorrupt) => Some(
            "the file is damaged: `PRAGMA integrity_check` says where, `sqlite3 FILE .recover` saves what is left",
        ),
        Some(ErrorCode::DiskFull) => Some("make room on the disk, then `whimbrel resume`"),
        Some(ErrorCode::ReadOnly) if needs_recovery(&error) => Some(RECOVERY_HINT),
        Some(ErrorCode::ReadOnly) => Some("the file or its folder cannot be written to"),
        _ => None,
    };
    let error = StoreError::new(kind, store, doing).caused_by(error);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// What to do about a file that a killed program has left in the middle of a transaction.
pub(crate) const RECOVERY_HINT: &str = "a program that wrote to it was killed: its journal must be brought in order by \
    somebody who may write; open it once, `sqlite3 FILE 'SELECT 1'`, or copy it with its -journal or -wal to a folder \
    that can be written to";

/// A failure in a table's catalog or contents that has no code of SQLite's.
pub(crate) fn mismatch(store: &StoreName, context: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Mismatch, store, context)
}
