//! The files of a segment's HNSW index: which embeddings it holds, and where.

mod pickle;

pub(crate) use pickle::{Damage, Pickle, read as read_pickle};

use crate::client::{FileState, Signature, snapshot_lost, state};
use crate::error::{Fault, Outcome};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The file without which an index was never kept, whatever else lies beside it.
const NAMES: &str = "index_metadata.pickle";
const HEADER_BYTES: usize = 100;
/// The only version of the format.
const FORMAT: u32 = 1;
/// An element ends with its label.
const LABEL_BYTES: usize = 8;
/// How much is read at once where labels are read: to ask for each alone costs more than to read what lies between them,
/// unless elements are larger than this.
const BLOCK_BYTES: u64 = 256 << 10;
/// No embedding has more floats; a header that says so is damaged.
const MOST_DIMENSIONS: u64 = 1 << 20;

/// Which element has a label.
pub(crate) type Slots = HashMap<u64, u32, RandomState>;

/// An index, open for reading one embedding after the other.
pub(crate) struct Index {
    layout: Layout,
    data: OpenFile,
    /// The norms that embeddings had before they were normalised.
    lengths: Option<OpenFile>,
    states: Vec<(PathBuf, Option<FileState>)>,
    /// How many elements the files hold whole.
    present: u64,
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// Elements that were written, with those that were deleted since.
    elements: u64,
    element_bytes: u64,
    label_offset: u64,
    data_offset: u64,
    dimension: usize,
}

struct OpenFile {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Layout {
    fn parse(header: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        let word = |at: usize| {
            header
                .get(at..at + 8)
                .and_then(|bytes| bytes.first_chunk::<8>())
                .map_or(0, |b| u64::from_le_bytes(*b))
        };
        let format = header.first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        if format != FORMAT {
            return Err("its header is of another format");
        }
        let (elements, element_bytes, label_offset, data_offset) = (word(20), word(28), word(36), word(44));
        let data_bytes = label_offset.checked_sub(data_offset).filter(|bytes| bytes % 4 == 0);
        let dimension =
            data_bytes.map(|bytes| bytes / 4).filter(|floats| (1..=MOST_DIMENSIONS).contains(floats));
        // An element is its links, its floats and its label, and nothing else. The first number of links is as in the
        // header, a number of four bytes stands before them.
        let ends_within = label_offset.checked_add(8) == Some(element_bytes);
        let begins_behind =
            word(68).checked_mul(4).and_then(|links| links.checked_add(4)) == Some(data_offset);
        let ends_within = ends_within && begins_behind && elements <= word(12);
        let fits = elements.checked_mul(element_bytes).is_some_and(|bytes| i64::try_from(bytes).is_ok());
        match dimension.and_then(|floats| usize::try_from(floats).ok()) {
            Some(dimension) if ends_within && fits => {
                Ok(Self { elements, element_bytes, label_offset, data_offset, dimension })
            }
            _ => Err("its header contradicts itself"),
        }
    }
}

impl OpenFile {
    fn open(path: PathBuf) -> Outcome<Self> {
        let file = File::open(&path).map_err(Fault::io(&path))?;
        let bytes = file.metadata().map_err(Fault::io(&path))?.len();
        Ok(Self { file, path, bytes })
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Outcome<()> {
        read_at(&self.file, at, into).map_err(Fault::io(&self.path))
    }
}

/// A number of bytes that are in memory or are to be.
fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(unix)]
fn read_at(file: &File, at: u64, into: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut at: u64, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, into, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                at += read as u64;
                into = &mut into[read..];
            }
        }
    }
    Ok(())
}

/// Whether a segment's folder holds an index that was kept.
pub(crate) fn is_kept(folder: &Path) -> Outcome<bool> {
    Ok(state(&folder.join(NAMES))?.is_some())
}

/// The bytes of the file that says which label stands for which id.
pub(crate) fn names(folder: &Path) -> Outcome<Vec<u8>> {
    let path = folder.join(NAMES);
    std::fs::read(&path).map_err(Fault::io(&path))
}

