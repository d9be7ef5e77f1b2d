//! The second pass: the records of buckets that differ, matched key by key.

use super::by_key::{keeps_others, key_of};
use super::differences::{Differences, difference};
use super::layout::{Compared, Layout, Way};
use super::reading::Take;
use super::scratch::{Entry, Scratch, Side};
use super::settle::{Group, Rule, Settled};
use super::sums::Sides;
use crate::verification::{FlowVerification, Since};
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use async_trait::async_trait;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use whimbrel_engine::evidence::Evidence;
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::{Buckets, Fingerprint, FlowName, bucket};
use whimbrel_store::{HeldBatch, RunContext};

/// How many records a target is asked for, at most: where more seem to differ, the rest is told as it seems.
const MOST_SUSPECTS: usize = 1_000_000;

/// Records that seem to differ.
#[derive(Default)]
pub(crate) struct Suspects {
    /// Their flows.
    pub flows: BTreeSet<usize>,
    /// Themselves.
    pub records: HashSet<Fingerprint>,
}

/// A unit whose sides differ somewhere.
pub(crate) struct OpenUnit {
    /// The buckets in which they do.
    pub buckets: BTreeSet<usize>,
    /// Both sides, as the first pass summed them.
    pub sides: Sides,
    /// What the target held when the last run ended, where that is known.
    pub then: Option<Buckets>,
}

/// Gathers the records of buckets that differ.
pub(crate) struct Opened {
    layout: Arc<Layout>,
    context: RunContext,
    units: BTreeMap<usize, OpenUnit>,
    scratch: Scratch,
}

impl Opened {
    pub(crate) fn new(
        layout: &Arc<Layout>,
        context: &RunContext,
        units: BTreeMap<usize, OpenUnit>,
        scratch: Scratch,
    ) -> Self {
        Self { layout: Arc::clone(layout), context: context.clone(), units, scratch }
    }

    fn is_open(&self, unit: usize, fingerprint: Fingerprint) -> bool {
        self.units.get(&unit).is_some_and(|open| open.buckets.contains(&bucket(fingerprint.key)))
    }

    /// Takes in what runs have rejected.
    pub(crate) fn rejected(&self, evidence: &BTreeMap<FlowName, Evidence>) -> Result<()> {
        for (flow, compared) in self.layout.flows.iter().enumerate() {
            let (Way::Unit(unit), Some(evidence)) = (compared.way, evidence.get(&compared.plan.name)) else {
                continue;
            };
            let mut outcome = Ok(());
            evidence.each_reject(&compared.plan.name, |fingerprint| {
                if outcome.is_ok() && self.is_open(unit, fingerprint) {
                    let (key, record) = (String::new(), String::new());
                    let order = Vec::new();
                    let side = Side::Rejected;
                    outcome = self.scratch.add(&Entry { side, unit, flow, fingerprint, order, key, record });
                }
            })?;
            outcome?;
        }
        Ok(())
    }

    /// The records that seem to differ, of flows whose target knows best.
    pub(crate) fn suspects(&self, evidence: &BTreeMap<FlowName, Evidence>) -> Result<Suspects> {
        let mut suspects = Suspects::default();
        let knows_best = |flow: &Compared| flow.plan.target.knows_best();
        let asked: Vec<bool> = self.layout.flows.iter().map(knows_best).collect();
        if !asked.contains(&true) {
            return Ok(suspects);
        }
        self.each_group(evidence, |_, settled| {
            for (source, target) in settled.pairs {
                if let (Some(source), Some(_)) = (source, target)
                    && asked[source.flow]
                    && suspects.records.len() < MOST_SUSPECTS
                {
                    suspects.flows.insert(source.flow);
                    suspects.records.insert(source.fingerprint);
                }
            }
            Ok(())
        })?;
        Ok(suspects)
    }

