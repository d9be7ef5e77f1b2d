//! Failures of queries: of the SQL, of a store, or of the computation.

use datafusion::common::{Column, DataFusionError, SchemaError};
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_store::StoreError;

/// The result of an operation of this crate.
pub type Result<T> = std::result::Result<T, QueryError>;

/// How many columns a hint lists.
const LISTED: usize = 40;
/// How much is shown of a message, which may quote a value.
const SHOWN: usize = 400;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The SQL cannot be carried out, whatever the stores hold.
    #[error("{message}")]
    Sql {
        /// What is wrong, in a sentence.
        message: String,
        /// The next step.
        hint: String,
    },
    /// A store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The SQL failed on what the stores hold.
    #[error("{message}")]
    Computation {
        /// What is wrong, in a sentence.
        message: String,
        /// The next step.
        hint: String,
    },
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl QueryError {
    pub(crate) fn sql(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Sql { message: message.into(), hint: hint.into() }
    }

    /// The next step for the user, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Sql { hint, .. } | Self::Computation { hint, .. } => Some(hint),
            Self::Store(error) => error.hint(),
        }
    }

    /// The planner's words, and for an unknown column the nearest right name.
    pub(crate) fn planning(error: &DataFusionError) -> Self {
        let root = error.find_root();
        if let DataFusionError::SchemaError(schema_error, _) = root
            && let SchemaError::FieldNotFound { field, valid_fields } = schema_error.as_ref()
        {
            return no_column(field, valid_fields);
        }
        let hint = match root {
            DataFusionError::SQL(..) => "docs/query.md says which SQL is understood",
            DataFusionError::SchemaError(schema_error, _)
                if matches!(schema_error.as_ref(), SchemaError::DuplicateUnqualifiedField { .. }) =>
            {
                "two columns cannot be told apart: make one of them in a subquery of its own"
            }
            DataFusionError::SchemaError(..) => "say which table is meant: m.id, t.id",
            _ => "docs/query.md says which SQL is understood and how columns are named",
        };
        Self::sql(plain(root), hint)
    }

    /// A failure while the answer was computed.
    pub(crate) fn computing(error: &DataFusionError) -> Self {
        let root = error.find_root();
        if let DataFusionError::ResourcesExhausted(_) = root {
            return Self::Computation {
                message: "the query needs more memory than it may use".to_owned(),
                hint:
                    "give it more (`--memory 1G`), or let it keep less: fewer columns, a narrower WHERE, the \
                       smaller table first"
                        .to_owned(),
            };
        }
        Self::Computation {
            message: plain(root),
            hint: "a value does not fit what the SQL does with it; CAST and WHERE can keep it out".to_owned(),
        }
    }
}

fn no_column(field: &Column, valid: &[Column]) -> QueryError {
    let message = format!("there is no column `{}`", field.flat_name());
    if let Some(meant) = valid.iter().find(|other| other.name.eq_ignore_ascii_case(&field.name)) {
        let hint = format!("a name with capitals is written in double quotes: \"{}\"", meant.name);
        return QueryError::sql(message, hint);
    }
    let mut names: Vec<String> = valid.iter().take(LISTED).map(Column::quoted_flat_name).collect();
    if valid.len() > LISTED {
        names.push("…".to_owned());
    }
    let hint = if names.is_empty() {
        "name a table: SELECT … FROM store.table".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    };
    QueryError::sql(message, hint)
}

/// DataFusion's message without the names of its layers.
fn plain(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let layers = [
        "Error during planning: ",
        "SQL error: ",
        "Execution error: ",
        "Arrow error: ",
        "Schema error: ",
        "Optimizer rule ",
        "This feature is not implemented: ",
    ];
    let text = layers.iter().fold(text, |text, layer| text.replace(layer, ""));
    let parser = text.strip_prefix("ParserError(\"").and_then(|text| text.strip_suffix("\")"));
    let text = parser.map_or_else(|| text.clone(), str::to_owned);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// The first failure of a store within a query. DataFusion wraps and shares errors on their way; here the store's
/// own stays whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct FirstFailure(Arc<Mutex<Option<StoreError>>>);

impl FirstFailure {
    /// Keeps the failure, and gives what DataFusion is told of it.
    pub(crate) fn keep(&self, error: StoreError) -> DataFusionError {
        let told = DataFusionError::Execution(error.to_string());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        told
    }

    /// The failure that was kept.
    pub(crate) fn take(&self) -> Option<StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
