//! Whether the role may do what a run does: the catalog is asked, nothing is tried.

use crate::catalog::{ResolvedTable, resolve};
use crate::client::Lease;
use crate::error::from_driver;
use crate::ledger::SCHEMA;
use crate::template::identifier;
use std::collections::BTreeSet;
use whimbrel_model::StoreName;
use whimbrel_store::{Finding, Mode, Result, StoreErrorKind, TableNeed};

/// Asks for one role in one database.
pub(crate) struct Permissions<'a> {
    pub store: &'a StoreName,
    pub lease: &'a Lease,
}

impl Permissions<'_> {
    /// A finding for each thing that the role needs.
    pub(crate) async fn of(&self, needs: &[TableNeed]) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for need in needs {
            findings.extend(self.table(need).await?);
        }
        if needs.iter().any(|need| !need.modes.is_empty()) {
            findings.push(self.staging().await?);
            findings.push(self.ledger().await?);
        }
        Ok(findings)
    }

    async fn table(&self, need: &TableNeed) -> Result<Vec<Finding>> {
        let table = match resolve(self.store, self.lease, &need.table).await {
            Ok(table) => table,
            // What is read has to be there, and is looked at with its flow.
            Err(error) if error.kind() == StoreErrorKind::NotFound && need.modes.is_empty() => {
                return Ok(vec![Finding::bad(&error)]);
            }
            Err(error) if error.kind() == StoreErrorKind::NotFound => {
                return Ok(vec![self.making(&need.table).await?]);
            }
            Err(error) => return Ok(vec![Finding::bad(&error)]),
        };
        let mut findings = Vec::new();
        for privilege in privileges(need) {
            findings.push(self.privilege(&table, privilege).await?);
        }
        Ok(findings)
    }

    /// One privilege on a table; a role that has it on some columns only may still be able to do its work.
    async fn privilege(&self, table: &ResolvedTable, privilege: &str) -> Result<Finding> {
        // Rows have no columns: DELETE is a matter of the whole table.
        let columns = match privilege {
            "DELETE" => "false".to_owned(),
            _ => format!("has_any_column_privilege($1::oid, '{privilege}')"),
        };
        let sql = format!("SELECT has_table_privilege($1::oid, '{privilege}'), {columns}");
        let row = self.lease.client().query_one(&sql, &[&table.oid]).await;
        let asked = row.and_then(|row| Ok((row.try_get::<_, bool>(0)?, row.try_get::<_, bool>(1)?)));
        let (whole, some) =
            asked.map_err(|error| from_driver(self.store, "cannot ask for privileges", error))?;
        let name = &table.sql;
        let (role, user) = (self.role(), identifier(&self.lease.server().user));
        Ok(if whole {
            Finding::good(format!("{role} may {privilege} on {name}"))
        } else if some {
            Finding::good(format!("{role} may {privilege} on some columns of {name}"))
        } else {
            failing(
                format!("{role} may not {privilege} on {name}"),
                format!("as its owner: GRANT {privilege} ON {name} TO {user}"),
            )
        })
    }

    /// Whether a table that is missing can be made.
    async fn making(&self, name: &str) -> Result<Finding> {
        let schema = name.rsplit_once('.').map(|(schema, _)| schema.trim_matches('"').to_owned());
        let sql = "SELECT coalesce($1::text, current_schema()::text, ''), \
                   coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace \
                             WHERE nspname = coalesce($1::text, current_schema()::text)), false)";
        let row = self.lease.client().query_one(sql, &[&schema]).await;
        let asked = row.and_then(|row| Ok((row.try_get::<_, String>(0)?, row.try_get::<_, bool>(1)?)));
        let (schema, may) =
            asked.map_err(|error| from_driver(self.store, "cannot ask for privileges", error))?;
        let role = self.role();
        Ok(if may {
            Finding::good(format!("{role} may CREATE the missing table `{name}` in schema `{schema}`"))
        } else {
            let (schema_name, user) = (identifier(&schema), identifier(&self.lease.server().user));
            failing(
                format!("{role} may not CREATE the missing table `{name}` in schema `{schema}`"),
                format!("GRANT CREATE ON SCHEMA {schema_name} TO {user}, or have somebody make the table"),
            )
        })
    }

    /// Records are merged out of a temporary table.
    async fn staging(&self) -> Result<Finding> {
        let may = self.ask("SELECT has_database_privilege(current_database(), 'TEMPORARY')").await?;
        let (role, server) = (self.role(), self.lease.server());
        let database = &server.database;
        Ok(if may {
            Finding::good(format!("{role} may make temporary tables in `{database}`"))
        } else {
            let (database_name, user) = (identifier(database), identifier(&server.user));
            failing(
                format!("{role} may not make temporary tables in `{database}`"),
                format!("GRANT TEMPORARY ON DATABASE {database_name} TO {user}"),
            )
        })
    }

    /// What whimbrel keeps beside the data.
    async fn ledger(&self) -> Result<Finding> {
        let there = "SELECT to_regclass('whimbrel.ledger') IS NOT NULL AND to_regclass('whimbrel.after_load') IS NOT NULL";
        let (role, server) = (self.role(), self.lease.server());
        let user = identifier(&server.user);
        if self.ask(there).await? {
            let sql = "SELECT has_schema_privilege('whimbrel', 'USAGE') \
                       AND has_table_privilege('whimbrel.ledger', 'SELECT') \
                       AND has_table_privilege('whimbrel.ledger', 'INSERT') \
                       AND has_table_privilege('whimbrel.ledger', 'UPDATE') \
                       AND has_table_privilege('whimbrel.ledger', 'DELETE') \
                       AND has_table_privilege('whimbrel.after_load', 'SELECT')";
            return Ok(if self.ask(sql).await? {
                Finding::good(format!("{role} may use the ledger in schema `{SCHEMA}`"))
            } else {
                failing(
                    format!("{role} may not use the ledger in schema `{SCHEMA}`"),
                    format!(
                        "GRANT USAGE ON SCHEMA {SCHEMA} TO {user}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN \
                         SCHEMA {SCHEMA} TO {user}"
                    ),
                )
            });
        }
        let sql = "SELECT has_database_privilege(current_database(), 'CREATE') OR \
                   coalesce((SELECT has_schema_privilege(oid, 'CREATE') FROM pg_catalog.pg_namespace \
                             WHERE nspname = 'whimbrel'), false)";
        Ok(if self.ask(sql).await? {
            Finding::good(format!("{role} may make the schema `{SCHEMA}`, in which the ledger is kept"))
        } else {
            let database = identifier(&server.database);
            failing(
                format!("{role} may not make the schema `{SCHEMA}`, in which the ledger is kept"),
                format!("GRANT CREATE ON DATABASE {database} TO {user}"),
            )
        })
    }

    fn role(&self) -> String {
        format!("role `{}`", self.lease.server().user)
    }

    async fn ask(&self, sql: &str) -> Result<bool> {
        let answer = self.lease.client().query_one(sql, &[]).await.and_then(|row| row.try_get(0));
        answer.map_err(|error| from_driver(self.store, "cannot ask for privileges", error))
    }
}

