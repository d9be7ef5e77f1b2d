//! Connections: one for all work or several, and the snapshot that an epoch reads from.

use crate::config::PostgresConfig;
use crate::error::{from_driver, kind_of};
use session::Session;
use single::Single;
use std::future::Ready;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_postgres::types::{FromSqlOwned, ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage};
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

mod connect;
mod gathered;
mod line;
mod session;
mod single;
mod tls;

pub(crate) use line::Line;
pub(crate) use session::Server;

/// What to do where a write waits for a read that waits for it.
const WRITES_WHAT_IT_READS: &str = "one flow cannot read from and write into the same embedded database yet; \
     write into another embedded database, or use a server";

/// What a lease is for; it decides the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reading records: in the epoch's snapshot where there is an epoch.
    Read,
    /// Looking at the catalog: what is there now.
    Catalog,
    /// Changing something. In the single-connection case the epoch ends.
    Write,
    /// The same by batches of records. What is checked only at the end of a transaction would fail there for all records
    /// at once, and is checked at once.
    Batches,
}

impl Purpose {
    fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::Batches)
    }

    fn begin(self) -> &'static str {
        match self {
            Self::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Self::Catalog => "BEGIN READ ONLY",
            Self::Write => "BEGIN",
            Self::Batches => "BEGIN; SET CONSTRAINTS ALL IMMEDIATE",
        }
    }
}

/// All connections of a store. Connects when first asked for something.
pub(crate) struct Connections {
    store: StoreName,
    config: Arc<PostgresConfig>,
    mode: Mode,
}

enum Mode {
    /// One connection for the process's life, leased in turn. It is never cut and never cancelled: a server
    /// that takes one connection stops for good when its client goes away with unread data.
    Single(Single),
    /// As many as there are leases; the idle ones wait in a pool.
    Many { pool: Arc<Pool>, epoch: Mutex<Option<Epoch>> },
}

/// The only connection.
#[derive(Default)]
struct Slot {
    session: Option<Session>,
    epoch: SlotEpoch,
}

/// The epoch of a single connection is one long transaction on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SlotEpoch {
    #[default]
    None,
    Open,
    Lost,
}

type Pool = StdMutex<Vec<Session>>;

/// An epoch of many connections: a transaction that exports its snapshot to all readers.
enum Epoch {
    /// The session that holds the snapshot, and its name.
    Held { holder: Session, snapshot: String },
    /// It could not begin: nothing may be read without a snapshot.
    Lost,
}

impl Connections {
    pub(crate) fn new(store: &StoreName, config: &Arc<PostgresConfig>) -> Self {
        let mode = if config.single_connection {
            Mode::Single(Single::default())
        } else {
            Mode::Many { pool: Arc::default(), epoch: Mutex::new(None) }
        };
        Self { store: store.clone(), config: Arc::clone(config), mode }
    }

    /// Whether there is another connection beside one that is at work.
    pub(crate) fn are_many(&self) -> bool {
        matches!(self.mode, Mode::Many { .. })
    }

    /// A session in a transaction.
    pub(crate) async fn lease(&self, purpose: Purpose) -> Result<Lease> {
        let (lease, ()) = self.lease_asking(purpose, nothing).await?;
        Ok(lease)
    }

    /// The same, and what is asked there first. Both go to the server together: each way there and back counts where
    /// transactions are short.
    pub(crate) async fn lease_asking<A: Future<Output: Send> + Send>(
        &self,
        purpose: Purpose,
        ask: impl FnOnce(Line) -> A + Send,
    ) -> Result<(Lease, A::Output)> {
        match &self.mode {
            Mode::Single(single) => {
                let slot = match purpose {
                    Purpose::Write | Purpose::Batches => {
                        self.take_unless_read(single, WRITES_WHAT_IT_READS).await?
                    }
                    Purpose::Read | Purpose::Catalog => single.take().await,
                };
                self.lease_single(single, slot, purpose, ask).await
            }
            Mode::Many { pool, epoch } => {
                let snapshot =
                    if purpose == Purpose::Read { self.snapshot(&*epoch.lock().await)? } else { None };
                self.lease_one_of_many(pool, purpose, snapshot, ask).await
            }
        }
    }

    /// The same, unless one and the same read keeps the only connection all the while: `hint` says what to do then.
    pub(crate) async fn lease_unless_read(&self, purpose: Purpose, hint: &'static str) -> Result<Lease> {
        let Mode::Single(single) = &self.mode else { return self.lease(purpose).await };
        let slot = self.take_unless_read(single, hint).await?;
        let (lease, ()) = self.lease_single(single, slot, purpose, nothing).await?;
        Ok(lease)
    }

