//! `verify`

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// A rule of verification, by exactly one of its kinds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a verify rule"))]
pub struct VerifyElement {
    /// Both sides of each flow hold as many records.
    #[serde(default)]
    pub count: bool,
    /// Both sides hold the same records: `all`, or so many of them.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "verify rules of today: `count: true`"))]
    pub records: Option<Value>,
    /// The flows or groups that the rule is about; without it, all.
    #[serde(default)]
    pub only: Option<Vec<String>>,
    /// A query whose one value is compared.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "verify rules of today: `count: true`"))]
    pub sql: Option<String>,
    /// The store in whose own SQL `sql` is written.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "it belongs to `sql`; verify rules of today: `count: true`"))]
    pub store: Option<String>,
    /// The value that is expected.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "it belongs to `sql`; verify rules of today: `count: true`"))]
    pub equals: Option<Value>,
    /// What a report calls the rule.
    #[serde(default)]
    pub name: Option<String>,
    /// Two queries must yield the same: what they yield.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "verify rules of today: `count: true`"))]
    pub compare: Option<String>,
    /// The column by which the two are matched.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "it belongs to `compare`; verify rules of today: `count: true`"))]
    pub by: Option<String>,
    /// One query.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "it belongs to `compare`; verify rules of today: `count: true`"))]
    pub left: Option<String>,
    /// The other query.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "it belongs to `compare`; verify rules of today: `count: true`"))]
    pub right: Option<String>,
    /// Columns that hold no NULL and no empty text.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "verify rules of today: `count: true`"))]
    pub not_empty: Option<Vec<String>>,
    /// Columns that hold JSON.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "verify rules of today: `count: true`"))]
    pub json: Option<Vec<String>>,
    /// A flow of vectors whose nearest neighbours must be the same on both sides.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "verify rules of today: `count: true`"))]
    pub overlap: Option<String>,
    /// How many neighbours are compared.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "it belongs to `overlap`; verify rules of today: `count: true`"))]
    pub top: Option<u32>,
    /// The share of neighbours, 0 to 1, that must be the same.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "it belongs to `overlap`; verify rules of today: `count: true`"))]
    pub at_least: Option<f64>,
    /// Texts that are looked for.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "it belongs to `overlap`; verify rules of today: `count: true`"))]
    pub queries: Option<Vec<String>>,
    /// The endpoint that turns texts into vectors.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "it belongs to `overlap`; verify rules of today: `count: true`"))]
    pub embed: Option<Value>,
    /// How many stored vectors are looked for.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "it belongs to `overlap`; verify rules of today: `count: true`"))]
    pub stored: Option<u32>,
    /// A flow of vectors whose searches are timed.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "verify rules of today: `count: true`"))]
    pub latency: Option<String>,
    /// How long a search may take on the average, in milliseconds.
    #[serde(default)]
    #[schemars(extend("x-not-yet" = "it belongs to `latency`; verify rules of today: `count: true`"))]
    pub average_ms: Option<f64>,
}
