//! What the engine lends to a store while a run goes on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use whimbrel_model::{Capacity, FingerprintKey, RunId};

/// Lent to every writer of a run.
#[derive(Clone, Debug)]
pub struct RunContext {
    /// The run; names of slices are unique within it.
    pub run: RunId,
    /// Keys the fingerprints of this migration.
    pub fingerprint_key: FingerprintKey,
    /// How long one store may make no progress before the run stops, resumable.
    pub retry_for: Duration,
    /// Cancelled when the run is to stop: what is in flight is finished, waiting ends at once with
    /// [`crate::StoreErrorKind::Interrupted`].
    pub stop: CancellationToken,
    /// What the run shows while it goes on.
    pub meter: Arc<Meter>,
    /// Units that the run may still use.
    pub budget: Arc<UnitBudget>,
}

/// Capacity units that a run may use in all, reserved before a request is sent and settled after it, so that
/// the limit is never passed by what is on its way.
#[derive(Debug, Default)]
pub struct UnitBudget {
    limit: UnitLimit,
    taken: Mutex<Capacity>,
}

/// The most units that a run may use in all; `None`: as many as it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UnitLimit {
    /// Read units.
    pub read: Option<f64>,
    /// Write units.
    pub write: Option<f64>,
    /// What all units together may cost.
    pub cost: Option<CostLimit>,
}

/// The most that a run's units may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CostLimit {
    /// Dollars in all.
    pub usd: f64,
    /// Dollars for one read unit.
    pub usd_per_read_unit: f64,
    /// Dollars for one write unit.
    pub usd_per_write_unit: f64,
}

impl CostLimit {
    fn usd_of(&self, units: Capacity) -> f64 {
        units.read_units * self.usd_per_read_unit + units.write_units * self.usd_per_write_unit
    }
}

/// The budget does not hold what a request would use: the limit that it would pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetSpent {
    /// [`UnitLimit::read`].
    ReadUnits,
    /// [`UnitLimit::write`].
    WriteUnits,
    /// [`UnitLimit::cost`].
    Cost,
}

impl BudgetSpent {
    /// The limit's name in the spec.
    #[must_use]
    pub fn limit(self) -> &'static str {
        match self {
            Self::ReadUnits => "max_read_units",
            Self::WriteUnits => "max_write_units",
            Self::Cost => "max_cost_usd",
        }
    }

    /// What to do when the limit has paused a run.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::ReadUnits => "raise `limits: max_read_units`, then `resume --accept-spec`",
            Self::WriteUnits => "raise `limits: max_write_units`, then `resume --accept-spec`",
            Self::Cost => "go on with a higher limit: `resume --max-cost USD`",
        }
    }
}

impl UnitBudget {
    /// A budget of which some is used already, by earlier stretches of the run.
    #[must_use]
    pub fn new(limit: UnitLimit, used: Capacity) -> Self {
        Self { limit, taken: Mutex::new(used) }
    }

    /// Sets units aside for a request that is about to be sent.
    ///
    /// # Errors
    /// They would pass the limit: the run pauses.
    pub fn reserve(&self, estimate: Capacity) -> Result<(), BudgetSpent> {
        let mut taken = self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut after = *taken;
        after += estimate;
        let passes = |limit: Option<f64>, units: f64| limit.is_some_and(|limit| units > limit);
        if passes(self.limit.write, after.write_units) && estimate.write_units > 0.0 {
            return Err(BudgetSpent::WriteUnits);
        }
        if passes(self.limit.read, after.read_units) && estimate.read_units > 0.0 {
            return Err(BudgetSpent::ReadUnits);
        }
        // A sum of many small prices is not exact: a billionth of a dollar is no cost.
        let too_dear = |limit: CostLimit| limit.usd_of(after) > limit.usd + 1e-9;
        if self.limit.cost.is_some_and(|limit| too_dear(limit) && limit.usd_of(estimate) > 0.0) {
            return Err(BudgetSpent::Cost);
        }
        *taken = after;
        Ok(())
    }

