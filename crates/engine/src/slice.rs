//! One slice: read, transformed and written with the three overlapped, its checkpoints in order.
//!
//! A reader pulls batches into a short channel. Each batch is transformed and written by a task of its own, a
//! few at a time; their outcomes are taken in the order of the batches, so that the checkpoint is always the
//! low-water mark: everything up to its cursor has a durable outcome.

use crate::activity::{BatchPlace, Doing, Running, Stage};
use crate::changed::{self, Kept, Sieve};
use crate::changes;
use crate::duplicates::Claims;
use crate::error::{EngineError, Result};
use crate::flow::{FlowPlan, Reached};
use crate::kinds;
use crate::places::Place;
use crate::rejects::RejectFile;
use crate::reporter::Reporter;
use crate::spill::SpillFile;
use futures::{StreamExt, stream};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use whimbrel_model::{
    Capacity, Checkpoint, Cursor, Receipt, Reject, ScanTally, Slice, SliceId, SpilledSoFar, record,
};
use whimbrel_store::{Outcome, ReadBatch, RunContext, Source, StoreError, WriteBatch, WriteOutcome, Writer};

/// How many batches of a slice are on their way at once.
const IN_FLIGHT: usize = 3;
/// For how many batches ahead the journal notes that they may be sent, where the table was empty: whatever
/// equals ours is ours then. Where it was not, no record more than is sent may be taken for ours.
const RESERVED_BATCHES: u64 = 4;

/// A flow's part in a slice.
pub struct FlowWork {
    /// The flow.
    pub plan: Arc<FlowPlan>,
    /// Where it goes on.
    pub resume: Checkpoint,
    /// Where its records go.
    pub route: Route,
    /// Keeps its rejects.
    pub rejects: RejectFile,
    /// Claims its records' keys before they are written, where two may be the same.
    pub claims: Option<Claims>,
    /// Holds back records that are known to be the same.
    pub sieve: Option<Sieve>,
    /// Keeps the fingerprints of what the target holds.
    pub kept: Option<Kept>,
}

/// Where a flow's records go.
pub enum Route {
    /// Into the target.
    Write(Arc<dyn Writer>),
    /// Into a file, until the flows that it waits for are complete.
    Spill(SpillFile),
}

/// A slice about to be worked on.
pub struct SliceWork {
    /// The slice.
    pub slice: Slice,
    /// The stretch of the run.
    pub epoch: u64,
    /// Where it is read.
    pub source: Arc<dyn Source>,
    /// Who takes its records.
    pub flows: Vec<FlowWork>,
    /// Records that an earlier attempt may have sent, counted from the slice's start.
    pub sent_before: u64,
    /// Whether the tables held nothing when the run began.
    pub empty: bool,
    /// Read no more records than this.
    pub limit: Option<u64>,
    /// Whether the targets make a batch durable together with its checkpoint.
    pub atomic: bool,
    /// Whether something was written to such targets that is not durable yet.
    pub uncommitted: bool,
    /// The columns whose values tell kinds of records apart, where records that no flow takes are counted.
    pub kinds: Option<Vec<String>>,
    /// The slice as those who watch see it.
    pub running: Arc<Running>,
    /// Given to another slice once this one is read to its end.
    pub place: Arc<Place>,
}

/// What a process lends to all its slices.
#[derive(Clone)]
pub struct SliceContext {
    /// For the writers.
    pub run: RunContext,
    /// Checkpoints and receipts go there.
    pub reporter: Arc<dyn Reporter>,
    /// The byte budget: readers take permits of 1 KiB for a batch, given back when it is durable.
    pub memory: Arc<Semaphore>,
    /// How many permits there are in all.
    pub memory_permits: u32,
}

/// Why a slice stopped before its end. Its last checkpoint holds.
#[derive(Debug)]
pub enum SliceStop {
    /// The source failed; trying again may help.
    Read(StoreError),
    /// Anything else; the run stops.
    Run(EngineError),
}

impl SliceStop {
    pub(crate) fn reading(error: StoreError) -> Self {
        if error.kind().is_retryable() { Self::Read(error) } else { Self::Run(error.into()) }
    }
}

