//! How a column of a table takes its values: the form on the wire and what it does not hold.

use super::meaning::{self, Meaning};
use super::{elements, moment, numeric, vectors};
use bytes::{BufMut as _, BytesMut};
use serde_json::Value;
use std::sync::Arc;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::cell::Cell;
use whimbrel_model::float::{self, Float};
use whimbrel_model::{json, record};

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's dates begin.
const EPOCH_DAYS: i64 = 10_957;
/// Microseconds from 1970-01-01 to 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;
/// The first and the one behind the last timestamp, as counted from 2000.
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
/// The first and the one behind the last date, as counted from 2000.
const DATES: std::ops::Range<i64> = -2_451_545..2_145_031_949;
/// How much of a value a reason shows.
const SHOWN: usize = 60;

/// The form that values of a column travel in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    /// Precision and scale, where the type has them.
    Numeric(Option<(i64, i64)>),
    /// The most characters, with the type's name, where it has a limit; whether it is padded with spaces.
    Text {
        limit: Option<usize>,
        is_padded: bool,
    },
    Enum(Arc<[String]>),
    Bytea,
    Uuid,
    Json,
    Jsonb,
    Date,
    /// How many digits of a second it keeps.
    Time(u32),
    Timestamp(u32),
    TimestampTz(u32),
    /// A vector, of so many dimensions where they are fixed.
    Vector(Option<usize>),
    /// A vector of half-precision floats, likewise.
    HalfVector(Option<usize>),
    /// A sparse vector, likewise.
    SparseVector(Option<usize>),
    /// A bit string, with what its texts mean.
    Bits(Meaning),
    /// An array, with its element's type.
    Array(Box<Wire>, u32),
    /// As text, which PostgreSQL itself casts to the column's type.
    Cast(Meaning),
}

/// A form that the spec asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Rfc3339Nanos,
    EpochS,
    EpochMs,
}

impl Form {
    /// What a moment becomes.
    fn apply(self, us: i64, ns: u16) -> Result<FormValue, String> {
        let whole = |unit_us: i64| {
            if us % unit_us == 0 && ns == 0 {
                Ok(FormValue::Int(us.div_euclid(unit_us)))
            } else {
                Err("is finer than the whole units that `as` asks for".to_owned())
            }
        };
        match self {
            Self::EpochS => whole(1_000_000),
            Self::EpochMs => whole(1_000),
            Self::Rfc3339Nanos => moment::rfc3339_nanos(us, ns)
                .map(FormValue::Text)
                .ok_or_else(|| "is a moment outside of the years that RFC 3339 writes".to_owned()),
        }
    }
}

enum FormValue {
    Text(String),
    Int(i64),
}

/// A value cut to a readable length, quoted.
pub(crate) fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    format!("{:?}…", text.chars().take(SHOWN).collect::<String>())
}

impl Wire {
    /// Whether PostgreSQL itself reads the values out of text.
    pub(crate) fn is_cast(&self) -> bool {
        matches!(self, Self::Cast(_))
    }

    /// Whether only PostgreSQL knows when two texts are one value.
    pub(crate) fn is_understood_by_server_alone(&self) -> bool {
        match self {
            Self::Cast(meaning) => meaning.is_text(),
            _ => false,
        }
    }

    /// The document of a field that was encoded so; `None` where it holds none.
    pub(crate) fn document(&self, field: &[u8]) -> Option<Value> {
        let text = match self {
            Self::Json => field,
            Self::Jsonb => field.strip_prefix(&[1])?,
            _ => return None,
        };
        json::parse(std::str::from_utf8(text).ok()?).ok()
    }

    /// Appends a value in both forms: PostgreSQL's, without its length, and the canonical one. `false`: it is NULL.
    /// The reason of a refusal follows the column's name.
    pub(crate) fn put(
        &self,
        value: Cell<'_>,
        form: Option<Form>,
        out: &mut BytesMut,
        canonical: &mut Canonical,
    ) -> Result<bool, String> {
        if let (Some(form), Cell::Moment { us, ns, .. }) = (form, value) {
            let formed = form.apply(us, ns)?;
            let value = match &formed {
                FormValue::Text(text) => Cell::Text(text),
                FormValue::Int(value) => Cell::Int(*value),
            };
            return self.put_cell(value, out, canonical);
        }
        self.put_cell(value, out, canonical)
    }

