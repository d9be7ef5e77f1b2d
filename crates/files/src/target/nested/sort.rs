//! Records by document, sorted on the disk in bounded memory. Records that belong to the same place of the same
//! document keep the order in which they came.

use crate::error::{Fault, Outcome};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use whimbrel_store::StoreErrorKind;

/// How much is sorted in memory at once.
const PORTION_BYTES: usize = 16 << 20;
/// How many sorted portions are merged at once, each with a buffer.
const MERGED_AT_ONCE: usize = 32;
const BUFFER_BYTES: usize = 64 << 10;
/// What stands before a record: the lengths of its two texts, and its rank.
const HEAD_BYTES: usize = 10;

/// A record and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// The value that tells its document apart, as JSON.
    pub(super) by: &'a [u8],
    /// Where in the document it stands: first the document itself, then list after list.
    pub(super) rank: u16,
    /// The rest of it, as JSON.
    pub(super) record: &'a [u8],
}

impl Frame<'_> {
    /// Appends it as parts and portions hold it.
    pub(super) fn append(&self, into: &mut Vec<u8>) -> Outcome<()> {
        let length = |bytes: &[u8]| {
            u32::try_from(bytes.len())
                .map_err(|_| Fault::found(StoreErrorKind::LimitReached, "a record is longer than 4 GB"))
        };
        into.extend(length(self.by)?.to_le_bytes());
        into.extend(length(self.record)?.to_le_bytes());
        into.extend(self.rank.to_le_bytes());
        into.extend(self.by);
        into.extend(self.record);
        Ok(())
    }
}

/// A record that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) by: Vec<u8>,
    pub(super) rank: u16,
    pub(super) record: Vec<u8>,
}

impl Owned {
    /// Reads the next one in the place of this; `false`: there is none.
    pub(super) fn read(&mut self, from: &mut impl Read) -> Outcome<bool> {
        let mut head = [0; HEAD_BYTES];
        let mut filled = 0;
        while filled < head.len() {
            match from.read(&mut head[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let [a, b, c, d, e, f, g, h, i, j] = head;
        self.rank = u16::from_le_bytes([i, j]);
        fill(from, u32::from_le_bytes([a, b, c, d]), &mut self.by)?;
        fill(from, u32::from_le_bytes([e, f, g, h]), &mut self.record)?;
        Ok(true)
    }

    fn frame(&self) -> Frame<'_> {
        Frame { by: &self.by, rank: self.rank, record: &self.record }
    }
}

fn fill(from: &mut impl Read, length: u32, into: &mut Vec<u8>) -> Outcome<()> {
    into.clear();
    // Not reserved at once: a damaged length must not take the memory.
    let read = from.by_ref().take(u64::from(length)).read_to_end(into)?;
    if u32::try_from(read) == Ok(length) {
        Ok(())
    } else {
        Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
    }
}

/// Takes records in any order and gives them sorted.
pub(super) struct Sorter {
    /// Where portions are kept: files without names, which are gone with the process.
    folder: PathBuf,
    portion_bytes: usize,
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// Sorted portions in the order in which they came, each with how often it was merged.
    portions: Vec<(u32, File)>,
}

/// Where a record of the portion in memory lies.
#[derive(Clone, Debug)]
struct Place {
    whole: Range<usize>,
    by: Range<usize>,
    rank: u16,
}

impl Sorter {
    pub(super) fn new(folder: &Path) -> Self {
        Self::of_portions(folder, PORTION_BYTES)
    }

    fn of_portions(folder: &Path, portion_bytes: usize) -> Self {
        let (bytes, places, portions) = (Vec::new(), Vec::new(), Vec::new());
        Self { folder: folder.to_owned(), portion_bytes, bytes, places, portions }
    }

    pub(super) fn push(&mut self, frame: &Frame<'_>) -> Outcome<()> {
        let start = self.bytes.len();
        frame.append(&mut self.bytes)?;
        let by = start + HEAD_BYTES..start + HEAD_BYTES + frame.by.len();
        self.places.push(Place { whole: start..self.bytes.len(), by, rank: frame.rank });
        let held = self.bytes.len() + self.places.len() * size_of::<Place>();
        if held >= self.portion_bytes { self.spill() } else { Ok(()) }
    }

    /// Writes the portion in memory, sorted.
    fn spill(&mut self) -> Outcome<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let bytes = &self.bytes;
        // The order of records of one place is the order in which they came.
        self.places.sort_by(|a, b| (&bytes[a.by.clone()], a.rank).cmp(&(&bytes[b.by.clone()], b.rank)));
        let mut file = BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(&self.folder)?);
        for place in &self.places {
            file.write_all(&bytes[place.whole.clone()])?;
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.bytes.clear();
        self.places.clear();
        self.portions.push((0, file));
        self.merge_like()
    }

    /// Merges the last portions where many have been merged as often, so that there are never many of them.
    fn merge_like(&mut self) -> Outcome<()> {
        while let Some(&(merged, _)) = self.portions.last() {
            let like = self.portions.iter().rev().take_while(|(other, _)| *other == merged).count();
            if like < MERGED_AT_ONCE {
                break;
            }
            let portions = self.portions.split_off(self.portions.len() - like);
            let portions = portions.into_iter().map(|(_, file)| file).collect();
            let mut file = BufWriter::with_capacity(BUFFER_BYTES, tempfile::tempfile_in(&self.folder)?);
            let mut bytes = Vec::new();
            let mut sorted = Sorted::of(portions)?;
            while let Some(next) = sorted.next()? {
                bytes.clear();
                next.frame().append(&mut bytes)?;
                file.write_all(&bytes)?;
            }
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            self.portions.push((merged + 1, file));
        }
        Ok(())
    }

    /// Everything, sorted.
    pub(super) fn sorted(mut self) -> Outcome<Sorted> {
        self.spill()?;
        Sorted::of(self.portions.into_iter().map(|(_, file)| file).collect())
    }
}

/// Records in order.
pub(super) struct Sorted {
    heads: BinaryHeap<Reverse<Head>>,
    portions: Vec<BufReader<File>>,
    /// The record that was given last, and the portion to go on with.
    given: Option<Head>,
}

/// The next record of a portion.
struct Head {
    record: Owned,
    portion: usize,
}

impl Sorted {
    fn of(files: Vec<File>) -> Outcome<Self> {
        let mut sorted = Self { heads: BinaryHeap::new(), portions: Vec::new(), given: None };
        for (portion, mut file) in files.into_iter().enumerate() {
            file.rewind()?;
            sorted.portions.push(BufReader::with_capacity(BUFFER_BYTES, file));
            sorted.put(Head { record: Owned::default(), portion })?;
        }
        Ok(sorted)
    }

