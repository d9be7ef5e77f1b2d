//! What the spec says of a SQLite store.

use std::fmt;
use std::path::{Path, PathBuf};

/// A SQLite database: one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteConfig {
    path: PathBuf,
}

/// A configuration that cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl SqliteConfig {
    /// The database in a file. A relative path is relative to the working directory.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Reads what the spec writes: a path, with or without `sqlite:` in front. What stands behind a `?` in a URL
    /// (`?table=…`) is the caller's and must be gone.
    ///
    /// # Errors
    /// There is no path, or it names a database in memory, which nobody could look at afterwards.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let path = text.strip_prefix("sqlite:").unwrap_or(text);
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(ConfigError("`sqlite` takes the path of a database file".to_owned()));
        }
        if path == ":memory:" {
            let reason = "a database in memory is gone when the run ends: `sqlite` takes the path of a file";
            return Err(ConfigError(reason.to_owned()));
        }
        Ok(Self::at(path))
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for SqliteConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_or_without_its_scheme() {
        for text in ["/data/a b.db", "sqlite:/data/a b.db", "sqlite:///data/a b.db"] {
            assert_eq!(SqliteConfig::parse(text), Ok(SqliteConfig::at("/data/a b.db")), "{text}");
        }
        assert_eq!(SqliteConfig::parse("sqlite:x.db").unwrap().to_string(), "sqlite:x.db");
        for text in ["", "sqlite:", ":memory:", "sqlite::memory:"] {
            assert!(SqliteConfig::parse(text).is_err(), "{text}");
        }
    }
}
