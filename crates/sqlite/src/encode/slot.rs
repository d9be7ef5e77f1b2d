//! What a column of a table takes: the other half of the type table.

use super::stored::Stored;
use crate::types::{
    Affinity, Meaning as DeclaredMeaning, affinity, exact_float, float_text, meaning, moment, named_float,
    number_text, whole,
};
use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::{DataType, Field, Float32Type};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::borrow::Cow;
use whimbrel_model::cell::{self, Cell, cell};
use whimbrel_model::decimal::Decimal;
use whimbrel_model::{Fidelity, Logical, record};

/// How much of a value a reason shows.
const SHOWN: usize = 60;

/// The kinds of columns that differ in what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    Integer,
    Real,
    Text,
    Blob,
    /// No type: values stay what they are.
    Any,
    Boolean,
    /// Integers, and reals where there is a fraction.
    Number,
    Json,
    /// A declared type that SQLite does not know: text stays text unless it looks like a number.
    Open,
}

/// A form that the spec asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Rfc3339Nanos,
    EpochS,
    EpochMs,
}

/// A value cut to a readable length, quoted.
pub(crate) fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN {
        return format!("{text:?}");
    }
    format!("{:?}…", text.chars().take(SHOWN).collect::<String>())
}

/// Whether SQLite would take a text for a number where it may.
fn looks_like_a_number(text: &str) -> bool {
    Decimal::parse(text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c'])).is_some()
}

impl Slot {
    /// The slot of a declared type.
    pub(crate) fn of(declared: &str, is_strict: bool) -> Self {
        match affinity(declared) {
            // In a strict table ANY has no affinity; elsewhere it is a name like any other.
            _ if is_strict && declared.eq_ignore_ascii_case("ANY") => Self::Any,
            Affinity::Integer => Self::Integer,
            Affinity::Text => Self::Text,
            Affinity::Blob if declared.is_empty() => Self::Any,
            Affinity::Blob => Self::Blob,
            Affinity::Real => Self::Real,
            Affinity::Numeric => match meaning(declared) {
                DeclaredMeaning::Boolean => Self::Boolean,
                DeclaredMeaning::Json => Self::Json,
                DeclaredMeaning::Number => Self::Number,
                DeclaredMeaning::Bytes => Self::Blob,
                DeclaredMeaning::Open => Self::Open,
            },
        }
    }

    /// The value of a row as the column will hold it. The reason of a refusal follows the column's name.
    pub(crate) fn put(self, array: &ArrayRef, row: usize, form: Option<Form>) -> Result<Stored<'_>, String> {
        match (cell(array, row), form) {
            (Cell::Moment { us, ns, .. }, Some(form)) => form.apply(self, us, ns),
            (Cell::List { .. }, _) => self.list(array, row),
            (value, _) => self.put_cell(value),
        }
    }

    /// As [`Slot::put`], of a value that is no list.
    pub(crate) fn put_cell(self, value: Cell<'_>) -> Result<Stored<'_>, String> {
        match value {
            Cell::Null => Ok(Stored::Null),
            Cell::Bool(value) => self.boolean(value),
            Cell::Int(value) => self.integer(value),
            Cell::UInt(value) => match i64::try_from(value) {
                Ok(value) => self.integer(value),
                Err(_) => self.large(&value.to_string()),
            },
            Cell::F32(value) => self.float(f64::from(value), || format!("{value:?}")),
            Cell::F64(value) => self.float(value, || float_text(value)),
            Cell::Text(text) => self.text(text),
            Cell::Bytes(bytes) => match self {
                Self::Blob | Self::Any => Ok(Stored::Blob(Cow::Borrowed(bytes))),
                _ => Err("is binary, which the column is not for".to_owned()),
            },
            Cell::Moment { us, ns, zoned: is_instant } => {
                let text = moment::moment_text(us, ns, is_instant);
                self.written(text.ok_or("is a moment outside of the years 0 to 9999")?)
            }
            Cell::Day(days) => {
                let text = moment::date_text(i64::from(days));
                self.written(text.ok_or("is a day outside of the years 0 to 9999")?)
            }
            Cell::Clock { us, ns } => self.written(moment::time_text(us, ns)),
            Cell::List { .. } => Err("is a list".to_owned()),
        }
    }

    /// Dates and times are text to SQLite, and none of them looks like a number.
    fn written(self, text: String) -> Result<Stored<'static>, String> {
        match self {
            Self::Text | Self::Any | Self::Open => Ok(Stored::text(text)),
            _ => Err("is a date or time, which the column is not for".to_owned()),
        }
    }

    fn boolean(self, value: bool) -> Result<Stored<'static>, String> {
        match self {
            Self::Integer | Self::Boolean | Self::Number | Self::Any | Self::Open => {
                Ok(Stored::Integer(i64::from(value)))
            }
            Self::Text | Self::Json => Ok(Stored::text(value.to_string())),
            Self::Real | Self::Blob => Err("is a truth value, which the column is not for".to_owned()),
        }
    }

    fn integer(self, value: i64) -> Result<Stored<'static>, String> {
        match self {
            Self::Integer | Self::Number | Self::Json | Self::Any | Self::Open => Ok(Stored::Integer(value)),
            Self::Boolean if matches!(value, 0 | 1) => Ok(Stored::Integer(value)),
            Self::Boolean => Err(format!("is {value}, and truth values are 0 and 1")),
            Self::Text => Ok(Stored::text(value.to_string())),
            Self::Real => exact_float(value)
                .map(Stored::Real)
                .ok_or_else(|| format!("is {value}, which no float of 64 bits holds exactly")),
            Self::Blob => Err("is a number, which the column is not for".to_owned()),
        }
    }

    /// A whole number beyond 64 bits.
    fn large(self, digits: &str) -> Result<Stored<'static>, String> {
        match self {
            Self::Text | Self::Any => Ok(Stored::text(digits)),
            Self::Real | Self::Number | Self::Json => self.decimal(digits),
            _ => Err(format!("is {digits}, more than an integer of 64 bits holds")),
        }
    }

    fn float(self, value: f64, text: impl Fn() -> String) -> Result<Stored<'static>, String> {
        if value.is_nan() {
            return match self {
                Self::Text => Ok(Stored::text("NaN")),
                _ => Err("is NaN, in whose place SQLite would hold NULL".to_owned()),
            };
        }
        match self {
            Self::Real | Self::Any => Ok(Stored::Real(value)),
            Self::Number | Self::Open => Ok(whole(value).map_or(Stored::Real(value), Stored::Integer)),
            Self::Json if value.is_finite() => Ok(whole(value).map_or(Stored::Real(value), Stored::Integer)),
            Self::Json => Err("is infinite, and no number of JSON is".to_owned()),
            Self::Integer => whole(value)
                .map(Stored::Integer)
                .ok_or_else(|| format!("is {}, which is no whole number", text())),
            Self::Text => Ok(Stored::text(text())),
            Self::Boolean | Self::Blob => Err("is a number, which the column is not for".to_owned()),
        }
    }

    /// A number out of its digits, where the column keeps numbers.
    fn decimal(self, text: &str) -> Result<Stored<'static>, String> {
        let Some(decimal) = Decimal::parse(text) else {
            let infinity = match text {
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                _ => None,
            };
            return match (self, infinity) {
                (Self::Real | Self::Number, Some(value)) => Ok(Stored::Real(value)),
                (_, _) if text == "NaN" => Err("is NaN, in whose place SQLite would hold NULL".to_owned()),
                _ => Err(format!("is {}, which is no number", shown(text))),
            };
        };
        if self != Self::Real
            && let Ok(value) = decimal.to_string().parse()
        {
            return Ok(Stored::Integer(value));
        }
        if self == Self::Integer {
            return Err(format!("is {}, which no integer of 64 bits is", shown(text)));
        }
        let float =
            named_float(text).filter(|float| Decimal::parse(&number_text(*float)).as_ref() == Some(&decimal));
        float.map(Stored::Real).ok_or_else(|| {
            format!("is {}, and the column keeps no more digits than a float of 64 bits", shown(text))
        })
    }

    fn text(self, text: &str) -> Result<Stored<'_>, String> {
        match self {
            Self::Text | Self::Any => Ok(Stored::Text(Cow::Borrowed(text))),
            Self::Open if looks_like_a_number(text) => {
                Err(format!("is {}, in whose place SQLite would hold a number", shown(text)))
            }
            Self::Open => Ok(Stored::Text(Cow::Borrowed(text))),
            Self::Integer | Self::Real | Self::Number => self.decimal(text),
            Self::Boolean => match text {
                "true" => Ok(Stored::Integer(1)),
                "false" => Ok(Stored::Integer(0)),
                _ => Err(format!("is {}, and truth values are true and false", shown(text))),
            },
            Self::Json if looks_like_a_number(text) => self.decimal(text.trim()),
            Self::Json => match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) => Ok(Stored::Text(Cow::Borrowed(text))),
                Err(error) => Err(format!("is {}, which is no JSON document: {error}", shown(text))),
            },
            Self::Blob => Err("is text, which the column is not for".to_owned()),
        }
    }

    fn list(self, array: &ArrayRef, row: usize) -> Result<Stored<'static>, String> {
        match self {
            Self::Blob => {
                let values = array.as_list_opt::<i32>().map(|lists| lists.value(row));
                let values = values.ok_or("is no list")?;
                let floats = values.as_primitive_opt::<Float32Type>();
                let floats = floats.ok_or("is a list, and only vectors of 32-bit floats go into a blob")?;
                if floats.null_count() > 0 {
                    return Err("is a vector with a NULL in it".to_owned());
                }
                let bytes = floats.values().iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
                Ok(Stored::Blob(Cow::Owned(bytes)))
            }
            Self::Text | Self::Any | Self::Json | Self::Open => match record::value_to_json(array, row) {
                Value::Null => Ok(Stored::Null),
                list => Ok(Stored::text(list.to_string())),
            },
            _ => Err("is a list, which the column is not for".to_owned()),
        }
    }

    /// How faithfully values of a field arrive; `Err`: they cannot be written there at all.
    pub(crate) fn fidelity(self, field: &Field, form: Option<Form>) -> Result<Fidelity, String> {
        let Some(plain) = cell::plain_type(field.data_type()) else {
            return Err(format!("values of the Arrow type {} cannot be written", field.data_type()));
        };
        if let Some(form) = form {
            return form.fidelity(self, &plain);
        }
        let logical = match field.data_type() {
            data_type if data_type.is_decimal() => Some(Logical::Number),
            data_type if cell::is_document(data_type) => Some(Logical::Json),
            _ => Logical::of(field),
        };
        let found = match &plain {
            DataType::Null => Some(Fidelity::Exact),
            DataType::Boolean => self.of_boolean(),
            DataType::Float32 | DataType::Float64 => self.of_float(),
            DataType::Utf8 => self.of_text(logical),
            DataType::Binary => matches!(self, Self::Blob | Self::Any).then_some(Fidelity::Exact),
            DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => {
                let how = match plain {
                    DataType::Timestamp(_, Some(_)) => "ISO 8601 text in UTC",
                    _ => "ISO 8601 text",
                };
                matches!(self, Self::Text | Self::Any | Self::Open).then(|| reversible(how))
            }
            DataType::List(item) => match self {
                Self::Blob if *item.data_type() == DataType::Float32 => {
                    Some(reversible("its floats, little endian"))
                }
                Self::Text | Self::Any | Self::Json | Self::Open => Some(reversible("a JSON array")),
                _ => None,
            },
            _ => self.of_integer(*field.data_type() == DataType::UInt64),
        };
        found.ok_or_else(|| {
            "there is no way from the one type into the other; convert it in the transform".to_owned()
        })
    }

    fn of_boolean(self) -> Option<Fidelity> {
        match self {
            Self::Integer | Self::Boolean | Self::Number | Self::Any | Self::Open => {
                Some(reversible("0 and 1"))
            }
            Self::Text | Self::Json => Some(reversible("the text true or false")),
            Self::Real | Self::Blob => None,
        }
    }

    fn of_float(self) -> Option<Fidelity> {
        match self {
            Self::Real | Self::Any => Some(Fidelity::Exact),
            Self::Number | Self::Json | Self::Open => {
                Some(reversible("an integer where there is no fraction"))
            }
            Self::Integer => Some(reversible("what is no whole number is a reject")),
            Self::Text => Some(reversible("the shortest text that names the float")),
            Self::Boolean | Self::Blob => None,
        }
    }

    fn of_text(self, logical: Option<Logical>) -> Option<Fidelity> {
        match (self, logical) {
            (Self::Text | Self::Any, None) => Some(Fidelity::Exact),
            (Self::Text | Self::Any, Some(_)) => Some(reversible("its text")),
            (Self::Open, _) => Some(reversible("its text; what looks like a number is a reject")),
            (Self::Json, _) => {
                Some(reversible("text that is a JSON document; a number alone becomes one of SQLite's"))
            }
            (Self::Integer, _) => Some(reversible("text read as an integer")),
            (Self::Real | Self::Number, _) => {
                Some(reversible("text read as a number; one with more digits than a float holds is a reject"))
            }
            (Self::Boolean, _) => Some(reversible("text read as a truth value")),
            (Self::Blob, _) => None,
        }
    }

    fn of_integer(self, is_wide: bool) -> Option<Fidelity> {
        match self {
            Self::Integer | Self::Number | Self::Any | Self::Open | Self::Json if is_wide => {
                Some(reversible("what 64 bits with a sign do not hold is a reject"))
            }
            Self::Integer | Self::Number | Self::Any | Self::Open | Self::Json => Some(Fidelity::Exact),
            Self::Text => Some(reversible("its digits as text")),
            Self::Real => Some(reversible("what the float does not hold exactly is a reject")),
            Self::Boolean => Some(reversible("0 and 1; anything else is a reject")),
            Self::Blob => None,
        }
    }
}

