//! Attribute values for people, for fingerprints, and out of JSON.

use crate::limits;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value};
use std::cmp::Ordering;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::decimal::Decimal;

/// A JSON value as DynamoDB holds it; numbers keep every digit.
///
/// # Errors
/// A number out of DynamoDB's reach.
pub(crate) fn from_json(value: Value) -> Result<AttributeValue, String> {
    Ok(match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(value) => AttributeValue::Bool(value),
        Value::Number(number) => AttributeValue::N(limits::number(number.as_str())?),
        Value::String(text) => AttributeValue::S(text),
        Value::Array(values) => {
            AttributeValue::L(values.into_iter().map(from_json).collect::<Result<_, _>>()?)
        }
        Value::Object(map) => {
            if map.contains_key("") {
                return Err("has a key of no characters, which DynamoDB does not hold".to_owned());
            }
            let entry = |(name, value)| Ok((name, from_json(value)?));
            AttributeValue::M(map.into_iter().map(entry).collect::<Result<_, String>>()?)
        }
    })
}

/// The value in plain JSON, as a person would write it: sets are arrays, bytes are base64. Values that are the
/// same have the same JSON: numbers in normal form, the elements of sets and the names of maps in order.
pub(crate) fn preview(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => Value::String(text.clone()),
        AttributeValue::N(text) => number(text),
        AttributeValue::B(blob) => Value::String(BASE64.encode(blob)),
        AttributeValue::Bool(value) => Value::Bool(*value),
        AttributeValue::Ss(texts) => {
            let mut texts: Vec<_> = texts.iter().map(String::as_str).collect();
            texts.sort_unstable();
            texts.into_iter().collect()
        }
        AttributeValue::Ns(texts) => {
            let mut texts: Vec<_> = texts.iter().map(|text| normal(text)).collect();
            texts.sort_unstable_by(|one, other| in_order(one, other));
            texts.iter().map(|text| number(text)).collect()
        }
        AttributeValue::Bs(blobs) => {
            let mut blobs: Vec<_> = blobs.iter().map(AsRef::<[u8]>::as_ref).collect();
            blobs.sort_unstable();
            blobs.into_iter().map(|blob| Value::String(BASE64.encode(blob))).collect()
        }
        AttributeValue::L(values) => values.iter().map(preview).collect(),
        AttributeValue::M(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            Value::Object(
                entries
                    .into_iter()
                    .map(|(name, value)| (name.clone(), preview(value)))
                    .collect::<Map<_, _>>(),
            )
        }
        _ => Value::Null,
    }
}

fn normal(text: &str) -> String {
    Decimal::parse(text).map_or_else(|| text.to_owned(), |decimal| decimal.to_string())
}

/// By size, as far as a float tells, which is enough to show numbers in an order.
fn in_order(one: &str, other: &str) -> Ordering {
    let size = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
    size(one).total_cmp(&size(other)).then_with(|| one.cmp(other))
}

fn number(text: &str) -> Value {
    let text = normal(text);
    text.parse::<Number>().map_or_else(|_| Value::String(text.clone()), Value::Number)
}

/// Whether two values are the same: numbers by value, sets whatever their order.
pub(crate) fn same(one: &AttributeValue, other: &AttributeValue) -> bool {
    let form = |value| {
        let mut form = Canonical::default();
        canonical(&mut form, value);
        form
    };
    one == other || form(one).bytes() == form(other).bytes()
}

/// Appends the value in canonical form.
pub(crate) fn canonical(into: &mut Canonical, value: &AttributeValue) {
    match value {
        AttributeValue::S(text) => into.text(text),
        AttributeValue::N(text) => into.number(text),
        AttributeValue::B(blob) => into.binary(blob.as_ref()),
        AttributeValue::Bool(value) => into.bool(*value),
        AttributeValue::Ss(texts) => into.set(texts, |one, text| one.text(text)),
        AttributeValue::Ns(texts) => into.set(texts, |one, text| one.number(text)),
        AttributeValue::Bs(blobs) => into.set(blobs, |one, blob| one.binary(blob.as_ref())),
        AttributeValue::L(values) => {
            into.list(values.len());
            values.iter().for_each(|value| canonical(into, value));
        }
        AttributeValue::M(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            into.map(entries.len());
            for (name, value) in entries {
                into.key(name);
                canonical(into, value);
            }
        }
        // NULL; a type that the API gains later never comes from an Arrow column.
        _ => into.null(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::primitives::Blob;
    use serde_json::json;

    #[test]
    fn what_is_the_same_is_shown_the_same() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let numbers = |numbers: &[&str]| AttributeValue::Ns(texts(numbers));
        for (one, other, shown) in [
            (AttributeValue::N("1.50".into()), AttributeValue::N("15E-1".into()), json!(1.5)),
            (numbers(&["10", "2.0", "-3"]), numbers(&["2", "-3", "1E1"]), json!([-3, 2, 10])),
            (AttributeValue::Ss(texts(&["b", ""])), AttributeValue::Ss(texts(&["", "b"])), json!(["", "b"])),
            (
                AttributeValue::Bs(vec![Blob::new([255]), Blob::new([0])]),
                AttributeValue::Bs(vec![Blob::new([0]), Blob::new([255])]),
                json!(["AA==", "/w=="]),
            ),
        ] {
            assert!(same(&one, &other));
            assert_eq!(
                (preview(&one).to_string(), preview(&other).to_string()),
                (shown.to_string(), shown.to_string())
            );
        }
        let digits = "12345678901234567890123456789012345678";
        assert_eq!(preview(&AttributeValue::N(digits.into())).to_string(), digits);
    }
}
