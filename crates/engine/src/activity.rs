//! What the slices of a run are doing at this moment. Kept for those who watch; nothing here decides anything.

use crate::latency::Latency;
use crate::memory;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use whimbrel_model::{Capacity, FlowName, SliceId, StoreName};

/// What the engine may take beyond what it had when the records began to move and beyond the byte budget:
/// encoded requests, connections' buffers, what the allocator keeps.
const ALLOWANCE_BYTES: u64 = 160 * 1024 * 1024;

/// What a slice waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    /// The source's next batch.
    Reading(StoreName),
    /// A share of the byte budget.
    Memory,
    /// Checks, transform and claims of keys.
    Transforming,
    /// The target's answer.
    Writing(StoreName),
    /// The journal's disk.
    Journal,
    /// The end of a pause before a store that failed is asked again.
    Pausing(StoreName),
}

impl Doing {
    /// In one word, for programs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Reading(_) => "reading",
            Self::Memory => "memory",
            Self::Transforming => "transforming",
            Self::Writing(_) => "writing",
            Self::Journal => "journal",
            Self::Pausing(_) => "pausing",
        }
    }
}

/// Where a batch is between its source and its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Read, and no task has taken it.
    Queued,
    /// In checks and transform.
    Transforming,
    /// Ready, behind others of its slice that are written in order.
    Ready,
    /// On its way to the target.
    Writing,
    /// Written, behind others of its slice that are not.
    Settled,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Transforming, Self::Ready, Self::Writing, Self::Settled];

    /// In one word, for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Transforming => "transforming",
            Self::Ready => "ready",
            Self::Writing => "writing",
            Self::Settled => "settled",
        }
    }
}

/// The slices at work, and what went through them in this process.
#[derive(Debug, Default)]
pub struct Activity {
    running: Mutex<Vec<Weak<Running>>>,
    /// Records of each slice that are accounted for, over resumes.
    positions: Mutex<HashMap<SliceId, Place>>,
    batches: [AtomicU64; Stage::ALL.len()],
    bytes_read: AtomicU64,
    units: Mutex<BTreeMap<StoreName, Capacity>>,
    slice_latency: Latency,
    write_latency: Mutex<BTreeMap<StoreName, Arc<Latency>>>,
    lent: OnceLock<Lent>,
    changed: Mutex<Option<Instant>>,
}

/// Where a slice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    records: u64,
    reading: Reading,
}

/// Whether a slice's records are read for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// They come from the source.
    First,
    /// They had to wait for other flows, and are read from the file where they waited.
    Again,
}

/// The byte budget of a run.
#[derive(Debug)]
struct Lent {
    memory: Arc<Semaphore>,
    permits: u32,
    /// What the process had resident when it began.
    own_bytes: u64,
}

/// A slice at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceSnapshot {
    /// The slice.
    pub slice: SliceId,
    /// How long it has been worked on in this process.
    pub age: Duration,
    /// Its records that are accounted for, over resumes.
    pub records: u64,
    /// What it has waited for longest, and for how long; `None` between two things.
    pub doing: Option<(Doing, Duration)>,
}

/// The byte budget at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetSnapshot {
    /// Taken by batches in memory.
    pub taken: u64,
    /// In all.
    pub all: u64,
    /// What the whole process should not exceed: its memory when the records began to move, the budget, and an
    /// allowance.
    pub expected: u64,
}

impl Activity {
    /// A slice is about to be worked on, read from this store; `targets` says where each flow writes.
    pub fn begin(
        self: &Arc<Self>,
        slice: &SliceId,
        reading: Reading,
        source: &StoreName,
        targets: BTreeMap<FlowName, StoreName>,
    ) -> Arc<Running> {
        let running = Arc::new(Running {
            activity: Arc::clone(self),
            slice: slice.clone(),
            reading,
            source: source.clone(),
            targets,
            began: Instant::now(),
            doing: Mutex::default(),
            number: AtomicU64::new(0),
        });
        let mut all = lock(&self.running);
        all.retain(|other| other.strong_count() > 0);
        all.push(Arc::downgrade(&running));
        drop(all);
        self.touch();
        running
    }

