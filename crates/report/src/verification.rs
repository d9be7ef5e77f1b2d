//! A verification as text.

use crate::figures::{count, seconds};
use crate::paint::Paint;
use crate::shown::{cut, visible};
use crate::table::table;
use serde_json::{Map, Value};
use std::fmt::Write as _;
use whimbrel_verify::{
    Assertion, AttributeDifference, Depth, Difference, DifferenceKind, Outcome, Since, Verification,
};

/// Differences that a terminal shows.
const DIFFERENCES: usize = 20;
/// Attributes of one difference.
const ATTRIBUTES: usize = 8;
/// Characters of a value.
const CHARACTERS: usize = 80;

/// The verification for a terminal.
#[must_use]
pub fn verification(verification: &Verification, paint: Paint) -> String {
    let mut text = format!("{}\n", head(verification, paint));
    if !verification.flows.is_empty() {
        text.push_str(&format!("\n{}", flows(verification)));
    }
    if verification.others > 0 {
        let line = format!("{} records of the targets belong to no flow", count(verification.others));
        text.push_str(&format!("  {}\n", paint.bad(&line)));
    }
    if !verification.differences.is_empty() {
        text.push_str(&differences(verification, paint));
    }
    if !verification.assertions.is_empty() {
        text.push_str(&assertions(&verification.assertions, paint));
    }
    for note in &verification.notes {
        let _ = writeln!(text, "  note: {}", visible(note));
    }
    text
}

fn head(verification: &Verification, paint: Paint) -> String {
    let equal = verification.flows.values().all(whimbrel_verify::FlowVerification::is_equal);
    let sides = match (verification.depth, equal && verification.others == 0) {
        (Depth::Assertions, _) => String::new(),
        (Depth::Count, false) if verification.outcome == Outcome::Equal => {
            "no record is missing; what is there beside them was there before, or others wrote it".to_owned()
        }
        (Depth::Count, true) => {
            "the numbers of records are equal (a count does not compare contents)".to_owned()
        }
        (Depth::Count, false) => "the numbers of records differ".to_owned(),
        (Depth::Sample { records, seed }, true) => {
            format!("{} records, chosen by seed {seed}, are equal", count(records))
        }
        (Depth::Sample { records, seed }, false) => {
            format!("of {} records, chosen by seed {seed}, some differ", count(records))
        }
        (Depth::All, true) => all_equal(verification),
        (Depth::All, false) => "records differ".to_owned(),
    };
    let failed = verification.assertions.iter().filter(|assertion| !assertion.ok).count();
    let asserted = match (verification.assertions.len(), failed) {
        (0, _) => String::new(),
        (1, 0) => "the assertion holds".to_owned(),
        (1, _) => "the assertion does not hold".to_owned(),
        (all, 0) => format!("{all} assertions hold"),
        (all, 1) => format!("1 of {all} assertions does not hold"),
        (all, failed) => format!("{failed} of {all} assertions do not hold"),
    };
    let repaired = match verification.repaired {
        0 => String::new(),
        records => format!("{} records were written again", count(records)),
    };
    let parts: Vec<String> =
        [repaired, sides, asserted].into_iter().filter(|part| !part.is_empty()).collect();
    let line = format!("verify: {} ({})", parts.join("; "), seconds(verification.seconds));
    match verification.outcome {
        Outcome::Equal => paint.good(&line),
        Outcome::Different => paint.bad(&line),
    }
}

/// What holds where nothing differs, and which records it does not speak of.
fn all_equal(verification: &Verification) -> String {
    let sum = |figure: fn(&whimbrel_verify::FlowVerification) -> u64| -> u64 {
        verification.flows.values().map(figure).sum()
    };
    let rejected = match sum(|found| found.rejected) {
        0 => String::new(),
        records => format!(" but the {} rejected ones", count(records)),
    };
    let kept = match sum(|found| found.kept) {
        0 => String::new(),
        records => format!(", but for {} that others wrote and the run left", count(records)),
    };
    let counted = match verification.flows.values().filter(|found| found.numbers_alone).count() {
        0 => String::new(),
        1 => "; of one flow the numbers of records alone were compared".to_owned(),
        flows => format!("; of {flows} flows the numbers of records alone were compared"),
    };
    format!("every record is there{rejected}, and nothing else; contents are equal{kept}{counted}")
}

