//! Records and their embeddings as tables and index hold them, and what is missing of them.

use super::replay::{ADD, DELETE};
use super::{IDS_SHOWN, Tally};
use crate::catalog::{Collection, Metric, sequence};
use crate::client::Epoch;
use crate::error::{Fault, Outcome};
use crate::index::{self, Index, Pickle, Slots, read_pickle};
use rusqlite::types::ToSqlOutput::{self, Borrowed};
use rusqlite::{Connection, Statement, params, params_from_iter};

/// Where embeddings are, by id: in the index or in the log.
const TABLE: &str =
    "CREATE TABLE embedding_places (id TEXT PRIMARY KEY, slot INTEGER, queued INTEGER) WITHOUT ROWID";

/// Takes over the records of the collection's table.
pub(super) fn load_records(connection: &Connection, collection: &Collection) -> Outcome<()> {
    let Some(segment) = &collection.metadata_segment else { return Ok(()) };
    // By the index on segments each row has to be looked up, and all are to be sorted: where the collection is a good part
    // of the table, to go through that is quicker. The sign keeps SQLite from the index.
    let count = "SELECT 4 * count(*) >= (SELECT coalesce(max(id), 0) FROM chroma.embeddings) \
         FROM chroma.embeddings WHERE segment_id = ?1";
    let sign = if connection.query_row(count, [segment], |row| row.get(0))? { "+" } else { "" };
    let insert = format!(
        "INSERT INTO records (row, id, seq) SELECT id, embedding_id, seq_id FROM chroma.embeddings \
         WHERE {sign}segment_id = ?1 ORDER BY id"
    );
    connection.execute(&insert, [segment])?;
    read_sequences(connection)
}

/// Reads the numbers that are kept in another form.
fn read_sequences(connection: &Connection) -> Outcome<()> {
    let sql =
        "SELECT row, seq FROM records WHERE row > ?1 AND typeof(seq) <> 'integer' ORDER BY row LIMIT 1000";
    let mut select = connection.prepare(sql)?;
    let mut update = connection.prepare("UPDATE records SET seq = ?2 WHERE row = ?1")?;
    let mut after = i64::MIN;
    loop {
        let mut found: Vec<(i64, i64)> = Vec::new();
        let mut rows = select.query([after])?;
        while let Some(row) = rows.next()? {
            found.push((row.get(0)?, sequence(row.get_ref(1)?)?));
        }
        for (row, seq) in &found {
            update.execute([row, seq])?;
        }
        match found.last() {
            Some((row, _)) => after = *row,
            None => return Ok(()),
        }
    }
}

/// The files of a collection's index, as far as they can be read without its database.
pub(super) enum Files {
    /// The collection has no index.
    None,
    /// None was kept.
    NotKept,
    /// Or why they cannot be read.
    Kept(Outcome<Box<Kept>>),
}

/// An index whose labels were taken over, what its file of names says, and how many ids have a label that no element has.
pub(super) struct Kept {
    index: Index,
    pickle: Pickle,
    without: usize,
}

impl Files {
    /// Goes through them; where embeddings are is put into an empty database of its own.
    ///
    /// # Errors
    /// It cannot be told whether there are any, or the database cannot be made.
    pub(super) fn read(epoch: &Epoch, collection: &Collection, database: &Connection) -> Outcome<Self> {
        database.execute_batch(TABLE)?;
        let Some(segment) = &collection.vector_segment else { return Ok(Self::None) };
        let (folder, signature) = epoch.segment(segment);
        if !index::is_kept(&folder)? {
            return Ok(Self::NotKept);
        }
        let opened = Index::open(&folder, signature, collection.metric == Metric::Cosine);
        Ok(Self::Kept(opened.and_then(|index| {
            refuse_other_dimension(&index, collection)?;
            let (slots, names) = (index.slots()?, index::names(&folder)?);
            database.execute_batch("BEGIN")?;
            let taken = take_labels(database, slots, &names);
            // Without a journal nothing can be rolled back: what was taken of damaged files is deleted later.
            database.execute_batch("COMMIT")?;
            let (pickle, without) = taken?;
            index.check_unchanged()?;
            Ok(Box::new(Kept { index, pickle, without }))
        })))
    }
}

