//! A plan as text.

use crate::cost;
use crate::failing;
use crate::figures::{bytes, count, seconds, share, units};
use crate::paint::Paint;
use std::fmt::Write;
use whimbrel_engine::dry_run::{DryRun, FlowDryRun};
use whimbrel_model::Fidelity;

/// Characters of a sample record that are shown.
const SHOWN_CHARACTERS: usize = 300;
/// Reasons and rejects of a flow that are shown.
const SHOWN_REJECTS: usize = 10;

/// The plan for a terminal.
#[must_use]
pub fn plan(plan: &DryRun, paint: Paint) -> String {
    let environment = plan.environment.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let title = paint.heading(&format!("{}{environment}: plan; nothing was written", plan.migration));
    let mut text = format!("{title}\n");
    for (name, location) in &plan.stores {
        let _ = writeln!(text, "  {name}: {location}");
    }
    let mut shown_ddl: Vec<&[String]> = Vec::new();
    for flow in &plan.flows {
        flow_text(flow, plan.complete, paint, &mut shown_ddl, &mut text);
    }
    hot_keys(plan, &mut text);
    failing::unmatched(&plan.unmatched, paint, &mut text);
    failing::shared(plan.shared, &mut text);
    totals(plan, paint, &mut text);
    text
}

fn totals(plan: &DryRun, paint: Paint, text: &mut String) {
    let basis =
        if plan.complete { "every record was read" } else { "from a sample; --all reads every record" };
    let _ = write!(text, "\n  {} records", count(plan.records));
    let _ = writeln!(text, ", about {} ({basis})", seconds(plan.seconds.max(0.1)));
    cost::lines(plan.capacity, &plan.cost_usd, text);
    let sum = |figure: fn(&FlowDryRun) -> u64| plan.flows.iter().map(figure).sum::<u64>();
    let (read, filtered, rejected) =
        (sum(|flow| flow.read), sum(|flow| flow.filtered), sum(|flow| flow.rejected));
    let line = format!("{} of the records looked at would be rejected", count(rejected));
    let line = match rate(read, filtered, rejected) {
        Some(rate) => format!("{line}: {} of those due would arrive", share(rate)),
        None => line,
    };
    let line = if rejected > 0 { paint.warn(&line) } else { paint.good(&line) };
    let _ = writeln!(text, "  {line}");
    if plan.complete {
        text.push_str(
            "  Second records of a key and records whose parent never comes are found by the run.\n",
        );
    }
}

/// What would arrive of what should; `None` where nothing should.
fn rate(read: u64, filtered: u64, rejected: u64) -> Option<f64> {
    let due = read.checked_sub(filtered).filter(|due| *due > 0)?;
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    Some(due.saturating_sub(rejected) as f64 / due as f64)
}

fn flow_text<'a>(
    flow: &'a FlowDryRun,
    complete: bool,
    paint: Paint,
    shown_ddl: &mut Vec<&'a [String]>,
    text: &mut String,
) {
    let records = flow.records.map_or_else(|| "an unknown number of".to_owned(), count);
    let mode = serde_json::to_value(flow.mode).unwrap_or_default();
    let mode = mode.as_str().unwrap_or_default();
    let title = paint.heading(&format!("{}: {} → {} ({mode})", flow.flow, flow.from, flow.into));
    let _ = writeln!(text, "\n  {title}");
    let slices = if flow.slices == 1 { "1 slice".to_owned() } else { format!("{} slices", flow.slices) };
    let _ = write!(text, "    {records} records in {slices}; {} a record", mean(flow.mean_bytes));
    if flow.capacity.write_units > 0.0 {
        let _ = write!(text, ", {} write units", units(flow.capacity.write_units));
    }
    text.push('\n');
    found(flow, complete, paint, text);
    if let Some(compared) = &flow.compared {
        let _ = writeln!(
            text,
            "    of these the target holds {} as they are, {} with other content, and lacks {}",
            count(compared.same),
            count(compared.different),
            count(compared.missing)
        );
    }
    if let Some(deletes) = flow.deletes {
        let _ = writeln!(text, "    {} that the source no longer has would be deleted", count(deletes));
    }
    if !flow.exists && flow.ddl.is_empty() {
        // A file, for one.
        let _ = writeln!(text, "    it is not there yet; the run makes it");
    } else if !flow.exists {
        let known = shown_ddl.contains(&flow.ddl.as_slice());
        let _ = writeln!(
            text,
            "    the table does not exist; `create` or `run --create` makes it{}",
            if known { "" } else { ":" }
        );
        if !known {
            flow.ddl.iter().flat_map(|ddl| ddl.lines()).for_each(|line| {
                let _ = writeln!(text, "      {line}");
            });
            shown_ddl.push(&flow.ddl);
        }
    }
    for note in &flow.notes {
        let _ = writeln!(text, "    note: {note}");
    }
    fidelity(flow, text);
    samples(flow, text);
    issues(flow, paint, text);
}

