//! Keyed BLAKE3 of many short forms: exactly what the crate answers for each by itself.
//!
//! By itself a form is hashed block by block, each block waiting for the one before it. Of many forms as many blocks
//! are hashed at a time as the processor has lanes. The crate hashes so below its public interface; which is why its
//! version is pinned, and why every length that goes this way is compared with the public function in a test.

use super::{BLOCK_BYTES, Fingerprint, FingerprintKey, PADDING, cut, padding};
use crate::canonical::Canonical;
use crate::forms::Forms;
use crate::rooms::Rooms;
use blake3::IncrementCounter;
use blake3::platform::{Platform, words_from_le_bytes_32};
use std::array;

/// A longer form is a tree of chunks, which the crate hashes side by side anyhow, and where it stands.
const CHUNK_BYTES: usize = 1024;
/// How many forms are hashed at a time: no processor has more lanes.
const LANES: usize = 16;
/// Of so many records fingerprints are taken together.
const TOGETHER: usize = 128;
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

    /// Takes as many records as there are rows, of which these are the forms.
    pub fn push_rows(&mut self, rows: usize, key: &Forms, record: &Forms) {
        self.take();
        let mut keys = Rooms::default();
        // Each form is filled up to whole blocks.
        let measure = |rows, records: &mut Rooms| record.measure(rows, BLOCK_BYTES, records);
        Rooms::in_turns(rows, measure, |records| {
            key.measure(records.rows(), BLOCK_BYTES, &mut keys);
            keys.open(usize::MAX);
            for (forms, rooms) in [(key, &mut keys), (record, &mut *records)] {
                forms.put(rooms);
                rooms.each_filled(|filled, room| room.first(&PADDING, BLOCK_BYTES - filled % BLOCK_BYTES));
            }
            let forms = |rooms: &Rooms| hashes(self.key.as_bytes(), &rooms.filled().collect::<Vec<_>>());
            let pairs = forms(&keys).into_iter().zip(forms(records));
            self.done.extend(pairs.map(|(key, record)| Fingerprint { key: cut(&key), record: cut(&record) }));
        });
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
    use crate::forms::Values;
    use crate::texts::Texts;

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
        let forms = |forms: Vec<&Canonical>| {
            let bytes: Vec<u8> = forms.iter().flat_map(|form| form.bytes()).copied().collect();
            let mut bounds = vec![0];
            bounds.extend(forms.iter().scan(0, |end, form| {
                *end += u32::try_from(form.len()).unwrap();
                Some(*end)
            }));
            Forms::lists(vec![Values::forms(None, Texts::between(bytes, &bounds))])
        };
        let mut at_once = Fingerprints::new(&secret, 10);
        let (keys, records) = (all.iter().map(|(key, _)| key), all.iter().map(|(_, record)| record));
        at_once.push_rows(all.len(), &forms(keys.collect()), &forms(records.collect()));
        let listed = |form: &Canonical| {
            let mut list = Canonical::default();
            list.list(1);
            list.append(form);
            list
        };
        let expected = all.iter().map(|(key, record)| secret.fingerprint(&listed(key), &listed(record)));
        assert_eq!(at_once.finish(), expected.collect::<Vec<_>>());
        assert!(Fingerprints::new(&secret, 0).finish().is_empty());
    }
}
