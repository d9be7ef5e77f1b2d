//! Failures of stores: whose fault, what to do, and whether trying again can help, decided on the type.

use std::error::Error;
use std::fmt;
use whimbrel_model::StoreName;

/// The result of an operation on a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What went wrong. Retryability follows from the kind alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// No connection: no such host, refused, reset, timed out, shutting down.
    Unreachable,
    /// The store is there and asks for patience: throttled, too many connections, internal error.
    Overloaded,
    /// No credentials, or wrong ones.
    Unauthenticated,
    /// Known, and not allowed to.
    Forbidden,
    /// The database, table, index or column does not exist.
    NotFound,
    /// What is there is not what the spec or the journal says.
    Mismatch,
    /// The snapshot of this epoch is gone; a new epoch can go on.
    SnapshotLost,
    /// The schema changed while the run was going.
    Drift,
    /// The request cannot be carried out by this store, or not yet.
    Unsupported,
    /// The store answered what its protocol does not allow.
    Protocol,
    /// The run is stopping; the outcome of the last request is unknown.
    Interrupted,
    /// A limit of the spec would be passed; the run pauses and can be resumed.
    LimitReached,
    /// A mistake in whimbrel.
    Internal,
}

/// How many names an error lists.
const LISTED: usize = 3;

/// Names that are like another, the nearest first, for people.
#[must_use]
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let wanted = name.to_lowercase();
    let mut names: Vec<_> = names.collect();
    names.sort_by_cached_key(|name| strsim::damerau_levenshtein(&wanted, &name.to_lowercase()));
    names.truncate(LISTED);
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl StoreErrorKind {
    /// Whether the same request can succeed later without anybody's doing.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Unreachable | Self::Overloaded | Self::SnapshotLost => true,
            Self::Unauthenticated
            | Self::Forbidden
            | Self::NotFound
            | Self::Mismatch
            | Self::Drift
            | Self::Unsupported
            | Self::Protocol
            | Self::Interrupted
            | Self::LimitReached
            | Self::Internal => false,
        }
    }
}

/// A failure: what was attempted on which store, why it failed, and the next step.
///
/// Display is the whole sentence without the cause; the cause is its `source`.
#[derive(Debug)]
pub struct StoreError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: StoreErrorKind,
    store: StoreName,
    context: String,
    hint: Option<String>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl StoreError {
    /// `context` says what failed and on what, `cannot read table "users"`.
    pub fn new(kind: StoreErrorKind, store: &StoreName, context: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            store: store.clone(),
            context: context.into(),
            hint: None,
            source: None,
        }))
    }

    /// Attaches the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Attaches the next step.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Attaches the names that are nearest to one that is not there; nothing where there are none.
    #[must_use]
    pub fn with_nearest<'a>(self, name: &str, names: impl Iterator<Item = &'a str>) -> Self {
        let nearest = nearest(name, names);
        if nearest.is_empty() { self } else { self.with_hint(format!("the nearest are {nearest}")) }
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.0.kind
    }

    /// Where it went wrong.
    #[must_use]
    pub fn store(&self) -> &StoreName {
        &self.0.store
    }

    /// The next step, where one is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store `{}`: {}", self.0.store, self.0.context)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}
