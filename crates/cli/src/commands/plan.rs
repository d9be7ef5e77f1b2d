//! `whimbrel plan`

use super::Program;
use crate::args::SpecArgs;
use crate::console::Console;
use crate::failure::{Exit, Result};
use crate::workspace::{Opened, Workspace};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use whimbrel_engine::dry_run::{DryRun, dry_run};
use whimbrel_engine::{EngineError, Migration};
use whimbrel_model::{FingerprintKey, RunId};
use whimbrel_store::RunContext;

/// Shows what a run would do. Exit 3 where records would be rejected, or no flow takes them.
///
/// # Errors
/// The spec is wrong or a store fails.
pub async fn plan(program: &Program, args: &SpecArgs, all: bool, limit: Option<u64>) -> Result<Exit> {
    let workspace = Workspace::load(args, None).await?;
    let opened = workspace.open().await?;
    let planned = look(program, &workspace, &opened, all, limit).await;
    opened.close().await;
    let plan = planned?;
    program.console.print(&plan, whimbrel_report::plan(&plan, Console::paint_of_output()));
    let rejected = plan.flows.iter().any(|flow| flow.rejected > 0);
    Ok(if rejected || !plan.unmatched.is_empty() { Exit::Rejects } else { Exit::Done })
}

async fn look(
    program: &Program,
    workspace: &Workspace,
    opened: &Opened,
    all: bool,
    limit: Option<u64>,
) -> Result<DryRun> {
    let migration = opened.prepare(workspace.resolved.clone(), &program.common).await?;
    opened.hide(plan_of(&migration, all, limit).await)
}

/// The plan of a migration made ready.
///
/// # Errors
/// A store fails.
pub async fn plan_of(
    migration: &Migration,
    all: bool,
    limit: Option<u64>,
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
    dry_run(migration, all, limit, &context).await
}
