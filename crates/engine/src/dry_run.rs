//! `plan`: what a run would do, found by looking and by transforming a sample, or everything. Writes nothing.

use crate::changes;
use crate::costs::{Compared, Comparison, Cost};
use crate::error::Result;
use crate::flow::{FlowPlan, Reached, fill};
use crate::kinds::tally;
use crate::migration::{Migration, Scan, ScanFlow};
use crate::reasons::Reasons;
pub use crate::reasons::{RejectReason, RejectShown};
use crate::run::wanted_slices;
use crate::slice::log_rejects;
use crate::undo;
use arrow::array::RecordBatch;
use futures::StreamExt;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;
use whimbrel_model::{Capacity, ColumnFidelity, FlowName, ScanTally, SliceId, SlicePart, StoreName};
use whimbrel_spec::resolved::Unmatched;
use whimbrel_store::{HotKeyColumn, RunContext};

/// Records that a plan reads of each source where it is not told to read all.
pub const SAMPLE_RECORDS: u64 = 1_000;
/// Batches without a record after which a sample ends.
const SAMPLE_BATCHES: u64 = 100;
/// Records shown of each flow.
const SHOWN_RECORDS: usize = 3;
/// Rejects named of each flow.
const NAMED_REJECTS: usize = 1_000;
/// Reasons named of each flow.
const NAMED_REASONS: usize = 20;
/// Values told apart of each partition key; with more it is not hot by any measure.
const MOST_VALUES: usize = 100_000;

/// What a run would do.
#[derive(Debug, Serialize)]
pub struct DryRun {
    /// The migration.
    pub migration: String,
    /// The environment.
    pub environment: Option<String>,
    /// Whether every record was read.
    pub complete: bool,
    /// The stores: name, location.
    pub stores: BTreeMap<StoreName, String>,
    /// The flows, in order.
    pub flows: Vec<FlowDryRun>,
    /// Partition keys whose values are few or uneven.
    pub hot_keys: Vec<HotKey>,
    /// Records of all scans, as far as known.
    pub records: u64,
    /// Of the records looked at, those that no flow would take, by the pattern of their keys; none where the spec
    /// says `unmatched: ignore`.
    pub unmatched: BTreeMap<String, u64>,
    /// Of the records looked at, those that more than one flow would take; each of them counts them.
    pub shared: u64,
    /// Units that the run would use.
    pub capacity: Capacity,
    /// What they would cost, beside the cost of writing every record.
    pub cost_usd: Cost,
    /// How long the run would take, from the speed of the reading and the limits of the targets.
    pub seconds: f64,
}

/// What a run would do for one flow.
#[derive(Debug, Serialize)]
pub struct FlowDryRun {
    /// The flow.
    pub flow: FlowName,
    /// The store and relation that are read.
    pub from: String,
    /// The store and table that are written.
    pub into: String,
    /// How records are written.
    pub mode: whimbrel_store::Mode,
    /// Slices of its scan.
    pub slices: usize,
    /// Records of its scan, as far as the source knows.
    pub records: Option<u64>,
    /// Whether the table exists.
    pub exists: bool,
    /// What `create` would do.
    pub ddl: Vec<String>,
    /// Each column's journey.
    pub fidelity: Vec<ColumnFidelity>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Records that were read for this plan.
    pub read: u64,
    /// Of these, dropped by the transform.
    pub filtered: u64,
    /// Of these, rejected.
    pub rejected: u64,
    /// The first rejects, at most a thousand.
    pub rejects: Vec<RejectShown>,
    /// The most frequent reasons.
    pub reasons: Vec<RejectReason>,
    /// The first records as the target would hold them.
    pub samples: Vec<Value>,
    /// The same in the words of the spec's `sample`.
    pub sample_lines: Vec<String>,
    /// The mean size of a record in the target, in bytes.
    pub mean_bytes: f64,
    /// In mode `changed`: what the target holds of the records looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
    /// With `delete_missing`: records that the target holds and the source does not; `None` where not every record
    /// was looked at, or where some would be rejected, so that nothing would be deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletes: Option<u64>,
    /// Units that the flow would use.
    pub capacity: Capacity,
}

impl FlowDryRun {
    /// With what a run would delete, and the write units of that.
    fn deleting(mut self, deletes: Option<u64>, write_units: f64) -> Self {
        self.deletes = deletes;
        self.capacity.write_units += write_units;
        self
    }
}

/// A partition key of a table or index whose load does not spread.
#[derive(Debug, Serialize)]
pub struct HotKey {
    /// The table.
    pub resource: String,
    /// `table` or the index.
    pub place: String,
    /// The column.
    pub column: String,
    /// Values seen.
    pub values: u64,
    /// The most frequent value.
    pub top: String,
    /// Its share of the records.
    pub share: f64,
    /// Write units a second that the whole can take, given that share.
    pub units_per_second: f64,
}

