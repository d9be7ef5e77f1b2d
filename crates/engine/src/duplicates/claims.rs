//! The keys of one slice's records of one flow, claimed batch by batch.

use super::keys::{AttemptId, KeySet};
use super::latest::Candidate;
use crate::error::{EngineError, Result};
use crate::flow::{FlowPlan, Reached};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use std::sync::Arc;
use whimbrel_model::{FlowName, SliceId, Stage};
use whimbrel_store::{Outcome, RunContext};

/// What a second record of one key is told.
const SECOND: &str = "a second record with the key of an earlier one of this run";
/// The same, where an order was to decide.
const SECOND_LAST: &str = "a second record with the key and the order of an earlier one of this run";

/// Claims keys for one attempt at a slice.
#[derive(Clone)]
pub struct Claims {
    keys: Arc<KeySet>,
    attempt: AttemptId,
    plan: Arc<FlowPlan>,
    slice: SliceId,
    context: RunContext,
}

impl Claims {
    /// For a slice that goes on behind batch `after`; what was claimed for it beyond that batch is claimed anew.
    ///
    /// # Errors
    /// The set of keys cannot be read or written, or has lost what the slice claimed before.
    pub async fn begin(
        keys: &Arc<KeySet>,
        plan: &Arc<FlowPlan>,
        slice: &SliceId,
        after: u64,
        context: &RunContext,
    ) -> Result<Self> {
        let (run, flow, begun) = (context.run.clone(), plan.name.clone(), slice.clone());
        let attempt = on(keys, move |keys| keys.begin(&run, &flow, &begun, after)).await?;
        Ok(Self {
            keys: Arc::clone(keys),
            attempt,
            plan: Arc::clone(plan),
            slice: slice.clone(),
            context: context.clone(),
        })
    }

    /// Takes the records out of a batch that must not be written: those of a key that another record has, which
    /// become rejects, and those that give way to a later one, which count as filtered.
    ///
    /// # Errors
    /// The set of keys cannot be read or written.
    pub async fn sift(&self, seq: u64, reached: &mut Reached) -> Result<()> {
        if reached.records.num_rows() == 0 {
            return Ok(());
        }
        let mut keys = own_keys(&self.plan, &reached.records, &self.context);
        let mut second = SECOND;
        if self.plan.duplicates.order().is_some() {
            second = SECOND_LAST;
            let candidates = candidates(&self.plan, &reached.records, keys.clone())?;
            let last = on(&self.keys, move |keys| keys.are_last(&candidates)).await?;
            let before = keys.len();
            let mut of_row = last.iter();
            keys.retain(|_| of_row.next().is_none_or(|last| *last));
            reached.filtered += u64::try_from(before - keys.len()).unwrap_or(0);
            self.keep(reached, last)?;
        }
        let attempt = self.attempt;
        let own = on(&self.keys, move |set| set.claim(attempt, seq, &keys)).await?;
        for (position, _) in own.iter().enumerate().filter(|(_, own)| !**own) {
            let row = reached.origins[position];
            let mut reject =
                self.plan.reject(&self.slice, &reached.batch, row, Stage::Write, second.to_owned());
            reject.original = reached.originals.as_ref().map(|originals| originals.original(row));
            reject.fingerprint = self.plan.fingerprint(&reached.records, position, &self.context);
            reached.rejects.push(reject);
        }
        self.keep(reached, own)
    }

    /// Gives back the keys of records that the target refused, so that another record may have them.
    ///
    /// # Errors
    /// The set of keys cannot be read or written.
    pub async fn release(&self, seq: u64, records: &RecordBatch, outcomes: &[Outcome]) -> Result<()> {
        let refused: Vec<bool> =
            outcomes.iter().map(|outcome| matches!(outcome, Outcome::Rejected(_))).collect();
        if !refused.contains(&true) {
            return Ok(());
        }
        let refused = filter_record_batch(records, &refused.into()).map_err(|error| self.mistake(&error))?;
        let keys: Vec<u128> = own_keys(&self.plan, &refused, &self.context).into_iter().flatten().collect();
        let attempt = self.attempt;
        on(&self.keys, move |set| set.release(attempt, seq, &keys)).await
    }

    /// Brings everything to the disk that was claimed so far.
    ///
    /// # Errors
    /// The disk may be full.
    pub async fn sync(&self) -> Result<()> {
        on(&self.keys, KeySet::sync).await
    }

    fn keep(&self, reached: &mut Reached, rows: Vec<bool>) -> Result<()> {
        if !rows.contains(&false) {
            return Ok(());
        }
        let mut of_row = rows.iter();
        reached.origins.retain(|_| of_row.next().is_none_or(|keep| *keep));
        let rows = BooleanArray::from(rows);
        let keep =
            |batch: &RecordBatch| filter_record_batch(batch, &rows).map_err(|error| self.mistake(&error));
        reached.records = keep(&reached.records)?;
        reached.guards = reached.guards.as_ref().map(keep).transpose()?;
        Ok(())
    }

    fn mistake(&self, error: &dyn std::error::Error) -> EngineError {
        EngineError::Internal(format!("flow `{}`: duplicate keys: {error}", self.plan.name))
    }
}

/// Does something with the set of keys where waiting for the disk holds up nobody else.
pub(super) async fn on<T: Send + 'static>(
    keys: &Arc<KeySet>,
    work: impl FnOnce(&KeySet) -> std::result::Result<T, crate::journal::JournalError> + Send + 'static,
) -> Result<T> {
    let keys = Arc::clone(keys);
    let done = tokio::task::spawn_blocking(move || work(&keys)).await;
    Ok(done.map_err(|error| EngineError::Internal(format!("the set of keys ended badly: {error}")))??)
}

/// The records' keys, each flow's apart from every other's.
pub(super) fn own_keys(plan: &FlowPlan, records: &RecordBatch, context: &RunContext) -> Vec<Option<u128>> {
    let flow = salt(&plan.name);
    let keys = plan.target.keys(records, context).into_iter();
    keys.map(|key| key.map(|key| key ^ flow)).collect()
}

/// The records' keys and orders.
pub(super) fn candidates(
    plan: &FlowPlan,
    records: &RecordBatch,
    keys: Vec<Option<u128>>,
) -> Result<Vec<Option<Candidate>>> {
    let Some(order) = plan.duplicates.order() else { return Ok(vec![None; keys.len()]) };
    let sorts = order.sort_bytes(records).map_err(|error| {
        EngineError::Internal(format!("flow `{}`: the order of records: {error}", plan.name))
    })?;
    Ok(keys.into_iter().zip(sorts).map(|(key, sort)| Some((key?, sort))).collect())
}

pub(super) fn salt(flow: &FlowName) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&blake3::hash(flow.as_str().as_bytes()).as_bytes()[..16]);
    u128::from_be_bytes(half)
}
