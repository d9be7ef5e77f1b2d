//! The transaction of one slice: what its flows wrote since the last commit, and the ledger that it ends with.

use super::Table;
use super::growing::{Growing, Turn};
use super::ledger::{Entry, Ledger};
use super::publish::read_schema;
use super::staging::{Part, PartKey, Staging};
use crate::error::{Fault, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use whimbrel_model::{Checkpoint, FlowName, SliceId};
use whimbrel_store::StoreErrorKind;

/// On a disk a slice waits for what it wrote to be durable when it is so much, and at its end.
const KEPT_AT_ONCE: u64 = 4 << 20;

/// A slice under way. Its methods block.
#[derive(Debug)]
pub(crate) struct Session {
    staging: Staging,
    durable_at_once: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    parts: BTreeMap<FlowName, Part>,
    /// The place of the slice's one flow in a file that grows. What it wrote is held there as long as it has no part.
    turn: Option<Turn>,
    /// What the next commit will say.
    next: BTreeMap<FlowName, Entry>,
    /// Flows of which the session has seen a batch.
    seen: BTreeSet<FlowName>,
    /// Flows that have called for the commit.
    called: usize,
    /// Commits were called for since the last one that is durable, and so many bytes were written.
    is_behind: bool,
    behind_bytes: u64,
    /// A write failed: what the part holds is not known any more.
    is_broken: bool,
}

impl State {
    fn holds(&self, flow: &FlowName) -> bool {
        self.turn.is_some() && !self.parts.contains_key(flow)
    }
}

impl Session {
    pub(crate) fn open(staging: Staging, slice: &SliceId, durable_at_once: bool) -> Outcome<Self> {
        let ledger = staging.ledger(slice)?.unwrap_or_else(|| Ledger::new(slice.clone()));
        let state = State {
            ledger,
            parts: BTreeMap::new(),
            turn: None,
            next: BTreeMap::new(),
            seen: BTreeSet::new(),
            called: 0,
            is_behind: false,
            behind_bytes: 0,
            is_broken: false,
        };
        // An object cannot grow, and is durable when it is there.
        let durable_at_once = durable_at_once || staging.folder().is_none();
        Ok(Self { staging, durable_at_once, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a flow may join: not where it did already, or where a write failed. That is another attempt.
    pub(crate) fn takes(&self, flow: &FlowName) -> bool {
        let state = self.state();
        !state.is_broken && !state.next.contains_key(flow)
    }

    /// Opens what a flow writes behind what is committed of it; the flow's last checkpoint.
    pub(super) fn join(&self, table: &Table, growing: Option<&Arc<Growing>>) -> Outcome<Option<Checkpoint>> {
        let (flow, path, shape) = (&table.request.flow, &table.path, table.request.shape.as_ref());
        let mut state = self.state();
        let entry = state.ledger.flows.get(flow);
        let entry = entry.filter(|entry| entry.path == *path && entry.shape.as_ref() == shape).cloned();
        let entry = entry.unwrap_or_else(|| Entry::new(path.clone(), shape.cloned()));
        if let Some((first, held)) = state.next.first_key_value() {
            // Flows that share a slice are committed at once, and so each into its part.
            let (first, held) = (first.clone(), held.path.clone());
            self.become_part(&mut state, &first, &held)?;
            state.turn = None;
        } else if entry.joined.is_none() {
            state.turn = growing.and_then(|growing| growing.enter(flow, &state.ledger.slice));
        }
        if state.turn.is_none() || entry.length > 0 {
            let key = PartKey { path, slice: &state.ledger.slice, flow };
            let part = self.staging.open_part(&key, entry.length, entry.seq())?;
            state.parts.insert(flow.clone(), part);
        }
        let checkpoint = entry.checkpoint();
        state.next.insert(flow.clone(), entry);
        Ok(checkpoint)
    }

    /// Writes what a flow holds into a part, where it has none.
    fn become_part(&self, state: &mut State, flow: &FlowName, path: &str) -> Outcome<()> {
        let State { ledger, parts, turn, .. } = state;
        if let (Some(turn), false) = (turn, parts.contains_key(flow)) {
            let key = PartKey { path, slice: &ledger.slice, flow };
            let mut part = self.staging.open_part(&key, 0, 0)?;
            turn.take().into_iter().try_for_each(|bytes| part.append(0, bytes))?;
            parts.insert(flow.clone(), part);
        }
        Ok(())
    }

    /// Whether something stands in what the flow writes.
    pub(crate) fn is_begun(&self, flow: &FlowName) -> bool {
        self.state().next.get(flow).is_some_and(|entry| entry.length > 0)
    }

    /// Memory for so many bytes of a batch.
    pub(crate) fn spare(&self, bytes: usize) -> Vec<u8> {
        let spare = self.state().turn.as_ref().map(|turn| turn.spare(bytes));
        spare.unwrap_or_else(|| Vec::with_capacity(bytes))
    }

    /// Appends the bytes of a batch. `schema` is asked for with the flow's first.
    ///
    /// # Errors
    /// A write failed, now or before, or what was written before a resume has other columns.
    pub(crate) fn append(
        &self,
        flow: &FlowName,
        seq: u64,
        bytes: Vec<u8>,
        records: u64,
        schema: impl FnOnce() -> Outcome<String>,
    ) -> Outcome<()> {
        let mut state = self.state();
        if std::mem::replace(&mut state.is_broken, true) {
            return Err(broken());
        }
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let State { next, seen, .. } = &mut *state;
        let entry = next.get_mut(flow).ok_or_else(broken)?;
        if !seen.contains(flow) {
            let columns = schema()?;
            // Of columns that were of other types before, as an earlier build wrote them, no file could be made.
            if let Some(known) = &entry.schema
                && read_schema(known)? != read_schema(&columns)?
            {
                return Err(other_columns());
            }
            entry.schema.get_or_insert(columns);
            seen.insert(flow.clone());
        }
        entry.length += length;
        entry.records += records;
        let path = entry.path.clone();
        state.behind_bytes += length;
        if let Some(part) = state.parts.get_mut(flow) {
            part.append(seq, bytes)?;
        } else if !state.turn.as_mut().ok_or_else(broken)?.hold(bytes) {
            self.become_part(&mut state, flow, &path)?;
        }
        state.is_broken = false;
        Ok(())
    }

    /// One flow's part of a commit; the last of them makes everything durable, or leaves that to a later commit or to the
    /// slice's end.
    pub(crate) fn commit(&self, flow: &FlowName, checkpoint: &Checkpoint, flows: usize) -> Outcome<()> {
        let mut state = self.state();
        let Some(entry) = state.next.get_mut(flow) else { return Err(broken()) };
        entry.keep(checkpoint);
        state.called += 1;
        if state.called < flows {
            return Ok(());
        }
        (state.called, state.is_behind) = (0, true);
        let is_left = state.holds(flow) || state.behind_bytes < KEPT_AT_ONCE;
        if is_left && !self.durable_at_once { Ok(()) } else { self.keep(&mut state) }
    }

    /// The slice is complete; what of it is not durable yet becomes so.
    pub(crate) fn finish(&self, flow: &FlowName, schema: Option<String>) -> Outcome<()> {
        let mut state = self.state();
        let is_known = state.ledger.flows.contains_key(flow);
        if !is_known && let (Some(entry), Some(schema)) = (state.next.get_mut(flow), schema) {
            entry.schema.get_or_insert(schema);
        }
        if state.holds(flow) && self.write_in_turn(&mut state, flow)? {
            return Ok(());
        }
        if state.is_behind || !is_known {
            self.keep(&mut state)?;
        }
        state.turn.take().map_or(Ok(()), |turn| turn.ended_as_part())
    }

    /// Writes what is held where it belongs; `false`: it has become a part.
    fn write_in_turn(&self, state: &mut State, flow: &FlowName) -> Outcome<bool> {
        if std::mem::replace(&mut state.is_broken, true) {
            return Err(broken());
        }
        let State { ledger, turn, next, .. } = state;
        let entry = next.get_mut(flow).ok_or_else(broken)?;
        ledger.flows.insert(flow.clone(), entry.clone());
        let is_written = turn.as_mut().ok_or_else(broken)?.write(ledger)?;
        if is_written {
            ledger.flows.get(flow).into_iter().for_each(|written| entry.clone_from(written));
            (state.turn, state.is_behind, state.behind_bytes) = (None, false, 0);
        } else {
            let path = entry.path.clone();
            self.become_part(state, flow, &path)?;
            state.is_behind = true;
        }
        state.is_broken = false;
        Ok(is_written)
    }

    fn keep(&self, state: &mut State) -> Outcome<()> {
        if std::mem::replace(&mut state.is_broken, true) {
            return Err(broken());
        }
        state.parts.values().try_for_each(Part::sync)?;
        state.ledger.version += 1;
        let next = state.next.iter().map(|(flow, entry)| (flow.clone(), entry.clone()));
        let next: Vec<_> = next.collect();
        state.ledger.flows.extend(next);
        self.staging.keep(&state.ledger)?;
        (state.is_behind, state.behind_bytes, state.is_broken) = (false, 0, false);
        Ok(())
    }
}

fn other_columns() -> Fault {
    Fault::found(
        StoreErrorKind::Mismatch,
        "what was written of it has columns of other types than the records have now; begin anew with `run --new`",
    )
}

fn broken() -> Fault {
    Fault::found(StoreErrorKind::Interrupted, "an earlier write of the slice failed")
}
