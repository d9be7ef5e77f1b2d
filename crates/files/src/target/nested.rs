//! Records nested in documents: how they wait in parts, and how a file is made of them.
//!
//! A record's part holds its column apart from the rest of it, so that records can be gathered by that column when the
//! file is made: they are sorted on the disk, whatever order they came in, so that memory grows neither with the file
//! nor with one document.

mod documents;
mod held;
mod sort;

pub(super) use documents::write;
pub(super) use held::{count, read};

use super::Table;
use super::writer::Written;
use crate::error::Outcome;
use crate::format::Format;
use crate::types::encode::{Encoder, TextBuffer};
use arrow::datatypes::{DataType, Schema};
use sort::Frame;
use whimbrel_model::{ColumnFidelity, Fidelity, Logical};
use whimbrel_store::{Documents, Outcome as Written1, Shape, WriteRequest};

/// The columns that make a record's key: a document's is what tells it apart.
pub(super) fn key(request: &WriteRequest) -> Vec<String> {
    match &request.shape {
        Some(Shape { by, list: None, .. }) if request.key.is_empty() => vec![by.clone()],
        _ => request.key.clone(),
    }
}

/// Why a file cannot have the shape; `None`: it can.
pub(super) fn refusal(shape: &Shape, format: Format, key: &[String]) -> Option<String> {
    let fits = match shape.documents {
        Documents::Members => format == Format::Json,
        Documents::Records => matches!(format, Format::Json | Format::NdJson),
    };
    if !fits {
        return Some(format!("{format} has no such `shape`: it is for plain JSON"));
    }
    (shape.list.is_none() && !key.is_empty() && *key != [shape.by.clone()])
        .then(|| format!("`{}` tells the documents apart, so that it alone is their `key`", shape.by))
}

/// Looks at the column that tells documents apart, and says what becomes of it.
///
/// # Errors
/// It is none of the columns, or its values are no names.
pub(super) fn fidelity(shape: &Shape, schema: &Schema, columns: &mut [ColumnFidelity]) -> Result<(), String> {
    let by = &shape.by;
    let field = schema.field_with_name(by);
    let field = field.map_err(|_| format!("the `shape` names `{by}`, which is none of the columns"))?;
    let is_text = field.data_type().is_string() && Logical::of(field) != Some(Logical::Json);
    let is_name = is_text || field.data_type().is_primitive() || *field.data_type() == DataType::Boolean;
    if !is_name || field.data_type().is_floating() {
        return Err(format!("the `shape` names `{by}`, whose values are no names: cast it to text"));
    }
    let Some(column) = columns.iter_mut().find(|column| column.column == *by) else { return Ok(()) };
    if shape.documents == Documents::Members {
        "the key of a document".clone_into(&mut column.into);
        let is_exact = is_text && Logical::of(field).is_none();
        column.fidelity =
            if is_exact { Fidelity::Exact } else { Fidelity::Reversible("its text".to_owned()) };
    }
    Ok(())
}

/// What a plan says of the file.
pub(super) fn note(shape: &Shape) -> String {
    let by = &shape.by;
    match &shape.list {
        None => format!("each record is a document, told apart by `{by}`"),
        Some(list) => format!("each record is an element of the list `{list}` in the document of its `{by}`"),
    }
}

/// The records of a batch as its part holds them.
pub(super) fn frames(table: &Table, encoder: &mut Encoder) -> Outcome<Written> {
    let mut bytes = Vec::new();
    let mut outcomes = Vec::with_capacity(encoder.rows());
    let mut records = 0;
    let (mut by, mut record) = (TextBuffer::default(), TextBuffer::default());
    for row in 0..encoder.rows() {
        by.clear();
        record.clear();
        let appended = encoder.append(row, &mut record).and_then(|fingerprint| {
            encoder.append_apart(row, &mut by)?;
            Ok(fingerprint)
        });
        outcomes.push(match appended {
            Ok(fingerprint) => {
                records += 1;
                Frame { by: by.as_bytes(), rank: 0, record: record.as_bytes() }.append(&mut bytes)?;
                Written1::Created(fingerprint)
            }
            Err(refusal) => Written1::Rejected(refusal),
        });
    }
    tracing::trace!(path = table.path, records, "nested");
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    Ok(Written { bytes, outcomes, records, length })
}