/// Looks at everything and transforms a sample of each source, or all of it.
///
/// # Errors
/// A store fails.
pub async fn dry_run(
    migration: &Migration,
    all: bool,
    limit: Option<u64>,
    context: &RunContext,
) -> Result<DryRun> {
    dry_run_knowing(migration, all, limit, context, &BTreeSet::new()).await
}

/// As [`dry_run`], where the last run has left fingerprints of some flows ([`crate::changed::left`]): a run compares
/// with them, and reads only what differs.
///
/// # Errors
/// As [`dry_run`].
pub async fn dry_run_knowing(
    migration: &Migration,
    all: bool,
    limit: Option<u64>,
    context: &RunContext,
    left: &BTreeSet<FlowName>,
) -> Result<DryRun> {
    for name in migration.source_stores() {
        if let Some(store) = migration.stores.get(name) {
            store.begin_epoch().await?;
        }
    }
    let mut flows = Vec::new();
    let mut keys = KeyCounts::default();
    let mut seconds: f64 = 0.0;
    let mut records_of_scans = 0;
    let mut tally = ScanTally::default();
    for scan in migration.scans.iter().filter(|scan| scan.spilled.is_none()) {
        let began = Instant::now();
        let (found, read) = sample(scan, all, limit, context, &mut keys, &mut tally).await?;
        let known =
            scan.description.records.or_else(|| if all { None } else { scan.parents.as_ref()?.estimate() });
        let records = known.unwrap_or(read).min(limit.unwrap_or(u64::MAX));
        let share = if read > 0 { ratio(records, read) } else { 0.0 };
        records_of_scans += records;
        // A run reads, transforms and writes side by side; writing takes about as long as this reading.
        seconds += began.elapsed().as_secs_f64() * share;
        let whole = all && limit.is_none();
        for found in found {
            let deletes = if whole { found.deletes().await? } else { None };
            let deleting = found.write_units_each() * ratio(deletes.unwrap_or(0), 1);
            let images = undo::read_units(migration, scan, found.flow);
            let mut flow = found.finish(scan, share.max(1.0), limit, left).deleting(deletes, deleting);
            flow.capacity.read_units += images;
            flows.push(flow);
        }
    }
    let units: BTreeMap<_, _> = flows.iter().map(|flow| (flow.flow.clone(), flow.capacity)).collect();
    let mut capacity = Capacity::default();
    flows.iter().for_each(|flow| capacity += flow.capacity);
    let bounds = migration.flows().filter_map(|(_, flow)| flow.target.write_units_per_second);
    if let Some(bound) = bounds.reduce(f64::min) {
        seconds = seconds.max(capacity.write_units / bound);
    }
    let stores = migration.stores.iter().map(|(name, store)| (name.clone(), store.location()));
    Ok(DryRun {
        migration: migration.resolved.migration.clone(),
        environment: migration.resolved.environment.clone(),
        complete: all,
        stores: stores.collect(),
        records: records_of_scans,
        unmatched: match migration.resolved.unmatched {
            Unmatched::Reject => tally.unmatched,
            Unmatched::Ignore => BTreeMap::new(),
        },
        shared: tally.shared,
        hot_keys: keys.hot(),
        cost_usd: Cost::of(migration, &units),
        capacity,
        seconds,
        flows,
    })
}

/// Reads a scan's records, or the beginning of each of its slices, through all its flows.
async fn sample<'a>(
    scan: &'a Scan,
    all: bool,
    limit: Option<u64>,
    context: &RunContext,
    keys: &mut KeyCounts,
    tally: &mut ScanTally,
) -> Result<(Vec<FlowFound<'a>>, u64)> {
    let wanted = if all { wanted_slices(scan, limit) } else { wanted_slices(scan, limit).min(4) };
    let parts = scan.source.slices(wanted).await?;
    let budget = if all { limit.unwrap_or(u64::MAX) } else { SAMPLE_RECORDS.min(limit.unwrap_or(u64::MAX)) };
    let share = budget.div_ceil(u64::try_from(parts.len()).unwrap_or(1).max(1));
    let records = scan.description.records.unwrap_or(0);
    let weight = ratio(records, records.min(budget)).max(1.0);
    // A source may cut into fewer than it is asked for.
    let slices = if parts.len() < wanted || all { parts.len() } else { wanted_slices(scan, limit) };
    let mut found: Vec<FlowFound> =
        scan.flows.iter().chain(&scan.spilling).map(|flow| FlowFound::new(flow, weight, slices)).collect();
    let mut read = 0;
    for part in &parts {
        let most = if all { budget - read } else { share };
        read += sample_part(scan, part, most, context, &mut Found { flows: &mut found, keys, tally }).await?;
    }
    Ok((found, read))
}

