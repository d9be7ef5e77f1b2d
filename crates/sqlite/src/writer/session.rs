//! The transaction that the writers of one slice share.

use crate::client::{Client, WriteLease};
use crate::ledger::{self, Entry};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};
use tokio::sync::{Mutex, MutexGuard};
use whimbrel_model::{Checkpoint, FlowName, RunId, SliceId};
use whimbrel_store::Patience;
use whimbrel_store::{Result, RunContext, StoreError, StoreErrorKind};

/// The sessions of a store, by run and slice.
#[derive(Default)]
pub(crate) struct Sessions {
    all: StdMutex<HashMap<(RunId, SliceId), Weak<SliceSession>>>,
}

impl Sessions {
    /// The session that a new writer joins. A flow that has a writer already begins another attempt.
    pub(crate) fn join(
        &self,
        client: &Arc<Client>,
        slice: &SliceId,
        flow: &FlowName,
        context: &RunContext,
    ) -> Arc<SliceSession> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, session| session.strong_count() > 0);
        let key = (context.run.clone(), slice.clone());
        let known = all.get(&key).and_then(Weak::upgrade);
        let is_new = |session: &Arc<SliceSession>| session.flows().insert(flow.clone());
        if let Some(session) = known.filter(is_new) {
            return session;
        }
        let session = Arc::new(SliceSession {
            client: Arc::clone(client),
            slice: slice.clone(),
            context: context.clone(),
            flows: StdMutex::new(BTreeSet::from([flow.clone()])),
            state: Mutex::default(),
        });
        all.insert(key, Arc::downgrade(&session));
        session
    }
}

/// One attempt at one slice.
pub(crate) struct SliceSession {
    client: Arc<Client>,
    slice: SliceId,
    context: RunContext,
    /// The flows whose writers have joined.
    flows: StdMutex<BTreeSet<FlowName>>,
    state: Mutex<State>,
}

/// Where the attempt stands.
#[derive(Default)]
pub(crate) struct State {
    /// How far each flow has come, as the ledger said.
    known: BTreeMap<FlowName, u64>,
    open: Option<Open>,
    /// A transaction of this attempt was lost: what the engine thinks is written is not.
    is_lost: bool,
}

/// A transaction under way.
struct Open {
    lease: WriteLease,
    /// The checkpoints of the flows that have called for the commit.
    called: Vec<(FlowName, Checkpoint)>,
}

impl State {
    /// Gives the transaction up: nothing of it is kept.
    pub(crate) fn give_up(&mut self) {
        self.open = None;
        self.is_lost = true;
    }
}

