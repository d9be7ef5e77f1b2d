//! Waiting for a store that may come back.

use crate::context::RunContext;
use crate::error::{Result, StoreError, StoreErrorKind};
use std::time::{Duration, Instant};
use whimbrel_model::StoreName;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Pauses that double, until a store has made no progress for too long.
#[derive(Debug)]
pub struct Patience<'a> {
    context: &'a RunContext,
    since: Instant,
    pause: Duration,
}

impl<'a> Patience<'a> {
    /// Begins at the first failure.
    #[must_use]
    pub fn new(context: &'a RunContext) -> Self {
        Self { context, since: Instant::now(), pause: FIRST_PAUSE }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// The failure itself where trying again cannot help or has been tried for long enough; that the run stops.
    pub async fn wait(&mut self, store: &StoreName, error: StoreError) -> Result<()> {
        if !error.kind().is_retryable() || self.since.elapsed() + self.pause > self.context.retry_for {
            return Err(error);
        }
        tracing::warn!(%error, "trying again");
        self.context.meter.retried();
        tokio::select! {
            () = tokio::time::sleep(self.pause) => {}
            () = self.context.stop.cancelled() => {
                let context = "the run stops while the store is waited for";
                return Err(StoreError::new(StoreErrorKind::Interrupted, store, context).caused_by(error));
            }
        }
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}
