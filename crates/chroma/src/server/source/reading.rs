//! Reading a part: ids out of the listing, records for them from the server, batches for whoever takes them.

use super::Known;
use super::part::{Part, cursor};
use crate::config::Lost;
use crate::error::{Fault, Outcome};
use crate::server::Server;
use crate::server::answer::{self, Fetched, Found};
use crate::server::requests::Refusal;
use crate::types::{Lent, Record, Rows, State, What};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use whimbrel_model::Capacity;
use whimbrel_store::{ReadBatch, ReadRequest, Result, RunContext, StoreErrorKind, Unreadable};

/// How many records are asked for at once at the most: more would pass what SQLite binds to one statement.
const RECORDS: usize = 1000;
/// What a float and the rest of a record are taken to have as text before the first answer.
const FLOAT_BYTES: usize = 20;
const REST_BYTES: usize = 2000;
/// How many ids a warning lists.
const IDS_SHOWN: usize = 20;

/// A read of one part.
pub(super) struct Reading {
    server: Arc<Server>,
    known: Known,
    part: Part,
    batch_records: usize,
    batch_bytes: usize,
    /// How many records may be asked for at once.
    at_once: usize,
    /// How many bytes of answer a record has, as far as it is known.
    record_bytes: usize,
    context: RunContext,
    lent: Lent,
}

/// A batch that is being filled.
struct Filling {
    rows: Rows,
    unreadable: Vec<Unreadable>,
}

impl Reading {
    pub(super) fn new(
        server: Arc<Server>,
        known: Known,
        part: Part,
        request: &ReadRequest,
        at_once: usize,
        context: RunContext,
    ) -> Self {
        Self {
            server,
            record_bytes: known.collection.dimension.unwrap_or(0) * FLOAT_BYTES + REST_BYTES,
            known,
            part,
            batch_records: request.batch_records.max(1),
            batch_bytes: request.batch_bytes.max(1),
            at_once,
            context,
            lent: Lent::default(),
        }
    }

    /// Reads until the end, to a failure, or until nobody listens.
    pub(super) async fn run(mut self, to: Sender<Result<ReadBatch>>) {
        loop {
            let batches = match self.next().await {
                Ok(Some(batches)) => batches,
                Ok(None) => return,
                Err(error) => {
                    // Whoever has gone away does not miss it.
                    let _gone = to.send(Err(error)).await;
                    return;
                }
            };
            for batch in batches {
                if to.send(Ok(batch)).await.is_err() {
                    return;
                }
            }
        }
    }

    fn wants(&self, what: What) -> bool {
        self.known.columns.iter().any(|column| column.what == what)
    }

    fn doing(&self) -> String {
        format!("cannot read the collection {}", self.known.collection.full_name())
    }

    /// The batches of the next ids; `None`: there are none.
    async fn next(&mut self) -> Result<Option<Vec<ReadBatch>>> {
        let fit = self.batch_bytes / self.record_bytes.max(1);
        let at_most = fit.clamp(1, RECORDS).min(self.at_once);
        let (listing, above, upto) =
            (Arc::clone(&self.known.listing), self.part.above.clone(), self.part.upto.clone());
        let between = move || listing.between(above.as_deref(), upto.as_deref(), at_most);
        let ids = self.server.blocking(&self.doing(), between).await?;
        let Some(last) = ids.last() else { return Ok(None) };
        self.part.above = Some(last.clone());
        let found = self.fetch(&ids).await?;
        let batches = self.batches(&ids, found);
        batches.map(Some).map_err(|fault| fault.into_error(&self.server.store, &self.doing()))
    }

    /// The records of some ids. Where a server fails over several, it is asked for fewer, down to one: 0.4 to 0.6 fail
    /// over records whose embedding they have lost, or give too few embeddings.
    async fn fetch(&mut self, ids: &[String]) -> Result<Found> {
        let with_embeddings = self.wants(What::Embedding) || self.wants(What::State);
        let mut found = Found::with_capacity(ids.len());
        let mut waiting = VecDeque::from([ids]);
        while let Some(ids) = waiting.pop_front() {
            let refused = match self.fetch_once(ids, with_embeddings).await? {
                Ok(records) => {
                    found.extend(records);
                    continue;
                }
                Err(refused) => refused,
            };
            if !with_embeddings {
                return Err(refused.into_error(self));
            }
            if ids.len() > 1 {
                let (front, back) = ids.split_at(ids.len() / 2);
                waiting.push_front(back);
                waiting.push_front(front);
                continue;
            }
            // What is left is a record that comes without its embedding, or a server that fails now and then: one that
            // gives the record without and fails again over the embedding has lost it.
            match (self.fetch_once(ids, false).await?, self.fetch_once(ids, true).await?) {
                (_, Ok(records)) | (Ok(records), Err(_)) => found.extend(records),
                (Err(again), Err(_)) => return Err(again.into_error(self)),
            }
        }
        Ok(found)
    }

