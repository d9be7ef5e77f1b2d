//! Sample data that a migration of its own moves into a demo's source.

use super::{arguments, fill};
use crate::commands::Program;
use crate::commands::run::{Task, execute};
use crate::failure::Result;
use crate::workspace::{Workspace, embedded_path};
use std::path::Path;
use whimbrel_engine::journal::{RunKind, now_ms};
use whimbrel_engine::{EngineError, Journal, RunOutcome};
use whimbrel_model::RunId;
use whimbrel_report::figures::{count, seconds};
use whimbrel_spec::resolved::StoreKind;

/// Moves the sample data of the migration `name` to where the demo reads it, unless that was done before. Goes on
/// where an earlier demo was interrupted.
///
/// # Errors
/// An embedded database does not start, or the data did not arrive whole.
pub async fn move_in(program: &Program, name: &str, spec: &Path, script: &str) -> Result<()> {
    let mut args = arguments(spec.to_owned(), None);
    // What a demo is about is verified; its sample was counted when it was made.
    args.verify.verify = None;
    let mut journal = Journal::open(&program.common.journal)?;
    let lock = journal.lock(name, Some("demo"))?;
    let (mut id, mut started_ms) = (RunId::generate(), now_ms());
    let earlier = journal.runs()?.into_iter().find(|run| run.migration == name);
    let unfinished = earlier.clone().filter(|run| run.is_unfinished());
    if let Some(record) = &unfinished {
        (id, started_ms) = (record.id.clone(), record.started_ms);
    }
    let workspace = Workspace::load(&args.spec, Some((&id, started_ms))).await?;
    let place = place(&workspace);
    // A journal that outlived the data says nothing of it.
    let there = place.as_deref().is_some_and(|path| Path::new(path).exists());
    let shown = place.unwrap_or_default();
    if there && earlier.is_some_and(|run| run.outcome.as_deref() == Some(RunOutcome::Complete.as_str())) {
        program.console.say(format!("{shown} is there already; delete data/ to begin anew."));
        return Ok(());
    }
    let mut opened = workspace.nothing_opened();
    let filled = fill(program, script, &workspace, &mut opened).await;
    opened.hide(filled)?;
    let opened = workspace.open_into(opened).await?;
    program.console.say(format!("Moving the sample data into {shown}."));
    let task = match unfinished.filter(|_| there) {
        Some(record) => Task::Resume { record: Box::new(record), accept_spec: true },
        None => {
            id = RunId::generate();
            Task::Begin(RunKind::Run)
        }
    };
    let ended = execute(program, &args, &workspace, &opened, &mut journal, id, task).await;
    opened.close().await;
    drop(lock);
    let ended = ended?;
    if let Some(failure) = ended.failure {
        return Err(failure);
    }
    let summary = &ended.summary;
    if summary.outcome != RunOutcome::Complete {
        let message = format!("the sample data did not arrive whole: {} rejects", summary.rejects.count);
        return Err(EngineError::refused(message, "delete data/ and begin anew").into());
    }
    let (items, took) = (count(summary.totals.arrived()), seconds(summary.seconds));
    program.console.say(format!("{items} items in {took}.\n"));
    Ok(())
}

/// Where the sample goes: the file of the embedded DynamoDB.
fn place(workspace: &Workspace) -> Option<String> {
    let stores = workspace.resolved.stores.values();
    let mut paths = stores
        .filter(|store| store.kind == StoreKind::DynamoDb)
        .filter_map(|store| embedded_path(&store.config, "endpoint"));
    paths.next().map(|path| path.display().to_string())
}
