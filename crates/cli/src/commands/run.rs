//! `whimbrel run`, and what `resume`, `retry` and `demo` share with it

mod backup;

use super::{Program, clean, undo};
use crate::args::{Common, RunArgs, SpecArgs, Values, VerifyArgs, VerifyDepth};
use crate::changes::{self, Shown};
use crate::confirm::confirmed;
use crate::console::Console;
use crate::created_values;
use crate::display;
use crate::due::Due;
use crate::failure::{Exit, Failure, Result};
use crate::metrics::{Metrics, Serving};
use crate::proof::{Proof, Wanted, incomparable};
use crate::rehearsal;
use crate::workspace::{Opened, Workspace};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use whimbrel_engine::changed::deleting;
use whimbrel_engine::journal::{MigrationLock, RunKind, RunRecord, now_ms};
use whimbrel_engine::{
    EngineError, Journal, Progress, Run, RunOutcome, RunSettings, RunnerSettings, Summary, costs, ownership,
};
use whimbrel_model::RunId;
use whimbrel_spec::{Redactor, Resolved};
use whimbrel_store::Meter;
use whimbrel_verify::{Outcome, Verification};

/// What a run was begun with, kept in the journal so that `resume` needs no arguments. Secrets are left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    env: Option<String>,
    set: Vec<(String, String)>,
    only: Vec<String>,
    aws_profile: Option<String>,
    region: Option<String>,
    limit: Option<u64>,
    create: bool,
    #[serde(default)]
    rehearse: bool,
    batch_size: Option<u32>,
    #[serde(default)]
    verify: Option<String>,
    #[serde(default)]
    report: Vec<PathBuf>,
    #[serde(default)]
    max_cost_usd: Option<f64>,
}

impl Kept {
    fn of(args: &RunArgs, common: &Common, secrets: &Redactor) -> Self {
        let values = args.spec.values.clone();
        let shown = |(_, value): &(String, String)| secrets.redact(value) == *value;
        Self {
            env: values.env,
            set: values.set.into_iter().filter(shown).collect(),
            only: args.spec.only.clone(),
            aws_profile: values.aws_profile,
            region: values.region,
            limit: args.limit,
            create: args.create,
            rehearse: args.rehearse,
            batch_size: common.batch_size,
            max_cost_usd: common.max_cost,
            verify: args.verify.verify.map(|depth| depth.to_string()),
            report: args.verify.report.clone(),
        }
    }

    /// The arguments of a run to go on with; values given now win.
    #[must_use]
    pub fn args(self, spec: PathBuf, given: &Values, verify: VerifyArgs) -> RunArgs {
        let mut set = self.set;
        set.retain(|(name, _)| !given.set.iter().any(|(other, _)| other == name));
        set.extend(given.set.iter().cloned());
        let values = Values {
            env: given.env.clone().or(self.env),
            set,
            aws_profile: given.aws_profile.clone().or(self.aws_profile),
            region: given.region.clone().or(self.region),
        };
        let spec = SpecArgs { spec, only: self.only, values };
        let kept: Option<VerifyDepth> = self.verify.and_then(|depth| depth.parse().ok());
        let report = if verify.report.is_empty() { self.report } else { verify.report };
        let verify = VerifyArgs { verify: verify.verify.or(kept), report };
        RunArgs {
            spec,
            create: self.create,
            clean: false,
            backup: false,
            limit: self.limit,
            diff: false,
            new: false,
            rehearse: self.rehearse,
            verify,
        }
    }
}

/// What a run is to do.
pub enum Task {
    /// Begin.
    Begin(RunKind),
    /// Go on.
    Resume {
        /// The run.
        record: Box<RunRecord>,
        /// Although the spec has changed.
        accept_spec: bool,
    },
}

/// A run that has ended, however it did.
pub struct Ended {
    /// What it did.
    pub summary: Summary,
    /// Why it stopped early.
    pub failure: Option<Failure>,
    /// What was read back.
    pub verification: Option<Verification>,
}

