//! The transaction of one slice: what its flows wrote since the last commit, and the ledger that it ends with.

use super::ledger::{Entry, Ledger};
use super::staging::{Part, PartKey, Staging};
use crate::error::{Fault, Outcome};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use whimbrel_model::{Checkpoint, FlowName, SliceId};
use whimbrel_store::{Shape, StoreErrorKind};

/// A slice under way. Its methods block.
#[derive(Debug)]
pub(crate) struct Session {
    staging: Staging,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    parts: BTreeMap<FlowName, Part>,
    /// What the next commit will say.
    next: BTreeMap<FlowName, Entry>,
    /// Flows that have called for the commit.
    called: usize,
    /// A write failed: what the part holds is not known any more.
    is_broken: bool,
}

impl Session {
    pub(crate) fn open(staging: Staging, slice: &SliceId) -> Outcome<Self> {
        let ledger = staging.ledger(slice)?.unwrap_or_else(|| Ledger::new(slice.clone()));
        let (parts, next) = (BTreeMap::new(), BTreeMap::new());
        let state = Mutex::new(State { ledger, parts, next, called: 0, is_broken: false });
        Ok(Self { staging, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a flow may join: not where it did already, or where a write failed. That is another attempt.
    pub(crate) fn takes(&self, flow: &FlowName) -> bool {
        let state = self.state();
        !state.is_broken && !state.next.contains_key(flow)
    }

    /// Opens a flow's part behind what is committed of it; the flow's last checkpoint.
    pub(crate) fn join(
        &self,
        flow: &FlowName,
        path: &str,
        shape: Option<&Shape>,
    ) -> Outcome<Option<Checkpoint>> {
        let mut state = self.state();
        let entry = state
            .ledger
            .flows
            .get(flow)
            .filter(|entry| entry.path == path && entry.shape.as_ref() == shape)
            .cloned();
        let entry = entry.unwrap_or_else(|| Entry::new(path.to_owned(), shape.cloned()));
        let slice = state.ledger.slice.clone();
        let key = PartKey { path, slice: &slice, flow };
        let part = self.staging.open_part(&key, entry.length, entry.seq())?;
        let checkpoint = entry.checkpoint();
        state.parts.insert(flow.clone(), part);
        state.next.insert(flow.clone(), entry);
        checkpoint.map_err(|error| Fault::found(StoreErrorKind::Mismatch, error.to_string()))
    }

    /// Whether the flow's part holds records.
    pub(crate) fn is_begun(&self, flow: &FlowName) -> bool {
        self.state().next.get(flow).is_some_and(|entry| entry.records > 0)
    }

    /// Appends the bytes of a batch.
    pub(crate) fn append(
        &self,
        flow: &FlowName,
        seq: u64,
        bytes: Vec<u8>,
        records: u64,
        schema: &str,
    ) -> Outcome<()> {
        let mut state = self.state();
        let State { parts, next, is_broken, .. } = &mut *state;
        let (Some(part), Some(entry), false) = (parts.get_mut(flow), next.get_mut(flow), *is_broken) else {
            return Err(broken());
        };
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        *is_broken = true;
        part.append(seq, bytes)?;
        *is_broken = false;
        entry.length += length;
        entry.records += records;
        entry.schema.get_or_insert_with(|| schema.to_owned());
        Ok(())
    }

    /// One flow's part of a commit; the last of them makes everything durable.
    pub(crate) fn commit(&self, flow: &FlowName, checkpoint: &Checkpoint, flows: usize) -> Outcome<()> {
        let mut state = self.state();
        let Some(entry) = state.next.get_mut(flow) else { return Err(broken()) };
        entry.keep(checkpoint);
        state.called += 1;
        if state.called < flows { Ok(()) } else { self.keep(&mut state) }
    }

    /// The slice is complete; that is noted, where it had nothing to commit.
    pub(crate) fn finish(&self, flow: &FlowName, schema: Option<String>) -> Outcome<()> {
        let mut state = self.state();
        if state.ledger.flows.contains_key(flow) {
            return Ok(());
        }
        if let (Some(entry), Some(schema)) = (state.next.get_mut(flow), schema) {
            entry.schema.get_or_insert(schema);
        }
        self.keep(&mut state)
    }

    fn keep(&self, state: &mut State) -> Outcome<()> {
        if std::mem::replace(&mut state.is_broken, true) {
            return Err(broken());
        }
        state.parts.values().try_for_each(Part::sync)?;
        state.called = 0;
        state.ledger.version += 1;
        let next = state.next.iter().map(|(flow, entry)| (flow.clone(), entry.clone()));
        let next: Vec<_> = next.collect();
        state.ledger.flows.extend(next);
        self.staging.keep(&state.ledger)?;
        state.is_broken = false;
        Ok(())
    }
}

fn broken() -> Fault {
    Fault::found(StoreErrorKind::Interrupted, "an earlier write of the slice failed")
}
