//! Reading back: what one client wrote and another changed is compared with what was to arrive.

mod changes;
mod failures;
mod flows;
mod items;
mod look_up;
mod values;

use crate::fixture::endpoint;
use crate::fixture::{request, store_at};
use crate::source::Filled;
use arrow::array::RecordBatch;
use futures::TryStreamExt as _;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_model::{Fingerprint, SliceId};
use whimbrel_store::conformance::context;
use whimbrel_store::{
    HeldBatch, HeldFlow, KeyPattern, Mode, Outcome, RunContext, Store, Target, WriteBatch, WriteRequest,
};

/// A target of the table, with what the spec says of it.
fn target(
    table: &Filled,
    with: impl FnOnce(WriteRequest) -> WriteRequest,
) -> (Arc<dyn Target>, WriteRequest) {
    let request = with(request(&table.name, Mode::Upsert));
    (store_at(&endpoint()).target(request.clone()).unwrap(), request)
}

fn flow(records: &RecordBatch, request: &WriteRequest, constants: &[(&str, &str, bool)]) -> HeldFlow {
    let pattern = |(column, text, whole): &(&str, &str, bool)| KeyPattern {
        column: (*column).to_owned(),
        text: (*text).to_owned(),
        whole: *whole,
    };
    HeldFlow {
        constants: constants.iter().map(pattern).collect(),
        columns: records.schema(),
        request: request.clone(),
    }
}

async fn write(target: &dyn Target, records: &RecordBatch) {
    let writer = target.writer(&SliceId::new("held.0000"), true, &context()).await.unwrap();
    let batch = WriteBatch { records: records.clone(), seq: 1, cursor: None, contested: false, guards: None };
    let outcomes = writer.write(batch).await.unwrap().outcomes;
    let expected: Vec<_> = expected(target, records).into_iter().map(Outcome::Created).collect();
    assert_eq!(outcomes, expected, "a writer counts the fingerprints that are compared later");
}

/// The fingerprints of records that all can be sent.
fn expected(target: &dyn Target, records: &RecordBatch) -> Vec<Fingerprint> {
    target.fingerprints(records, &context()).into_iter().map(|fingerprint| fingerprint.unwrap()).collect()
}

/// All batches of the table, from so many parts.
async fn batches(
    target: &dyn Target,
    flows: &[HeldFlow],
    parts: usize,
    context: &RunContext,
) -> Vec<HeldBatch> {
    let mut all = Vec::new();
    for part in target.held_parts(parts).await.unwrap() {
        let stored = serde_json::to_string(&part).unwrap();
        let part = serde_json::from_str(&stored).unwrap();
        let batches: Vec<_> = target.held(&part, flows, context).await.unwrap().try_collect().await.unwrap();
        all.extend(batches);
    }
    all
}

/// What a table holds, by key hash: the flow, the record's hash, and what it says.
type Read = BTreeMap<u128, (Option<usize>, u128, Map<String, Value>)>;

fn by_key(batches: &[HeldBatch]) -> Read {
    let mut read = Read::new();
    for batch in batches {
        for (row, record) in batch.records.iter().enumerate() {
            let Fingerprint { key, record: hash } = record.fingerprint;
            let before = read.insert(key, (record.flow, hash, batch.contents.record(row)));
            assert!(before.is_none(), "a record is read once");
        }
    }
    read
}

async fn held(target: &dyn Target, flows: &[HeldFlow]) -> Read {
    by_key(&batches(target, flows, 1, &context()).await)
}

/// The records as they were to arrive, in the shape of what is read.
fn to_arrive(target: &dyn Target, records: &RecordBatch, flow: usize) -> Read {
    let encoded = target.encode(records, &context()).into_iter().map(|encoded| encoded.unwrap());
    let shown = |preview: Value| preview.as_object().unwrap().clone();
    encoded
        .map(|encoded| {
            let Fingerprint { key, record } = encoded.fingerprint;
            (key, (Some(flow), record, shown(encoded.preview)))
        })
        .collect()
}
