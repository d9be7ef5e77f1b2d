//! Reading back: what a target holds, record by record, so that it can be compared with what was to arrive.
//!
//! Both sides of a comparison speak the target's types: what is to arrive is fingerprinted by
//! [`crate::Target::fingerprints`], what is there by [`crate::Target::held`], and the two are equal exactly
//! where the flow's own columns hold the same values (design: *fingerprint*). Columns that the flow does not
//! write, and those named in [`crate::WriteRequest::ignore`], are no part of either.

use crate::request::WriteRequest;
use crate::target::KeyPattern;
use arrow::datatypes::SchemaRef;
use serde_json::{Map, Value};
use std::sync::Arc;
use whimbrel_model::{Capacity, Fingerprint};

/// A flow into the table that is read back. A record belongs to the flow with the longest constants that it
/// has, and to the first of those that are equally long; in a store with scopes, only where it is in scope.
#[derive(Clone, Debug)]
pub struct HeldFlow {
    /// What is constant in the flow's records.
    pub constants: Vec<KeyPattern>,
    /// The columns that the flow writes.
    pub columns: SchemaRef,
    /// How it writes them.
    pub request: WriteRequest,
}

/// A record that a target holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldRecord {
    /// The flow that it belongs to, by its place in the list that was asked for; `None`: to none of them. Its
    /// fingerprint is then that of its key alone.
    pub flow: Option<usize>,
    /// Its fingerprint, over that flow's columns.
    pub fingerprint: Fingerprint,
}

/// A stretch of what a target holds.
#[derive(Clone, Debug)]
pub struct HeldBatch {
    /// The records.
    pub records: Vec<HeldRecord>,
    /// What they say, made only where somebody looks.
    pub contents: Arc<dyn HeldContents>,
    /// What the batch cost to read, in the store's own measure of bytes.
    pub bytes: u64,
    /// Units that reading it used.
    pub capacity: Capacity,
}

/// The contents of read records, in the target's plain JSON: as [`crate::Encoded::preview`] shows them, over
/// the columns of the record's flow.
pub trait HeldContents: Send + Sync + std::fmt::Debug {
    /// The key columns of record `row`.
    fn key(&self, row: usize) -> Map<String, Value>;
    /// The whole of record `row`; of a record of no flow, everything that it holds.
    fn record(&self, row: usize) -> Map<String, Value>;
    /// What [`crate::Target::delete`] tells by whether record `row` is still as it was read, in the store's own
    /// words; NULL where the store deletes nothing.
    fn version(&self, _row: usize) -> Value {
        Value::Null
    }
}

/// What a target holds under the keys of some records.
#[derive(Clone, Debug)]
pub struct LookedUp {
    /// For each record that was asked for, its place in `held`; `None`: there is no record of its key.
    pub rows: Vec<Option<usize>>,
    /// What was found.
    pub held: HeldBatch,
}
