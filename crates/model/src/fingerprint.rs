//! Fingerprints of records, and their sums in buckets.

use crate::canonical::Canonical;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

mod many;

pub use many::Fingerprints;

/// The secret that keys a migration's fingerprints, so that nobody can prepare two records that collide.
#[derive(Clone, PartialEq, Eq)]
pub struct FingerprintKey([u8; 32]);

impl FingerprintKey {
    /// Takes 32 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the journal that keeps them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint of a record: its key values and the whole of it, each in canonical form.
    #[must_use]
    pub fn fingerprint(&self, key: &Canonical, record: &Canonical) -> Fingerprint {
        Fingerprint { key: self.key(key), record: self.hash(record.bytes()) }
    }

    /// The key's part of a fingerprint alone, for who need not know what the record says.
    #[must_use]
    pub fn key(&self, key: &Canonical) -> u128 {
        self.hash(key.bytes())
    }

    fn hash(&self, form: &[u8]) -> u128 {
        let hash = blake3::Hasher::new_keyed(&self.0).update(form).update(padding(form.len())).finalize();
        cut(hash.as_bytes())
    }
}

const BLOCK_BYTES: usize = 64;
static PADDING: [u8; BLOCK_BYTES] = {
    let mut padding = [0; BLOCK_BYTES];
    padding[0] = 0x80;
    padding
};

/// What is hashed behind a form of so many bytes: a byte that ends it, and zeros up to a whole number of blocks. With
/// whole blocks alone, many forms are hashed at a time; and two forms never become one.
fn padding(length: usize) -> &'static [u8] {
    &PADDING[..BLOCK_BYTES - length % BLOCK_BYTES]
}

/// The first half of a hash.
fn cut(hash: &[u8; 32]) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    u128::from_be_bytes(half)
}

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(…)")
    }
}

/// Who a record is and what it says: keyed BLAKE3 of a canonical form that is filled up to whole blocks, each cut to
/// 128 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// The hash of the key's values.
    pub key: u128,
    /// The hash of the record's canonical form, its key included.
    pub record: u128,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}:{:032x}", self.key, self.record)
    }
}

impl FromStr for Fingerprint {
    type Err = DamagedFingerprint;

    fn from_str(text: &str) -> Result<Self, DamagedFingerprint> {
        let half = |text: &str| u128::from_str_radix(text, 16).map_err(|_| DamagedFingerprint);
        let (key, record) = text.split_once(':').ok_or(DamagedFingerprint)?;
        Ok(Self { key: half(key)?, record: half(record)? })
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A stored fingerprint that could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a stored fingerprint is damaged")]
pub struct DamagedFingerprint;

/// How many buckets a flow has.
pub const BUCKETS: usize = 4096;

/// Sums of record hashes by key hash, modulo 2^128. Sums, not XOR: a pair of equal differences would cancel.
/// Empty until the first record, so that a slice without records costs nothing.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Buckets {
    sums: Vec<u128>,
    records: u64,
}

/// A stored form of [`Buckets`] that could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("stored bucket sums are damaged: {0}")]
pub struct DamagedBuckets(&'static str);

impl Buckets {
    /// Counts a record in.
    pub fn add(&mut self, fingerprint: Fingerprint) {
        let sum = &mut self.dense()[bucket(fingerprint.key)];
        *sum = sum.wrapping_add(fingerprint.record);
        self.records += 1;
    }

    /// Counts all of the other's records in.
    pub fn merge(&mut self, other: &Self) {
        if other.records == 0 {
            return;
        }
        for (sum, more) in self.dense().iter_mut().zip(&other.sums) {
            *sum = sum.wrapping_add(*more);
        }
        self.records += other.records;
    }

    /// Takes all of the other's records out again, which need not be among these.
    pub fn take_out(&mut self, other: &Self) {
        if other.sums.is_empty() {
            return;
        }
        for (sum, less) in self.dense().iter_mut().zip(&other.sums) {
            *sum = sum.wrapping_sub(*less);
        }
        self.records = self.records.saturating_sub(other.records);
    }

    /// The sum of bucket `number`.
    #[must_use]
    pub fn sum(&self, number: usize) -> u128 {
        self.sums.get(number).copied().unwrap_or(0)
    }

    /// How many records were counted in.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The numbers of the buckets in which the two differ.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<usize> {
        let at = |buckets: &Self, i: usize| buckets.sums.get(i).copied().unwrap_or(0);
        (0..BUCKETS).filter(|i| at(self, *i) != at(other, *i)).collect()
    }

    /// The stored form: the number of records, then each bucket that is not zero with its number; big endian.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let used = self.sums.iter().filter(|sum| **sum != 0).count();
        let mut bytes = Vec::with_capacity(8 + 18 * used);
        bytes.extend(self.records.to_be_bytes());
        for (number, sum) in (0_u16..).zip(&self.sums).filter(|(_, sum)| **sum != 0) {
            bytes.extend(number.to_be_bytes());
            bytes.extend(sum.to_be_bytes());
        }
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// A length or a bucket number that [`Buckets::to_bytes`] never writes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DamagedBuckets> {
        let (records, entries) = bytes.split_first_chunk::<8>().ok_or(DamagedBuckets("it is too short"))?;
        let (entries, rest) = entries.as_chunks::<18>();
        if !rest.is_empty() {
            return Err(DamagedBuckets("its length is wrong"));
        }
        let mut buckets = Self { sums: Vec::new(), records: u64::from_be_bytes(*records) };
        for entry in entries {
            let (number, sum) = entry.split_at(2);
            let number = usize::from(u16::from_be_bytes([number[0], number[1]]));
            let sum = u128::from_be_bytes(sum.try_into().map_err(|_| DamagedBuckets("a sum is cut off"))?);
            *buckets.dense().get_mut(number).ok_or(DamagedBuckets("a bucket number is too large"))? = sum;
        }
        Ok(buckets)
    }

