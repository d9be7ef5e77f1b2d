//! Beginning, resuming and replaying runs.

use crate::activity::Reading;
use crate::changed::{self, Comparisons, Deletions};
use crate::costs::{self, Cost};
use crate::distinct;
use crate::duplicates;
use crate::error::{EngineError, Result};
use crate::journal::{Journal, NewRun, ResourceNote, RunKind, RunRecord, TargetRecord};
use crate::migration::{Migration, Scan, ScanFlow};
use crate::ownership;
use crate::progress::Progress;
use crate::provision;
use crate::rejects::{self, RejectSource};
use crate::reporter::LocalReporter;
use crate::runner::{Runner, RunnerSettings};
use crate::spill::SpillSource;
use crate::steps;
use crate::summary::{RejectSummary, RunOutcome, Summary, Tally};
use crate::unaccounted;
use crate::undo;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use whimbrel_model::{FlowName, GroupName, RunId, Slice, SliceId, StoreName};
use whimbrel_spec::resolved::Unmatched;
use whimbrel_store::{
    Creation, Meter, RunContext, SourceDescription, StoreErrorKind, TargetState, UnitBudget, UnitLimit,
};

/// Records that a slice should hold at least, so that a small scan is read side by side, too.
const LEAST_SLICE_RECORDS: u64 = 5_000;
/// So many slices are enough for all that is read side by side; then slices grow instead.
const ENOUGH_SLICES: u64 = 32;
/// Records that a slice of a large scan should hold about: each costs statements and commits of its own.
const SLICE_RECORDS: u64 = 50_000;
/// Slices of one scan, at most.
const MOST_SLICES: u64 = 256;

/// What a run is given beside its spec.
pub struct RunSettings {
    /// Slices, memory, limit.
    pub runner: RunnerSettings,
    /// Make missing tables first.
    pub create: bool,
    /// Cancelled to stop the run.
    pub stop: CancellationToken,
    /// What the display reads.
    pub progress: Arc<Progress>,
    /// What the display reads of the stores.
    pub meter: Arc<Meter>,
}

/// A run that is set up and may be executed.
pub struct Run<'a> {
    migration: Arc<Migration>,
    journal: &'a mut Journal,
    record: RunRecord,
    settings: RunSettings,
    /// The units of this run, once records move.
    budget: Option<Arc<UnitBudget>>,
}

impl<'a> Run<'a> {
    /// Begins a new run: its name and its stores' identities are journalled before anything is written.
    ///
    /// # Errors
    /// A store or the journal fails.
    pub async fn begin(
        migration: Migration,
        journal: &'a mut Journal,
        id: RunId,
        kind: RunKind,
        options: Value,
        settings: RunSettings,
    ) -> Result<Self> {
        let migration = replaying(migration, journal, &kind)?;
        changed::refuse_limited(&migration, settings.runner.limit)?;
        let shape = shape(&migration, journal)?;
        let resolved = &migration.resolved;
        let new = NewRun {
            id: id.clone(),
            migration: resolved.migration.clone(),
            environment: resolved.environment.clone().unwrap_or_default(),
            kind,
            spec_path: resolved.path.display().to_string(),
            spec_digest: resolved.digest.clone(),
            shape,
            options: undo::noted(options, resolved.undo),
            stores: identities(&migration).await?,
        };
        journal.begin(&new)?;
        let record = found(journal, &id)?;
        Ok(Self { migration: Arc::new(migration), journal, record, settings, budget: None })
    }

