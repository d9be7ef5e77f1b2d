//! A flow's `into`

use super::langchain::Langchain;
use super::text::{OneOrMany, ScopeValue, TemplateText};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Where a flow's records go, and how.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a flow's `into`"))]
pub struct Into {
    /// The store that is written to.
    #[serde(default)]
    pub store: Option<String>,
    /// The table.
    #[serde(default)]
    pub table: Option<TemplateText>,
    /// A collection in the tables of langchain-postgres.
    #[serde(default)]
    pub langchain: Option<Langchain>,
    /// In a `files` store: the file.
    #[serde(default)]
    pub path: Option<TemplateText>,
    /// How the records are nested in a file.
    #[serde(default)]
    pub shape: Option<Shape>,
    /// The columns that make a record's key; without it, the table's own primary key.
    #[serde(default)]
    pub key: Option<OneOrMany<String>>,
    /// What becomes of a record whose key the target holds already. `insert` if nothing is said.
    #[serde(default)]
    pub mode: WriteMode,
    /// With `update`: whether a record is written only where the target still holds the same-named values that
    /// were read. If nothing is said, where the flow reads the table that it writes.
    #[serde(default)]
    pub guarded: Option<bool>,
    /// What becomes of the second record of one key in one run.
    #[serde(default)]
    pub on_duplicate: OnDuplicate,
    /// With `on_duplicate: last`: the columns, as they go to the target, that say which of several records is
    /// the last; the greatest wins, with ` desc` behind the name the least.
    #[serde(default)]
    pub order: Option<OneOrMany<OrderColumn>>,
    /// The tenant: columns and the values that they have in every record of the flow, `$name` of a variable or
    /// the text itself. Only records in scope are counted, compared and changed.
    #[serde(default)]
    #[schemars(extend("minProperties" = 1, "x-label" = "a flow's `scope`"))]
    pub scope: Option<BTreeMap<String, ScopeValue>>,
    /// What becomes of a NULL.
    #[serde(default)]
    pub nulls: NullRule,
    /// Forms that values take in the target, by column.
    #[serde(default, rename = "as")]
    #[schemars(extend("x-label" = "a flow's `as`"))]
    pub forms: BTreeMap<String, Form>,
    /// Columns and paths in them that are left out of comparison.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// What `changed` compares with. `target` if nothing is said.
    #[serde(default)]
    pub compare: Option<Compare>,
    /// With `changed`: whether records are deleted that the flow no longer yields; needs `run --confirm`.
    #[serde(default)]
    pub delete_missing: bool,
    /// Columns that may lose something on the way.
    #[serde(default)]
    pub allow_lossy: Vec<String>,
    /// How many records and bytes a request or transaction holds. Rarely needed.
    #[serde(default)]
    pub batch: Batch,
}

/// Keys of `into` of which a flow has exactly one: its own displaces the one of `defaults`.
pub(crate) const PLACES: &[&str] = &["table", "langchain", "path"];

/// How the records are nested in a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a flow's `shape`"))]
pub struct Shape {
    /// The column whose values are the keys of one object.
    ///
    /// The object holds a document under each of them; the column itself is not among the document's members.
    #[serde(default)]
    pub object_by: Option<String>,
    /// The column whose values tell the file's documents apart, where each of them is a record of the file.
    #[serde(default)]
    pub records_by: Option<String>,
    /// The list, in its document, of which each record is an element. Without it each record is a document.
    #[serde(default)]
    pub list: Option<String>,
}

/// What becomes of a record whose key the target holds already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// It is a reject.
    #[default]
    Insert,
    /// It takes the place of what the key held.
    Upsert,
    /// It is skipped.
    SkipExisting,
    /// It is written where its content differs.
    Changed,
    /// Its columns are set where the target still holds the same-named values that were read.
    Update,
}

/// What becomes of the second record of one key in one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDuplicate {
    /// It is a reject.
    #[default]
    Reject,
    /// The last one by `order` wins.
    Last,
}

/// A column that says which of several records is the last, as it goes to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderColumn {
    /// The column.
    pub column: String,
    /// Whether the least wins.
    pub descending: bool,
}

impl OrderColumn {
    /// Reads `updated_at`, `updated_at desc` or `updated_at asc`, in any case.
    fn parse(text: &str) -> Self {
        let text = text.trim();
        let (column, direction) = text.rsplit_once(char::is_whitespace).unwrap_or((text, ""));
        match direction.to_ascii_lowercase().as_str() {
            "desc" => Self { column: column.trim_end().to_owned(), descending: true },
            "asc" => Self { column: column.trim_end().to_owned(), descending: false },
            _ => Self { column: text.to_owned(), descending: false },
        }
    }
}

impl<'de> Deserialize<'de> for OrderColumn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::parse(&text))
    }
}

impl JsonSchema for OrderColumn {
    fn schema_name() -> Cow<'static, str> {
        "OrderColumn".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "description": "A column as it goes to the target; the greatest wins, with ` desc` behind it the least.",
        })
    }
}

/// What becomes of a NULL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum NullRule {
    /// The attribute is left out.
    #[default]
    Omit,
    /// The attribute is written as NULL.
    Null,
}

impl<'de> Deserialize<'de> for NullRule {
    /// `null` without quotes is YAML's own null.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Self::Null),
            Value::String(word) if word == "null" => Ok(Self::Null),
            Value::String(word) if word == "omit" => Ok(Self::Omit),
            _ => Err(serde::de::Error::custom("expected `omit` or `null`")),
        }
    }
}

/// What `changed` compares with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// What the target holds.
    #[default]
    Target,
    /// The fingerprints that the last run kept: it trusts that nobody else has written to the table since.
    Journal,
}

/// The form that a value takes in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// An array of texts as a set.
    StringSet,
    /// An array of numbers as a set.
    NumberSet,
    /// An array of bytes as a set.
    BinarySet,
    /// An instant as `2022-02-02T18:01:49.345261000Z`.
    Rfc3339Nanos,
    /// An instant in whole seconds since 1970.
    EpochS,
    /// An instant in whole milliseconds since 1970.
    EpochMs,
    /// An instant as `2022-02-02T18:01:49Z`.
    Rfc3339,
    /// An instant as `2022-02-02T18:01:49.345Z`.
    Rfc3339Millis,
    /// An instant as `2022-02-02T18:01:49.345261Z`.
    Rfc3339Micros,
    /// Any value as text.
    Text,
    /// Text that holds a number, as a number.
    Number,
    /// Bytes.
    Binary,
    /// Text that holds JSON, as what it says.
    Json,
    /// Text that holds a JSON object, as a map.
    Map,
    /// Text that holds a JSON array, or an array, as a list.
    List,
}

impl Form {
    /// The word in the spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StringSet => "string_set",
            Self::NumberSet => "number_set",
            Self::BinarySet => "binary_set",
            Self::Rfc3339Nanos => "rfc3339_nanos",
            Self::EpochS => "epoch_s",
            Self::EpochMs => "epoch_ms",
            Self::Rfc3339 => "rfc3339",
            Self::Rfc3339Millis => "rfc3339_millis",
            Self::Rfc3339Micros => "rfc3339_micros",
            Self::Text => "text",
            Self::Number => "number",
            Self::Binary => "binary",
            Self::Json => "json",
            Self::Map => "map",
            Self::List => "list",
        }
    }
}

/// How much a request or transaction holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a flow's `batch`"))]
pub struct Batch {
    /// Records.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub records: Option<u32>,
    /// Bytes, in the target's own measure.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub bytes: Option<u64>,
}