impl Ended {
    /// The worst of the run's and the verification's exit codes.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if let Some(failure) = &self.failure {
            return failure.exit();
        }
        let run = match self.summary.outcome {
            RunOutcome::Complete => Exit::Done,
            RunOutcome::Incomplete => Exit::Rejects,
            RunOutcome::Paused => Exit::Interrupted,
            RunOutcome::Failed => Exit::Failed,
        };
        let verified = self.verification.as_ref().map(|verification| verification.outcome);
        if matches!(run, Exit::Done | Exit::Rejects) && verified == Some(Outcome::Different) {
            return Exit::Differences;
        }
        run
    }
}

/// Runs a migration from its beginning.
///
/// # Errors
/// The spec is wrong, or the run could not begin.
pub async fn run(program: &Program, args: &RunArgs) -> Result<Exit> {
    // A wrong suffix is told before the work, and not behind it.
    for path in &args.verify.report {
        whimbrel_report::files(path)?;
    }
    let (id, started_ms) = (RunId::generate(), now_ms());
    let this = (&id, started_ms);
    let mut workspace = match args.rehearse {
        true => Workspace::rehearse(&args.spec, this).await?,
        false => Workspace::load(&args.spec, Some(this)).await?,
    };
    say_of_values(program, args, &workspace);
    let mut journal = Journal::open(&program.common.journal)?;
    let mut args = rehearsing(program, args.clone(), &mut workspace, &journal.run_folder(&id))?;
    if args.clean {
        confirmed(&workspace.resolved, "removing tables", program.common.confirm.as_deref())?;
        clean::refuse_shared(&args.spec, &workspace).await?;
        (args.create, args.new) = (true, true);
    }
    let args = &args;
    let lock = lock(&journal, &workspace)?;
    if !args.new {
        refuse_unfinished(&journal, &workspace)?;
    }
    let opened = workspace.open().await?;
    if let Err(failure) = beforehand(program, args, &workspace, &opened, &journal, &id).await {
        opened.close().await;
        return Err(failure);
    }
    let task = Task::Begin(RunKind::Run);
    let ended = execute(program, args, &workspace, &opened, &mut journal, id, task).await;
    opened.close().await;
    drop(lock);
    let ended = ended?;
    if args.diff && !program.console.json() {
        program.console.print(&(), changes::summary(&ended.summary.totals));
    }
    Ok(conclude(program, &ended))
}

/// Says which values the run made, or would have made.
fn say_of_values(program: &Program, args: &RunArgs, workspace: &Workspace) {
    let resolved = &workspace.resolved;
    match args.rehearse {
        true => created_values::stood_in(resolved).for_each(|line| program.console.say(&line)),
        false => created_values::made(resolved).for_each(|line| program.console.say(&line)),
    }
}

/// What is done before a run begins: backups, and room for tables that are made anew.
async fn beforehand(
    program: &Program,
    args: &RunArgs,
    workspace: &Workspace,
    opened: &Opened,
    journal: &Journal,
    id: &RunId,
) -> Result<()> {
    if args.backup {
        backup::back_up(program, workspace, opened, id, &journal.run_folder(id)).await?;
    }
    if args.clean {
        clean::make_room(program, workspace, opened, journal).await?;
    }
    Ok(())
}

/// In a rehearsal: other stores, and everything that a run can be asked for.
///
/// # Errors
/// A store is read as well as written.
pub fn rehearsing(
    program: &Program,
    mut args: RunArgs,
    workspace: &mut Workspace,
    run_folder: &Path,
) -> Result<RunArgs> {
    if !args.rehearse {
        return Ok(args);
    }
    rehearsal::stand_in(&mut workspace.resolved, &run_folder.join("rehearsal"))?;
    program.console.say("A rehearsal: embedded databases stand in for the targets, which are not touched.");
    args.create = true;
    args.verify.verify = args.verify.verify.or(Some(VerifyDepth::All));
    if args.verify.report.is_empty() {
        args.verify.report.push(run_folder.join("report.html"));
    }
    Ok(args)
}

