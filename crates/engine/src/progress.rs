//! What a display reads while a run goes on.

use crate::activity::Activity;
use crate::pace::{Pace, Rate, TimeLeft};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use whimbrel_model::{Counts, FlowName, SliceId};

/// The state of a run, kept up by the reporter. Nothing here decides anything.
#[derive(Debug, Default)]
pub struct Progress {
    flows: Mutex<BTreeMap<FlowName, FlowProgress>>,
    slices_done: AtomicU64,
    slices: AtomicU64,
    /// Records of all scans together, where known.
    expected: Mutex<Option<u64>>,
    steps: Mutex<Vec<String>>,
    activity: Arc<Activity>,
    pace: Mutex<Pace>,
}

/// How far a run is, as one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Extent {
    /// Records of the sources that are accounted for, over resumes.
    pub scanned: u64,
    /// How many there are in all, as far as can be said; never less than `scanned`.
    pub expected: Option<u64>,
    /// The share of the whole, 0 to 1; of the slices where the records are not known. 1 is only what is complete.
    pub share: Option<f64>,
}

#[derive(Debug, Default)]
struct FlowProgress {
    estimate: Option<u64>,
    slices: HashMap<SliceId, Counts>,
}

/// A flow at one moment.
#[derive(Clone, Debug)]
pub struct FlowSnapshot {
    /// The flow.
    pub flow: FlowName,
    /// Records expected, where known.
    pub estimate: Option<u64>,
    /// What became of the records so far, over resumes.
    pub counts: Counts,
}

impl Progress {
    /// Announces a flow.
    pub fn expect(&self, flow: &FlowName, estimate: Option<u64>) {
        self.lock().entry(flow.clone()).or_default().estimate = estimate;
    }

    /// Announces how many records all scans have together. Flows that share a scan do not know their parts of it.
    pub fn expect_records(&self, records: Option<u64>) {
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner) = records;
    }

    /// Records of all scans together, where known.
    pub fn expected_records(&self) -> Option<u64> {
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run comes to its next step, named for people.
    pub fn begin_step(&self, step: impl Into<String>) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step.into());
        self.activity.touch();
    }

    /// The steps that the run has come to, without the first `known` of them.
    pub fn steps_after(&self, known: usize) -> Vec<String> {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.get(known..).map(<[String]>::to_vec).unwrap_or_default()
    }

    /// Announces how many slices there are, and how many are done already.
    pub fn expect_slices(&self, slices: u64, done: u64) {
        self.slices.store(slices, Ordering::Relaxed);
        self.slices_done.store(done, Ordering::Relaxed);
    }

    /// A flow's counts in a slice are now these.
    pub fn set(&self, flow: &FlowName, slice: &SliceId, counts: &Counts) {
        self.lock().entry(flow.clone()).or_default().slices.insert(slice.clone(), *counts);
    }

    /// One more slice is complete.
    pub fn slice_done(&self) {
        self.slices_done.fetch_add(1, Ordering::Relaxed);
        self.activity.touch();
    }

    /// Slices complete, and in all.
    pub fn slices(&self) -> (u64, u64) {
        (self.slices_done.load(Ordering::Relaxed), self.slices.load(Ordering::Relaxed))
    }

    /// Every flow at this moment, by name.
    pub fn snapshot(&self) -> Vec<FlowSnapshot> {
        let flows = self.lock();
        let snapshot = |(flow, progress): (&FlowName, &FlowProgress)| FlowSnapshot {
            flow: flow.clone(),
            estimate: progress.estimate,
            counts: progress.slices.values().copied().sum(),
        };
        flows.iter().map(snapshot).collect()
    }

    /// The sum of all flows at this moment.
    pub fn totals(&self) -> Counts {
        self.lock().values().flat_map(|flow| flow.slices.values()).copied().sum()
    }

    /// What the slices are doing at this moment.
    pub fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// How far the run is.
    pub fn extent(&self) -> Extent {
        let (done, slices) = self.slices();
        extent(self.activity.scanned(), self.expected_records(), done, slices)
    }

    /// How fast the run is now, this process alone, and how long the rest may take. Who displays a run looks at
    /// least once a second, since what nobody looks at has no rate.
    pub fn pace(&self, now: Instant) -> (Rate, Option<TimeLeft>) {
        let moved = self.activity.moved();
        // Before the run knows what is done already, nothing can be said of this stretch.
        if self.slices().1 == 0 {
            return (Rate::default(), None);
        }
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.look(now, moved, self.totals().bytes);
        let Extent { scanned, expected, .. } = self.extent();
        let left = expected.map_or(0, |expected| expected - scanned);
        (pace.rate(), pace.time_left(left))
    }

    /// How long nothing has moved.
    pub fn idle(&self, now: Instant) -> Duration {
        self.activity.idle(now)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<FlowName, FlowProgress>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shares for people"
)]
fn extent(scanned: u64, expected: Option<u64>, done: u64, slices: u64) -> Extent {
    let by_slices = (slices > 0).then(|| done as f64 / slices as f64);
    let all_done = slices > 0 && done == slices;
    let expected = match expected {
        _ if all_done => Some(scanned),
        // The store knew of fewer records than there are: the slices that are left are as large as the others.
        Some(expected) if scanned >= expected => {
            let by_slices = by_slices.filter(|share| *share > 0.0);
            by_slices.map(|share| ((scanned as f64 / share) as u64).max(scanned))
        }
        expected => expected,
    };
    let by_records =
        expected.filter(|expected| *expected > 0).map(|expected| scanned as f64 / expected as f64);
    let share = if all_done { Some(1.0) } else { by_records.or(by_slices).map(|share| share.min(0.999)) };
    Extent { scanned, expected, share }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_the_whole_and_all_is_only_what_is_complete() {
        let of = |scanned, expected, done, slices| {
            let Extent { expected, share, .. } = extent(scanned, expected, done, slices);
            (expected, share)
        };
        assert_eq!(of(0, None, 0, 0), (None, None));
        assert_eq!(of(250, Some(1_000), 1, 10), (Some(1_000), Some(0.25)));
        assert_eq!(of(250, None, 1, 10), (None, Some(0.1)));
        assert_eq!(of(1_200, Some(1_000), 3, 10), (Some(4_000), Some(0.3)), "the store's estimate was low");
        assert_eq!(of(1_200, Some(1_000), 0, 10), (None, Some(0.0)));
        assert_eq!(of(999_999, Some(1_000_000), 9, 10).1, Some(0.999));
        assert_eq!(of(900, Some(1_000), 10, 10), (Some(900), Some(1.0)), "the store's estimate was high");
    }

    #[test]
    fn a_resumed_run_has_the_rate_of_this_stretch_and_the_share_of_the_whole() {
        use crate::activity::Reading::First;
        let (progress, began) = (Progress::default(), Instant::now());
        assert_eq!(progress.pace(began), (Rate::default(), None));
        progress.expect_records(Some(100_000));
        progress.activity().at(&SliceId::new("users.0000"), First, 60_000);
        progress.expect_slices(10, 5);
        assert_eq!(progress.pace(began).0, Rate::default());
        progress.activity().at(&SliceId::new("users.0001"), First, 2_000);
        let (rate, left) = progress.pace(began + Duration::from_secs(2));
        assert_eq!(rate.records_per_s, 1_000.0);
        let left = left.expect("there is a rate");
        assert_eq!((left.least.as_secs(), left.most.map(|most| most.as_secs())), (38, Some(38)));
        assert_eq!(progress.extent().share, Some(0.62));
    }
}
