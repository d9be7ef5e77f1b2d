//! `flows` and `defaults`

use super::checks::CheckElement;
use super::from::From;
use super::into::Into;
use super::text::{OneOrMany, Sql};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One stream of records from a source, through a transform, into a target.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a flow"))]
pub struct Flow {
    /// A name for several flows, for `--only` and for `verify`.
    #[serde(default)]
    #[schemars(extend("x-text" = "name"))]
    pub group: Option<String>,
    /// The flows that must be complete before this one, or `all`.
    #[serde(default)]
    pub after: Option<After>,
    /// Whether it runs only when it is named.
    #[serde(default)]
    pub manual: bool,
    /// What is read.
    #[serde(default)]
    pub from: Option<From>,
    /// Types of the source's columns where they are not as they should be; names as the source has them.
    #[serde(default)]
    #[schemars(extend("x-label" = "a flow's `columns`"))]
    pub columns: BTreeMap<String, ColumnType>,
    /// What every record must satisfy; one that does not becomes a reject.
    #[serde(default)]
    pub checks: Vec<CheckElement>,
    /// `SELECT … FROM input`, row by row: a projection over a filter.
    #[serde(default)]
    pub transform: Option<Sql>,
    /// How `plan` shows a record in a line, `{column}` in braces.
    #[serde(default)]
    pub sample: Option<String>,
    /// Where records go; a list sends each of them to several targets.
    #[serde(default)]
    pub into: Option<OneOrMany<Into>>,
}

/// Merged into every flow; a flow's own keys win.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "`defaults`"))]
pub struct Defaults {
    /// What every flow's `from` begins with.
    #[serde(default)]
    pub from: Option<From>,
    /// What every flow's `into` begins with.
    #[serde(default)]
    pub into: Option<Into>,
}

/// Which flows come first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Every flow that does not itself wait for this one.
    All,
    /// These.
    Flows(Vec<String>),
}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(all) if all == "all" => Ok(Self::All),
            list => serde_json::from_value(list).map(Self::Flows).map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for After {
    fn schema_name() -> Cow<'static, str> {
        "After".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "const": "all" },
            { "type": "array", "items": { "type": "string" } },
        ] })
    }
}

/// The type as which a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Text.
    Text,
    /// A JSON document, every digit kept.
    Json,
    /// True or false.
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// An exact decimal number of any size.
    Number,
    /// A floating-point number of 64 bits.
    Float,
    /// An instant.
    Timestamp,
    /// A calendar date.
    Date,
    /// A UUID.
    Uuid,
    /// Bytes.
    Binary,
}

impl ColumnType {
    /// The word in the spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Float => "float",
            Self::Timestamp => "timestamp",
            Self::Date => "date",
            Self::Uuid => "uuid",
            Self::Binary => "binary",
        }
    }
}