    /// As [`Wire::put`], in the form that it has.
    pub(crate) fn put_cell(
        &self,
        value: Cell<'_>,
        out: &mut BytesMut,
        canonical: &mut Canonical,
    ) -> Result<bool, String> {
        if matches!(value, Cell::Null) {
            canonical.null();
            return Ok(false);
        }
        match self {
            Self::Bool => {
                let value = truth(value)?;
                out.put_u8(u8::from(value));
                canonical.bool(value);
            }
            Self::Int2 => out.put_i16(whole(value, "smallint", canonical)?),
            Self::Int4 => out.put_i32(whole(value, "integer", canonical)?),
            Self::Int8 => out.put_i64(whole(value, "bigint", canonical)?),
            Self::Oid => out.put_u32(whole(value, "oid", canonical)?),
            Self::Float4 => {
                let value = single(value)?;
                out.put_f32(value);
                put_float(value, canonical);
            }
            Self::Float8 => {
                let value = double(value)?;
                out.put_f64(value);
                put_float(value, canonical);
            }
            Self::Numeric(limit) => put_number(value, *limit, out, canonical)?,
            Self::Text { limit, is_padded } => {
                with_text(value, &mut |text| put_text(text, *limit, *is_padded, out, canonical))?;
            }
            Self::Enum(labels) => with_text(value, &mut |text| {
                if !labels.iter().any(|label| label == text) {
                    let known = labels.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
                    return Err(format!("is {}, and the enum has {known}", shown(text)));
                }
                put_text(text, None, false, out, canonical)
            })?,
            Self::Cast(meaning) => put_cast(value, meaning, out, canonical)?,
            Self::Bytea => put_bytes(value, out, canonical)?,
            Self::Uuid => put_uuid(value, out, canonical)?,
            Self::Json => put_json(value, false, out, canonical)?,
            Self::Jsonb => put_json(value, true, out, canonical)?,
            Self::Date => put_date(value, out, canonical)?,
            Self::Time(digits) => put_time(value, *digits, out, canonical)?,
            Self::Timestamp(digits) => put_moment(value, *digits, false, out, canonical)?,
            Self::TimestampTz(digits) => put_moment(value, *digits, true, out, canonical)?,
            Self::Vector(dimensions) => vectors::put_vector(value, *dimensions, out, canonical)?,
            Self::HalfVector(dimensions) => {
                vectors::put_half_vector(value, *dimensions, out, canonical)?;
            }
            Self::SparseVector(dimensions) => {
                vectors::put_sparse_vector(value, *dimensions, out, canonical)?;
            }
            Self::Bits(meaning) => with_text(value, &mut |text| {
                meaning.put(text, canonical)?;
                let bits = meaning::bits(text)
                    .ok_or_else(|| format!("is {}, which is no bit string", shown(text)))?;
                vectors::put_bits(&bits, out)
            })?,
            Self::Array(element, oid) => elements::put_array(value, element, *oid, out, canonical)?,
        }
        Ok(true)
    }
}

fn truth(value: Cell<'_>) -> Result<bool, String> {
    match value {
        Cell::Bool(value) => Ok(value),
        Cell::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => Ok(true),
            "f" | "false" | "n" | "no" | "off" | "0" => Ok(false),
            _ => Err(format!("is {}, which is neither true nor false", shown(text))),
        },
        _ => Err("is no truth value".to_owned()),
    }
}