    /// Takes up an unfinished run. Its stores must be the ones that it began with.
    ///
    /// # Errors
    /// The spec or a store is another one, or the journal fails.
    pub async fn resume(
        migration: Migration,
        journal: &'a mut Journal,
        record: &RunRecord,
        accept_spec: bool,
        settings: RunSettings,
    ) -> Result<Self> {
        if record.spec_digest != migration.resolved.digest && !accept_spec {
            return Err(EngineError::refused(
                format!(
                    "the spec {} has changed since the run {} began",
                    record.spec_path,
                    record.id.short()
                ),
                "put it back, begin anew with `run --new`, or go on with the new spec: `resume --accept-spec`",
            ));
        }
        let migration = replaying(migration, journal, &record.kind)?;
        changed::refuse_limited(&migration, settings.runner.limit)?;
        let shape = shape(&migration, journal)?;
        if record.shape != shape && !accept_spec {
            return Err(EngineError::refused(
                format!(
                    "the flows' values or their sources' columns are not those that the run {} began with",
                    record.id.short()
                ),
                "give the same --set, variables and tables, begin anew with `run --new`, or go on with these: \
                 `resume --accept-spec`",
            ));
        }
        same_stores(&journal.stores(&record.id)?, &identities(&migration).await?)?;
        same_flows(&migration, journal, record)?;
        if record.planned {
            same_fingerprints(record, "go on with that build, or begin anew with `run --new`")?;
        }
        if record.planned && record.outcome.is_none() {
            unaccounted::note_kill(&journal.run_folder(&record.id))?;
        }
        journal.continue_run(&record.id, &migration.resolved.digest, &shape)?;
        let record = found(journal, &record.id)?;
        Ok(Self { migration: Arc::new(migration), journal, record, settings, budget: None })
    }

    /// The run's name.
    #[must_use]
    pub fn id(&self) -> &RunId {
        &self.record.id
    }

    /// The run as the journal has it.
    #[must_use]
    pub fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Works until every slice has a receipt, and answers with the summary, whatever happened; the second part
    /// says why it stopped early.
    ///
    /// # Errors
    /// The summary itself cannot be made: the journal or the run's folder fails.
    pub async fn execute(mut self) -> Result<(Summary, Option<EngineError>)> {
        let began = Instant::now();
        let mut error = self.work().await.err();
        if let Err(failed) = provision::end(&self.migration, self.journal).await {
            error.get_or_insert(failed);
        }
        let folder = self.journal.run_folder(&self.record.id);
        let gathered =
            rejects::parts(self.journal, &self.record.id).and_then(|parts| rejects::gather(&folder, &parts));
        let rejects =
            gathered.and_then(|file| RejectSummary::read(file.as_deref())).unwrap_or_else(|failed| {
                // Why the run stopped matters more than why its rejects cannot be shown.
                error.get_or_insert(failed);
                RejectSummary::default()
            });
        let mut tally = Tally::of(self.journal, &self.record)?;
        if let Some(budget) = &self.budget {
            // Why the run stopped matters more than a few units that a full disk does not take.
            let kept = tally.keep_unaccounted(&folder, budget.taken());
            error = error.or(kept.err());
        }
        if error.is_none() {
            error = self.check(&tally, &rejects).err();
        }
        let deletions = changed::deletions(&self.migration, &folder)?;
        let summary = self.summarise(began, error.as_ref(), tally, rejects, deletions);
        // A run that is over has a summary: whoever is killed between the two resumes, and writes it again.
        let stored = summary.store(&folder);
        let ended = self.journal.end(&self.record.id, summary.outcome.as_str());
        if error.is_none() {
            // Why a run stopped matters more than that its summary cannot be kept.
            stored?;
            ended?;
        }
        Ok((summary, error))
    }

