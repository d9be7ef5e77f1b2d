//! The suites that every [`Source`] and every [`Target`] passes, written from the contract's own sentences.
//!
//! A store's crate calls [`source`] and [`target`] from its tests with a factory over a real store.

mod whole;

pub use whole::{WholeFixture, whole_target};

use crate::context::RunContext;
use crate::source::{ReadBatch, Source};
use crate::target::{Outcome, Target, WriteBatch};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use futures::TryStreamExt;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use whimbrel_model::{Checkpoint, Cursor, FingerprintKey, SliceId, SlicePart, record};

/// A context for tests: patience of ten seconds, never stopped.
#[must_use]
pub fn context() -> RunContext {
    RunContext {
        run: whimbrel_model::RunId::generate(),
        fingerprint_key: FingerprintKey::new([42; 32]),
        retry_for: std::time::Duration::from_secs(10),
        stop: tokio_util::sync::CancellationToken::new(),
        meter: std::sync::Arc::default(),
        budget: std::sync::Arc::default(),
    }
}

async fn read_all(source: &dyn Source, part: &SlicePart, after: Option<&Cursor>) -> Vec<ReadBatch> {
    let stream =
        source.read(part, after, &context()).await.expect("a part that the source itself gave is readable");
    stream.try_collect().await.expect("the stream ends well")
}

fn lines(batches: &[ReadBatch]) -> Vec<String> {
    let rows = |batch: &RecordBatch| {
        (0..batch.num_rows()).map(|row| record::to_json(batch, row)).collect::<Vec<_>>()
    };
    batches.iter().flat_map(|batch| rows(&batch.records)).map(|row| Value::Object(row).to_string()).collect()
}

/// Checks a source that holds at least three records and knows an order.
///
/// # Panics
/// The source breaks the contract.
pub async fn source(source: &dyn Source, expected_records: usize) {
    let description = source.describe().await.expect("the source describes itself");
    let whole = source.slices(1).await.expect("one slice");
    assert_eq!(whole.len(), 1, "one slice was wanted");
    let all = read_all(source, &whole[0], None).await;
    let all_lines = lines(&all);
    assert_eq!(all_lines.len(), expected_records, "one slice holds all records");
    for batch in &all {
        assert_eq!(*batch.records.schema_ref(), description.schema, "batches have the described schema");
        assert!(batch.records.num_rows() > 0, "no batch is empty");
    }
    assert_eq!(lines(&read_all(source, &whole[0], None).await), all_lines, "a second read is the same");

    for wanted in [2, 3, 7] {
        let mut seen = Vec::new();
        for part in source.slices(wanted).await.expect("slices") {
            let stored = serde_json::to_string(&part).expect("a part can be stored");
            let part = serde_json::from_str(&stored).expect("a stored part can be read");
            seen.extend(lines(&read_all(source, &part, None).await));
        }
        assert_eq!(seen.len(), all_lines.len(), "slices are disjoint ({wanted} wanted)");
        let (seen, all) = (seen.iter().collect::<BTreeSet<_>>(), all_lines.iter().collect::<BTreeSet<_>>());
        assert_eq!(seen, all, "slices together are the whole ({wanted} wanted)");
    }

    if description.resumable {
        let mut done = 0;
        for batch in &all {
            done += batch.records.num_rows();
            let cursor = batch.cursor.as_ref().expect("a resumable source gives cursors");
            let stored = serde_json::to_string(cursor).expect("a cursor can be stored");
            let cursor: Cursor = serde_json::from_str(&stored).expect("a stored cursor can be read");
            let rest = lines(&read_all(source, &whole[0], Some(&cursor)).await);
            assert_eq!(rest, all_lines[done..], "the rest after a cursor is exactly what follows it");
        }
    }
    let stream = source.read(&whole[0], None, &context()).await.expect("readable");
    drop(stream);
    assert_eq!(
        lines(&read_all(source, &whole[0], None).await).len(),
        expected_records,
        "a dropped read harms nothing"
    );
}

/// What the target suite needs from a store's tests.
pub struct TargetFixture<'a> {
    /// Upserts into a table that exists and is empty.
    pub upsert: &'a dyn Target,
    /// Skips existing records of the same table.
    pub skip_existing: &'a dyn Target,
    /// Records with distinct keys, at least two.
    pub records: RecordBatch,
    /// Records with the same keys and other content.
    pub changed: RecordBatch,
    /// One record that the target must refuse.
    pub refused: RecordBatch,
}

async fn write(target: &dyn Target, records: &RecordBatch, created: bool, contested: bool) -> Vec<Outcome> {
    let writer =
        target.writer(&SliceId::new("conformance.0000"), created, &context()).await.expect("a writer");
    let batch = WriteBatch { records: records.clone(), seq: 1, cursor: None, contested, guards: None };
    let outcome = writer.write(batch).await.expect("a batch is written");
    let last = Checkpoint { seq: 1, ..Checkpoint::default() };
    writer.commit(&last, 1).await.expect("the batch is made durable");
    writer.finish().await.expect("the slice is finished");
    assert_eq!(outcome.outcomes.len(), records.num_rows(), "one outcome a record");
    outcome.outcomes
}

async fn held(target: &dyn Target) -> u64 {
    let held = target.count(&[Vec::new()]).await.expect("a count");
    assert_eq!((held.flows.len(), held.others), (1, 0), "everything belongs to a flow without constants");
    held.flows[0]
}

/// Checks a target.
///
/// # Panics
/// The target breaks the contract.
pub async fn target(fixture: &TargetFixture<'_>) {
    let TargetFixture { upsert, skip_existing, records, changed, refused } = fixture;
    let encoded = upsert.encode(records, &context());
    let fingerprints: Vec<_> =
        encoded.iter().map(|e| e.as_ref().expect("a good record encodes").fingerprint).collect();
    assert!(upsert.state().await.expect("a state").empty, "the fixture's table is empty");

    let outcomes = write(*upsert, records, true, false).await;
    let created: Vec<_> = fingerprints.iter().map(|f| Outcome::Created(*f)).collect();
    assert_eq!(outcomes, created, "records of an empty table are created, with the fingerprints of `encode`");
    assert!(!upsert.state().await.expect("a state").empty);
    let count = u64::try_from(records.num_rows()).expect("small");
    assert_eq!(held(*upsert).await, count);

    assert!(write(*skip_existing, changed, false, false).await.iter().all(|o| *o == Outcome::Skipped));
    let ours = write(*skip_existing, records, false, true).await;
    assert_eq!(ours, created, "contested records of equal content are ours");
    let theirs = write(*skip_existing, changed, false, true).await;
    assert!(theirs.iter().all(|o| *o == Outcome::Skipped), "contested records of other content are not");

    let updated = write(*upsert, changed, false, false).await;
    assert!(
        updated.iter().all(|o| matches!(o, Outcome::Updated(_))),
        "an upsert over existing records updates"
    );
    assert_eq!(held(*upsert).await, count, "and adds none");

    let mixed = concat_batches(records.schema_ref(), [refused, records]).expect("one schema");
    let outcomes = write(*upsert, &mixed, false, false).await;
    assert!(matches!(outcomes[0], Outcome::Rejected(_)), "the poison record is refused");
    assert!(outcomes[1..].iter().all(|o| matches!(o, Outcome::Updated(_))), "its neighbours arrive");
}

/// The key columns of row `row`, for assertions in stores' own tests.
#[must_use]
pub fn row(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    record::to_json(batch, row)
}
