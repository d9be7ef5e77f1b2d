//! Writing batches: what becomes of each record, whatever happens to the requests that carry it.

mod request;

use crate::client::{Connection, Connector};
use crate::error::Fault;
use crate::limits::BATCH_ITEMS;
use crate::pacing::{Impatience, Pacer, Patience};
use crate::types::row::{Encoder, Layout, Prepared, refused};
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use request::{Attempt, Verdict};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;
use whimbrel_model::{Capacity, Stage};
use whimbrel_store::{
    Mode, Outcome, Refusal, Result, RunContext, StoreErrorKind, WriteBatch, WriteOutcome, WriteRequest,
    Writer,
};

/// How much one request carries by DynamoDB's count; it takes 16 MB of JSON, which is wordier.
const REQUEST_BYTES: u64 = 8 * 1024 * 1024;

/// What a writer is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) connector: Arc<Connector>,
    pub(crate) pacer: Arc<Pacer>,
    pub(crate) request: Arc<WriteRequest>,
    pub(crate) layout: Arc<Layout>,
    /// Whether an absent history means *created*.
    pub(crate) created: bool,
    pub(crate) context: RunContext,
}

/// Writes one slice's records of one flow.
#[derive(Debug)]
pub(crate) struct DynamoWriter {
    parts: Parts,
    ignore: HashSet<String>,
}

impl DynamoWriter {
    pub(crate) fn new(parts: Parts) -> Self {
        let ignore = parts.request.ignore.iter().cloned().collect();
        Self { parts, ignore }
    }

    /// The records as items; a second record of a key is refused, since one request takes a key only once and
    /// requests overtake each other.
    fn prepare(&self, batch: &WriteBatch) -> Vec<std::result::Result<Prepared, Refusal>> {
        let Parts { request, layout, context, .. } = &self.parts;
        let encoder =
            match Encoder::new(batch.records.schema_ref(), request, layout, &context.fingerprint_key) {
                Ok(encoder) => encoder,
                Err(refusal) => return vec![Err(refusal); batch.records.num_rows()],
            };
        let mut seen = HashSet::new();
        let first_of_its_key = |prepared: Prepared| {
            if seen.insert(prepared.fingerprint.key) {
                return Ok(prepared);
            }
            let key: Vec<_> = layout.key.iter().map(|key| format!("\"{}\"", key.name)).collect();
            Err(refused(format!("a second record with the key ({}) of an earlier one", key.join(", "))))
        };
        let mut first_of_its_key = first_of_its_key;
        encoder
            .encode(&batch.records)
            .into_iter()
            .map(|prepared| prepared.and_then(&mut first_of_its_key))
            .collect()
    }
}

/// Cuts rows into requests: each takes every n-th row, so that records that lie next to each other in key
/// order do not heat one partition together; none is too large.
fn portions(rows: &[usize], bytes: impl Fn(usize) -> u64, alone: impl Fn(usize) -> bool) -> Vec<Vec<usize>> {
    let (single, shared): (Vec<usize>, Vec<usize>) = rows.iter().partition(|row| alone(**row));
    let count = shared.len().div_ceil(BATCH_ITEMS);
    let mut portions: Vec<Vec<usize>> = single.into_iter().map(|row| vec![row]).collect();
    for first in 0..count {
        let mut portion = Vec::new();
        let mut size = 0;
        for row in shared.iter().copied().skip(first).step_by(count) {
            if size + bytes(row) > REQUEST_BYTES && !portion.is_empty() {
                portions.push(std::mem::take(&mut portion));
                size = 0;
            }
            size += bytes(row);
            portion.push(row);
        }
        portions.push(portion);
    }
    portions
}

/// The delivery of one batch.
struct Delivery<'a> {
    parts: &'a Parts,
    ignore: &'a HashSet<String>,
    connection: &'a Connection,
    /// The items by row; none where the record was refused before.
    items: Vec<Option<Prepared>>,
    contested: bool,
    /// Cancelled with the run, and when one request of the batch has failed for good.
    /// Ends waiting between attempts: the run is stopping, or another request of the batch has failed.
    stop: CancellationToken,
    /// Ends everything that is not sent yet: another request of the batch has failed.
    given_up: CancellationToken,
    used: Mutex<Capacity>,
}

