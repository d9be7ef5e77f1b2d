//! `whimbrel verify`

use super::Program;
use super::run::stop_on_signal;
use crate::args::{VerifyCommand, VerifyDepth};
use crate::failure::{Exit, Result};
use crate::proof::{Proof, Wanted};
use crate::workspace::{Opened, Workspace};
use std::collections::BTreeSet;
use std::path::Path;
use tokio_util::sync::CancellationToken;
use whimbrel_engine::{EngineError, Journal};
use whimbrel_model::FlowName;
use whimbrel_report::Report;
use whimbrel_spec::Resolved;
use whimbrel_verify::{Outcome, Verification};

/// Compares sources with targets and carries out the spec's assertions. Exit 4 where something differs.
///
/// # Errors
/// The spec is wrong, or a store fails.
pub async fn verify(program: &Program, args: &VerifyCommand) -> Result<Exit> {
    let command = format!("`whimbrel verify {}`", args.spec.spec.display());
    verified(program, args).await.map_err(|failure| failure.of_verification(&command))
}

async fn verified(program: &Program, args: &VerifyCommand) -> Result<Exit> {
    for path in &args.report {
        whimbrel_report::files(path)?;
    }
    let (workspace, only) = load(args).await?;
    let journal = Journal::open(&program.common.journal)?;
    let _lock = match args.repair {
        true => Some(super::run::lock(&journal, &workspace)?),
        false => None,
    };
    let opened = workspace.open().await?;
    let stop = CancellationToken::new();
    let interrupt = tokio::spawn(stop_on_signal(program.console, stop.clone()));
    let repair = args.repair;
    let wanted = Wanted { depth: depth(args), seed: args.seed, only, repair, ..Wanted::default() };
    let done = carry_out(program, args, &workspace, &opened, &journal, wanted, stop).await;
    interrupt.abort();
    opened.close().await;
    let verification = done?;
    let paint = program.console.paint();
    program.console.result(&verification, whimbrel_report::verification(&verification, paint));
    Ok(if verification.outcome == Outcome::Different { Exit::Differences } else { Exit::Done })
}

fn depth(args: &VerifyCommand) -> Option<VerifyDepth> {
    if args.count {
        return Some(VerifyDepth::Count);
    }
    match args.sample {
        Some(records) => Some(VerifyDepth::Sample(records)),
        None => (args.all || args.repair).then_some(VerifyDepth::All),
    }
}

async fn carry_out(
    program: &Program,
    args: &VerifyCommand,
    workspace: &Workspace,
    opened: &Opened,
    journal: &Journal,
    wanted: Wanted,
    stop: CancellationToken,
) -> Result<Verification> {
    let proof = Proof::prepare(program, &workspace.resolved, opened, journal, wanted, stop.clone()).await?;
    let verification = tokio::select! {
        () = stop.cancelled() => Err(EngineError::Interrupted.into()),
        verification = proof.carry_out() => verification,
    };
    proof.cleared().await;
    let verification = verification?;
    for path in &args.report {
        opened.hide(write(proof.migration(), &verification, path))?;
        program.console.say(format!("report: {}", path.display()));
    }
    Ok(verification)
}

fn write(
    migration: &whimbrel_engine::Migration,
    verification: &Verification,
    path: &Path,
) -> std::result::Result<(), EngineError> {
    whimbrel_report::write(&Report::of_verification(migration, verification), path)
}

/// The whole spec, so that records of other flows into the same tables are known for what they are, and the flows
/// that were named. Flows that run only when they are named need to be named here, too.
async fn load(args: &VerifyCommand) -> Result<(Workspace, BTreeSet<FlowName>)> {
    let named = &args.spec.only;
    if named.is_empty() {
        return Ok((Workspace::load(&args.spec, None).await?, BTreeSet::new()));
    }
    let chosen = Workspace::load(&args.spec, None).await?;
    let only: BTreeSet<FlowName> = chosen.resolved.flows.iter().map(|flow| flow.name.clone()).collect();
    let mut whole = args.spec.clone();
    whole.only.clear();
    let whole = Workspace::load(&whole, None).await?;
    let has_all =
        |resolved: &Resolved| only.iter().all(|name| resolved.flows.iter().any(|flow| flow.name == *name));
    Ok(if has_all(&whole.resolved) { (whole, only) } else { (chosen, only) })
}