    async fn work(&mut self) -> Result<()> {
        distinct::tell(&self.migration).await?;
        self.expect_slices();
        if !self.record.planned {
            let making =
                if self.settings.create { "making missing tables" } else { "looking at the targets" };
            self.settings.progress.begin_step(format!("{making}, cutting the sources into slices"));
            self.plan().await?;
            self.record = found(self.journal, &self.record.id)?;
        }
        self.same_targets().await?;
        undo::begin(&self.migration, self.journal, &self.record).await?;
        provision::begin(&self.migration, self.journal, &self.record.id).await?;
        self.announce()?;
        let resolved = &self.migration.resolved;
        let limit = UnitLimit {
            read: resolved.limits.max_read_units,
            write: resolved.limits.max_write_units,
            cost: costs::limit(&self.migration),
        };
        let used = Tally::of(self.journal, &self.record)?.capacity;
        let budget = Arc::new(UnitBudget::new(limit, used));
        self.budget = Some(Arc::clone(&budget));
        let folder = self.journal.run_folder(&self.record.id);
        self.migration.scans.iter().filter_map(|scan| scan.spilled.as_ref()).for_each(|spilled| {
            spilled.source.of_run(&folder);
        });
        for receipts in self.migration.scans.iter().filter_map(|scan| scan.receipts.as_ref()) {
            receipts.of_run(self.journal.folder(), &self.record.id);
        }
        let context = RunContext {
            run: self.record.id.clone(),
            budget,
            fingerprint_key: self
                .journal
                .fingerprint_key(&resolved.migration, resolved.environment.as_deref())?,
            retry_for: resolved.limits.retry_for,
            stop: self.settings.stop.clone(),
            meter: Arc::clone(&self.settings.meter),
        };
        let progress = Arc::clone(&self.settings.progress);
        let (journal, record) = (&*self.journal, &self.record);
        let comparisons = Comparisons::begin(&self.migration, journal, record, &context, &progress).await?;
        let comparisons = Arc::new(comparisons);
        let keys = duplicates::keys(&self.migration, self.journal, &self.record).await?;
        let writer = self.journal.writer(&self.record.id, duplicates::before_commit(keys.as_ref()))?;
        let reporter = Arc::new(LocalReporter::new(
            writer.clone(),
            Arc::clone(&self.settings.progress),
            resolved.limits.max_reject_rate,
        ));
        let reading = Journal::open(self.journal.folder())?;
        let parallel = self.settings.runner.parallel.max(1);
        let migration = Arc::clone(&self.migration);
        let (record, settings) = (self.record.clone(), &self.settings.runner);
        let runner =
            Runner::new(migration, reading, record, context.clone(), reporter, keys.clone(), settings)?;
        let runner = runner.comparing(&comparisons);
        self.settings.progress.begin_step(moving(&self.migration));
        let outcome = Arc::new(runner).run(parallel).await;
        let flushed = writer.flush().await;
        outcome?;
        flushed?;
        let progress = &self.settings.progress;
        let (migration, journal) = (&self.migration, &*self.journal);
        steps::finish(migration, journal, &self.record.id, &context, keys.as_ref(), progress).await?;
        changed::finish(migration, journal, &self.record, &context, &comparisons, progress).await
    }

    /// Tells the stores how much will be asked of them at once.
    fn expect_slices(&self) {
        let parallel = self.settings.runner.parallel.max(1);
        let limit = self.settings.runner.limit;
        let mut expected: BTreeMap<&StoreName, [usize; 2]> = BTreeMap::new();
        let mut expect = |store, slices: usize, side: usize| {
            let sides = expected.entry(store).or_default();
            sides[side] = (sides[side] + slices).min(parallel);
        };
        for scan in self.migration.scans.iter().filter(|scan| scan.spilled.is_none()) {
            let slices = wanted_slices(scan, limit);
            expect(&scan.store, slices, 0);
            scan.flows.iter().for_each(|flow| expect(&flow.store, slices, 1));
        }
        for (store, [readers, writers]) in expected {
            if let Some(store) = self.migration.stores.get(store) {
                store.expect(readers, writers);
            }
        }
    }

