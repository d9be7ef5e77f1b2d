//! The receipt: a report for programs, signed off by a digest over itself.
//!
//! `digest` is BLAKE3 over the rest of the document in the form of RFC 8785 (JSON Canonicalization Scheme): members
//! sorted, no spaces, numbers and texts in one way. Every number in a receipt is an integer below 2^53 or a decimal
//! of at most six places, so that a program in any language comes to the same bytes.

use crate::report::Report;
use serde_json::{Map, Value, json};

/// The name of the format; another number is another format.
pub const SCHEMA: &str = "whimbrel-receipt/1";

/// The report as a receipt.
#[must_use]
pub fn receipt(report: &Report) -> Value {
    let mut document = Map::new();
    document.insert("schema".to_owned(), json!(SCHEMA));
    if let Ok(Value::Object(members)) = serde_json::to_value(report) {
        document.extend(members);
    }
    let digest = digest(&document);
    document.insert("digest".to_owned(), json!(digest));
    Value::Object(document)
}

/// Whether a receipt is as it was when it was signed off.
#[must_use]
pub fn is_unchanged(receipt: &Value) -> bool {
    let Value::Object(document) = receipt else { return false };
    let mut rest = document.clone();
    let signed = rest.shift_remove("digest");
    signed.is_some_and(|signed| signed == json!(digest(&rest)))
}

fn digest(document: &Map<String, Value>) -> String {
    let mut text = String::new();
    members(document, &mut text);
    format!("blake3:{}", blake3::hash(text.as_bytes()).to_hex())
}

fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Number(number) => text.push_str(&canonical_number(&number.to_string())),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                canonical(item, text);
            }
            text.push(']');
        }
        Value::Object(object) => members(object, text),
        // serde_json writes texts as RFC 8785 wants them.
        Value::Null | Value::Bool(_) | Value::String(_) => text.push_str(&value.to_string()),
    }
}

fn members(object: &Map<String, Value>, text: &mut String) {
    let mut members: Vec<_> = object.iter().collect();
    members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
    text.push('{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        text.push_str(if index > 0 { "," } else { "" });
        canonical(&Value::String(name.clone()), text);
        text.push(':');
        canonical(value, text);
    }
    text.push('}');
}

/// As ECMAScript writes it. Rust writes the same shortest digits, but no exponents.
fn canonical_number(number: &str) -> String {
    let Ok(value) = number.parse::<f64>() else { return number.to_owned() };
    if value == 0.0 {
        return "0".to_owned();
    }
    if (1e-6..1e21).contains(&value.abs()) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    if text.contains("e-") { text } else { text.replace('e', "e+") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_is_that_of_rfc_8785() {
        let value: Value = serde_json::from_str(
            r#"{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000001, 1e-7, 0, -0.0, 1.0],
                "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false],
                "\ufb33": 1, "\ud83d\ude00": 2, "\u20ac": 3}"#,
        )
        .unwrap();
        let mut text = String::new();
        canonical(&value, &mut text);
        assert_eq!(
            text,
            "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,0.000001,1e-7,0,0,1],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\",\"€\":3,\"😀\":2,\"\u{fb33}\":1}"
        );
    }

    #[test]
    fn a_change_breaks_the_digest() {
        let mut document = Map::new();
        document.insert("b".to_owned(), json!(1.50));
        document.insert("a".to_owned(), json!([{"y": 1, "x": "…"}]));
        let digest = digest(&document);
        document.insert("digest".to_owned(), json!(digest));
        let mut signed = Value::Object(document);
        assert!(is_unchanged(&signed));
        let elsewhere: Value =
            serde_json::from_str(&json!({"digest": digest, "a": [{"x": "…", "y": 1}], "b": 1.5}).to_string())
                .unwrap();
        assert!(is_unchanged(&elsewhere), "order and layout do not matter");
        signed["a"][0]["y"] = json!(2);
        assert!(!is_unchanged(&signed));
        assert!(!is_unchanged(&json!({"a": 1})) && !is_unchanged(&json!([])));
    }
}
