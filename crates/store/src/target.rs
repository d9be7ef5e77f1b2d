//! Writing.

use crate::context::RunContext;
use crate::error::Result;
use crate::held::{HeldBatch, HeldFlow, LookedUp};
use crate::undo::{BeforeImages, UndoStep, Undoing, Undone};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use whimbrel_model::{
    Capacity, Checkpoint, ColumnFidelity, Cursor, Fingerprint, Identity, SliceId, SlicePart, Stage,
};

/// What a target can do, as data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How many writers may work at once; `None`: as many as like.
    pub max_connections: Option<usize>,
    /// Whether a batch arrives whole or not at all, with its checkpoint: batches of a slice are then written
    /// one after the other, each ended by [`Writer::commit`].
    pub atomic_batch: bool,
    /// Whether a write can depend on what is there.
    pub conditional: bool,
    /// Whether writes are metered in capacity units.
    pub metered: bool,
    /// How many records a batch should hold; the engine reads in these portions.
    pub batch_records: usize,
}

/// What `plan` says of a flow's writing side. Made from the schema of the records alone and from what is there.
#[derive(Clone, Debug, Default)]
pub struct TargetPlan {
    /// Whether the table exists.
    pub exists: bool,
    /// The columns that make a record's key there.
    pub key: Vec<String>,
    /// What `create` would run or send, for people to read.
    pub ddl: Vec<String>,
    /// Each column's journey.
    pub fidelity: Vec<ColumnFidelity>,
    /// Columns whose values decide where a record lies, by partition key of table and indexes.
    pub hot_keys: Vec<HotKeyColumn>,
    /// What a person should know: differences between the table and its definition, billing mode, indexes.
    pub notes: Vec<String>,
    /// Write units a second that the table and its indexes take, where that is bounded.
    pub write_units_per_second: Option<f64>,
    /// Tables whose rows a record must refer to, as the target enforces it at each write. Flows into them
    /// must be complete before a record of this flow is written.
    pub parents: Vec<Parent>,
    /// What reading the table back costs; `None` where reading is not metered or there is nothing to read.
    pub read_back: Option<ReadBackCost>,
}

/// What reading a table back costs, as far as its store knows its size.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReadBackCost {
    /// Records in the table.
    pub records: u64,
    /// Read units for all of them, one behind the other.
    pub whole_units: f64,
    /// Read units for one of them by its key, on average.
    pub each_units: f64,
}

/// A record that was read and is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doomed {
    /// Its key, as [`crate::HeldContents::key`] shows it.
    pub key: Map<String, Value>,
    /// What it was when it was read, as [`crate::HeldContents::version`] says it.
    pub version: Value,
}

/// What a deletion did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deleted {
    /// Records that are there no more.
    pub records: u64,
    /// Records that stay, by their places among those that were given, each with the reason.
    pub left: Vec<(usize, String)>,
    /// Units used.
    pub capacity: Capacity,
}

/// A foreign key that is enforced at each write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The table that is referred to, as [`Target::resource`] of a flow into it says.
    pub resource: String,
    /// The columns that refer to it.
    pub columns: Vec<String>,
}

/// Something that is done when all records of a table's flows are there: a foreign key, an index, statistics.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LoadStep {
    /// What tells it apart from the table's other steps; journalled.
    pub name: String,
    /// What is done, for people: the statement.
    pub text: String,
}

/// A record that a [`LoadStep`] cannot leave in the table.
#[derive(Clone, Debug)]
pub struct Removed {
    /// Its key columns.
    pub key: Map<String, Value>,
    /// The flow's columns of the record, each as text that the target itself takes for the value, or NULL.
    pub record: Map<String, Value>,
    /// Its fingerprint, as it was counted when it was written.
    pub fingerprint: Fingerprint,
    /// Why, in a sentence.
    pub reason: String,
}

/// A partition key: one value of it is served by one partition, which has a limit of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct HotKeyColumn {
    /// `table` or the index's name.
    pub place: String,
    /// The column.
    pub column: String,
    /// Write units a second that one value can take.
    pub units_per_value: f64,
}

/// What is there when a run begins; journalled, since it decides what *created* means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TargetState {
    /// Whether the table held no record (in scope).
    pub empty: bool,
}

/// Whose a table is: written down beside the table itself, so that whoever reaches it can see.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Owner {
    /// The migration that made the table or took it over.
    pub migration: String,
    /// The environment of that migration; `None` where its spec has none.
    pub environment: Option<String>,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.environment {
            Some(environment) => write!(f, "environment `{environment}` of migration `{}`", self.migration),
            None => write!(f, "migration `{}` (no environment)", self.migration),
        }
    }
}

