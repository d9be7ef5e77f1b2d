//! What makes a table that is missing: the store's script, or what follows from the records' types.

use super::route;
use crate::catalog::{self, Table, bare};
use crate::encode::type_for;
use crate::error::{from_driver, mismatch};
use crate::sql::{identifier, identifiers};
use arrow::datatypes::Schema;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind, WriteRequest};

/// How a missing table comes into being.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    store: StoreName,
    /// The table's name.
    table: String,
    script: Option<(PathBuf, String)>,
    /// `CREATE TABLE`, from the records; `Err`: the reason why there is none.
    derived: std::result::Result<String, String>,
    /// A column of the key that the records do not have, with those that they have.
    unknown_key: Option<(String, Vec<String>)>,
}

impl Definition {
    pub(crate) fn new(
        store: &StoreName,
        request: &WriteRequest,
        schema_file: Option<&Path>,
        schema: &Schema,
    ) -> Result<Self> {
        let script = schema_file.map(|path| {
            let text = std::fs::read_to_string(path).map_err(|error| {
                let context = format!("cannot read the store's schema file {}", path.display());
                StoreError::new(StoreErrorKind::NotFound, store, context).caused_by(error)
            })?;
            Ok((path.to_owned(), text))
        });
        let table = bare(&request.table);
        let derived = derived(store, request, &table, schema)?;
        let unknown_key = unknown_key(request, schema);
        Ok(Self { store: store.clone(), table, script: script.transpose()?, derived, unknown_key })
    }

    /// Makes what is missing, in the open transaction or in a database of its own; answers with the names of the
    /// tables that are new.
    pub(crate) fn make(&self, connection: &Connection) -> Result<Vec<String>> {
        let before = catalog::names(&self.store, connection)?;
        if let Some((path, script)) = &self.script {
            self.run(connection, path, script)?;
        }
        if catalog::find(&self.store, connection, &self.table)?.is_none() {
            if let Some((name, known)) = &self.unknown_key {
                let context = format!(
                    "the records have no column `{name}`, which is part of the key of `{}`",
                    self.table
                );
                return Err(
                    mismatch(&self.store, context).with_nearest(name, known.iter().map(String::as_str))
                );
            }
            let sql = self.derived.as_ref().map_err(|reason| {
                let context = format!("the table `{}` cannot be made: {reason}", self.table);
                StoreError::new(StoreErrorKind::Unsupported, &self.store, context)
            })?;
            let made = connection.execute_batch(sql);
            made.map_err(|error| {
                from_driver(&self.store, format!("cannot make the table `{}`: {sql}", self.table), error)
            })?;
        }
        let mut after = catalog::names(&self.store, connection)?;
        after.retain(|name| !before.contains(name));
        Ok(after)
    }

    fn run(&self, connection: &Connection, path: &Path, script: &str) -> Result<()> {
        let was_inside = !connection.is_autocommit();
        let ran = connection.execute_batch(script);
        let context = || format!("the schema file {} failed, and nothing of it was kept", path.display());
        if was_inside && connection.is_autocommit() {
            let hint = "whimbrel runs it in one transaction: leave out BEGIN, COMMIT and ROLLBACK";
            return Err(mismatch(&self.store, context()).with_hint(hint));
        }
        ran.map_err(|error| {
            let hint = "whimbrel runs it in one transaction: BEGIN and COMMIT cannot stand in it";
            from_driver(&self.store, context(), error).with_hint(hint)
        })
    }

    /// Whether a script says what there is to be.
    pub(crate) fn is_script(&self) -> bool {
        self.script.is_some()
    }

