//! A collection made ready: which records exist, and where the embedding of each is to be found.
//!
//! Chroma keeps a collection in three places that are never at one point of time: a table of records with their
//! metadata, files of an index with the embeddings, and a log of operations. Each of the first two says how far in the
//! log it has come; what lies behind that is applied to it here, as Chroma would when it starts. The outcome is two
//! small databases beside the copy, of records and of places, so that memory does not grow with the collection.

mod places;
mod replay;

use crate::catalog::{Collection, Metric, has_table, sequence};
use crate::client::{Epoch, READ_ONLY};
use crate::config::Lost;
use crate::error::{Fault, Outcome};
use crate::index::Index;
use places::Files;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_store::StoreErrorKind;

/// How many ids a note lists.
const IDS_SHOWN: usize = 20;

/// Records by their rows, in Chroma's own order; a record that only the log holds has a row behind all others. What the
/// log says of metadata beyond the tables: JSON, or NULL for a key that is gone. The collection's part of the log.
const TABLES: &str = "\
    CREATE TABLE records (row INTEGER PRIMARY KEY, id TEXT NOT NULL, seq INTEGER NOT NULL, \
        is_stale INTEGER NOT NULL DEFAULT 0, fault TEXT);
    CREATE TABLE metadata (row INTEGER NOT NULL, key TEXT NOT NULL, json TEXT, PRIMARY KEY (row, key)) WITHOUT ROWID;
    CREATE TABLE log (id TEXT NOT NULL, seq INTEGER NOT NULL, operation INTEGER NOT NULL, has_embedding INTEGER NOT NULL, \
        PRIMARY KEY (id, seq)) WITHOUT ROWID;";

/// A collection, ready to be read.
pub(crate) struct Prepared {
    pub(crate) collection: Collection,
    pub(crate) index: Option<Index>,
    /// How far in the log the index has come.
    pub(crate) index_seq: i64,
    pub(crate) has_arrays: bool,
    pub(crate) has_booleans: bool,
    pub(crate) tally: Tally,
    /// How many floats every embedding has; `None`: there is none.
    pub(crate) dimension: Option<usize>,
    /// The records, and in a database beside it where their embeddings are.
    database: PathBuf,
    places: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Keeps the copy alive, behind all that has it open.
    epoch: Arc<Epoch>,
}

/// What was found on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    /// Records whose embedding is nowhere; the first ids of them.
    pub(crate) lost: u64,
    pub(crate) lost_ids: Vec<String>,
    /// Records that were touched after their embedding was last written, where nobody can say how.
    pub(crate) stale: u64,
    pub(crate) stale_ids: Vec<String>,
    /// Records whose embedding is in the index.
    pub(crate) indexed: u64,
    /// Why the index, or a part of it, cannot be used.
    pub(crate) damage: Option<String>,
}

/// How far in the log the two sides of a collection have come; -1: nowhere.
#[derive(Clone, Copy, Debug)]
struct Reached {
    metadata: i64,
    index: i64,
}

impl Prepared {
    /// Goes through the tables of a collection, its index and its log.
    ///
    /// # Errors
    /// Something cannot be read; or the index is damaged, embeddings are only there, and nothing is said about
    /// embeddings that are lost.
    pub(crate) fn make(epoch: &Arc<Epoch>, collection: Collection, lost: Option<Lost>) -> Outcome<Self> {
        let [database, places] = ["records", "places"].map(|what| epoch.ready_database(&collection, what));
        let copy = epoch.connection()?;
        let mut connection = made_anew(&database)?;
        connection.execute("ATTACH ?1 AS chroma", [text_of(&epoch.database())?])?;
        connection.execute_batch(TABLES)?;
        // The files of the index are gone through meanwhile, on a thread of their own.
        let (loaded, files) = std::thread::scope(|scope| {
            let files = scope.spawn(|| Files::read(epoch, &collection, &made_anew(&places)?));
            (load(&mut connection, &collection), files.join())
        });
        loaded?;
        let files = files.map_err(|_| Fault::ended_badly("the thread that reads an index"))??;
        connection.execute("ATTACH ?1 AS places", [text_of(&places)?])?;
        leave_unsafe(&connection, "places")?;
        let transaction = connection.transaction()?;
        let metadata = reached(&copy, collection.metadata_segment.as_deref())?.unwrap_or(-1);
        let mut tally = Tally::default();
        let (index, index_seq) =
            places::assess_index(&transaction, files, reached_by_index(&copy, &collection)?, &mut tally)?;
        let reached = Reached { metadata, index: index_seq };
        replay::metadata(&transaction, reached.metadata)?;
        replay::embeddings(&transaction, reached.index, tally.damage.is_some())?;
        tally.lost = places::rescue(&transaction)?;
        places::tally(&transaction, reached.index, &mut tally)?;
        transaction.commit()?;
        drop(connection);
        let dimension = collection.dimension.or_else(|| index.as_ref().map(Index::dimension));
        let prepared = Self {
            has_arrays: has_table(&copy, "embedding_metadata_array")?,
            has_booleans: crate::catalog::has_column(&copy, "embedding_metadata", "bool_value")?,
            index_seq,
            index,
            tally,
            dimension,
            database,
            places,
            epoch: Arc::clone(epoch),
            idle: Mutex::default(),
            collection,
        };
        prepared.refuse_damage(lost)?;
        Ok(prepared)
    }

