//! The run's memory beside the data: a row for each slice and flow, set from *n* to *n + 1* in the transaction of the
//! batch itself, so that a batch arrives whole, once, or not at all.

use crate::error::from_driver;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use whimbrel_model::{
    Buckets, Capacity, Checkpoint, Counts, Cursor, FlowName, RunId, ScanTally, SliceId, StoreName,
};
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// The table that whimbrel keeps for itself.
pub(crate) const TABLE: &str = "whimbrel_ledger";

const MAKE: &str = "CREATE TABLE IF NOT EXISTS whimbrel_ledger (run TEXT NOT NULL, slice TEXT NOT NULL, \
    flow TEXT NOT NULL, seq INTEGER NOT NULL, state TEXT, sums BLOB, is_finished INTEGER NOT NULL DEFAULT 0, \
    written_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (run, slice, flow)) STRICT";

/// How long the rows of finished slices stay.
const FORGET: &str =
    "DELETE FROM whimbrel_ledger WHERE is_finished AND written_at < datetime('now', '-30 days')";

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

/// Which row of the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub run: RunId,
    pub slice: SliceId,
    pub flow: FlowName,
}

fn failed(store: &StoreName, error: rusqlite::Error) -> StoreError {
    from_driver(store, "cannot read or write the ledger", error)
}

/// Makes the table where it is missing, in the open transaction.
pub(crate) fn make(store: &StoreName, connection: &Connection) -> Result<()> {
    let is_there = connection.query_row("SELECT 1 FROM sqlite_schema WHERE name = ?1", [TABLE], |_| Ok(()));
    match is_there.optional() {
        Ok(Some(())) => Ok(()),
        Ok(None) => connection.execute_batch(MAKE).map_err(|error| failed(store, error)),
        Err(error) => Err(failed(store, error)),
    }
}

/// Forgets what nobody will ask for any more.
pub(crate) fn forget(store: &StoreName, connection: &Connection) -> Result<()> {
    connection.execute_batch(FORGET).map_err(|error| failed(store, error))
}

/// How far a flow has come in a slice; 0: it has not begun.
pub(crate) fn seq(store: &StoreName, connection: &Connection, entry: &Entry) -> Result<u64> {
    let sql = "SELECT seq FROM whimbrel_ledger WHERE run = ?1 AND slice = ?2 AND flow = ?3";
    let names = params![entry.run.as_str(), entry.slice.as_str(), entry.flow.as_str()];
    let found = connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row(names, |row| row.get::<_, i64>(0)).optional());
    let found = found.map_err(|error| failed(store, error))?.unwrap_or(0);
    u64::try_from(found).map_err(|_| damaged(store, entry))
}

/// The last checkpoint of a flow in a slice.
pub(crate) fn last(store: &StoreName, connection: &Connection, entry: &Entry) -> Result<Option<Checkpoint>> {
    let sql = "SELECT seq, state, sums FROM whimbrel_ledger WHERE run = ?1 AND slice = ?2 AND flow = ?3";
    let names = params![entry.run.as_str(), entry.slice.as_str(), entry.flow.as_str()];
    let found = connection.query_row(sql, names, |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, Option<Vec<u8>>>(2)?))
    });
    let Some((seq, state, sums)) = found.optional().map_err(|error| failed(store, error))? else {
        return Ok(None);
    };
    let kept: Option<Kept> = state.and_then(|state| serde_json::from_str(&state).ok());
    let sums = sums.and_then(|sums| Buckets::from_bytes(&sums).ok());
    let (Some(kept), Some(sums), Ok(seq)) = (kept, sums, u64::try_from(seq)) else {
        return Err(damaged(store, entry));
    };
    Ok(Some(Checkpoint {
        seq,
        cursor: kept.cursor,
        position: kept.position,
        counts: kept.counts,
        sums,
        reject_bytes: kept.reject_bytes,
        capacity: kept.capacity,
        scan: kept.scan,
    }))
}

/// Moves an entry from `known` to the checkpoint; `false`: it did not stand there any more.
pub(crate) fn advance(
    store: &StoreName,
    connection: &Connection,
    entry: &Entry,
    known: u64,
    checkpoint: &Checkpoint,
) -> Result<bool> {
    let kept = Kept {
        cursor: checkpoint.cursor.clone(),
        position: checkpoint.position,
        counts: checkpoint.counts,
        reject_bytes: checkpoint.reject_bytes,
        capacity: checkpoint.capacity,
        scan: checkpoint.scan.clone(),
    };
    let state = serde_json::to_string(&kept).map_err(|error| {
        StoreError::new(StoreErrorKind::Internal, store, "a checkpoint cannot be written").caused_by(error)
    })?;
    let signed = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
    let sql = "INSERT INTO whimbrel_ledger AS l (run, slice, flow, seq, state, sums) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
        ON CONFLICT (run, slice, flow) DO UPDATE SET seq = excluded.seq, state = excluded.state, sums = excluded.sums, \
        is_finished = 0, written_at = CURRENT_TIMESTAMP WHERE l.seq = ?7";
    let values = params![
        entry.run.as_str(),
        entry.slice.as_str(),
        entry.flow.as_str(),
        signed(checkpoint.seq),
        state,
        checkpoint.sums.to_bytes(),
        signed(known)
    ];
    let changed = connection.prepare_cached(sql).and_then(|mut statement| statement.execute(values));
    Ok(changed.map_err(|error| failed(store, error))? == 1)
}

/// Marks an entry as one that nobody will ask for again.
pub(crate) fn close(store: &StoreName, connection: &Connection, entry: &Entry) -> Result<()> {
    let sql = "UPDATE whimbrel_ledger SET is_finished = 1, written_at = CURRENT_TIMESTAMP \
        WHERE run = ?1 AND slice = ?2 AND flow = ?3";
    let names = params![entry.run.as_str(), entry.slice.as_str(), entry.flow.as_str()];
    connection.execute(sql, names).map(|_| ()).map_err(|error| failed(store, error))
}

fn damaged(store: &StoreName, entry: &Entry) -> StoreError {
    let context =
        format!("the ledger's row for slice {} of flow `{}` cannot be read", entry.slice, entry.flow);
    StoreError::new(StoreErrorKind::Mismatch, store, context)
        .with_hint("another version of whimbrel may have written it; go on with that one, or begin anew")
}
