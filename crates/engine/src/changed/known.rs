//! Fingerprints on the disk, by key: a file that [`Gathering`](super::gathering::Gathering) writes once, and that is
//! only asked from then on.
//!
//! Entries of 32 bytes lie in the order of their keys. Keys are hashes, so that their upper bits fill *shelves* evenly: a
//! directory says where each begins, and one look at a shelf of some entries finds a key. Behind entries and
//! directory stand notes, and in the end a digest of all of it: a file that is torn, or of another form, is not trusted,
//! and no error.

use super::kept::{ENTRY_BYTES, print};
use crate::error::{EngineError, Result};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is noted of the whole of a file, by name.
pub(crate) type Notes = BTreeMap<String, String>;

/// How a file ends.
const MAGIC: [u8; 16] = *b"whimbrel known 2";
/// Numbers of entries, shelves and bytes of notes; the digest; the magic.
pub(super) const TRAILER_BYTES: usize = 3 * 8 + 32 + MAGIC.len();
/// Entries that a shelf is meant to hold.
const SHELF_ENTRIES: u64 = 8;
/// Shelves are 2 to the power of this at the most: a directory of 4 MB, from 4 million entries on.
const MOST_SHELF_BITS: u32 = 19;
/// How much is read at a time of a file that is checked.
const CHECKED_AT_ONCE: usize = 1 << 18;
/// Entries of all flows together that are held in memory, in bytes; the others are read as they are asked for.
pub(super) const RESIDENT_BYTES: usize = 32 << 20;

/// What is known of the records of one flow.
#[derive(Debug)]
pub(crate) struct Known {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) directory: Directory,
    pub(super) notes: Notes,
    /// The first entries.
    pub(super) resident: Vec<u8>,
}

/// Where each shelf begins, counted in entries; the end of the last one behind them.
#[derive(Debug)]
pub(super) struct Directory {
    begins: Vec<u64>,
    bits: u32,
    entries: u64,
}

impl Directory {
    /// For about so many entries.
    pub(super) fn of(entries: u64) -> Self {
        let bits = (entries / SHELF_ENTRIES).max(1).ilog2().min(MOST_SHELF_BITS);
        Self { begins: Vec::with_capacity((1 << bits) + 1), bits, entries: 0 }
    }

    /// Takes in the next entry, whose key is greater than those before.
    pub(super) fn push(&mut self, key: u128) {
        let shelf = shelf(key, self.bits);
        while self.begins.len() <= shelf {
            self.begins.push(self.entries);
        }
        self.entries += 1;
    }

    /// No entry follows.
    pub(super) fn close(&mut self) {
        self.begins.resize((1 << self.bits) + 1, self.entries);
    }

    /// The entries among which a key is, in bytes.
    fn range(&self, key: u128) -> Range<u64> {
        let shelf = shelf(key, self.bits);
        let at = |shelf: usize| self.begins.get(shelf).copied().unwrap_or(self.entries) * ENTRY_BYTES;
        at(shelf)..at(shelf + 1)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.begins.iter().flat_map(|begin| begin.to_be_bytes()).collect()
    }
}

/// The upper bits of a key.
pub(super) fn shelf(key: u128, bits: u32) -> usize {
    // A shift by all 128 bits would overflow.
    usize::try_from(key >> 1 >> (127 - bits)).unwrap_or(0)
}

/// The numbers of a trailer.
struct Trailer {
    entries: u64,
    shelves: u64,
    notes: u64,
    digest: [u8; 32],
}

/// The end of a file, behind what `hasher` has seen.
pub(super) fn trailer(mut hasher: blake3::Hasher, directory: &Directory, notes: usize) -> Vec<u8> {
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let mut bytes = Vec::with_capacity(TRAILER_BYTES);
    for number in [directory.entries, count(directory.begins.len()), count(notes)] {
        bytes.extend(number.to_be_bytes());
    }
    hasher.update(&bytes);
    bytes.extend(hasher.finalize().as_bytes());
    bytes.extend(MAGIC);
    bytes
}

impl Trailer {
    /// `None`: the file does not end as one that is whole.
    fn read(file: &File) -> io::Result<Option<Self>> {
        let length = file.metadata()?.len();
        let mut bytes = [0; TRAILER_BYTES];
        let trailer_bytes = u64::try_from(TRAILER_BYTES).unwrap_or(u64::MAX);
        let Some(before) = length.checked_sub(trailer_bytes) else { return Ok(None) };
        file.read_exact_at(&mut bytes, before)?;
        let (numbers, rest) = bytes.split_at(24);
        let (digest, magic) = rest.split_at(32);
        let mut numbers = numbers.as_chunks::<8>().0.iter().map(|number| u64::from_be_bytes(*number));
        let mut next = || numbers.next().unwrap_or_default();
        let mut trailer = Self { entries: next(), shelves: next(), notes: next(), digest: [0; 32] };
        trailer.digest.copy_from_slice(digest);
        let is_whole = magic == MAGIC && trailer.before() == Some(before) && trailer.bits().is_some();
        Ok(is_whole.then_some(trailer))
    }

    /// How many bytes stand before it.
    fn before(&self) -> Option<u64> {
        let entries = self.entries.checked_mul(ENTRY_BYTES)?;
        entries.checked_add(self.shelves.checked_mul(8)?)?.checked_add(self.notes)
    }

    fn bits(&self) -> Option<u32> {
        let shelves = self.shelves.checked_sub(1).filter(|shelves| shelves.is_power_of_two())?;
        Some(shelves.ilog2()).filter(|bits| *bits <= MOST_SHELF_BITS)
    }