/// A whole number that fits.
fn whole<T>(value: Cell<'_>, name: &str, canonical: &mut Canonical) -> Result<T, String>
where
    T: TryFrom<i64> + TryFrom<i128>,
{
    let number = match value {
        Cell::Int(value) => {
            if let Ok(fitting) = T::try_from(value) {
                canonical.integer(value);
                return Ok(fitting);
            }
            i128::from(value)
        }
        Cell::UInt(value) => i128::from(value),
        Cell::Text(text) => whole_of_text(text)?,
        Cell::F64(value) => whole_of_text(&value.to_string())?,
        Cell::F32(value) => whole_of_text(&value.to_string())?,
        _ => return Err(format!("is no number, and {name} is asked for")),
    };
    let fitting = T::try_from(number).map_err(|_| format!("is {number}, out of the range of {name}"))?;
    match i64::try_from(number) {
        Ok(number) => canonical.integer(number),
        Err(_) => canonical.number(&number.to_string()),
    }
    Ok(fitting)
}

fn whole_of_text(text: &str) -> Result<i128, String> {
    if let Ok(number) = text.parse::<i128>() {
        return Ok(number);
    }
    // `1.0` and `1e3` are whole numbers too.
    let decimal = whimbrel_model::decimal::Decimal::parse(text)
        .ok_or_else(|| format!("is {}, which is no number", shown(text)))?;
    decimal.to_string().parse().map_err(|_| format!("is {}, which is no whole number in range", shown(text)))
}

fn float_text(value: f64, text: impl Fn() -> String) -> String {
    if value.is_finite() { text() } else { special_text(value).to_owned() }
}

/// A float that is no number, as PostgreSQL names it.
fn special_text(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ => "NaN",
    }
}

/// A float by its value, but for the sign of zero: to a float that is another bit.
fn put_float(value: impl Float, canonical: &mut Canonical) {
    let wide: f64 = value.into();
    if wide == 0.0 && wide.is_sign_negative() {
        canonical.text("-0");
    } else if float::is_shortest_normal(wide) {
        float::shortest(value, |text| canonical.digits(text));
    } else if wide.is_finite() {
        float::shortest(value, |text| canonical.number(text));
    } else {
        canonical.number(special_text(wide));
    }
}

/// A float whose shortest text is the number that was written.
fn same_number(written: &str, float: &str) -> bool {
    use whimbrel_model::decimal::Decimal;
    Decimal::parse(written).is_some_and(|written| Decimal::parse(float).is_some_and(|float| float == written))
}

fn special_float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the plan asks leave for a column that may lose digits")]
fn single(value: Cell<'_>) -> Result<f32, String> {
    match value {
        Cell::F32(value) => Ok(value),
        Cell::F64(value) => Ok(value as f32),
        Cell::Text(text) => {
            if let Some(value) = special_float(text) {
                return Ok(value as f32);
            }
            let value: f32 = text.parse().map_err(|_| format!("is {}, which is no number", shown(text)))?;
            if same_number(text, &value.to_string()) {
                return Ok(value);
            }
            Err(format!("is {}, which has more digits than real holds", shown(text)))
        }
        Cell::Int(value) => exact_float(&value.to_string(), |text| text.parse::<f32>().ok()),
        Cell::UInt(value) => exact_float(&value.to_string(), |text| text.parse::<f32>().ok()),
        _ => Err("is no number".to_owned()),
    }
}

fn double(value: Cell<'_>) -> Result<f64, String> {
    match value {
        Cell::F32(value) => Ok(value.into()),
        Cell::F64(value) => Ok(value),
        Cell::Text(text) => {
            if let Some(value) = special_float(text) {
                return Ok(value);
            }
            let value: f64 = text.parse().map_err(|_| format!("is {}, which is no number", shown(text)))?;
            if same_number(text, &value.to_string()) {
                return Ok(value);
            }
            Err(format!("is {}, which has more digits than double precision holds", shown(text)))
        }
        Cell::Int(value) => exact_float(&value.to_string(), |text| text.parse::<f64>().ok()),
        Cell::UInt(value) => exact_float(&value.to_string(), |text| text.parse::<f64>().ok()),
        _ => Err("is no number".to_owned()),
    }
}

fn exact_float<T: std::fmt::Display>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, String> {
    match parse(text) {
        Some(value) if same_number(text, &value.to_string()) => Ok(value),
        _ => Err(format!("is {text}, which has more digits than the float holds")),
    }
}

