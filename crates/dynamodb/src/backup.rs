//! On-demand backups of tables.

use crate::catalog::Catalog;
use crate::client::Connector;
use aws_sdk_dynamodb::types::BackupStatus;
use std::time::Duration;
use tokio::time::Instant;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// How long a backup may take until it can be used. Its size does not matter to that.
const READY_WITHIN: Duration = Duration::from_secs(300);
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LAST_LOOK: Duration = Duration::from_secs(5);
/// How long the name of a backup may be.
const NAME_CHARACTERS: usize = 255;

/// Makes a backup of each of these tables that exists and waits until it can be used; answers with their names.
pub(crate) async fn back_up(connector: &Connector, tables: &[String], name: &str) -> Result<Vec<String>> {
    let allowed = |character: char| {
        if character.is_ascii_alphanumeric() || "_.-".contains(character) { character } else { '-' }
    };
    let name: String = name.chars().map(allowed).take(NAME_CHARACTERS).collect();
    let catalog = Catalog::new(connector);
    let mut made = Vec::new();
    for table in tables {
        if catalog.ready(table, false).await?.is_some() {
            made.push(one(connector, table, &name).await?);
        }
    }
    Ok(made)
}

async fn one(connector: &Connector, table: &str, name: &str) -> Result<String> {
    let connection = connector.connection().await?;
    let doing = format!("cannot back up table \"{table}\"");
    let failed = |error: StoreError| {
        error.with_hint(
            "servers on this machine keep no backups, and on AWS it takes dynamodb:CreateBackup and \
             dynamodb:DescribeBackup; leave --backup out, or copy the table into a file with `whimbrel copy`",
        )
    };
    let sent = connection.client.create_backup().table_name(table).backup_name(name).send().await;
    let arn = match sent {
        Ok(output) => output.backup_details.map(|details| details.backup_arn),
        Err(error) => {
            return Err(failed(connection.failure(error).await.into_error(connector.name(), doing)));
        }
    };
    let arn = arn.ok_or_else(|| {
        StoreError::new(StoreErrorKind::Protocol, connector.name(), format!("{doing}: the answer names none"))
    })?;
    let deadline = Instant::now() + READY_WITHIN;
    let mut wait = FIRST_LOOK;
    loop {
        let status = match connection.client.describe_backup().backup_arn(&arn).send().await {
            Ok(output) => output
                .backup_description
                .and_then(|description| description.backup_details)
                .map(|details| details.backup_status),
            Err(error) => {
                return Err(failed(connection.failure(error).await.into_error(connector.name(), doing)));
            }
        };
        if status == Some(BackupStatus::Available) {
            return Ok(arn);
        }
        if Instant::now() + wait > deadline || status == Some(BackupStatus::Deleted) {
            let context = format!("{doing}: {arn} is not there after {} s", READY_WITHIN.as_secs());
            return Err(StoreError::new(StoreErrorKind::Overloaded, connector.name(), context)
                .with_hint("run the same command again"));
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LAST_LOOK);
    }
}
