//! Deleting rows that are still the versions that were read, in one transaction for all that are asked for at once.

use super::count;
use super::held::Reading;
use super::route;
use crate::client::Lease;
use crate::error::{from_driver, is_about_a_value};
use crate::template::identifier;
use crate::writer::Keeping;
use std::collections::BTreeSet;
use tokio_postgres::types::ToSql;
use whimbrel_model::Capacity;
use whimbrel_store::{Deleted, Doomed, Result, StoreError, StoreErrorKind};

const SAVE: &str = "SAVEPOINT whimbrel_delete";
const UNDO: &str = "ROLLBACK TO SAVEPOINT whimbrel_delete; RELEASE SAVEPOINT whimbrel_delete";
const KEEP: &str = "RELEASE SAVEPOINT whimbrel_delete";

/// Why a row stays.
const CHANGED: &str = "it was changed after it was read";

/// Deletes rows of one table.
pub(super) struct Deletion<'a> {
    pub reading: &'a Reading<'a>,
    /// Whose before-images are kept, in the same statement; `None`: nobody's.
    pub keeping: Option<Keeping<'a>>,
}

/// Rows that are to go: their places among those that were given, and column by column what was read of them.
#[derive(Clone)]
struct Rows {
    places: Vec<usize>,
    columns: Vec<Vec<String>>,
}

impl Rows {
    /// Both halves.
    fn split(mut self) -> [Self; 2] {
        let middle = self.places.len() / 2;
        let places = self.places.split_off(middle);
        let columns = self.columns.iter_mut().map(|column| column.split_off(middle)).collect();
        [self, Self { places, columns }]
    }
}

