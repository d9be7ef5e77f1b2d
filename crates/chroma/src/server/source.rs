//! The reading side: a collection, in slices of its ids.

mod part;
mod reading;

use super::Server;
use super::answer;
use super::catalog::Served;
use super::listing::Listing;
use crate::catalog::Metric;
use crate::types::{self, Column};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::StreamExt as _;
use part::Part;
use reading::Reading;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::mpsc;
use whimbrel_model::{Cursor, SlicePart};
use whimbrel_store::{
    BatchStream, ReadRequest, Relation, Result, RunContext, Source, SourceDescription, StoreError,
    StoreErrorKind,
};

/// Into how many parts the rest of a slice is cut.
const SPLIT_INTO: usize = 4;
/// How many records are looked at for names of metadata, and for the dimension where the server does not say it.
const SAMPLE: usize = 100;

/// A collection of a server.
pub(crate) struct ServerSource {
    server: Arc<Server>,
    name: String,
    request: Arc<ReadRequest>,
}

/// A collection as it is read.
struct Known {
    collection: Served,
    listing: Arc<Listing>,
    columns: Vec<Column>,
    schema: SchemaRef,
}

impl ServerSource {
    /// # Errors
    /// The request asks for what Chroma does not have.
    pub(crate) fn new(server: &Arc<Server>, request: ReadRequest) -> Result<Self> {
        let unsupported = |what: &str| StoreError::new(StoreErrorKind::Unsupported, &server.store, what);
        let Relation::Table(name) = &request.relation else {
            return Err(unsupported("Chroma has no query language: name the `collection`, and use `where`"));
        };
        if !request.slice_by.is_empty() {
            return Err(unsupported("`slice_by` says nothing to Chroma: a collection is cut by its ids")
                .with_hint("leave `slice_by` out"));
        }
        Ok(Self { server: Arc::clone(server), name: name.clone(), request: Arc::new(request) })
    }

    fn doing(&self) -> String {
        format!("cannot read the collection \"{}\"", self.name)
    }

    /// The collection as it is now, and its ids of this epoch.
    async fn known(&self) -> Result<Known> {
        let mut collection = self.server.collection(&self.name).await?;
        let listing = self.server.listing(&collection).await?;
        if let Some(metric) = &listing.metric {
            collection.metric = metric.clone();
        }
        self.sample(&mut collection).await?;
        let columns = types::columns(&self.request, &collection);
        let columns = columns.map_err(|fault| fault.into_error(&self.server.store, &self.doing()))?;
        let schema = types::schema(&columns, &collection);
        Ok(Known { collection, listing, columns, schema })
    }

    /// Looks at some records for what the server does not say of their collection.
    async fn sample(&self, collection: &mut Served) -> Result<()> {
        let mut wanted = self.request.wanted.iter().flatten();
        let entries = wanted.any(|name| !types::is_own(name) && !self.request.columns.contains_key(name));
        if collection.dimension.is_some() && !entries {
            return Ok(());
        }
        let (one, some) = (json!(["embeddings"]), json!(["metadatas"]));
        if entries {
            let found = self.some(collection, SAMPLE, &some).await?.unwrap_or_default();
            let names =
                found.values().flat_map(|one| one.record.metadata.iter().map(|(name, _)| name.clone()));
            collection.keys.extend(names.collect::<Vec<_>>());
        }
        if collection.dimension.is_none() {
            let found = self.some(collection, 1, &one).await?.unwrap_or_default();
            collection.dimension = found.values().find_map(|one| one.record.embedding.as_ref().map(Vec::len));
        }
        Ok(())
    }

    /// Some records; `None`: the server fails over them.
    async fn some(
        &self,
        collection: &Served,
        limit: usize,
        include: &Value,
    ) -> Result<Option<answer::Found>> {
        let body = json!({ "limit": limit, "offset": 0, "include": include });
        let answer = match self.server.records(collection, &body, None).await? {
            Ok(answer) => answer,
            Err(refusal) if refusal.is_failure_within() => return Ok(None),
            Err(refusal) => return Err(refusal.into_error(&self.server.store, &self.doing())),
        };
        // What cannot be taken apart here is said where it is read.
        Ok(answer::records(&answer, &collection.metric).ok())
    }

    fn part(&self, part: &SlicePart, after: Option<&Cursor>) -> Result<Part> {
        Part::of(part, after).ok_or_else(|| {
            let context = format!("a slice or a cursor does not belong to the collection \"{}\"", self.name);
            self.server
                .error(StoreErrorKind::Mismatch, context)
                .with_hint("begin again with `whimbrel run --new`")
        })
    }

