//! `each`: a source whose records are the elements of lists, or the members of objects, in the records of
//! another.
//!
//! A batch of parents becomes one or more batches of elements, so that a parent with very many of them takes no
//! more memory than its own text and one batch; only the last has a cursor, which is the parents' own, so that no
//! checkpoint stands within a parent. Whatever comes after this source counts elements and knows no parents.

mod explode;
mod names;
mod walk;

use async_trait::async_trait;
use explode::{Exploding, Portion};
use futures::StreamExt as _;
use names::Names;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use whimbrel_model::{Cursor, SlicePart};
use whimbrel_spec::EachStep;
use whimbrel_spec::resolved::Each;
use whimbrel_store::{
    BatchStream, ReadRequest, Result, RunContext, Source, SourceDescription, Store, StoreError,
};

/// The elements of another source's records.
pub struct EachSource {
    inner: Arc<dyn Source>,
    names: Arc<Names>,
    parents: Arc<Parents>,
    portion: Portion,
}

/// The records whose elements are read.
#[derive(Debug)]
pub struct Parents {
    path: String,
    /// How many there are, as far as their store knows.
    pub records: Option<u64>,
    read: AtomicU64,
    without: AtomicU64,
    elements: AtomicU64,
}

impl Parents {
    fn count(&self, elements: usize) {
        self.read.fetch_add(1, Ordering::Relaxed);
        self.without.fetch_add(u64::from(elements == 0), Ordering::Relaxed);
        self.elements.fetch_add(u64::try_from(elements).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// About how many elements all of them have, as far as those tell that were read.
    #[must_use]
    pub fn estimate(&self) -> Option<u64> {
        let (read, elements) = (self.read.load(Ordering::Relaxed), self.elements.load(Ordering::Relaxed));
        let all = u128::from(self.records?) * u128::from(elements);
        u64::try_from(all.checked_div(u128::from(read))?).ok()
    }

    /// What a plan says of those that were read.
    #[must_use]
    pub fn note(&self) -> String {
        let (read, without) = (self.read.load(Ordering::Relaxed), self.without.load(Ordering::Relaxed));
        let elements = self.elements.load(Ordering::Relaxed);
        let path = &self.path;
        format!("{read} records were opened at `{path}`: {elements} elements; {without} records have none")
    }
}

impl EachSource {
    /// Opens the source of the parents. `request` says what the flows want, by the names of their SQL.
    ///
    /// # Errors
    /// The store fails, or the source does not have what the path or a name says.
    pub async fn open(store: &dyn Store, request: ReadRequest, each: &Each) -> Result<Self> {
        let bare = ReadRequest {
            columns: BTreeMap::new(),
            wanted: None,
            condition: None,
            wants_all: false,
            ..request.clone()
        };
        let found = store.source(bare)?.describe().await?;
        let names = Arc::new(Names::new(store.name(), each, &found, &request)?);
        let portion = Portion { records: request.batch_records.max(1), bytes: request.batch_bytes.max(1) };
        let inner = store.source(names.request(request))?;
        // Where the members have names of their own, it does not matter whether they come out of one object.
        let is_whole = each.path.column.is_none() && each.path.steps.first() == Some(&EachStep::Members);
        let inner = match inner.members() {
            Some(members) if is_whole && each.key_as.is_some() => members,
            _ => inner,
        };
        let parents = Parents {
            path: each.text.clone(),
            records: found.records,
            read: AtomicU64::new(0),
            without: AtomicU64::new(0),
            elements: AtomicU64::new(0),
        };
        Ok(Self { inner, names, parents: Arc::new(parents), portion })
    }

    /// The records whose elements are read.
    #[must_use]
    pub fn parents(&self) -> &Arc<Parents> {
        &self.parents
    }
}

#[async_trait]
impl Source for EachSource {
    async fn describe(&self) -> Result<SourceDescription> {
        let found = self.inner.describe().await?;
        let mut notes = found.notes;
        notes.push(format!(
            "each element at `{}` is a record; a record of the source is held in memory whole",
            self.parents.path
        ));
        Ok(SourceDescription {
            schema: self.names.schema(&found.schema)?,
            key: self.names.record_key(),
            records: None,
            resumable: found.resumable,
            sees_all: false,
            notes,
        })
    }

    async fn slices(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        self.inner.slices(wanted).await
    }

    async fn read(
        &self,
        part: &SlicePart,
        after: Option<&Cursor>,
        context: &RunContext,
    ) -> Result<BatchStream> {
        let batches = self.inner.read(part, after, context).await?;
        let reading = Reading {
            batches,
            current: None,
            names: Arc::clone(&self.names),
            parents: Arc::clone(&self.parents),
            portion: self.portion,
        };
        let elements = futures::stream::try_unfold(reading, |mut reading| async move {
            let batch = reading.next().await?;
            Ok::<_, StoreError>(batch.map(|batch| (batch, reading)))
        });
        Ok(elements.boxed())
    }

    async fn split(&self, part: &SlicePart, after: Option<&Cursor>) -> Result<Vec<SlicePart>> {
        self.inner.split(part, after).await
    }
}

/// A slice on its way.
struct Reading {
    batches: BatchStream,
    current: Option<Exploding>,
    names: Arc<Names>,
    parents: Arc<Parents>,
    portion: Portion,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<whimbrel_store::ReadBatch>> {
        loop {
            if let Some(exploding) = &mut self.current
                && let Some(batch) = exploding.next_batch()?
            {
                return Ok(Some(batch));
            }
            let Some(batch) = self.batches.next().await else { return Ok(None) };
            let batch = batch?;
            let schema = self.names.schema(batch.records.schema_ref())?;
            self.current = Some(Exploding::new(&self.names, &schema, self.portion, &self.parents, batch)?);
        }
    }
}