impl Delivery<'_> {
    fn used(&self, capacity: Capacity) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) += capacity;
        self.parts.context.meter.used(capacity);
    }

    fn item(&self, row: usize) -> Option<&Prepared> {
        self.items.get(row).and_then(Option::as_ref)
    }

    fn failed(&self, impatience: Impatience) -> whimbrel_store::StoreError {
        let table = &self.parts.request.table;
        let context = match &impatience {
            Impatience::Failed(failure) if failure.fault.is_retryable() => {
                let patience = self.parts.context.retry_for.as_secs();
                format!(
                    "cannot write to table \"{table}\": no progress for {patience} s, last {}",
                    failure.reason
                )
            }
            _ => format!("cannot write to table \"{table}\""),
        };
        impatience.into_error(self.parts.connector.name(), context)
    }

    /// What a written record counts as.
    fn written(&self, prepared: &Prepared) -> Outcome {
        match self.parts.request.mode {
            Mode::Upsert if !self.parts.created => Outcome::Updated(prepared.fingerprint),
            Mode::Upsert | Mode::Insert | Mode::SkipExisting => Outcome::Created(prepared.fingerprint),
        }
    }

    /// What a record counts as whose key holds something else.
    fn existing(&self) -> Outcome {
        match self.parts.request.mode {
            Mode::SkipExisting => Outcome::Skipped,
            Mode::Insert | Mode::Upsert => rejected("the key exists already"),
        }
    }

    /// Writes rows until each has an outcome.
    async fn deliver(&self, rows: Vec<usize>) -> Result<Vec<(usize, Outcome)>> {
        let context = &self.parts.context;
        let pacer = &*self.parts.pacer;
        let mut patience = Patience::new(Some(pacer), context.retry_for, &self.stop, Some(&context.meter));
        let mut unsure: HashSet<usize> =
            if self.contested { rows.iter().copied().collect() } else { HashSet::new() };
        let mut outcomes = Vec::with_capacity(rows.len());
        let mut waiting = vec![rows];
        while let Some(rows) = waiting.pop() {
            let permit =
                pacer.acquire(&self.given_up).await.ok_or_else(|| self.failed(Impatience::Stopped))?;
            let attempt = self.attempt(&rows).await;
            match attempt.failure.as_ref().map(|failure| failure.fault) {
                None | Some(Fault::Refused | Fault::Exists) => permit.answered(rows.len()),
                Some(Fault::Throttled) => permit.throttled(),
                Some(Fault::NotSent | Fault::Unknown | Fault::Fatal) => drop(permit),
            }
            if !attempt.settled.is_empty() {
                patience.progressed();
            }
            let Attempt { settled, again, unsure: lost, failure } = attempt;
            let (contested, settled): (Vec<_>, Vec<_>) = settled
                .into_iter()
                .partition(|(row, verdict)| *verdict == Verdict::Exists && unsure.contains(row));
            outcomes.extend(settled.into_iter().map(|(row, verdict)| (row, self.outcome(row, verdict))));
            unsure.extend(lost);
            if !contested.is_empty() {
                let rows: Vec<usize> = contested.into_iter().map(|(row, _)| row).collect();
                let (compared, gone) =
                    self.compare(&rows, &mut patience).await.map_err(|error| self.failed(error))?;
                outcomes.extend(compared);
                waiting.extend(Some(gone).filter(|gone| !gone.is_empty()));
            }
            let Some(failure) = failure else { continue };
            match (failure.fault, again.len()) {
                (Fault::Refused, 0 | 1) => {
                    patience.progressed();
                    outcomes.extend(again.into_iter().map(|row| (row, rejected(&failure.reason))));
                }
                (Fault::Refused, count) => {
                    // Somewhere in there is what is refused: halve until it stands alone.
                    let (one, other) = again.split_at(count / 2);
                    waiting.extend([one.to_vec(), other.to_vec()]);
                }
                _ => {
                    patience.wait(failure).await.map_err(|error| self.failed(error))?;
                    waiting.push(again);
                }
            }
        }
        Ok(outcomes)
    }

    fn outcome(&self, row: usize, verdict: Verdict) -> Outcome {
        match (verdict, self.item(row)) {
            (Verdict::Written, Some(prepared)) => self.written(prepared),
            (Verdict::Exists, _) => self.existing(),
            (Verdict::Refused(reason), _) => rejected(&reason),
            (Verdict::Written, None) => rejected("the record was never sent"),
        }
    }
}

