//! Connections that read one snapshot.
//!
//! A transaction for reading sees the database as it was at its first statement. That several see the same is known
//! from `PRAGMA data_version`: a connection of its own, the monitor, tells whether anybody has committed in between.
//! While nobody has, more connections can join the epoch; afterwards readers share those that there are.

use super::open_source;
use crate::config::SqliteConfig;
use crate::error::from_driver;
use rusqlite::Connection;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// How many connections an epoch begins with.
const CONNECTIONS: usize = 4;
/// How often they are tried to be opened between two commits of others.
const ATTEMPTS: usize = 8;

/// The connections that read sources.
pub(crate) struct Readers {
    store: StoreName,
    config: SqliteConfig,
    /// Whether anybody reads this store as a source; else epochs would hold locks for nothing.
    is_read: AtomicBool,
    state: Mutex<State>,
    given_back: Notify,
}

#[derive(Default)]
struct State {
    number: u64,
    epoch: Option<Epoch>,
}

struct Epoch {
    monitor: Connection,
    /// What the monitor says while the database is as it was when the epoch began; `None`: it was never certain.
    version: Option<i64>,
    idle: Vec<Connection>,
    /// How many are lent.
    lent: usize,
}

/// A connection with a transaction for reading. Goes back where it came from.
pub(crate) struct ReadLease {
    readers: Arc<Readers>,
    connection: Option<Connection>,
    /// The epoch that it belongs to; `None`: it has a snapshot of its own.
    epoch: Option<u64>,
}

/// What there is for somebody who wants to read.
enum Found {
    Lease(ReadLease),
    /// All are lent, and no more can join.
    Wait,
}

impl Readers {
    pub(crate) fn new(store: &StoreName, config: &SqliteConfig) -> Self {
        Self {
            store: store.clone(),
            config: config.clone(),
            is_read: AtomicBool::new(false),
            state: Mutex::default(),
            given_back: Notify::new(),
        }
    }

    /// Somebody will read.
    pub(crate) fn announce(&self) {
        self.is_read.store(true, Ordering::Relaxed);
    }

    /// Whether somebody will read.
    pub(crate) fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an epoch. Blocks.
    pub(crate) fn begin_epoch(&self) -> Result<()> {
        self.end_epoch();
        if !self.is_read() {
            return Ok(());
        }
        let monitor = open_source(&self.store, &self.config)?;
        let mut idle = Vec::with_capacity(CONNECTIONS);
        let mut version = None;
        for _ in 0..ATTEMPTS {
            let before = self.version(&monitor)?;
            idle.clear();
            for _ in 0..CONNECTIONS {
                idle.push(self.open()?);
            }
            version = Some(before).filter(|before| self.version(&monitor).is_ok_and(|now| now == *before));
            if version.is_some() {
                break;
            }
        }
        if version.is_none() {
            // Another program commits all the time: one connection has one snapshot in any case.
            idle.truncate(1);
        }
        let mut state = self.state();
        state.number += 1;
        state.epoch = Some(Epoch { monitor, version, idle, lent: 0 });
        Ok(())
    }

    /// Lets go of the snapshot; what is lent keeps its own until it is given back.
    pub(crate) fn end_epoch(&self) {
        self.state().epoch = None;
        self.given_back.notify_waiters();
    }

    /// Lets go of a snapshot that nobody is reading, where it would hold up a writer: only in the write-ahead mode
    /// do readers and the writer not wait for one another.
    pub(crate) fn make_way(&self) {
        let mut state = self.state();
        let is_in_the_way = state.epoch.as_ref().is_some_and(|epoch| {
            let mode = epoch.monitor.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
            epoch.lent == 0 && !mode.is_ok_and(|mode| mode == "wal")
        });
        if is_in_the_way {
            state.epoch = None;
        }
    }

    fn version(&self, monitor: &Connection) -> Result<i64> {
        let version = monitor.query_row("PRAGMA data_version", [], |row| row.get(0));
        version.map_err(|error| from_driver(&self.store, "cannot look at the database's version", error))
    }

    /// A connection whose snapshot begins now.
    fn open(&self) -> Result<Connection> {
        let connection = open_source(&self.store, &self.config)?;
        let begun = connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema");
        begun.map_err(|error| from_driver(&self.store, "cannot begin to read", error))?;
        Ok(connection)
    }

    /// A connection that reads the epoch's snapshot, or what is committed now where there is none.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<ReadLease> {
        loop {
            let given_back = self.given_back.notified();
            tokio::pin!(given_back);
            given_back.as_mut().enable();
            let readers = Arc::clone(self);
            match super::blocking(&self.store, move || readers.find()).await? {
                Found::Lease(lease) => return Ok(lease),
                Found::Wait => given_back.await,
            }
        }
    }

    /// As [`Readers::lease`], for a look at the catalog: where all connections are lent, by people who may wait for
    /// this very look, one with a snapshot of its own will do.
    pub(crate) async fn lease_for_a_look(self: &Arc<Self>) -> Result<ReadLease> {
        let readers = Arc::clone(self);
        let found = super::blocking(&self.store, move || match readers.find()? {
            Found::Lease(lease) => Ok(lease),
            Found::Wait => Ok(readers.lend(readers.open()?, None)),
        });
        found.await
    }

    fn find(self: &Arc<Self>) -> Result<Found> {
        let mut state = self.state();
        let number = state.number;
        let Some(epoch) = &mut state.epoch else {
            drop(state);
            let connection = self.open()?;
            return Ok(Found::Lease(self.lend(connection, None)));
        };
        if let Some(connection) = epoch.idle.pop() {
            epoch.lent += 1;
            return Ok(Found::Lease(self.lend(connection, Some(number))));
        }
        if let Some(version) = epoch.version {
            let connection = self.open()?;
            if self.version(&epoch.monitor)? == version {
                epoch.lent += 1;
                return Ok(Found::Lease(self.lend(connection, Some(number))));
            }
            epoch.version = None;
        }
        if epoch.lent > 0 {
            return Ok(Found::Wait);
        }
        let context = "the snapshot that the epoch reads is gone";
        Err(StoreError::new(StoreErrorKind::SnapshotLost, &self.store, context))
    }

    fn lend(self: &Arc<Self>, connection: Connection, epoch: Option<u64>) -> ReadLease {
        ReadLease { readers: Arc::clone(self), connection: Some(connection), epoch }
    }
}

impl ReadLease {
    /// The connection; it is in a transaction.
    pub(crate) fn connection(&self) -> Result<&Connection> {
        self.connection.as_ref().ok_or_else(|| {
            StoreError::new(StoreErrorKind::Internal, &self.readers.store, "a lease without its connection")
        })
    }
}

impl Drop for ReadLease {
    fn drop(&mut self) {
        let mut state = self.readers.state();
        let number = state.number;
        if let (Some(epoch), Some(connection)) = (&mut state.epoch, self.connection.take())
            && self.epoch == Some(number)
        {
            epoch.lent = epoch.lent.saturating_sub(1);
            // A failure may have ended its transaction, and the snapshot with it.
            if !connection.is_autocommit() {
                epoch.idle.push(connection);
            }
        }
        drop(state);
        self.readers.given_back.notify_waiters();
    }
}
