//! `whimbrel list`

use super::Program;
use super::resume::journal;
use super::status::state;
use crate::failure::{Exit, Result};
use serde::Serialize;
use std::fmt::Write;
use whimbrel_engine::journal::RunKind;

#[derive(Debug, Serialize)]
struct Listed {
    run: String,
    migration: String,
    environment: Option<String>,
    kind: &'static str,
    parent: Option<String>,
    state: String,
    started: String,
    resumes: u64,
}

/// Lists all runs, the latest first.
///
/// # Errors
/// There is no journal.
pub fn list(program: &Program) -> Result<Exit> {
    let journal = journal(program)?;
    let mut listed = Vec::new();
    for record in journal.runs()? {
        let (kind, parent) = match &record.kind {
            RunKind::Run => ("run", None),
            RunKind::Retry { parent } => ("retry", Some(parent.to_string())),
        };
        let started = jiff::Timestamp::from_millisecond(record.started_ms).map(|at| at.to_string());
        listed.push(Listed {
            state: state(&journal, &record),
            run: record.id.to_string(),
            migration: record.migration,
            environment: record.environment,
            kind,
            parent,
            started: started.unwrap_or_default(),
            resumes: record.resumes,
        });
    }
    let mut text = String::new();
    for run in &listed {
        let environment = run.environment.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
        let what = run.parent.as_deref().map_or(String::new(), |parent| format!(", rejects of {parent}"));
        let _ = writeln!(
            text,
            "{}  {}{environment}  {}  begun {}{what}",
            run.run, run.migration, run.state, run.started
        );
    }
    if listed.is_empty() {
        text.push_str("no runs yet\n");
    }
    program.console.print(&serde_json::json!({ "runs": listed }), text);
    Ok(Exit::Done)
}
