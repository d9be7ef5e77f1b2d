//! The log of operations, applied to what has not come so far.

use crate::catalog::Collection;
use crate::error::Outcome;
use crate::types::Metadata;
use rusqlite::types::ToSqlOutput::Borrowed;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, params};

pub(super) const ADD: i64 = 0;
pub(super) const UPDATE: i64 = 1;
pub(super) const UPSERT: i64 = 2;
pub(super) const DELETE: i64 = 3;

/// Rows of records that only the log holds lie behind all that a table has, in the log's order.
const FIRST_ROW_OF_LOG: i64 = 1 << 62;

/// Takes over which operations of the log are the collection's: those whose topic ends with its id. What stands in
/// front of that is a setting of the program that wrote them.
pub(super) fn load_log(connection: &Connection, collection: &Collection) -> Outcome<()> {
    let sql = "INSERT INTO log SELECT id, seq_id, operation, vector IS NOT NULL FROM chroma.embeddings_queue \
         WHERE topic = ?1 OR substr(topic, -length(?1) - 1) = '/' || ?1";
    connection.execute(sql, [&collection.id])?;
    Ok(())
}

/// Applies what the records' table has not taken yet; normally nothing, but after a crash of Chroma 1.x.
pub(super) fn metadata(connection: &Connection, reached: i64) -> Outcome<()> {
    let sql = "SELECT l.seq, l.id, l.operation, q.metadata FROM log l JOIN chroma.embeddings_queue q ON q.seq_id = l.seq \
         WHERE l.seq > ?1 ORDER BY l.seq";
    let mut select = connection.prepare(sql)?;
    let mut find = connection.prepare("SELECT row FROM records WHERE id = ?1")?;
    let mut rows = select.query([reached])?;
    while let Some(row) = rows.next()? {
        let (seq, operation): (i64, i64) = (row.get(0)?, row.get(2)?);
        let id = Borrowed(row.get_ref(1)?);
        let held: Option<i64> = find.query_row([&id], |row| row.get(0)).optional()?;
        let row_of_record = match (operation, held) {
            (ADD | UPSERT, None) => {
                let new = FIRST_ROW_OF_LOG.saturating_add(seq);
                connection
                    .prepare_cached("INSERT INTO records (row, id, seq) VALUES (?1, ?2, ?3)")?
                    .execute(params![new, id, seq])?;
                new
            }
            (UPDATE | UPSERT, Some(held)) => {
                connection
                    .prepare_cached("UPDATE records SET seq = ?2 WHERE row = ?1")?
                    .execute(params![held, seq])?;
                held
            }
            (DELETE, Some(held)) => {
                connection.prepare_cached("DELETE FROM records WHERE row = ?1")?.execute([held])?;
                connection.prepare_cached("DELETE FROM metadata WHERE row = ?1")?.execute([held])?;
                continue;
            }
            // An add of what is there, a change or a removal of what is not: nothing.
            _ => continue,
        };
        merge(connection, row_of_record, row.get_ref(3)?)?;
    }
    Ok(())
}

/// Puts the log's metadata over what a record has, key by key.
fn merge(connection: &Connection, row: i64, metadata: ValueRef<'_>) -> Outcome<()> {
    let ValueRef::Text(text) = metadata else { return Ok(()) };
    match Metadata::of_log(text) {
        Ok(entries) => {
            let sql = "INSERT OR REPLACE INTO metadata (row, key, json) VALUES (?1, ?2, ?3)";
            let mut insert = connection.prepare_cached(sql)?;
            for (key, json) in entries {
                insert.execute(params![row, key, json])?;
            }
        }
        Err(reason) => {
            connection
                .prepare_cached("UPDATE records SET fault = ?2 WHERE row = ?1")?
                .execute(params![row, reason])?;
        }
    }
    Ok(())
}

/// Applies what the index has not taken yet. `is_damaged`: it does not hold all that it did, and an add does nothing
/// where the record says that it was there before.
pub(super) fn embeddings(connection: &Connection, reached: i64, is_damaged: bool) -> Outcome<()> {
    let mut select = connection
        .prepare("SELECT id, seq, operation, has_embedding FROM log WHERE seq > ?1 ORDER BY seq")?;
    // An add of what is there does nothing. A record that an add has made was not there, whatever the index says.
    let mut add = connection.prepare(
        "INSERT INTO embedding_places (id, queued) SELECT ?1, ?2 \
         WHERE NOT ?3 OR NOT EXISTS (SELECT 1 FROM records WHERE id = ?1 AND seq < ?2) \
         ON CONFLICT (id) DO UPDATE SET slot = NULL, queued = ?2 \
         WHERE EXISTS (SELECT 1 FROM records WHERE id = ?1 AND seq = ?2)",
    )?;
    let mut update =
        connection.prepare("UPDATE embedding_places SET slot = NULL, queued = ?2 WHERE id = ?1")?;
    let mut upsert =
        connection.prepare("INSERT OR REPLACE INTO embedding_places (id, queued) VALUES (?1, ?2)")?;
    let mut delete = connection.prepare("DELETE FROM embedding_places WHERE id = ?1")?;
    let mut rows = select.query([reached])?;
    while let Some(row) = rows.next()? {
        let (seq, operation, has_embedding): (i64, i64, bool) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let id = Borrowed(row.get_ref(0)?);
        match operation {
            ADD if has_embedding => add.execute(params![id, seq, is_damaged])?,
            UPDATE if has_embedding => update.execute(params![id, seq])?,
            UPSERT if has_embedding => upsert.execute(params![id, seq])?,
            DELETE => delete.execute(params![id])?,
            _ => 0,
        };
    }
    Ok(())
}
