//! What the database is made of, for a copy of all of it.

use super::notes::{About, Notes};
use super::{Column, Kind, Table, find, names};
use crate::error::from_driver;
use crate::sql::{identifier, is_same_name};
use crate::types::{Builder, Reading, moment};
use arrow::datatypes::{DataType, TimeUnit};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _};
use whimbrel_model::StoreName;
use whimbrel_store::Result;
use whimbrel_store::structure::{
    ColumnStructure, Counter, DefaultValue, ForeignKeyStructure, IndexStructure, ReferenceAction, Structure,
    TableStructure,
};

/// How many values of a column are looked at, where its declared type leaves open what they are.
const LOOKED_AT: usize = 20_000;

/// Reads the structure of all tables.
pub(crate) fn structure(store: &StoreName, connection: &Connection) -> Result<Structure> {
    let mut found = Found { connection, structure: Structure::default(), notes: Notes::default() };
    let failed = |error| from_driver(store, "cannot read what the database is made of", error);
    let shadows = shadows(connection).map_err(failed)?;
    let mut tables = Vec::new();
    for name in names(store, connection)? {
        match find(store, connection, &name)? {
            Some(table) if table.kind == Kind::Table && !shadows.contains(&table.name) => tables.push(table),
            Some(table) if table.kind != Kind::Table => {
                let about = if table.kind == Kind::View { About::View } else { About::Virtual };
                found.notes.group(about, table.quoted());
            }
            _ => {}
        }
    }
    for table in &tables {
        let read = found.table(table, &tables).map_err(failed)?;
        found.structure.tables.push(read);
    }
    found.spread_text();
    found.structure.notes = found.notes.into_sentences();
    Ok(found.structure)
}

/// Tables in which virtual tables keep what they hold.
fn shadows(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name FROM pragma_table_list WHERE type = 'shadow' AND schema = 'main'";
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

struct Found<'a> {
    connection: &'a Connection,
    structure: Structure,
    notes: Notes,
}

