//! What a run writes over, kept in the transaction that writes: each row as it was, and a hash of what it became.

use super::by_key;
use crate::catalog::Table;
use crate::encode::{Encoder, Stored};
use crate::error::from_driver;
use crate::sql::{identifier, identifiers};
use rusqlite::{Connection, OptionalExtension as _, params};
use std::borrow::Cow;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::{FingerprintKey, StoreName};
use whimbrel_store::Result;

/// A key of no bytes stands for a table that was brought back.
const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS whimbrel_before_image (id INTEGER PRIMARY KEY, run TEXT NOT NULL, \
  name TEXT NOT NULL, flow TEXT NOT NULL, key BLOB NOT NULL, before BLOB, after BLOB, \
  written_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP, UNIQUE (run, name, key)) STRICT; \
DELETE FROM whimbrel_before_image WHERE written_at < datetime('now', '-30 days')";

/// Where the newer write begins with what the older one left, the older image stays.
const KEEP: &str = "\
INSERT INTO whimbrel_before_image AS i (run, name, flow, key, before, after) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
ON CONFLICT (run, name, key) DO UPDATE SET after = excluded.after, \
  before = CASE WHEN i.after IS ?7 THEN i.before ELSE excluded.before END";

/// Makes the table of before-images where it is missing, in the open transaction.
pub(crate) fn make(store: &StoreName, connection: &Connection) -> Result<()> {
    let made = connection.execute_batch(TABLES);
    made.map_err(|error| from_driver(store, "cannot make the table of before-images", error))
}

/// Whether it is there.
pub(crate) fn is_there(store: &StoreName, connection: &Connection) -> Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = 'whimbrel_before_image'";
    let found = connection.query_row(sql, [], |_| Ok(())).optional();
    found
        .map(|found| found.is_some())
        .map_err(|error| from_driver(store, "cannot look for before-images", error))
}

/// Whose before-images are kept.
#[derive(Clone, Debug)]
pub(crate) struct Keeping {
    pub run: String,
    pub flow: String,
}

/// Rows of a table as they are, whichever flow writes them.
#[derive(Debug)]
pub(crate) struct Whole {
    store: StoreName,
    /// The table's name.
    pub name: String,
    /// The columns that a row's content is: those that the table does not make itself.
    pub columns: Vec<String>,
    select: String,
}

impl Whole {
    /// The rows of a table, found by the key of an encoder.
    pub(crate) fn new(store: &StoreName, table: &Table, encoder: &Encoder) -> Self {
        let columns = table.columns.iter().filter(|column| !column.is_generated);
        let columns: Vec<_> = columns.map(|column| column.name.clone()).collect();
        let select = format!(
            "SELECT {} FROM {} WHERE {}",
            identifiers(&columns),
            identifier(&table.name),
            by_key(encoder, 1)
        );
        Self { store: store.clone(), name: table.name.clone(), columns, select }
    }

    /// The row of a key, packed.
    pub(crate) fn row(&self, connection: &Connection, key: &[Stored<'_>]) -> Result<Option<Vec<u8>>> {
        let read = || {
            let mut statement = connection.prepare_cached(&self.select)?;
            for (at, value) in (1..).zip(key) {
                statement.raw_bind_parameter(at, value)?;
            }
            let mut rows = statement.raw_query();
            let Some(row) = rows.next()? else { return Ok(None) };
            let values = (0..self.columns.len()).map(|at| row.get_ref(at).map(Stored::of));
            Ok(Some(pack(&values.collect::<rusqlite::Result<Vec<_>>>()?)))
        };
        read().map_err(|error: rusqlite::Error| {
            from_driver(&self.store, "cannot read what stands under a key", error)
        })
    }

    /// Keeps what a row was, packed, where it has become what it is now.
    pub(crate) fn keep(
        &self,
        connection: &Connection,
        keeping: &Keeping,
        key: &[Stored<'_>],
        before: Option<&[u8]>,
        print: &FingerprintKey,
    ) -> Result<()> {
        let after = self.row(connection, key)?.map(|row| hash(&row, print));
        let was = before.map(|before| hash(before, print));
        let values = params![keeping.run, self.name, keeping.flow, pack(key), before, after, was];
        let kept = connection.prepare_cached(KEEP).and_then(|mut statement| statement.execute(values));
        kept.map(|_| ()).map_err(|error| from_driver(&self.store, "cannot keep a before-image", error))
    }
}

/// What tells one content of a row from another.
pub(crate) fn hash(packed: &[u8], print: &FingerprintKey) -> Vec<u8> {
    let mut content = Canonical::default();
    content.binary(packed);
    print.fingerprint(&Canonical::default(), &content).record.to_be_bytes().to_vec()
}

/// Values as bytes, each with its storage class.
pub(crate) fn pack(values: &[Stored<'_>]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(values.iter().map(|value| value.size() + 9).sum());
    let mut long = |class: u8, bytes: &[u8]| {
        packed.push(class);
        packed.extend(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        packed.extend(bytes);
    };
    for value in values {
        match value {
            Stored::Null => long(0, &[]),
            Stored::Integer(value) => long(1, &value.to_be_bytes()),
            Stored::Real(value) => long(2, &value.to_bits().to_be_bytes()),
            Stored::Text(text) => long(3, text.as_bytes()),
            Stored::Blob(bytes) => long(4, bytes),
            Stored::Broken(bytes) => long(5, bytes),
        }
    }
    packed
}

/// The values that were packed; `None`: these are none.
pub(crate) fn unpack(mut packed: &[u8]) -> Option<Vec<Stored<'_>>> {
    let mut values = Vec::new();
    while let Some((class, rest)) = packed.split_first() {
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let (bytes, rest) = rest.split_at_checked(usize::try_from(u64::from_be_bytes(*length)).ok()?)?;
        values.push(match class {
            0 => Stored::Null,
            1 => Stored::Integer(i64::from_be_bytes(bytes.try_into().ok()?)),
            2 => Stored::Real(f64::from_bits(u64::from_be_bytes(bytes.try_into().ok()?))),
            3 => Stored::Text(Cow::Borrowed(std::str::from_utf8(bytes).ok()?)),
            4 => Stored::Blob(Cow::Borrowed(bytes)),
            5 => Stored::Broken(Cow::Borrowed(bytes)),
            _ => return None,
        });
        packed = rest;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_packed_with_their_classes() {
        let values = [
            Stored::Null,
            Stored::Integer(-7),
            Stored::Real(-0.0),
            Stored::text(""),
            Stored::text("ü\0"),
            Stored::Blob(Cow::Borrowed(b"\xff\x00")),
            Stored::Broken(Cow::Borrowed(b"\xff")),
        ];
        let packed = pack(&values);
        assert_eq!(unpack(&packed).unwrap(), values);
        assert_eq!(unpack(&[]), Some(Vec::new()));
        for cut in 1..packed.len() {
            assert_ne!(unpack(&packed[..cut]).as_deref(), Some(&values[..]), "{cut}");
        }
    }
}
