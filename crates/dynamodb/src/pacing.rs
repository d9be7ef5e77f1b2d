//! How fast a table is written to: additive increase, multiplicative decrease of the requests in flight, units
//! a second where the table's capacity is bounded, and patience that ends when the whole table makes no
//! progress.

mod rate;

use crate::error::{Failure, Fault};
use crate::limits::BATCH_ITEMS;
use futures::future::BoxFuture;
use rate::Rate;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use whimbrel_store::{BudgetSpent, Meter, StoreErrorKind};

const FIRST_REQUESTS: usize = 4;
/// More requests in flight than this the limiter never allows, and so no caller needs to have ready.
pub(crate) const MOST_REQUESTS: usize = 32;
const SHORTEST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A server whose answers take this many times as long as they did at best has all it can do.
const CROWDED: f64 = 2.0;
/// How far the best latency drifts up with each step, so that one lucky answer does not hold for ever.
const DRIFT: f64 = 1.01;

/// The limiter of one table, shared by all its writers.
#[derive(Debug)]
pub(crate) struct Pacer {
    requests: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    /// Permits that a decrease took away while they were in use.
    owed: usize,
    /// Answers and their seconds since the last step.
    window: (usize, f64),
    best_seconds: f64,
    decreased: Instant,
    progressed: Instant,
    /// Where the table's capacity is known.
    rate: Option<Rate>,
}

/// The right to have one request in flight.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    pacer: &'a Pacer,
    permit: Option<SemaphorePermit<'a>>,
    /// What was taken for it from the table's rate.
    units: f64,
    started: Instant,
}

impl Pacer {
    pub(crate) fn new() -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            limit: FIRST_REQUESTS,
            owed: 0,
            window: (0, 0.0),
            best_seconds: f64::INFINITY,
            decreased: now,
            progressed: now,
            rate: None,
        };
        Arc::new(Self { requests: Semaphore::new(FIRST_REQUESTS), state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the right to send a request of so many units; `None` where it was `given_up` before its turn
    /// came, or the run is to `stop` and the table's rate would make it wait.
    pub(crate) async fn acquire(
        &self,
        units: f64,
        given_up: &CancellationToken,
        stop: &CancellationToken,
    ) -> Option<Permit<'_>> {
        let permit = tokio::select! {
            biased;
            () = given_up.cancelled() => return None,
            permit = self.requests.acquire() => permit.ok()?,
        };
        let mut permit = Permit { pacer: self, permit: Some(permit), units, started: Instant::now() };
        while let Err(wait) = self.take(units) {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(wait) => {}
            }
        }
        permit.started = Instant::now();
        Some(permit)
    }

    /// The table takes so many units a second; `None`: as many as come. What has been learned of a table with
    /// the same capacity stays.
    pub(crate) fn bounded(&self, units_per_second: Option<f64>) {
        let mut state = self.state();
        match (units_per_second, &state.rate) {
            (None, _) => state.rate = None,
            (Some(capacity), Some(rate)) if rate.is_of(capacity) => {}
            (Some(capacity), _) => state.rate = Some(Rate::new(capacity, Instant::now())),
        }
    }

    fn take(&self, units: f64) -> Result<(), Duration> {
        match &mut self.state().rate {
            Some(rate) => rate.take(units, Instant::now()),
            None => Ok(()),
        }
    }

    /// Records arrived.
    pub(crate) fn progressed(&self) {
        self.state().progressed = Instant::now();
    }

    fn last_progress(&self) -> Instant {
        self.state().progressed
    }

    fn answered(&self, seconds: f64) {
        let mut state = self.state();
        state.window.0 += 1;
        state.window.1 += seconds;
        if state.window.0 < state.limit {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "a window has at most 32 answers")]
        let average = state.window.1 / state.window.0 as f64;
        state.window = (0, 0.0);
        if average > state.best_seconds * CROWDED || state.limit >= MOST_REQUESTS {
            return;
        }
        state.best_seconds = (state.best_seconds * DRIFT).min(average);
        state.limit += 1;
        if state.owed > 0 {
            state.owed -= 1;
        } else {
            self.requests.add_permits(1);
        }
    }

    fn throttled(&self, started: Instant) {
        let mut state = self.state();
        // Requests that were under way when the limit fell say nothing about the new limit.
        if started < state.decreased {
            return;
        }
        let fewer = (state.limit / 2).max(1);
        let surplus = state.limit - fewer;
        state.limit = fewer;
        state.window = (0, 0.0);
        state.decreased = Instant::now();
        state.owed += surplus - self.requests.forget_permits(surplus);
        if let Some(rate) = &mut state.rate {
            rate.throttled();
        }
    }

    fn released(&self, permit: SemaphorePermit<'_>) {
        let mut state = self.state();
        if state.owed > 0 {
            state.owed -= 1;
            permit.forget();
        }
    }
}

