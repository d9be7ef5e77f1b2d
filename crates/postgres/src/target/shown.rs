//! Records as people are shown them: in the form that the table holds, on their way into it and read back alike.

use crate::catalog::Column;
use crate::copy::OwnRow;
use crate::encode::{Encoder, Meaning, Rows, Wire, date_text, elements_of, moment_text, plain_sparse};
use crate::rows::RowBuffer;
use crate::types::{ColumnType, Precision, ReadAs, Scalar};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use serde_json::{Map, Value};
use std::sync::Arc;
use whimbrel_model::{json, record};

/// Columns that are shown: each with its place in the batch and its form.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    columns: Vec<(String, usize, Wire)>,
}

impl Shown {
    pub(super) fn new(columns: Vec<(String, usize, Wire)>) -> Self {
        Self { columns }
    }

    /// The columns of a row.
    pub(super) fn record(&self, records: &RecordBatch, row: usize) -> Map<String, Value> {
        let column = |(name, at, wire): &(String, usize, Wire)| {
            let value = records.columns().get(*at).map(|column| record::value_to_json(column, row));
            (name.clone(), plain(value.unwrap_or_default(), wire))
        };
        self.columns.iter().map(column).collect()
    }
}

/// A value as it is shown: documents and arrays as what they are, no padding.
fn plain(value: Value, wire: &Wire) -> Value {
    let text = match value {
        Value::String(text) => text,
        Value::Number(_) => return out_of_calendar(value, wire),
        Value::Array(elements) => {
            let Wire::Array(element, _) = wire else { return Value::Array(elements) };
            return elements.into_iter().map(|value| plain_element(value, element)).collect();
        }
        other => return other,
    };
    match wire {
        Wire::Json | Wire::Jsonb => json::parse(&text).unwrap_or(Value::String(text)),
        Wire::Text { is_padded: true, .. } => Value::String(text.trim_end_matches(' ').to_owned()),
        // PostgreSQL writes large and small floats in another way.
        Wire::SparseVector(_) => Value::String(plain_sparse(&text).unwrap_or(text)),
        Wire::Cast(Meaning::List(_)) => match elements_of(&text) {
            Ok(elements) => {
                elements.into_iter().map(|element| element.map_or(Value::Null, Value::String)).collect()
            }
            Err(_) => Value::String(text),
        },
        _ => Value::String(text),
    }
}

/// An element of an array, shown alike whichever side it is read from.
fn plain_element(value: Value, wire: &Wire) -> Value {
    match (value, wire) {
        (Value::String(text), Wire::Vector(_) | Wire::HalfVector(_)) => {
            json::parse(&text).unwrap_or(Value::String(text))
        }
        (Value::String(text), Wire::SparseVector(_)) => Value::String(plain_sparse(&text).unwrap_or(text)),
        (value, wire) => out_of_calendar(value, wire),
    }
}

/// Days and moments that have no calendar's text are counts; they are shown as PostgreSQL writes them.
fn out_of_calendar(value: Value, wire: &Wire) -> Value {
    let Some(count) = value.as_i64() else { return value };
    match wire {
        Wire::Date if count == i64::from(i32::MAX) => "infinity".into(),
        Wire::Date if count == i64::from(i32::MIN) => "-infinity".into(),
        Wire::Date => date_text(count).into(),
        Wire::Timestamp(_) => moment_text(count, false).into(),
        Wire::TimestampTz(_) => moment_text(count, true).into(),
        _ => value,
    }
}

/// Records that are about to be sent, as the table will hold them. `order` names columns that come first.
pub(super) fn previews(
    encoder: &Encoder,
    rows: &Rows,
    count: usize,
    order: &Schema,
) -> Vec<Map<String, Value>> {
    let columns: Vec<Column> =
        encoder.columns().iter().map(|column| as_sent(&column.name, &column.wire)).collect();
    let fields = columns.iter().map(|column| column.column_type.field(&column.name, true, ""));
    let mut buffer = RowBuffer::new(&Arc::new(Schema::new(fields.collect::<Vec<_>>())), &columns);
    let mut is_whole = true;
    for row in 0..count {
        if let Ok(fields) = rows.fields(row) {
            let row = OwnRow::of_fields(fields);
            is_whole &= row.is_ok_and(|row| buffer.push(row.as_rows()).is_ok());
        }
    }
    let place = |name: &str| encoder.columns().iter().position(|column| column.name == name);
    let mut places: Vec<usize> = order.fields().iter().filter_map(|field| place(field.name())).collect();
    places.extend((0..columns.len()).filter(|at| !places.contains(at)).collect::<Vec<_>>());
    let shown = places.into_iter().map(|at| {
        let column = &encoder.columns()[at];
        (column.name.clone(), at, column.wire.clone())
    });
    let shown = Shown::new(shown.collect());
    let Ok(taken) =
        buffer.take().map_err(|_| ()).and_then(|taken| if is_whole { Ok(taken) } else { Err(()) })
    else {
        return vec![Map::new(); count];
    };
    let mut sent = 0..;
    let preview = |row: usize| match rows.fields(row) {
        Ok(_) => sent.next().map(|at| shown.record(&taken.records, at)).unwrap_or_default(),
        Err(_) => Map::new(),
    };
    (0..count).map(preview).collect()
}