fn put_number(
    value: Cell<'_>,
    limit: Option<(i64, i64)>,
    out: &mut BytesMut,
    canonical: &mut Canonical,
) -> Result<(), String> {
    let mut put = |text: &str| -> Result<(), String> {
        numeric::put(text, limit, out).map_err(|reason| format!("{reason}: {}", shown(text)))?;
        canonical.number(match text {
            "inf" => "Infinity",
            "-inf" => "-Infinity",
            text => text,
        });
        Ok(())
    };
    match value {
        Cell::Text(text) => put(text),
        Cell::Int(value) => put(&value.to_string()),
        Cell::UInt(value) => put(&value.to_string()),
        Cell::F32(value) => put(&float_text(value.into(), || value.to_string())),
        Cell::F64(value) => put(&float_text(value, || value.to_string())),
        _ => Err("is no number".to_owned()),
    }
}

/// Calls with the value as text, in the form that PostgreSQL gives it.
pub(super) fn with_text(
    value: Cell<'_>,
    put: &mut dyn FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    match value {
        Cell::Text(text) => put(text),
        Cell::Bool(value) => put(if value { "true" } else { "false" }),
        Cell::Int(value) => put(&value.to_string()),
        Cell::UInt(value) => put(&value.to_string()),
        Cell::F32(value) => put(&float_text(value.into(), || value.to_string())),
        Cell::F64(value) => put(&float_text(value, || value.to_string())),
        Cell::Moment { us, ns: 0, zoned } => put(&moment::moment_text(us, zoned)),
        Cell::Moment { .. } | Cell::Clock { ns: 1.., .. } => Err(moment::FINER.to_owned()),
        Cell::Day(i32::MAX) => put("infinity"),
        Cell::Day(i32::MIN) => put("-infinity"),
        Cell::Day(days) => put(&moment::date_text(days.into())),
        Cell::Clock { us, .. } => put(&moment::time_text(us)),
        Cell::List { .. } => elements::with_literal(value, put),
        Cell::Bytes(_) | Cell::Null => Err("is binary, and text is asked for".to_owned()),
    }
}

fn put_text(
    text: &str,
    limit: Option<usize>,
    is_padded: bool,
    out: &mut BytesMut,
    canonical: &mut Canonical,
) -> Result<(), String> {
    if text.contains('\0') {
        return Err("holds the character U+0000, which PostgreSQL's text does not have".to_owned());
    }
    // The spaces at the end of a char(n) mean nothing.
    let meant = if is_padded { text.trim_end_matches(' ') } else { text };
    if let Some(limit) = limit.filter(|limit| meant.len() > *limit) {
        let characters = meant.chars().count();
        if characters > limit {
            let name = if is_padded { "character" } else { "character varying" };
            return Err(format!("has {characters} characters: value too long for type {name}({limit})"));
        }
    }
    out.put_slice(meant.as_bytes());
    canonical.text(meant);
    Ok(())
}

/// Appends a text that PostgreSQL reads.
fn put_cast(
    value: Cell<'_>,
    meaning: &Meaning,
    out: &mut BytesMut,
    canonical: &mut Canonical,
) -> Result<(), String> {
    let mut put = |text: &str| {
        if text.contains('\0') {
            return Err("holds the character U+0000, which PostgreSQL's text does not have".to_owned());
        }
        out.put_slice(text.as_bytes());
        meaning.put(text, canonical)
    };
    match (meaning, value) {
        (Meaning::Halves, Cell::List { .. }) => elements::with_brackets(value, &mut put),
        _ => with_text(value, &mut put),
    }
}

