//! What DynamoDB holds and what it refuses, from its Developer Guide: "Quotas in Amazon DynamoDB"
//! (`ServiceQuotas`: items, keys, numbers, nesting), "Supported data types and naming rules"
//! (`HowItWorks.NamingRulesDataTypes`: numbers, sets, empty values) and "DynamoDB item sizes and formats"
//! (`CapacityUnitCalculations`: how bytes are counted).

use crate::definition::{KeyRole, ScalarKind};
use aws_sdk_dynamodb::types::AttributeValue;
use std::borrow::Cow;
use whimbrel_model::decimal::Decimal;

/// The largest item, names and values together.
pub(crate) const ITEM_BYTES: u64 = 400 * 1024;
/// How many maps and lists may lie around a value; the item itself is the outermost of 32 levels.
pub(crate) const NESTING: usize = 31;
/// How many items a `BatchWriteItem` or statements a `BatchExecuteStatement` holds.
pub(crate) const BATCH_ITEMS: usize = 25;
/// How many keys a `BatchGetItem` holds.
pub(crate) const BATCH_GETS: usize = 100;
/// How long a PartiQL statement may be.
pub(crate) const STATEMENT_BYTES: usize = 8192;
/// How much one partition key value takes: "Best practices for designing and using partition keys".
pub(crate) const UNITS_PER_PARTITION: f64 = 1000.0;

const KEY_BYTES: usize = 2048;
const SORT_KEY_BYTES: usize = 1024;
const DIGITS: usize = 38;
const LARGEST_POWER: i64 = 125;
const SMALLEST_POWER: i64 = -130;

/// A number in DynamoDB's reach, in normal form.
///
/// # Errors
/// What is no finite number, has too many digits, or is too large or too near to zero.
pub(crate) fn number(text: &str) -> Result<String, String> {
    normal(text).map(Cow::into_owned)
}

/// The same, without a copy where the text is in normal form already.
///
/// # Errors
/// As [`number`].
pub(crate) fn normal(text: &str) -> Result<Cow<'_, str>, String> {
    if plain_digits(text).is_some() {
        return Ok(Cow::Borrowed(text));
    }
    let Some(decimal) = Decimal::parse(text) else {
        return Err(format!("{} is no finite number, which DynamoDB's N must be", shown(text)));
    };
    if decimal.precision() > DIGITS {
        let digits = decimal.precision();
        return Err(format!("{} has {digits} significant digits, DynamoDB's N holds {DIGITS}", shown(text)));
    }
    match decimal.magnitude() {
        Some(power) if power > LARGEST_POWER => {
            Err(format!("{} is too large, DynamoDB's N ends below 1E126", shown(text)))
        }
        Some(power) if power < SMALLEST_POWER => {
            Err(format!("{} is too near to zero, DynamoDB's N ends at 1E-130", shown(text)))
        }
        _ => Ok(Cow::Owned(decimal.to_string())),
    }
}

