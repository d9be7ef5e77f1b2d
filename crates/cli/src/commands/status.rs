//! `whimbrel status`

mod tables;

use super::Program;
use super::resume::{find, journal};
use crate::args::Values;
use crate::failure::{Exit, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use whimbrel_engine::costs::Cost;
use whimbrel_engine::journal::{RunRecord, now_ms};
use whimbrel_engine::{EngineError, Journal, Summary};
use whimbrel_model::{Capacity, Counts, FlowName};
use whimbrel_report::figures::{count, seconds, share};

/// A run as it is at this moment.
#[derive(Debug, Serialize)]
struct Status {
    run: String,
    migration: String,
    environment: Option<String>,
    state: String,
    started: String,
    /// Whether it came to an end, be it an early one.
    ended: bool,
    /// From its beginning to its end, or until now.
    seconds: f64,
    resumes: u64,
    slices_done: usize,
    slices: usize,
    totals: Counts,
    flows: BTreeMap<FlowName, FlowStatus>,
    /// What it used and what that cost, once it has come to an end.
    #[serde(skip_serializing_if = "Option::is_none")]
    spent: Option<Spent>,
    /// Capacity that a killed run has raised and that was not put back.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    raised: Vec<String>,
    /// What the tables of the spec hold, where a spec was named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tables: Vec<tables::Table>,
    /// Why the tables were not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    tables_unseen: Option<String>,
    /// The latest run of each environment of the spec.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    environments: Vec<tables::Environment>,
}

#[derive(Debug, Serialize)]
struct Spent {
    capacity: Capacity,
    cost_usd: Cost,
}

#[derive(Debug, Default, Serialize)]
struct FlowStatus {
    expected: Option<u64>,
    counts: Counts,
}

/// Shows how far a run is.
///
/// # Errors
/// There is no such run.
pub async fn status(program: &Program, name: Option<&str>, values: &Values) -> Result<Exit> {
    let journal = journal(program)?;
    let spec = name.map(Path::new).filter(|path| path.is_file());
    let record = match (name, spec) {
        (_, Some(spec)) => latest_of(&journal, spec, values.env.as_deref())?,
        (Some(name), None) => find(&journal, name)?,
        (None, None) => journal.runs()?.into_iter().next().ok_or_else(nothing_yet)?,
    };
    let mut status = look(&journal, &record)?;
    if let Some(spec) = spec {
        holdings(program, &journal, spec, values, &record, &mut status).await?;
    }
    program.console.print(&status, text(&status));
    Ok(Exit::Done)
}

/// What the spec's tables hold, and how it stands in its environments. Stores that do not answer are no reason to say
/// nothing of the run.
async fn holdings(
    program: &Program,
    journal: &Journal,
    spec: &Path,
    values: &Values,
    record: &RunRecord,
    status: &mut Status,
) -> Result<()> {
    let names = whimbrel_spec::load(spec)?.environments().into_iter().map(|environment| environment.name);
    status.environments = tables::environments(journal, &record.migration, &names.collect::<Vec<_>>())?;
    if status.state == "running" {
        status.tables_unseen = Some("not looked at while the run is at work".to_owned());
        return Ok(());
    }
    let env = record.environment.clone();
    match tables::tables(program, journal, spec, &Values { env, ..values.clone() }).await {
        Ok(tables) => status.tables = tables,
        Err(failure) => status.tables_unseen = Some(format!("cannot be looked at: {}", failure.text())),
    }
    Ok(())
}

fn nothing_yet() -> EngineError {
    EngineError::refused("there is no run yet", "`whimbrel run SPEC` begins one")
}

fn latest_of(journal: &Journal, spec: &Path, env: Option<&str>) -> Result<RunRecord> {
    let spec = whimbrel_spec::load(spec)?;
    let environments = spec.environments();
    let default = environments.iter().find(|environment| environment.default).map(|e| e.name.as_str());
    let environment = env.or(default);
    let of_spec = |run: &RunRecord| {
        run.migration == spec.migration() && (env.is_none() || run.environment.as_deref() == environment)
    };
    Ok(journal.runs()?.into_iter().find(of_spec).ok_or_else(nothing_yet)?)
}

/// What the outcome means, told apart from a run that was killed.
#[must_use]
pub fn state(journal: &Journal, record: &RunRecord) -> String {
    match record.outcome.as_deref() {
        Some(outcome) => outcome.to_owned(),
        None if journal.is_running(&record.migration, record.environment.as_deref()) => "running".to_owned(),
        None => "killed".to_owned(),
    }
}

/// Capacity that no run is there any more to put back.
fn still_raised(journal: &Journal, record: &RunRecord) -> Result<Vec<String>> {
    let environment = record.environment.as_deref();
    if journal.is_running(&record.migration, environment) {
        return Ok(Vec::new());
    }
    let left = whimbrel_engine::provision::left(journal, &record.migration, environment)?;
    Ok(left.into_iter().map(|raised| raised.raise.to_string()).collect())
}

fn look(journal: &Journal, record: &RunRecord) -> Result<Status> {
    let slices = journal.slices(&record.id)?;
    let mut flows: BTreeMap<FlowName, FlowStatus> = BTreeMap::new();
    for target in journal.targets(&record.id)? {
        flows.entry(target.flow).or_default().expected = target.estimate;
    }
    for (flow, counts) in whimbrel_engine::summary::counts(journal, record)? {
        flows.entry(flow).or_default().counts = counts;
    }
    let until = record.ended_ms.unwrap_or_else(now_ms);
    #[expect(clippy::cast_precision_loss, reason = "a duration for people")]
    let seconds = (until - record.started_ms) as f64 / 1000.0;
    let started = jiff::Timestamp::from_millisecond(record.started_ms).map(|at| at.to_string());
    Ok(Status {
        run: record.id.to_string(),
        migration: record.migration.clone(),
        environment: record.environment.clone(),
        state: state(journal, record),
        started: started.unwrap_or_default(),
        ended: record.ended_ms.is_some(),
        seconds,
        resumes: record.resumes,
        slices_done: slices.iter().filter(|slice| slice.done).count(),
        slices: slices.len(),
        totals: flows.values().map(|flow| flow.counts).sum(),
        flows,
        spent: spent(journal, record),
        raised: still_raised(journal, record)?,
        tables: Vec::new(),
        tables_unseen: None,
        environments: Vec::new(),
    })
}

/// As the run's summary has it; a run that is under way, or was killed, has none of its own yet.
fn spent(journal: &Journal, record: &RunRecord) -> Option<Spent> {
    let summary = record.ended_ms.and_then(|_| Summary::read(&journal.run_folder(&record.id)).ok())?;
    Some(Spent { capacity: summary.capacity, cost_usd: summary.cost_usd })
}

/// What became of the records where they were not all created.
fn outcomes(counts: &Counts) -> String {
    if counts.updated + counts.unchanged + counts.skipped == 0 {
        return String::new();
    }
    let all = [
        (counts.created, "created"),
        (counts.updated, "updated"),
        (counts.unchanged, "unchanged"),
        (counts.skipped, "skipped"),
    ];
    let some = all.into_iter().filter(|(records, _)| *records > 0);
    some.map(|(records, what)| format!(", {} {what}", count(records))).collect()
}

fn text(status: &Status) -> String {
    let environment = status.environment.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let mut text = format!("{}{environment}: {}\n", status.migration, status.state);
    let span = if status.ended { "took" } else { "that is" };
    let ago = if status.ended { "" } else { " ago" };
    let lasted = seconds(status.seconds);
    let _ = writeln!(text, "  run {}, begun {}, {span} {lasted}{ago}", status.run, status.started);
    let _ = writeln!(text, "  {} of {} slices", status.slices_done, status.slices);
    for (flow, status) in &status.flows {
        let counts = &status.counts;
        let expected = match status.expected.filter(|expected| *expected > 0) {
            #[expect(clippy::cast_precision_loss, reason = "a share for people")]
            Some(expected) => format!(
                " of {} ({})",
                count(expected),
                share((counts.read as f64 / expected as f64).min(1.0))
            ),
            None => String::new(),
        };
        let rejected = if counts.rejected > 0 {
            format!(", {} rejected", count(counts.rejected))
        } else {
            String::new()
        };
        let outcomes = outcomes(counts);
        let _ = writeln!(text, "  {flow}: {}{expected}{outcomes}{rejected}", count(counts.read));
    }
    if let Some(spent) = &status.spent {
        whimbrel_report::cost_lines(spent.capacity, &spent.cost_usd, &mut text);
    }
    for raised in &status.raised {
        let _ = writeln!(
            text,
            "  capacity is still raised: {raised}; `whimbrel resume` puts it back, and so does the next run"
        );
    }
    tables::text(&status.environments, &status.tables, status.tables_unseen.as_deref(), &mut text);
    match status.state.as_str() {
        "killed" | "paused" | "failed" => {
            let _ = writeln!(
                text,
                "\nnext: `whimbrel resume {}`",
                whimbrel_model::RunId::new(status.run.as_str()).short()
            );
        }
        _ => {}
    }
    text
}
