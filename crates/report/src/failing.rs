//! Records that did not arrive or would not, and those that nobody takes.

use crate::figures::count;
use crate::paint::Paint;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use whimbrel_engine::summary::RejectShown;

/// Characters of a key or reason that are shown.
const SHOWN_CHARACTERS: usize = 160;
/// Patterns that are shown.
const SHOWN_PATTERNS: usize = 10;

/// A key in one line: `USER#7 CONV#12`, its values one after the other.
pub fn key(key: &Value) -> String {
    let values = match key {
        Value::Object(columns) => columns.values().map(plain).collect::<Vec<_>>().join(" "),
        other => plain(other),
    };
    cut(&values)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A text at a readable length, in one line.
pub fn cut(text: &str) -> String {
    let line = text.replace(['\n', '\r'], " ");
    match line.char_indices().nth(SHOWN_CHARACTERS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// Records by key and reason, a line each.
pub fn list(rejects: &[RejectShown], most: usize, indent: &str, text: &mut String) {
    for reject in rejects.iter().take(most) {
        let _ = writeln!(text, "{indent}- {}: {}", key(&reject.key), cut(&reject.reason));
    }
}

/// Records that no flow takes, by pattern, and what to do about them.
pub fn unmatched(patterns: &BTreeMap<String, u64>, paint: Paint, text: &mut String) {
    let records: u64 = patterns.values().sum();
    if records == 0 {
        return;
    }
    let what = if records == 1 { "record that no flow takes" } else { "records that no flow takes" };
    let _ = writeln!(text, "\n  {}", paint.warn(&format!("{} {what}:", count(records))));
    let mut patterns: Vec<_> = patterns.iter().collect();
    patterns.sort_by_key(|(pattern, records)| (std::cmp::Reverse(**records), (*pattern).clone()));
    for (pattern, records) in patterns.iter().take(SHOWN_PATTERNS) {
        let _ = writeln!(text, "  {:>8}  {pattern}", count(**records));
    }
    if patterns.len() > SHOWN_PATTERNS {
        let rest: u64 = patterns[SHOWN_PATTERNS..].iter().map(|(_, records)| **records).sum();
        let _ = writeln!(text, "  {:>8}  of {} other patterns", count(rest), patterns.len() - SHOWN_PATTERNS);
    }
    let _ =
        writeln!(text, "  Add a flow that takes them, or write `unmatched: ignore` at the top of the spec.");
}

/// Records that several flows take.
pub fn shared(records: u64, text: &mut String) {
    match records {
        0 => {}
        1 => text.push_str("\n  1 record is taken by more than one flow; each of them counts it.\n"),
        records => {
            let records = count(records);
            let _ = writeln!(
                text,
                "\n  {records} records are taken by more than one flow; each of them counts them."
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_is_one_short_line() {
        assert_eq!(key(&json!({"pk": "USER#7", "n": 12})), "USER#7 12");
        assert_eq!(key(&json!({"pk": "a\nb"})), "a b");
        assert_eq!(key(&json!({"pk": "ü".repeat(500)})).chars().count(), SHOWN_CHARACTERS + 1);
    }

    #[test]
    fn patterns_come_by_number_and_their_end_is_summed_up() {
        let patterns = (1..=12_u64).map(|n| (format!("pk=KIND{n}#*"), n)).collect();
        let mut text = String::new();
        unmatched(&patterns, Paint::Plain, &mut text);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "  78 records that no flow takes:");
        assert_eq!(lines[2], "        12  pk=KIND12#*");
        assert_eq!(lines[12], "         3  of 2 other patterns");
        assert!(lines[13].contains("`unmatched: ignore`"), "{text}");
        let mut nothing = String::new();
        unmatched(&BTreeMap::new(), Paint::Plain, &mut nothing);
        shared(0, &mut nothing);
        assert_eq!(nothing, "");
    }
}