    /// Asks once for some records; the inner failure is one over what was asked.
    async fn fetch_once(
        &mut self,
        ids: &[String],
        with_embeddings: bool,
    ) -> Result<std::result::Result<Found, Over>> {
        let with_metadata =
            self.known.columns.iter().any(|column| matches!(column.what, What::Metadata | What::Entry(_)));
        let include = [
            ("documents", self.wants(What::Document)),
            ("metadatas", with_metadata),
            ("embeddings", with_embeddings),
            ("uris", self.wants(What::Uri)),
        ];
        let include: Vec<&str> =
            include.into_iter().filter_map(|(name, is_wanted)| is_wanted.then_some(name)).collect();
        let body = json!({ "ids": ids, "include": include });
        let answer = match self.server.records(&self.known.collection, &body, Some(&self.context)).await? {
            Ok(answer) => answer,
            Err(refusal) if refusal.is_failure_within() => return Ok(Err(Over::Failed(refusal))),
            Err(refusal) => return Err(refusal.into_error(&self.server.store, &self.doing())),
        };
        // The next answers are taken to be like this one; a few large records are not forgotten at once.
        let record_bytes = answer.len() / ids.len() + 1;
        self.record_bytes = record_bytes.max((self.record_bytes + record_bytes) / 2);
        let metric = self.known.collection.metric.clone();
        let taken = tokio::task::spawn_blocking(move || answer::records(&answer, &metric)).await;
        match taken {
            Ok(Ok(found)) => Ok(match found.keys().find(|id| ids.binary_search(id).is_err()) {
                None => Ok(found),
                Some(id) => Err(Over::Unasked(id.clone())),
            }),
            Ok(Err(error)) => Ok(Err(Over::Misshapen(error))),
            Err(error) => {
                let context = format!("{}: the thread ended badly", self.doing());
                Err(self.server.error(StoreErrorKind::Internal, context).caused_by(error))
            }
        }
    }

    /// Puts records together in the order of their ids.
    fn batches(&self, ids: &[String], mut found: Found) -> Outcome<Vec<ReadBatch>> {
        let rows = Rows::new(&self.known.columns, &self.known.schema, &self.lent);
        let mut filling = Filling { rows, unreadable: Vec::new() };
        let mut batches = Vec::new();
        let mut gone = Vec::new();
        for (at, id) in ids.iter().enumerate() {
            let fetched = found.remove(id).unwrap_or_else(|| {
                gone.push(id.as_str());
                deleted(id)
            });
            filling.push(self.judged(fetched));
            let is_full =
                filling.rows.len() >= self.batch_records || filling.rows.bytes() >= self.batch_bytes;
            if is_full || at + 1 == ids.len() {
                batches.push(filling.finish(id)?);
            }
        }
        if !gone.is_empty() {
            let shown = gone.iter().take(IDS_SHOWN).copied().collect::<Vec<_>>().join(", ");
            tracing::warn!(store = %self.server.store, count = gone.len(), ids = shown, "records were deleted meanwhile");
        }
        Ok(batches)
    }

    /// A record with what keeps it from going on.
    fn judged(&self, mut fetched: Fetched) -> Fetched {
        let wants_embedding = self.wants(What::Embedding);
        let Fetched { record, refused } = &mut fetched;
        if !wants_embedding || !refused.is_empty() {
            return fetched;
        }
        match (&record.embedding, self.known.collection.dimension) {
            (None, _) if self.server.config.lost != Some(Lost::Null) => refused.push((
                "embedding",
                "the server has no embedding for the record: Chroma has lost it".to_owned(),
            )),
            (Some(floats), Some(dimension)) if floats.len() != dimension => {
                let reason =
                    format!("the embedding has {} dimensions, the collection {dimension}", floats.len());
                refused.push(("embedding", reason));
                record.embedding = None;
            }
            _ => {}
        }
        fetched
    }
}

/// A record that was listed and is not there any more.
fn deleted(id: &str) -> Fetched {
    let record = Record {
        id: id.to_owned(),
        document: None,
        uri: None,
        metadata: Vec::new(),
        embedding: None,
        state: State::Lost,
    };
    let reason = "the record was deleted from the server after its id was listed".to_owned();
    Fetched { record, refused: vec![("id", reason)] }
}

/// A failure over the records that were asked for.
enum Over {
    Failed(Refusal),
    Misshapen(answer::Misshapen),
    /// A record came that nobody asked for.
    Unasked(String),
}

impl Over {
    fn into_error(self, reading: &Reading) -> whimbrel_store::StoreError {
        let (server, doing) = (&reading.server, reading.doing());
        match self {
            Self::Failed(refusal) => refusal.into_error(&server.store, &doing),
            Self::Misshapen(error) => {
                let context = format!("{doing}: the server's answer cannot be understood");
                server.error(StoreErrorKind::Protocol, context).caused_by(error)
            }
            Self::Unasked(id) => {
                let context =
                    format!("{doing}: the server answers with the record {id:?}, which nobody asked for");
                server.error(StoreErrorKind::Protocol, context)
            }
        }
    }
}

impl Filling {
    fn push(&mut self, fetched: Fetched) {
        let row = self.rows.len();
        let own = fetched.refused.into_iter().map(|(column, reason)| (column.to_owned(), reason, Vec::new()));
        let refused = own.chain(self.rows.push(&fetched.record));
        let unreadable = refused.map(|(column, reason, raw)| Unreadable { row, column, reason, raw });
        self.unreadable.extend(unreadable);
    }

    fn finish(&mut self, last: &str) -> Outcome<ReadBatch> {
        let (records, bytes) = self.rows.finish().map_err(|error| {
            Fault::found(StoreErrorKind::Internal, format!("a batch cannot be made: {error}"))
        })?;
        Ok(ReadBatch {
            records,
            cursor: Some(cursor(last)),
            unreadable: std::mem::take(&mut self.unreadable),
            bytes,
            capacity: Capacity::default(),
            originals: None,
        })
    }
}
