//! The run's memory beside the data: a row for each slice and flow, set from *n* to *n + 1* in the transaction
//! of the batch itself, so that a batch arrives whole, once, or not at all.

use crate::client::{Connections, Lease, Purpose};
use crate::error::from_driver;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio::sync::OnceCell;
use tokio_postgres::types::Type;
use whimbrel_model::{
    Buckets, Capacity, Checkpoint, Counts, Cursor, FlowName, RunId, ScanTally, SliceId, StoreName,
};
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// Where whimbrel keeps what is its own.
pub(crate) const SCHEMA: &str = "whimbrel";

/// What a session of another process must not do at the same time.
const LOCK: i64 = 0x7768_696d_6272;

const TABLES: &str = "\
CREATE SCHEMA IF NOT EXISTS whimbrel; \
CREATE TABLE IF NOT EXISTS whimbrel.ledger (run text NOT NULL, slice text NOT NULL, flow text NOT NULL, \
  seq bigint NOT NULL, state bytea, sums bytea, is_finished boolean NOT NULL DEFAULT false, \
  written_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (run, slice, flow)); \
ALTER TABLE whimbrel.ledger ALTER COLUMN sums SET STORAGE EXTERNAL; \
CREATE TABLE IF NOT EXISTS whimbrel.after_load (table_oid oid NOT NULL, place integer NOT NULL, kind text NOT NULL, \
  name text NOT NULL, definition text NOT NULL, columns text[] NOT NULL DEFAULT '{}', parent oid, \
  parent_columns text[] NOT NULL DEFAULT '{}', is_done boolean NOT NULL DEFAULT false, \
  PRIMARY KEY (table_oid, kind, name))";

/// How long the rows of finished slices stay.
const FORGET: &str =
    "DELETE FROM whimbrel.ledger WHERE is_finished AND written_at < now() - interval '30 days'";

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
pub(crate) struct Entry<'a> {
    pub run: &'a RunId,
    pub slice: &'a SliceId,
    pub flow: &'a FlowName,
}

/// The ledger of a store.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    is_there: OnceCell<()>,
}

impl Ledger {
    /// Makes the tables where they are missing, once a process.
    pub(crate) async fn ensure(&self, store: &StoreName, connections: &Connections) -> Result<()> {
        self.is_there
            .get_or_try_init(|| async {
                let lease = connections.lease(Purpose::Write).await?;
                make(store, &lease).await?;
                lease.client().batch_execute(FORGET).await.map_err(|error| failed(store, error))?;
                lease.finish().await
            })
            .await
            .copied()
    }
}

/// Makes the tables where they are missing, in the lease's transaction.
pub(crate) async fn make(store: &StoreName, lease: &Lease) -> Result<()> {
    let there = "SELECT to_regclass('whimbrel.ledger') IS NOT NULL AND to_regclass('whimbrel.after_load') IS NOT NULL";
    let is_there = lease.client().query_one(there, &[]).await.and_then(|row| row.try_get::<_, bool>(0));
    if is_there.map_err(|error| failed(store, error))? {
        return Ok(());
    }
    let sql = format!("SELECT pg_advisory_xact_lock({LOCK}); {TABLES}");
    lease.client().batch_execute(&sql).await.map_err(|error| {
        let database = &lease.server().database;
        let hint = format!(
            "whimbrel keeps its place in the schema `{SCHEMA}`: GRANT CREATE ON DATABASE \"{database}\" TO \"{}\"",
            lease.server().user
        );
        from_driver(store, "cannot make the ledger", error).with_hint(hint)
    })
}

fn failed(store: &StoreName, error: tokio_postgres::Error) -> StoreError {
    from_driver(store, "cannot read or write the ledger", error)
}

fn damaged(store: &StoreName, entry: &Entry<'_>) -> StoreError {
    let context =
        format!("the ledger's row for slice {} of flow `{}` cannot be read", entry.slice, entry.flow);
    StoreError::new(StoreErrorKind::Mismatch, store, context)
        .with_hint("another version of whimbrel may have written it; go on with that one, or begin anew")
}

