//! `whimbrel resume` and `whimbrel retry`

use super::Program;
use super::run::{Kept, Task, catch_up, conclude, execute, refuse_unfinished, rehearsing};
use crate::args::{RunArgs, Values, VerifyArgs};
use crate::due::Due;
use crate::failure::{Exit, Result};
use crate::workspace::Workspace;
use whimbrel_engine::journal::{RunKind, RunRecord, now_ms};
use whimbrel_engine::{EngineError, Journal};
use whimbrel_model::RunId;

/// Goes on with an unfinished run.
///
/// # Errors
/// There is none, it runs already, or its spec or stores are others now.
pub async fn resume(
    program: &Program,
    name: Option<&str>,
    accept_spec: bool,
    verify: VerifyArgs,
    values: &Values,
) -> Result<Exit> {
    let mut journal = journal(program)?;
    let record = match name {
        Some(name) => find(&journal, name)?,
        None => next(&journal)?,
    };
    let lock = journal.lock(&record.migration, record.environment.as_deref())?;
    // Under the lock nobody else moves it: it may have come to its end a moment ago.
    let record = find(&journal, record.id.as_str())?;
    let due = Due::read(&journal.run_folder(&record.id)).filter(|_| is_over(&record));
    if due.is_none() {
        refuse_finished(&record)?;
    }
    refuse_other_environment(&record, values)?;
    if due.is_some() {
        refuse_superseded(&journal, &record)?;
    }
    let verify = due.clone().unwrap_or_default().args(verify);
    let args = kept_args(&record, values, verify);
    let mut workspace = Workspace::load(&args.spec, Some((&record.id, record.started_ms))).await?;
    let args = rehearsing(program, args, &mut workspace, &journal.run_folder(&root(&journal, &record)?))?;
    if due.is_some() && !accept_spec {
        refuse_other_spec(&record, &workspace)?;
    }
    let opened = workspace.open().await?;
    let ended = if due.is_some() {
        catch_up(program, &args, &workspace, &opened, &journal, &record).await
    } else {
        let id = record.id.clone();
        let task = Task::Resume { record: Box::new(record), accept_spec };
        execute(program, &args, &workspace, &opened, &mut journal, id, task).await
    };
    opened.close().await;
    drop(lock);
    Ok(conclude(program, &ended?))
}

/// The run to go on with where none is named: one that is unfinished, else one that was not verified as was asked for.
fn next(journal: &Journal) -> Result<RunRecord> {
    let runs = journal.runs()?;
    let is_due = |run: &&RunRecord| is_over(run) && Due::read(&journal.run_folder(&run.id)).is_some();
    let due = || runs.iter().find(|run| is_due(run) && later(&runs, run).is_none());
    let found = runs.iter().find(|run| run.is_unfinished()).or_else(due).cloned();
    Ok(found.ok_or_else(|| {
        EngineError::refused(
            "there is no unfinished run",
            "`whimbrel list` shows all runs; `whimbrel run SPEC` begins one",
        )
    })?)
}

/// Whether a run came to its end.
fn is_over(run: &RunRecord) -> bool {
    matches!(run.outcome.as_deref(), Some("complete" | "incomplete"))
}

/// A later run of the same migration and environment; `runs` has the latest first.
fn later<'a>(runs: &'a [RunRecord], run: &RunRecord) -> Option<&'a RunRecord> {
    let mut of_it =
        runs.iter().filter(|other| other.migration == run.migration && other.environment == run.environment);
    of_it.next().filter(|latest| latest.id != run.id)
}

/// What the targets hold is no longer what this run left.
fn refuse_superseded(journal: &Journal, record: &RunRecord) -> Result<()> {
    let runs = journal.runs()?;
    let Some(later) = later(&runs, record) else { return Ok(()) };
    Err(EngineError::refused(
        format!("the run {} was not verified, and the run {} came after it", record.id, later.id),
        format!("`whimbrel verify {}` compares what is there now", record.spec_path),
    )
    .into())
}

/// What is verified is what the run moved.
fn refuse_other_spec(record: &RunRecord, workspace: &Workspace) -> Result<()> {
    if record.spec_digest == workspace.resolved.digest {
        return Ok(());
    }
    Err(EngineError::refused(
        format!("the spec {} has changed since the run {}", record.spec_path, record.id.short()),
        format!(
            "put it back, or compare by the new spec: `whimbrel resume {} --accept-spec`",
            record.id.short()
        ),
    )
    .into())
}

