//! Failures of a run, whoever is at fault.

use crate::journal::JournalError;
use whimbrel_model::{FlowName, RunId, SliceId};
use whimbrel_spec::SpecError;
use whimbrel_store::{StoreError, StoreErrorKind};

/// The result of an operation of the engine.
pub type Result<T> = std::result::Result<T, EngineError>;

/// What stopped the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The spec cannot be used.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A store failed.
    #[error(transparent)]
    Store(StoreError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The spec and the stores do not fit each other.
    #[error("flow `{flow}`: {message}")]
    Flow {
        /// The flow.
        flow: FlowName,
        /// What does not fit.
        message: String,
        /// The next step.
        hint: Option<String>,
    },
    /// A file of the run cannot be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// `read`, `write`, …
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What was asked for is refused in the present state.
    #[error("{message}")]
    Refused {
        /// Why.
        message: String,
        /// The next step.
        hint: String,
    },
    /// More records were rejected than the spec allows; the run can be resumed.
    #[error("{rejected} of {read} records were rejected, more than the limit of {:.1} %", limit * 100.0)]
    RejectRate {
        /// Records rejected so far.
        rejected: u64,
        /// Records that should have arrived so far.
        read: u64,
        /// The largest share that is allowed.
        limit: f64,
    },
    /// The run was asked to stop; it can be resumed.
    #[error("the run was interrupted")]
    Interrupted,
    /// The counts of a slice do not add up: a mistake in whimbrel, never passed over.
    #[error("flow `{flow}`, slice `{slice}`: {read} records were read and {accounted} are accounted for")]
    CountEquation {
        /// The flow.
        flow: FlowName,
        /// The slice.
        slice: SliceId,
        /// Records read.
        read: u64,
        /// Records that have an outcome.
        accounted: u64,
    },
    /// A mistake in whimbrel.
    #[error("a mistake in whimbrel: {0}")]
    Internal(String),
}

impl From<StoreError> for EngineError {
    /// A store that was told to stop has not failed.
    fn from(error: StoreError) -> Self {
        if error.kind() == StoreErrorKind::Interrupted { Self::Interrupted } else { Self::Store(error) }
    }
}

impl EngineError {
    /// Whether nothing failed: the run stopped where it was told to, and can be resumed.
    #[must_use]
    pub fn is_pause(&self) -> bool {
        match self {
            Self::Interrupted | Self::RejectRate { .. } => true,
            Self::Store(error) => error.kind() == StoreErrorKind::LimitReached,
            _ => false,
        }
    }

    /// The next step for the user, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Spec(error) => Some(error.hint().to_owned()),
            Self::Store(error) => error.hint().map(str::to_owned),
            Self::Journal(error) => error.hint(),
            Self::Flow { hint, .. } => hint.clone(),
            Self::Refused { hint, .. } => Some(hint.clone()),
            Self::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Some("make room on the disk, then `whimbrel resume`; what was confirmed before is kept".to_owned())
            }
            Self::File { .. } => None,
            Self::Interrupted => None,
            Self::RejectRate { .. } => Some(
                "look at the rejects; then raise `limits: max_reject_rate` and `resume --accept-spec`, or begin anew".to_owned(),
            ),
            Self::CountEquation { .. } | Self::Internal(_) => Some(
                "please report it with the run's log; nothing was counted as arrived that did not".to_owned(),
            ),
        }
    }

    /// A file operation that failed.
    pub fn file(action: &'static str, path: impl Into<std::path::PathBuf>, source: std::io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }

    /// A refusal with its next step.
    pub fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: hint.into() }
    }

    /// No such run.
    #[must_use]
    pub fn no_run(run: &str) -> Self {
        Self::refused(format!("there is no run `{run}`"), "`whimbrel list` shows the runs there are")
    }

    /// More than one run begins or ends so.
    #[must_use]
    pub fn ambiguous_run(run: &str, found: &[RunId]) -> Self {
        let names: Vec<&str> = found.iter().map(RunId::as_str).collect();
        Self::refused(format!("`{run}` could be any of {}", names.join(", ")), "give more of its name")
    }
}
