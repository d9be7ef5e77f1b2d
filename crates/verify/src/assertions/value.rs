//! Values of answers: what equals what, whichever store and type they come from.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Field, Int64Type, TimeUnit};
use std::cmp::Ordering;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::decimal::Decimal;
use whimbrel_model::{Logical, json};
use whimbrel_query::text_of;

/// Whether the column holds numbers.
pub(super) fn is_number(field: &Field) -> bool {
    Logical::of(field) == Some(Logical::Number) || field.data_type().is_numeric()
}

/// A value in a form that is the same for equal values: numbers by value, instants by instant, JSON without regard to
/// the order of its keys.
pub(super) fn append(canonical: &mut Canonical, field: &Field, column: &ArrayRef, row: usize) {
    let text = || text_of(column, row).unwrap_or_default();
    if column.is_null(row) {
        return canonical.null();
    }
    match (Logical::of(field), field.data_type()) {
        _ if is_number(field) => canonical.number(&text()),
        (Some(Logical::Json), _) => match json::parse(&text()) {
            Ok(value) => canonical.json(&value),
            Err(_) => canonical.text(&text()),
        },
        (_, DataType::Boolean) => canonical.bool(column.as_boolean().value(row)),
        (_, DataType::Date32) => canonical.date(column.as_primitive::<Date32Type>().value(row)),
        (_, DataType::Timestamp(unit, zone)) => match moment(column, *unit, row) {
            Some((micros, nanos)) if zone.is_some() => canonical.instant(micros, nanos),
            Some((micros, nanos)) => canonical.local(micros, nanos),
            None => canonical.text(&text()),
        },
        _ => canonical.text(&text()),
    }
}

/// Microseconds since 1970 and the nanoseconds below them; `None` where 64 bits do not hold that.
fn moment(column: &ArrayRef, unit: TimeUnit, row: usize) -> Option<(i64, u16)> {
    let raw = cast(column, &DataType::Int64).ok()?.as_primitive::<Int64Type>().value(row);
    Some(match unit {
        TimeUnit::Second => (raw.checked_mul(1_000_000)?, 0),
        TimeUnit::Millisecond => (raw.checked_mul(1_000)?, 0),
        TimeUnit::Microsecond => (raw, 0),
        TimeUnit::Nanosecond => (raw.div_euclid(1_000), u16::try_from(raw.rem_euclid(1_000)).ok()?),
    })
}

/// How two decimal numbers stand to each other; `None` where one of them is no number.
pub(super) fn compare_numbers(left: &str, right: &str) -> Option<Ordering> {
    let (left, right) = (Signed::read(left)?, Signed::read(right)?);
    Some(match (left.sign, right.sign) {
        (one, other) if one != other => one.cmp(&other),
        (0, _) => Ordering::Equal,
        (sign, _) => {
            let order = left.magnitude.cmp(&right.magnitude).then_with(|| left.digits.cmp(&right.digits));
            if sign < 0 { order.reverse() } else { order }
        }
    })
}

/// A decimal number, taken apart so that it can be ordered.
struct Signed {
    sign: i8,
    /// The power of ten of its first digit.
    magnitude: i64,
    /// Its digits without zeros at either end: behind the same magnitude they sort as text.
    digits: String,
}

impl Signed {
    fn read(text: &str) -> Option<Self> {
        let decimal = Decimal::parse(text)?;
        let Some(magnitude) = decimal.magnitude() else {
            return Some(Self { sign: 0, magnitude: 0, digits: String::new() });
        };
        let normal = decimal.to_string();
        let mantissa = normal.split('E').next().unwrap_or_default();
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        let digits = digits.trim_matches('0').to_owned();
        Some(Self { sign: if normal.starts_with('-') { -1 } else { 1 }, magnitude, digits })
    }
}

/// Whether a value is what the spec wrote: numbers by value, everything else as text.
pub(super) fn is_written(field: &Field, value: &str, written: &str) -> bool {
    if is_number(field) {
        return compare_numbers(value, written.trim()).map_or(value == written, Ordering::is_eq);
    }
    value == written
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
        TimestampNanosecondArray,
    };
    use std::sync::Arc;

    #[test]
    fn numbers_are_ordered_by_value() {
        let ascending = [
            "-1e30",
            "-10.5",
            "-10.05",
            "-1",
            "-0.001",
            "0",
            "1e-30",
            "0.9",
            "1.0",
            "1.000000000000000000001",
            "9",
            "10",
            "12345678901234567890123456789012345678",
            "1e38",
        ];
        for (at, left) in ascending.iter().enumerate() {
            for (other, right) in ascending.iter().enumerate() {
                assert_eq!(compare_numbers(left, right), Some(at.cmp(&other)), "{left} {right}");
            }
        }
        assert_eq!(compare_numbers("1.0", "1"), Some(Ordering::Equal));
        assert_eq!(compare_numbers("-0", "0.00"), Some(Ordering::Equal));
        assert_eq!(compare_numbers("NaN", "1"), None);
    }

    fn canonical(field: &Field, column: impl Array + 'static) -> Vec<u8> {
        let column: ArrayRef = Arc::new(column);
        let mut canonical = Canonical::default();
        append(&mut canonical, field, &column, 0);
        canonical.bytes().to_vec()
    }

    #[test]
    fn equal_values_of_different_types_are_equal() {
        let plain = |data_type: DataType| Field::new("x", data_type, true);
        let whole = canonical(&plain(DataType::Int64), Int64Array::from(vec![7]));
        let float = canonical(&plain(DataType::Float64), Float64Array::from(vec![7.0]));
        let decimal = Decimal128Array::from(vec![700]).with_precision_and_scale(10, 2).unwrap();
        let decimal = canonical(&plain(DataType::Decimal128(10, 2)), decimal);
        let text = canonical(&Logical::Number.field("x", true), StringArray::from(vec!["7.000"]));
        assert!([&float, &decimal, &text].into_iter().all(|other| *other == whole));
        let name = canonical(&plain(DataType::Utf8), StringArray::from(vec!["7"]));
        assert_ne!(name, whole, "text is no number");
        let json = |text: &str| canonical(&Logical::Json.field("x", true), StringArray::from(vec![text]));
        assert_eq!(json(r#"{"a":1.0,"b":[null]}"#), json(r#"{ "b": [null], "a": 1 }"#));
        assert_ne!(json(r#"{"a":1}"#), json(r#"{"a":"1"}"#));
        let utc: Arc<str> = "+00:00".into();
        let micros = TimestampMicrosecondArray::from(vec![-1_500]).with_timezone(Arc::clone(&utc));
        let nanos = TimestampNanosecondArray::from(vec![-1_500_000]).with_timezone(Arc::clone(&utc));
        let at = |unit, zone| plain(DataType::Timestamp(unit, zone));
        assert_eq!(
            canonical(&at(TimeUnit::Microsecond, Some(Arc::clone(&utc))), micros),
            canonical(&at(TimeUnit::Nanosecond, Some(utc)), nanos),
        );
    }

    #[test]
    fn what_the_spec_writes_is_compared_by_the_kind_of_the_value() {
        let number = Field::new("x", DataType::Int64, true);
        assert!(is_written(&number, "100", "1e2") && !is_written(&number, "100", "1e3"));
        assert!(!is_written(&number, "100", "a hundred"));
        let text = Field::new("x", DataType::Utf8, true);
        assert!(is_written(&text, "007", "007") && !is_written(&text, "007", "7"));
    }
}
