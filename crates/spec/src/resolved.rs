//! A spec with every value filled in: what the engine takes. Plain data.

use crate::each::EachPath;
use crate::error::Position;
use crate::redact::Redactor;
use crate::span::SqlText;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use whimbrel_model::{FlowName, GroupName, StoreName};

mod verify;

pub use crate::each::{ELEMENT, POSITION};
pub use crate::elements::Unmatched;
pub use crate::elements::into::{Compare, NullRule, OnDuplicate, OrderColumn, Shape, WriteMode};
pub use crate::elements::langchain::{IndexWord, MetricWord};
pub use crate::elements::prices::Price;
pub use verify::{
    AssertKind, AssertRule, ColumnPlace, Expected, Relate, SearchDemand, SearchRule, Texts, VerifyQuery,
    VerifyRule,
};

/// A migration, ready to be planned: the chosen flows, and the stores that they use.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The migration's name.
    pub migration: String,
    /// The environment that was chosen; `None` where the spec has none.
    pub environment: Option<String>,
    /// Whether destructive acts need `--confirm` with the environment's name.
    pub protected: bool,
    /// What must stand in a store's location or identity, by the store's name.
    pub guards: BTreeMap<StoreName, String>,
    /// Prices by region, which go before the built-in ones; `default` is every other region.
    pub prices: BTreeMap<String, Price>,
    /// The stores that the chosen flows use.
    pub stores: BTreeMap<StoreName, ResolvedStore>,
    /// The chosen flows, each after those that it waits for, else in the order of the file. A list under `into`
    /// makes several of one: `users.1`, `users.2`.
    pub flows: Vec<ResolvedFlow>,
    /// What becomes of the items of a scanned table that no flow takes.
    pub unmatched: Unmatched,
    /// Whether runs keep before-images, so that they can be undone.
    pub undo: bool,
    /// What is verified.
    pub verify: Vec<VerifyRule>,
    /// When the run gives up.
    pub limits: Limits,
    /// The values of variables that a run makes where they are not there, and `clean` removes.
    pub creations: Vec<CreatedValue>,
    /// Knows every secret value; everything that is shown or kept goes through it.
    pub secrets: Redactor,
    /// BLAKE3, in hexadecimal, of the spec's text and of the files that its used stores name.
    pub digest: String,
    /// The spec's file.
    pub path: PathBuf,
    /// The folder that the spec's paths are relative to.
    pub base_dir: PathBuf,
}

/// A value of a variable that a run makes where it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedValue {
    /// The provider that makes it.
    pub provider: &'static str,
    /// What the spec names: `POOL/username#sub`.
    pub argument: String,
    /// Whom it belongs to: `MIGRATION/ENVIRONMENT`.
    pub owner: String,
    /// Whether it was there when it was looked up.
    pub existed: bool,
}

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreKind {
    /// PostgreSQL.
    Postgres,
    /// DynamoDB.
    DynamoDb,
    /// SQLite: one file.
    Sqlite,
    /// Chroma: a persistent directory.
    Chroma,
    /// Files, on this machine or in an object store.
    Files,
}

impl StoreKind {
    /// The word in the spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::DynamoDb => "dynamodb",
            Self::Sqlite => "sqlite",
            Self::Chroma => "chroma",
            Self::Files => "files",
        }
    }
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A store with every value filled in.
#[derive(Clone, PartialEq)]
pub struct ResolvedStore {
    /// Its name in the spec.
    pub name: StoreName,
    /// Which database it is.
    pub kind: StoreKind,
    /// What stands under its kind. Keys whose value came out empty are left out, and the paths of files are
    /// absolute; `embedded:PATH` is as the user wrote it. It may hold secrets.
    pub config: Value,
    /// The SQL file that `create` runs, absolute.
    pub schema_file: Option<PathBuf>,
}

impl fmt::Debug for ResolvedStore {
    /// Without the configuration, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolvedStore")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("schema_file", &self.schema_file)
            .finish_non_exhaustive()
    }
}

/// One stream of records from a source into one target.
#[derive(Clone, Debug)]
pub struct ResolvedFlow {
    /// Its name: the spec's, with `.1`, `.2` where `into` is a list.
    pub name: FlowName,
    /// The name in the spec. Flows of one `scan` have the same source, columns, checks and transform.
    pub scan: GroupName,
    /// The name that it shares with other flows, for `--only` and `verify`.
    pub group: Option<String>,
    /// The chosen flows that must be complete before it.
    pub after: Vec<FlowName>,
    /// What is read.
    pub from: FromRequest,
    /// Declared types of the source's columns.
    pub columns: BTreeMap<String, String>,
    /// What every record must satisfy.
    pub checks: Vec<Check>,
    /// `SELECT … FROM input`; `None`: records go on as they are.
    pub transform: Option<SqlText>,
    /// How `plan` shows a record in a line, `{column}` in braces.
    pub sample: Option<String>,
    /// Where records go.
    pub into: IntoRequest,
    /// The values of all `$name` in the flow's SQL.
    pub parameters: BTreeMap<String, ParameterValue>,
    /// Where the flow's name stands in the file.
    pub position: Position,
}

