//! Which column of the records goes into which column of the table.

use super::catalog::{Table, TargetColumn};
use crate::encode::{Encoder, Filled, Form, From, Wire, Within};
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{Field, Schema};
use std::sync::Arc;
use whimbrel_model::StoreName;
use whimbrel_model::logical::SOURCE_TYPE;
use whimbrel_store::{Mode, Result, StoreError, StoreErrorKind, WriteRequest};

fn mismatch(store: &StoreName, context: String) -> StoreError {
    StoreError::new(StoreErrorKind::Mismatch, store, context)
}

/// The columns that tell records of this schema apart in the table; none where they are only added to it, and no
/// key tells them apart or the table itself makes it.
pub(crate) fn key(
    store: &StoreName,
    request: &WriteRequest,
    table: &Table,
    schema: &Schema,
) -> Result<Vec<String>> {
    if request.key.is_empty() {
        let own = table_key(table);
        let is_made = |name: &String| {
            let is_given = schema.field_with_name(name).is_ok() || request.scope.contains_key(name);
            !is_given && table.column(name).is_some_and(|column| column.has_default)
        };
        if request.mode == Mode::Insert && own.iter().all(is_made) {
            return Ok(Vec::new());
        }
        if own.is_empty() && request.mode != Mode::Insert {
            let context = format!("{} has no primary key, and records are told apart by a key", table.sql);
            let hint = "name the columns of a unique index under `key`, or use `mode: insert`";
            return Err(mismatch(store, context).with_hint(hint));
        }
        return Ok(own);
    }
    for name in &request.key {
        existing(store, table, name, "`key` names it")?;
    }
    if table.is_unique(&request.key) {
        return Ok(request.key.clone());
    }
    let (names, sql) = (request.key.join(", "), &table.sql);
    let context =
        format!("({names}) is no unique key of {sql}, so that a record cannot be told from another");
    let known: Vec<_> = table.keys.iter().map(|key| format!("({})", key.join(", "))).collect();
    let hint = if known.is_empty() {
        format!("make one, not deferrable: ALTER TABLE {sql} ADD PRIMARY KEY ({names})")
    } else {
        format!("its unique keys are {}", known.join(", "))
    };
    Err(mismatch(store, context).with_hint(hint))
}

/// The table's primary key; empty where it has none.
pub(crate) fn table_key(table: &Table) -> Vec<String> {
    table.keys.first().filter(|_| table.has_primary_key).cloned().unwrap_or_default()
}

/// A column of the table by its name.
pub(crate) fn existing<'a>(
    store: &StoreName,
    table: &'a Table,
    name: &str,
    why: &str,
) -> Result<&'a TargetColumn> {
    table.column(name).ok_or_else(|| {
        let context = format!("{} has no column `{name}`; {why}", table.sql);
        mismatch(store, context).with_nearest(name, table.columns.iter().map(|column| column.name.as_str()))
    })
}

/// The form that the spec asks for a column.
pub(crate) fn form(store: &StoreName, request: &WriteRequest, name: &str) -> Result<Option<Form>> {
    Ok(match request.forms.get(name).map(String::as_str) {
        None | Some("text") => None,
        Some("rfc3339_nanos") => Some(Form::Rfc3339Nanos),
        Some("epoch_s") => Some(Form::EpochS),
        Some("epoch_ms") => Some(Form::EpochMs),
        Some(other) => {
            let context = format!("`as: {{ {name}: {other} }}` has no meaning in PostgreSQL");
            return Err(StoreError::new(StoreErrorKind::Unsupported, store, context)
                .with_hint("rfc3339_nanos, epoch_s and epoch_ms are known here"));
        }
    })
}

/// Whether a text that ends with spaces is refused: a `character(n)` keeps none of its own, and only what comes out
/// of one has nothing to lose.
fn refuses_blanks(request: &WriteRequest, field: &Field, wire: &Wire) -> bool {
    let is_padded = matches!(wire, Wire::Text { is_padded: true, .. });
    is_padded && !is_padded_already(field) && !request.allow_lossy.contains(field.name())
}