impl SliceSession {
    fn flows(&self) -> std::sync::MutexGuard<'_, BTreeSet<FlowName>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, flow: &FlowName) -> Entry {
        Entry { run: self.context.run.clone(), slice: self.slice.clone(), flow: flow.clone() }
    }

    fn error(&self, kind: StoreErrorKind, context: impl Into<String>) -> StoreError {
        StoreError::new(kind, &self.client.store, context)
    }

    pub(crate) async fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().await
    }

    /// A transaction of its own, short; waits for a file that is busy.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl Fn(&rusqlite::Connection) -> Result<T> + Clone + Send + 'static,
    ) -> Result<T> {
        let mut patience = Patience::new(&self.context);
        loop {
            let attempt = async {
                let mut lease = self.client.begin(false).await?;
                let done = lease.run(work.clone()).await?;
                lease.commit().await?;
                Ok(done)
            };
            match attempt.await {
                Ok(done) => return Ok(done),
                Err(error) => patience.wait(&self.client.store, error).await?,
            }
        }
    }

    /// Reads what the ledger keeps of a flow. A transaction of another attempt is waited for.
    pub(crate) async fn last(&self, flow: &FlowName) -> Result<Option<Checkpoint>> {
        let (store, entry) = (self.client.store.clone(), self.entry(flow));
        let checkpoint = self.alone(move |connection| {
            ledger::make(&store, connection)?;
            ledger::forget(&store, connection)?;
            ledger::last(&store, connection, &entry)
        });
        let checkpoint = checkpoint.await?;
        let seq = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.seq);
        self.state().await.known.insert(flow.clone(), seq);
        Ok(checkpoint)
    }

    /// The transaction, which is begun unless it is open.
    pub(crate) async fn begin<'a>(&self, state: &'a mut State) -> Result<&'a mut WriteLease> {
        if state.is_lost {
            let context = format!(
                "a transaction of slice {} was lost; the slice goes on from its checkpoint",
                self.slice
            );
            return Err(self.error(StoreErrorKind::Unreachable, context));
        }
        if state.open.is_none() {
            let mut patience = Patience::new(&self.context);
            let lease = loop {
                match self.try_begin(state).await {
                    Ok(lease) => break lease,
                    Err(error) => patience.wait(&self.client.store, error).await?,
                }
            };
            state.open = Some(Open { lease, called: Vec::new() });
        }
        let open = state.open.as_mut().map(|open| &mut open.lease);
        open.ok_or_else(|| self.error(StoreErrorKind::Internal, "no transaction is open"))
    }

    async fn try_begin(&self, state: &mut State) -> Result<WriteLease> {
        let mut lease = self.client.begin(false).await?;
        let flows: Vec<FlowName> = self.flows().iter().cloned().collect();
        let entries: Vec<Entry> = flows.iter().map(|flow| self.entry(flow)).collect();
        let store = self.client.store.clone();
        let found = lease.run(move |connection| {
            ledger::make(&store, connection)?;
            entries.iter().map(|entry| ledger::seq(&store, connection, entry)).collect::<Result<Vec<u64>>>()
        });
        for (flow, now) in flows.into_iter().zip(found.await?) {
            if *state.known.entry(flow).or_insert(now) != now {
                return Err(self.overtaken());
            }
        }
        Ok(lease)
    }

    fn overtaken(&self) -> StoreError {
        let context = format!("another process has gone on with slice {} meanwhile", self.slice);
        self.error(StoreErrorKind::Mismatch, context)
            .with_hint("one process works on a run; `whimbrel status` shows how far it is")
    }

    /// A flow's call for the commit; the last one's ends the transaction.
    pub(crate) async fn commit(&self, flow: &FlowName, checkpoint: &Checkpoint, flows: usize) -> Result<()> {
        let mut state = self.state().await;
        self.begin(&mut state).await?;
        let Some(open) = &mut state.open else { return Ok(()) };
        open.called.push((flow.clone(), checkpoint.clone()));
        if open.called.len() < flows {
            return Ok(());
        }
        let ended = self.end(&mut state).await;
        if ended.is_err() {
            state.give_up();
        }
        ended
    }

    async fn end(&self, state: &mut State) -> Result<()> {
        let Some(Open { mut lease, called }) = state.open.take() else { return Ok(()) };
        let store = self.client.store.clone();
        let moves: Vec<(Entry, u64, Checkpoint)> = called
            .iter()
            .map(|(flow, to)| (self.entry(flow), state.known.get(flow).copied().unwrap_or(0), to.clone()))
            .collect();
        let moved = lease.run(move |connection| {
            for (entry, known, checkpoint) in &moves {
                if !ledger::advance(&store, connection, entry, *known, checkpoint)? {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        if !moved.await? {
            return Err(self.overtaken());
        }
        let mut patience = Patience::new(&self.context);
        while let Err(error) = lease.commit().await {
            // Somebody who reads may hold the commit up; anything else has ended the transaction.
            if error.kind() != StoreErrorKind::Overloaded {
                drop(lease);
                self.settle(&called, error).await?;
                break;
            }
            patience.wait(&self.client.store, error).await?;
        }
        for (flow, checkpoint) in called {
            state.known.insert(flow, checkpoint.seq);
        }
        Ok(())
    }

    /// Whether a commit that failed has happened all the same: the ledger knows.
    async fn settle(&self, called: &[(FlowName, Checkpoint)], error: StoreError) -> Result<()> {
        let entries: Vec<Entry> = called.iter().map(|(flow, _)| self.entry(flow)).collect();
        let store = self.client.store.clone();
        let found = self.alone(move |connection| {
            entries.iter().map(|entry| ledger::seq(&store, connection, entry)).collect::<Result<Vec<u64>>>()
        });
        let found = found.await?;
        if called.iter().zip(found).all(|((_, checkpoint), seq)| checkpoint.seq == seq) {
            tracing::warn!(slice = %self.slice, %error, "a commit failed, and the ledger says that it happened");
            return Ok(());
        }
        Err(error)
    }

    /// The slice is complete for a flow.
    pub(crate) async fn finish(&self, flow: &FlowName) -> Result<()> {
        let mut state = self.state().await;
        if state.open.take().is_some() {
            state.is_lost = true;
            return Err(
                self.error(StoreErrorKind::Internal, "a slice ended with a batch that was not committed")
            );
        }
        let (store, entry) = (self.client.store.clone(), self.entry(flow));
        self.alone(move |connection| {
            ledger::make(&store, connection)?;
            ledger::close(&store, connection, &entry)
        })
        .await
    }
}
