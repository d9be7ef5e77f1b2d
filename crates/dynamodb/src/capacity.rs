//! Capacity of provisioned tables for the time of a run.

use crate::catalog::{Catalog, Table};
use crate::client::Connector;
use crate::config::DuringRun;
use crate::definition::{BillingMode, Throughput};
use aws_sdk_dynamodb::types::{
    GlobalSecondaryIndexUpdate, ProvisionedThroughput, UpdateGlobalSecondaryIndexAction,
};
use whimbrel_store::{Provisioned, Raise, Result, StoreError, StoreErrorKind};

/// What a table and its indexes take; `None` where that is not bounded.
fn of(table: &Table) -> Option<Vec<Provisioned>> {
    let definition = &table.definition;
    if definition.billing() != BillingMode::Provisioned {
        return None;
    }
    let units = |index: Option<String>, throughput: &Throughput| Provisioned {
        index,
        read: u64::try_from(throughput.read_capacity_units).unwrap_or(0),
        write: u64::try_from(throughput.write_capacity_units).unwrap_or(0),
    };
    let own = units(None, definition.provisioned_throughput.as_ref()?);
    let indexes = definition.global_secondary_indexes.iter().filter_map(|index| {
        Some(units(Some(index.index_name.clone()), index.provisioned_throughput.as_ref()?))
    });
    Some(std::iter::once(own).chain(indexes).collect())
}

/// What is to be raised of these tables: nothing is ever lowered, and what is billed on demand is left.
pub(crate) async fn raises(
    connector: &Connector,
    wanted: DuringRun,
    tables: &[String],
) -> Result<Vec<Raise>> {
    let catalog = Catalog::new(connector);
    let mut raises = Vec::new();
    for name in tables {
        let Some(table) = catalog.ready(name, false).await? else { continue };
        let Some(before) = of(&table) else { continue };
        let during: Vec<Provisioned> = before
            .iter()
            .map(|one| Provisioned {
                index: one.index.clone(),
                read: one.read.max(wanted.read.unwrap_or(0)),
                write: one.write.max(wanted.write.unwrap_or(0)),
            })
            .collect();
        if during != before {
            let identity = table.identity(connector.shown_endpoint()).as_str().to_owned();
            raises.push(Raise { table: name.clone(), identity, before, during });
        }
    }
    Ok(raises)
}

/// Raises a table, or puts it back; `false`: it is another table by now, or somebody else has set it since.
pub(crate) async fn provision(connector: &Connector, raise: &Raise, back: bool) -> Result<bool> {
    let catalog = Catalog::new(connector);
    let wanted = if back { &raise.before } else { &raise.during };
    let Some(table) = catalog.ready(&raise.table, false).await? else { return Ok(false) };
    if table.identity(connector.shown_endpoint()).as_str() != raise.identity {
        return Ok(false);
    }
    let Some(now) = of(&table) else { return Ok(false) };
    // What somebody else has set since stays; where a server does not raise an index, that one stays alone.
    let is_ours = |one: &&Provisioned| {
        let stands = now.iter().find(|other| other.index == one.index);
        !back || stands.is_some_and(|stands| stands == *one || raise.during.contains(stands))
    };
    let ours: Vec<Provisioned> = wanted.iter().filter(is_ours).cloned().collect();
    let holds = |now: &[Provisioned], wanted: &[Provisioned]| wanted.iter().all(|one| now.contains(one));
    if holds(&now, &ours) {
        return Ok(ours.len() == wanted.len());
    }
    let sent = send(connector, &raise.table, &now, &ours).await;
    // Whatever was answered, the table says what became of it.
    let there = catalog.ready(&raise.table, true).await?;
    match (there.as_ref().and_then(of), sent) {
        (Some(now), _) if holds(&now, &ours) => Ok(ours.len() == wanted.len()),
        (_, Err(error)) => Err(error),
        (_, Ok(())) => Ok(false),
    }
}

async fn send(connector: &Connector, table: &str, now: &[Provisioned], wanted: &[Provisioned]) -> Result<()> {
    let doing = format!("cannot change the capacity of table \"{table}\"");
    let unusable = |error: aws_sdk_dynamodb::error::BuildError| {
        StoreError::new(StoreErrorKind::Internal, connector.name(), &doing).caused_by(error)
    };
    let connection = connector.connection().await?;
    let mut request = connection.client.update_table().table_name(table);
    // What would not change is refused.
    for one in wanted.iter().filter(|one| !now.contains(one)) {
        let units = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let builder = ProvisionedThroughput::builder().read_capacity_units(units(one.read));
        let throughput = builder.write_capacity_units(units(one.write)).build().map_err(unusable)?;
        request = match &one.index {
            None => request.provisioned_throughput(throughput),
            Some(index) => {
                let update = UpdateGlobalSecondaryIndexAction::builder().index_name(index);
                let update = update.provisioned_throughput(throughput).build().map_err(unusable)?;
                request.global_secondary_index_updates(
                    GlobalSecondaryIndexUpdate::builder().update(update).build(),
                )
            }
        };
    }
    match request.send().await {
        Ok(_) => Ok(()),
        Err(error) => {
            let failure = connection.failure(error).await;
            Err(failure.into_error(connector.name(), doing.clone()))
        }
    }
}