    fn put(&mut self, mut head: Head) -> Outcome<()> {
        if head.record.read(&mut self.portions[head.portion])? {
            self.heads.push(Reverse(head));
        }
        Ok(())
    }

    /// The next record; `None`: there is none.
    pub(super) fn next(&mut self) -> Outcome<Option<&Owned>> {
        if let Some(given) = self.given.take() {
            self.put(given)?;
        }
        self.given = self.heads.pop().map(|Reverse(head)| head);
        Ok(self.given.as_ref().map(|head| &head.record))
    }
}

impl Head {
    fn order(&self) -> (&[u8], u16, usize) {
        (&self.record.by, self.record.rank, self.portion)
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Head {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sorted(records: &[(Vec<u8>, u16, Vec<u8>)], portion_bytes: usize) -> Vec<(Vec<u8>, u16, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::of_portions(folder.path(), portion_bytes);
        for (by, rank, record) in records {
            sorter.push(&Frame { by, rank: *rank, record }).unwrap();
        }
        assert!(sorter.portions.len() < 2 * MERGED_AT_ONCE);
        let mut sorted = sorter.sorted().unwrap();
        let mut all = Vec::new();
        while let Some(next) = sorted.next().unwrap() {
            all.push((next.by.clone(), next.rank, next.record.clone()));
        }
        all
    }

    proptest! {
        #[test]
        fn records_are_sorted_and_keep_their_order(
            names in proptest::collection::vec(("[a-c]{0,2}", 0_u16..3), 0..200),
            portion_bytes in 1_usize..4_000,
        ) {
            let records: Vec<_> = names
                .into_iter()
                .enumerate()
                .map(|(number, (by, rank))| (by.into_bytes(), rank, number.to_string().into_bytes()))
                .collect();
            let mut expected = records.clone();
            expected.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
            prop_assert_eq!(sorted(&records, portion_bytes), expected);
        }
    }

    #[test]
    fn more_portions_than_are_merged_at_once_keep_their_order() {
        let many = u32::try_from(MERGED_AT_ONCE * MERGED_AT_ONCE + 40).unwrap();
        let record = |number: u32| (vec![b'a'], 0, number.to_be_bytes().to_vec());
        let records: Vec<_> = (0..many).map(record).collect();
        assert_eq!(sorted(&records, 1), records);
    }

    #[test]
    fn a_portion_that_is_cut_is_no_end() {
        let mut bytes = Vec::new();
        Frame { by: b"\"a\"", rank: 1, record: b"{}" }.append(&mut bytes).unwrap();
        let mut owned = Owned::default();
        assert!(owned.read(&mut bytes.as_slice()).unwrap());
        assert_eq!(owned, Owned { by: b"\"a\"".to_vec(), rank: 1, record: b"{}".to_vec() });
        for length in 1..bytes.len() {
            assert!(owned.read(&mut &bytes[..length]).is_err(), "{length}");
        }
        assert!(!owned.read(&mut &[][..]).unwrap());
    }
}
