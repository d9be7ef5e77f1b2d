//! The reading side: slices by ranges of a key, each read by one `COPY`.

use crate::catalog::{self, Equality, Layout};
use crate::client::{Connections, Lease, Purpose};
use crate::copy::CopyDecoder;
use crate::error::from_driver;
use crate::sql::{self, Part, Position};
use async_trait::async_trait;
use batches::{BatchError, Batches};
use boundaries::SPLIT_INTO;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_postgres::error::SqlState;
use whimbrel_model::{Cursor, SlicePart, StoreName};
use whimbrel_store::{
    BatchStream, ReadBatch, ReadRequest, Result, RunContext, Source, SourceDescription, StoreError,
    StoreErrorKind,
};

mod batches;
mod boundaries;
mod filter;

pub(crate) use filter::Filter;

/// A table, view or query.
pub(crate) struct PostgresSource {
    store: StoreName,
    connections: Arc<Connections>,
    request: ReadRequest,
    /// As last described.
    layout: Mutex<Option<Arc<Layout>>>,
    /// Counted once: a source is described again at each slice.
    records: tokio::sync::OnceCell<u64>,
}

impl PostgresSource {
    pub(crate) fn new(store: &StoreName, connections: &Arc<Connections>, request: ReadRequest) -> Self {
        Self {
            store: store.clone(),
            connections: Arc::clone(connections),
            request,
            layout: Mutex::default(),
            records: tokio::sync::OnceCell::new(),
        }
    }

    async fn look(&self, lease: &Lease) -> Result<Arc<Layout>> {
        let layout = Arc::new(catalog::layout(&self.store, lease, &self.request).await?);
        *self.layout.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&layout));
        Ok(layout)
    }

    async fn known_layout(&self, lease: &Lease) -> Result<Arc<Layout>> {
        let known = self.layout.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(layout) => Ok(layout),
            None => self.look(lease).await,
        }
    }

    async fn count(&self, lease: &Lease, layout: &Layout) -> Result<u64> {
        self.records.get_or_try_init(|| catalog::records(&self.store, lease, layout)).await.copied()
    }

    /// Compares what a statement would give now with what is expected of it. From here on the tables are
    /// locked against changes of their columns until the transaction ends.
    async fn check_drift(&self, lease: &Lease, layout: &Layout, shape: &str) -> Result<()> {
        let name = layout.relation.name();
        let drifted = |what: String| {
            let error =
                StoreError::new(StoreErrorKind::Drift, &self.store, format!("{name} has changed: {what}"));
            error.with_hint("`whimbrel plan` shows what it is now")
        };
        let prepared = lease.client().prepare(shape).await.map_err(|error| {
            let gone = [SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_TABLE];
            match error.code() {
                Some(code) if gone.contains(code) => {
                    drifted("a column or table is gone".to_owned()).caused_by(error)
                }
                _ => from_driver(&self.store, format!("cannot read {name}"), error),
            }
        })?;
        for (now, then) in prepared.columns().iter().zip(&layout.columns) {
            if now.type_().oid() != then.type_oid {
                return Err(drifted(format!("column `{}` was {}", then.name, then.source_type)));
            }
        }
        Ok(())
    }

    /// What of a part lies behind a cursor.
    fn rest(&self, layout: &Layout, part: &SlicePart, after: Option<&Cursor>) -> Result<Part> {
        let columns = layout.slice_key.len();
        let part = Part::from_slice(part, columns).ok_or_else(|| self.foreign("a slice"))?;
        let Some(cursor) = after else { return Ok(part) };
        let rest = part.after(cursor, columns).ok_or_else(|| self.foreign("a cursor"))?;
        if rest.within().is_some() && layout.is_unique {
            return Err(self.foreign("a cursor"));
        }
        Ok(rest)
    }

    fn foreign(&self, what: &str) -> StoreError {
        let context = format!("{what} does not belong to this source as it is now");
        let error = StoreError::new(StoreErrorKind::Mismatch, &self.store, context);
        error.with_hint(
            "the key that slices are ranges of has changed since; begin again with `whimbrel run --new`",
        )
    }

    fn internal(&self, what: &str) -> StoreError {
        StoreError::new(StoreErrorKind::Internal, &self.store, what)
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn describe(&self) -> Result<SourceDescription> {
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let layout = self.look(&lease).await?;
        let records = self.count(&lease, &layout).await?;
        lease.finish().await?;
        Ok(SourceDescription {
            schema: Arc::clone(&layout.schema),
            key: layout.key.clone(),
            records: Some(records),
            resumable: !layout.slice_key.is_empty(),
            // A table holds one kind of records: `where` picks some of them, and nobody misses the others.
            sees_all: false,
            notes: layout.notes.clone(),
        })
    }

    async fn slices(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let layout = self.known_layout(&lease).await?;
        if layout.slice_key.is_empty() {
            lease.finish().await?;
            return Ok(vec![Part::Whole.to_slice()]);
        }
        let whole = Part::Range { above: None, upto: None };
        let boundaries =
            if wanted > 1 { self.boundaries(&lease, &layout, &whole, wanted).await? } else { Vec::new() };
        lease.finish().await?;
        let mut parts = cut_at(whole, boundaries);
        if layout.slice_key.iter().any(|column| column.holds_null) {
            parts.push(Part::Nulls);
        }
        Ok(parts.iter().map(Part::to_slice).collect())
    }

    async fn delivers_keys_once(&self) -> Result<bool> {
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let layout = self.known_layout(&lease).await?;
        lease.finish().await?;
        // In slices by another key a record that changes meanwhile may be read in two of them.
        let sliced_by = layout.slice_key.iter().map(|column| &column.name);
        let is_own_key = layout.is_unique && sliced_by.eq(&layout.key);
        let is_certain = layout.slice_key.iter().all(|column| column.equality == Equality::Bytes);
        Ok(is_own_key && is_certain && !layout.key.is_empty())
    }

    async fn split(&self, part: &SlicePart, after: Option<&Cursor>) -> Result<Vec<SlicePart>> {
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let layout = self.known_layout(&lease).await?;
        let rest = self.rest(&layout, part, after)?;
        // Among the records of one key no part can begin, and without an order there is nothing to cut by.
        let boundaries = if rest.is_ordered() && rest.within().is_none() {
            self.boundaries(&lease, &layout, &rest, SPLIT_INTO).await?
        } else {
            Vec::new()
        };
        lease.finish().await?;
        if boundaries.is_empty() {
            return Ok(Vec::new());
        }
        Ok(cut_at(rest, boundaries).iter().map(Part::to_slice).collect())
    }

    async fn read(
        &self,
        part: &SlicePart,
        after: Option<&Cursor>,
        _context: &RunContext,
    ) -> Result<BatchStream> {
        let lease = self.connections.lease(Purpose::Read).await?;
        let layout = self.known_layout(&lease).await?;
        let part = self.rest(&layout, part, after)?;
        let is_ordered = part.is_ordered();
        self.stream(lease, &layout, &part, is_ordered).await
    }
}

