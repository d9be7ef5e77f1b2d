//! Deleting rows that are still what they were when they were read, and removing tables.

use super::count;
use crate::catalog::{self, Table};
use crate::encode::Encoder;
use crate::error::{from_driver, is_about_a_record};
use crate::writer::{Keeping, Whole, by_key, hash, pack, unpack};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use whimbrel_model::{Capacity, FingerprintKey, StoreName};
use whimbrel_store::{Deleted, Doomed, Removal, Result, StoreError, StoreErrorKind, WriteRequest};

/// Why a row stays.
const CHANGED: &str = "it was changed after it was read";

/// What a row is when it is read: its key, packed, and a hash of its content, packed.
pub(super) fn version(key: &[u8], row: &[u8], print: &FingerprintKey) -> Value {
    json!([digits(key), digits(&hash(row, print))])
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Deletes rows of one table, in the open transaction.
pub(super) struct Deletion<'a> {
    pub store: &'a StoreName,
    pub connection: &'a Connection,
    pub table: &'a Table,
    pub encoder: &'a Encoder,
    pub request: &'a WriteRequest,
    pub keeping: Option<&'a Keeping>,
    pub print: &'a FingerprintKey,
}

impl Deletion<'_> {
    /// Deletes the rows that are in scope and still as they were read. Those that SQLite refuses to delete stay.
    pub(super) fn of(&self, doomed: &[Doomed]) -> Result<Deleted> {
        let within = count::within(self.store, self.table, &self.request.scope)?;
        let sql =
            format!("DELETE FROM {} WHERE {} AND ({within})", self.table.quoted(), by_key(self.encoder, 1));
        let whole = Whole::new(self.store, self.table, self.encoder);
        let mut deleted = Deleted { capacity: Capacity::default(), ..Deleted::default() };
        for (place, one) in doomed.iter().enumerate() {
            match self.one(&whole, &sql, one)? {
                None => deleted.records += 1,
                Some(reason) => deleted.left.push((place, reason)),
            }
        }
        Ok(deleted)
    }

    /// Deletes one row; why it stays, if it does.
    fn one(&self, whole: &Whole, sql: &str, doomed: &Doomed) -> Result<Option<String>> {
        let parts: Option<Vec<Vec<u8>>> = doomed
            .version
            .as_array()
            .and_then(|parts| parts.iter().map(|part| bytes(part.as_str()?)).collect());
        let Some([key, read]) = parts.as_deref() else { return Err(self.foreign()) };
        let key = unpack(key).filter(|key| key.len() == self.encoder.key().len());
        let key = key.ok_or_else(|| self.foreign())?;
        let Some(now) = whole.row(self.connection, &key)? else { return Ok(None) };
        if hash(&now, self.print) != *read {
            return Ok(Some(CHANGED.to_owned()));
        }
        let delete = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            for (at, value) in (1..).zip(&key) {
                statement.raw_bind_parameter(at, value)?;
            }
            statement.raw_execute()
        };
        match delete() {
            Ok(0) => Ok(Some("the table kept it".to_owned())),
            Ok(_) => {
                if let Some(keeping) = self.keeping {
                    whole.keep(self.connection, keeping, &key, Some(&now), self.print)?;
                }
                Ok(None)
            }
            Err(error) if is_about_a_record(&error) => Ok(Some(error.to_string())),
            Err(error) => {
                Err(from_driver(self.store, format!("cannot delete from {}", self.table.quoted()), error))
            }
        }
    }

    fn foreign(&self) -> StoreError {
        let context = format!("a row that is to be deleted is none of {}", self.table.quoted());
        StoreError::new(StoreErrorKind::Internal, self.store, context)
    }
}

/// What SQLite would do to rows of other tables, or to others of this one, where a row is deleted.
pub(super) fn besides(store: &StoreName, connection: &Connection, table: &Table) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT m.name, f.on_delete = 'CASCADE' FROM sqlite_schema m, pragma_foreign_key_list(m.name) f \
        WHERE m.type = 'table' AND f.\"table\" = ?1 COLLATE NOCASE \
        AND f.on_delete IN ('CASCADE', 'SET NULL', 'SET DEFAULT') ORDER BY 1";
    let read = || {
        let mut statement = connection.prepare(sql)?;
        let said = statement.query_map([&table.name], |row| {
            let (other, deletes): (String, bool) = (row.get(0)?, row.get(1)?);
            let what = if deletes { "deletes rows of" } else { "changes rows of" };
            Ok(format!("a foreign key {what} {other} with it"))
        })?;
        said.collect::<rusqlite::Result<Vec<_>>>()
    };
    read()
        .map_err(|error| from_driver(store, format!("cannot read what refers to {}", table.quoted()), error))
}

/// Removes a table; where records of another scope are in it, only those of this one.
pub(super) fn remove(store: &StoreName, connection: &Connection, request: &WriteRequest) -> Result<Removal> {
    let Some(table) = catalog::find(store, connection, &request.table)? else { return Ok(Removal::Absent) };
    let failed = |error| from_driver(store, format!("cannot remove {}", table.quoted()), error);
    if !request.scope.is_empty() {
        let within = count::within(store, &table, &request.scope)?;
        let delete = format!("DELETE FROM {} WHERE {within}", table.quoted());
        let records = connection.execute(&delete, []).map_err(failed)?;
        if !count::is_empty(store, connection, &table, &BTreeMap::new())? {
            return Ok(Removal::Shared { records: u64::try_from(records).unwrap_or(u64::MAX) });
        }
    }
    connection.execute_batch(&format!("DROP TABLE {}", table.quoted())).map_err(failed)?;
    Ok(Removal::Removed)
}

/// The packed values of some places of a row.
pub(super) fn packed(row: &[crate::encode::Stored<'static>], places: &[usize]) -> Vec<u8> {
    let values = places.iter().map(|at| row.get(*at).cloned().unwrap_or(crate::encode::Stored::Null));
    pack(&values.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_bytes_again() {
        assert_eq!(bytes(&digits(&[0, 255, 16])), Some(vec![0, 255, 16]));
        assert_eq!((bytes("0g"), bytes("")), (None, Some(Vec::new())));
    }
}
