//! A table by the name that the spec gives it.

use super::{Found, KeyColumn, Layout, only_wanted, read_as, schema};
use crate::client::Lease;
use crate::error::from_driver;
use crate::sql::{Relation, Ties};
use crate::template::identifier;
use tokio_postgres::types::Type;
use whimbrel_model::StoreName;
use whimbrel_store::{ReadRequest, Result, StoreError, StoreErrorKind};

pub(super) const NO_KEY: &str = "no primary key and no unique key without NULL: one slice, restarted whole";
/// How many tables an error lists.
const LISTED: usize = 8;

/// What a name stands for.
pub(crate) struct Resolved {
    pub(crate) oid: u32,
    /// Its name without its schema.
    pub(crate) name: String,
    /// Schema and name, quoted.
    pub(crate) sql: String,
    pub(crate) kind: char,
    has_children: bool,
    is_row_secured: bool,
}

impl Resolved {
    /// Whether other tables are read with it that are no partitions of it.
    fn inherits_to_others(&self) -> bool {
        self.kind == 'r' && self.has_children
    }
}

pub(super) async fn layout(
    store: &StoreName,
    lease: &Lease,
    name: &str,
    request: &ReadRequest,
) -> Result<Layout> {
    let table = resolve(store, lease, name).await?;
    let (found, key) =
        futures::try_join!(table_columns(store, lease, &table, request), key(store, lease, &table))?;
    let columns = read_as::columns(store, lease, &format!("table {}", table.sql), found, request).await?;
    let columns = only_wanted(columns, request, &key);
    let key_column = |name: &String| {
        let at = columns.iter().position(|column| column.name == *name)?;
        KeyColumn::new(&columns, at, identifier(name))
    };
    let slice_key: Vec<_> = key.iter().filter_map(key_column).collect();
    let mut notes = Vec::new();
    if key.is_empty() {
        notes.push(NO_KEY.to_owned());
    }
    if table.is_row_secured {
        notes.push(format!(
            "row-level security: only the rows of {} that this role may see are read",
            table.sql
        ));
    }
    if table.kind == 'f' {
        notes.push(format!(
            "{} is a foreign table: its rows are not part of this database's snapshot",
            table.sql
        ));
    }
    let has_ctid = matches!(table.kind, 'r' | 'p' | 'm');
    let is_unique = !table.inherits_to_others();
    Ok(Layout {
        relation: Relation::Table { sql: table.sql, ties: if has_ctid { Ties::Ctid } else { Ties::Record } },
        schema: schema(&columns),
        columns,
        key,
        slice_key,
        // A key holds for a table itself, not for tables that inherit from it and are read with it.
        is_unique,
        can_sample: has_ctid,
        filter: None,
        notes,
    })
}

/// The ways in which a name can be meant, best first: the whole text as one identifier, then schema and name
/// around each dot; as written, then as PostgreSQL folds it.
pub(crate) fn candidates(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for text in [name.to_owned(), name.to_lowercase()] {
        found.push(identifier(&text));
        for (dot, _) in text.match_indices('.') {
            let part = |part: &str| match part.strip_prefix('"').and_then(|part| part.strip_suffix('"')) {
                Some(quoted) => identifier(&quoted.replace("\"\"", "\"")),
                None => identifier(part),
            };
            found.push(format!("{}.{}", part(&text[..dot]), part(&text[dot + 1..])));
        }
        if let Some(quoted) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            found.push(identifier(&quoted.replace("\"\"", "\"")));
        }
    }
    // An empty identifier is a syntax error to the server.
    found.retain(|candidate| !candidate.starts_with("\"\"") && !candidate.ends_with(".\"\""));
    found
}

