//! How fast a run is now, and when it may end. No clock of its own: whoever looks says when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Samples are at least so far apart.
const EVERY: Duration = Duration::from_millis(900);
/// What is older is forgotten.
const REMEMBERED: Duration = Duration::from_secs(90);
/// The stretch that the present rate is taken over.
const RECENT: Duration = Duration::from_secs(10);
/// The stretches whose rates are compared for the range of an estimate.
const STRETCH: Duration = Duration::from_secs(5);
/// What happened in less time says nothing about a second.
const SHORTEST_S: f64 = 0.2;
/// Fewer stretches say nothing about the spread.
const FEWEST_STRETCHES: usize = 3;

/// What was moved up to a moment, in this process or before.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    records: u64,
    bytes: u64,
}

/// Samples of the last while.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    samples: VecDeque<Sample>,
    /// The last look, which need not have become a sample.
    last: Option<Sample>,
}

/// A rate over a recent stretch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Records a second.
    pub records_per_s: f64,
    /// Bytes a second.
    pub bytes_per_s: f64,
}

/// How long the rest may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLeft {
    /// At the fastest of the recent rates.
    pub least: Duration,
    /// At the slowest; `None` where the run stood still for a while.
    pub most: Option<Duration>,
}

impl Pace {
    /// Notes what was moved up to now. The first look is where this stretch of the run begins.
    pub fn look(&mut self, at: Instant, records: u64, bytes: u64) {
        let sample = Sample { at, records, bytes };
        self.last = Some(sample);
        if self.samples.back().is_some_and(|last| at.saturating_duration_since(last.at) < EVERY) {
            return;
        }
        self.samples.push_back(sample);
        while self.samples.front().is_some_and(|old| at.saturating_duration_since(old.at) > REMEMBERED) {
            self.samples.pop_front();
        }
    }

    /// The present rate; 0 before there is one.
    #[must_use]
    pub fn rate(&self) -> Rate {
        let Some(last) = self.last else { return Rate::default() };
        let begin = self.samples.iter().find(|old| last.at.saturating_duration_since(old.at) <= RECENT);
        begin.map_or_else(Rate::default, |begin| rate(begin, &last))
    }

    /// How long so many further records may take; `None` before there is a rate.
    #[must_use]
    pub fn time_left(&self, records: u64) -> Option<TimeLeft> {
        if records == 0 {
            return None;
        }
        let mut rates = self.stretches();
        if rates.len() < FEWEST_STRETCHES {
            rates = vec![self.rate().records_per_s];
        }
        rates.sort_by(f64::total_cmp);
        // The outermost tenths are left out: one pause of a garbage collector says nothing about an hour.
        let tenth = rates.len() / 10;
        let (slowest, fastest) = (rates.get(tenth)?, rates.get(rates.len() - 1 - tenth)?);
        let least = at_rate(records, *fastest)?;
        Some(TimeLeft { least, most: at_rate(records, *slowest) })
    }

    /// The rates of all stretches that end at a sample.
    fn stretches(&self) -> Vec<f64> {
        let ending = |end: &Sample| {
            let behind = |old: &&Sample| end.at.saturating_duration_since(old.at) >= STRETCH;
            self.samples.iter().rev().find(behind).map(|begin| rate(begin, end).records_per_s)
        };
        self.samples.iter().filter_map(ending).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(begin: &Sample, end: &Sample) -> Rate {
    let seconds = end.at.saturating_duration_since(begin.at).as_secs_f64();
    if seconds < SHORTEST_S {
        return Rate::default();
    }
    // A slice without cursors may begin anew: then less is moved than was.
    let per_s = |before: u64, now: u64| now.saturating_sub(before) as f64 / seconds;
    Rate { records_per_s: per_s(begin.records, end.records), bytes_per_s: per_s(begin.bytes, end.bytes) }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
fn at_rate(records: u64, per_s: f64) -> Option<Duration> {
    if per_s <= 0.0 { None } else { Duration::try_from_secs_f64(records as f64 / per_s).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that moves so many records in each second.
    fn pace(per_second: &[u64]) -> Pace {
        let (mut pace, began, mut moved) = (Pace::default(), Instant::now(), 1_000_000);
        pace.look(began, moved, moved * 10);
        for (second, records) in (1..).zip(per_second) {
            moved += records;
            pace.look(began + Duration::from_secs(second), moved, moved * 10);
        }
        pace
    }

    #[test]
    fn the_rate_is_of_the_last_seconds_and_of_this_stretch_alone() {
        assert_eq!(Pace::default().rate(), Rate::default());
        assert_eq!(pace(&[]).rate(), Rate::default());
        assert_eq!(pace(&[500]).rate(), Rate { records_per_s: 500.0, bytes_per_s: 5_000.0 });
        let mut seconds = vec![9_000; 30];
        seconds.extend([100; 10]);
        assert_eq!(pace(&seconds).rate().records_per_s, 100.0);
        seconds.extend([0; 10]);
        assert_eq!(pace(&seconds).rate().records_per_s, 0.0);
    }

    #[test]
    fn a_look_between_two_samples_counts_for_the_rate() {
        let (mut pace, began) = (Pace::default(), Instant::now());
        pace.look(began, 0, 0);
        pace.look(began + Duration::from_millis(500), 100, 0);
        assert_eq!(pace.rate().records_per_s, 200.0);
    }

    #[test]
    fn a_steady_run_has_one_end_and_an_unsteady_one_a_range() {
        let of = |least, most: Option<u64>| {
            Some(TimeLeft { least: Duration::from_secs(least), most: most.map(Duration::from_secs) })
        };
        assert_eq!(pace(&[100; 20]).time_left(6_000), of(60, Some(60)));
        let mut unsteady = vec![200; 20];
        unsteady.extend([100; 20]);
        assert_eq!(pace(&unsteady).time_left(6_000), of(30, Some(60)));
        unsteady.extend([0; 20]);
        assert_eq!(pace(&unsteady).time_left(6_000), of(30, None), "it stood still for a while");
        assert_eq!(pace(&[0; 60]).time_left(6_000), None);
        assert_eq!(pace(&[100; 20]).time_left(0), None);
        assert_eq!(Pace::default().time_left(10), None);
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let seconds: Vec<u64> = std::iter::repeat_n(10, 200).chain([1_000; 120]).collect();
        let pace = pace(&seconds);
        assert!(pace.samples.len() <= 92, "{}", pace.samples.len());
        assert_eq!(pace.time_left(1_000).map(|left| left.most), Some(Some(Duration::from_secs(1))));
    }
}
