//! Writing batches: what becomes of each record, whatever happens to the requests that carry it.

mod aside;
mod before;
mod compare;
mod conditional;
mod delete;
mod delivery;
mod read_back;
mod request;
mod undo;
mod update;

pub(crate) use conditional::Conditional;
pub(crate) use delete::Deletion;
pub(crate) use undo::Restoring;

use crate::client::Connector;
use crate::limits::BATCH_ITEMS;
use crate::pacing::Pacer;
use crate::types::ignore::Ignore;
use crate::types::row::{Encoder, Layout, Prepared, refused, write_units};
use async_trait::async_trait;
use before::{Imaging, Looked};
use compare::Comparing;
use delivery::{Delivery, Row};
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use std::collections::HashSet;
use std::sync::Arc;
use update::Guards;
use whimbrel_model::Capacity;
use whimbrel_store::{
    BeforeImages, Mode, Outcome, Refusal, Result, RunContext, StoreError, StoreErrorKind, WriteBatch,
    WriteOutcome, WriteRequest, Writer,
};

/// How much one request carries by DynamoDB's count; it takes 16 MB of JSON, which is wordier.
const REQUEST_BYTES: u64 = 8 * 1024 * 1024;

/// What a writer is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) connector: Arc<Connector>,
    pub(crate) pacer: Arc<Pacer>,
    pub(crate) request: Arc<WriteRequest>,
    pub(crate) ignore: Arc<Ignore>,
    pub(crate) layout: Arc<Layout>,
    /// Whether an absent history means *created*.
    pub(crate) created: bool,
    /// Takes before-images; `None`: none are kept.
    pub(crate) images: Option<Arc<dyn BeforeImages>>,
    pub(crate) context: RunContext,
}

/// Writes one slice's records of one flow.
#[derive(Debug)]
pub(crate) struct DynamoWriter {
    parts: Parts,
}

impl DynamoWriter {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// The records as rows to be sent; a second record of a key is refused, since one request takes a key only
    /// once and requests overtake each other.
    fn prepare(&self, encoder: &Encoder<'_>, batch: &WriteBatch) -> Vec<std::result::Result<Row, Refusal>> {
        let Parts { request, layout, .. } = &self.parts;
        let guards = match (request.mode, &batch.guards) {
            (Mode::Update, Some(guards)) => match Guards::new(encoder, request, guards) {
                Ok(guards) => Some(guards),
                Err(refusal) => {
                    return (0..batch.records.num_rows()).map(|_| Err(refusal.clone())).collect();
                }
            },
            _ => None,
        };
        let mut seen = HashSet::with_capacity(batch.records.num_rows());
        let mut row = |number: usize, prepared: Prepared| {
            if !seen.insert(prepared.fingerprint.key) {
                let key: Vec<_> = layout.key.iter().map(|key| format!("\"{}\"", key.name)).collect();
                return Err(refused(format!(
                    "a second record with the key ({}) of an earlier one",
                    key.join(", ")
                )));
            }
            match request.mode {
                Mode::Update => Row::update(encoder, prepared, guards.as_ref(), number),
                Mode::Upsert => Ok(Row::put(prepared, self.parts.created)),
                Mode::Insert | Mode::SkipExisting | Mode::Changed => Ok(Row::create(prepared)),
            }
        };
        let prepared = encoder.encode(&batch.records).into_iter().enumerate();
        prepared.map(|(number, prepared)| row(number, prepared?)).collect()
    }

    /// The rows of a run that can be undone: before-images first.
    async fn imaged(
        &self,
        imaging: Imaging<'_>,
        rows: Vec<std::result::Result<Row, Refusal>>,
    ) -> Result<(Sorted, Vec<u128>, Capacity)> {
        let (looked, keys, used) = imaging.rows(rows).await?;
        let mut sorted = Sorted::default();
        for looked in looked {
            let (outcome, row) = match looked {
                Ok(Looked::Send(row)) => (None, Some(row)),
                Ok(Looked::Settled(outcome)) => (Some(outcome), None),
                Err(refusal) => (Some(Outcome::Rejected(refusal)), None),
            };
            sorted.outcomes.push(outcome);
            sorted.rows.push(row);
        }
        Ok((sorted, keys, used))
    }