impl SliceStop {
    /// Where the target knows itself how far it has come, what was not committed can simply be written again.
    fn writing(error: EngineError, atomic: bool) -> Self {
        match error {
            EngineError::Store(error) if atomic => Self::reading(error),
            error => Self::Run(error),
        }
    }
}

impl<E: Into<EngineError>> From<E> for SliceStop {
    fn from(error: E) -> Self {
        Self::Run(error.into())
    }
}

/// A batch with its place in the slice and its share of the byte budget.
struct Numbered {
    seq: u64,
    /// Records of the slice before this batch.
    before: u64,
    batch: ReadBatch,
    /// Held until the batch is durable.
    permit: OwnedSemaphorePermit,
    place: BatchPlace,
}

/// What became of a batch: per flow what reached it and what the writer answered; nothing yet where batches are
/// written in order.
struct Settled {
    seq: u64,
    /// Records of the slice up to the end of this batch.
    position: u64,
    cursor: Option<Cursor>,
    contested: bool,
    /// Units that reading it used.
    capacity: Capacity,
    tally: ScanTally,
    flows: Vec<(Reached, Option<WriteOutcome>)>,
    /// The share of the byte budget, held until the batch is durable.
    _permit: OwnedSemaphorePermit,
    place: BatchPlace,
}

/// Works on a slice until its end.
///
/// # Errors
/// The source, the target or the journal failed, or the run is to stop.
pub async fn run_slice(mut work: SliceWork, context: &SliceContext) -> std::result::Result<(), SliceStop> {
    let first =
        work.flows.first().ok_or_else(|| EngineError::Internal("a slice without flows".to_owned()))?;
    let after = first.resume.cursor.clone();
    if work
        .flows
        .iter()
        .any(|flow| flow.resume.cursor != after || flow.resume.position != first.resume.position)
    {
        let message = format!("the flows of slice {} stand at different places", work.slice.id);
        return Err(EngineError::Internal(message).into());
    }
    let given_up = CancellationToken::new();
    let reader = Reader {
        seq: first.resume.seq,
        position: first.resume.position,
        limit: work.limit,
        stop: context.run.stop.clone(),
        given_up: given_up.clone(),
        memory: Arc::clone(&context.memory),
        memory_permits: context.memory_permits,
        running: Arc::clone(&work.running),
        place: Arc::clone(&work.place),
    };
    let opening = work.running.reads();
    let batches =
        work.source.read(&work.slice.part, after.as_ref(), &context.run).await.map_err(SliceStop::reading)?;
    drop(opening);
    let (sender, receiver) = mpsc::channel(1);
    let reading = tokio::spawn(reader.pump(batches, sender));
    let outcome = settle_all(&mut work, context, receiver, &given_up).await;
    let read =
        reading.await.map_err(|error| EngineError::Internal(format!("the reader ended badly: {error}")))?;
    outcome?;
    read?;
    close(work, context).await
}

/// Takes the batches' outcomes in order and moves the checkpoints.
async fn settle_all(
    work: &mut SliceWork,
    context: &SliceContext,
    receiver: mpsc::Receiver<Numbered>,
    given_up: &CancellationToken,
) -> std::result::Result<(), SliceStop> {
    let batch_work = Arc::new(BatchWork::of(work, context, given_up.clone()));
    let arriving =
        stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|b| (b, receiver)) });
    let settled = arriving
        .map(|numbered| {
            let batch_work = Arc::clone(&batch_work);
            tokio::spawn(async move { batch_work.settle(numbered).await })
        })
        .buffered(IN_FLIGHT);
    let mut settled = std::pin::pin!(settled);
    let mut failure = None;
    while let Some(joined) = settled.next().await {
        let outcome =
            joined.map_err(|error| EngineError::Internal(format!("a batch ended badly: {error}")))?;
        match outcome {
            Ok(outcome) if failure.is_none() => {
                if let Err(error) = account(work, context, outcome).await {
                    failure = Some(error);
                }
            }
            // Behind a failed batch nothing counts: its records are written again, contested.
            Ok(_) => {}
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
        if failure.is_some() {
            // What was read ahead need not be sent; what is in flight is waited for.
            given_up.cancel();
        }
    }
    failure.map_or(Ok(()), |error| Err(SliceStop::writing(error, work.atomic)))
}