/// The unfinished run that a new one would set aside, as a refusal.
///
/// # Errors
/// There is one.
pub fn refuse_unfinished(journal: &Journal, workspace: &Workspace) -> Result<()> {
    let resolved = &workspace.resolved;
    undo::refuse_half_undone(journal, &resolved.migration, resolved.environment.as_deref())?;
    match journal.unfinished(&resolved.migration, resolved.environment.as_deref())? {
        None => Ok(()),
        Some(unfinished) => Err(EngineError::refused(
            format!("an unfinished run of `{}` is there: {}", resolved.migration, unfinished.id),
            format!(
                "`whimbrel resume {}` goes on with it; `run --new` sets it aside and begins anew",
                unfinished.id.short()
            ),
        )
        .into()),
    }
}

/// Takes the lock of the spec's migration and environment.
///
/// # Errors
/// Another process has it.
pub fn lock(journal: &Journal, workspace: &Workspace) -> Result<MigrationLock> {
    Ok(journal.lock(&workspace.resolved.migration, workspace.resolved.environment.as_deref())?)
}

/// Serves a run's metrics for as long as the answer is held, where an address was given.
async fn serve_metrics(
    program: &Program,
    resolved: &Resolved,
    journal: &Journal,
    id: &RunId,
    progress: &Arc<Progress>,
    meter: &Arc<Meter>,
) -> Result<Option<Serving>> {
    let Some(address) = program.common.metrics else { return Ok(None) };
    let folder = journal.folder().to_owned();
    let metrics = Metrics::new(&resolved.migration, id, folder, Arc::clone(progress), Arc::clone(meter));
    Ok(Some(metrics.serve(address).await?))
}

/// Begins or resumes a run, works until it ends, and verifies where that was asked for.
///
/// # Errors
/// The run could not begin, or its summary could not be kept.
pub async fn execute(
    program: &Program,
    args: &RunArgs,
    workspace: &Workspace,
    opened: &Opened,
    journal: &mut Journal,
    id: RunId,
    task: Task,
) -> Result<Ended> {
    let resolved = &workspace.resolved;
    program.log.keep_in(&journal.run_folder(&id), &resolved.secrets)?;
    let stop = CancellationToken::new();
    let interrupt = tokio::spawn(stop_on_signal(program.console, stop.clone()));
    let (progress, meter) = (Arc::new(Progress::default()), Arc::new(Meter::default()));
    let settings = RunSettings {
        runner: RunnerSettings {
            parallel: program.parallel(),
            memory_bytes: program.common.memory,
            limit: args.limit,
        },
        create: args.create,
        stop: stop.clone(),
        progress: Arc::clone(&progress),
        meter: Arc::clone(&meter),
    };
    let _metrics = serve_metrics(program, resolved, journal, &id, &progress, &meter).await?;
    let mut migration = opened.prepare(resolved.clone(), &program.common).await?;
    if args.diff {
        migration.watch(&Shown::new(program.console).watch());
    }
    if let (None, Some(usd)) = (program.common.max_cost, kept_max_cost(&task)) {
        migration.resolved.limits.max_cost_usd = Some(usd);
    }
    costs::check_limit(&migration)?;
    if let Some(depth @ (VerifyDepth::Sample(_) | VerifyDepth::All)) = args.verify.verify
        && let Some(refused) = incomparable(&migration, depth, None, args.rehearse)
    {
        // Before a record is moved, and not when its proof is asked for.
        return opened.hide(Err(refused));
    }
    opened.hide(ownership::check(&migration, Some(&*journal)).await)?;
    if asks_to_delete(&task) && !args.rehearse && !deleting(&migration).is_empty() {
        let act = "deleting records that the source no longer has";
        confirmed(resolved, act, program.common.confirm.as_deref())?;
    }
    let folder = journal.run_folder(&id);
    let begun = match task {
        Task::Begin(kind) => {
            let kept = Kept::of(args, &program.common, &resolved.secrets);
            whimbrel_report::keep_plan(&migration, None, &folder)?;
            Run::begin(migration, journal, id, kind, json!(kept), settings).await
        }
        Task::Resume { record, accept_spec } => {
            Run::resume(migration, journal, &record, accept_spec, settings).await
        }
    };
    let run = opened.hide(begun)?;
    let record = run.record().clone();
    opened.hide(Due::of(&args.verify).note(&folder))?;
    program.console.say(format!("run {} of {}", record.id, resolved.migration));
    let (summary, error) = opened.hide(shown(program, resolved, run, progress, meter).await)?;
    let mut done = Ended {
        summary,
        failure: error.map(|error| Failure::from(error).hiding(&resolved.secrets)),
        verification: None,
    };
    let asked = Asked { program, args, workspace, opened };
    let proven = asked.prove(journal, &record, &stop, &mut done).await;
    interrupt.abort();
    proven?;
    Ok(done)
}