    /// Makes tables where that was asked for, looks at what they hold, and cuts the sources into slices.
    async fn plan(&mut self) -> Result<()> {
        let mut targets = Vec::new();
        let mut states: BTreeMap<(StoreName, String), (bool, TargetState)> = BTreeMap::new();
        for (scan, flow) in self.migration.flows() {
            let resource = flow.plan.target.resource();
            let key = (flow.store.clone(), resource.clone());
            let (made, state) = match states.get(&key) {
                Some(known) => *known,
                None => {
                    let made = if self.settings.create {
                        self.create(&flow.store, &flow.plan.target).await?
                    } else {
                        false
                    };
                    let made = made || self.journal.made_by(&self.record.id, &flow.store, &resource)?;
                    if made {
                        ownership::claim(&self.migration.resolved, &flow.plan.target).await?;
                    }
                    flow.plan.target.prepare().await?;
                    let state = flow.plan.target.state().await?;
                    states.insert(key, (made, state));
                    (made, state)
                }
            };
            if targets.iter().any(|known: &TargetRecord| known.flow == flow.plan.name) {
                // A retry may write a flow's records in two ways.
                continue;
            }
            let identity = flow.plan.target.identity().await?.map(|identity| identity.as_str().to_owned());
            // How a scan's records divide among its flows is only known in the end.
            let shares = scan.spilled.is_some() || scan.flows.len() + scan.spilling.len() > 1;
            let estimate = estimate(scan, self.settings.runner.limit).filter(|_| !shares);
            let empty = state.empty;
            targets.push(TargetRecord {
                flow: flow.plan.name.clone(),
                resource,
                identity,
                made,
                empty,
                estimate,
            });
        }
        let slices = self.cut().await?;
        changed::take_prior(&self.migration, self.journal, &self.record, &targets)?;
        Ok(self.journal.planned(&self.record.id, &targets, &slices)?)
    }

    async fn create(&self, store: &StoreName, target: &Arc<dyn whimbrel_store::Target>) -> Result<bool> {
        let exists = target.identity().await?.is_some();
        if !exists {
            let resolved = &self.migration.resolved;
            let opened = self.migration.stores.get(store);
            let opened =
                opened.ok_or_else(|| EngineError::Internal(format!("store `{store}` was not opened")))?;
            let identity = opened.identity().await?;
            self.journal.note_resource(&ResourceNote {
                migration: &resolved.migration,
                environment: resolved.environment.as_deref(),
                run: Some(&self.record.id),
                store,
                identity: identity.as_str(),
                name: &target.resource(),
            })?;
        }
        match target.create().await? {
            Creation::Created(name) => {
                tracing::info!(%store, %name, "created");
                Ok(true)
            }
            Creation::Existed { name, differences } => {
                for difference in differences {
                    tracing::warn!(%store, %name, %difference, "the table differs from its definition");
                }
                Ok(false)
            }
        }
    }

    async fn cut(&self) -> Result<Vec<Slice>> {
        let mut slices = Vec::new();
        for scan in &self.migration.scans {
            if let Some(spilled) = &scan.spilled {
                // What a slice spills is a slice of its own.
                let by: Vec<SliceId> = slices
                    .iter()
                    .filter(|slice: &&Slice| slice.group == spilled.by)
                    .map(|slice| slice.id.clone())
                    .collect();
                let parts = by.iter().map(SpillSource::part).enumerate();
                slices.extend(parts.map(|(index, part)| scan.slice(index, part)));
                continue;
            }
            let wanted = wanted_slices(scan, self.settings.runner.limit);
            let mut parts = scan.source.slices(wanted).await?;
            if self.settings.runner.limit.is_some() {
                parts.truncate(1);
            }
            slices.extend(parts.into_iter().enumerate().map(|(index, part)| scan.slice(index, part)));
        }
        Ok(slices)
    }

    /// The targets' tables must be the ones that the run began with.
    async fn same_targets(&self) -> Result<()> {
        let recorded = self.journal.targets(&self.record.id)?;
        for (_, flow) in self.migration.flows() {
            let Some(before) = recorded.iter().find(|target| target.flow == flow.plan.name) else { continue };
            let now = flow.plan.target.identity().await?.map(|identity| identity.as_str().to_owned());
            if before.identity != now {
                return Err(EngineError::refused(
                    format!(
                        "store `{}`: the table {} is not the one that this run began with",
                        flow.store, before.resource
                    ),
                    "it was dropped or made anew since; begin anew with `run --new`",
                ));
            }
        }
        Ok(())
    }