    fn sort(&self, prepared: Vec<std::result::Result<Row, Refusal>>, contested: bool) -> Sorted {
        // What an earlier attempt has sent to a table that held nothing is what it created.
        let is_ours = contested && self.parts.created && self.parts.request.mode == Mode::Changed;
        let mut sorted = Sorted::default();
        for prepared in prepared {
            let (outcome, row) = match prepared {
                Ok(row) if row.has_nothing_to_write() && is_ours => {
                    (Some(Outcome::Created(row.prepared.fingerprint)), None)
                }
                Ok(row) if row.has_nothing_to_write() => {
                    sorted.spared += row.units_anew();
                    (Some(Outcome::Unchanged(row.prepared.fingerprint)), None)
                }
                Ok(row) => (None, Some(row)),
                Err(refusal) => (Some(Outcome::Rejected(refusal)), None),
            };
            sorted.outcomes.push(outcome);
            sorted.rows.push(row);
        }
        sorted
    }

    fn error(&self, context: &str) -> StoreError {
        StoreError::new(StoreErrorKind::Internal, self.parts.connector.name(), context)
    }
}

/// The rows of a batch that are to be sent, and what is known of the others already.
#[derive(Default)]
struct Sorted {
    outcomes: Vec<Option<Outcome>>,
    rows: Vec<Option<Row>>,
    /// Write units that the rows do not use which the table holds already.
    spared: u64,
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

#[async_trait]
impl Writer for DynamoWriter {
    async fn write(&self, batch: WriteBatch) -> Result<WriteOutcome> {
        let Parts { connector, request, layout, ignore, context, .. } = &self.parts;
        let schema = batch.records.schema_ref();
        let encoder = match Encoder::new(schema, request, ignore, layout, &context.fingerprint_key) {
            Ok(encoder) => encoder,
            Err(refusal) => {
                let outcomes = vec![Outcome::Rejected(refusal); batch.records.num_rows()];
                return Ok(WriteOutcome { outcomes, ..WriteOutcome::default() });
            }
        };
        let connection = connector.connection().await?;
        let mut rows = self.prepare(&encoder, &batch);
        let mut compared = Capacity::default();
        // A table that holds nothing need not be asked; what is there all the same is found by the write.
        let compares = request.mode == Mode::Changed && self.parts.images.is_none();
        if compares && (batch.contested || !self.parts.created) {
            let comparing = Comparing { parts: &self.parts, encoder: &encoder, connection };
            (rows, compared) = comparing.rows(rows).await?;
        }
        let mut imaged = Vec::new();
        let sorted = match &self.parts.images {
            Some(images) => {
                let parts = &self.parts;
                let (encoder, contested) = (&encoder, batch.contested);
                let imaging = Imaging { parts, encoder, connection, images, contested };
                let (sorted, keys, used) = self.imaged(imaging, rows).await?;
                (imaged, compared) = (keys, used);
                sorted
            }
            None => self.sort(rows, batch.contested),
        };
        let Sorted { mut outcomes, rows, mut spared } = sorted;
        let delivery = Delivery::new(&self.parts, encoder, connection, rows, batch.contested);
        let numbers: Vec<usize> = delivery.numbers().collect();
        let portions = portions(&numbers, |row| delivery.bytes(row), |row| delivery.goes_alone(row));
        delivery.announce(portions.len());
        let mut requests: FuturesUnordered<_> =
            portions.into_iter().map(|rows| delivery.deliver(rows).boxed()).collect();
        requests.push(delivery.deliver_aside().boxed());
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
                    delivery.give_up();
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
        let arrived = outcomes.iter().enumerate().filter(|(_, outcome)| arrived(outcome));
        let bytes = arrived.map(|(row, _)| delivery.bytes(row)).sum();
        spared += delivery.spared(&outcomes);
        let mut capacity =
            Capacity { spared_write_units: write_units(spared).write_units, ..delivery.capacity() };
        capacity += compared;
        if let Some(images) = self.parts.images.as_ref().filter(|_| !imaged.is_empty()) {
            let unwritten = delivery.unwritten(&outcomes, &imaged);
            images.forget(unwritten).await?;
        }
        let outcomes: Option<Vec<Outcome>> = outcomes.into_iter().collect();
        let outcomes = outcomes.ok_or_else(|| self.error("a record was written without an outcome"))?;
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
