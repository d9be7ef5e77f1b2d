//! `whimbrel plan`

use super::Program;
use crate::args::SpecArgs;
use crate::changes::Shown;
use crate::console::Console;
use crate::created_values;
use crate::failure::{Exit, Result};
use crate::workspace::{Opened, Workspace};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use whimbrel_engine::dry_run::{DryRun, dry_run_knowing};
use whimbrel_engine::{EngineError, Journal, Migration, changed};
use whimbrel_model::{FingerprintKey, RunId};
use whimbrel_store::RunContext;

/// How closely a plan looks.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// At every record, not only at a sample.
    pub all: bool,
    /// Each record that a run would alter is shown.
    pub diff: bool,
    /// At no more records of each source.
    pub limit: Option<u64>,
}

/// Shows what a run would do. Exit 3 where records would be rejected, or no flow takes them.
///
/// # Errors
/// The spec is wrong or a store fails.
pub async fn plan(program: &Program, args: &SpecArgs, look: &Look) -> Result<Exit> {
    let workspace = Workspace::preview(args).await?;
    created_values::stood_in(&workspace.resolved).for_each(|line| program.console.say(&line));
    let opened = workspace.open().await?;
    let shown = look.diff.then(|| Shown::new(program.console));
    let planned = planned(program, &workspace, &opened, look, shown.as_ref()).await;
    opened.close().await;
    let plan = planned?;
    let mut text = whimbrel_report::plan(&plan, Console::paint_of_output());
    if let Some(shown) = &shown {
        let read = plan.flows.iter().map(|flow| flow.read).sum();
        text = format!("{}\n{text}", shown.foreseen(read));
    }
    program.console.print(&plan, text);
    let rejected =
        plan.flows.iter().any(|flow| flow.rejected > 0) || shown.is_some_and(|shown| shown.has_failed());
    Ok(if rejected || !plan.unmatched.is_empty() { Exit::Rejects } else { Exit::Done })
}

async fn planned(
    program: &Program,
    workspace: &Workspace,
    opened: &Opened,
    look: &Look,
    shown: Option<&Shown>,
) -> Result<DryRun> {
    let migration = opened.prepare(workspace.resolved.clone(), &program.common).await?;
    if let Some(shown) = shown {
        migration.watch(&shown.watch());
    }
    let journal = opened.hide(Journal::open_existing(&program.common.journal))?;
    opened.hide(plan_of(&migration, look.all, look.limit, journal.as_ref()).await)
}

/// The plan of a migration made ready.
///
/// # Errors
/// A store fails.
pub async fn plan_of(
    migration: &Migration,
    all: bool,
    limit: Option<u64>,
    journal: Option<&Journal>,
) -> std::result::Result<DryRun, EngineError> {
    let context = RunContext {
        run: RunId::generate(),
        budget: Arc::default(),
        // A plan's fingerprints are thrown away with it.
        fingerprint_key: FingerprintKey::new([0; 32]),
        retry_for: migration.resolved.limits.retry_for,
        stop: CancellationToken::new(),
        meter: Arc::default(),
    };
    let left = match journal {
        Some(journal) => changed::left(migration, journal).await?,
        None => BTreeSet::new(),
    };
    dry_run_knowing(migration, all, limit, &context, &left).await
}
