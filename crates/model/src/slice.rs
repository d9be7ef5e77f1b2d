//! Slices, cursors, checkpoints and receipts: what a run is made of.

use crate::{Buckets, Capacity, Counts, FlowName, GroupName, SliceId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// Units used so far.
    pub capacity: Capacity,
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
