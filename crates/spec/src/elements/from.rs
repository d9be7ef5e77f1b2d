//! A flow's `from`

use super::text::{OneOrMany, Sql, TemplateText};
use schemars::JsonSchema;
use serde::Deserialize;

/// What a flow reads: a store, and exactly one of `table`, `query`, `collection` and `path`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a flow's `from`"))]
pub struct From {
    /// The store that is read.
    #[serde(default)]
    pub store: Option<String>,
    /// The table, in the store's own way of naming.
    #[serde(default)]
    pub table: Option<TemplateText>,
    /// A query in the store's own SQL; `{slice}` in it marks where a slice's condition goes.
    #[serde(default)]
    pub query: Option<Sql>,
    /// A Chroma collection: `docs`, `database/docs`, or `tenant/database/docs`.
    #[serde(default)]
    pub collection: Option<TemplateText>,
    /// In a `files` store: a file, a folder of files of one format, or an export of a DynamoDB table.
    #[serde(default)]
    pub path: Option<TemplateText>,
    /// `flows`: what the run itself has done, one record a flow; no `store`.
    #[serde(default)]
    pub run: Option<String>,
    /// Which records, in whimbrel's SQL.
    #[serde(default, rename = "where")]
    pub filter: Option<Sql>,
    /// The columns by whose ranges it is cut into slices; without it, the primary key.
    #[serde(default)]
    pub slice_by: Option<OneOrMany<String>>,
    /// A path into a record, `$.tokens[*]`; each element that it finds becomes a record.
    #[serde(default)]
    pub each: Option<String>,
    /// The column that takes the keys, where `each` finds objects by key.
    #[serde(default)]
    pub key_as: Option<String>,
}

/// Keys of `from` of which a flow has exactly one: its own displaces the one of `defaults`.
pub(crate) const RELATIONS: &[&str] = &["table", "query", "collection", "path", "run"];
