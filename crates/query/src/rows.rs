//! Rows of an answer, for programs and for people: every digit kept.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Decimal256Type, Field, Int64Type, TimeUnit};
use serde_json::{Map, Number, Value};
use whimbrel_model::{Logical, record};

use crate::numbers::OPEN_SCALE;

/// A row as a JSON object, its columns in order: exact numbers are JSON numbers with all their digits, JSON
/// columns are the documents that they hold, infinite times are `infinity` and `-infinity`.
#[must_use]
pub fn json_row(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    let schema = batch.schema_ref();
    let fields = schema.fields().iter().zip(batch.columns());
    fields.map(|(field, column)| (field.name().clone(), json_value(field, column, row))).collect()
}

fn json_value(field: &Field, column: &ArrayRef, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    if let Some(text) = special_text(column, row) {
        return match column.data_type() {
            DataType::Decimal128(..) | DataType::Decimal256(..) => number(text),
            _ => Value::String(text),
        };
    }
    match (Logical::of(field), record::text_at(column, row)) {
        (Some(Logical::Number), Some(text)) => number(text.to_owned()),
        (Some(Logical::Json), Some(text)) => {
            whimbrel_model::json::parse(text).unwrap_or_else(|_| Value::String(text.to_owned()))
        }
        _ => record::value_to_json(column, row),
    }
}

fn number(text: String) -> Value {
    text.parse::<Number>().map_or(Value::String(text), Value::Number)
}

/// One value as text; `None` for NULL.
#[must_use]
pub fn text_of(column: &ArrayRef, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    if let Some(text) = special_text(column, row) {
        return Some(text);
    }
    if let Some(text) = record::text_at(column, row) {
        return Some(text.to_owned());
    }
    Some(match record::value_to_json(column, row) {
        Value::String(text) => text,
        other => other.to_string(),
    })
}

/// Decimals, and the times that stand for infinity.
fn special_text(column: &ArrayRef, row: usize) -> Option<String> {
    let infinite = |most: bool, least: bool| match (most, least) {
        (true, _) => Some("infinity".to_owned()),
        (_, true) => Some("-infinity".to_owned()),
        _ => None,
    };
    match column.data_type() {
        DataType::Decimal128(_, scale) => {
            Some(trimmed(column.as_primitive::<Decimal128Type>().value_as_string(row), *scale))
        }
        DataType::Decimal256(_, scale) => {
            Some(trimmed(column.as_primitive::<Decimal256Type>().value_as_string(row), *scale))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let raw = arrow::compute::cast(column, &DataType::Int64).ok()?;
            let raw = raw.as_primitive::<Int64Type>().value(row);
            infinite(raw == i64::MAX, raw == i64::MIN)
        }
        DataType::Date32 => {
            let raw = column.as_primitive::<Date32Type>().value(row);
            infinite(raw == i32::MAX, raw == i32::MIN)
        }
        _ => None,
    }
}

/// A number without a declared scale carries zeros that nobody wrote.
fn trimmed(text: String, scale: i8) -> String {
    if scale < OPEN_SCALE || !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Date32Array, Decimal128Array, Decimal256Array, StringArray, TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Schema, i256};
    use std::sync::Arc;

    #[test]
    fn a_row_keeps_every_digit() {
        let wide = |digits: &str| i256::from_string(digits).unwrap();
        let columns: Vec<(Field, ArrayRef)> = vec![
            (
                Field::new("price", DataType::Decimal128(10, 2), true),
                Arc::new(Decimal128Array::from(vec![1250]).with_precision_and_scale(10, 2).unwrap()),
            ),
            (
                Field::new("big", DataType::Decimal256(76, 20), true),
                Arc::new(
                    Decimal256Array::from(vec![wide("1234567890123456789012345678901250000000000000000000")])
                        .with_precision_and_scale(76, 20)
                        .unwrap(),
                ),
            ),
            (
                Logical::Number.field("text", true),
                Arc::new(StringArray::from(vec!["0.12345678901234567890123"])),
            ),
            (Logical::Number.field("nan", true), Arc::new(StringArray::from(vec!["NaN"]))),
            (Logical::Json.field("doc", true), Arc::new(StringArray::from(vec![r#"{"b":1.10,"a":[null]}"#]))),
            (
                Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
                Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX])),
            ),
            (Field::new("day", DataType::Date32, true), Arc::new(Date32Array::from(vec![i32::MIN]))),
            (Field::new("none", DataType::Utf8, true), Arc::new(StringArray::from(vec![None::<&str>]))),
        ];
        let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
        let row = Value::Object(json_row(&batch, 0)).to_string();
        assert_eq!(
            row,
            concat!(
                r#"{"price":12.50,"big":12345678901234567890123456789012.5,"text":0.12345678901234567890123,"#,
                r#""nan":"NaN","doc":{"b":1.10,"a":[null]},"at":"infinity","day":"-infinity","none":null}"#
            )
        );
        assert_eq!(text_of(batch.column(1), 0).as_deref(), Some("12345678901234567890123456789012.5"));
        assert_eq!(text_of(batch.column(7), 0), None);
    }
}
