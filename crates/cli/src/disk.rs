//! The disk under the journal.

use std::path::Path;

/// Space on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What this user may still write.
    pub free: u64,
    /// In all.
    pub all: u64,
}

/// The space on the disk that holds this folder; `None` where the system does not tell.
#[cfg(unix)]
#[must_use]
pub fn space(folder: &Path) -> Option<Space> {
    let seen = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(seen.f_frsize);
    Some(Space { free: bytes(seen.f_bavail), all: bytes(seen.f_blocks) }).filter(|space| space.all > 0)
}

/// The space on the disk that holds this folder; `None` where the system does not tell.
#[cfg(not(unix))]
#[must_use]
pub fn space(_folder: &Path) -> Option<Space> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_folder_lies_on_a_disk() {
        let space = space(Path::new(".")).expect("this folder lies on a disk");
        assert!(space.all > 0 && space.free <= space.all, "{space:?}");
        assert_eq!(super::space(Path::new("/no/such/folder")), None);
    }
}
