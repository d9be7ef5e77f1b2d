//! Keyed BLAKE3 of many short texts: exactly what the crate answers for each by itself.
//!
//! By itself a text is hashed block by block, each block waiting for the one before it. Of many texts as many blocks
//! are hashed at a time as the processor has lanes; only each text's last block, whose length differs, is done by itself.
//! The crate hashes so below its public interface; which is why its version is pinned, and why every length that goes
//! this way is compared with the public function in a test.

use blake3::IncrementCounter;
use blake3::platform::{Platform, le_bytes_from_words_32, words_from_le_bytes_32};

const BLOCK_BYTES: usize = 64;
/// A longer text is a tree of chunks, which the crate hashes side by side anyhow.
const CHUNK_BLOCKS: usize = 16;
/// How many texts are begun at a time: no processor has more lanes.
const LANES: usize = 16;
const VALUE_BYTES: usize = 32;

/// The flags of a block, from BLAKE3's specification.
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 1 << 1;
const ROOT: u8 = 1 << 3;
const KEYED_HASH: u8 = 1 << 4;

/// The hashes, in the order of the texts.
pub(super) fn hashes(key: &[u8; 32], texts: &[&[u8]]) -> Vec<[u8; VALUE_BYTES]> {
    let platform = Platform::detect();
    let key_words = words_from_le_bytes_32(key);
    let mut hashes = vec![[0; VALUE_BYTES]; texts.len()];
    // Those with as many blocks before their last one go together.
    let mut alike: [Vec<usize>; CHUNK_BLOCKS] = Default::default();
    for (place, text) in texts.iter().enumerate() {
        match text.len().checked_sub(1).and_then(|last| alike.get_mut(last / BLOCK_BYTES)) {
            Some(places) => places.push(place),
            None => hashes[place] = *blake3::keyed_hash(key, text).as_bytes(),
        }
    }
    for (blocks, places) in alike.iter().enumerate() {
        for places in places.chunks(LANES) {
            let mut group: [&[u8]; LANES] = [&[]; LANES];
            for (text, place) in group.iter_mut().zip(places) {
                *text = texts[*place];
            }
            let group = &group[..places.len()];
            let values = begun(platform, &key_words, blocks, group);
            for ((place, text), value) in places.iter().zip(group).zip(values) {
                hashes[*place] = ended(platform, value, blocks, text);
            }
        }
    }
    hashes
}

/// The chaining values of texts behind so many whole blocks.
fn begun(platform: Platform, key: &[u32; 8], blocks: usize, texts: &[&[u8]]) -> [[u8; VALUE_BYTES]; LANES] {
    let many = match blocks {
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
        // Without a whole block, a text begins with its last one.
        _ => return [le_bytes_from_words_32(key); LANES],
    };
    let mut values = [[0; VALUE_BYTES]; LANES];
    many(platform, key, texts, values.as_flattened_mut());
    values
}

fn many<const BYTES: usize>(platform: Platform, key: &[u32; 8], texts: &[&[u8]], values: &mut [u8]) {
    let mut inputs: [&[u8; BYTES]; LANES] = [&[0; BYTES]; LANES];
    for (input, text) in inputs.iter_mut().zip(texts) {
        *input = text.first_chunk().unwrap_or(input);
    }
    let inputs = &inputs[..texts.len()];
    platform.hash_many(inputs, key, 0, IncrementCounter::No, KEYED_HASH, CHUNK_START, 0, values);
}

/// The hash of a text whose first blocks have this chaining value.
fn ended(platform: Platform, value: [u8; VALUE_BYTES], blocks: usize, text: &[u8]) -> [u8; VALUE_BYTES] {
    let last = &text[blocks * BLOCK_BYTES..];
    let mut block = [0; BLOCK_BYTES];
    block[..last.len()].copy_from_slice(last);
    let start = if blocks == 0 { CHUNK_START } else { 0 };
    let mut words = words_from_le_bytes_32(&value);
    let length = u8::try_from(last.len()).unwrap_or(64);
    platform.compress_in_place(&mut words, &block, length, 0, KEYED_HASH | start | CHUNK_END | ROOT);
    le_bytes_from_words_32(&words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_the_hash_that_it_has_by_itself() {
        let bytes: Vec<u8> = (0..3000_u32).map(|at| (at * 31 % 251).to_le_bytes()[0]).collect();
        let key = std::array::from_fn(|at| bytes[at * 7]);
        // All lengths once, then many of a few lengths, in another order.
        let mut texts: Vec<&[u8]> =
            (0..=1100).map(|length| &bytes[length % 13..length % 13 + length]).collect();
        texts.extend((0..500).map(|at| &bytes[at..at + 200 + at * 7 % 130]));
        texts.push(&bytes);
        let found = hashes(&key, &texts);
        assert_eq!(found.len(), texts.len());
        for (text, hash) in texts.iter().zip(found) {
            assert_eq!(&hash, blake3::keyed_hash(&key, text).as_bytes(), "{} bytes", text.len());
        }
    }
}