/// What became of a table that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// It is there still, for records of another scope are in it; those in this one are gone.
    Shared {
        /// How many were removed.
        records: u64,
    },
    /// It was not there.
    Absent,
    /// This store does not remove tables: somebody has to do it by hand.
    Unable,
}

/// What `create` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Creation {
    /// The resource was made; its name, for the journal.
    Created(String),
    /// It was there already, as the definition has it or with the differences listed.
    Existed {
        /// The resource's name.
        name: String,
        /// How it differs from its definition.
        differences: Vec<String>,
    },
}

/// A record as the target will hold it.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The record for people, in the target's plain JSON.
    pub preview: Value,
    /// Its size in the target's own measure.
    pub bytes: u64,
    /// What writing it costs, indexes included.
    pub capacity: Capacity,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
}

/// Why a record does not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Whether it was found before sending (`Convert`) or by the store (`Write`).
    pub stage: Stage,
    /// Why, in a sentence that names the column; values are cut to a readable length.
    pub reason: String,
}

/// Records on their way into a target.
#[derive(Clone, Debug)]
pub struct WriteBatch {
    /// The records.
    pub records: RecordBatch,
    /// The number of the batch in its slice, counted from 1.
    pub seq: u64,
    /// Where the slice goes on after it.
    pub cursor: Option<Cursor>,
    /// An earlier attempt may have written some of these records already. An existing record of equal
    /// content is then ours and counts as created.
    pub contested: bool,
    /// In [`crate::Mode::Update`]: the values that were read, row by row, in columns that are also among the
    /// records' columns. The record is written only where the target still holds them; what equals its new
    /// value need not be written. `None`: nothing is guarded, the key must exist.
    pub guards: Option<RecordBatch>,
}

/// What became of a record that was handed to a writer. Every variant is *durable*.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The target did not hold its key, and now holds it.
    Created(Fingerprint),
    /// The target held its key, and now holds our content.
    Updated(Fingerprint),
    /// The target held it with the same content.
    Unchanged(Fingerprint),
    /// The target held its key, and keeps what it held.
    Skipped,
    /// It did not arrive.
    Rejected(Refusal),
}

/// What became of a batch.
#[derive(Clone, Debug, Default)]
pub struct WriteOutcome {
    /// One outcome a record, in order.
    pub outcomes: Vec<Outcome>,
    /// Bytes written, in the target's own measure.
    pub bytes: u64,
    /// Units used.
    pub capacity: Capacity,
}

/// The writing side of a flow.
#[async_trait]
pub trait Target: Send + Sync {
    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// The name of what it writes into, for people and to tell when two flows share it.
    fn resource(&self) -> String;

    /// What the table itself *is*, where that is more than the store's own identity; `None` where it does not
    /// exist yet or the store's identity says it all.
    ///
    /// # Errors
    /// The store fails.
    async fn identity(&self) -> Result<Option<Identity>> {
        Ok(None)
    }

    /// Looks at the table and at the schema of the records to come. Writes nothing.
    ///
    /// # Errors
    /// The store fails, a column's type has no place in this target, or the key is not among the columns.
    async fn plan(&self, schema: &Schema) -> Result<TargetPlan>;

