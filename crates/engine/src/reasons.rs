//! What rejects have in common: how many there are of each reason, and the first of them by name.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use whimbrel_model::{FlowName, Reject, Stage};

/// Reasons told apart; further ones are counted among the rejects only.
const MOST_REASONS: usize = 1_000;
/// Characters of a reason by which it is told apart from others.
const TOLD_APART_BY: usize = 60;

/// Rejects of one flow, stage and reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RejectReason {
    /// The flow.
    pub flow: FlowName,
    /// Where they were refused.
    pub stage: Stage,
    /// Why the first of them was.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// The key of the first.
    pub example: Value,
}

/// A reject without its record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RejectShown {
    /// Where.
    pub stage: Stage,
    /// Who.
    pub key: Value,
    /// Why.
    pub reason: String,
}

impl From<Reject> for RejectShown {
    fn from(reject: Reject) -> Self {
        Self { stage: reject.stage, key: Value::Object(reject.key), reason: reject.reason }
    }
}

/// Rejects by reason.
#[derive(Debug, Default)]
pub(crate) struct Reasons(BTreeMap<(FlowName, Stage, String), RejectReason>);

impl Reasons {
    pub(crate) fn add(&mut self, reject: &Reject) {
        let key = (reject.flow.clone(), reject.stage, pattern(&reject.reason));
        if self.0.len() >= MOST_REASONS && !self.0.contains_key(&key) {
            return;
        }
        let entry = self.0.entry(key).or_insert_with(|| RejectReason {
            flow: reject.flow.clone(),
            stage: reject.stage,
            reason: reject.reason.clone(),
            count: 0,
            example: Value::Object(reject.key.clone()),
        });
        entry.count += 1;
    }

    /// The most frequent reasons.
    pub(crate) fn most_frequent(self, most: usize) -> Vec<RejectReason> {
        let mut reasons: Vec<_> = self.0.into_values().collect();
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
        reasons.truncate(most);
        reasons
    }
}

/// A reason without the values of its record: what stands in double quotes, behind a `#`, and every word with a digit.
fn pattern(reason: &str) -> String {
    let mut pattern = String::new();
    for (number, part) in reason.split('"').enumerate() {
        if number % 2 == 1 {
            pattern.push('*');
            continue;
        }
        for word in part.split_inclusive(|c: char| !c.is_alphanumeric() && c != '-' && c != '#') {
            let name = word.split('#').next().unwrap_or(word);
            if word.contains('#') {
                pattern.extend([name, "#* "]);
            } else if word.contains(|c: char| c.is_ascii_digit()) {
                pattern.push_str("* ");
            } else {
                pattern.push_str(word);
            }
        }
    }
    pattern.chars().take(TOLD_APART_BY).collect()
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn values_do_not_tell_reasons_apart() {
        for (one, other) in [
            ("Invalid UUID format: CONV#172", "Invalid UUID format: CONV#not-a-uuid-12"),
            ("Invalid UUID format: CONV#", "Invalid UUID format: CONV#a688819c20da693"),
            ("`at` is no date: \"yesterday\"", "`at` is no date: \"30.11.2025\""),
            ("`title` has 525 characters: too long", "`title` has 99 characters: too long"),
            ("10997 has more than 4 digits", "11 has more than 4 digits"),
        ] {
            assert_eq!(pattern(one), pattern(other));
        }
        assert_ne!(pattern("Missing role field"), pattern("Missing content field"));
        assert_ne!(pattern("`created_at` is no date"), pattern("`updated_at` is no date"));
    }
}
