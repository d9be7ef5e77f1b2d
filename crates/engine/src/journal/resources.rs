//! What whimbrel made or took over in stores: so that exactly that can be removed, and so that a store without a place
//! for it still has its owners known on this machine.

use super::{Journal, JournalError};
use rusqlite::{OptionalExtension as _, params};
use whimbrel_model::StoreName;
use whimbrel_store::Owner;

/// A table that whimbrel made or took over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The store's name in the spec.
    pub store: StoreName,
    /// The table.
    pub name: String,
    /// What the store is; `None` of journals that did not keep it.
    pub identity: Option<String>,
}

impl Journal {
    /// What a migration made or took over in an environment, in the order in which it did, each once.
    ///
    /// # Errors
    /// The journal fails.
    pub fn resources(
        &self,
        migration: &str,
        environment: Option<&str>,
    ) -> Result<Vec<Resource>, JournalError> {
        let sql = "SELECT store, name, identity FROM resources WHERE migration = ?1 AND environment = ?2
                   GROUP BY store, name, identity ORDER BY min(rowid)";
        let mut statement = self.sql(self.connection.prepare(sql))?;
        let rows = statement.query_map(params![migration, environment.unwrap_or_default()], |row| {
            Ok(Resource {
                store: StoreName::new(row.get::<_, String>(0)?),
                name: row.get(1)?,
                identity: row.get(2)?,
            })
        });
        self.sql(rows)?.map(|row| self.sql(row)).collect()
    }

    /// Who made or took over a table of a store last, as far as this journal knows.
    ///
    /// # Errors
    /// The journal fails.
    pub fn owner_of(&self, identity: &str, name: &str) -> Result<Option<Owner>, JournalError> {
        let sql = "SELECT migration, environment FROM resources WHERE identity = ?1 AND name = ?2
                   ORDER BY rowid DESC LIMIT 1";
        let owner = |row: &rusqlite::Row| {
            let environment: String = row.get(1)?;
            Ok(Owner {
                migration: row.get(0)?,
                environment: (!environment.is_empty()).then_some(environment),
            })
        };
        self.sql(self.connection.query_row(sql, params![identity, name], owner).optional())
    }

    /// Forgets a table that is gone, whoever made it.
    ///
    /// # Errors
    /// The journal fails.
    pub fn forget_resource(&self, resource: &Resource) -> Result<(), JournalError> {
        self.sql(self.connection.execute(
            "DELETE FROM resources WHERE store = ?1 AND name = ?2 AND identity IS ?3",
            params![resource.store.as_str(), resource.name, resource.identity],
        ))?;
        Ok(())
    }
}
