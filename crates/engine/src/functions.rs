//! whimbrel's own SQL functions, beside DataFusion's.
//!
//! Each works row by row, answers NULL for NULL, and fails where there is no right answer: the record is then
//! rejected with the message. Adding one is an entry in [`all`] and a test below.

mod instants;
mod notation;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use jiff::SignedDuration;
use jiff::civil::{DateTime, datetime};
use serde_json::{Map, Value};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use whimbrel_model::decimal::Decimal;
use whimbrel_model::{Logical, record};

/// Every function, ready to be registered.
#[must_use]
pub fn all() -> Vec<Arc<ScalarUDF>> {
    let timestamp = || vec![DataType::Timestamp(TimeUnit::Microsecond, None)];
    let instant = || Returns::Plain(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    let functions = [
        RowFunction::new("is_uuid", vec![DataType::Utf8], Returns::Plain(DataType::Boolean), is_uuid),
        RowFunction::new("rfc3339_nanos", timestamp(), Returns::Plain(DataType::Utf8), |a| rfc3339(a, 9)),
        RowFunction::new("rfc3339_micros", timestamp(), Returns::Plain(DataType::Utf8), |a| rfc3339(a, 6)),
        RowFunction::new("rfc3339_millis", timestamp(), Returns::Plain(DataType::Utf8), |a| rfc3339(a, 3)),
        RowFunction::of_times("rfc3339", instants::rfc3339),
        RowFunction::of_times("try_rfc3339", instants::try_rfc3339),
        RowFunction::new(
            "is_pg_timestamp",
            vec![DataType::Utf8],
            Returns::Plain(DataType::Boolean),
            instants::is_pg_timestamp,
        ),
        RowFunction::new(
            "is_iso_timestamp",
            vec![DataType::Utf8],
            Returns::Plain(DataType::Boolean),
            instants::is_iso_timestamp,
        ),
        RowFunction::of_numbers("from_epoch_s", instant(), |a| instants::from_epoch(a, 6)),
        RowFunction::of_numbers("from_epoch_ms", instant(), |a| instants::from_epoch(a, 3)),
        RowFunction::new("epoch_s", timestamp(), Returns::Plain(DataType::Int64), |a| epoch(a, 1_000_000)),
        RowFunction::new("epoch_ms", timestamp(), Returns::Plain(DataType::Int64), |a| epoch(a, 1_000)),
        RowFunction::new(
            "fixed_width",
            vec![DataType::Int64; 2],
            Returns::Plain(DataType::Utf8),
            fixed_width,
        ),
        RowFunction::new(
            "shard",
            vec![DataType::Utf8, DataType::Int64],
            Returns::Plain(DataType::Int64),
            shard,
        ),
        RowFunction::any("json_object", Returns::Json, |arrays| json_object(arrays, &[])),
        RowFunction::new("json_set", vec![DataType::Utf8; 3], Returns::Document, notation::json_set),
        RowFunction::new("plain_json", vec![DataType::Utf8], Returns::Document, notation::plain_json),
        RowFunction::new("dynamodb_json", vec![DataType::Utf8], Returns::Document, notation::dynamodb_json),
    ];
    functions.into_iter().map(|function| Arc::new(ScalarUDF::new_from_impl(function))).collect()
}

/// What makes of the text of a number one that sorts as the number does. It has no name in SQL.
#[must_use]
pub fn number_order() -> ScalarUDF {
    let order = |args: &[ArrayRef]| -> Result<ArrayRef> {
        let key = |text: &str| match order_of_number(text) {
            Some(key) => Ok(key),
            None => exec_err!("it is compared as a number, and is none"),
        };
        let texts = args[0].as_string::<i32>();
        let keys = texts.iter().map(|text| text.map(key).transpose()).collect::<Result<StringArray>>()?;
        Ok(Arc::new(keys))
    };
    let returns = Returns::Plain(DataType::Utf8);
    ScalarUDF::new_from_impl(RowFunction::new(NUMBER_ORDER, vec![DataType::Utf8], returns, order))
}

/// The name by which it is told apart from functions that look at a number's text.
pub const NUMBER_ORDER: &str = "number_order";

/// A text that sorts as the number does: infinities outside of all, and NaN behind them, as in PostgreSQL.
#[must_use]
pub fn order_of_number(text: &str) -> Option<String> {
    Some(match text {
        "-Infinity" => "0".to_owned(),
        "Infinity" => "4".to_owned(),
        "NaN" => "5".to_owned(),
        number => Decimal::parse(number)?.sort_key(),
    })
}

type Evaluate = fn(&[ArrayRef]) -> Result<ArrayRef>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Returns {
    Plain(DataType),
    /// A document of JSON whose making needs the meaning of the arguments.
    Json,
    /// A document of JSON.
    Document,
}

/// A function over whole columns, row by row.
#[derive(Clone, Debug)]
struct RowFunction {
    name: &'static str,
    /// The types that arguments are brought to; `None` where any will do.
    arguments: Option<Vec<DataType>>,
    /// Whether a timestamp, as it is, is as good as text.
    takes_timestamps: bool,
    /// Whether a number's text, as exact numbers have it, is as good as an integer.
    takes_numbers: bool,
    signature: Signature,
    returns: Returns,
    evaluate: Evaluate,
}

// One name is one function: the pointer itself has no address that could be compared.
impl PartialEq for RowFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for RowFunction {}

impl Hash for RowFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl RowFunction {
    fn new(name: &'static str, arguments: Vec<DataType>, returns: Returns, evaluate: Evaluate) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self {
            name,
            arguments: Some(arguments),
            takes_timestamps: false,
            takes_numbers: false,
            signature,
            returns,
            evaluate,
        }
    }

    /// A function of an integer or of the text of a number.
    fn of_numbers(name: &'static str, returns: Returns, evaluate: Evaluate) -> Self {
        Self { takes_numbers: true, ..Self::new(name, vec![DataType::Int64], returns, evaluate) }
    }

    /// A function of a time, in text or as a timestamp, and a number of digits.
    fn of_times(name: &'static str, evaluate: Evaluate) -> Self {
        let arguments = vec![DataType::Utf8, DataType::Int64];
        let function = Self::new(name, arguments, Returns::Plain(DataType::Utf8), evaluate);
        Self { takes_timestamps: true, ..function }
    }

    fn any(name: &'static str, returns: Returns, evaluate: Evaluate) -> Self {
        let signature = Signature::variadic_any(Volatility::Immutable);
        Self { arguments: None, signature, ..Self::new(name, Vec::new(), returns, evaluate) }
    }
}