    /// Matches what was gathered. What is in `equal` differs only as text. `counts` are the flows', to be added to.
    pub(crate) fn matched(
        &self,
        evidence: &BTreeMap<FlowName, Evidence>,
        equal: &HashSet<Fingerprint>,
        counts: &mut [FlowVerification],
        differences: &mut Differences,
    ) -> Result<()> {
        self.each_group(evidence, |(unit, key), mut settled| {
            settled.pairs.retain(|(source, target)| {
                let same = source.as_ref().is_some_and(|source| equal.contains(&source.fingerprint));
                !(same && target.is_some())
            });
            let since = self.since(unit, bucket(key));
            self.report(unit, settled, since, evidence, counts, differences)
        })
    }

    /// Goes through the records of one key after the other, matched.
    fn each_group(
        &self,
        evidence: &BTreeMap<FlowName, Evidence>,
        mut take: impl FnMut((usize, u128), Settled) -> Result<()>,
    ) -> Result<()> {
        let rules = self.rules(evidence);
        self.scratch.each(|entries| {
            let mut groups: BTreeMap<(usize, u128), Group> = BTreeMap::new();
            for entry in entries {
                let group = groups.entry((entry.unit, entry.fingerprint.key)).or_default();
                match entry.side {
                    Side::Source => group.sources.push(entry),
                    Side::Target => group.targets.push(entry),
                    Side::Rejected => group.rejected.push(entry),
                }
            }
            groups.into_iter().try_for_each(|(key, group)| take(key, group.settle(&rules)))
        })
    }

    fn rules(&self, evidence: &BTreeMap<FlowName, Evidence>) -> Vec<Rule> {
        let rule = |flow: &Compared| Rule {
            one_of_a_key: flow.plan.duplicates.are_watched(),
            keeps_others: keeps_others(&flow.plan, evidence.get(&flow.plan.name)),
        };
        self.layout.flows.iter().map(rule).collect()
    }

    /// Which side of a bucket is still as the run left it.
    fn since(&self, unit: usize, bucket: usize) -> Option<Since> {
        let open = self.units.get(&unit)?;
        let then = open.then.as_ref()?.sum(bucket);
        match (open.sides.source.sum(bucket) == then, open.sides.target.sum(bucket) == then) {
            (true, false) => Some(Since::TargetChanged),
            (false, true) => Some(Since::SourceChanged),
            _ => None,
        }
    }

    /// How many records the last run of a flow left as others had written them.
    fn skipped(&self, flow: usize, evidence: &BTreeMap<FlowName, Evidence>) -> u64 {
        let evidence = evidence.get(&self.layout.flows[flow].plan.name);
        evidence.map_or(u64::MAX, |evidence| evidence.counts.skipped)
    }

    fn report(
        &self,
        unit: usize,
        settled: Settled,
        since: Option<Since>,
        evidence: &BTreeMap<FlowName, Evidence>,
        counts: &mut [FlowVerification],
        differences: &mut Differences,
    ) -> Result<()> {
        for flow in settled.give_way {
            counts[flow].compared = counts[flow].compared.saturating_sub(1);
        }
        for flow in settled.second {
            counts[flow].compared = counts[flow].compared.saturating_sub(1);
            counts[flow].rejected += 1;
        }
        for flow in settled.unused_rejects {
            // It was rejected then, and is not what the source holds now, or has arrived since.
            counts[flow].rejected = counts[flow].rejected.saturating_sub(1);
            counts[flow].compared += 1;
        }
        let mut pairs = settled.pairs;
        for (source, target) in settled.kept {
            let flow = source.as_ref().map_or(target.flow, |source| source.flow);
            // What the run wrote itself is none of what it left as it was: beyond their number records were altered.
            if source.is_none() || counts[flow].kept < self.skipped(flow, evidence) {
                counts[flow].kept += 1;
            } else {
                pairs.push((source, Some(target)));
            }
        }
        for (source, target) in pairs {
            let flow = source.as_ref().map_or(self.layout.units[unit].flows[0], |source| source.flow);
            let key = source.as_ref().or(target.as_ref()).map(|entry| entry.key.clone()).unwrap_or_default();
            let compared = &self.layout.flows[flow];
            let name = &compared.plan.name;
            if let Some(source) = &source {
                differences.repair(name, source.fingerprint);
            }
            let (source, target) = (
                source.as_ref().map(|entry| map(&entry.record)),
                target.as_ref().map(|entry| map(&entry.record)),
            );
            let one = difference(compared, map(&key), source.as_ref(), target.as_ref(), since);
            differences.add(one, &mut counts[flow])?;
        }
        Ok(())
    }
}

