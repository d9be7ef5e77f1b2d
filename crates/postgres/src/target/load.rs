//! What is taken off new tables before a load and done when all records are there: indexes, foreign keys,
//! sequences, statistics.

use super::catalog::{self, Table};
use super::langchain::VECTOR_INDEX;
use super::late_key::{self, PRIMARY_KEY};
use super::{Writing, route, step_extent, vector_index};
use crate::catalog::resolve;
use crate::client::{Connections, Lease, Purpose, ask};
use crate::error::from_driver;
use crate::ledger;
use crate::source::PostgresSource;
use crate::template::{identifier, literal};
use arrow::datatypes::Schema;
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use tokio_postgres::types::{ToSql, Type};
use whimbrel_model::{StoreName, record};
use whimbrel_store::{
    LoadStep, Meter, ReadBatch, ReadRequest, Relation, Removed, Result, RunContext, Source as _, StoreError,
    StoreErrorKind, WriteRequest,
};

/// How many rows are removed at a time.
const REMOVED_RECORDS: usize = 1_000;
const REMOVED_BYTES: usize = 4 << 20;

const INDEX: &str = "index";
const FOREIGN_KEY: &str = "foreign key";
const SEQUENCE: &str = "sequence";
const ANALYZE: &str = "analyze";

/// Indexes that keep nothing unique and that no constraint or partitioned index owns.
const INDEXES: &str = "\
SELECT c.relname::text, pg_catalog.pg_get_indexdef(i.indexrelid), format('%I.%I', n.nspname, c.relname) \
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
WHERE i.indrelid = $1 AND NOT i.indisunique AND NOT i.indisreplident \
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid) \
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid) ORDER BY 1";

const FOREIGN_KEYS: &str = "\
SELECT k.conname::text, pg_catalog.pg_get_constraintdef(k.oid), k.confrelid, \
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS c(number, place) \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = c.number ORDER BY c.place), \
  ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS c(number, place) \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = c.number ORDER BY c.place) \
FROM pg_catalog.pg_constraint k WHERE k.contype = 'f' AND k.conrelid = $1 AND k.conparentid = 0 ORDER BY 1";

const HAS_KEY: &str = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint \
    WHERE conrelid = $1 AND conname = $2::text::name AND contype = 'f')";

/// A table's name, schema and all, as PostgreSQL writes it where nothing is on the search path.
const NAME: &str = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1";

/// What is noted under the same number is of a table that is gone: numbers come again.
pub(super) const NOTE: &str = "INSERT INTO whimbrel.after_load (table_oid, place, kind, name, definition, columns, parent, parent_columns) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (table_oid, kind, name) DO UPDATE SET place = EXCLUDED.place, \
    definition = EXCLUDED.definition, columns = EXCLUDED.columns, parent = EXCLUDED.parent, \
    parent_columns = EXCLUDED.parent_columns, is_done = false";

fn failed(store: &StoreName, error: tokio_postgres::Error) -> StoreError {
    from_driver(store, "cannot see to what follows the load", error)
}

/// Takes secondary indexes and foreign keys off tables that have just been made, and notes them.
pub(super) async fn take_off(store: &StoreName, lease: &Lease, tables: &[u32]) -> Result<()> {
    let client = lease.client();
    let fail = |error| failed(store, error);
    // Definitions then name everything with its schema.
    client.batch_execute("SET LOCAL search_path TO pg_catalog").await.map_err(fail)?;
    for table in tables {
        take_off_foreign_keys(store, lease, *table).await?;
        let name = name(store, lease, *table).await?;
        let none = Vec::<String>::new();
        for row in client.query(INDEXES, &[table]).await.map_err(fail)? {
            let (index, definition, sql): (String, String, String) =
                (row.try_get(0).map_err(fail)?, row.try_get(1).map_err(fail)?, row.try_get(2).map_err(fail)?);
            client.batch_execute(&format!("DROP INDEX {sql}")).await.map_err(fail)?;
            client
                .execute(NOTE, &[table, &1_i32, &INDEX, &index, &definition, &none, &None::<u32>, &none])
                .await
                .map_err(fail)?;
        }
        let analyze = format!("ANALYZE {name}");
        client
            .execute(NOTE, &[table, &4_i32, &ANALYZE, &name, &analyze, &none, &None::<u32>, &none])
            .await
            .map_err(fail)?;
    }
    Ok(())
}

