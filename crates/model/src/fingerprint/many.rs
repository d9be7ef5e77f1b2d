//! Keyed BLAKE3 of many short forms: exactly what the crate answers for each by itself.
//!
//! By itself a form is hashed block by block, each block waiting for the one before it. Of many forms as many blocks
//! are hashed at a time as the processor has lanes. The crate hashes so below its public interface; which is why its
//! version is pinned, and why every length that goes this way is compared with the public function in a test.

use super::{BLOCK_BYTES, Fingerprint, FingerprintKey, PADDING, cut, padding};
use crate::canonical::Canonical;
use crate::piece::Room;
use blake3::IncrementCounter;
use blake3::platform::{Platform, words_from_le_bytes_32};
use std::array;
use std::ops::Range;

/// A longer form is a tree of chunks, which the crate hashes side by side anyhow, and where it stands.
const CHUNK_BYTES: usize = 1024;
/// How many forms are hashed at a time: no processor has more lanes.
const LANES: usize = 16;
/// Of so many records fingerprints are taken together.
const TOGETHER: usize = 512;
/// So many bytes of forms wait at most, but for one record's.
const MOST_WAITING: usize = 256 << 10;
const HASH_BYTES: usize = 32;

/// The flags of a block, from BLAKE3's specification.
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 1 << 1;
const ROOT: u8 = 1 << 3;
const KEYED_HASH: u8 = 1 << 4;

/// Takes the fingerprints of many records: those that [`FingerprintKey::fingerprint`] gives of each, in a fraction of
/// the time.
#[derive(Debug)]
pub struct Fingerprints {
    key: FingerprintKey,
    /// Keys and records that wait: a key, its record, the next key; each filled up to whole blocks.
    waiting: Canonical,
    ends: Vec<usize>,
    done: Vec<Fingerprint>,
}

impl Fingerprints {
    /// None yet; there is room for so many.
    #[must_use]
    pub fn new(key: &FingerprintKey, capacity: usize) -> Self {
        let done = Vec::with_capacity(capacity);
        Self {
            key: key.clone(),
            waiting: Canonical::default(),
            ends: Vec::with_capacity(2 * capacity.min(TOGETHER)),
            done,
        }
    }

    /// Takes the next record: its key values and the whole of it, each in canonical form.
    pub fn push(&mut self, key: &Canonical, record: &Canonical) {
        self.push_made(|form| form.append(key), |form| form.append(record));
    }

    /// The same of forms that are made where they are hashed: each is appended to what the closure is given, and
    /// nothing else is done with that.
    #[inline]
    pub fn push_made(&mut self, key: impl FnOnce(&mut Canonical), record: impl FnOnce(&mut Canonical)) {
        self.make(key);
        self.make(record);
        if self.ends.len() >= 2 * TOGETHER || self.waiting.len() >= MOST_WAITING {
            self.take();
        }
    }

    /// Makes a form, and fills it up.
    #[inline]
    fn make(&mut self, append: impl FnOnce(&mut Canonical)) {
        let start = self.waiting.len();
        append(&mut self.waiting);
        self.waiting.fill(padding(self.waiting.len() - start));
        self.ends.push(self.waiting.len());
    }

