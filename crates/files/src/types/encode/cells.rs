//! The values of one column, one by one: as text and in canonical form.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, PrimitiveArray, StringArray, StructArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Int64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use super::moments::Moments;
use super::text::TextBuffer;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::decimal::Decimal;
use whimbrel_model::float::{self, Float};
use whimbrel_model::{Logical, json};

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// Plain JSON.
    Json,
    /// DynamoDB JSON.
    DynamoDb,
    /// A field of CSV, before it is quoted.
    Csv,
    /// As it is; only the canonical form is wanted.
    Typed,
}

/// The values of a column.
#[derive(Debug)]
pub(crate) enum Cells {
    Null,
    Text(StringArray),
    Json(StringArray),
    Number(StringArray),
    Bool(BooleanArray),
    Int(PrimitiveArray<Int64Type>),
    Float32(PrimitiveArray<Float32Type>),
    Float64(PrimitiveArray<Float64Type>),
    Binary(BinaryArray),
    Moment(Moments),
    /// Printed by Arrow: what is a number there, and what is a text.
    Printed {
        texts: StringArray,
        is_number: bool,
    },
    List {
        lengths: Vec<usize>,
        starts: Vec<usize>,
        nulls: Option<NullBuffer>,
        elements: Box<Cells>,
    },
    Struct {
        nulls: Option<NullBuffer>,
        fields: Vec<(String, Cells)>,
    },
}

/// Where the canonical form of a value that was written stands.
#[derive(Clone, Debug, Default)]
pub(crate) enum Form {
    /// There is none: it is NULL, and does not count.
    #[default]
    Nothing,
    /// Aside, here.
    Made(Range<usize>),
}

/// What a value is refused for.
pub(crate) type Misfit = String;

impl Cells {
    pub(crate) fn new(field: &Field, column: &ArrayRef) -> Result<Self, ArrowError> {
        let as_text = || cast(column, &DataType::Utf8).map(|column| column.as_string::<i32>().clone());
        Ok(match column.data_type() {
            DataType::Null => Self::Null,
            DataType::Dictionary(_, values) => {
                let plain = Field::new(field.name(), (**values).clone(), true)
                    .with_metadata(field.metadata().clone());
                Self::new(&plain, &cast(column, values)?)?
            }
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => match Logical::of(field) {
                Some(Logical::Json) => Self::Json(as_text()?),
                Some(Logical::Number) => Self::Number(as_text()?),
                Some(Logical::Uuid) | None => Self::Text(as_text()?),
            },
            DataType::Boolean => Self::Bool(column.as_boolean().clone()),
            DataType::Float16 | DataType::Float32 => {
                Self::Float32(cast(column, &DataType::Float32)?.as_primitive::<Float32Type>().clone())
            }
            DataType::Float64 => Self::Float64(column.as_primitive::<Float64Type>().clone()),
            integer if integer.is_integer() && *integer != DataType::UInt64 => {
                Self::Int(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => {
                Self::Binary(cast(column, &DataType::Binary)?.as_binary::<i32>().clone())
            }
            DataType::List(element) => {
                let list = column.as_list::<i32>();
                let lengths = list.offsets().lengths().collect();
                let starts = list.offsets()[..list.len()].iter().map(|at| usize::try_from(*at).unwrap_or(0));
                let (starts, nulls) = (starts.collect(), list.nulls().cloned());
                Self::List { lengths, starts, nulls, elements: Box::new(Self::new(element, list.values())?) }
            }
            DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
                let list = DataType::List(Arc::clone(element));
                Self::new(&Field::new(field.name(), list.clone(), true), &cast(column, &list)?)?
            }
            DataType::Struct(fields) => {
                let columns: &StructArray = column.as_struct();
                let cells = fields.iter().zip(columns.columns());
                let cells =
                    cells.map(|(field, column)| Ok((field.name().clone(), Self::new(field, column)?)));
                let fields = cells.collect::<Result<_, ArrowError>>()?;
                Self::Struct { nulls: columns.nulls().cloned(), fields }
            }
            _ => match Moments::new(column)? {
                Some(moments) => Self::Moment(moments),
                None => Self::Printed { texts: printed(column)?, is_number: column.data_type().is_numeric() },
            },
        })
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Text(texts) | Self::Json(texts) | Self::Number(texts) | Self::Printed { texts, .. } => {
                texts.is_null(row)
            }
            Self::Bool(values) => values.is_null(row),
            Self::Int(values) => values.is_null(row),
            Self::Float32(values) => values.is_null(row),
            Self::Float64(values) => values.is_null(row),
            Self::Binary(values) => values.is_null(row),
            Self::Moment(moments) => moments.is_null(row),
            Self::List { nulls, .. } | Self::Struct { nulls, .. } => {
                nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
            }
        }
    }

