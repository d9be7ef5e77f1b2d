//! The transaction that the writers of one slice share.

use crate::client::{Connections, Lease, Purpose};
use crate::error::from_driver;
use crate::ledger::{self, Entry, Ledger};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::Statement;
use whimbrel_model::{Checkpoint, FlowName, RunId, SliceId, StoreName};
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
        parts: &SessionParts,
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
            parts: parts.clone(),
            slice: slice.clone(),
            context: context.clone(),
            flows: StdMutex::new(BTreeSet::from([flow.clone()])),
            state: Mutex::default(),
        });
        all.insert(key, Arc::downgrade(&session));
        session
    }
}

/// What a session works with.
#[derive(Clone)]
pub(crate) struct SessionParts {
    pub store: StoreName,
    pub connections: Arc<Connections>,
    pub ledger: Arc<Ledger>,
}

/// One attempt at one slice.
pub(crate) struct SliceSession {
    parts: SessionParts,
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
pub(crate) struct Open {
    pub lease: Lease,
    /// Staging tables that hold rows of this transaction already.
    pub used: BTreeSet<String>,
    pub statements: HashMap<String, Statement>,
    /// The checkpoints of the flows that have called for the commit.
    called: Vec<(FlowName, Checkpoint)>,
}

impl State {
    /// Gives the transaction up: nothing of it is kept.
    pub(crate) fn give_up(&mut self) {
        self.open = None;
        self.is_lost = true;
    }

    /// The transaction; only behind [`SliceSession::begin`].
    pub(crate) fn open(&mut self, store: &StoreName) -> Result<&mut Open> {
        self.open
            .as_mut()
            .ok_or_else(|| StoreError::new(StoreErrorKind::Internal, store, "no transaction is open"))
    }
}

impl SliceSession {
    fn flows(&self) -> std::sync::MutexGuard<'_, BTreeSet<FlowName>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry<'a>(&'a self, flow: &'a FlowName) -> Entry<'a> {
        Entry { run: &self.context.run, slice: &self.slice, flow }
    }