    fn notes(&self, file: &File) -> io::Result<Option<Notes>> {
        let from = self.before().unwrap_or(0) - self.notes;
        let mut bytes = vec![0; usize::try_from(self.notes).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, from)?;
        Ok(serde_json::from_slice(&bytes).ok())
    }
}

impl Known {
    /// Opens a file and reads it to its end; holds its first entries in memory, up to so many bytes. `None` where there is
    /// no file, or none that is whole. Blocks.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn open(path: &Path, resident_bytes: usize) -> Result<Option<Self>> {
        let failed = |source| EngineError::file("read", path, source);
        let Some(file) = existing(path)? else { return Ok(None) };
        let known = Self::checked(path, file, resident_bytes).map_err(failed)?;
        if known.is_none() {
            tracing::warn!(path = %path.display(), "fingerprints that are not whole, or of another form, are not trusted");
        }
        Ok(known)
    }

    fn checked(path: &Path, mut file: File, resident_bytes: usize) -> io::Result<Option<Self>> {
        let Some(trailer) = Trailer::read(&file)? else { return Ok(None) };
        let (Some(before), Some(bits)) = (trailer.before(), trailer.bits()) else { return Ok(None) };
        let entries_end = trailer.entries * ENTRY_BYTES;
        let resident_end = usize::try_from(entries_end).map_or(resident_bytes, |all| all.min(resident_bytes));
        let mut resident = Vec::with_capacity(resident_end);
        let mut directory = Vec::new();
        let (mut hasher, mut portion, mut at) = (blake3::Hasher::new(), Vec::new(), 0_u64);
        file.seek(SeekFrom::Start(0))?;
        while at < before {
            portion.clear();
            let wanted = u64::try_from(CHECKED_AT_ONCE).unwrap_or(u64::MAX).min(before - at);
            if (&file).take(wanted).read_to_end(&mut portion)? == 0 {
                return Ok(None);
            }
            hasher.update(&portion);
            resident.extend(&portion[..portion.len().min(resident_end - resident.len())]);
            let skipped = usize::try_from(entries_end.saturating_sub(at)).unwrap_or(usize::MAX);
            directory.extend(portion.get(skipped..).unwrap_or_default());
            at += u64::try_from(portion.len()).unwrap_or(u64::MAX);
        }
        for number in [trailer.entries, trailer.shelves, trailer.notes] {
            hasher.update(&number.to_be_bytes());
        }
        if *hasher.finalize().as_bytes() != trailer.digest {
            return Ok(None);
        }
        let Some(notes) = trailer.notes(&file)? else { return Ok(None) };
        let shelves = usize::try_from(trailer.shelves).map_err(io::Error::other)?;
        let begins = directory.as_chunks::<8>().0.iter().take(shelves);
        let begins = begins.map(|begin| u64::from_be_bytes(*begin)).collect();
        let directory = Directory { begins, bits, entries: trailer.entries };
        Ok(Some(Self { path: path.to_owned(), file, directory, notes, resident }))
    }

    /// What is noted of a file, without a look at the rest of it. `None` where there is none, or none that ends as one
    /// that is whole. Blocks.
    pub(crate) fn notes_of(path: &Path) -> Result<Option<Notes>> {
        let Some(file) = existing(path)? else { return Ok(None) };
        let notes = || Trailer::read(&file)?.map_or(Ok(None), |trailer| trailer.notes(&file));
        notes().map_err(|source| EngineError::file("read", path, source))
    }

    /// Of each key the hash of its record, where it is known. Blocks.
    pub(crate) fn records(&self, keys: &[u128]) -> Result<Vec<Option<u128>>> {
        // In the order of the file.
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|at| keys[*at]);
        let mut found = vec![None; keys.len()];
        let mut read = Vec::new();
        let mut range = 0..0;
        for at in order {
            let key = keys[at];
            let wanted = self.directory.range(key);
            let held = usize::try_from(wanted.start).ok().zip(usize::try_from(wanted.end).ok());
            let shelf = match held.and_then(|(from, to)| self.resident.get(from..to)) {
                Some(resident) => resident,
                None => {
                    if wanted != range {
                        self.read(&wanted, &mut read)?;
                        range = wanted;
                    }
                    &read
                }
            };
            found[at] = find(shelf, key);
        }
        Ok(found)
    }

    fn read(&self, range: &Range<u64>, into: &mut Vec<u8>) -> Result<()> {
        let failed = |source| EngineError::file("read", &self.path, source);
        let bytes =
            usize::try_from(range.end - range.start).map_err(|error| failed(io::Error::other(error)))?;
        into.resize(bytes, 0);
        self.file.read_exact_at(into, range.start).map_err(failed)
    }

    /// How many keys are known.
    pub(crate) fn count(&self) -> u64 {
        self.directory.entries
    }

    /// What was noted.
    pub(crate) fn noted(&self, name: &str) -> Option<&str> {
        self.notes.get(name).map(String::as_str)
    }
}

fn existing(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EngineError::file("open", path, error)),
    }
}

fn find(shelf: &[u8], key: u128) -> Option<u128> {
    let (entries, _) = shelf.as_chunks::<32>();
    let (key, at) =
        (key.to_be_bytes(), |entry: &[u8; 32], key: &[u8; 16]| -> Ordering { entry[..16].cmp(key) });
    let place = entries.binary_search_by(|entry| at(entry, &key)).ok()?;
    entries.get(place).map(|entry| print(entry).record)
}

/// Asks on a thread that may block.
pub(crate) async fn on<T: Send + 'static>(
    known: &Arc<Known>,
    work: impl FnOnce(&Known) -> Result<T> + Send + 'static,
) -> Result<T> {
    let known = Arc::clone(known);
    blocking(move || work(&known)).await
}

/// Does something with fingerprints on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| EngineError::Internal(format!("known fingerprints: {error}")))?
}
