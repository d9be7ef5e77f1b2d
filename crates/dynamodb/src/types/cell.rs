//! One value of a column as an attribute value. A column's cells are planned once per batch.

use super::value::{canonical, from_json};
use super::{Form, JsonShape, SetKind, element};
use crate::definition::{KeyRole, ScalarKind};
use crate::limits;
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::civil::Date;
use jiff::civil::{DateTime, datetime};
use jiff::fmt::temporal::DateTimePrinter;
use std::borrow::Cow;
use std::collections::HashSet;
use whimbrel_model::canonical::Canonical;

/// Makes the value of a row that is not NULL; the error is the reason, without the column's name.
type Cell = Box<dyn Fn(usize) -> Result<AttributeValue, String> + Send + Sync>;

/// A column of a batch, ready to be read row by row.
pub(crate) struct Cells {
    array: ArrayRef,
    cell: Cell,
    /// The texts of S and the digits of N, where the column holds nothing else.
    plain: Option<(Plain, StringArray)>,
}

#[derive(Clone, Copy)]
enum Plain {
    Text,
    Digits,
}

/// A value without a copy of it, where that can be.
#[derive(Clone, Debug)]
pub(crate) enum Look<'a> {
    /// An S.
    Text(&'a str),
    /// An N, in normal form.
    Digits(Cow<'a, str>),
    /// Anything else.
    Value(AttributeValue),
}

impl Look<'_> {
    /// The bytes that it counts for.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Text(text) => limits::bytes(text.len()),
            Self::Digits(digits) => limits::number_size(digits),
            Self::Value(value) => limits::size(value),
        }
    }

    /// How many maps and lists lie within each other at the most.
    pub(crate) fn nesting(&self) -> usize {
        match self {
            Self::Text(_) | Self::Digits(_) => 0,
            Self::Value(value) => limits::nesting(value),
        }
    }

    /// Appends it in canonical form.
    pub(crate) fn canonical(&self, into: &mut Canonical) {
        match self {
            Self::Text(text) => into.text(text),
            Self::Digits(digits) => into.number(digits),
            Self::Value(value) => canonical(into, value),
        }
    }

    /// Whether it can be a key, as [`limits::key_value`] says.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn key_value(&self, kind: ScalarKind, role: KeyRole) -> Result<(), String> {
        match self {
            Self::Text(text) => limits::key_of(ScalarKind::S, text.len(), kind, role),
            Self::Digits(_) => limits::key_of(ScalarKind::N, 1, kind, role),
            Self::Value(value) => limits::key_value(value, kind, role),
        }
    }

    /// The value as the SDK holds it.
    pub(crate) fn into_value(self) -> AttributeValue {
        match self {
            Self::Text(text) => AttributeValue::S(text.to_owned()),
            Self::Digits(digits) => AttributeValue::N(digits.into_owned()),
            Self::Value(value) => value,
        }
    }
}

impl Cells {
    /// Plans a column.
    ///
    /// # Errors
    /// Arrow cannot bring the column into the layout that its form is read from.
    pub(crate) fn new(array: &ArrayRef, form: &Form) -> Result<Self, ArrowError> {
        let array = match array.data_type() {
            DataType::Dictionary(_, value) => cast(array, value)?,
            _ => ArrayRef::clone(array),
        };
        let plain = match form {
            Form::Text | Form::PrintedText => Plain::Text,
            Form::Number => Plain::Digits,
            _ => return Ok(Self { cell: cell(&array, form)?, array, plain: None }),
        };
        let texts = cast(&array, &DataType::Utf8)?;
        let cell = cell(&texts, form)?;
        let plain = Some((plain, texts.as_string::<i32>().clone()));
        Ok(Self { array, cell, plain })
    }

    /// Whether the row is NULL.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.array.is_null(row) || self.array.data_type().is_null()
    }

    /// The value; NULL where the row is.
    ///
    /// # Errors
    /// The reason why DynamoDB does not hold it.
    pub(crate) fn value(&self, row: usize) -> Result<AttributeValue, String> {
        if self.is_null(row) { Ok(AttributeValue::Null(true)) } else { (self.cell)(row) }
    }

    /// The same, as it lies there.
    ///
    /// # Errors
    /// As [`Cells::value`].
    pub(crate) fn look(&self, row: usize) -> Result<Look<'_>, String> {
        match &self.plain {
            Some((plain, texts)) if !self.is_null(row) => match plain {
                Plain::Text => Ok(Look::Text(texts.value(row))),
                Plain::Digits => limits::normal(texts.value(row)).map(Look::Digits),
            },
            _ => self.value(row).map(Look::Value),
        }
    }
}

