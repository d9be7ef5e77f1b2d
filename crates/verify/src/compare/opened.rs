//! The second pass: the records of buckets that differ, gathered key by key.

use super::by_key::{keeps_others, key_of};
use super::layout::{Compared, Layout, Way};
use super::reading::{Take, TakePart};
use super::scratch::{Entry, Scratch, Side};
use super::settle::{Group, Rule, Settled};
use super::sums::{Sides, locked};
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use async_trait::async_trait;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
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
    /// What the last run wrote, and so the target held when it ended, where that is known.
    pub then: Option<Buckets>,
    /// Whether the table held nothing when that run began.
    pub fresh: bool,
}

impl OpenUnit {
    /// Whether the source's records of a bucket are those that the last run wrote.
    pub(crate) fn source_is_as_written(&self, bucket: usize) -> bool {
        self.then.as_ref().is_some_and(|then| self.sides.source.sum(bucket) == then.sum(bucket))
    }

    /// Whether the target's records of a bucket are those that the last run wrote.
    pub(crate) fn target_is_as_written(&self, bucket: usize) -> bool {
        self.then.as_ref().is_some_and(|then| self.sides.target.sum(bucket) == then.sum(bucket))
    }
}

/// Gathers the records of buckets that differ.
pub(crate) struct Opened {
    layout: Arc<Layout>,
    context: RunContext,
    units: BTreeMap<usize, OpenUnit>,
    scratch: Scratch,
    /// Readings of parts of tables, counted from 1.
    readings: AtomicU32,
    /// Those that came to their end.
    ended: Mutex<HashSet<u32>>,
}

impl Opened {
    pub(crate) fn new(
        layout: &Arc<Layout>,
        context: &RunContext,
        units: BTreeMap<usize, OpenUnit>,
        scratch: Scratch,
    ) -> Self {
        Self {
            layout: Arc::clone(layout),
            context: context.clone(),
            units,
            scratch,
            readings: AtomicU32::new(0),
            ended: Mutex::default(),
        }
    }

    /// The flows, units and tables.
    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// A unit that is open.
    pub(crate) fn unit(&self, unit: usize) -> Option<&OpenUnit> {
        self.units.get(&unit)
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
                    outcome = self.scratch.add(&Entry {
                        side: Side::Rejected,
                        reading: 0,
                        unit,
                        flow,
                        fingerprint,
                        order: Vec::new(),
                        key: String::new(),
                        record: String::new(),
                    });
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
            let kept = settled.kept.into_iter().map(|(source, target)| (source, Some(target)));
            for (source, target) in settled.pairs.into_iter().chain(kept) {
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

    /// Goes through the records of one key after the other, matched.
    ///
    /// # Errors
    /// A file cannot be read, whoever takes the records fails, or the comparison is to stop.
    pub(crate) fn each_group(
        &self,
        evidence: &BTreeMap<FlowName, Evidence>,
        mut take: impl FnMut((usize, u128), Settled) -> Result<()>,
    ) -> Result<()> {
        let rules = self.rules(evidence);
        let ended = locked(&self.ended).clone();
        let counts = |entry: &Entry| entry.side != Side::Target || ended.contains(&entry.reading);
        self.scratch.each(|entries| {
            if self.context.stop.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            let mut groups: BTreeMap<(usize, u128), Group> = BTreeMap::new();
            for entry in entries.into_iter().filter(counts) {
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
            let (side, reading) = (Side::Source, 0);
            self.scratch.add(&Entry { side, reading, unit, flow, fingerprint, order, key, record })?;
        }
        Ok(())
    }

    fn part(&self, table: usize) -> Box<dyn TakePart + '_> {
        let reading = self.readings.fetch_add(1, Ordering::Relaxed) + 1;
        Box::new(OpenedPart { opened: self, table, reading })
    }
}

/// A part of a table, whose records count once it has been read to its end.
struct OpenedPart<'a> {
    opened: &'a Opened,
    table: usize,
    reading: u32,
}

impl TakePart for OpenedPart<'_> {
    fn held(&mut self, batch: HeldBatch) -> Result<()> {
        let (opened, layout) = (self.opened, &self.opened.layout);
        let units = &layout.tables[self.table].units;
        for (row, held) in batch.records.iter().enumerate() {
            let unit = held.flow.and_then(|place| units.get(place).copied().flatten());
            let Some(unit) = unit.filter(|unit| opened.is_open(*unit, held.fingerprint)) else { continue };
            opened.scratch.add(&Entry {
                side: Side::Target,
                reading: self.reading,
                unit,
                flow: layout.units[unit].flows[0],
                fingerprint: held.fingerprint,
                order: Vec::new(),
                key: text(batch.contents.key(row)),
                record: text(batch.contents.record(row)),
            })?;
        }
        Ok(())
    }

    fn end(self: Box<Self>) -> Result<()> {
        locked(&self.opened.ended).insert(self.reading);
        Ok(())
    }
}

fn text(record: Map<String, Value>) -> String {
    Value::Object(record).to_string()
}
