//! Fingerprints from one run to the next.
//!
//! A complete run leaves a file for each flow of `compare: journal` beside the journal. The next run that writes to
//! the same table takes it away before it writes anything, whatever flow, mode or migration it is of: a run that is
//! killed and never resumed leaves none, and then the table itself is asked.

use super::known::{Known, on};
use super::{COMPLETE, kept};
use crate::error::{EngineError, Result};
use crate::journal::{Journal, RunRecord, TargetRecord};
use crate::migration::ScanFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use whimbrel_model::{FlowName, canonical};

/// What is noted of a file: the table, the form of the fingerprints, whose they are, and the run.
const TABLE: &str = "table";
const FORM: &str = "form";
const RUN: &str = "run";

/// Digits of the digest that ends a file's name.
const DIGITS: usize = 16;

/// Where they wait for the next run.
fn folder(journal: &Journal) -> PathBuf {
    journal.folder().join("fingerprints")
}

/// Whose they are: a fingerprint means something only within its migration and environment.
fn name(run: &RunRecord, flow: &FlowName) -> String {
    name_of(&run.migration, run.environment.as_deref(), flow)
}

fn name_of(migration: &str, environment: Option<&str>, flow: &FlowName) -> String {
    let owner = format!("{migration}\n{}\n{flow}", environment.unwrap_or_default());
    format!("{flow}.{}", &blake3::hash(owner.as_bytes()).to_hex()[..DIGITS])
}

fn prior_path(run_folder: &Path, flow: &FlowName) -> PathBuf {
    kept::folder(run_folder).join(format!("{flow}.prior"))
}

/// Whether there are fingerprints that the next run of a flow would trust.
pub(super) fn is_left(
    journal: &Journal,
    migration: &str,
    environment: Option<&str>,
    flow: &FlowName,
    table: &str,
) -> Result<bool> {
    let path = folder(journal).join(name_of(migration, environment, flow));
    if !path.exists() {
        return Ok(false);
    }
    let known = Known::open(&path)?;
    Ok(known.noted(TABLE)?.as_deref() == Some(table)
        && known.noted(FORM)? == Some(canonical::VERSION.to_string()))
}

/// What the run that has begun may trust.
pub(super) async fn of_run(run_folder: &Path, flow: &FlowName) -> Result<Option<Arc<Known>>> {
    let (path, flow) = (prior_path(run_folder, flow), flow.clone());
    let opened = tokio::task::spawn_blocking(move || {
        if !path.exists() {
            return Ok(None);
        }
        let known = Known::open(&path)?;
        let run = known.noted(RUN)?.unwrap_or_default();
        let is_ours = known.noted(FORM)? == Some(canonical::VERSION.to_string());
        if is_ours {
            tracing::info!(%flow, %run, "compared with the fingerprints of that run, which trusts that nobody else has written since");
        }
        Ok(is_ours.then_some(known))
    });
    opened.await.map_err(|error| EngineError::Internal(format!("fingerprints of an earlier run: {error}")))?
}

/// Takes away what concerns the tables of a run that begins; what it may trust goes into its folder.
pub(super) fn take(
    journal: &Journal,
    run: &RunRecord,
    targets: &[TargetRecord],
    trusted: &[&TargetRecord],
) -> Result<()> {
    let folder = folder(journal);
    let failed = |path: &Path, source| EngineError::file("take", path, source);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(&folder, error)),
    };
    for entry in entries {
        let path = entry.map_err(|source| failed(&folder, source))?.path();
        // What else stands there was cut off while it was made.
        let is_whole = path.extension().and_then(|suffix| suffix.to_str()).is_some_and(|s| s.len() == DIGITS);
        let table = if is_whole { Known::open(&path)?.noted(TABLE)? } else { None };
        if table.is_none() || !targets.iter().any(|target| target.identity == table) {
            continue;
        }
        let own = trusted.iter().find(|target| path == folder.join(name(run, &target.flow)));
        match own.filter(|target| target.identity == table) {
            Some(target) => {
                let to = prior_path(&journal.run_folder(&run.id), &target.flow);
                let moved = to.parent().map_or(Ok(()), std::fs::create_dir_all);
                moved.and_then(|()| std::fs::rename(&path, &to)).map_err(|source| failed(&path, source))?;
            }
            None => std::fs::remove_file(&path).map_err(|source| failed(&path, source))?,
        }
    }
    Ok(())
}

/// Gathers what a run's slices have kept of a flow.
pub(super) async fn gather(run_folder: &Path, flow: &FlowName) -> Result<Arc<Known>> {
    let (run_folder, flow) = (run_folder.to_owned(), flow.clone());
    let gathered = tokio::task::spawn_blocking(move || {
        let path = kept::folder(&run_folder).join(format!("{flow}.seen"));
        let known = Known::open(&path)?;
        if known.noted(COMPLETE)?.is_none() {
            kept::each(&run_folder, &flow, |prints| known.add(prints))?;
            known.note(COMPLETE, "yes")?;
        }
        Ok(known)
    });
    gathered.await.map_err(|error| EngineError::Internal(format!("kept fingerprints: {error}")))?
}

/// Leaves a flow's fingerprints to the next run.
pub(super) async fn keep(
    journal: &Journal,
    run: &RunRecord,
    flow: &ScanFlow,
    seen: &Arc<Known>,
) -> Result<()> {
    let Some(table) = flow.plan.target.identity().await? else { return Ok(()) };
    let id = run.id.to_string();
    on(seen, move |seen| {
        seen.note(TABLE, table.as_str())?;
        seen.note(FORM, &canonical::VERSION.to_string())?;
        seen.note(RUN, &id)
    })
    .await?;
    let from = kept::folder(&journal.run_folder(&run.id)).join(format!("{}.seen", flow.plan.name));
    let to = folder(journal).join(name(run, &flow.plan.name));
    let keep = || {
        std::fs::create_dir_all(folder(journal))?;
        // A resumed run finds its own file where it was.
        let new = to.with_extension("new");
        std::fs::copy(&from, &new)?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, &to)
    };
    keep().map_err(|source| EngineError::file("keep", &to, source))
}
