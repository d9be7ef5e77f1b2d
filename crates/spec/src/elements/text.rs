//! Texts of the spec by what may stand in them.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $description:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "x-text": $kind, "description": $description })
            }
        }
    };
}

text! {
    /// Text in which `${…}` stands for a variable.
    TemplateText, "template", "Text; `${name}` and `${provider:argument}` stand for values, `:-default` on any."
}
text! {
    /// SQL, in which `$name` is a bound parameter.
    Sql, "sql", "SQL; `$name` is a bound parameter with the value of the variable `name`."
}
text! {
    /// SQL, in which `$name` is a bound parameter and `"${name}"` the name of a table.
    TableSql, "table_sql", "SQL; `$name` is a bound parameter with the value of the variable `name`, and `\"${name}\"` in double quotes a table whose name is that value."
}
text! {
    /// A stretch of time, `5m`.
    DurationText, "duration", "A stretch of time: a whole number with `ms`, `s`, `m`, `h` or `d`, as in `5m`."
}

/// The value of a column in `scope`: `$name` alone stands for a variable, anything else for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeValue(pub String);

/// What a [`ScopeValue`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScopePart<'a> {
    /// `$name`.
    Variable(&'a str),
    /// The text itself.
    Text(&'a str),
}

/// Reads the text of a [`ScopeValue`]; nothing where it is neither `$name` alone nor text without a `$` in front.
pub(crate) fn scope_part(text: &str) -> Option<ScopePart<'_>> {
    let Some(name) = text.strip_prefix('$') else {
        return (!text.contains("${")).then_some(ScopePart::Text(text));
    };
    if name.starts_with('$') {
        return Some(ScopePart::Text(name));
    }
    let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_name.then_some(ScopePart::Variable(name))
}

impl<'de> Deserialize<'de> for ScopeValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).map(|value| Self(value.0))
    }
}

impl JsonSchema for ScopeValue {
    fn schema_name() -> Cow<'static, str> {
        "ScopeValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "string", "x-text": "scope" }, { "type": "number" }, { "type": "boolean" }],
            "description": "`$name` of a variable, or the text itself; `$$` in front stands for `$`.",
        })
    }
}

/// A value of a variable: text, a number or a truth value, kept as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar(pub String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            Value::Bool(value) => Ok(Self(value.to_string())),
            _ => Err(serde::de::Error::custom("expected text, a number or a truth value")),
        }
    }
}

impl JsonSchema for Scalar {
    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = generator.subschema_for::<TemplateText>();
        json_schema!({ "anyOf": [text, { "type": "number" }, { "type": "boolean" }] })
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OneOrMany<T> {
    /// Written without a list.
    One(T),
    /// Written as a list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The values, one or many.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }

    /// Whether it is written as a list.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(self, Self::Many(_))
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = match value {
            Value::Array(_) => serde_json::from_value(value).map(Self::Many),
            _ => serde_json::from_value(value).map(Self::One),
        };
        read.map_err(serde::de::Error::custom)
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}_or_list", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}