/// How many were found, and what would become of them.
fn found(flow: &FlowDryRun, complete: bool, paint: Paint, text: &mut String) {
    let valid = flow.read.saturating_sub(flow.filtered + flow.rejected);
    let found = if complete { "found" } else { "looked at" };
    let line = format!("{} {found}: {} valid, ", count(flow.read), count(valid));
    let issues = match flow.rejected {
        0 => paint.good("0 with issues"),
        rejected => paint.warn(&format!("{} with issues", count(rejected))),
    };
    let filtered = match flow.filtered {
        0 => String::new(),
        filtered => format!(", {} filtered", count(filtered)),
    };
    let rate = rate(flow.read, flow.filtered, flow.rejected);
    let rate = rate.map(|rate| format!("; {} would arrive", share(rate))).unwrap_or_default();
    let _ = writeln!(text, "    {line}{issues}{filtered}{rate}");
}

fn samples(flow: &FlowDryRun, text: &mut String) {
    for (index, sample) in flow.samples.iter().enumerate() {
        let sample = cut(&sample.to_string());
        match flow.sample_lines.get(index) {
            Some(line) => {
                let _ = writeln!(text, "    sample: {}\n            {sample}", failing::cut(line));
            }
            None => {
                let _ = writeln!(text, "    sample: {sample}");
            }
        }
    }
}

fn issues(flow: &FlowDryRun, paint: Paint, text: &mut String) {
    if flow.rejected == 0 {
        return;
    }
    let _ = writeln!(text, "    {}", paint.warn(&format!("issues ({}):", count(flow.rejected))));
    for reason in flow.reasons.iter().take(SHOWN_REJECTS) {
        let _ = writeln!(
            text,
            "    {:>8}  {} ({})",
            count(reason.count),
            failing::cut(&reason.reason),
            reason.stage
        );
    }
    failing::list(&flow.rejects, SHOWN_REJECTS, "      ", text);
    let rest = flow.rejected.saturating_sub(u64::try_from(SHOWN_REJECTS).unwrap_or(0));
    if rest > 0 {
        let _ = writeln!(
            text,
            "      and {} more; `plan --json` names the first 1,000 of each flow",
            count(rest)
        );
    }
}

fn fidelity(flow: &FlowDryRun, text: &mut String) {
    let exact: Vec<String> = flow
        .fidelity
        .iter()
        .filter(|column| column.fidelity == Fidelity::Exact)
        .map(|column| format!("{} {} → {}", column.column, column.from, column.into))
        .collect();
    if !exact.is_empty() {
        let _ = writeln!(text, "    exact: {}", exact.join(", "));
    }
    for column in flow.fidelity.iter().filter(|column| column.fidelity != Fidelity::Exact) {
        let _ =
            writeln!(text, "    {}: {} → {}, {}", column.column, column.from, column.into, column.fidelity);
    }
}

fn hot_keys(plan: &DryRun, text: &mut String) {
    for key in &plan.hot_keys {
        let place =
            if key.place == "table" { "partition key".to_owned() } else { format!("index {}", key.place) };
        let _ = writeln!(
            text,
            "\n  hot key: {} of {}: `{}` has {} values among the records looked at; `{}` is {} of them, so that the whole takes \
             at most about {} write units/s",
            place,
            key.resource,
            key.column,
            count(key.values),
            cut(&key.top),
            share(key.share),
            units(key.units_per_second)
        );
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive figure for people")]
fn mean(value: f64) -> String {
    bytes(value.round() as u64)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
