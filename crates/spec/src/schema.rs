//! The JSON Schema of the language.

use crate::elements::Document;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// The JSON Schema (2020-12) of a spec, with descriptions: what `whimbrel schema` prints and editors read.
///
/// `x-` keys say what JSON Schema has no word for; validators ignore them.
#[must_use]
pub fn json_schema() -> Value {
    let generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Document>().to_value();
    refuse_null(&mut schema);
    schema
}

/// An optional key may be left out; it may not be there without a value. (Rust's `Option` says *or null*.)
fn refuse_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(refuse_null),
        Value::Object(object) => {
            object.values_mut().for_each(refuse_null);
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            unwrap_optional(object);
        }
        _ => {}
    }
}

fn unwrap_optional(object: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = object.get_mut("anyOf") else { return };
    let is_null = |schema: &Value| schema.get("type").is_some_and(|name| name == "null");
    let before = alternatives.len();
    alternatives.retain(|alternative| !is_null(alternative));
    if let ([Value::Object(only)], true) = (alternatives.as_slice(), alternatives.len() < before) {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(value: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
            Value::Object(object) => {
                visit(object);
                object.values().for_each(|value| walk(value, visit));
            }
            _ => {}
        }
    }

    #[test]
    fn every_key_is_described_and_none_may_be_null() {
        let schema = json_schema();
        let mut properties = 0;
        walk(&schema, &mut |object| {
            assert_ne!(object.get("type"), Some(&Value::from("null")), "{object:?}");
            let Some(Value::Object(described)) = object.get("properties") else { return };
            assert_eq!(object.get("additionalProperties"), Some(&Value::Bool(false)), "{object:?}");
            for (name, property) in described {
                properties += 1;
                assert!(property.get("description").is_some(), "`{name}` has no description");
            }
        });
        assert!(properties > 80, "{properties}");
    }

    #[test]
    fn the_top_level_is_the_language() {
        let schema = json_schema();
        let keys: Vec<_> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        insta::assert_json_snapshot!(keys, @r#"
        [
          "migration",
          "variables",
          "environments",
          "stores",
          "defaults",
          "flows",
          "unmatched",
          "verify",
          "limits",
          "prices",
          "undo"
        ]
        "#);
        insta::assert_json_snapshot!(schema["required"], @r#"
        [
          "migration",
          "stores",
          "flows"
        ]
        "#);
        insta::assert_json_snapshot!(schema["properties"]["undo"], @r#"
        {
          "type": "boolean",
          "description": "Whether before-images are journalled, so that the run can be undone.",
          "default": false
        }
        "#);
    }
}
