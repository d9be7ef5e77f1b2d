//! Units that a run used and that no checkpoint counts: those of requests whose batch was broken off, by a limit or a
//! failure, when some of its records were written already. They were paid for, so a limit and a bill count them. What was
//! on its way when the process was killed nobody has counted: that it was killed is kept, so that the bill says *at least*.

use crate::error::{EngineError, Result};
use std::path::{Path, PathBuf};
use whimbrel_model::Capacity;

/// Less than this is the error of a sum.
const LEAST_UNITS: f64 = 0.01;

fn path(run_folder: &Path) -> PathBuf {
    run_folder.join("unaccounted.json")
}

fn killed_path(run_folder: &Path) -> PathBuf {
    run_folder.join("killed")
}

/// Keeps that a stretch of the run came to no end of its own.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn note_kill(run_folder: &Path) -> Result<()> {
    let path = killed_path(run_folder);
    let note = || {
        std::fs::create_dir_all(run_folder)?;
        std::fs::File::create(&path)?.sync_all()
    };
    note().map_err(|source| EngineError::file("write", &path, source))
}

/// Whether a stretch of the run came to no end of its own, so that more units may have been used than are counted.
pub(crate) fn was_killed(run_folder: &Path) -> bool {
    killed_path(run_folder).exists()
}

/// What a run has used beside its checkpoints, over resumes.
///
/// # Errors
/// The file is there and cannot be read.
pub(crate) fn read(run_folder: &Path) -> Result<Capacity> {
    let path = path(run_folder);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| EngineError::file("read", path, std::io::Error::other(error))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Capacity::default()),
        Err(error) => Err(EngineError::file("read", path, error)),
    }
}

/// Keeps what of the units `taken`, over resumes, is not `accounted` for. Answers with it.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn keep(run_folder: &Path, taken: Capacity, accounted: Capacity) -> Result<Capacity> {
    let more = |taken: f64, accounted: f64| match taken - accounted {
        units if units >= LEAST_UNITS => units,
        _ => 0.0,
    };
    let unaccounted = Capacity {
        read_units: more(taken.read_units, accounted.read_units),
        write_units: more(taken.write_units, accounted.write_units),
        ..Capacity::default()
    };
    let path = path(run_folder);
    if unaccounted == Capacity::default() && !path.exists() {
        return Ok(unaccounted);
    }
    let write = || {
        std::fs::create_dir_all(run_folder)?;
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&unaccounted).map_err(std::io::Error::other)?)?;
        std::fs::rename(&new, &path)
    };
    write().map_err(|source| EngineError::file("write", &path, source))?;
    Ok(unaccounted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(read_units: f64, write_units: f64) -> Capacity {
        Capacity { read_units, write_units, ..Capacity::default() }
    }

    #[test]
    fn a_kill_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        assert!(!was_killed(&run));
        note_kill(&run).unwrap();
        note_kill(&run).unwrap();
        assert!(was_killed(&run));
    }

    #[test]
    fn what_no_checkpoint_counts_is_kept_and_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), units(0.0, 0.0));
        assert_eq!(keep(folder.path(), units(5.0, 7.0), units(5.0, 7.0)).unwrap(), units(0.0, 0.0));
        assert!(!path(folder.path()).exists(), "nothing to keep, nothing kept");
        assert_eq!(keep(folder.path(), units(5.0, 30.0), units(5.001, 10.0)).unwrap(), units(0.0, 20.0));
        assert_eq!(read(folder.path()).unwrap(), units(0.0, 20.0));
        // What was unaccounted stays taken: the sum is kept anew, not added.
        assert_eq!(keep(folder.path(), units(5.0, 50.0), units(5.0, 30.0)).unwrap(), units(0.0, 20.0));
    }
}
