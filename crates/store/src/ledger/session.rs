//! The transaction that the writers of one slice share.

use super::{CommitFailure, Entry, Ledger, Move};
use crate::context::RunContext;
use crate::error::{Result, StoreError, StoreErrorKind};
use crate::patience::Patience;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};
use tokio::sync::{Mutex, MutexGuard};
use whimbrel_model::{Checkpoint, FlowName, RunId, SliceId};

/// Those that somebody holds.
type Held<L> = HashMap<(RunId, SliceId), Weak<SliceSession<L>>>;

/// The sessions of a store, by run and slice.
pub struct Sessions<L: Ledger> {
    all: StdMutex<Held<L>>,
}

impl<L: Ledger> Default for Sessions<L> {
    fn default() -> Self {
        Self { all: StdMutex::default() }
    }
}

impl<L: Ledger> Sessions<L> {
    /// The session that a new writer joins. A flow that has a writer already begins another attempt.
    pub fn join(
        &self,
        ledger: &Arc<L>,
        slice: &SliceId,
        flow: &FlowName,
        context: &RunContext,
    ) -> Arc<SliceSession<L>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, session| session.strong_count() > 0);
        let key = (context.run.clone(), slice.clone());
        let known = all.get(&key).and_then(Weak::upgrade);
        let is_new = |session: &Arc<SliceSession<L>>| session.flows().insert(flow.clone());
        if let Some(session) = known.filter(is_new) {
            return session;
        }
        let session = Arc::new(SliceSession {
            ledger: Arc::clone(ledger),
            slice: slice.clone(),
            context: context.clone(),
            flows: StdMutex::new(BTreeSet::from([flow.clone()])),
            state: Mutex::new(State { known: BTreeMap::new(), open: None, is_lost: false }),
        });
        all.insert(key, Arc::downgrade(&session));
        session
    }
}

/// One attempt at one slice.
pub struct SliceSession<L: Ledger> {
    ledger: Arc<L>,
    slice: SliceId,
    context: RunContext,
    /// The flows whose writers have joined.
    flows: StdMutex<BTreeSet<FlowName>>,
    state: Mutex<State<L::Transaction>>,
}

/// Where the attempt stands.
pub struct State<T> {
    /// How far each flow has come, as the ledger said.
    known: BTreeMap<FlowName, u64>,
    open: Option<Open<T>>,
    /// A transaction of this attempt was lost: what the engine thinks is written is not.
    is_lost: bool,
}

/// A transaction under way.
struct Open<T> {
    transaction: T,
    /// The checkpoints of the flows that have called for the commit.
    called: Vec<(FlowName, Checkpoint)>,
}

impl<T> State<T> {
    /// Gives the transaction up: nothing of it is kept.
    pub fn give_up(&mut self) {
        self.open = None;
        self.is_lost = true;
    }
}

