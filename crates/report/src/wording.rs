//! The words and figures that every form of a report for people shares. Plain text: each form escapes it.

use crate::figures::{bytes, count, seconds, share, units, usd};
use crate::report::{DepthFacts, FlowFacts, Report, RunFacts, Throughput, VerificationFacts};
use crate::throughput::courses;
use whimbrel_model::{Counts, Fidelity};

/// A name and what stands beside it.
pub type Row = (&'static str, String);

/// The parts of a count equation, in its order: name, records.
#[must_use]
pub fn parts(counts: &Counts) -> [(&'static str, u64); 6] {
    [
        ("created", counts.created),
        ("updated", counts.updated),
        ("unchanged", counts.unchanged),
        ("skipped", counts.skipped),
        ("rejected", counts.rejected),
        ("filtered", counts.filtered),
    ]
}

/// The count equation with its figures: `10 read = 9 created + 1 rejected`. Parts that are zero are left out.
#[must_use]
pub fn equation(counts: &Counts) -> String {
    let parts = parts(counts).into_iter().filter(|(_, records)| *records > 0);
    let parts: Vec<String> = parts.map(|(name, records)| format!("{} {name}", count(records))).collect();
    let sum = if parts.is_empty() { "0".to_owned() } else { parts.join(" + ") };
    let sign = if counts.balanced() { "=" } else { "≠" };
    format!("{} read {sign} {sum}", count(counts.read))
}

/// Whether a report's counts add up, in words.
#[must_use]
pub fn balance(run: &RunFacts) -> &'static str {
    if run.balanced {
        "The counts of every flow add up."
    } else {
        "The counts of a flow do not add up: a mistake in whimbrel."
    }
}

/// What a flow writes into, and as what it was found.
#[must_use]
pub fn route(flow: &FlowFacts) -> String {
    let route = match (&flow.plan, &flow.target) {
        (Some(plan), _) => format!("{} → {} ({})", plan.from, plan.into, plan.mode),
        (None, Some(target)) => format!("→ {}", target.resource),
        (None, None) => return String::new(),
    };
    let found = match &flow.target {
        Some(target) if target.made => "; the run made the table",
        Some(target) if target.empty => "; the table was empty",
        Some(_) => "; the table held records before",
        None => "",
    };
    format!("{route}{found}")
}

/// How fast a run was, in a sentence; `None` where it was too short to say.
#[must_use]
pub fn speed(throughput: &Throughput) -> Option<String> {
    let mean = throughput.mean_per_s?;
    let mut text =
        format!("{} records/s on average over {} of work", units(mean), seconds(throughput.working_seconds));
    if let Some(peak) = throughput.peak_per_s.filter(|peak| *peak > mean) {
        text.push_str(&format!(", {} at the most", units(peak)));
    }
    let pauses: Vec<f64> = courses(throughput).iter().skip(1).map(|course| course.pause_seconds).collect();
    match pauses.as_slice() {
        [] => {}
        [pause] => text.push_str(&format!("; one pause of {}", seconds(*pause))),
        many => {
            text.push_str(&format!("; {} pauses, together {}", many.len(), seconds(many.iter().sum())));
        }
    }
    text.push('.');
    Some(text)
}

/// The columns of a flow that arrive as they are, and the others with what happens to them.
#[must_use]
pub fn fidelity(flow: &FlowFacts) -> (Vec<String>, Vec<[String; 4]>) {
    let columns = flow.plan.iter().flat_map(|plan| &plan.columns);
    let (exact, other): (Vec<_>, Vec<_>) = columns.partition(|column| column.fidelity == Fidelity::Exact);
    let other = other.into_iter().map(|column| {
        [column.column.clone(), column.from.clone(), column.into.clone(), column.fidelity.to_string()]
    });
    (exact.into_iter().map(|column| column.column.clone()).collect(), other.collect())
}

/// Costs and capacity; nothing where the run used no metered store.
#[must_use]
pub fn costs(run: &RunFacts) -> Vec<[String; 4]> {
    let used = run.capacity;
    let planned = run.cost.planned;
    if used.read_units + used.write_units <= 0.0 && planned.is_none_or(|planned| planned.usd <= 0.0) {
        return Vec::new();
    }
    let row = |what: &str, units_of: fn(whimbrel_model::Capacity) -> f64| {
        let planned = planned.map_or_else(|| "–".to_owned(), |planned| units(units_of(planned.capacity)));
        [what.to_owned(), planned, units(units_of(used)), "–".to_owned()]
    };
    let dollars = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), usd);
    vec![
        row("write units", |capacity| capacity.write_units),
        row("read units", |capacity| capacity.read_units),
        [
            "cost".to_owned(),
            dollars(planned.map(|planned| planned.usd)),
            format!("{}{}", if run.cost.at_least { "at least " } else { "" }, usd(run.cost.actual_usd)),
            dollars(run.cost.projected_usd),
        ],
    ]
}