/// Judges how whole the index is that was gone through; answers with the index, and how far in the log it has come.
/// `kept`: how far the database says that it has.
///
/// An index that is damaged is as good as none: its log is read instead, which may hold all of it.
pub(super) fn assess_index(
    connection: &Connection,
    files: Files,
    kept: Option<i64>,
    tally: &mut Tally,
) -> Outcome<(Option<Index>, i64)> {
    let files = match files {
        Files::None => return Ok((None, -1)),
        Files::NotKept => {
            if kept.is_some_and(|kept| kept >= 0) {
                tally.damage = Some("index_metadata.pickle is missing".to_owned());
            }
            return Ok((None, kept.unwrap_or(-1)));
        }
        Files::Kept(files) => files,
    };
    match files.map(|kept| *kept) {
        Ok(Kept { index, pickle, without }) => {
            if index.missing() > 0 {
                let what = format!("its files are cut off, {} elements are missing", index.missing());
                tally.damage = Some(what);
            } else if without > 0 {
                let what =
                    format!("index_metadata.pickle names {without} ids that its other files do not hold");
                tally.damage = Some(what);
            }
            // Where both say it, the database is right: an upgrade leaves the file's number as it was.
            let seq = kept.or(pickle.max_seq_id).unwrap_or(-1);
            // Without any id the files may hold nothing but an empty header.
            Ok((Some(index).filter(|_| pickle.labels > 0), seq))
        }
        Err(fault) if fault.kind().is_retryable() || !is_damage(&fault) => Err(fault),
        Err(fault) => {
            connection.execute("DELETE FROM embedding_places", [])?;
            tally.damage = Some(fault.to_string());
            Ok((None, kept.unwrap_or(-1)))
        }
    }
}

/// Whether the files are to blame, and not the way to them.
fn is_damage(fault: &Fault) -> bool {
    use whimbrel_store::StoreErrorKind::{Mismatch, NotFound};
    !matches!(fault, Fault::Sqlite(_)) && matches!(fault.kind(), Mismatch | NotFound)
}

/// What stops the reading of labels.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Damage(#[from] index::Damage),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

/// Refuses files whose embeddings have another length than the collection's.
fn refuse_other_dimension(index: &Index, collection: &Collection) -> Outcome<()> {
    match collection.dimension {
        Some(dimension) if dimension != index.dimension() => Err(Fault::mismatch(format!(
            "header.bin: it says {} dimensions, and the collection has {dimension}",
            index.dimension()
        ))),
        _ => Ok(()),
    }
}

/// Takes over which element is whose; answers also with how many ids have a label that no element has.
fn take_labels(connection: &Connection, mut slots: Slots, names: &[u8]) -> Outcome<(Pickle, usize)> {
    let (mut places, mut without) = (Places::new(connection)?, 0);
    let read = read_pickle(names, |id, label| {
        // What is taken is gone: no element is that of two ids.
        match slots.remove(&label) {
            Some(slot) => places.take(id, slot)?,
            None => without += 1,
        }
        Ok::<_, Stopped>(())
    });
    match read.and_then(|pickle| Ok(places.insert().map(|()| pickle)?)) {
        Ok(_) if places.is_twice => Err(Fault::mismatch("index_metadata.pickle: it names an id twice")),
        Ok(pickle) => Ok((pickle, without)),
        Err(Stopped::Sqlite(error)) => Err(Fault::Sqlite(error)),
        Err(Stopped::Damage(damage)) => Err(Fault::mismatch(format!("index_metadata.pickle: {damage}"))),
    }
}

