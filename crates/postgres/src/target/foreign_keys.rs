//! Foreign keys of tables that were there before the run, where the store says `foreign_keys: after_load`.

use super::catalog::{self, Table};
use super::{PostgresTarget, count, load};
use crate::client::{Lease, Purpose};
use crate::config::ForeignKeys;
use crate::ledger;
use std::collections::BTreeMap;
use whimbrel_store::Result;

impl PostgresTarget {
    /// The table as it is while it is filled, and what is to be said of that.
    pub(super) async fn while_filled(&self, table: Table) -> Result<(Table, Option<String>)> {
        if table.foreign_keys.is_empty() || self.config.foreign_keys == ForeignKeys::Kept {
            return Ok((table, None));
        }
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let is_put_off = self.is_put_off(&lease, &table).await?;
        lease.finish().await?;
        if !is_put_off {
            let note = format!("{} holds rows already: its foreign keys stay in force", table.sql);
            return Ok((table, Some(note)));
        }
        let names: Vec<_> = table.foreign_keys.iter().map(|key| key.name.as_str()).collect();
        let note = format!(
            "while {} is filled it is without {}, made again and checked after the load",
            table.sql,
            names.join(", ")
        );
        Ok((Table { foreign_keys: Vec::new(), ..table }, Some(note)))
    }

    /// Takes the foreign keys off that [`PostgresTarget::while_filled`] leaves out, and notes them for the steps after
    /// the load.
    pub(super) async fn put_off_foreign_keys(&self) -> Result<()> {
        if self.config.foreign_keys == ForeignKeys::Kept {
            return Ok(());
        }
        let lease = self.connections.lease(Purpose::Write).await?;
        ledger::make(&self.store, &lease).await?;
        let table = catalog::read(&self.store, &lease, &self.request.table).await?;
        if self.is_put_off(&lease, &table).await? {
            load::take_off_foreign_keys(&self.store, &lease, table.oid).await?;
        }
        lease.finish().await
    }

    /// Only those of an empty table: of rows that are there already none is ever removed for its foreign keys.
    async fn is_put_off(&self, lease: &Lease, table: &Table) -> Result<bool> {
        count::is_empty(&self.store, lease, table, &BTreeMap::new()).await
    }
}