    /// Appends a value that is not NULL, its canonical form aside.
    ///
    /// # Errors
    /// As [`Cells::append`].
    pub(crate) fn write(
        &self,
        row: usize,
        writing: Writing,
        into: &mut TextBuffer,
        aside: &mut Canonical,
    ) -> Result<Form, Misfit> {
        let made = aside.len();
        self.append_value(row, writing, into, aside)?;
        // A document can be NULL, too.
        let is_null = aside.is_null_since(made);
        Ok(if is_null { Form::Nothing } else { Form::Made(made..aside.len()) })
    }

    /// Appends the value, and its canonical form.
    ///
    /// # Errors
    /// The value has no place in the format; what was appended is to be thrown away.
    pub(crate) fn append(
        &self,
        row: usize,
        writing: Writing,
        into: &mut TextBuffer,
        canonical: &mut Canonical,
    ) -> Result<(), Misfit> {
        if self.is_null(row) {
            canonical.null();
            into.push_str(null_text(writing));
            return Ok(());
        }
        self.append_value(row, writing, into, canonical)
    }

    /// The same of a value that is not NULL.
    ///
    /// # Errors
    /// As [`Cells::append`].
    pub(crate) fn append_value(
        &self,
        row: usize,
        writing: Writing,
        into: &mut TextBuffer,
        canonical: &mut Canonical,
    ) -> Result<(), Misfit> {
        match self {
            Self::Null => {}
            Self::Text(texts) => text(texts.value(row), writing, into, canonical),
            Self::Json(texts) => document(texts.value(row), writing, into, canonical)?,
            Self::Number(texts) => number(texts.value(row), writing, into, canonical),
            Self::Printed { texts, is_number: true } => number(texts.value(row), writing, into, canonical),
            Self::Printed { texts, is_number: false } => text(texts.value(row), writing, into, canonical),
            Self::Bool(values) => boolean(values.value(row), writing, into, canonical),
            Self::Int(values) => {
                number(itoa::Buffer::new().format(values.value(row)), writing, into, canonical);
            }
            Self::Float32(values) => float_number(values.value(row), writing, into, canonical),
            Self::Float64(values) => float_number(values.value(row), writing, into, canonical),
            Self::Moment(moments) => moment(moments, row, writing, into, canonical),
            Self::Binary(values) => binary(values.value(row), writing, into, canonical),
            Self::List { lengths, starts, elements, .. } => {
                let rows = starts[row]..starts[row] + lengths[row];
                match elements.vector(rows.clone()).filter(|_| writing == Writing::Typed) {
                    // As it lies in the file; the digits of each float would take most of a dump's time.
                    Some(vector) => canonical.vector(vector),
                    None => list(elements, rows, writing, into, canonical)?,
                }
            }
            Self::Struct { fields, .. } => object(fields, row, writing, into, canonical)?,
        }
        Ok(())
    }

    /// Elements that are floats of 32 bits, none of them NULL.
    fn vector(&self, rows: Range<usize>) -> Option<&[f32]> {
        let Self::Float32(values) = self else { return None };
        let is_whole =
            values.nulls().is_none_or(|nulls| nulls.slice(rows.start, rows.len()).null_count() == 0);
        values.values().get(rows).filter(|_| is_whole)
    }

