//! What a run did: what `--json` prints and what the run's folder keeps.

use crate::changed;
pub use crate::changed::Deletions;
pub use crate::costs::Cost;
use crate::error::{EngineError, Result};
use crate::journal::{Journal, RunKind, RunRecord, TargetRecord};
use crate::reasons::Reasons;
pub use crate::reasons::{RejectReason, RejectShown};
use crate::unaccounted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use whimbrel_model::{Capacity, Counts, FlowName, Reject, ScanTally};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every record arrived.
    Complete,
    /// The run came to its end, and some records were rejected.
    Incomplete,
    /// The run stopped; it can be resumed.
    Failed,
    /// The run was interrupted or reached a limit; it can be resumed.
    Paused,
}

impl RunOutcome {
    /// As the journal and JSON write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Paused => "paused",
        }
    }
}

/// The summary of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// The migration.
    pub migration: String,
    /// The run.
    pub run: String,
    /// How it ended.
    pub outcome: RunOutcome,
    /// The environment.
    pub environment: Option<String>,
    /// The sum of all flows.
    pub totals: Counts,
    /// Each flow.
    pub flows: BTreeMap<FlowName, Counts>,
    /// Records that no flow took, by the pattern of their keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unmatched: BTreeMap<String, u64>,
    /// Records that more than one flow took; each of them counts them.
    #[serde(default)]
    pub shared: u64,
    /// What became of the records that the source no longer has, of each flow with `delete_missing`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deletions: BTreeMap<FlowName, Deletions>,
    /// The records that did not arrive.
    pub rejects: RejectSummary,
    /// Units used, over resumes.
    pub capacity: Capacity,
    /// What the units cost.
    pub cost_usd: Cost,
    /// How long this stretch of the run took.
    pub seconds: f64,
    /// The most memory that this process had, in bytes; 0 where the system does not tell.
    pub peak_memory_bytes: u64,
    /// Where each store is.
    pub stores: BTreeMap<String, String>,
    /// Slices complete.
    pub slices_done: u64,
    /// Slices in all.
    pub slices: u64,
    /// How often the run was resumed.
    pub resumes: u64,
    /// Requests sent again in this stretch.
    pub retries: u64,
    /// Answers that asked for patience in this stretch.
    pub throttles: u64,
    /// The digest of the spec and the files that it names.
    pub spec_digest: String,
    /// The version of whimbrel.
    pub version: String,
    /// Why it stopped, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The rejects of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RejectSummary {
    /// How many.
    pub count: u64,
    /// The file that holds them whole.
    pub file: Option<String>,
    /// The most frequent reasons, with one record each as an example.
    #[serde(default)]
    pub reasons: Vec<RejectReason>,
    /// The first rejects of each flow.
    #[serde(default)]
    pub first: BTreeMap<FlowName, Vec<RejectShown>>,
}

/// How many reasons a summary holds.
const REASONS: usize = 20;
/// How many rejects of each flow a summary names.
const FIRST_REJECTS: usize = 10;

/// The counts of each flow of a run, and how many of its slices are done.
pub(crate) struct Tally {
    pub flows: BTreeMap<FlowName, Counts>,
    /// The units of each flow; those of reading are with the first flow of its scan.
    pub units: BTreeMap<FlowName, Capacity>,
    pub capacity: Capacity,
    /// Units of `capacity` that no flow has: their batches were broken off.
    pub unaccounted: Capacity,
    pub scan: ScanTally,
    pub slices_done: u64,
    pub slices: u64,
}

impl Tally {
    /// Adds up what the journal holds.
    pub(crate) fn of(journal: &Journal, run: &RunRecord) -> Result<Self> {
        let slices = journal.slices(&run.id)?;
        let targets = journal.targets(&run.id)?;
        let mut flows: BTreeMap<_, _> =
            targets.into_iter().map(|target| (target.flow, Counts::default())).collect();
        let mut units: BTreeMap<FlowName, Capacity> = BTreeMap::new();
        let mut capacity = Capacity::default();
        let mut scan = ScanTally::default();
        for (flow, checkpoint) in slices.iter().flat_map(|slice| &slice.checkpoints) {
            *flows.entry(flow.clone()).or_default() += checkpoint.counts;
            *units.entry(flow.clone()).or_default() += checkpoint.capacity;
            capacity += checkpoint.capacity;
            scan.merge(&checkpoint.scan);
        }
        for (flow, correction) in journal.corrections(&run.id)? {
            let counts = flows.entry(flow).or_default();
            let created = correction.records.min(counts.created);
            counts.created -= created;
            counts.updated = counts.updated.saturating_sub(correction.records - created);
            counts.rejected += correction.records;
        }
        for (flow, beside) in changed::beside(&journal.run_folder(&run.id))? {
            *units.entry(flow).or_default() += beside.capacity;
            capacity += beside.capacity;
        }
        let unaccounted = unaccounted::read(&journal.run_folder(&run.id))?;
        capacity += unaccounted;
        let done = slices.iter().filter(|slice| slice.done).count();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Ok(Self {
            flows,
            units,
            capacity,
            unaccounted,
            scan,
            slices_done: count(done),
            slices: count(slices.len()),
        })
    }
}

