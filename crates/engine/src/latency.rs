//! How long things took, in buckets.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The buckets' upper bounds, in seconds: from one request to a slice of an hour.
pub const BOUNDS_S: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0];

/// Durations by bucket.
#[derive(Debug, Default)]
pub struct Latency(Mutex<LatencySnapshot>);

/// What was observed so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencySnapshot {
    /// How many durations are in each bucket alone, not in those below it; the last holds what is above all bounds.
    pub buckets: [u64; BOUNDS_S.len() + 1],
    /// How many.
    pub count: u64,
    /// Their sum, in seconds.
    pub sum_s: f64,
}

impl Latency {
    /// Something took so long.
    pub fn observe(&self, took: Duration) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let took_s = took.as_secs_f64();
        seen.buckets[BOUNDS_S.partition_point(|bound| *bound < took_s)] += 1;
        seen.count += 1;
        seen.sum_s += took_s;
    }

    /// What was observed so far.
    pub fn snapshot(&self) -> LatencySnapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_bucket_that_it_does_not_exceed() {
        let latency = Latency::default();
        for ms in [1, 5, 6, 1_000, 4_000_000] {
            latency.observe(Duration::from_millis(ms));
        }
        let seen = latency.snapshot();
        assert_eq!((seen.buckets[0], seen.buckets[1], seen.buckets[7], seen.buckets[15]), (2, 1, 1, 1));
        assert_eq!((seen.count, seen.buckets.iter().sum::<u64>()), (5, 5));
        assert!((seen.sum_s - 4001.012).abs() < 1e-9, "{}", seen.sum_s);
    }
}
