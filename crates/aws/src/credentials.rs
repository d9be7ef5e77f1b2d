//! `${credentials:SECTION.key}`: a value from the AWS shared credentials file, which teams also use for what
//! is not AWS's own, as in `[postgres-creds]`.

use async_trait::async_trait;
use aws_config::profile::{self, ProfileFileLoadError, ProfileSet};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_types::os_shim_internal::{Env, Fs};
use std::io;
use std::path::{Path, PathBuf};
use whimbrel_spec::{Found, Provider, ProviderError};

/// The environment variable that names another file than `~/.aws/credentials`.
const FILE_VARIABLE: &str = "AWS_SHARED_CREDENTIALS_FILE";

/// The AWS shared credentials file.
#[derive(Clone, Debug)]
pub struct CredentialsFile {
    path: Option<PathBuf>,
}

/// Why a value cannot be had from the credentials file. Never holds a value of it.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// There is no home directory to look in.
    #[error("the AWS credentials file cannot be found: there is no home directory")]
    NoHome,
    /// The argument is not `SECTION.key`.
    #[error("`{0}` is no `SECTION.key` of the AWS credentials file")]
    Malformed(String),
    /// The file is not there or cannot be read.
    #[error("the AWS credentials file `{}` cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file's form is not that of AWS.
    #[error("the AWS credentials file `{}` is not well formed", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: ProfileFileLoadError,
    },
    /// The file has no such section.
    #[error("the AWS credentials file `{}` has no section `[{section}]`", path.display())]
    NoSection {
        /// The file.
        path: PathBuf,
        /// The section.
        section: String,
        /// The sections that it has, sorted.
        known: Vec<String>,
    },
    /// The section has no such key.
    #[error("the section `[{section}]` of the AWS credentials file `{}` has no key `{key}`", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The section.
        section: String,
        /// The key.
        key: String,
        /// The sections that the file has, sorted.
        known: Vec<String>,
    },
}

impl CredentialsError {
    /// Whether the value is simply not there, so that a default may take its place.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Self::NoHome | Self::NoSection { .. } | Self::NoKey { .. } => true,
            Self::Unreadable { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Malformed(_) | Self::Syntax { .. } => false,
        }
    }

    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        let sections = |known: &[String]| match known {
            [] => "it has no sections".to_owned(),
            known => format!(
                "its sections: {}",
                known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ),
        };
        match self {
            Self::NoHome | Self::Unreadable { .. } => {
                format!("write the file, or name another with {FILE_VARIABLE}")
            }
            Self::Malformed(_) => "write `${credentials:SECTION.key}`".to_owned(),
            Self::Syntax { .. } => "it has `[section]` lines and `key = value` lines".to_owned(),
            Self::NoSection { section, known, .. } => format!("add `[{section}]`; {}", sections(known)),
            Self::NoKey { section, key, known, .. } => {
                format!("add `{key} = …` below `[{section}]`; {}", sections(known))
            }
        }
    }
}

impl Default for CredentialsFile {
    /// The file that `AWS_SHARED_CREDENTIALS_FILE` names, else `~/.aws/credentials`.
    fn default() -> Self {
        let named = std::env::var_os(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
        let path = match (named, home) {
            (Some(named), Some(home)) => Some(match named.strip_prefix("~") {
                Ok(rest) => home.join(rest),
                Err(_) => named,
            }),
            (Some(named), None) => Some(named),
            (None, home) => home.map(|home| home.join(".aws").join("credentials")),
        };
        Self { path }
    }
}

impl CredentialsFile {
    /// A file by its path.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: Some(path.into()) }
    }

    /// The value of `SECTION.key`; a section's name may hold dots, a key none. Keys are the same in capitals
    /// and small letters, as everywhere in AWS.
    ///
    /// # Errors
    /// The file, the section or the key is not there.
    pub async fn value(&self, argument: &str) -> Result<String, CredentialsError> {
        let (section, key) = argument
            .rsplit_once('.')
            .filter(|(section, key)| !section.is_empty() && !key.is_empty())
            .ok_or_else(|| CredentialsError::Malformed(argument.to_owned()))?;
        let path = self.path.as_deref().ok_or(CredentialsError::NoHome)?;
        let sections = read(path).await?;
        let known = || {
            let mut known: Vec<String> = sections.profiles().map(str::to_owned).collect();
            known.sort();
            known
        };
        let Some(profile) = sections.get_profile(section) else {
            let (path, section) = (path.to_owned(), section.to_owned());
            return Err(CredentialsError::NoSection { path, section, known: known() });
        };
        match profile.get(&key.to_lowercase()) {
            Some(value) => Ok(value.to_owned()),
            None => {
                let (path, section, key) = (path.to_owned(), section.to_owned(), key.to_owned());
                Err(CredentialsError::NoKey { path, section, key, known: known() })
            }
        }
    }
}

