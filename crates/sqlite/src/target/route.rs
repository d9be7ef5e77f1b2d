//! Which column of the records goes into which column of the table.

use crate::catalog::{Column, Table};
use crate::encode::{Encoder, Filled, Form, From, Meaning, Slot, meaning_of};
use crate::error::mismatch;
use arrow::datatypes::{Field, Schema};
use std::sync::Arc;
use whimbrel_model::StoreName;
use whimbrel_store::{Mode, Result, StoreError, StoreErrorKind, WriteRequest};

/// The columns that tell records of this schema apart in the table; none where they are only added to it, and no
/// key tells them apart or the table itself makes it.
pub(crate) fn key(
    store: &StoreName,
    request: &WriteRequest,
    table: &Table,
    schema: &Schema,
) -> Result<Vec<String>> {
    if request.key.is_empty() {
        let own = table.primary_key().to_vec();
        let is_made = |name: &String| {
            let is_given =
                schema.fields().iter().any(|field| field.name() == name) || request.scope.contains_key(name);
            let has_own = table.rowid_alias.as_ref() == Some(name)
                || table.column(name).is_some_and(|column| column.has_default || column.is_generated);
            !is_given && has_own
        };
        if request.mode == Mode::Insert && own.iter().all(is_made) {
            return Ok(Vec::new());
        }
        if own.is_empty() && request.mode != Mode::Insert {
            let context =
                format!("{} has no primary key, and records are told apart by a key", table.quoted());
            let hint = "name the columns of a unique index under `key`, or use `mode: insert`";
            return Err(mismatch(store, context).with_hint(hint));
        }
        return Ok(own);
    }
    let names = request.key.iter().map(|name| existing(store, table, name, "`key` names it"));
    let names: Vec<String> = names.map(|column| Ok(column?.name.clone())).collect::<Result<_>>()?;
    if table.key_of(&names).is_some() {
        return Ok(names);
    }
    let (shown, sql) = (names.join(", "), table.quoted());
    let context =
        format!("({shown}) is no unique key of {sql}, so that a record cannot be told from another");
    let known: Vec<_> = table.keys.iter().map(|key| format!("({})", key.columns.join(", "))).collect();
    let hint = if known.is_empty() {
        format!("make one: CREATE UNIQUE INDEX … ON {sql} ({shown})")
    } else {
        format!("its unique keys are {}", known.join(", "))
    };
    Err(mismatch(store, context).with_hint(hint))
}

/// Two texts may be one key to a column that compares them in its own way, `Ann` and `ANN` under NOCASE: the one
/// could silently take the place of the other.
pub(crate) fn check_key(
    store: &StoreName,
    request: &WriteRequest,
    table: &Table,
    key: &[String],
) -> Result<()> {
    let is_binary = table.key_of(key).is_none_or(|key| key.is_binary);
    if is_binary || request.mode == Mode::Insert {
        return Ok(());
    }
    let context = format!(
        "({}) of {} is unique by a collation that takes different texts for one",
        key.join(", "),
        table.quoted()
    );
    let hint = "write with `mode: insert`, which rejects the second, or make the key's collation BINARY";
    Err(StoreError::new(StoreErrorKind::Unsupported, store, context).with_hint(hint))
}

/// A column of the table by its name.
pub(crate) fn existing<'a>(store: &StoreName, table: &'a Table, name: &str, why: &str) -> Result<&'a Column> {
    table.column(name).ok_or_else(|| {
        mismatch(store, format!("{} has no column `{name}`; {why}", table.quoted()))
            .with_nearest(name, table.columns.iter().map(|column| column.name.as_str()))
    })
}

/// The form that the spec asks for a column.
pub(crate) fn form(store: &StoreName, request: &WriteRequest, name: &str) -> Result<Option<Form>> {
    match request.forms.get(name).map(String::as_str) {
        None | Some("text") => Ok(None),
        Some(word) => Form::of(word).map(Some).ok_or_else(|| {
            let context = format!("`as: {{ {name}: {word} }}` has no meaning in SQLite");
            StoreError::new(StoreErrorKind::Unsupported, store, context)
                .with_hint("rfc3339_nanos, epoch_s and epoch_ms are known here")
        }),
    }
}

/// What a column of the table takes.
pub(crate) fn slot(table: &Table, column: &Column) -> Slot {
    Slot::of(&column.declared, table.is_strict)
}

/// A column whose values mean nothing beyond themselves.
pub(crate) fn plain(table: &Table, column: &Column) -> Filled {
    Filled {
        name: column.name.clone(),
        from: From::Constant(String::new()),
        slot: slot(table, column),
        meaning: Meaning::Plain,
        form: None,
        is_not_null: false,
        is_ignored: false,
    }
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
            let context = format!("`{}` of {} is generated by the table itself", column.name, table.quoted());
            return Err(mismatch(store, context).with_hint("leave it out of the transform"));
        }
        let is_rowid = table.rowid_alias.as_ref() == Some(&column.name);
        Ok(Filled {
            name: column.name.clone(),
            from: From::Column(at),
            slot: slot(table, column),
            meaning: meaning_of(field),
            form: form(store, request, field.name())?,
            // In the place of a NULL the table would make a rowid of its own.
            is_not_null: column.is_not_null || (is_rowid && request.mode != Mode::Insert),
            is_ignored: request.ignore.contains(field.name()),
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
    let mut fixed = Vec::with_capacity(request.scope.len());
    for (name, value) in &request.scope {
        let column = existing(store, table, name, "`scope` names it")?;
        fixed.push((column.name.clone(), value.clone()));
        if all.iter().all(|filled| filled.name != column.name) {
            let is_ignored = request.ignore.contains(name);
            all.push(Filled { from: From::Constant(value.clone()), is_ignored, ..plain(table, column) });
        }
    }
    if let Some(name) = key.iter().find(|name| all.iter().all(|filled| filled.name != **name)) {
        let context =
            format!("the records have no column `{name}`, which is part of the key of {}", table.quoted());
        let names = schema.fields().iter().map(|field| field.name().as_str());
        return Err(mismatch(store, context).with_nearest(name, names));
    }
    Encoder::new(all, key, fixed)
        .map_err(|reason| mismatch(store, format!("the scope cannot be written: {reason}")))
}
