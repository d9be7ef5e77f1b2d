//! A relation as it is read: its columns, what names a record, what slices are ranges of.

use super::{Kind, Table, bare, read};
use crate::error::{from_driver, mismatch};
use crate::sql::{Query, identifier, is_same_name};
use crate::types::{Builder, Reading, WORDS};
use arrow::datatypes::{Schema, SchemaRef};
use rusqlite::{Connection, Statement};
use std::sync::Arc;
use whimbrel_model::StoreName;
use whimbrel_store::error::nearest;
use whimbrel_store::{ReadRequest, Relation, Result, StoreError, StoreErrorKind};

/// A file of up to this size is counted; of a larger one it is said what can be known without reading all.
const COUNTED_BYTES: i64 = 64 << 20;

/// A relation as it is read.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// For people: `table "users"`.
    pub name: String,
    pub from: From,
    pub columns: Vec<SourceColumn>,
    pub schema: SchemaRef,
    /// The columns that name a record.
    pub key: Vec<String>,
    pub slice_key: SliceKey,
    /// Whether the key is the rowid, read as the integer that it is, and slices are ranges of it.
    pub is_key_rowid: bool,
    pub notes: Vec<String>,
    /// What reads estimates of the number of records.
    estimate: Estimate,
    pub is_utf8: bool,
}

/// What stands behind FROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// A table or view, quoted.
    Table(String),
    Query(Query),
}

/// A column that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceColumn {
    pub name: String,
    /// The type as it was declared; empty where none was.
    pub declared: String,
    pub reading: Reading,
    /// Whether the spec says how it is read.
    pub is_declared: bool,
}

/// What slices are ranges of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SliceKey {
    /// Nothing: one slice, without order.
    None,
    /// The rowid, by a name for statements.
    Rowid(String),
    /// Columns by their names; whether the database itself holds them unique and not NULL.
    Columns { names: Vec<String>, is_sure: bool },
}

#[derive(Clone, Debug)]
enum Estimate {
    Unknown,
    /// Of a table, by its quoted name and what its rowid is called.
    Table(String, Option<String>),
}

impl SliceKey {
    /// The expressions that make the key.
    pub(crate) fn expressions(&self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::Rowid(name) => vec![name.clone()],
            Self::Columns { names, .. } => names.iter().map(|name| identifier(name)).collect(),
        }
    }

    /// Whether a row may have no key or one that another has, too.
    pub(crate) fn is_unsure(&self) -> bool {
        matches!(self, Self::Columns { is_sure: false, .. })
    }
}

impl SourceColumn {
    /// What takes the column's values.
    pub(crate) fn builder(&self) -> Builder {
        Builder::new(self.reading, self.is_declared, &self.declared)
    }
}

impl Layout {
    /// Looks at what a request reads.
    pub(crate) fn read(store: &StoreName, connection: &Connection, request: &ReadRequest) -> Result<Self> {
        let found = match &request.relation {
            Relation::Table(name) => Found::table(store, connection, &bare(name))?,
            Relation::Query(sql) => Found::query(store, connection, sql)?,
        };
        found.check_names(store, request)?;
        let (slice_key, mut notes) = found.slice_key(store, request)?;
        let mut key = found.key.clone();
        if key.is_empty()
            && let SliceKey::Columns { names, .. } = &slice_key
        {
            key.clone_from(names);
        }
        let columns = found.wanted(store, request, &key)?;
        let alias = found.table.as_ref().and_then(|table| table.rowid_alias.as_ref());
        let is_key_rowid = matches!(slice_key, SliceKey::Rowid(_))
            && alias.is_some_and(|alias| {
                let is_integer =
                    |column: &SourceColumn| column.name == *alias && column.reading == Reading::Integer;
                key == [alias.as_str()] && columns.iter().any(is_integer)
            });
        notes.extend(found.notes);
        let fields: Vec<_> =
            columns.iter().map(|column| column.reading.field(&column.name, &column.declared)).collect();
        Ok(Self {
            name: found.name,
            from: found.from,
            schema: Arc::new(Schema::new(fields)),
            columns,
            key,
            slice_key,
            is_key_rowid,
            notes,
            estimate: found.estimate,
            is_utf8: super::is_utf8(store, connection)?,
        })
    }