    fn refuse_damage(&self, lost: Option<Lost>) -> Outcome<()> {
        let (Some(damage), None, 1..) = (&self.tally.damage, lost, self.tally.lost) else { return Ok(()) };
        let what = format!(
            "the index of the collection {} is damaged: {damage}; {} of its {} embeddings are lost with it",
            self.collection.full_name(),
            self.tally.lost,
            self.tally.records
        );
        Err(Fault::found(StoreErrorKind::Mismatch, what).with_hint(
            "bring the directory back from a backup; or give the store `lost: reject`, and the records without an \
             embedding become rejects, or `lost: null`, and they go on without one",
        ))
    }

    /// Whether embeddings of the index are kept normalised.
    pub(crate) fn is_normalised(&self) -> bool {
        self.collection.metric == Metric::Cosine
    }

    /// What a person should know before a run.
    pub(crate) fn notes(&self, lost: Option<Lost>) -> Vec<String> {
        let Self { collection, tally, .. } = self;
        let dimension =
            self.dimension.map_or("no embedding yet".to_owned(), |count| format!("{count} dimensions"));
        let mut notes =
            vec![format!("collection {}, {dimension}, metric {}", collection.full_name(), collection.metric)];
        if self.epoch.had_journal() {
            notes.push(
                "a journal lay beside the database: a program is writing to it, or was killed; what it had committed is \
                 read"
                    .to_owned(),
            );
        }
        if let Some(damage) = &tally.damage {
            notes
                .push(format!("the index is damaged: {damage}; what it does not give is taken from the log"));
        }
        if tally.lost > 0 {
            let becomes = if lost == Some(Lost::Null) { "NULL" } else { "a reject where it is asked for" };
            notes.push(format!(
                "Chroma has lost {} of {} embeddings, each is {becomes}: {}",
                tally.lost,
                tally.records,
                listed(&tally.lost_ids, tally.lost)
            ));
        }
        if tally.stale > 0 {
            let cause =
                if tally.damage.is_some() { "the index is damaged" } else { "Chroma has lost the log of it" };
            notes.push(format!(
                "{} embeddings may be others than what was written last, as {cause} (`vector_state` is `stale`): {}",
                tally.stale,
                listed(&tally.stale_ids, tally.stale)
            ));
        }
        if self.is_normalised() && tally.indexed > 0 {
            notes.push(format!(
                "the index keeps embeddings normalised: of {} the original is read where the log still has it, else what \
                 Chroma itself gives, at most two units in the last place away (`vector_state` is `rebuilt`)",
                tally.indexed
            ));
        }
        notes
    }