    /// Tells the display what to expect and what is done already.
    fn announce(&self) -> Result<()> {
        let progress = &self.settings.progress;
        for target in self.journal.targets(&self.record.id)? {
            progress.expect(&target.flow, target.estimate);
        }
        let scans = self.migration.scans.iter().filter(|scan| scan.spilled.is_none());
        let limit = self.settings.runner.limit;
        progress.expect_records(scans.map(|scan| estimate(scan, limit)).sum());
        let slices = self.journal.slices(&self.record.id)?;
        let done = slices.iter().filter(|slice| slice.done).count();
        for record in &slices {
            let position = record.checkpoints.iter().map(|(_, kept)| kept.position).min().unwrap_or(0);
            let scan = self.migration.scan(&record.slice.group);
            let again = scan.is_some_and(|scan| scan.spilled.is_some());
            let reading = if again { Reading::Again } else { Reading::First };
            progress.activity().at(&record.slice.id, reading, position);
            for (flow, checkpoint) in &record.checkpoints {
                progress.set(flow, &record.slice.id, &checkpoint.counts);
            }
        }
        // Last of all: from here on this stretch of the run has a rate.
        progress.expect_slices(u64::try_from(slices.len()).unwrap_or(0), u64::try_from(done).unwrap_or(0));
        Ok(())
    }

    /// The count equation of every flow, and of a retry that it replayed every reject.
    fn check(&self, tally: &Tally, rejects: &RejectSummary) -> Result<()> {
        for (flow, counts) in &tally.flows {
            if !counts.balanced() {
                let (read, accounted) = (counts.read, counts.accounted());
                return Err(EngineError::CountEquation {
                    flow: flow.clone(),
                    slice: SliceId::new("all"),
                    read,
                    accounted,
                });
            }
        }
        let rejected: u64 = tally.flows.values().map(|counts| counts.rejected).sum();
        if rejects.count != rejected {
            let message = format!("{rejected} records were rejected, and {} are kept", rejects.count);
            return Err(EngineError::Internal(message));
        }
        let RunKind::Retry { parent } = &self.record.kind else { return Ok(()) };
        let parent = Tally::of(self.journal, &found(self.journal, parent)?)?;
        let (due, read): (u64, u64) = (
            parent.flows.values().map(|counts| counts.rejected).sum(),
            tally.flows.values().map(|counts| counts.read).sum(),
        );
        if due == read {
            Ok(())
        } else {
            Err(EngineError::Internal(format!("{due} records were rejected, {read} replayed")))
        }
    }

    fn summarise(
        &self,
        began: Instant,
        error: Option<&EngineError>,
        tally: Tally,
        rejects: RejectSummary,
        deletions: BTreeMap<FlowName, Deletions>,
    ) -> Summary {
        let totals: whimbrel_model::Counts = tally.flows.values().copied().sum();
        let missed =
            self.migration.resolved.unmatched == Unmatched::Reject && !tally.scan.unmatched.is_empty();
        let outcome = match error {
            Some(error) if error.is_pause() => RunOutcome::Paused,
            Some(_) => RunOutcome::Failed,
            None if totals.rejected > 0 || missed || deletions.values().any(Deletions::is_incomplete) => {
                RunOutcome::Incomplete
            }
            None => RunOutcome::Complete,
        };
        let mut cost_usd = Cost::of(&self.migration, &tally.units).and(&self.migration, tally.unaccounted);
        let was_killed = unaccounted::was_killed(&self.journal.run_folder(&self.record.id));
        cost_usd.at_least = was_killed && !cost_usd.prices.is_empty();
        let resolved = &self.migration.resolved;
        let stores = self.migration.stores.iter().map(|(name, store)| (name.to_string(), store.location()));
        Summary {
            migration: resolved.migration.clone(),
            run: self.record.id.to_string(),
            outcome,
            environment: resolved.environment.clone(),
            totals,
            flows: tally.flows,
            unmatched: tally.scan.unmatched,
            shared: tally.scan.shared,
            deletions,
            rejects,
            capacity: tally.capacity,
            cost_usd,
            seconds: began.elapsed().as_secs_f64(),
            peak_memory_bytes: crate::memory::peak_bytes(),
            stores: stores.collect(),
            slices_done: tally.slices_done,
            slices: tally.slices,
            resumes: self.record.resumes,
            retries: self.settings.meter.retries(),
            throttles: self.settings.meter.throttles(),
            spec_digest: resolved.digest.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            error: error.map(|error| resolved.secrets.redact(&error.to_string()).into_owned()),
        }
    }
}

