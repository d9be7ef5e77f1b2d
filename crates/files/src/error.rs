//! Failures of the file system and of object stores as ours, decided on types and codes.

use arrow::error::ArrowError;
use parquet::errors::ParquetError;
use std::error::Error;
use std::io;
use whimbrel_model::StoreName;
use whimbrel_store::{StoreError, StoreErrorKind};

/// A failure below the contract: what it is, and its cause. The path is added where it is known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The file system or the object store failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The object store failed.
    #[error("{0}")]
    Object(#[from] object_store::Error),
    /// A Parquet file is not as its format says, or could not be read.
    #[error("{0}")]
    Parquet(#[from] ParquetError),
    /// Arrow IPC is not as its format says, or could not be read.
    #[error("{0}")]
    Arrow(#[from] ArrowError),
    /// What is there is not what it says it is, or not what it was.
    #[error("{1}")]
    Found(StoreErrorKind, String),
}

/// The result of an operation on one file.
pub(crate) type Outcome<T> = Result<T, Fault>;

impl Fault {
    /// What is there is not what it should be.
    pub(crate) fn found(kind: StoreErrorKind, what: impl Into<String>) -> Self {
        Self::Found(kind, what.into())
    }

    /// What it means for those who asked.
    pub(crate) fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Found(kind, _) => *kind,
            Self::Object(error) => object_kind(error),
            other => cause_kind(other).unwrap_or(StoreErrorKind::Protocol),
        }
    }

    /// The failure as the contract has it; `doing` says what failed on which file.
    pub(crate) fn into_error(self, store: &StoreName, doing: &str) -> StoreError {
        let kind = self.kind();
        match self {
            Self::Found(_, what) => StoreError::new(kind, store, format!("{doing}: {what}")),
            cause => {
                let error = StoreError::new(kind, store, doing).caused_by(cause);
                match kind {
                    StoreErrorKind::LimitReached => {
                        error.with_hint("make room on the disk, then `whimbrel resume`")
                    }
                    StoreErrorKind::Drift => error.with_hint(CHANGED_HINT),
                    StoreErrorKind::Forbidden => error.with_hint(FORBIDDEN_HINT),
                    StoreErrorKind::Unauthenticated => error.with_hint(UNKNOWN_HINT),
                    _ => error,
                }
            }
        }
    }
}

/// What to do where a file is not what it was.
pub(crate) const CHANGED_HINT: &str = "begin again with `whimbrel run --new`";

/// What to do where the file system or the object store says no.
const FORBIDDEN_HINT: &str =
    "let this account read, list and write there, the folder `.whimbrel-parts` below the root included";

/// What to do where an object store does not know who asks.
const UNKNOWN_HINT: &str =
    "look at the credentials: AWS_* and the AWS configuration for s3, GOOGLE_* for gs, AZURE_* for az";

/// The kind that the first of the causes says that says one.
fn cause_kind(fault: &Fault) -> Option<StoreErrorKind> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(match fault {
        Fault::Io(error) => error,
        Fault::Parquet(error) => error,
        Fault::Arrow(error) => error,
        Fault::Object(_) | Fault::Found(..) => return None,
    });
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<object_store::Error>() {
            return Some(object_kind(error));
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            match error.get_ref() {
                // The cause of an error that was made elsewhere says more than its kind.
                Some(inner) => {
                    if let Some(error) = inner.downcast_ref::<object_store::Error>() {
                        return Some(object_kind(error));
                    }
                    return io_kind(error);
                }
                None => return io_kind(error),
            }
        }
        if let Some(ArrowError::IoError(_, error)) = error.downcast_ref::<ArrowError>() {
            cause = Some(error);
            continue;
        }
        if let Some(ParquetError::External(inner)) = error.downcast_ref::<ParquetError>() {
            cause = Some(&**inner);
            continue;
        }
        cause = error.source();
    }
    None
}

fn io_kind(error: &io::Error) -> Option<StoreErrorKind> {
    Some(match error.kind() {
        io::ErrorKind::NotFound => StoreErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreErrorKind::Forbidden,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreErrorKind::LimitReached
        }
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            StoreErrorKind::Protocol
        }
        _ => StoreErrorKind::Unreachable,
    })
}

fn object_kind(error: &object_store::Error) -> StoreErrorKind {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => StoreErrorKind::NotFound,
        Error::PermissionDenied { .. } => StoreErrorKind::Forbidden,
        Error::Unauthenticated { .. } => StoreErrorKind::Unauthenticated,
        Error::Precondition { .. } | Error::NotModified { .. } => StoreErrorKind::Drift,
        Error::NotSupported { .. } | Error::NotImplemented { .. } | Error::InvalidPath { .. } => {
            StoreErrorKind::Unsupported
        }
        Error::AlreadyExists { .. } | Error::UnknownConfigurationKey { .. } => StoreErrorKind::Mismatch,
        _ => StoreErrorKind::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_types_through_every_layer() {
        let gone = || object_store::Error::NotFound { path: "p".to_owned(), source: "x".into() };
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let wrapped = io::Error::other(gone());
        for (fault, kind) in [
            (Fault::from(gone()), StoreErrorKind::NotFound),
            (Fault::from(wrapped), StoreErrorKind::NotFound),
            (Fault::from(full()), StoreErrorKind::LimitReached),
            (Fault::from(ArrowError::IoError("x".to_owned(), full())), StoreErrorKind::LimitReached),
            (
                Fault::from(ParquetError::External(Box::new(io::Error::other(gone())))),
                StoreErrorKind::NotFound,
            ),
            (Fault::from(ParquetError::General("bad".to_owned())), StoreErrorKind::Protocol),
            (Fault::found(StoreErrorKind::Drift, "changed"), StoreErrorKind::Drift),
        ] {
            assert_eq!(fault.kind(), kind, "{fault}");
        }
    }
}