/// Counts a settled batch, makes its rejects durable, and moves the checkpoints of all flows behind it at once:
/// a resume must find them at one place.
async fn account(work: &mut SliceWork, context: &SliceContext, mut settled: Settled) -> Result<()> {
    if work.atomic {
        write_in_order(work, &mut settled).await?;
    }
    work.running.reading_used(settled.capacity);
    if let Some(first) = work.flows.first_mut() {
        first.resume.capacity += settled.capacity;
        first.resume.scan.merge(&settled.tally);
    }
    for (flow, (reached, written)) in work.flows.iter_mut().zip(settled.flows) {
        if let Route::Spill(file) = &mut flow.route {
            file.append(&reached.records).await?;
        }
        let written = written.unwrap_or_default();
        work.running.writing_used(&flow.plan.name, written.capacity);
        let rejects = flow.count(&work.slice.id, reached, written, &context.run);
        flow.rejects.append(&rejects).await?;
        log_rejects(&rejects);
        let checkpoint = &mut flow.resume;
        checkpoint.reject_bytes = flow.rejects.bytes();
        checkpoint.seq = settled.seq;
        checkpoint.position = settled.position;
        checkpoint.cursor.clone_from(&settled.cursor);
        check_equation(&flow.plan, &work.slice.id, checkpoint)?;
    }
    note_spilled(work);
    // A slice without cursors restarts whole, so that it is one transaction.
    work.uncommitted = work.atomic && settled.cursor.is_none();
    if !work.uncommitted {
        // Before any checkpoint: a kill in between leaves one record too many and none too few, and that one is
        // kept again when it is read again.
        keep(work).await?;
    }
    if work.atomic && !work.uncommitted {
        commit(work).await?;
    }
    // A slice without cursors restarts whole, so that its checkpoints would count records twice.
    if settled.cursor.is_some() {
        let flows = work.flows.iter().map(|flow| (flow.plan.name.clone(), flow.resume.clone()));
        context.reporter.checkpoint(&work.slice.id, work.epoch, flows.collect())?;
    }
    for flow in &work.flows {
        context.reporter.progress(&flow.plan.name, &work.slice.id, &flow.resume.counts)?;
    }
    work.running.at(settled.position);
    Ok(())
}

/// Keeps the fingerprints of what the target holds, or will with the next commit.
async fn keep(work: &mut SliceWork) -> Result<()> {
    for kept in work.flows.iter_mut().filter_map(|flow| flow.kept.as_mut()) {
        kept.flush().await?;
    }
    Ok(())
}

/// Keeps with the first flow how far the files of those have come whose records wait.
fn note_spilled(work: &mut SliceWork) {
    let spilled = work.flows.iter().filter_map(|flow| match &flow.route {
        Route::Spill(file) => {
            let (rejected, reject_bytes) = (flow.resume.counts.rejected, flow.resume.reject_bytes);
            Some((flow.plan.name.clone(), SpilledSoFar { bytes: file.bytes(), rejected, reject_bytes }))
        }
        Route::Write(_) => None,
    });
    let spilled = spilled.collect();
    if let Some(first) = work.flows.first_mut() {
        first.resume.scan.spilled = spilled;
    }
}

/// Writes a batch behind the one before it; nothing of it is durable yet.
async fn write_in_order(work: &SliceWork, settled: &mut Settled) -> Result<()> {
    settled.place.to(Stage::Writing);
    for (flow, (reached, written)) in work.flows.iter().zip(&mut settled.flows) {
        if let Route::Write(writer) = &flow.route {
            let writing = work.running.writes(&flow.plan.name);
            let (seq, cursor) = (settled.seq, settled.cursor.clone());
            let before = Before { claims: flow.claims.as_ref(), sieve: flow.sieve.as_ref() };
            *written = Some(write(writer, before, reached, seq, cursor, settled.contested).await?);
            writing.written();
        }
    }
    Ok(())
}

