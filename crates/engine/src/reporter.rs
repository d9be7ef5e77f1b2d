//! Where slices report to: the journal here, the driver on a cluster.

use crate::activity::Activity;
use crate::error::{EngineError, Result};
use crate::journal::{JournalWriter, Sample, now_ms};
use crate::progress::Progress;
use async_trait::async_trait;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use whimbrel_model::{Checkpoint, Counts, FlowName, Receipt, SliceId};

/// Takes checkpoints and receipts.
#[async_trait]
pub trait Reporter: Send + Sync {
    /// All flows of a slice have come this far. Durable together, within a second.
    ///
    /// # Errors
    /// What was reported before could not be stored.
    fn checkpoint(&self, slice: &SliceId, epoch: u64, flows: Vec<(FlowName, Checkpoint)>) -> Result<()>;

    /// A flow's counts in a slice, for the display and for limits of the whole run.
    ///
    /// # Errors
    /// A limit is reached: [`EngineError::RejectRate`].
    fn progress(&self, flow: &FlowName, slice: &SliceId, counts: &Counts) -> Result<()>;

    /// Up to so many records of the slice may be sent from now on. Returns when that is durable.
    ///
    /// # Errors
    /// It could not be stored.
    async fn reserve(&self, slice: &SliceId, records: u64) -> Result<()>;

    /// The slice is complete. Returns when that is durable.
    ///
    /// # Errors
    /// It could not be stored.
    async fn done(&self, slice: &SliceId, receipts: Vec<Receipt>) -> Result<()>;

    /// Returns when everything reported before is durable.
    ///
    /// # Errors
    /// It could not be stored.
    async fn flush(&self) -> Result<()>;

    /// What the slices of this process are doing, for those who watch it.
    fn activity(&self) -> Arc<Activity>;
}

/// Reports to the journal of this machine.
#[derive(Debug)]
pub struct LocalReporter {
    journal: JournalWriter,
    progress: Arc<Progress>,
    max_reject_rate: Option<f64>,
    /// When the journal was last told how far the run is.
    sampled: Mutex<Instant>,
}

/// How far apart samples of the run are, at least.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// Before so many records have been read, their share of rejects says nothing.
const FEWEST_RECORDS: u64 = 1_000;

impl LocalReporter {
    /// Reports to this journal and this display. With `max_reject_rate` the run stops, resumable, when more than
    /// that share of its records was rejected.
    #[must_use]
    pub fn new(journal: JournalWriter, progress: Arc<Progress>, max_reject_rate: Option<f64>) -> Self {
        let reporter = Self { journal, progress, max_reject_rate, sampled: Mutex::new(Instant::now()) };
        reporter.sample();
        reporter
    }

    /// Keeps how far the run is, where the last sample is old enough.
    fn sample_from_time_to_time(&self) {
        {
            let mut sampled = self.sampled.lock().unwrap_or_else(PoisonError::into_inner);
            if sampled.elapsed() < SAMPLE_EVERY {
                return;
            }
            *sampled = Instant::now();
        }
        self.sample();
    }

    fn sample(&self) {
        let counts = self.progress.totals();
        let sample = Sample {
            at_ms: now_ms(),
            records: counts.accounted(),
            rejected: counts.rejected,
            bytes: counts.bytes,
        };
        self.journal.sample(sample);
    }

    #[expect(clippy::cast_precision_loss, reason = "a share compared with a share")]
    fn check_reject_rate(&self) -> Result<()> {
        let Some(limit) = self.max_reject_rate else { return Ok(()) };
        let counts = self.progress.totals();
        let due = counts.read.saturating_sub(counts.filtered);
        if due >= FEWEST_RECORDS && counts.rejected as f64 > limit * due as f64 {
            return Err(EngineError::RejectRate { rejected: counts.rejected, read: due, limit });
        }
        Ok(())
    }
}

impl Drop for LocalReporter {
    /// The end of a stretch is seen in its curve.
    fn drop(&mut self) {
        self.sample();
    }
}

#[async_trait]
impl Reporter for LocalReporter {
    fn checkpoint(&self, slice: &SliceId, epoch: u64, flows: Vec<(FlowName, Checkpoint)>) -> Result<()> {
        Ok(self.journal.checkpoint(slice, epoch, flows)?)
    }

    fn progress(&self, flow: &FlowName, slice: &SliceId, counts: &Counts) -> Result<()> {
        self.progress.set(flow, slice, counts);
        self.sample_from_time_to_time();
        self.check_reject_rate()
    }

    async fn reserve(&self, slice: &SliceId, records: u64) -> Result<()> {
        Ok(self.journal.reserve(slice, records).await?)
    }

    async fn done(&self, slice: &SliceId, receipts: Vec<Receipt>) -> Result<()> {
        self.journal.done(slice, receipts).await?;
        self.progress.slice_done();
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        Ok(self.journal.flush().await?)
    }

    fn activity(&self) -> Arc<Activity> {
        Arc::clone(self.progress.activity())
    }
}