impl Permit<'_> {
    /// A request of so many records was answered as it should be. Small requests are quick and say nothing of
    /// the time that full ones take.
    pub(crate) fn answered(self, records: usize) {
        if records * 2 >= BATCH_ITEMS {
            self.pacer.answered(self.started.elapsed().as_secs_f64());
        }
    }

    /// The request used so many units.
    pub(crate) fn used(&self, units: f64) {
        if let Some(rate) = &mut self.pacer.state().rate {
            rate.settle(self.units, units);
        }
    }

    /// The store asked for patience.
    pub(crate) fn throttled(self) {
        self.pacer.throttled(self.started);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.pacer.released(permit);
        }
    }
}

/// The patience of one request or of one portion of records.
#[derive(Debug)]
pub(crate) struct Patience<'a> {
    pacer: Option<&'a Pacer>,
    retry_for: Duration,
    stop: &'a CancellationToken,
    meter: Option<&'a Meter>,
    first_failure: Option<Instant>,
    wait: Duration,
}

/// Why there is no patience left.
#[derive(Debug)]
pub(crate) enum Impatience {
    /// The failure is not one that time heals, or there was no progress for too long.
    Failed(Failure),
    /// The run is stopping.
    Stopped,
    /// What the run may use is used up.
    Spent(BudgetSpent),
}

impl Impatience {
    /// The error that the engine gets.
    pub(crate) fn into_error(
        self,
        store: &whimbrel_model::StoreName,
        context: String,
    ) -> whimbrel_store::StoreError {
        match self {
            Self::Failed(failure) => failure.into_error(store, context),
            Self::Stopped => whimbrel_store::StoreError::new(
                StoreErrorKind::Interrupted,
                store,
                format!("{context}: the run is stopping"),
            ),
            Self::Spent(limit) => whimbrel_store::StoreError::new(
                StoreErrorKind::LimitReached,
                store,
                format!("{context}: the next request would pass `{}`", limit.limit()),
            )
            .with_hint(limit.hint()),
        }
    }
}

impl<'a> Patience<'a> {
    /// Patience of so long a time without progress of the table.
    pub(crate) fn new(
        pacer: Option<&'a Pacer>,
        retry_for: Duration,
        stop: &'a CancellationToken,
        meter: Option<&'a Meter>,
    ) -> Self {
        Self { pacer, retry_for, stop, meter, first_failure: None, wait: SHORTEST_WAIT }
    }

    /// Some of the records arrived: the next failure is a first one again.
    pub(crate) fn progressed(&mut self) {
        self.first_failure = None;
        self.wait = SHORTEST_WAIT;
        if let Some(pacer) = self.pacer {
            pacer.progressed();
        }
    }

    /// Waits before the same request is sent again, decorrelated from all other waiters.
    ///
    /// # Errors
    /// Waiting is in vain.
    pub(crate) async fn wait(&mut self, failure: Failure) -> Result<(), Impatience> {
        if !failure.fault.is_retryable() {
            return Err(Impatience::Failed(failure));
        }
        if let Some(meter) = self.meter.filter(|_| failure.fault == Fault::Throttled) {
            meter.throttled();
        }
        let now = Instant::now();
        let since = *self.first_failure.get_or_insert(now);
        let since = self.pacer.map_or(since, |pacer| since.max(pacer.last_progress()));
        if now.duration_since(since) >= self.retry_for {
            return Err(Impatience::Failed(failure));
        }
        self.wait = next_wait(self.wait, random());
        tokio::select! {
            biased;
            () = self.stop.cancelled() => return Err(Impatience::Stopped),
            () = tokio::time::sleep(self.wait) => {}
        }
        if let Some(meter) = self.meter {
            meter.retried();
        }
        Ok(())
    }
}

/// Sends a request that changes nothing until it is answered or patience ends.
pub(crate) async fn persistently<'r, T>(
    patience: &mut Patience<'_>,
    mut request: impl FnMut() -> BoxFuture<'r, Result<T, Failure>>,
) -> Result<T, Impatience> {
    loop {
        match request().await {
            Ok(answer) => return Ok(answer),
            Err(failure) => patience.wait(failure).await?,
        }
    }
}

