//! Values of rows into columns.

use super::{Reading, moment};
use arrow::array::{
    ArrayBuilder as _, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder,
    StringBuilder, TimestampMicrosecondBuilder,
};
use rusqlite::types::ValueRef;
use serde::de::IgnoredAny;
use std::sync::Arc;
use whimbrel_model::decimal::Decimal;

/// How much of a value a reason shows.
const SHOWN: usize = 40;

/// A column as far as it has come.
#[derive(Debug)]
pub(crate) struct Builder {
    reading: Reading,
    /// Whether the spec says how it is read, so that other forms of the same value are taken, too.
    is_lenient: bool,
    /// The declared type, for reasons.
    declared: String,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Integer(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Boolean(BooleanBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Date(Date32Builder),
}

/// A real as text that names it again; the shortest there is.
pub(crate) fn float_text(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "Inf" } else { "-Inf" }.to_owned();
    }
    format!("{value:?}")
}

/// A real as a decimal number that names it again; `Infinity` and `-Infinity` are numbers, too.
pub(crate) fn number_text(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let text = format!("{value:e}");
    Decimal::parse(&text).map_or(text, |decimal| decimal.to_string())
}

/// The whole number that a real is.
#[expect(clippy::cast_possible_truncation, reason = "the bounds are checked, and there is no fraction")]
pub(crate) fn whole(value: f64) -> Option<i64> {
    let is_whole =
        value.fract() == 0.0 && (-9.223_372_036_854_776e18..9.223_372_036_854_776e18).contains(&value);
    is_whole.then_some(value as i64)
}

/// The float that is exactly a whole number.
#[expect(clippy::cast_precision_loss, reason = "what is not exact is refused")]
pub(crate) fn exact_float(value: i64) -> Option<f64> {
    let float = value as f64;
    (whole(float) == Some(value)).then_some(float)
}

/// The float that a decimal text names: the one that prints the same number again.
pub(crate) fn named_float(text: &str) -> Option<f64> {
    let decimal = Decimal::parse(text)?;
    let float: f64 = text.parse().ok()?;
    let again = Decimal::parse(&format!("{float:e}"))?;
    (float.is_finite() && again == decimal).then_some(float)
}

fn quoted(text: &str) -> String {
    let mut characters = text.chars();
    let head: String = characters.by_ref().take(SHOWN).collect();
    if characters.next().is_some() { format!("{head:?}…") } else { format!("{head:?}") }
}

fn shown(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => "NULL".to_owned(),
        ValueRef::Integer(value) => format!("the integer {value}"),
        ValueRef::Real(value) => format!("the real {}", float_text(value)),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => format!("the text {}", quoted(text)),
            Err(_) => format!("text of {} bytes that is not UTF-8", bytes.len()),
        },
        ValueRef::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
    }
}