/// Makes a batch durable together with its checkpoints.
async fn commit(work: &SliceWork) -> Result<()> {
    // The target may come to know of more than the journal; no key of what it knows of may be lost.
    if let Some(claims) = work.flows.iter().find_map(|flow| flow.claims.as_ref()) {
        claims.sync().await?;
    }
    let writers = work.flows.iter().filter_map(|flow| match &flow.route {
        Route::Write(writer) => Some((writer, &flow.resume)),
        Route::Spill(_) => None,
    });
    let writers: Vec<_> = writers.collect();
    let _committing = work.flows.first().map(|flow| work.running.writes(&flow.plan.name));
    let commits = writers.iter().map(|(writer, checkpoint)| writer.commit(checkpoint, writers.len()));
    futures::future::try_join_all(commits).await?;
    Ok(())
}

/// What a batch passes on its way to the writer.
#[derive(Clone, Copy)]
struct Before<'a> {
    claims: Option<&'a Claims>,
    sieve: Option<&'a Sieve>,
}

async fn write(
    writer: &Arc<dyn Writer>,
    before: Before<'_>,
    reached: &Reached,
    seq: u64,
    cursor: Option<Cursor>,
    contested: bool,
) -> Result<WriteOutcome> {
    if reached.records.num_rows() == 0 {
        return Ok(WriteOutcome::default());
    }
    let (records, guards) = (reached.records.clone(), reached.guards.clone());
    let batch = WriteBatch { records, seq, cursor, contested, guards };
    let written = changed::write(before.sieve, writer, batch).await?;
    if written.outcomes.len() != reached.origins.len() {
        return Err(EngineError::Internal("a writer left records without an outcome".to_owned()));
    }
    if let Some(claims) = before.claims {
        claims.release(seq, &reached.records, &written.outcomes).await?;
    }
    Ok(written)
}

impl FlowWork {
    /// Adds a batch's outcomes to the counts and sums; answers with its rejects.
    fn count(
        &mut self,
        slice: &SliceId,
        mut reached: Reached,
        written: WriteOutcome,
        context: &RunContext,
    ) -> Vec<Reject> {
        let Checkpoint { counts, sums, capacity, .. } = &mut self.resume;
        let mut rejects = std::mem::take(&mut reached.rejects);
        changes::tell_rejects(&self.plan, &rejects, changes::Fate::Failed);
        counts.read += reached.read;
        counts.filtered += reached.filtered;
        counts.bytes += written.bytes;
        *capacity += written.capacity;
        for (position, outcome) in written.outcomes.into_iter().enumerate() {
            changes::tell(&self.plan, &reached, position, &outcome, context);
            let (count, fingerprint) = match outcome {
                Outcome::Created(fingerprint) => (&mut counts.created, Some(fingerprint)),
                Outcome::Updated(fingerprint) => (&mut counts.updated, Some(fingerprint)),
                Outcome::Unchanged(fingerprint) => (&mut counts.unchanged, Some(fingerprint)),
                Outcome::Skipped => (&mut counts.skipped, None),
                Outcome::Rejected(refusal) => {
                    let row = reached.origins[position];
                    let mut reject =
                        self.plan.reject(slice, &reached.batch, row, refusal.stage, refusal.reason);
                    reject.original = reached.originals.as_ref().map(|originals| originals.original(row));
                    reject.fingerprint = self.plan.fingerprint(&reached.records, position, context);
                    if reject.key.is_empty() {
                        // The source has no key: the target's names the record.
                        reject.key = record::key_to_json(&reached.records, position, &self.plan.into_key);
                    }
                    rejects.push(reject);
                    continue;
                }
            };
            *count += 1;
            fingerprint.into_iter().for_each(|fingerprint| sums.add(fingerprint));
            self.kept.iter_mut().zip(fingerprint).for_each(|(kept, fingerprint)| kept.push(fingerprint));
        }
        counts.rejected += u64::try_from(rejects.len()).unwrap_or(u64::MAX);
        rejects
    }
}

