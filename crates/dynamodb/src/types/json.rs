//! Attribute values as the API's JSON, written straight into a request's body: what the SDK would write, without
//! a map of owned names and values for each item.

use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Appends a JSON string.
pub(crate) fn text(into: &mut Vec<u8>, text: &str) {
    // Writing into memory cannot fail; a string has no way not to be JSON.
    let _ = serde_json::to_writer(into, text);
}

/// Appends `{"S":"…"}` and its like.
pub(crate) fn value(into: &mut Vec<u8>, value: &AttributeValue) {
    match value {
        AttributeValue::S(string) => typed(into, "S", |into| text(into, string)),
        AttributeValue::N(number) => typed(into, "N", |into| text(into, number)),
        AttributeValue::B(blob) => typed(into, "B", |into| bytes(into, blob.as_ref())),
        AttributeValue::Bool(true) => into.extend(b"{\"BOOL\":true}"),
        AttributeValue::Bool(false) => into.extend(b"{\"BOOL\":false}"),
        AttributeValue::Ss(strings) => {
            typed(into, "SS", |into| list(into, strings, |into, one| text(into, one)));
        }
        AttributeValue::Ns(numbers) => {
            typed(into, "NS", |into| list(into, numbers, |into, one| text(into, one)));
        }
        AttributeValue::Bs(blobs) => {
            typed(into, "BS", |into| list(into, blobs, |into, one| bytes(into, one.as_ref())));
        }
        AttributeValue::L(values) => typed(into, "L", |into| list(into, values, self::value)),
        AttributeValue::M(map) => typed(into, "M", |into| {
            into.push(b'{');
            for (number, (name, one)) in map.iter().enumerate() {
                if number > 0 {
                    into.push(b',');
                }
                text(into, name);
                into.push(b':');
                self::value(into, one);
            }
            into.push(b'}');
        }),
        // NULL; a type that the API gains later never comes from an Arrow column.
        _ => into.extend(b"{\"NULL\":true}"),
    }
}

fn typed(into: &mut Vec<u8>, kind: &str, content: impl FnOnce(&mut Vec<u8>)) {
    into.extend(b"{\"");
    into.extend(kind.as_bytes());
    into.extend(b"\":");
    content(into);
    into.push(b'}');
}

fn bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    into.push(b'"');
    into.extend(BASE64.encode(bytes).as_bytes());
    into.push(b'"');
}

/// Appends a JSON array.
pub(crate) fn list<T>(
    into: &mut Vec<u8>,
    elements: impl IntoIterator<Item = T>,
    append: impl Fn(&mut Vec<u8>, T),
) {
    into.push(b'[');
    for (number, element) in elements.into_iter().enumerate() {
        if number > 0 {
            into.push(b',');
        }
        append(into, element);
    }
    into.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::primitives::Blob;
    use serde_json::{Value, json};

    fn written(value: &AttributeValue) -> Value {
        let mut into = Vec::new();
        super::value(&mut into, value);
        serde_json::from_slice(&into).unwrap()
    }

    #[test]
    fn every_type() {
        let s = |text: &str| AttributeValue::S(text.to_owned());
        let all = AttributeValue::M(
            [
                ("t\"".to_owned(), s("a\"\\\n\u{0}\u{1f}ü😀")),
                ("n".to_owned(), AttributeValue::N("-1E-130".to_owned())),
                ("b".to_owned(), AttributeValue::B(Blob::new([0, 255]))),
                (
                    "l".to_owned(),
                    AttributeValue::L(vec![AttributeValue::Bool(true), AttributeValue::Null(true)]),
                ),
                ("e".to_owned(), AttributeValue::L(Vec::new())),
                ("m".to_owned(), AttributeValue::M([].into())),
                ("ss".to_owned(), AttributeValue::Ss(vec![String::new(), "x".to_owned()])),
                ("ns".to_owned(), AttributeValue::Ns(vec!["1".to_owned()])),
                ("bs".to_owned(), AttributeValue::Bs(vec![Blob::new([]), Blob::new([1])])),
            ]
            .into(),
        );
        let expected = json!({"M": {
            "t\"": {"S": "a\"\\\n\u{0}\u{1f}ü😀"}, "n": {"N": "-1E-130"}, "b": {"B": "AP8="},
            "l": {"L": [{"BOOL": true}, {"NULL": true}]}, "e": {"L": []}, "m": {"M": {}},
            "ss": {"SS": ["", "x"]}, "ns": {"NS": ["1"]}, "bs": {"BS": ["", "AQ=="]},
        }});
        assert_eq!(written(&all), expected);
    }
}