    /// What is read must be what was cut: a collection that was made anew has another id.
    fn check_same(&self, part: &Part, collection: &Served) -> Result<()> {
        if part.collection == collection.id {
            return Ok(());
        }
        let context = format!(
            "the collection \"{}\" is another one by now: it was {} and is {}",
            self.name, part.collection, collection.id
        );
        Err(self
            .server
            .error(StoreErrorKind::Drift, context)
            .with_hint("begin again with `whimbrel run --new`"))
    }

    async fn cut(&self, part: Part, listing: Arc<Listing>, wanted: usize) -> Result<Vec<Part>> {
        let bounds = part.clone();
        let cuts = move || listing.boundaries(bounds.above.as_deref(), bounds.upto.as_deref(), wanted);
        Ok(part.cut_at(self.server.blocking(&self.doing(), cuts).await?))
    }

    async fn notes(&self, known: &Known) -> Result<Vec<String>> {
        let Known { collection, listing, .. } = known;
        let api = self.server.api().await?;
        let dimension =
            collection.dimension.map_or("no embedding yet".to_owned(), |count| format!("{count} dimensions"));
        let mut notes = vec![format!(
            "collection {}, {dimension}, metric {}, from a server of version {}",
            collection.full_name(),
            collection.metric,
            api.version
        )];
        if listing.metric.is_some() {
            notes.push("the collection's metadata do not say the metric; a search has shown it".to_owned());
        } else if !collection.says_metric && listing.count > 0 {
            notes.push(
                "the server does not say the metric: l2, which is Chroma's default, is taken for it"
                    .to_owned(),
            );
        }
        notes.extend(listing.note());
        if collection.metric == Metric::Cosine {
            notes.push(
                "the server's index keeps embeddings normalised, and the server multiplies them again, at most two units \
                 in the last place away (`vector_state` is `rebuilt`); its persistent directory, read with `path`, may \
                 still have the originals"
                    .to_owned(),
            );
        }
        if api.mixes_embeddings() {
            notes.push(format!(
                "servers of version {} mix up the embeddings of several records: each record is asked for alone",
                api.version
            ));
        }
        Ok(notes)
    }
}

#[async_trait]
impl Source for ServerSource {
    async fn describe(&self) -> Result<SourceDescription> {
        let known = self.known().await?;
        let notes = self.notes(&known).await?;
        Ok(SourceDescription {
            schema: known.schema,
            key: vec!["id".to_owned()],
            records: Some(known.listing.count),
            resumable: true,
            // A collection holds one kind of records: `where` picks some of them, and nobody misses the others.
            sees_all: false,
            notes,
        })
    }

    async fn slices(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        let Known { collection, listing, .. } = self.known().await?;
        let parts = self.cut(Part::whole(&collection.id), listing, wanted).await?;
        Ok(parts.into_iter().map(Part::into_slice).collect())
    }

    async fn split(&self, part: &SlicePart, after: Option<&Cursor>) -> Result<Vec<SlicePart>> {
        let part = self.part(part, after)?;
        let Known { collection, listing, .. } = self.known().await?;
        self.check_same(&part, &collection)?;
        let parts = self.cut(part, listing, SPLIT_INTO).await?;
        let is_cut = parts.len() > 1;
        Ok(if is_cut { parts.into_iter().map(Part::into_slice).collect() } else { Vec::new() })
    }

    async fn read(
        &self,
        part: &SlicePart,
        after: Option<&Cursor>,
        context: &RunContext,
    ) -> Result<BatchStream> {
        let part = self.part(part, after)?;
        let known = self.known().await?;
        self.check_same(&part, &known.collection)?;
        let at_once = if self.server.api().await?.mixes_embeddings() { 1 } else { usize::MAX };
        let reading =
            Reading::new(Arc::clone(&self.server), known, part, &self.request, at_once, context.clone());
        // One batch ahead of whoever takes them.
        let (to, from) = mpsc::channel(1);
        let task = Going(tokio::spawn(reading.run(to)));
        let batches = futures::stream::unfold((from, task), |(mut from, task)| async move {
            from.recv().await.map(|batch| (batch, (from, task)))
        });
        Ok(batches.boxed())
    }
}

/// A task that ends with whoever waits for it.
struct Going(tokio::task::JoinHandle<()>);

impl Drop for Going {
    fn drop(&mut self) {
        self.0.abort();
    }
}
