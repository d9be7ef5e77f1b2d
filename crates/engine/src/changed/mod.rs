//! `mode: changed` beyond what writers do: what a run knows beforehand of the records that a target holds, what it
//! keeps of them for the next run, and what it deletes in the end.
//!
//! A writer compares each record with what its key holds. Where reading the table whole is cheaper, or the last
//! run has kept fingerprints, records that are *known* to be the same go no further than this module, and only
//! the others reach the writer, which compares them all the same. So what is known may be old or missing, and
//! only a record that somebody else has changed back and forth is passed over.

mod gathering;
pub(crate) mod kept;
pub(crate) mod known;
mod missing;
mod prior;

use crate::error::{EngineError, Result};
use crate::flow::FlowPlan;
use crate::journal::{Journal, RunKind, RunRecord, TargetRecord};
use crate::migration::{Migration, Scan, ScanFlow};
use crate::progress::Progress;
use crate::summary::Tally;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::TryStreamExt as _;
use gathering::Gathering;
pub(crate) use kept::Kept;
use known::{Known, Notes, RESIDENT_BYTES, blocking, on};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinSet;
use whimbrel_model::{Capacity, Counts, FlowName, SliceId, SlicePart};
use whimbrel_spec::resolved::{Compare, WriteMode};
use whimbrel_spec::{ResolvedFlow, SpecErrorKind};
use whimbrel_store::{HeldFlow, Outcome, RunContext, Target, TargetPlan, WriteBatch, WriteOutcome, Writer};

/// Parts into which a table is cut that is read whole.
const PARTS: usize = 4;
/// Most records of a batch are known to be the same: of so many, enough are left that the requests which compare and
/// write them are filled.
const BATCH_RECORDS: usize = 2_000;
/// Each part ends with a unit that is half used on average; that of the first is in the cost of reading the table at
/// once.
pub(crate) const ROUNDING_UNITS: f64 = 1.5;

/// What a flow of `mode: changed` is to do beside writing what differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changing {
    /// What records are compared with.
    pub compare: Compare,
    /// Whether records are deleted that the flow no longer yields.
    pub delete_missing: bool,
}

/// How records are found to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Each one by the key, by its writer.
    ByKey,
    /// The table is read whole before the first record is written.
    Whole,
}

impl Changing {
    /// What a flow asks for; `None` in other modes.
    #[must_use]
    pub fn of(flow: &ResolvedFlow) -> Option<Self> {
        let into = &flow.into;
        let is_changed = into.mode == WriteMode::Changed;
        is_changed.then_some(Self { compare: into.compare, delete_missing: into.delete_missing })
    }

    /// What of records that are compared with the target is cheaper. `records` is how many the source has.
    #[must_use]
    pub fn way(target: &TargetPlan, records: Option<u64>) -> Way {
        match (target.read_back, records) {
            (Some(cost), Some(records)) if cost.whole_units < by_key(cost.each_units, records) => Way::Whole,
            _ => Way::ByKey,
        }
    }