    /// Connects in the background as many times as there will be leases at once. The only connection of a server that
    /// takes one is made where it is needed.
    pub(crate) fn expect(&self, readers: usize, writers: usize) {
        let Mode::Many { pool, .. } = &self.mode else { return };
        let idle = pool.lock().unwrap_or_else(PoisonError::into_inner).len();
        for number in idle..readers + writers {
            let (store, config, pool) = (self.store.clone(), Arc::clone(&self.config), Arc::clone(pool));
            tokio::spawn(async move {
                let mut session = match Session::connect(&store, &config).await {
                    Ok(session) => session,
                    // Whoever needs the connection will try, and be told.
                    Err(error) => return tracing::debug!(%error, "a connection could not be made beforehand"),
                };
                if number < writers {
                    session.make_ready_to_write().await;
                }
                pool.lock().unwrap_or_else(PoisonError::into_inner).push(session);
            });
        }
    }

    /// Begins an epoch; the one before ends.
    pub(crate) async fn begin_epoch(&self) -> Result<()> {
        match &self.mode {
            Mode::Single(single) => {
                let mut slot = single.take().await;
                self.end_epoch(&mut slot).await;
                slot.epoch = SlotEpoch::Lost;
                let line = self.connected(&mut slot).await?;
                slot.epoch = SlotEpoch::Open;
                let begun = line.client().batch_execute(Purpose::Read.begin()).await;
                begun.map_err(|error| {
                    slot.epoch = SlotEpoch::Lost;
                    from_driver(&self.store, "cannot begin reading", error)
                })
            }
            Mode::Many { pool, epoch } => {
                let mut epoch = epoch.lock().await;
                if let Some(Epoch::Held { holder, .. }) = epoch.replace(Epoch::Lost) {
                    holder.abort();
                }
                *epoch = Some(self.export_snapshot(pool).await?);
                Ok(())
            }
        }
    }

    /// Ends the epoch and all connections, in order.
    pub(crate) async fn close(&self) {
        match &self.mode {
            Mode::Single(single) => {
                let mut slot = single.take().await;
                self.end_epoch(&mut slot).await;
                if let Some(session) = slot.session.take() {
                    session.close().await;
                }
            }
            Mode::Many { pool, epoch } => {
                if let Some(Epoch::Held { holder, .. }) = epoch.lock().await.take() {
                    holder.close().await;
                }
                let idle = std::mem::take(&mut *pool.lock().unwrap_or_else(PoisonError::into_inner));
                // A server takes its time for each goodbye.
                futures::future::join_all(idle.into_iter().map(Session::close)).await;
            }
        }
    }

    async fn take_unless_read(&self, single: &Single, hint: &'static str) -> Result<OwnedMutexGuard<Slot>> {
        single.take_unless_read().await.ok_or_else(|| {
            let context = "the server takes one connection, and it has been read from all the while";
            StoreError::new(StoreErrorKind::Unsupported, &self.store, context).with_hint(hint)
        })
    }

    async fn lease_single<A: Future<Output: Send> + Send>(
        &self,
        single: &Single,
        mut slot: OwnedMutexGuard<Slot>,
        purpose: Purpose,
        ask: impl FnOnce(Line) -> A + Send,
    ) -> Result<(Lease, A::Output)> {
        single.begin_turn(purpose);
        if purpose.is_write() {
            self.end_epoch(&mut slot).await;
        }
        let line = self.connected(&mut slot).await?;
        if purpose == Purpose::Read && slot.epoch == SlotEpoch::Lost {
            return Err(self.snapshot_lost());
        }
        // Within the epoch's transaction a savepoint takes the place of a transaction: an error leaves the
        // snapshot alive.
        let in_epoch = slot.epoch == SlotEpoch::Open;
        let begin = if in_epoch { "SAVEPOINT whimbrel" } else { purpose.begin() };
        let server = slot.session.as_ref().map(|session| session.server.clone()).unwrap_or_default();
        let held = Held::Single { slot, in_epoch };
        let lease = Lease { store: self.store.clone(), line, server, held: Some(held) };
        let (begun, asked) =
            futures::join!(lease.line.client().batch_execute(begin), ask(lease.line.clone()));
        begun.map_err(|error| self.cannot_begin(error))?;
        Ok((lease, asked))
    }

    /// The only connection, connected if it is not.
    async fn connected(&self, slot: &mut Slot) -> Result<Line> {
        if let Some(session) = &slot.session {
            if !session.line.client().is_closed() {
                return Ok(session.line.clone());
            }
            slot.session = None;
            if slot.epoch == SlotEpoch::Open {
                slot.epoch = SlotEpoch::Lost;
            }
        }
        let session = Session::connect(&self.store, &self.config).await?;
        let line = session.line.clone();
        slot.session = Some(session);
        Ok(line)
    }