/// Takes the foreign keys off a table, and notes them.
pub(super) async fn take_off_foreign_keys(store: &StoreName, lease: &Lease, table: u32) -> Result<()> {
    let client = lease.client();
    let fail = |error| failed(store, error);
    // Definitions then name everything with its schema.
    client.batch_execute("SET LOCAL search_path TO pg_catalog").await.map_err(fail)?;
    let name = name(store, lease, table).await?;
    for row in client.query(FOREIGN_KEYS, &[&table]).await.map_err(fail)? {
        let (key, definition): (String, String) =
            (row.try_get(0).map_err(fail)?, row.try_get(1).map_err(fail)?);
        let parent: u32 = row.try_get(2).map_err(fail)?;
        let (columns, parents): (Vec<String>, Vec<String>) =
            (row.try_get(3).map_err(fail)?, row.try_get(4).map_err(fail)?);
        let drop = format!("ALTER TABLE {name} DROP CONSTRAINT {}", identifier(&key));
        client.batch_execute(&drop).await.map_err(|error| {
            from_driver(store, format!("cannot take the foreign key {key} off {name}"), error)
        })?;
        let definition = format!("ALTER TABLE {name} ADD CONSTRAINT {} {definition}", identifier(&key));
        client
            .execute(
                NOTE,
                &[&table, &2_i32, &FOREIGN_KEY, &key, &definition, &columns, &Some(parent), &parents],
            )
            .await
            .map_err(fail)?;
    }
    Ok(())
}

/// A table's name as PostgreSQL writes it where nothing is on the search path.
async fn name(store: &StoreName, lease: &Lease, table: u32) -> Result<String> {
    let row = lease.client().query_one(NAME, &[&table]).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| failed(store, error))
}

