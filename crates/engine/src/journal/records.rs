//! What is stored of a run.

use rusqlite::{Connection, params};
use serde_json::Value;
use whimbrel_model::{Checkpoint, FlowName, RunId, Slice, StoreName, canonical};

/// The option of a run that says that it went on with another spec.
pub(super) const RESPECIFIED: &str = "respecified";

/// Whether a run reads the sources or replays the rejects of another run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunKind {
    /// Reads the sources.
    Run,
    /// Replays the rejects of its parent.
    Retry {
        /// The run whose rejects are replayed.
        parent: RunId,
    },
}

/// A run about to begin.
#[derive(Debug)]
pub struct NewRun {
    /// Its name.
    pub id: RunId,
    /// The migration.
    pub migration: String,
    /// The environment; empty where the spec has none.
    pub environment: String,
    /// Reading or replaying.
    pub kind: RunKind,
    /// The spec's file.
    pub spec_path: String,
    /// The digest of the spec and the files that it names.
    pub spec_digest: String,
    /// The digest of the flows' values and their sources' columns.
    pub shape: String,
    /// The command line's options, for resume; no secrets.
    pub options: Value,
    /// Store, location and identity.
    pub stores: Vec<(StoreName, String, String)>,
}

/// A flow's target as it was when the run began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRecord {
    /// The flow.
    pub flow: FlowName,
    /// The table.
    pub resource: String,
    /// What the table is.
    pub identity: Option<String>,
    /// Whether this run made the table.
    pub made: bool,
    /// Whether the table was empty.
    pub empty: bool,
    /// How many records are expected.
    pub estimate: Option<u64>,
}

/// A run as the journal has it.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its name.
    pub id: RunId,
    /// The migration.
    pub migration: String,
    /// The environment; `None` where the spec has none.
    pub environment: Option<String>,
    /// Reading or replaying.
    pub kind: RunKind,
    /// The spec's file.
    pub spec_path: String,
    /// The digest of the spec.
    pub spec_digest: String,
    /// The digest of the flows' values and their sources' columns.
    pub shape: String,
    /// The command line's options.
    pub options: Value,
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// How it ended; `None` while it runs or after it was killed.
    pub outcome: Option<String>,
    /// The present stretch.
    pub epoch: u64,
    /// How often it was resumed.
    pub resumes: u64,
    /// Whether its targets and slices are journalled.
    pub planned: bool,
    /// The form in which its fingerprints are taken ([`whimbrel_model::canonical::VERSION`]).
    pub canonical_version: u32,
}

impl RunRecord {
    /// Whether its fingerprints are taken in another form than this build's: they say nothing beside this build's own.
    #[must_use]
    pub fn has_other_fingerprints(&self) -> bool {
        self.canonical_version != canonical::VERSION
    }

    /// Whether there is something left to do.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        matches!(self.outcome.as_deref(), None | Some("paused" | "failed"))
    }

    /// Whether what it wrote was taken back, or is being taken back.
    #[must_use]
    pub fn is_undone(&self) -> bool {
        matches!(self.outcome.as_deref(), Some(crate::undo::UNDOING | crate::undo::UNDONE))
    }

    /// Whether a stretch of it went on with another spec, or with other values, than the one before.
    #[must_use]
    pub fn was_respecified(&self) -> bool {
        self.options.get(RESPECIFIED).and_then(Value::as_bool).unwrap_or_default()
    }
}

/// A slice and how far its flows have come.
#[derive(Clone, Debug)]
pub struct SliceRecord {
    /// The slice.
    pub slice: Slice,
    /// Whether it is complete for all its flows.
    pub done: bool,
    /// Records that an attempt may have sent, counted from the slice's start.
    pub reserved: u64,
    /// The last checkpoint of each flow that has one.
    pub checkpoints: Vec<(FlowName, Checkpoint)>,
}

pub(super) fn insert_run(connection: &mut Connection, run: &NewRun) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute(
        "UPDATE runs SET outcome = 'abandoned' WHERE migration = ?1 AND environment = ?2
            AND (outcome IS NULL OR outcome IN ('paused', 'failed'))",
        params![run.migration, run.environment],
    )?;
    let (kind, parent) = match &run.kind {
        RunKind::Run => ("run", None),
        RunKind::Retry { parent } => ("retry", Some(parent.as_str())),
    };
    transaction.execute(
        "INSERT INTO runs (id, migration, environment, kind, parent, spec_path, spec_digest, options, version,
             started_ms, shape, canonical_version)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            run.id.as_str(), run.migration, run.environment, kind, parent, run.spec_path, run.spec_digest,
            run.options.to_string(), env!("CARGO_PKG_VERSION"), super::now_ms(), run.shape,
            canonical::VERSION,
        ],
    )?;
    for (store, location, identity) in &run.stores {
        transaction.execute(
            "INSERT INTO stores (run, store, location, identity) VALUES (?1, ?2, ?3, ?4)",
            params![run.id.as_str(), store.as_str(), location, identity],
        )?;
    }
    transaction.commit()
}

/// The second step of a beginning: what the targets hold and which slices there are.
pub(super) fn insert_plan(
    connection: &mut Connection,
    run: &RunId,
    targets: &[TargetRecord],
    slices: &[Slice],
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for target in targets {
        transaction.execute(
            "INSERT INTO targets (run, flow, resource, identity, made, empty, estimate) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                run.as_str(), target.flow.as_str(), target.resource, target.identity, target.made, target.empty,
                target.estimate.and_then(|estimate| i64::try_from(estimate).ok()),
            ],
        )?;
    }
    for slice in slices {
        transaction.execute(
            "INSERT INTO slices (run, id, scan, part) VALUES (?1, ?2, ?3, ?4)",
            params![run.as_str(), slice.id.as_str(), slice.group.as_str(), slice.part.0.to_string()],
        )?;
    }
    transaction.execute("UPDATE runs SET planned = 1 WHERE id = ?1", [run.as_str()])?;
    transaction.commit()
}