impl Index {
    /// Opens the files of a folder. `is_cosine`: embeddings are normalised, and their norms are kept beside them.
    ///
    /// # Errors
    /// The files contradict themselves, or cannot be read.
    pub(crate) fn open(folder: &Path, signature: &Signature, is_cosine: bool) -> Outcome<Self> {
        let damaged =
            |name: &str, why: &str| Fault::mismatch(format!("{}: {why}", folder.join(name).display()));
        let header = OpenFile::open(folder.join("header.bin"))?;
        let mut bytes = [0; HEADER_BYTES];
        if header.bytes < HEADER_BYTES as u64 {
            return Err(damaged("header.bin", "the file is shorter than a header"));
        }
        header.read(0, &mut bytes)?;
        let layout = Layout::parse(&bytes).map_err(|why| damaged("header.bin", why))?;
        let data = OpenFile::open(folder.join("data_level0.bin"))?;
        let lengths = if is_cosine { Some(OpenFile::open(folder.join("length.bin"))?) } else { None };
        let names = ["header.bin", "data_level0.bin", "length.bin", NAMES];
        let known = |name: &str| {
            let path = folder.join(name);
            let known = signature.get(&path).cloned();
            (path, known)
        };
        let in_data = data.bytes / layout.element_bytes;
        let in_lengths = lengths.as_ref().map_or(u64::MAX, |lengths| lengths.bytes / 4);
        let present = layout.elements.min(in_data).min(in_lengths);
        let index = Self { layout, data, lengths, states: names.map(known).into(), present };
        index.check_unchanged()?;
        Ok(index)
    }

    /// The number of floats in each embedding.
    pub(crate) fn dimension(&self) -> usize {
        self.layout.dimension
    }

    /// How many of the elements that were written are cut off.
    pub(crate) fn missing(&self) -> u64 {
        self.layout.elements - self.present
    }

    /// Refuses to go on where the files are no longer those of the copy of the database.
    pub(crate) fn check_unchanged(&self) -> Outcome<()> {
        for (path, known) in &self.states {
            if state(path)? != *known {
                return Err(snapshot_lost(path));
            }
        }
        Ok(())
    }

    /// Where each label's element is. An element that is not marked as deleted goes before one that is.
    ///
    /// # Errors
    /// Two elements have one label: the header counts elements that were never written, and what lies there is chance.
    pub(crate) fn slots(&self) -> Outcome<Slots> {
        let mut slots = HashMap::with_capacity_and_hasher(
            usize::try_from(self.present).unwrap_or(0),
            RandomState::default(),
        );
        let too_many =
            || Fault::mismatch(format!("{}: more elements than an index holds", self.data.path.display()));
        let middle = self.present / 2;
        let (first, second) = std::thread::scope(|scope| {
            let second = scope.spawn(|| self.labels(middle..self.present));
            (self.labels(0..middle), second.join())
        });
        let second = second.map_err(|_| Fault::ended_badly("the thread that reads an index"))??;
        for (slot, label) in (0..).zip(first?.into_iter().chain(second)) {
            let number = u32::try_from(slot).map_err(|_| too_many())?;
            let Some(other) = slots.insert(label, number) else { continue };
            match (self.is_deleted(other.into())?, self.is_deleted(slot)?) {
                (false, false) => return Err(self.twice(label)),
                (_, true) => drop(slots.insert(label, other)),
                (true, false) => {}
            }
        }
        Ok(slots)
    }

    /// The labels of elements, in their order.
    fn labels(&self, elements: Range<u64>) -> Outcome<Vec<u64>> {
        let Layout { element_bytes, label_offset, .. } = self.layout;
        let at_once = (BLOCK_BYTES / element_bytes).max(1);
        let mut labels = Vec::with_capacity(usize::try_from(elements.end - elements.start).unwrap_or(0));
        let (mut block, mut from) = (Vec::new(), elements.start);
        while from < elements.end {
            let count = at_once.min(elements.end - from);
            // From the first label to the last: the links of the first element are not needed.
            block.resize(in_memory((count - 1) * element_bytes) + LABEL_BYTES, 0);
            self.data.read(from * element_bytes + label_offset, &mut block)?;
            let all = block
                .chunks(in_memory(element_bytes))
                .filter_map(|element| element.first_chunk::<LABEL_BYTES>());
            labels.extend(all.map(|label| u64::from_le_bytes(*label)));
            from += count;
        }
        Ok(labels)
    }

    fn is_deleted(&self, slot: u64) -> Outcome<bool> {
        let mut head = [0; 4];
        self.data.read(slot * self.layout.element_bytes, &mut head)?;
        Ok(head[2] & 1 == 1)
    }