pub(crate) async fn resolve(store: &StoreName, lease: &Lease, name: &str) -> Result<Resolved> {
    if name.is_empty() || name.contains('\0') {
        let context = "a table's name is empty or holds the character U+0000";
        return Err(StoreError::new(StoreErrorKind::NotFound, store, context));
    }
    let failed = |error| from_driver(store, format!("cannot look for the table `{name}`"), error);
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relhassubclass, \
         row_security_active(c.oid) \
         FROM unnest($1::text[]) WITH ORDINALITY AS t(name, n) JOIN pg_catalog.pg_class c ON c.oid = to_regclass(t.name) \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace ORDER BY t.n LIMIT 1";
    let names = candidates(name);
    let rows = lease.client().query_typed(sql, &[(&names, Type::TEXT_ARRAY)]).await.map_err(failed)?;
    let Some(row) = rows.first() else { return Err(not_found(store, lease, name).await) };
    let schema: String = row.try_get(1).map_err(failed)?;
    let table: String = row.try_get(2).map_err(failed)?;
    let kind: String = row.try_get(3).map_err(failed)?;
    let resolved = Resolved {
        oid: row.try_get(0).map_err(failed)?,
        sql: format!("{}.{}", identifier(&schema), identifier(&table)),
        name: table,
        kind: kind.chars().next().unwrap_or('?'),
        has_children: row.try_get(4).map_err(failed)?,
        is_row_secured: row.try_get(5).map_err(failed)?,
    };
    if !matches!(resolved.kind, 'r' | 'p' | 'v' | 'm' | 'f') {
        let context = format!("`{name}` is no table and no view");
        return Err(StoreError::new(StoreErrorKind::Mismatch, store, context));
    }
    Ok(resolved)
}

/// The tables that there are, those with a similar name first.
async fn not_found(store: &StoreName, lease: &Lease, name: &str) -> StoreError {
    let error = StoreError::new(StoreErrorKind::NotFound, store, format!("there is no table `{name}`"));
    let sql = "SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END::text \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition \
         AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%' \
         AND n.nspname NOT LIKE 'pg\\_temp%' LIMIT 10000";
    let rows = match lease.client().query_typed(sql, &[]).await {
        Ok(rows) => rows,
        Err(_) => return error,
    };
    let mut tables: Vec<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    if tables.is_empty() {
        let database = &lease.server().database;
        return error.with_hint(format!("the database `{database}` has no tables; is it the right one?"));
    }
    let wanted = name.to_lowercase();
    tables.sort_by_cached_key(|table| {
        (strsim::damerau_levenshtein(&wanted, &table.to_lowercase()), table.clone())
    });
    let more =
        if tables.len() > LISTED { format!(" and {} more", tables.len() - LISTED) } else { String::new() };
    tables.truncate(LISTED);
    error.with_hint(format!("there are {}{more}", tables.join(", ")))
}

async fn table_columns(
    store: &StoreName,
    lease: &Lease,
    table: &Resolved,
    request: &ReadRequest,
) -> Result<Vec<Found>> {
    let failed = |error| from_driver(store, format!("cannot read the columns of {}", table.sql), error);
    // Since PostgreSQL 18 a column is marked as not NULL also where that was never checked.
    let sql = "SELECT attname::text, atttypid, atttypmod, attnotnull AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint c \
         WHERE c.conrelid = attrelid AND c.contype = 'n' AND c.conkey[1] = attnum AND NOT c.convalidated), \
         has_column_privilege(attrelid, attnum, 'SELECT'), attndims::int2 \
         FROM pg_catalog.pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    let rows = lease.client().query_typed(sql, &[(&table.oid, Type::OID)]).await.map_err(failed)?;
    let mut found = Vec::with_capacity(rows.len());
    let mut forbidden = Vec::new();
    for row in rows {
        let name: String = row.try_get(0).map_err(failed)?;
        let is_wanted = request.wanted.as_ref().is_none_or(|wanted| wanted.contains(&name));
        let is_allowed: bool = row.try_get(4).map_err(failed)?;
        if is_wanted && !is_allowed {
            forbidden.push(name.clone());
        }
        if request.whole && !is_wanted && !is_allowed {
            // A reject is as whole as the role may see it.
            continue;
        }
        let is_not_null: bool = row.try_get(3).map_err(failed)?;
        found.push(Found {
            name,
            oid: row.try_get(1).map_err(failed)?,
            modifier: row.try_get(2).map_err(failed)?,
            dimensions: row.try_get(5).map_err(failed)?,
            // What holds for a table need not hold for the tables that inherit from it and are read with it;
            // what is said of a foreign table nobody enforces.
            holds_null: !is_not_null || table.inherits_to_others() || table.kind == 'f',
        });
    }
    if forbidden.is_empty() {
        return Ok(found);
    }
    Err(may_not_read(store, lease, table, &found, &forbidden))
}

