//! What follows the load: foreign keys, indexes, statistics, as each target names them.
//!
//! A step may have to remove records that were written before, such as rows whose parent never came. They become
//! rejects by a *correction*, which is durable before the step is done; a step that a kill interrupts is done
//! again, and its correction takes the place of the earlier one.

use crate::duplicates::{GiveBack, KeySet};
use crate::error::{EngineError, Result};
use crate::journal::{Correction, Journal};
use crate::migration::{Migration, ScanFlow};
use crate::progress::Progress;
use crate::rejects::{self, RejectFile};
use crate::slice::log_rejects;
use futures::TryStreamExt as _;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use whimbrel_model::{Buckets, Reject, RunId, SliceId, Stage};
use whimbrel_store::{LoadStep, Patience, Removed, RunContext};

/// With this the names of corrections' slices begin.
pub(crate) const AFTER_LOAD: &str = "after-load.";
/// Rejects that are written to the disk at once.
const REJECTS_AT_ONCE: usize = 1_000;
/// How often a store is looked at for how far it is with a step.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Does what is left to do behind the load.
///
/// # Errors
/// A store or the journal fails; what was done stays done.
pub(crate) async fn finish(
    migration: &Migration,
    journal: &Journal,
    run: &RunId,
    context: &RunContext,
    keys: Option<&Arc<KeySet>>,
    progress: &Progress,
) -> Result<()> {
    let attempt = async |flow: &ScanFlow, step: &LoadStep, is_first: bool| -> Result<()> {
        // Where only the answer was lost the step is none any more, and what it removed stays counted as removed.
        if !is_first && !flow.plan.target.load_steps().await?.contains(step) {
            return Ok(());
        }
        let keys = GiveBack::of_table(keys, migration, flow);
        let correction = remove(flow, step, journal, run, context, keys).await?;
        journal.correct(run, &flow.plan.name, &step.name, &correction)?;
        watched(flow.plan.target.apply_step(step, context), context, progress).await
    };
    let mut done = BTreeSet::new();
    for (_, flow) in migration.flows() {
        let resource = flow.plan.target.resource();
        if !done.insert((flow.store.clone(), resource.clone())) {
            continue;
        }
        for step in flow.plan.target.load_steps().await? {
            if context.stop.is_cancelled() {
                return Err(EngineError::Interrupted);
            }
            progress.begin_step(format!("{resource}: {}", step.text));
            tracing::info!(store = %flow.store, table = %resource, step = %step.text, "after the load");
            let mut patience: Option<Patience<'_>> = None;
            // A store that is away for a while comes back: a step may be done again from its beginning.
            while let Err(error) = attempt(flow, &step, patience.is_none()).await {
                let EngineError::Store(error) = error else { return Err(error) };
                patience.get_or_insert_with(|| Patience::new(context)).wait(&flow.store, error).await?;
            }
        }
    }
    Ok(())
}

/// Does a step. What its store says of how far it is counts as movement: an index that is being made is no stall.
async fn watched(
    doing: impl Future<Output = whimbrel_store::Result<()>>,
    context: &RunContext,
    progress: &Progress,
) -> Result<()> {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut last = None;
    tokio::pin!(doing);
    let done = loop {
        tokio::select! {
            done = &mut doing => break done,
            _ = looks.tick() => {
                let extent = context.meter.step();
                if extent != last {
                    progress.activity().touch();
                    last = extent;
                }
            }
        }
    };
    context.meter.step_at(None);
    Ok(done?)
}

/// Keeps what a step removes as rejects.
async fn remove(
    flow: &ScanFlow,
    step: &LoadStep,
    journal: &Journal,
    run: &RunId,
    context: &RunContext,
    keys: Option<GiveBack>,
) -> Result<Correction> {
    let slice = SliceId::new(format!("{AFTER_LOAD}{}", file_name(&step.name)));
    let path = rejects::path(&journal.run_folder(run), &flow.plan.name, &slice);
    let mut file = RejectFile::open(path, 0).await?;
    let mut correction =
        Correction { records: 0, reject_bytes: 0, slice: slice.clone(), sums: Buckets::default() };
    let removed = flow.plan.target.removed_by(step, context).await?;
    let mut portions = removed.try_chunks(REJECTS_AT_ONCE);
    loop {
        let portion = portions.try_next().await.map_err(|error| error.1)?;
        let Some(portion) = portion else { break };
        correction.records += u64::try_from(portion.len()).unwrap_or(u64::MAX);
        portion.iter().for_each(|removed| correction.sums.add(removed.fingerprint));
        if let Some(keys) = &keys {
            keys.give_back(&portion).await?;
        }
        let portion: Vec<Reject> = portion.into_iter().map(|removed| reject(flow, &slice, removed)).collect();
        file.append(&portion).await?;
        log_rejects(&portion);
    }
    correction.reject_bytes = file.bytes();
    Ok(correction)
}

fn reject(flow: &ScanFlow, slice: &SliceId, removed: Removed) -> Reject {
    Reject {
        flow: flow.plan.name.clone(),
        slice: slice.clone(),
        stage: Stage::Write,
        key: removed.key,
        reason: removed.reason,
        record: removed.record,
        original: None,
        fingerprint: Some(removed.fingerprint),
    }
}

/// A step's name as part of a file's: what is no letter or digit becomes a hyphen, and a digest keeps two names
/// apart that look the same then.
fn file_name(step: &str) -> String {
    let plain: String =
        step.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
    format!("{plain}-{}", &blake3::hash(step.as_bytes()).to_hex()[..8])
}
