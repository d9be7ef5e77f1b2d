//! What a database is made of, for a copy of all of it: the tables of the schema that names without one mean.

use super::layout;
use crate::client::Lease;
use crate::error::from_driver;
use crate::template::identifier;
use std::collections::BTreeMap;
use tokio_postgres::Row;
use whimbrel_model::StoreName;
use whimbrel_model::decimal::Decimal;
use whimbrel_store::structure::{
    ColumnStructure, Counter, DefaultValue, ForeignKeyStructure, IndexStructure, ReferenceAction, Structure,
    TableStructure,
};
use whimbrel_store::{ReadRequest, Relation, Result};

/// Tables that hold rows themselves, and those that are made of parts.
const TABLES: &str = "SELECT c.oid, c.relname::text, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' \
    ORDER BY c.relname";

/// What is left out: a sentence each, and whether it names tables.
const LEFT_OUT: &str = "SELECT k = 2, CASE k WHEN 1 THEN 'views' WHEN 2 THEN 'tables of other schemas' WHEN 3 THEN 'triggers' ELSE 'CHECK constraints' END \
    || ' are left out: ' || string_agg(name, ', ' ORDER BY name) FROM (\
    SELECT 1 AS k, c.relname::text AS name FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = current_schema() AND c.relkind IN ('v', 'm') \
    UNION ALL SELECT 2, n.nspname || '.' || c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname <> current_schema() AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'whimbrel') \
        AND n.nspname NOT LIKE 'pg\\_t%' AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
    UNION ALL SELECT 3, t.tgname || ' of ' || c.relname FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND NOT t.tgisinternal \
    UNION ALL SELECT 4, o.conname || ' of ' || c.relname FROM pg_catalog.pg_constraint o JOIN pg_catalog.pg_class c ON c.oid = o.conrelid \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND o.contype IN ('c', 'x')) q \
    GROUP BY k ORDER BY k";

/// Columns as the database fills them.
const COLUMNS: &str = "SELECT a.attname::text, a.attnotnull, pg_catalog.pg_get_expr(d.adbin, d.adrelid), \
    coalesce(pg_catalog.to_jsonb(a) ->> 'attgenerated', '') <> '', pg_catalog.to_jsonb(a) ->> 'attidentity' IN ('a', 'd') \
        OR pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%', \
    pg_catalog.pg_sequence_last_value(pg_catalog.pg_get_serial_sequence($2, a.attname)::regclass) \
    FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Keys, with the table that a foreign one refers to where that is one of the same schema.
const KEYS: &str = "SELECT o.contype::text, o.conname::text, \
    ARRAY(SELECT a.attname::text FROM unnest(o.conkey) WITH ORDINALITY k(n, i) JOIN pg_catalog.pg_attribute a \
        ON a.attrelid = o.conrelid AND a.attnum = k.n ORDER BY k.i), \
    p.relname::text, p.relnamespace = c.relnamespace, \
    ARRAY(SELECT a.attname::text FROM unnest(o.confkey) WITH ORDINALITY k(n, i) JOIN pg_catalog.pg_attribute a \
        ON a.attrelid = o.confrelid AND a.attnum = k.n ORDER BY k.i), \
    o.confdeltype::text, o.confupdtype::text, o.condeferred \
    FROM pg_catalog.pg_constraint o JOIN pg_catalog.pg_class c ON c.oid = o.conrelid \
    LEFT JOIN pg_catalog.pg_class p ON p.oid = o.confrelid \
    WHERE o.conrelid = $1 AND o.contype IN ('p', 'u', 'f') ORDER BY o.contype, o.conname";

/// Indexes that no constraint has made; of one over an expression or over some records the columns are NULL.
const INDEXES: &str = "SELECT c.relname::text, i.indisunique, CASE WHEN i.indexprs IS NULL AND i.indpred IS NULL AND m.amname = 'btree' THEN \
    ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY k(n, i) JOIN pg_catalog.pg_attribute a \
        ON a.attrelid = $1 AND a.attnum = k.n ORDER BY k.i) END, \
    ARRAY(SELECT (o.o & 1) = 1 FROM unnest(i.indoption) WITH ORDINALITY o(o, i) ORDER BY o.i) \
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam \
    WHERE i.indrelid = $1 AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint o WHERE o.conindid = i.indexrelid) ORDER BY c.relname";

