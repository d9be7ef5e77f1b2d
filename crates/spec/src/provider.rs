//! Where values come from that stand in no spec.

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Variables that whimbrel gives itself.
pub(crate) const BUILT_IN: &[&str] = &["environment", "run_id", "run_started", "working_folder"];

/// Providers that a spec may name.
pub(crate) const PROVIDERS: &[&str] =
    &["env", "file", "prompt", "credentials", "cdk", "ssm", "secret", "cognito"];

/// A value that a provider found.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub value: String,
    /// Whether it must be shown nowhere.
    pub secret: bool,
}

impl std::fmt::Debug for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Found").field("value", &"***").field("secret", &self.secret).finish()
    }
}

/// Why a provider has no value.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ProviderError {
    /// What failed, on what, and why.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Whether the place was looked at and holds no such value, so that a default takes its place.
    pub absent: bool,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ProviderError {
    /// A failure with the next step.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), absent: false, source: None }
    }

    /// There is no such value, said more closely than `None` can: a default takes its place.
    pub fn absent(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { absent: true, ..Self::new(message, hint) }
    }

    /// Attaches the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// Answers `${name:argument}`.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name before the colon.
    fn name(&self) -> &'static str;

    /// The value for an argument. `None` says that there is none, so that a default holds; each argument is
    /// looked up at most once in a resolution.
    ///
    /// # Errors
    /// It cannot be known whether there is one: a file cannot be read, a prompt has no terminal. No default
    /// takes the place of that, but where the error says that the value is [absent](ProviderError::absent).
    async fn lookup(&self, argument: &str) -> Result<Option<Found>, ProviderError>;

    /// Makes what an argument names, because a lookup found none and a run is to make it. `None` says that this
    /// provider makes nothing.
    ///
    /// # Errors
    /// It cannot be made.
    async fn create(&self, _argument: &str, _wanted: &Creation) -> Result<Option<Found>, ProviderError> {
        Ok(None)
    }
}

/// How a value that is not there is made: a variable's `cognito`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// The e-mail address of the user.
    pub email: Option<String>,
    /// Whom what is made belongs to, which is written on it: `MIGRATION/ENVIRONMENT`.
    pub owner: String,
}

/// The providers that a resolution may ask.
#[derive(Clone, Default)]
pub struct Providers {
    by_name: BTreeMap<&'static str, Arc<dyn Provider>>,
}

impl Providers {
    /// `env` and `file`; paths are relative to `base_dir`, the spec's folder.
    pub fn new(base_dir: impl Into<PathBuf>) -> Self {
        Self::default().with(Environment).with(File { base_dir: base_dir.into() })
    }

    /// Adds a provider, or puts it in the place of the one of that name.
    #[must_use]
    pub fn with(mut self, provider: impl Provider + 'static) -> Self {
        self.by_name.insert(provider.name(), Arc::new(provider));
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<&dyn Provider> {
        self.by_name.get(name).map(|provider| &**provider)
    }
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}

/// `${env:NAME}`: an environment variable. It is secret where its name says so.
#[derive(Clone, Copy, Debug)]
pub struct Environment;

/// Words in the names of environment variables whose values are secret.
const SECRET_WORDS: &[&str] = &["PASSWORD", "PASSWD", "SECRET", "TOKEN", "API_KEY", "APIKEY", "PRIVATE_KEY"];

#[async_trait]
impl Provider for Environment {
    fn name(&self) -> &'static str {
        "env"
    }

    async fn lookup(&self, argument: &str) -> Result<Option<Found>, ProviderError> {
        match std::env::var(argument) {
            Ok(value) => {
                let upper = argument.to_uppercase();
                Ok(Some(Found { value, secret: SECRET_WORDS.iter().any(|word| upper.contains(word)) }))
            }
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(ProviderError::new(
                format!("the environment variable `{argument}` is not UTF-8"),
                format!("set `{argument}` again"),
            )),
        }
    }
}

/// `${file:PATH}`: the content of a file without its last line break. It is secret: files that hold one value
/// are how secrets are mounted.
#[derive(Clone, Debug)]
pub struct File {
    /// What relative paths are relative to.
    pub base_dir: PathBuf,
}

#[async_trait]
impl Provider for File {
    fn name(&self) -> &'static str {
        "file"
    }

    async fn lookup(&self, argument: &str) -> Result<Option<Found>, ProviderError> {
        let path = self.base_dir.join(argument);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let value = text.strip_suffix('\n').unwrap_or(&text);
                let value = value.strip_suffix('\r').unwrap_or(value).to_owned();
                Ok(Some(Found { value, secret: true }))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ProviderError::new(
                format!("the file `{}` cannot be read: {error}", path.display()),
                "check its permissions, or give another value with `--set`",
            )
            .caused_by(error)),
        }
    }
}
