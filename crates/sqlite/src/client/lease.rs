//! The one connection that writes, lent for a transaction.

use crate::error::from_driver;
use rusqlite::Connection;
use tokio::sync::OwnedMutexGuard;
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// Where the connection that writes is kept.
#[derive(Default)]
pub(crate) struct WriteSlot {
    connection: Option<Connection>,
}

impl WriteSlot {
    pub(crate) fn close(&mut self) {
        self.connection = None;
    }
}

/// A transaction under way. What is not finished is rolled back, whoever drops it.
pub(crate) struct WriteLease {
    store: StoreName,
    held: Option<Held>,
}

struct Held(OwnedMutexGuard<WriteSlot>);

impl Drop for Held {
    fn drop(&mut self) {
        let Some(connection) = &self.0.connection else { return };
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be rolled back; the connection is closed");
            self.0.connection = None;
        }
    }
}

impl WriteLease {
    /// Begins a transaction. Blocks for as long as SQLite waits for another program.
    pub(crate) fn begin(
        store: &StoreName,
        mut slot: OwnedMutexGuard<WriteSlot>,
        open: impl FnOnce() -> Result<Connection>,
    ) -> Result<Self> {
        if slot.connection.is_none() {
            slot.connection = Some(open()?);
        }
        let held = Held(slot);
        if let Some(connection) = &held.0.connection {
            let begun = connection.execute_batch("BEGIN IMMEDIATE");
            begun.map_err(|error| from_driver(store, "cannot begin to write", error))?;
        }
        Ok(Self { store: store.clone(), held: Some(held) })
    }

    fn internal(&self) -> StoreError {
        StoreError::new(StoreErrorKind::Internal, &self.store, "the connection that writes is gone")
    }

    /// Runs something in the transaction, where it may block.
    pub(crate) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let held = self.held.take().ok_or_else(|| self.internal())?;
        let ran = tokio::task::spawn_blocking(move || {
            let done = held.0.connection.as_ref().map(work);
            (held, done)
        });
        let (held, done) = ran.await.map_err(|error| self.internal().caused_by(error))?;
        self.held = Some(held);
        done.ok_or_else(|| self.internal())?
    }

    /// Commits. After a failure that can pass ([`StoreErrorKind::Overloaded`]) the transaction is still open, and
    /// this may be called again; after any other it is rolled back when the lease is dropped.
    pub(crate) async fn commit(&mut self) -> Result<()> {
        let store = self.store.clone();
        self.run(move |connection| {
            let ended = connection.execute_batch("COMMIT");
            ended.map_err(|error| from_driver(&store, "cannot commit", error))
        })
        .await
    }
}
