//! The type table, Arrow → attribute value, and what follows from it: `cell` makes the values, `value` shows,
//! compares and canonicalises them, `row` puts them together into items.
//!
//! | Arrow | without `as:` | with `as:` |
//! | --- | --- | --- |
//! | text, uuid | S | `text`, `number`, `json`, `map`, `list`, `binary` (base64) |
//! | json | M, L, S, N, BOOL, NULL by its content | `text`, `map`, `list`, `string_set`, `number_set` |
//! | number, integers, decimals | N | `number`, `text` |
//! | floats | N, the shortest text that reads back the same | `number`, `text` |
//! | boolean | BOOL | `text` |
//! | binary | B | `binary` |
//! | list | L | `list`, `string_set`, `number_set`, `binary_set` |
//! | struct | M | `map` |
//! | date | S, `YYYY-MM-DD` | `text` |
//! | time | S, `HH:MM:SS.ffffff` | `text` |
//! | timestamp (with zone) | S, RFC 3339 with all its digits, (`Z`) | `rfc3339`, `rfc3339_millis`, `rfc3339_micros`, `rfc3339_nanos`, `epoch_s`, `epoch_ms`, `text` |

pub(crate) mod cell;
pub(crate) mod ignore;
pub(crate) mod item;
pub(crate) mod json;
pub(crate) mod read;
pub(crate) mod row;
pub(crate) mod value;

use crate::definition::ScalarKind;
use arrow::datatypes::{DataType, Field, TimeUnit};
use std::sync::Arc;
use whimbrel_model::logical::type_name;
use whimbrel_model::{Fidelity, Logical};

/// How values of a column are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The column holds nothing but NULL.
    Null,
    /// Text as it is.
    Text,
    /// What Arrow prints of integers, decimals and truth values, as text.
    PrintedText,
    /// A number in text or in what Arrow prints of integers and decimals.
    Number,
    /// A float by its shortest text.
    Float { as_text: bool },
    /// A truth value.
    Bool,
    /// Bytes.
    Binary,
    /// Bytes written as base64 text.
    Base64,
    /// A JSON document, and what it must be.
    Json(JsonShape),
    /// Elements one by one.
    List(Box<Form>),
    /// Elements without order or duplicates.
    Set(SetKind, Box<Form>),
    /// Fields by name.
    Struct(Vec<(String, Form)>),
    /// A day.
    Date,
    /// A time of day with so many digits of the second.
    Time { digits: u8 },
    /// A date and time with so many digits of the second; `Z` where it is an instant.
    Instant { digits: u8, zone: bool },
    /// A number of seconds or milliseconds since 1970.
    Epoch { milliseconds: bool },
}

/// What a JSON document must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonShape {
    Any,
    Map,
    List,
    Set(SetKind),
}

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetKind {
    Strings,
    Numbers,
    Binaries,
}

/// What becomes of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conversion {
    /// How its values are made.
    pub(crate) form: Form,
    /// The attribute's type, for people: `S`, `SS`.
    pub(crate) into: &'static str,
    /// What happens to its values.
    pub(crate) fidelity: Fidelity,
}

impl Conversion {
    fn new(form: Form, into: &'static str, fidelity: Fidelity) -> Self {
        Self { form, into, fidelity }
    }

    /// The type as a key's, where it can be one.
    pub(crate) fn scalar_kind(&self) -> Option<ScalarKind> {
        match self.into {
            "S" => Some(ScalarKind::S),
            "N" => Some(ScalarKind::N),
            "B" => Some(ScalarKind::B),
            _ => None,
        }
    }
}

/// All words that `as:` takes.
pub(crate) const FORMS: [&str; 15] = [
    "text",
    "number",
    "binary",
    "json",
    "map",
    "list",
    "string_set",
    "number_set",
    "binary_set",
    "rfc3339",
    "rfc3339_millis",
    "rfc3339_micros",
    "rfc3339_nanos",
    "epoch_s",
    "epoch_ms",
];