    /// What a plan says.
    #[must_use]
    pub fn notes(self, target: &TargetPlan, records: Option<u64>) -> Vec<String> {
        let mut notes = Vec::new();
        if self.compare == Compare::Journal {
            notes.push(
                "compared with the fingerprints that the last complete run has kept: that costs no reads, and trusts \
                 that nobody else has written to the table since; what differs, and everything where there are none, \
                 is compared with the table"
                    .to_owned(),
            );
        }
        let way = Self::way(target, records);
        notes.push(match (target.read_back, records, way) {
            (Some(cost), Some(records), way) => {
                let (whole, each) = (cost.whole_units, by_key(cost.each_units, records));
                match way {
                    Way::Whole => format!(
                        "compared with the table, which is read whole first: about {whole:.0} read units; by key it \
                         would be {each:.0}"
                    ),
                    Way::ByKey => format!(
                        "compared with the table by key: about {each:.0} read units; reading it whole would be \
                         {whole:.0}"
                    ),
                }
            }
            _ => "compared with what each record's key holds".to_owned(),
        });
        if self.delete_missing {
            notes.push(
                "in the end the table is read, and what the flow no longer yields is deleted, unless a record was \
                 rejected; `run` wants --confirm for it"
                    .to_owned(),
            );
        }
        notes
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn by_key(each: f64, records: u64) -> f64 {
    each * records as f64
}

/// How many records a batch of a flow takes, where its target is able to take so many at a time.
pub(crate) fn batch_records(flow: &ResolvedFlow, target: &dyn Target) -> usize {
    let target = target.capabilities();
    if flow.into.mode == WriteMode::Changed && !target.atomic_batch {
        target.batch_records.max(BATCH_RECORDS)
    } else {
        target.batch_records
    }
}

/// Refuses what would delete records that the source still has, or that nothing can delete.
pub(crate) fn check(
    flow: &ResolvedFlow,
    target: &dyn Target,
) -> std::result::Result<(), (SpecErrorKind, String, String)> {
    if !flow.into.delete_missing {
        return Ok(());
    }
    if !target.deletes() {
        let message = format!("not yet: flow `{}`: its store deletes no records by key", flow.name);
        let hint = "leave `delete_missing` out, and delete by hand what `verify` names as extra".to_owned();
        return Err((SpecErrorKind::NotYet, message, hint));
    }
    if flow.from.filter.is_some() {
        let message = format!(
            "flow `{}`: `delete_missing` would delete what `where` leaves out of the source",
            flow.name
        );
        let hint =
            "leave `where` out; where its records are meant to go, put the condition behind WHERE of the \
                    transform"
                .to_owned();
        return Err((SpecErrorKind::Invalid, message, hint));
    }
    Ok(())
}

/// The flows of a run that delete what their sources no longer have.
#[must_use]
pub fn deleting(migration: &Migration) -> Vec<&FlowName> {
    let flows = migration.flows();
    let deleting =
        flows.filter(|(_, flow)| flow.plan.changing.is_some_and(|changing| changing.delete_missing));
    deleting.map(|(_, flow)| &flow.plan.name).collect()
}

/// A run that reads a part of its sources must not take the rest for gone.
pub(crate) fn refuse_limited(migration: &Migration, limit: Option<u64>) -> Result<()> {
    match (limit, deleting(migration).first()) {
        (Some(_), Some(flow)) => Err(EngineError::refused(
            format!("flow `{flow}` has `delete_missing`: with --limit it would delete what was not read"),
            "leave --limit out, or `delete_missing`",
        )),
        _ => Ok(()),
    }
}

/// What a run has read and deleted beside its slices, by flow; kept in the run's folder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Beside {
    /// Units of reading a table whole.
    #[serde(default)]
    pub capacity: Capacity,
    /// Records that were deleted.
    #[serde(default)]
    pub deleted: u64,
    /// Records that the source does not have and that stay all the same.
    #[serde(default)]
    pub left: u64,
    /// The first of them: key and reason.
    #[serde(default)]
    pub left_first: Vec<String>,
    /// Why nothing was deleted.
    #[serde(default)]
    pub nothing_deleted: Option<String>,
    /// Whether nothing is left to delete.
    #[serde(default)]
    pub deletion_done: bool,
}

impl Beside {
    fn restart_deletion(&mut self) {
        *self = Self { capacity: self.capacity, ..Self::default() };
    }
}

/// What became of the records that a flow's source no longer has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletions {
    /// Deleted from the target.
    pub deleted: u64,
    /// Still there: changed by others after they were read, or refused by the store.
    pub left: u64,
    /// The first of those, each with its key and the reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_left: Vec<String>,
    /// Why nothing was deleted at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nothing: Option<String>,
}

impl Deletions {
    /// Whether the target may hold records that the source no longer has.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.left > 0 || self.nothing.is_some()
    }
}

/// The deletions of a run, by flow.
pub(crate) fn deletions(migration: &Migration, run_folder: &Path) -> Result<BTreeMap<FlowName, Deletions>> {
    let mut all = deletions_of(run_folder)?;
    all.retain(|flow, _| deleting(migration).contains(&flow));
    Ok(all)
}

