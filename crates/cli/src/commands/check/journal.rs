//! The disk that keeps a run's memory.

use crate::disk;
use std::path::{Path, PathBuf};
use whimbrel_store::Finding;

/// What a journal, its log and its rejects take at least.
const LEAST_BYTES: u64 = 64 * 1024 * 1024;
/// What a record may take there: the note of its key, where keys may come twice, and its fingerprints.
const RECORD_BYTES: u64 = 128;

/// Whether the folder can be written to, and whether its disk has room for a run of so many records.
pub(super) fn findings(folder: &Path, records: Option<u64>) -> Vec<Finding> {
    let Some(there) = nearest(folder) else { return Vec::new() };
    if !is_writable(&there) {
        return vec![Finding {
            ok: false,
            text: format!("{} may not be written to", there.display()),
            hint: Some("give another folder with `--journal DIR`, or the right to write there".to_owned()),
        }];
    }
    let Some(space) = disk::space(&there) else {
        return vec![Finding::good(format!(
            "{}; its disk does not tell how much room it has",
            folder.display()
        ))];
    };
    let needed = LEAST_BYTES.saturating_add(records.unwrap_or(0).saturating_mul(RECORD_BYTES));
    let (free, wanted) = (mebibytes(space.free), mebibytes(needed));
    let text = format!("{}: {free} MiB free, a run may need {wanted} MiB", folder.display());
    vec![if space.free >= needed {
        Finding::good(text)
    } else {
        let hint = "make room on the disk, or give a folder on another one with `--journal DIR`".to_owned();
        Finding { ok: false, text, hint: Some(hint) }
    }]
}

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1024 * 1024)
}

/// The folder, or the nearest one above it that is there: the journal's own may be made by the first run.
fn nearest(folder: &Path) -> Option<PathBuf> {
    let whole = std::path::absolute(folder).ok()?;
    whole.ancestors().find(|folder| folder.exists()).map(Path::to_owned)
}

#[cfg(unix)]
fn is_writable(folder: &Path) -> bool {
    folder.is_dir() && rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(not(unix))]
fn is_writable(folder: &Path) -> bool {
    folder.is_dir() && folder.metadata().is_ok_and(|folder| !folder.permissions().readonly())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_to_be_made_has_the_disk_of_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let found = findings(&folder.path().join("a/b"), Some(1000));
        assert!(found.len() == 1 && found[0].ok, "{found:?}");
        let full = findings(folder.path(), Some(u64::MAX));
        assert!(!full[0].ok && full[0].hint.is_some(), "{full:?}");
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(!findings(&file, None)[0].ok, "a file takes no journal");
    }
}
