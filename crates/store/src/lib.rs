//! The contract between the engine and the databases.
//!
//! The engine drives: it asks a [`Source`] for slices, pulls batches out of each, and hands them to a
//! [`Writer`] of a [`Target`]. A store never calls back into the engine. Pulling was chosen over pushing so
//! that one place decides how many batches are in memory and how many requests are in flight.
//!
//! Each database is one crate that implements [`Store`]; none knows another, and the engine knows none by name.

pub mod capacity;
pub mod conformance;
pub mod context;
pub mod error;
pub mod held;
pub mod ledger;
mod patience;
pub mod request;
pub mod source;
pub mod structure;
pub mod target;
pub mod undo;

pub use capacity::{Provisioned, Raise};
pub use context::{BudgetSpent, CostLimit, Meter, RunContext, StepExtent, UnitBudget, UnitLimit};
pub use error::{Result, StoreError, StoreErrorKind};
pub use held::{HeldBatch, HeldContents, HeldFlow, HeldRecord, LookedUp};
pub use patience::Patience;
pub use request::{
    Comparison, Condition, Documents, Literal, Metric, Mode, Nulls, Parameter, ReadRequest, Relation, Shape,
    VectorCollection, VectorIndex, WriteRequest,
};
pub use source::{BatchStream, Originals, ReadBatch, Source, SourceDescription, Unreadable};
pub use target::{
    Capabilities, Creation, Deleted, Doomed, Encoded, Held, HotKeyColumn, KeyPattern, LoadStep, Outcome,
    Owner, Parent, ReadBackCost, Refusal, Removal, Removed, Target, TargetPlan, TargetState, WriteBatch,
    WriteOutcome, Writer,
};
pub use undo::{BeforeImage, BeforeImages, UndoStep, Undoing, Undone};

use crate::structure::{Definition, Structure};
use async_trait::async_trait;
use std::sync::Arc;
use whimbrel_model::{Identity, StoreName};

/// A database or a set of files, opened but not yet asked for anything.
#[async_trait]
pub trait Store: Send + Sync {
    /// The name that the spec gives it; every error carries it.
    fn name(&self) -> &StoreName;

    /// Where it is, for the head of every plan and summary: `postgres://host:5432/db`, without secrets.
    fn location(&self) -> String;

    /// What it *is*. Connects.
    ///
    /// # Errors
    /// The store cannot be reached or does not let us in.
    async fn identity(&self) -> Result<Identity>;

    /// What `check` asks of the store itself: reachable, who am I, versions. One finding a line; nothing is
    /// written. A finding that fails stops the rest.
    async fn check(&self) -> Vec<Finding>;

    /// Whether the store would let a run do what it does with these tables: found by asking, never by trying. Nothing
    /// where the store itself cannot be asked.
    async fn permissions(&self, _needs: &[TableNeed]) -> Vec<Finding> {
        Vec::new()
    }

    /// Begins an epoch: from now on all reads see one snapshot, where the store can do that. Called before
    /// the first read of a run, and again after a read failed with [`StoreErrorKind::SnapshotLost`].
    ///
    /// # Errors
    /// As [`Store::identity`].
    async fn begin_epoch(&self) -> Result<()> {
        Ok(())
    }

    /// So many slices are about to be read, and so many written, at the same time: whoever needs a connection for each may
    /// make it now, while the rest is prepared. Returns at once and never fails: who uses a connection hears what is
    /// wrong with it. Called within a tokio runtime.
    fn expect(&self, _readers: usize, _writers: usize) {}

    /// The region whose prices hold for the units that it meters, after the first connection as it turned out;
    /// `None` where nothing is metered.
    fn price_region(&self) -> Option<String> {
        None
    }

    /// The reading side of the store for one scan group. Does no I/O.
    ///
    /// # Errors
    /// The request asks for what this store does not have.
    fn source(&self, request: ReadRequest) -> Result<Arc<dyn Source>>;

    /// The writing side of the store for one flow. Does no I/O.
    ///
    /// # Errors
    /// The request asks for what this store does not have.
    fn target(&self, request: WriteRequest) -> Result<Arc<dyn Target>>;

    /// What the store's configuration says is to be raised of these tables while a run goes on. Changes nothing.
    ///
    /// # Errors
    /// The store fails.
    async fn raises(&self, _tables: &[String]) -> Result<Vec<Raise>> {
        Ok(Vec::new())
    }

    /// Raises what a table takes, or puts it `back`, and waits until that holds; `false`: it was left as it is, since
    /// it is another table by now, or somebody else has set it since.
    ///
    /// # Errors
    /// The store fails.
    async fn provision(&self, _raise: &Raise, _back: bool) -> Result<bool> {
        Ok(false)
    }

    /// Makes backups of tables under this name, of those that exist, and waits until they can be used; answers with
    /// their names. `None`: the store keeps no backups.
    ///
    /// # Errors
    /// The store fails.
    async fn back_up(&self, _tables: &[String], _name: &str) -> Result<Option<Vec<String>>> {
        Ok(None)
    }

    /// What the database is made of, for a copy of all of it.
    ///
    /// # Errors
    /// The store fails, or it cannot say.
    async fn structure(&self) -> Result<Structure> {
        Err(StoreError::new(StoreErrorKind::Unsupported, self.name(), "not yet: it is not copied whole")
            .with_hint("copy its tables one by one: name one with `?table=NAME`"))
    }

    /// What would make a structure here. Does no I/O.
    ///
    /// # Errors
    /// It cannot be made here.
    fn define(&self, _structure: &Structure) -> Result<Definition> {
        Err(StoreError::new(StoreErrorKind::Unsupported, self.name(), "not yet: it takes no whole database")
            .with_hint("copy tables one by one: name one with `?table=NAME` on both sides"))
    }

    /// Lets go of connections and snapshots. The store is not used afterwards.
    async fn close(&self) {}
}

/// What a run does with a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableNeed {
    /// The table's name, as the spec has it.
    pub table: String,
    /// Whether its records are read as a source.
    pub is_read: bool,
    /// How records are written into it, each way once; empty: they are not.
    pub modes: Vec<Mode>,
    /// Whether records are deleted.
    pub is_deleted_from: bool,
}

/// One line of `check`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Whether it is as a run needs it.
    pub ok: bool,
    /// What was looked at and what was found.
    pub text: String,
    /// The next step, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn good(text: impl Into<String>) -> Self {
        Self { ok: true, text: text.into(), hint: None }
    }

    /// Something is in the way.
    #[must_use]
    pub fn bad(error: &StoreError) -> Self {
        Self { ok: false, text: error.to_string(), hint: error.hint().map(str::to_owned) }
    }
}