    pub(crate) async fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().await
    }

    /// Reads what the ledger keeps of a flow. Waits for a transaction of another attempt that is still going.
    pub(crate) async fn last(&self, flow: &FlowName) -> Result<Option<Checkpoint>> {
        let parts = &self.parts;
        let mut patience = Patience::new(&self.context);
        let checkpoint = loop {
            let found = async {
                parts.ledger.ensure(&parts.store, &parts.connections).await?;
                let lease = parts.connections.lease(Purpose::Write).await?;
                let found = ledger::lock(&parts.store, &lease, &self.entry(flow)).await?;
                lease.finish().await?;
                Ok(found)
            };
            match found.await {
                Ok(found) => break found,
                Err(error) => patience.wait(&parts.store, error).await?,
            }
        };
        let seq = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.seq);
        self.state().await.known.insert(flow.clone(), seq);
        Ok(checkpoint)
    }

    /// Begins the transaction unless it is open.
    pub(crate) async fn begin(&self, state: &mut State) -> Result<()> {
        if state.is_lost {
            let context = format!(
                "a transaction of slice {} was lost; the slice goes on from its checkpoint",
                self.slice
            );
            return Err(StoreError::new(StoreErrorKind::Unreachable, &self.parts.store, context));
        }
        if state.open.is_some() {
            return Ok(());
        }
        let mut patience = Patience::new(&self.context);
        let lease = loop {
            match self.try_begin(state).await {
                Ok(lease) => break lease,
                Err(error) => patience.wait(&self.parts.store, error).await?,
            }
        };
        state.open =
            Some(Open { lease, used: BTreeSet::new(), statements: HashMap::new(), called: Vec::new() });
        Ok(())
    }

    async fn try_begin(&self, state: &mut State) -> Result<Lease> {
        let store = &self.parts.store;
        self.parts.ledger.ensure(store, &self.parts.connections).await?;
        let lease = self.parts.connections.lease(Purpose::Write).await?;
        // What is checked only at the end of a transaction would fail there for all records at once.
        let immediate = lease.client().batch_execute("SET CONSTRAINTS ALL IMMEDIATE").await;
        immediate.map_err(|error| from_driver(store, "cannot begin to write", error))?;
        let flows: Vec<_> = self.flows().iter().map(ToString::to_string).collect();
        // The rows stay locked until the end, so that another attempt waits for this transaction.
        let found = ledger::lock_all(store, &lease, &self.context.run, &self.slice, &flows).await?;
        for flow in self.flows().iter() {
            let now = found.get(flow).copied().unwrap_or(0);
            if *state.known.entry(flow.clone()).or_insert(now) != now {
                return Err(self.overtaken());
            }
        }
        Ok(lease)
    }

    fn overtaken(&self) -> StoreError {
        let context = format!("another process has gone on with slice {} meanwhile", self.slice);
        StoreError::new(StoreErrorKind::Mismatch, &self.parts.store, context)
            .with_hint("one process works on a run; `whimbrel status` shows how far it is")
    }

    /// A flow's call for the commit; the last one's ends the transaction.
    pub(crate) async fn commit(&self, flow: &FlowName, checkpoint: &Checkpoint, flows: usize) -> Result<()> {
        let mut state = self.state().await;
        self.begin(&mut state).await?;
        let open = state.open(&self.parts.store)?;
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
        let Some(Open { lease, called, .. }) = state.open.take() else { return Ok(()) };
        for (flow, checkpoint) in &called {
            let known = state.known.get(flow).copied().unwrap_or(0);
            if !ledger::advance(&self.parts.store, &lease, &self.entry(flow), known, checkpoint).await? {
                return Err(self.overtaken());
            }
        }
        if let Err(error) = lease.finish().await {
            if !error.kind().is_retryable() {
                return Err(error);
            }
            self.settle(&called, error).await?;
        }
        for (flow, checkpoint) in called {
            state.known.insert(flow, checkpoint.seq);
        }
        Ok(())
    }

    /// Whether a COMMIT whose answer was lost has happened: the ledger knows.
    async fn settle(&self, called: &[(FlowName, Checkpoint)], error: StoreError) -> Result<()> {
        let store = &self.parts.store;
        let flows: Vec<_> = called.iter().map(|(flow, _)| flow.to_string()).collect();
        let mut patience = Patience::new(&self.context);
        let found = loop {
            let look = async {
                let lease = self.parts.connections.lease(Purpose::Write).await?;
                let found = ledger::lock_all(store, &lease, &self.context.run, &self.slice, &flows).await?;
                lease.finish().await?;
                Ok(found)
            };
            match look.await {
                Ok(found) => break found,
                Err(error) => patience.wait(store, error).await?,
            }
        };
        let has_happened = called.iter().all(|(flow, checkpoint)| found.get(flow) == Some(&checkpoint.seq));
        if has_happened {
            tracing::warn!(slice = %self.slice, %error, "the answer to a COMMIT was lost; the ledger says it happened");
            return Ok(());
        }
        Err(error)
    }

    /// The slice is complete for a flow.
    pub(crate) async fn finish(&self, flow: &FlowName) -> Result<()> {
        let mut state = self.state().await;
        if state.open.take().is_some() {
            state.is_lost = true;
            let context = "a slice ended with a batch that was not committed";
            return Err(StoreError::new(StoreErrorKind::Internal, &self.parts.store, context));
        }
        let parts = &self.parts;
        let mut patience = Patience::new(&self.context);
        loop {
            let close = async {
                parts.ledger.ensure(&parts.store, &parts.connections).await?;
                let lease = parts.connections.lease(Purpose::Write).await?;
                ledger::close(&parts.store, &lease, &self.entry(flow)).await?;
                lease.finish().await
            };
            match close.await {
                Ok(()) => return Ok(()),
                Err(error) => patience.wait(&parts.store, error).await?,
            }
        }
    }
}
