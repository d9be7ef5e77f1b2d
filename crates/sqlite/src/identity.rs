//! What a database file *is*, not how it is reached.

use crate::error::from_driver;
use rusqlite::Connection;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// The path without links and dots; of a file that is not there yet, its folder's.
pub(crate) fn canonical(path: &Path) -> PathBuf {
    if let Ok(found) = path.canonicalize() {
        return found;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Path, inode, birth and application of a file: another file in its place has another identity. The file is not
/// opened for it, which would cost SQLite's own connections their locks.
pub(crate) fn of_file(store: &StoreName, connection: &Connection, path: &Path) -> Result<String> {
    let metadata = path.metadata().map_err(|error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => StoreErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => StoreErrorKind::Forbidden,
            _ => StoreErrorKind::Unreachable,
        };
        StoreError::new(kind, store, format!("cannot look at {}", path.display())).caused_by(error)
    })?;
    let application = connection.query_row("PRAGMA application_id", [], |row| row.get::<_, i32>(0));
    let application =
        application.map_err(|error| from_driver(store, "cannot read the application's id", error))?;
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = born.map(|born| format!(" born {}", born.as_nanos())).unwrap_or_default();
    Ok(format!("sqlite {}{}{born} application {application}", canonical(path).display(), inode(&metadata)))
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    format!(" inode {}", metadata.ino())
}

#[cfg(not(unix))]
fn inode(_metadata: &Metadata) -> String {
    String::new()
}
