//! Each record that a plan would alter, or a run did, on standard output.

use crate::console::Console;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use whimbrel_engine::changes::{Change, Fate, Watch};
use whimbrel_model::Counts;
use whimbrel_report::figures::count;

/// How much of a value is shown; as JSON it stands whole.
const SHOWN_CHARACTERS: usize = 300;
/// What stands between the records and their number.
const LINE: &str = "--------------------------------------------------------------------------------";

/// Prints changes when they are known, and counts them.
#[derive(Clone)]
pub struct Shown {
    console: Console,
    altered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl Shown {
    pub fn new(console: Console) -> Self {
        Self { console, altered: Arc::default(), failed: Arc::default() }
    }

    /// To be told of each change.
    pub fn watch(&self) -> Watch {
        let shown = self.clone();
        Watch(Arc::new(move |change| {
            let failed = matches!(change.fate, Fate::WouldFail(_) | Fate::Failed(_));
            (if failed { &shown.failed } else { &shown.altered }).fetch_add(1, Ordering::Relaxed);
            let text = if shown.console.json() { String::new() } else { text(change) };
            shown.console.print(&Line { change }, text);
        }))
    }

    /// Whether a record failed, or would.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed) > 0
    }

    /// What would become of the records, in one number each.
    pub fn foreseen(&self, read: u64) -> String {
        numbers(read, self.altered.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

/// A change as one line for programs.
#[derive(Serialize)]
struct Line<'a> {
    change: &'a Change,
}

/// A change for people.
fn text(change: &Change) -> String {
    let mut text = String::new();
    for value in &change.key {
        // A String takes whatever is written.
        let _ = write!(text, "[{}]", shown(value));
    }
    text.push_str(":\n");
    for attribute in &change.attributes {
        let value = |value: &Option<Value>| value.as_ref().map_or_else(|| "(none)".to_owned(), shown);
        let _ = match (&attribute.old, &attribute.new) {
            (None, Some(new)) => writeln!(text, "  {}: {}", attribute.name, shown(new)),
            (old, new) => writeln!(text, "  {}: {} → {}", attribute.name, value(old), value(new)),
        };
    }
    let _ = match &change.fate {
        Fate::WouldCreate => writeln!(text, "  DRY RUN - Would create"),
        Fate::WouldUpdate => writeln!(text, "  DRY RUN - Would update"),
        Fate::WouldFail(reason) => writeln!(text, "  DRY RUN - Would fail: {}", plain(reason)),
        Fate::Created => writeln!(text, "  ✓ Created"),
        Fate::Updated => writeln!(text, "  ✓ Updated"),
        Fate::Failed(reason) => writeln!(text, "  ✗ Failed: {}", plain(reason)),
    };
    text
}

/// A value, in one line.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

/// Text that does nothing to a terminal, cut to a readable length.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for (number, character) in text.chars().enumerate() {
        if number == SHOWN_CHARACTERS {
            plain.push('…');
            break;
        }
        if character.is_control() {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// What became of the records, in one number each.
pub fn summary(counts: &Counts) -> String {
    numbers(counts.read, counts.created + counts.updated, counts.rejected)
}

/// Those that needed nothing are skipped, whether the flow left them out or the target held them so.
fn numbers(read: u64, successful: u64, failed: u64) -> String {
    let processed = successful + failed;
    let rows = [
        ("Total records", read),
        ("Skipped", read.saturating_sub(processed)),
        ("Processed", processed),
        ("Successful", successful),
        ("Failed", failed),
    ];
    let mut text = format!("{LINE}\nSummary:\n");
    for (name, number) in rows {
        // A String takes whatever is written.
        let _ = writeln!(text, "  {name}: {}", count(number));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use whimbrel_engine::changes::Alteration;

    fn change(fate: Fate) -> Change {
        let attribute = |name: &str, old: Value, new: Value| Alteration {
            name: name.to_owned(),
            old: Some(old).filter(|value| !value.is_null()),
            new: Some(new).filter(|value| !value.is_null()),
        };
        Change {
            flow: "repair".into(),
            key: vec![json!("PROJECT#a"), json!("TOKEN#1")],
            attributes: vec![
                attribute("created_at", json!("2022-02-02 18:01:49+00"), json!("2022-02-02T18:01:49Z")),
                attribute("note", json!("a\u{1b}[31m\nb"), Value::Null),
                attribute("uses", Value::Null, json!(7)),
            ],
            fate,
        }
    }

    #[test]
    fn a_change_is_a_few_lines_whatever_it_holds() {
        let expected = "[PROJECT#a][TOKEN#1]:\n  created_at: 2022-02-02 18:01:49+00 → 2022-02-02T18:01:49Z\n  \
            note: a\\u{1b}[31m\\nb → (none)\n  uses: 7\n";
        assert_eq!(text(&change(Fate::WouldUpdate)), format!("{expected}  DRY RUN - Would update\n"));
        assert_eq!(text(&change(Fate::Updated)), format!("{expected}  ✓ Updated\n"));
        let failed = text(&change(Fate::Failed("conflict".to_owned())));
        assert_eq!(failed, format!("{expected}  ✗ Failed: conflict\n"));
        assert_eq!(plain(&"ü".repeat(400)).chars().count(), SHOWN_CHARACTERS + 1);
    }

    #[test]
    fn the_numbers_add_up() {
        let counts =
            Counts { read: 150, filtered: 90, unchanged: 10, updated: 48, rejected: 2, ..Counts::default() };
        let lines = summary(&counts);
        let lines: Vec<_> = lines.lines().skip(2).map(str::trim).collect();
        let expected = ["Total records: 150", "Skipped: 100", "Processed: 50", "Successful: 48", "Failed: 2"];
        assert_eq!(lines, expected);
    }
}