/// Decorrelated jitter: between the shortest wait and three times the last one. `random` is uniform in 0..1.
fn next_wait(last: Duration, random: f64) -> Duration {
    let span = (last * 3).saturating_sub(SHORTEST_WAIT);
    (SHORTEST_WAIT + span.mul_f64(random)).min(LONGEST_WAIT)
}

/// Good enough to keep waiters apart: the standard library's hasher is seeded anew each time.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 32;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(pacer: &Pacer, seconds: f64, times: usize) {
        for _ in 0..times {
            pacer.answered(seconds);
        }
    }

    #[tokio::test]
    async fn a_quick_server_gets_more_and_throttling_halves() {
        let pacer = Pacer::new();
        answered(&pacer, 0.01, 2000).await;
        assert_eq!((pacer.state().limit, pacer.requests.available_permits()), (MOST_REQUESTS, MOST_REQUESTS));
        pacer.throttled(Instant::now());
        assert_eq!((pacer.state().limit, pacer.requests.available_permits()), (16, 16));
    }

    #[tokio::test]
    async fn a_server_that_only_queues_gets_few() {
        let pacer = Pacer::new();
        for _ in 0..200 {
            let limit = pacer.state().limit;
            #[expect(clippy::cast_precision_loss, reason = "small")]
            answered(&pacer, limit as f64 * 0.001, limit).await;
        }
        let limit = pacer.state().limit;
        assert!((FIRST_REQUESTS..10).contains(&limit), "{limit}");
    }

    #[tokio::test]
    async fn one_crowd_halves_once_and_permits_in_use_are_owed() {
        let pacer = Pacer::new();
        let stop = CancellationToken::new();
        let mut permits = Vec::new();
        for _ in 0..FIRST_REQUESTS {
            permits.push(pacer.acquire(1.0, &stop, &stop).await.unwrap());
        }
        for permit in permits {
            permit.throttled();
        }
        assert_eq!(
            (pacer.state().limit, pacer.requests.available_permits()),
            (2, 2),
            "four answers of one crowd"
        );
        stop.cancel();
        assert!(pacer.acquire(1.0, &stop, &stop).await.is_none());
    }

    fn throttling() -> Failure {
        Failure::answered(400, "ThrottlingException", "slow down")
    }

    #[tokio::test]
    async fn patience_ends_without_progress_and_begins_anew_with_it() {
        let (pacer, stop, meter) = (Pacer::new(), CancellationToken::new(), Meter::default());
        let mut patience = Patience::new(Some(&pacer), Duration::ZERO, &stop, Some(&meter));
        assert!(matches!(patience.wait(throttling()).await, Err(Impatience::Failed(_))));
        let mut patience = Patience::new(Some(&pacer), Duration::from_secs(60), &stop, Some(&meter));
        patience.wait(throttling()).await.unwrap();
        patience.progressed();
        patience.wait(throttling()).await.unwrap();
        assert_eq!((meter.throttles(), meter.retries()), (3, 2));
        let refused = Failure::answered(400, "AccessDeniedException", "no");
        assert!(matches!(patience.wait(refused).await, Err(Impatience::Failed(_))), "time does not heal it");
        stop.cancel();
        assert!(matches!(patience.wait(throttling()).await, Err(Impatience::Stopped)));
    }

    #[tokio::test]
    async fn a_bounded_table_is_asked_for_what_it_takes() {
        let pacer = Pacer::new();
        let stop = CancellationToken::new();
        pacer.bounded(Some(100.0));
        let permit = pacer.acquire(130.0, &stop, &stop).await.unwrap();
        permit.used(130.0);
        pacer.bounded(Some(100.0));
        assert!(pacer.take(1.0).is_err(), "what was sent ahead is waited for, also by a later writer");
        stop.cancel();
        assert!(pacer.acquire(1.0, &stop, &stop).await.is_none(), "a run that stops does not wait for it");
        pacer.bounded(None);
        assert!(pacer.take(1e9).is_ok());
    }

    #[test]
    fn waits_grow_and_stay_apart() {
        assert_eq!(next_wait(SHORTEST_WAIT, 0.0), SHORTEST_WAIT);
        assert_eq!(next_wait(SHORTEST_WAIT, 1.0), SHORTEST_WAIT * 3);
        assert_eq!(next_wait(LONGEST_WAIT, 1.0), LONGEST_WAIT);
        assert!((0..100).map(|_| random()).any(|value| value > 0.5));
    }
}
