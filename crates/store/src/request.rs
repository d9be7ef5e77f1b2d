//! What a flow asks of its stores, out of the resolved spec.

use crate::target::KeyPattern;
use std::collections::{BTreeMap, BTreeSet};
use whimbrel_model::FlowName;

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// A table or collection by name, in the store's own way of naming (`schema.table`).
    Table(String),
    /// A query in the store's own language, with `$name` parameters and at most one `{slice}`.
    Query(String),
}

/// A condition on a record, in terms that stores may understand. It says too little rather than too much:
/// every record that is wanted satisfies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of them.
    All(Vec<Condition>),
    /// At least one of them.
    Any(Vec<Condition>),
    /// The column's value compared with another; a missing or NULL value satisfies no comparison.
    Compare(String, Comparison, Literal),
    /// The column is a text that begins so.
    StartsWith(String, String),
    /// The column is present and not NULL.
    Present(String),
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A value in a [`Condition`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// Text.
    Text(String),
    /// A number, as it was written.
    Number(String),
    /// True or false.
    Boolean(bool),
}

/// The value of a `$name` parameter. Bound, never spliced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter(pub String);

/// The `from` of a scan group.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// What is read.
    pub relation: Relation,
    /// The columns that slices are ranges of; empty: the primary key of a table.
    pub slice_by: Vec<String>,
    /// Types that the spec declares for columns, `filterValues: json`.
    pub columns: BTreeMap<String, String>,
    /// Values of the spec's variables, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// The columns that somebody looks at; `None`: all. A store with columns of its own may read more; one
    /// whose records have no fixed columns reads these and its key.
    pub wanted: Option<BTreeSet<String>>,
    /// What the records that somebody takes satisfy, as far as it can be said in these terms. Reading fewer
    /// records for its sake is the store's choice; records beyond it are left out further on.
    pub condition: Option<Condition>,
    /// Whether records beyond the condition are wanted, too, to be counted. A store that can find records by
    /// key need not deliver them all the same, and says so in [`crate::SourceDescription::sees_all`].
    pub wants_all: bool,
    /// Whether a record must be kept whole where it is rejected. A store whose batches are all that there is of a
    /// record, without [`crate::Originals`], then reads every column, wanted or not.
    pub whole: bool,
    /// How many records a batch holds at the most.
    pub batch_records: usize,
    /// How many bytes a batch holds at the most, in the source's own measure; one record may be larger.
    pub batch_bytes: usize,
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// An existing key is a reject.
    Insert,
    /// The record takes the place of what the key held.
    Upsert,
    /// Existing keys are left as they are.
    SkipExisting,
    /// The record's columns are set where the key exists; where [`crate::WriteBatch::guards`] names values,
    /// only where the target still holds those. A missing key and a value that changed meanwhile are rejects.
    Update,
    /// The record is compared with what its key holds, over its own columns and without
    /// [`WriteRequest::ignore`]: what is the same is not written ([`crate::Outcome::Unchanged`]), what is missing
    /// is created, and of what differs the record's columns are set. What was written to the key since it was
    /// compared stays, and the record is a reject.
    Changed,
}

/// What becomes of a NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Nulls {
    /// The attribute is left out.
    #[default]
    Omit,
    /// The attribute is written as NULL.
    Null,
}

/// The `into` of a flow.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// The flow: what tells it apart where the target itself keeps checkpoints.
    pub flow: FlowName,
    /// The table or collection.
    pub table: String,
    /// The columns that make a record's key in the target; empty: the target's own primary key.
    pub key: Vec<String>,
    /// How records are written.
    pub mode: Mode,
    /// What becomes of a NULL.
    pub nulls: Nulls,
    /// Forms that the spec asks for, `created_at: rfc3339_nanos`.
    pub forms: BTreeMap<String, String>,
    /// Columns left out of comparison and of fingerprints.
    pub ignore: Vec<String>,
    /// The tenant: columns and the values that they have in every record of this flow. Nothing outside of it is
    /// counted, compared or touched; a key that is held outside of it is a reject.
    pub scope: BTreeMap<String, String>,
    /// Columns whose values may lose something on the way; any other lossy column is refused by the plan.
    pub allow_lossy: Vec<String>,
    /// How the records are nested, in a target that is a file; `None`: one behind the other. A store that cannot
    /// do so refuses it.
    pub shape: Option<Shape>,
    /// The collection that the records are, in the tables of langchain-postgres; `None`: they are records of a table.
    /// A store that has no such tables refuses it.
    pub collection: Option<VectorCollection>,
}

/// A collection of vectors in the tables of langchain-postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorCollection {
    /// Its name.
    pub name: String,
    /// Its UUID, which each of its records has.
    pub id: String,
    /// How many floats a vector has; `None`: as many as the source says.
    pub dimension: Option<u32>,
    /// By which distance they are searched; `None`: as in the source.
    pub metric: Option<Metric>,
    /// The index that is made behind the load.
    pub index: Option<VectorIndex>,
}

/// A distance between vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Euclidean.
    L2,
    /// The cosine of the angle, from one.
    Cosine,
    /// The inner product, negated.
    Ip,
}

impl Metric {
    /// The word for it, as a field's metadata has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::Cosine => "cosine",
            Self::Ip => "ip",
        }
    }

    /// What the word means.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::L2, Self::Cosine, Self::Ip].into_iter().find(|metric| metric.as_str() == word)
    }
}

/// An index over vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorIndex {
    /// A graph of neighbours.
    Hnsw,
    /// Lists around centres.
    Ivfflat,
}

impl VectorIndex {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hnsw => "hnsw",
            Self::Ivfflat => "ivfflat",
        }
    }
}

/// How records are nested in a file: in documents, one for each value of a column. Several flows may fill the
/// documents of one file, one of them with what they say themselves, others with lists in them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// The column whose values tell documents apart; a record in which it is NULL has no place.
    pub by: String,
    /// How the documents stand in the file.
    pub documents: Documents,
    /// The list of which each record is an element, without the column; `None`: each record is a document, and no
    /// two records have the same value of the column.
    pub list: Option<String>,
}

/// How documents stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Documents {
    /// As members of one object, whose keys are the column's values as text; a document lacks the column.
    Members,
    /// As records; each has the column.
    Records,
}

impl Shape {
    /// The name under which [`Shape::place`] is told. No column of a source is called so.
    pub const PLACE: &'static str = "\u{0}place";

    /// What tells the records of flows into one such file apart: where they stand.
    #[must_use]
    pub fn place(&self) -> KeyPattern {
        let text = self.list.clone().unwrap_or_default();
        KeyPattern { column: Self::PLACE.to_owned(), text, whole: true }
    }
}
