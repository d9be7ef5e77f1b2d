//! Making a file of [`Known`] fingerprints out of many, in whatever order they come, in little memory.
//!
//! So many as fit into memory are sorted and written as a *portion*; in the end the portions are put together, stretch of
//! keys by stretch of keys: keys are hashes, so that stretches are about equally long, and each is sorted in memory.

use super::kept::{ENTRY_BYTES, entry, print};
use super::known::{Directory, Known, Notes, shelf, trailer};
use crate::error::{EngineError, Result};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use whimbrel_model::Fingerprint;

/// Fingerprints of a portion: 8 MB, and half as much to sort them.
const PORTION: usize = 1 << 18;
/// Stretches are 2 to the power of this: a billion fingerprints come in stretches of a million.
const STRETCH_BITS: u32 = 10;
const WRITE_BYTES: usize = 1 << 18;

/// Fingerprints on their way into a file.
pub(crate) struct Gathering {
    path: PathBuf,
    most: usize,
    waiting: Vec<Fingerprint>,
    /// The portions, one behind the other.
    file: File,
    /// Where in the file each stretch of each portion begins, and the end of the last, counted in entries.
    portions: Vec<Vec<u64>>,
    entries: u64,
}

impl Gathering {
    /// For the file of this path, which is there only once it is whole. Blocks.
    ///
    /// # Errors
    /// The disk may be full.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        Self::with_portions_of(path, PORTION)
    }

    fn with_portions_of(path: &Path, most: usize) -> Result<Self> {
        let portions = beside(path, "portions");
        let make = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            created(&portions)
        };
        let file = make().map_err(|source| EngineError::file("make", &portions, source))?;
        let path = path.to_owned();
        Ok(Self { path, most, waiting: Vec::new(), file, portions: Vec::new(), entries: 0 })
    }

    /// Takes more; of two of one key the later one counts. Blocks.
    ///
    /// # Errors
    /// The disk may be full.
    pub(crate) fn add(&mut self, mut prints: &[Fingerprint]) -> Result<()> {
        while !prints.is_empty() {
            let room = self.most - self.waiting.len();
            let (now, later) = prints.split_at(room.min(prints.len()));
            self.waiting.extend_from_slice(now);
            if self.waiting.len() == self.most {
                self.write_portion()?;
            }
            prints = later;
        }
        Ok(())
    }

    fn write_portion(&mut self) -> Result<()> {
        // Of two of one key the later one stays behind the earlier one.
        self.waiting.sort_by_key(|print| print.key);
        let mut stretches = Vec::with_capacity((1 << STRETCH_BITS) + 1);
        let mut write = || {
            let mut file = BufWriter::with_capacity(WRITE_BYTES, &self.file);
            for print in &self.waiting {
                let stretch = shelf(print.key, STRETCH_BITS);
                while stretches.len() <= stretch {
                    stretches.push(self.entries);
                }
                self.entries += 1;
                file.write_all(&entry(*print))?;
            }
            stretches.resize((1 << STRETCH_BITS) + 1, self.entries);
            file.flush()
        };
        write().map_err(|source| EngineError::file("write", beside(&self.path, "portions"), source))?;
        self.portions.push(stretches);
        self.waiting.clear();
        Ok(())
    }

    /// Writes the file, and leaves it open; holds its first entries in memory, up to so many bytes. Blocks.
    ///
    /// # Errors
    /// The disk may be full.
    pub(crate) fn finish(mut self, notes: Notes, resident_bytes: usize) -> Result<Known> {
        self.write_portion()?;
        self.waiting = Vec::new();
        let part = beside(&self.path, "part");
        let known = self.write(&part, notes, resident_bytes);
        let known = known.map_err(|source| EngineError::file("write", &part, source))?;
        let renamed = std::fs::rename(&part, &self.path);
        renamed.map_err(|source| EngineError::file("write", &self.path, source))?;
        let portions = beside(&self.path, "portions");
        std::fs::remove_file(&portions).map_err(|source| EngineError::file("remove", &portions, source))?;
        Ok(known)
    }

    fn write(&self, part: &Path, notes: Notes, resident_bytes: usize) -> io::Result<Known> {
        let mut writing = Writing {
            file: BufWriter::with_capacity(WRITE_BYTES, created(part)?),
            hasher: blake3::Hasher::new(),
            directory: Directory::of(self.entries),
            resident: Vec::new(),
            resident_bytes,
        };
        let (mut prints, mut bytes) = (Vec::new(), Vec::new());
        for stretch in 0..1 << STRETCH_BITS {
            prints.clear();
            for portion in &self.portions {
                let (Some(from), Some(to)) = (portion.get(stretch), portion.get(stretch + 1)) else {
                    continue;
                };
                bytes.resize(usize::try_from((to - from) * ENTRY_BYTES).map_err(io::Error::other)?, 0);
                self.file.read_exact_at(&mut bytes, from * ENTRY_BYTES)?;
                prints.extend(bytes.as_chunks::<32>().0.iter().map(print));
            }
            prints.sort_by_key(|print| print.key);
            writing.entries(&prints, &mut bytes)?;
        }
        let Writing { file: mut rest, mut hasher, mut directory, resident, .. } = writing;
        directory.close();
        let (shelves, noted) = (directory.bytes(), serde_json::to_vec(&notes).map_err(io::Error::other)?);
        hasher.update(&shelves).update(&noted);
        for bytes in [&shelves, &noted, &trailer(hasher, &directory, noted.len())] {
            rest.write_all(bytes)?;
        }
        let file = rest.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Known { path: self.path.clone(), file, directory, notes, resident })
    }
}

/// The entries of a file under way.
struct Writing {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    directory: Directory,
    resident: Vec<u8>,
    resident_bytes: usize,
}

impl Writing {
    /// Appends the last of each key, in the order of the keys.
    fn entries(&mut self, sorted: &[Fingerprint], bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.clear();
        for same in sorted.chunk_by(|one, next| one.key == next.key) {
            let Some(last) = same.last() else { continue };
            self.directory.push(last.key);
            bytes.extend(entry(*last));
        }
        self.hasher.update(bytes);
        let room = self.resident_bytes - self.resident.len();
        self.resident.extend(&bytes[..bytes.len().min(room)]);
        self.file.write_all(bytes)
    }
}

/// A file that stands beside another while that one is made.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push("-");
    name.push(suffix);
    path.with_file_name(name)
}

fn created(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(true).open(path)
}

#[cfg(test)]
#[path = "gathering_tests.rs"]
mod tests;