impl Found<'_> {
    fn note(&mut self, note: String) {
        self.notes.add(note);
    }

    fn table(&mut self, table: &Table, all: &[Table]) -> rusqlite::Result<TableStructure> {
        let defaults = self.defaults(table)?;
        let mut columns = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            let default = defaults.iter().find(|(name, _)| *name == column.name);
            columns.push(self.column(table, column, default.map(|(_, sql)| sql.as_str()))?);
        }
        let (mut unique, indexes) = self.indexes(table)?;
        let mut primary_key = table.primary_key().to_vec();
        if self.holds_null(table, &primary_key)? {
            let names = primary_key.join(", ");
            self.note(format!(
                "the primary key ({names}) of {} holds NULL: it is only unique",
                table.quoted()
            ));
            unique.push(std::mem::take(&mut primary_key));
        }
        if has_check(&table.sql) {
            self.notes.group(About::Checks, table.quoted());
        }
        if !table.triggers.is_empty() {
            let triggers = format!("{} ({})", table.quoted(), table.triggers.join(", "));
            self.notes.group(About::Triggers, triggers);
        }
        Ok(TableStructure {
            name: table.name.clone(),
            columns,
            primary_key,
            unique,
            indexes,
            foreign_keys: self.foreign_keys(table, all)?,
        })
    }

    fn column(
        &mut self,
        table: &Table,
        column: &Column,
        default: Option<&str>,
    ) -> rusqlite::Result<ColumnStructure> {
        let reading = Reading::natural(&column.declared);
        let mut field = reading.field(&column.name, &column.declared);
        let shown = format!("{}.{}", table.quoted(), identifier(&column.name));
        let mut declared = None;
        if let Some(Moments { are_days, have_zones }) = self.moments(table, column)? {
            let word = if are_days { Reading::Date } else { Reading::Timestamp };
            declared = Some(word.word().to_owned());
            field = word.field(&column.name, &column.declared);
            if !are_days && !have_zones {
                field = field.with_data_type(DataType::Timestamp(TimeUnit::Microsecond, None));
            }
        }
        if reading == Reading::Integer && is_made_up(&column.declared) && self.holds_others(table, column)? {
            self.notes.group(About::NotIntegers, format!("{shown} ({})", column.declared));
            declared = Some(Reading::Text.word().to_owned());
            field = Reading::Text.field(&column.name, &column.declared);
        }
        if column.is_generated {
            self.notes.group(About::Generated, shown.clone());
        }
        let is_counted = table.rowid_alias.as_ref() == Some(&column.name);
        let next = if is_counted { self.next(table)? } else { None };
        let default = match default.filter(|_| !column.is_generated).map(default_value) {
            Some(Some(default)) => default,
            Some(None) => {
                self.note(format!("the default of {shown} is left out: it is an expression"));
                None
            }
            None => None,
        };
        Ok(ColumnStructure {
            field,
            declared,
            // A table's key may be NULL in SQLite, unless it is the rowid or there is none.
            is_not_null: column.is_not_null
                || is_counted
                || (table.is_without_rowid && table.primary_key().contains(&column.name)),
            is_generated: column.is_generated,
            default,
            counter: is_counted.then_some(Counter { next }),
        })
    }

    /// Whether a primary key holds NULL, which SQLite allows where it is neither the rowid nor instead of it.
    fn holds_null(&self, table: &Table, key: &[String]) -> rusqlite::Result<bool> {
        if key.is_empty() || table.rowid_alias.is_some() || table.is_without_rowid {
            return Ok(false);
        }
        let any: Vec<_> = key.iter().map(|name| format!("{} IS NULL", identifier(name))).collect();
        self.exists(&format!("SELECT 1 FROM {} WHERE {}", table.quoted(), any.join(" OR ")))
    }

    /// Whether a column holds anything but integers.
    fn holds_others(&self, table: &Table, column: &Column) -> rusqlite::Result<bool> {
        let name = identifier(&column.name);
        self.exists(&format!(
            "SELECT 1 FROM {} WHERE typeof({name}) NOT IN ('integer', 'null')",
            table.quoted()
        ))
    }

    fn exists(&self, sql: &str) -> rusqlite::Result<bool> {
        let found = self.connection.query_row(&format!("{sql} LIMIT 1"), [], |_| Ok(()));
        Ok(found.optional()?.is_some())
    }

    /// Columns that refer to text, and those that text refers to, are text, too: values of other types could not be
    /// compared elsewhere.
    fn spread_text(&mut self) {
        loop {
            let tables = &self.structure.tables;
            let is_text = |table: &str, name: &str| {
                let table = tables.iter().find(|other| other.name == table);
                let column = table.and_then(|table| table.column(name));
                column.map(|column| {
                    (column.declared.as_deref() == Some("text"), column.field.data_type().clone())
                })
            };
            let ends = tables.iter().flat_map(|table| {
                table.foreign_keys.iter().flat_map(|key| {
                    let pairs = key.columns.iter().zip(&key.parent_columns);
                    pairs.map(|(own, other)| ((table.name.clone(), own), (key.parent.clone(), other)))
                })
            });
            let mut uneven = ends.filter_map(|((table, own), (parent, other))| {
                match (is_text(&table, own)?, is_text(&parent, other)?) {
                    ((true, _), (_, DataType::Int64)) => Some((parent, other.clone())),
                    ((_, DataType::Int64), (true, _)) => Some((table, own.clone())),
                    _ => None,
                }
            });
            let Some((table, name)) = uneven.next() else { return };
            drop(uneven);
            let shown = format!("{}.{}", identifier(&table), identifier(&name));
            self.notes.group(About::ComparedWithText, shown);
            let tables = self.structure.tables.iter_mut().filter(|other| other.name == table);
            for column in
                tables.flat_map(|table| &mut table.columns).filter(|column| *column.field.name() == name)
            {
                column.field = column.field.clone().with_data_type(DataType::Utf8);
                column.declared = Some("text".to_owned());
                column.counter = None;
            }
        }
    }

    /// The number behind the one that was given last, where the table remembers it.
    fn next(&self, table: &Table) -> rusqlite::Result<Option<i64>> {
        let keeps = self.connection.query_row(
            "SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'",
            [],
            |_| Ok(()),
        );
        if keeps.optional()?.is_none() {
            return Ok(None);
        }
        let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?1 AND typeof(seq) = 'integer'";
        let last = self.connection.query_row(sql, [&table.name], |row| row.get::<_, i64>(0)).optional()?;
        Ok(last.and_then(|last| last.checked_add(1)).filter(|next| *next > 1))
    }

    /// What a column's values are, where it declares dates or times and all that is looked at are some.
    fn moments(&mut self, table: &Table, column: &Column) -> rusqlite::Result<Option<Moments>> {
        let upper = column.declared.to_ascii_uppercase();
        let word = upper.split(['(', ' ']).next().unwrap_or_default();
        let are_days = match word {
            "DATE" => true,
            "DATETIME" | "TIMESTAMP" | "TIMESTAMPTZ" | "DATETIMEOFFSET" | "DATETIME2" | "SMALLDATETIME" => {
                false
            }
            _ => return Ok(None),
        };
        let name = identifier(&column.name);
        let sql = format!("SELECT {name} FROM {} WHERE {name} IS NOT NULL LIMIT {LOOKED_AT}", table.quoted());
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        let mut days = Builder::new(Reading::Date, true, &column.declared);
        let mut instants = Builder::new(Reading::Timestamp, true, &column.declared);
        let mut moments = Moments { are_days, have_zones: word.ends_with("TZ") || word == "DATETIMEOFFSET" };
        while let Some(row) = rows.next()? {
            let value = row.get_ref(0)?;
            moments.are_days = moments.are_days && days.push(value).is_ok();
            if let Err(reason) = instants.push(value) {
                let shown = format!("{}.{name} ({})", table.quoted(), column.declared);
                self.note(format!("{shown} stays text: {reason}"));
                return Ok(None);
            }
            let zone = match value {
                ValueRef::Text(bytes) => {
                    std::str::from_utf8(bytes).ok().and_then(|text| moment::of_text(text).ok())
                }
                _ => None,
            };
            moments.have_zones |= zone.is_some_and(|(_, has_zone)| has_zone);
        }
        Ok(Some(moments))
    }

    /// What columns are where nothing is said, as the database has it.
    fn defaults(&self, table: &Table) -> rusqlite::Result<Vec<(String, String)>> {
        let sql = "SELECT name, dflt_value FROM pragma_table_xinfo(?1) WHERE dflt_value IS NOT NULL";
        let mut statement = self.connection.prepare(sql)?;
        statement.query_map([&table.name], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }

    /// Unique constraints without a name, and indexes.
    fn indexes(&mut self, table: &Table) -> rusqlite::Result<(Vec<Vec<String>>, Vec<IndexStructure>)> {
        let sql = "SELECT name, \"unique\", origin, partial FROM pragma_index_list(?1) ORDER BY seq DESC";
        let mut statement = self.connection.prepare(sql)?;
        let list = statement.query_map([&table.name], |row| {
            let origin: String = row.get(2)?;
            Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?, origin, row.get::<_, bool>(3)?))
        })?;
        let list = list.collect::<rusqlite::Result<Vec<_>>>()?;
        let (mut unique, mut indexes) = (Vec::new(), Vec::new());
        for (name, is_unique, origin, is_partial) in list.into_iter().filter(|index| index.2 != "pk") {
            let sql = "SELECT name, desc, coll FROM pragma_index_xinfo(?1) WHERE \"key\" ORDER BY seqno";
            let mut statement = self.connection.prepare(sql)?;
            let columns = statement.query_map([&name], |row| {
                Ok((row.get::<_, Option<String>>(0)?, row.get::<_, bool>(1)?, row.get::<_, String>(2)?))
            })?;
            let columns = columns.collect::<rusqlite::Result<Vec<_>>>()?;
            let folds = columns.iter().any(|(.., collation)| !collation.eq_ignore_ascii_case("BINARY"));
            let columns: Option<Vec<(String, bool)>> =
                columns.into_iter().map(|(column, descends, _)| Some((column?, descends))).collect();
            let shown = format!("{} of {}", identifier(&name), table.quoted());
            match columns {
                _ if is_partial => self.notes.group(About::PartialIndex, shown),
                None => self.notes.group(About::ExpressionIndex, shown),
                Some(columns) => {
                    if folds && is_unique {
                        self.note(format!(
                            "index {shown} is made by bytes: it told texts apart in another way"
                        ));
                    }
                    if origin == "u" {
                        unique.push(columns.into_iter().map(|(column, _)| column).collect());
                    } else {
                        indexes.push(IndexStructure { name, is_unique, columns });
                    }
                }
            }
        }
        Ok((unique, indexes))
    }

    fn foreign_keys(&mut self, table: &Table, all: &[Table]) -> rusqlite::Result<Vec<ForeignKeyStructure>> {
        let sql =
            "SELECT id, on_update, on_delete FROM pragma_foreign_key_list(?1) WHERE seq = 0 ORDER BY id";
        let mut statement = self.connection.prepare(sql)?;
        let actions = statement.query_map([&table.name], |row| Ok((row.get(1)?, row.get(2)?)))?;
        let actions = actions.collect::<rusqlite::Result<Vec<(String, String)>>>()?;
        let mut keys = Vec::new();
        for (key, (on_update, on_delete)) in table.foreign_keys.iter().zip(actions) {
            let shown = format!("({}) of {}", key.columns.join(", "), table.quoted());
            let Some(parent) = all.iter().find(|parent| is_same_name(&parent.name, &key.parent)) else {
                self.note(format!("the foreign key {shown} is left out: there is no table `{}`", key.parent));
                continue;
            };
            let wanted =
                if key.parent_columns.is_empty() { parent.primary_key() } else { &key.parent_columns };
            let own = |table: &Table, name: &String| table.column(name).map(|column| column.name.clone());
            let columns: Option<Vec<_>> = key.columns.iter().map(|name| own(table, name)).collect();
            let parents: Option<Vec<_>> = wanted.iter().map(|name| own(parent, name)).collect();
            match (columns, parents) {
                (Some(columns), Some(parent_columns)) if columns.len() == parent_columns.len() => {
                    keys.push(ForeignKeyStructure {
                        columns,
                        parent: parent.name.clone(),
                        parent_columns,
                        on_delete: action(&on_delete),
                        on_update: action(&on_update),
                        is_deferred: table.may_defer,
                    });
                }
                _ => self.note(format!(
                    "the foreign key {shown} is left out: {} has no such columns",
                    parent.quoted()
                )),
            }
        }
        Ok(keys)
    }
}