pub(crate) fn found(journal: &Journal, id: &RunId) -> Result<RunRecord> {
    let runs = journal.find(id.as_str())?;
    runs.into_iter().find(|run| run.id == *id).ok_or_else(|| EngineError::no_run(id.as_str()))
}

/// The digest of what the spec's text does not say.
fn shape(migration: &Migration, journal: &Journal) -> Result<String> {
    let resolved = &migration.resolved;
    Ok(migration.shape(&journal.fingerprint_key(&resolved.migration, resolved.environment.as_deref())?))
}

/// A run goes on with the flows that it began with, each in the scan that its slices are of.
fn same_flows(migration: &Migration, journal: &Journal, record: &RunRecord) -> Result<()> {
    if !record.planned {
        return Ok(());
    }
    let recorded: BTreeSet<String> =
        journal.targets(&record.id)?.into_iter().map(|t| t.flow.to_string()).collect();
    let present: BTreeSet<String> = migration.flows().map(|(_, flow)| flow.plan.name.to_string()).collect();
    let slices = journal.slices(&record.id)?;
    let orphan = slices.iter().find(|slice| migration.scan(&slice.slice.group).is_none());
    let other = recorded.symmetric_difference(&present).next().cloned();
    match other.or_else(|| orphan.map(|slice| slice.slice.group.to_string())) {
        None => Ok(()),
        Some(name) => Err(EngineError::refused(
            format!("the run {} and the spec do not have the same flows: `{name}`", record.id.short()),
            "give the same --only, put the spec's flows back, or begin anew with `run --new`",
        )),
    }
}

/// Fingerprints of two forms do not add up: what was written could no longer be proved, nor undone.
pub(crate) fn same_fingerprints(record: &RunRecord, hint: &str) -> Result<()> {
    if !record.has_other_fingerprints() {
        return Ok(());
    }
    Err(EngineError::refused(
        format!(
            "the run {} was begun by another build of whimbrel, whose fingerprints are of another form",
            record.id.short()
        ),
        hint,
    ))
}

/// For a retry: the parent's rejects in place of the sources, a scan for each flow that has some.
fn replaying(mut migration: Migration, journal: &Journal, kind: &RunKind) -> Result<Migration> {
    let RunKind::Retry { parent } = kind else { return Ok(migration) };
    let mut rejected = Tally::of(journal, &found(journal, parent)?)?.flows;
    rejected.retain(|_, counts| counts.rejected > 0);
    let parts = rejects::parts(journal, parent)?;
    let folder = journal.run_folder(parent);
    let mut scans: Vec<Scan> = Vec::new();
    for scan in migration.scans {
        for flow in scan.flows {
            let name = &flow.plan.name;
            if rejected.remove(name).is_none() {
                continue;
            }
            let own = parts.iter().filter(|part| part.flow == *name).cloned();
            let (removed, refused): (Vec<_>, Vec<_>) =
                own.partition(|part| part.slice.as_str().starts_with(steps::AFTER_LOAD));
            let again = Arc::new(flow.plan.written_again()?);
            let read = scan.description.clone();
            let held =
                SourceDescription { schema: Arc::clone(again.output()), key: Vec::new(), ..read.clone() };
            let again = ScanFlow { plan: again, ..flow.clone() };
            for (suffix, parts, description, flow) in
                [("", refused, read, flow.clone()), (".after-load", removed, held, again)]
            {
                if parts.is_empty() {
                    continue;
                }
                let source = RejectSource::new(parts, &description, &folder, scan.batch_records);
                scans.push(Scan {
                    name: GroupName::new(format!("{name}{suffix}")),
                    store: scan.store.clone(),
                    description: source.description().clone(),
                    source: Arc::new(source),
                    flows: vec![flow],
                    spilling: Vec::new(),
                    spilled: None,
                    receipts: None,
                    parents: None,
                    // One after the other, in the order of the flows: later ones may refer to earlier ones.
                    after: scans.last().map(|before| before.name.clone()).into_iter().collect(),
                    batch_records: scan.batch_records,
                });
            }
        }
    }
    if let Some(name) = rejected.keys().next() {
        return Err(EngineError::refused(
            format!("flow `{name}` has rejects to be replayed, and the spec has no such flow"),
            "put it back under that name",
        ));
    }
    migration.scans = scans;
    Ok(migration)
}