/// Reads the structure of all tables.
pub(crate) async fn structure(store: &StoreName, lease: &Lease) -> Result<Structure> {
    let found = Found { store, lease };
    let [notes, others] = found.left_out().await?;
    let mut structure = Structure { notes, others, ..Structure::default() };
    let failed = |error| from_driver(store, "cannot read what the database is made of", error);
    for row in lease.client().query(TABLES, &[]).await.map_err(failed)? {
        let (oid, name): (u32, String) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let full: String = row.try_get(2).map_err(failed)?;
        let table = found.table(oid, name, &full, &mut structure.notes).await?;
        structure.tables.push(table);
    }
    Ok(structure)
}

struct Found<'a> {
    store: &'a StoreName,
    lease: &'a Lease,
}

impl Found<'_> {
    fn failed(&self, error: tokio_postgres::Error) -> whimbrel_store::StoreError {
        from_driver(self.store, "cannot read what the database is made of", error)
    }

    /// What is left out of the tables that are there, and those that are left out themselves.
    async fn left_out(&self) -> Result<[Vec<String>; 2]> {
        let rows = self.lease.client().query(LEFT_OUT, &[]).await.map_err(|error| self.failed(error))?;
        let mut sentences: [Vec<String>; 2] = Default::default();
        for row in &rows {
            let names_tables: bool = row.try_get(0).map_err(|error| self.failed(error))?;
            sentences[usize::from(names_tables)].push(row.try_get(1).map_err(|error| self.failed(error))?);
        }
        Ok(sentences)
    }

    async fn table(
        &self,
        oid: u32,
        name: String,
        full: &str,
        notes: &mut Vec<String>,
    ) -> Result<TableStructure> {
        let request = ReadRequest {
            relation: Relation::Table(identifier(&name)),
            slice_by: Vec::new(),
            columns: BTreeMap::new(),
            parameters: BTreeMap::new(),
            wanted: None,
            condition: None,
            wants_all: true,
            whole: false,
            batch_records: 1,
            batch_bytes: 1,
        };
        let layout = layout(self.store, self.lease, &request).await?;
        let client = self.lease.client();
        let rows = client.query(COLUMNS, &[&oid, &full]).await.map_err(|error| self.failed(error))?;
        let mut columns = Vec::with_capacity(rows.len());
        for row in &rows {
            let filled = self.filled(row).map_err(|error| self.failed(error))?;
            let Ok(field) = layout.schema.field_with_name(&filled.name) else { continue };
            let shown = format!("`{}` of `{name}`", filled.name);
            if filled.is_generated {
                notes.push(format!("{shown} is generated: its values are copied, not how they are made"));
            }
            let expression = filled.default.filter(|_| !filled.is_generated && filled.counter.is_none());
            let default = expression.as_deref().and_then(default_value);
            if let (Some(sql), None) = (&expression, &default)
                && !sql.starts_with("NULL")
            {
                notes.push(format!("the default of {shown} is left out: it is an expression"));
            }
            columns.push(ColumnStructure {
                field: field.clone(),
                declared: None,
                is_not_null: filled.is_not_null,
                is_generated: filled.is_generated,
                default,
                counter: filled.counter,
            });
        }
        let mut table = TableStructure { name, columns, ..TableStructure::default() };
        let keys = client.query(KEYS, &[&oid]).await.map_err(|error| self.failed(error))?;
        for row in &keys {
            key(&mut table, row, notes).map_err(|error| self.failed(error))?;
        }
        for row in &client.query(INDEXES, &[&oid]).await.map_err(|error| self.failed(error))? {
            index(&mut table, row, notes).map_err(|error| self.failed(error))?;
        }
        Ok(table)
    }

    fn filled(&self, row: &Row) -> std::result::Result<Filled, tokio_postgres::Error> {
        let is_counted: Option<bool> = row.try_get(4)?;
        let last: Option<i64> = row.try_get(5)?;
        let counter = Counter { next: last.and_then(|last| last.checked_add(1)) };
        Ok(Filled {
            name: row.try_get(0)?,
            is_not_null: row.try_get(1)?,
            default: row.try_get(2)?,
            is_generated: row.try_get(3)?,
            counter: is_counted.unwrap_or(false).then_some(counter),
        })
    }
}