    async fn end_epoch(&self, slot: &mut Slot) {
        if let (SlotEpoch::Open, Some(session)) = (slot.epoch, &slot.session) {
            // It read only: whether it commits or is already gone is the same.
            let _ = session.line.client().batch_execute("COMMIT").await;
        }
        slot.epoch = SlotEpoch::None;
    }

    fn snapshot(&self, epoch: &Option<Epoch>) -> Result<Option<String>> {
        match epoch {
            None => Ok(None),
            Some(Epoch::Held { holder, snapshot }) if !holder.line.client().is_closed() => {
                Ok(Some(snapshot.clone()))
            }
            Some(_) => Err(self.snapshot_lost()),
        }
    }

    async fn lease_one_of_many<A: Future<Output: Send> + Send>(
        &self,
        pool: &Arc<Pool>,
        purpose: Purpose,
        snapshot: Option<String>,
        ask: impl FnOnce(Line) -> A + Send,
    ) -> Result<(Lease, A::Output)> {
        let mut session = self.idle_or_new(pool).await?;
        let once = if purpose == Purpose::Batches { session.first_batch() } else { "" };
        let line = session.line.clone();
        let (server, pid) = (session.server.clone(), session.server.backend_pid);
        let held = Held::Pooled { session, pool: Arc::clone(pool) };
        let lease = Lease { store: self.store.clone(), line, server, held: Some(held) };
        let import = snapshot
            .as_ref()
            .map(|snapshot| format!("SET TRANSACTION SNAPSHOT '{}'; ", snapshot.replace('\'', "''")));
        let import = import.unwrap_or_default();
        let sql = format!("{}; {import}SELECT pg_backend_pid(){once}", purpose.begin());
        let (begun, asked) = futures::join!(lease.line.client().simple_query(&sql), ask(lease.line.clone()));
        let begun = begun.map_err(|error| {
            let is_cut = |code| kind_of(code) == StoreErrorKind::Unreachable;
            match error.code() {
                Some(code) if snapshot.is_some() && !is_cut(code) => self.snapshot_lost().caused_by(error),
                _ => self.cannot_begin(error),
            }
        })?;
        if first_value(&begun).and_then(|pid| pid.parse().ok()) != Some(pid) {
            return Err(session::is_transaction_pooler(&self.store));
        }
        Ok((lease, asked))
    }

    async fn idle_or_new(&self, pool: &Arc<Pool>) -> Result<Session> {
        loop {
            let idle = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match idle {
                Some(session) if session.line.client().is_closed() => {}
                Some(session) => return Ok(session),
                None => return Session::connect(&self.store, &self.config).await,
            }
        }
    }

    /// Looks whether sessions keep their server processes.
    pub(crate) async fn check_sessions(&self) -> Result<()> {
        if let Mode::Many { pool, .. } = &self.mode {
            let session = self.with_a_backend_of_its_own(pool).await?;
            pool.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
        Ok(())
    }

    /// A session beside another one. A transaction pooler would give both the same idle backend.
    async fn with_a_backend_of_its_own(&self, pool: &Arc<Pool>) -> Result<Session> {
        let session = match spare(pool) {
            Some(session) => session,
            None => Session::connect(&self.store, &self.config).await?,
        };
        let other = self.idle_or_new(pool).await?;
        let backend = other.line.client().simple_query("SELECT pg_backend_pid()").await;
        let backend = backend.map_err(|error| self.cannot_begin(error))?;
        let backend = first_value(&backend).and_then(|pid| pid.parse().ok());
        if backend != Some(other.server.backend_pid) || backend == Some(session.server.backend_pid) {
            return Err(session::is_transaction_pooler(&self.store));
        }
        pool.lock().unwrap_or_else(PoisonError::into_inner).push(other);
        Ok(session)
    }

    async fn export_snapshot(&self, pool: &Arc<Pool>) -> Result<Epoch> {
        let holder = self.with_a_backend_of_its_own(pool).await?;
        let sql = format!("{}; SELECT pg_export_snapshot()", Purpose::Read.begin());
        let answer = holder.line.client().simple_query(&sql).await;
        let answer = answer.map_err(|error| from_driver(&self.store, "cannot export a snapshot", error))?;
        let snapshot = first_value(&answer).ok_or_else(|| {
            StoreError::new(StoreErrorKind::Protocol, &self.store, "the server exported no snapshot")
        })?;
        Ok(Epoch::Held { holder, snapshot: snapshot.to_owned() })
    }

    fn cannot_begin(&self, error: tokio_postgres::Error) -> StoreError {
        from_driver(&self.store, "cannot begin a transaction", error)
    }

    fn snapshot_lost(&self) -> StoreError {
        let context = "the connection that held the snapshot of this epoch is gone";
        StoreError::new(StoreErrorKind::SnapshotLost, &self.store, context)
    }
}

/// An idle session, where there is another one beside it.
fn spare(pool: &Pool) -> Option<Session> {
    let mut idle = pool.lock().unwrap_or_else(PoisonError::into_inner);
    idle.retain(|session| !session.line.client().is_closed());
    if idle.len() > 1 { idle.pop() } else { None }
}

/// Asks nothing at the beginning of a transaction.
fn nothing(_: Line) -> Ready<()> {
    std::future::ready(())
}

/// Asks for one value in a single round trip; `None`: there is no row.
pub(crate) async fn ask<T: FromSqlOwned>(
    client: &Client,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> std::result::Result<Option<T>, tokio_postgres::Error> {
    let rows = client.query_typed(sql, parameters).await?;
    rows.first().map(|row| row.try_get(0)).transpose()
}

/// The first value of the first row of an answer.
pub(crate) fn first_value(messages: &[SimpleQueryMessage]) -> Option<&str> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) if !row.is_empty() => row.get(0),
        _ => None,
    })
}

