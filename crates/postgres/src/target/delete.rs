//! Deleting rows by their keys, in one transaction for all that are asked for at once.

use super::catalog::Table;
use super::count;
use super::route;
use crate::client::Lease;
use crate::error::from_driver;
use crate::template::identifier;
use serde_json::{Map, Value};
use tokio_postgres::types::ToSql;
use whimbrel_model::{Capacity, StoreName};
use whimbrel_store::{Deleted, Result, StoreError, StoreErrorKind, WriteRequest};

/// Deletes rows of one table.
pub(super) struct Deletion<'a> {
    pub store: &'a StoreName,
    pub table: &'a Table,
    pub request: &'a WriteRequest,
}

impl Deletion<'_> {
    /// Deletes the rows with these keys that are in scope. The keys travel as text, which PostgreSQL itself reads.
    pub(super) async fn of(&self, lease: &Lease, keys: &[Map<String, Value>]) -> Result<Deleted> {
        let Some(first) = keys.first() else { return Ok(Deleted::default()) };
        let names: Vec<&String> = first.keys().collect();
        let columns = names.iter().map(|name| self.texts(keys, name)).collect::<Result<Vec<_>>>()?;
        let parameters: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| column as _).collect();
        let deleted = lease.client().execute(&self.statement(&names)?, &parameters).await;
        let records = deleted.map_err(|error| {
            from_driver(self.store, format!("cannot delete from {}", self.table.sql), error)
        })?;
        Ok(Deleted { records, capacity: Capacity::default() })
    }

    fn texts(&self, keys: &[Map<String, Value>], name: &str) -> Result<Vec<String>> {
        let text = |key: &Map<String, Value>| match key.get(name) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
            _ => {
                let context = format!("a key of {} that is to be deleted has no `{name}`", self.table.sql);
                Err(StoreError::new(StoreErrorKind::Internal, self.store, context))
            }
        };
        keys.iter().map(text).collect()
    }

    fn statement(&self, names: &[&String]) -> Result<String> {
        let arrays: Vec<_> = (1..=names.len()).map(|at| format!("${at}::pg_catalog.text[]")).collect();
        let aliases: Vec<_> = (0..names.len()).map(|at| format!("k{at}")).collect();
        let mut conditions = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            let column = route::existing(self.store, self.table, name, "it is part of the key")?;
            conditions.push(format!("input.{} = d.k{at}::{}", identifier(name), column.type_name));
        }
        let within = count::within(self.store, self.table, &self.request.scope)?;
        Ok(format!(
            "DELETE FROM {} AS input USING unnest({}) AS d ({}) WHERE {} AND ({within})",
            self.table.sql,
            arrays.join(", "),
            aliases.join(", "),
            conditions.join(" AND ")
        ))
    }
}