    /// A slice has come to this record, counted from its beginning.
    pub fn at(&self, slice: &SliceId, reading: Reading, position: u64) {
        let place = Place { records: position, reading };
        let before = lock(&self.positions).insert(slice.clone(), place);
        if before != Some(place) {
            self.touch();
        }
    }

    /// Readers take permits of 1 KiB from this budget.
    pub fn lend(&self, memory: &Arc<Semaphore>, permits: u32) {
        let own_bytes = memory::resident_bytes();
        let _ = self.lent.set(Lent { memory: Arc::clone(memory), permits, own_bytes });
    }

    /// Something has moved.
    pub(crate) fn touch(&self) {
        *lock(&self.changed) = Some(Instant::now());
    }

    /// How long nothing has moved. The first look begins the count.
    pub fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*lock(&self.changed).get_or_insert(now))
    }

    /// The slices at work, the oldest first.
    pub fn slices(&self, now: Instant) -> Vec<SliceSnapshot> {
        let running: Vec<_> = lock(&self.running).iter().filter_map(Weak::upgrade).collect();
        let positions = lock(&self.positions);
        let snapshot = |running: &Arc<Running>| SliceSnapshot {
            slice: running.slice.clone(),
            age: now.saturating_duration_since(running.began),
            records: positions.get(&running.slice).map_or(0, |place| place.records),
            doing: running.longest(now),
        };
        let mut slices: Vec<_> = running.iter().map(snapshot).collect();
        slices.sort_by(|one, other| other.age.cmp(&one.age).then_with(|| one.slice.cmp(&other.slice)));
        slices
    }

    /// What some slice has waited for longest.
    pub fn longest(&self, now: Instant) -> Option<(Doing, Duration)> {
        self.slices(now).into_iter().filter_map(|slice| slice.doing).max_by_key(|(_, since)| *since)
    }

    /// Records of all slices that are accounted for, over resumes; those that had to wait count twice.
    pub fn moved(&self) -> u64 {
        lock(&self.positions).values().map(|place| place.records).sum()
    }

    /// Records of the sources that are accounted for, over resumes, whatever the flows took of them.
    pub fn scanned(&self) -> u64 {
        let positions = lock(&self.positions);
        positions.values().filter(|place| place.reading == Reading::First).map(|place| place.records).sum()
    }

    /// Batches at a stage.
    pub fn batches(&self, stage: Stage) -> u64 {
        self.batches[stage as usize].load(Ordering::Relaxed)
    }

    /// Bytes read in this process, in the sources' own measure.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Units used in this process by what is accounted for, by store.
    pub fn units(&self) -> BTreeMap<StoreName, Capacity> {
        lock(&self.units).clone()
    }

    /// How long slices took that were completed in this process.
    pub fn slice_latency(&self) -> &Latency {
        &self.slice_latency
    }

    /// How long writing a batch took, by store.
    pub fn write_latency(&self) -> BTreeMap<StoreName, Arc<Latency>> {
        lock(&self.write_latency).clone()
    }

    /// The byte budget; `None` before records move.
    pub fn budget(&self) -> Option<BudgetSnapshot> {
        let lent = self.lent.get()?;
        let free = u64::try_from(lent.memory.available_permits()).unwrap_or(u64::MAX);
        let (permits, kib) = (u64::from(lent.permits), 1024);
        Some(BudgetSnapshot {
            taken: permits.saturating_sub(free) * kib,
            all: permits * kib,
            expected: lent.own_bytes + permits * kib + ALLOWANCE_BYTES,
        })
    }
}

/// A slice at work. It is shown until nobody holds it any more.
#[derive(Debug)]
pub struct Running {
    activity: Arc<Activity>,
    slice: SliceId,
    reading: Reading,
    source: StoreName,
    targets: BTreeMap<FlowName, StoreName>,
    began: Instant,
    doing: Mutex<Vec<(u64, Doing, Instant)>>,
    number: AtomicU64,
}

