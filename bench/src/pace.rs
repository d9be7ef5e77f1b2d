//! As fast as so many of DynamoDB's partitions: each gives 3,000 read units a second and takes 1,000 write units.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Read units that a partition gives a second: each is 4 KB, or 8 KB where reads need not be consistent.
pub(crate) const READ_UNITS_PER_SECOND: u32 = 3_000;
/// Write units that a partition takes a second: each is 1 KB.
pub(crate) const WRITE_UNITS_PER_SECOND: u32 = 1_000;

/// When the next units may be used, and how long each delays what comes behind it.
pub(crate) struct Pace {
    next: Mutex<Instant>,
    a_unit: Duration,
}

impl Pace {
    pub(crate) fn new(units_per_second: u32) -> Self {
        Self { next: Mutex::new(Instant::now()), a_unit: Duration::from_secs(1) / units_per_second.max(1) }
    }

    /// When an answer that uses so many units may be given. Time in which nobody asked is lost.
    pub(crate) fn due(&self, units: f64) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = (*next).max(Instant::now()) + self.a_unit.mul_f64(units.max(0.0));
        *next
    }
}

/// Read units of so many bytes.
#[expect(clippy::cast_precision_loss, reason = "a page has a megabyte")]
pub(crate) fn read_units(bytes: u64, consistent: bool) -> f64 {
    let units = bytes.div_ceil(4_096) as f64;
    if consistent { units } else { units / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_used_at_the_pace() {
        let pace = Pace::new(2 * READ_UNITS_PER_SECOND);
        let (first, second) = (pace.due(256.0), pace.due(6_000.0));
        assert!((second - first).abs_diff(Duration::from_secs(1)) < Duration::from_millis(1));
    }

    #[test]
    fn a_consistent_read_costs_twice_as_much() {
        assert!((read_units(8_192, true) - 2.0).abs() < 1e-9);
        assert!((read_units(8_193, false) - 1.5).abs() < 1e-9);
    }
}