    fn twice(&self, label: u64) -> Fault {
        let path = self.data.path.display();
        Fault::mismatch(format!("{path}: two elements have the label {label}, as its header counts too many"))
    }

    /// The embedding of an element as a client would get it: as it was given, but for a metric that normalises. There
    /// it is multiplied by the norm that it had, one rounding away from what was given.
    ///
    /// `bytes` is room for what is read, which goes from one call to the next.
    pub(crate) fn embedding(&self, slot: u32, bytes: &mut Vec<u8>, floats: &mut Vec<f32>) -> Outcome<()> {
        let slot = u64::from(slot);
        bytes.resize(self.layout.dimension * 4, 0);
        self.data.read(slot * self.layout.element_bytes + self.layout.data_offset, bytes)?;
        floats.clear();
        floats.extend(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
        if let Some(lengths) = &self.lengths {
            let mut length = [0; 4];
            lengths.read(slot * 4, &mut length)?;
            let length = f32::from_le_bytes(length);
            floats.iter_mut().for_each(|float| *float *= length);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with room for a thousand elements, and 32 links in each.
    fn header(elements: u64, element_bytes: u64, label_offset: u64, data_offset: u64) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[0] = 1;
        let numbers = [(20, elements), (28, element_bytes), (36, label_offset), (44, data_offset)];
        for (at, value) in [(12, 1000), (68, 32)].into_iter().chain(numbers) {
            header[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        header
    }

    #[test]
    fn a_header_that_contradicts_itself_is_refused() {
        let good = Layout::parse(&header(7, 172, 164, 132)).unwrap();
        assert_eq!((good.dimension, good.elements), (8, 7));
        for bad in [
            header(7, 170, 164, 132),
            header(7, 172, 132, 132),
            header(7, 172, 131, 132),
            header(7, 172, 165, 132),
            header(7, 176, 164, 132),
            header(7, 168, 160, 128),
            header(1001, 172, 164, 132),
            header(u64::MAX, 172, 164, 132),
            header(1, u64::MAX, u64::MAX - 7, 3),
            [0; HEADER_BYTES],
            [0xFF; HEADER_BYTES],
        ] {
            assert!(Layout::parse(&bad).is_err());
        }
    }

    #[test]
    fn labels_are_found_whatever_block_they_lie_in() {
        const ELEMENT_BYTES: usize = 172;
        const ELEMENTS: u16 = 5_000;
        assert!(u64::from(ELEMENTS) / 2 > BLOCK_BYTES / 172, "each half takes more than one block");
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("segment");
        std::fs::create_dir(&folder).unwrap();
        let mut head = header(ELEMENTS.into(), 172, 164, 132);
        head[12..20].copy_from_slice(&u64::from(ELEMENTS).to_le_bytes());
        std::fs::write(folder.join("header.bin"), head).unwrap();
        let label = |slot: u16| u64::from(slot) * 7_919 % u64::from(ELEMENTS) + 1;
        let element = |slot: u16| {
            let mut element = [0xAA; ELEMENT_BYTES];
            element[132..136].copy_from_slice(&f32::from(slot).to_le_bytes());
            element[164..].copy_from_slice(&label(slot).to_le_bytes());
            element
        };
        let whole: Vec<u8> = (0..ELEMENTS).flat_map(element).collect();
        for (present, cut) in [(ELEMENTS, 0), (ELEMENTS - 1, 1), (1_001, 3_999 * ELEMENT_BYTES - 10)] {
            std::fs::write(folder.join("data_level0.bin"), &whole[..whole.len() - cut]).unwrap();
            let signature = Signature::of(directory.path()).unwrap();
            let index = Index::open(&folder, &signature, false).unwrap();
            assert_eq!(index.missing(), u64::from(ELEMENTS - present));
            let slots = index.slots().unwrap();
            assert_eq!(slots.len(), usize::from(present));
            assert!((0..present).all(|slot| slots[&label(slot)] == u32::from(slot)));
            let (mut bytes, mut floats) = (Vec::new(), Vec::new());
            index.embedding(777, &mut bytes, &mut floats).unwrap();
            assert_eq!(floats[0].to_bits(), 777.0_f32.to_bits());
        }
    }
}