impl Running {
    /// The slice waits for this until the answer is dropped.
    pub fn waits(self: &Arc<Self>, doing: Doing) -> Waiting {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let since = Instant::now();
        lock(&self.doing).push((number, doing, since));
        Waiting { running: Arc::clone(self), number, since }
    }

    /// The slice waits for its source.
    pub fn reads(self: &Arc<Self>) -> Waiting {
        self.waits(Doing::Reading(self.source.clone()))
    }

    /// The slice waits until a store that failed is asked again.
    pub fn pauses(self: &Arc<Self>, store: &StoreName) -> Waiting {
        self.waits(Doing::Pausing(store.clone()))
    }

    /// The slice waits for a flow's target.
    pub fn writes(self: &Arc<Self>, flow: &FlowName) -> Writing {
        let store = self.targets.get(flow).cloned().unwrap_or_else(|| StoreName::new(flow.as_str()));
        Writing { waiting: self.waits(Doing::Writing(store.clone())), store }
    }

    /// A batch was read.
    pub fn batch(&self, bytes: u64) -> BatchPlace {
        self.activity.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        BatchPlace::new(Arc::clone(&self.activity))
    }

    /// Reading used units.
    pub fn reading_used(&self, used: Capacity) {
        self.used(&self.source, used);
    }

    /// Writing a flow's records used units.
    pub fn writing_used(&self, flow: &FlowName, used: Capacity) {
        if let Some(store) = self.targets.get(flow) {
            self.used(store, used);
        }
    }

    /// The slice has come to this record.
    pub fn at(&self, position: u64) {
        self.activity.at(&self.slice, self.reading, position);
    }

    /// The slice is complete.
    pub fn complete(&self) {
        self.activity.slice_latency.observe(self.began.elapsed());
        self.activity.touch();
    }

    fn used(&self, store: &StoreName, used: Capacity) {
        if used != Capacity::default() {
            *lock(&self.activity.units).entry(store.clone()).or_default() += used;
        }
    }

    fn longest(&self, now: Instant) -> Option<(Doing, Duration)> {
        let doing = lock(&self.doing);
        let (_, what, since) = doing.iter().min_by_key(|(_, _, since)| *since)?;
        Some((what.clone(), now.saturating_duration_since(*since)))
    }
}

/// A slice waits for something until this is dropped.
#[derive(Debug)]
pub struct Waiting {
    running: Arc<Running>,
    number: u64,
    since: Instant,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.running.doing).retain(|(number, ..)| *number != self.number);
    }
}

/// A slice waits for a target until this is dropped.
#[derive(Debug)]
pub struct Writing {
    waiting: Waiting,
    store: StoreName,
}

impl Writing {
    /// The target has taken a batch.
    pub fn written(self) {
        let latencies = &self.waiting.running.activity.write_latency;
        let latency = Arc::clone(lock(latencies).entry(self.store.clone()).or_default());
        latency.observe(self.waiting.since.elapsed());
    }
}

/// A batch in memory, counted at its stage until it is dropped.
#[derive(Debug)]
pub struct BatchPlace {
    activity: Arc<Activity>,
    stage: Mutex<Stage>,
}

impl BatchPlace {
    fn new(activity: Arc<Activity>) -> Self {
        activity.batches[Stage::Queued as usize].fetch_add(1, Ordering::Relaxed);
        Self { activity, stage: Mutex::new(Stage::Queued) }
    }

    /// The batch is at this stage now.
    pub fn to(&self, stage: Stage) {
        let mut present = lock(&self.stage);
        self.activity.batches[stage as usize].fetch_add(1, Ordering::Relaxed);
        self.activity.batches[*present as usize].fetch_sub(1, Ordering::Relaxed);
        *present = stage;
    }
}