/// So many places are held before they are inserted in the order of their ids: each lies behind the one before it.
const HELD_PLACES: usize = 1 << 18;
/// So many are inserted by one statement, which takes less than half the time of as many statements.
const PLACES_AT_ONCE: usize = 32;

/// Takes places over, many at a time.
struct Places<'f, 'c> {
    held: Vec<(&'f str, u32)>,
    many: Statement<'c>,
    one: Statement<'c>,
    /// An id was there already.
    is_twice: bool,
}

impl<'f, 'c> Places<'f, 'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        let values = |count| vec!["(?, ?)"; count].join(", ");
        let insert = |count| {
            let sql = format!("INSERT OR IGNORE INTO embedding_places (id, slot) VALUES {}", values(count));
            connection.prepare(&sql)
        };
        Ok(Self { held: Vec::new(), many: insert(PLACES_AT_ONCE)?, one: insert(1)?, is_twice: false })
    }

    fn take(&mut self, id: &'f str, slot: u32) -> rusqlite::Result<()> {
        self.held.push((id, slot));
        if self.held.len() < HELD_PLACES { Ok(()) } else { self.insert() }
    }

    /// Inserts what is held.
    fn insert(&mut self) -> rusqlite::Result<()> {
        self.held.sort_unstable();
        let (chunks, rest) = self.held.as_chunks::<PLACES_AT_ONCE>();
        for chunk in chunks {
            let values =
                chunk.iter().flat_map(|(id, slot)| [ToSqlOutput::from(*id), ToSqlOutput::from(*slot)]);
            self.is_twice |= self.many.execute(params_from_iter(values))? < chunk.len();
        }
        for (id, slot) in rest {
            self.is_twice |= self.one.execute(params![id, slot])? == 0;
        }
        self.held.clear();
        Ok(())
    }
}

/// Finds in the log the embeddings of records that the index has not. Chroma 0.4.0 to 0.5.4 leaves one out that was
/// deleted and added again within one batch, and a damaged index leaves out many. Answers with how many stay without.
pub(super) fn rescue(connection: &Connection) -> Outcome<u64> {
    let mut log =
        connection.prepare("SELECT seq, operation, has_embedding FROM log WHERE id = ?1 ORDER BY seq")?;
    let mut insert = connection.prepare("INSERT INTO embedding_places (id, queued) VALUES (?1, ?2)")?;
    // Both sides have their ids in order, and are gone through side by side: none is looked up.
    let without = "CREATE TEMP TABLE without AS SELECT id FROM records EXCEPT SELECT id FROM embedding_places ORDER BY 1";
    connection.execute(without, [])?;
    let mut ids =
        connection.prepare("SELECT r.id, r.seq FROM temp.without w CROSS JOIN records r ON r.id = w.id")?;
    let mut ids = ids.query([])?;
    let mut lost = 0;
    while let Some(row) = ids.next()? {
        let id = Borrowed(row.get_ref(0)?);
        let mut state = LastWritten::of(row.get(1)?);
        let mut rows = log.query([&id])?;
        while let Some(row) = rows.next()? {
            state.apply(row.get(0)?, row.get(1)?, row.get(2)?);
        }
        match state.seq {
            Some(seq) => drop(insert.execute(params![id, seq])?),
            None => lost += 1,
        }
    }
    drop(ids);
    connection.execute_batch("DROP TABLE temp.without")?;
    Ok(lost)
}

/// The embedding that a record has after the operations of its id, where the beginning of them is not known.
struct LastWritten {
    /// The operation by which the record came to be what it is.
    record_seq: i64,
    seq: Option<i64>,
    is_deleted: bool,
}

impl LastWritten {
    fn of(record_seq: i64) -> Self {
        Self { record_seq, seq: None, is_deleted: false }
    }

    fn apply(&mut self, seq: i64, operation: i64, has_embedding: bool) {
        use super::replay::{UPDATE, UPSERT};
        match operation {
            DELETE => (self.seq, self.is_deleted) = (None, true),
            UPDATE if self.is_deleted => {}
            // An add of what is there does nothing, also not to the record.
            ADD if self.seq.is_some() || self.record_seq < seq => {}
            ADD | UPDATE | UPSERT => {
                self.is_deleted = false;
                self.seq = if has_embedding { Some(seq) } else { self.seq };
            }
            _ => {}
        }
    }
}