    /// What is taken: used by earlier stretches of the run and by this one, and set aside for what is on its way.
    #[must_use]
    pub fn taken(&self) -> Capacity {
        *self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Puts what a request really used in the place of what was set aside for it. A request whose answer was
    /// lost is settled with its estimate.
    pub fn settle(&self, estimate: Capacity, used: Capacity) {
        let mut taken = self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        taken.read_units += used.read_units - estimate.read_units;
        taken.write_units += used.write_units - estimate.write_units;
    }
}

/// Live figures that stores add to and the progress display reads.
#[derive(Debug, Default)]
pub struct Meter {
    retries: AtomicU64,
    throttles: AtomicU64,
    answers: AtomicU64,
    capacity: Mutex<Capacity>,
    step: Mutex<Option<StepExtent>>,
}

/// How far a store is with what it does behind the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepExtent {
    /// What it does, in its own words.
    pub phase: String,
    /// How much of that is done, in a unit of the store's.
    pub done: u64,
    /// How much of it there is; 0 where the store does not say.
    pub all: u64,
}

impl StepExtent {
    /// The share of the phase that is done, 0 to 1, where the store says it.
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        (self.all > 0).then(|| self.done.min(self.all) as f64 / self.all as f64)
    }
}

impl Meter {
    /// A store is this far with what it does behind the load; `None`: it does nothing that it says more of.
    pub fn step_at(&self, extent: Option<StepExtent>) {
        *self.step.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = extent;
    }

    /// How far a store is with what it does behind the load, where it says so.
    pub fn step(&self) -> Option<StepExtent> {
        self.step.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// A request was sent again.
    pub fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A store asked for patience.
    pub fn throttled(&self) {
        self.throttles.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was answered, and used units.
    pub fn used(&self, capacity: Capacity) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        *self.capacity.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += capacity;
    }

    /// Requests sent again so far.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Answers that asked for patience so far.
    pub fn throttles(&self) -> u64 {
        self.throttles.load(Ordering::Relaxed)
    }

    /// Answers of metered stores so far, beside those that asked for patience.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Units used so far.
    pub fn capacity(&self) -> Capacity {
        *self.capacity.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(units: f64) -> Capacity {
        Capacity { write_units: units, ..Capacity::default() }
    }

    #[test]
    fn what_is_reserved_counts_until_it_is_settled() {
        let limit = UnitLimit { write: Some(10.0), ..UnitLimit::default() };
        let budget = UnitBudget::new(limit, writes(2.0));
        assert_eq!(budget.reserve(writes(8.0)), Ok(()));
        assert_eq!(budget.reserve(writes(1.0)), Err(BudgetSpent::WriteUnits));
        budget.settle(writes(8.0), writes(5.0));
        assert_eq!(budget.reserve(writes(3.0)), Ok(()));
        assert_eq!(budget.reserve(writes(0.5)), Err(BudgetSpent::WriteUnits));
        assert_eq!(budget.reserve(Capacity { read_units: 1e9, ..Capacity::default() }), Ok(()));
    }

    #[test]
    fn a_step_has_a_share_where_its_whole_is_known() {
        let of = |done, all| StepExtent { phase: "loading".to_owned(), done, all }.share();
        assert_eq!((of(3, 0), of(0, 4), of(3, 4), of(9, 4)), (None, Some(0.0), Some(0.75), Some(1.0)));
    }

    #[test]
    fn reads_and_writes_share_what_they_may_cost() {
        let cost = CostLimit { usd: 1.0, usd_per_read_unit: 0.01, usd_per_write_unit: 0.1 };
        let budget = UnitBudget::new(UnitLimit { cost: Some(cost), ..UnitLimit::default() }, writes(5.0));
        let reads = |units: f64| Capacity { read_units: units, ..Capacity::default() };
        assert_eq!(budget.reserve(reads(30.0)), Ok(()));
        assert_eq!(budget.reserve(writes(3.0)), Err(BudgetSpent::Cost));
        assert_eq!(budget.reserve(writes(2.0)), Ok(()), "the limit itself may be reached");
        assert_eq!(budget.reserve(reads(1.0)), Err(BudgetSpent::Cost));
        assert_eq!(budget.reserve(Capacity::default()), Ok(()), "what costs nothing goes on");
    }
}
