//! A flow's `into: { langchain: … }`

use super::text::{ScopeValue, TemplateText};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A collection in the tables of langchain-postgres, which that library's `PGVector` searches.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a flow's `langchain`"))]
pub struct Langchain {
    /// The collection's name, by which the library is opened.
    pub collection: TemplateText,
    /// Its UUID, where the target has a collection of that name already; without it, one that follows from the name.
    #[serde(default)]
    pub uuid: Option<TemplateText>,
    /// The schema of the two tables; without it, the first of the search path.
    #[serde(default)]
    pub schema: Option<TemplateText>,
    /// How many floats a vector has; the source's must be the same. Without it, as many as the source says.
    #[serde(default)]
    #[schemars(range(min = 1, max = 16_000))]
    pub dimension: Option<u32>,
    /// By which distance vectors are searched; the source's must be the same. Without it, the source's.
    #[serde(default)]
    pub metric: Option<MetricWord>,
    /// The index over the vectors that is made behind the load. Without it, none.
    #[serde(default)]
    pub index: IndexWord,
    /// What is put into the metadata of every record, `$name` of a variable or the text itself.
    #[serde(default)]
    #[schemars(extend("x-label" = "a flow's `metadata`"))]
    pub metadata: BTreeMap<String, ScopeValue>,
}

/// A distance between vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricWord {
    /// Euclidean, `DistanceStrategy.EUCLIDEAN`.
    L2,
    /// From the cosine of the angle, `DistanceStrategy.COSINE`.
    Cosine,
    /// From the inner product, `DistanceStrategy.MAX_INNER_PRODUCT`.
    Ip,
}

/// An index over vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IndexWord {
    /// None: every search looks at all vectors, and finds all that there is to be found.
    #[default]
    None,
    /// A graph of neighbours.
    Hnsw,
    /// Lists around centres.
    Ivfflat,
}
