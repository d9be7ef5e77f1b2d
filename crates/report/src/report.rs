//! A report as data: what a run or a verification came to. [`crate::collect`] makes it, three renderers show it.
//!
//! It is bounded: whatever a run rejected or a verification found, lists and values are cut here, and their full
//! numbers are kept beside them.

use serde::Serialize;
use whimbrel_model::{Capacity, ColumnFidelity, Counts, Stage};

/// A report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The migration.
    pub migration: String,
    /// The environment; `None` where the spec has none.
    pub environment: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// The exit code of the program, where it follows from the outcome.
    pub exit_code: Option<u8>,
    /// The outcome in a sentence or two.
    pub sentence: String,
    /// What to do next, a sentence each; commands in backquotes.
    pub next: Vec<String>,
    /// When the report was made: RFC 3339, UTC, like every time in it.
    pub written: String,
    /// The version of the whimbrel that made it.
    pub version: String,
    /// The spec.
    pub spec: SpecFacts,
    /// Where each store is; no secrets.
    pub stores: Vec<StoreFacts>,
    /// The run; `None` in the report of a verification alone.
    pub run: Option<RunFacts>,
    /// What was read back and compared.
    pub verification: Option<VerificationFacts>,
}

/// How a run or a verification alone ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every record arrived.
    Complete,
    /// The run came to its end, and not every record arrived.
    Incomplete,
    /// The run stopped before its end.
    Failed,
    /// The run was interrupted or reached a limit.
    Paused,
    /// The run is under way.
    Running,
    /// The run's process ended without a word.
    Killed,
    /// The run was set aside for a newer one.
    Abandoned,
    /// The run was undone: the targets are as they were before it.
    Undone,
    /// The run is undone in part.
    Undoing,
    /// A verification alone: source and target agree, and every assertion holds.
    Equal,
    /// A verification alone: they do not.
    Different,
}

/// How an outcome is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing is left to do.
    Good,
    /// Somebody should look.
    Warning,
    /// Something is wrong.
    Bad,
    /// Not over yet.
    Pending,
}

impl Outcome {
    /// For people, as a heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Complete => "Complete",
            Self::Incomplete => "Done, with rejects",
            Self::Failed => "Failed",
            Self::Paused => "Paused",
            Self::Running => "Running",
            Self::Killed => "Killed",
            Self::Abandoned => "Set aside",
            Self::Undone => "Undone",
            Self::Undoing => "Undone in part",
            Self::Equal => "Equal",
            Self::Different => "Different",
        }
    }

    /// How it is to be taken.
    #[must_use]
    pub fn tone(self) -> Tone {
        match self {
            Self::Complete | Self::Equal => Tone::Good,
            Self::Incomplete | Self::Abandoned | Self::Undone | Self::Undoing => Tone::Warning,
            Self::Failed | Self::Killed | Self::Different => Tone::Bad,
            Self::Paused | Self::Running => Tone::Pending,
        }
    }
}

/// The spec that was run.
#[derive(Clone, Debug, Serialize)]
pub struct SpecFacts {
    /// Its file.
    pub path: String,
    /// BLAKE3 of it and of the files that it names, in hexadecimal.
    pub digest: String,
}

/// A store.
#[derive(Clone, Debug, Serialize)]
pub struct StoreFacts {
    /// Its name in the spec.
    pub name: String,
    /// Where it is, without secrets.
    pub location: String,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct RunFacts {
    /// Its name.
    pub id: String,
    /// The run whose rejects it replayed.
    pub retry_of: Option<String>,
    /// When it began.
    pub started: String,
    /// When it ended; `None` while it runs or after it was killed.
    pub ended: Option<String>,
    /// From its beginning to its end, or until the report was made; pauses between stretches included.
    pub seconds: f64,
    /// How often it was resumed.
    pub resumes: u64,
    /// Slices complete.
    pub slices_done: u64,
    /// Slices in all.
    pub slices: u64,
    /// What only the process that ended it knows; `None` before that.
    pub process: Option<ProcessFacts>,
    /// Why it stopped, where it did.
    pub error: Option<String>,
    /// The sum of all flows.
    pub totals: Counts,
    /// Whether the count equation holds for every flow.
    pub balanced: bool,
    /// Arrived records as a share of those that should arrive; `None` where there were none.
    pub success_rate: Option<f64>,
    /// Each flow.
    pub flows: Vec<FlowFacts>,
    /// How fast it was.
    pub throughput: Throughput,
    /// What did not arrive.
    pub rejects: RejectFacts,
    /// Records that no flow took, by the pattern of their keys, the most frequent first.
    pub unmatched: Vec<PatternFacts>,
    /// Records that more than one flow took; each of them counts them.
    pub shared: u64,
    /// Units used, over resumes.
    pub capacity: Capacity,
    /// What it cost.
    pub cost: CostFacts,
    /// What undoing it came to; `None` where nobody has undone it.
    pub undone: Option<UndoneFacts>,
}

/// What undoing a run came to.
#[derive(Clone, Debug, Serialize)]
pub struct UndoneFacts {
    /// When it ended.
    pub ended: String,
    /// Table by table.
    pub tables: Vec<TableUndoneFacts>,
}

/// What undoing a run did to a table.
#[derive(Clone, Debug, Serialize)]
pub struct TableUndoneFacts {
    /// Its store.
    pub store: String,
    /// Its name.
    pub table: String,
    /// How: `remove` the table, `empty` it, `restore` its records, or `nothing`.
    pub way: String,
    /// Records that were written over or deleted, and are as they were.
    pub restored: u64,
    /// Records that were added, and are gone.
    pub removed: u64,
    /// Records that others have written since, and that stay.
    pub conflicts: u64,
    /// The keys of the first of them.
    pub conflicting: Vec<String>,
}

/// What the last stretch's process noted of itself.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessFacts {
    /// The version of whimbrel.
    pub version: String,
    /// How long the stretch took.
    pub seconds: f64,
    /// The most memory that it had, in bytes; 0 where the system does not tell.
    pub peak_memory_bytes: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Answers that asked for patience.
    pub throttles: u64,
}

