//! Undoing a run: a table is brought back in one transaction, by the before-images that the run's own transactions
//! have kept.

use super::catalog::{Identity, Table, TargetColumn};
use super::route;
use crate::client::{Connections, Lease, Purpose};
use crate::error::from_driver;
use crate::ledger;
use crate::template::identifier;
use crate::writer::digest;
use serde_json::{Map, Value};
use tokio_postgres::error::SqlState;
use whimbrel_model::{RunId, StoreName};
use whimbrel_store::undo::CONFLICTS_LISTED;
use whimbrel_store::{Result, StoreError, UndoStep, Undone, WriteRequest};

/// A key of no columns stands for a table that was brought back.
const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS whimbrel.before_image (id bigserial PRIMARY KEY, run text NOT NULL, table_oid oid NOT NULL, \
  flow text NOT NULL, key text[] NOT NULL, before text, after bytea, written_at timestamptz NOT NULL DEFAULT now()); \
CREATE INDEX IF NOT EXISTS before_image_of_run ON whimbrel.before_image (run, table_oid)";

/// How long a run can be undone.
const FORGET: &str = "DELETE FROM whimbrel.before_image WHERE written_at < now() - interval '30 days'";

/// Makes the table of before-images where it is missing.
pub(super) async fn make(store: &StoreName, connections: &Connections) -> Result<()> {
    let lease = connections.lease(Purpose::Write).await?;
    ledger::make(store, &lease).await?;
    let sql = format!("SELECT pg_advisory_xact_lock({}); {TABLES}; {FORGET}", ledger::LOCK);
    let made = lease.client().batch_execute(&sql).await;
    made.map_err(|error| from_driver(store, "cannot make the table of before-images", error))?;
    lease.finish().await
}

/// Foreign keys of other rows that a deletion from a table changes.
const BESIDES: &str = "\
SELECT r.confdeltype::text, r.conrelid::regclass::text, r.conname::text FROM pg_catalog.pg_constraint r \
WHERE r.contype = 'f' AND r.confrelid = $1 AND r.confdeltype IN ('c', 'n', 'd') ORDER BY 2, 3";

/// What PostgreSQL would do to other rows where one of this table is deleted.
pub(super) async fn deletes_besides(store: &StoreName, lease: &Lease, table: &Table) -> Result<Vec<String>> {
    let failed = |error| from_driver(store, format!("cannot read what refers to {}", table.sql), error);
    let said = |row: &tokio_postgres::Row| {
        let (action, other, name): (String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let what = if action == "c" { "deletes rows of" } else { "changes rows of" };
        Ok(format!("the foreign key {name} {what} {other} with it"))
    };
    let rows = lease.client().query(BESIDES, &[&table.oid]).await.map_err(failed)?;
    rows.iter().map(said).collect::<std::result::Result<_, _>>().map_err(failed)
}

/// Undoes one run in one table.
pub(super) struct Undoing<'a> {
    pub store: &'a StoreName,
    pub connections: &'a Connections,
    pub table: &'a Table,
    pub request: &'a WriteRequest,
    pub key: &'a [String],
    pub run: &'a RunId,
}