/// What a run has noted of its deletions, by flow; none where it has not come to them.
///
/// # Errors
/// The run's file cannot be read.
pub fn deletions_of(run_folder: &Path) -> Result<BTreeMap<FlowName, Deletions>> {
    let deletions = |(flow, beside): (FlowName, Beside)| {
        let Beside { deleted, left, left_first: first_left, nothing_deleted: nothing, .. } = beside;
        (beside.deletion_done || deleted + left > 0 || nothing.is_some())
            .then_some((flow, Deletions { deleted, left, first_left, nothing }))
    };
    Ok(beside(run_folder)?.into_iter().filter_map(deletions).collect())
}

/// The files of what a run that was cut off had still to delete.
pub(crate) fn doomed_files(run_folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(kept::folder(run_folder)).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == missing::EXTENSION)).collect()
}

/// All of [`Beside`] of a run.
pub(crate) type AllBeside = BTreeMap<FlowName, Beside>;

fn beside_path(run_folder: &Path) -> PathBuf {
    kept::folder(run_folder).join("beside.json")
}

/// What a run has done beside its slices.
pub(crate) fn beside(run_folder: &Path) -> Result<AllBeside> {
    let path = beside_path(run_folder);
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| EngineError::file("read", path, std::io::Error::other(error))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(AllBeside::new()),
        Err(error) => Err(EngineError::file("read", path, error)),
    }
}

/// Adds to what a flow has done beside its slices.
fn note_beside(run_folder: &Path, flow: &FlowName, note: impl FnOnce(&mut Beside)) -> Result<()> {
    let mut all = beside(run_folder)?;
    note(all.entry(flow.clone()).or_default());
    let path = beside_path(run_folder);
    let write = || {
        std::fs::create_dir_all(kept::folder(run_folder))?;
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&all).map_err(std::io::Error::other)?)?;
        std::fs::rename(&new, &path)
    };
    write().map_err(|source| EngineError::file("write", &path, source))
}

/// Holds back records that are known to be the same.
#[derive(Clone)]
pub struct Sieve {
    known: Arc<Known>,
    target: Arc<dyn Target>,
    context: RunContext,
}

/// Writes a batch, as far as it is not known to be held already.
pub(crate) async fn write(
    sieve: Option<&Sieve>,
    writer: &Arc<dyn Writer>,
    batch: WriteBatch,
) -> Result<WriteOutcome> {
    // An earlier attempt may have written other content since that was known.
    let Some(sieve) = sieve.filter(|_| !batch.contested) else { return Ok(writer.write(batch).await?) };
    let (mut outcomes, spared) = sieve.sift(&batch.records).await?;
    let left: BooleanArray = outcomes.iter().map(|outcome| Some(outcome.is_none())).collect();
    let records = filter_record_batch(&batch.records, &left)
        .map_err(|error| EngineError::Internal(format!("records that differ: {error}")))?;
    let mut written = WriteOutcome::default();
    if records.num_rows() > 0 {
        written = writer.write(WriteBatch { records, ..batch }).await?;
    }
    let mut rest = written.outcomes.drain(..);
    for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_none()) {
        *outcome = rest.next();
    }
    drop(rest);
    written.outcomes = outcomes.into_iter().flatten().collect();
    written.capacity += spared;
    Ok(written)
}

impl Sieve {
    /// The outcomes of those records that are known to be the same, and what they spare.
    async fn sift(&self, records: &RecordBatch) -> Result<(Vec<Option<Outcome>>, Capacity)> {
        let measured = self.target.measured(records, &self.context);
        let keys: Vec<u128> =
            measured.iter().map(|one| one.as_ref().map_or(0, |(print, _)| print.key)).collect();
        let known = on(&self.known, move |known| known.records(&keys)).await?;
        let mut spared = Capacity::default();
        let mut outcomes = Vec::with_capacity(measured.len());
        for (one, known) in measured.into_iter().zip(known) {
            let same = one.ok().filter(|(print, _)| known == Some(print.record));
            outcomes.push(same.map(|(print, units)| {
                spared.spared_write_units += units.write_units;
                Outcome::Unchanged(print)
            }));
        }
        Ok((outcomes, spared))
    }
}

