//! What a database file *is*, not how it is reached.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// Where a file's header keeps the number of the application that it belongs to.
const APPLICATION_ID: std::ops::Range<usize> = 68..72;

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

/// Path, inode, birth and application of a file: another file in its place has another identity.
pub(crate) fn of_file(store: &StoreName, path: &Path) -> Result<String> {
    let failed = |error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::NotFound => StoreErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => StoreErrorKind::Forbidden,
            _ => StoreErrorKind::Unreachable,
        };
        StoreError::new(kind, store, format!("cannot look at {}", path.display())).caused_by(error)
    };
    let mut head = Vec::with_capacity(100);
    let mut file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    file.by_ref().take(100).read_to_end(&mut head).map_err(failed)?;
    let application = head.get(APPLICATION_ID).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let application = application.map(u32::from_be_bytes).unwrap_or(0);
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
