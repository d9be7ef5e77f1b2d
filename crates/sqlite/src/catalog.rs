//! What there is: tables and views, their columns and keys.

mod layout;
mod notes;
mod structure;

pub(crate) use layout::{From, Layout, SliceKey, SourceColumn};
pub(crate) use structure::structure;

use crate::error::from_driver;
use crate::sql::{identifier, is_same_name};
use rusqlite::Connection;
use std::fmt;
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// The kinds of relations that differ in how they can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Table,
    View,
    Virtual,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::View => "view",
            Self::Virtual => "virtual table",
        })
    }
}

/// A table or view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// Its name as the database has it.
    pub name: String,
    pub kind: Kind,
    pub is_without_rowid: bool,
    pub is_strict: bool,
    pub columns: Vec<Column>,
    /// Columns of unique keys, the primary key first where there is one.
    pub keys: Vec<Key>,
    pub has_primary_key: bool,
    /// What the rowid is called; `None`: there is none, or every name of it is a column's.
    pub rowid: Option<String>,
    /// The column that is the rowid by another name.
    pub rowid_alias: Option<String>,
    pub foreign_keys: Vec<ForeignKey>,
    pub triggers: Vec<String>,
    /// Whether a foreign key may be checked at the transaction's end only.
    pub may_defer: bool,
    /// What made it.
    pub sql: String,
}

/// A column of a table or view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    /// The type as it was declared; empty where none was.
    pub declared: String,
    pub is_not_null: bool,
    pub has_default: bool,
    pub is_generated: bool,
}

/// A unique key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub columns: Vec<String>,
    /// Whether two texts are one key exactly where their bytes are the same.
    pub is_binary: bool,
}

/// A foreign key; `parent_columns` are empty where it refers to the parent's primary key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    pub parent: String,
    pub columns: Vec<String>,
    pub parent_columns: Vec<String>,
}

impl Table {
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| is_same_name(&column.name, name))
    }

    /// Its name for statements.
    pub(crate) fn quoted(&self) -> String {
        identifier(&self.name)
    }

    /// The primary key's columns, in the key's order; empty where there is none.
    pub(crate) fn primary_key(&self) -> &[String] {
        self.keys.first().filter(|_| self.has_primary_key).map(|key| &*key.columns).unwrap_or_default()
    }

    /// The unique key of exactly these columns, in whatever order.
    pub(crate) fn key_of(&self, names: &[String]) -> Option<&Key> {
        self.keys.iter().find(|key| {
            key.columns.len() == names.len()
                && key.columns.iter().all(|column| names.iter().any(|name| is_same_name(name, column)))
        })
    }
}

struct Failed<'a>(&'a StoreName, &'a str);

impl Failed<'_> {
    fn into_error(self, error: rusqlite::Error) -> StoreError {
        from_driver(self.0, format!("cannot read the catalog of `{}`", self.1), error)
    }
}

/// A table or view by its name, as SQLite would find it; `None`: there is none.
pub(crate) fn find(store: &StoreName, connection: &Connection, name: &str) -> Result<Option<Table>> {
    let name = bare(name);
    find_raw(connection, &name).map_err(|error| Failed(store, &name).into_error(error))
}

/// As [`find`]; that it is missing is an error with those that are nearest.
pub(crate) fn read(store: &StoreName, connection: &Connection, name: &str) -> Result<Table> {
    if let Some(table) = find(store, connection, name)? {
        return Ok(table);
    }
    let others = names(store, connection)?;
    let error =
        StoreError::new(StoreErrorKind::NotFound, store, format!("there is no table or view `{name}`"));
    Err(if others.is_empty() {
        error.with_hint("the database holds no tables")
    } else {
        error.with_nearest(name, others.iter().map(String::as_str))
    })
}

/// The names of all tables and views that are not SQLite's or whimbrel's own.
pub(crate) fn names(store: &StoreName, connection: &Connection) -> Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
        AND name NOT LIKE 'whimbrel\\_%' ESCAPE '\\' ORDER BY name";
    let found = connection.prepare(sql).and_then(|mut statement| {
        statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()
    });
    found.map_err(|error| from_driver(store, "cannot read which tables there are", error))
}