/// What becomes of a column, with the form that the spec asks for.
///
/// # Errors
/// The type has no place in DynamoDB, there is no such form, or it does not fit the type.
pub(crate) fn conversion(field: &Field, asked: Option<&str>) -> Result<Conversion, String> {
    let Some(asked) = asked else { return natural(field) };
    if !FORMS.contains(&asked) {
        return Err(format!("there is no form `{asked}`; there are {}", FORMS.join(", ")));
    }
    formed(field, asked)?
        .ok_or_else(|| format!("the form `{asked}` does not fit its type {}", type_name(field)))
}

/// The value type of a dictionary, else the type itself.
fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, value) => value,
        other => other,
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_decimal(data_type: &DataType) -> bool {
    use DataType::{Decimal32, Decimal64, Decimal128, Decimal256};
    matches!(data_type, Decimal32(..) | Decimal64(..) | Decimal128(..) | Decimal256(..))
}

fn element(data_type: &DataType) -> Option<&Arc<Field>> {
    match data_type {
        DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            Some(element)
        }
        _ => None,
    }
}

fn natural(field: &Field) -> Result<Conversion, String> {
    let exact = |form, into| Ok(Conversion::new(form, into, Fidelity::Exact));
    let reversible =
        |form, into, how: &str| Ok(Conversion::new(form, into, Fidelity::Reversible(how.to_owned())));
    let data_type = plain(field.data_type());
    if let Some(element) = element(data_type) {
        let inner = natural(element).map_err(|reason| format!("in its elements: {reason}"))?;
        return Ok(Conversion::new(Form::List(Box::new(inner.form)), "L", inner.fidelity));
    }
    match data_type {
        DataType::Null => exact(Form::Null, "NULL"),
        text if is_text(text) => match Logical::of(field) {
            Some(Logical::Json) => exact(Form::Json(JsonShape::Any), "M"),
            Some(Logical::Number) => exact(Form::Number, "N"),
            Some(Logical::Uuid) | None => exact(Form::Text, "S"),
        },
        number if number.is_integer() || is_decimal(number) => exact(Form::Number, "N"),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => reversible(
            Form::Float { as_text: false },
            "N",
            "the shortest decimal that reads back as the same float; -0 is 0",
        ),
        DataType::Boolean => exact(Form::Bool, "BOOL"),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            exact(Form::Binary, "B")
        }
        DataType::Date32 => reversible(Form::Date, "S", "YYYY-MM-DD"),
        DataType::Time32(unit) | DataType::Time64(unit) => {
            reversible(Form::Time { digits: digits(*unit) }, "S", "HH:MM:SS with all its digits")
        }
        DataType::Timestamp(unit, zone) => Ok(instant(*unit, zone.is_some(), digits(*unit))),
        DataType::Struct(fields) => {
            let inner = |field: &Arc<Field>| {
                let inner =
                    natural(field).map_err(|reason| format!("in its field `{}`: {reason}", field.name()))?;
                Ok((field.name().clone(), inner.form))
            };
            exact(Form::Struct(fields.iter().map(inner).collect::<Result<_, String>>()?), "M")
        }
        _ => Err(format!(
            "the type {} has no place in DynamoDB yet; convert it in the transform",
            type_name(field)
        )),
    }
}