fn refuse_finished(record: &RunRecord) -> Result<()> {
    if record.is_unfinished() {
        return Ok(());
    }
    let outcome = record.outcome.as_deref().unwrap_or_default();
    let hint = match outcome {
        "abandoned" => "a later run of the same migration set it aside".to_owned(),
        "undoing" => format!("`whimbrel undo {}` takes the rest back, too", record.id.short()),
        "incomplete" => format!("`whimbrel retry {}` replays its rejects", record.id.short()),
        _ => "there is nothing left to do".to_owned(),
    };
    Err(EngineError::refused(format!("the run {} is over: {outcome}", record.id), hint).into())
}

/// A run goes on, and its rejects are replayed, in the environment that it began in.
pub(super) fn refuse_other_environment(record: &RunRecord, values: &Values) -> Result<()> {
    if values.env.is_none() || values.env == record.environment {
        return Ok(());
    }
    let environment = record.environment.as_deref().unwrap_or("none");
    Err(EngineError::refused(
        format!("the run {} began in the environment `{environment}`", record.id.short()),
        "leave --env out",
    )
    .into())
}

/// Replays the rejects of a run as a run of its own.
///
/// # Errors
/// There is no such run, it has no rejects, or they were replayed already.
pub async fn retry(
    program: &Program,
    name: &str,
    accept_spec: bool,
    verify: VerifyArgs,
    values: &Values,
) -> Result<Exit> {
    let mut journal = journal(program)?;
    let parent = find(&journal, name)?;
    let lock = journal.lock(&parent.migration, parent.environment.as_deref())?;
    let parent = find(&journal, parent.id.as_str())?;
    refuse_not_retriable(&journal, &parent)?;
    refuse_other_environment(&parent, values)?;
    let args = kept_args(&parent, values, verify);
    let (id, started_ms) = (RunId::generate(), now_ms());
    let mut workspace = Workspace::load(&args.spec, Some((&id, started_ms))).await?;
    let args = rehearsing(program, args, &mut workspace, &journal.run_folder(&root(&journal, &parent)?))?;
    refuse_unfinished(&journal, &workspace)?;
    if parent.spec_digest != workspace.resolved.digest && !accept_spec {
        return Err(EngineError::refused(
            format!("the spec {} has changed since the run {}", parent.spec_path, parent.id.short()),
            "where that is the fix, say so: `retry --accept-spec`; else put the spec back",
        )
        .into());
    }
    let opened = workspace.open().await?;
    let task = Task::Begin(RunKind::Retry { parent: parent.id });
    let ended = execute(program, &args, &workspace, &opened, &mut journal, id, task).await;
    opened.close().await;
    drop(lock);
    Ok(conclude(program, &ended?))
}

/// The run that began it all: what stood in for its targets is in its folder.
fn root(journal: &Journal, run: &RunRecord) -> Result<RunId> {
    let mut run = run.clone();
    while let RunKind::Retry { parent } = &run.kind {
        run = find(journal, parent.as_str())?;
    }
    Ok(run.id)
}

fn refuse_not_retriable(journal: &Journal, parent: &RunRecord) -> Result<()> {
    if parent.outcome.as_deref() != Some("incomplete") {
        let outcome = parent.outcome.as_deref().unwrap_or("not over");
        return Err(EngineError::refused(
            format!("the run {} is {outcome}: only a run that ended with rejects can be retried", parent.id),
            "`whimbrel list` shows the runs; `whimbrel resume` goes on with an unfinished one",
        )
        .into());
    }
    let Some(retry) = journal.retry_of(&parent.id)? else { return Ok(()) };
    let verb = if retry.is_unfinished() { "resume" } else { "retry" };
    Err(EngineError::refused(
        format!("the rejects of {} were replayed already, by {}", parent.id, retry.id),
        format!("`whimbrel {verb} {}` works on what that run left", retry.id.short()),
    )
    .into())
}

pub(super) fn kept_args(record: &RunRecord, values: &Values, verify: VerifyArgs) -> RunArgs {
    let kept: Kept = serde_json::from_value(record.options.clone()).unwrap_or_default();
    kept.args(record.spec_path.clone().into(), values, verify)
}

/// The journal, where there is one.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn journal(program: &Program) -> Result<Journal> {
    let folder = &program.common.journal;
    let journal = Journal::open_existing(folder)?;
    Ok(journal.ok_or_else(|| {
        EngineError::refused(
            format!("there is no journal in {}", folder.display()),
            "run from the folder in which the run was begun, or name its journal with --journal DIR",
        )
    })?)
}

/// The one run whose name begins or ends so.
///
/// # Errors
/// There is none, or more than one.
pub fn find(journal: &Journal, name: &str) -> Result<RunRecord> {
    let mut found = journal.find(name)?;
    match found.len() {
        0 => Err(EngineError::no_run(name).into()),
        1 => Ok(found.remove(0)),
        _ => {
            let ids: Vec<RunId> = found.into_iter().map(|run| run.id).collect();
            Err(EngineError::ambiguous_run(name, &ids).into())
        }
    }
}