async fn sample_part(
    scan: &Scan,
    part: &SlicePart,
    most: u64,
    context: &RunContext,
    found: &mut Found<'_, '_>,
) -> Result<u64> {
    let (mut read, mut empty) = (0, 0);
    let kinds = scan.kinds();
    let slice = SliceId::new("plan");
    let mut batches = scan.source.read(part, None, context).await?;
    while read < most
        && let Some(batch) = batches.next().await
    {
        let mut batch = batch?;
        let keep = usize::try_from(most - read).unwrap_or(usize::MAX).min(batch.records.num_rows());
        batch.records = batch.records.slice(0, keep);
        batch.unreadable.retain(|bad| bad.row < keep);
        read += u64::try_from(keep).unwrap_or(0);
        // A sample of records without elements is no reason to read all of them.
        empty += u64::from(keep == 0);
        if empty > SAMPLE_BATCHES && most <= SAMPLE_RECORDS {
            break;
        }
        let mut all = Vec::new();
        for flow in found.flows.iter() {
            all.push(flow.flow.plan.reach(&slice, &batch)?);
        }
        if let Some(key) = &kinds {
            found.tally.merge(&tally(&batch.records, key, all.iter()));
        }
        // As in a run, what reading uses is with the scan's first flow.
        if let Some(first) = found.flows.first_mut() {
            first.capacity += batch.capacity;
        }
        for (flow, reached) in found.flows.iter_mut().zip(all) {
            changes::foresee(&flow.flow.plan, &reached, context).await?;
            flow.comparison.look(flow.flow, &reached.records, context).await?;
            flow.look(reached, context, found.keys);
        }
    }
    Ok(read)
}

/// What was found of a scan so far.
struct Found<'a, 'b> {
    flows: &'a mut [FlowFound<'b>],
    keys: &'a mut KeyCounts,
    tally: &'a mut ScanTally,
}

/// What was found of a flow so far.
struct FlowFound<'a> {
    flow: &'a ScanFlow,
    /// How many records of the whole one record stands for.
    weight: f64,
    slices: usize,
    read: u64,
    filtered: u64,
    rejected: u64,
    encoded: u64,
    bytes: u64,
    capacity: Capacity,
    comparison: Comparison,
    rejects: Vec<RejectShown>,
    reasons: Reasons,
    samples: Vec<Value>,
    sample_lines: Vec<String>,
}

impl<'a> FlowFound<'a> {
    fn new(flow: &'a ScanFlow, weight: f64, slices: usize) -> Self {
        Self {
            flow,
            weight,
            slices,
            read: 0,
            filtered: 0,
            rejected: 0,
            encoded: 0,
            bytes: 0,
            capacity: Capacity::default(),
            comparison: Comparison::default(),
            rejects: Vec::new(),
            reasons: Reasons::default(),
            samples: Vec::new(),
            sample_lines: Vec::new(),
        }
    }

    fn look(&mut self, mut reached: Reached, context: &RunContext, keys: &mut KeyCounts) {
        let plan: &FlowPlan = &self.flow.plan;
        let slice = SliceId::new("plan");
        self.read += reached.read;
        self.filtered += reached.filtered;
        for (position, encoded) in plan.target.encode(&reached.records, context).into_iter().enumerate() {
            let row = reached.origins[position];
            match encoded {
                Ok(encoded) => {
                    self.encoded += 1;
                    self.bytes += encoded.bytes;
                    self.capacity += self.comparison.needed(position, encoded.capacity);
                    if self.samples.len() < SHOWN_RECORDS {
                        self.sample_lines
                            .extend(plan.sample.as_deref().map(|sample| fill(sample, &reached.batch, row)));
                        self.samples.push(encoded.preview);
                    }
                }
                Err(refusal) => {
                    reached.rejects.push(plan.reject(
                        &slice,
                        &reached.batch,
                        row,
                        refusal.stage,
                        refusal.reason,
                    ));
                }
            }
        }
        for hot in &self.flow.target.hot_keys {
            keys.count(&plan.target.resource(), hot, &reached.records, self.weight);
        }
        self.rejected += u64::try_from(reached.rejects.len()).unwrap_or(0);
        log_rejects(&reached.rejects);
        reached.rejects.iter().for_each(|reject| self.reasons.add(reject));
        let room = NAMED_REJECTS - self.rejects.len();
        self.rejects.extend(reached.rejects.into_iter().take(room).map(RejectShown::from));
    }

    /// What writing one record would use, on average; deleting one is taken to use as much.
    fn write_units_each(&self) -> f64 {
        let Capacity { write_units, spared_write_units, .. } = self.capacity;
        (write_units + spared_write_units) / ratio(self.encoded.max(1), 1)
    }