impl Deletion<'_> {
    /// Deletes the rows that are in scope and still as they were read. Of rows that something else refers to,
    /// those that PostgreSQL refuses to delete are found by halving, and stay.
    pub(super) async fn of(&self, lease: &Lease, doomed: &[Doomed]) -> Result<Deleted> {
        let key = self.reading.own_key();
        let mut waiting = vec![self.rows(doomed, key.len())?];
        let (delete, find) = (self.delete(&key)?, self.find(&key)?);
        let (mut left, mut records) = (Vec::new(), 0);
        while let Some(rows) = waiting.pop() {
            let asked = rows.places.len();
            let refused = match self.portion(lease, &delete, &find, &rows).await? {
                Ok(changed) => {
                    records += u64::try_from(asked - changed.len()).unwrap_or(0);
                    left.extend(changed.into_iter().map(|place| (place, CHANGED.to_owned())));
                    continue;
                }
                Err(refused) => refused,
            };
            match rows.places.as_slice() {
                [place] => left.push((*place, refused)),
                _ => waiting.extend(rows.split()),
            }
        }
        left.sort_unstable();
        Ok(Deleted { records, left, capacity: Capacity::default() })
    }

    /// What was read of the rows, column by column: the writing transaction, and the key.
    fn rows(&self, doomed: &[Doomed], key: usize) -> Result<Rows> {
        let mut columns = vec![Vec::with_capacity(doomed.len()); key + 1];
        for one in doomed {
            let parts = one.version.as_str().and_then(|text| serde_json::from_str::<Vec<String>>(text).ok());
            let parts = parts.filter(|parts| parts.len() == columns.len()).ok_or_else(|| self.foreign())?;
            columns.iter_mut().zip(parts).for_each(|(column, part)| column.push(part));
        }
        Ok(Rows { places: (0..doomed.len()).collect(), columns })
    }

    /// Deletes some rows and names those that stay because they are others now; or PostgreSQL's reason to delete
    /// none of them.
    async fn portion(
        &self,
        lease: &Lease,
        delete: &str,
        find: &str,
        rows: &Rows,
    ) -> Result<std::result::Result<Vec<usize>, String>> {
        let client = lease.client();
        let context = || format!("cannot delete from {}", self.reading.table.sql);
        let failed = |error| from_driver(self.reading.store, context(), error);
        let parameters: Vec<&(dyn ToSql + Sync)> = rows.columns.iter().map(|column| column as _).collect();
        let mut of_delete = parameters.clone();
        if let Some(keeping) = &self.keeping {
            of_delete.extend([&keeping.run as &(dyn ToSql + Sync), &keeping.flow]);
        }
        client.batch_execute(SAVE).await.map_err(failed)?;
        if let Err(error) = client.execute(delete, &of_delete).await {
            let Some(reason) = error.as_db_error().filter(|db| is_about_a_value(db)) else {
                return Err(failed(error));
            };
            let reason = reason.message().to_owned();
            client.batch_execute(UNDO).await.map_err(failed)?;
            return Ok(Err(reason));
        }
        client.batch_execute(KEEP).await.map_err(failed)?;
        let mut left = BTreeSet::new();
        for row in client.query(find, &parameters[1..]).await.map_err(failed)? {
            let number: i64 = row.try_get(0).map_err(failed)?;
            let number = usize::try_from(number - 1).unwrap_or(usize::MAX);
            left.extend(rows.places.get(number).copied());
        }
        Ok(Ok(left.into_iter().collect()))
    }

    fn delete(&self, key: &[String]) -> Result<String> {
        let names: Vec<_> = (0..=key.len()).map(|at| format!("whimbrel_{at}")).collect();
        let delete = format!(
            "DELETE FROM {} AS input USING unnest({}) AS d ({}) WHERE input.xmin = d.whimbrel_0::xid AND {} AND ({})",
            self.reading.table.sql,
            texts(names.len()),
            names.join(", "),
            self.same(key, 1)?,
            self.within()?
        );
        if self.keeping.is_none() {
            return Ok(delete);
        }
        let key: Vec<_> = key.iter().map(|name| format!("input.{}::text", identifier(name))).collect();
        // What becomes of the row is left out: nothing.
        Ok(format!(
            "WITH gone AS ({delete} RETURNING ARRAY[{}] AS key, (input.*)::text AS before) \
             INSERT INTO whimbrel.before_image (run, table_oid, flow, key, before) \
             SELECT ${}::text, {}, ${}::text, key, before FROM gone",
            key.join(", "),
            names.len() + 1,
            self.reading.table.oid,
            names.len() + 2
        ))
    }

    fn find(&self, key: &[String]) -> Result<String> {
        let names: Vec<_> = (0..key.len()).map(|at| format!("whimbrel_{at}")).collect();
        Ok(format!(
            "SELECT d.whimbrel_n FROM {} AS input JOIN unnest({}) WITH ORDINALITY AS d ({}, whimbrel_n) ON {} WHERE {}",
            self.reading.table.sql,
            texts(names.len()),
            names.join(", "),
            self.same(key, 0)?,
            self.within()?
        ))
    }

    fn same(&self, key: &[String], first: usize) -> Result<String> {
        let Reading { store, table, .. } = self.reading;
        let same = key.iter().enumerate().map(|(at, name)| {
            let column = route::existing(store, table, name, "it is part of the key")?;
            Ok(format!("input.{} = d.whimbrel_{}::{}", identifier(name), first + at, column.type_name))
        });
        Ok(same.collect::<Result<Vec<_>>>()?.join(" AND "))
    }

    fn within(&self) -> Result<String> {
        count::within(self.reading.store, self.reading.table, &self.reading.request.scope)
    }

    fn foreign(&self) -> StoreError {
        let context = format!("a row that is to be deleted is none of {}", self.reading.table.sql);
        StoreError::new(StoreErrorKind::Internal, self.reading.store, context)
    }
}

/// So many lists of texts as parameters.
fn texts(count: usize) -> String {
    (1..=count).map(|at| format!("${at}::pg_catalog.text[]")).collect::<Vec<_>>().join(", ")
}
