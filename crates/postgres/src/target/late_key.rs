//! A primary key that is made behind the load: one sort of all keys costs a part of what as many insertions into an
//! index do.
//!
//! That is for tables which this run makes and into which nothing but plain inserts go, and for keys of which the
//! engine knows that no two records share one ([`whimbrel_store::Target::expect_distinct_keys`]). As long as the key is
//! noted and not made it counts as the table's own: a resume, a verification and a comparison with the definition see
//! the table as it is going to be. Whoever needs the index itself has it made first ([`make_now`]).

use super::catalog::Table;
use super::{PostgresTarget, count};
use crate::client::{Connections, Lease, Purpose, ask};
use crate::error::from_driver;
use crate::ledger;
use crate::template::identifier;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use tokio_postgres::error::SqlState;
use whimbrel_model::StoreName;
use whimbrel_store::{Mode, Result, StoreError, WriteRequest};

/// What the step is called.
pub(super) const PRIMARY_KEY: &str = "primary key";

/// The most memory that making an index takes by itself, in kB; what is set already counts if it is more.
const MEMORY_KB: i64 = 256 * 1024;

/// The table's primary key with its definition and its columns, unless something hangs on it or on the table that must
/// not miss it for a moment, or that its definition does not say. Types are those by which two values are one key
/// exactly where their bytes are the same.
const KEY: &str = "\
SELECT k.conname::text, pg_catalog.pg_get_constraintdef(k.oid), \
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS c(number, place) \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = c.number ORDER BY c.place) \
FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_index i ON i.indexrelid = k.conindid \
JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
WHERE k.conrelid = $1 AND k.contype = 'p' AND NOT k.condeferrable AND c.relkind = 'r' AND c.relreplident = 'd' \
AND x.reloptions IS NULL AND x.reltablespace = 0 AND NOT i.indisclustered \
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (k.conkey) \
  AND a.atttypid NOT IN (20, 21, 23, 2950)) \
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_inherits h WHERE c.oid IN (h.inhrelid, h.inhparent)) \
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid) \
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid) \
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_publication_rel p WHERE p.prrelid = c.oid) \
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.deptype = 'n' AND d.refobjid IN (k.oid, x.oid) \
  AND d.refclassid IN ('pg_catalog.pg_constraint'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass)) \
AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_description d WHERE d.objoid IN (k.oid, x.oid) \
  AND d.classoid IN ('pg_catalog.pg_constraint'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass))";

/// Whether there are notes that this role may read.
const MAY_READ: &str = "SELECT coalesce((SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
    AND pg_catalog.has_table_privilege(c.oid, 'SELECT') \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = 'whimbrel' AND c.relname = 'after_load'), false)";

const NOTED: &str =
    "SELECT name, columns FROM whimbrel.after_load WHERE table_oid = $1 AND kind = $2 AND NOT is_done";

const ROOM: &str = "SELECT pg_catalog.set_config('maintenance_work_mem', \
    greatest(m.setting::bigint, least($1, c.setting::bigint * 8 / 4))::text || 'kB', true), \
    pg_catalog.set_config('statement_timeout', '0', true) \
    FROM pg_catalog.pg_settings m, pg_catalog.pg_settings c \
    WHERE m.name = 'maintenance_work_mem' AND c.name = 'effective_cache_size'";

impl PostgresTarget {
    /// Whether the table can do without its primary key during the load: nothing but plain inserts of values that
    /// are distinct go into it.
    pub(super) fn may_miss_key(&self) -> bool {
        let WriteRequest { mode, scope, collection, .. } = &*self.request;
        let is_plain = *mode == Mode::Insert && scope.is_empty() && collection.is_none();
        is_plain && self.is_distinct.load(Ordering::Relaxed)
    }

    /// Leaves the primary key of the table that this process has just made for a step behind the load, where it can
    /// be missed. Foreign keys that refer to it are off already.
    pub(super) async fn put_off_key(&self, lease: &Lease, table: &Table) -> Result<()> {
        let Some(planned) = self.planned().filter(|_| self.may_miss_key()) else { return Ok(()) };
        let WriteRequest { forms, allow_lossy, .. } = &*self.request;
        if planned.key.iter().any(|name| forms.contains_key(name) || allow_lossy.contains(name)) {
            return Ok(());
        }
        // Another flow may call the same table by another name, with its schema or in capitals.
        let bare = |name: &str| name.rsplit('.').next().unwrap_or(name).trim_matches('"').to_lowercase();
        let is_other = |name: &&String| **name != self.request.table && bare(name) == bare(&table.name);
        if self
            .writing
            .tables
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .any(|name| is_other(&name))
        {
            return Ok(());
        }
        if table.is_key_late || !count::is_empty(&self.store, lease, table, &self.request.scope).await? {
            return Ok(());
        }
        take_off(&self.store, lease, table, &planned.key).await
    }
}