/// Locks an entry, making it where it is missing, and reads it. Waits for whoever holds it.
pub(crate) async fn lock(store: &StoreName, lease: &Lease, entry: &Entry<'_>) -> Result<Option<Checkpoint>> {
    let (run, slice, flow) = (entry.run.as_str(), entry.slice.as_str(), entry.flow.as_str());
    let insert =
        "INSERT INTO whimbrel.ledger (run, slice, flow, seq) VALUES ($1, $2, $3, 0) ON CONFLICT DO NOTHING";
    let select =
        "SELECT seq, state, sums FROM whimbrel.ledger WHERE run = $1 AND slice = $2 AND flow = $3 FOR UPDATE";
    let client = lease.client();
    let text = Type::TEXT;
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&run, text.clone()), (&slice, text.clone()), (&flow, text)];
    client.execute_typed(insert, &parameters).await.map_err(|error| failed(store, error))?;
    let row = client.query_typed(select, &parameters).await.map_err(|error| failed(store, error))?;
    let Some(row) = row.first() else { return Err(damaged(store, entry)) };
    let seq: i64 = row.try_get(0).map_err(|error| failed(store, error))?;
    if seq == 0 {
        return Ok(None);
    }
    let state: Option<&[u8]> = row.try_get(1).map_err(|error| failed(store, error))?;
    let sums: Option<&[u8]> = row.try_get(2).map_err(|error| failed(store, error))?;
    let kept: Option<Kept> = state.and_then(|state| serde_json::from_slice(state).ok());
    let sums = sums.and_then(|sums| Buckets::from_bytes(sums).ok());
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

/// Locks all rows of a slice that belong to these flows; answers with how far each has come.
pub(crate) async fn lock_all(
    store: &StoreName,
    lease: &Lease,
    run: &RunId,
    slice: &SliceId,
    flows: &[String],
) -> Result<BTreeMap<FlowName, u64>> {
    let sql = "SELECT flow, seq FROM whimbrel.ledger WHERE run = $1 AND slice = $2 AND flow = ANY($3) \
         ORDER BY flow FOR UPDATE";
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&run.as_str(), Type::TEXT), (&slice.as_str(), Type::TEXT), (&flows, Type::TEXT_ARRAY)];
    let rows = lease.client().query_typed(sql, &parameters).await.map_err(|error| failed(store, error))?;
    let entry = |row: &tokio_postgres::Row| {
        let (flow, seq): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((FlowName::new(flow), u64::try_from(seq).unwrap_or(0)))
    };
    rows.iter().map(entry).collect::<std::result::Result<_, _>>().map_err(|error| failed(store, error))
}

/// Moves an entry from `known` to the checkpoint; `false`: it did not stand there any more.
pub(crate) async fn advance(
    store: &StoreName,
    lease: &Lease,
    entry: &Entry<'_>,
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
    let state = serde_json::to_vec(&kept).map_err(|error| {
        StoreError::new(StoreErrorKind::Internal, store, "a checkpoint cannot be written").caused_by(error)
    })?;
    let sql = "INSERT INTO whimbrel.ledger AS l (run, slice, flow, seq, state, sums) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (run, slice, flow) DO UPDATE SET seq = EXCLUDED.seq, state = EXCLUDED.state, \
         sums = EXCLUDED.sums, is_finished = false, written_at = now() WHERE l.seq = $7";
    let signed = |seq: u64| i64::try_from(seq).unwrap_or(i64::MAX);
    let (run, slice, flow) = (entry.run.as_str(), entry.slice.as_str(), entry.flow.as_str());
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 7] = [
        (&run, Type::TEXT),
        (&slice, Type::TEXT),
        (&flow, Type::TEXT),
        (&signed(checkpoint.seq), Type::INT8),
        (&state, Type::BYTEA),
        (&checkpoint.sums.to_bytes(), Type::BYTEA),
        (&signed(known), Type::INT8),
    ];
    let changed = lease.client().execute_typed(sql, &parameters).await;
    Ok(changed.map_err(|error| failed(store, error))? == 1)
}

/// Marks an entry as one that nobody will ask for again.
pub(crate) async fn close(store: &StoreName, lease: &Lease, entry: &Entry<'_>) -> Result<()> {
    let sql = "UPDATE whimbrel.ledger SET is_finished = true, written_at = now() WHERE run = $1 AND slice = $2 AND flow = $3";
    let (run, slice, flow) = (entry.run.as_str(), entry.slice.as_str(), entry.flow.as_str());
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&run, Type::TEXT), (&slice, Type::TEXT), (&flow, Type::TEXT)];
    lease.client().execute_typed(sql, &parameters).await.map_err(|error| failed(store, error))?;
    Ok(())
}
