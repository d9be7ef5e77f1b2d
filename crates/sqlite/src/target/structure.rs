//! The statements that make another database's structure here.

use crate::encode::type_for;
use crate::sql::{identifier, identifiers, literal};
use std::collections::BTreeSet;
use whimbrel_model::StoreName;
use whimbrel_store::structure::{
    ColumnStructure, DefaultValue, Definition, ForeignKeyStructure, IndexStructure, ReferenceAction,
    Structure, TableStructure,
};
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// The statements, table by table. SQLite knows foreign keys only as part of a table, and enforces them from the first
/// record on: one whose records may come before those that they refer to is left out.
pub(crate) fn define(store: &StoreName, structure: &Structure) -> Result<Definition> {
    let mut definition = Definition { is_enforced: true, ..Definition::default() };
    let names: BTreeSet<&str> = structure.tables.iter().map(|table| table.name.as_str()).collect();
    let mut made: BTreeSet<&str> = BTreeSet::new();
    for table in &structure.tables {
        check_names(store, table)?;
        let is_there = |key: &&ForeignKeyStructure| {
            !names.contains(key.parent.as_str()) || made.contains(key.parent.as_str())
        };
        let (keys, early): (Vec<_>, Vec<_>) = table.foreign_keys.iter().partition(is_there);
        definition.notes.extend(early.into_iter().map(|key| {
            let columns = key.columns.join(", ");
            let why = "its records may come before those that they refer to";
            format!("the foreign key ({columns}) of `{}` to `{}` is left out: {why}", table.name, key.parent)
        }));
        definition.sql.push_str(&create(store, table, &keys, &mut definition.notes)?);
        for index in &table.indexes {
            definition.sql.push_str(&create_index(table, index));
        }
        made.insert(&table.name);
    }
    Ok(definition)
}

fn check_names(store: &StoreName, table: &TableStructure) -> Result<()> {
    let lower = table.name.to_ascii_lowercase();
    if !lower.starts_with("sqlite_") && !lower.starts_with("whimbrel_") {
        return Ok(());
    }
    let context =
        format!("a table cannot be called `{}` here: the name is SQLite's or whimbrel's own", table.name);
    Err(StoreError::new(StoreErrorKind::Unsupported, store, context)
        .with_hint("copy that table with a spec, under another name"))
}

fn create(
    store: &StoreName,
    table: &TableStructure,
    keys: &[&ForeignKeyStructure],
    notes: &mut Vec<String>,
) -> Result<String> {
    let mut lines = Vec::with_capacity(table.columns.len() + 1 + table.unique.len() + keys.len());
    let (mut counted, mut counter) = (false, None);
    for column in &table.columns {
        let name = column.field.name();
        let type_name = type_for(&column.field, None).map_err(|reason| {
            let context = format!("column `{name}` of `{}`: {reason}", table.name);
            StoreError::new(StoreErrorKind::Unsupported, store, context)
        })?;
        let mut line = format!("  {} {type_name}", identifier(name));
        let is_key = table.primary_key == [name.clone()];
        if let (Some(number), true, "INTEGER") = (column.counter, is_key, type_name) {
            counted = true;
            counter = number.next;
            line.push_str(if counter.is_some() { " PRIMARY KEY AUTOINCREMENT" } else { " PRIMARY KEY" });
        } else if column.is_not_null || table.primary_key.contains(name) {
            line.push_str(" NOT NULL");
        }
        match filled(column, type_name) {
            Some(Some(sql)) => line.push_str(&format!(" DEFAULT {sql}")),
            Some(None) => {}
            None => notes.push(format!(
                "the default of `{name}` in `{}` is left out: it is no {type_name}",
                table.name
            )),
        }
        lines.push(line);
    }
    if !counted && !table.primary_key.is_empty() {
        lines.push(format!("  PRIMARY KEY ({})", identifiers(&table.primary_key)));
    }
    lines.extend(table.unique.iter().map(|columns| format!("  UNIQUE ({})", identifiers(columns))));
    lines.extend(keys.iter().map(|key| foreign_key(key)));
    let mut sql = format!("CREATE TABLE {} (\n{}\n) STRICT;\n", identifier(&table.name), lines.join(",\n"));
    if let Some(next) = counter {
        let last = next.saturating_sub(1);
        sql.push_str(&format!(
            "INSERT INTO sqlite_sequence (name, seq) VALUES ({}, {last});\n",
            literal(&table.name)
        ));
    }
    Ok(sql)
}

/// What fills a column where nothing is said; `None`: what it should be is none of its type.
fn filled(column: &ColumnStructure, type_name: &str) -> Option<Option<String>> {
    let Some(default) = &column.default else { return Some(None) };
    Some(Some(match (default, type_name) {
        (DefaultValue::Text(text), "TEXT") => literal(text),
        (DefaultValue::Number(number), "TEXT") => literal(number),
        (DefaultValue::Number(number), "INTEGER") => number.parse::<i64>().ok()?.to_string(),
        (DefaultValue::Number(number), "REAL") => format!("{:?}", number.parse::<f64>().ok()?),
        (DefaultValue::Boolean(value), "INTEGER") => u8::from(*value).to_string(),
        (DefaultValue::Now, "TEXT") => "CURRENT_TIMESTAMP".to_owned(),
        (DefaultValue::Today, "TEXT") => "CURRENT_DATE".to_owned(),
        (DefaultValue::TimeOfDay, "TEXT") => "CURRENT_TIME".to_owned(),
        _ => return None,
    }))
}

fn foreign_key(key: &ForeignKeyStructure) -> String {
    let mut sql = format!(
        "  FOREIGN KEY ({}) REFERENCES {} ({})",
        identifiers(&key.columns),
        identifier(&key.parent),
        identifiers(&key.parent_columns)
    );
    for (event, action) in [("DELETE", key.on_delete), ("UPDATE", key.on_update)] {
        let word = match action {
            ReferenceAction::NoAction => continue,
            ReferenceAction::Restrict => "RESTRICT",
            ReferenceAction::Cascade => "CASCADE",
            ReferenceAction::SetNull => "SET NULL",
            ReferenceAction::SetDefault => "SET DEFAULT",
        };
        sql.push_str(&format!(" ON {event} {word}"));
    }
    if key.is_deferred {
        sql.push_str(" DEFERRABLE INITIALLY DEFERRED");
    }
    sql
}

fn create_index(table: &TableStructure, index: &IndexStructure) -> String {
    let unique = if index.is_unique { "UNIQUE " } else { "" };
    let column = |(name, descends): &(String, bool)| {
        let order = if *descends { " DESC" } else { "" };
        format!("{}{order}", identifier(name))
    };
    let columns: Vec<_> = index.columns.iter().map(column).collect();
    let (name, on) = (identifier(&index.name), identifier(&table.name));
    format!("CREATE {unique}INDEX {name} ON {on} ({});\n", columns.join(", "))
}
