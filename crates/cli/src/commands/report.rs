//! `whimbrel report`

use super::Program;
use super::resume::{find, journal};
use crate::console::Console;
use crate::failure::{Exit, Result};
use std::path::{Path, PathBuf};
use whimbrel_engine::journal::RunRecord;
use whimbrel_engine::{EngineError, Journal};
use whimbrel_report::Report;

/// Reports what a run did: into files, or as Markdown on standard output.
///
/// # Errors
/// There is no such run, a file has no form, or it cannot be written.
pub fn report(program: &Program, name: Option<&str>, out: &[PathBuf]) -> Result<Exit> {
    // A wrong suffix is told before anything is written.
    for path in out {
        whimbrel_report::files(path)?;
    }
    let journal = journal(program)?;
    let record =
        match name {
            Some(name) => find(&journal, name)?,
            None => journal.runs()?.into_iter().next().ok_or_else(|| {
                EngineError::refused("there is no run yet", "`whimbrel run SPEC` begins one")
            })?,
        };
    let report = Report::of_run(&journal, &record)?;
    for path in out {
        whimbrel_report::write(&report, path)?;
        program.console.say(format!("report: {}", path.display()));
    }
    if program.common.json {
        Console::output(&whimbrel_report::receipt(&report));
    } else if out.is_empty() {
        program.console.print(&(), whimbrel_report::markdown(&report));
    }
    Ok(Exit::Done)
}

/// Writes the report of a run that has just ended, what was verified included, where `--report PATH` asks for it.
///
/// # Errors
/// The journal fails, or the file cannot be written.
pub fn of_run(program: &Program, journal: &Journal, record: &RunRecord, path: &Path) -> Result<()> {
    // The record from before the run does not know how it ended.
    let record = find(journal, record.id.as_str())?;
    whimbrel_report::write(&Report::of_run(journal, &record)?, path)?;
    program.console.say(format!("report: {}", path.display()));
    Ok(())
}