    /// How many records a run would delete, once every record of the source was looked up.
    async fn deletes(&self) -> Result<Option<u64>> {
        let plan = &self.flow.plan;
        let found = self
            .comparison
            .found()
            .filter(|_| plan.changing.is_some_and(|changing| changing.delete_missing) && self.rejected == 0);
        let Some(found) = found else { return Ok(None) };
        if !self.flow.target.exists {
            return Ok(Some(0));
        }
        let held = plan.target.count(&[plan.constants().to_vec()]).await?;
        let held = held.flows.first().copied().unwrap_or_default();
        Ok(Some(held.saturating_sub(found.same + found.different)))
    }

    /// What looking for records that the source no longer has would use.
    fn deletion_units(&self) -> f64 {
        let deletes = self.flow.plan.changing.is_some_and(|changing| changing.delete_missing);
        let cost = self.flow.target.read_back.filter(|_| deletes);
        cost.map_or(0.0, |cost| cost.whole_units)
    }

    /// `share`: how many records of the whole each record that was read stands for.
    fn finish(self, scan: &Scan, share: f64, limit: Option<u64>, left: &BTreeSet<FlowName>) -> FlowDryRun {
        let mut notes = scan.description.notes.clone();
        notes.extend(scan.parents.as_ref().map(|parents| parents.note()));
        notes.extend(self.flow.target.notes.iter().cloned());
        let target = &self.flow.target;
        let deletion_units = self.deletion_units();
        FlowDryRun {
            flow: self.flow.plan.name.clone(),
            from: scan.store.to_string(),
            into: format!("{}: {}", self.flow.store, self.flow.plan.target.resource()),
            mode: self.flow.plan.mode,
            slices: self.slices,
            records: scan.description.records.map(|records| records.min(limit.unwrap_or(u64::MAX))),
            exists: target.exists,
            ddl: target.ddl.clone(),
            fidelity: target.fidelity.clone(),
            notes,
            read: self.read,
            filtered: self.filtered,
            rejected: self.rejected,
            rejects: self.rejects,
            reasons: self.reasons.most_frequent(NAMED_REASONS),
            samples: self.samples,
            sample_lines: self.sample_lines,
            mean_bytes: if self.encoded > 0 { ratio(self.bytes, self.encoded) } else { 0.0 },
            compared: self.comparison.found(),
            deletes: None,
            capacity: Capacity {
                read_units: self.capacity.read_units * share
                    + self.comparison.read_units(self.flow, scan, share, left.contains(&self.flow.plan.name))
                    + deletion_units,
                write_units: self.capacity.write_units * share,
                spared_write_units: self.capacity.spared_write_units * share,
            },
        }
    }
}

/// How often each value of each partition key was seen, over all flows into a table.
#[derive(Default)]
struct KeyCounts(BTreeMap<KeyPlace, Values>);

/// A partition key of a table or of one of its indexes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct KeyPlace {
    resource: String,
    place: String,
    column: String,
}

/// The values of a partition key.
struct Values {
    units_per_value: f64,
    records: HashMap<String, f64>,
}

impl KeyCounts {
    /// `weight`: how many records of the whole one record stands for.
    fn count(&mut self, resource: &str, hot: &HotKeyColumn, records: &RecordBatch, weight: f64) {
        let Some(column) = records.column_by_name(&hot.column) else { return };
        let place =
            KeyPlace { resource: resource.to_owned(), place: hot.place.clone(), column: hot.column.clone() };
        let values = self
            .0
            .entry(place)
            .or_insert_with(|| Values { units_per_value: hot.units_per_value, records: HashMap::new() });
        for row in 0..records.num_rows() {
            let value = match whimbrel_model::record::value_to_json(column, row) {
                Value::Null => continue,
                Value::String(text) => text,
                other => other.to_string(),
            };
            if let Some(count) = values.records.get_mut(&value) {
                *count += weight;
            } else if values.records.len() < MOST_VALUES {
                values.records.insert(value, weight);
            }
        }
    }

    /// Keys with few values, or of which one has more than a tenth of the records.
    fn hot(self) -> Vec<HotKey> {
        self.0.into_iter().filter_map(|(place, values)| values.hot(place)).collect()
    }
}

impl Values {
    fn hot(self, place: KeyPlace) -> Option<HotKey> {
        let total: f64 = self.records.values().sum();
        let (top, most) = self.records.iter().max_by(|a, b| a.1.total_cmp(b.1).then_with(|| b.0.cmp(a.0)))?;
        let share = most / total;
        let hot = total >= 100.0 && (share > 0.1 || self.records.len() < 10);
        hot.then(|| HotKey {
            resource: place.resource,
            place: place.place,
            column: place.column,
            values: u64::try_from(self.records.len()).unwrap_or(u64::MAX),
            top: top.clone(),
            share,
            units_per_second: self.units_per_value / share,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for an estimate")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}
