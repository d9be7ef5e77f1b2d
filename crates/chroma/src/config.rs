//! What the spec says of a Chroma store.

use serde_json::{Map, Value};
use std::fmt;
use std::path::{Path, PathBuf};

/// The tenant that Chroma itself takes where none is named.
pub const DEFAULT_TENANT: &str = "default_tenant";
/// The database that Chroma itself takes where none is named.
pub const DEFAULT_DATABASE: &str = "default_database";

/// A Chroma store of the spec: `chroma: PATH`, or `chroma: { path, tenant, database, lost }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChromaConfig {
    path: PathBuf,
    /// The tenant of collections that are named without one.
    pub tenant: String,
    /// The database of collections that are named without one.
    pub database: String,
    /// What becomes of records whose embedding is gone; `None`: rejects, unless a damaged index is to blame, which
    /// is an error.
    pub lost: Option<Lost>,
}

/// What becomes of a record whose embedding is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// It is a reject.
    Reject,
    /// It goes on, with NULL for an embedding.
    Null,
}

/// A configuration that cannot be right, said with the key that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

const KEYS: [&str; 4] = ["path", "tenant", "database", "lost"];
/// Keys of a server's address.
const SERVER_KEYS: [&str; 2] = ["url", "token"];

impl ChromaConfig {
    /// A persistent directory, with Chroma's default tenant and database.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            tenant: DEFAULT_TENANT.to_owned(),
            database: DEFAULT_DATABASE.to_owned(),
            lost: None,
        }
    }

    /// Reads the value of `chroma:`; an empty text counts as unset. A path may have `chroma:` in front; what stands
    /// behind a `?` in a URL is the caller's and must be gone.
    ///
    /// # Errors
    /// A key that there is none of, a value of the wrong shape, no path, or a server's address.
    pub fn from_value(value: &Value) -> Result<Self, ConfigError> {
        match value {
            Value::String(path) => Self::directory(path),
            Value::Object(map) => Self::from_map(map),
            _ => Err(ConfigError(format!(
                "`chroma` takes the path of a directory, or a map of {}",
                KEYS.join(", ")
            ))),
        }
    }

    fn from_map(map: &Map<String, Value>) -> Result<Self, ConfigError> {
        if map.keys().any(|key| SERVER_KEYS.contains(&key.as_str())) {
            return Err(not_yet());
        }
        if let Some(key) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(ConfigError(format!("`chroma` has no key `{key}`; it takes {}", KEYS.join(", "))));
        }
        let path = text(map, "path")?.ok_or_else(|| ConfigError("`chroma` lacks its `path`".to_owned()))?;
        let mut config = Self::directory(&path)?;
        if let Some(tenant) = text(map, "tenant")? {
            config.tenant = tenant;
        }
        if let Some(database) = text(map, "database")? {
            config.database = database;
        }
        config.lost = match text(map, "lost")?.as_deref() {
            None => None,
            Some("reject") => Some(Lost::Reject),
            Some("null") => Some(Lost::Null),
            Some(word) => {
                return Err(ConfigError(format!("`lost` cannot be `{word}`; it is `reject` or `null`")));
            }
        };
        Ok(config)
    }

    fn directory(text: &str) -> Result<Self, ConfigError> {
        if text.starts_with("http://") || text.starts_with("https://") {
            return Err(not_yet());
        }
        let path = text.strip_prefix("chroma:").unwrap_or(text);
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(ConfigError("`chroma` takes the path of a persistent directory".to_owned()));
        }
        Ok(Self::at(path))
    }

    /// Where the directory is. The path of its `chroma.sqlite3` stands for it.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if self.path.file_name().is_some_and(|name| name == "chroma.sqlite3") => folder,
            _ => &self.path,
        }
    }
}

fn not_yet() -> ConfigError {
    let what = "a Chroma server cannot be read yet: name its persistent directory with `path`, which holds more exact \
        embeddings than a server gives";
    ConfigError(what.to_owned())
}

fn text(map: &Map<String, Value>, key: &str) -> Result<Option<String>, ConfigError> {
    match map.get(key) {
        // YAML reads the word `null` as nothing.
        Some(Value::Null) if key == "lost" => Ok(Some("null".to_owned())),
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(ConfigError(format!("`{key}` of a chroma store is text"))),
    }
}

impl fmt::Display for ChromaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chroma:{}", self.path().display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_alone_or_a_map() {
        for text in ["/data/c", "chroma:/data/c", "chroma:///data/c", "/data/c/chroma.sqlite3"] {
            let config = ChromaConfig::from_value(&json!(text)).unwrap();
            assert_eq!(config.path(), Path::new("/data/c"), "{text}");
        }
        let config =
            ChromaConfig::from_value(&json!({"path": "c", "tenant": "t", "database": "", "lost": null}));
        let expected =
            ChromaConfig { tenant: "t".to_owned(), lost: Some(Lost::Null), ..ChromaConfig::at("c") };
        assert_eq!(config.unwrap(), expected);
        assert_eq!(expected.to_string(), "chroma:c");
    }

    #[test]
    fn wrong_shapes_are_refused_by_name() {
        for (value, word) in [
            (json!(""), "path"),
            (json!(7), "directory"),
            (json!({"pth": "x"}), "pth"),
            (json!({"tenant": "x"}), "path"),
            (json!({"path": "x", "lost": "maybe"}), "maybe"),
            (json!("http://localhost:8000"), "server"),
            (json!({"url": "http://localhost:8000"}), "server"),
        ] {
            let error = ChromaConfig::from_value(&value).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