/// The name alone: `main.t`, `"t"` and `main."t"` are `t`.
pub(crate) fn bare(name: &str) -> String {
    let name = name.strip_prefix("main.").unwrap_or(name);
    match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
        Some(quoted) => quoted.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

fn find_raw(connection: &Connection, name: &str) -> rusqlite::Result<Option<Table>> {
    let sql = "SELECT l.name, l.type, l.wr, l.strict, coalesce(s.sql, '') FROM pragma_table_list(?1) l \
        LEFT JOIN sqlite_schema s ON s.name = l.name AND s.type IN ('table', 'view') WHERE l.schema = 'main'";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([name])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let kind = match row.get::<_, String>(1)?.as_str() {
        "view" => Kind::View,
        "virtual" => Kind::Virtual,
        _ => Kind::Table,
    };
    let name: String = row.get(0)?;
    let (is_without_rowid, is_strict, sql) =
        (row.get::<_, bool>(2)?, row.get::<_, bool>(3)?, row.get::<_, String>(4)?);
    let (columns, mut primary_key) = columns(connection, &name)?;
    let (mut keys, has_key_index) = unique_keys(connection, &name)?;
    let is_alias = kind == Kind::Table && !is_without_rowid && primary_key.len() == 1 && !has_key_index;
    let rowid_alias = primary_key.first().cloned().filter(|_| is_alias);
    let has_primary_key = !primary_key.is_empty();
    if has_primary_key {
        let at = keys.iter().position(|key| key.columns == primary_key);
        let key = at
            .map(|at| keys.remove(at))
            .unwrap_or_else(|| Key { columns: std::mem::take(&mut primary_key), is_binary: true });
        keys.insert(0, key);
    }
    let is_taken = |word: &&str| !columns.iter().any(|column| is_same_name(&column.name, word));
    let has_rowid = kind == Kind::Table && !is_without_rowid;
    let rowid = ["rowid", "_rowid_", "oid"].into_iter().find(is_taken).map(str::to_owned);
    Ok(Some(Table {
        kind,
        is_without_rowid,
        is_strict,
        keys,
        has_primary_key,
        rowid: rowid.or_else(|| rowid_alias.as_deref().map(identifier)).filter(|_| has_rowid),
        rowid_alias,
        foreign_keys: foreign_keys(connection, &name)?,
        triggers: triggers(connection, &name)?,
        may_defer: sql.to_ascii_uppercase().contains("DEFERRED"),
        columns,
        name,
        sql,
    }))
}

/// All columns that can be read, and the names of those that make the primary key, in its order.
fn columns(connection: &Connection, table: &str) -> rusqlite::Result<(Vec<Column>, Vec<String>)> {
    let sql = "SELECT name, type, \"notnull\", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?1) \
        WHERE hidden <> 1 ORDER BY cid";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([table])?;
    let (mut columns, mut key) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let (name, place, hidden): (String, i64, i64) = (row.get(0)?, row.get(4)?, row.get(5)?);
        if place > 0 {
            key.push((place, name.clone()));
        }
        columns.push(Column {
            name,
            declared: without_generated(&row.get::<_, String>(1)?),
            is_not_null: row.get(2)?,
            has_default: row.get(3)?,
            is_generated: hidden >= 2,
        });
    }
    key.sort();
    Ok((columns, key.into_iter().map(|(_, name)| name).collect()))
}

/// A generated column's type carries the words that make it one.
fn without_generated(declared: &str) -> String {
    let upper = declared.to_ascii_uppercase();
    let end = upper.find("GENERATED ALWAYS").unwrap_or(declared.len());
    declared[..end].trim().to_owned()
}