/// The value of a `$name` in SQL or in `scope`. Debug does not show it: it may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ParameterValue(pub String);

impl fmt::Debug for ParameterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParameterValue(***)")
    }
}

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromRequest {
    /// The store.
    pub store: StoreName,
    /// What in it.
    pub relation: Relation,
    /// Which records: `where`, in whimbrel's SQL.
    pub filter: Option<SqlText>,
    /// The columns by whose ranges it is cut into slices; empty: the primary key.
    pub slice_by: Vec<String>,
    /// What in each record becomes a record of its own; `None`: the record itself.
    pub each: Option<Each>,
}

/// Which elements of a record become records.
#[derive(Clone, Debug)]
pub struct Each {
    /// Where they stand.
    pub path: EachPath,
    /// The path as it is written.
    pub text: String,
    /// The column that takes the keys of the members that a `.*` of the path finds.
    pub key_as: Option<String>,
    /// Where `each` stands in the file.
    pub position: Position,
}

impl PartialEq for Each {
    /// Wherever they stand: flows that read the same thing share one scan.
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.key_as == other.key_as
    }
}

impl Eq for Each {}

/// What in a store is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// A table, in the store's own way of naming; in a files store, a path below its root; in Chroma, a collection.
    Table(String),
    /// A query in the store's own SQL, with `$name` parameters and at most one `{slice}`.
    Query(SqlText),
    /// What the run itself has done, one record a flow.
    Run,
}

/// What a record must satisfy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A condition over the source's columns.
    Expect {
        /// The condition.
        sql: SqlText,
        /// What a reject says, `{column}` in braces.
        message: Option<String>,
    },
    /// A column that must be present and not NULL.
    Required {
        /// The column, case kept.
        column: String,
        /// Where the spec names it.
        position: Position,
    },
}

/// Where records go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntoRequest {
    /// The store.
    pub store: StoreName,
    /// The table.
    pub table: String,
    /// The columns that make a record's key; empty: the table's own primary key.
    pub key: Vec<String>,
    /// What becomes of a record whose key is there.
    pub mode: WriteMode,
    /// Whether values that were read guard an update; `None`: where the flow reads the table that it writes.
    pub guarded: Option<bool>,
    /// What becomes of a second record of one key.
    pub on_duplicate: OnDuplicate,
    /// Which of several records of one key is the last, by its columns as they go to the target, the first
    /// column first; empty unless `on_duplicate` is [`OnDuplicate::Last`].
    pub order: Vec<OrderColumn>,
    /// The tenant: columns of the target and the values that they have in every record of the flow, as text;
    /// empty: the whole table.
    pub scope: BTreeMap<String, ParameterValue>,
    /// What becomes of a NULL.
    pub nulls: NullRule,
    /// Forms by column: `as`.
    pub forms: BTreeMap<String, String>,
    /// What is left out of comparison and of fingerprints.
    pub ignore: Vec<String>,
    /// What [`WriteMode::Changed`] compares with.
    pub compare: Compare,
    /// Whether records are deleted that the flow no longer yields.
    pub delete_missing: bool,
    /// Columns that may lose something.
    pub allow_lossy: Vec<String>,
    /// How records are nested in a file; `None`: they are not.
    pub shape: Option<Shape>,
    /// The collection that they are, in the tables of langchain-postgres; `None`: they are records of a table.
    pub langchain: Option<Langchain>,
    /// How many records a request or transaction holds, where the spec says it.
    pub batch_records: Option<u32>,
    /// How many bytes a request or transaction holds, where the spec says it.
    pub batch_bytes: Option<u64>,
    /// Where `into` stands in the file.
    pub position: Position,
}

/// A collection in the tables of langchain-postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Langchain {
    /// Its name.
    pub collection: String,
    /// Its UUID: as the spec says it, else one that follows from the name.
    pub uuid: String,
    /// How many floats a vector has; `None`: as many as the source says.
    pub dimension: Option<u32>,
    /// By which distance they are searched; `None`: as in the source.
    pub metric: Option<MetricWord>,
    /// The index that is made behind the load.
    pub index: IndexWord,
}

/// When a run gives up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// How long one store may make no progress.
    pub retry_for: Duration,
    /// How long the run may make no progress before it says so.
    pub stall_after: Duration,
    /// The share of rejects at which the run stops; `None`: it only warns.
    pub max_reject_rate: Option<f64>,
    /// Write units that the run may use in all; `None`: as many as it takes.
    pub max_write_units: Option<f64>,
    /// Read units that the run may use in all; `None`: as many as it takes.
    pub max_read_units: Option<f64>,
    /// Dollars that the run's units may cost in all; `None`: as much as they do.
    pub max_cost_usd: Option<f64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            retry_for: Duration::from_mins(5),
            stall_after: Duration::from_mins(10),
            max_reject_rate: None,
            max_write_units: None,
            max_read_units: None,
            max_cost_usd: None,
        }
    }
}