fn flows(verification: &Verification) -> String {
    let rows: Vec<Vec<String>> = verification
        .flows
        .iter()
        .map(|(flow, found)| {
            let figures =
                [found.compared, found.missing, found.extra, found.different, found.kept, found.rejected];
            std::iter::once(flow.to_string()).chain(figures.map(count)).collect()
        })
        .collect();
    let heads = ["flow", "compared", "missing", "extra", "different", "kept", "rejected"];
    table(&heads, &rows, &["different", "kept", "rejected"])
}

fn differences(verification: &Verification, paint: Paint) -> String {
    let mut text = String::from("\n");
    for difference in verification.differences.iter().take(DIFFERENCES) {
        text.push_str(&one(difference, paint));
    }
    let in_flows = verification.flows.values().map(|found| found.missing + found.extra + found.different);
    let all: u64 = in_flows.sum::<u64>() + verification.others;
    let shown = u64::try_from(verification.differences.len().min(DIFFERENCES)).unwrap_or(u64::MAX);
    if all > shown {
        let _ = writeln!(text, "  … and {} more", count(all - shown));
    }
    if let Some(file) = &verification.differences_file {
        let _ = writeln!(text, "  every difference: {file}");
    }
    text
}

fn one(difference: &Difference, paint: Paint) -> String {
    let kind = match difference.kind {
        DifferenceKind::Missing => "missing",
        DifferenceKind::Extra => "extra",
        DifferenceKind::Different => "different",
    };
    let flow = difference.flow.as_ref().map_or_else(|| "(no flow)".to_owned(), ToString::to_string);
    let since = match difference.since {
        Some(Since::SourceChanged) => "  (the source changed since the run)",
        Some(Since::TargetChanged) => "  (the target changed since the run)",
        None if difference.uncertain => "  (or skipped by the run as it was: nothing tells which)",
        None => "",
    };
    let mut text = format!("  {} {flow} {}{since}\n", paint.bad(kind), key(&difference.key));
    if difference.kind == DifferenceKind::Different {
        for attribute in difference.attributes.iter().take(ATTRIBUTES) {
            text.push_str(&pair(attribute));
        }
        if difference.attributes.len() > ATTRIBUTES {
            let _ =
                writeln!(text, "      … and {} more attributes", difference.attributes.len() - ATTRIBUTES);
        }
    }
    text
}

fn pair(attribute: &AttributeDifference) -> String {
    let side = |value: Option<&Value>| match value {
        None => "(not there)".to_owned(),
        Some(value) => cut(&visible(&value.to_string()), CHARACTERS),
    };
    format!(
        "      {}: {} in the source, {} in the target\n",
        visible(&attribute.name),
        side(attribute.source.as_ref()),
        side(attribute.target.as_ref())
    )
}

fn key(key: &Map<String, Value>) -> String {
    let parts = key.iter().map(|(name, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{}={}", visible(name), cut(&visible(&text), CHARACTERS))
    });
    parts.collect::<Vec<_>>().join(" ")
}

fn assertions(assertions: &[Assertion], paint: Paint) -> String {
    let mut text = String::from("\n");
    for assertion in assertions {
        let mark = if assertion.ok { paint.good("✓") } else { paint.bad("✗") };
        let _ = writeln!(
            text,
            "  {mark} {}: {} (expected {})",
            visible(&assertion.name),
            cut(&visible(&assertion.value), CHARACTERS),
            visible(&assertion.expected)
        );
        for example in &assertion.examples {
            let _ = writeln!(text, "      {}", cut(&visible(example), 2 * CHARACTERS));
        }
    }
    text
}
