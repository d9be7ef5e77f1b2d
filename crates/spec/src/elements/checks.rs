//! A flow's `checks`

use super::text::{OneOrMany, Sql};
use schemars::JsonSchema;
use serde::Deserialize;

/// What a record must satisfy: exactly one of `expect` and `required`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a check"))]
pub struct CheckElement {
    /// A condition over the source's columns.
    #[serde(default)]
    pub expect: Option<Sql>,
    /// What a reject says, `{column}` in braces.
    #[serde(default, rename = "else")]
    pub message: Option<String>,
    /// Columns that must be present and not NULL.
    #[serde(default)]
    pub required: Option<OneOrMany<String>>,
}