/// A session in a transaction, for one piece of work. Unless it is finished, the work is undone when the
/// lease is dropped; the connection outlives that only where it must.
pub(crate) struct Lease {
    store: StoreName,
    line: Line,
    server: Server,
    held: Option<Held>,
}

enum Held {
    Single { slot: OwnedMutexGuard<Slot>, in_epoch: bool },
    Pooled { session: Session, pool: Arc<Pool> },
}

impl Lease {
    /// Whether it is the only connection that the server takes: an embedded one's.
    pub(crate) fn is_only_one(&self) -> bool {
        matches!(self.held, Some(Held::Single { .. }))
    }

    pub(crate) fn client(&self) -> &Client {
        self.line.client()
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn line(&self) -> &Line {
        &self.line
    }

    /// The work is done: commits, and gives the connection back.
    pub(crate) async fn finish(mut self) -> Result<()> {
        let in_epoch = matches!(&self.held, Some(Held::Single { in_epoch: true, .. }));
        let end = if in_epoch { "RELEASE SAVEPOINT whimbrel" } else { "COMMIT" };
        let ended = self.line.client().batch_execute(end).await;
        ended.map_err(|error| from_driver(&self.store, "cannot end a transaction", error))?;
        self.give_back();
        Ok(())
    }

    /// The work is not wanted: undoes it, and gives the connection back.
    pub(crate) async fn roll_back(mut self) -> Result<()> {
        let in_epoch = matches!(&self.held, Some(Held::Single { in_epoch: true, .. }));
        let end =
            if in_epoch { "ROLLBACK TO SAVEPOINT whimbrel; RELEASE SAVEPOINT whimbrel" } else { "ROLLBACK" };
        let ended = self.line.client().batch_execute(end).await;
        ended.map_err(|error| from_driver(&self.store, "cannot end a transaction", error))?;
        self.give_back();
        Ok(())
    }

    fn give_back(&mut self) {
        if let Some(Held::Pooled { session, pool }) = self.held.take() {
            pool.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.held.take() {
            None => {}
            // With several connections an unfinished one is cut: the server stops sending what nobody reads.
            Some(Held::Pooled { session, .. }) => session.abort(),
            Some(Held::Single { slot, in_epoch }) => {
                let Some(runtime) = slot.session.as_ref().map(|session| session.runtime.clone()) else {
                    return;
                };
                runtime.spawn(roll_back(slot, self.line.clone(), in_epoch));
            }
        }
    }
}

/// Undoes unfinished work on the only connection. The answer comes after all that is still on its way, so
/// the connection is drained when this ends, and only then leased again.
async fn roll_back(mut slot: OwnedMutexGuard<Slot>, line: Line, in_epoch: bool) {
    let sql =
        if in_epoch { "ROLLBACK TO SAVEPOINT whimbrel; RELEASE SAVEPOINT whimbrel" } else { "ROLLBACK" };
    if line.client().batch_execute(sql).await.is_err() && in_epoch {
        // The transaction is beyond repair, or the connection is gone: so is the snapshot.
        let _ = line.client().batch_execute("ROLLBACK").await;
        slot.epoch = SlotEpoch::Lost;
    }
}
