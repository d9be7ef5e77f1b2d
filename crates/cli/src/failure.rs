//! Every failure of the program: one exit code, one text.

use serde_json::json;
use std::error::Error;
use std::fmt::Write;
use whimbrel_engine::{EngineError, JournalError};
use whimbrel_spec::{Redactor, SpecError, SpecErrorKind};
use whimbrel_store::StoreError;

/// Documented in `--help`: 0 done, 1 failed, 2 usage or spec, 3 rejects, 4 differences, 5 paused, 130 interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done, all arrived.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage or a wrong spec.
    Usage = 2,
    /// Done, with rejects.
    Rejects = 3,
    /// Verify found differences.
    Differences = 4,
    /// Paused by a limit; resumable.
    Paused = 5,
    /// Interrupted; resumable.
    Interrupted = 130,
}

impl From<Exit> for i32 {
    fn from(exit: Exit) -> Self {
        exit as Self
    }
}

/// What ends the program early.
#[derive(Debug)]
pub struct Failure {
    error: EngineError,
    /// Knows the secrets that must not be shown.
    secrets: Box<Redactor>,
    /// The next step, where it is another one than the error's own.
    hint: Option<Box<str>>,
}

/// The result of a command.
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Nothing of what this redactor knows is shown.
    #[must_use]
    pub fn hiding(mut self, secrets: &Redactor) -> Self {
        self.secrets = Box::new(secrets.clone());
        self
    }

    /// Where a run would be resumed, a verification is asked for again, by this command.
    #[must_use]
    pub fn of_verification(mut self, command: &str) -> Self {
        let full =
            || Some(format!("make room on the disk, then {command}; nothing but the disk was written to"));
        let unwritable = || {
            Some(format!(
                "look at the disk and the folder's permissions, or name another journal with --journal DIR; then {command}"
            ))
        };
        let hint = match &self.error {
            EngineError::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => full(),
            EngineError::Journal(error) if error.is_disk_full() => full(),
            EngineError::File { .. }
            | EngineError::Journal(JournalError::Sqlite { .. } | JournalError::Stopped(_)) => unwritable(),
            EngineError::Store(error) if error.kind().is_retryable() && error.hint().is_none() => {
                Some(format!("when the store can be reached again: {command}; nothing was changed"))
            }
            _ => None,
        };
        self.hint = hint.map(String::into_boxed_str).or(self.hint);
        self
    }

    fn hint(&self) -> Option<String> {
        self.hint.as_deref().map(str::to_owned).or_else(|| self.error.hint())
    }

    /// A mistake in a spec that nobody wrote is one of what was typed: without its place there.
    #[must_use]
    pub fn without_place(mut self, spec: &std::path::Path) -> Self {
        if let EngineError::Spec(error) = &self.error
            && error.path() == spec
        {
            self.error = EngineError::refused(with_causes(error.message(), error.source()), error.hint());
        }
        self
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match &self.error {
            EngineError::Spec(error) => match error.kind() {
                SpecErrorKind::Unreadable
                | SpecErrorKind::Syntax
                | SpecErrorKind::Invalid
                | SpecErrorKind::NotYet
                | SpecErrorKind::Usage
                | SpecErrorKind::NoValue
                | SpecErrorKind::Provider => Exit::Usage,
            },
            EngineError::Refused { .. } | EngineError::Flow { .. } => Exit::Usage,
            EngineError::Interrupted => Exit::Interrupted,
            error if error.is_pause() => Exit::Paused,
            EngineError::RejectRate { .. }
            | EngineError::Store(_)
            | EngineError::Journal(_)
            | EngineError::File { .. }
            | EngineError::CountEquation { .. }
            | EngineError::Internal(_) => Exit::Failed,
        }
    }

    /// For people: `error:`, its causes, an empty line, `hint:`.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.error);
        for cause in self.causes() {
            let _ = writeln!(text, "  caused by: {cause}");
        }
        if let Some(hint) = self.hint() {
            let _ = writeln!(text, "\nhint: {hint}");
        }
        self.hide(&text)
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let hide = |text: &str| self.hide(text);
        json!({
            "outcome": "failed",
            "error": hide(&self.error.to_string()),
            "causes": self.causes().iter().map(|cause| hide(cause)).collect::<Vec<_>>(),
            "hint": self.hint().map(|hint| hide(&hint)),
            "exit": self.exit() as u8,
        })
    }

    fn causes(&self) -> Vec<String> {
        let mut causes: Vec<String> = Vec::new();
        let mut source = self.error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Some libraries repeat their cause's text in their own.
            let said = causes.last().map_or_else(|| self.error.to_string(), Clone::clone);
            if !said.contains(&text) {
                causes.push(text);
            }
            source = cause.source();
        }
        causes
    }

    fn hide(&self, text: &str) -> String {
        let text = self.secrets.redact(text);
        whimbrel_spec::mask_url_passwords(&text).into_owned()
    }
}

/// A message with the texts of its causes behind it, as far as it does not say them itself.
pub fn with_causes(message: &str, mut cause: Option<&(dyn Error + 'static)>) -> String {
    let mut text = message.to_owned();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self { error, secrets: Box::default(), hint: None }
    }
}

impl From<SpecError> for Failure {
    fn from(error: SpecError) -> Self {
        EngineError::from(error).into()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        EngineError::from(error).into()
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        EngineError::from(error).into()
    }
}
