//! What the spec says of a Chroma store.

mod address;

pub use address::{Address, Login};

use serde_json::{Map, Value};
use std::fmt;
use std::path::{Path, PathBuf};

/// The tenant that Chroma itself takes where none is named.
pub const DEFAULT_TENANT: &str = "default_tenant";
/// The database that Chroma itself takes where none is named.
pub const DEFAULT_DATABASE: &str = "default_database";

/// A Chroma store of the spec: `chroma: PATH`, `chroma: http://HOST:8000`, or a map of `path` or `url`, `tenant`,
/// `database`, `lost`, and what lets us into a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChromaConfig {
    place: Place,
    /// The tenant of collections that are named without one.
    pub tenant: String,
    /// The database of collections that are named without one.
    pub database: String,
    /// What becomes of records whose embedding is gone; `None`: rejects, unless a damaged index is to blame, which
    /// is an error.
    pub lost: Option<Lost>,
}

/// Where the collections are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Directory(PathBuf),
    Server(Address),
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

/// Keys of either place.
const KEYS: [&str; 3] = ["tenant", "database", "lost"];
/// Keys of a server.
const SERVER_KEYS: [&str; 4] = ["url", "token", "user", "password"];

impl ChromaConfig {
    /// A persistent directory, with Chroma's default tenant and database.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self::of(Place::Directory(path.into()))
    }

    /// A running server, with Chroma's default tenant and database.
    #[must_use]
    pub fn on(server: Address) -> Self {
        Self::of(Place::Server(server))
    }

    fn of(place: Place) -> Self {
        Self { place, tenant: DEFAULT_TENANT.to_owned(), database: DEFAULT_DATABASE.to_owned(), lost: None }
    }

    /// Reads the value of `chroma:`; an empty text counts as unset. A path or a URL may have `chroma:` in front; what
    /// stands behind a `?` in a URL is the caller's and must be gone.
    ///
    /// # Errors
    /// A key that there is none of, a value of the wrong shape, or neither a path nor a URL.
    pub fn from_value(value: &Value) -> Result<Self, ConfigError> {
        match value {
            Value::String(place) => Self::from_text(place),
            Value::Object(map) => Self::from_map(map),
            _ => Err(ConfigError(format!(
                "`chroma` takes the path of a directory, the URL of a server, or a map of path or url, {}",
                KEYS.join(", ")
            ))),
        }
    }

    fn from_map(map: &Map<String, Value>) -> Result<Self, ConfigError> {
        let is_known = |key: &str| key == "path" || KEYS.contains(&key) || SERVER_KEYS.contains(&key);
        if let Some(key) = map.keys().find(|key| !is_known(key)) {
            return Err(ConfigError(format!(
                "`chroma` has no key `{key}`; it takes path, {} and for a server {}",
                KEYS.join(", "),
                SERVER_KEYS.join(", ")
            )));
        }
        let mut config = match (text(map, "path")?, text(map, "url")?) {
            (Some(_), Some(_)) => {
                return Err(ConfigError("`chroma` takes a `path` or a `url`, and not both".to_owned()));
            }
            (None, None) => return Err(ConfigError("`chroma` lacks its `path` or `url`".to_owned())),
            (Some(place), None) => Self::from_text(&place)?,
            (None, Some(url)) => Self::on(Address::new(server_url(&url), Login::Open)?),
        };
        let login = Login::of(text(map, "token")?, text(map, "user")?, text(map, "password")?)?;
        match &mut config.place {
            Place::Server(address) => address.login = login,
            Place::Directory(_) if login == Login::Open => {}
            Place::Directory(_) => {
                return Err(ConfigError(
                    "`token`, `user` and `password` belong to a server's `url`".to_owned(),
                ));
            }
        }
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

    fn from_text(text: &str) -> Result<Self, ConfigError> {
        let url = server_url(text);
        if url.starts_with("http://") || url.starts_with("https://") {
            return Ok(Self::on(Address::new(url, Login::Open)?));
        }
        let path = text.strip_prefix("chroma:").unwrap_or(text);
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(ConfigError("`chroma` takes the path of a persistent directory".to_owned()));
        }
        Ok(Self::at(path))
    }

    /// The server, where it is one.
    #[must_use]
    pub fn server(&self) -> Option<&Address> {
        match &self.place {
            Place::Server(address) => Some(address),
            Place::Directory(_) => None,
        }
    }

    /// Where the directory is; a server has none. The path of its `chroma.sqlite3` stands for it.
    #[must_use]
    pub fn path(&self) -> &Path {
        let Place::Directory(path) = &self.place else { return Path::new("") };
        match path.parent() {
            Some(folder) if path.file_name().is_some_and(|name| name == "chroma.sqlite3") => folder,
            _ => path,
        }
    }
}

/// A server's URL without what may stand in front of it.
fn server_url(text: &str) -> &str {
    ["chroma:", "chroma+"].iter().find_map(|front| text.strip_prefix(front)).unwrap_or(text)
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
        match &self.place {
            Place::Directory(_) => write!(f, "chroma:{}", self.path().display()),
            Place::Server(address) => write!(f, "chroma:{}", address.url()),
        }
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
    fn a_server_alone_or_in_parts() {
        for text in ["http://h:8000", "chroma:http://h:8000/", "chroma+http://h:8000"] {
            let config = ChromaConfig::from_value(&json!(text)).unwrap();
            assert_eq!(config.to_string(), "chroma:http://h:8000", "{text}");
            assert_eq!(config.server().unwrap().login, Login::Open);
        }
        let parts = json!({"url": "https://h/x", "tenant": "t", "token": "hush", "lost": "null"});
        let config = ChromaConfig::from_value(&parts).unwrap();
        assert_eq!((config.tenant.as_str(), config.lost), ("t", Some(Lost::Null)));
        assert_eq!(config.server().unwrap().login, Login::Token("hush".to_owned()));
        assert!(!format!("{config:?} {config}").contains("hush"));
        let empty = json!({"url": "https://h/x", "token": "", "path": ""});
        assert_eq!(ChromaConfig::from_value(&empty).unwrap().server().unwrap().login, Login::Open);
    }

    #[test]
    fn wrong_shapes_are_refused_by_name() {
        for (value, word) in [
            (json!(""), "path"),
            (json!(7), "directory"),
            (json!({"pth": "x"}), "pth"),
            (json!({"tenant": "x"}), "path"),
            (json!({"path": "x", "lost": "maybe"}), "maybe"),
            (json!({"path": "x", "url": "http://localhost:8000"}), "not both"),
            (json!({"path": "x", "token": "t"}), "belong to a server"),
            (json!({"url": "localhost:8000"}), "http"),
        ] {
            let error = ChromaConfig::from_value(&value).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
