//! The distance metric of a collection, which each line of versions keeps elsewhere.

use super::{has_column, has_table};
use crate::error::Outcome;
use rusqlite::{Connection, OptionalExtension as _};
use serde_json::Value;
use std::fmt;

/// How far apart two embeddings are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// The squared Euclidean distance.
    L2,
    /// One less the cosine. The index holds such embeddings normalised.
    Cosine,
    /// One less the inner product.
    InnerProduct,
    /// One that this version of whimbrel does not know, by Chroma's word.
    Other(String),
}

impl Metric {
    pub(crate) fn of_word(word: &str) -> Self {
        match word {
            "l2" => Self::L2,
            "cosine" => Self::Cosine,
            "ip" => Self::InnerProduct,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Chroma's own word.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::L2 => "l2",
            Self::Cosine => "cosine",
            Self::InnerProduct => "ip",
            Self::Other(word) => word,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The metric that a collection's index was built with.
///
/// The segment's own setting of 0.4 to 0.6 goes before what later versions keep with the collection: a configuration
/// that was changed afterwards changes no index. What the collection's metadata says is the user's, and 0.5.4 to 0.6.3
/// write `l2` into a configuration of theirs whatever the metric is.
pub(crate) fn metric(
    connection: &Connection,
    collection: &str,
    vector_segment: Option<&str>,
) -> Outcome<Metric> {
    if let Some(segment) =
        vector_segment.filter(|_| has_table(connection, "segment_metadata").unwrap_or(false))
    {
        let sql = "SELECT str_value FROM segment_metadata WHERE segment_id = ?1 AND key = 'hnsw:space'";
        let word = connection.query_row(sql, [segment], |row| row.get::<_, Option<String>>(0)).optional()?;
        if let Some(word) = word.flatten() {
            return Ok(Metric::of_word(&word));
        }
    }
    for (column, found) in
        [("schema_str", in_schema as fn(&Value) -> Option<&str>), ("config_json_str", in_config)]
    {
        if !has_column(connection, "collections", column)? {
            continue;
        }
        let sql = format!("SELECT {column} FROM collections WHERE id = ?1");
        let text: Option<String> = connection.query_row(&sql, [collection], |row| row.get(0))?;
        let value: Option<Value> = text.and_then(|text| serde_json::from_str(&text).ok());
        if let Some(word) = value.as_ref().and_then(found) {
            return Ok(Metric::of_word(word));
        }
    }
    Ok(Metric::L2)
}

/// As 1.3 and later keep it.
fn in_schema(schema: &Value) -> Option<&str> {
    let space = |lists: &Value| lists.pointer("/float_list/vector_index/config/space").is_some();
    let own = schema.pointer("/keys/#embedding").filter(|own| space(own));
    let lists = own.or_else(|| schema.get("defaults"))?;
    let config = lists.pointer("/float_list/vector_index/config")?;
    let nested = || config.get("hnsw").or_else(|| config.get("spann"))?.get("space");
    config.get("space").or_else(nested)?.as_str()
}

/// As 1.0 to 1.2 keep it.
fn in_config(config: &Value) -> Option<&str> {
    let index = config.get("vector_index")?;
    index.get("hnsw").or_else(|| index.get("spann"))?.get("space")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_line_of_versions_keeps_it_elsewhere() {
        let schema = |space: &str| json!({"float_list": {"vector_index": {"config": {"space": space}}}});
        let both = json!({"defaults": schema("l2"), "keys": {"#embedding": schema("cosine")}});
        assert_eq!(in_schema(&both), Some("cosine"));
        assert_eq!(in_schema(&json!({"defaults": schema("ip"), "keys": {}})), Some("ip"));
        assert_eq!(in_schema(&json!({})), None);
        assert_eq!(in_config(&json!({"vector_index": {"hnsw": {"space": "cosine"}}})), Some("cosine"));
        let misleading =
            json!({"hnsw_configuration": {"space": "l2"}, "_type": "CollectionConfigurationInternal"});
        assert_eq!(in_config(&misleading), None);
    }
}
