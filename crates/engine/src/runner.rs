//! The local runner: so many slices at a time, each from its last checkpoint, until all have receipts.

use crate::activity::{Reading, Running};
use crate::changed::Comparisons;
use crate::duplicates::first_pass::{self, FirstPass, Looked};
use crate::duplicates::{Claims, KeySet};
use crate::error::{EngineError, Result};
use crate::flow::FlowPlan;
use crate::journal::{Journal, RunRecord, SliceRecord, TargetRecord};
use crate::migration::{Migration, Scan};
use crate::places::{Place, Places};
use crate::rejects::{self, RejectFile};
use crate::reporter::Reporter;
use crate::slice::{FlowWork, Route, SliceContext, SliceStop, SliceWork, run_slice};
use crate::spill::SpillFile;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use whimbrel_model::{Checkpoint, Counts, FlowName, GroupName, Slice, SliceId, SpilledSoFar, StoreName};
use whimbrel_store::{RunContext, StoreError, StoreErrorKind};

/// The first pause before a source is asked again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What the runner works with.
pub struct Runner {
    migration: Arc<Migration>,
    journal: Mutex<Journal>,
    run: RunRecord,
    run_folder: PathBuf,
    targets: BTreeMap<FlowName, TargetRecord>,
    context: SliceContext,
    limit: Option<u64>,
    /// The keys that records have claimed, where two may be the same.
    keys: Option<Arc<KeySet>>,
    /// What is known of what the targets hold.
    comparisons: Arc<Comparisons>,
    /// The present epoch; renewed by whoever first finds the snapshot lost.
    epoch: tokio::sync::Mutex<u64>,
}

/// How a run is to be worked on.
pub struct RunnerSettings {
    /// Slices that are read at a time.
    pub parallel: usize,
    /// Bytes of batches in memory.
    pub memory_bytes: u64,
    /// Records to read of each source, at most.
    pub limit: Option<u64>,
}

impl Runner {
    /// A runner for one run. `journal` is a connection of its own.
    ///
    /// # Errors
    /// The journal fails.
    pub fn new(
        migration: Arc<Migration>,
        journal: Journal,
        run: RunRecord,
        context: RunContext,
        reporter: Arc<dyn Reporter>,
        keys: Option<Arc<KeySet>>,
        settings: &RunnerSettings,
    ) -> Result<Self> {
        let targets =
            journal.targets(&run.id)?.into_iter().map(|target| (target.flow.clone(), target)).collect();
        let permits = u32::try_from(settings.memory_bytes / 1024).unwrap_or(u32::MAX).max(1);
        let memory = Arc::new(Semaphore::new(usize::try_from(permits).unwrap_or(usize::MAX)));
        reporter.activity().lend(&memory, permits);
        Ok(Self {
            run_folder: journal.run_folder(&run.id),
            epoch: tokio::sync::Mutex::new(run.epoch),
            migration,
            journal: Mutex::new(journal),
            run,
            targets,
            context: SliceContext { run: context, reporter, memory, memory_permits: permits },
            limit: settings.limit,
            keys,
            comparisons: Arc::default(),
        })
    }

    /// The same, which knows what its targets hold.
    #[must_use]
    pub fn comparing(self, comparisons: &Arc<Comparisons>) -> Self {
        Self { comparisons: Arc::clone(comparisons), ..self }
    }

