//! Whether a table that held nothing before a run holds now what the run has written, and nothing else.

use super::Undo;
use crate::changed::held_flow;
use crate::error::{EngineError, Result};
use crate::journal::RunKind;
use crate::migration::ScanFlow;
use futures::TryStreamExt as _;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use whimbrel_model::{Buckets, FlowName, bucket};
use whimbrel_store::undo::CONFLICTS_LISTED;
use whimbrel_store::{HeldFlow, Undone};

/// Parts in which a table is read.
const PARTS: usize = 4;
/// A record of a bucket that differs: the hash of its content, and its key.
type Suspect = (u128, Map<String, Value>);

/// Records of buckets that differ, at most.
const MOST_SUSPECTS: usize = 10_000;

impl Undo<'_> {
    /// Compares what a table holds with what the run says it has written.
    pub(super) async fn compare(&self, flows: &[&ScanFlow]) -> Result<Undone> {
        let expected = self.expected(flows).await?;
        let held = self.held_flows(flows)?;
        let mut undone = Undone::default();
        let mut sums = Buckets::default();
        self.each(flows[0], &held, |batch| {
            for (row, record) in batch.records.iter().enumerate() {
                if record.flow.is_some() {
                    sums.add(record.fingerprint);
                } else {
                    stranger(&mut undone, batch.contents.key(row));
                }
            }
        })
        .await?;
        undone.removed = sums.records();
        let is_known_there_alone = flows.iter().any(|flow| flow.plan.target.knows_best());
        if is_known_there_alone && sums.records() == expected.records() {
            // Equal values may have other fingerprints there: their number is what can be compared.
            return Ok(undone);
        }
        let differing = expected.differing(&sums);
        if differing.is_empty() {
            return Ok(undone);
        }
        let mut suspects: BTreeMap<usize, Vec<Suspect>> = BTreeMap::new();
        let mut count = 0;
        self.each(flows[0], &held, |batch| {
            for (row, record) in batch.records.iter().enumerate().filter(|(_, record)| record.flow.is_some())
            {
                let number = bucket(record.fingerprint.key);
                if differing.binary_search(&number).is_ok() && count < MOST_SUSPECTS {
                    count += 1;
                    let key = batch.contents.key(row);
                    suspects.entry(number).or_default().push((record.fingerprint.record, key));
                }
            }
        })
        .await?;
        for number in differing {
            let more = sums.sum(number).wrapping_sub(expected.sum(number));
            let mut found = suspects.remove(&number).unwrap_or_default();
            let alone = found.iter().position(|(record, _)| *record == more);
            match alone {
                Some(alone) => stranger(&mut undone, found.swap_remove(alone).1),
                // One that was there is gone.
                None if found.is_empty() => undone.conflicts += 1,
                // One of them was changed.
                None => {
                    for (_, key) in found {
                        stranger(&mut undone, key);
                    }
                }
            }
        }
        Ok(undone)
    }

    pub(super) fn held_flows(&self, flows: &[&ScanFlow]) -> Result<Vec<HeldFlow>> {
        flows.iter().map(|flow| held_flow(self.migration, flow)).collect()
    }

    /// Goes through all that a table holds.
    async fn each(
        &self,
        flow: &ScanFlow,
        held: &[HeldFlow],
        mut take: impl FnMut(&whimbrel_store::HeldBatch),
    ) -> Result<()> {
        let target = &flow.plan.target;
        for part in target.held_parts(PARTS).await? {
            let mut batches = target.held(&part, held, &self.context).await?;
            while let Some(batch) = batches.try_next().await? {
                if self.context.stop.is_cancelled() {
                    return Err(EngineError::Interrupted);
                }
                take(&batch);
            }
        }
        Ok(())
    }

    /// The sums of what the run and its retries have left in a table.
    async fn expected(&self, flows: &[&ScanFlow]) -> Result<Buckets> {
        let mut sums = Buckets::default();
        for run in &self.runs {
            for flow in flows {
                sums.merge(&self.journal.sums(&run.id, &flow.plan.name)?);
            }
            let corrections = self.journal.corrections(&run.id)?;
            let concerns = |name: &FlowName| flows.iter().any(|flow| flow.plan.name == *name);
            for (_, correction) in corrections.iter().filter(|(name, _)| concerns(name)) {
                sums.take_out(&correction.sums);
            }
            for slice in self.journal.slices(&run.id)?.into_iter().filter(|slice| !slice.done) {
                for flow in flows {
                    let name = &flow.plan.name;
                    let noted = slice.checkpoints.iter().find(|(other, _)| other == name);
                    // The ledger beside the data may have come further than the journal.
                    let is_of_slice = self
                        .migration
                        .scan(&slice.slice.group)
                        .is_some_and(|scan| scan.flows.iter().any(|other| other.plan.name == *name));
                    let atomic = flow.plan.target.capabilities().atomic_batch;
                    let kept = if is_of_slice && atomic && run.kind == RunKind::Run {
                        let context =
                            whimbrel_store::RunContext { run: run.id.clone(), ..self.context.clone() };
                        flow.plan.target.writer(&slice.slice.id, true, &context).await?.last().await?
                    } else {
                        noted.map(|(_, checkpoint)| checkpoint.clone())
                    };
                    if let Some(kept) = kept {
                        sums.merge(&kept.sums);
                    }
                }
            }
        }
        Ok(sums)
    }
}

fn stranger(undone: &mut Undone, key: Map<String, Value>) {
    undone.conflicts += 1;
    if undone.conflicting.len() < CONFLICTS_LISTED {
        undone.conflicting.push(key);
    }
}