pub(crate) fn log_rejects(rejects: &[Reject]) {
    for reject in rejects {
        let key = serde_json::Value::Object(reject.key.clone());
        // A reason quotes values of the record; it stands in the rejects file and in the summary.
        tracing::warn!(flow = %reject.flow, stage = %reject.stage, %key, "rejected");
    }
}

fn check_equation(plan: &FlowPlan, slice: &SliceId, checkpoint: &Checkpoint) -> Result<()> {
    let counts = &checkpoint.counts;
    if counts.balanced() {
        return Ok(());
    }
    Err(EngineError::CountEquation {
        flow: plan.name.clone(),
        slice: slice.clone(),
        read: counts.read,
        accounted: counts.accounted(),
    })
}

/// The slice is read to its end: receipts.
async fn close(mut work: SliceWork, context: &SliceContext) -> std::result::Result<(), SliceStop> {
    keep(&mut work).await?;
    if work.uncommitted {
        commit(&work).await.map_err(|error| SliceStop::writing(error, work.atomic))?;
    }
    let mut receipts = Vec::with_capacity(work.flows.len());
    for flow in work.flows {
        if let Route::Write(writer) = &flow.route {
            let _finishing = work.running.writes(&flow.plan.name);
            writer.finish().await?;
        }
        receipts.push(Receipt {
            slice: work.slice.id.clone(),
            flow: flow.plan.name.clone(),
            epoch: work.epoch,
            last: flow.resume,
        });
    }
    let _keeping = work.running.waits(Doing::Journal);
    Ok(context.reporter.done(&work.slice.id, receipts).await?)
}

/// Pulls batches out of the source.
struct Reader {
    seq: u64,
    /// Records of the slice read so far.
    position: u64,
    limit: Option<u64>,
    stop: CancellationToken,
    given_up: CancellationToken,
    memory: Arc<Semaphore>,
    memory_permits: u32,
    running: Arc<Running>,
    place: Arc<Place>,
}

impl Reader {
    async fn pump(
        mut self,
        mut batches: whimbrel_store::BatchStream,
        sender: mpsc::Sender<Numbered>,
    ) -> std::result::Result<(), SliceStop> {
        while self.limit.is_none_or(|limit| self.position < limit) {
            let reading = self.running.reads();
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(EngineError::Interrupted.into()),
                () = self.given_up.cancelled() => return Err(EngineError::Interrupted.into()),
                next = batches.next() => next,
            };
            drop(reading);
            let Some(batch) = next else { break };
            let numbered = self.number(batch.map_err(SliceStop::reading)?).await?;
            if sender.send(numbered).await.is_err() {
                // The other side has failed and says why.
                return Err(EngineError::Interrupted.into());
            }
        }
        drop(batches);
        self.place.leave();
        Ok(())
    }

    async fn number(&mut self, mut batch: ReadBatch) -> Result<Numbered> {
        let kib = u32::try_from(batch.bytes / 1024 + 1).unwrap_or(u32::MAX).min(self.memory_permits);
        let waiting = self.running.waits(Doing::Memory);
        let permit = Arc::clone(&self.memory)
            .acquire_many_owned(kib)
            .await
            .map_err(|_| EngineError::Internal("the byte budget was closed".to_owned()))?;
        drop(waiting);
        let place = self.running.batch(batch.bytes);
        let mut rows = u64::try_from(batch.records.num_rows()).unwrap_or(u64::MAX);
        if let Some(left) = self.limit.map(|limit| limit - self.position).filter(|left| *left < rows) {
            let keep = usize::try_from(left).unwrap_or(usize::MAX);
            batch.records = batch.records.slice(0, keep);
            batch.unreadable.retain(|unreadable| unreadable.row < keep);
            rows = left;
        }
        self.seq += 1;
        let numbered = Numbered { seq: self.seq, before: self.position, batch, permit, place };
        self.position += rows;
        Ok(numbered)
    }
}

/// What a batch's task needs of a flow.
struct BatchFlow {
    plan: Arc<FlowPlan>,
    /// `None`: the records are not for the target yet, or are written in order.
    writer: Option<Arc<dyn Writer>>,
    spills: bool,
    claims: Option<Claims>,
    sieve: Option<Sieve>,
}

