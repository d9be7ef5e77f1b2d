//! Reading a part: a thread that puts records together and hands batches over, one ahead of whoever takes them.

use super::Known;
use super::embeddings::Embeddings;
use super::part::{Part, cursor};
use super::sides::Sides;
use crate::config::Lost;
use crate::error::{Fault, Outcome};
use crate::types::{Entry, Record, Rows, State, What};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use std::collections::BTreeMap;
use tokio::sync::mpsc::Sender;
use whimbrel_model::Capacity;
use whimbrel_store::{ReadBatch, StoreErrorKind, Unreadable};

/// Keys of the metadata that are none of the user's.
const DOCUMENT: &str = "chroma:document";
const URI: &str = "chroma:uri";

/// A batch, or that there are no more: a thread that ends badly sends neither.
pub(super) enum Message {
    Batch(Box<ReadBatch>),
    End,
}

/// A read of one part.
pub(super) struct Reading {
    pub(super) known: Known,
    pub(super) part: Part,
    pub(super) lost: Option<Lost>,
    pub(super) batch_records: usize,
    pub(super) batch_bytes: usize,
}

/// A batch that is being filled.
struct Filling {
    rows: Rows,
    unreadable: Vec<Unreadable>,
    last: i64,
}

impl Reading {
    /// Reads until the end or until nobody listens. Blocks.
    pub(super) fn run(self, to: &Sender<Result<Message, Fault>>) {
        let last = self.known.prepared.connection().and_then(|connection| {
            self.read(&connection, to)?;
            self.known.prepared.give_back(connection);
            Ok(Message::End)
        });
        // Whoever has gone away does not miss it.
        let _gone = to.blocking_send(last);
    }

    fn wants(&self, what: What) -> bool {
        self.known.columns.iter().any(|column| column.what == what)
    }

    fn read(&self, connection: &Connection, to: &Sender<Result<Message, Fault>>) -> Outcome<()> {
        let Known { prepared, columns, schema, lent } = &self.known;
        let bounds = self.part.bounds();
        let sql = "SELECT r.row, r.id, r.is_stale, r.fault, p.slot, p.queued FROM records r \
             LEFT JOIN embedding_places p ON p.id = r.id WHERE r.row > ?1 AND r.row <= ?2 ORDER BY r.row";
        let mut statement = connection.prepare(sql)?;
        let mut records = statement.query([bounds.0, bounds.1])?;
        let with_metadata =
            columns.iter().any(|column| !matches!(column.what, What::Id | What::Embedding | What::State));
        let mut sides = Sides::prepare(connection, prepared, with_metadata)?;
        let mut sides = sides.begin(bounds)?;
        let with_embedding = self.wants(What::Embedding) || self.wants(What::State);
        let mut embeddings = Embeddings::prepare(connection, prepared)?;
        let mut filling =
            Filling { rows: Rows::new(columns, schema, lent), unreadable: Vec::new(), last: bounds.0 };
        while let Some(row) = records.next()? {
            let number: i64 = row.get(0)?;
            let (metadata, mut refused) = sides.of(number)?;
            refused.extend(fault(row)?.map(|reason| ("metadata", reason)));
            let (id, is_text) = text(row.get_ref(1)?);
            if !is_text {
                refused.push(("id", "the id is not UTF-8".to_owned()));
            }
            let mut record = record(id, metadata);
            if with_embedding {
                refused.extend(self.embed(&mut record, row, &mut embeddings)?);
            }
            filling.push(number, &record, refused);
            if let Some(floats) = record.embedding.take() {
                embeddings.give_back(floats);
            }
            if filling.rows.len() >= self.batch_records || filling.rows.bytes() >= self.batch_bytes {
                let batch = self.finish(&mut filling)?;
                if to.blocking_send(Ok(Message::Batch(Box::new(batch)))).is_err() {
                    return Ok(());
                }
            }
        }
        if filling.rows.len() > 0 {
            let batch = self.finish(&mut filling)?;
            let _gone = to.blocking_send(Ok(Message::Batch(Box::new(batch))));
        }
        Ok(())
    }

