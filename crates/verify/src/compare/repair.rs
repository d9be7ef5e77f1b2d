//! Writing again exactly what differs.

use super::Comparison;
use super::differences::{MOST_REPAIRS, Repairs};
use super::reading::{Reading, Take};
use super::sums::locked;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::{Checkpoint, Counts, Fingerprint, FlowName, SliceId};
use whimbrel_store::{Mode, Outcome, Target, WriteBatch, Writer};

/// What was written again.
#[derive(Clone, Debug, Default)]
pub struct Repaired {
    /// Records written.
    pub written: u64,
    /// Records that the target refused, by reason.
    pub refused: BTreeMap<String, u64>,
}

impl Comparison {
    /// Reads the sources of the flows that differ and writes the records that do, over what the targets hold
    /// under their keys. Extra records are left as they are.
    ///
    /// # Errors
    /// A store fails; what was written is written, and asking again writes the rest. More records differ than
    /// are kept.
    pub async fn repair(self, repairs: Repairs) -> Result<Repaired> {
        if repairs.overflow {
            return Err(EngineError::refused(
                format!("more than {MOST_REPAIRS} records differ"),
                "run the migration again: `run --new`",
            ));
        }
        self.begin_epochs().await?;
        let layout = self.layout();
        let mut flows = BTreeSet::new();
        let mut writing = BTreeMap::new();
        for (place, flow) in layout.flows.iter().enumerate() {
            let Some(records) = repairs.records.get(&flow.plan.name) else { continue };
            // What the flow leaves alone of a record, a repair leaves alone, too.
            let mode = match flow.plan.mode {
                mode @ (Mode::Update | Mode::Changed) => mode,
                Mode::Insert | Mode::Upsert | Mode::SkipExisting => Mode::Upsert,
            };
            let target = self.reading.migration.target_in(&flow.plan.name, mode)?;
            let schema: &Schema = flow.plan.output();
            target.plan(schema).await?;
            flows.insert(place);
            writing.insert(place, Flow::new(&self.reading, &flow.plan.name, target, records.clone()).await?);
        }
        let repair = Arc::new(Repair { flows: writing, repaired: Mutex::default() });
        self.reading.watch.begin_pass();
        self.reading.sources(&flows, &(Arc::clone(&repair) as Arc<dyn Take>)).await?;
        for flow in repair.flows.values() {
            flow.writer.finish().await?;
        }
        Ok(locked(&repair.repaired).clone())
    }
}

struct Flow {
    writer: Box<dyn Writer>,
    atomic: bool,
    records: HashSet<Fingerprint>,
    /// The number of the last batch; batches are written one after the other.
    seq: tokio::sync::Mutex<u64>,
}

impl Flow {
    async fn new(
        reading: &Reading,
        name: &FlowName,
        target: Arc<dyn Target>,
        records: HashSet<Fingerprint>,
    ) -> Result<Self> {
        let slice = SliceId::new(format!("repair.{name}"));
        let writer = target.writer(&slice, false, &reading.context).await?;
        let atomic = target.capabilities().atomic_batch;
        Ok(Self { writer, atomic, records, seq: tokio::sync::Mutex::new(0) })
    }
}

struct Repair {
    flows: BTreeMap<usize, Flow>,
    repaired: Mutex<Repaired>,
}

#[async_trait]
impl Take for Repair {
    async fn expected(
        &self,
        flow: usize,
        records: &RecordBatch,
        fingerprints: Vec<Option<Fingerprint>>,
        _: u64,
    ) -> Result<()> {
        let Some(flow) = self.flows.get(&flow) else { return Ok(()) };
        let wanted = |print: Option<Fingerprint>| print.is_some_and(|print| flow.records.contains(&print));
        let mask: BooleanArray = fingerprints.into_iter().map(|print| Some(wanted(print))).collect();
        if mask.true_count() == 0 {
            return Ok(());
        }
        let records = filter_record_batch(records, &mask)
            .map_err(|error| EngineError::Internal(format!("records to write again: {error}")))?;
        let mut seq = flow.seq.lock().await;
        *seq += 1;
        let batch = WriteBatch { records, seq: *seq, cursor: None, contested: false, guards: None };
        let written = flow.writer.write(batch).await?;
        let mut counts = Counts::default();
        {
            let mut repaired = locked(&self.repaired);
            for outcome in written.outcomes {
                counts.read += 1;
                if let Outcome::Rejected(refusal) = outcome {
                    counts.rejected += 1;
                    *repaired.refused.entry(refusal.reason).or_default() += 1;
                } else {
                    counts.updated += 1;
                    repaired.written += 1;
                }
            }
        }
        if flow.atomic {
            let checkpoint = Checkpoint { seq: *seq, position: counts.read, counts, ..Checkpoint::default() };
            flow.writer.commit(&checkpoint, 1).await?;
        }
        Ok(())
    }
}