/// Whether a column comes out of a `character(n)`.
pub(crate) fn is_padded_already(field: &Field) -> bool {
    let source_type = field.metadata().get(SOURCE_TYPE);
    source_type.is_some_and(|name| name == "bpchar" || name == "character" || name.starts_with("character("))
}

/// What is left out of comparison within a column.
fn within(store: &StoreName, request: &WriteRequest, column: &TargetColumn) -> Result<Within> {
    let unusable = |reason: String| {
        StoreError::new(StoreErrorKind::Unsupported, store, format!("`ignore` cannot be read: {reason}"))
    };
    let within = Within::of(&request.ignore, &column.name).map_err(unusable)?;
    if within.is_empty() || matches!(column.wire, Wire::Json | Wire::Jsonb) {
        return Ok(within);
    }
    let (name, kind) = (&column.name, &column.type_name);
    Err(unusable(format!("it names a place within column `{name}`, and {kind} holds no documents")))
}

/// The columns of records of this schema.
pub(crate) fn columns(
    store: &StoreName,
    request: &WriteRequest,
    table: &Table,
    schema: &Schema,
) -> Result<Vec<Filled>> {
    let filled = |(at, field): (usize, &Arc<Field>)| {
        let column = existing(store, table, field.name(), "the records have it")?;
        if column.is_generated {
            let context = format!("`{}` of {} is generated by the table itself", column.name, table.sql);
            return Err(mismatch(store, context).with_hint("leave it out of the transform"));
        }
        Ok(Filled {
            name: column.name.clone(),
            from: From::Column(at),
            wire: column.wire.clone(),
            form: form(store, request, &column.name)?,
            // Over one NULL the library's searches fail.
            is_not_null: column.is_not_null || request.collection.is_some(),
            is_ignored: request.ignore.contains(&column.name),
            without: within(store, request, column)?,
            refuses_blanks: refuses_blanks(request, field, &column.wire),
        })
    };
    schema.fields().iter().enumerate().map(filled).collect()
}

/// What turns records of this schema into rows of the table.
pub(crate) fn encoder(
    store: &StoreName,
    request: &WriteRequest,
    table: &Table,
    key: &[String],
    schema: &Schema,
) -> Result<Encoder> {
    let mut all = columns(store, request, table, schema)?;
    let (members, whole): (Vec<_>, Vec<_>) =
        request.scope.iter().partition(|(name, _)| super::scope::member(table, name).is_some());
    for (name, value) in &whole {
        let column = existing(store, table, name, "`scope` names it")?;
        if all.iter().any(|filled| filled.name == **name) {
            continue;
        }
        let value: ArrayRef = Arc::new(StringArray::from(vec![value.as_str()]));
        all.push(Filled {
            name: (*name).clone(),
            from: From::Constant(value),
            wire: column.wire.clone(),
            form: None,
            is_not_null: column.is_not_null,
            is_ignored: request.ignore.contains(*name),
            without: Within::default(),
            refuses_blanks: false,
        });
    }
    if let Some(name) = key.iter().find(|name| all.iter().all(|filled| filled.name != **name)) {
        let context =
            format!("the records have no column `{name}`, which is part of the key of {}", table.sql);
        let names = schema.fields().iter().map(|field| field.name().as_str());
        return Err(mismatch(store, context).with_nearest(name, names));
    }
    let members = members.into_iter().filter_map(|(name, value)| {
        let member = super::scope::member(table, name)?;
        Some((member.column.name.clone(), member.key.to_owned(), value.clone()))
    });
    let fixed = whole.into_iter().map(|(name, value)| (name.clone(), value.clone()));
    Encoder::new(all, key, fixed)
        .map(|encoder| encoder.with_members(members))
        .map_err(|reason| mismatch(store, format!("the scope cannot be written: {reason}")))
}
