//! Columns out of attribute values.

use super::value::Attribute;
use crate::Logical;
use crate::decimal::Decimal;
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::Value;
use std::sync::Arc;

/// How a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Any attribute as text.
    Text,
    /// The text of an S; a key attribute.
    KeyText,
    /// An exact decimal number.
    Number,
    /// Bytes.
    Binary,
    /// A JSON document.
    Json,
    /// True or false.
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// A float of 64 bits.
    Float,
    /// An instant.
    Timestamp,
    /// A day.
    Date,
    /// A UUID.
    Uuid,
    /// The whole item.
    Item,
}

impl Reading {
    /// What the spec's word for a column asks for.
    pub fn declared(word: &str) -> Option<Self> {
        Some(match word {
            "text" => Self::Text,
            "json" => Self::Json,
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "float" => Self::Float,
            "timestamp" => Self::Timestamp,
            "date" => Self::Date,
            "uuid" => Self::Uuid,
            "binary" => Self::Binary,
            _ => return None,
        })
    }

    /// The column's field.
    pub fn field(self, name: &str, nullable: bool) -> Field {
        let plain = |data_type| Field::new(name, data_type, nullable);
        match self {
            Self::Text | Self::KeyText => plain(DataType::Utf8),
            Self::Number => Logical::Number.field(name, nullable),
            Self::Binary => plain(DataType::Binary),
            Self::Json | Self::Item => Logical::Json.field(name, nullable),
            Self::Boolean => plain(DataType::Boolean),
            Self::Integer => plain(DataType::Int64),
            Self::Float => plain(DataType::Float64),
            Self::Timestamp => plain(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            Self::Date => plain(DataType::Date32),
            Self::Uuid => Logical::Uuid.field(name, nullable),
        }
    }
}

/// The values of a column, as far as they have come.
#[derive(Debug)]
pub enum Values {
    /// Text and what is kept as text.
    Text(StringBuilder),
    /// Bytes.
    Binary(BinaryBuilder),
    /// Truth values.
    Boolean(BooleanBuilder),
    /// Whole numbers.
    Integer(Int64Builder),
    /// Floats.
    Float(Float64Builder),
    /// Instants.
    Timestamp(TimestampMicrosecondBuilder),
    /// Days.
    Date(Date32Builder),
}

impl Values {
    /// None yet.
    pub fn new(reading: Reading) -> Self {
        match reading {
            Reading::Text
            | Reading::KeyText
            | Reading::Number
            | Reading::Json
            | Reading::Uuid
            | Reading::Item => Self::Text(StringBuilder::new()),
            Reading::Binary => Self::Binary(BinaryBuilder::new()),
            Reading::Boolean => Self::Boolean(BooleanBuilder::new()),
            Reading::Integer => Self::Integer(Int64Builder::new()),
            Reading::Float => Self::Float(Float64Builder::new()),
            Reading::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
            Reading::Date => Self::Date(Date32Builder::new()),
        }
    }

    /// Appends NULL.
    pub fn append_null(&mut self) {
        match self {
            Self::Text(builder) => builder.append_null(),
            Self::Binary(builder) => builder.append_null(),
            Self::Boolean(builder) => builder.append_null(),
            Self::Integer(builder) => builder.append_null(),
            Self::Float(builder) => builder.append_null(),
            Self::Timestamp(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
        }
    }

    /// Appends text as it is: the whole item, made elsewhere.
    pub fn append_text(&mut self, text: &str) {
        match self {
            Self::Text(builder) => builder.append_value(text),
            other => other.append_null(),
        }
    }

    /// Appends what the attribute holds; NULL where it holds NULL.
    ///
    /// # Errors
    /// The value does not fit, with the reason; nothing is appended.
    pub fn append(&mut self, reading: Reading, attribute: &Attribute<'_>) -> Result<(), String> {
        if *attribute == Attribute::Null {
            self.append_null();
            return Ok(());
        }
        match self {
            Self::Text(builder) => append_as_text(builder, reading, attribute)?,
            Self::Binary(builder) => match attribute {
                Attribute::B(base64) => builder.append_value(bytes(base64)?),
                other => return Err(misfit(other, "binary", "B")),
            },
            Self::Boolean(builder) => builder.append_value(match attribute {
                Attribute::Bool(value) => *value,
                Attribute::S(text) if text == "true" => true,
                Attribute::S(text) if text == "false" => false,
                other => return Err(misfit(other, "boolean", "BOOL, and S `true` or `false`")),
            }),
            Self::Integer(builder) => builder.append_value(integer(attribute)?),
            Self::Float(builder) => builder.append_value(float(attribute)?),
            Self::Timestamp(builder) => builder.append_value(instant(attribute)?),
            Self::Date(builder) => builder.append_value(day(attribute)?),
        }
        Ok(())
    }

    /// The column; the builder begins anew.
    pub fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
        }
    }
}

/// How much of a value a reason shows.
const SHOWN_CHARACTERS: usize = 40;