    /// How many records there are, as far as that is known without reading all of a large file.
    pub(crate) fn records(&self, store: &StoreName, connection: &Connection) -> Result<Option<u64>> {
        let Estimate::Table(table, rowid) = &self.estimate else { return Ok(None) };
        let failed = |error| from_driver(store, format!("cannot count the records of {}", self.name), error);
        let integer =
            |sql: &str| connection.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).map_err(failed);
        let size = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        let bytes = integer(size)?.unwrap_or(0);
        if bytes <= COUNTED_BYTES {
            let count = integer(&format!("SELECT count(*) FROM {table}"))?;
            return Ok(count.and_then(|count| u64::try_from(count).ok()));
        }
        let Some(rowid) = rowid else { return Ok(None) };
        let end = |function: &str| integer(&format!("SELECT {function}({rowid}) FROM {table}"));
        let ends = end("min")?.zip(end("max")?);
        Ok(Some(ends.map_or(0, |(first, last)| bound(first, last, bytes))))
    }

    /// Whether another look has found the same columns and the same key.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.columns == other.columns && self.slice_key == other.slice_key && self.from == other.from
    }
}

/// How many rows there are at the most between two rowids. Rows that were deleted leave gaps, so that it is mostly the
/// number itself; where rowids are scattered, the file's size says more: a row takes some bytes.
fn bound(first: i64, last: i64, bytes: i64) -> u64 {
    const LEAST_ROW_BYTES: i64 = 8;
    let between = i128::from(last) - i128::from(first) + 1;
    u64::try_from(between.min(i128::from(bytes / LEAST_ROW_BYTES))).unwrap_or(0)
}

/// What was found, before the request's wishes.
struct Found {
    name: String,
    from: From,
    /// Names and declared types.
    columns: Vec<(String, String)>,
    key: Vec<String>,
    table: Option<Table>,
    estimate: Estimate,
    notes: Vec<String>,
}

impl Found {
    fn table(store: &StoreName, connection: &Connection, name: &str) -> Result<Self> {
        let table = read(store, connection, name)?;
        let quoted = table.quoted();
        let shown = format!("{} {quoted}", table.kind);
        let columns = if table.kind == Kind::View {
            // A view's own catalog makes types up for expressions.
            let failed = |error| from_driver(store, format!("cannot read {shown}"), error);
            columns_of(&connection.prepare(&format!("SELECT * FROM {quoted}")).map_err(failed)?)
        } else {
            table.columns.iter().map(|column| (column.name.clone(), column.declared.clone())).collect()
        };
        let estimate = match table.kind {
            Kind::Table => Estimate::Table(quoted.clone(), table.rowid.clone()),
            Kind::View | Kind::Virtual => Estimate::Unknown,
        };
        Ok(Self {
            name: shown,
            from: From::Table(quoted),
            columns,
            key: table.primary_key().to_vec(),
            table: Some(table),
            estimate,
            notes: Vec::new(),
        })
    }

    fn query(store: &StoreName, connection: &Connection, sql: &str) -> Result<Self> {
        let query = Query::parse(sql).map_err(|error| mismatch(store, error.to_string()))?;
        // In parentheses nothing but a query can stand, and none that writes.
        let shape = format!("SELECT * FROM (\n{}\n)", query.sql("TRUE"));
        let prepared = connection.prepare(&shape);
        let prepared =
            prepared.map_err(|error| from_driver(store, "SQLite cannot carry out the query", error))?;
        let own = connection.prepare(&query.sql("TRUE"));
        let own = own.map_err(|error| from_driver(store, "SQLite cannot carry out the query", error))?;
        let names: Vec<String> = own.column_names().into_iter().map(str::to_owned).collect();
        for (at, name) in names.iter().enumerate() {
            if names[..at].iter().any(|other| is_same_name(other, name)) {
                let error = mismatch(store, format!("two columns of the query are called `{name}`"));
                return Err(error.with_hint("give one of them another name with AS"));
            }
        }
        Ok(Self {
            name: "the query".to_owned(),
            from: From::Query(query),
            columns: columns_of(&prepared),
            key: Vec::new(),
            table: None,
            estimate: Estimate::Unknown,
            notes: Vec::new(),
        })
    }