impl ScalarUDFImpl for RowFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match &self.returns {
            Returns::Plain(data_type) => data_type.clone(),
            Returns::Json | Returns::Document => DataType::Utf8,
        })
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(match &self.returns {
            Returns::Plain(data_type) => Field::new(self.name, data_type.clone(), true),
            Returns::Json | Returns::Document => Logical::Json.field(self.name, true),
        }))
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let wanted = self.arguments.clone().unwrap_or_else(|| given.to_vec());
        if wanted.len() != given.len() {
            return exec_err!("{} takes {} arguments, not {}", self.name, wanted.len(), given.len());
        }
        for (given, wanted) in given.iter().zip(&wanted) {
            let fits = match wanted {
                DataType::Utf8 if self.takes_timestamps && matches!(given, DataType::Timestamp(..)) => true,
                DataType::Int64 if self.takes_numbers && given.is_string() => true,
                DataType::Int64 => given.is_integer() || given.is_null(),
                DataType::Timestamp(..) => given.is_temporal() || given.is_null(),
                DataType::Utf8 => given.is_string() || given.is_null(),
                _ => true,
            };
            if !fits {
                return exec_err!("{} cannot take {given} where it takes {wanted}", self.name);
            }
        }
        let keep_zone = |(given, wanted): (&DataType, DataType)| match given {
            DataType::Timestamp(..) if self.takes_timestamps => given.clone(),
            given if self.takes_numbers && given.is_string() => DataType::Utf8,
            DataType::Timestamp(_, Some(zone)) => {
                DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::clone(zone)))
            }
            _ => wanted,
        };
        Ok(given.iter().zip(wanted).map(keep_zone).collect())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let rows = args.number_rows;
        let expand = |array: ArrayRef| {
            if array.len() == rows || array.len() != 1 { Ok(array) } else { repeat(&array, rows) }
        };
        let arrays = arrays.into_iter().map(expand).collect::<Result<Vec<_>>>()?;
        if self.returns == Returns::Json {
            let meanings: Vec<_> = args.arg_fields.iter().map(|field| Logical::of(field)).collect();
            return json_object(&arrays, &meanings).map(ColumnarValue::Array);
        }
        (self.evaluate)(&arrays).map(ColumnarValue::Array)
    }
}

fn repeat(array: &ArrayRef, rows: usize) -> Result<ArrayRef> {
    let indices = arrow::array::UInt32Array::from(vec![0; rows]);
    Ok(arrow::compute::take(array, &indices, None)?)
}

