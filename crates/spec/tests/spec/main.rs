//! The language from outside: what is accepted, what is refused and how, what comes out.

#![expect(clippy::unwrap_used, reason = "what a test sets up itself may be trusted")]

mod changes;
mod examples;
mod resolving;
mod wrong;
mod wrong_elements;
mod wrong_values;
mod wrong_verify;

use whimbrel_spec::SpecError;

/// What a person sees of an error.
pub(crate) fn shown(error: &SpecError) -> String {
    format!("{error}\n  hint: {}", error.hint())
}

/// The base text with one stretch of it replaced, which must be there exactly once.
pub(crate) fn changed(base: &str, from: &str, to: &str) -> String {
    assert_eq!(base.matches(from).count(), 1, "`{from}` is not there exactly once");
    base.replace(from, to)
}