/// The tables that flows are written into: each by its name in the spec and its oid.
pub(super) async fn served(
    store: &StoreName,
    lease: &Lease,
    writing: &Writing,
) -> Result<Vec<(String, u32)>> {
    let names = writing.tables.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut served = Vec::with_capacity(names.len());
    for name in names {
        match resolve(store, lease, &name).await {
            Ok(table) => served.push((name, table.oid)),
            Err(error) if error.kind() == StoreErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(served)
}

async fn has_notes(store: &StoreName, lease: &Lease) -> Result<bool> {
    let sql = "SELECT to_regclass('whimbrel.after_load') IS NOT NULL";
    let found = ask(lease.client(), sql, &[]).await.map_err(|error| failed(store, error))?;
    Ok(found.unwrap_or(false))
}

/// What is still to be done for a table, and for tables that no flow is written into.
pub(super) async fn steps(
    store: &StoreName,
    lease: &Lease,
    writing: &Writing,
    table: &Table,
    written: Option<&Schema>,
) -> Result<Vec<LoadStep>> {
    let mut steps = Vec::new();
    let is_written = |name: &str| written.is_none_or(|schema| schema.field_with_name(name).is_ok());
    for (column, sequence) in table.sequences.iter().filter(|(column, _)| is_written(column)) {
        let name = format!("{SEQUENCE}:{}:{column}", table.oid);
        let value = literal(sequence).unwrap_or_default();
        // Behind the greatest number that was written; a sequence that is further on stays.
        let text = format!(
            "SELECT setval({value}, greatest) FROM (SELECT max({})::bigint AS greatest FROM {}) AS written \
             WHERE greatest >= (SELECT last_value FROM {sequence})",
            identifier(column),
            table.sql
        );
        steps.push((3, LoadStep { name, text }));
    }
    if has_notes(store, lease).await? {
        let others: Vec<u32> = served(store, lease, writing)
            .await?
            .into_iter()
            .map(|(_, oid)| oid)
            .filter(|oid| *oid != table.oid)
            .collect();
        let sql = "SELECT l.place, l.kind, l.table_oid, l.name, l.definition FROM whimbrel.after_load l \
             JOIN pg_catalog.pg_class c ON c.oid = l.table_oid \
             WHERE NOT l.is_done AND l.table_oid <> ALL($1) ORDER BY l.place, l.name";
        let rows = lease.client().query(sql, &[&others]).await.map_err(|error| failed(store, error))?;
        for row in rows {
            let step = (|| {
                let (place, kind, oid): (i32, String, u32) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                let (name, text): (String, String) = (row.try_get(3)?, row.try_get(4)?);
                Ok((place, LoadStep { name: format!("{kind}:{oid}:{name}"), text }))
            })();
            steps.push(step.map_err(|error| failed(store, error))?);
        }
    }
    steps.sort_by_key(|(place, _)| *place);
    Ok(steps.into_iter().map(|(_, step)| step).collect())
}

/// Whether a step looks at what the table holds, for the planner.
pub(super) fn is_statistics(step: &LoadStep) -> bool {
    step.name.starts_with(ANALYZE)
}

/// A step's name, taken apart: what is done, to which table, and the name of what.
fn parts<'a>(store: &StoreName, step: &'a LoadStep) -> Result<(&'a str, u32, &'a str)> {
    let mut parts = step.name.splitn(3, ':');
    let found = (|| Some((parts.next()?, parts.next()?.parse().ok()?, parts.next()?)))();
    found.ok_or_else(|| {
        let context = format!("`{}` is no step of this version of whimbrel", step.name);
        StoreError::new(StoreErrorKind::Mismatch, store, context)
    })
}

/// A foreign key that is not there yet.
struct Pending {
    table: u32,
    sql: String,
    parent: u32,
    parent_sql: String,
    columns: Vec<String>,
    parent_columns: Vec<String>,
    definition: String,
    name: String,
}

async fn pending(store: &StoreName, lease: &Lease) -> Result<Vec<Pending>> {
    let sql = "SELECT l.table_oid, format('%I.%I', n.nspname, c.relname), l.parent, format('%I.%I', m.nspname, p.relname), \
         l.columns, l.parent_columns, l.definition, l.name FROM whimbrel.after_load l \
         JOIN pg_catalog.pg_class c ON c.oid = l.table_oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_catalog.pg_class p ON p.oid = l.parent JOIN pg_catalog.pg_namespace m ON m.oid = p.relnamespace \
         WHERE l.kind = $1 AND NOT l.is_done";
    let rows = lease.client().query(sql, &[&FOREIGN_KEY]).await.map_err(|error| failed(store, error))?;
    let pending = |row: &tokio_postgres::Row| {
        Ok(Pending {
            table: row.try_get(0)?,
            sql: row.try_get(1)?,
            parent: row.try_get(2)?,
            parent_sql: row.try_get(3)?,
            columns: row.try_get(4)?,
            parent_columns: row.try_get(5)?,
            definition: row.try_get(6)?,
            name: row.try_get(7)?,
        })
    };
    rows.iter().map(pending).collect::<std::result::Result<_, _>>().map_err(|error| failed(store, error))
}

/// The condition that a row refers to nothing. A row that will itself be removed, by a foreign key that is not
/// there yet either, counts as removed already: then the order of the steps does not matter.
fn is_orphan(key: &Pending, all: &[Pending], alias: &str, above: &mut Vec<u32>) -> String {
    let parent_alias = format!("p{}", above.len());
    let columns = key.columns.iter().map(|name| format!("{alias}.{}", identifier(name)));
    let present: Vec<_> = columns.clone().map(|column| format!("{column} IS NOT NULL")).collect();
    let equal = columns.zip(&key.parent_columns);
    let equal: Vec<_> =
        equal.map(|(column, parent)| format!("{parent_alias}.{} = {column}", identifier(parent))).collect();
    above.push(key.table);
    let mut stays = equal.join(" AND ");
    for upper in all.iter().filter(|upper| upper.table == key.parent) {
        if above.contains(&upper.parent) {
            continue;
        }
        stays.push_str(&format!(" AND NOT ({})", is_orphan(upper, all, &parent_alias, above)));
    }
    above.pop();
    format!(
        "{} AND NOT EXISTS (SELECT 1 FROM {} {parent_alias} WHERE {stays})",
        present.join(" AND "),
        key.parent_sql
    )
}

/// The condition that a row must go for a foreign key; `c` is its alias.
fn must_go(key: &Pending, all: &[Pending]) -> String {
    let direct = is_orphan(key, all, "c", &mut Vec::new());
    if key.table != key.parent {
        return direct;
    }
    // In a table that refers to itself, what refers to a removed row goes too.
    let pairs = key.columns.iter().zip(&key.parent_columns);
    let refers: Vec<_> =
        pairs.map(|(child, parent)| format!("c.{} = q.{}", identifier(child), identifier(parent))).collect();
    format!(
        "c.ctid IN (WITH RECURSIVE gone(place) AS (SELECT c.ctid FROM {0} c WHERE {direct} \
         UNION SELECT c.ctid FROM {0} c JOIN {0} q ON {1} JOIN gone ON gone.place = q.ctid) SELECT place FROM gone)",
        key.sql,
        refers.join(" AND ")
    )
}

/// What finding removed rows needs.
pub(super) struct Looking<'a> {
    pub store: &'a StoreName,
    pub connections: &'a Arc<Connections>,
    pub request: &'a Arc<WriteRequest>,
    pub table: &'a Table,
    pub key: &'a [String],
    /// The columns that the flow writes, which fingerprints are of.
    pub written: &'a [String],
}