impl PostgresSource {
    /// Reads a part in whatever order the server finds best, and what is committed now.
    pub(crate) async fn read_unordered(&self, part: &SlicePart) -> Result<BatchStream> {
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let layout = self.known_layout(&lease).await?;
        let part = self.rest(&layout, part, None)?;
        self.stream(lease, &layout, &part, false).await
    }

    async fn stream(
        &self,
        lease: Lease,
        layout: &Layout,
        part: &Part,
        is_ordered: bool,
    ) -> Result<BatchStream> {
        let select = if is_ordered { sql::select(layout, part) } else { sql::select_unordered(layout, part) };
        let statements = sql::shape(layout, part).zip(select);
        let (shape, select) = statements.ok_or_else(|| self.foreign("a key with U+0000"))?;
        self.check_drift(&lease, layout, &shape).await?;
        let doing = format!("cannot read {}", layout.relation.name());
        let copy = lease.client().copy_out(&format!("COPY ({select}) TO STDOUT (FORMAT binary)")).await;
        let copy = copy.map_err(|error| from_driver(&self.store, doing.clone(), error))?;
        let hidden = if is_ordered { layout.hidden_fields() } else { 0 };
        let reading = Reading {
            store: self.store.clone(),
            doing,
            decoder: CopyDecoder::new(layout.columns.len() + hidden),
            batches: Batches::new(layout, part, &self.request, is_ordered),
            copy: Some(Box::pin(copy)),
            lease: Some(lease),
        };
        Ok(futures::stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|batch| (batch, reading)))
        })
        .boxed())
    }
}

/// Cuts a range behind each of the keys, which ascend and lie in it.
fn cut_at(part: Part, boundaries: Vec<Vec<String>>) -> Vec<Part> {
    let Part::Range { above: mut from, upto } = part else { return vec![part] };
    let mut parts = Vec::with_capacity(boundaries.len() + 1);
    for key in boundaries {
        let above = from.replace(Position::behind(key.clone()));
        parts.push(Part::Range { above, upto: Some(key) });
    }
    parts.push(Part::Range { above: from, upto });
    parts
}

type CopyStream = Pin<Box<dyn Stream<Item = std::result::Result<Bytes, tokio_postgres::Error>> + Send>>;

/// A read under way.
struct Reading {
    store: StoreName,
    doing: String,
    decoder: CopyDecoder,
    batches: Batches,
    /// `None`: the server has sent everything. Dropped before the lease, which then sees to the rest.
    copy: Option<CopyStream>,
    lease: Option<Lease>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<ReadBatch>> {
        loop {
            if let Some(batch) = self.batches.next() {
                return Ok(Some(batch));
            }
            let Some(copy) = &mut self.copy else { return Ok(None) };
            match copy.next().await {
                Some(Ok(chunk)) => {
                    let batches = &mut self.batches;
                    let pushed = self.decoder.rows(&chunk, |rows| batches.push(rows));
                    pushed.map_err(|error| self.failed(error))?;
                }
                Some(Err(error)) => return Err(from_driver(&self.store, self.doing.clone(), error)),
                None => {
                    self.copy = None;
                    self.decoder.finish().map_err(|error| self.failed(error.into()))?;
                    self.batches.finish().map_err(|error| self.failed(error))?;
                    if let Some(lease) = self.lease.take() {
                        lease.finish().await?;
                    }
                }
            }
        }
    }

    fn failed(&self, error: BatchError) -> StoreError {
        error.into_store(&self.store, &self.doing)
    }
}
