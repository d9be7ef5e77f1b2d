//! The folder of a comparison: what it spills holds values of records, so that nobody else may look into it, and it
//! goes with the comparison, however that ends. What a killed process left is removed by the next one.

use super::sums::locked;
use std::fs::{DirBuilder, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio_util::sync::DropGuard;
use whimbrel_engine::{EngineError, Result};

/// What folders of comparisons are called.
const PREFIX: &str = "compare-";
/// The file that the owner of a folder has locked; the lock ends with the process.
const LOCK: &str = "lock";

/// A folder that is made when the first file is asked for, and removed with this.
pub(crate) struct Folder {
    path: PathBuf,
    /// The locked file, once the folder is made.
    lock: Mutex<Option<File>>,
    /// Dropped behind everything else: whoever waits for it finds the folder gone.
    _gone: DropGuard,
}

impl Folder {
    /// A folder at this path, beside which those of other comparisons lie. Nothing is made yet.
    pub(crate) fn at(path: PathBuf, gone: DropGuard) -> Arc<Self> {
        Arc::new(Self { path, lock: Mutex::default(), _gone: gone })
    }

    /// The path of a file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A file to be written to at its end, made where it is missing.
    ///
    /// # Errors
    /// The folder or the file cannot be made.
    pub(crate) fn append(&self, name: &str) -> Result<(PathBuf, File)> {
        self.make()?;
        let path = self.path(name);
        let file = private_file().create(true).append(true).open(&path);
        match file {
            Ok(file) => Ok((path, file)),
            Err(source) => Err(EngineError::file("write", path, source)),
        }
    }

    fn make(&self) -> Result<()> {
        let mut lock = locked(&self.lock);
        if lock.is_some() {
            return Ok(());
        }
        let failed = |source| EngineError::file("make", &self.path, source);
        if let Some(beside) = self.path.parent() {
            std::fs::create_dir_all(beside).map_err(failed)?;
            remove_left(beside);
        }
        *lock = Some(made(&self.path).map_err(failed)?);
        Ok(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A file that is open cannot be removed everywhere.
        let Some(lock) = locked(&self.lock).take() else { return };
        drop(lock);
        remove(&self.path);
    }
}

/// Makes a folder with its lock. It gets its name when it is locked: one of that name without a lock is left over.
fn made(path: &Path) -> std::io::Result<File> {
    let draft = path.with_extension("made");
    private_folder().create(&draft)?;
    let lock = private_file().create(true).truncate(false).write(true).open(draft.join(LOCK))?;
    lock.lock()?;
    std::fs::rename(&draft, path)?;
    Ok(lock)
}

/// Removes the folders of processes that are no more.
fn remove_left(beside: &Path) {
    let Ok(entries) = std::fs::read_dir(beside) else { return };
    for entry in entries.flatten() {
        let is_one = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // A folder that is being made has no lock for an instant, and another name.
        let is_draft = entry.path().extension().is_some();
        if !is_one || is_draft || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let is_in_use = File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_err());
        if !is_in_use {
            remove(&entry.path());
        }
    }
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "what a comparison spilled is still there");
    }
}

/// How a file is opened that holds values of records: only its owner may read what is made so.
#[must_use]
pub fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn private_folder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tokio_util::sync::CancellationToken;

    fn folder(path: PathBuf) -> (Arc<Folder>, CancellationToken) {
        let gone = CancellationToken::new();
        (Folder::at(path, gone.clone().drop_guard()), gone)
    }

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_is_made_for_nobody_else_and_goes_with_its_owner() {
        let place = tempfile::tempdir().unwrap();
        let (one, gone) = folder(place.path().join("compare-1"));
        assert!(!place.path().join("compare-1").exists(), "made only where something is spilled");
        let (path, mut file) = one.append("0.part").unwrap();
        file.write_all(b"a value").unwrap();
        drop(file);
        #[cfg(unix)]
        assert_eq!((mode(&place.path().join("compare-1")), mode(&path)), (0o700, 0o600));
        assert!(path.exists() && !gone.is_cancelled());
        drop(one);
        assert!(!place.path().join("compare-1").exists());
        assert!(gone.is_cancelled(), "who waits for it knows");
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_another_uses_is_not() {
        let place = tempfile::tempdir().unwrap();
        let in_use = folder(place.path().join("compare-1")).0;
        let (used, _) = in_use.append("0.part").unwrap();
        for left in ["compare-2", "compare-3"] {
            std::fs::create_dir(place.path().join(left)).unwrap();
        }
        std::fs::write(place.path().join("compare-2").join(LOCK), "").unwrap();
        std::fs::write(place.path().join("compare-3").join("0.part"), "a value").unwrap();
        std::fs::write(place.path().join("compare-notes"), "somebody's file").unwrap();
        folder(place.path().join("compare-4")).0.append("0.part").unwrap();
        assert!(used.exists());
        assert!(!place.path().join("compare-2").exists() && !place.path().join("compare-3").exists());
        assert!(place.path().join("compare-notes").exists());
    }
}