/// Unique keys that hold for all rows, and whether the primary key has an index of its own.
fn unique_keys(connection: &Connection, table: &str) -> rusqlite::Result<(Vec<Key>, bool)> {
    let sql = "SELECT name, origin FROM pragma_index_list(?1) WHERE \"unique\" AND NOT partial ORDER BY seq";
    let mut statement = connection.prepare(sql)?;
    let indexes = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let indexes = indexes.collect::<rusqlite::Result<Vec<(String, String)>>>()?;
    let mut keys = Vec::new();
    for (index, _) in &indexes {
        let sql = "SELECT name, coll FROM pragma_index_xinfo(?1) WHERE \"key\" ORDER BY seqno";
        let mut statement = connection.prepare(sql)?;
        let columns = statement.query_map([index], |row| Ok((row.get(0)?, row.get(1)?)))?;
        // An expression has no name.
        let columns = columns.collect::<rusqlite::Result<Vec<(Option<String>, String)>>>()?;
        let is_binary = columns.iter().all(|(_, collation)| collation.eq_ignore_ascii_case("BINARY"));
        let names: Option<Vec<String>> = columns.into_iter().map(|(name, _)| name).collect();
        keys.extend(names.map(|columns| Key { columns, is_binary }));
    }
    Ok((keys, indexes.iter().any(|(_, origin)| origin == "pk")))
}

fn foreign_keys(connection: &Connection, table: &str) -> rusqlite::Result<Vec<ForeignKey>> {
    let sql = "SELECT id, \"table\", \"from\", \"to\" FROM pragma_foreign_key_list(?1) ORDER BY id, seq";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([table])?;
    let mut found: Vec<(i64, ForeignKey)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (id, column): (i64, String) = (row.get(0)?, row.get(2)?);
        if found.last().is_none_or(|(last, _)| *last != id) {
            let (columns, parent_columns) = (Vec::new(), Vec::new());
            found.push((id, ForeignKey { parent: row.get(1)?, columns, parent_columns }));
        }
        if let Some((_, key)) = found.last_mut() {
            key.columns.push(column);
            key.parent_columns.extend(row.get::<_, Option<String>>(3)?);
        }
    }
    Ok(found.into_iter().map(|(_, key)| key).collect())
}

fn triggers(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 COLLATE NOCASE ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    statement.query_map([table], |row| row.get(0))?.collect()
}

/// Whether the database keeps its text as UTF-8.
pub(crate) fn is_utf8(store: &StoreName, connection: &Connection) -> Result<bool> {
    let encoding = connection.query_row("PRAGMA encoding", [], |row| row.get::<_, String>(0));
    let encoding = encoding.map_err(|error| from_driver(store, "cannot read the encoding", error))?;
    Ok(encoding == "UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(sql: &str) -> Table {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        read(&StoreName::new("s"), &connection, "T").unwrap()
    }

    #[test]
    fn a_rowid_has_a_name_unless_columns_take_all() {
        assert_eq!(table("CREATE TABLE t (a)").rowid.as_deref(), Some("rowid"));
        assert_eq!(table("CREATE TABLE t (RowId, _rowid_)").rowid.as_deref(), Some("oid"));
        assert_eq!(table("CREATE TABLE t (rowid, oid, _rowid_)").rowid, None);
        assert_eq!(table("CREATE TABLE t (a PRIMARY KEY) WITHOUT ROWID").rowid, None);
        let alias = |sql: &str| table(sql).rowid_alias;
        assert_eq!(alias("CREATE TABLE t (id INTEGER PRIMARY KEY)").as_deref(), Some("id"));
        assert_eq!(alias("CREATE TABLE t (id INT PRIMARY KEY)"), None);
        assert_eq!(alias("CREATE TABLE t (id INTEGER PRIMARY KEY DESC)"), None);
    }

    #[test]
    fn keys_are_those_that_hold_for_all_rows() {
        let found = table(
            "CREATE TABLE t (a, b COLLATE NOCASE UNIQUE, c, PRIMARY KEY (c, a)); CREATE UNIQUE INDEX x ON t (a) WHERE b; \
             CREATE UNIQUE INDEX y ON t (a + 1)",
        );
        assert_eq!(found.primary_key(), ["c", "a"]);
        assert_eq!(found.keys.len(), 2);
        assert!(!found.key_of(&["B".to_owned()]).unwrap().is_binary);
    }

    #[test]
    fn generated_columns_are_told_apart() {
        let found =
            table("CREATE TABLE t (a INT, b TEXT GENERATED ALWAYS AS (a + 1) VIRTUAL, c AS (a) STORED)");
        let seen: Vec<_> = found.columns.iter().map(|c| (c.declared.as_str(), c.is_generated)).collect();
        assert_eq!(seen, [("INT", false), ("TEXT", true), ("", true)]);
    }
}
