//! Records looked up by their keys: what a sample does, and flows whose records cannot be told from others'.

use super::differences::{Differences, difference};
use super::reading::Reading;
use super::sums::locked;
use crate::verification::FlowVerification;
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use whimbrel_engine::evidence::Evidence;
use whimbrel_engine::flow::FlowPlan;
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::{Fingerprint, FlowName};
use whimbrel_store::{Mode, RunContext};

/// Compares records with what the target holds under their keys.
pub(crate) struct ByKey {
    reading: Reading,
    /// Of each flow, the records that runs have rejected.
    rejected: Vec<HashSet<u128>>,
    /// Of each flow, whether records that others wrote before were left as they are.
    keeps: Vec<bool>,
    found: Vec<Mutex<FlowVerification>>,
    differences: Arc<Mutex<Differences>>,
}

impl ByKey {
    /// `flows` are the places of the flows that are compared this way.
    pub(crate) fn new(
        reading: &Reading,
        evidence: &BTreeMap<FlowName, Evidence>,
        flows: impl Fn(usize) -> bool,
        differences: &Arc<Mutex<Differences>>,
    ) -> Result<Self> {
        let mut rejected = Vec::new();
        let mut keeps = Vec::new();
        for (place, flow) in reading.layout.flows.iter().enumerate() {
            let mut hashes = HashSet::new();
            let evidence = evidence.get(&flow.plan.name);
            if let Some(evidence) = evidence.filter(|_| flows(place)) {
                evidence.each_reject(&flow.plan.name, |reject| {
                    hashes.insert(reject.record);
                })?;
            }
            rejected.push(hashes);
            keeps.push(keeps_others(&flow.plan, evidence));
        }
        Ok(Self {
            reading: reading.clone(),
            rejected,
            keeps,
            found: reading.layout.flows.iter().map(|_| Mutex::default()).collect(),
            differences: Arc::clone(differences),
        })
    }

    /// What was found of a flow.
    pub(crate) fn found(&self, flow: usize) -> FlowVerification {
        *locked(&self.found[flow])
    }

    /// Compares a batch of a flow's records.
    pub(crate) async fn compare(
        &self,
        flow: usize,
        records: &RecordBatch,
        fingerprints: &[Option<Fingerprint>],
    ) -> Result<()> {
        let asked: Vec<(usize, Fingerprint)> =
            fingerprints.iter().enumerate().filter_map(|(row, print)| Some((row, (*print)?))).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let compared = &self.reading.layout.flows[flow];
        let plan = &compared.plan;
        let rows: UInt64Array =
            asked.iter().map(|(row, _)| u64::try_from(*row).unwrap_or(0)).collect::<Vec<_>>().into();
        let records = take_record_batch(records, &rows)
            .map_err(|error| EngineError::Internal(format!("flow `{}`: {error}", plan.name)))?;
        let found = self.reading.look_up(flow, &records).await?;
        let mut counts = FlowVerification::default();
        for (position, (_, wanted)) in asked.iter().enumerate() {
            let held = found.rows.get(position).copied().flatten();
            let is = held.map(|row| found.held.records[row].fingerprint.record);
            counts.compared += 1;
            if is == Some(wanted.record) {
                continue;
            }
            if self.rejected[flow].contains(&wanted.record) {
                counts.compared -= 1;
                counts.rejected += 1;
                continue;
            }
            if is.is_some() && self.keeps[flow] {
                counts.kept += 1;
                continue;
            }
            let source = preview(plan, &records, position, &self.reading.context);
            let target = held.map(|row| found.held.contents.record(row));
            let key = key_of(plan, &source);
            let one = difference(compared, key, Some(&source), target.as_ref(), None);
            let mut differences = locked(&self.differences);
            differences.repair(&plan.name, *wanted);
            differences.add(one, &mut counts)?;
        }
        add(&mut locked(&self.found[flow]), &counts);
        Ok(())
    }
}

/// Whether what others wrote before stays as it is, and is no difference.
pub(crate) fn keeps_others(plan: &FlowPlan, evidence: Option<&Evidence>) -> bool {
    plan.mode == Mode::SkipExisting && evidence.is_none_or(|evidence| evidence.counts.skipped > 0)
}

/// A record as the target would show it.
pub(crate) fn preview(
    plan: &FlowPlan,
    records: &RecordBatch,
    row: usize,
    context: &RunContext,
) -> Map<String, Value> {
    let encoded = plan.target.encode(&records.slice(row, 1), context).pop();
    match encoded.and_then(std::result::Result::ok).map(|encoded| encoded.preview) {
        Some(Value::Object(record)) => record,
        _ => Map::new(),
    }
}

/// The key out of a record as the target would show it; the whole record where the target has no key.
pub(crate) fn key_of(plan: &FlowPlan, record: &Map<String, Value>) -> Map<String, Value> {
    if plan.into_key.is_empty() {
        return record.clone();
    }
    let column = |name: &String| Some((name.clone(), record.get(name)?.clone()));
    plan.into_key.iter().filter_map(column).collect()
}

pub(crate) fn add(sum: &mut FlowVerification, more: &FlowVerification) {
    sum.compared += more.compared;
    sum.missing += more.missing;
    sum.extra += more.extra;
    sum.different += more.different;
    sum.kept += more.kept;
    sum.rejected += more.rejected;
}