impl<L: Ledger> SliceSession<L> {
    fn flows(&self) -> std::sync::MutexGuard<'_, BTreeSet<FlowName>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, flow: &FlowName) -> Entry {
        Entry { run: self.context.run.clone(), slice: self.slice.clone(), flow: flow.clone() }
    }

    fn error(&self, kind: StoreErrorKind, context: impl Into<String>) -> StoreError {
        StoreError::new(kind, self.ledger.store(), context)
    }

    /// The state, for as long as a batch is written.
    pub async fn state(&self) -> MutexGuard<'_, State<L::Transaction>> {
        self.state.lock().await
    }

    /// Tries again what can pass.
    async fn patiently<T, F: Future<Output = Result<T>>>(&self, mut attempt: impl FnMut() -> F) -> Result<T> {
        let mut patience = Patience::new(&self.context);
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => patience.wait(self.ledger.store(), error).await?,
            }
        }
    }

    /// Reads what the ledger keeps of a flow. Waits for a transaction of another attempt that is still going.
    ///
    /// # Errors
    /// The store fails.
    pub async fn last(&self, flow: &FlowName) -> Result<Option<Checkpoint>> {
        let entry = self.entry(flow);
        let checkpoint = self.patiently(|| self.ledger.last(&entry)).await?;
        let seq = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.seq);
        self.state().await.known.insert(flow.clone(), seq);
        Ok(checkpoint)
    }

    /// The transaction, which is begun unless it is open.
    ///
    /// # Errors
    /// The store fails, another process has gone on with the slice, or a transaction of this attempt was lost.
    pub async fn begin<'a>(&self, state: &'a mut State<L::Transaction>) -> Result<&'a mut L::Transaction> {
        if state.is_lost {
            let context = format!(
                "a transaction of slice {} was lost; the slice goes on from its checkpoint",
                self.slice
            );
            return Err(self.error(StoreErrorKind::Unreachable, context));
        }
        if state.open.is_none() {
            let flows: Vec<FlowName> = self.flows().iter().cloned().collect();
            let entries: Vec<Entry> = flows.iter().map(|flow| self.entry(flow)).collect();
            let (transaction, found) = self.patiently(|| self.ledger.begin(&entries)).await?;
            for (flow, now) in flows.into_iter().zip(found) {
                if *state.known.entry(flow).or_insert(now) != now {
                    return Err(self.overtaken());
                }
            }
            state.open = Some(Open { transaction, called: Vec::new() });
        }
        let open = state.open.as_mut().map(|open| &mut open.transaction);
        open.ok_or_else(|| self.error(StoreErrorKind::Internal, "no transaction is open"))
    }

    fn overtaken(&self) -> StoreError {
        let context = format!("another process has gone on with slice {} meanwhile", self.slice);
        self.error(StoreErrorKind::Mismatch, context)
            .with_hint("one process works on a run; `whimbrel status` shows how far it is")
    }

    /// A flow's call for the commit; the last one's ends the transaction.
    ///
    /// # Errors
    /// The store fails, and the ledger says that nothing was committed, or does not answer.
    pub async fn commit(&self, flow: &FlowName, checkpoint: &Checkpoint, flows: usize) -> Result<()> {
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

    async fn end(&self, state: &mut State<L::Transaction>) -> Result<()> {
        let Some(Open { mut transaction, called }) = state.open.take() else { return Ok(()) };
        let moves = called.iter().map(|(flow, to)| {
            let known = state.known.get(flow).copied().unwrap_or(0);
            Move { entry: self.entry(flow), known, to: to.clone() }
        });
        if !self.ledger.advance(&mut transaction, moves.collect()).await? {
            return Err(self.overtaken());
        }
        let mut patience = Patience::new(&self.context);
        loop {
            match self.ledger.commit(transaction).await {
                Ok(()) => break,
                Err(CommitFailure::Open(again, error)) => {
                    transaction = again;
                    patience.wait(self.ledger.store(), error).await?;
                }
                Err(CommitFailure::Unknown(error)) => {
                    self.settle(&called, error).await?;
                    break;
                }
                Err(CommitFailure::Refused(error)) => return Err(error),
            }
        }
        for (flow, checkpoint) in called {
            state.known.insert(flow, checkpoint.seq);
        }
        Ok(())
    }

    /// Whether a commit whose answer was lost has happened: the ledger knows.
    async fn settle(&self, called: &[(FlowName, Checkpoint)], error: StoreError) -> Result<()> {
        let entries: Vec<Entry> = called.iter().map(|(flow, _)| self.entry(flow)).collect();
        let found = self.patiently(|| self.ledger.sequences(&entries)).await?;
        if called.iter().zip(found).all(|((_, checkpoint), seq)| checkpoint.seq == seq) {
            tracing::warn!(slice = %self.slice, %error, "a commit failed, and the ledger says that it happened");
            return Ok(());
        }
        Err(error)
    }

    /// The slice is complete for a flow.
    ///
    /// # Errors
    /// The store fails, or a batch was not committed.
    pub async fn finish(&self, flow: &FlowName) -> Result<()> {
        let mut state = self.state().await;
        if state.open.take().is_some() {
            state.is_lost = true;
            let context = "a slice ended with a batch that was not committed";
            return Err(self.error(StoreErrorKind::Internal, context));
        }
        let entry = self.entry(flow);
        self.patiently(|| self.ledger.close(&entry)).await
    }
}
