//! The receipt is as its schema says. Of JSON Schema this knows the few words that the schema uses.

use crate::fixture::{plain, report};
use serde_json::{Value, json};

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../../docs/schemas/receipt.schema.json")).unwrap()
}

/// What does not fit, each with its place.
fn misfits(root: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let Some(words) = schema.as_object() else { return Vec::new() };
    let mut found = Vec::new();
    for (word, wanted) in words {
        let fits = match word.as_str() {
            "$ref" => {
                let name = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                found.extend(misfits(root, root.pointer(name).unwrap(), value, place));
                true
            }
            "type" => match wanted {
                Value::Array(types) => types.iter().any(|wanted| is_a(wanted, value)),
                wanted => is_a(wanted, value),
            },
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|value| value >= wanted.as_f64().unwrap()),
            "required" => {
                wanted.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some())
            }
            "properties" => {
                for (name, member) in value.as_object().into_iter().flatten() {
                    match wanted.get(name) {
                        Some(schema) => {
                            found.extend(misfits(root, schema, member, &format!("{place}/{name}")));
                        }
                        None => found.push(format!("{place}/{name} is not in the schema")),
                    }
                }
                schema["additionalProperties"] == json!(false)
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(misfits(root, wanted, item, &format!("{place}/{index}")));
                }
                true
            }
            "anyOf" => {
                let fitting = |schema| misfits(root, schema, value, place).is_empty();
                wanted.as_array().unwrap().iter().any(fitting)
            }
            "pattern" => matches_hex(wanted.as_str().unwrap(), value.as_str().unwrap_or_default()),
            "minItems" | "maxItems" => {
                let items = value.as_array().map_or(0, Vec::len);
                let wanted = usize::try_from(wanted.as_u64().unwrap()).unwrap();
                if word == "minItems" { items >= wanted } else { items <= wanted }
            }
            "additionalProperties" | "description" | "title" | "$schema" | "$id" | "$defs" => true,
            word => panic!("the test does not know the word {word}"),
        };
        if !fits {
            found.push(format!("{place}: {word} {wanted} against {value}"));
        }
    }
    found
}

fn is_a(wanted: &Value, value: &Value) -> bool {
    match wanted.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}

/// The two patterns of the schema: 64 hexadecimal digits, with and without a name before them.
fn matches_hex(pattern: &str, text: &str) -> bool {
    let digits = match pattern {
        "^[0-9a-f]{64}$" => Some(text),
        "^blake3:[0-9a-f]{64}$" => text.strip_prefix("blake3:"),
        other => panic!("the test does not know the pattern {other}"),
    };
    digits.is_some_and(|digits| {
        digits.len() == 64 && digits.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
    })
}

#[test]
fn the_receipt_fits_its_schema() {
    let schema = schema();
    let full = whimbrel_report::receipt(&report(&plain));
    assert_eq!(misfits(&schema, &schema, &full, ""), Vec::<String>::new());
    let mut alone = report(&plain);
    (alone.run, alone.environment) = (None, None);
    let alone = whimbrel_report::receipt(&alone);
    assert_eq!(misfits(&schema, &schema, &alone, ""), Vec::<String>::new());
}

#[test]
fn the_schema_refuses_other_documents() {
    let schema = schema();
    let full = whimbrel_report::receipt(&report(&plain));
    let changes: [(&str, Value); 5] = [
        ("/schema", json!("whimbrel-receipt/2")),
        ("/digest", json!("blake3:00")),
        ("/run/totals/read", json!(-1)),
        ("/run/flows/0/counts", json!({"read": 1})),
        ("/verification/depth", json!({"kind": "all", "more": 1})),
    ];
    for (place, wrong) in changes {
        let mut changed = full.clone();
        *changed.pointer_mut(place).unwrap() = wrong;
        assert!(!misfits(&schema, &schema, &changed, "").is_empty(), "{place}");
    }
}
