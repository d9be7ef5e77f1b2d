//! The type table, both ways.
//!
//! What text formats hold becomes columns as [`whimbrel_model::attribute`] says. Parquet and Arrow IPC have types
//! of their own, and keep them but for these:
//!
//! | there | column |
//! | --- | --- |
//! | large and view text, a dictionary of text | text |
//! | large, view and fixed-size binary | binary |
//! | large, view and fixed-size list | list |
//! | a dictionary | its values |
//! | a date in milliseconds | a date |
//! | a map, and what a map is part of | the JSON of it |
//! | text declared `json`, `number` or `uuid` | text with that meaning |
//!
//! How columns are written is in [`encode`].

pub(crate) mod encode;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_model::{Logical, cell};

/// The columns of typed files as the engine gets them.
///
/// # Errors
/// A column is declared as what it cannot be read as, with the column and the word.
pub(crate) fn read_schema(
    there: &Schema,
    wanted: impl Fn(&str) -> bool,
    declared: &BTreeMap<String, String>,
) -> Result<SchemaRef, String> {
    let wanted = there.fields().iter().filter(|field| wanted(field.name()));
    let fields = wanted.map(|field| read_field(field, declared.get(field.name()).map(String::as_str)));
    Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>, _>>()?)))
}

fn read_field(field: &Field, declared: Option<&str>) -> Result<Field, String> {
    if declared.is_none_or(|word| word == "json") && is_read_as_json(field.data_type()) {
        return Ok(Logical::Json.field(field.name(), field.is_nullable()));
    }
    let data_type = read_type(field.data_type());
    let is_text = data_type == DataType::Utf8;
    let read =
        Field::new(field.name(), data_type, field.is_nullable()).with_metadata(field.metadata().clone());
    let logical = match declared {
        None => return Ok(read),
        Some("text") if is_text => return Ok(Field::new(field.name(), DataType::Utf8, field.is_nullable())),
        Some("json") if is_text => Logical::Json,
        Some("number") if is_text => Logical::Number,
        Some("uuid") if is_text => Logical::Uuid,
        Some(word) => {
            let (name, there) = (field.name(), field.data_type());
            return Err(format!(
                "`columns` declares `{name}` as {word}, and the file holds {there}; convert it in the transform"
            ));
        }
    };
    Ok(logical.field(field.name(), field.is_nullable()))
}

/// Whether a map is somewhere within, which no format but its own holds.
fn is_read_as_json(data_type: &DataType) -> bool {
    let has_map = match data_type {
        DataType::Map(..) => true,
        DataType::Struct(fields) => fields.iter().any(|field| is_read_as_json(field.data_type())),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_read_as_json(item.data_type())
        }
        _ => false,
    };
    has_map && cell::plain_type(data_type).is_some()
}

fn read_type(data_type: &DataType) -> DataType {
    let element = |element: &Arc<Field>| {
        Arc::new(Field::new(element.name(), read_type(element.data_type()), element.is_nullable()))
    };
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Dictionary(_, values) => read_type(values),
        DataType::Date64 => DataType::Date32,
        other if is_read_as_json(other) => DataType::Utf8,
        DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::ListView(inner)
        | DataType::LargeListView(inner)
        | DataType::FixedSizeList(inner, _) => DataType::List(element(inner)),
        other => other.clone(),
    }
}

/// A batch of a typed file with the columns that [`read_schema`] made of it.
///
/// # Errors
/// A column that the schema has is missing, or of another type.
pub(crate) fn read_batch(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let column = |field: &Arc<Field>| -> Result<ArrayRef, ArrowError> {
        let column = batch.column_by_name(field.name());
        let column = column
            .ok_or_else(|| ArrowError::SchemaError(format!("there is no column `{}`", field.name())))?;
        if column.data_type() == field.data_type() {
            return Ok(Arc::clone(column));
        }
        if read_type(column.data_type()) != *field.data_type() {
            let (name, there, read) = (field.name(), column.data_type(), field.data_type());
            return Err(ArrowError::SchemaError(format!(
                "column `{name}` is {there}, not {read} as elsewhere"
            )));
        }
        if is_read_as_json(column.data_type()) {
            cell::plain(column)
        } else {
            cast(column, field.data_type())
        }
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let rows = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)
}