fn put_bytes(value: Cell<'_>, out: &mut BytesMut, canonical: &mut Canonical) -> Result<(), String> {
    match value {
        Cell::Bytes(bytes) => {
            out.put_slice(bytes);
            canonical.binary(bytes);
            Ok(())
        }
        Cell::Text(text) => {
            const NO_HEX: &str = "is text, and bytea takes text only as \\x and pairs of hex digits";
            let hex = text.strip_prefix("\\x").ok_or(NO_HEX)?;
            let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
            let bytes = pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?));
            let bytes: Option<Vec<u8>> = bytes.collect();
            let bytes = bytes.filter(|_| rest.is_empty()).ok_or(NO_HEX)?;
            out.put_slice(&bytes);
            canonical.binary(&bytes);
            Ok(())
        }
        _ => Err("is not binary".to_owned()),
    }
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn put_uuid(value: Cell<'_>, out: &mut BytesMut, canonical: &mut Canonical) -> Result<(), String> {
    let text = match value {
        Cell::Text(text) => text,
        Cell::Bytes(bytes) if bytes.len() == 16 => {
            out.put_slice(bytes);
            canonical.text(&uuid_text(bytes));
            return Ok(());
        }
        _ => return Err("is no UUID".to_owned()),
    };
    let invalid = || format!("is {}, which is no UUID", shown(text));
    let bare = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let is_hyphen_place = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (at, byte) in bare.bytes().enumerate() {
        if byte == b'-' && bare.len() == 36 && is_hyphen_place(at) {
            continue;
        }
        let value = nibble(byte).filter(|_| digits < 32).ok_or_else(invalid)?;
        bytes[digits / 2] |= if digits % 2 == 0 { value << 4 } else { value };
        digits += 1;
    }
    if digits != 32 || !matches!(bare.len(), 32 | 36) {
        return Err(invalid());
    }
    out.put_slice(&bytes);
    canonical.text(&uuid_text(&bytes));
    Ok(())
}

fn uuid_text(bytes: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

fn put_json(
    value: Cell<'_>,
    is_binary: bool,
    out: &mut BytesMut,
    canonical: &mut Canonical,
) -> Result<(), String> {
    let text = match value {
        Cell::Text(text) => text,
        Cell::List { values, start, end } => {
            let list = (start..end).map(|at| record::value_to_json(values, at)).collect();
            return put_document(&Value::Array(list), is_binary, out, canonical);
        }
        Cell::Bool(value) => return put_document(&Value::Bool(value), is_binary, out, canonical),
        Cell::Int(value) => return put_document(&value.into(), is_binary, out, canonical),
        Cell::UInt(value) => return put_document(&value.into(), is_binary, out, canonical),
        Cell::F64(value) if value.is_finite() => {
            return put_document(&value.into(), is_binary, out, canonical);
        }
        Cell::F32(_) | Cell::F64(_) => return Err("is a float that JSON has no form for".to_owned()),
        _ => return Err("is no JSON document".to_owned()),
    };
    if text.contains('\0') {
        return Err("holds the character U+0000, which JSON text does not have".to_owned());
    }
    match json::parse(text) {
        Ok(document) if is_binary && holds_zero(&document) => {
            Err("holds the character U+0000, which jsonb does not hold".to_owned())
        }
        Ok(document) => {
            if is_binary {
                out.put_u8(1);
            }
            out.put_slice(text.as_bytes());
            put_meaning(&document, canonical);
            Ok(())
        }
        // json keeps what jsonb would lose: a key that stands twice.
        Err(_) if !is_binary && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
            out.put_slice(text.as_bytes());
            canonical.text(text);
            Ok(())
        }
        Err(error) => Err(format!("is no JSON document that PostgreSQL keeps whole: {error}")),
    }
}

fn put_document(
    document: &Value,
    is_binary: bool,
    out: &mut BytesMut,
    canonical: &mut Canonical,
) -> Result<(), String> {
    if is_binary && holds_zero(document) {
        return Err("holds the character U+0000, which jsonb does not hold".to_owned());
    }
    if is_binary {
        out.put_u8(1);
    }
    out.put_slice(document.to_string().as_bytes());
    put_meaning(document, canonical);
    Ok(())
}

/// A document in canonical form. JSON's null is a document, which NULL is not: it stands as bytes, as no other does.
fn put_meaning(document: &Value, canonical: &mut Canonical) {
    match document {
        Value::Null => canonical.binary(b"null"),
        document => canonical.json(document),
    }
}

