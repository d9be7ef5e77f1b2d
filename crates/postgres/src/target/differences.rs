//! How a table that is there differs from what its definition would make.

use super::catalog::{self, Table, TargetColumn};
use super::definition::Definition;
use crate::client::{Connections, Lease, Purpose};
use crate::error::from_driver;
use crate::template::identifier;
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// Where the definition is carried out for a moment, in a transaction that is undone.
const SCHEMA: &str = "whimbrel_definition";

/// The differences, a line each.
pub(super) async fn differences(
    store: &StoreName,
    connections: &Connections,
    definition: &Definition,
    table: &Table,
) -> Result<Vec<String>> {
    let lease = connections.lease(Purpose::Write).await?;
    let defined = defined(store, &lease, definition, table).await;
    lease.roll_back().await?;
    match defined {
        Ok(Some(defined)) => Ok(compared(table, &defined, definition.is_script())),
        Ok(None) => Ok(vec![format!(
            "it could not be compared with its definition: {} makes it in a schema that it names itself",
            definition.name()
        )]),
        Err(error) if error.kind().is_retryable() => Err(error),
        Err(error) => {
            Ok(vec![format!("it could not be compared with its definition: {}", with_cause(&error))])
        }
    }
}

fn with_cause(error: &StoreError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// The table as the definition makes it; `None`: it makes none where unqualified names are made.
async fn defined(
    store: &StoreName,
    lease: &Lease,
    definition: &Definition,
    table: &Table,
) -> Result<Option<Table>> {
    let client = lease.client();
    // Names that the script does not qualify are made here; what they refer to is found where it is.
    let begin = format!(
        "CREATE SCHEMA {SCHEMA}; \
         SELECT pg_catalog.set_config('search_path', '{SCHEMA}, ' || pg_catalog.current_setting('search_path'), true)"
    );
    client
        .batch_execute(&begin)
        .await
        .map_err(|error| from_driver(store, "cannot make a schema to compare in", error))?;
    let place = format!("{SCHEMA}.{}", identifier(&table.name));
    definition.make_in(lease, &place).await?;
    match catalog::read(store, lease, &place).await {
        Ok(defined) => Ok(Some(defined)),
        Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A type's name without its schema.
fn bare(type_name: &str) -> &str {
    match type_name.split_once('(') {
        // A dot behind a parenthesis belongs to no name.
        Some((name, _)) => &type_name[name.rfind('.').map_or(0, |dot| dot + 1)..],
        None => &type_name[type_name.rfind('.').map_or(0, |dot| dot + 1)..],
    }
}

fn compared(table: &Table, defined: &Table, is_script: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for wanted in &defined.columns {
        match table.column(&wanted.name) {
            None => lines.push(format!("column `{}` ({}) is missing", wanted.name, bare(&wanted.type_name))),
            Some(column) => lines.extend(of_column(column, wanted, is_script)),
        }
    }
    if is_script {
        let extra = table.columns.iter().filter(|column| defined.column(&column.name).is_none());
        lines.extend(extra.map(|column| format!("column `{}` is not in its definition", column.name)));
    }
    let key = |table: &Table| {
        let key = super::route::table_key(table);
        if key.is_empty() { "none".to_owned() } else { format!("({})", key.join(", ")) }
    };
    let (is, should) = (key(table), key(defined));
    if is != should && (is_script || should != "none") {
        lines.push(format!("its primary key is {is}, by its definition {should}"));
    }
    lines
}

fn of_column(column: &TargetColumn, wanted: &TargetColumn, is_script: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let (is, should) = (bare(&column.type_name), bare(&wanted.type_name));
    if is != should {
        lines.push(format!("column `{}` is {is}, by its definition {should}", column.name));
    }
    let null = |is_not_null: bool| if is_not_null { "NOT NULL" } else { "nullable" };
    // What follows from records does not know what must not be NULL, but for the key.
    if column.is_not_null != wanted.is_not_null && (is_script || wanted.is_not_null) {
        let (is, should) = (null(column.is_not_null), null(wanted.is_not_null));
        lines.push(format!("column `{}` is {is}, by its definition {should}", column.name));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn types_lose_their_schema() {
        assert_eq!(bare("public.mood"), "mood");
        assert_eq!(bare("numeric(10,2)"), "numeric(10,2)");
        assert_eq!(bare("app.vector(3)"), "vector(3)");
        assert_eq!(bare("text"), "text");
    }
}