    /// Works on every slice that has no receipt yet.
    ///
    /// # Errors
    /// The first failure of a slice; the others have finished what was in flight.
    pub async fn run(self: Arc<Self>, parallel: usize) -> Result<()> {
        for store in self.migration.source_stores() {
            self.begin_epoch(store).await?;
        }
        let slices = self.journal().slices(&self.run.id)?;
        self.first_pass(&slices, parallel).await?;
        let mut queue = Queue::new(&self.migration, slices);
        let places = Places::new(parallel);
        let mut working = JoinSet::new();
        let mut failure: Option<EngineError> = None;
        loop {
            let goes_on = failure.is_none() && !self.stop().is_cancelled();
            let begins = goes_on && working.len() < places.slices() && queue.has_next();
            let joined = tokio::select! {
                biased;
                Some(joined) = working.join_next() => joined,
                place = places.take(), if begins => {
                    if let Some(slice) = queue.next() {
                        let runner = Arc::clone(&self);
                        working.spawn(async move { runner.work(&slice, place?).await.map(|()| slice.group) });
                    }
                    continue;
                }
                else => break,
            };
            let outcome = joined
                .unwrap_or_else(|error| Err(EngineError::Internal(format!("a slice ended badly: {error}"))));
            match outcome {
                Ok(group) => queue.done(&group),
                Err(EngineError::Interrupted) => {}
                Err(error) => {
                    tracing::error!(%error, "the run stops");
                    failure.get_or_insert(error);
                    // The others finish what is in flight and wait for nothing any more.
                    self.stop().cancel();
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None if queue.is_empty() => match &self.keys {
                Some(keys) => first_pass::check(keys).await,
                None => Ok(()),
            },
            None => Err(EngineError::Interrupted),
        }
    }

    /// Reads what decides which of several records of one key is the last, before anything is written.
    async fn first_pass(self: &Arc<Self>, slices: &[SliceRecord], parallel: usize) -> Result<()> {
        let Some(keys) = &self.keys else { return Ok(()) };
        let pass = FirstPass::begin(&self.migration, keys, &self.run.id, &self.context, self.limit).await?;
        let Some(pass) = pass.map(Arc::new) else { return Ok(()) };
        let mut looking = JoinSet::new();
        let read = |slice: &Slice| self.migration.scan(&slice.group).is_some_and(FirstPass::reads);
        for slice in slices.iter().map(|record| &record.slice).filter(|slice| read(slice)) {
            if looking.len() >= parallel {
                looked(looking.join_next().await)?;
            }
            let (runner, pass, slice) = (Arc::clone(self), Arc::clone(&pass), slice.clone());
            looking.spawn(async move { runner.look(&pass, &slice).await });
        }
        while !looking.is_empty() {
            looked(looking.join_next().await)?;
        }
        pass.end().await
    }

    async fn look(&self, pass: &FirstPass, slice: &Slice) -> Result<()> {
        let mut patience = Patience::new(self.context.run.retry_for);
        let (scan, mut at) = (self.scan(&slice.group)?, Looked::default());
        let running = self.running(scan, slice);
        loop {
            let epoch = *self.epoch.lock().await;
            let before = at.position;
            let reading = running.reads();
            let looked = pass.look(scan, slice, &mut at).await;
            drop(reading);
            let error = match looked {
                Ok(()) => return Ok(()),
                Err(SliceStop::Run(error)) => return Err(error),
                Err(SliceStop::Read(error)) => error,
            };
            tracing::warn!(slice = %slice.id, %error, "a store failed; the first pass goes on");
            if at.position > before {
                patience.reset();
            }
            at.again();
            let _pausing = running.pauses(error.store());
            self.wait_for(error, epoch, &slice.group, &mut patience).await?;
        }
    }

    fn stop(&self) -> &CancellationToken {
        &self.context.run.stop
    }

    fn journal(&self) -> std::sync::MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One slice, again and again from its last checkpoint while a store fails in a way that may pass.
    async fn work(&self, slice: &Slice, place: Arc<Place>) -> Result<()> {
        let mut patience = Patience::new(self.context.run.retry_for);
        let mut record = self.record(slice).await?;
        let running = self.running(self.scan(&slice.group)?, slice);
        loop {
            // First: while a slice waits for a place, the epoch may be renewed.
            place.take().await?;
            let epoch = *self.epoch.lock().await;
            let before = position(&record);
            let stopped = match self.slice_work(&record, epoch, &running, &place).await {
                Ok(work) => run_slice(work, &self.context).await,
                // Nothing is written yet: a store that cannot be asked now may answer later.
                Err(EngineError::Store(error)) if error.kind().is_retryable() => Err(SliceStop::Read(error)),
                Err(error) => Err(SliceStop::Run(error)),
            };
            let error = match stopped {
                Ok(()) => {
                    running.complete();
                    return Ok(());
                }
                Err(SliceStop::Run(error)) => return Err(error),
                Err(SliceStop::Read(error)) => error,
            };
            tracing::warn!(slice = %slice.id, %error, "a store failed; the slice goes on from its checkpoint");
            let _pausing = running.pauses(error.store());
            record = self.record(slice).await?;
            if position(&record) > before {
                patience.reset();
            }
            self.wait_for(error, epoch, &slice.group, &mut patience).await?;
        }
    }

    /// Waits before a source that failed is asked again; begins a new epoch where its snapshot is gone.
    async fn wait_for(
        &self,
        error: StoreError,
        epoch: u64,
        group: &GroupName,
        patience: &mut Patience,
    ) -> Result<()> {
        self.context.run.meter.retried();
        let snapshot_lost = error.kind() == StoreErrorKind::SnapshotLost;
        if !patience.wait(self.stop()).await {
            return Err(if self.stop().is_cancelled() { EngineError::Interrupted } else { error.into() });
        }
        if snapshot_lost {
            self.renew_epoch(epoch, group, patience).await?;
        }
        Ok(())
    }

    /// The slice as the journal has it, everything reported so far included.
    async fn record(&self, slice: &Slice) -> Result<SliceRecord> {
        self.context.reporter.flush().await?;
        let record = self.journal().slice(&self.run.id, &slice.id)?;
        record.ok_or_else(|| EngineError::Internal(format!("slice {} left the journal", slice.id)))
    }

    /// The slice as those who watch see it.
    fn running(&self, scan: &Scan, slice: &Slice) -> Arc<Running> {
        let flows = scan.flows.iter().chain(&scan.spilling);
        let targets = flows.map(|flow| (flow.plan.name.clone(), flow.store.clone())).collect();
        let reading = if scan.spilled.is_some() { Reading::Again } else { Reading::First };
        self.context.reporter.activity().begin(&slice.id, reading, &scan.store, targets)
    }

    async fn slice_work(
        &self,
        record: &SliceRecord,
        epoch: u64,
        running: &Arc<Running>,
        place: &Arc<Place>,
    ) -> Result<SliceWork> {
        let scan = self.scan(&record.slice.group)?;
        let mut flows = Vec::new();
        let mut empty = true;
        let mut atomic = false;
        for flow in &scan.flows {
            let target = self.targets.get(&flow.plan.name).ok_or_else(|| self.unknown(&flow.plan.name))?;
            let created = target.made || target.empty;
            empty &= created;
            let _opening = running.writes(&flow.plan.name);
            let writer = flow.plan.target.writer(&record.slice.id, created, &self.context.run).await?;
            let journalled = record.checkpoints.iter().find(|(name, _)| *name == flow.plan.name);
            atomic |= flow.plan.target.capabilities().atomic_batch;
            let kept_by_target = writer.last().await?;
            let resume = match (kept_by_target, journalled) {
                (Some(kept), _) => kept,
                // Nothing was committed there, whatever the journal says.
                (None, _) if atomic => Checkpoint::default(),
                (None, journalled) => journalled.map(|(_, kept)| kept.clone()).unwrap_or_default(),
            };
            flows.push(
                self.flow_work(&flow.plan, &record.slice.id, resume, Route::Write(Arc::from(writer))).await?,
            );
        }
        for flow in &scan.spilling {
            let name = &flow.plan.name;
            let (resume, so_far) = waiting_so_far(name, flows.first().map(|first| &first.resume));
            let file = SpillFile::open(&self.run_folder, name, &record.slice.id, so_far.bytes).await?;
            flows.push(self.flow_work(&flow.plan, &record.slice.id, resume, Route::Spill(file)).await?);
        }
        Ok(SliceWork {
            slice: record.slice.clone(),
            epoch,
            source: Arc::clone(&scan.source),
            flows,
            sent_before: record.reserved,
            empty,
            limit: self.limit,
            atomic,
            uncommitted: false,
            kinds: scan.kinds(),
            running: Arc::clone(running),
            place: Arc::clone(place),
        })
    }

    async fn flow_work(
        &self,
        plan: &Arc<FlowPlan>,
        slice: &SliceId,
        resume: Checkpoint,
        route: Route,
    ) -> Result<FlowWork> {
        let path = rejects::path(&self.run_folder, &plan.name, slice);
        let rejects = RejectFile::open(path, resume.reject_bytes).await?;
        let claims = match (&self.keys, &route) {
            (Some(keys), Route::Write(_)) if plan.duplicates.are_watched() => {
                Some(Claims::begin(keys, plan, slice, resume.seq, &self.context.run).await?)
            }
            _ => None,
        };
        let writes = matches!(route, Route::Write(_));
        let sieve = self.comparisons.sieve(plan, &self.context.run).filter(|_| writes);
        let kept = self.comparisons.kept(&plan.name, slice).filter(|_| writes);
        Ok(FlowWork { plan: Arc::clone(plan), resume, route, rejects, claims, sieve, kept })
    }

    fn scan(&self, group: &GroupName) -> Result<&Scan> {
        self.migration.scan(group).ok_or_else(|| self.unknown(group))
    }

    fn unknown(&self, name: &dyn std::fmt::Display) -> EngineError {
        EngineError::refused(
            format!("the run {} and the spec do not have the same flows: `{name}`", self.run.id.short()),
            "begin anew with `run --new`",
        )
    }

    async fn begin_epoch(&self, store: &StoreName) -> Result<()> {
        match self.migration.stores.get(store) {
            Some(store) => Ok(store.begin_epoch().await?),
            None => Err(EngineError::Internal(format!("store `{store}` was not opened"))),
        }
    }

    /// Begins the next epoch unless another slice has done so since `seen`.
    async fn renew_epoch(&self, seen: u64, group: &GroupName, patience: &mut Patience) -> Result<()> {
        let mut epoch = self.epoch.lock().await;
        if *epoch != seen {
            return Ok(());
        }
        let store = self.scan(group)?.store.clone();
        loop {
            match self.begin_epoch(&store).await {
                Ok(()) => break,
                Err(EngineError::Store(error)) if error.kind().is_retryable() => {
                    if !patience.wait(self.stop()).await {
                        return Err(if self.stop().is_cancelled() {
                            EngineError::Interrupted
                        } else {
                            error.into()
                        });
                    }
                }
                Err(error) => return Err(error),
            }
        }
        *epoch += 1;
        tracing::info!(epoch = *epoch, "a new epoch: what is read from now on is read from a new snapshot");
        Ok(self.journal().set_epoch(&self.run.id, *epoch)?)
    }
}

/// Where a flow stands whose records wait: at the place of the scan's first flow, which keeps it.
fn waiting_so_far(name: &FlowName, first: Option<&Checkpoint>) -> (Checkpoint, SpilledSoFar) {
    let Some(first) = first else { return Default::default() };
    let so_far = first.scan.spilled.get(name).copied().unwrap_or_default();
    let rejected = so_far.rejected;
    let checkpoint = Checkpoint {
        seq: first.seq,
        cursor: first.cursor.clone(),
        position: first.position,
        counts: Counts { read: rejected, rejected, ..Counts::default() },
        reject_bytes: so_far.reject_bytes,
        ..Checkpoint::default()
    };
    (checkpoint, so_far)
}

fn looked(joined: Option<std::result::Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    match joined {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => Err(EngineError::Internal(format!("the first pass ended badly: {error}"))),
        None => Ok(()),
    }
}

/// Records of the slice that are accounted for.
fn position(record: &SliceRecord) -> u64 {
    record.checkpoints.iter().map(|(_, checkpoint)| checkpoint.position).min().unwrap_or(0)
}

/// Pauses between attempts, until no progress was made for too long after the first failure.
struct Patience {
    limit: Duration,
    first_failure: Option<Instant>,
    pause: Duration,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { limit, first_failure: None, pause: FIRST_PAUSE }
    }

    fn reset(&mut self) {
        *self = Self::new(self.limit);
    }

    /// Waits before the next attempt; false when patience is at its end or the run is to stop.
    async fn wait(&mut self, stop: &CancellationToken) -> bool {
        let since = *self.first_failure.get_or_insert_with(Instant::now);
        if since.elapsed() + self.pause > self.limit {
            return false;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = stop.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }
}

/// Whether every slice of what a scan waits for has its receipt.
fn is_free(open: &BTreeMap<GroupName, usize>, after: &BTreeSet<GroupName>) -> bool {
    !after.iter().any(|name| open.contains_key(name))
}

/// Slices waiting to be worked on, scan by scan.
struct Queue {
    scans: Vec<(GroupName, BTreeSet<GroupName>, VecDeque<Slice>)>,
    /// Slices of each scan without a receipt.
    open: BTreeMap<GroupName, usize>,
}

impl Queue {
    fn new(migration: &Migration, slices: Vec<SliceRecord>) -> Self {
        let mut open = BTreeMap::new();
        let mut of_scan: BTreeMap<GroupName, VecDeque<Slice>> = BTreeMap::new();
        for record in slices.into_iter().filter(|record| !record.done) {
            *open.entry(record.slice.group.clone()).or_insert(0) += 1;
            of_scan.entry(record.slice.group.clone()).or_default().push_back(record.slice);
        }
        let scans = migration.scans.iter().map(|scan| {
            (scan.name.clone(), scan.after.clone(), of_scan.remove(&scan.name).unwrap_or_default())
        });
        Self { scans: scans.collect(), open }
    }

    /// The next slice of the first scan that need not wait.
    fn next(&mut self) -> Option<Slice> {
        let open = &self.open;
        let mut free = self.scans.iter_mut().filter(|(_, after, _)| is_free(open, after));
        free.find_map(|(_, _, slices)| slices.pop_front())
    }

    fn has_next(&self) -> bool {
        let mut free = self.scans.iter().filter(|(_, after, _)| is_free(&self.open, after));
        free.any(|(_, _, slices)| !slices.is_empty())
    }

    fn done(&mut self, group: &GroupName) {
        if let Some(left) = self.open.get_mut(group) {
            *left -= 1;
            if *left == 0 {
                self.open.remove(group);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