fn formed(field: &Field, asked: &str) -> Result<Option<Conversion>, String> {
    let data_type = plain(field.data_type());
    let usual = || natural(field).map(Some);
    let reversible =
        |form, into, how: &str| Ok(Some(Conversion::new(form, into, Fidelity::Reversible(how.to_owned()))));
    let logical = Logical::of(field);
    let set = |kind, into| match element(data_type) {
        Some(element) => set_of(element, kind, into),
        None if logical == Some(Logical::Json) && kind != SetKind::Binaries => {
            reversible(Form::Json(JsonShape::Set(kind)), into, "a set has no order")
        }
        None => Ok(None),
    };
    match (asked, data_type) {
        ("string_set", _) => set(SetKind::Strings, "SS"),
        ("number_set", _) => set(SetKind::Numbers, "NS"),
        ("binary_set", _) => set(SetKind::Binaries, "BS"),
        ("text", text) if is_text(text) => reversible(Form::Text, "S", "its text").map(|conversion| {
            conversion.map(|c| {
                if matches!(logical, None | Some(Logical::Uuid)) {
                    Conversion { fidelity: Fidelity::Exact, ..c }
                } else {
                    c
                }
            })
        }),
        ("text", number) if number.is_integer() || is_decimal(number) => {
            reversible(Form::PrintedText, "S", "its text")
        }
        ("text", DataType::Boolean) => reversible(Form::PrintedText, "S", "true or false"),
        ("text", DataType::Float16 | DataType::Float32 | DataType::Float64) => reversible(
            Form::Float { as_text: true },
            "S",
            "the shortest decimal that reads back as the same float",
        ),
        ("text", DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..)) => {
            usual()
        }
        ("number", number) if number.is_integer() || number.is_floating() || is_decimal(number) => usual(),
        ("number", text) if is_text(text) && logical == Some(Logical::Number) => usual(),
        ("number", text) if is_text(text) && logical.is_none() => {
            reversible(Form::Number, "N", "a number by its value")
        }
        ("json", text) if is_text(text) && logical != Some(Logical::Number) => json(JsonShape::Any, "M"),
        ("map", text) if is_text(text) && logical != Some(Logical::Number) => json(JsonShape::Map, "M"),
        ("list", text) if is_text(text) && logical != Some(Logical::Number) => json(JsonShape::List, "L"),
        ("map", DataType::Struct(_)) => usual(),
        ("list", list) if element(list).is_some() => usual(),
        ("binary", text) if is_text(text) && logical.is_none() => {
            reversible(Form::Base64, "B", "decoded from base64")
        }
        ("binary", _) => Ok(natural(field).ok().filter(|conversion| conversion.into == "B")),
        ("rfc3339", DataType::Timestamp(unit, Some(_))) => Ok(Some(instant(*unit, true, 0))),
        ("rfc3339_millis", DataType::Timestamp(unit, Some(_))) => Ok(Some(instant(*unit, true, 3))),
        ("rfc3339_micros", DataType::Timestamp(unit, Some(_))) => Ok(Some(instant(*unit, true, 6))),
        ("rfc3339_nanos", DataType::Timestamp(unit, Some(_))) => Ok(Some(instant(*unit, true, 9))),
        ("epoch_s", DataType::Timestamp(unit, Some(_))) => Ok(Some(epoch(*unit, false))),
        ("epoch_ms", DataType::Timestamp(unit, Some(_))) => Ok(Some(epoch(*unit, true))),
        (_, DataType::Timestamp(_, None)) if asked.starts_with("rfc3339") || asked.starts_with("epoch") => {
            Err(format!(
                "the form `{asked}` wants an instant, and a timestamp without a zone is none; give it a zone in the transform"
            ))
        }
        _ => Ok(None),
    }
}

fn json(shape: JsonShape, into: &'static str) -> Result<Option<Conversion>, String> {
    Ok(Some(Conversion::new(Form::Json(shape), into, Fidelity::Exact)))
}

fn set_of(element: &Field, kind: SetKind, into: &'static str) -> Result<Option<Conversion>, String> {
    let inner = natural(element)?;
    let fits = match kind {
        SetKind::Strings => inner.into == "S",
        SetKind::Numbers => inner.into == "N",
        SetKind::Binaries => inner.into == "B",
    };
    let fidelity = Fidelity::Reversible("a set has no order".to_owned());
    Ok(fits.then(|| Conversion::new(Form::Set(kind, Box::new(inner.form)), into, fidelity)))
}