impl Tally {
    /// Counts what was `taken` and no checkpoint has, and keeps it in the run's folder.
    pub(crate) fn keep_unaccounted(&mut self, run_folder: &Path, taken: Capacity) -> Result<()> {
        let mut accounted = self.capacity;
        accounted.read_units -= self.unaccounted.read_units;
        accounted.write_units -= self.unaccounted.write_units;
        self.unaccounted = unaccounted::keep(run_folder, taken, accounted)?;
        self.capacity = accounted;
        self.capacity += self.unaccounted;
        Ok(())
    }
}

/// The counts of each flow of a run so far, what steps behind the load took back included.
///
/// # Errors
/// The journal fails.
pub fn counts(journal: &Journal, run: &RunRecord) -> Result<BTreeMap<FlowName, Counts>> {
    Ok(Tally::of(journal, run)?.flows)
}

/// What a flow's target should hold after a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Records that arrived, the runs whose rejects were replayed included.
    pub arrived: u64,
    /// Whether the table held nothing when the first of these runs began: what is more than arrived is then
    /// somebody else's doing.
    pub fresh: bool,
}

/// What the targets of a run's flows should hold.
///
/// # Errors
/// The journal fails.
pub fn expected(journal: &Journal, run: &RunRecord) -> Result<BTreeMap<FlowName, Expected>> {
    let mut expected: BTreeMap<FlowName, Expected> = match &run.kind {
        RunKind::Run => {
            let targets = journal.targets(&run.id)?.into_iter();
            let fresh = |target: TargetRecord| Expected { arrived: 0, fresh: target.made || target.empty };
            targets.map(|target| (target.flow.clone(), fresh(target))).collect()
        }
        RunKind::Retry { parent } => {
            let parents = journal.find(parent.as_str())?;
            let parent = parents.first().ok_or_else(|| EngineError::no_run(parent.as_str()))?;
            expected(journal, parent)?
        }
    };
    for (flow, counts) in Tally::of(journal, run)?.flows {
        expected.entry(flow).or_default().arrived += counts.arrived();
    }
    Ok(expected)
}

impl RejectSummary {
    /// Reads a run's gathered rejects; numbers in reasons are left out when they are told apart.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(file: Option<&Path>) -> Result<Self> {
        let Some(path) = file else { return Ok(Self::default()) };
        let failed = |source| EngineError::file("read", path, source);
        let mut summary = Self { file: Some(path.display().to_string()), ..Self::default() };
        let mut reasons = Reasons::default();
        for line in std::io::BufReader::new(std::fs::File::open(path).map_err(failed)?).lines() {
            let line = line.map_err(failed)?;
            let reject: Reject = serde_json::from_str(&line)
                .map_err(|error| EngineError::Internal(format!("{}: {error}", path.display())))?;
            summary.count += 1;
            reasons.add(&reject);
            let first = summary.first.entry(reject.flow.clone()).or_default();
            if first.len() < FIRST_REJECTS {
                first.push(reject.into());
            }
        }
        summary.reasons = reasons.most_frequent(REASONS);
        Ok(summary)
    }
}

impl Summary {
    /// The summary that lies in a run's folder.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn read(run_folder: &Path) -> Result<Self> {
        let path = run_folder.join("summary.json");
        let read = || -> std::io::Result<Self> { Ok(serde_json::from_slice(&std::fs::read(&path)?)?) };
        read().map_err(|source| EngineError::file("read", &path, source))
    }

    /// Writes `summary.json` into the run's folder, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn store(&self, run_folder: &Path) -> Result<()> {
        let path = run_folder.join("summary.json");
        let draft = run_folder.join("summary.json.part");
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| EngineError::Internal(error.to_string()))?;
        let write = || {
            std::fs::create_dir_all(run_folder)?;
            std::fs::write(&draft, text)?;
            std::fs::rename(&draft, &path)
        };
        write().map_err(|source| EngineError::file("write", &path, source))
    }
}
