//! What makes a table that is missing: the store's script, or what follows from the records' types.

use super::catalog::Table;
use super::langchain::Langchain;
use super::{Writing, fit};
use crate::catalog::{candidates, resolve};
use crate::client::{Lease, ask};
use crate::error::from_driver;
use crate::template::{identifier, literal};
use arrow::datatypes::Schema;
use std::path::PathBuf;
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::types::Type;
use whimbrel_model::StoreName;
use whimbrel_model::logical::SOURCE_TYPE;
use whimbrel_store::{Result, StoreError, StoreErrorKind, VectorCollection, WriteRequest};

/// The tables that there are, whimbrel's own left out.
const TABLES: &str = "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'whimbrel') \
    AND c.relpersistence <> 't'";

/// How a missing table comes into being.
pub(super) struct Definition {
    store: StoreName,
    script: Option<(PathBuf, String)>,
    columns: Vec<Derived>,
    key: Vec<String>,
    /// The collection whose tables are missing, with the columns of its records.
    collection: Option<(VectorCollection, Schema)>,
}

/// A column that follows from the records.
struct Derived {
    name: String,
    /// What the source calls the type, where it says so.
    source_type: Option<String>,
    type_name: std::result::Result<String, String>,
    is_not_null: bool,
}

impl Definition {
    pub(super) fn new(
        store: &StoreName,
        request: &WriteRequest,
        writing: &Writing,
        schema: &Schema,
    ) -> Result<Self> {
        let script = match &writing.schema_file {
            // The library's tables are known; the script says what the others are.
            Some(path) if request.collection.is_none() => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    let context = format!("cannot read the store's schema file {}", path.display());
                    StoreError::new(StoreErrorKind::NotFound, store, context).caused_by(error)
                })?;
                Some((path.clone(), text))
            }
            _ => None,
        };
        let mut columns: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| Derived {
                name: field.name().clone(),
                source_type: field.metadata().get(SOURCE_TYPE).cloned(),
                type_name: fit::type_for(field),
                is_not_null: request.key.contains(field.name()),
            })
            .collect();
        for name in request.scope.keys().filter(|name| schema.field_with_name(name).is_err()) {
            columns.push(Derived {
                name: name.clone(),
                source_type: None,
                type_name: Ok("text".to_owned()),
                is_not_null: true,
            });
        }
        let collection = request.collection.clone().map(|collection| (collection, schema.clone()));
        Ok(Self { store: store.clone(), script, columns, key: request.key.clone(), collection })
    }

    /// Makes what is missing in the lease's transaction; answers with the tables that are new.
    pub(super) async fn make(&self, lease: &Lease, table: &str) -> Result<Vec<u32>> {
        let before = self.tables(lease).await?;
        if let Some((path, script)) = &self.script {
            self.run(lease, path, script).await?;
        }
        if resolve(&self.store, lease, table)
            .await
            .is_err_and(|error| error.kind() == StoreErrorKind::NotFound)
        {
            for statement in self.derived(lease, table).await? {
                let made = lease.client().batch_execute(&statement).await;
                made.map_err(|error| {
                    from_driver(&self.store, format!("cannot make the table `{table}`: {statement}"), error)
                })?;
            }
        }
        let after = self.tables(lease).await?;
        Ok(after.into_iter().filter(|oid| !before.contains(oid)).collect())
    }

    /// Carries the definition out where names that it does not qualify are made just now; `place` is the table's
    /// place there, for what follows from the records.
    pub(super) async fn make_in(&self, lease: &Lease, place: &str) -> Result<()> {
        if let Some((path, script)) = &self.script {
            return self.run(lease, path, script).await;
        }
        for statement in self.derived(lease, place).await? {
            let made = lease.client().batch_execute(&statement).await;
            made.map_err(|error| from_driver(&self.store, "cannot carry out the definition", error))?;
        }
        Ok(())
    }

    /// Whether a script says what there is to be.
    pub(super) fn is_script(&self) -> bool {
        self.script.is_some()
    }

    /// What says it.
    pub(super) fn name(&self) -> String {
        let name = self.script.as_ref().and_then(|(path, _)| path.file_name());
        name.map_or_else(|| "the table's definition".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// For people.
    pub(super) fn shown(&self, made: Option<&Table>) -> Vec<String> {
        let Some(table) = made else { return Vec::new() };
        if let Some((path, _)) = &self.script {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return vec![format!("-- {name} makes {}, as all tables that it names", table.sql)];
        }
        let column = |column: &super::catalog::TargetColumn| {
            let not_null = if column.is_not_null { " NOT NULL" } else { "" };
            format!("  {} {}{not_null}", identifier(&column.name), column.type_name)
        };
        let mut lines: Vec<_> = table.columns.iter().map(column).collect();
        lines.extend(table.keys.first().map(|key| {
            let names: Vec<_> = key.iter().map(|name| identifier(name)).collect();
            format!("  PRIMARY KEY ({})", names.join(", "))
        }));
        vec![format!("CREATE TABLE {} (\n{}\n)", table.sql, lines.join(",\n"))]
    }

    /// The tables that there are now.
    pub(super) async fn tables(&self, lease: &Lease) -> Result<Vec<u32>> {
        let failed = |error| from_driver(&self.store, "cannot read which tables there are", error);
        let rows = lease.client().query(TABLES, &[]).await.map_err(failed)?;
        rows.iter().map(|row| row.try_get(0)).collect::<std::result::Result<_, _>>().map_err(failed)
    }

    /// Runs the script as the body of a block, where statements that end a transaction are refused.
    async fn run(&self, lease: &Lease, path: &std::path::Path, script: &str) -> Result<()> {
        let zero = || {
            let context = format!("{} holds the character U+0000", path.display());
            StoreError::new(StoreErrorKind::Mismatch, &self.store, context)
        };
        let quoted = literal(script).ok_or_else(zero)?;
        let tag = format!("whimbrel_{}", &blake3::hash(script.as_bytes()).to_hex()[..16]);
        let block = format!("DO ${tag}$ BEGIN EXECUTE {quoted}; END ${tag}$; RESET search_path");
        let Err(error) = lease.client().batch_execute(&block).await else { return Ok(()) };
        let line = error.as_db_error().and_then(|db| match db.position() {
            Some(ErrorPosition::Internal { position, query }) => Some(crate::line_of(query, *position)),
            _ => None,
        });
        let place = line.map_or_else(String::new, |line| format!(", line {line}"));
        let context = format!("the schema file {}{place} failed, and nothing of it was kept", path.display());
        let is_transaction_end = error.code().is_some_and(|code| matches!(code.code(), "0A000" | "2D000"));
        let error = from_driver(&self.store, context, error);
        Err(if is_transaction_end {
            error.with_hint(
                "whimbrel runs it in one transaction: leave out BEGIN, COMMIT and what cannot stand in one",
            )
        } else {
            error
        })
    }

    /// The library's own tables.
    fn langchain(&self, table: &str) -> Option<Vec<String>> {
        let (collection, schema) = self.collection.as_ref()?;
        let place = place_of(table).0.map(|schema| format!("{schema}.")).unwrap_or_default();
        Some(Langchain { store: &self.store, collection }.statements(&place, schema))
    }

    async fn derived(&self, lease: &Lease, table: &str) -> Result<Vec<String>> {
        if let Some(statements) = self.langchain(table) {
            return Ok(statements);
        }
        let mut lines = Vec::new();
        for column in &self.columns {
            let type_name = match &column.source_type {
                Some(name) if self.is_type(lease, name).await? || self.is_vector(lease, name).await? => {
                    name.clone()
                }
                _ => column.type_name.clone().map_err(|reason| {
                    let context = format!("column `{}` cannot be made: {reason}", column.name);
                    StoreError::new(StoreErrorKind::Unsupported, &self.store, context)
                })?,
            };
            let not_null = if column.is_not_null { " NOT NULL" } else { "" };
            lines.push(format!("  {} {type_name}{not_null}", identifier(&column.name)));
        }
        self.check_key(table)?;
        if !self.key.is_empty() {
            let names: Vec<_> = self.key.iter().map(|name| identifier(name)).collect();
            lines.push(format!("  PRIMARY KEY ({})", names.join(", ")));
        }
        let (schema, name) = place_of(table);
        let mut statements = Vec::new();
        if let Some(schema) = &schema {
            statements.push(format!("CREATE SCHEMA IF NOT EXISTS {schema}"));
        }
        let name = schema.map_or_else(|| name.clone(), |schema| format!("{schema}.{name}"));
        statements.push(format!("CREATE TABLE {name} (\n{}\n)", lines.join(",\n")));
        Ok(statements)
    }

    /// The key of a table to be made is of columns that it will have.
    fn check_key(&self, table: &str) -> Result<()> {
        let names = || self.columns.iter().map(|column| column.name.as_str());
        let Some(missing) = self.key.iter().find(|key| !names().any(|name| name == key.as_str())) else {
            return Ok(());
        };
        let context =
            format!("the records have no column `{missing}`, which is part of the key of `{table}`");
        Err(StoreError::new(StoreErrorKind::Mismatch, &self.store, context).with_nearest(missing, names()))
    }

    /// Whether this database knows the source's type by that name. Pseudotypes are no types of columns.
    async fn is_type(&self, lease: &Lease, name: &str) -> Result<bool> {
        let sql =
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_type WHERE oid = to_regtype($1) AND typtype <> 'p')";
        let client = lease.client();
        client.batch_execute("SAVEPOINT whimbrel_type").await.map_err(|error| self.cannot_look(error))?;
        // A name that is no type at all may be a syntax error to older servers.
        let found = ask(client, sql, &[(&name, Type::TEXT)]).await;
        let end = if found.is_ok() { "" } else { "ROLLBACK TO SAVEPOINT whimbrel_type; " };
        let ended = client.batch_execute(&format!("{end}RELEASE SAVEPOINT whimbrel_type")).await;
        ended.map_err(|error| self.cannot_look(error))?;
        Ok(found.ok().flatten().unwrap_or(false))
    }

    /// Whether the type is one of pgvector's, and the extension could be made.
    async fn is_vector(&self, lease: &Lease, name: &str) -> Result<bool> {
        let bare = name.split('(').next().unwrap_or(name);
        if !["vector", "halfvec", "sparsevec"].contains(&bare) {
            return Ok(false);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_available_extensions WHERE name = 'vector')";
        let found = lease.client().query_one(sql, &[]).await.and_then(|row| row.try_get::<_, bool>(0));
        if !found.map_err(|error| self.cannot_look(error))? {
            return Ok(false);
        }
        let made = lease.client().batch_execute("CREATE EXTENSION IF NOT EXISTS vector").await;
        made.map_err(|error| from_driver(&self.store, "cannot make the extension `vector`", error))?;
        self.is_type(lease, name).await
    }

    fn cannot_look(&self, error: tokio_postgres::Error) -> StoreError {
        from_driver(&self.store, "cannot look for a type", error)
    }
}

/// Schema and name of a table to be made, quoted: `app.users` is a table in a schema, and a name that is
/// quoted as a whole is a name.
fn place_of(table: &str) -> (Option<String>, String) {
    let all = candidates(table);
    let split = all
        .iter()
        .find(|candidate| candidate.contains("\".\""))
        .filter(|_| !table.starts_with('"') || table.contains("\".\""));
    match split.and_then(|candidate| candidate.split_once("\".\"")) {
        Some((schema, name)) => (Some(format!("{schema}\"")), format!("\"{name}")),
        None => (None, identifier(table.trim_matches('"'))),
    }
}

#[cfg(test)]
mod tests {
    use super::place_of;

    #[test]
    fn a_dot_stands_behind_a_schema() {
        assert_eq!(place_of("users"), (None, "\"users\"".to_owned()));
        assert_eq!(place_of("app.users"), (Some("\"app\"".to_owned()), "\"users\"".to_owned()));
        assert_eq!(place_of("\"app\".\"users\""), (Some("\"app\"".to_owned()), "\"users\"".to_owned()));
        assert_eq!(place_of("\"a b\""), (None, "\"a b\"".to_owned()));
    }
}