fn cell(array: &ArrayRef, form: &Form) -> Result<Cell, ArrowError> {
    Ok(match form {
        Form::Null => Box::new(|_| Ok(AttributeValue::Null(true))),
        Form::Text | Form::PrintedText => text(array, |text| Ok(AttributeValue::S(text.to_owned())))?,
        Form::Number => text(array, |text| limits::number(text).map(AttributeValue::N))?,
        Form::Float { as_text } => float(array, *as_text)?,
        Form::Bool => {
            let array = array.as_boolean().clone();
            Box::new(move |row| Ok(AttributeValue::Bool(array.value(row))))
        }
        Form::Binary => {
            let array = cast(array, &DataType::Binary)?.as_binary::<i32>().clone();
            Box::new(move |row| Ok(AttributeValue::B(Blob::new(array.value(row)))))
        }
        Form::Base64 => text(array, |text| {
            let bytes = BASE64.decode(text).map_err(|_| "is no base64 text".to_owned())?;
            Ok(AttributeValue::B(Blob::new(bytes)))
        })?,
        Form::Json(shape) => {
            let shape = *shape;
            text(array, move |text| json(text, shape))?
        }
        Form::List(inner) => {
            let elements = elements(array, inner)?;
            Box::new(move |row| elements(row).map(AttributeValue::L))
        }
        Form::Set(kind, inner) => {
            let (elements, kind) = (elements(array, inner)?, *kind);
            Box::new(move |row| set(elements(row)?, kind))
        }
        Form::Struct(fields) => structure(array, fields)?,
        Form::Date => date(array)?,
        Form::Time { digits } => time(array, *digits)?,
        Form::Instant { digits, zone } => instant(array, *digits, *zone)?,
        Form::Epoch { milliseconds } => epoch(array, *milliseconds)?,
    })
}

fn text(
    array: &ArrayRef,
    make: impl Fn(&str) -> Result<AttributeValue, String> + Send + Sync + 'static,
) -> Result<Cell, ArrowError> {
    let array = cast(array, &DataType::Utf8)?.as_string::<i32>().clone();
    Ok(Box::new(move |row| make(array.value(row))))
}

fn float(array: &ArrayRef, as_text: bool) -> Result<Cell, ArrowError> {
    // The shortest text of a 32-bit float differs from that of the 64-bit float of the same value.
    let printed: Box<dyn Fn(usize) -> String + Send + Sync> = if *array.data_type() == DataType::Float64 {
        let array = array.as_primitive::<Float64Type>().clone();
        Box::new(move |row| format!("{:e}", array.value(row)))
    } else {
        let array = cast(array, &DataType::Float32)?.as_primitive::<Float32Type>().clone();
        Box::new(move |row| format!("{:e}", array.value(row)))
    };
    Ok(Box::new(move |row| {
        let text = printed(row);
        if !as_text {
            return limits::number(&text).map(AttributeValue::N);
        }
        let plain = whimbrel_model::decimal::Decimal::parse(&text).map(|decimal| decimal.to_string());
        Ok(AttributeValue::S(plain.unwrap_or(text)))
    }))
}

fn json(text: &str, shape: JsonShape) -> Result<AttributeValue, String> {
    let value =
        whimbrel_model::json::parse(text).map_err(|error| format!("is not the JSON it must be: {error}"))?;
    match shape {
        JsonShape::Any => from_json(value),
        JsonShape::Map if value.is_object() => from_json(value),
        JsonShape::List if value.is_array() => from_json(value),
        JsonShape::Map => Err("is no JSON object".to_owned()),
        JsonShape::List => Err("is no JSON array".to_owned()),
        JsonShape::Set(kind) => match from_json(value)? {
            AttributeValue::L(values) => set(values, kind),
            _ => Err("is no JSON array".to_owned()),
        },
    }
}

type Elements = Box<dyn Fn(usize) -> Result<Vec<AttributeValue>, String> + Send + Sync>;