fn shown(text: &str) -> String {
    let mut characters = text.chars();
    let head: String = characters.by_ref().take(SHOWN_CHARACTERS).collect();
    if characters.next().is_some() { format!("\"{head}…\"") } else { format!("\"{head}\"") }
}

fn misfit(attribute: &Attribute<'_>, declared: &str, taken: &str) -> String {
    let value = match attribute {
        Attribute::S(text) | Attribute::N(text) => format!(" {}", shown(text)),
        Attribute::Bool(value) => format!(" {value}"),
        _ => String::new(),
    };
    format!("the value is {}{value}, and {declared} is read from {taken}", attribute.tag())
}

fn append_as_text(
    builder: &mut StringBuilder,
    reading: Reading,
    attribute: &Attribute<'_>,
) -> Result<(), String> {
    match (reading, attribute) {
        (Reading::Text | Reading::KeyText, Attribute::S(text)) => builder.append_value(text),
        (Reading::Text, Attribute::N(text) | Attribute::B(text)) => builder.append_value(text),
        (Reading::Text, Attribute::Bool(value)) => {
            builder.append_value(if *value { "true" } else { "false" });
        }
        (Reading::Text, document) => {
            let text = if document.is_plain() { document.plain_json() } else { document.dynamodb_json() };
            builder.append_value(text.map_err(|error| error.to_string())?);
        }
        (Reading::KeyText, other) => return Err(misfit(other, "the key", "S, as the table defines it")),
        (Reading::Number, Attribute::N(text)) => builder.append_value(text),
        (Reading::Number, Attribute::S(text)) if Decimal::parse(text).is_some() => builder.append_value(text),
        (Reading::Number, other) => {
            return Err(misfit(other, "number", "N, and S that is a decimal number"));
        }
        (Reading::Uuid, attribute) => builder.append_value(uuid(attribute)?),
        (Reading::Json, Attribute::S(text)) if is_document(text) => builder.append_value(text),
        (_, document) => builder.append_value(document.plain_json().map_err(|error| error.to_string())?),
    }
    Ok(())
}

/// Whether a text is an object or an array in JSON.
fn is_document(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
        && matches!(crate::json::parse(text), Ok(Value::Object(_) | Value::Array(_)))
}

fn bytes(base64: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(base64).map_err(|error| format!("B that is not base64: {error}"))
}

fn integer(attribute: &Attribute<'_>) -> Result<i64, String> {
    const TAKEN: &str = "N and S without a fraction, within 64 bits";
    let (Attribute::N(text) | Attribute::S(text)) = attribute else {
        return Err(misfit(attribute, "integer", TAKEN));
    };
    // What the normal form of a whole number within 64 bits prints has neither point nor exponent.
    let normal = || Decimal::parse(text)?.to_string().parse().ok();
    text.parse().ok().or_else(normal).ok_or_else(|| misfit(attribute, "integer", TAKEN))
}

fn float(attribute: &Attribute<'_>) -> Result<f64, String> {
    const TAKEN: &str = "N and S whose value a float of 64 bits prints again";
    match attribute {
        Attribute::S(text) if text == "NaN" => Ok(f64::NAN),
        Attribute::S(text) if text == "Infinity" => Ok(f64::INFINITY),
        Attribute::S(text) if text == "-Infinity" => Ok(f64::NEG_INFINITY),
        Attribute::N(text) | Attribute::S(text) => {
            let decimal = Decimal::parse(text);
            let float: Option<f64> = text.parse().ok().filter(|float: &f64| float.is_finite());
            let printed = float.and_then(|float| Decimal::parse(&format!("{float:e}")));
            match float {
                Some(float) if decimal.is_some() && decimal == printed => Ok(float),
                _ => Err(misfit(attribute, "float", TAKEN)),
            }
        }
        _ => Err(misfit(attribute, "float", TAKEN)),
    }
}

fn instant(attribute: &Attribute<'_>) -> Result<i64, String> {
    const TAKEN: &str = "S in RFC 3339 with a zone, down to microseconds";
    let Attribute::S(text) = attribute else { return Err(misfit(attribute, "timestamp", TAKEN)) };
    let instant: Timestamp = text.parse().map_err(|_| misfit(attribute, "timestamp", TAKEN))?;
    // A tenth digit of the second is refused by the parser; the seventh to ninth have no place here. A leap
    // second would become the second before it.
    if instant.as_nanosecond() % 1000 != 0 || text.get(16..19) == Some(":60") {
        return Err(misfit(attribute, "timestamp", TAKEN));
    }
    Ok(instant.as_microsecond())
}

fn day(attribute: &Attribute<'_>) -> Result<i32, String> {
    const TAKEN: &str = "S `YYYY-MM-DD`";
    let misfit = || misfit(attribute, "date", TAKEN);
    let Attribute::S(text) = attribute else { return Err(misfit()) };
    let has_shape = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
    let day: Date = text.parse().ok().filter(|_| has_shape).ok_or_else(misfit)?;
    day.since(Date::constant(1970, 1, 1)).map(|span| span.get_days()).map_err(|_| misfit())
}

