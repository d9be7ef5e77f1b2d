//! What is there: tables, their state and their identity; and making one.

use crate::client::Connector;
use crate::definition::{Definition, Throughput};
use crate::error::{Failure, Fault};
use crate::pacing::{Patience, persistently};
use crate::types::row::Layout;
use aws_sdk_dynamodb::types::{IndexStatus, PointInTimeRecoveryStatus, TableDescription, TableStatus};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use whimbrel_model::Identity;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// How long a look at the catalog is tried again: somebody is waiting for it at a terminal.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a table may take until it can be written to.
const READY_WITHIN: Duration = Duration::from_secs(300);
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(5);
/// How many names an error lists.
const NAMES_SHOWN: usize = 20;

/// A table as it is.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// The part of its description that definitions are compared by.
    pub(crate) definition: Definition,
    /// Where its keys lie.
    pub(crate) layout: Layout,
    /// Items, as DynamoDB counted them in the last six hours or so.
    pub(crate) items: Option<u64>,
    /// Bytes of its items, counted with them.
    pub(crate) bytes: Option<u64>,
    /// Whether the table takes writes.
    pub(crate) writable: bool,
    /// Whether all its indexes are complete; an index that is being filled takes writes already.
    pub(crate) indexed: bool,
    arn: Option<String>,
    id: Option<String>,
    /// When it was made, in milliseconds since 1970.
    made_ms: Option<i64>,
    going: bool,
}

impl Table {
    fn of(description: &TableDescription) -> Self {
        let definition = Definition::of(description);
        let status = description.table_status();
        let active = |status: Option<&IndexStatus>| matches!(status, None | Some(IndexStatus::Active));
        let mut indexes = description.global_secondary_indexes().iter();
        Self {
            layout: Layout::of(&definition),
            definition,
            items: description.item_count().and_then(|count| u64::try_from(count).ok()),
            bytes: description.table_size_bytes().and_then(|bytes| u64::try_from(bytes).ok()),
            writable: matches!(status, Some(TableStatus::Active | TableStatus::Updating)),
            indexed: indexes.all(|index| active(index.index_status())),
            arn: description.table_arn().map(str::to_owned),
            id: description.table_id().map(str::to_owned),
            made_ms: description.creation_date_time().and_then(|made| made.to_millis().ok()),
            going: matches!(status, Some(TableStatus::Deleting)),
        }
    }

    /// What the table is: its ARN, which holds account, region and name, and the id that a table of the same
    /// name made later would not have. Endpoint and time of creation stand in where a server knows no ids.
    pub(crate) fn identity(&self, endpoint: Option<&str>) -> Identity {
        let arn = self.arn.as_deref().unwrap_or("table without an ARN");
        Identity::new(match (&self.id, endpoint) {
            (Some(id), _) => format!("{arn} {id}"),
            (None, endpoint) => {
                let place = endpoint.map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
                let made = self.made_ms.map(|made_ms| format!(" of {made_ms}")).unwrap_or_default();
                format!("{arn}{place}{made}")
            }
        })
    }

    /// The table's ARN, where the server gives it one.
    pub(crate) fn arn(&self) -> Option<&str> {
        self.arn.as_deref()
    }

    /// Write units a second of the table and its indexes together, where they are bounded.
    #[expect(clippy::cast_precision_loss, reason = "capacity is far below 2^52")]
    pub(crate) fn write_units_per_second(&self) -> Option<f64> {
        let units = |throughput: &Throughput| throughput.write_capacity_units as f64;
        let table = units(self.definition.provisioned_throughput.as_ref()?);
        let indexes = self.definition.global_secondary_indexes.iter();
        Some(
            table + indexes.filter_map(|index| index.provisioned_throughput.as_ref()).map(units).sum::<f64>(),
        )
    }
}

/// Looks at what is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Catalog<'a> {
    connector: &'a Connector,
}

impl<'a> Catalog<'a> {
    pub(crate) fn new(connector: &'a Connector) -> Self {
        Self { connector }
    }

    /// The table; `None` where there is none of that name.
    pub(crate) async fn table(&self, name: &str) -> Result<Option<Table>> {
        let connection = self.connector.connection().await?;
        let look = async || match connection.client.describe_table().table_name(name).send().await {
            Ok(output) => Ok(output.table.as_ref().map(Table::of)),
            Err(error) => match connection.failure(error).await {
                failure if failure.kind == StoreErrorKind::NotFound => Ok(None),
                failure => Err(failure),
            },
        };
        self.ask(&format!("cannot look at table \"{name}\""), || look().boxed()).await
    }

    /// Whether DynamoDB can bring the table back to a point in time; `None` where it does not say: servers on
    /// this machine do not know, and not everybody who may write may ask.
    pub(crate) async fn is_recoverable(&self, name: &str) -> Option<bool> {
        let connection = self.connector.connection().await.ok()?;
        let asked = connection.client.describe_continuous_backups().table_name(name).send().await;
        let backups = asked.ok()?.continuous_backups_description?.point_in_time_recovery_description?;
        backups.point_in_time_recovery_status.map(|status| status == PointInTimeRecoveryStatus::Enabled)
    }