/// Takes the primary key off an empty table of this run and notes it, where it is exactly `key` and may be missed.
async fn take_off(store: &StoreName, lease: &Lease, table: &Table, key: &[String]) -> Result<()> {
    let client = lease.client();
    let failed =
        |error| from_driver(store, format!("cannot put off the primary key of {}", table.sql), error);
    client.batch_execute("SET LOCAL search_path TO pg_catalog").await.map_err(failed)?;
    let Some(row) = client.query_opt(KEY, &[&table.oid]).await.map_err(failed)? else { return Ok(()) };
    let (name, definition): (String, String) =
        (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    let columns: Vec<String> = row.try_get(2).map_err(failed)?;
    if columns != key {
        return Ok(());
    }
    let quoted = identifier(&name);
    let definition = format!("ALTER TABLE {} ADD CONSTRAINT {quoted} {definition}", table.sql);
    let drop = format!("ALTER TABLE {} DROP CONSTRAINT {quoted}", table.sql);
    client.batch_execute(&drop).await.map_err(failed)?;
    let none = Vec::<String>::new();
    let noted = client
        .execute(
            super::load::NOTE,
            &[&table.oid, &0_i32, &PRIMARY_KEY, &name, &definition, &columns, &None::<u32>, &none],
        )
        .await;
    noted.map(drop_count).map_err(failed)
}

fn drop_count(_rows: u64) {}

/// The primary key that is noted for a table that has none yet: its name and its columns.
pub(super) async fn noted(
    store: &StoreName,
    lease: &Lease,
    oid: u32,
) -> Result<Option<(String, Vec<String>)>> {
    let failed = |error| from_driver(store, "cannot see which primary keys follow a load", error);
    let client = lease.client();
    if ask(client, MAY_READ, &[]).await.map_err(failed)? != Some(true) {
        return Ok(None);
    }
    let row = client.query_opt(NOTED, &[&oid, &PRIMARY_KEY]).await.map_err(failed)?;
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose().map_err(failed)
}

/// Makes the key that is noted for a table, if there is one, in the lease's transaction.
pub(super) async fn make(store: &StoreName, lease: &Lease, oid: u32, has_room: bool) -> Result<()> {
    let client = lease.client();
    let failed = |error| from_driver(store, "cannot make a primary key", error);
    let sql = "SELECT name, definition, EXISTS (SELECT 1 FROM pg_catalog.pg_constraint k \
         WHERE k.conrelid = $1 AND k.contype = 'p') FROM whimbrel.after_load \
         WHERE table_oid = $1 AND kind = $2 AND NOT is_done FOR UPDATE";
    let Some(row) = client.query_opt(sql, &[&oid, &PRIMARY_KEY]).await.map_err(failed)? else {
        return Ok(());
    };
    let (name, definition): (String, String) =
        (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
    // Somebody may have made one by hand meanwhile.
    if !row.try_get::<_, bool>(2).map_err(failed)? {
        if has_room {
            room(store, lease).await?;
        }
        let made = client.batch_execute(&definition).await;
        made.map_err(|error| {
            let is_shared = error.code() == Some(&SqlState::UNIQUE_VIOLATION);
            let error = from_driver(store, format!("cannot make the primary key: {definition}"), error);
            if is_shared { shared(error) } else { error }
        })?;
    }
    let done =
        "UPDATE whimbrel.after_load SET is_done = true WHERE table_oid = $1 AND kind = $2 AND name = $3";
    client.execute(done, &[&oid, &PRIMARY_KEY, &name]).await.map(drop_count).map_err(failed)
}

/// What is to be done where two rows have one key.
fn shared(error: StoreError) -> StoreError {
    error.with_hint(
        "two rows of the table share a key: somebody else wrote into it during the load, or the source changed its keys. \
         Delete the row that is wrong and `whimbrel resume`, or begin anew with `run --new` into a table that is made anew",
    )
}

/// As [`make`], in a transaction of its own: for whoever cannot do without the key.
pub(super) async fn make_now(store: &StoreName, connections: &Connections, oid: u32) -> Result<()> {
    let lease = connections.lease(Purpose::Write).await?;
    ledger::make(store, &lease).await?;
    make(store, &lease, oid, connections.are_many()).await?;
    lease.finish().await
}

/// Gives the transaction memory to sort the keys of an index, and the time that it takes.
pub(super) async fn room(store: &StoreName, lease: &Lease) -> Result<()> {
    let given = lease.client().query_opt(ROOM, &[&MEMORY_KB]).await;
    given.map(|_settings| ()).map_err(|error| from_driver(store, "cannot make room for an index", error))
}