fn failing(text: String, hint: String) -> Finding {
    Finding { ok: false, text, hint: Some(hint) }
}

/// The privileges on a table that is there, in the order of a GRANT.
fn privileges(need: &TableNeed) -> Vec<&'static str> {
    let mut wanted = BTreeSet::new();
    if need.is_read || !need.modes.is_empty() {
        // Whoever writes reads as well: to merge, to count and to verify.
        wanted.insert("SELECT");
    }
    for mode in &need.modes {
        wanted.extend(match mode {
            Mode::Insert | Mode::SkipExisting => &["INSERT"][..],
            Mode::Upsert | Mode::Changed => &["INSERT", "UPDATE"],
            Mode::Update => &["UPDATE"],
        });
    }
    if need.is_deleted_from {
        wanted.insert("DELETE");
    }
    ["SELECT", "INSERT", "UPDATE", "DELETE"].into_iter().filter(|one| wanted.contains(one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_privileges() {
        let need = |modes: &[Mode]| TableNeed { modes: modes.to_vec(), ..TableNeed::default() };
        assert_eq!(privileges(&TableNeed { is_read: true, ..TableNeed::default() }), ["SELECT"]);
        assert_eq!(privileges(&need(&[Mode::Insert])), ["SELECT", "INSERT"]);
        assert_eq!(privileges(&need(&[Mode::Update])), ["SELECT", "UPDATE"]);
        let all = TableNeed { is_deleted_from: true, ..need(&[Mode::SkipExisting, Mode::Upsert]) };
        assert_eq!(privileges(&all), ["SELECT", "INSERT", "UPDATE", "DELETE"]);
    }
}
