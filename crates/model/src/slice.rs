//! Slices, cursors, checkpoints and receipts: what a run is made of.

use crate::{Buckets, Capacity, Counts, FlowName, GroupName, SliceId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Which part of the source a slice is, in the words of the source's store: a key range, a scan segment.
/// Only that store reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SlicePart(pub Value);

/// A disjoint, restartable part of a scan group's source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// Its name within the run.
    pub id: SliceId,
    /// The scan group that it is part of.
    pub group: GroupName,
    /// The part itself.
    pub part: SlicePart,
}

/// A position in a slice, in the words of the source's store: all records up to and including it are before
/// it. Only that store reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub Value);

/// How far a flow has come in a slice. Durable once it has been stored; everything up to its cursor has an
/// outcome that is counted here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// How many batches are accounted for, counted from the start of the slice.
    pub seq: u64,
    /// Where to go on. `None`: at the slice's start.
    pub cursor: Option<Cursor>,
    /// How many records of the slice lie before the cursor, whether or not they reached the flow.
    pub position: u64,
    /// What became of the records so far.
    pub counts: Counts,
    /// The sums of the fingerprints of what the target holds of them.
    pub sums: Buckets,
    /// The length of the slice's reject file, synced; what lies behind it belongs to no checkpoint.
    pub reject_bytes: u64,
    /// Units used so far. What reading used is kept with the scan group's first flow.
    pub capacity: Capacity,
    /// What became of the scan group's records beside the flows' counts, kept with its first flow.
    pub scan: ScanTally,
}

/// What became of a slice's records beside its flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanTally {
    /// Records that no flow took, by the pattern of their keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unmatched: BTreeMap<String, u64>,
    /// Records that more than one flow took.
    #[serde(default)]
    pub shared: u64,
    /// Flows whose records wait until another flow is complete: how far their files have come.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spilled: BTreeMap<FlowName, SpilledSoFar>,
}

/// How far the files have come of a flow whose records wait. Kept with a flow that does not wait, so that one
/// transaction moves both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpilledSoFar {
    /// The length of the spill file.
    pub bytes: u64,
    /// Records that could not even wait.
    pub rejected: u64,
    /// The length of the reject file.
    pub reject_bytes: u64,
}

impl ScanTally {
    /// How many different key patterns are told apart; the others are counted together.
    pub const MOST_PATTERNS: usize = 50;

    /// Counts records that no flow took.
    pub fn add_unmatched(&mut self, pattern: &str, records: u64) {
        let known = self.unmatched.contains_key(pattern) || self.unmatched.len() < Self::MOST_PATTERNS;
        let name = if known { pattern } else { "(other patterns)" };
        *self.unmatched.entry(name.to_owned()).or_insert(0) += records;
    }

    /// Adds another batch's or slice's counts.
    pub fn merge(&mut self, other: &Self) {
        other.unmatched.iter().for_each(|(pattern, records)| self.add_unmatched(pattern, *records));
        self.shared += other.shared;
    }
}

/// What became of a slice, for one flow: the slice's last checkpoint, closed.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// The slice.
    pub slice: SliceId,
    /// The flow.
    pub flow: FlowName,
    /// The stretch of the run, read from one snapshot, in which the slice ended.
    pub epoch: u64,
    /// The closing state.
    pub last: Checkpoint,
}