fn elements(array: &ArrayRef, inner: &Form) -> Result<Elements, ArrowError> {
    let list = match (array.data_type(), element(array.data_type())) {
        (DataType::LargeList(_) | DataType::FixedSizeList(..), Some(element)) => {
            cast(array, &DataType::List(std::sync::Arc::clone(element)))?
        }
        _ => ArrayRef::clone(array),
    };
    let list = list.as_list::<i32>().clone();
    let cells = Cells::new(list.values(), inner)?;
    let offset = |row: usize, offsets: &[i32]| usize::try_from(offsets[row]).unwrap_or(0);
    Ok(Box::new(move |row| {
        let offsets = list.value_offsets();
        let range = offset(row, offsets)..offset(row + 1, offsets);
        let of_element = |(position, row)| {
            cells.value(row).map_err(|reason| format!("in its element {}: {reason}", position + 1))
        };
        range.enumerate().map(of_element).collect()
    }))
}

fn set(values: Vec<AttributeValue>, kind: SetKind) -> Result<AttributeValue, String> {
    if values.is_empty() {
        return Err(
            "is empty, and DynamoDB has no empty set; leave it out as NULL or write it as a list".to_owned()
        );
    }
    let twice = || "holds an element twice, which a set cannot".to_owned();
    let mut seen = HashSet::new();
    let (mut texts, mut blobs) = (Vec::new(), Vec::new());
    for value in values {
        match (kind, value) {
            (SetKind::Strings, AttributeValue::S(text)) | (SetKind::Numbers, AttributeValue::N(text)) => {
                if !seen.insert(text.clone().into_bytes()) {
                    return Err(twice());
                }
                texts.push(text);
            }
            (SetKind::Binaries, AttributeValue::B(blob)) => {
                if !seen.insert(blob.as_ref().to_vec()) {
                    return Err(twice());
                }
                blobs.push(blob);
            }
            (_, AttributeValue::Null(_)) => return Err("holds a NULL, which a set cannot".to_owned()),
            _ => return Err("holds an element of another type than its set".to_owned()),
        }
    }
    Ok(match kind {
        SetKind::Strings => AttributeValue::Ss(texts),
        SetKind::Numbers => AttributeValue::Ns(texts),
        SetKind::Binaries => AttributeValue::Bs(blobs),
    })
}

fn structure(array: &ArrayRef, fields: &[(String, Form)]) -> Result<Cell, ArrowError> {
    let columns = array.as_struct().columns();
    let plan =
        |((name, form), column): (&(String, Form), &ArrayRef)| Ok((name.clone(), Cells::new(column, form)?));
    let fields = fields.iter().zip(columns).map(plan).collect::<Result<Vec<_>, ArrowError>>()?;
    Ok(Box::new(move |row| {
        let of_field = |(name, cells): &(String, Cells)| {
            let value = cells.value(row).map_err(|reason| format!("in its field `{name}`: {reason}"))?;
            Ok((name.clone(), value))
        };
        fields.iter().map(of_field).collect::<Result<_, String>>().map(AttributeValue::M)
    }))
}