/// Does what was asked for behind a run that is over: its verification and its reports.
///
/// # Errors
/// The spec or the stores are others now, or a report cannot be written.
pub async fn catch_up(
    program: &Program,
    args: &RunArgs,
    workspace: &Workspace,
    opened: &Opened,
    journal: &Journal,
    record: &RunRecord,
) -> Result<Ended> {
    let folder = journal.run_folder(&record.id);
    program.log.keep_in(&folder, &workspace.resolved.secrets)?;
    let stop = CancellationToken::new();
    let interrupt = tokio::spawn(stop_on_signal(program.console, stop.clone()));
    program.console.say(format!(
        "run {} of {} is over; what was asked for behind it follows",
        record.id, record.migration
    ));
    let mut done = Ended { summary: Summary::read(&folder)?, failure: None, verification: None };
    let asked = Asked { program, args, workspace, opened };
    let proven = asked.prove(journal, record, &stop, &mut done).await;
    interrupt.abort();
    proven?;
    Ok(done)
}

/// What a user asked for, and what it takes.
struct Asked<'a> {
    program: &'a Program,
    args: &'a RunArgs,
    workspace: &'a Workspace,
    opened: &'a Opened,
}

impl Asked<'_> {
    /// The verification, where the run has not failed, and the reports. Both are due until they are done.
    async fn prove(
        &self,
        journal: &Journal,
        record: &RunRecord,
        stop: &CancellationToken,
        done: &mut Ended,
    ) -> Result<()> {
        if let (Some(depth), None) = (self.args.verify.verify, &done.failure) {
            match self.verify(journal, depth, record.id.clone(), stop).await {
                Ok(verification) => done.verification = Some(verification),
                Err(failure) => {
                    let again = format!("`whimbrel resume {}`", record.id.short());
                    done.failure = Some(failure.of_verification(&again));
                }
            }
        }
        for path in &self.args.verify.report {
            self.opened.hide(super::report::of_run(self.program, journal, record, path))?;
        }
        if done.failure.is_none() {
            self.opened.hide(Due::done(&journal.run_folder(&record.id)))?;
        }
        Ok(())
    }

    async fn verify(
        &self,
        journal: &Journal,
        depth: VerifyDepth,
        run: RunId,
        stop: &CancellationToken,
    ) -> Result<Verification> {
        let in_part = self.args.rehearse && !self.args.spec.only.is_empty();
        let wanted = Wanted { depth: Some(depth), run: Some(run), in_part, ..Wanted::default() };
        let (program, opened) = (self.program, self.opened);
        let resolved = &self.workspace.resolved;
        let prepared = tokio::select! {
            () = stop.cancelled() => return Err(EngineError::Interrupted.into()),
            prepared = Proof::prepare(program, resolved, opened, journal, wanted, stop.clone()) => prepared,
        };
        let proof = prepared?;
        let verified = tokio::select! {
            () = stop.cancelled() => Err(EngineError::Interrupted.into()),
            verified = proof.carry_out() => verified,
        };
        proof.cleared().await;
        verified
    }
}