    /// Takes as many records as there are rows, their forms put where there is room for them: `most` tells how many
    /// bytes those of some rows take at most, `key` and `record` put that of one.
    #[inline]
    pub fn push_rows(
        &mut self,
        rows: usize,
        most: impl Fn(Range<usize>) -> usize,
        mut key: impl FnMut(usize, &mut Room<'_>),
        mut record: impl FnMut(usize, &mut Room<'_>),
    ) {
        let mut start = 0;
        while start < rows {
            let mut block = start..rows.min(start + TOGETHER);
            while block.len() > 1 && most(block.clone()) > MOST_WAITING {
                block.end -= block.len() / 2;
            }
            start = block.end;
            // Each of the two forms of a record is filled up to whole blocks.
            let most = most(block.clone()) + 2 * BLOCK_BYTES * block.len();
            let (ends, before) = (&mut self.ends, self.waiting.len());
            self.waiting.put_together(most, |room| {
                for row in block {
                    let begun = room.filled();
                    key(row, room);
                    fill_up(begun, room);
                    let middle = room.filled();
                    record(row, room);
                    fill_up(middle, room);
                    ends.extend([before + middle, before + room.filled()]);
                }
            });
            self.take();
        }
    }

    /// The fingerprints, in the order of the records.
    #[must_use]
    pub fn finish(mut self) -> Vec<Fingerprint> {
        self.take();
        self.done
    }

    /// Takes the fingerprints of those that wait.
    fn take(&mut self) {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let forms: Vec<&[u8]> =
            starts.zip(&self.ends).map(|(start, end)| &self.waiting.bytes()[start..*end]).collect();
        let hashes = hashes(self.key.as_bytes(), &forms);
        let (pairs, _) = hashes.as_chunks::<2>();
        let taken = pairs.iter().map(|[key, record]| Fingerprint { key: cut(key), record: cut(record) });
        self.done.extend(taken);
        self.waiting.clear();
        self.ends.clear();
    }
}

/// Fills a form up that begins here.
#[inline]
fn fill_up(begun: usize, room: &mut Room<'_>) {
    room.first(&PADDING, BLOCK_BYTES - (room.filled() - begun) % BLOCK_BYTES);
}

/// The hashes of forms of whole blocks, in their order.
fn hashes(key: &[u8; 32], forms: &[&[u8]]) -> Vec<[u8; HASH_BYTES]> {
    const MOST: usize = CHUNK_BYTES / BLOCK_BYTES;
    let (platform, words) = (Platform::detect(), words_from_le_bytes_32(key));
    let mut hashes = vec![[0; HASH_BYTES]; forms.len()];
    // Those of as many blocks go together.
    let mut alike: [Vec<usize>; MOST] = Default::default();
    for (place, form) in forms.iter().enumerate() {
        match alike.get_mut(form.len() / BLOCK_BYTES - 1) {
            Some(alike) => alike.push(place),
            None => hashes[place] = *blake3::keyed_hash(key, form).as_bytes(),
        }
    }
    for (fewer, places) in alike.iter().enumerate() {
        for places in places.chunks(LANES) {
            let group: [&[u8]; LANES] =
                array::from_fn(|lane| places.get(lane).map_or(&[][..], |at| forms[*at]));
            let mut values = [[0; HASH_BYTES]; LANES];
            whole(fewer + 1)(platform, &words, &group[..places.len()], values.as_flattened_mut());
            places.iter().zip(values).for_each(|(place, hash)| hashes[*place] = hash);
        }
    }
    hashes
}

type Many = fn(Platform, &[u32; 8], &[&[u8]], &mut [u8]);

/// What hashes forms of so many blocks.
fn whole(blocks: usize) -> Many {
    match blocks {
        1 => many::<64>,
        2 => many::<128>,
        3 => many::<192>,
        4 => many::<256>,
        5 => many::<320>,
        6 => many::<384>,
        7 => many::<448>,
        8 => many::<512>,
        9 => many::<576>,
        10 => many::<640>,
        11 => many::<704>,
        12 => many::<768>,
        13 => many::<832>,
        14 => many::<896>,
        15 => many::<960>,
        _ => many::<1024>,
    }
}

fn many<const BYTES: usize>(platform: Platform, key: &[u32; 8], forms: &[&[u8]], hashes: &mut [u8]) {
    let mut inputs: [&[u8; BYTES]; LANES] = [&[0; BYTES]; LANES];
    for (input, form) in inputs.iter_mut().zip(forms) {
        *input = form.first_chunk().unwrap_or(input);
    }
    let (inputs, last) = (&inputs[..forms.len()], CHUNK_END | ROOT);
    platform.hash_many(inputs, key, 0, IncrementCounter::No, KEYED_HASH, CHUNK_START, last, hashes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Canonical {
        let mut canonical = Canonical::default();
        canonical.text(&"whimbrel ".repeat(length / 9 + 1)[..length]);
        canonical
    }

    #[test]
    fn every_length_has_the_fingerprint_that_it_has_by_itself() {
        let secret = FingerprintKey::new([7; 32]);
        // All lengths once, then many of a few lengths, in another order.
        let mut lengths: Vec<usize> = (0..=1100).collect();
        lengths.extend((0..900).map(|at| 200 + at * 7 % 130));
        let (mut many, mut expected) = (Fingerprints::new(&secret, 10), Vec::new());
        let mut all = Vec::new();
        for (number, length) in lengths.into_iter().enumerate() {
            let key = if number % 100 == 0 { text(length) } else { text(number % 20) };
            many.push(&key, &text(length));
            expected.push(secret.fingerprint(&key, &text(length)));
            all.push((key, text(length)));
        }
        assert_eq!(many.finish(), expected);
        let mut at_once = Fingerprints::new(&secret, 10);
        at_once.push_rows(
            all.len(),
            |rows| all[rows].iter().map(|(key, record)| key.len() + record.len()).sum(),
            |row, room| room.within(all[row].0.bytes(), 0, all[row].0.len()),
            |row, room| room.within(all[row].1.bytes(), 0, all[row].1.len()),
        );
        assert_eq!(at_once.finish(), expected);
        assert!(Fingerprints::new(&secret, 0).finish().is_empty());
    }
}