impl Looking<'_> {
    /// The rows that a step removes, whole.
    pub(super) async fn removed_by(
        &self,
        step: &LoadStep,
        context: &RunContext,
    ) -> Result<BoxStream<'static, Result<Removed>>> {
        let (kind, oid, name) = parts(self.store, step)?;
        if kind != FOREIGN_KEY {
            return Ok(futures::stream::empty().boxed());
        }
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let all = pending(self.store, &lease).await?;
        let table = catalog::read(self.store, &lease, &self.request.table).await?;
        lease.finish().await?;
        let Some(key) = all.iter().find(|key| key.table == oid && key.name == name) else {
            return Ok(futures::stream::empty().boxed());
        };
        // Where several flows are written into one table, the first that is asked answers for all of them.
        if oid != table.oid && oid != self.table.oid {
            return Ok(futures::stream::empty().boxed());
        }
        let columns: Vec<_> =
            table.columns.iter().map(|column| format!("c.{}", identifier(&column.name))).collect();
        let query = format!("SELECT {} FROM {} c WHERE {}", columns.join(", "), key.sql, must_go(key, &all));
        let reason = format!(
            "({}) refers to no row of {}: foreign key {}",
            key.columns.join(", "),
            key.parent_sql,
            key.name
        );
        let source = PostgresSource::new(self.store, self.connections, request(query));
        let schema = source.describe().await?.schema;
        let encoder = self.encoder(&table, &schema)?;
        let part = source.slices(1).await?.pop().ok_or_else(|| {
            StoreError::new(StoreErrorKind::Internal, self.store, "a query without a slice")
        })?;
        let batches = source.read(&part, None, context).await?;
        let (fingerprints, key) = (context.fingerprint_key.clone(), self.key.to_vec());
        let removed = move |batch: ReadBatch| {
            let rows = encoder.encode(&batch.records, &fingerprints);
            let removed = (0..batch.records.num_rows()).map(|row| {
                Ok(Removed {
                    key: record::key_to_json(&batch.records, row, &key),
                    record: record::to_json(&batch.records, row),
                    fingerprint: rows
                        .fingerprint(row)
                        .unwrap_or(whimbrel_model::Fingerprint { key: 0, record: 0 }),
                    reason: reason.clone(),
                })
            });
            futures::stream::iter(removed.collect::<Vec<_>>())
        };
        Ok(batches.map_ok(removed).try_flatten().boxed())
    }

    /// The fingerprints of rows that are read back, over the columns that the flow wrote.
    fn encoder(&self, table: &Table, schema: &Schema) -> Result<crate::encode::Encoder> {
        let all = route::columns(
            self.store,
            &WriteRequest { forms: BTreeMap::new(), ..(**self.request).clone() },
            table,
            &readable(table, schema),
        )?;
        let place = |name: &str| schema.index_of(name).ok();
        let written =
            all.into_iter().filter(|column| self.written.contains(&column.name)).filter_map(|column| {
                let at = place(&column.name)?;
                Some(crate::encode::Filled {
                    from: crate::encode::From::Column(at),
                    form: None,
                    is_not_null: false,
                    refuses_blanks: false,
                    ..column
                })
            });
        crate::encode::Encoder::new(written.collect(), self.key, [])
            .map_err(|reason| StoreError::new(StoreErrorKind::Internal, self.store, reason))
    }
}