#[async_trait]
impl Take for Opened {
    async fn expected(
        &self,
        flow: usize,
        records: &RecordBatch,
        fingerprints: Vec<Option<Fingerprint>>,
        _: u64,
    ) -> Result<()> {
        let compared = &self.layout.flows[flow];
        let Way::Unit(unit) = compared.way else { return Ok(()) };
        let open = |(row, print): (usize, Option<Fingerprint>)| {
            print.filter(|print| self.is_open(unit, *print)).map(|print| (row, print))
        };
        let rows: Vec<(usize, Fingerprint)> = fingerprints.into_iter().enumerate().filter_map(open).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let plan = &compared.plan;
        let mistake = |error: &dyn std::error::Error| {
            EngineError::Internal(format!("flow `{}`: records compared: {error}", plan.name))
        };
        let indices: UInt64Array =
            rows.iter().map(|(row, _)| u64::try_from(*row).unwrap_or(0)).collect::<Vec<_>>().into();
        let records = take_record_batch(records, &indices).map_err(|error| mistake(&error))?;
        let orders = match plan.duplicates.order() {
            Some(order) => order.sort_bytes(&records).map_err(|error| mistake(&error))?,
            None => Vec::new(),
        };
        let encoded = plan.target.encode(&records, &self.context);
        for (position, ((_, fingerprint), encoded)) in rows.into_iter().zip(encoded).enumerate() {
            let record = match encoded.map(|encoded| encoded.preview) {
                Ok(Value::Object(record)) => record,
                _ => Map::new(),
            };
            let order = orders.get(position).map(|order| order.to_vec()).unwrap_or_default();
            let (key, record) = (text(key_of(plan, &record)), text(record));
            self.scratch.add(&Entry { side: Side::Source, unit, flow, fingerprint, order, key, record })?;
        }
        Ok(())
    }

    async fn held(&self, table: usize, batch: HeldBatch) -> Result<()> {
        let units = &self.layout.tables[table].units;
        for (row, held) in batch.records.iter().enumerate() {
            let unit = held.flow.and_then(|place| units.get(place).copied().flatten());
            let Some(unit) = unit.filter(|unit| self.is_open(*unit, held.fingerprint)) else { continue };
            self.scratch.add(&Entry {
                side: Side::Target,
                unit,
                flow: self.layout.units[unit].flows[0],
                fingerprint: held.fingerprint,
                order: Vec::new(),
                key: text(batch.contents.key(row)),
                record: text(batch.contents.record(row)),
            })?;
        }
        Ok(())
    }
}

fn text(record: Map<String, Value>) -> String {
    Value::Object(record).to_string()
}

/// The record that [`text`] wrote.
fn map(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// The sums that a unit's flows had when their last runs ended; `None` where one of them had no run.
pub(crate) fn then(layout: &Layout, unit: usize, evidence: &BTreeMap<FlowName, Evidence>) -> Option<Buckets> {
    let mut sums = Buckets::default();
    for flow in &layout.units[unit].flows {
        sums.merge(
            &evidence
                .get(&layout.flows[*flow].plan.name)
                .filter(|evidence| evidence.ended && evidence.limit.is_none())?
                .sums,
        );
    }
    Some(sums)
}