/// How many digits of the second a unit holds.
fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        // Microseconds are the usual precision of databases; nothing is gained by writing another.
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

fn instant(unit: TimeUnit, zone: bool, wanted: u8) -> Conversion {
    let fidelity = if wanted < digits(unit) {
        Fidelity::Lossy(format!("digits of the second after the {}", ordinal(wanted)))
    } else if zone {
        Fidelity::Reversible("RFC 3339 in UTC".to_owned())
    } else {
        Fidelity::Reversible("RFC 3339 without a zone".to_owned())
    };
    Conversion::new(Form::Instant { digits: wanted, zone }, "S", fidelity)
}

fn epoch(unit: TimeUnit, milliseconds: bool) -> Conversion {
    let wanted = if milliseconds { 3 } else { 0 };
    let name = if milliseconds { "milliseconds" } else { "seconds" };
    let fidelity = if wanted < digits(unit) {
        Fidelity::Lossy(format!("what is below {name}"))
    } else {
        Fidelity::Reversible(format!("{name} since 1970"))
    };
    Conversion::new(Form::Epoch { milliseconds }, "N", fidelity)
}

fn ordinal(digits: u8) -> &'static str {
    match digits {
        0 => "whole second",
        3 => "third",
        _ => "sixth",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(field: &Field, asked: Option<&str>) -> String {
        match conversion(field, asked) {
            Ok(conversion) => format!("{} {}", conversion.into, conversion.fidelity),
            Err(reason) => reason,
        }
    }

    #[test]
    fn the_table() {
        let field = |data_type| Field::new("c", data_type, true);
        let list = |data_type| field(DataType::new_list(data_type, true));
        let zoned = |unit| field(DataType::Timestamp(unit, Some("UTC".into())));
        for (field, asked, expected) in [
            (field(DataType::Utf8View), None, "S exact"),
            (Logical::Json.field("c", true), None, "M exact"),
            (Logical::Number.field("c", true), None, "N exact"),
            (field(DataType::UInt64), None, "N exact"),
            (field(DataType::Decimal128(10, 2)), None, "N exact"),
            (field(DataType::Binary), None, "B exact"),
            (field(DataType::Date32), None, "S reversible: YYYY-MM-DD"),
            (zoned(TimeUnit::Microsecond), None, "S reversible: RFC 3339 in UTC"),
            (zoned(TimeUnit::Microsecond), Some("rfc3339_nanos"), "S reversible: RFC 3339 in UTC"),
            (
                zoned(TimeUnit::Microsecond),
                Some("rfc3339_millis"),
                "S lossy: digits of the second after the third",
            ),
            (zoned(TimeUnit::Microsecond), Some("epoch_s"), "N lossy: what is below seconds"),
            (zoned(TimeUnit::Second), Some("epoch_s"), "N reversible: seconds since 1970"),
            (list(DataType::Utf8), None, "L exact"),
            (list(DataType::Utf8), Some("string_set"), "SS reversible: a set has no order"),
            (list(DataType::Int32), Some("number_set"), "NS reversible: a set has no order"),
            (
                list(DataType::Int32),
                Some("string_set"),
                "the form `string_set` does not fit its type int32[]",
            ),
            (field(DataType::Utf8), Some("map"), "M exact"),
            (field(DataType::Utf8), Some("epoch_s"), "the form `epoch_s` does not fit its type text"),
            (field(DataType::Boolean), Some("binary"), "the form `binary` does not fit its type boolean"),
        ] {
            assert_eq!(of(&field, asked), expected, "{field} as {asked:?}");
        }
        assert!(of(&field(DataType::Utf8), Some("sting_set")).contains("no form `sting_set`"));
        assert!(
            of(&field(DataType::Timestamp(TimeUnit::Microsecond, None)), Some("epoch_s"))
                .contains("wants an instant")
        );
        assert!(
            of(&field(DataType::Interval(arrow::datatypes::IntervalUnit::DayTime)), None)
                .contains("no place")
        );
    }
}