/// Marks and counts what may be stale, and counts all else. What is lost is known.
pub(super) fn tally(connection: &Connection, index_seq: i64, tally: &mut Tally) -> Outcome<()> {
    let mut doubtful = 0;
    if tally.damage.is_some() {
        // What the index held of such an id is not known, and an add of what it held did nothing. The record tells,
        // unless it was changed later, or the log begins with the first operation of all.
        let update = format!(
            "UPDATE records SET is_stale = 1 WHERE EXISTS (SELECT 1 FROM embedding_places p JOIN log l ON l.id = p.id AND l.seq = p.queued \
             WHERE p.id = records.id AND l.operation = {ADD} AND l.seq < records.seq AND NOT EXISTS \
             (SELECT 1 FROM log d WHERE d.id = l.id AND d.operation = {DELETE} AND d.seq < l.seq)) \
             AND (SELECT count(*) < coalesce(max(seq_id), 0) FROM chroma.embeddings_queue)"
        );
        doubtful = connection.execute(&update, [])?;
    }
    // Chroma 0.5.6 to 0.5.12 purges the log of collections that have not come so far. Then a record has a number that
    // the index has not reached, and that the log no longer holds.
    let stale = "UPDATE records SET is_stale = 1 WHERE seq > ?1 \
         AND EXISTS (SELECT 1 FROM embedding_places p WHERE p.id = records.id) \
         AND NOT EXISTS (SELECT 1 FROM chroma.embeddings_queue q WHERE q.seq_id = records.seq)";
    let marked = connection.execute(stale, [index_seq])?;
    let lost = "FROM records r LEFT JOIN embedding_places p ON p.id = r.id WHERE p.id IS NULL";
    tally.records = connection.query_row("SELECT count(*) FROM records", [], |row| row.get(0))?;
    if doubtful + marked > 0 {
        let counts = "SELECT count(*) FROM records WHERE is_stale = 1";
        tally.stale = connection.query_row(counts, [], |row| row.get(0))?;
    }
    // Few are in the log: to look up those that are in the index would be to look up all.
    let queued = "SELECT count(*) FROM embedding_places p CROSS JOIN records r ON r.id = p.id \
         WHERE p.queued IS NOT NULL";
    let queued: u64 = connection.query_row(queued, [], |row| row.get(0))?;
    tally.indexed = tally.records - tally.lost - queued;
    if tally.lost > 0 {
        tally.lost_ids = first_ids(connection, lost)?;
    }
    if tally.stale > 0 {
        tally.stale_ids = first_ids(connection, "FROM records r WHERE r.is_stale = 1")?;
    }
    Ok(())
}

