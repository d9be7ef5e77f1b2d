//! Rules of verification with every value filled in.

use super::ParameterValue;
use crate::error::Position;
use crate::span::SqlText;
use std::collections::BTreeMap;
use whimbrel_model::{FlowName, StoreName};

/// What is verified.
#[derive(Clone, Debug, PartialEq)]
pub enum VerifyRule {
    /// Both sides of each flow hold as many records.
    Count {
        /// What a report calls the rule.
        name: Option<String>,
        /// Flows and groups; empty: all.
        only: Vec<String>,
    },
    /// Both sides of each flow hold the same records.
    Records {
        /// What a report calls the rule.
        name: Option<String>,
        /// How many of them are compared; `None`: all.
        sample: Option<u64>,
        /// Flows and groups; empty: all.
        only: Vec<String>,
    },
    /// Something that holds of what the stores hold, whatever the flows are.
    Assert(Box<AssertRule>),
    /// Something that holds of searches among the vectors of a flow.
    Search(Box<SearchRule>),
}

/// What must hold of searches among vectors.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchRule {
    /// What a report calls it.
    pub name: String,
    /// Where it stands in the file.
    pub position: Position,
    /// The flow that writes the vectors.
    pub flow: FlowName,
    /// How many neighbours are looked for.
    pub top: u32,
    /// How many stored vectors are looked for.
    pub stored: u32,
    /// The texts that are looked for; `None`: stored vectors.
    pub texts: Option<Texts>,
    /// What must hold.
    pub demand: SearchDemand,
}

/// Texts, and what turns them into vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// The texts.
    pub queries: Vec<String>,
    /// The endpoint's URL.
    pub url: String,
    /// The model.
    pub model: String,
    /// What lets us in. It is a secret.
    pub key: ParameterValue,
}

/// What must hold of searches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum SearchDemand {
    /// On the average at least this share of the neighbours among the source's vectors is found in the target.
    Overlap(f64),
    /// A search takes less than so many milliseconds on the average.
    AverageMs(f64),
}

/// An assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertRule {
    /// What a report calls it: the spec's name, else one made of what it says.
    pub name: String,
    /// Where it stands in the file.
    pub position: Position,
    /// What must hold.
    pub kind: AssertKind,
}

/// What an assertion says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssertKind {
    /// A query's answer is as expected.
    Sql {
        /// The store in whose own SQL it is; `None`: every store is a schema.
        store: Option<StoreName>,
        /// The query.
        query: VerifyQuery,
        /// What its answer must be.
        expected: Expected,
    },
    /// Two queries yield the same rows.
    Compare {
        /// The columns by which rows are matched.
        by: Vec<String>,
        /// One query.
        left: VerifyQuery,
        /// The other.
        right: VerifyQuery,
    },
    /// Columns hold no NULL and no empty text.
    NotEmpty {
        /// The columns.
        columns: Vec<ColumnPlace>,
        /// The value that each holds in every record.
        equals: Option<ParameterValue>,
    },
    /// Columns hold JSON objects or lists, or NULL.
    Json {
        /// The columns.
        columns: Vec<ColumnPlace>,
    },
}

/// A query of an assertion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyQuery {
    /// The SQL as it is written.
    pub sql: SqlText,
    /// The values of all `$name` in it.
    pub parameters: BTreeMap<String, ParameterValue>,
    /// The names of tables that `"${name}"` stands for.
    pub tables: BTreeMap<String, String>,
}

/// What the answer of a query must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// There is none.
    NoRows,
    /// Its one value stands so to each of these; there is at least one.
    Value(Vec<(Relate, ParameterValue)>),
}

/// How a value stands to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relate {
    /// `=`: numbers by value.
    Equal,
    /// `<`, of numbers.
    Less,
    /// `<=`, of numbers.
    LessOrEqual,
    /// `>`, of numbers.
    Greater,
    /// `>=`, of numbers.
    GreaterOrEqual,
}

impl Relate {
    /// The sign for people.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// A column of a table of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPlace {
    /// The store.
    pub store: StoreName,
    /// The table, in the store's own way of naming.
    pub table: String,
    /// The column, case kept.
    pub column: String,
    /// Where it stands in the file.
    pub position: Position,
}