/// What a batch's task needs.
struct BatchWork {
    slice: SliceId,
    flows: Vec<BatchFlow>,
    kinds: Option<Vec<String>>,
    reporter: Arc<dyn Reporter>,
    sent_before: u64,
    /// Whether what may have been sent must be known afterwards.
    reserves: bool,
    ahead: u64,
    reserved: tokio::sync::Mutex<u64>,
    given_up: CancellationToken,
    running: Arc<Running>,
}

impl BatchWork {
    fn of(work: &SliceWork, context: &SliceContext, given_up: CancellationToken) -> Self {
        let flow = |flow: &FlowWork| {
            let (writer, spills) = match &flow.route {
                Route::Write(writer) => ((!work.atomic).then(|| Arc::clone(writer)), false),
                Route::Spill(_) => (None, true),
            };
            let (claims, sieve) = (flow.claims.clone(), flow.sieve.clone());
            BatchFlow { plan: Arc::clone(&flow.plan), writer, spills, claims, sieve }
        };
        Self {
            slice: work.slice.id.clone(),
            flows: work.flows.iter().map(flow).collect(),
            kinds: work.kinds.clone(),
            reporter: Arc::clone(&context.reporter),
            sent_before: work.sent_before,
            // An atomic target knows itself how far it has come.
            reserves: !work.atomic && work.flows.iter().any(|flow| flow.plan.settles_by_content()),
            ahead: if work.empty { RESERVED_BATCHES } else { 0 },
            reserved: tokio::sync::Mutex::new(work.sent_before),
            given_up,
            running: Arc::clone(&work.running),
        }
    }

    async fn settle(&self, numbered: Numbered) -> Result<Settled> {
        if self.given_up.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        let Numbered { seq, before, batch, permit, place } = numbered;
        place.to(Stage::Transforming);
        let rows = u64::try_from(batch.records.num_rows()).unwrap_or(u64::MAX);
        self.reserve(before + rows, rows).await?;
        let contested = before < self.sent_before;
        let (slice, read, place_now) = (&self.slice, &batch, &place);
        let writes = self.flows.iter().map(|BatchFlow { plan, writer, spills, claims, sieve }| async move {
            if *spills {
                return Ok((plan.set_aside(slice, read)?, None));
            }
            let transforming = self.running.waits(Doing::Transforming);
            let mut reached = plan.reach(slice, read)?;
            if let Some(claims) = claims {
                claims.sift(seq, &mut reached).await?;
            }
            drop(transforming);
            let Some(writer) = writer else { return Ok((reached, None)) };
            let cursor = read.cursor.clone();
            place_now.to(Stage::Writing);
            let writing = self.running.writes(&plan.name);
            let before = Before { claims: claims.as_ref(), sieve: sieve.as_ref() };
            let written = write(writer, before, &reached, seq, cursor, contested).await?;
            writing.written();
            Ok::<_, EngineError>((reached, Some(written)))
        });
        let flows = futures::future::try_join_all(writes).await?;
        place.to(if flows.iter().any(|(_, written)| written.is_none()) {
            Stage::Ready
        } else {
            Stage::Settled
        });
        let tally = match &self.kinds {
            Some(columns) => kinds::tally(&batch.records, columns, flows.iter().map(|(reached, _)| reached)),
            None => ScanTally::default(),
        };
        Ok(Settled {
            seq,
            position: before + rows,
            cursor: batch.cursor,
            contested,
            capacity: batch.capacity,
            tally,
            flows,
            _permit: permit,
            place,
        })
    }

    /// Makes sure that the journal knows of what is about to be sent.
    async fn reserve(&self, upto: u64, rows: u64) -> Result<()> {
        if !self.reserves {
            return Ok(());
        }
        let mut reserved = self.reserved.lock().await;
        if upto > *reserved {
            let _keeping = self.running.waits(Doing::Journal);
            let ahead = upto + self.ahead * rows;
            self.reporter.reserve(&self.slice, ahead).await?;
            *reserved = ahead;
        }
        Ok(())
    }
}
