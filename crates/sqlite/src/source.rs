//! The reading side: slices by ranges of the rowid or of a key.

mod boundaries;
mod filter;
mod part;
mod reading;

pub(crate) use boundaries::boundaries;
pub(crate) use part::{KeyValue, Part, select};
pub(crate) use reading::bind;

use crate::catalog::{Layout, SliceKey};
use crate::client::{Client, ReadLease, blocking};
use async_trait::async_trait;
use futures::StreamExt as _;
use reading::{Message, Reading};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;
use whimbrel_model::{Cursor, SlicePart};
use whimbrel_store::{
    BatchStream, ReadRequest, Result, RunContext, Source, SourceDescription, StoreError, StoreErrorKind,
};

/// Into how many parts the rest of a slice is cut.
const SPLIT_INTO: usize = 4;

/// A table, view or query.
pub(crate) struct SqliteSource {
    client: Arc<Client>,
    request: Arc<ReadRequest>,
    /// As last described.
    layout: Mutex<Option<Arc<Layout>>>,
    /// Counted once: a source is described again at each slice.
    records: OnceCell<Option<u64>>,
}

impl SqliteSource {
    pub(crate) fn new(client: &Arc<Client>, request: ReadRequest) -> Self {
        client.readers.announce();
        Self {
            client: Arc::clone(client),
            request: Arc::new(request),
            layout: Mutex::default(),
            records: OnceCell::new(),
        }
    }

    /// Does something on a connection of the epoch, where it may block.
    async fn on_connection<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadLease) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let lease = self.client.readers.lease_for_a_look().await?;
        blocking(&self.client.store, move || work(&lease)).await
    }

    async fn look(&self) -> Result<Arc<Layout>> {
        let (store, request) = (self.client.store.clone(), Arc::clone(&self.request));
        let look = self.on_connection(move |lease| Layout::read(&store, lease.connection()?, &request));
        let layout = Arc::new(look.await?);
        *self.layout.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&layout));
        Ok(layout)
    }

    async fn known_layout(&self) -> Result<Arc<Layout>> {
        let known = self.layout.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(layout) => Ok(layout),
            None => self.look().await,
        }
    }

    async fn count(&self, layout: &Arc<Layout>) -> Result<Option<u64>> {
        let count = self.records.get_or_try_init(|| async {
            let (store, layout) = (self.client.store.clone(), Arc::clone(layout));
            self.on_connection(move |lease| layout.records(&store, lease.connection()?)).await
        });
        count.await.copied()
    }

    /// What of a part lies behind a cursor.
    fn rest(&self, layout: &Layout, part: &SlicePart, after: Option<&Cursor>) -> Result<Part> {
        let columns = layout.slice_key.expressions().len();
        let part = Part::from_slice(part, columns).ok_or_else(|| self.foreign("a slice"))?;
        match after {
            None => Ok(part),
            Some(cursor) => part.after(cursor, columns).ok_or_else(|| self.foreign("a cursor")),
        }
    }

    fn foreign(&self, what: &str) -> StoreError {
        let context = format!("{what} does not belong to this source as it is now");
        let error = StoreError::new(StoreErrorKind::Mismatch, &self.client.store, context);
        error.with_hint(
            "the key that slices are ranges of has changed since; begin again with `whimbrel run --new`",
        )
    }

    async fn cut(&self, layout: &Arc<Layout>, part: Part, wanted: usize) -> Result<Vec<SlicePart>> {
        let (store, request) = (self.client.store.clone(), Arc::clone(&self.request));
        let layout = Arc::clone(layout);
        let parts = self.on_connection(move |lease| {
            let connection = lease.connection()?;
            let keys = boundaries(&store, connection, &layout, &request, &part, wanted)?;
            Ok(cut_at(part, keys))
        });
        Ok(parts.await?.iter().map(Part::to_slice).collect())
    }
}

/// Cuts a range behind each of the keys, which ascend and lie in it.
pub(crate) fn cut_at(part: Part, keys: Vec<Vec<KeyValue>>) -> Vec<Part> {
    let Part::Range { above: mut from, upto } = part else { return vec![part] };
    let mut parts = Vec::with_capacity(keys.len() + 1);
    for key in keys {
        let above = from.replace(key.clone());
        parts.push(Part::Range { above, upto: Some(key) });
    }
    parts.push(Part::Range { above: from, upto });
    parts
}

#[async_trait]
impl Source for SqliteSource {
    async fn describe(&self) -> Result<SourceDescription> {
        let layout = self.look().await?;
        let records = self.count(&layout).await?;
        Ok(SourceDescription {
            schema: Arc::clone(&layout.schema),
            key: layout.key.clone(),
            records,
            resumable: layout.slice_key != SliceKey::None,
            // A table holds one kind of records: `where` picks some of them, and nobody misses the others.
            sees_all: false,
            notes: layout.notes.clone(),
        })
    }

    async fn slices(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        let layout = self.look().await?;
        if layout.slice_key == SliceKey::None {
            return Ok(vec![Part::Whole.to_slice()]);
        }
        self.cut(&layout, Part::Range { above: None, upto: None }, wanted).await
    }

    async fn delivers_keys_once(&self) -> Result<bool> {
        // Of text and of whatever a column's type leaves open two values may become one on the way.
        Ok(self.known_layout().await?.is_key_rowid)
    }

    async fn split(&self, part: &SlicePart, after: Option<&Cursor>) -> Result<Vec<SlicePart>> {
        let layout = self.known_layout().await?;
        let rest = self.rest(&layout, part, after)?;
        if rest == Part::Whole {
            return Ok(Vec::new());
        }
        let parts = self.cut(&layout, rest, SPLIT_INTO).await?;
        Ok(if parts.len() > 1 { parts } else { Vec::new() })
    }

    async fn read(
        &self,
        part: &SlicePart,
        after: Option<&Cursor>,
        _context: &RunContext,
    ) -> Result<BatchStream> {
        let layout = self.known_layout().await?;
        let part = self.rest(&layout, part, after)?;
        let condition = self.request.condition.as_ref().filter(|_| !self.request.wants_all);
        let condition = condition.and_then(|condition| filter::filter(&layout, condition));
        let reading = Reading {
            store: self.client.store.clone(),
            request: Arc::clone(&self.request),
            layout,
            part,
            condition,
        };
        let lease = self.client.readers.lease().await?;
        let (to, from) = tokio::sync::mpsc::channel(1);
        let store = self.client.store.clone();
        tokio::task::spawn_blocking(move || reading.run(lease, &to));
        Ok(stream(store, from).boxed())
    }
}

/// The batches of a thread; that it ended without a word is a failure, and never an end.
fn stream(
    store: whimbrel_model::StoreName,
    from: tokio::sync::mpsc::Receiver<Result<Message>>,
) -> impl futures::Stream<Item = Result<whimbrel_store::ReadBatch>> {
    futures::stream::try_unfold((store, from), |(store, mut from)| async move {
        match from.recv().await {
            Some(Ok(Message::Batch(batch))) => Ok(Some((batch, (store, from)))),
            Some(Ok(Message::End)) => Ok(None),
            Some(Err(error)) => Err(error),
            None => Err(StoreError::new(StoreErrorKind::Internal, &store, "a thread that reads ended badly")),
        }
    })
}
