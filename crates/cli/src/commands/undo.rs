//! `whimbrel undo`

use super::Program;
use super::resume::{find, journal, kept_args, refuse_other_environment};
use super::run::stop_on_signal;
use crate::args::{Values, VerifyArgs};
use crate::confirm::confirmed;
use crate::console::Console;
use crate::failure::{Exit, Result};
use crate::workspace::{Opened, Workspace};
use serde_json::json;
use std::fmt::Write;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use whimbrel_engine::journal::RunRecord;
use whimbrel_engine::undo::{TableUndo, UNDOING, UNDONE, Undo, Way};
use whimbrel_engine::{EngineError, Journal, ownership};
use whimbrel_model::RunId;
use whimbrel_store::RunContext;

/// How many keys a terminal shows.
const KEYS_SHOWN: usize = 20;

/// Takes back what a run has written. Without `--confirm` it shows what it would do.
///
/// # Errors
/// The run cannot be undone, it is not confirmed, or a store fails.
pub async fn undo(program: &Program, name: &str, values: &Values) -> Result<Exit> {
    let journal = journal(program)?;
    let record = find(&journal, name)?;
    let _lock = journal.lock(&record.migration, record.environment.as_deref())?;
    let record = find(&journal, record.id.as_str())?;
    refuse_what_is_over(&record)?;
    refuse_other_environment(&record, values)?;
    let args = kept_args(&record, values, VerifyArgs::default());
    if args.rehearse {
        return Err(EngineError::refused(
            format!("the run {} was a rehearsal: no target was touched", record.id.short()),
            "there is nothing to undo",
        )
        .into());
    }
    let workspace = Workspace::load(&args.spec, Some((&record.id, record.started_ms))).await?;
    program.log.keep_in(&journal.run_folder(&record.id), &workspace.resolved.secrets)?;
    let opened = workspace.open().await?;
    let stop = CancellationToken::new();
    let interrupt = tokio::spawn(stop_on_signal(program.console, stop.clone()));
    let undone = carry_out(program, &workspace, &opened, &journal, &record, stop).await;
    interrupt.abort();
    opened.close().await;
    undone
}

async fn carry_out(
    program: &Program,
    workspace: &Workspace,
    opened: &Opened,
    journal: &Journal,
    record: &RunRecord,
    stop: CancellationToken,
) -> Result<Exit> {
    let migration = opened.prepare(workspace.resolved.clone(), &program.common).await?;
    opened.hide(ownership::check(&migration, Some(journal)).await)?;
    let context = RunContext {
        run: record.id.clone(),
        budget: Arc::default(),
        fingerprint_key: journal.fingerprint_key(&record.migration, record.environment.as_deref())?,
        retry_for: migration.resolved.limits.retry_for,
        stop,
        meter: Arc::default(),
    };
    let undo = opened.hide(Undo::of(&migration, journal, record, context).await)?;
    let looked = opened.hide(undo.look().await)?;
    let runs: Vec<&RunId> = undo.runs().collect();
    if looked.iter().any(|table| table.undone.conflicts > 0) {
        return Ok(refuse(program, &runs, "refused", &looked));
    }
    if let Err(unconfirmed) =
        confirmed(&migration.resolved, "undoing a run", program.common.confirm.as_deref())
    {
        // The answer of a command is one object: here it is the refusal.
        program.console.say(text(&looked, false));
        return Err(unconfirmed);
    }
    let done = opened.hide(undo.act().await)?;
    if done.iter().any(|table| table.undone.conflicts > 0) {
        return Ok(refuse(program, &runs, UNDOING, &done));
    }
    program.console.print(&json!({ "outcome": UNDONE, "runs": runs, "tables": done }), text(&done, true));
    Ok(Exit::Done)
}

/// Others have written since: their records are named, and theirs stay.
fn refuse(program: &Program, runs: &[&RunId], outcome: &str, tables: &[TableUndo]) -> Exit {
    let mut text = String::new();
    for table in tables.iter().filter(|table| table.undone.conflicts > 0) {
        let _ = writeln!(text, "{}: {}: others have written since the run:", table.store, table.table);
        for key in table.undone.conflicting.iter().take(KEYS_SHOWN) {
            let _ = writeln!(text, "  {}", serde_json::Value::Object(key.clone()));
        }
        let shown = table.undone.conflicting.len().min(KEYS_SHOWN);
        let more = table.undone.conflicts.saturating_sub(u64::try_from(shown).unwrap_or(0));
        if more > 0 {
            let _ = writeln!(text, "  and {more} more");
        }
    }
    program.console.print(&json!({ "outcome": outcome, "runs": runs, "tables": tables }), text);
    let (what, hint) = if outcome == UNDOING {
        ("some of what the run wrote was not taken back", "look at these records, then call `undo` again")
    } else {
        (
            "the run is not undone: others have written to records of it since",
            "nothing was changed; look at these records: as soon as they hold again what the run wrote, or what was \
             there before it, it can be undone",
        )
    };
    Console::insist(format!("error: {what}\n  hint: {hint}"));
    Exit::Failed
}

fn text(tables: &[TableUndo], done: bool) -> String {
    let mut text = String::new();
    let will = |past: &str, future: &str| if done { past.to_owned() } else { future.to_owned() };
    for TableUndo { store, table, way, undone } in tables {
        let what = match way {
            _ if undone.already => "was undone before".to_owned(),
            Way::Nothing => "the run has written nothing here".to_owned(),
            Way::Remove => {
                format!("{}, with {} records", will("removed", "would be removed"), undone.removed)
            }
            Way::Empty => format!("{} records {}", undone.removed, will("deleted", "would be deleted")),
            Way::Restore => format!(
                "{} records {}, {} {}",
                undone.restored,
                will("brought back", "would be brought back"),
                undone.removed,
                will("deleted", "would be deleted"),
            ),
        };
        let _ = writeln!(text, "{store}: {table}: {what}");
    }
    text
}

fn refuse_what_is_over(record: &RunRecord) -> Result<()> {
    if record.outcome.as_deref() == Some(UNDONE) {
        return Err(EngineError::refused(
            format!("the run {} was undone before", record.id),
            "`whimbrel list` shows the runs",
        )
        .into());
    }
    if !record.planned {
        return Err(EngineError::refused(
            format!("the run {} came to an end before it wrote anything", record.id),
            "there is nothing to undo",
        )
        .into());
    }
    Ok(())
}

/// A run that is undone in part is in the way of the next one.
///
/// # Errors
/// There is one.
pub fn refuse_half_undone(journal: &Journal, migration: &str, environment: Option<&str>) -> Result<()> {
    let half = journal.runs()?.into_iter().find(|run| {
        run.outcome.as_deref() == Some(UNDOING)
            && run.migration == migration
            && run.environment.as_deref() == environment
    });
    match half {
        None => Ok(()),
        Some(run) => Err(EngineError::refused(
            format!("the run {} is undone only in part", run.id),
            format!("`whimbrel undo {}` takes the rest back, too", run.id.short()),
        )
        .into()),
    }
}
