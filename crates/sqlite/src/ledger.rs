//! The run's memory beside the data: a row for each slice and flow, set from *n* to *n + 1* in the transaction of the
//! batch itself, so that a batch arrives whole, once, or not at all.

use crate::client::{Client, WriteLease};
use crate::error::from_driver;
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};
use whimbrel_model::{Checkpoint, StoreName};
use whimbrel_store::ledger::{CommitFailure, Entry, Ledger, LedgerRow, Move, signed};
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// The table that whimbrel keeps for itself.
pub(crate) const TABLE: &str = "whimbrel_ledger";

const MAKE: &str = "CREATE TABLE IF NOT EXISTS whimbrel_ledger (run TEXT NOT NULL, slice TEXT NOT NULL, \
    flow TEXT NOT NULL, seq INTEGER NOT NULL, state TEXT, sums BLOB, is_finished INTEGER NOT NULL DEFAULT 0, \
    written_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY (run, slice, flow)) STRICT";

/// How long the rows of finished slices stay.
const FORGET: &str =
    "DELETE FROM whimbrel_ledger WHERE is_finished AND written_at < datetime('now', '-30 days')";

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
fn forget(store: &StoreName, connection: &Connection) -> Result<()> {
    connection.execute_batch(FORGET).map_err(|error| failed(store, error))
}

/// How far a flow has come in a slice; 0: it has not begun.
fn seq(store: &StoreName, connection: &Connection, entry: &Entry) -> Result<u64> {
    let sql = "SELECT seq FROM whimbrel_ledger WHERE run = ?1 AND slice = ?2 AND flow = ?3";
    let names = params![entry.run.as_str(), entry.slice.as_str(), entry.flow.as_str()];
    let found = connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row(names, |row| row.get::<_, i64>(0)).optional());
    let found = found.map_err(|error| failed(store, error))?.unwrap_or(0);
    u64::try_from(found).map_err(|_| entry.damaged(store))
}

/// The last checkpoint of a flow in a slice.
fn last(store: &StoreName, connection: &Connection, entry: &Entry) -> Result<Option<Checkpoint>> {
    let sql = "SELECT seq, state, sums FROM whimbrel_ledger WHERE run = ?1 AND slice = ?2 AND flow = ?3";
    let names = params![entry.run.as_str(), entry.slice.as_str(), entry.flow.as_str()];
    let found = connection.query_row(sql, names, |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, Option<Vec<u8>>>(2)?))
    });
    let Some((seq, state, sums)) = found.optional().map_err(|error| failed(store, error))? else {
        return Ok(None);
    };
    entry.checkpoint(store, seq, state.as_deref().map(str::as_bytes), sums.as_deref()).map(Some)
}

/// Moves an entry to its next checkpoint; `false`: it did not stand there any more.
fn advance(store: &StoreName, connection: &Connection, step: &Move) -> Result<bool> {
    let Move { entry, known, to } = step;
    let LedgerRow { state, sums } = LedgerRow::of(store, to)?;
    let sql = "INSERT INTO whimbrel_ledger AS l (run, slice, flow, seq, state, sums) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
        ON CONFLICT (run, slice, flow) DO UPDATE SET seq = excluded.seq, state = excluded.state, sums = excluded.sums, \
        is_finished = 0, written_at = CURRENT_TIMESTAMP WHERE l.seq = ?7";
    let values = params![
        entry.run.as_str(),
        entry.slice.as_str(),
        entry.flow.as_str(),
        signed(to.seq),
        state,
        sums,
        signed(*known)
    ];
    let changed = connection.prepare_cached(sql).and_then(|mut statement| statement.execute(values));
    Ok(changed.map_err(|error| failed(store, error))? == 1)
}

/// Marks an entry as one that nobody will ask for again.
fn close(store: &StoreName, connection: &Connection, entry: &Entry) -> Result<()> {
    let sql = "UPDATE whimbrel_ledger SET is_finished = 1, written_at = CURRENT_TIMESTAMP \
        WHERE run = ?1 AND slice = ?2 AND flow = ?3";
    let names = params![entry.run.as_str(), entry.slice.as_str(), entry.flow.as_str()];
    connection.execute(sql, names).map(|_| ()).map_err(|error| failed(store, error))
}

impl Client {
    /// A transaction of its own, short.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut lease = self.begin(false).await?;
        let done = lease.run(work).await?;
        lease.commit().await?;
        Ok(done)
    }
}

#[async_trait]
impl Ledger for Client {
    type Transaction = WriteLease;

    fn store(&self) -> &StoreName {
        &self.store
    }

    async fn last(&self, entry: &Entry) -> Result<Option<Checkpoint>> {
        let (store, entry) = (self.store.clone(), entry.clone());
        self.alone(move |connection| {
            make(&store, connection)?;
            forget(&store, connection)?;
            last(&store, connection, &entry)
        })
        .await
    }

    async fn sequences(&self, entries: &[Entry]) -> Result<Vec<u64>> {
        let (store, entries) = (self.store.clone(), entries.to_vec());
        self.alone(move |connection| entries.iter().map(|entry| seq(&store, connection, entry)).collect())
            .await
    }

    async fn begin(&self, entries: &[Entry]) -> Result<(WriteLease, Vec<u64>)> {
        let mut lease = Self::begin(self, false).await?;
        let (store, entries) = (self.store.clone(), entries.to_vec());
        let found = lease.run(move |connection| {
            make(&store, connection)?;
            entries.iter().map(|entry| seq(&store, connection, entry)).collect::<Result<Vec<u64>>>()
        });
        let found = found.await?;
        Ok((lease, found))
    }

    async fn advance(&self, lease: &mut WriteLease, moves: Vec<Move>) -> Result<bool> {
        let store = self.store.clone();
        lease
            .run(move |connection| {
                for step in &moves {
                    if !advance(&store, connection, step)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            })
            .await
    }

    async fn commit(&self, mut lease: WriteLease) -> std::result::Result<(), CommitFailure<WriteLease>> {
        match lease.commit().await {
            Ok(()) => Ok(()),
            // Somebody who reads may hold the commit up; anything else has ended the transaction.
            Err(error) if error.kind() == StoreErrorKind::Overloaded => {
                Err(CommitFailure::Open(lease, error))
            }
            Err(error) => Err(CommitFailure::Unknown(error)),
        }
    }

    async fn close(&self, entry: &Entry) -> Result<()> {
        let (store, entry) = (self.store.clone(), entry.clone());
        self.alone(move |connection| {
            make(&store, connection)?;
            close(&store, connection, &entry)
        })
        .await
    }
}