/// `is_uuid(text)`: the canonical 36 characters, hexadecimal digits and hyphens in their places.
fn is_uuid(args: &[ArrayRef]) -> Result<ArrayRef> {
    let canonical = |text: &str| {
        let hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
        let fits = |(at, byte): (usize, u8)| if hyphen(at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
        text.len() == 36 && text.bytes().enumerate().all(fits)
    };
    let texts = args[0].as_string::<i32>();
    Ok(Arc::new(texts.iter().map(|text| text.map(canonical)).collect::<BooleanArray>()))
}

/// `rfc3339_nanos(timestamp)` and its shorter sisters: UTC, always the same number of characters, so that the
/// text sorts as the time does.
fn rfc3339(args: &[ArrayRef], digits: usize) -> Result<ArrayRef> {
    let format = |epoch_us: i64| {
        let written = civil(epoch_us).filter(|at| at.year() >= 0);
        let Some(at) = written else {
            return exec_err!(
                "the timestamp is infinite or outside the years 0000 to 9999 that RFC 3339 can write"
            );
        };
        let per_digit = 10_i64.pow(u32::try_from(6_usize.saturating_sub(digits)).unwrap_or(0));
        if epoch_us.rem_euclid(per_digit) != 0 {
            return exec_err!("the timestamp has more than {digits} digits of a second");
        }
        Ok(format!("{at:.digits$}Z"))
    };
    let instants = args[0].as_primitive::<TimestampMicrosecondType>();
    let texts = instants.iter().map(|us| us.map(format).transpose()).collect::<Result<StringArray>>()?;
    Ok(Arc::new(texts))
}

/// The calendar's reading of microseconds since 1970, UTC; `None` outside the years -9999 to 9999.
fn civil(epoch_us: i64) -> Option<DateTime> {
    const EPOCH: DateTime = datetime(1970, 1, 1, 0, 0, 0, 0);
    EPOCH.checked_add(SignedDuration::from_micros(epoch_us)).ok()
}

/// `epoch_s(timestamp)`, `epoch_ms(timestamp)`: whole units since 1970; a finer fraction is an error, since it
/// would be lost.
fn epoch(args: &[ArrayRef], unit_us: i64) -> Result<ArrayRef> {
    let convert = |epoch_us: i64| match epoch_us {
        i64::MAX | i64::MIN => exec_err!("the timestamp is infinite"),
        us if us.rem_euclid(unit_us) != 0 => {
            exec_err!("the timestamp has a finer fraction than its new unit holds")
        }
        us => Ok(us.div_euclid(unit_us)),
    };
    let instants = args[0].as_primitive::<TimestampMicrosecondType>();
    let values = instants.iter().map(|us| us.map(convert).transpose()).collect::<Result<Int64Array>>()?;
    Ok(Arc::new(values))
}

/// `fixed_width(integer, digits)`: zeros in front, so that text sorts as the number does.
fn fixed_width(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (numbers, widths) = (args[0].as_primitive::<Int64Type>(), args[1].as_primitive::<Int64Type>());
    let format = |(number, width): (Option<i64>, Option<i64>)| {
        let (Some(number), Some(width)) = (number, width) else { return Ok(None) };
        let width = usize::try_from(width).ok().filter(|width| (1..=19).contains(width));
        let Some(width) = width else { return exec_err!("fixed_width takes 1 to 19 digits") };
        if number < 0 {
            return exec_err!("{number} is negative: with a sign, text would not sort as the number does");
        }
        let text = format!("{number:0width$}");
        if text.len() > width {
            return exec_err!("{number} has more than {width} digits");
        }
        Ok(Some(text))
    };
    let texts = numbers.iter().zip(widths).map(format).collect::<Result<StringArray>>()?;
    Ok(Arc::new(texts))
}

/// `shard(text, n)`: a number from 0 to n - 1, the same for the same text for ever (BLAKE3).
fn shard(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (texts, counts) = (args[0].as_string::<i32>(), args[1].as_primitive::<Int64Type>());
    let place = |(text, count): (Option<&str>, Option<i64>)| {
        let (Some(text), Some(count)) = (text, count) else { return Ok(None) };
        let Some(count) = u64::try_from(count).ok().filter(|count| *count > 0) else {
            return exec_err!("shard takes a positive number of shards");
        };
        let mut eight = [0; 8];
        eight.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..8]);
        Ok(i64::try_from(u64::from_be_bytes(eight) % count).ok())
    };
    let values = texts.iter().zip(counts).map(place).collect::<Result<Int64Array>>()?;
    Ok(Arc::new(values))
}