    /// Turns records into what the target would hold, without sending anything: what `plan` shows.
    fn encode(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<Encoded, Refusal>>;

    /// What tells records apart in this target: a hash of each record's key as the target would hold it, the
    /// first half of its fingerprint. `None`: the record has no usable key and will be refused.
    fn keys(&self, records: &RecordBatch, context: &RunContext) -> Vec<Option<u128>> {
        let encoded = self.encode(records, context).into_iter();
        encoded.map(|encoded| encoded.ok().map(|encoded| encoded.fingerprint.key)).collect()
    }

    /// The fingerprint of each record as the target would hold it, without sending anything; what could not be
    /// sent is refused as a writer would refuse it. Cheaper than [`Target::encode`] where a store can be.
    fn fingerprints(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<Fingerprint, Refusal>> {
        let encoded = self.encode(records, context).into_iter();
        encoded.map(|encoded| encoded.map(|encoded| encoded.fingerprint)).collect()
    }

    /// The fingerprint of each record as [`Target::fingerprints`] gives it, and what writing it would use.
    fn measured(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<(Fingerprint, Capacity), Refusal>> {
        let encoded = self.encode(records, context).into_iter();
        encoded.map(|encoded| encoded.map(|encoded| (encoded.fingerprint, encoded.capacity))).collect()
    }

    /// Told before [`Target::create`] and before any record of a run, where it is certain that no two records that the
    /// run writes into this table share a key, and nothing else of the run writes into it. A store may then make the
    /// key of a table of its own behind the load ([`Target::load_steps`]), and must see to it that a key which turns out
    /// to be shared all the same ends the run. What it is not told holds for no earlier run either.
    fn expect_distinct_keys(&self) {}

    /// Whether records can be deleted by their keys.
    fn deletes(&self) -> bool {
        false
    }

    /// Deletes these records, in scope, as far as they are still what they were when they were read, and waits until
    /// that is durable. What somebody has changed since then stays. A record that is not there is gone, so that
    /// what was cut off may be done again. Deletes nothing where [`Target::deletes`] is false.
    ///
    /// # Errors
    /// The store fails; some may be deleted.
    async fn delete(&self, _doomed: &[Doomed], _context: &RunContext) -> Result<Deleted> {
        Ok(Deleted::default())
    }

    /// How it can bring back what a run has written over, after [`Target::plan`].
    fn undoing(&self) -> Undoing {
        Undoing::Unable("this store keeps no before-images")
    }

    /// From now on writers keep what they write over, or hand it over where [`Target::undoing`] says so; and so does
    /// [`Target::delete`] with what it deletes.
    ///
    /// # Errors
    /// The store fails.
    async fn keep_before_images(&self, _images: Arc<dyn BeforeImages>) -> Result<()> {
        Ok(())
    }

    /// What deleting a record would do besides, of which no before-image is kept: rows of other tables that the store
    /// itself would delete or change. A phrase each, for people.
    ///
    /// # Errors
    /// The store fails.
    async fn deletes_besides(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Brings back what a run, that of the context, has written over, as far as the step says. A record that others
    /// have written since is left as it is and is a conflict; where before-images are kept beside the data, nothing
    /// is brought back as long as there is one. May be called again.
    ///
    /// # Errors
    /// The store fails; some may have been brought back.
    async fn undo(
        &self,
        _images: &Arc<dyn BeforeImages>,
        _step: UndoStep,
        _context: &RunContext,
    ) -> Result<Undone> {
        Ok(Undone { nothing_kept: true, ..Undone::default() })
    }

    /// Whether equal values may have fingerprints that differ: of text that the store itself turns into a type of
    /// which only it knows when two values are the same. Whoever compares asks [`Target::look_up`] then, which
    /// answers with the fingerprint of the record that it was asked for where the store holds the same.
    fn knows_best(&self) -> bool {
        false
    }

    /// Whether records can be compared where they have no key ([`TargetPlan::key`]): each as a whole. Their
    /// fingerprints' keys are then those of whole records; they cannot be looked up.
    fn compares_without_key(&self) -> bool {
        false
    }

    /// About `wanted` disjoint parts that together are all that the table holds (in scope), for
    /// [`Target::held`].
    ///
    /// # Errors
    /// The store fails, or it cannot read back.
    async fn held_parts(&self, wanted: usize) -> Result<Vec<SlicePart>>;

    /// Reads a part of the table back: every record once, whichever flow it belongs to. `flows` are the flows
    /// into this table that are compared, this target's own among them. Reads what is committed, in the
    /// strongest consistency that the store has. Memory is bounded by the batches.
    ///
    /// # Errors
    /// The store fails, or it cannot read back.
    async fn held(
        &self,
        part: &SlicePart,
        flows: &[HeldFlow],
        context: &RunContext,
    ) -> Result<BoxStream<'static, Result<HeldBatch>>>;

    /// Reads what the table holds under the keys of these records, as records of this target's flow. A record
    /// that cannot have a key there is not found.
    ///
    /// # Errors
    /// The store fails, or it cannot read back.
    async fn look_up(&self, records: &RecordBatch, context: &RunContext) -> Result<LookedUp>;

    /// Makes the table where it is missing and waits until it can be written to. May be called twice.
    ///
    /// # Errors
    /// The store fails, or there is no definition to make it from.
    async fn create(&self) -> Result<Creation>;

    /// Sees to what the table needs before a run's first record is written. May be called twice.
    ///
    /// # Errors
    /// The store fails, or refuses.
    async fn prepare(&self) -> Result<()> {
        Ok(())
    }

    /// Whether [`Target::create`] knows what to make, were the table not there.
    fn is_defined(&self) -> bool {
        true
    }

    /// Whose the table is, as the store itself has it; `None` where nobody wrote that down, where the store has no
    /// place for it, or where there is no table.
    ///
    /// # Errors
    /// The store fails.
    async fn owner(&self) -> Result<Option<Owner>> {
        Ok(None)
    }

    /// Writes down beside the table whose it is; an earlier owner is replaced. `false`: the store has no place for
    /// it.
    ///
    /// # Errors
    /// The store fails.
    async fn claim(&self, _owner: &Owner) -> Result<bool> {
        Ok(false)
    }

    /// Removes the table with everything in it, and waits until it is gone.
    ///
    /// # Errors
    /// The store fails.
    async fn remove(&self) -> Result<Removal> {
        Ok(Removal::Unable)
    }

    /// What is there as the run begins.
    ///
    /// # Errors
    /// [`crate::StoreErrorKind::NotFound`] with the tables that there are, where the table is missing.
    async fn state(&self) -> Result<TargetState>;

    /// Counts the records of flows into this table, which are told apart by what is constant in them: a record
    /// belongs to the flow with the longest constants that it has. Reads the whole table where the store cannot
    /// do better.
    ///
    /// # Errors
    /// The store fails.
    async fn count(&self, flows: &[Vec<KeyPattern>]) -> Result<Held>;

    /// What is to be done when all records are there, in order. Asked again by a resumed run: a step that is
    /// done is not named any more, or may be done again.
    ///
    /// # Errors
    /// The store fails.
    async fn load_steps(&self) -> Result<Vec<LoadStep>> {
        Ok(Vec::new())
    }

    /// The records that a step cannot leave in the table. Changes nothing; the engine keeps them as rejects
    /// before it calls [`Target::apply_step`].
    ///
    /// # Errors
    /// The store fails.
    async fn removed_by(
        &self,
        _step: &LoadStep,
        _context: &RunContext,
    ) -> Result<BoxStream<'static, Result<Removed>>> {
        Ok(futures::stream::empty().boxed())
    }

    /// Does a step, removing exactly what [`Target::removed_by`] named: both or neither.
    ///
    /// # Errors
    /// The store fails.
    async fn apply_step(&self, _step: &LoadStep, _context: &RunContext) -> Result<()> {
        Ok(())
    }

    /// A writer for one slice. `created` says that an absent history means *created*: this run made the table
    /// or found it empty.
    ///
    /// # Errors
    /// The store fails.
    async fn writer(&self, slice: &SliceId, created: bool, context: &RunContext) -> Result<Box<dyn Writer>>;
}

/// How many records a table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Of each flow that was asked for.
    pub flows: Vec<u64>,
    /// Of none of them.
    pub others: u64,
}

/// What is constant in a column over all records of a flow: `pk` begins with `USER#`, `sk` is `METADATA`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPattern {
    /// The column.
    pub column: String,
    /// The constant text.
    pub text: String,
    /// Whether the text is the whole value, not only its beginning.
    pub whole: bool,
}

/// Writes one slice's records of one flow.
#[async_trait]
pub trait Writer: Send + Sync {
    /// The checkpoint that the target itself keeps for this slice; `None` where it keeps none and the
    /// journal's holds.
    ///
    /// # Errors
    /// The store fails.
    async fn last(&self) -> Result<Option<Checkpoint>> {
        Ok(None)
    }