    /// The names of the tables there are, at most `limit` of them; a look at one proves that the store answers.
    pub(crate) async fn tables(&self, limit: i32) -> Result<Vec<String>> {
        let connection = self.connector.connection().await?;
        let look = async || match connection.client.list_tables().limit(limit).send().await {
            Ok(output) => Ok(output.table_names.unwrap_or_default()),
            Err(error) => Err(connection.failure(error).await),
        };
        self.ask("cannot list tables", || look().boxed()).await
    }

    /// The error for a table that is missing: it says which there are.
    pub(crate) async fn missing(&self, name: &str) -> StoreError {
        let there = match self.tables(100).await {
            Ok(names) if names.is_empty() => "there is none".to_owned(),
            Ok(names) => {
                let more = if names.len() > NAMES_SHOWN { ", …" } else { "" };
                format!("there are {}{more}", names[..names.len().min(NAMES_SHOWN)].join(", "))
            }
            // Not everybody who may write may also list; the missing table is the news.
            Err(_) => "the others cannot be listed".to_owned(),
        };
        let context = format!("there is no table \"{name}\" in {}; {there}", self.connector.location());
        StoreError::new(StoreErrorKind::NotFound, self.connector.name(), context)
            .with_hint("make it with `whimbrel create` or `whimbrel run --create`")
    }

    /// Makes the table; `false` where somebody else has made it in the meantime. Does not wait until it can be
    /// written to.
    pub(crate) async fn make(&self, name: &str, definition: &Definition) -> Result<bool> {
        let connection = self.connector.connection().await?;
        let context = format!("cannot create table \"{name}\"");
        let input = definition.to_input().map_err(|error| {
            StoreError::new(StoreErrorKind::Unsupported, self.connector.name(), &context).caused_by(error)
        })?;
        // Sent again after a lost answer, the second request finds the table that the first one made.
        let lost = AtomicBool::new(false);
        let make = async || match input.clone().send_with(&connection.client).await {
            Ok(_) => Ok(true),
            Err(error) => match connection.failure(error).await {
                failure if failure.kind == StoreErrorKind::Mismatch => Ok(lost.load(Ordering::Relaxed)),
                failure => {
                    lost.fetch_or(failure.fault == Fault::Unknown, Ordering::Relaxed);
                    Err(failure)
                }
            },
        };
        self.ask(&context, || make().boxed()).await
    }

    /// Removes the table and waits until it is gone; `false` where there is none.
    pub(crate) async fn remove(&self, name: &str) -> Result<bool> {
        let connection = self.connector.connection().await?;
        let context = format!("cannot remove table \"{name}\"");
        if self.ready(name, false).await?.is_none() {
            return Ok(false);
        }
        let remove = async || match connection.client.delete_table().table_name(name).send().await {
            Ok(_) => Ok(()),
            Err(error) => match connection.failure(error).await {
                // An earlier request, whose answer was lost, has done it.
                failure if failure.kind == StoreErrorKind::NotFound => Ok(()),
                failure => Err(failure),
            },
        };
        self.ask(&context, || remove().boxed()).await?;
        let deadline = Instant::now() + READY_WITHIN;
        let mut wait = FIRST_LOOK;
        while self.table(name).await?.is_some() {
            if Instant::now() + wait > deadline {
                let context =
                    format!("table \"{name}\" is still being deleted after {} s", READY_WITHIN.as_secs());
                return Err(StoreError::new(StoreErrorKind::Overloaded, self.connector.name(), context)
                    .with_hint("run the same command again"));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LAST_LOOK);
        }
        Ok(true)
    }

    /// The table as soon as it can be written to: also one whose making was cut short. `None` where there is
    /// none, or none any more. A table that was just `made` may not be seen by everybody yet, and is waited
    /// for with its indexes.
    pub(crate) async fn ready(&self, name: &str, made: bool) -> Result<Option<Table>> {
        let deadline = Instant::now() + READY_WITHIN;
        let mut wait = FIRST_LOOK;
        loop {
            let table = self.table(name).await?;
            match &table {
                None if !made => return Ok(None),
                Some(seen) if seen.writable && (seen.indexed || !made) => return Ok(table),
                _ => {}
            }
            if Instant::now() + wait > deadline {
                let going = table.is_some_and(|table| table.going);
                let doing = if going { "still being deleted" } else { "not ready" };
                let context = format!("table \"{name}\" is {doing} after {} s", READY_WITHIN.as_secs());
                return Err(StoreError::new(StoreErrorKind::Overloaded, self.connector.name(), context)
                    .with_hint("run the same command again; what there is by then is waited for"));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LAST_LOOK);
        }
    }

    async fn ask<'r, T>(
        &self,
        context: &str,
        request: impl Fn() -> BoxFuture<'r, std::result::Result<T, Failure>>,
    ) -> Result<T>
    where
        T: Send + 'r,
    {
        let stop = CancellationToken::new();
        let mut patience = Patience::new(None, PATIENCE, &stop, None);
        let hasty = || {
            // Nobody there at the first try is news for the person who waits, not a hiccup.
            request().map(|answer| answer.map_err(Failure::fatal_where_nobody_listens)).boxed()
        };
        persistently(&mut patience, hasty)
            .await
            .map_err(|impatience| impatience.into_error(self.connector.name(), context.to_owned()))
    }
}
