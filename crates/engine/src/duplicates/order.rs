//! Which of several records of one key is the last.

use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema};
use arrow::row::{RowConverter, SortField};
use std::fmt;
use std::sync::Arc;
use whimbrel_model::Logical;
use whimbrel_model::decimal::Decimal;
use whimbrel_spec::resolved::OrderColumn;

/// An order over records by some of their columns. A record without a value comes before all that have one.
#[derive(Debug)]
pub struct Order {
    columns: Vec<Column>,
    converter: RowConverter,
}

#[derive(Debug)]
struct Column {
    name: String,
    index: usize,
    descending: bool,
    /// Whether it holds exact numbers as text, which do not sort as text does.
    number: bool,
}

/// A column by which records cannot be put in order.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OrderError {
    /// There is no such column.
    #[error("`order` names `{0}`, and the records have no such column")]
    Unknown(String),
    /// Its values have no order.
    #[error("`order` names `{column}`, whose type {kind} has no order")]
    Unordered {
        /// The column.
        column: String,
        /// Its type.
        kind: String,
    },
}

impl Order {
    /// Over records of this schema.
    ///
    /// # Errors
    /// A column is not there, or its values have no order.
    pub fn new(columns: &[OrderColumn], schema: &Schema) -> Result<Self, OrderError> {
        let mut fields = Vec::with_capacity(columns.len());
        let mut ordered = Vec::with_capacity(columns.len());
        for OrderColumn { column, descending } in columns {
            let index = schema.index_of(column).map_err(|_| OrderError::Unknown(column.clone()))?;
            let field = schema.field(index);
            let logical = Logical::of(field);
            let number = logical == Some(Logical::Number) && *field.data_type() == DataType::Utf8;
            let kind = if number { DataType::Binary } else { field.data_type().clone() };
            // The greatest wins, and what has no value never does.
            let options = SortOptions { descending: *descending, nulls_first: true };
            let sort = SortField::new_with_options(kind, options);
            if logical == Some(Logical::Json) || !RowConverter::supports_fields(std::slice::from_ref(&sort)) {
                let kind = whimbrel_model::logical::type_name(field);
                return Err(OrderError::Unordered { column: column.clone(), kind });
            }
            fields.push(sort);
            ordered.push(Column { name: column.clone(), index, descending: *descending, number });
        }
        let unordered = |error: arrow::error::ArrowError| OrderError::Unordered {
            column: columns.iter().map(|order| order.column.as_str()).collect::<Vec<_>>().join(", "),
            kind: error.to_string(),
        };
        let converter = RowConverter::new(fields).map_err(unordered)?;
        Ok(Self { columns: ordered, converter })
    }

    /// Bytes that compare as the records do, one a record: those of a later record are greater.
    ///
    /// # Errors
    /// The records are of another schema, which is a mistake of ours.
    pub fn sort_bytes(&self, records: &RecordBatch) -> Result<Vec<Box<[u8]>>, arrow::error::ArrowError> {
        let column = |column: &Column| {
            let values = records.column(column.index);
            if column.number { numbers(values.as_ref()) } else { Arc::clone(values) }
        };
        let columns: Vec<ArrayRef> = self.columns.iter().map(column).collect();
        let rows = self.converter.convert_columns(&columns)?;
        Ok(rows.iter().map(|row| row.data().into()).collect())
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, column) in self.columns.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let direction = if column.descending { " desc" } else { "" };
            write!(f, "{comma}{}{direction}", column.name)?;
        }
        Ok(())
    }
}

fn numbers(values: &dyn Array) -> ArrayRef {
    let texts = values.as_any().downcast_ref::<StringArray>().into_iter().flat_map(StringArray::iter);
    let numbers: BinaryArray = texts.map(|text| text.map(number_bytes)).collect();
    Arc::new(numbers)
}

/// Bytes that compare as the numbers do: sign, power of ten, digits. Infinities at the ends, and what is no
/// number behind them all, as in PostgreSQL.
fn number_bytes(text: &str) -> Vec<u8> {
    let Some(number) = Decimal::parse(text) else {
        return match text {
            "-Infinity" => vec![0],
            "Infinity" => vec![4],
            _ => vec![5],
        };
    };
    let Some(magnitude) = number.magnitude() else { return vec![2] };
    let shown = number.to_string();
    let mantissa = shown.split('E').next().unwrap_or_default();
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_matches('0').as_bytes();
    // Shifted so that negative powers come first.
    let power = (i128::from(magnitude) - i128::from(i64::MIN)).to_be_bytes();
    let size = power[8..].iter().chain(digits).copied().chain([0]);
    if shown.starts_with('-') {
        [1].into_iter().chain(size.map(|byte| !byte)).collect()
    } else {
        [3].into_iter().chain(size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::Field;

    fn by(column: &str, descending: bool) -> OrderColumn {
        OrderColumn { column: column.to_owned(), descending }
    }

    #[test]
    fn numbers_as_text_sort_as_numbers() {
        let ascending = [
            "-Infinity",
            "-1e100",
            "-100",
            "-99.5",
            "-2",
            "-1.5",
            "-1",
            "-0.01",
            "0",
            "0.001",
            "0.01",
            "1",
            "1.05",
            "1.5",
            "2",
            "9",
            "10",
            "99",
            "100",
            "12345678901234567890123456789012345678",
            "1e120",
            "Infinity",
            "NaN",
        ];
        for pair in ascending.windows(2) {
            assert!(number_bytes(pair[0]) < number_bytes(pair[1]), "{pair:?}");
        }
        assert_eq!(number_bytes("1.50"), number_bytes("15e-1"));
        assert_eq!(number_bytes("100"), number_bytes("1E2"));
    }

    #[test]
    fn the_greatest_is_the_last_and_nothing_comes_before_all() {
        let schema = Schema::new(vec![
            Field::new("at", DataType::Int64, true),
            Logical::Number.field("share", true),
            Logical::Json.field("more", true),
        ]);
        let schema = Arc::new(schema);
        let at: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(-5), Some(3), Some(3)]));
        let share: ArrayRef = Arc::new(StringArray::from(vec![Some("1"), Some("1"), Some("10"), Some("9")]));
        let more: ArrayRef = Arc::new(StringArray::from(vec!["{}"; 4]));
        let records = RecordBatch::try_new(Arc::clone(&schema), vec![at, share, more]).unwrap();
        let last = |columns: &[OrderColumn]| {
            let bytes = Order::new(columns, &schema).unwrap().sort_bytes(&records).unwrap();
            (0..4).max_by_key(|row| bytes[*row].clone()).unwrap()
        };
        assert_eq!(last(&[by("at", false), by("share", false)]), 2);
        assert_eq!(last(&[by("at", false), by("share", true)]), 3);
        assert_eq!(last(&[by("at", true)]), 1, "a record without a value never wins");
        let more = Order::new(&[by("more", false)], &schema).unwrap_err();
        assert_eq!(more.to_string(), "`order` names `more`, whose type json has no order");
        assert_eq!(Order::new(&[by("x", false)], &schema).unwrap_err(), OrderError::Unknown("x".to_owned()));
    }
}
