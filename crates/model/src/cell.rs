//! One value of an Arrow column, in the few kinds that writing tells apart.

use arrow::array::{Array as _, ArrayRef, AsArray as _, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Field, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use serde_json::Value;
use std::sync::Arc;

/// A value, borrowed from its array.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    /// No value.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer with a sign, or of at most 32 bits.
    Int(i64),
    /// An integer of 64 bits without a sign.
    UInt(u64),
    /// A float of single precision.
    F32(f32),
    /// A float of double precision.
    F64(f64),
    /// Text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Microseconds since 1970 and nanoseconds below them; `i64::MAX` and `i64::MIN` are the infinities.
    Moment {
        /// Microseconds.
        us: i64,
        /// Nanoseconds below them, 0 to 999.
        ns: u16,
        /// Whether it is an instant, and no date and time of an unnamed place.
        zoned: bool,
    },
    /// Days since 1970; `i32::MAX` and `i32::MIN` are the infinities.
    Day(i32),
    /// Microseconds since midnight and nanoseconds below them.
    Clock {
        /// Microseconds.
        us: i64,
        /// Nanoseconds below them, 0 to 999.
        ns: u16,
    },
    /// A stretch of the values of all lists.
    List {
        /// The values of all lists, one behind the other.
        values: &'a ArrayRef,
        /// Where this list begins.
        start: usize,
        /// Where it ends.
        end: usize,
    },
}

/// The same type in the layout that [`cell`] reads; `None`: it reads no such type.
#[must_use]
pub fn plain_type(data_type: &DataType) -> Option<DataType> {
    Some(match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        // Decimal text is exact, and a number of any size travels so.
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary | DataType::FixedSizeBinary(_) => DataType::Binary,
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Timestamp(TimeUnit::Millisecond, None),
        other if is_document(other) => {
            if !is_readable(other) {
                return None;
            }
            DataType::Utf8
        }
        DataType::Dictionary(_, value) => plain_type(value)?,
        DataType::RunEndEncoded(_, value) => plain_type(value.data_type())?,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let plain = plain_type(item.data_type())?;
            if plain == *item.data_type() && matches!(data_type, DataType::List(_)) {
                data_type.clone()
            } else {
                let field = Field::new(item.name(), plain, true).with_metadata(item.metadata().clone());
                DataType::List(Arc::new(field))
            }
        }
        DataType::Null
        | DataType::Boolean
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date32
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(..)
        | DataType::Float32
        | DataType::Float64 => data_type.clone(),
        other if other.is_integer() => other.clone(),
        _ => return None,
    })
}

/// Whether a type has parts below those of a list: its values are documents, and read as their JSON.
#[must_use]
pub fn is_document(data_type: &DataType) -> bool {
    let is_nested = |item: &Field| item.data_type().is_nested();
    match data_type {
        DataType::Struct(_) | DataType::Map(..) => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_nested(item)
        }
        _ => false,
    }
}

/// Whether all that a document is made of can be read.
fn is_readable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| is_readable(field.data_type())),
        DataType::Map(item, _)
        | DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _) => is_readable(item.data_type()),
        other => plain_type(other).is_some(),
    }
}

/// The column in the layout that [`cell`] reads.
///
/// # Errors
/// [`cell`] reads no such type, or a value does not survive the cast.
pub fn plain(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match plain_type(array.data_type()) {
        Some(_) if is_document(array.data_type()) => documents(array),
        Some(plain) if plain == *array.data_type() => Ok(Arc::clone(array)),
        Some(plain) => {
            cast_with_options(array, &plain, &CastOptions { safe: false, ..CastOptions::default() })
        }
        None => Err(ArrowError::NotYetImplemented(format!("values of the type {}", array.data_type()))),
    }
}

fn documents(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let documents = crate::document::documents(array)?;
    let text = |value: &Value| (!value.is_null()).then(|| value.to_string());
    Ok(Arc::new(documents.iter().map(text).collect::<StringArray>()))
}

/// The value of a row of a plain column.
#[must_use]
pub fn cell(array: &ArrayRef, row: usize) -> Cell<'_> {
    if array.is_null(row) {
        return Cell::Null;
    }
    match array.data_type() {
        DataType::Boolean => Cell::Bool(array.as_boolean().value(row)),
        DataType::Int8 => Cell::Int(array.as_primitive::<Int8Type>().value(row).into()),
        DataType::Int16 => Cell::Int(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Cell::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => Cell::Int(array.as_primitive::<UInt8Type>().value(row).into()),
        DataType::UInt16 => Cell::Int(array.as_primitive::<UInt16Type>().value(row).into()),
        DataType::UInt32 => Cell::Int(array.as_primitive::<UInt32Type>().value(row).into()),
        DataType::UInt64 => Cell::UInt(array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => Cell::F32(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => Cell::F64(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row)),
        DataType::Binary => Cell::Bytes(array.as_binary::<i32>().value(row)),
        DataType::Date32 => Cell::Day(array.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(unit, zone) => moment(array, row, *unit, zone.is_some()),
        DataType::Time32(_) | DataType::Time64(_) => clock(array, row),
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let at = |index: usize| usize::try_from(lists.value_offsets()[index]).unwrap_or(0);
            Cell::List { values: lists.values(), start: at(row), end: at(row + 1) }
        }
        // A column without any value.
        _ => Cell::Null,
    }
}

fn moment(array: &ArrayRef, row: usize, unit: TimeUnit, zoned: bool) -> Cell<'_> {
    let coarse = |value: i64, factor: i64| match value.checked_mul(factor) {
        Some(us) => (us, 0),
        // Beyond all calendars that a microsecond count reaches.
        None => (if value > 0 { i64::MAX - 1 } else { i64::MIN + 1 }, 0),
    };
    let (us, ns) = match unit {
        TimeUnit::Second => coarse(array.as_primitive::<TimestampSecondType>().value(row), 1_000_000),
        TimeUnit::Millisecond => coarse(array.as_primitive::<TimestampMillisecondType>().value(row), 1_000),
        TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().value(row), 0),
        TimeUnit::Nanosecond => split_ns(array.as_primitive::<TimestampNanosecondType>().value(row)),
    };
    Cell::Moment { us, ns, zoned }
}

fn clock(array: &ArrayRef, row: usize) -> Cell<'_> {
    let (us, ns) = match array.data_type() {
        DataType::Time32(TimeUnit::Second) => {
            (i64::from(array.as_primitive::<Time32SecondType>().value(row)) * 1_000_000, 0)
        }
        DataType::Time32(_) => {
            (i64::from(array.as_primitive::<Time32MillisecondType>().value(row)) * 1_000, 0)
        }
        DataType::Time64(TimeUnit::Nanosecond) => {
            split_ns(array.as_primitive::<Time64NanosecondType>().value(row))
        }
        _ => (array.as_primitive::<Time64MicrosecondType>().value(row), 0),
    };
    Cell::Clock { us, ns }
}

fn split_ns(value: i64) -> (i64, u16) {
    (value.div_euclid(1_000), u16::try_from(value.rem_euclid(1_000)).unwrap_or(0))
}
