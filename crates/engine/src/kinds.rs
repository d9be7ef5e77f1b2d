//! Records that no flow takes, told apart by the pattern of their keys.

use crate::flow::Reached;
use arrow::array::RecordBatch;
use serde_json::Value;
use std::collections::HashMap;
use whimbrel_model::{ScanTally, record};

/// What stands between the parts of a composed key.
const SEPARATORS: [char; 4] = ['#', '|', '/', ':'];
/// A part of a key that is longer than this is a value, not the name of a kind.
const LONGEST_NAME: usize = 24;

/// Counts the records of a batch that none of its flows took, and those that several did.
pub(crate) fn tally<'a>(
    records: &RecordBatch,
    key: &[String],
    flows: impl Iterator<Item = &'a Reached>,
) -> ScanTally {
    let mut takers = vec![0_u32; records.num_rows()];
    for reached in flows {
        reached.taken.iter().for_each(|row| takers[*row] += 1);
    }
    let mut patterns: HashMap<String, u64> = HashMap::new();
    for (row, _) in takers.iter().enumerate().filter(|(_, takers)| **takers == 0) {
        *patterns.entry(pattern(records, row, key)).or_insert(0) += 1;
    }
    let shared = u64::try_from(takers.iter().filter(|takers| **takers > 1).count()).unwrap_or(u64::MAX);
    let mut tally = ScanTally { shared, ..ScanTally::default() };
    patterns.iter().for_each(|(pattern, records)| tally.add_unmatched(pattern, *records));
    tally
}

fn pattern(records: &RecordBatch, row: usize, key: &[String]) -> String {
    let part = |(name, value): (String, Value)| match value {
        Value::String(text) => format!("{name}={}", text_pattern(&text)),
        _ => format!("{name}=*"),
    };
    record::key_to_json(records, row, key).into_iter().map(part).collect::<Vec<_>>().join(" ")
}

/// `USER#12` is one of `USER#*`, `METADATA` stands for itself, and so do at most the names in front of values.
fn text_pattern(text: &str) -> String {
    let mut pattern = String::new();
    let mut rest = text;
    loop {
        let (part, separator, after) = match rest.find(SEPARATORS) {
            Some(at) => (&rest[..at], &rest[at..=at], Some(&rest[at + 1..])),
            None => (rest, "", None),
        };
        pattern.push_str(if is_name(part) { part } else { "*" });
        pattern.push_str(separator);
        match after {
            Some(after) => rest = after,
            None => return pattern,
        }
    }
}

fn is_name(part: &str) -> bool {
    let letter = |c: char| c.is_ascii_uppercase() || c == '_' || c == '-';
    !part.is_empty() && part.len() <= LONGEST_NAME && part.chars().all(letter)
}

#[cfg(test)]
mod tests {
    use super::text_pattern;

    #[test]
    fn names_of_kinds_stay_and_values_do_not() {
        for (text, pattern) in [
            ("USER#12", "USER#*"),
            ("MSG#7f6c#0001", "MSG#*#*"),
            ("METADATA", "METADATA"),
            ("alice", "*"),
            ("", "*"),
            ("A|B/9", "A|B/*"),
            ("ÄÖ#1", "*#*"),
        ] {
            assert_eq!(text_pattern(text), pattern, "{text}");
        }
    }
}
