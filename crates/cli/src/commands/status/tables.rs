//! What the tables of a spec hold now, and what became of the latest run of each environment.

use super::state;
use crate::args::{SpecArgs, Values};
use crate::commands::Program;
use crate::failure::Result;
use crate::workspace::{Opened, Workspace};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use whimbrel_engine::journal::RunRecord;
use whimbrel_engine::migration::ScanFlow;
use whimbrel_engine::{Journal, Migration, Summary, ownership};
use whimbrel_report::figures::{count, usd};

/// A table that a spec writes.
#[derive(Debug, Serialize)]
pub struct Table {
    store: String,
    name: String,
    exists: bool,
    /// Records in it; of all flows and others.
    records: Option<u64>,
    /// Whether somebody has just counted them; DynamoDB counts by itself, some times a day.
    exact: bool,
    /// Whose it is: migration and environment.
    owner: Option<String>,
}

/// The latest run of an environment.
#[derive(Debug, Serialize)]
pub struct Environment {
    name: String,
    run: Option<String>,
    state: Option<String>,
    started: Option<String>,
    /// Records that it read, wrote, and found unchanged.
    #[serde(skip_serializing_if = "Option::is_none")]
    totals: Option<whimbrel_model::Counts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<whimbrel_engine::summary::Cost>,
}

/// Looks at the tables.
///
/// # Errors
/// The spec is wrong, or a store does not answer.
pub async fn tables(
    program: &Program,
    journal: &Journal,
    spec: &Path,
    values: &Values,
) -> Result<Vec<Table>> {
    let args = SpecArgs { spec: spec.to_owned(), only: Vec::new(), values: values.clone() };
    let workspace = Workspace::load(&args, None).await?;
    let opened = workspace.open().await?;
    let looked = look(program, journal, &workspace, &opened).await;
    opened.close().await;
    looked
}

async fn look(
    program: &Program,
    journal: &Journal,
    workspace: &Workspace,
    opened: &Opened,
) -> Result<Vec<Table>> {
    let migration = opened.prepare(workspace.resolved.clone(), &program.common).await?;
    let mut tables = Vec::new();
    for flow in ownership::tables(&migration) {
        tables.push(opened.hide(table(&migration, journal, flow).await)?);
    }
    Ok(tables)
}

async fn table(
    migration: &Migration,
    journal: &Journal,
    flow: &ScanFlow,
) -> std::result::Result<Table, whimbrel_engine::EngineError> {
    let target = &flow.plan.target;
    let (exists, is_metered) = (flow.target.exists, target.capabilities().metered);
    let records = match flow.target.read_back {
        _ if !exists => None,
        // A count would read the whole table, at the price of that.
        Some(cost) if is_metered => Some(cost.records),
        None if is_metered => Some(0),
        _ => {
            let held = target.count(&[]).await?;
            Some(held.flows.iter().sum::<u64>() + held.others)
        }
    };
    let owner = if exists { ownership::owner_of(migration, Some(journal), flow).await? } else { None };
    Ok(Table {
        store: flow.store.to_string(),
        name: target.resource(),
        exists,
        records,
        exact: !is_metered,
        owner: owner.map(|owner| owner.to_string()),
    })
}

/// The latest run of each environment of a migration.
///
/// # Errors
/// The journal fails.
pub fn environments(journal: &Journal, migration: &str, names: &[String]) -> Result<Vec<Environment>> {
    let runs = journal.runs()?;
    let mut latest: BTreeMap<&str, &RunRecord> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.migration == migration) {
        // The latest comes first.
        latest.entry(run.environment.as_deref().unwrap_or_default()).or_insert(run);
    }
    let environment = |name: &String| {
        let Some(run) = latest.get(name.as_str()) else {
            let (run, state, started) = (None, None, None);
            return Environment { name: name.clone(), run, state, started, totals: None, cost_usd: None };
        };
        let summary = Summary::read(&journal.run_folder(&run.id)).ok();
        let started = jiff::Timestamp::from_millisecond(run.started_ms).map(|at| at.to_string());
        Environment {
            name: name.clone(),
            run: Some(run.id.to_string()),
            state: Some(state(journal, run)),
            started: started.ok(),
            totals: summary.as_ref().map(|summary| summary.totals),
            cost_usd: summary.map(|summary| summary.cost_usd),
        }
    };
    Ok(names.iter().map(environment).collect())
}

/// Both as text.
pub fn text(environments: &[Environment], tables: &[Table], unseen: Option<&str>, text: &mut String) {
    if !tables.is_empty() {
        text.push_str("\n  tables:\n");
    }
    for table in tables {
        let records = match table.records {
            _ if !table.exists => "not there".to_owned(),
            Some(records) if table.exact => format!("{} records", count(records)),
            Some(records) => {
                format!("about {} records (DynamoDB counts every six hours)", count(records))
            }
            None => String::new(),
        };
        let owner = match &table.owner {
            Some(owner) => format!("; of {owner}"),
            None if table.exists => "; made by others".to_owned(),
            None => String::new(),
        };
        let _ = writeln!(text, "    {}: {}: {records}{owner}", table.store, table.name);
    }
    if let Some(unseen) = unseen {
        let _ = writeln!(text, "\n  tables: {unseen}");
    }
    if environments.is_empty() {
        return;
    }
    text.push_str("\n  environments:\n");
    for environment in environments {
        let name = &environment.name;
        let (Some(state), Some(started)) = (&environment.state, &environment.started) else {
            let _ = writeln!(text, "    {name}: no run yet");
            continue;
        };
        let _ = write!(text, "    {name}: {state}, begun {started}");
        if let Some(totals) = &environment.totals {
            let _ = write!(
                text,
                "; {} created, {} updated, {} unchanged, {} rejected",
                count(totals.created),
                count(totals.updated),
                count(totals.unchanged),
                count(totals.rejected)
            );
        }
        match environment.cost_usd.as_ref().filter(|cost| cost.actual > 0.0) {
            Some(cost) => {
                let _ = writeln!(text, "; {} of {} for writing all", usd(cost.actual), usd(cost.all));
            }
            None => text.push('\n'),
        }
    }
}
