//! The reading side: a table by parallel scan, or the records of some keys by queries.
//!
//! Whole items are asked for, not projections: they cost the same units, since DynamoDB charges for what it
//! reads and not for what it sends, and a reject must keep its record whole. Only the attributes that are
//! columns are decoded.

mod access;
mod batches;
mod filter;
mod page;
mod pages;
mod plan;
mod sample;
mod whole;

pub(crate) use page::Page;
pub(crate) use whole::Segment;

use crate::catalog::{Catalog, Table};
use crate::client::Connector;
use crate::error::Failure;
use crate::pacing::{Patience, persistently};
use access::Access;
use async_trait::async_trait;
use batches::{BatchError, Batches};
use futures::{FutureExt as _, StreamExt as _};
use page::{PageRequest, key_item};
use pages::Pages;
use plan::{Part, Plan};
use sample::{SAMPLE_ITEMS, Sample};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OnceCell, mpsc};
use tokio_util::sync::CancellationToken;
use whimbrel_model::{Cursor, SlicePart};
use whimbrel_store::{
    BatchStream, ReadBatch, ReadRequest, Relation, Result, RunContext, Source, SourceDescription, StoreError,
    StoreErrorKind,
};

/// What a segment holds at the least, so that asking for it pays.
const SEGMENT_BYTES: u64 = 50_000_000;
const SEGMENT_ITEMS: u64 = 20_000;
/// The most segments that DynamoDB takes.
const MOST_SEGMENTS: usize = 1_000_000;
/// How long a first look is tried again: somebody is waiting for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A table.
pub(crate) struct DynamoSource {
    connector: Arc<Connector>,
    request: ReadRequest,
    table: String,
    /// As last looked at.
    known: Mutex<Option<Known>>,
    /// Taken once: a source is described again at each slice. `None`: it could not be had.
    sample: OnceCell<Option<Sample>>,
}

#[derive(Clone, Debug)]
struct Known {
    table: Arc<Table>,
    plan: Arc<Plan>,
}

impl DynamoSource {
    /// # Errors
    /// The request asks for what DynamoDB does not have.
    pub(crate) fn new(connector: &Arc<Connector>, request: ReadRequest) -> Result<Self> {
        let unsupported = |what: &str| StoreError::new(StoreErrorKind::Unsupported, connector.name(), what);
        let Relation::Table(table) = &request.relation else {
            return Err(unsupported("DynamoDB has no query language here: use `table` and `where`"));
        };
        if !request.slice_by.is_empty() {
            return Err(unsupported(
                "`slice_by` says nothing to DynamoDB: a table is cut into scan segments",
            )
            .with_hint("leave `slice_by` out"));
        }
        Ok(Self {
            connector: Arc::clone(connector),
            table: table.clone(),
            request,
            known: Mutex::default(),
            sample: OnceCell::new(),
        })
    }

    async fn look(&self) -> Result<Known> {
        let catalog = Catalog::new(&self.connector);
        let table = match catalog.table(&self.table).await? {
            Some(table) => Arc::new(table),
            None => {
                let error = catalog.missing(&self.table).await;
                return Err(
                    error.with_hint("look at the flow's `table`, and at region and endpoint of the store")
                );
            }
        };
        let plan = Plan::of(&self.request, &table, self.connector.config().consistent_reads)
            .map_err(|reason| self.error(StoreErrorKind::Unsupported, reason))?;
        let known = Known { table, plan: Arc::new(plan) };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        Ok(known)
    }

    async fn known(&self) -> Result<Known> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(known) => Ok(known),
            None => self.look().await,
        }
    }

    /// The first items; `None` where the store asks for patience: a look is not worth to wait for.
    async fn sample(&self, known: &Known) -> Result<&Option<Sample>> {
        let take = async || {
            let Some(part) = parts(known, 1, None).into_iter().next() else { return Ok(None) };
            let request = PageRequest {
                table: self.table.clone(),
                plan: Arc::clone(&known.plan),
                part,
                after: None,
                limit: Some(SAMPLE_ITEMS),
            };
            let connection = self.connector.connection().await?;
            let stop = CancellationToken::new();
            let mut patience = Patience::new(None, PATIENCE, &stop, None);
            let ask = || {
                request.send(connection).map(|page| page.map_err(Failure::fatal_where_nobody_listens)).boxed()
            };
            let doing = format!("cannot read table \"{}\"", self.table);
            match persistently(&mut patience, ask).await {
                Ok(page) => Sample::of(&page).map(Some).map_err(|error| {
                    self.error(StoreErrorKind::Protocol, doing).caused_by(BatchError::Item(error))
                }),
                Err(impatience) => {
                    let error = impatience.into_error(self.connector.name(), doing);
                    if error.kind() == StoreErrorKind::Overloaded { Ok(None) } else { Err(error) }
                }
            }
        };
        self.sample.get_or_try_init(take).await
    }

    fn error(&self, kind: StoreErrorKind, context: impl Into<String>) -> StoreError {
        StoreError::new(kind, self.connector.name(), context)
    }

    fn foreign(&self, what: &str) -> StoreError {
        let context = format!("{what} does not belong to table \"{}\" as it is read now", self.table);
        self.error(StoreErrorKind::Mismatch, context)
            .with_hint("its key, its indexes or the condition changed; begin again with `whimbrel run --new`")
    }
}