    /// A connection on which the copy is attached as `chroma`, and where embeddings are as `places`.
    pub(crate) fn connection(&self) -> Outcome<Connection> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = idle {
            return Ok(connection);
        }
        let connection = Connection::open_with_flags(&self.database, READ_ONLY)?;
        connection.execute("ATTACH ?1 AS chroma", [text_of(&self.epoch.database())?])?;
        connection.execute("ATTACH ?1 AS places", [text_of(&self.places)?])?;
        Ok(connection)
    }

    /// Takes a connection back for the next who reads.
    pub(crate) fn give_back(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }

    /// The rows that cut the rows above and up to others into about `wanted` parts of one size, ascending.
    pub(crate) fn boundaries(&self, above: i64, upto: i64, wanted: usize) -> Outcome<Vec<i64>> {
        let connection = self.connection()?;
        let count = "SELECT count(*) FROM records WHERE row > ?1 AND row <= ?2";
        let records: i64 = connection.query_row(count, [above, upto], |row| row.get(0))?;
        let parts = i64::try_from(wanted).unwrap_or(i64::MAX).min(records).max(1);
        let mut cuts = Vec::new();
        {
            let sql = "SELECT row FROM records WHERE row > ?1 AND row <= ?2 ORDER BY row LIMIT 1 OFFSET ?3";
            let mut statement = connection.prepare(sql)?;
            let mut from = (above, 0);
            for part in 1..parts {
                // The last record of the part; the search goes on from the cut before.
                let last = records / parts * part + (records % parts).min(part) - 1;
                let row: i64 = statement.query_row(params![from.0, upto, last - from.1], |row| row.get(0))?;
                cuts.push(row);
                from = (row, last + 1);
            }
        }
        self.give_back(connection);
        Ok(cuts)
    }

    /// The names of all metadata of the collection.
    pub(crate) fn keys(&self) -> Outcome<Vec<String>> {
        let connection = self.connection()?;
        let mut sql = "SELECT key FROM chroma.embedding_metadata WHERE id IN (SELECT row FROM records) \
             UNION SELECT key FROM metadata"
            .to_owned();
        if self.has_arrays {
            sql.push_str(
                " UNION SELECT key FROM chroma.embedding_metadata_array WHERE id IN (SELECT row FROM records)",
            );
        }
        let keys = {
            let mut statement = connection.prepare(&sql)?;
            let keys = statement.query_map([], |row| row.get(0))?;
            keys.collect::<rusqlite::Result<Vec<String>>>()?
        };
        self.give_back(connection);
        Ok(keys)
    }
}

/// An empty database that is made anew whenever it is needed: nothing of it must outlive a crash.
fn made_anew(path: &Path) -> Outcome<Connection> {
    // What an attempt that failed has left.
    if path.exists() {
        std::fs::remove_file(path).map_err(Fault::io(path))?;
    }
    let connection = Connection::open(path)?;
    leave_unsafe(&connection, "main")?;
    Ok(connection)
}

/// Spares a database whatever makes it survive a crash.
fn leave_unsafe(connection: &Connection, database: &str) -> Outcome<()> {
    let sql = format!("PRAGMA {database}.journal_mode = OFF");
    connection.query_row(&sql, [], |row| row.get::<_, String>(0))?;
    Ok(connection.execute_batch(&format!("PRAGMA {database}.synchronous = OFF"))?)
}

/// Takes over what the collection's tables and log hold.
fn load(connection: &mut Connection, collection: &Collection) -> Outcome<()> {
    let transaction = connection.transaction()?;
    places::load_records(&transaction, collection)?;
    // To sort all ids at once is quicker than to find the place of each, unless they ascend.
    transaction.execute_batch("CREATE UNIQUE INDEX records_by_id ON records (id)")?;
    replay::load_log(&transaction, collection)?;
    Ok(transaction.commit()?)
}

fn text_of(path: &Path) -> Outcome<&str> {
    path.to_str().ok_or_else(|| {
        Fault::mismatch(format!("the place of temporary files, {}, is not UTF-8", path.display()))
            .with_hint("name another in TMPDIR")
    })
}

/// The first ids, and how many more there are.
fn listed(ids: &[String], all: u64) -> String {
    let more = all.saturating_sub(u64::try_from(ids.len()).unwrap_or(u64::MAX));
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("{}{more}", ids.join(", "))
}

/// How far in the log the database says that the index has come.
fn reached_by_index(copy: &Connection, collection: &Collection) -> Outcome<Option<i64>> {
    reached(copy, collection.vector_segment.as_deref())
}

/// How far in the log a segment has come.
fn reached(copy: &Connection, segment: Option<&str>) -> Outcome<Option<i64>> {
    let Some(segment) = segment.filter(|_| has_table(copy, "max_seq_id").unwrap_or(false)) else {
        return Ok(None);
    };
    let sql = "SELECT seq_id FROM max_seq_id WHERE segment_id = ?1";
    let found = copy.query_row(sql, [segment], |row| match row.get_ref(0)? {
        ValueRef::Null => Ok(Ok(None)),
        value => Ok(sequence(value).map(Some)),
    });
    found.optional()?.transpose().map(Option::flatten)
}
