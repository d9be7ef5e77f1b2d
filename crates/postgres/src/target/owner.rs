//! Whose a table is: a line of its comment. Other lines of the comment are left as they are.

use super::catalog;
use crate::client::{Lease, ask};
use crate::error::from_driver;
use crate::template::literal;
use std::collections::BTreeMap;
use tokio_postgres::types::Type;
use whimbrel_model::StoreName;
use whimbrel_store::{Owner, Removal, Result};

/// With this the line begins.
const LINE: &str = "whimbrel: migration ";
/// Between the two names, which hold no comma.
const ENVIRONMENT: &str = ", environment ";

/// Whose the table is; `None` where its comment does not say or there is no table.
pub(super) async fn owner(store: &StoreName, lease: &Lease, name: &str) -> Result<Option<Owner>> {
    let Some(table) = catalog::find(store, lease, name).await? else { return Ok(None) };
    Ok(comment(store, lease, table.oid).await?.lines().find_map(read))
}

/// Writes the line; `false` where there is no table.
pub(super) async fn claim(store: &StoreName, lease: &Lease, name: &str, owner: &Owner) -> Result<bool> {
    let Some(table) = catalog::find(store, lease, name).await? else { return Ok(false) };
    let comment = comment(store, lease, table.oid).await?;
    let others = comment.lines().filter(|line| read(line).is_none()).map(str::to_owned);
    let lines: Vec<String> = others.chain([written(owner)]).collect();
    // No comment holds U+0000, and no name does.
    let Some(lines) = literal(&lines.join("\n")) else { return Ok(false) };
    let sql = format!("COMMENT ON TABLE {} IS {lines}", table.sql);
    let done = lease.client().batch_execute(&sql).await;
    done.map_err(|error| from_driver(store, format!("cannot write whose table `{name}` is"), error))?;
    Ok(true)
}

/// Drops the table; what refers to it is in the way and says so. Where the flow has a scope, its rows go first, and
/// a table that then still has rows stays.
pub(super) async fn remove(
    store: &StoreName,
    lease: &Lease,
    name: &str,
    scope: &BTreeMap<String, String>,
) -> Result<Removal> {
    let Some(table) = catalog::find(store, lease, name).await? else { return Ok(Removal::Absent) };
    if !scope.is_empty() {
        let failed =
            |error| from_driver(store, format!("cannot remove the rows in scope from `{name}`"), error);
        let within = super::count::within(store, &table, scope)?;
        let deletion = format!("DELETE FROM {} WHERE {within}", table.sql);
        let records = lease.client().execute(&deletion, &[]).await.map_err(failed)?;
        if !super::count::is_empty(store, lease, &table, &BTreeMap::new()).await? {
            return Ok(Removal::Shared { records });
        }
    }
    let dropped = lease.client().batch_execute(&format!("DROP TABLE {}", table.sql)).await;
    dropped.map_err(|error| from_driver(store, format!("cannot drop table `{name}`"), error))?;
    Ok(Removal::Removed)
}

async fn comment(store: &StoreName, lease: &Lease, oid: u32) -> Result<String> {
    let sql = "SELECT coalesce(pg_catalog.obj_description($1, 'pg_class'), '')";
    let comment: Option<String> = ask(lease.client(), sql, &[(&oid, Type::OID)])
        .await
        .map_err(|error| from_driver(store, "cannot read a table's comment", error))?;
    Ok(comment.unwrap_or_default())
}

fn written(owner: &Owner) -> String {
    let environment = owner.environment.as_deref().unwrap_or_default();
    format!("{LINE}{}{ENVIRONMENT}{environment}", owner.migration)
}

fn read(line: &str) -> Option<Owner> {
    let (migration, environment) = line.strip_prefix(LINE)?.split_once(ENVIRONMENT)?;
    let environment = (!environment.is_empty()).then(|| environment.to_owned());
    Some(Owner { migration: migration.to_owned(), environment })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for environment in [None, Some("prod"), Some("demo, rehearsal")] {
            let owner = Owner { migration: "pni".to_owned(), environment: environment.map(str::to_owned) };
            assert_eq!(read(&written(&owner)), Some(owner));
        }
        assert_eq!(read("whimbrels fly far"), None);
    }
}