/// What is behind the figures of [`costs`].
#[must_use]
pub fn cost_note(run: &RunFacts) -> String {
    let planned = match run.cost.planned {
        Some(planned) => format!(
            "Planned from a sample: {} records in about {}.",
            count(planned.records),
            seconds(planned.seconds)
        ),
        None => "No plan was made for this run; `whimbrel plan SPEC` estimates before it begins.".to_owned(),
    };
    format!("Prices: {}. {planned}", run.cost.prices)
}

/// What undoing did to a table.
#[must_use]
pub fn undone(way: &str) -> &'static str {
    match way {
        "remove" => "removed, as the run had made it",
        "empty" => "emptied, as it was before the run",
        "restore" => "brought back, record by record",
        _ => "nothing to be taken back",
    }
}

/// How closely a verification looked.
#[must_use]
pub fn depth(found: &VerificationFacts) -> String {
    let looked = match &found.depth {
        DepthFacts::Assertions => "Only the spec's assertions were evaluated".to_owned(),
        DepthFacts::Count => "The numbers of records were compared, not their contents".to_owned(),
        DepthFacts::Sample { records, seed } => {
            format!(
                "{} records were drawn by key with the seed {seed}, which draws the same again",
                count(*records)
            )
        }
        DepthFacts::All => "Every record of both sides was read and compared".to_owned(),
    };
    format!("{looked}. It took {} and ended on {}.", seconds(found.seconds), moment(&found.ended))
}

/// Records of the targets that belong to no flow; `None` where there are none.
#[must_use]
pub fn others(found: &VerificationFacts) -> Option<String> {
    match found.others {
        0 => None,
        1 => Some("1 record of the targets belongs to no flow.".to_owned()),
        others => Some(format!("{} records of the targets belong to no flow.", count(others))),
    }
}

/// The run itself.
#[must_use]
pub fn run(run: &RunFacts) -> Vec<Row> {
    let mut rows = vec![("Run", run.id.clone())];
    if let Some(parent) = &run.retry_of {
        rows.push(("Replays the rejects of", parent.clone()));
    }
    rows.push(("Began", moment(&run.started)));
    rows.push(("Ended", run.ended.as_deref().map_or_else(|| "–".to_owned(), moment)));
    rows.push(("Took", seconds(run.seconds)));
    rows.push(("Slices", format!("{} of {}", count(run.slices_done), count(run.slices))));
    rows.push(("Resumed", times(run.resumes)));
    if let Some(process) = &run.process {
        let which = if run.resumes > 0 { " in the last stretch" } else { "" };
        rows.push(("Sent again", format!("{} requests{which}", count(process.retries))));
        rows.push(("Throttled", format!("{}{which}", times(process.throttles))));
        if process.peak_memory_bytes > 0 {
            rows.push(("Most memory", bytes(process.peak_memory_bytes)));
        }
    }
    rows.push(("Written", bytes(run.totals.bytes)));
    rows
}

/// Where it happened, and with what.
#[must_use]
pub fn environment(report: &Report) -> Vec<Row> {
    let mut rows = vec![("Migration", report.migration.clone())];
    rows.push(("Environment", report.environment.clone().unwrap_or_else(|| "–".to_owned())));
    rows.push(("Spec", report.spec.path.clone()));
    rows.push(("Spec digest", report.spec.digest.clone()));
    let ran = report.run.as_ref().and_then(|run| run.process.as_ref());
    if let Some(process) = ran {
        rows.push(("Run by", format!("whimbrel {}", process.version)));
    }
    rows.push(("Report by", format!("whimbrel {}", report.version)));
    rows.push(("Report made", moment(&report.written)));
    rows
}

fn times(value: u64) -> String {
    match value {
        0 => "never".to_owned(),
        1 => "once".to_owned(),
        times => format!("{} times", count(times)),
    }
}

/// `2026-01-05T12:00:00Z` as people read it.
#[must_use]
pub fn moment(rfc_3339: &str) -> String {
    rfc_3339.replacen('T', " ", 1).replacen('Z', " UTC", 1)
}

/// Arrived records as a share; `–` where none were due.
#[must_use]
pub fn arrived(counts: &Counts) -> String {
    counts.success_rate().map_or_else(|| "–".to_owned(), share)
}