/// The digits of a whole number that is in normal form already, which most numbers are.
fn plain_digits(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let normal = match digits.as_bytes() {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.len() < DIGITS && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    normal.then_some(digits)
}

fn shown(text: &str) -> String {
    let mut characters = text.chars();
    let head: String = characters.by_ref().take(45).collect();
    if characters.next().is_some() { format!("{head}…") } else { head }
}

/// The bytes that a value counts for, without its name.
pub(crate) fn size(value: &AttributeValue) -> u64 {
    match value {
        AttributeValue::S(text) => bytes(text.len()),
        AttributeValue::N(text) => number_size(text),
        AttributeValue::B(blob) => bytes(blob.as_ref().len()),
        AttributeValue::Ss(texts) => texts.iter().map(|text| bytes(text.len())).sum(),
        AttributeValue::Ns(texts) => texts.iter().map(|text| number_size(text)).sum(),
        AttributeValue::Bs(blobs) => blobs.iter().map(|blob| bytes(blob.as_ref().len())).sum(),
        AttributeValue::L(values) => 3 + values.iter().map(|value| 1 + size(value)).sum::<u64>(),
        AttributeValue::M(map) => {
            3 + map.iter().map(|(name, value)| 1 + bytes(name.len()) + size(value)).sum::<u64>()
        }
        // BOOL and NULL; a type that the API gains later is refused by the service, not here.
        _ => 1,
    }
}

/// One byte, one for each two significant digits on either side of the point, one for a minus sign. The
/// guide says "approximately"; this is what the service was measured to count.
pub(crate) fn number_size(text: &str) -> u64 {
    if let Some(digits) = plain_digits(text) {
        let significant = digits.trim_end_matches('0').len();
        let sign = usize::from(digits.len() < text.len());
        return bytes(significant.div_ceil(2) + 1 + sign);
    }
    let Some(decimal) = Decimal::parse(text) else { return bytes(text.len()) };
    let digits = decimal.precision();
    let before_point = decimal.magnitude().map_or(0, |power| power + 1).max(0);
    let before_point = usize::try_from(before_point).unwrap_or(usize::MAX).min(digits);
    let sign = usize::from(text.starts_with('-') && digits > 0);
    bytes(before_point.div_ceil(2) + (digits - before_point).div_ceil(2) + 1 + sign)
}

/// How many maps and lists lie within each other at the most.
pub(crate) fn nesting(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::L(values) => 1 + values.iter().map(nesting).max().unwrap_or(0),
        AttributeValue::M(map) => 1 + map.values().map(nesting).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether a value can be a key of a table or index.
///
/// # Errors
/// Another type than the key is declared with, an empty value, or one too long.
pub(crate) fn key_value(value: &AttributeValue, kind: ScalarKind, role: KeyRole) -> Result<(), String> {
    let (found, length) = match value {
        AttributeValue::S(text) => (ScalarKind::S, text.len()),
        AttributeValue::B(blob) => (ScalarKind::B, blob.as_ref().len()),
        AttributeValue::N(_) => (ScalarKind::N, 1),
        _ => return Err(format!("is a key and must be {kind}")),
    };
    key_of(found, length, kind, role)
}

/// Whether a value of this type and length can be a key of a table or index.
///
/// # Errors
/// As [`key_value`].
pub(crate) fn key_of(
    found: ScalarKind,
    length: usize,
    kind: ScalarKind,
    role: KeyRole,
) -> Result<(), String> {
    if found != kind {
        return Err(format!("is a key of type {kind}, not {found}"));
    }
    let limit = match role {
        KeyRole::Hash => KEY_BYTES,
        KeyRole::Range => SORT_KEY_BYTES,
    };
    match length {
        0 => Err("is a key and must not be empty".to_owned()),
        length if length > limit => Err(format!("is a key of {length} bytes, DynamoDB takes {limit}")),
        _ => Ok(()),
    }
}

/// Write units of one write of so many bytes.
pub(crate) fn write_units(size: u64) -> u64 {
    size.div_ceil(1024).max(1)
}

/// Read units of one consistent read of so many bytes.
pub(crate) fn read_units(size: u64) -> u64 {
    size.div_ceil(4096).max(1)
}

/// A length as the sizes are counted in.
pub(crate) fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::primitives::Blob;

    #[test]
    fn numbers_end_where_dynamodb_ends() {
        let digits = |n: usize| "1".repeat(n);
        assert_eq!(number(&digits(38)).unwrap(), digits(38));
        assert!(number(&digits(39)).unwrap_err().contains("39 significant digits"));
        assert_eq!(number("9.9e125").unwrap(), "9.9E125");
        assert!(number("1e126").unwrap_err().contains("too large"));
        assert_eq!(number("-1e-130").unwrap(), "-1E-130");
        assert!(number("1e-131").unwrap_err().contains("near to zero"));
        assert_eq!(number("007.50").unwrap(), "7.5");
        for text in ["0", "-7", "120", "10000000000000000000000000000000000000"] {
            assert_eq!(number(text).unwrap(), Decimal::parse(text).unwrap().to_string());
        }
        for (text, normal) in [("-0", "0"), ("00", "0"), ("01", "1"), ("+1", "1"), ("-012", "-12")] {
            assert_eq!(number(text).unwrap(), normal);
        }
        for text in ["NaN", "Infinity", "-Infinity", "", "-", "+"] {
            assert!(number(text).unwrap_err().contains("no finite number"), "{text}");
        }
    }

    #[test]
    fn sizes_are_counted_as_the_guide_says() {
        let s = |text: &str| AttributeValue::S(text.to_owned());
        assert_eq!(size(&s("äb")), 3);
        for (number, bytes) in
            [("0", 1), ("42", 2), ("-42", 3), ("123", 3), ("1.5", 3), ("100", 2), ("0.001", 2)]
        {
            assert_eq!(size(&AttributeValue::N(number.to_owned())), bytes, "{number}");
        }
        assert_eq!(size(&AttributeValue::B(Blob::new([0; 5]))), 5);
        assert_eq!(size(&AttributeValue::L(vec![s("abc"), AttributeValue::Null(true)])), 3 + 4 + 2);
        assert_eq!(size(&AttributeValue::M([("k".to_owned(), s("abc"))].into())), 3 + 1 + 1 + 3);
    }

    #[test]
    fn keys_have_a_type_and_a_length() {
        let s = |length: usize| AttributeValue::S("x".repeat(length));
        assert!(key_value(&s(2048), ScalarKind::S, KeyRole::Hash).is_ok());
        assert!(key_value(&s(2049), ScalarKind::S, KeyRole::Hash).unwrap_err().contains("2049"));
        assert!(key_value(&s(1024), ScalarKind::S, KeyRole::Range).is_ok());
        assert!(key_value(&s(1025), ScalarKind::S, KeyRole::Range).unwrap_err().contains("1025"));
        assert!(key_value(&s(0), ScalarKind::S, KeyRole::Range).unwrap_err().contains("empty"));
        assert!(key_value(&s(1), ScalarKind::N, KeyRole::Hash).unwrap_err().contains("type N, not S"));
        assert!(key_value(&AttributeValue::Bool(true), ScalarKind::S, KeyRole::Hash).is_err());
    }

    #[test]
    fn units_are_whole_kilobytes() {
        assert_eq!([0, 1, 1024, 1025].map(write_units), [1, 1, 1, 2]);
    }
}