/// `json_object('key', value, …)`: a JSON object; a NULL value becomes null, never missing.
///
/// Exact numbers and JSON documents stand in it as what they are, not as text.
fn json_object(args: &[ArrayRef], meanings: &[Option<Logical>]) -> Result<ArrayRef> {
    let (pairs, rest) = args.as_chunks::<2>();
    if !rest.is_empty() || pairs.is_empty() {
        return exec_err!("json_object takes pairs of a key and a value");
    }
    let keys = pairs.iter().map(|[key, _]| Ok(cast(key, &DataType::Utf8)?)).collect::<Result<Vec<_>>>()?;
    let object = |row: usize| {
        let mut object = Map::new();
        for (index, (key, [_, value])) in keys.iter().zip(pairs).enumerate() {
            let Some(key) = record::text_at(key, row) else {
                return exec_err!("a key of json_object is NULL");
            };
            let meant = meanings.get(index * 2 + 1).copied().flatten();
            if object.insert(key.to_owned(), meant_json(value, row, meant)?).is_some() {
                return exec_err!("the key {key:?} stands twice in json_object");
            }
        }
        Ok(Value::Object(object).to_string())
    };
    let texts = (0..pairs[0][0].len()).map(|row| object(row).map(Some)).collect::<Result<StringArray>>()?;
    Ok(Arc::new(texts))
}

fn meant_json(value: &ArrayRef, row: usize, meant: Option<Logical>) -> Result<Value> {
    match (meant, record::text_at(value, row)) {
        (Some(Logical::Json), Some(text)) => whimbrel_model::json::parse(text)
            .or_else(|error| exec_err!("a value of json_object is no JSON: {error}")),
        (Some(Logical::Number), Some(text)) => match text.parse() {
            Ok(number) => Ok(Value::Number(number)),
            Err(_) => exec_err!("{text} is no number that JSON can hold"),
        },
        _ => Ok(record::value_to_json(value, row)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::TimestampMicrosecondArray;

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn numbers(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    fn instants(values: &[i64]) -> ArrayRef {
        Arc::new(TimestampMicrosecondArray::from(values.to_vec()))
    }

    fn strings(array: &ArrayRef) -> Vec<&str> {
        array.as_string::<i32>().iter().map(Option::unwrap).collect()
    }

    #[test]
    fn a_uuid_has_36_characters_with_hyphens_in_their_places() {
        let values = texts(&[
            "123e4567-e89b-12d3-a456-426614174000",
            "123e4567e89b12d3a456426614174000",
            "",
            "123e4567-e89b-12d3-a456-42661417400g",
        ]);
        let found: Vec<_> = is_uuid(&[values]).unwrap().as_boolean().iter().map(Option::unwrap).collect();
        assert_eq!(found, [true, false, false, false]);
    }

    #[test]
    fn rfc3339_has_a_fixed_width() {
        let values = instants(&[1_643_824_909_345_261, 0, -1, 253_402_300_799_999_999]);
        let expected = [
            "2022-02-02T18:01:49.345261000Z",
            "1970-01-01T00:00:00.000000000Z",
            "1969-12-31T23:59:59.999999000Z",
            "9999-12-31T23:59:59.999999000Z",
        ];
        assert_eq!(strings(&rfc3339(&[values], 9).unwrap()), expected);
    }

    #[test]
    fn what_rfc3339_cannot_write_is_an_error() {
        assert!(rfc3339(&[instants(&[i64::MAX])], 9).is_err());
        assert!(rfc3339(&[instants(&[-62_167_219_200_000_001])], 9).is_err());
        assert!(rfc3339(&[instants(&[1])], 3).is_err(), "a digit would be lost");
        assert!(epoch(&[instants(&[1])], 1_000).is_err(), "a digit would be lost");
        assert!(epoch(&[instants(&[i64::MIN])], 1_000_000).is_err());
    }

    #[test]
    fn fixed_width_refuses_what_would_not_sort() {
        let width = |number: i64| fixed_width(&[numbers(&[number]), numbers(&[3])]);
        assert_eq!(strings(&width(7).unwrap()), ["007"]);
        assert!(width(-1).is_err());
        assert!(width(1000).is_err());
    }

    #[test]
    fn shards_never_move() {
        let keys = texts(&["USER#1", "USER#2", "USER#3"]);
        let found = shard(&[keys, numbers(&[10, 10, 10])]).unwrap();
        assert_eq!(found.as_primitive::<Int64Type>().values().to_vec(), [6, 2, 8]);
        assert!(shard(&[texts(&["x"]), numbers(&[0])]).is_err());
    }

    #[test]
    fn json_object_keeps_types() {
        let args =
            [texts(&["a"]), numbers(&[1]), texts(&["b"]), texts(&["x\""]), texts(&["c"]), texts(&["1.50"])];
        let meanings = [None, None, None, None, None, Some(Logical::Number)];
        let found = json_object(&args, &meanings).unwrap();
        assert_eq!(strings(&found), [r#"{"a":1,"b":"x\"","c":1.50}"#]);
        assert!(json_object(&[texts(&["a"]), numbers(&[1]), texts(&["a"]), numbers(&[2])], &[]).is_err());
    }
}