fn holds_zero(document: &Value) -> bool {
    match document {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(holds_zero),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || holds_zero(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn put_date(value: Cell<'_>, out: &mut BytesMut, canonical: &mut Canonical) -> Result<(), String> {
    let days = match value {
        Cell::Day(days @ (i32::MAX | i32::MIN)) => {
            out.put_i32(days);
            canonical.date(days);
            return Ok(());
        }
        Cell::Day(days) => i64::from(days),
        Cell::Moment { us, ns: 0, .. } if us % moment::DAY_US == 0 => us / moment::DAY_US,
        Cell::Moment { .. } => return Err("has a time of day, which a date does not hold".to_owned()),
        Cell::Text("infinity") => return put_date(Cell::Day(i32::MAX), out, canonical),
        Cell::Text("-infinity") => return put_date(Cell::Day(i32::MIN), out, canonical),
        Cell::Text(text) => {
            let written = moment::parse(text).map_err(|reason| format!("{reason}: {}", shown(text)))?;
            if written.us.is_some() {
                return Err(format!("has a time of day, which a date does not hold: {}", shown(text)));
            }
            written.days
        }
        _ => return Err("is no date".to_owned()),
    };
    let counted = days - EPOCH_DAYS;
    let fitting = i32::try_from(counted).ok().filter(|_| DATES.contains(&counted));
    let unix = i32::try_from(days).ok();
    let (Some(counted), Some(days)) = (fitting, unix) else {
        return Err("is a date beyond PostgreSQL's calendar".to_owned());
    };
    out.put_i32(counted);
    canonical.date(days);
    Ok(())
}

/// Whether a count of microseconds has no more than so many digits of a second.
fn fits_digits(us: i64, digits: u32) -> bool {
    us % 10_i64.pow(6 - digits.min(6)) == 0
}

fn put_time(
    value: Cell<'_>,
    digits: u32,
    out: &mut BytesMut,
    canonical: &mut Canonical,
) -> Result<(), String> {
    let us = match value {
        Cell::Clock { us, ns: 0 } if (0..=moment::DAY_US).contains(&us) => us,
        Cell::Clock { ns: 1.., .. } => return Err(moment::FINER.to_owned()),
        Cell::Text(text) => {
            moment::parse_time(text).map_err(|reason| format!("{reason}: {}", shown(text)))?
        }
        _ => return Err("is no time of day".to_owned()),
    };
    if !fits_digits(us, digits) {
        return Err(format!("has more digits of a second than time({digits}) holds"));
    }
    out.put_i64(us);
    canonical.time(us);
    Ok(())
}

fn put_moment(
    value: Cell<'_>,
    digits: u32,
    zoned: bool,
    out: &mut BytesMut,
    canonical: &mut Canonical,
) -> Result<(), String> {
    const BEYOND: &str = "is a moment beyond PostgreSQL's calendar";
    let us = match value {
        Cell::Moment { us, ns: 0, .. } => us,
        Cell::Moment { .. } => return Err(moment::FINER.to_owned()),
        Cell::Day(i32::MAX) | Cell::Text("infinity") => i64::MAX,
        Cell::Day(i32::MIN) | Cell::Text("-infinity") => i64::MIN,
        Cell::Day(days) => i64::from(days).checked_mul(moment::DAY_US).ok_or(BEYOND)?,
        Cell::Text(text) => {
            let written = moment::parse(text).map_err(|reason| format!("{reason}: {}", shown(text)))?;
            written.instant_us().ok_or(BEYOND)?
        }
        _ => return Err("is no moment".to_owned()),
    };
    let counted = match us {
        i64::MAX | i64::MIN => us,
        _ => us.checked_sub(EPOCH_US).filter(|us| TIMESTAMPS.contains(us)).ok_or(BEYOND)?,
    };
    if !matches!(us, i64::MAX | i64::MIN) && !fits_digits(us, digits) {
        return Err(format!("has more digits of a second than timestamp({digits}) holds"));
    }
    out.put_i64(counted);
    if zoned {
        canonical.instant(us, 0);
    } else {
        canonical.local(us, 0);
    }
    Ok(())
}