/// The file in the AWS SDK's own reading. The text is read here, since the SDK takes a file that is not UTF-8
/// for an empty one.
async fn read(path: &Path) -> Result<ProfileSet, CredentialsError> {
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|source| CredentialsError::Unreadable { path: path.to_owned(), source })?;
    let files = EnvConfigFiles::builder().with_contents(EnvConfigFileKind::Credentials, text).build();
    profile::load(&Fs::real(), &Env::from_slice(&[]), &files, None)
        .await
        .map_err(|source| CredentialsError::Syntax { path: path.to_owned(), source })
}

#[async_trait]
impl Provider for CredentialsFile {
    fn name(&self) -> &'static str {
        "credentials"
    }

    async fn lookup(&self, argument: &str) -> Result<Option<Found>, ProviderError> {
        match self.value(argument).await {
            Ok(value) => Ok(Some(Found { value, secret: true })),
            Err(error) => {
                let (hint, is_absent) = (error.hint(), error.is_absent());
                Err(crate::told(error, hint, is_absent))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    const FILE: &str = "[default]\naws_access_key_id = AKIA\n# a comment\n[postgres-creds]\nUser = ann\npassword = p#w=1\n[a.b]\nkey=v\n";

    /// What a lookup in a file with this text yields.
    async fn looked_up(text: &[u8], argument: &str) -> Result<Found, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        std::fs::write(&path, text).unwrap();
        let found = CredentialsFile::at(&path).lookup(argument).await;
        let clean = |text: &str| text.replace(&path.display().to_string(), "FILE");
        found.map(|found| found.expect("an error says why there is none")).map_err(|error| {
            let absent = if error.absent { " (absent)" } else { "" };
            clean(&format!("{error}{absent}; {}", error.hint))
        })
    }

    #[tokio::test]
    async fn values_are_found_and_secret() {
        for (argument, value) in [
            ("postgres-creds.password", "p#w=1"),
            ("postgres-creds.user", "ann"),
            ("postgres-creds.USER", "ann"),
            ("a.b.key", "v"),
            ("default.aws_access_key_id", "AKIA"),
        ] {
            let found = looked_up(FILE.as_bytes(), argument).await.unwrap();
            assert_eq!((found.value.as_str(), found.secret), (value, true), "{argument}");
        }
    }

    #[tokio::test]
    async fn errors_name_file_section_and_key_and_hold_no_value() {
        let wrong = |argument| async move { looked_up(FILE.as_bytes(), argument).await.unwrap_err() };
        let sections = "its sections: `a.b`, `default`, `postgres-creds`";
        assert_eq!(
            wrong("postgres.password").await,
            format!(
                "the AWS credentials file `FILE` has no section `[postgres]` (absent); add `[postgres]`; {sections}"
            )
        );
        assert_eq!(
            wrong("postgres-creds.host").await,
            format!(
                "the section `[postgres-creds]` of the AWS credentials file `FILE` has no key `host` (absent); \
                 add `host = …` below `[postgres-creds]`; {sections}"
            )
        );
        for argument in ["", "password", ".password", "postgres-creds."] {
            assert_eq!(
                wrong(argument).await,
                format!(
                    "`{argument}` is no `SECTION.key` of the AWS credentials file; write `${{credentials:SECTION.key}}`"
                )
            );
        }
    }

    #[tokio::test]
    async fn files_that_cannot_be_read_are_told_apart() {
        let missing = CredentialsFile::at("/no/such/file").lookup("a.b").await.unwrap_err();
        assert!(missing.absent);
        assert_eq!(missing.message, "the AWS credentials file `/no/such/file` cannot be read");
        assert!(missing.source().is_some());
        let latin = looked_up(b"[a]\nb = \xfc\n", "a.b").await.unwrap_err();
        assert!(latin.starts_with("the AWS credentials file `FILE` cannot be read;"), "{latin}");
        let syntax = looked_up(b"[a]\nsecret-without-equals\n", "a.b").await.unwrap_err();
        assert!(syntax.starts_with("the AWS credentials file `FILE` is not well formed;"), "{syntax}");
        let nowhere = CredentialsFile { path: None }.lookup("a.b").await.unwrap_err();
        assert!(nowhere.absent && nowhere.hint.contains(FILE_VARIABLE), "{nowhere}");
    }
}