    /// The value for people, as the file holds it: CSV has texts alone.
    pub(crate) fn preview(&self, row: usize, writing: Writing) -> Value {
        if self.is_null(row) {
            return Value::Null;
        }
        let (mut text, mut canonical) = (TextBuffer::default(), Canonical::default());
        let (writing, is_text) = match writing {
            Writing::Csv => (Writing::Csv, true),
            _ => (Writing::Json, false),
        };
        match self.append(row, writing, &mut text, &mut canonical) {
            Ok(()) if is_text => Value::String(text.as_str().to_owned()),
            Ok(()) => {
                serde_json::from_slice(text.as_bytes()).unwrap_or(Value::String(text.as_str().to_owned()))
            }
            Err(reason) => Value::String(reason),
        }
    }
}

/// How NULL is written.
pub(super) fn null_text(writing: Writing) -> &'static str {
    match writing {
        Writing::Json => "null",
        Writing::DynamoDb => r#"{"NULL":true}"#,
        Writing::Csv | Writing::Typed => "",
    }
}

pub(super) fn printed(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    let options = FormatOptions::default().with_display_error(false);
    let formatter = ArrayFormatter::try_new(column, &options)?;
    // What no calendar of four-digit years holds is kept as the raw count of its unit; the infinities of PostgreSQL's
    // dates and timestamps are the words that it reads.
    let raw = if column.data_type().is_temporal() { Some(raw_counts(column)?) } else { None };
    let value = |row: usize| {
        if column.is_null(row) {
            return Ok(None);
        }
        match (formatter.value(row).try_to_string(), &raw) {
            (Ok(text), Some(_)) if !text.starts_with(['+', '-']) => Ok(Some(text)),
            (_, Some(raw)) => {
                let count = raw.value(row);
                Ok(Some(infinity(column.data_type(), count).map_or_else(|| count.to_string(), str::to_owned)))
            }
            (text, None) => text.map(Some),
        }
    };
    (0..column.len()).map(value).collect()
}

/// The word for a count that is one of PostgreSQL's infinities.
fn infinity(data_type: &DataType, count: i64) -> Option<&'static str> {
    let (least, most) = match data_type {
        DataType::Date32 => (i32::MIN.into(), i32::MAX.into()),
        DataType::Timestamp(..) => (i64::MIN, i64::MAX),
        _ => return None,
    };
    if count == most { Some("infinity") } else { (count == least).then_some("-infinity") }
}

