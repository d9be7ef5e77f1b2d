//! What a run keeps of the records that its target holds: 32 bytes a record, one file a flow and slice.
//!
//! An entry is appended when its record's outcome is durable. What is lost with a machine costs a look at the
//! target in the next run; what a resumed slice appends again takes the place of what stands before it.

use crate::error::{EngineError, Result};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use whimbrel_model::{Fingerprint, FlowName, SliceId};

pub(super) const ENTRY_BYTES: u64 = 32;
/// How many entries are read at a time.
const ENTRIES_AT_ONCE: usize = 65_536;

/// Where a run keeps what concerns fingerprints.
pub(crate) fn folder(run_folder: &Path) -> PathBuf {
    run_folder.join("fingerprints")
}

/// The file of a slice, open at its end.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    file: Option<File>,
    pending: Vec<u8>,
}

impl Kept {
    /// The file of a flow and slice; made when something is kept.
    pub(crate) fn new(run_folder: &Path, flow: &FlowName, slice: &SliceId) -> Self {
        let path = folder(run_folder).join(flow.as_str()).join(format!("{slice}.kept"));
        Self { path, file: None, pending: Vec::new() }
    }

    /// Notes a record; it is kept with the next [`Kept::flush`].
    pub(crate) fn push(&mut self, print: Fingerprint) {
        self.pending.extend(entry(print));
    }

    /// Appends what was noted.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let failed = |source| EngineError::file("append to", &self.path, source);
        let file = match &mut self.file {
            Some(file) => file,
            place @ None => place.insert(open(&self.path).await.map_err(failed)?),
        };
        file.write_all(&self.pending).await.map_err(failed)?;
        file.flush().await.map_err(failed)?;
        self.pending.clear();
        Ok(())
    }
}

/// Opens at the end of the last whole entry.
async fn open(path: &Path) -> std::io::Result<File> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path).await?;
    let length = file.metadata().await?.len();
    if !length.is_multiple_of(ENTRY_BYTES) {
        file.set_len(length - length % ENTRY_BYTES).await?;
    }
    Ok(file)
}

/// Hands over what a run has kept of a flow, in the order in which it was kept. Blocks.
pub(crate) fn each(
    run_folder: &Path,
    flow: &FlowName,
    mut take: impl FnMut(&[Fingerprint]) -> Result<()>,
) -> Result<()> {
    let folder = folder(run_folder).join(flow.as_str());
    let failed = |path: &Path, source| EngineError::file("read", path, source);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&folder, error)),
    };
    for entry in entries {
        let path = entry.map_err(|source| failed(&folder, source))?.path();
        let mut file = std::fs::File::open(&path).map_err(|source| failed(&path, source))?;
        let mut bytes = Vec::new();
        let portion = ENTRY_BYTES * u64::try_from(ENTRIES_AT_ONCE).unwrap_or(1);
        loop {
            bytes.clear();
            let read = file.by_ref().take(portion).read_to_end(&mut bytes);
            if read.map_err(|source| failed(&path, source))? == 0 {
                break;
            }
            let (whole, _) = bytes.as_chunks::<32>();
            let prints: Vec<Fingerprint> = whole.iter().map(print).collect();
            take(&prints)?;
        }
    }
    Ok(())
}

/// A fingerprint as files have it.
pub(super) fn entry(print: Fingerprint) -> [u8; 32] {
    let mut entry = [0; 32];
    entry[..16].copy_from_slice(&print.key.to_be_bytes());
    entry[16..].copy_from_slice(&print.record.to_be_bytes());
    entry
}

pub(super) fn print(entry: &[u8; 32]) -> Fingerprint {
    let half = |from: usize| {
        let mut half = [0; 16];
        half.copy_from_slice(&entry[from..from + 16]);
        u128::from_be_bytes(half)
    };
    Fingerprint { key: half(0), record: half(16) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_torn_is_cut_off_and_later_entries_follow() {
        let folder = tempfile::tempdir().expect("a folder");
        let (flow, slice) = (FlowName::new("a"), SliceId::new("a.0000"));
        let print = |key: u128| Fingerprint { key, record: key + 1 };
        let mut kept = Kept::new(folder.path(), &flow, &slice);
        kept.push(print(1));
        kept.push(print(2));
        kept.flush().await.expect("kept");
        drop(kept);
        let path = super::folder(folder.path()).join("a/a.0000.kept");
        let mut bytes = std::fs::read(&path).expect("there");
        bytes.truncate(50);
        std::fs::write(&path, bytes).expect("torn");
        let mut again = Kept::new(folder.path(), &flow, &slice);
        again.push(print(3));
        again.flush().await.expect("kept");
        let mut other = Kept::new(folder.path(), &FlowName::new("a-b"), &slice);
        other.push(print(9));
        other.flush().await.expect("kept");
        let mut seen = Vec::new();
        each(folder.path(), &flow, |prints| {
            seen.extend_from_slice(prints);
            Ok(())
        })
        .expect("read");
        assert_eq!(seen, [print(1), print(3)]);
    }
}
