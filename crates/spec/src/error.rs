//! What is wrong with a spec: where, what, and what to write instead.

use crate::redact::Redactor;
use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// The result of reading or resolving a spec.
pub type Result<T> = std::result::Result<T, SpecError>;

/// A place in a spec, both numbers counted from 1, columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Position {
    /// The beginning of the file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// What kind of mistake it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecErrorKind {
    /// The file, or one that it names, cannot be read.
    Unreadable,
    /// The text is no YAML.
    Syntax,
    /// The text is YAML and no spec.
    Invalid,
    /// The spec is right, and what it asks for is not built yet.
    NotYet,
    /// What was given beside the spec does not fit it: `--env`, `--set`, `--only`.
    Usage,
    /// A variable has no value: an environment variable is unset, a provider knows none.
    NoValue,
    /// A provider could not look: no terminal to ask at, a file that cannot be read.
    Provider,
}

/// One mistake, with its place and the next step.
///
/// Display is `path:line:column: message`; the hint is for the line below it.
#[derive(Debug)]
pub struct SpecError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: SpecErrorKind,
    path: PathBuf,
    position: Option<Position>,
    message: String,
    hint: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SpecError {
    /// A mistake at a place. `message` is a sentence without a full stop, `hint` says what to do.
    pub fn at(
        kind: SpecErrorKind,
        position: impl Into<Option<Position>>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            path: PathBuf::new(),
            position: position.into(),
            message: message.into(),
            hint: hint.into(),
            source: None,
        }))
    }

    pub(crate) fn invalid(position: Position, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::at(SpecErrorKind::Invalid, position, message, hint)
    }

    /// Says which file the place is in.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.0.path);
        self
    }

    /// Attaches the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Takes secrets out of what it says.
    #[must_use]
    pub fn redacted(mut self, secrets: &Redactor) -> Self {
        self.0.message = secrets.redact(&self.0.message).into_owned();
        self.0.hint = secrets.redact(&self.0.hint).into_owned();
        self
    }

    /// What kind of mistake it is.
    #[must_use]
    pub fn kind(&self) -> SpecErrorKind {
        self.0.kind
    }

    /// The spec's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Where in the file; `None` where it is about no place in it.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.0.position
    }

    /// The line, counted from 1.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        self.0.position.map(|position| position.line)
    }

    /// The column, counted from 1 in characters.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        self.0.position.map(|position| position.column)
    }

    /// What is wrong, without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do.
    #[must_use]
    pub fn hint(&self) -> &str {
        &self.0.hint
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.0.path.display())?;
        if let Some(Position { line, column }) = self.0.position {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.0.message)
    }
}

impl Error for SpecError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}
