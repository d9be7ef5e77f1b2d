//! The values of a column, row by row, with its type told once for all of them.

use arrow::array::{Array as _, ArrayRef, AsArray as _, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use whimbrel_model::cell::{Cell, cell};

/// A plain column. The types of most values are told apart here, the others by [`cell`], again at each of them.
pub(super) enum Cells<'a> {
    Int64(&'a [i64], Option<&'a NullBuffer>),
    Float64(&'a [f64], Option<&'a NullBuffer>),
    Text(&'a StringArray, Option<&'a NullBuffer>),
    Moment { us: &'a [i64], nulls: Option<&'a NullBuffer>, zoned: bool },
    Other(&'a ArrayRef),
}

impl<'a> Cells<'a> {
    pub(super) fn of(array: &'a ArrayRef) -> Self {
        let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
        match array.data_type() {
            DataType::Int64 => Self::Int64(array.as_primitive::<Int64Type>().values(), nulls),
            DataType::Float64 => Self::Float64(array.as_primitive::<Float64Type>().values(), nulls),
            DataType::Utf8 => Self::Text(array.as_string::<i32>(), nulls),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let us = array.as_primitive::<TimestampMicrosecondType>().values();
                Self::Moment { us, nulls, zoned: zone.is_some() }
            }
            _ => Self::Other(array),
        }
    }

    /// The value of a row.
    pub(super) fn cell(&self, row: usize) -> Cell<'a> {
        let is_null = |nulls: &Option<&NullBuffer>| nulls.is_some_and(|nulls| nulls.is_null(row));
        match self {
            Self::Int64(_, nulls)
            | Self::Float64(_, nulls)
            | Self::Text(_, nulls)
            | Self::Moment { nulls, .. }
                if is_null(nulls) =>
            {
                Cell::Null
            }
            Self::Int64(values, _) => Cell::Int(values[row]),
            Self::Float64(values, _) => Cell::F64(values[row]),
            Self::Text(values, _) => Cell::Text(values.value(row)),
            Self::Moment { us, zoned, .. } => Cell::Moment { us: us[row], ns: 0, zoned: *zoned },
            Self::Other(array) => cell(array, row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cells;
    use arrow::array::{
        ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray,
    };
    use std::sync::Arc;
    use whimbrel_model::cell::cell;

    #[test]
    fn values_are_those_that_the_model_reads() {
        let moments = || TimestampMicrosecondArray::from(vec![Some(-1), None, Some(i64::MAX)]);
        let all: [ArrayRef; 7] = [
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(7)])),
            Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::INFINITY)])),
            Arc::new(StringArray::from(vec![Some(""), None, Some("ü")])),
            Arc::new(moments()),
            Arc::new(moments().with_timezone("UTC")),
            Arc::new(Date32Array::from(vec![Some(1), None, Some(i32::MAX)])),
            Arc::new(Int32Array::from(vec![Some(1), None, Some(i32::MAX)])),
        ];
        for array in &all {
            // A part of an array begins where it is told to.
            for array in [Arc::clone(array), array.slice(1, 2)] {
                let cells = Cells::of(&array);
                for row in 0..array.len() {
                    let (found, expected) = (cells.cell(row), cell(&array, row));
                    assert_eq!(format!("{found:?}"), format!("{expected:?}"), "{array:?} {row}");
                }
            }
        }
    }
}
