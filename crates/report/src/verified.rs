//! What a verification found, cut to what a report shows.

use crate::collect::{key, rounded, time};
use crate::report::{
    AssertionFacts, AttributeFacts, ComparedFlow, DepthFacts, DifferenceFacts, VerificationFacts,
};
use crate::shown::{KEPT_CHARACTERS, cut, kept};
use serde_json::Value;
use whimbrel_model::Capacity;

use whimbrel_verify::{Assertion, Depth, Difference, FlowVerification, Outcome, Verification};

/// Differences that a report lists.
const DIFFERENCES: usize = 50;
/// Attributes of one difference.
const ATTRIBUTES: usize = 20;
/// Examples of one assertion.
const EXAMPLES: usize = 10;

impl VerificationFacts {
    /// What a report says of a verification.
    #[must_use]
    pub fn of(verification: &Verification) -> Self {
        let flows: Vec<ComparedFlow> =
            verification.flows.iter().map(|(name, found)| compared(name.to_string(), found)).collect();
        let in_flows: u64 = flows.iter().map(|flow| flow.missing + flow.extra + flow.different).sum();
        let listed = u64::try_from(verification.differences.len()).unwrap_or(u64::MAX);
        Self {
            equal: verification.outcome == Outcome::Equal,
            depth: depth(verification.depth),
            ended: time(verification.ended_ms),
            seconds: rounded(verification.seconds),
            capacity: Capacity {
                read_units: rounded(verification.capacity.read_units),
                write_units: rounded(verification.capacity.write_units),
                spared_write_units: rounded(verification.capacity.spared_write_units),
            },
            flows,
            assertions: verification.assertions.iter().map(assertion).collect(),
            others: verification.others,
            difference_count: (in_flows + verification.others).max(listed),
            differences: verification.differences.iter().take(DIFFERENCES).map(difference).collect(),
            differences_file: verification.differences_file.clone(),
            notes: verification.notes.iter().map(|note| cut(note, KEPT_CHARACTERS)).collect(),
        }
    }

    /// Records compared, of all flows.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.flows.iter().map(|flow| flow.compared).sum()
    }

    /// Assertions that do not hold.
    #[must_use]
    pub fn failed_assertions(&self) -> usize {
        self.assertions.iter().filter(|assertion| !assertion.ok).count()
    }
}

fn depth(depth: Depth) -> DepthFacts {
    match depth {
        Depth::Assertions => DepthFacts::Assertions,
        Depth::Count => DepthFacts::Count,
        Depth::Sample { records, seed } => DepthFacts::Sample { records, seed: seed.to_string() },
        Depth::All => DepthFacts::All,
    }
}

fn compared(name: String, found: &FlowVerification) -> ComparedFlow {
    ComparedFlow {
        name,
        compared: found.compared,
        missing: found.missing,
        extra: found.extra,
        different: found.different,
        kept: found.kept,
        rejected: found.rejected,
    }
}

fn assertion(assertion: &Assertion) -> AssertionFacts {
    AssertionFacts {
        name: cut(&assertion.name, KEPT_CHARACTERS),
        ok: assertion.ok,
        expected: cut(&assertion.expected, KEPT_CHARACTERS),
        value: cut(&assertion.value, KEPT_CHARACTERS),
        examples: assertion.examples.iter().take(EXAMPLES).map(|e| cut(e, KEPT_CHARACTERS)).collect(),
        seconds: rounded(assertion.seconds),
    }
}

fn difference(difference: &Difference) -> DifferenceFacts {
    let word =
        |value: serde_json::Result<Value>| value.ok().and_then(|value| Some(value.as_str()?.to_owned()));
    let attributes = difference.attributes.iter().take(ATTRIBUTES).map(|attribute| AttributeFacts {
        name: cut(&attribute.name, KEPT_CHARACTERS),
        source: attribute.source.as_ref().map(kept),
        target: attribute.target.as_ref().map(kept),
    });
    DifferenceFacts {
        flow: difference.flow.as_ref().map(ToString::to_string),
        kind: word(serde_json::to_value(difference.kind)).unwrap_or_default(),
        key: key(&Value::Object(difference.key.clone())),
        since: difference.since.and_then(|since| word(serde_json::to_value(since))),
        attributes: attributes.collect(),
    }
}
