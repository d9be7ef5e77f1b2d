//! An assertion that cannot be carried out.

use std::path::Path;
use whimbrel_engine::EngineError;
use whimbrel_query::QueryError;
use whimbrel_spec::{Position, SpecError, SpecErrorKind};
use whimbrel_store::{StoreError, StoreErrorKind};

/// An assertion that cannot be carried out: which, where it stands in the spec, and why.
#[derive(Debug, thiserror::Error)]
#[error("the assertion `{assertion}` cannot be carried out")]
pub struct VerifyError {
    assertion: String,
    position: Position,
    #[source]
    cause: QueryError,
}

impl VerifyError {
    pub(crate) fn new(assertion: &str, position: Position, cause: QueryError) -> Self {
        Self { assertion: assertion.to_owned(), position, cause }
    }

    /// The assertion's name.
    #[must_use]
    pub fn assertion(&self) -> &str {
        &self.assertion
    }

    /// Where in the spec the mistake is, or what failed.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Why.
    #[must_use]
    pub fn cause(&self) -> &QueryError {
        &self.cause
    }

    /// Why, without which assertion.
    pub(super) fn into_cause(self) -> QueryError {
        self.cause
    }

    /// The next step for the user.
    #[must_use]
    pub fn hint(&self) -> &str {
        match &self.cause {
            QueryError::Sql { hint, .. } | QueryError::Computation { hint, .. } => hint,
            QueryError::Store(error) => error.hint().unwrap_or_else(|| next_step(error.kind())),
        }
    }

    /// The same as a failure of the program: SQL that does not fit has its place in the spec, a store's failure stays
    /// one, and a pause stays a pause.
    #[must_use]
    pub fn into_engine(self, spec: &Path) -> EngineError {
        let named = self.to_string();
        match self.cause {
            QueryError::Sql { message, hint } | QueryError::Computation { message, hint } => {
                let message = format!("{named}: {message}");
                let error = SpecError::at(SpecErrorKind::Invalid, self.position, message, hint);
                EngineError::Spec(error.in_file(spec))
            }
            QueryError::Store(error) => match error.kind() {
                StoreErrorKind::Interrupted | StoreErrorKind::LimitReached => EngineError::from(error),
                kind => {
                    let hint = error.hint().unwrap_or_else(|| next_step(kind)).to_owned();
                    let outer = StoreError::new(kind, error.store(), named).caused_by(error);
                    EngineError::from(outer.with_hint(hint))
                }
            },
        }
    }
}

/// What to do where a store refuses an assertion or fails, and does not say it itself.
fn next_step(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::Unreachable | StoreErrorKind::Overloaded | StoreErrorKind::SnapshotLost => {
            "verify again when the store can be reached; nothing was changed"
        }
        StoreErrorKind::Unauthenticated | StoreErrorKind::Forbidden => {
            "an assertion reads what its SQL names: give this user the right to, or leave it out"
        }
        StoreErrorKind::NotFound => {
            "an assertion reads what its SQL names: name what is there, or make it before the assertion is carried out"
        }
        StoreErrorKind::Mismatch
        | StoreErrorKind::Drift
        | StoreErrorKind::Unsupported
        | StoreErrorKind::Protocol => {
            "an assertion is one query that only reads, in the words of its store: write SELECT, or WITH and SELECT"
        }
        StoreErrorKind::Interrupted | StoreErrorKind::LimitReached => "verify again",
        StoreErrorKind::Internal => "please report it with the log",
    }
}
