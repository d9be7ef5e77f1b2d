//! A record's metadata out of three tables, which are walked side by side with the records.

use crate::error::Outcome;
use crate::records::Prepared;
use crate::types::Entry;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Rows, Statement};
use std::collections::BTreeMap;

/// Statements that read the metadata of a range of rows.
pub(super) struct Sides<'c> {
    table: Option<Statement<'c>>,
    arrays: Option<Statement<'c>>,
    log: Option<Statement<'c>>,
}

/// The metadata of a range, as far as it has been walked.
pub(super) struct Walk<'s> {
    table: Option<Side<'s>>,
    arrays: Option<Side<'s>>,
    log: Option<Side<'s>>,
}

/// Rows in the order of records, with the next that was not asked for yet.
struct Side<'s> {
    rows: Rows<'s>,
    next: Option<(i64, String, Value)>,
}

/// A value, or why it cannot be read.
type Value = Result<Option<Entry>, String>;

/// The metadata by name, and what of it could not be read.
pub(super) type Found = (BTreeMap<String, Entry>, Vec<(&'static str, String)>);

impl<'c> Sides<'c> {
    pub(super) fn prepare(connection: &'c Connection, prepared: &Prepared, is_wanted: bool) -> Outcome<Self> {
        if !is_wanted {
            return Ok(Self { table: None, arrays: None, log: None });
        }
        let boolean = if prepared.has_booleans { "m.bool_value" } else { "NULL" };
        // CROSS JOIN keeps the records outside, so that nothing is sorted.
        let table = format!(
            "SELECT r.row, m.key, m.string_value, m.int_value, m.float_value, {boolean} \
             FROM records r CROSS JOIN chroma.embedding_metadata m ON m.id = r.row \
             WHERE r.row > ?1 AND r.row <= ?2 ORDER BY r.row"
        );
        let arrays = "SELECT r.row, a.key, a.string_value, a.int_value, a.float_value, a.bool_value \
             FROM records r CROSS JOIN chroma.embedding_metadata_array a ON a.id = r.row \
             WHERE r.row > ?1 AND r.row <= ?2 ORDER BY r.row, a.rowid";
        let log =
            "SELECT row, key, json, NULL, NULL, NULL FROM metadata WHERE row > ?1 AND row <= ?2 ORDER BY row";
        Ok(Self {
            table: Some(connection.prepare(&table)?),
            arrays: if prepared.has_arrays { Some(connection.prepare(arrays)?) } else { None },
            log: Some(connection.prepare(log)?),
        })
    }

    pub(super) fn begin(&mut self, bounds: (i64, i64)) -> Outcome<Walk<'_>> {
        Ok(Walk {
            table: begin(self.table.as_mut(), bounds)?,
            arrays: begin(self.arrays.as_mut(), bounds)?,
            log: begin(self.log.as_mut(), bounds)?,
        })
    }
}

fn begin<'s>(statement: Option<&'s mut Statement<'_>>, bounds: (i64, i64)) -> Outcome<Option<Side<'s>>> {
    let Some(statement) = statement else { return Ok(None) };
    Ok(Some(Side { rows: statement.query([bounds.0, bounds.1])?, next: None }))
}

impl Walk<'_> {
    /// The metadata of a record; records are asked for in their order.
    pub(super) fn of(&mut self, row: i64) -> Outcome<Found> {
        let mut entries = BTreeMap::new();
        let mut refused = Vec::new();
        if let Some(table) = &mut self.table {
            table.of(row, |key, value| put(&mut entries, &mut refused, key, value))?;
        }
        if let Some(arrays) = &mut self.arrays {
            arrays.of(row, |key, value| match (value, entries.get_mut(&key)) {
                (Ok(Some(element)), Some(Entry::List(list))) => list.push(element),
                (Ok(Some(element)), _) => drop(entries.insert(key, Entry::List(vec![element]))),
                (other, _) => put(&mut entries, &mut refused, key, other),
            })?;
        }
        if let Some(log) = &mut self.log {
            log.of(row, |key, value| match value {
                // A key that the log takes away.
                Ok(None) => drop(entries.remove(&key)),
                Ok(Some(Entry::Text(json))) => match Entry::of_json(&json) {
                    Ok(entry) => drop(entries.insert(key, entry)),
                    Err(error) => refused.push(("metadata", error.to_string())),
                },
                other => put(&mut entries, &mut refused, key, other),
            })?;
        }
        Ok((entries, refused))
    }
}

fn put(
    entries: &mut BTreeMap<String, Entry>,
    refused: &mut Vec<(&'static str, String)>,
    key: String,
    value: Value,
) {
    match value {
        Ok(Some(entry)) => drop(entries.insert(key, entry)),
        // A float that was not a number: Chroma shows no such key.
        Ok(None) => {}
        Err(reason) => refused.push(("metadata", reason)),
    }
}

impl Side<'_> {
    /// Calls with each entry of a record.
    fn of(&mut self, row: i64, mut take: impl FnMut(String, Value)) -> Outcome<()> {
        loop {
            if self.next.is_none() {
                self.next = self.step()?;
            }
            match self.next.take() {
                None => return Ok(()),
                Some((of, key, value)) if of == row => take(key, value),
                Some((of, ..)) if of < row => {}
                later => {
                    self.next = later;
                    return Ok(());
                }
            }
        }
    }

    fn step(&mut self) -> Outcome<Option<(i64, String, Value)>> {
        let Some(row) = self.rows.next()? else { return Ok(None) };
        let value = Entry::of_row(row.get_ref(2)?, row.get_ref(3)?, row.get_ref(4)?, row.get_ref(5)?);
        let (key, value) = match row.get_ref(1)? {
            ValueRef::Text(key) => match std::str::from_utf8(key) {
                Ok(key) => (key.to_owned(), value),
                Err(_) => (String::new(), Err("a key of the metadata is not UTF-8".to_owned())),
            },
            _ => (String::new(), Err("a key of the metadata is no text".to_owned())),
        };
        Ok(Some((row.get(0)?, key, value)))
    }
}