/// What is known of the targets of a run, and what is kept of them.
#[derive(Default)]
pub struct Comparisons {
    run_folder: PathBuf,
    flows: BTreeMap<FlowName, FlowComparison>,
}

struct FlowComparison {
    /// Until every record has its outcome.
    known: Mutex<Option<Arc<Known>>>,
    keeps: bool,
    /// Whether the table held nothing when the run began: then nothing in it is missing from the source.
    is_fresh: bool,
}

impl FlowComparison {
    fn known(&self) -> MutexGuard<'_, Option<Arc<Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Comparisons {
    /// Reads what is to be known before the first record is written.
    pub(crate) async fn begin(
        migration: &Migration,
        journal: &Journal,
        run: &RunRecord,
        context: &RunContext,
        progress: &Progress,
    ) -> Result<Self> {
        let run_folder = journal.run_folder(&run.id);
        let mut flows = BTreeMap::new();
        // A retry replays some records only: nothing is known by them of the whole.
        if run.kind == RunKind::Run {
            let targets = journal.targets(&run.id)?;
            let comparing = flows_with_scans(migration).filter(|(_, flow)| flow.plan.changing.is_some());
            let resident_bytes = RESIDENT_BYTES / comparing.count().max(1);
            for (scan, flow) in flows_with_scans(migration) {
                let Some(changing) = flow.plan.changing else { continue };
                let target = targets.iter().find(|target| target.flow == flow.plan.name);
                let run_folder = &run_folder;
                let opening =
                    Opening { migration, scan, flow, target, run_folder, context, progress, resident_bytes };
                let known = opening.known(changing).await?;
                let keeps = changing.compare == Compare::Journal || changing.delete_missing;
                let is_fresh = target.is_some_and(|target| target.made || target.empty);
                let known = Mutex::new(known);
                flows.insert(flow.plan.name.clone(), FlowComparison { known, keeps, is_fresh });
            }
        }
        Ok(Self { run_folder, flows })
    }

    /// What holds back a flow's records that are known.
    pub(crate) fn sieve(&self, plan: &FlowPlan, context: &RunContext) -> Option<Sieve> {
        let known = self.flows.get(&plan.name)?.known();
        let known = Arc::clone(known.as_ref()?);
        Some(Sieve { known, target: Arc::clone(&plan.target), context: context.clone() })
    }

    /// Where a slice keeps the fingerprints of a flow.
    pub(crate) fn kept(&self, flow: &FlowName, slice: &SliceId) -> Option<Kept> {
        let keeps = self.flows.get(flow).is_some_and(|flow| flow.keeps);
        keeps.then(|| Kept::new(&self.run_folder, flow, slice))
    }
}

fn flows_with_scans(migration: &Migration) -> impl Iterator<Item = (&Scan, &ScanFlow)> {
    migration.flows()
}

/// What is found out about a flow's target as a run begins or goes on.
struct Opening<'a> {
    migration: &'a Migration,
    scan: &'a Scan,
    flow: &'a ScanFlow,
    target: Option<&'a TargetRecord>,
    run_folder: &'a Path,
    context: &'a RunContext,
    progress: &'a Progress,
    /// What of the known may be held in memory.
    resident_bytes: usize,
}

