//! The run's memory beside the data: a row for each slice and flow, set from *n* to *n + 1* in the transaction
//! of the batch itself, so that a batch arrives whole, once, or not at all.

use crate::client::{Connections, Lease, Line, Purpose, ask};
use crate::error::from_driver;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::OnceCell;
use tokio_postgres::Statement;
use tokio_postgres::types::{ToSql, Type};
use whimbrel_model::{Checkpoint, FlowName, StoreName};
use whimbrel_store::ledger::{CommitFailure, Entry, Ledger, LedgerRow, Move, signed};
use whimbrel_store::{Result, StoreError};

/// Where whimbrel keeps what is its own.
pub(crate) const SCHEMA: &str = "whimbrel";

/// What a session of another process must not do at the same time.
pub(crate) const LOCK: i64 = 0x7768_696d_6272;

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

/// Whether the ledger's tables are there.
#[derive(Debug, Default)]
pub(crate) struct LedgerTables {
    are_there: OnceCell<()>,
}

/// The ledger of a store.
pub(crate) struct PostgresLedger {
    pub store: StoreName,
    pub connections: Arc<Connections>,
    pub tables: Arc<LedgerTables>,
}

/// A transaction under way.
pub(crate) struct Open {
    pub lease: Lease,
    /// Staging tables that hold rows of this transaction already.
    pub used: BTreeSet<String>,
    pub statements: HashMap<String, Statement>,
}

impl PostgresLedger {
    /// A transaction, in which the tables are there.
    async fn lease(&self) -> Result<Lease> {
        self.ensure_tables().await?;
        self.connections.lease(Purpose::Write).await
    }

    /// Makes the tables where they are missing, once a process.
    async fn ensure_tables(&self) -> Result<()> {
        let ensured = self.tables.are_there.get_or_try_init(|| async {
            let lease = self.connections.lease(Purpose::Write).await?;
            make(&self.store, &lease).await?;
            lease.client().batch_execute(FORGET).await.map_err(|error| failed(&self.store, error))?;
            lease.finish().await
        });
        ensured.await.copied()
    }
}

/// Makes the tables where they are missing, in the lease's transaction.
pub(crate) async fn make(store: &StoreName, lease: &Lease) -> Result<()> {
    let there = "SELECT to_regclass('whimbrel.ledger') IS NOT NULL AND to_regclass('whimbrel.after_load') IS NOT NULL";
    let is_there = ask(lease.client(), there, &[]).await.map_err(|error| failed(store, error))?;
    if is_there == Some(true) {
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

/// Locks an entry, making it where it is missing, and reads it. Waits for whoever holds it.
async fn lock(store: &StoreName, lease: &Lease, entry: &Entry) -> Result<Option<Checkpoint>> {
    let (run, slice, flow) = (entry.run.as_str(), entry.slice.as_str(), entry.flow.as_str());
    let insert =
        "INSERT INTO whimbrel.ledger (run, slice, flow, seq) VALUES ($1, $2, $3, 0) ON CONFLICT DO NOTHING";
    let select =
        "SELECT seq, state, sums FROM whimbrel.ledger WHERE run = $1 AND slice = $2 AND flow = $3 FOR UPDATE";
    let client = lease.client();
    let text = Type::TEXT;
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&run, text.clone()), (&slice, text.clone()), (&flow, text)];
    client.execute_typed(insert, &parameters).await.map_err(|error| failed(store, error))?;
    let row = client.query_typed(select, &parameters).await.map_err(|error| failed(store, error))?;
    let Some(row) = row.first() else { return Err(entry.damaged(store)) };
    let seq: i64 = row.try_get(0).map_err(|error| failed(store, error))?;
    if seq == 0 {
        return Ok(None);
    }
    let state: Option<&[u8]> = row.try_get(1).map_err(|error| failed(store, error))?;
    let sums: Option<&[u8]> = row.try_get(2).map_err(|error| failed(store, error))?;
    entry.checkpoint(store, seq, state, sums).map(Some)
}

