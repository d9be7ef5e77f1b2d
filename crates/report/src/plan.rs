//! A plan as text.

use crate::figures::{bytes, count, seconds, share, units, usd};
use std::fmt::Write;
use whimbrel_engine::dry_run::{DryRun, FlowDryRun};
use whimbrel_model::Fidelity;

/// Characters of a sample record that are shown.
const SHOWN_CHARACTERS: usize = 300;

/// The plan for a terminal.
#[must_use]
pub fn plan(plan: &DryRun) -> String {
    let environment = plan.environment.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let mut text = format!("{}{environment}: plan; nothing was written\n", plan.migration);
    for (name, location) in &plan.stores {
        let _ = writeln!(text, "  {name}: {location}");
    }
    let mut shown_ddl: Vec<&[String]> = Vec::new();
    for flow in &plan.flows {
        flow_text(flow, &mut shown_ddl, &mut text);
    }
    hot_keys(plan, &mut text);
    let basis =
        if plan.complete { "every record was read" } else { "from a sample; --all reads every record" };
    let _ = write!(text, "\n  {} records", count(plan.records));
    if plan.capacity.write_units > 0.0 {
        let _ = write!(
            text,
            ", about {} write units, {} on AWS ({})",
            units(plan.capacity.write_units),
            usd(plan.cost_usd),
            whimbrel_engine::price::AS_OF
        );
    }
    let rejected: u64 = plan.flows.iter().map(|flow| flow.rejected).sum();
    let _ = writeln!(text, ", about {} ({basis})", seconds(plan.seconds.max(0.1)));
    let _ = writeln!(text, "  {} of the records looked at would be rejected", count(rejected));
    text
}

fn flow_text<'a>(flow: &'a FlowDryRun, shown_ddl: &mut Vec<&'a [String]>, text: &mut String) {
    let records = flow.records.map_or_else(|| "an unknown number of".to_owned(), count);
    let mode = serde_json::to_value(flow.mode).unwrap_or_default();
    let mode = mode.as_str().unwrap_or_default();
    let _ = writeln!(text, "\n  {}: {} → {} ({mode})", flow.flow, flow.from, flow.into);
    let slices = if flow.slices == 1 { "1 slice".to_owned() } else { format!("{} slices", flow.slices) };
    let _ = writeln!(
        text,
        "    {records} records in {slices}; looked at {}: {} rejected, {} filtered; {} a record, {} write units",
        count(flow.read),
        count(flow.rejected),
        count(flow.filtered),
        mean(flow.mean_bytes),
        units(flow.capacity.write_units)
    );
    if !flow.exists {
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
    for (index, sample) in flow.samples.iter().enumerate() {
        let line = flow.sample_lines.get(index).map(|line| format!("{line}: ")).unwrap_or_default();
        let _ = writeln!(text, "    sample: {line}{}", cut(&sample.to_string()));
    }
    for reject in &flow.rejects {
        let _ = writeln!(text, "    reject ({}): {}: {}", reject.stage, reject.key, reject.reason);
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