fn reversible(how: &str) -> Fidelity {
    Fidelity::Reversible(how.to_owned())
}

impl Form {
    pub(crate) fn of(word: &str) -> Option<Self> {
        match word {
            "rfc3339_nanos" => Some(Self::Rfc3339Nanos),
            "epoch_s" => Some(Self::EpochS),
            "epoch_ms" => Some(Self::EpochMs),
            _ => None,
        }
    }

    fn apply(self, slot: Slot, us: i64, ns: u16) -> Result<Stored<'static>, String> {
        let whole = |unit_us: i64| {
            if us % unit_us == 0 && ns == 0 {
                slot.integer(us.div_euclid(unit_us))
            } else {
                Err("is finer than the whole units that `as` asks for".to_owned())
            }
        };
        match self {
            Self::EpochS => whole(1_000_000),
            Self::EpochMs => whole(1_000),
            Self::Rfc3339Nanos => {
                let text = moment::rfc3339_nanos(us, ns);
                slot.written(text.ok_or("is a moment outside of the years that RFC 3339 writes")?)
            }
        }
    }

    fn fidelity(self, slot: Slot, plain: &DataType) -> Result<Fidelity, String> {
        if !matches!(plain, DataType::Timestamp(..)) {
            return Err("`as` asks for a form of a timestamp, and the column is none".to_owned());
        }
        match (self, slot) {
            (Self::Rfc3339Nanos, Slot::Text | Slot::Any | Slot::Open) => {
                Ok(reversible("RFC 3339 with nine digits of a second"))
            }
            (Self::EpochS, Slot::Integer | Slot::Number | Slot::Any | Slot::Open) => {
                Ok(reversible("seconds since 1970"))
            }
            (Self::EpochMs, Slot::Integer | Slot::Number | Slot::Any | Slot::Open) => {
                Ok(reversible("milliseconds since 1970"))
            }
            _ => Err("the column's type does not hold the form that `as` asks for".to_owned()),
        }
    }
}

/// The type that a column gets in a strict table that is made for it.
pub(crate) fn type_for(field: &Field, form: Option<Form>) -> Result<&'static str, String> {
    if let Some(form) = form {
        return Ok(if form == Form::Rfc3339Nanos { "TEXT" } else { "INTEGER" });
    }
    match field.data_type() {
        DataType::UInt64 => return Ok("TEXT"),
        data_type if data_type.is_integer() => return Ok("INTEGER"),
        _ => {}
    }
    match cell::plain_type(field.data_type()) {
        Some(DataType::Boolean) => Ok("INTEGER"),
        Some(DataType::Float32 | DataType::Float64) => Ok("REAL"),
        Some(DataType::Binary) => Ok("BLOB"),
        Some(DataType::List(item)) if *item.data_type() == DataType::Float32 => Ok("BLOB"),
        Some(plain) if plain.is_integer() => Ok("INTEGER"),
        Some(_) => Ok("TEXT"),
        None => Err(format!("there is no SQLite type for the Arrow type {}", field.data_type())),
    }
}