impl Opening<'_> {
    async fn known(&self, changing: Changing) -> Result<Option<Arc<Known>>> {
        let name = &self.flow.plan.name;
        if self.target.is_none_or(|target| target.made || target.empty) {
            return Ok(None);
        }
        if changing.compare == Compare::Journal {
            if let Some(known) = prior::of_run(self.run_folder, name, self.resident_bytes).await? {
                return Ok(Some(known));
            }
            tracing::warn!(flow = %name, "no fingerprints of an earlier run hold: compared with the table");
        }
        match Changing::way(&self.flow.target, self.scan.description.records) {
            Way::ByKey => Ok(None),
            Way::Whole => self.whole().await.map(Some),
        }
    }

    /// Reads the whole table, its parts side by side.
    async fn whole(&self) -> Result<Arc<Known>> {
        let name = &self.flow.plan.name;
        let path = kept::folder(self.run_folder).join(format!("{name}.held"));
        let resident_bytes = self.resident_bytes;
        let from = path.clone();
        if let Some(known) = blocking(move || Known::open(&from, resident_bytes)).await? {
            return Ok(Arc::new(known));
        }
        let target = &self.flow.plan.target;
        self.progress.begin_step(format!("reading {} to compare it", target.resource()));
        let gathering = blocking(move || Gathering::new(&path)).await?;
        let reading = Arc::new(Reading {
            target: Arc::clone(target),
            flows: [held_flow(self.migration, self.flow)?],
            context: self.context.clone(),
            gathering: Mutex::new(gathering),
        });
        let mut parts = JoinSet::new();
        for part in target.held_parts(PARTS).await? {
            let reading = Arc::clone(&reading);
            parts.spawn(async move { reading.part(&part).await });
        }
        let mut capacity = Capacity::default();
        while let Some(read) = parts.join_next().await {
            capacity +=
                read.map_err(|error| EngineError::Internal(format!("reading a table: {error}")))??;
        }
        note_beside(self.run_folder, name, |beside| beside.capacity += capacity)?;
        drop(parts);
        let reading = Arc::into_inner(reading)
            .ok_or_else(|| EngineError::Internal("a part of a table is still being read".to_owned()))?;
        let gathering = reading.gathering.into_inner().unwrap_or_else(PoisonError::into_inner);
        blocking(move || gathering.finish(Notes::new(), resident_bytes).map(Arc::new)).await
    }
}

/// A table that is read whole.
struct Reading {
    target: Arc<dyn Target>,
    flows: [HeldFlow; 1],
    context: RunContext,
    gathering: Mutex<Gathering>,
}

impl Reading {
    /// Reads a part to its end; answers with what that used.
    async fn part(self: &Arc<Self>, part: &SlicePart) -> Result<Capacity> {
        let mut capacity = Capacity::default();
        let mut batches = self.target.held(part, &self.flows, &self.context).await?;
        while let Some(batch) = batches.try_next().await? {
            capacity += batch.capacity;
            let own = batch.records.iter().filter(|record| record.flow == Some(0));
            let prints: Vec<_> = own.map(|record| record.fingerprint).collect();
            let reading = Arc::clone(self);
            blocking(move || reading.gathering.lock().unwrap_or_else(PoisonError::into_inner).add(&prints))
                .await?;
            if self.context.stop.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
        }
        Ok(capacity)
    }
}

/// The flow as a reader of its table needs it.
pub(crate) fn held_flow(migration: &Migration, flow: &ScanFlow) -> Result<HeldFlow> {
    let request = migration.write_request(&flow.plan.name);
    let request =
        request.ok_or_else(|| EngineError::Internal(format!("flow `{}` has no target", flow.plan.name)))?;
    Ok(HeldFlow {
        constants: flow.plan.constants().to_vec(),
        columns: Arc::clone(flow.plan.output()),
        request,
    })
}

/// The flows that a run which begins now would compare with the fingerprints of the last one.
///
/// # Errors
/// A store or the journal fails.
pub async fn left(migration: &Migration, journal: &Journal) -> Result<BTreeSet<FlowName>> {
    let mut left = BTreeSet::new();
    let resolved = &migration.resolved;
    for (_, flow) in migration.flows() {
        let trusts = flow.plan.changing.is_some_and(|changing| changing.compare == Compare::Journal);
        let table = if trusts { flow.plan.target.identity().await? } else { None };
        let Some(table) = table else { continue };
        let name = &flow.plan.name;
        let environment = resolved.environment.as_deref();
        if prior::is_left(journal, &resolved.migration, environment, name, table.as_str())? {
            left.insert(name.clone());
        }
    }
    Ok(left)
}

/// Keeps for the next run what stands in the journal when one begins: whatever this run writes to, nobody may
/// trust any more.
pub(crate) fn take_prior(
    migration: &Migration,
    journal: &Journal,
    run: &RunRecord,
    targets: &[TargetRecord],
) -> Result<()> {
    let trusted = |target: &&TargetRecord| {
        let flow = migration.flows().find(|(_, flow)| flow.plan.name == target.flow);
        let changing = flow.and_then(|(_, flow)| flow.plan.changing);
        run.kind == RunKind::Run && changing.is_some_and(|changing| changing.compare == Compare::Journal)
    };
    let trusted: Vec<&TargetRecord> = targets.iter().filter(trusted).collect();
    prior::take(journal, run, targets, &trusted)
}