fn uuid(attribute: &Attribute<'_>) -> Result<String, String> {
    let misfit = || misfit(attribute, "uuid", "S of 8-4-4-4-12 hexadecimal digits");
    let Attribute::S(text) = attribute else { return Err(misfit()) };
    let is_right = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    let is_canonical = text.len() == 36 && text.bytes().enumerate().all(is_right);
    if is_canonical { Ok(text.to_ascii_lowercase()) } else { Err(misfit()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;
    use arrow::datatypes::Schema;
    use arrow::record_batch::RecordBatch;

    fn read(word: &str, attribute: &str) -> Result<Value, String> {
        let reading = Reading::declared(word).unwrap();
        let mut values = Values::new(reading);
        values.append(reading, &serde_json::from_str(attribute).unwrap())?;
        let schema = Arc::new(Schema::new(vec![reading.field("c", true)]));
        let batch = RecordBatch::try_new(schema, vec![values.finish()]).unwrap();
        Ok(record::value_to_json(batch.column(0), 0))
    }

    fn text(word: &str, attribute: &str) -> String {
        match read(word, attribute) {
            Ok(Value::String(text)) => text,
            Ok(other) => other.to_string(),
            Err(reason) => format!("! {reason}"),
        }
    }

    #[test]
    fn the_table() {
        for (word, attribute, expected) in [
            ("text", r#"{"S":""}"#, ""),
            ("text", r#"{"N":"-1.50E-7"}"#, "-1.50E-7"),
            ("text", r#"{"BOOL":true}"#, "true"),
            ("text", r#"{"B":"AP8="}"#, "AP8="),
            ("text", r#"{"L":[{"N":"1"}]}"#, "[1]"),
            ("text", r#"{"SS":["b","a"]}"#, r#"{"SS":["b","a"]}"#),
            ("json", r#"{"M":{"b":{"SS":["x"]},"a":{"N":"1.0"}}}"#, r#"{"a":1.0,"b":["x"]}"#),
            ("json", r#"{"S":"{\"z\": 1.0}"}"#, r#"{"z": 1.0}"#),
            ("json", r#"{"S":"[draft]"}"#, r#""[draft]""#),
            ("json", r#"{"S":"5"}"#, r#""5""#),
            ("json", r#"{"N":"5"}"#, "5"),
            ("boolean", r#"{"S":"false"}"#, "false"),
            ("integer", r#"{"N":"9223372036854775807"}"#, "9223372036854775807"),
            ("integer", r#"{"N":"1E2"}"#, "100"),
            ("integer", r#"{"S":"-3"}"#, "-3"),
            ("number", r#"{"N":"1E-130"}"#, "1E-130"),
            ("float", r#"{"N":"0.1"}"#, "0.1"),
            ("float", r#"{"S":"-Infinity"}"#, "-inf"),
            ("timestamp", r#"{"S":"2024-01-31T23:59:59.123456+02:00"}"#, "2024-01-31T21:59:59.123456Z"),
            ("date", r#"{"S":"1969-12-31"}"#, "1969-12-31"),
            (
                "uuid",
                r#"{"S":"F47AC10B-58CC-4372-A567-0E02B2C3D479"}"#,
                "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            ),
            ("binary", r#"{"B":"AP8="}"#, "AP8="),
        ] {
            assert_eq!(text(word, attribute), expected, "{attribute} as {word}");
        }
        for word in ["text", "json", "integer", "timestamp", "binary"] {
            assert_eq!(read(word, r#"{"NULL":true}"#), Ok(Value::Null), "{word}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (word, attribute) in [
            ("boolean", r#"{"N":"1"}"#),
            ("boolean", r#"{"S":"yes"}"#),
            ("integer", r#"{"N":"1.5"}"#),
            ("integer", r#"{"N":"9223372036854775808"}"#),
            ("integer", r#"{"S":""}"#),
            ("number", r#"{"S":"12 apples"}"#),
            ("float", r#"{"N":"12345678901234567890123456789012345678"}"#),
            ("timestamp", r#"{"S":"2024-01-31T23:59:59"}"#),
            ("timestamp", r#"{"S":"2024-01-31T23:59:59.1234567Z"}"#),
            ("timestamp", r#"{"S":"2016-12-31T23:59:60Z"}"#),
            ("timestamp", r#"{"N":"1700000000"}"#),
            ("date", r#"{"S":"2024-02-30"}"#),
            ("date", r#"{"S":"20240229"}"#),
            ("uuid", r#"{"S":"f47ac10b58cc4372a5670e02b2c3d479"}"#),
            ("binary", r#"{"S":"AP8="}"#),
        ] {
            assert!(read(word, attribute).is_err(), "{attribute} as {word}");
        }
        let long = format!(r#"{{"S":"{}"}}"#, "ü".repeat(5000));
        assert!(read("integer", &long).unwrap_err().chars().count() < 200);
    }
}
