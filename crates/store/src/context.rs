//! What the engine lends to a store while a run goes on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use whimbrel_model::{Capacity, FingerprintKey};

/// Lent to every writer of a run.
#[derive(Clone, Debug)]
pub struct RunContext {
    /// Keys the fingerprints of this migration.
    pub fingerprint_key: FingerprintKey,
    /// How long one store may make no progress before the run stops, resumable.
    pub retry_for: Duration,
    /// Cancelled when the run is to stop: what is in flight is finished, waiting ends at once with
    /// [`crate::StoreErrorKind::Interrupted`].
    pub stop: CancellationToken,
    /// What the run shows while it goes on.
    pub meter: Arc<Meter>,
}

/// Live figures that stores add to and the progress display reads.
#[derive(Debug, Default)]
pub struct Meter {
    retries: AtomicU64,
    throttles: AtomicU64,
    capacity: Mutex<Capacity>,
}

impl Meter {
    /// A request was sent again.
    pub fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A store asked for patience.
    pub fn throttled(&self) {
        self.throttles.fetch_add(1, Ordering::Relaxed);
    }

    /// Units were used.
    pub fn used(&self, capacity: Capacity) {
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

    /// Units used so far.
    pub fn capacity(&self) -> Capacity {
        *self.capacity.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
