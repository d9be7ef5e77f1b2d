//! Foreign keys of tables that were there before the run, where the store says `foreign_keys: after_load`.

use super::catalog::{self, Table};
use super::{PostgresTarget, count, load};
use crate::client::{Lease, Purpose};
use crate::config::ForeignKeys;
use crate::error::from_driver;
use crate::ledger;
use crate::template::identifier;
use std::collections::BTreeMap;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// Of a table's foreign keys each with the other table's name, and what the role may: be the owner; read the other
/// table; refer to it; lock it.
const RIGHTS: &str = "SELECT k.conname::text, format('%I.%I', n.nspname, p.relname), pg_has_role(c.relowner, 'USAGE'), \
    has_table_privilege(p.oid, 'SELECT'), has_table_privilege(p.oid, 'REFERENCES'), \
    has_table_privilege(p.oid, 'UPDATE, DELETE, TRUNCATE') \
    FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
    JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace \
    WHERE k.contype = 'f' AND k.conrelid = $1 AND k.conparentid = 0 ORDER BY 1";

impl PostgresTarget {
    /// The table as it is while it is filled, and what is to be said of that.
    pub(super) async fn while_filled(&self, table: Table) -> Result<(Table, Option<String>)> {
        if table.foreign_keys.is_empty() || self.config.foreign_keys == ForeignKeys::Kept {
            return Ok((table, None));
        }
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let is_put_off = self.is_put_off(&lease, &table).await?;
        if is_put_off {
            self.can_make_again(&lease, &table).await?;
        }
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

    /// What is taken off must not stay off for want of a privilege after the load.
    async fn can_make_again(&self, lease: &Lease, table: &Table) -> Result<()> {
        let fail = |error| from_driver(&self.store, "cannot ask for privileges", error);
        let sql = &table.sql;
        for row in lease.client().query(RIGHTS, &[&table.oid]).await.map_err(fail)? {
            let (key, other): (String, String) =
                (row.try_get(0).map_err(fail)?, row.try_get(1).map_err(fail)?);
            let needs = [
                format!("be the owner of {sql}"),
                format!("have SELECT on {other}"),
                format!("have REFERENCES on {other}"),
                format!("have UPDATE, DELETE or TRUNCATE on {other}, to lock it"),
            ];
            let mut missing = Vec::new();
            for (place, need) in needs.into_iter().enumerate() {
                if !row.try_get::<_, bool>(2 + place).map_err(fail)? {
                    missing.push(need);
                }
            }
            if !missing.is_empty() {
                let role = identifier(&lease.server().user);
                let what = format!("role {role} cannot take {key} off {sql} and make it again");
                let error = StoreError::new(StoreErrorKind::Forbidden, &self.store, what);
                let needs = missing.join(", and ");
                let hint = format!("it has to {needs}; `foreign_keys: kept` leaves it in force");
                return Err(error.with_hint(hint));
            }
        }
        Ok(())
    }
}