    /// Writes a batch and answers when every record's outcome is durable. Retries what can be retried, for
    /// at most [`RunContext::retry_for`] without progress. Several calls may be under way at once.
    ///
    /// # Errors
    /// The outcome of at least one record is unknown; the same batch may be written again, `contested`.
    async fn write(&self, batch: WriteBatch) -> Result<WriteOutcome>;

    /// Makes a batch durable together with its checkpoint, in targets with [`Capabilities::atomic_batch`]: what
    /// [`Writer::write`] did is undone unless this follows. The engine calls it once for every batch of the
    /// slice and for every flow of its scan group, in the order of the batches, also where no record of the
    /// batch reached the flow. Writers of one slice into one store share a transaction: it ends with the last
    /// of these calls. `flows` is the number of flows that will call.
    ///
    /// A target may leave it to a later commit, or to [`Writer::finish`] at the latest, to make batches durable: always
    /// all up to one of them, which [`Writer::last`] of a later writer names.
    ///
    /// # Errors
    /// The outcome is settled by reading back; what remains unknown is an error, and [`Writer::last`] of a
    /// later writer says what happened.
    async fn commit(&self, _checkpoint: &Checkpoint, _flows: usize) -> Result<()> {
        Ok(())
    }

    /// The slice is complete: what was committed is durable.
    ///
    /// # Errors
    /// The store fails.
    async fn finish(&self) -> Result<()> {
        Ok(())
    }
}