/// The bytes of a value that could not be read.
pub(crate) fn raw(value: ValueRef<'_>) -> Vec<u8> {
    match value {
        ValueRef::Null => Vec::new(),
        ValueRef::Integer(value) => value.to_string().into_bytes(),
        ValueRef::Real(value) => float_text(value).into_bytes(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
    }
}

impl Builder {
    pub(crate) fn new(reading: Reading, is_lenient: bool, declared: &str) -> Self {
        let values = match reading {
            Reading::Integer => Values::Integer(Int64Builder::new()),
            Reading::Float => Values::Float(Float64Builder::new()),
            Reading::Text | Reading::Number | Reading::Json | Reading::Uuid => {
                Values::Text(StringBuilder::new())
            }
            Reading::Binary => Values::Binary(BinaryBuilder::new()),
            Reading::Boolean => Values::Boolean(BooleanBuilder::new()),
            Reading::Timestamp => Values::Timestamp(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Reading::Date => Values::Date(Date32Builder::new()),
        };
        Self { reading, is_lenient, declared: declared.to_owned(), values }
    }

    /// Appends a value. `Err`: NULL was appended in its place, and why.
    pub(crate) fn push(&mut self, value: ValueRef<'_>) -> Result<(), String> {
        let (reading, is_lenient) = (self.reading, self.is_lenient);
        let fitted = match &mut self.values {
            Values::Integer(to) => integer(value, is_lenient).map(|value| to.append_option(value)),
            Values::Float(to) => float(value, is_lenient).map(|value| to.append_option(value)),
            Values::Text(to) => text(to, reading, value),
            Values::Binary(to) => match value {
                ValueRef::Null => {
                    to.append_null();
                    Ok(())
                }
                ValueRef::Blob(bytes) => {
                    to.append_value(bytes);
                    Ok(())
                }
                _ => Err(String::new()),
            },
            Values::Boolean(to) => boolean(value).map(|value| to.append_option(value)),
            Values::Timestamp(to) => instant(value).map(|value| to.append_option(value)),
            Values::Date(to) => instant(value).and_then(day).map(|value| to.append_option(value)),
        };
        let Err(why) = fitted else { return Ok(()) };
        self.push_null();
        let declared = match (self.declared.as_str(), is_lenient) {
            (_, true) => format!("it is to be read as {}", reading.word()),
            ("", false) => "the column has no type".to_owned(),
            (declared, false) => format!("the column is declared {declared}"),
        };
        let why = if why.is_empty() { why } else { format!("; {why}") };
        Err(format!("{declared} and holds {}{why}", shown(value)))
    }

    fn push_null(&mut self) {
        match &mut self.values {
            Values::Integer(to) => to.append_null(),
            Values::Float(to) => to.append_null(),
            Values::Text(to) => to.append_null(),
            Values::Binary(to) => to.append_null(),
            Values::Boolean(to) => to.append_null(),
            Values::Timestamp(to) => to.append_null(),
            Values::Date(to) => to.append_null(),
        }
    }

    /// The column; it begins anew, with room for as much again: to grow step by step would copy all of it.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        match &mut self.values {
            Values::Integer(values) => {
                let rows = values.len();
                Arc::new(std::mem::replace(values, Int64Builder::with_capacity(rows)).finish())
            }
            Values::Float(values) => {
                let rows = values.len();
                Arc::new(std::mem::replace(values, Float64Builder::with_capacity(rows)).finish())
            }
            Values::Text(values) => {
                let (rows, bytes) = (values.len(), values.values_slice().len());
                Arc::new(std::mem::replace(values, StringBuilder::with_capacity(rows, bytes)).finish())
            }
            Values::Binary(values) => {
                let (rows, bytes) = (values.len(), values.values_slice().len());
                Arc::new(std::mem::replace(values, BinaryBuilder::with_capacity(rows, bytes)).finish())
            }
            Values::Boolean(values) => Arc::new(values.finish()),
            Values::Timestamp(values) => {
                let next = TimestampMicrosecondBuilder::with_capacity(values.len()).with_timezone("UTC");
                Arc::new(std::mem::replace(values, next).finish())
            }
            Values::Date(values) => {
                let rows = values.len();
                Arc::new(std::mem::replace(values, Date32Builder::with_capacity(rows)).finish())
            }
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes)
        .map_err(|error| format!("its byte {} begins no character", error.valid_up_to()))
}

fn integer(value: ValueRef<'_>, is_lenient: bool) -> Result<Option<i64>, String> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(value) => Ok(Some(value)),
        ValueRef::Real(value) => whole(value).map(Some).ok_or_else(String::new),
        ValueRef::Text(bytes) if is_lenient => utf8(bytes)?.parse().map(Some).map_err(|_| String::new()),
        _ => Err(String::new()),
    }
}

fn float(value: ValueRef<'_>, is_lenient: bool) -> Result<Option<f64>, String> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Real(value) => Ok(Some(value)),
        ValueRef::Integer(value) => {
            let exact = exact_float(value).map(Some);
            exact.ok_or_else(|| "no float of 64 bits is that number".to_owned())
        }
        ValueRef::Text(bytes) if is_lenient => named_float(utf8(bytes)?).map(Some).ok_or_else(String::new),
        _ => Err(String::new()),
    }
}

fn boolean(value: ValueRef<'_>) -> Result<Option<bool>, String> {
    match value {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(0) => Ok(Some(false)),
        ValueRef::Integer(1) => Ok(Some(true)),
        ValueRef::Text(bytes) if bytes.eq_ignore_ascii_case(b"false") => Ok(Some(false)),
        ValueRef::Text(bytes) if bytes.eq_ignore_ascii_case(b"true") => Ok(Some(true)),
        _ => Err("truth values are 0 and 1".to_owned()),
    }
}