/// The raw counts of a column of dates, times or timestamps.
fn raw(array: &ArrayRef) -> Result<impl Fn(usize) -> i64 + Send + Sync + use<>, ArrowError> {
    let narrow = matches!(array.data_type(), DataType::Date32 | DataType::Time32(_));
    let array = if narrow { cast(array, &DataType::Int32)? } else { ArrayRef::clone(array) };
    let array = cast(&array, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
    Ok(move |row| array.value(row))
}

/// Seconds and the nanoseconds below them.
fn split(unit: TimeUnit, count: i64) -> (i64, i32) {
    let (per_second, nanoseconds) = match unit {
        TimeUnit::Second => (1, 1_000_000_000),
        TimeUnit::Millisecond => (1_000, 1_000_000),
        TimeUnit::Microsecond => (1_000_000, 1_000),
        TimeUnit::Nanosecond => (1_000_000_000, 1),
    };
    let below = count.rem_euclid(per_second) * nanoseconds;
    (count.div_euclid(per_second), i32::try_from(below).unwrap_or(0))
}

fn unit_of(array: &ArrayRef) -> TimeUnit {
    match array.data_type() {
        DataType::Timestamp(unit, _) | DataType::Time32(unit) | DataType::Time64(unit) => *unit,
        _ => TimeUnit::Second,
    }
}

fn date(array: &ArrayRef) -> Result<Cell, ArrowError> {
    let raw = raw(array)?;
    let epoch = Date::constant(1970, 1, 1);
    Ok(Box::new(move |row| {
        let days = raw(row);
        if days == i64::from(i32::MAX) || days == i64::from(i32::MIN) {
            return Err(infinite("date"));
        }
        let span = jiff::Span::new().try_days(days).map_err(|_| out_of_calendar("date"))?;
        let date = epoch.checked_add(span).map_err(|_| out_of_calendar("date"))?;
        if date.year() < 0 {
            return Err(out_of_calendar("date"));
        }
        Ok(AttributeValue::S(date.to_string()))
    }))
}

fn time(array: &ArrayRef, digits: u8) -> Result<Cell, ArrowError> {
    let (raw, unit) = (raw(array)?, unit_of(array));
    Ok(Box::new(move |row| {
        // By hand, since 24:00:00 is a time of day in PostgreSQL and in ISO 8601, and none in most calendars.
        let (seconds, nanoseconds) = split(unit, raw(row));
        if !(0..=86_400).contains(&seconds) {
            return Err("is no time of day".to_owned());
        }
        let whole = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let fraction = format!("{nanoseconds:09}");
        let fraction = &fraction[..usize::from(digits)];
        let point = if digits == 0 { "" } else { "." };
        Ok(AttributeValue::S(format!("{whole}{point}{fraction}")))
    }))
}

fn instant(array: &ArrayRef, digits: u8, zone: bool) -> Result<Cell, ArrowError> {
    let (raw, unit) = (raw(array)?, unit_of(array));
    let printer = DateTimePrinter::new().precision(Some(digits));
    let keep = 10_i32.pow(u32::from(9 - digits.min(9)));
    Ok(Box::new(move |row| {
        let count = raw(row);
        if count == i64::MAX || count == i64::MIN {
            return Err(infinite("timestamp"));
        }
        let (seconds, nanoseconds) = split(unit, count);
        // Cut towards the past before jiff sees it: its own reading of negative fractions is symmetric.
        let nanoseconds = nanoseconds - nanoseconds % keep;
        let local = at(seconds, nanoseconds)?;
        if local.year() < 0 {
            return Err(out_of_calendar("timestamp"));
        }
        let mut text = printer.datetime_to_string(&local);
        if zone {
            text.push('Z');
        }
        Ok(AttributeValue::S(text))
    }))
}

/// The calendar's reading in UTC, to the last moment of 9999: jiff's instants end a day earlier, so that every
/// zone can show them.
fn at(seconds: i64, nanoseconds: i32) -> Result<DateTime, String> {
    const EPOCH: DateTime = datetime(1970, 1, 1, 0, 0, 0, 0);
    let since = jiff::SignedDuration::new(seconds, nanoseconds);
    EPOCH.checked_add(since).map_err(|_| out_of_calendar("timestamp"))
}

fn epoch(array: &ArrayRef, milliseconds: bool) -> Result<Cell, ArrowError> {
    let (raw, unit) = (raw(array)?, unit_of(array));
    Ok(Box::new(move |row| {
        let count = raw(row);
        if count == i64::MAX || count == i64::MIN {
            return Err(infinite("timestamp"));
        }
        let (seconds, nanoseconds) = split(unit, count);
        let number = if milliseconds {
            i128::from(seconds) * 1000 + i128::from(nanoseconds / 1_000_000)
        } else {
            i128::from(seconds)
        };
        Ok(AttributeValue::N(number.to_string()))
    }))
}

fn infinite(what: &str) -> String {
    format!("is an infinite {what}, which no calendar holds; say in the transform what it is to be")
}

fn out_of_calendar(what: &str) -> String {
    format!("is a {what} outside the years 0000 to 9999")
}

#[cfg(test)]
mod tests {
    use super::super::conversion;
    use super::super::value::preview;
    use super::*;
    use arrow::array::{
        BinaryArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int64Array,
        ListArray, StringArray, StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray,
        TimestampNanosecondArray,
    };
    use arrow::datatypes::{Field, Int32Type};
    use std::sync::Arc;
    use whimbrel_model::Logical;

    /// The value's type, as the API writes it.
    fn kind(value: &AttributeValue) -> &'static str {
        match value {
            AttributeValue::S(_) => "S",
            AttributeValue::N(_) => "N",
            AttributeValue::B(_) => "B",
            AttributeValue::Bool(_) => "BOOL",
            AttributeValue::Null(_) => "NULL",
            AttributeValue::Ss(_) => "SS",
            AttributeValue::Ns(_) => "NS",
            AttributeValue::Bs(_) => "BS",
            AttributeValue::L(_) => "L",
            AttributeValue::M(_) => "M",
            _ => "?",
        }
    }

    fn field(array: &ArrayRef) -> Field {
        Field::new("c", array.data_type().clone(), true)
    }

    fn all(array: impl Array + 'static, asked: Option<&str>) -> Vec<String> {
        let array: ArrayRef = Arc::new(array);
        all_of(&field(&array), &array, asked)
    }

    fn all_of(field: &Field, array: &ArrayRef, asked: Option<&str>) -> Vec<String> {
        let cells = Cells::new(array, &conversion(field, asked).unwrap().form).unwrap();
        let shown = |value: AttributeValue| format!("{} {}", kind(&value), preview(&value));
        for row in 0..array.len() {
            let (value, look) = (cells.value(row), cells.look(row));
            assert_eq!(look.clone().map(Look::into_value), value, "a look is the value");
            let Some((value, look)) = value.ok().zip(look.ok()) else { continue };
            let form = |append: &dyn Fn(&mut Canonical)| {
                let mut form = Canonical::default();
                append(&mut form);
                form.bytes().to_vec()
            };
            assert_eq!(form(&|into| look.canonical(into)), form(&|into| canonical(into, &value)));
            assert_eq!(look.size(), limits::size(&value));
            assert_eq!(look.nesting(), limits::nesting(&value));
            for (kind, role) in [(ScalarKind::S, KeyRole::Hash), (ScalarKind::N, KeyRole::Range)] {
                assert_eq!(look.key_value(kind, role), limits::key_value(&value, kind, role));
            }
        }
        (0..array.len())
            .map(|row| cells.value(row).map_or_else(|reason| format!("refused: {reason}"), shown))
            .collect()
    }

    #[test]
    fn text_numbers_and_bytes() {
        assert_eq!(
            all(StringViewArray::from(vec![Some("ü"), Some(""), None]), None),
            [r#"S "ü""#, r#"S """#, "NULL null"]
        );
        let dictionary: DictionaryArray<Int32Type> = vec!["a", "b", "a"].into_iter().collect();
        assert_eq!(all(dictionary, None), [r#"S "a""#, r#"S "b""#, r#"S "a""#]);
        assert_eq!(all(Int64Array::from(vec![i64::MIN]), None), ["N -9223372036854775808"]);
        assert_eq!(all(Int64Array::from(vec![7]), Some("text")), [r#"S "7""#]);
        let decimal = Decimal128Array::from(vec![150, -1]).with_precision_and_scale(10, 2).unwrap();
        assert_eq!(all(decimal, None), ["N 1.5", "N -0.01"]);
        assert_eq!(all(BinaryArray::from(vec![&b"\x00\xff"[..]]), None), [r#"B "AP8=""#]);
        assert_eq!(
            all(StringArray::from(vec!["AP8=", "?"]), Some("binary")),
            [r#"B "AP8=""#, "refused: is no base64 text"]
        );
        assert_eq!(all(StringArray::from(vec!["1.50", "x"]), Some("number"))[0], "N 1.5");
        let number = Logical::Number.field("c", true);
        let array: ArrayRef = Arc::new(StringArray::from(vec!["NaN", "12345678901234567890.5"]));
        let values = all_of(&number, &array, None);
        assert!(values[0].starts_with("refused: NaN is no finite number"), "{values:?}");
        assert_eq!(values[1], "N 12345678901234567890.5");
    }

    #[test]
    fn floats_take_their_shortest_text() {
        assert_eq!(all(Float64Array::from(vec![0.1, 1e100, -0.0]), None), ["N 0.1", "N 1e+100", "N 0"]);
        assert_eq!(all(Float32Array::from(vec![0.1]), None), ["N 0.1"]);
        let refused = all(Float64Array::from(vec![f64::NAN, f64::INFINITY, 1e300]), None);
        assert!(refused.iter().all(|value| value.starts_with("refused")), "{refused:?}");
        assert_eq!(
            all(Float64Array::from(vec![0.25, f64::NAN]), Some("text")),
            [r#"S "0.25""#, r#"S "NaN""#]
        );
    }

    #[test]
    fn json_becomes_what_it_is() {
        let json = Logical::Json.field("c", true);
        let array: ArrayRef = Arc::new(StringArray::from(vec![
            r#"{"a":[1.50,null,true]}"#,
            "null",
            r#"{"a":1,"a":2}"#,
            "1e200",
        ]));
        let values = all_of(&json, &array, None);
        assert_eq!(values[0], r#"M {"a":[1.5,null,true]}"#);
        assert_eq!(values[1], "NULL null");
        assert!(values[2].contains("stands twice"), "{values:?}");
        assert!(values[3].contains("too large"), "{values:?}");
        let values = all(StringArray::from(vec!["[1]", "{}"]), Some("list"));
        assert_eq!(values, ["L [1]", "refused: is no JSON array"]);
        let array: ArrayRef = Arc::new(StringArray::from(vec![r#"["b","a"]"#, "[]", r#"["a",1]"#]));
        let values = all_of(&json, &array, Some("string_set"));
        assert_eq!(values[0], r#"SS ["a","b"]"#);
        assert!(values[1].contains("no empty set") && values[2].contains("another type"), "{values:?}");
    }

    #[test]
    fn lists_and_sets() {
        let lists = || {
            let rows = vec![
                Some(vec![Some(2), Some(1)]),
                Some(vec![]),
                Some(vec![Some(1), Some(1)]),
                Some(vec![None]),
                None,
            ];
            ListArray::from_iter_primitive::<Int32Type, _, _>(rows)
        };
        assert_eq!(all(lists(), None), ["L [2,1]", "L []", "L [1,1]", "L [null]", "NULL null"]);
        let sets = all(lists().slice(0, 4), Some("number_set"));
        assert_eq!(sets[0], "NS [1,2]");
        for (set, word) in sets[1..].iter().zip(["no empty set", "twice", "NULL"]) {
            assert!(set.contains(word), "{set}");
        }
        assert_eq!(all(lists().slice(2, 1), None), ["L [1,1]"], "a sliced list knows where it begins");
    }

    #[test]
    fn dates_and_times() {
        assert_eq!(all(Date32Array::from(vec![0, -1]), None), [r#"S "1970-01-01""#, r#"S "1969-12-31""#]);
        let refused = all(Date32Array::from(vec![i32::MAX, 3_000_000, -800_000]), None);
        assert!(
            refused[0].contains("infinite") && refused[1].contains("9999") && refused[2].contains("9999"),
            "{refused:?}"
        );
        let times = all(Time64MicrosecondArray::from(vec![1, 86_400_000_000]), None);
        assert_eq!(times, [r#"S "00:00:00.000001""#, r#"S "24:00:00.000000""#]);
    }

    #[test]
    fn timestamps_keep_their_digits() {
        let micros = || TimestampMicrosecondArray::from(vec![1_234_567, -1, i64::MAX, i64::MIN]);
        let zoned = all(micros().with_timezone("UTC"), None);
        assert_eq!(zoned[..2], [r#"S "1970-01-01T00:00:01.234567Z""#, r#"S "1969-12-31T23:59:59.999999Z""#]);
        assert!(zoned[2].contains("infinite") && zoned[3].contains("infinite"), "{zoned:?}");
        assert_eq!(all(micros(), None)[0], r#"S "1970-01-01T00:00:01.234567""#);
        let nanos = || TimestampNanosecondArray::from(vec![1]).with_timezone("UTC");
        assert_eq!(all(nanos(), None), [r#"S "1970-01-01T00:00:00.000000001Z""#]);
        let formed = |asked| all(micros().with_timezone("UTC").slice(0, 2), Some(asked));
        assert_eq!(formed("rfc3339_nanos")[0], r#"S "1970-01-01T00:00:01.234567000Z""#);
        assert_eq!(
            formed("rfc3339_millis"),
            [r#"S "1970-01-01T00:00:01.234Z""#, r#"S "1969-12-31T23:59:59.999Z""#]
        );
        assert_eq!(formed("rfc3339"), [r#"S "1970-01-01T00:00:01Z""#, r#"S "1969-12-31T23:59:59Z""#]);
        assert_eq!(formed("epoch_s"), ["N 1", "N -1"]);
        assert_eq!(formed("epoch_ms"), ["N 1234", "N -1"]);
    }
}