    /// Looks a record's embedding up; answers with why it cannot go on.
    fn embed(
        &self,
        record: &mut Record,
        row: &Row<'_>,
        embeddings: &mut Embeddings<'_>,
    ) -> Outcome<Option<(&'static str, String)>> {
        let (slot, queued): (Option<u32>, Option<i64>) = (row.get(4)?, row.get(5)?);
        let found = match (slot, queued) {
            (_, Some(seq)) => Some((embeddings.queued(seq)?, State::Exact)),
            (Some(slot), None) => Some(embeddings.indexed(slot, row.get_ref(1)?)?),
            (None, None) => None,
        };
        let is_wanted = self.wants(What::Embedding);
        let Some((floats, state)) = found else {
            record.state = State::Lost;
            let is_reject = is_wanted && self.lost != Some(Lost::Null);
            return Ok(is_reject.then(|| ("embedding", self.why_lost())));
        };
        let is_stale: bool = row.get(2)?;
        record.state = if is_stale { State::Stale } else { state };
        let dimension = self.known.prepared.dimension;
        if let Some(dimension) = dimension.filter(|dimension| is_wanted && *dimension != floats.len()) {
            let reason = format!("the embedding has {} dimensions, the collection {dimension}", floats.len());
            return Ok(Some(("embedding", reason)));
        }
        record.embedding = Some(floats);
        Ok(None)
    }

    fn why_lost(&self) -> String {
        match &self.known.prepared.tally.damage {
            Some(damage) => {
                format!("the embedding is lost: the index is damaged ({damage}), and the log no longer holds it")
            }
            None => "Chroma has lost the embedding: neither its index nor its log holds it, as versions 0.5.6 to 0.5.12 \
                remove the log of collections that are not in the index yet"
                .to_owned(),
        }
    }

    fn finish(&self, filling: &mut Filling) -> Outcome<ReadBatch> {
        if let Some(index) = &self.known.prepared.index {
            // Before anybody takes it: what was read must be of the moment that the database was copied at.
            index.check_unchanged()?;
        }
        let (records, bytes) = filling.rows.finish().map_err(|error| {
            Fault::found(StoreErrorKind::Internal, format!("a batch cannot be made: {error}"))
        })?;
        Ok(ReadBatch {
            records,
            cursor: Some(cursor(filling.last)),
            unreadable: std::mem::take(&mut filling.unreadable),
            bytes,
            capacity: Capacity::default(),
            originals: None,
        })
    }
}

impl Filling {
    fn push(&mut self, number: i64, record: &Record, refused: Vec<(&'static str, String)>) {
        let row = self.rows.len();
        let own = refused.into_iter().map(|(column, reason)| (column.to_owned(), reason, Vec::new()));
        let refused = own.chain(self.rows.push(record));
        let unreadable = refused.map(|(column, reason, raw)| Unreadable { row, column, reason, raw });
        self.unreadable.extend(unreadable);
        self.last = number;
    }
}

/// What could not be read of the log for a record.
fn fault(row: &Row<'_>) -> Outcome<Option<String>> {
    Ok(row.get(3)?)
}

/// A text, and whether it is one.
fn text(value: ValueRef<'_>) -> (String, bool) {
    match value {
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), true),
            Err(_) => (String::from_utf8_lossy(bytes).into_owned(), false),
        },
        _ => (String::new(), false),
    }
}

/// A record without its embedding: Chroma keeps document and URI among the metadata.
fn record(id: String, mut metadata: BTreeMap<String, Entry>) -> Record {
    let mut own = |key: &str| {
        metadata.remove(key).map(|entry| match entry {
            Entry::Text(text) => text,
            other => String::from_utf8_lossy(&other.shown()).into_owned(),
        })
    };
    let (document, uri) = (own(DOCUMENT), own(URI));
    Record {
        id,
        document,
        uri,
        metadata: metadata.into_iter().collect(),
        embedding: None,
        state: State::Exact,
    }
}
