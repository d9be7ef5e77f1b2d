//! `verify`

use super::text::{OneOrMany, ScopeValue, TableSql, TemplateText};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;

/// The most records that a sample may ask for; whoever wants more writes `all`.
const LARGEST_SAMPLE: u64 = 1_000_000_000_000;

/// A rule of verification, by exactly one of its kinds: `count`, `records`, `sql`, `compare`, `not_empty`, `json`, `overlap`,
/// `latency`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a verify rule"))]
pub struct VerifyElement {
    /// Both sides of each flow hold as many records.
    #[serde(default)]
    pub count: bool,
    /// Both sides hold the same records: `all`, or so many of them.
    #[serde(default)]
    pub records: Option<Records>,
    /// The flows or groups that `count` or `records` is about; without it, all.
    #[serde(default)]
    pub only: Option<Vec<String>>,
    /// A query whose one value is compared, or that must yield no rows.
    #[serde(default)]
    pub sql: Option<TableSql>,
    /// The store in whose own SQL `sql` is written; without it, every store is a schema.
    #[serde(default)]
    pub store: Option<String>,
    /// The value that is expected: of `sql`, or of every record in the columns of `not_empty`.
    #[serde(default)]
    pub equals: Option<ScopeValue>,
    /// The number that the one of `sql` must be less than.
    #[serde(default)]
    pub less: Option<ScopeValue>,
    /// The number that the one of `sql` must be less than or equal to.
    #[serde(default)]
    pub less_or_equal: Option<ScopeValue>,
    /// The number that the one of `sql` must be greater than.
    #[serde(default)]
    pub greater: Option<ScopeValue>,
    /// The number that the one of `sql` must be greater than or equal to.
    #[serde(default)]
    pub greater_or_equal: Option<ScopeValue>,
    /// The query of `sql` finds nothing.
    #[serde(default)]
    pub no_rows: bool,
    /// What a report calls the rule.
    #[serde(default)]
    pub name: Option<String>,
    /// Two queries must yield the same: what a report calls it.
    #[serde(default)]
    pub compare: Option<String>,
    /// The columns by which the rows of the two are matched.
    #[serde(default)]
    pub by: Option<OneOrMany<String>>,
    /// One query.
    #[serde(default)]
    pub left: Option<TableSql>,
    /// The other query.
    #[serde(default)]
    pub right: Option<TableSql>,
    /// Columns that hold no NULL and no empty text, `store.table.column`.
    #[serde(default)]
    pub not_empty: Option<OneOrMany<TemplateText>>,
    /// Columns that hold JSON objects or lists, `store.table.column`.
    #[serde(default)]
    pub json: Option<OneOrMany<TemplateText>>,
    /// A flow of vectors whose nearest neighbours must be the same on both sides.
    #[serde(default)]
    pub overlap: Option<String>,
    /// How many neighbours are looked for; 5 where nothing is said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000))]
    pub top: Option<u32>,
    /// The share of neighbours, 0 to 1, that must be the same; 0.8 where nothing is said.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub at_least: Option<f64>,
    /// Texts that are looked for, instead of stored vectors.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub queries: Option<Vec<String>>,
    /// The endpoint that turns texts into vectors.
    #[serde(default)]
    pub embed: Option<Embed>,
    /// How many stored vectors are looked for; 100 where nothing is said.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100_000))]
    pub stored: Option<u32>,
    /// A flow of vectors whose searches are timed.
    #[serde(default)]
    pub latency: Option<String>,
    /// How long a search may take on the average, in milliseconds.
    #[serde(default)]
    pub average_ms: Option<f64>,
}

/// An endpoint that turns texts into vectors, of the shape of Voyage's.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a verify rule's `embed`"))]
pub struct Embed {
    /// Its URL, up to `/embeddings`; Voyage's own where nothing is said.
    #[serde(default)]
    pub url: Option<TemplateText>,
    /// The model, which must be the one that made the stored vectors.
    pub model: TemplateText,
    /// What lets us in; shown nowhere.
    pub key: TemplateText,
}

/// How many records are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// Every one.
    All,
    /// So many, chosen by key.
    Sample(u64),
}

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(all) if all == "all" => Ok(Self::All),
            number => serde_json::from_value(number).map(Self::Sample).map_err(serde::de::Error::custom),
        }
    }
}

impl JsonSchema for Records {
    fn schema_name() -> Cow<'static, str> {
        "Records".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "const": "all" },
            { "type": "integer", "minimum": 1, "maximum": LARGEST_SAMPLE },
        ] })
    }
}

impl VerifyElement {
    /// The kinds that it has; a rule that is in order has one.
    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        let all = [
            ("count", self.count),
            ("records", self.records.is_some()),
            ("sql", self.sql.is_some()),
            ("compare", self.compare.is_some()),
            ("not_empty", self.not_empty.is_some()),
            ("json", self.json.is_some()),
            ("overlap", self.overlap.is_some()),
            ("latency", self.latency.is_some()),
        ];
        all.into_iter().filter_map(|(kind, there)| there.then_some(kind)).collect()
    }

    /// The keys that it has beside its kind, each with the kinds that it can belong to.
    pub(crate) fn beside(&self) -> Vec<(&'static str, &'static [&'static str])> {
        let all: [(_, _, &'static [&'static str]); 18] = [
            ("only", self.only.is_some(), &["count", "records"]),
            ("store", self.store.is_some(), &["sql"]),
            ("equals", self.equals.is_some(), &["sql", "not_empty"]),
            ("less", self.less.is_some(), &["sql"]),
            ("less_or_equal", self.less_or_equal.is_some(), &["sql"]),
            ("greater", self.greater.is_some(), &["sql"]),
            ("greater_or_equal", self.greater_or_equal.is_some(), &["sql"]),
            ("no_rows", self.no_rows, &["sql"]),
            ("by", self.by.is_some(), &["compare"]),
            ("left", self.left.is_some(), &["compare"]),
            ("right", self.right.is_some(), &["compare"]),
            (
                "name",
                self.name.is_some(),
                &["count", "records", "sql", "not_empty", "json", "overlap", "latency"],
            ),
            ("top", self.top.is_some(), &["overlap", "latency"]),
            ("stored", self.stored.is_some(), &["overlap", "latency"]),
            ("queries", self.queries.is_some(), &["overlap", "latency"]),
            ("embed", self.embed.is_some(), &["overlap", "latency"]),
            ("at_least", self.at_least.is_some(), &["overlap"]),
            ("average_ms", self.average_ms.is_some(), &["latency"]),
        ];
        all.into_iter().filter_map(|(key, there, kinds)| there.then_some((key, kinds))).collect()
    }

    /// What the one value of `sql` is compared with, by the key that says how.
    pub(crate) fn expected(&self) -> Vec<(&'static str, &ScopeValue)> {
        let all = [
            ("equals", &self.equals),
            ("less", &self.less),
            ("less_or_equal", &self.less_or_equal),
            ("greater", &self.greater),
            ("greater_or_equal", &self.greater_or_equal),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))).collect()
    }
}
