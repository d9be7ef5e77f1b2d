//! A record as JSON that loses nothing, and back into Arrow: what reject files hold and `retry` reads.
//!
//! Truth values and integers are JSON's own; floats too, but for NaN and the infinities, which are text;
//! binary is base64; dates, times and everything else is text as Arrow prints it; a timestamp that no
//! calendar of four-digit years holds (PostgreSQL's infinity too) is the raw count of its unit as a JSON number.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, ListArray, PrimitiveArray, RecordBatch, StringArray, StructArray,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Float64Type, Int64Type, SchemaRef, UInt64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value};
use std::sync::Arc;

/// Row `row` of the batch, column by column.
#[must_use]
pub fn to_json(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    let schema = batch.schema_ref();
    let fields = schema.fields().iter().zip(batch.columns());
    fields.map(|(field, column)| (field.name().clone(), value_to_json(column, row))).collect()
}

/// The named columns of row `row`: what names a record for people.
#[must_use]
pub fn key_to_json(batch: &RecordBatch, row: usize, key: &[String]) -> Map<String, Value> {
    let column = |name: &String| Some((name.clone(), value_to_json(batch.column_by_name(name)?, row)));
    key.iter().filter_map(column).collect()
}

/// One value of a column.
#[must_use]
pub fn value_to_json(column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Float32 => {
            float_to_json(f64::from(column.as_primitive::<Float32Type>().value(row)), |_| {
                column.as_primitive::<Float32Type>().value(row).to_string()
            })
        }
        DataType::Float64 => {
            float_to_json(column.as_primitive::<Float64Type>().value(row), |v| v.to_string())
        }
        data_type if data_type.is_integer() => number(&formatted(column, row).unwrap_or_default()),
        DataType::Binary => Value::String(BASE64.encode(column.as_binary::<i32>().value(row))),
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(column.as_struct().columns());
            let members = columns.map(|(field, column)| (field.name().clone(), value_to_json(column, row)));
            Value::Object(members.collect())
        }
        DataType::List(_) => {
            let values = column.as_list::<i32>().value(row);
            Value::Array((0..values.len()).map(|i| value_to_json(&values, i)).collect())
        }
        _ => match formatted(column, row) {
            // Years beyond four digits are printed with a sign, and read by nobody.
            Ok(text) if !(column.data_type().is_temporal() && text.starts_with(['+', '-'])) => {
                Value::String(text)
            }
            _ => cast(column, &DataType::Int64)
                .map_or(Value::Null, |raw| Value::Number(raw.as_primitive::<Int64Type>().value(row).into())),
        },
    }
}

/// Bytes as a record's JSON holds them.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Bytes out of a record's JSON; empty where it holds none.
#[must_use]
pub fn from_base64(value: &Value) -> Vec<u8> {
    value.as_str().and_then(|text| BASE64.decode(text).ok()).unwrap_or_default()
}

fn float_to_json(value: f64, text: impl Fn(f64) -> String) -> Value {
    if value.is_finite() { number(&text(value)) } else { Value::String(value.to_string()) }
}

fn number(text: &str) -> Value {
    text.parse::<Number>().map_or_else(|_| Value::String(text.to_owned()), Value::Number)
}

/// The value as Arrow prints it.
fn formatted(column: &ArrayRef, row: usize) -> Result<String, ArrowError> {
    let options = FormatOptions::default().with_display_error(false);
    ArrayFormatter::try_new(column, &options)?.value(row).try_to_string()
}

/// Reads records back into a batch of the given schema. A column that a record lacks is NULL.
///
/// # Errors
/// A value that its column's type does not hold.
pub fn from_json(schema: &SchemaRef, records: &[Map<String, Value>]) -> Result<RecordBatch, ArrowError> {
    let column = |field: &Arc<Field>| {
        let values: Vec<_> =
            records.iter().map(|record| record.get(field.name()).unwrap_or(&Value::Null)).collect();
        values_from_json(field.data_type(), &values)
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

fn values_from_json(data_type: &DataType, values: &[&Value]) -> Result<ArrayRef, ArrowError> {
    match data_type {
        DataType::Null => Ok(new_null_array(data_type, values.len())),
        DataType::Binary => {
            let decode = |value: &&Value| match value {
                Value::Null => Ok(None),
                Value::String(text) => BASE64.decode(text).map(Some).map_err(|error| invalid(value, &error)),
                other => Err(invalid(other, &"base64 text is expected")),
            };
            let values = values.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
            Ok(Arc::new(BinaryArray::from_iter(values)))
        }
        DataType::List(element) => lists_from_json(element, values),
        DataType::Struct(fields) => structures_from_json(fields, values),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Time64(_)
            if values.iter().any(|value| value.is_number()) =>
        {
            mixed_from_json(data_type, values)
        }
        _ => scalars_from_json(data_type, values),
    }
}

fn scalars_from_json(data_type: &DataType, values: &[&Value]) -> Result<ArrayRef, ArrowError> {
    let text = |value: &&Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let texts: ArrayRef = Arc::new(values.iter().map(text).collect::<StringArray>());
    let options = arrow::compute::CastOptions { safe: false, format_options: FormatOptions::default() };
    arrow::compute::cast_with_options(&texts, data_type, &options)
}

/// A column in which some values are raw counts: each value on its own, then joined.
fn mixed_from_json(data_type: &DataType, values: &[&Value]) -> Result<ArrayRef, ArrowError> {
    let one = |value: &&Value| match value.as_i64() {
        Some(raw) => cast(&(Arc::new(PrimitiveArray::<Int64Type>::from(vec![raw])) as ArrayRef), data_type),
        None => scalars_from_json(data_type, &[value]),
    };
    let parts = values.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    arrow::compute::concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())
}

fn lists_from_json(element: &Arc<Field>, values: &[&Value]) -> Result<ArrayRef, ArrowError> {
    let mut flat = Vec::new();
    let mut lengths = Vec::with_capacity(values.len());
    let mut valid = Vec::with_capacity(values.len());
    for value in values {
        match value {
            Value::Null => lengths.push(0),
            Value::Array(elements) => {
                lengths.push(elements.len());
                flat.extend(elements);
            }
            other => return Err(invalid(other, &"a list is expected")),
        }
        valid.push(!value.is_null());
    }
    let elements = values_from_json(element.data_type(), &flat)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(Arc::clone(element), offsets, elements, Some(NullBuffer::from(valid)))?))
}

