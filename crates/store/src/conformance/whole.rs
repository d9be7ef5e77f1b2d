//! The suite of targets that write a table whole, which has its name when all of it is there.

use super::context;
use crate::Store;
use crate::context::RunContext;
use crate::error::StoreErrorKind;
use crate::held::HeldFlow;
use crate::request::{Mode, WriteRequest};
use crate::target::{Outcome, Target, WriteBatch};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use futures::TryStreamExt;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use whimbrel_model::{Checkpoint, Cursor, Fingerprint, SliceId};

/// What the suite needs from a store's tests.
pub struct WholeFixture<'a> {
    /// The store.
    pub store: &'a dyn Store,
    /// Upserts into a table that is not there.
    pub request: WriteRequest,
    /// Records with distinct keys, at least two.
    pub records: RecordBatch,
    /// Other records with other keys, of the same columns.
    pub others: RecordBatch,
    /// One record that the target must refuse; `None` where it takes whatever its columns can hold.
    pub refused: Option<RecordBatch>,
}

type Sums = BTreeSet<(u128, u128)>;

impl WholeFixture<'_> {
    fn open(&self, mode: Mode) -> Arc<dyn Target> {
        let request = WriteRequest { mode, ..self.request.clone() };
        self.store.target(request).expect("it takes the mode")
    }

    async fn plan(&self, target: &dyn Target) -> bool {
        target.plan(self.records.schema_ref()).await.expect("a plan").exists
    }

    /// What the target says that records would be.
    fn fingerprints(&self, target: &dyn Target, records: &RecordBatch, context: &RunContext) -> Sums {
        let encoded = target.encode(records, context).into_iter();
        let encoded = encoded.map(|one| one.expect("a good record encodes").fingerprint);
        let all: Sums = encoded.map(|fingerprint| (fingerprint.key, fingerprint.record)).collect();
        let asked = target.fingerprints(records, context).into_iter();
        let asked = asked.map(|one| one.expect("a good record has a fingerprint"));
        assert_eq!(asked.map(|fingerprint| (fingerprint.key, fingerprint.record)).collect::<Sums>(), all);
        all
    }

    /// What is there, read back in parts.
    async fn held(&self, target: &dyn Target, context: &RunContext) -> Sums {
        let columns = Arc::clone(self.records.schema_ref());
        let flow = HeldFlow { constants: Vec::new(), columns, request: self.request.clone() };
        let mut all = Sums::new();
        for part in target.held_parts(3).await.expect("parts") {
            let batches = target.held(&part, std::slice::from_ref(&flow), context).await.expect("a part");
            let batches: Vec<_> = batches.try_collect().await.expect("the part is read to its end");
            for record in batches.iter().flat_map(|batch| &batch.records) {
                let Fingerprint { key, record } = record.fingerprint;
                assert!(all.insert((key, record)), "parts are disjoint, and keys distinct");
            }
        }
        all
    }
}

async fn counted(target: &dyn Target) -> u64 {
    let held = target.count(&[Vec::new()]).await.expect("a count");
    assert_eq!((held.flows.len(), held.others), (1, 0), "everything belongs to a flow without constants");
    held.flows[0]
}

fn rows(batch: &RecordBatch) -> u64 {
    u64::try_from(batch.num_rows()).expect("small")
}

fn checkpoint(seq: u64) -> Checkpoint {
    Checkpoint { seq, cursor: Some(Cursor(json!({ "after": seq }))), position: seq, ..Checkpoint::default() }
}

/// Begins or goes on with a slice; what it knows as its last checkpoint must be this.
async fn slice(
    target: &dyn Target,
    name: &str,
    last: Option<Checkpoint>,
    context: &RunContext,
) -> Box<dyn crate::target::Writer> {
    let writer = target.writer(&SliceId::new(name), true, context).await.expect("a writer");
    assert_eq!(writer.last().await.expect("the last checkpoint"), last, "what was committed, and no more");
    writer
}

async fn write(writer: &dyn crate::target::Writer, seq: u64, records: &RecordBatch) -> Vec<Outcome> {
    let batch = WriteBatch { records: records.clone(), seq, cursor: None, contested: false, guards: None };
    let written = writer.write(batch).await.expect("a batch is written");
    assert_eq!(written.outcomes.len(), records.num_rows(), "one outcome a record");
    written.outcomes
}

async fn commit(writer: &dyn crate::target::Writer, seq: u64) {
    writer.commit(&checkpoint(seq), 1).await.expect("the batch is made durable");
}

