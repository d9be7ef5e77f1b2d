//! What a display reads while a run goes on.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
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

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<FlowName, FlowProgress>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
