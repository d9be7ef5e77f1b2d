//! The reading side: a collection, in slices of its rows.

mod embeddings;
mod part;
mod reading;
mod sides;

use crate::catalog::Metric;
use crate::client::Client;
use crate::error::{Fault, Outcome};
use crate::records::Prepared;
use crate::types::{self, Column, Described, Lent};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::StreamExt as _;
use part::Part;
use reading::{Message, Reading};
use std::sync::Arc;
use tokio::sync::mpsc;
use whimbrel_model::{Cursor, SlicePart};
use whimbrel_store::{
    BatchStream, ReadBatch, ReadRequest, Relation, Result, RunContext, Source, SourceDescription, StoreError,
    StoreErrorKind,
};

/// Into how many parts the rest of a slice is cut.
const SPLIT_INTO: usize = 4;
/// The most bytes of a batch, whatever is asked for. A batch of embeddings is copied whole several times on its way,
/// and lies in memory several times over in each slice: beyond this it costs memory and is no faster.
const MOST_BATCH_BYTES: usize = 2 << 20;

/// A collection.
pub(crate) struct ChromaSource {
    client: Arc<Client>,
    name: String,
    request: Arc<ReadRequest>,
    lent: Lent,
}

/// A collection as it is read.
pub(crate) struct Known {
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) columns: Vec<Column>,
    pub(crate) schema: SchemaRef,
    pub(crate) lent: Lent,
}

impl Described for Prepared {
    fn full_name(&self) -> String {
        self.collection.full_name()
    }

    fn dimension(&self) -> Option<usize> {
        self.dimension
    }

    fn metric(&self) -> &Metric {
        &self.collection.metric
    }

    fn keys(&self) -> Outcome<Vec<String>> {
        Self::keys(self)
    }
}

impl ChromaSource {
    /// # Errors
    /// The request asks for what Chroma does not have.
    pub(crate) fn new(client: &Arc<Client>, request: ReadRequest) -> Result<Self> {
        let unsupported = |what: &str| StoreError::new(StoreErrorKind::Unsupported, &client.store, what);
        let Relation::Table(name) = &request.relation else {
            return Err(unsupported("Chroma has no query language: name the `collection`, and use `where`"));
        };
        if !request.slice_by.is_empty() {
            return Err(unsupported("`slice_by` says nothing to Chroma: a collection is cut by its rows")
                .with_hint("leave `slice_by` out"));
        }
        Ok(Self {
            client: Arc::clone(client),
            name: name.clone(),
            request: Arc::new(request),
            lent: Lent::default(),
        })
    }

    fn doing(&self) -> String {
        format!("cannot read the collection \"{}\"", self.name)
    }

    /// The collection, made ready where it is not yet.
    async fn known(&self) -> Result<Known> {
        let (name, request, lent) = (self.name.clone(), Arc::clone(&self.request), self.lent.clone());
        let known = move |client: &Client| {
            let prepared = client.prepared(&name)?;
            let columns = types::columns(&request, &*prepared)?;
            let schema = types::schema(&columns, &*prepared);
            Ok(Known { prepared, columns, schema, lent })
        };
        self.client.blocking(&self.doing(), known).await
    }

    fn part(&self, part: &SlicePart, after: Option<&Cursor>) -> Result<Part> {
        Part::of(part, after).ok_or_else(|| {
            let context = format!("a slice or a cursor does not belong to the collection \"{}\"", self.name);
            StoreError::new(StoreErrorKind::Mismatch, &self.client.store, context)
                .with_hint("begin again with `whimbrel run --new`")
        })
    }

    async fn cut(&self, part: Part, wanted: usize) -> Result<Vec<Part>> {
        let prepared = self.known().await?.prepared;
        let (above, upto) = part.bounds();
        let cuts = move |_: &Client| prepared.boundaries(above, upto, wanted);
        Ok(part.cut_at(self.client.blocking(&self.doing(), cuts).await?))
    }
}

#[async_trait]
impl Source for ChromaSource {
    async fn describe(&self) -> Result<SourceDescription> {
        let known = self.known().await?;
        Ok(SourceDescription {
            schema: known.schema,
            key: vec!["id".to_owned()],
            records: Some(known.prepared.tally.records),
            resumable: true,
            // A collection holds one kind of records: `where` picks some of them, and nobody misses the others.
            sees_all: false,
            notes: known.prepared.notes(self.client.config.lost),
        })
    }

    async fn slices(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        let parts = self.cut(Part::WHOLE, wanted).await?;
        Ok(parts.into_iter().map(Part::to_slice).collect())
    }

    async fn split(&self, part: &SlicePart, after: Option<&Cursor>) -> Result<Vec<SlicePart>> {
        let parts = self.cut(self.part(part, after)?, SPLIT_INTO).await?;
        let is_cut = parts.len() > 1;
        Ok(if is_cut { parts.into_iter().map(Part::to_slice).collect() } else { Vec::new() })
    }

    async fn read(
        &self,
        part: &SlicePart,
        after: Option<&Cursor>,
        _context: &RunContext,
    ) -> Result<BatchStream> {
        let part = self.part(part, after)?;
        let reading = Reading {
            known: self.known().await?,
            part,
            lost: self.client.config.lost,
            batch_records: self.request.batch_records.max(1),
            batch_bytes: self.request.batch_bytes.clamp(1, MOST_BATCH_BYTES),
        };
        let (to, from) = mpsc::channel(1);
        let delivery = Delivery { from, client: Arc::clone(&self.client), doing: self.doing() };
        tokio::task::spawn_blocking(move || reading.run(&to));
        let batches = futures::stream::try_unfold(delivery, |mut delivery| async move {
            Ok(delivery.next().await?.map(|batch| (batch, delivery)))
        });
        Ok(batches.boxed())
    }
}

/// Batches on their way from the thread that reads them.
struct Delivery {
    from: mpsc::Receiver<std::result::Result<Message, Fault>>,
    client: Arc<Client>,
    doing: String,
}

impl Delivery {
    /// That the thread ended without a word is a failure, and never an end.
    async fn next(&mut self) -> Result<Option<ReadBatch>> {
        match self.from.recv().await {
            Some(Ok(Message::Batch(batch))) => Ok(Some(*batch)),
            Some(Ok(Message::End)) => Ok(None),
            Some(Err(fault)) => Err(fault.into_error(&self.client.store, &self.doing)),
            None => {
                let context = "the thread that reads a collection ended badly";
                Err(StoreError::new(StoreErrorKind::Internal, &self.client.store, context))
            }
        }
    }
}