pub(crate) async fn identities(migration: &Migration) -> Result<Vec<(StoreName, String, String)>> {
    let mut identities = Vec::new();
    for (name, store) in &migration.stores {
        identities.push((name.clone(), store.location(), store.identity().await?.as_str().to_owned()));
    }
    Ok(identities)
}

/// The stores must be what they were, however they are reached.
pub(crate) fn same_stores(
    before: &[(StoreName, String, String)],
    now: &[(StoreName, String, String)],
) -> Result<()> {
    for (name, location, identity) in now {
        let known = before.iter().find(|(other, ..)| other == name);
        if let Some((_, old_location, old_identity)) = known
            && old_identity != identity
        {
            return Err(EngineError::refused(
                format!(
                    "store `{name}` at {location} is not the one at {old_location} that this run began with"
                ),
                "point the spec back at it, or begin anew with `run --new`",
            ));
        }
    }
    Ok(())
}

/// The longest step of a run, for people.
fn moving(migration: &Migration) -> String {
    let mut scans = migration.scans.iter().filter(|scan| scan.spilled.is_none());
    match (scans.next(), scans.next()) {
        (Some(scan), None) => {
            let flows = scan.flows.iter().chain(&scan.spilling);
            let names: Vec<&str> = flows.map(|flow| flow.plan.name.as_str()).collect();
            format!("reading {} once, for {}", scan.store, names.join(" and "))
        }
        _ => format!("moving the records of {} flows", migration.flows().count()),
    }
}

fn estimate(scan: &Scan, limit: Option<u64>) -> Option<u64> {
    match (scan.description.records, limit) {
        (Some(records), Some(limit)) => Some(records.min(limit)),
        (records, limit) => records.or(limit),
    }
}

/// How many slices a scan is cut into.
#[must_use]
pub fn wanted_slices(scan: &Scan, limit: Option<u64>) -> usize {
    // A limit counts the records of one slice; a source without order is read whole.
    if limit.is_some() || !scan.description.resumable {
        return 1;
    }
    // Elements come with the records that hold them.
    let records = scan.description.records.or_else(|| scan.parents.as_ref()?.records);
    usize::try_from(slices_of(records.unwrap_or(0))).unwrap_or(1)
}

fn slices_of(records: u64) -> u64 {
    let few = records.div_ceil(LEAST_SLICE_RECORDS).clamp(1, ENOUGH_SLICES);
    records.div_ceil(SLICE_RECORDS).clamp(few, MOST_SLICES)
}

/// Whether a failed look at a target means that its table is missing.
#[must_use]
pub fn is_missing_table(error: &EngineError) -> bool {
    matches!(error, EngineError::Store(error) if error.kind() == StoreErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_scans_are_cut_finely_and_large_ones_into_large_slices() {
        let found = [0, 5_000, 5_001, 160_000, 1_600_000, 2_000_000, 12_800_000, u64::MAX].map(slices_of);
        assert_eq!(found, [1, 1, 2, 32, 32, 40, 256, 256]);
    }
}