    /// For people.
    pub(crate) fn shown(&self, made: &Table) -> Vec<String> {
        match &self.script {
            Some((path, _)) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                vec![
                    format!("-- {name} makes {}, as all tables that it names", made.quoted()),
                    made.sql.clone(),
                ]
            }
            None => vec![made.sql.clone()],
        }
    }

    /// The table as the definition makes it beside what the schema of the database holds already. Nothing is written.
    pub(crate) fn imagine(&self, existing: Option<&Connection>) -> Result<Table> {
        let failed = |error| from_driver(&self.store, "cannot try the definition out", error);
        let connection = Connection::open_in_memory().map_err(failed)?;
        if let Some(existing) = existing {
            let sql = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND type IN ('table', 'view') \
                AND name <> ?1 COLLATE NOCASE AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid";
            let mut statement = existing.prepare(sql).map_err(failed)?;
            let all = statement.query_map([&self.table], |row| row.get::<_, String>(0)).map_err(failed)?;
            for sql in all {
                // What an extension would be needed for is not what is asked about.
                let _missing = connection.execute_batch(&sql.map_err(failed)?);
            }
        }
        self.make(&connection)?;
        catalog::read(&self.store, &connection, &self.table)
    }
}

/// A column of the key that a table made for the records would not have.
fn unknown_key(request: &WriteRequest, schema: &Schema) -> Option<(String, Vec<String>)> {
    let fields = schema.fields().iter().map(|field| field.name());
    let known: Vec<String> = fields.chain(request.scope.keys()).cloned().collect();
    let is_known = |name: &String| known.iter().any(|other| other.eq_ignore_ascii_case(name));
    let unknown = request.key.iter().find(|name| !is_known(name))?;
    Some((unknown.clone(), known))
}

/// `CREATE TABLE`, strict, with the columns that the records have.
fn derived(
    store: &StoreName,
    request: &WriteRequest,
    table: &str,
    schema: &Schema,
) -> Result<std::result::Result<String, String>> {
    let mut lines = Vec::with_capacity(schema.fields().len() + 1);
    for field in schema.fields() {
        let type_name = match type_for(field, route::form(store, request, field.name())?) {
            Ok(type_name) => type_name,
            Err(reason) => return Ok(Err(format!("column `{}`: {reason}", field.name()))),
        };
        let not_null = if request.key.contains(field.name()) { " NOT NULL" } else { "" };
        lines.push(format!("  {} {type_name}{not_null}", identifier(field.name())));
    }
    for name in request.scope.keys().filter(|name| schema.field_with_name(name).is_err()) {
        lines.push(format!("  {} TEXT NOT NULL", identifier(name)));
    }
    if lines.is_empty() {
        return Ok(Err("the records have no columns".to_owned()));
    }
    if !request.key.is_empty() {
        lines.push(format!("  PRIMARY KEY ({})", identifiers(&request.key)));
    }
    Ok(Ok(format!("CREATE TABLE {} (\n{}\n) STRICT", identifier(table), lines.join(",\n"))))
}

/// How a table differs from what its definition makes, a line each.
pub(crate) fn differences(table: &Table, defined: &Table, is_script: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for wanted in &defined.columns {
        let Some(column) = table.column(&wanted.name) else {
            lines.push(format!("column `{}` ({}) is missing", wanted.name, shown(&wanted.declared)));
            continue;
        };
        if !column.declared.eq_ignore_ascii_case(&wanted.declared) {
            let (is, should) = (shown(&column.declared), shown(&wanted.declared));
            lines.push(format!("column `{}` is {is}, by its definition {should}", column.name));
        }
        // What follows from records does not know what must not be NULL, but for the key.
        if column.is_not_null != wanted.is_not_null && (is_script || wanted.is_not_null) {
            let null = |is_not_null: bool| if is_not_null { "NOT NULL" } else { "nullable" };
            let (is, should) = (null(column.is_not_null), null(wanted.is_not_null));
            lines.push(format!("column `{}` is {is}, by its definition {should}", column.name));
        }
    }
    if is_script {
        let extra = table.columns.iter().filter(|column| defined.column(&column.name).is_none());
        lines.extend(extra.map(|column| format!("column `{}` is not in its definition", column.name)));
    }
    let key = |table: &Table| match table.primary_key() {
        [] => "none".to_owned(),
        names => format!("({})", names.join(", ")),
    };
    let (is, should) = (key(table), key(defined));
    if is != should && (is_script || should != "none") {
        lines.push(format!("its primary key is {is}, by its definition {should}"));
    }
    lines
}

fn shown(declared: &str) -> &str {
    if declared.is_empty() { "without a type" } else { declared }
}
