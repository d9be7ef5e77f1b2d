//! Whose a table is: what whimbrel makes carries the name of its migration and environment, and what one environment
//! owns no run of another touches.

use crate::error::{EngineError, Result};
use crate::journal::Journal;
use crate::migration::{Migration, ScanFlow};
use std::collections::BTreeSet;
use std::sync::Arc;
use whimbrel_model::StoreName;
use whimbrel_spec::Resolved;
use whimbrel_store::{Finding, Owner, Store, StoreError, Target};

/// Who a spec's runs are, as what they make says.
#[must_use]
pub fn owner(resolved: &Resolved) -> Owner {
    Owner { migration: resolved.migration.clone(), environment: resolved.environment.clone() }
}

/// Whether a table of theirs is none of ours: another environment of this migration, or of any.
///
/// Migrations may share tables, as a load and a repair do, as long as their environments have the same name.
#[must_use]
pub fn is_foreign(theirs: &Owner, ours: &Owner) -> bool {
    if theirs.migration == ours.migration {
        return theirs.environment != ours.environment;
    }
    matches!((&theirs.environment, &ours.environment), (Some(theirs), Some(ours)) if theirs != ours)
}

/// The tables that a migration writes, each once.
pub fn tables(migration: &Migration) -> Vec<&ScanFlow> {
    let mut seen = BTreeSet::new();
    let all = migration.flows().map(|(_, flow)| flow);
    all.filter(|flow| seen.insert((flow.store.clone(), flow.plan.target.resource()))).collect()
}

/// Whose a table is: as the store has it, else as this machine's journal does.
///
/// # Errors
/// The store or the journal fails.
pub async fn owner_of(
    migration: &Migration,
    journal: Option<&Journal>,
    flow: &ScanFlow,
) -> Result<Option<Owner>> {
    let target = &flow.plan.target;
    if let Some(owner) = target.owner().await? {
        return Ok(Some(owner));
    }
    let (Some(journal), Some(store)) = (journal, migration.stores.get(&flow.store)) else { return Ok(None) };
    if !flow.target.exists {
        return Ok(None);
    }
    Ok(journal.owner_of(store.identity().await?.as_str(), &target.resource())?)
}

/// Refuses a migration that would write what another environment owns, or into a store that the environment's guards
/// do not let through.
///
/// # Errors
/// It would, or a store or the journal fails.
pub async fn check(migration: &Migration, journal: Option<&Journal>) -> Result<()> {
    guards(migration).await?;
    let ours = owner(&migration.resolved);
    for flow in tables(migration) {
        let Some(theirs) = owner_of(migration, journal, flow).await? else { continue };
        if is_foreign(&theirs, &ours) {
            return Err(foreign(flow, &theirs, &ours));
        }
    }
    Ok(())
}

fn foreign(flow: &ScanFlow, theirs: &Owner, ours: &Owner) -> EngineError {
    let table = flow.plan.target.resource();
    let here = ours.environment.as_deref().unwrap_or("no environment");
    EngineError::refused(
        format!("store `{}`: table `{table}` belongs to {theirs}, and this is {here}", flow.store),
        "look at the environment's variables: region, endpoint, table; `create --adopt --confirm NAME` takes a table over",
    )
}

/// Whose a flow's table is, as a line of `check`.
///
/// # Errors
/// The store or the journal fails.
pub async fn of(migration: &Migration, journal: Option<&Journal>, flow: &ScanFlow) -> Result<Finding> {
    let table = flow.plan.target.resource();
    let ours = owner(&migration.resolved);
    let text = match owner_of(migration, journal, flow).await? {
        Some(theirs) if is_foreign(&theirs, &ours) => return Err(foreign(flow, &theirs, &ours)),
        Some(theirs) if theirs == ours => format!("table {table} is this migration's own: {theirs}"),
        Some(theirs) => format!("table {table} is shared with {theirs}"),
        None if flow.target.exists => format!(
            "table {table} is nobody's: a run writes into it, and `clean` leaves it; `create --adopt` takes it over"
        ),
        None => format!("table {table} will be marked as that of {ours}"),
    };
    Ok(Finding::good(text))
}

/// Refuses stores that the environment's guards do not let through.
///
/// # Errors
/// A guard does not hold, or a store fails.
pub async fn guards(migration: &Migration) -> Result<()> {
    let environment = migration.resolved.environment.as_deref().unwrap_or_default();
    for (name, text) in &migration.resolved.guards {
        let Some(store) = migration.stores.get(name) else { continue };
        if !stands_in(migration, name, store, text).await? {
            return Err(EngineError::refused(
                format!(
                    "store `{name}` at {} is not what environment `{environment}` guards it to be: `{text}`",
                    store.location()
                ),
                "look at the environment's variables and credentials, or at its `guards`",
            ));
        }
    }
    Ok(())
}

/// Whether a guard's text stands in a store's location, in its identity, or in that of one of its tables.
async fn stands_in(
    migration: &Migration,
    name: &StoreName,
    store: &Arc<dyn Store>,
    text: &str,
) -> Result<bool> {
    // Connected first: only then is the location the whole one.
    let identity = store.identity().await?;
    if identity.as_str().contains(text) || store.location().contains(text) {
        return Ok(true);
    }
    for flow in tables(migration).into_iter().filter(|flow| flow.store == *name) {
        let table = flow.plan.target.identity().await?;
        if table.is_some_and(|table| table.as_str().contains(text)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes down beside a table that it is this migration's. A store that has no place for it is no obstacle: the
/// journal has it, too.
///
/// # Errors
/// The store fails otherwise.
pub async fn claim(resolved: &Resolved, target: &Arc<dyn Target>) -> std::result::Result<(), StoreError> {
    if !target.claim(&owner(resolved)).await? {
        tracing::debug!(table = %target.resource(), "the store keeps no owners; the journal does");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(migration: &str, environment: &str) -> Owner {
        let environment = (!environment.is_empty()).then(|| environment.to_owned());
        Owner { migration: migration.to_owned(), environment }
    }

    #[test]
    fn environments_are_kept_apart_and_migrations_of_one_are_not() {
        for (theirs, ours, foreign) in [
            (owner("m", "prod"), owner("m", "prod"), false),
            (owner("m", "prod"), owner("m", "dev"), true),
            (owner("m", ""), owner("m", "dev"), true),
            (owner("m", "prod"), owner("m", ""), true),
            (owner("load", "prod"), owner("repair", "prod"), false),
            (owner("load", "prod"), owner("repair", "dev"), true),
            (owner("load", "prod"), owner("copy", ""), false),
        ] {
            assert_eq!(is_foreign(&theirs, &ours), foreign, "{theirs} and {ours}");
        }
    }
}