/// A refusal by the store.
fn rejected(reason: &str) -> Outcome {
    Outcome::Rejected(Refusal { stage: Stage::Write, reason: format!("DynamoDB refused it: {reason}") })
}

#[async_trait]
impl Writer for DynamoWriter {
    async fn write(&self, batch: WriteBatch) -> Result<WriteOutcome> {
        let connection = self.parts.connector.connection().await?;
        let mut outcomes = Vec::with_capacity(batch.records.num_rows());
        let mut items = Vec::with_capacity(batch.records.num_rows());
        for prepared in self.prepare(&batch) {
            let (item, outcome) = match prepared {
                Ok(prepared) => (Some(prepared), None),
                Err(refusal) => (None, Some(Outcome::Rejected(refusal))),
            };
            items.push(item);
            outcomes.push(outcome);
        }
        let delivery = Delivery {
            parts: &self.parts,
            ignore: &self.ignore,
            connection,
            items,
            contested: batch.contested,
            stop: self.parts.context.stop.child_token(),
            given_up: CancellationToken::new(),
            used: Mutex::default(),
        };
        let rows: Vec<usize> =
            (0..delivery.items.len()).filter(|row| delivery.item(*row).is_some()).collect();
        let bytes = |row| delivery.item(row).map_or(0, |prepared| prepared.bytes);
        let portions = portions(&rows, bytes, |row| delivery.goes_alone(row));
        let mut requests: FuturesUnordered<_> =
            portions.into_iter().map(|rows| delivery.deliver(rows)).collect();
        let mut failure = None;
        while let Some(delivered) = requests.next().await {
            match delivered {
                Ok(delivered) => {
                    for (row, outcome) in delivered {
                        outcomes[row] = Some(outcome);
                    }
                }
                Err(error) => {
                    // The others finish what is in flight and wait for nothing more; the first reason counts.
                    delivery.stop.cancel();
                    delivery.given_up.cancel();
                    failure.get_or_insert(error);
                }
            }
        }
        drop(requests);
        if let Some(error) = failure {
            return Err(error);
        }
        let arrived =
            |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Created(_) | Outcome::Updated(_)));
        let bytes = outcomes
            .iter()
            .enumerate()
            .filter(|(_, outcome)| arrived(outcome))
            .map(|(row, _)| bytes(row))
            .sum();
        let capacity = *delivery.used.lock().unwrap_or_else(PoisonError::into_inner);
        let outcomes: Option<Vec<Outcome>> = outcomes.into_iter().collect();
        let outcomes = outcomes.ok_or_else(|| {
            let context = "a record was written without an outcome";
            whimbrel_store::StoreError::new(StoreErrorKind::Internal, self.parts.connector.name(), context)
        })?;
        Ok(WriteOutcome { outcomes, bytes, capacity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_key_order_go_into_different_requests() {
        let rows: Vec<usize> = (0..60).collect();
        let cut = portions(&rows, |_| 100, |_| false);
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [20, 20, 20]);
        assert_eq!(cut[0][..3], [0, 3, 6]);
        assert_eq!(cut.concat().into_iter().collect::<HashSet<_>>().len(), 60);
    }

    #[test]
    fn requests_stay_small_and_long_statements_go_alone() {
        let rows: Vec<usize> = (0..25).collect();
        let cut = portions(&rows, |_| 400 * 1024, |row| row == 7);
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [1, 20, 4]);
        assert_eq!(cut[0], [7]);
        assert!(portions(&[], |_| 1, |_| false).is_empty());
    }
}