/// What fills a column.
struct Filled {
    name: String,
    is_not_null: bool,
    default: Option<String>,
    is_generated: bool,
    counter: Option<Counter>,
}

fn key(
    table: &mut TableStructure,
    row: &Row,
    notes: &mut Vec<String>,
) -> std::result::Result<(), tokio_postgres::Error> {
    let (kind, name): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let columns: Vec<String> = row.try_get(2)?;
    match kind.as_str() {
        "p" => table.primary_key = columns,
        "u" => table.unique.push(columns),
        _ => {
            let (Some(parent), Some(true)) =
                (row.try_get::<_, Option<String>>(3)?, row.try_get::<_, Option<bool>>(4)?)
            else {
                let why = "it refers to another schema";
                notes.push(format!("the foreign key {name} of `{}` is left out: {why}", table.name));
                return Ok(());
            };
            table.foreign_keys.push(ForeignKeyStructure {
                columns,
                parent,
                parent_columns: row.try_get(5)?,
                on_delete: action(&row.try_get::<_, String>(6)?),
                on_update: action(&row.try_get::<_, String>(7)?),
                is_deferred: row.try_get(8)?,
            });
        }
    }
    Ok(())
}

fn index(
    table: &mut TableStructure,
    row: &Row,
    notes: &mut Vec<String>,
) -> std::result::Result<(), tokio_postgres::Error> {
    let (name, is_unique): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
    let Some(columns) = row.try_get::<_, Option<Vec<String>>>(2)? else {
        let why = "it is over expressions or some records only, or of another kind than btree";
        notes.push(format!("index {name} of `{}` is left out: {why}", table.name));
        return Ok(());
    };
    let descends: Vec<bool> = row.try_get(3)?;
    let columns = columns.into_iter().zip(descends.into_iter().chain(std::iter::repeat(false))).collect();
    table.indexes.push(IndexStructure { name, is_unique, columns });
    Ok(())
}

fn action(letter: &str) -> ReferenceAction {
    match letter {
        "r" => ReferenceAction::Restrict,
        "c" => ReferenceAction::Cascade,
        "n" => ReferenceAction::SetNull,
        "d" => ReferenceAction::SetDefault,
        _ => ReferenceAction::NoAction,
    }
}

/// A default as the server writes it; `None`: an expression that is not understood.
fn default_value(sql: &str) -> Option<DefaultValue> {
    // What stands behind the last `::` is the name of a type, unless it stands in a text.
    let plain = match sql.rsplit_once("::") {
        Some((value, type_name)) if !type_name.contains('\'') => value,
        _ => sql,
    };
    let plain = plain.trim_start_matches('(').trim_end_matches(')');
    if let Some(text) = plain.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        let text = text.replace("''", "\u{0}");
        let is_number = sql.contains("::numeric") || sql.contains("::integer") || sql.contains("::bigint");
        return match text.contains('\'') {
            true => None,
            false if is_number => Some(DefaultValue::Number(text)),
            false => Some(DefaultValue::Text(text.replace('\u{0}', "'"))),
        };
    }
    if Decimal::parse(plain).is_some() {
        return Some(DefaultValue::Number(plain.to_owned()));
    }
    Some(match sql {
        "true" => DefaultValue::Boolean(true),
        "false" => DefaultValue::Boolean(false),
        "now()" | "CURRENT_TIMESTAMP" => DefaultValue::Now,
        "CURRENT_DATE" => DefaultValue::Today,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_understood_and_expressions_are_not() {
        for (sql, wanted) in [
            ("'it''s'::text", Some(DefaultValue::Text("it's".to_owned()))),
            ("'a::b'::character varying", Some(DefaultValue::Text("a::b".to_owned()))),
            ("'-5'::integer", Some(DefaultValue::Number("-5".to_owned()))),
            ("(-5)", Some(DefaultValue::Number("-5".to_owned()))),
            ("0.10", Some(DefaultValue::Number("0.10".to_owned()))),
            ("true", Some(DefaultValue::Boolean(true))),
            ("now()", Some(DefaultValue::Now)),
            ("CURRENT_DATE", Some(DefaultValue::Today)),
            ("lower('X'::text)", None),
            ("('a'::text || 'b'::text)", None),
            ("gen_random_uuid()", None),
        ] {
            assert_eq!(default_value(sql), wanted, "{sql}");
        }
    }
}