/// Takes away what the journal knows of tables that are no longer as a run has left them.
pub(crate) fn distrust(journal: &Journal, run: &RunRecord, targets: &[TargetRecord]) -> Result<()> {
    prior::take(journal, run, targets, &[])
}

/// What follows when every record has its outcome: deletions, and fingerprints for the next run.
pub(crate) async fn finish(
    migration: &Migration,
    journal: &Journal,
    run: &RunRecord,
    context: &RunContext,
    comparisons: &Comparisons,
    progress: &Progress,
) -> Result<()> {
    let keeping: Vec<&FlowName> =
        comparisons.flows.iter().filter(|(_, flow)| flow.keeps).map(|(name, _)| name).collect();
    if keeping.is_empty() {
        return Ok(());
    }
    // What is gathered now takes its place in memory.
    comparisons.flows.values().for_each(|flow| drop(flow.known().take()));
    let tally = Tally::of(journal, run)?;
    let flows: Vec<&ScanFlow> =
        migration.flows().map(|(_, flow)| flow).filter(|flow| keeping.contains(&&flow.plan.name)).collect();
    // Children before their parents: what a record refers to is deleted after it.
    for flow in flows.into_iter().rev() {
        let Some(changing) = flow.plan.changing else { continue };
        let name = &flow.plan.name;
        let counts = tally.flows.get(name).copied().unwrap_or_default();
        let held = counts.created + counts.updated + counts.unchanged;
        let is_kept = changing.compare == Compare::Journal;
        let table = if is_kept { flow.plan.target.identity().await? } else { None };
        // Nobody asks for what is only left to the next run.
        let resident_bytes = if changing.delete_missing { RESIDENT_BYTES } else { 0 };
        progress.begin_step(format!("gathering the fingerprints of {name}"));
        let seen = prior::gather(&comparisons.run_folder, run, name, table.as_ref(), resident_bytes).await?;
        let is_whole = seen.count() == held;
        if changing.delete_missing {
            let deletion =
                missing::Deletion { run_folder: &comparisons.run_folder, flow, seen: &seen, context };
            match nothing_to_delete(&counts, is_whole) {
                Some(reason) => {
                    tracing::warn!(flow = %name, reason, "nothing is deleted");
                    let note = |beside: &mut Beside| beside.nothing_deleted = Some(reason.to_owned());
                    note_beside(&comparisons.run_folder, name, note)?;
                }
                None if is_done(&comparisons.run_folder, name)? => {}
                None if comparisons.flows.get(name).is_some_and(|flow| flow.is_fresh) => {
                    note_beside(&comparisons.run_folder, name, |beside| beside.deletion_done = true)?;
                }
                None => {
                    let table = flow.plan.target.resource();
                    progress.begin_step(format!("deleting from {table} what the source no longer has"));
                    deletion.carry_out(&held_flow(migration, flow)?).await?;
                }
            }
        }
        if is_kept && is_whole {
            prior::keep(journal, run, name, &seen).await?;
        }
    }
    Ok(())
}

/// Why nothing is deleted, where it is not known of every record whether the source still has it.
fn nothing_to_delete(counts: &Counts, is_whole: bool) -> Option<&'static str> {
    if counts.read == 0 {
        return Some("the source has no record at all: that is more likely a mistake than meant");
    }
    if counts.rejected > 0 {
        return Some("a record was rejected: it is not known of every record whether the source has it");
    }
    (!is_whole).then_some(
        "it is not known of every record whether the source has it, after a loss of the run's own files",
    )
}

/// Whether what is missing was deleted already, by this run before it was cut off.
fn is_done(run_folder: &Path, flow: &FlowName) -> Result<bool> {
    Ok(beside(run_folder)?.get(flow).is_some_and(|beside| beside.deletion_done))
}