/// A column as what is sent for it is read.
fn as_sent(name: &str, wire: &Wire) -> Column {
    let scalar = |wire: &Wire| match wire {
        Wire::Bool => Scalar::Bool,
        Wire::Int2 => Scalar::Int2,
        Wire::Int4 => Scalar::Int4,
        Wire::Int8 => Scalar::Int8,
        Wire::Oid => Scalar::Oid,
        Wire::Float4 => Scalar::Float4,
        Wire::Float8 => Scalar::Float8,
        Wire::Numeric(_) => Scalar::Numeric,
        Wire::Bytea => Scalar::Bytea,
        Wire::Uuid => Scalar::Uuid,
        Wire::Json => Scalar::Json,
        Wire::Jsonb => Scalar::Jsonb,
        Wire::Date => Scalar::Date,
        Wire::Time(_) => Scalar::Time,
        Wire::Timestamp(_) => Scalar::Timestamp,
        Wire::TimestampTz(_) => Scalar::TimestampTz,
        Wire::Text { .. } | Wire::Enum(_) | Wire::Cast(_) => Scalar::Text,
        Wire::Vector(_) => Scalar::VectorText(Precision::Single),
        Wire::HalfVector(_) => Scalar::VectorText(Precision::Half),
        Wire::SparseVector(_) => Scalar::SparseVector,
        Wire::Bits(_) => Scalar::Bits,
        // There are no arrays of arrays.
        Wire::Array(..) => Scalar::Bytea,
    };
    let column_type = match wire {
        Wire::Vector(_) => ColumnType::Vector(Precision::Single),
        Wire::HalfVector(_) => ColumnType::Vector(Precision::Half),
        Wire::Array(element, _) => ColumnType::List(scalar(element)),
        wire => ColumnType::Scalar(scalar(wire)),
    };
    Column {
        name: name.to_owned(),
        type_oid: 0,
        source_type: String::new(),
        is_money: false,
        read_as: ReadAs::sent(column_type),
        column_type,
        holds_null: true,
        nullable: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, StringArray};
    use bytes::BytesMut;
    use serde_json::json;
    use whimbrel_model::canonical::Canonical;
    use whimbrel_model::cell::cell;

    /// What is shown of a value on its way into a column, and of what PostgreSQL writes of the same value.
    fn both_ways(wire: &Wire, value: &ArrayRef, held: Value) -> (Value, Value) {
        let mut bytes = BytesMut::new();
        wire.put(cell(value, 0), None, &mut bytes, &mut Canonical::default()).unwrap();
        let column = as_sent("c", wire);
        let schema = Arc::new(Schema::new(vec![column.column_type.field("c", true, "")]));
        let mut buffer = RowBuffer::new(&schema, &[column]);
        let row = OwnRow::of_values(std::iter::once(Some(&bytes[..]))).unwrap();
        buffer.push(row.as_rows()).unwrap();
        let records = buffer.take().unwrap().records;
        let shown = Shown::new(vec![("c".to_owned(), 0, wire.clone())]);
        (shown.record(&records, 0)["c"].clone(), plain(held, wire))
    }

    #[test]
    fn equal_values_are_shown_alike_on_both_sides() {
        let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
        let bits = Wire::Bits(Meaning::Bits { limit: None, is_varying: true });
        let cases = [
            (bits.clone(), "1010", json!("1010"), json!("1010")),
            (bits.clone(), "", json!(""), json!("")),
            (bits.clone(), "000000001", json!("000000001"), json!("000000001")),
            (
                Wire::SparseVector(None),
                "{3:1e-7,1:0.5}/5",
                json!("{1:0.5,3:1e-07}/5"),
                json!("{1:0.5,3:0.0000001}/5"),
            ),
            (Wire::Array(Box::new(bits), 1562), "{101,NULL}", json!(["101", null]), json!(["101", null])),
            (
                Wire::Array(Box::new(Wire::HalfVector(None)), 0),
                r#"{"[0.5,65504]"}"#,
                json!(["[0.5,65504]"]),
                json!([[0.5, 65504]]),
            ),
        ];
        for (wire, sent, held, expected) in cases {
            let (one, other) = both_ways(&wire, &text(sent), held);
            assert_eq!(one, other, "{sent}");
            assert_eq!(one.to_string(), expected.to_string());
        }
        let halves = both_ways(&Wire::HalfVector(None), &text("[0.5,2]"), json!([0.5, 2]));
        assert_eq!(halves.0, halves.1);
    }

    #[test]
    fn what_no_calendar_holds_is_shown_as_postgresql_writes_it() {
        let moments = [
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
            (9_214_646_400_000_000_000, "293970-07-10 00:00:00+00"),
        ];
        for (count, text) in moments {
            assert_eq!(plain(json!(count), &Wire::TimestampTz(6)), text);
        }
        assert_eq!(plain(json!(i64::MIN), &Wire::Timestamp(6)), "-infinity");
        assert_eq!(plain(json!(i32::MAX), &Wire::Date), "infinity");
        assert_eq!(plain(json!(i32::MIN), &Wire::Date), "-infinity");
        assert_eq!(plain(json!(i64::MAX), &Wire::Int8), json!(i64::MAX), "a number stays one");
        let days = Wire::Array(Box::new(Wire::Date), 0);
        assert_eq!(plain(json!([i32::MAX, "2024-02-29"]), &days), json!(["infinity", "2024-02-29"]));
    }
}