async fn publish(target: &dyn Target, context: &RunContext) {
    let steps = target.load_steps().await.expect("steps");
    assert!(!steps.is_empty(), "what is written whole gets its name by a step");
    for step in &steps {
        target.apply_step(step, context).await.expect("a step");
        target.apply_step(step, context).await.expect("a step may be done again");
    }
}

/// Checks a target that writes whole.
///
/// # Panics
/// The target breaks the contract.
pub async fn whole_target(fixture: &WholeFixture<'_>) {
    let context = context();
    let target = fixture.open(Mode::Insert);
    assert!(!fixture.plan(&*target).await, "the fixture's table is not there");
    assert!(target.capabilities().atomic_batch, "what a batch wrote is durable with its checkpoint only");
    let of_records = fixture.fingerprints(&*target, &fixture.records, &context);
    let of_others = fixture.fingerprints(&*target, &fixture.others, &context);
    assert!(of_records.is_disjoint(&of_others));

    // A batch that is not committed never was, and what is refused costs nothing but itself.
    let first = slice(&*target, "whole.0000", None, &context).await;
    let mixed = fixture.refused.iter().chain([&fixture.records]);
    let mixed = concat_batches(fixture.records.schema_ref(), mixed).expect("one schema");
    let outcomes = write(&*first, 1, &mixed).await;
    let (poison, good) = outcomes.split_at(usize::from(fixture.refused.is_some()));
    assert!(poison.iter().all(|o| matches!(o, Outcome::Rejected(_))), "the poison record is refused");
    let created: Sums = good.iter().filter_map(created).collect();
    assert_eq!(created, of_records, "its neighbours are created, with the fingerprints of `encode`");
    commit(&*first, 1).await;
    write(&*first, 2, &fixture.others).await;
    drop(first);
    assert!(!fixture.plan(&*target).await, "nothing has the name yet");

    // Another process goes on.
    let again = fixture.open(Mode::Insert);
    assert!(!fixture.plan(&*again).await);
    let first = slice(&*again, "whole.0000", Some(checkpoint(1)), &context).await;
    first.finish().await.expect("the slice is finished");
    let second = slice(&*again, "whole.0001", None, &context).await;
    write(&*second, 1, &fixture.others).await;
    commit(&*second, 1).await;
    second.finish().await.expect("the slice is finished");
    assert!(!fixture.plan(&*again).await, "slices that are finished give no name");
    publish(&*again, &context).await;

    assert!(fixture.plan(&*again).await, "now it is there");
    assert_eq!(counted(&*again).await, rows(&fixture.records) + rows(&fixture.others));
    assert_eq!(fixture.held(&*again, &context).await, &of_records | &of_others);
    let refused = again.state().await.expect_err("`insert` replaces nothing");
    assert_eq!(refused.kind(), StoreErrorKind::Mismatch);
    replaced(fixture, &of_records, &of_others).await;
}

/// A second run under `upsert`: until it is published there is what was, then what it wrote.
async fn replaced(fixture: &WholeFixture<'_>, of_records: &Sums, of_others: &Sums) {
    let context = context();
    let target = fixture.open(Mode::Upsert);
    assert!(fixture.plan(&*target).await);
    assert!(target.state().await.expect("a state").empty, "no record that is there counts");
    let only = slice(&*target, "whole.0000", None, &context).await;
    let outcomes = write(&*only, 1, &fixture.others).await;
    assert_eq!(outcomes.iter().filter_map(created).collect::<Sums>(), *of_others);
    commit(&*only, 1).await;
    only.finish().await.expect("the slice is finished");
    assert_eq!(fixture.held(&*target, &context).await, of_records | of_others, "what was there is there");
    publish(&*target, &context).await;
    assert_eq!(fixture.held(&*target, &context).await, *of_others, "it takes the place of what was there");

    // A run without any record leaves a table without any.
    let context = super::context();
    let target = fixture.open(Mode::Upsert);
    fixture.plan(&*target).await;
    let empty = slice(&*target, "whole.0000", None, &context).await;
    empty.finish().await.expect("the slice is finished");
    publish(&*target, &context).await;
    assert!(fixture.plan(&*target).await);
    assert_eq!(counted(&*target).await, 0);
}

fn created(outcome: &Outcome) -> Option<(u128, u128)> {
    match outcome {
        Outcome::Created(fingerprint) => Some((fingerprint.key, fingerprint.record)),
        _ => None,
    }
}
