//! What a schema cannot say: names that must exist, keys that exclude each other, circles. Pure.
//!
//! Every finding is gathered, and the one that stands first in the file is reported.

mod changed;
mod each;
mod flows;
mod langchain;
mod stores;
mod variables;
mod verify;

use crate::check::Texts;
use crate::error::{Position, Result, SpecError};
use crate::spec::Spec;

/// Checks that the spec holds together.
pub(crate) fn check(spec: &Spec, texts: &Texts) -> Result<()> {
    let mut findings = Findings::default();
    variables::check(spec, texts, &mut findings);
    stores::check(spec, &mut findings);
    flows::check(spec, &mut findings);
    verify::check(spec, &mut findings);
    findings.first()
}

#[derive(Default)]
struct Findings {
    errors: Vec<SpecError>,
}

impl Findings {
    fn add(&mut self, at: Position, message: impl Into<String>, hint: impl Into<String>) {
        self.errors.push(SpecError::invalid(at, message, hint));
    }

    fn first(self) -> Result<()> {
        match self.errors.into_iter().min_by_key(SpecError::position) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}