/// A flow of a run.
#[derive(Clone, Debug, Serialize)]
pub struct FlowFacts {
    /// Its name.
    pub name: String,
    /// What became of its records.
    pub counts: Counts,
    /// Whether the count equation holds.
    pub balanced: bool,
    /// Records that were expected, where that was known.
    pub expected: Option<u64>,
    /// What it wrote into, as the run found it.
    pub target: Option<TargetFacts>,
    /// The sums of the fingerprints of what it wrote.
    pub fingerprints: FingerprintFacts,
    /// What became of the records that its source no longer has; `None` where it deletes none.
    pub deletions: Option<DeletionFacts>,
    /// What was known before the first record was read; `None` where the run kept no plan.
    pub plan: Option<FlowPlanFacts>,
}

/// What became of the records that a flow's source no longer has.
#[derive(Clone, Debug, Serialize)]
pub struct DeletionFacts {
    /// Deleted from the target.
    pub deleted: u64,
    /// Still there: changed by others after they were read, or refused by the store.
    pub left: u64,
    /// The first of those, each with its key and the reason.
    pub first_left: Vec<String>,
    /// Why nothing was deleted at all.
    pub nothing: Option<String>,
}

/// A flow's table, as it was when the run began.
#[derive(Clone, Debug, Serialize)]
pub struct TargetFacts {
    /// Its name.
    pub resource: String,
    /// Whether the run made it.
    pub made: bool,
    /// Whether it was empty.
    pub empty: bool,
}

/// What tells one content of a table from another, without telling the content.
#[derive(Clone, Debug, Serialize)]
pub struct FingerprintFacts {
    /// Records that are summed up.
    pub records: u64,
    /// BLAKE3, in hexadecimal, of the sums by bucket in their stored form. The fingerprints are keyed; the key is in
    /// the journal.
    pub digest: String,
}

/// A flow's plan.
#[derive(Clone, Debug, Serialize)]
pub struct FlowPlanFacts {
    /// What is read: store and relation.
    pub from: String,
    /// What is written: store and table.
    pub into: String,
    /// How: `insert`, `upsert`, …
    pub mode: String,
    /// The target's key columns.
    pub key: Vec<String>,
    /// Each column's journey.
    pub columns: Vec<ColumnFidelity>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// The statements or requests that make the table, where it was missing.
    pub ddl: Vec<String>,
}

/// How fast a run was.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Throughput {
    /// Records a second over the time in which it worked; `None` where that was too short to say.
    pub mean_per_s: Option<f64>,
    /// The fastest of the intervals that a chart shows.
    pub peak_per_s: Option<f64>,
    /// The time in which it worked, pauses between stretches left out.
    pub working_seconds: f64,
    /// Its stretches: the beginning, and one for each resume.
    pub stretches: Vec<StretchFacts>,
}

/// A stretch of a run by one process.
#[derive(Clone, Debug, Serialize)]
pub struct StretchFacts {
    /// When its first sample was taken.
    pub began: String,
    /// When its last sample was taken.
    pub ended: String,
    /// Milliseconds since 1970, records with an outcome, rejected ones, bytes; all but the first over the whole run
    /// so far.
    pub samples: Vec<(i64, u64, u64, u64)>,
}

