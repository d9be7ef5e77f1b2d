//! What a verification found: what `verify --json` prints, a run's folder keeps and a report shows.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use whimbrel_engine::journal::now_ms;
use whimbrel_model::{Capacity, FlowName};

/// What a verification found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verification {
    /// Whether anything differs, or an assertion does not hold.
    pub outcome: Outcome,
    /// How closely was looked.
    pub depth: Depth,
    /// Each flow that was compared.
    pub flows: BTreeMap<FlowName, FlowVerification>,
    /// Records of the targets that belong to no flow; differences, where every flow is compared.
    #[serde(default)]
    pub others: u64,
    /// The spec's own assertions.
    pub assertions: Vec<Assertion>,
    /// The first differences, of each flow and kind some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// How many more there are, which only the file of all differences names.
    #[serde(default)]
    pub unlisted: u64,
    /// Records that were written again, before what is said here was found.
    #[serde(default)]
    pub repaired: u64,
    /// The file that holds every difference, one JSON object a line; `None` where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differences_file: Option<String>,
    /// What a person should know: what was not compared, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// How long it took.
    pub seconds: f64,
    /// Units that reading used.
    pub capacity: Capacity,
    /// When it ended, in milliseconds since 1970-01-01 UTC.
    pub ended_ms: i64,
}

impl Verification {
    /// A verification without a comparison: nothing differs, nothing was compared.
    #[must_use]
    pub fn of_assertions() -> Self {
        Self {
            outcome: Outcome::Equal,
            depth: Depth::Assertions,
            flows: BTreeMap::new(),
            others: 0,
            assertions: Vec::new(),
            differences: Vec::new(),
            unlisted: 0,
            repaired: 0,
            differences_file: None,
            notes: Vec::new(),
            seconds: 0.0,
            capacity: Capacity::default(),
            ended_ms: now_ms(),
        }
    }
}

/// Whether source and target agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// They agree.
    Equal,
    /// They do not.
    Different,
}

/// How closely a verification looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Only the spec's assertions.
    Assertions,
    /// Numbers of records.
    Count,
    /// So many records by key, chosen by the seed.
    Sample {
        /// Records.
        records: u64,
        /// What the choice follows from: the same seed chooses the same records.
        seed: u64,
    },
    /// Every record.
    All,
}

/// What was found of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowVerification {
    /// Records compared.
    pub compared: u64,
    /// Records that the target should hold and does not.
    pub missing: u64,
    /// Records that the target holds and should not.
    pub extra: u64,
    /// Records with other content.
    pub different: u64,
    /// Records that others had written before and that the run left as they were; no difference.
    #[serde(default)]
    pub kept: u64,
    /// Records that cannot arrive as the source has them now, or were refused by the run; no difference.
    #[serde(default)]
    pub rejected: u64,
    /// Whether only the numbers of its records were compared, where of other flows the records were.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub numbers_alone: bool,
}

impl FlowVerification {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.missing == 0 && self.extra == 0 && self.different == 0
    }
}

/// How a record differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// The source has it, the target has not.
    Missing,
    /// The target has it, no source does.
    Extra,
    /// Both have it, with other content.
    Different,
}

/// Which side changed since the run, told by the fingerprints that the run kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Since {
    /// The target holds what the run wrote: the source has changed.
    SourceChanged,
    /// The source holds what the run read: the target has changed.
    TargetChanged,
}

/// A record in which source and target differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The flow; `None`: a record of the target that belongs to no flow.
    pub flow: Option<FlowName>,
    /// How.
    pub kind: DifferenceKind,
    /// The key, as the target holds it.
    pub key: Map<String, Value>,
    /// The attributes that differ, by name; of a missing or an extra record all of them.
    pub attributes: Vec<AttributeDifference>,
    /// Which side changed since the run, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Since>,
    /// Whether it may be no difference but what others had written before the run, which skipped the key: of these
    /// records some were changed since, and nothing tells which.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncertain: bool,
}

/// An attribute that differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttributeDifference {
    /// Its name.
    pub name: String,
    /// What the source says it should be, in the target's plain JSON; `None`: it should not be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Value>,
    /// What the target holds; `None`: it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Value>,
}

/// An assertion of the spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assertion {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What must hold, `= 0`, for people.
    pub expected: String,
    /// What was measured.
    pub value: String,
    /// Examples of what does not hold, cut to a readable number and length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}
