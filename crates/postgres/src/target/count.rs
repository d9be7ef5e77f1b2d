//! How many records a table holds, and of which flow.

use super::catalog::Table;
use crate::client::{Lease, ask};
use crate::error::from_driver;
use crate::template::{identifier, literal};
use std::collections::BTreeMap;
use whimbrel_model::StoreName;
use whimbrel_store::{Held, KeyPattern, Result, StoreError, StoreErrorKind};

/// The rows of a tenant.
pub(super) fn within(store: &StoreName, table: &Table, scope: &BTreeMap<String, String>) -> Result<String> {
    let mut conditions = vec!["TRUE".to_owned()];
    for (name, value) in scope {
        let value = constant(store, value)?;
        if let Some(member) = super::scope::member(table, name) {
            conditions.push(format!("{} = {value}", member.of(&identifier(&member.column.name))));
            continue;
        }
        let column = super::route::existing(store, table, name, "`scope` names it")?;
        // As a bound parameter would, the constant takes the column's type.
        conditions.push(format!("{} = {value}::{}", identifier(&column.name), column.type_name));
    }
    Ok(conditions.join(" AND "))
}

fn constant(store: &StoreName, text: &str) -> Result<String> {
    literal(text).ok_or_else(|| {
        let context = "a value of the spec holds the character U+0000, which PostgreSQL's text does not have";
        StoreError::new(StoreErrorKind::Mismatch, store, context)
    })
}

/// Whether there is no row within the scope.
pub(super) async fn is_empty(
    store: &StoreName,
    lease: &Lease,
    table: &Table,
    scope: &BTreeMap<String, String>,
) -> Result<bool> {
    let sql =
        format!("SELECT NOT EXISTS (SELECT 1 FROM {} WHERE {})", table.sql, within(store, table, scope)?);
    let is_empty = ask(lease.client(), &sql, &[])
        .await
        .map_err(|error| from_driver(store, format!("cannot look whether {} is empty", table.sql), error))?;
    Ok(is_empty.unwrap_or(false))
}

/// What tells one flow's rows from another's.
pub(super) struct Belonging<'a> {
    pub scope: &'a BTreeMap<String, String>,
    pub constants: &'a [KeyPattern],
}

/// An expression for the flow that a row belongs to, by its place: the one with the longest constants that the row
/// has; -1: to none.
pub(super) fn belongs(store: &StoreName, table: &Table, flows: &[Belonging<'_>]) -> Result<String> {
    let length =
        |flow: &usize| flows[*flow].constants.iter().map(|pattern| pattern.text.len()).sum::<usize>();
    let mut order: Vec<usize> = (0..flows.len()).collect();
    order.sort_by_key(|flow| std::cmp::Reverse(length(flow)));
    let mut cases = String::new();
    for flow in order {
        let mut conditions = vec![within(store, table, flows[flow].scope)?];
        for pattern in flows[flow].constants {
            super::route::existing(store, table, &pattern.column, "a flow is told apart by it")?;
            let (column, text) = (identifier(&pattern.column), constant(store, &pattern.text)?);
            conditions.push(if pattern.whole {
                format!("{column}::text = {text}")
            } else {
                format!("starts_with({column}::text, {text})")
            });
        }
        cases.push_str(&format!(" WHEN {} THEN {flow}", conditions.join(" AND ")));
    }
    Ok(format!("CASE{cases} ELSE -1 END"))
}

/// Counts rows by the flow with the longest constants that they have.
pub(super) async fn count(
    store: &StoreName,
    lease: &Lease,
    table: &Table,
    scope: &BTreeMap<String, String>,
    flows: &[Vec<KeyPattern>],
) -> Result<Held> {
    let anywhere = BTreeMap::new();
    let all: Vec<_> = flows.iter().map(|constants| Belonging { scope: &anywhere, constants }).collect();
    let sql = format!(
        "SELECT {} AS flow, count(*) FROM {} WHERE {} GROUP BY 1",
        belongs(store, table, &all)?,
        table.sql,
        within(store, table, scope)?
    );
    let failed = |error| from_driver(store, format!("cannot count the rows of {}", table.sql), error);
    let mut held = Held { flows: vec![0; flows.len()], others: 0 };
    for row in lease.client().query(&sql, &[]).await.map_err(failed)? {
        let (flow, count): (i32, i64) = (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let count = u64::try_from(count).unwrap_or(0);
        match usize::try_from(flow).ok().and_then(|flow| held.flows.get_mut(flow)) {
            Some(place) => *place = count,
            None => held.others = count,
        }
    }
    Ok(held)
}