/// Whether a run may delete what nobody has confirmed so far: one that goes on was confirmed when it began, unless its
/// spec is another one now. A retry deletes nothing.
fn asks_to_delete(task: &Task) -> bool {
    match task {
        Task::Begin(kind) => *kind == RunKind::Run,
        Task::Resume { record, accept_spec } => *accept_spec && record.kind == RunKind::Run,
    }
}

/// What a run that goes on was told to cost at the most when it began.
fn kept_max_cost(task: &Task) -> Option<f64> {
    let Task::Resume { record, .. } = task else { return None };
    record.options.get("max_cost_usd")?.as_f64()
}

/// Executes a run under a display.
async fn shown(
    program: &Program,
    resolved: &Resolved,
    run: Run<'_>,
    progress: Arc<Progress>,
    meter: Arc<Meter>,
) -> std::result::Result<(Summary, Option<EngineError>), EngineError> {
    let ended = CancellationToken::new();
    let watched = display::Watched {
        title: resolved.migration.clone(),
        progress,
        meter,
        journal: program.common.journal.clone(),
        stall_after: resolved.limits.stall_after,
    };
    let display = tokio::spawn(display::show(program.console, watched, ended.clone()));
    let executed = run.execute().await;
    ended.cancel();
    if display.await.is_err() {
        tracing::warn!("the progress display ended badly");
    }
    executed
}

/// The first signal lets what is in flight finish; the second ends the process at once, which loses nothing
/// either, since a kill does not.
pub async fn stop_on_signal(console: Console, stop: CancellationToken) {
    signal().await;
    console.say("\nstopping: what is in flight is finished first; once more to stop at once");
    stop.cancel();
    signal().await;
    #[expect(clippy::exit, reason = "the user asked twice")]
    std::process::exit(i32::from(Exit::Interrupted as u8));
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        Some(()) = terminate.recv() => {}
    }
}

#[cfg(not(unix))]
async fn signal() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Prints what happened and answers with the exit code.
pub fn conclude(program: &Program, ended: &Ended) -> Exit {
    let exit = ended.exit();
    let (summary, verification) = (&ended.summary, &ended.verification);
    // Of a run that failed before it had slices there is nothing to tell but why.
    let began = ended.failure.is_none() || summary.slices > 0;
    let mut text = match began {
        true => format!("\n{}", whimbrel_report::summary(summary, program.console.paint())),
        false => String::new(),
    };
    if let Some(verification) = verification {
        text.push_str(&format!("\n{}", whimbrel_report::verification(verification, program.console.paint())));
    }
    program.console.result(&result_json(ended), text);
    if let Some(failure) = &ended.failure
        && exit != Exit::Interrupted
    {
        Console::insist(format!("\n{}", failure.text()));
    }
    program.console.say(if began { next_step(ended) } else { String::new() });
    exit
}

fn result_json(ended: &Ended) -> Value {
    let mut value = json!(ended.summary);
    if let Some(verification) = &ended.verification {
        value["verify"] = json!(verification);
    }
    if let Some(failure) = &ended.failure {
        value["failure"] = failure.json();
    }
    value
}

fn next_step(ended: &Ended) -> String {
    let run = RunId::new(ended.summary.run.as_str());
    let run = run.short();
    match ended.summary.outcome {
        RunOutcome::Complete | RunOutcome::Incomplete if ended.failure.is_some() => {
            format!("\nnext: the run is over, its verification is not: `whimbrel resume {run}` verifies it")
        }
        RunOutcome::Complete => String::new(),
        RunOutcome::Incomplete => format!("\nnext: fix what the reasons name, then `whimbrel retry {run}`"),
        RunOutcome::Failed | RunOutcome::Paused => {
            format!(
                "\nnext: `whimbrel resume {run}` goes on where it stopped; nothing that arrived is read again"
            )
        }
    }
}