/// Locks the rows of a slice's flows, which stay locked until the end, so that another attempt waits for this
/// transaction; answers with how far each has come.
async fn lock_all(store: &StoreName, line: &Line, entries: &[Entry]) -> Result<Vec<u64>> {
    let Some(Entry { run, slice, .. }) = entries.first() else { return Ok(Vec::new()) };
    let flows: Vec<&str> = entries.iter().map(|entry| entry.flow.as_str()).collect();
    let sql = "SELECT flow, seq FROM whimbrel.ledger WHERE run = $1 AND slice = $2 AND flow = ANY($3) \
         ORDER BY flow FOR UPDATE";
    let select = line.prepared(sql).await.map_err(|error| failed(store, error))?;
    let rows = line.client().query(&select, &[&run.as_str(), &slice.as_str(), &flows]).await;
    let rows = rows.map_err(|error| failed(store, error))?;
    let entry = |row: &tokio_postgres::Row| {
        let (flow, seq): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((FlowName::new(flow), u64::try_from(seq).unwrap_or(0)))
    };
    let found: std::result::Result<BTreeMap<FlowName, u64>, _> = rows.iter().map(entry).collect();
    let found = found.map_err(|error| failed(store, error))?;
    Ok(entries.iter().map(|entry| found.get(&entry.flow).copied().unwrap_or(0)).collect())
}

/// Moves an entry to its next checkpoint; `false`: it did not stand there any more.
async fn advance(store: &StoreName, lease: &Lease, step: &Move) -> Result<bool> {
    let Move { entry, known, to } = step;
    let LedgerRow { state, sums } = LedgerRow::of(store, to)?;
    let sql = "INSERT INTO whimbrel.ledger AS l (run, slice, flow, seq, state, sums) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (run, slice, flow) DO UPDATE SET seq = EXCLUDED.seq, state = EXCLUDED.state, \
         sums = EXCLUDED.sums, is_finished = false, written_at = now() WHERE l.seq = $7";
    let (run, slice, flow) = (entry.run.as_str(), entry.slice.as_str(), entry.flow.as_str());
    let insert = lease.line().prepared(sql).await.map_err(|error| failed(store, error))?;
    let (seq, known) = (signed(to.seq), signed(*known));
    let parameters: [&(dyn ToSql + Sync); 7] = [&run, &slice, &flow, &seq, &state.as_bytes(), &sums, &known];
    let changed = lease.client().execute(&insert, &parameters).await;
    Ok(changed.map_err(|error| failed(store, error))? == 1)
}

/// Marks an entry as one that nobody will ask for again.
async fn close(store: &StoreName, lease: &Lease, entry: &Entry) -> Result<()> {
    let sql = "UPDATE whimbrel.ledger SET is_finished = true, written_at = now() WHERE run = $1 AND slice = $2 AND flow = $3";
    let (run, slice, flow) = (entry.run.as_str(), entry.slice.as_str(), entry.flow.as_str());
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&run, Type::TEXT), (&slice, Type::TEXT), (&flow, Type::TEXT)];
    lease.client().execute_typed(sql, &parameters).await.map_err(|error| failed(store, error))?;
    Ok(())
}

#[async_trait]
impl Ledger for PostgresLedger {
    type Transaction = Open;

    fn store(&self) -> &StoreName {
        &self.store
    }

    async fn last(&self, entry: &Entry) -> Result<Option<Checkpoint>> {
        let lease = self.lease().await?;
        let found = lock(&self.store, &lease, entry).await?;
        lease.finish().await?;
        Ok(found)
    }

    async fn sequences(&self, entries: &[Entry]) -> Result<Vec<u64>> {
        let lease = self.lease().await?;
        let found = lock_all(&self.store, lease.line(), entries).await?;
        lease.finish().await?;
        Ok(found)
    }

    async fn begin(&self, entries: &[Entry]) -> Result<(Open, Vec<u64>)> {
        self.ensure_tables().await?;
        let lock = async |line: Line| lock_all(&self.store, &line, entries).await;
        let (lease, found) = self.connections.lease_asking(Purpose::Batches, lock).await?;
        let found = found?;
        Ok((Open { lease, used: BTreeSet::new(), statements: HashMap::new() }, found))
    }

    async fn advance(&self, open: &mut Open, moves: Vec<Move>) -> Result<bool> {
        for step in &moves {
            if !advance(&self.store, &open.lease, step).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn commit(&self, open: Open) -> std::result::Result<(), CommitFailure<Open>> {
        match open.lease.finish().await {
            Ok(()) => Ok(()),
            Err(error) if error.kind().is_retryable() => Err(CommitFailure::Unknown(error)),
            Err(error) => Err(CommitFailure::Refused(error)),
        }
    }

    async fn close(&self, entry: &Entry) -> Result<()> {
        let lease = self.lease().await?;
        close(&self.store, &lease, entry).await?;
        lease.finish().await
    }
}