pub(super) fn raw_counts(column: &ArrayRef) -> Result<PrimitiveArray<Int64Type>, ArrowError> {
    let wide = match column.data_type() {
        DataType::Date32 | DataType::Time32(_) => cast(column, &DataType::Int32)?,
        _ => Arc::clone(column),
    };
    Ok(cast(&wide, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// A string of JSON.
pub(crate) fn quoted(text: &str, into: &mut TextBuffer) {
    into.push('"');
    if is_plain_text(text.as_bytes()) {
        into.push_str(text);
    } else {
        escaped(text, into);
    }
    into.push('"');
}

/// Whether a text is a string of JSON as it is. Most texts are; to look at all of one at a time is a fraction of looking
/// byte by byte.
#[inline]
pub(super) fn is_plain_text(text: &[u8]) -> bool {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    text.iter().fold(true, |plain, byte| plain & is_plain(*byte))
}

/// A field of CSV, quoted where it must be: what is empty without being NULL, too.
pub(super) fn csv_text(text: &str, into: &mut TextBuffer) {
    if !text.is_empty() && is_plain_csv(text.as_bytes()) {
        return into.push_str(text);
    }
    into.push('"');
    into.push_str(&text.replace('"', "\"\""));
    into.push('"');
}

/// Whether nothing in a text has a meaning of its own in CSV.
#[inline]
pub(super) fn is_plain_csv(text: &[u8]) -> bool {
    let is_plain = |byte: u8| !matches!(byte, b'"' | b',' | b'\n' | b'\r');
    text.iter().fold(true, |plain, byte| plain & is_plain(*byte))
}

/// What stands between the quotes of a string of JSON.
pub(super) fn escaped(text: &str, into: &mut TextBuffer) {
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1F => "",
            _ => continue,
        };
        into.push_str(&text[from..at]);
        from = at + 1;
        if escape.is_empty() {
            let _ = write!(into, "\\u{byte:04x}");
        } else {
            into.push_str(escape);
        }
    }
    into.push_str(&text[from..]);
}

fn text(text: &str, writing: Writing, into: &mut TextBuffer, canonical: &mut Canonical) {
    canonical.text(text);
    match writing {
        Writing::Json => quoted(text, into),
        Writing::DynamoDb => tagged("S", into, |into| quoted(text, into)),
        Writing::Csv => into.push_str(text),
        Writing::Typed => {}
    }
}

fn tagged(tag: &str, into: &mut TextBuffer, value: impl FnOnce(&mut TextBuffer)) {
    let _ = write!(into, "{{\"{tag}\":");
    value(into);
    into.push('}');
}

/// Whether JSON writes a number so.
fn is_json_number(digits: &str) -> bool {
    let digits = digits.strip_prefix('-').unwrap_or(digits).as_bytes();
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if whole == 0 || (whole > 1 && digits[0] == b'0') {
        return false;
    }
    if whole == digits.len() {
        return true;
    }
    if let [b'.', fraction @ ..] = &digits[whole..]
        && !fraction.is_empty()
        && fraction.iter().all(u8::is_ascii_digit)
    {
        return true;
    }
    serde_json::from_slice::<&RawValue>(digits).is_ok()
}

/// The digits of a float; the infinities by the words that PostgreSQL and our own reading know. Zero's sign is lost on
/// readers who take `-0` for an integer.
fn float_text(value: impl Float) -> String {
    match value.into() {
        zero if zero == 0.0 && zero.is_sign_negative() => "-0.0".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => value.to_string(),
    }
}

/// Whether a float is a number of JSON by its digits.
pub(super) fn is_plain_float(value: impl Float) -> bool {
    let wide: f64 = value.into();
    wide.is_finite() && !(wide == 0.0 && wide.is_sign_negative())
}

/// A float as a number of its digits, which are made where they are to stand.
fn float_number(value: impl Float, writing: Writing, into: &mut TextBuffer, canonical: &mut Canonical) {
    if !is_plain_float(value) || !matches!(writing, Writing::Json | Writing::Typed) {
        return number(&float_text(value), writing, into, canonical);
    }
    let is_normal = float::is_shortest_normal(value.into());
    float::shortest(value, |text| {
        if is_normal {
            canonical.digits(text);
        } else {
            canonical.number(text);
        }
        if writing == Writing::Json {
            into.push_str(text);
        }
    });
}

/// A date or timestamp as text, made where it is to stand: nothing in it is ever escaped. Where the file holds its type
/// it counts as its instant.
fn moment(moments: &Moments, row: usize, writing: Writing, into: &mut TextBuffer, canonical: &mut Canonical) {
    let (before, behind) = match writing {
        Writing::Json => ("\"", "\""),
        Writing::DynamoDb => ("{\"S\":\"", "\"}"),
        Writing::Csv | Writing::Typed => ("", ""),
    };
    if writing == Writing::Typed && moments.append_typed(row, canonical) {
        return;
    }
    let started = into.len();
    into.push_str(before);
    let from = into.len();
    moments.append(row, into);
    canonical.text_within(into.as_bytes(), from..into.len());
    if writing == Writing::Typed {
        into.truncate(started);
    } else {
        into.push_str(behind);
    }
}

fn number(digits: &str, writing: Writing, into: &mut TextBuffer, canonical: &mut Canonical) {
    if matches!(writing, Writing::Csv | Writing::Typed) {
        if writing == Writing::Csv {
            canonical.text(digits);
            into.push_str(digits);
        } else {
            canonical.number(digits);
        }
        return;
    }
    let normal;
    let digits = if is_json_number(digits) {
        digits
    } else if let Some(decimal) = Decimal::parse(digits) {
        normal = decimal.to_string();
        &normal
    } else {
        // NaN and the infinities are no numbers there.
        return text(digits, writing, into, canonical);
    };
    canonical.number(digits);
    match writing {
        Writing::DynamoDb => tagged("N", into, |into| quoted(digits, into)),
        _ => into.push_str(digits),
    }
}

fn boolean(value: bool, writing: Writing, into: &mut TextBuffer, canonical: &mut Canonical) {
    let word = if value { "true" } else { "false" };
    match writing {
        Writing::Csv => return text(word, writing, into, canonical),
        Writing::Json => into.push_str(word),
        Writing::DynamoDb => tagged("BOOL", into, |into| into.push_str(word)),
        Writing::Typed => {}
    }
    canonical.bool(value);
}

fn binary(bytes: &[u8], writing: Writing, into: &mut TextBuffer, canonical: &mut Canonical) {
    match writing {
        Writing::Json | Writing::Csv => text(&BASE64.encode(bytes), writing, into, canonical),
        Writing::DynamoDb => {
            canonical.binary(bytes);
            tagged("B", into, |into| quoted(&BASE64.encode(bytes), into));
        }
        Writing::Typed => canonical.binary(bytes),
    }
}

/// A document of JSON; its text is kept, but for newlines between its parts.
fn document(
    document: &str,
    writing: Writing,
    into: &mut TextBuffer,
    canonical: &mut Canonical,
) -> Result<(), Misfit> {
    if writing == Writing::Csv {
        text(document, writing, into, canonical);
        return Ok(());
    }
    let value = json::parse(document).map_err(|error| format!("is no JSON document: {error}"))?;
    canonical.json(&value);
    match writing {
        Writing::Json => {
            into.push_str(&document.replace(['\n', '\r'], " "));
        }
        Writing::DynamoDb => attribute(&value, into),
        Writing::Csv | Writing::Typed => {}
    }
    Ok(())
}

/// A value of plain JSON in DynamoDB JSON.
fn attribute(value: &Value, into: &mut TextBuffer) {
    match value {
        Value::Null => into.push_str(r#"{"NULL":true}"#),
        Value::Bool(value) => {
            tagged("BOOL", into, |into| into.push_str(if *value { "true" } else { "false" }));
        }
        Value::Number(number) => tagged("N", into, |into| quoted(number.as_str(), into)),
        Value::String(text) => tagged("S", into, |into| quoted(text, into)),
        Value::Array(values) => tagged("L", into, |into| {
            into.push('[');
            for (number, value) in values.iter().enumerate() {
                into.push_str(if number > 0 { "," } else { "" });
                attribute(value, into);
            }
            into.push(']');
        }),
        Value::Object(map) => tagged("M", into, |into| {
            into.push('{');
            for (number, (name, value)) in map.iter().enumerate() {
                into.push_str(if number > 0 { "," } else { "" });
                quoted(name, into);
                into.push(':');
                attribute(value, into);
            }
            into.push('}');
        }),
    }
}

fn list(
    elements: &Cells,
    rows: Range<usize>,
    writing: Writing,
    into: &mut TextBuffer,
    canonical: &mut Canonical,
) -> Result<(), Misfit> {
    if writing == Writing::Csv {
        let mut json = TextBuffer::default();
        list(elements, rows, Writing::Json, &mut json, &mut Canonical::default())?;
        text(json.as_str(), writing, into, canonical);
        return Ok(());
    }
    canonical.list(rows.len());
    into.push_str(if writing == Writing::DynamoDb { "{\"L\":[" } else { "[" });
    for (number, row) in rows.enumerate() {
        into.push_str(if number > 0 { "," } else { "" });
        elements.append(row, writing, into, canonical)?;
    }
    into.push_str(if writing == Writing::DynamoDb { "]}" } else { "]" });
    Ok(())
}

fn object(
    fields: &[(String, Cells)],
    row: usize,
    writing: Writing,
    into: &mut TextBuffer,
    canonical: &mut Canonical,
) -> Result<(), Misfit> {
    if writing == Writing::Csv {
        let mut json = TextBuffer::default();
        object(fields, row, Writing::Json, &mut json, &mut Canonical::default())?;
        text(json.as_str(), writing, into, canonical);
        return Ok(());
    }
    let mut sorted: Vec<&(String, Cells)> = fields.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| name);
    canonical.map(sorted.len());
    into.push_str(if writing == Writing::DynamoDb { "{\"M\":{" } else { "{" });
    for (number, (name, cells)) in sorted.into_iter().enumerate() {
        into.push_str(if number > 0 { "," } else { "" });
        quoted(name, into);
        into.push(':');
        canonical.key(name);
        cells.append(row, writing, into, canonical)?;
    }
    into.push_str(if writing == Writing::DynamoDb { "}}" } else { "}" });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, TimestampMicrosecondArray};

    #[test]
    fn infinities_are_written_as_postgresql_reads_them() {
        let moments = TimestampMicrosecondArray::from(vec![i64::MAX, i64::MIN, 0]);
        let columns: [ArrayRef; 3] = [
            Arc::new(Date32Array::from(vec![i32::MAX, i32::MIN, 0])),
            Arc::new(moments.clone()),
            Arc::new(moments.with_timezone("UTC")),
        ];
        for (column, zero) in
            columns.iter().zip(["1970-01-01", "1970-01-01T00:00:00", "1970-01-01T00:00:00Z"])
        {
            let field = Field::new("c", column.data_type().clone(), true);
            let cells = Cells::new(&field, column).unwrap();
            for writing in [Writing::Json, Writing::Csv] {
                let texts: Vec<Value> = (0..3).map(|row| cells.preview(row, writing)).collect();
                assert_eq!(texts, ["infinity", "-infinity", zero]);
            }
        }
    }

    #[test]
    fn vectors_of_typed_files_count_by_their_bits_and_those_with_null_by_their_digits() {
        let mut lists = arrow::array::ListBuilder::new(arrow::array::Float32Builder::new());
        let vectors: [&[Option<f32>]; 6] = [
            &[Some(9.0)],
            &[Some(0.0), Some(1.5)],
            &[Some(-0.0), Some(1.5)],
            &[Some(0.0), None],
            &[Some(f32::NAN), Some(1.5)],
            &[],
        ];
        vectors.iter().for_each(|vector| lists.append_value(vector.iter().copied()));
        // Without the first one: the others' elements do not begin with the column's.
        let column: ArrayRef = Arc::new(lists.finish().slice(1, 5));
        let cells = Cells::new(&Field::new("c", column.data_type().clone(), true), &column).unwrap();
        let made = |row| {
            let mut canonical = Canonical::default();
            cells.append(row, Writing::Typed, &mut TextBuffer::default(), &mut canonical).unwrap();
            canonical.into_bytes()
        };
        let expected = |append: &dyn Fn(&mut Canonical)| {
            let mut canonical = Canonical::default();
            append(&mut canonical);
            canonical.into_bytes()
        };
        for (row, vector) in
            [(0, vec![0.0, 1.5]), (1, vec![-0.0, 1.5]), (3, vec![f32::NAN, 1.5]), (4, vec![])]
        {
            assert_eq!(made(row), expected(&|canonical| canonical.vector(&vector)), "{row}");
        }
        let with_null = expected(&|canonical| {
            canonical.list(2);
            canonical.number("0");
            canonical.null();
        });
        assert_eq!(made(2), with_null);
        assert_ne!(made(0), made(1));
    }
}
