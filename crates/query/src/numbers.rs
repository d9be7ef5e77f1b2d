//! Exact numbers in SQL: what a store gives as decimal text is computed with as a decimal, never as a float and
//! never as text.
//!
//! A column of declared precision, `numeric(10,2)`, becomes a decimal of just that. One of no declared precision
//! (`numeric`, a DynamoDB N) becomes a decimal of 76 digits, [`OPEN_SCALE`] of them behind the point. A value that
//! does not fit is an error that names it; it is never rounded.

use arrow::array::{Array, ArrayRef, Decimal128Array, Decimal256Array};
use arrow::datatypes::{DataType, Field, i256};
use std::sync::Arc;
use whimbrel_model::logical::declared_digits;
use whimbrel_model::{Logical, record};

/// Digits behind the point of a number without a declared precision. With 20 of them two such numbers can still be
/// multiplied and divided within 76 digits.
pub const OPEN_SCALE: i8 = 20;
/// All digits of such a number.
const OPEN_PRECISION: u8 = 76;
/// A decimal of 128 bits; a sum of them wants ten digits more.
const NARROW_PRECISION: u8 = 28;
/// How much of a value an error shows.
const SHOWN: usize = 48;

/// What exact numbers are in SQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// Decimals.
    #[default]
    Decimal,
    /// Where no precision is declared, text, whose every value fits; the others decimals.
    Text,
}

/// How a store's column becomes a column of a table in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is.
    Same,
    /// A decimal of 128 bits.
    Narrow(u8, i8),
    /// A decimal of 256 bits.
    Wide(u8, i8),
}

impl Form {
    /// The form of a store's column.
    pub(crate) fn of(field: &Field, numbers: Numbers) -> Self {
        if Logical::of(field) != Some(Logical::Number) {
            return Self::Same;
        }
        let declared = declared_digits(field).filter(|(precision, _)| *precision <= OPEN_PRECISION);
        match (declared, numbers) {
            (Some((precision, scale)), _) if precision <= NARROW_PRECISION => Self::Narrow(precision, scale),
            (Some((precision, scale)), _) => Self::Wide(precision, scale),
            (None, Numbers::Decimal) => Self::Wide(OPEN_PRECISION, OPEN_SCALE),
            (None, Numbers::Text) => Self::Same,
        }
    }

    /// The column's field in SQL.
    pub(crate) fn field(self, field: &Field) -> Field {
        match self {
            Self::Same => field.clone(),
            Self::Narrow(precision, scale) => {
                Field::new(field.name(), DataType::Decimal128(precision, scale), field.is_nullable())
            }
            Self::Wide(precision, scale) => {
                Field::new(field.name(), DataType::Decimal256(precision, scale), field.is_nullable())
            }
        }
    }

    /// The column's values in SQL, or why one of them has no place there.
    pub(crate) fn apply(self, column: &ArrayRef) -> Result<ArrayRef, String> {
        let failed = |error: arrow::error::ArrowError| error.to_string();
        match self {
            Self::Same => Ok(Arc::clone(column)),
            Self::Narrow(precision, scale) => {
                let parse = |text: &str| scaled(text, precision, scale)?.parse().map_err(|_| refused(text));
                let values = values(column, parse)?;
                let array = Decimal128Array::from(values).with_precision_and_scale(precision, scale);
                Ok(Arc::new(array.map_err(failed)?))
            }
            Self::Wide(precision, scale) => {
                let parse = |text: &str| {
                    i256::from_string(&scaled(text, precision, scale)?).ok_or_else(|| refused(text))
                };
                let values = values(column, parse)?;
                let array = Decimal256Array::from(values).with_precision_and_scale(precision, scale);
                Ok(Arc::new(array.map_err(failed)?))
            }
        }
    }
}