impl Undoing<'_> {
    /// Looks what there is to be brought back, and does it where it is asked for and nobody is in the way.
    pub(super) async fn undo(&self, step: UndoStep) -> Result<Undone> {
        let lease = self.connections.lease(Purpose::Write).await?;
        let is_there = "SELECT to_regclass('whimbrel.before_image') IS NOT NULL";
        if !self.one::<bool>(&lease, is_there).await? {
            lease.roll_back().await?;
            return Ok(Undone { nothing_kept: true, ..Undone::default() });
        }
        let mut undone = self.gather(&lease).await?;
        if undone.nothing_kept || undone.already {
            lease.roll_back().await?;
            return Ok(undone);
        }
        self.conflicts(&lease, &mut undone).await?;
        if step == UndoStep::Look || undone.conflicts > 0 {
            lease.roll_back().await?;
            return Ok(undone);
        }
        self.bring_back(&lease, step).await?;
        lease.finish().await?;
        Ok(undone)
    }

    fn failed(&self, error: tokio_postgres::Error) -> StoreError {
        from_driver(self.store, format!("cannot undo what was written into {}", self.table.sql), error)
    }

    async fn one<T>(&self, lease: &Lease, sql: &str) -> Result<T>
    where
        T: for<'s> tokio_postgres::types::FromSql<'s>,
    {
        let row = lease.client().query_one(sql, &[]).await;
        row.and_then(|row| row.try_get(0)).map_err(|error| self.failed(error))
    }

    /// The oldest image and the newest content of each key, in a table of this transaction; the rows that they are
    /// of are locked.
    async fn gather(&self, lease: &Lease) -> Result<Undone> {
        let (client, oid, run) = (lease.client(), self.table.oid, self.run.as_str());
        let create = format!(
            "CREATE TEMP TABLE whimbrel_undo ON COMMIT DROP AS SELECT key, (array_agg(before ORDER BY id))[1] AS before, \
             (array_agg(after ORDER BY id DESC))[1] AS after FROM whimbrel.before_image \
             WHERE run = {} AND table_oid = {oid} GROUP BY key",
            self.literal(run)?
        );
        client.batch_execute(&create).await.map_err(|error| self.failed(error))?;
        let counts = "SELECT count(*), count(*) FILTER (WHERE key = '{}'), \
             count(*) FILTER (WHERE key <> '{}' AND before IS NOT NULL), \
             count(*) FILTER (WHERE key <> '{}' AND before IS NULL) FROM pg_temp.whimbrel_undo";
        let row = client.query_one(counts, &[]).await.map_err(|error| self.failed(error))?;
        let count = |at: usize| {
            let count = row.try_get::<_, i64>(at).map_err(|error| self.failed(error))?;
            Ok(u64::try_from(count).unwrap_or(0))
        };
        let undone = Undone {
            nothing_kept: count(0)? == 0,
            already: count(1)? > 0,
            restored: count(2)?,
            removed: count(3)?,
            ..Undone::default()
        };
        let lock = format!(
            "ANALYZE pg_temp.whimbrel_undo; SELECT 1 FROM {} AS t JOIN pg_temp.whimbrel_undo u ON {} FOR UPDATE OF t",
            self.table.sql,
            self.by_key()?
        );
        client.batch_execute(&lock).await.map_err(|error| self.failed(error))?;
        Ok(undone)
    }

    fn literal(&self, text: &str) -> Result<String> {
        crate::template::literal(text).ok_or_else(|| {
            StoreError::new(
                whimbrel_store::StoreErrorKind::Internal,
                self.store,
                "the name of a run holds U+0000",
            )
        })
    }

    fn by_key(&self) -> Result<String> {
        let mut equal = Vec::with_capacity(self.key.len());
        for (at, name) in self.key.iter().enumerate() {
            let column = route::existing(self.store, self.table, name, "it is part of the key")?;
            equal.push(format!("t.{} = (u.key[{}])::{}", identifier(name), at + 1, column.type_name));
        }
        Ok(equal.join(" AND "))
    }

    /// Rows that hold neither what the run has left nor what stood there before.
    async fn conflicts(&self, lease: &Lease, undone: &mut Undone) -> Result<()> {
        let sql = format!(
            "SELECT u.key, count(*) OVER () FROM pg_temp.whimbrel_undo u LEFT JOIN {} AS t ON {} \
             WHERE {} IS DISTINCT FROM u.after AND (t.*)::text IS DISTINCT FROM u.before LIMIT {CONFLICTS_LISTED}",
            self.table.sql,
            self.by_key()?,
            digest("t")
        );
        for row in lease.client().query(&sql, &[]).await.map_err(|error| self.failed(error))? {
            let key: Vec<Option<String>> = row.try_get(0).map_err(|error| self.failed(error))?;
            let count: i64 = row.try_get(1).map_err(|error| self.failed(error))?;
            undone.conflicts = u64::try_from(count).unwrap_or(0);
            let values = key.into_iter().map(|value| value.map_or(Value::Null, Value::String));
            undone.conflicting.push(self.key.iter().cloned().zip(values).collect::<Map<_, _>>());
        }
        Ok(())
    }

    async fn bring_back(&self, lease: &Lease, step: UndoStep) -> Result<()> {
        match step {
            UndoStep::Look => return Ok(()),
            UndoStep::PutBack => {}
            UndoStep::All => self.take_back(lease).await?,
        }
        let mut sql = self.put_back()?;
        if step == UndoStep::All {
            let (run, oid) = (self.literal(self.run.as_str())?, self.table.oid);
            let flow = self.literal(self.request.flow.as_str())?;
            sql += &format!(
                "DELETE FROM whimbrel.before_image WHERE run = {run} AND table_oid = {oid}; \
                 INSERT INTO whimbrel.before_image (run, table_oid, flow, key) VALUES ({run}, {oid}, {flow}, '{{}}')",
            );
        }
        lease.client().batch_execute(&sql).await.map_err(|error| self.failed(error))
    }

    /// Deletes what was added, and sets what was written over: all at once, and row by row where the rows have
    /// handed values of a unique column on to each other.
    async fn take_back(&self, lease: &Lease) -> Result<()> {
        let added = format!(
            "DELETE FROM {} AS t USING pg_temp.whimbrel_undo u \
             WHERE u.before IS NULL AND u.after IS NOT NULL AND {}; ",
            self.table.sql,
            self.by_key()?
        );
        let Some(set) = self.set_back(&self.images(""))? else {
            return lease.client().batch_execute(&added).await.map_err(|error| self.failed(error));
        };
        let at_once = format!("{added}SAVEPOINT at_once; {set}");
        match lease.client().batch_execute(&at_once).await {
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                let sql = format!("ROLLBACK TO SAVEPOINT at_once; DO {}", self.literal(&self.row_by_row()?)?);
                lease.client().batch_execute(&sql).await.map_err(|error| self.failed(error))
            }
            done => done.map_err(|error| self.failed(error)),
        }
    }

    fn written(&self) -> impl Iterator<Item = &TargetColumn> {
        self.table.columns.iter().filter(|column| !column.is_generated)
    }

    /// The images as rows `i.r` of the table, with the alias `i`.
    fn images(&self, more: &str) -> String {
        format!(
            "(SELECT u.key, u.before::{} AS r FROM pg_temp.whimbrel_undo u WHERE u.before IS NOT NULL{more}) AS i",
            self.table.sql
        )
    }

    /// Sets rows to what they were, from rows `i.r` with their keys; `None`: there is no column to set.
    fn set_back(&self, images: &str) -> Result<Option<String>> {
        let set: Vec<_> = self
            .written()
            .filter(|column| column.identity != Identity::Always && !self.key.contains(&column.name))
            .map(|column| format!("{0} = (i.r).{0}", identifier(&column.name)))
            .collect();
        let by_image = self.by_key()?.replace("(u.key[", "(i.key[");
        let update = || {
            format!("UPDATE {} AS t SET {} FROM {images} WHERE {by_image}; ", self.table.sql, set.join(", "))
        };
        Ok((!set.is_empty()).then(update))
    }

    /// A block that sets back one row after the other, and those that another row is in the way of in a further
    /// round; an error where a round comes no further.
    fn row_by_row(&self) -> Result<String> {
        let one = self.images(" AND u.ctid = one.place");
        Ok(format!(
            "DECLARE one record; waiting bigint; waited bigint := -1; \
             BEGIN \
             ALTER TABLE pg_temp.whimbrel_undo ADD COLUMN is_back boolean NOT NULL DEFAULT false; \
             LOOP waiting := 0; \
             FOR one IN SELECT ctid AS place FROM pg_temp.whimbrel_undo WHERE before IS NOT NULL AND NOT is_back LOOP \
             BEGIN {} UPDATE pg_temp.whimbrel_undo SET is_back = true WHERE ctid = one.place; \
             EXCEPTION WHEN unique_violation THEN \
             IF waited = 0 THEN RAISE; END IF; waiting := waiting + 1; END; \
             END LOOP; \
             EXIT WHEN waiting = 0; \
             waited := CASE WHEN waiting = waited THEN 0 ELSE waiting END; \
             END LOOP; END",
            self.set_back(&one)?.unwrap_or_default()
        ))
    }

    /// Puts rows back that were deleted, and notes what they hold now: a trigger may have had a part in that, and
    /// what is still to be taken back sets them to what they were.
    fn put_back(&self) -> Result<String> {
        let names: Vec<_> = self.written().map(|column| identifier(&column.name)).collect();
        let values: Vec<_> = names.iter().map(|name| format!("(i.r).{name}")).collect();
        let key: Vec<_> = self.key.iter().map(|name| format!("t.{}::text", identifier(name))).collect();
        Ok(format!(
            "WITH back AS (INSERT INTO {0} AS t ({1}) OVERRIDING SYSTEM VALUE SELECT {2} FROM {3} \
             WHERE NOT EXISTS (SELECT 1 FROM {0} AS t WHERE {4}) RETURNING ARRAY[{5}] AS key, {6} AS after) \
             INSERT INTO whimbrel.before_image (run, table_oid, flow, key, after) \
             SELECT {7}, {8}, {9}, key, after FROM back; ",
            self.table.sql,
            names.join(", "),
            values.join(", "),
            self.images(" AND u.after IS NULL"),
            self.by_key()?.replace("(u.key[", "(i.key["),
            key.join(", "),
            digest("t"),
            self.literal(self.run.as_str())?,
            self.table.oid,
            self.literal(self.request.flow.as_str())?
        ))
    }
}
