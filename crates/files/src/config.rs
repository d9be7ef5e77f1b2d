//! What the spec says of a files store.

use crate::format::{FORMATS, Format};
use serde_json::{Map, Value};

/// A files store of the spec: `files: ROOT`, or `files: { path, format, endpoint, region }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesConfig {
    /// A folder or a file: a path, or a URL of an object store (`s3://bucket/prefix/`, `gs://…`, `az://…`).
    pub root: String,
    /// The format of files whose suffix says none, or says another.
    pub format: Option<Format>,
    /// The URL of the S3 service, where it is not AWS's own.
    pub endpoint: Option<String>,
    /// The region of the bucket.
    pub region: Option<String>,
}

/// A store's configuration that cannot be right, said with the key that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

const KEYS: [&str; 4] = ["path", "format", "endpoint", "region"];

impl FilesConfig {
    /// Files below a root, everything else as it is by default.
    #[must_use]
    pub fn at(root: impl Into<String>) -> Self {
        Self { root: root.into(), format: None, endpoint: None, region: None }
    }

    /// Reads the value of `files:`; an empty text counts as unset.
    ///
    /// # Errors
    /// A key that there is none of, a value of the wrong shape, or no root.
    pub fn from_value(value: &Value) -> Result<Self, ConfigError> {
        let map = match value {
            Value::String(root) if !root.is_empty() => return Ok(Self::at(root.clone())),
            Value::Object(map) => map,
            _ => {
                let keys = KEYS.join(", ");
                return Err(ConfigError(format!("`files` takes a path, a URL, or a map of {keys}")));
            }
        };
        if let Some(key) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(ConfigError(format!("`files` has no key `{key}`; it takes {}", KEYS.join(", "))));
        }
        let root = text(map, "path")?.ok_or_else(|| ConfigError("`files` lacks its `path`".to_owned()))?;
        let format = match text(map, "format")? {
            None => None,
            Some(word) => Some(Self::format(&word)?),
        };
        Ok(Self { root, format, endpoint: text(map, "endpoint")?, region: text(map, "region")? })
    }

    /// What a `format:` says.
    ///
    /// # Errors
    /// There is no such format.
    pub fn format(word: &str) -> Result<Format, ConfigError> {
        let known = FORMATS.map(|(word, _)| word).join(", ");
        Format::of_word(word)
            .ok_or_else(|| ConfigError(format!("there is no format `{word}`; there are {known}")))
    }
}

fn text(map: &Map<String, Value>, key: &str) -> Result<Option<String>, ConfigError> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(ConfigError(format!("`{key}` of a files store is text"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_root_alone_or_a_map() {
        assert_eq!(FilesConfig::from_value(&json!("s3://b/p/")).unwrap(), FilesConfig::at("s3://b/p/"));
        let config =
            FilesConfig::from_value(&json!({"path": "x", "format": "jsonl", "endpoint": ""})).unwrap();
        assert_eq!(config, FilesConfig { format: Some(Format::NdJson), ..FilesConfig::at("x") });
    }

    #[test]
    fn wrong_shapes_are_refused_by_name() {
        for (value, word) in [
            (json!(""), "a path"),
            (json!(7), "a path"),
            (json!({"pth": "x"}), "pth"),
            (json!({"format": "csv"}), "path"),
            (json!({"path": "x", "format": "xml"}), "xml"),
            (json!({"path": 1}), "path"),
        ] {
            let error = FilesConfig::from_value(&value).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