fn values<T>(column: &ArrayRef, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<Option<T>>, String> {
    (0..column.len()).map(|row| record::text_at(column, row).map(&parse).transpose()).collect()
}

/// The value times ten to the power of `scale`, as the digits of a whole number.
fn scaled(text: &str, precision: u8, scale: i8) -> Result<String, String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], rest[at + 1..].parse::<i32>().map_err(|_| refused(text))?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused(text));
    }
    let fraction = i64::try_from(fraction.len()).map_err(|_| refused(text))?;
    let mut missing = i64::from(scale) + i64::from(exponent) - fraction;
    while missing < 0 && digits.ends_with('0') {
        digits.pop();
        missing += 1;
    }
    let significant = digits.trim_start_matches('0');
    if significant.is_empty() {
        return Ok("0".to_owned());
    }
    if missing < 0 {
        return Err(format!("{} has more than {scale} digits behind the point", shown(text)));
    }
    let zeros = usize::try_from(missing).map_err(|_| refused(text))?;
    if significant.len().saturating_add(zeros) > usize::from(precision) {
        let whole = i16::from(precision) - i16::from(scale);
        return Err(format!("{} has more than {whole} digits before the point", shown(text)));
    }
    Ok(format!("{sign}{significant}{}", "0".repeat(zeros)))
}

fn refused(text: &str) -> String {
    format!("{} is no number that can be computed with exactly", shown(text))
}

/// A value cut to a readable length.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal256Array, StringArray};
    use whimbrel_model::logical::with_source_type;

    #[test]
    fn numbers_are_scaled_exactly_or_refused() {
        let open = |text: &str| scaled(text, 38, 10);
        for (text, expected) in [
            ("0", "0"),
            ("-0.00", "0"),
            ("1.5", "15000000000"),
            ("-12.3400", "-123400000000"),
            ("1e3", "10000000000000"),
            ("1.5E-9", "15"),
            ("15e-10", "15"),
            ("0.00000000010", "1"),
            ("007", "70000000000"),
            ("9999999999999999999999999999.9999999999", "99999999999999999999999999999999999999"),
        ] {
            assert_eq!(open(text).as_deref(), Ok(expected), "{text}");
        }
        for text in
            ["NaN", "Infinity", "", "-", ".", "1e", "1x", "0.00000000001", "1e28", "1e999999999", "1e-200"]
        {
            assert!(open(text).is_err(), "{text}");
        }
        assert!(open(&"9".repeat(5000)).unwrap_err().len() < 150, "long values are cut");
    }

    #[test]
    fn the_declared_type_decides() {
        let form = |source_type: &str| {
            let field = with_source_type(Logical::Number.field("n", true), source_type);
            Form::of(&field, Numbers::Decimal)
        };
        assert_eq!(form("numeric(10,2)"), Form::Narrow(10, 2));
        assert_eq!(form("numeric(28)"), Form::Narrow(28, 0));
        assert_eq!(form("numeric(38,9)"), Form::Wide(38, 9));
        let open = Form::Wide(OPEN_PRECISION, OPEN_SCALE);
        for source_type in ["numeric", "N", "money", "numeric(1000,3)", "numeric(5,-2)", "numeric(3,5)"] {
            assert_eq!(form(source_type), open, "{source_type}");
        }
        assert_eq!(Form::of(&Logical::Number.field("n", true), Numbers::Text), Form::Same);
        assert_eq!(Form::of(&Field::new("n", DataType::Utf8, true), Numbers::Decimal), Form::Same);
    }

    #[test]
    fn a_column_keeps_its_nulls() {
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("1.5"), None, Some("-2")]));
        let made = Form::Wide(OPEN_PRECISION, OPEN_SCALE).apply(&column).unwrap();
        let made = made.as_any().downcast_ref::<Decimal256Array>().unwrap();
        assert_eq!(made.value_as_string(0), "1.50000000000000000000");
        assert!(made.is_null(1));
        assert_eq!(made.value_as_string(2), "-2.00000000000000000000");
    }
}