/// What a column that declares dates or times holds.
struct Moments {
    /// Days without a time.
    are_days: bool,
    /// Whether any says its distance from UTC.
    have_zones: bool,
}

/// Whether a type that SQLite takes for integers, since its name holds `INT`, is none that anybody else knows.
fn is_made_up(declared: &str) -> bool {
    const WORDS: [&str; 11] = [
        "INT",
        "INTEGER",
        "TINYINT",
        "SMALLINT",
        "MEDIUMINT",
        "BIGINT",
        "BIG",
        "INT2",
        "INT4",
        "INT8",
        "UNSIGNED",
    ];
    let upper = declared.to_ascii_uppercase();
    let name = upper.split('(').next().unwrap_or_default();
    !name.split_whitespace().all(|word| WORDS.contains(&word))
}

fn action(word: &str) -> ReferenceAction {
    match word {
        "RESTRICT" => ReferenceAction::Restrict,
        "CASCADE" => ReferenceAction::Cascade,
        "SET NULL" => ReferenceAction::SetNull,
        "SET DEFAULT" => ReferenceAction::SetDefault,
        _ => ReferenceAction::NoAction,
    }
}

/// A default as the database has it, which is SQL; `None`: an expression that is not understood, `Some(None)`: NULL.
fn default_value(sql: &str) -> Option<Option<DefaultValue>> {
    let mut sql = sql.trim();
    while let Some(inner) = sql.strip_prefix('(').and_then(|sql| sql.strip_suffix(')')) {
        sql = inner.trim();
    }
    let quoted = |quote: char| {
        let inner = sql.strip_prefix(quote)?.strip_suffix(quote)?;
        let plain = inner.replace(&format!("{quote}{quote}"), "\u{0}");
        (!plain.contains(quote)).then(|| plain.replace('\u{0}', &quote.to_string()))
    };
    if let Some(text) = quoted('\'').or_else(|| quoted('"')) {
        return Some(Some(DefaultValue::Text(text)));
    }
    let number = sql.strip_prefix('+').unwrap_or(sql);
    if whimbrel_model::decimal::Decimal::parse(number).is_some() {
        return Some(Some(DefaultValue::Number(number.to_owned())));
    }
    Some(Some(match sql.to_ascii_uppercase().as_str() {
        "NULL" => return Some(None),
        "TRUE" => DefaultValue::Boolean(true),
        "FALSE" => DefaultValue::Boolean(false),
        "CURRENT_TIMESTAMP" | "DATETIME('NOW')" => DefaultValue::Now,
        "CURRENT_DATE" | "DATE('NOW')" => DefaultValue::Today,
        "CURRENT_TIME" | "TIME('NOW')" => DefaultValue::TimeOfDay,
        _ => return None,
    }))
}

/// Whether the statement that made a table holds the word CHECK outside of quotes and comments.
fn has_check(sql: &str) -> bool {
    let mut plain = String::with_capacity(sql.len());
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '\'' | '"' | '`' => rest[1..].find(first).map(|at| at + 2),
            '[' => rest.find(']').map(|at| at + 1),
            '-' if rest.starts_with("--") => rest.find('\n'),
            '/' if rest.starts_with("/*") => rest.find("*/").map(|at| at + 2),
            other => {
                plain.push(other.to_ascii_uppercase());
                rest = &rest[other.len_utf8()..];
                continue;
            }
        };
        plain.push(' ');
        rest = end.map_or("", |end| &rest[end..]);
    }
    plain.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == "CHECK")
}