/// The columns that are no generated ones, which nobody writes.
fn readable(table: &Table, schema: &Schema) -> Schema {
    let is_written = |name: &str| table.column(name).is_some_and(|column| !column.is_generated);
    Schema::new(schema.fields().iter().filter(|field| is_written(field.name())).cloned().collect::<Vec<_>>())
}

fn request(query: String) -> ReadRequest {
    ReadRequest {
        relation: Relation::Query(query),
        slice_by: Vec::new(),
        columns: BTreeMap::new(),
        parameters: BTreeMap::new(),
        wanted: None,
        condition: None,
        wants_all: false,
        whole: false,
        batch_records: REMOVED_RECORDS,
        batch_bytes: REMOVED_BYTES,
    }
}

/// Does a step in one transaction, notes that it is done, and tells the meter meanwhile how far it is.
pub(super) async fn apply(
    store: &StoreName,
    connections: &Connections,
    step: &LoadStep,
    meter: &Meter,
) -> Result<()> {
    let lease = connections.lease(Purpose::Write).await?;
    let pid = lease.server().backend_pid;
    let work = carry_out(store, lease, step, connections.are_many());
    step_extent::told(store, connections, pid, meter, work).await
}

/// `has_room`: whether the server is one that takes memory where it is told to.
async fn carry_out(store: &StoreName, lease: Lease, step: &LoadStep, has_room: bool) -> Result<()> {
    let (kind, oid, name) = parts(store, step)?;
    let doing = |error| from_driver(store, format!("cannot do what follows the load: {}", step.text), error);
    if kind == VECTOR_INDEX {
        vector_index::make(store, &lease, oid, &step.text).await?;
        return lease.finish().await;
    }
    if kind == SEQUENCE {
        lease.client().batch_execute(&step.text).await.map_err(doing)?;
        return lease.finish().await;
    }
    ledger::make(store, &lease).await?;
    if kind == PRIMARY_KEY {
        late_key::make(store, &lease, oid, has_room).await?;
        return lease.finish().await;
    }
    let sql = "SELECT definition FROM whimbrel.after_load WHERE table_oid = $1 AND kind = $2 AND name = $3 \
         AND NOT is_done FOR UPDATE";
    let found = lease.client().query_opt(sql, &[&oid, &kind, &name]).await.map_err(doing)?;
    let Some(row) = found else { return lease.finish().await };
    let definition: String = row.try_get(0).map_err(doing)?;
    if kind == FOREIGN_KEY {
        let all = pending(store, &lease).await?;
        if let Some(key) = all.iter().find(|key| key.table == oid && key.name == name) {
            // What is referred to is a key, which may be a later step of another flow's table.
            late_key::make(store, &lease, key.parent, has_room).await?;
            let lock = format!("LOCK TABLE {}, {} IN SHARE ROW EXCLUSIVE MODE", key.sql, key.parent_sql);
            let delete = format!("DELETE FROM {} c WHERE {}", key.sql, must_go(key, &all));
            for sql in [lock, delete] {
                lease.client().batch_execute(&sql).await.map_err(doing)?;
            }
            // Somebody may have made it by hand when a run was given up, and as one that is not validated.
            let named: [(&(dyn ToSql + Sync), Type); 2] = [(&oid, Type::OID), (&name, Type::TEXT)];
            let is_there: Option<bool> = ask(lease.client(), HAS_KEY, &named).await.map_err(doing)?;
            let validate =
                || format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", key.sql, identifier(&key.name));
            let make = if is_there == Some(true) { validate() } else { key.definition.clone() };
            lease.client().batch_execute(&make).await.map_err(doing)?;
        }
    } else if kind == INDEX && vector_index::is_one(&definition) {
        vector_index::make(store, &lease, oid, &definition).await?;
    } else {
        if kind == INDEX && has_room {
            late_key::room(store, &lease).await?;
        }
        lease.client().batch_execute(&definition).await.map_err(doing)?;
    }
    let done =
        "UPDATE whimbrel.after_load SET is_done = true WHERE table_oid = $1 AND kind = $2 AND name = $3";
    lease.client().execute(done, &[&oid, &kind, &name]).await.map_err(doing)?;
    lease.finish().await
}
