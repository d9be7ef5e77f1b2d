//! A Bloom filter over key hashes: whether a key may be on the disk, without looking.

/// 64 bytes, a cache line.
const BLOCK_WORDS: usize = 8;
/// Bits set for each key.
const PROBES: u32 = 6;

/// It may say yes to a key that was never added, by chance; never no to one that was.
pub(super) struct Filter(Vec<u64>);

impl Filter {
    /// With so many blocks of 64 bytes each. At 13 bits a key 4 of 1,000 strange keys get a yes, at 7 bits 6 of 100.
    pub(super) fn new(blocks: usize) -> Self {
        Self(vec![0; blocks * BLOCK_WORDS])
    }

    pub(super) fn add(&mut self, key: u128) {
        let block = self.block(key);
        bits(key).for_each(|(word, bit)| self.0[block + word] |= bit);
    }

    pub(super) fn may_hold(&self, key: u128) -> bool {
        let block = self.block(key);
        bits(key).all(|(word, bit)| self.0[block + word] & bit != 0)
    }

    /// Keys are hashes, so that their own bits are random enough: the upper ones choose the block.
    fn block(&self, key: u128) -> usize {
        usize::try_from(key >> 100).unwrap_or(0) % (self.0.len() / BLOCK_WORDS) * BLOCK_WORDS
    }
}

/// The lower ones choose the bits in it: nine each.
fn bits(key: u128) -> impl Iterator<Item = (usize, u64)> {
    (0..PROBES).map(move |probe| {
        let nine = usize::try_from((key >> (9 * probe)) & 0x1ff).unwrap_or(0);
        (nine >> 6, 1 << (nine & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::Filter;

    fn key(number: u64) -> u128 {
        let mut half = [0; 16];
        half.copy_from_slice(&blake3::hash(&number.to_be_bytes()).as_bytes()[..16]);
        u128::from_be_bytes(half)
    }

    #[test]
    fn what_was_added_is_never_denied_and_hardly_anything_else_is_held() {
        let mut filter = Filter::new(1 << 13);
        (0..100_000).for_each(|number| filter.add(key(number)));
        assert!((0..100_000).all(|number| filter.may_hold(key(number))));
        let wrong = (100_000..200_000).filter(|number| filter.may_hold(key(*number))).count();
        assert!(wrong < 30, "{wrong} of 100,000 strange keys");
    }
}