impl Drop for BatchPlace {
    fn drop(&mut self) {
        self.activity.batches[*lock(&self.stage) as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(activity: &Arc<Activity>, slice: &str) -> Arc<Running> {
        let targets = BTreeMap::from([(FlowName::new("users"), StoreName::new("main"))]);
        activity.begin(&SliceId::new(slice), Reading::First, &StoreName::new("app"), targets)
    }

    #[test]
    fn a_slice_waits_for_what_has_lasted_longest() {
        let activity = Arc::new(Activity::default());
        let running = begun(&activity, "users.0000");
        let now = || Instant::now() + Duration::from_secs(5);
        assert_eq!(activity.slices(now())[0].doing, None);
        let writing = running.writes(&FlowName::new("users"));
        let reading = running.reads();
        let longest = |expected: Doing| {
            let (doing, since) = activity.longest(now()).expect("something is waited for");
            assert_eq!(doing, expected);
            assert!(since >= Duration::from_secs(5), "{since:?}");
        };
        longest(Doing::Writing(StoreName::new("main")));
        writing.written();
        longest(Doing::Reading(StoreName::new("app")));
        drop(reading);
        assert_eq!(activity.longest(now()), None);
        assert_eq!(activity.write_latency()[&StoreName::new("main")].snapshot().count, 1);
        drop(running);
        assert_eq!(activity.slices(now()), []);
    }

    #[test]
    fn a_batch_is_counted_at_one_stage_until_it_is_gone() {
        let activity = Arc::new(Activity::default());
        let running = begun(&activity, "users.0000");
        let (one, other) = (running.batch(1_000), running.batch(24));
        one.to(Stage::Transforming);
        one.to(Stage::Writing);
        one.to(Stage::Writing);
        let counts = || Stage::ALL.map(|stage| activity.batches(stage));
        assert_eq!((counts(), activity.bytes_read()), ([1, 0, 0, 1, 0], 1_024));
        drop((one, other));
        assert_eq!(counts(), [0; 5]);
    }

    #[test]
    fn units_are_of_the_store_that_used_them() {
        let activity = Arc::new(Activity::default());
        let running = begun(&activity, "users.0000");
        running.reading_used(Capacity { read_units: 2.5, ..Capacity::default() });
        running.writing_used(&FlowName::new("users"), Capacity { write_units: 4.0, ..Capacity::default() });
        running.reading_used(Capacity { read_units: 0.5, ..Capacity::default() });
        let units = activity.units();
        assert_eq!(units[&StoreName::new("app")], Capacity { read_units: 3.0, ..Capacity::default() });
        assert_eq!(units[&StoreName::new("main")], Capacity { write_units: 4.0, ..Capacity::default() });
    }

    #[test]
    fn idle_is_what_has_not_moved() {
        let activity = Arc::new(Activity::default());
        let began = Instant::now();
        assert_eq!(activity.idle(began), Duration::ZERO);
        assert_eq!(activity.idle(began + Duration::from_secs(3)), Duration::from_secs(3));
        let slice = SliceId::new("users.0000");
        activity.at(&slice, Reading::First, 10);
        activity.at(&SliceId::new("posts.0000"), Reading::Again, 5);
        let moved = Instant::now();
        assert!(activity.idle(moved + Duration::from_secs(3)) >= Duration::from_secs(3));
        assert!(activity.idle(moved) < Duration::from_secs(3));
        assert_eq!((activity.scanned(), activity.moved()), (10, 15));
    }

    #[test]
    fn the_budget_is_what_batches_hold() {
        let activity = Activity::default();
        assert_eq!(activity.budget(), None);
        let memory = Arc::new(Semaphore::new(64));
        activity.lend(&memory, 64);
        let _taken = memory.try_acquire_many(16).expect("there is enough");
        let budget = activity.budget().expect("it was lent");
        assert_eq!((budget.taken, budget.all), (16 * 1024, 64 * 1024));
        assert!(budget.expected > ALLOWANCE_BYTES + budget.all);
    }
}
