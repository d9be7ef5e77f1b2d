//! How many records a table holds, and of which flow.

use super::route;
use crate::catalog::Table;
use crate::encode::Stored;
use crate::error::{from_driver, mismatch};
use crate::sql::{identifier, literal};
use crate::types::float_text;
use rusqlite::Connection;
use std::collections::BTreeMap;
use whimbrel_model::StoreName;
use whimbrel_model::cell::Cell;
use whimbrel_store::{Held, KeyPattern, Result};

/// The condition that a row is a tenant's.
pub(crate) fn within(store: &StoreName, table: &Table, scope: &BTreeMap<String, String>) -> Result<String> {
    let mut conditions = Vec::new();
    for (name, value) in scope {
        let column = route::existing(store, table, name, "`scope` names it")?;
        let stored = route::slot(table, column).put_cell(Cell::Text(value));
        let stored = stored.map_err(|reason| mismatch(store, format!("the scope's `{name}` {reason}")))?;
        conditions.push(format!("{} IS {} COLLATE BINARY", identifier(&column.name), constant(&stored)));
    }
    Ok(if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") })
}

/// A value as a constant of SQL.
fn constant(value: &Stored<'_>) -> String {
    match value {
        Stored::Null => "NULL".to_owned(),
        Stored::Integer(value) => value.to_string(),
        Stored::Real(value) if value.is_infinite() => {
            if *value > 0.0 { "9e999" } else { "-9e999" }.to_owned()
        }
        Stored::Real(value) => float_text(*value),
        Stored::Text(text) => literal(text),
        Stored::Blob(bytes) | Stored::Broken(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            format!("X'{hex}'")
        }
    }
}

/// Whether there is no row within the scope.
pub(crate) fn is_empty(
    store: &StoreName,
    connection: &Connection,
    table: &Table,
    scope: &BTreeMap<String, String>,
) -> Result<bool> {
    let within = within(store, table, scope)?;
    let sql = format!("SELECT NOT EXISTS (SELECT 1 FROM {} WHERE {within})", table.quoted());
    connection.query_row(&sql, [], |row| row.get(0)).map_err(|error| {
        from_driver(store, format!("cannot look whether {} is empty", table.quoted()), error)
    })
}

/// What tells one flow's rows from another's.
pub(crate) struct Belonging<'a> {
    pub scope: &'a BTreeMap<String, String>,
    pub constants: &'a [KeyPattern],
}

/// An expression for the flow that a row belongs to, by its place: the one with the longest constants that the row
/// has; -1: to none.
pub(crate) fn belongs(store: &StoreName, table: &Table, flows: &[Belonging<'_>]) -> Result<String> {
    let length =
        |flow: &usize| flows[*flow].constants.iter().map(|pattern| pattern.text.len()).sum::<usize>();
    let mut order: Vec<usize> = (0..flows.len()).collect();
    order.sort_by_key(|flow| std::cmp::Reverse(length(flow)));
    if order.is_empty() {
        return Ok("-1".to_owned());
    }
    let mut cases = String::new();
    for flow in order {
        let mut conditions = vec![within(store, table, flows[flow].scope)?];
        for pattern in flows[flow].constants {
            let column = route::existing(store, table, &pattern.column, "a flow is told apart by it")?;
            let (column, text) = (identifier(&column.name), literal(&pattern.text));
            conditions.push(if pattern.whole {
                format!("CAST({column} AS TEXT) = {text} COLLATE BINARY")
            } else {
                format!(
                    "substr(CAST({column} AS TEXT), 1, {}) = {text} COLLATE BINARY",
                    pattern.text.chars().count()
                )
            });
        }
        cases.push_str(&format!(" WHEN {} THEN {flow}", conditions.join(" AND ")));
    }
    Ok(format!("CASE{cases} ELSE -1 END"))
}

/// Counts rows by the flow with the longest constants that they have.
pub(crate) fn count(
    store: &StoreName,
    connection: &Connection,
    table: &Table,
    scope: &BTreeMap<String, String>,
    flows: &[Vec<KeyPattern>],
) -> Result<Held> {
    let anywhere = BTreeMap::new();
    let all: Vec<_> = flows.iter().map(|constants| Belonging { scope: &anywhere, constants }).collect();
    let sql = format!(
        "SELECT {}, count(*) FROM {} WHERE {} GROUP BY 1",
        belongs(store, table, &all)?,
        table.quoted(),
        within(store, table, scope)?
    );
    let failed = |error| from_driver(store, format!("cannot count the rows of {}", table.quoted()), error);
    let mut statement = connection.prepare(&sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut held = Held { flows: vec![0; flows.len()], others: 0 };
    while let Some(row) = rows.next().map_err(failed)? {
        let (flow, count): (i64, i64) = (row.get(0).map_err(failed)?, row.get(1).map_err(failed)?);
        let count = u64::try_from(count).unwrap_or(0);
        match usize::try_from(flow).ok().and_then(|flow| held.flows.get_mut(flow)) {
            Some(place) => *place = count,
            None => held.others += count,
        }
    }
    Ok(held)
}
