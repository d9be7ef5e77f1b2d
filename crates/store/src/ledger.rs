//! Ledgers: the run's memory beside the data, in targets with [`crate::Capabilities::atomic_batch`]. A row for each slice
//! and flow goes from *n* to *n + 1* in the transaction of the batch itself, so that a batch arrives whole, once, or
//! not at all.
//!
//! A store says how its ledger is read and written ([`Ledger`]); how the writers of a slice share a transaction, what
//! is waited for and how a lost commit is settled is the same for all of them ([`Sessions`]).

mod session;

pub use session::{Sessions, SliceSession, State};

use crate::error::{Result, StoreError, StoreErrorKind};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use whimbrel_model::{
    Buckets, Capacity, Checkpoint, Counts, Cursor, FlowName, RunId, ScanTally, SliceId, StoreName,
};

/// Which row of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The run.
    pub run: RunId,
    /// The slice.
    pub slice: SliceId,
    /// The flow.
    pub flow: FlowName,
}

/// An entry on its way to the next checkpoint.
#[derive(Clone, Debug)]
pub struct Move {
    /// The entry.
    pub entry: Entry,
    /// Where it stands, as far as this attempt knows; 0: it has not begun.
    pub known: u64,
    /// Where it goes.
    pub to: Checkpoint,
}

/// How a commit failed.
#[derive(Debug)]
pub enum CommitFailure<T> {
    /// The transaction is still open: the same commit may succeed later.
    Open(T, StoreError),
    /// The transaction has ended; whether it was committed only the ledger knows.
    Unknown(StoreError),
    /// It was not committed.
    Refused(StoreError),
}

/// A store's ledger. Each function is one attempt: whoever calls it waits and tries again.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// A transaction that batches are written in. What is not committed is undone when it is dropped.
    type Transaction: Send;

    /// The store, for errors.
    fn store(&self) -> &StoreName;

    /// What the ledger keeps of an entry; `None`: it has not begun. Waits for a transaction of another attempt.
    ///
    /// # Errors
    /// The store fails, or the row cannot be read.
    async fn last(&self, entry: &Entry) -> Result<Option<Checkpoint>>;

    /// How far entries have come.
    ///
    /// # Errors
    /// The store fails.
    async fn sequences(&self, entries: &[Entry]) -> Result<Vec<u64>>;

    /// Begins a transaction, and says how far the entries have come in it. No other attempt moves them until it ends.
    ///
    /// # Errors
    /// The store fails.
    async fn begin(&self, entries: &[Entry]) -> Result<(Self::Transaction, Vec<u64>)>;

    /// Moves entries in the transaction; `false`: one does not stand where it was thought to stand.
    ///
    /// # Errors
    /// The store fails.
    async fn advance(&self, transaction: &mut Self::Transaction, moves: Vec<Move>) -> Result<bool>;

    /// Commits.
    ///
    /// # Errors
    /// With what is known of the transaction.
    async fn commit(
        &self,
        transaction: Self::Transaction,
    ) -> std::result::Result<(), CommitFailure<Self::Transaction>>;

    /// Marks an entry as one that nobody will ask for again.
    ///
    /// # Errors
    /// The store fails.
    async fn close(&self, entry: &Entry) -> Result<()>;
}

/// A checkpoint but for its sums.
#[derive(Serialize, Deserialize)]
struct Kept {
    cursor: Option<Cursor>,
    position: u64,
    counts: Counts,
    reject_bytes: u64,
    capacity: Capacity,
    #[serde(default)]
    scan: ScanTally,
}

/// A checkpoint as ledgers keep it, beside its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// All but its sums, in JSON.
    pub state: String,
    /// Its sums.
    pub sums: Vec<u8>,
}

impl LedgerRow {
    /// What is kept of a checkpoint.
    ///
    /// # Errors
    /// It cannot be written as JSON, which is a mistake of ours.
    pub fn of(store: &StoreName, checkpoint: &Checkpoint) -> Result<Self> {
        let kept = Kept {
            cursor: checkpoint.cursor.clone(),
            position: checkpoint.position,
            counts: checkpoint.counts,
            reject_bytes: checkpoint.reject_bytes,
            capacity: checkpoint.capacity,
            scan: checkpoint.scan.clone(),
        };
        let state = serde_json::to_string(&kept).map_err(|error| {
            StoreError::new(StoreErrorKind::Internal, store, "a checkpoint cannot be written")
                .caused_by(error)
        })?;
        Ok(Self { state, sums: checkpoint.sums.to_bytes() })
    }
}

impl Entry {
    /// The checkpoint that a row keeps.
    ///
    /// # Errors
    /// The row cannot be read.
    pub fn checkpoint(
        &self,
        store: &StoreName,
        seq: i64,
        state: Option<&[u8]>,
        sums: Option<&[u8]>,
    ) -> Result<Checkpoint> {
        let kept: Option<Kept> = state.and_then(|state| serde_json::from_slice(state).ok());
        let sums = sums.and_then(|sums| Buckets::from_bytes(sums).ok());
        let (Some(kept), Some(sums), Ok(seq)) = (kept, sums, u64::try_from(seq)) else {
            return Err(self.damaged(store));
        };
        Ok(Checkpoint {
            seq,
            cursor: kept.cursor,
            position: kept.position,
            counts: kept.counts,
            sums,
            reject_bytes: kept.reject_bytes,
            capacity: kept.capacity,
            scan: kept.scan,
        })
    }

    /// That the row cannot be read.
    #[must_use]
    pub fn damaged(&self, store: &StoreName) -> StoreError {
        let context =
            format!("the ledger's row for slice {} of flow `{}` cannot be read", self.slice, self.flow);
        StoreError::new(StoreErrorKind::Mismatch, store, context)
            .with_hint("another version of whimbrel may have written it; go on with that one, or begin anew")
    }
}

/// The number of a checkpoint as databases keep it.
#[must_use]
pub fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
