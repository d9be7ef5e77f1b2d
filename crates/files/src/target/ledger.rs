//! How far a slice has come, beside the parts: what a resume goes on from.
//!
//! A ledger is written whole at each commit, for all flows of the slice at once. On a disk it has two places,
//! written in turns, so that a write that is cut leaves the other one as it was.

use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use whimbrel_model::{Buckets, Capacity, Checkpoint, Counts, Cursor, FlowName, ScanTally, SliceId};
use whimbrel_store::Shape;

/// How far all flows of a slice have come.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ledger {
    pub(crate) slice: SliceId,
    /// How often it was written.
    pub(crate) version: u64,
    pub(crate) flows: BTreeMap<FlowName, Entry>,
}

/// How far one flow has come in a slice.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// The whole path of the file that the flow writes.
    pub(crate) path: String,
    /// The part's length in bytes; what lies behind it belongs to no checkpoint.
    pub(crate) length: u64,
    /// What of the flow's bytes is in the file already, and where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) joined: Option<Extent>,
    /// Records in the part and in the file.
    pub(crate) records: u64,
    /// How the records are nested in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) shape: Option<Shape>,
    /// The records' columns: an Arrow IPC stream without batches, in base64.
    pub(crate) schema: Option<String>,
    /// `None`: nothing was committed yet.
    kept: Option<Kept>,
}

/// A stretch of a file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    pub(crate) at: u64,
    pub(crate) length: u64,
}

impl Extent {
    pub(crate) fn end(self) -> u64 {
        self.at + self.length
    }
}

/// A checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    seq: u64,
    cursor: Option<Cursor>,
    position: u64,
    counts: Counts,
    #[serde(with = "sums")]
    sums: Buckets,
    reject_bytes: u64,
    capacity: Capacity,
    #[serde(default)]
    scan: ScanTally,
}

impl Entry {
    pub(crate) fn new(path: String, shape: Option<Shape>) -> Self {
        Self { path, length: 0, joined: None, records: 0, shape, schema: None, kept: None }
    }

    /// Notes a checkpoint.
    pub(crate) fn keep(&mut self, checkpoint: &Checkpoint) {
        self.kept = Some(Kept {
            seq: checkpoint.seq,
            cursor: checkpoint.cursor.clone(),
            position: checkpoint.position,
            counts: checkpoint.counts,
            sums: checkpoint.sums.clone(),
            reject_bytes: checkpoint.reject_bytes,
            capacity: checkpoint.capacity,
            scan: checkpoint.scan.clone(),
        });
    }

    /// The last batch that is committed; 0: none.
    pub(crate) fn seq(&self) -> u64 {
        self.kept.as_ref().map_or(0, |kept| kept.seq)
    }

    /// The checkpoint; `None`: there is none yet.
    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        self.kept.as_ref().map(|kept| Checkpoint {
            seq: kept.seq,
            cursor: kept.cursor.clone(),
            position: kept.position,
            counts: kept.counts,
            sums: kept.sums.clone(),
            reject_bytes: kept.reject_bytes,
            capacity: kept.capacity,
            scan: kept.scan.clone(),
        })
    }
}

/// Sums as a text: the base64 of their stored form. It is made where a ledger is written, which is seldomer than a
/// checkpoint is noted.
mod sums {
    use super::Buckets;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use serde::de::{Deserialize as _, Deserializer, Error as _};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(sums: &Buckets, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(sums.to_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Buckets, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = BASE64.decode(&text).map_err(D::Error::custom)?;
        Buckets::from_bytes(&bytes).map_err(D::Error::custom)
    }
}

/// A ledger that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a ledger cannot be read; another version of whimbrel may have written it")]
pub(crate) struct Damaged;

const DIGEST_BYTES: usize = 16;

impl Ledger {
    pub(crate) fn new(slice: SliceId) -> Self {
        Self { slice, version: 0, flows: BTreeMap::new() }
    }

    /// As it is written: the first half of the BLAKE3 of what follows, and that.
    pub(crate) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let text = serde_json::to_vec(self)?;
        let mut bytes = blake3::hash(&text).as_bytes()[..DIGEST_BYTES].to_vec();
        bytes.extend(text);
        Ok(bytes)
    }

    /// Reads one place; `Ok(None)`: its last write was cut.
    ///
    /// # Errors
    /// It was written whole, and cannot be read all the same.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Option<Self>, Damaged> {
        let Some((digest, text)) = bytes.split_at_checked(DIGEST_BYTES) else { return Ok(None) };
        // Older versions took the MD5.
        let is_whole = blake3::hash(text).as_bytes()[..DIGEST_BYTES] == *digest
            || Md5::digest(text).as_slice() == digest;
        if !is_whole {
            return Ok(None);
        }
        serde_json::from_slice(text).map(Some).map_err(|_| Damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_comes_back_and_a_cut_one_is_none() {
        let mut ledger = Ledger::new(SliceId::new("s.0001"));
        let mut entry = Entry::new("p".to_owned(), None);
        let checkpoint = Checkpoint { seq: 3, position: 7, ..Checkpoint::default() };
        entry.keep(&checkpoint);
        ledger.flows.insert("f".into(), entry);
        let bytes = ledger.to_bytes().unwrap();
        let again = Ledger::from_bytes(&bytes).unwrap().unwrap();
        assert_eq!(again.flows[&"f".into()].checkpoint(), Some(checkpoint));
        for length in [0, 5, 16, bytes.len() - 1] {
            assert!(Ledger::from_bytes(&bytes[..length]).unwrap().is_none(), "{length}");
        }
        let older = [Md5::digest(&bytes[DIGEST_BYTES..]).as_slice(), &bytes[DIGEST_BYTES..]].concat();
        assert!(Ledger::from_bytes(&older).unwrap().is_some());
        let mut foreign = Md5::digest(b"{}").to_vec();
        foreign.extend(b"{}");
        assert!(Ledger::from_bytes(&foreign).is_err());
    }
}
