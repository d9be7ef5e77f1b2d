//! A place for the copy that nobody else can read, and that goes with the process.

use crate::error::{Fault, Outcome};
use std::fs::File;
use std::path::Path;
use tempfile::TempDir;

const PREFIX: &str = "whimbrel-chroma-";
/// Held as long as its folder is in use; the lock of a killed process is gone with it.
const LOCK: &str = "in-use";

/// A temporary folder.
pub(crate) struct Scratch {
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// A new folder below the system's place for temporary files, readable by the user alone.
    pub(crate) fn make() -> Outcome<Self> {
        let base = std::env::temp_dir();
        sweep(&base);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&base).map_err(Fault::io(&base))?;
        let path = folder.path().join(LOCK);
        let lock = File::create(&path).map_err(Fault::io(&path))?;
        lock.lock().map_err(Fault::io(&path))?;
        Ok(Self { folder, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes what killed processes have left. What cannot be looked at is left alone.
fn sweep(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // A folder that is just being made has no lock yet.
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        if lock.try_lock().is_ok() {
            // It is somebody's garbage; that it stays a while longer harms nobody.
            let _left = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_swept_and_what_is_in_use_stays() {
        let base = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = base.path().join(format!("{PREFIX}{name}"));
            std::fs::create_dir(&folder).unwrap();
            let lock = File::create(folder.join(LOCK)).unwrap();
            (folder, lock)
        };
        let (used, held) = folder("used");
        held.lock().unwrap();
        let (left, gone) = folder("left");
        drop(gone);
        sweep(base.path());
        assert!(used.exists());
        assert!(!left.exists());
    }
}
