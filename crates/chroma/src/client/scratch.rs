//! A place for the copy that nobody else can read, and that goes with the process.

use crate::error::{Fault, Outcome};
use std::fs::File;
use std::path::Path;
use tempfile::TempDir;

const PREFIX: &str = "whimbrel-chroma-";
/// Held as long as its folder is in use; the lock of a killed process is gone with it.
const LOCK: &str = "in-use";
/// What it is called before it is held.
const UNHELD: &str = "in-use.new";

/// A temporary folder.
pub(crate) struct Scratch {
    folder: TempDir,
    _lock: File,
}

impl Scratch {
    /// A new folder below the system's place for temporary files, readable by the user alone.
    pub(crate) fn make() -> Outcome<Self> {
        Self::below(&std::env::temp_dir())
    }

    fn below(base: &Path) -> Outcome<Self> {
        sweep(base);
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base).map_err(Fault::io(base))?;
        let (unheld, path) = (folder.path().join(UNHELD), folder.path().join(LOCK));
        // By its name nobody ever finds a lock that is not held: a sweep between the two would take the folder.
        let lock = File::create(&unheld).map_err(Fault::io(&unheld))?;
        lock.lock().map_err(Fault::io(&unheld))?;
        std::fs::rename(&unheld, &path).map_err(Fault::io(&path))?;
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
    fn no_sweep_takes_a_folder_that_is_just_being_made() {
        let base = tempfile::tempdir().unwrap();
        let make = || {
            for _ in 0..300 {
                let scratch = Scratch::below(base.path()).unwrap();
                assert!(scratch.path().join(LOCK).exists());
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(make))));
    }

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