/// What did not arrive.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RejectFacts {
    /// How many.
    pub count: u64,
    /// The file that holds them whole.
    pub file: Option<String>,
    /// The most frequent reasons.
    pub reasons: Vec<ReasonFacts>,
    /// Rejects for reasons that are not listed.
    pub other: u64,
    /// The first of each flow.
    pub samples: Vec<RejectSample>,
}

/// Rejects of one flow, stage and reason.
#[derive(Clone, Debug, Serialize)]
pub struct ReasonFacts {
    /// The flow.
    pub flow: String,
    /// Where they were refused.
    pub stage: Stage,
    /// Why the first of them was.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The key of the first.
    pub example: String,
}

/// A reject by name.
#[derive(Clone, Debug, Serialize)]
pub struct RejectSample {
    /// The flow.
    pub flow: String,
    /// Where it was refused.
    pub stage: Stage,
    /// Its key.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// Records whose keys have one pattern.
#[derive(Clone, Debug, Serialize)]
pub struct PatternFacts {
    /// The pattern.
    pub pattern: String,
    /// How many.
    pub records: u64,
}

/// Costs in dollars, at the prices of `prices`.
#[derive(Clone, Debug, Serialize)]
pub struct CostFacts {
    /// What a plan from a sample expected; `None` where none was made.
    pub planned: Option<PlannedCost>,
    /// What the units used cost, over resumes.
    pub actual_usd: f64,
    /// Whether it may be more: what was on its way when a process was killed is not counted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
    /// What all records that were expected cost at that rate; `None` where the number was not known.
    pub projected_usd: Option<f64>,
    /// Of which prices.
    pub prices: String,
}

/// What a plan expected.
#[derive(Clone, Copy, Debug, Serialize, serde::Deserialize)]
pub struct PlannedCost {
    /// Records.
    pub records: u64,
    /// Units.
    pub capacity: Capacity,
    /// Dollars.
    pub usd: f64,
    /// Seconds.
    pub seconds: f64,
}

/// What a verification found.
#[derive(Clone, Debug, Serialize)]
pub struct VerificationFacts {
    /// Whether source and target agree and every assertion holds.
    pub equal: bool,
    /// How closely was looked.
    pub depth: DepthFacts,
    /// When it ended.
    pub ended: String,
    /// How long it took.
    pub seconds: f64,
    /// Units that reading used.
    pub capacity: Capacity,
    /// Each flow that was compared.
    pub flows: Vec<ComparedFlow>,
    /// The spec's own assertions.
    pub assertions: Vec<AssertionFacts>,
    /// Records of the targets that belong to no flow, and should.
    pub others: u64,
    /// Records that differ, in all.
    pub difference_count: u64,
    /// The first of them.
    pub differences: Vec<DifferenceFacts>,
    /// The file that holds all of them.
    pub differences_file: Option<String>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// How closely a verification looked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DepthFacts {
    /// Only the spec's assertions.
    Assertions,
    /// Numbers of records.
    Count,
    /// Some records by key.
    Sample {
        /// How many.
        records: u64,
        /// What the choice follows from, in decimal digits: not every reader's numbers hold 64 bits.
        seed: String,
    },
    /// Every record.
    All,
}

/// What was found of a flow.
#[derive(Clone, Debug, Serialize)]
pub struct ComparedFlow {
    /// The flow.
    pub name: String,
    /// Records compared.
    pub compared: u64,
    /// The target should hold them and does not.
    pub missing: u64,
    /// The target holds them and should not.
    pub extra: u64,
    /// Other content.
    pub different: u64,
    /// Written before by others and left as they were; no difference.
    pub kept: u64,
    /// Cannot arrive, or were refused by the run; no difference.
    pub rejected: u64,
}

/// An assertion of the spec.
#[derive(Clone, Debug, Serialize)]
pub struct AssertionFacts {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What must hold.
    pub expected: String,
    /// What was measured.
    pub value: String,
    /// Examples of what does not hold.
    pub examples: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// A record that differs.
#[derive(Clone, Debug, Serialize)]
pub struct DifferenceFacts {
    /// The flow; `None`: the record belongs to none.
    pub flow: Option<String>,
    /// `missing`, `extra` or `different`.
    pub kind: String,
    /// Its key.
    pub key: String,
    /// `source_changed` or `target_changed` since the run, where that is known.
    pub since: Option<String>,
    /// The attributes that differ.
    pub attributes: Vec<AttributeFacts>,
}

/// An attribute that differs; values as JSON, a text as it is.
#[derive(Clone, Debug, Serialize)]
pub struct AttributeFacts {
    /// Its name.
    pub name: String,
    /// What it should be; `None`: it should not be there.
    pub source: Option<String>,
    /// What the target holds; `None`: it is not there.
    pub target: Option<String>,
}
