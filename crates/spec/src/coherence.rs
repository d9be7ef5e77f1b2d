//! What a schema cannot say: names that must exist, keys that exclude each other, circles. Pure.
//!
//! Every finding is gathered, and the one that stands first in the file is reported.

mod flows;
mod stores;
mod variables;

use crate::check::Texts;
use crate::error::{Position, Result, SpecError};
use crate::names::suggest;
use crate::spec::Spec;

/// Checks that the spec holds together.
pub(crate) fn check(spec: &Spec, texts: &Texts) -> Result<()> {
    let mut findings = Findings::default();
    variables::check(spec, texts, &mut findings);
    stores::check(spec, &mut findings);
    flows::check(spec, &mut findings);
    verify(spec, &mut findings);
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

fn verify(spec: &Spec, findings: &mut Findings) {
    let document = spec.document();
    let groups = document.flows.values().filter_map(|flow| flow.group.as_deref());
    let names: Vec<&str> = document.flows.keys().map(String::as_str).chain(groups).collect();
    for (index, rule) in document.verify.iter().enumerate() {
        let index = index.to_string();
        if !rule.count {
            let at = spec.position(&["verify", &index]);
            findings.add(at, "a verify rule has no kind", "write `{ count: true }`, or leave the rule out");
        }
        for (at, name) in rule.only.iter().flatten().enumerate() {
            if !names.contains(&name.as_str()) {
                let at = spec.position(&["verify", &index, "only", &at.to_string()]);
                let message = format!("there is no flow and no group `{name}`");
                findings.add(at, message, suggest(name, "flows and groups", names.iter().copied()));
            }
        }
    }
}