fn text(to: &mut StringBuilder, reading: Reading, value: ValueRef<'_>) -> Result<(), String> {
    match (reading, value) {
        (_, ValueRef::Null) => to.append_null(),
        (Reading::Uuid, ValueRef::Text(bytes)) => to.append_value(canonical_uuid(utf8(bytes)?)?),
        (Reading::Uuid, ValueRef::Blob(bytes)) if bytes.len() == 16 => to.append_value(uuid_of_bytes(bytes)),
        (Reading::Uuid, _) => return Err(String::new()),
        (_, ValueRef::Integer(value)) => to.append_value(value.to_string()),
        (Reading::Text, ValueRef::Real(value)) => to.append_value(float_text(value)),
        (Reading::Json, ValueRef::Real(value)) if !value.is_finite() => {
            return Err("no number of JSON is infinite".to_owned());
        }
        (_, ValueRef::Real(value)) => to.append_value(number_text(value)),
        (Reading::Number, ValueRef::Text(bytes)) => {
            let text = utf8(bytes)?;
            if Decimal::parse(text).is_none() {
                return Err("that is no number".to_owned());
            }
            to.append_value(text);
        }
        (Reading::Json, ValueRef::Text(bytes)) => {
            let text = utf8(bytes)?;
            let checked = serde_json::from_str::<IgnoredAny>(text);
            checked.map_err(|error| format!("that is no JSON document: {error}"))?;
            to.append_value(text);
        }
        (_, ValueRef::Text(bytes)) => to.append_value(utf8(bytes)?),
        (_, ValueRef::Blob(_)) => return Err(String::new()),
    }
    Ok(())
}

/// The canonical 36 characters of a UUID, in small letters.
pub(crate) fn canonical_uuid(text: &str) -> Result<String, String> {
    let is_one = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if is_one { Ok(text.to_ascii_lowercase()) } else { Err("a UUID has 36 characters".to_owned()) }
}

fn uuid_of_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn instant(value: ValueRef<'_>) -> Result<Option<i64>, String> {
    let us = match value {
        ValueRef::Null => return Ok(None),
        ValueRef::Text(bytes) => moment::of_text(utf8(bytes)?).map(|(us, _)| us),
        ValueRef::Integer(value) => moment::of_integer(value),
        ValueRef::Real(value) => moment::of_real(value),
        ValueRef::Blob(_) => return Err(String::new()),
    };
    us.map(Some).map_err(str::to_owned)
}

fn day(us: Option<i64>) -> Result<Option<i32>, String> {
    let Some(us) = us else { return Ok(None) };
    if us % moment::DAY_US != 0 {
        return Err("it has a time of day".to_owned());
    }
    i32::try_from(us / moment::DAY_US).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_that_texts_name() {
        assert_eq!(named_float("1.98"), Some(1.98));
        assert_eq!(named_float("1e2"), Some(100.0));
        for text in ["0.1000000000000000055", "9007199254740993", "1e400", "x", ""] {
            assert_eq!(named_float(text), None, "{text}");
        }
        assert_eq!((exact_float(1 << 53), exact_float((1 << 53) + 1)), (Some(9_007_199_254_740_992.0), None));
        assert_eq!((exact_float(i64::MAX), exact_float(i64::MIN)), (None, Some(-9.223_372_036_854_776e18)));
        assert_eq!((number_text(1.98), number_text(1e300)), ("1.98".to_owned(), "1E300".to_owned()));
        assert_eq!((float_text(1.0), float_text(1e20)), ("1.0".to_owned(), "1e20".to_owned()));
    }

    #[test]
    fn reasons_name_both_types_and_cut_values() {
        let mut builder = Builder::new(Reading::Integer, false, "INTEGER");
        let reason = builder.push(ValueRef::Text("x".repeat(100).as_bytes())).unwrap_err();
        assert!(reason.starts_with("the column is declared INTEGER and holds the text \"xxx"), "{reason}");
        assert!(reason.len() < 120, "{reason}");
        let mut builder = Builder::new(Reading::Date, true, "INTEGER");
        let reason = builder.push(ValueRef::Integer(2_460_000)).unwrap_err();
        assert_eq!(
            reason,
            "it is to be read as date and holds the integer 2460000; it may be a Julian day or seconds since 1970"
        );
        assert_eq!(builder.finish().len(), 1);
    }

    #[test]
    fn uuids_of_both_forms() {
        let bytes: Vec<u8> = (0..16).collect();
        assert_eq!(uuid_of_bytes(&bytes), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        let text = "00010203-0405-0607-0809-0A0B0C0D0E0F";
        assert_eq!(canonical_uuid(text).unwrap(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert!(canonical_uuid("x").is_err());
    }
}
