//! Units a second for a table whose capacity is bounded: a bucket that fills steadily and may be overdrawn by
//! one request, and that learns what the table really takes.

use std::time::{Duration, Instant};

/// How much faster with each second of full use, once the table has been throttled.
const GROWTH: f64 = 0.05;

/// The bucket of one table.
#[derive(Debug)]
pub(super) struct Rate {
    /// What the table is known to take: throttling never leads below half of it, since something else than
    /// this limit is then the cause.
    capacity: f64,
    per_second: f64,
    /// What may be sent at once; below zero, what has been sent ahead of time.
    units: f64,
    filled: Instant,
    /// Until the first throttling the rate doubles with every second that it is fully used: a table has
    /// saved up capacity, and a server on this machine knows no limits.
    throttled: bool,
}

impl Rate {
    pub(super) fn new(capacity: f64, now: Instant) -> Self {
        let capacity = capacity.max(1.0);
        Self { capacity, per_second: capacity, units: capacity, filled: now, throttled: false }
    }

    /// Whether this is the rate of a table with that capacity.
    pub(super) fn is_of(&self, capacity: f64) -> bool {
        (self.capacity - capacity.max(1.0)).abs() < f64::EPSILON
    }

    /// Takes units, or says how long it takes until there are some.
    pub(super) fn take(&mut self, units: f64, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.units = (self.units + passed * self.per_second).min(self.per_second);
        if self.units < 0.0 {
            // Somewhat longer than a moment, so that a rounded wait is not asked for again and again.
            return Err(Duration::from_secs_f64((-self.units / self.per_second).clamp(0.001, 60.0)));
        }
        self.units -= units;
        Ok(())
    }

    /// A request used other units than were taken for it.
    pub(super) fn settle(&mut self, taken: f64, used: f64) {
        self.units += taken - used;
        let growth = if self.throttled { GROWTH } else { 1.0 };
        self.per_second += used * growth;
    }

    /// The table asked for patience.
    pub(super) fn throttled(&mut self) {
        self.throttled = true;
        self.per_second = (self.per_second / 2.0).max(self.capacity / 2.0);
        self.units = self.units.min(0.0);
    }

    #[cfg(test)]
    pub(super) fn per_second(&self) -> f64 {
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends requests of 25 units for so many seconds; the units that got through in the last of them.
    fn run(rate: &mut Rate, from: Instant, seconds: u64, limit: f64) -> (f64, Instant) {
        let (mut now, end) = (from, from + Duration::from_secs(seconds));
        let (mut sent, mut window, mut second) = (0.0, 0.0, now);
        while now < end {
            // An answer takes its time.
            now += Duration::from_micros(500);
            if now >= second + Duration::from_secs(1) {
                (sent, window, second) = (window, 0.0, now);
            }
            match rate.take(25.0, now) {
                Ok(()) if window + 25.0 > limit => {
                    rate.settle(25.0, 0.0);
                    rate.throttled();
                }
                Ok(()) => {
                    window += 25.0;
                    rate.settle(25.0, 25.0);
                }
                Err(wait) => now += wait,
            }
        }
        (sent, now)
    }

    #[test]
    fn an_unbounded_table_is_soon_as_quick_as_it_can_be() {
        let now = Instant::now();
        let mut rate = Rate::new(5.0, now);
        run(&mut rate, now, 12, f64::INFINITY);
        assert!(rate.per_second() > 5000.0, "{}", rate.per_second());
    }

    #[test]
    fn a_bounded_table_gets_about_what_it_takes() {
        let now = Instant::now();
        let mut rate = Rate::new(500.0, now);
        let (sent, _) = run(&mut rate, now, 30, 800.0);
        assert!((250.0..=800.0).contains(&sent), "{sent}");
        (0..100).for_each(|_| rate.throttled());
        assert!(rate.per_second() >= 250.0, "never below half of what is provisioned");
    }

    #[test]
    fn a_large_request_is_sent_and_then_paid_for() {
        let now = Instant::now();
        let mut rate = Rate::new(5.0, now);
        rate.throttled();
        assert!(rate.take(25.0, now).is_ok());
        let wait = rate.take(1.0, now).unwrap_err();
        assert!((wait.as_secs_f64() - 10.0).abs() < 0.1, "{wait:?}: 25 units at half of 5 a second");
    }
}