    fn dense(&mut self) -> &mut Vec<u128> {
        if self.sums.is_empty() {
            self.sums = vec![0; BUCKETS];
        }
        &mut self.sums
    }
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buckets({} records)", self.records)
    }
}

/// The bucket that a key hash falls into: its upper twelve bits.
#[must_use]
pub fn bucket(key: u128) -> usize {
    usize::try_from(key >> 116).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, content: &str) -> Fingerprint {
        let (mut keys, mut whole) = (Canonical::default(), Canonical::default());
        keys.text(key);
        whole.text(key);
        whole.text(content);
        FingerprintKey::new([7; 32]).fingerprint(&keys, &whole)
    }

    fn sums(records: &[Fingerprint]) -> Buckets {
        let mut buckets = Buckets::default();
        records.iter().for_each(|record| buckets.add(*record));
        buckets
    }

    #[test]
    fn a_fingerprint_never_changes() {
        // Stored beside runs: a change here needs a new canonical::VERSION.
        assert_eq!(format!("{:032x}", record("k", "v").key), "e361e8e82f945dc645a5b4cdf41daeb2");
        assert_eq!(record("k", "v"), record("k", "v"));
        assert_ne!(record("k", "v").record, record("k", "w").record);
        assert_eq!(record("k", "v").key, record("k", "w").key);
    }

    #[test]
    fn a_form_is_hashed_up_to_a_whole_block_and_what_fills_it_is_never_taken_for_content() {
        let key = FingerprintKey::new([7; 32]);
        for length in [0, 1, 55, 63, 64, 65, 127, 128, 1023, 1024, 1025, 5000] {
            let form = vec![b'x'; length];
            let filled = [form.as_slice(), padding(length)].concat();
            assert_eq!(filled.len() % BLOCK_BYTES, 0);
            assert_eq!(key.hash(&form), cut(blake3::keyed_hash(&key.0, &filled).as_bytes()), "{length}");
            assert_ne!(key.hash(&form), key.hash(&filled));
            assert_ne!(key.hash(&form), key.hash(&[form.as_slice(), &[0]].concat()));
            assert_ne!(key.hash(&form), key.hash(&[form.as_slice(), &[0x80]].concat()));
        }
    }

    #[test]
    fn another_key_gives_other_fingerprints() {
        let mut canonical = Canonical::default();
        canonical.text("x");
        let one = FingerprintKey::new([1; 32]).fingerprint(&canonical, &canonical);
        let two = FingerprintKey::new([2; 32]).fingerprint(&canonical, &canonical);
        assert_ne!(one, two);
    }

    #[test]
    fn sums_do_not_depend_on_order_or_slicing() {
        let records: Vec<_> = (0..1000).map(|i| record(&i.to_string(), "v")).collect();
        let reversed: Vec<_> = records.iter().rev().copied().collect();
        let mut merged = sums(&records[..300]);
        merged.merge(&sums(&records[300..]));
        assert_eq!(sums(&records), sums(&reversed));
        assert_eq!(sums(&records), merged);
    }

    #[test]
    fn a_pair_of_equal_differences_is_seen() {
        let (a, b) = (record("a", "1"), record("b", "1"));
        assert_eq!(sums(&[a, a]).differing(&sums(&[])).len(), 1, "XOR would hide this");
        assert_eq!(sums(&[a, b]).differing(&sums(&[b])), vec![bucket(a.key)]);
    }

    #[test]
    fn what_is_taken_out_was_never_there() {
        let records: Vec<_> = (0..100).map(|i| record(&i.to_string(), "v")).collect();
        let mut all = sums(&records);
        all.take_out(&sums(&records[40..]));
        assert_eq!(all, sums(&records[..40]));
        let text = serde_json::to_string(&records[0]).unwrap();
        assert_eq!(serde_json::from_str::<Fingerprint>(&text).unwrap(), records[0]);
    }

    #[test]
    fn the_stored_form_comes_back() {
        let buckets = sums(&(0..50).map(|i| record(&i.to_string(), "v")).collect::<Vec<_>>());
        assert_eq!(Buckets::from_bytes(&buckets.to_bytes()), Ok(buckets.clone()));
        assert_eq!(Buckets::from_bytes(&Buckets::default().to_bytes()), Ok(Buckets::default()));
        let bytes = buckets.to_bytes();
        assert!(Buckets::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(Buckets::from_bytes(&[0; 3]).is_err());
    }
}