/// The parts of a table, at most `wanted` segments of a scan.
fn parts(known: &Known, wanted: usize, sample: Option<&Sample>) -> Vec<Part> {
    match &known.plan.access {
        Access::Query(query) => {
            let part = |key: &access::KeyValue| Part::Query { index: query.index.clone(), key: key.clone() };
            query.keys.keys().map(part).collect()
        }
        Access::Scan => {
            // What is counted every six hours says nothing of a table that was filled since.
            let is_uncounted = known.table.items.is_none_or(|counted| counted == 0)
                && sample.is_some_and(|sample| sample.more);
            segments(if is_uncounted { wanted } else { worth(&known.table).min(wanted) })
        }
    }
}

/// How many segments pay, by what DynamoDB counted last.
fn worth(table: &Table) -> usize {
    let by_items = table.items.unwrap_or(0).div_ceil(SEGMENT_ITEMS);
    let by_bytes = table.bytes.unwrap_or(0).div_ceil(SEGMENT_BYTES);
    usize::try_from(by_items.max(by_bytes)).unwrap_or(usize::MAX).max(1)
}

/// A scan of the whole table in so many segments.
fn segments(of: usize) -> Vec<Part> {
    let of = i32::try_from(of.clamp(1, MOST_SEGMENTS)).unwrap_or(1);
    (0..of).map(|segment| Part::Scan { segment, of }).collect()
}

/// The bytes of an item on average, by what DynamoDB counted last; 0 where it has not.
#[expect(clippy::cast_precision_loss, reason = "an average")]
fn bytes_per_item(table: &Table) -> f64 {
    match (table.bytes, table.items) {
        (Some(bytes), Some(items)) if items > 0 => bytes as f64 / items as f64,
        _ => 0.0,
    }
}

#[async_trait]
impl Source for DynamoSource {
    async fn describe(&self) -> Result<SourceDescription> {
        let known = self.look().await?;
        let Known { table, plan } = &known;
        let sample = self.sample(&known).await?.as_ref();
        let mut notes = plan.notes();
        notes.extend(sample.into_iter().flat_map(|sample| sample.notes(plan)));
        if self.request.wanted.is_none() {
            notes.push(format!(
                "DynamoDB has no columns: the key, what `columns` declares, and `{}`, the whole item, are read",
                plan::ITEM
            ));
        }
        let is_scan = plan.access == Access::Scan;
        let mut records = table.items.filter(|_| is_scan);
        if let Some(sample) = sample.filter(|sample| is_scan && records == Some(0) && sample.items > 0) {
            records = (!sample.more && plan.filter.is_none()).then_some(sample.items as u64);
            notes.push("DynamoDB counts items every six hours, and has not counted these yet".to_owned());
        }
        Ok(SourceDescription {
            schema: Arc::clone(&plan.schema),
            key: plan.key.clone(),
            records,
            resumable: true,
            sees_all: is_scan && plan.filter.is_none(),
            notes,
        })
    }

    async fn slices(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        let known = self.look().await?;
        let sample = if wanted > 1 { self.sample(&known).await?.as_ref() } else { None };
        let parts = parts(&known, wanted, sample).into_iter().map(|part| part.to_slice());
        parts
            .collect::<serde_json::Result<_>>()
            .map_err(|error| self.error(StoreErrorKind::Internal, "a part cannot be kept").caused_by(error))
    }

    async fn read(
        &self,
        part: &SlicePart,
        after: Option<&Cursor>,
        context: &RunContext,
    ) -> Result<BatchStream> {
        let Known { table, plan } = self.known().await?;
        let part = plan.part(part).ok_or_else(|| self.foreign("a slice"))?;
        let after = match after {
            None => None,
            Some(cursor) => {
                let key = batches::after(cursor).filter(|key| key.len() == plan.cursor_key.len());
                Some(key.and_then(key_item).ok_or_else(|| self.foreign("a cursor"))?)
            }
        };
        let request =
            PageRequest { table: self.table.clone(), plan: Arc::clone(&plan), part, after, limit: None };
        let reading = Reading {
            connector: Arc::clone(&self.connector),
            table: self.table.clone(),
            pages: Pages::new(&self.connector, request, context, bytes_per_item(&table)).start(),
            batches: Batches::new(&plan, self.request.batch_records, self.request.batch_bytes),
            failed: None,
        };
        Ok(futures::stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|batch| (batch, reading)))
        })
        .boxed())
    }
}

/// A read under way.
struct Reading {
    connector: Arc<Connector>,
    table: String,
    pages: mpsc::Receiver<Result<Page>>,
    batches: Batches,
    /// Why there are no more pages; what came before is handed over first.
    failed: Option<StoreError>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<ReadBatch>> {
        loop {
            if let Some(batch) = self.batches.next().map_err(|error| self.malformed(error))? {
                return Ok(Some(batch));
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            match self.pages.recv().await {
                Some(Ok(page)) => self.batches.push(page),
                Some(Err(error)) => {
                    self.failed = Some(error);
                    if let Some(batch) = self.batches.rest().map_err(|error| self.malformed(error))? {
                        return Ok(Some(batch));
                    }
                }
                None => return self.batches.rest().map_err(|error| self.malformed(error)),
            }
        }
    }

    fn malformed(&self, error: BatchError) -> StoreError {
        let doing = format!("cannot read table \"{}\"", self.table);
        StoreError::new(StoreErrorKind::Protocol, self.connector.name(), doing).caused_by(error)
    }
}