fn structures_from_json(fields: &Fields, values: &[&Value]) -> Result<ArrayRef, ArrowError> {
    if let Some(other) = values.iter().find(|value| !value.is_object() && !value.is_null()) {
        return Err(invalid(other, &"an object is expected"));
    }
    let column = |field: &Arc<Field>| {
        let members = values.iter().map(|value| value.get(field.name()).unwrap_or(&Value::Null));
        values_from_json(field.data_type(), &members.collect::<Vec<_>>())
    };
    let columns = fields.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let valid = NullBuffer::from(values.iter().map(|value| value.is_object()).collect::<Vec<_>>());
    Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), columns, Some(valid), values.len())?))
}

fn invalid(value: &Value, why: &dyn std::fmt::Display) -> ArrowError {
    let kind = match value {
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
        _ => "a scalar",
    };
    ArrowError::ParseError(format!("{kind} does not fit its column: {why}"))
}

/// The text of row `row`, whichever of Arrow's string layouts the column has; `None` for NULL or another type.
#[must_use]
pub fn text_at(column: &ArrayRef, row: usize) -> Option<&str> {
    if column.is_null(row) {
        return None;
    }
    match column.data_type() {
        DataType::Utf8 => Some(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Some(column.as_string::<i64>().value(row)),
        DataType::Utf8View => Some(column.as_string_view().value(row)),
        _ => None,
    }
}

/// The value of row `row` as an unsigned count; `None` for NULL or another type.
#[must_use]
pub fn count_at(column: &ArrayRef, row: usize) -> Option<u64> {
    let column = cast(column, &DataType::UInt64).ok()?;
    column.is_valid(row).then(|| column.as_primitive::<UInt64Type>().value(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        BooleanArray, Date32Array, Float64Array, Int64Array, ListBuilder, StringBuilder,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::Schema;

    fn everything() -> RecordBatch {
        let mut tags = ListBuilder::new(StringBuilder::new());
        tags.append_value([Some("a"), None]);
        tags.append_null();
        tags.append_value(Vec::<Option<&str>>::new());
        RecordBatch::try_from_iter_with_nullable([
            ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])) as ArrayRef, true),
            ("int", Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(i64::MIN)])), true),
            ("float", Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NEG_INFINITY), None])), true),
            ("text", Arc::new(StringArray::from(vec![Some(""), None, Some("ü\u{0}\"")])), true),
            ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None, Some(b"")])), true),
            ("day", Arc::new(Date32Array::from(vec![Some(0), Some(2_932_897), Some(-1_000_000)])), true),
            (
                "at",
                Arc::new(
                    TimestampMicrosecondArray::from(vec![
                        Some(1_234_567),
                        Some(i64::MAX),
                        Some(253_402_300_800_000_000),
                    ])
                    .with_timezone("UTC"),
                ),
                true,
            ),
            ("tags", Arc::new(tags.finish()), true),
        ])
        .unwrap()
    }

    #[test]
    fn records_come_back_as_they_were() {
        let batch = everything();
        let records: Vec<_> = (0..batch.num_rows()).map(|row| to_json(&batch, row)).collect();
        let text = serde_json::to_string(&records).unwrap();
        let again: Vec<Map<String, Value>> = serde_json::from_str(&text).unwrap();
        assert_eq!(from_json(batch.schema_ref(), &again).unwrap(), batch);
    }

    #[test]
    fn a_value_of_another_type_is_an_error() {
        let schema = Arc::new(Schema::new(vec![Field::new("int", DataType::Int64, true)]));
        let record = Map::from_iter([("int".to_owned(), Value::String("x".to_owned()))]);
        assert!(from_json(&schema, &[record]).is_err());
    }
}
