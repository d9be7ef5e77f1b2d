//! How fast a run was, from its samples: over intervals of equal length, stretch by stretch.

use crate::collect::rounded;
use crate::figures::float;
use crate::report::{StretchFacts, Throughput};
use whimbrel_engine::journal::{Sample, Stretch};

/// Intervals of all stretches together, about.
const INTERVALS: f64 = 96.0;
/// The shortest interval that is told apart: samples are a second apart.
const SHORTEST_S: f64 = 1.0;
/// Below this a rate says nothing.
const FEWEST_SECONDS: f64 = 0.2;

/// The rate of a stretch over time.
#[derive(Clone, Debug, PartialEq)]
pub struct Course {
    /// How long the stretch was.
    pub seconds: f64,
    /// How long nothing worked before it; 0 before the first.
    pub pause_seconds: f64,
    /// Records a second in intervals of equal length.
    pub rates: Vec<f64>,
}

/// What the samples say of the run's speed.
#[must_use]
pub fn throughput(stretches: &[Stretch]) -> Throughput {
    let facts = stretches.iter().filter_map(|stretch| {
        let (first, last) = (stretch.samples.first()?, stretch.samples.last()?);
        Some(StretchFacts {
            began: crate::collect::time(first.at_ms),
            ended: crate::collect::time(last.at_ms),
            samples: stretch.samples.iter().map(|s| (s.at_ms, s.records, s.rejected, s.bytes)).collect(),
        })
    });
    let facts: Vec<StretchFacts> = facts.collect();
    let working_seconds: f64 = facts.iter().map(|stretch| length_s(&stretch.samples)).sum();
    let moved = |stretch: &Stretch| {
        let (first, last) = (stretch.samples.first(), stretch.samples.last());
        let records = |sample: Option<&Sample>| sample.map_or(0, |sample| sample.records);
        records(last).saturating_sub(records(first))
    };
    let records: u64 = stretches.iter().map(moved).sum();
    let long = working_seconds >= FEWEST_SECONDS;
    let mut throughput = Throughput {
        mean_per_s: long.then(|| rounded(float(records) / working_seconds)),
        peak_per_s: None,
        working_seconds: rounded(working_seconds),
        stretches: facts,
    };
    let rates = courses(&throughput).into_iter().flat_map(|course| course.rates);
    throughput.peak_per_s = rates.reduce(f64::max).filter(|_| long).map(rounded);
    throughput
}

/// The stretches that were long enough to have a rate, in order.
#[must_use]
pub fn courses(throughput: &Throughput) -> Vec<Course> {
    let mut courses = Vec::new();
    let mut ended_ms: Option<i64> = None;
    for stretch in &throughput.stretches {
        let (Some(first), Some(last)) = (stretch.samples.first(), stretch.samples.last()) else { continue };
        let seconds = length_s(&stretch.samples);
        if seconds < FEWEST_SECONDS {
            continue;
        }
        let pause_seconds = ended_ms.map_or(0.0, |ended| seconds_between(ended, first.0));
        ended_ms = Some(last.0);
        let wanted = (INTERVALS * seconds / throughput.working_seconds.max(seconds)).ceil();
        let intervals = wanted.min((seconds / SHORTEST_S).floor()).max(1.0);
        courses.push(Course { seconds, pause_seconds, rates: rates(&stretch.samples, seconds, intervals) });
    }
    courses
}

fn rates(samples: &[(i64, u64, u64, u64)], seconds: f64, intervals: f64) -> Vec<f64> {
    let width = seconds / intervals;
    let (mut rates, mut edge, mut before) = (Vec::new(), width, at(samples, 0.0));
    // Half an interval makes the last edge safe from rounding.
    while edge < seconds + width / 2.0 {
        let now = at(samples, edge).max(before);
        rates.push((now - before) / width);
        (edge, before) = (edge + width, now);
    }
    rates
}

/// Records so many seconds after the first sample, between two samples in proportion.
fn at(samples: &[(i64, u64, u64, u64)], after_s: f64) -> f64 {
    let Some(first) = samples.first() else { return 0.0 };
    let since = |sample: &(i64, u64, u64, u64)| seconds_between(first.0, sample.0);
    let next = samples.partition_point(|sample| since(sample) < after_s);
    let Some(behind) = samples.get(next) else { return samples.last().map_or(0.0, |last| float(last.1)) };
    let Some(ahead) = next.checked_sub(1).and_then(|index| samples.get(index)) else {
        return float(behind.1);
    };
    let span = (since(behind) - since(ahead)).max(0.001);
    float(ahead.1) + (float(behind.1) - float(ahead.1)) * (after_s - since(ahead)) / span
}

fn length_s(samples: &[(i64, u64, u64, u64)]) -> f64 {
    match (samples.first(), samples.last()) {
        (Some(first), Some(last)) => seconds_between(first.0, last.0),
        _ => 0.0,
    }
}

/// Seconds from one moment to a later one; a clock that was put back counts as none.
#[must_use]
pub fn seconds_between(from_ms: i64, until_ms: i64) -> f64 {
    float(u64::try_from(until_ms.saturating_sub(from_ms)).unwrap_or(0)) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(number: u64, began_ms: i64, records: &[u64]) -> Stretch {
        let sample = |(second, records): (i64, &u64)| Sample {
            at_ms: began_ms + second * 1_000,
            records: *records,
            ..Sample::default()
        };
        Stretch { number, samples: (0..).zip(records).map(sample).collect() }
    }

    #[test]
    fn pauses_do_not_make_a_run_slow() {
        let stretches = [stretch(0, 0, &[0, 100, 200]), stretch(1, 3_600_000, &[200, 500])];
        let found = throughput(&stretches);
        assert_eq!((found.mean_per_s, found.peak_per_s), (Some(166.666_667), Some(300.0)));
        assert_eq!(found.working_seconds, 3.0);
        let courses = courses(&found);
        assert_eq!(courses[0].rates, [100.0, 100.0]);
        assert_eq!((courses[1].pause_seconds, &*courses[1].rates), (3_598.0, &[300.0][..]));
    }

    #[test]
    fn long_runs_have_few_intervals_and_no_record_is_lost_in_them() {
        let records: Vec<u64> = (0..600).map(|second| second * second).collect();
        let found = throughput(&[stretch(0, 0, &records)]);
        let course = courses(&found).remove(0);
        assert_eq!(course.rates.len(), 96);
        let width = course.seconds / 96.0;
        let sum: f64 = course.rates.iter().map(|rate| rate * width).sum();
        assert!((sum - 599.0 * 599.0).abs() < 1.0, "{sum}");
    }

    #[test]
    fn what_is_too_short_has_no_rate() {
        let found = throughput(&[stretch(0, 0, &[5]), Stretch::default()]);
        assert_eq!((found.mean_per_s, found.peak_per_s), (None, None));
        assert_eq!(courses(&found), []);
        // A clock that was put back.
        let mut back = stretch(0, 10_000, &[0, 10]);
        back.samples[1].at_ms = 0;
        assert_eq!(throughput(&[back]).mean_per_s, None);
    }
}