    /// Names that the request uses, as the relation has them.
    fn own_name(&self, name: &str) -> Option<&str> {
        let exact = self.columns.iter().find(|(own, _)| own == name);
        let found = exact.or_else(|| self.columns.iter().find(|(own, _)| is_same_name(own, name)));
        found.map(|(own, _)| own.as_str())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    fn check_names(&self, store: &StoreName, request: &ReadRequest) -> Result<()> {
        let declared = request.columns.keys().map(|name| (name, "columns"));
        let mut all = declared.chain(request.slice_by.iter().map(|name| (name, "slice_by")));
        let is_unknown = |(name, _): &(&String, &str)| self.own_name(name).is_none();
        let Some((name, place)) = all.find(is_unknown) else { return Ok(()) };
        let context = format!("`{place}` names `{name}`, which {} does not have", self.name);
        Err(StoreError::new(StoreErrorKind::NotFound, store, context).with_nearest(name, self.names()))
    }

    fn slice_key(&self, store: &StoreName, request: &ReadRequest) -> Result<(SliceKey, Vec<String>)> {
        let has_place = matches!(&self.from, From::Query(query) if query.has_slice());
        if request.slice_by.is_empty() {
            if has_place {
                let error =
                    mismatch(store, "the query has a place for a slice, and no `slice_by` says of what");
                return Err(error.with_hint("name the columns of its result under `slice_by`"));
            }
            return Ok(match &self.table {
                Some(Table { rowid: Some(rowid), .. }) => (SliceKey::Rowid(rowid.clone()), Vec::new()),
                Some(table) if table.is_without_rowid => {
                    let names = table.primary_key().to_vec();
                    (SliceKey::Columns { names, is_sure: true }, Vec::new())
                }
                _ => {
                    let note = format!("{}: one slice, restarted whole; `slice_by` would cut it", self.name);
                    (SliceKey::None, vec![note])
                }
            });
        }
        let names = request.slice_by.iter().filter_map(|name| self.own_name(name)).map(str::to_owned);
        let names: Vec<String> = names.collect();
        let Some(table) = &self.table else {
            return Ok((SliceKey::Columns { names, is_sure: false }, Vec::new()));
        };
        let is_rowid = |alias: &String| names.len() == 1 && is_same_name(&names[0], alias);
        if let (Some(rowid), Some(_)) =
            (&table.rowid, table.rowid_alias.as_ref().filter(|alias| is_rowid(alias)))
        {
            return Ok((SliceKey::Rowid(rowid.clone()), Vec::new()));
        }
        let is_sure = table.is_without_rowid && table.primary_key() == names;
        Ok((SliceKey::Columns { names, is_sure }, Vec::new()))
    }

    /// The columns that somebody looks at, and those that name a record.
    fn wanted(&self, store: &StoreName, request: &ReadRequest, key: &[String]) -> Result<Vec<SourceColumn>> {
        let is_wanted = |name: &str| {
            request.whole
                || request.wanted.as_ref().is_none_or(|wanted| wanted.contains(name))
                || request.columns.contains_key(name)
                || key.iter().any(|key| key == name)
        };
        let any = self.columns.iter().any(|(name, _)| is_wanted(name));
        let read = self.columns.iter().enumerate();
        // The number of rows is known from any column.
        let read = read.filter(|(at, (name, _))| if any { is_wanted(name) } else { *at == 0 });
        read.map(|(_, (name, declared))| {
            let word = request.columns.iter().find(|(key, _)| self.own_name(key) == Some(name.as_str()));
            let reading = match word {
                None => Reading::natural(declared),
                Some((_, word)) => Reading::declared(word).ok_or_else(|| {
                    let context = format!(
                        "`columns` declares `{name}` as {word}, which SQLite's values are not read as"
                    );
                    let error = StoreError::new(StoreErrorKind::Unsupported, store, context);
                    error.with_hint(format!(
                        "the types are {WORDS}; the nearest is {}",
                        nearest(word, WORDS.split(", "))
                    ))
                })?,
            };
            let is_declared = word.is_some();
            Ok(SourceColumn { name: name.clone(), declared: declared.clone(), reading, is_declared })
        })
        .collect()
    }
}

fn columns_of(statement: &Statement<'_>) -> Vec<(String, String)> {
    let declared = |column: &rusqlite::Column<'_>| column.decl_type().unwrap_or_default().to_owned();
    statement.columns().iter().map(|column| (column.name().to_owned(), declared(column))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_of_rows_is_sane_for_any_rowids() {
        assert_eq!(bound(1, 1_000_000, 1 << 30), 1_000_000);
        assert_eq!(bound(5, 5, 1 << 30), 1);
        assert_eq!(bound(i64::MIN, i64::MAX, 8_000), 1_000);
    }
}
