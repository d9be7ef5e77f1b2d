//! What a flow asks of its stores, out of the resolved spec.

use std::collections::BTreeMap;

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// A table or collection by name, in the store's own way of naming (`schema.table`).
    Table(String),
    /// A query in the store's own language, with `$name` parameters and at most one `{slice}`.
    Query(String),
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
    /// Columns whose values may lose something on the way; any other lossy column is refused by the plan.
    pub allow_lossy: Vec<String>,
}