/// Names the columns that are in the way; those that are not are worth a query.
fn may_not_read(
    store: &StoreName,
    lease: &Lease,
    table: &Resolved,
    found: &[Found],
    forbidden: &[String],
) -> StoreError {
    let user = &lease.server().user;
    let grant = format!("GRANT SELECT ON {} TO {}", table.sql, identifier(user));
    if forbidden.len() == found.len() {
        let context = format!("the role `{user}` may not read the table {}", table.sql);
        return StoreError::new(StoreErrorKind::Forbidden, store, context).with_hint(grant);
    }
    let quoted: Vec<_> = forbidden.iter().map(|name| format!("`{name}`")).collect();
    let what = if quoted.len() == 1 { "column" } else { "columns" };
    let context = format!("the role `{user}` may not read the {what} {} of {}", quoted.join(", "), table.sql);
    let readable = found.iter().filter(|column| !forbidden.contains(&column.name));
    let readable: Vec<_> = readable.map(|column| identifier(&column.name)).take(LISTED).collect();
    StoreError::new(StoreErrorKind::Forbidden, store, context).with_hint(format!(
        "{grant}; or leave them out with a query: `SELECT {} FROM {}`",
        readable.join(", "),
        table.sql
    ))
}

/// The primary key; else the unique key without NULL that has the fewest columns.
async fn key(store: &StoreName, lease: &Lease, table: &Resolved) -> Result<Vec<String>> {
    let failed = |error| from_driver(store, format!("cannot read the keys of {}", table.sql), error);
    // Before PostgreSQL 11 an index had key columns only.
    let key_columns = if lease.server().version_number >= 110_000 { "i.indnkeyatts" } else { "i.indnatts" };
    // The columns of a materialised view can only be nullable. Records with NULL are a slice of their own.
    let takes_null = table.kind == 'm';
    let sql = format!(
        "SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:{key_columns} - 1]) WITH ORDINALITY AS k(number, place) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY k.place) \
         FROM pg_catalog.pg_index i WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate \
         AND i.indpred IS NULL AND i.indexprs IS NULL AND ({takes_null} OR NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey[0:{key_columns} - 1]) AND NOT a.attnotnull)) \
         ORDER BY i.indisprimary DESC, {key_columns}, i.indexrelid LIMIT 1"
    );
    let rows = lease.client().query_typed(&sql, &[(&table.oid, Type::OID)]).await.map_err(failed)?;
    rows.first().map_or_else(|| Ok(Vec::new()), |row| row.try_get(0).map_err(failed))
}

#[cfg(test)]
mod tests {
    use super::candidates;

    #[test]
    fn the_whole_text_comes_first() {
        assert_eq!(candidates("users")[0], "\"users\"");
        assert_eq!(candidates("a.b")[..2], ["\"a.b\"", "\"a\".\"b\""]);
        assert!(candidates("\"a.b\".\"c\"\"d\"").contains(&"\"a.b\".\"c\"\"d\"".to_owned()));
        assert!(candidates("Public.Users").contains(&"\"public\".\"users\"".to_owned()));
        assert!(candidates("\"Users\"").contains(&"\"Users\"".to_owned()));
        assert!(candidates("a.").iter().all(|candidate| !candidate.ends_with(".\"\"")));
    }
}