fn first_ids(connection: &Connection, from: &str) -> Outcome<Vec<String>> {
    let mut statement =
        connection.prepare(&format!("SELECT r.id {from} ORDER BY r.row LIMIT {IDS_SHOWN}"))?;
    let ids = statement.query_map([], |row| {
        let id = row.get_ref(0)?.as_bytes().map(String::from_utf8_lossy).unwrap_or_default();
        Ok(shortened(&id))
    })?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// An id as a note shows it: in one line, and not longer than a line.
fn shortened(id: &str) -> String {
    let mut characters = id.chars();
    let head: String = characters.by_ref().take(40).flat_map(char::escape_debug).collect();
    if characters.next().is_some() { format!("{head}…") } else { head }
}

#[cfg(test)]
mod tests {
    use super::super::replay::{UPDATE, UPSERT};
    use super::*;

    #[test]
    fn what_was_written_last_counts_and_what_did_nothing_does_not() {
        let last = |operations: &[(i64, bool)]| {
            let mut state = LastWritten::of(7);
            (1..).zip(operations).for_each(|(seq, (operation, has))| state.apply(seq, *operation, *has));
            state.seq
        };
        assert_eq!(last(&[(ADD, true), (DELETE, false), (ADD, true)]), Some(3));
        assert_eq!(last(&[(ADD, true), (ADD, true)]), Some(1));
        assert_eq!(last(&[(ADD, true), (UPDATE, false), (UPSERT, true)]), Some(3));
        assert_eq!(last(&[(UPDATE, true)]), Some(1), "the beginning may be gone");
        assert_eq!(last(&[(ADD, true), (DELETE, false), (UPDATE, true)]), None);
        let mut state = LastWritten::of(1);
        state.apply(2, ADD, true);
        assert_eq!(state.seq, None, "the record was there before");
    }

    /// A collection of some records of a table, numbered as chromadb does and as it did.
    fn records(of_others: i64) -> Vec<(i64, String, i64)> {
        let connection = Connection::open_in_memory().unwrap();
        let table = "ATTACH ':memory:' AS chroma; CREATE TABLE chroma.embeddings (id INTEGER PRIMARY KEY, segment_id TEXT NOT NULL, \
             embedding_id TEXT NOT NULL, seq_id BLOB NOT NULL, UNIQUE (segment_id, embedding_id))";
        connection.execute_batch(table).unwrap();
        connection.execute_batch(super::super::TABLES).unwrap();
        let insert = "INSERT INTO chroma.embeddings VALUES (?1, ?2, ?3, ?4)";
        for row in 1..=40 + of_others {
            let segment = if row % 2 == 1 || row > 40 { "other" } else { "own" };
            let seq: Box<dyn rusqlite::ToSql> =
                if row % 4 == 0 { Box::new(row * 10) } else { Box::new((row * 10).to_be_bytes().to_vec()) };
            connection.execute(insert, params![row, segment, format!("id {}", 100 - row), seq]).unwrap();
        }
        let collection = Collection {
            id: "collection".to_owned(),
            name: "docs".to_owned(),
            tenant: "tenant".to_owned(),
            database: "database".to_owned(),
            dimension: None,
            metric: Metric::L2,
            metadata_segment: Some("own".to_owned()),
            vector_segment: None,
        };
        load_records(&connection, &collection).unwrap();
        let mut select = connection.prepare("SELECT row, id, seq FROM records").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }

    #[test]
    fn records_are_the_same_whether_they_are_few_of_the_table_or_many() {
        let expected: Vec<_> = (1..=20).map(|n| (2 * n, format!("id {}", 100 - 2 * n), 20 * n)).collect();
        assert_eq!(records(0), expected);
        assert_eq!(records(400), expected);
    }

    #[test]
    fn places_are_taken_over_whatever_their_order_and_none_twice() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLE).unwrap();
        let count = u32::try_from(3 * PLACES_AT_ONCE + 5).unwrap();
        let ids: Vec<_> = (0..count).map(|slot| format!("id {}", slot * 7 % count)).collect();
        let mut places = Places::new(&connection).unwrap();
        for (id, slot) in ids.iter().zip(0..) {
            places.take(id, slot).unwrap();
        }
        places.insert().unwrap();
        assert!(!places.is_twice);
        let of = |id: &str| {
            let sql = "SELECT slot FROM embedding_places WHERE id = ?1";
            connection.query_row(sql, [id], |row| row.get::<_, u32>(0)).unwrap()
        };
        assert!(ids.iter().zip(0..).all(|(id, slot)| of(id) == slot));
        for twice in [1, PLACES_AT_ONCE] {
            let mut places = Places::new(&connection).unwrap();
            let others: Vec<_> = (1..twice).map(|other| format!("other {twice} {other}")).collect();
            others.iter().for_each(|id| places.take(id, 1).unwrap());
            places.take("id 3", 1).unwrap();
            places.insert().unwrap();
            assert!(places.is_twice, "{twice}");
        }
    }
}
