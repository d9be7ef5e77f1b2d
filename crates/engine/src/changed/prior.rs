//! Fingerprints from one run to the next.
//!
//! A complete run leaves a file for each flow of `compare: journal` beside the journal. The next run that writes to
//! the same table takes it away before it writes anything, whatever flow, mode or migration it is of: a run that is
//! killed and never resumed leaves none, and then the table itself is asked.

use super::gathering::Gathering;
use super::kept;
use super::known::{Known, Notes, blocking};
use crate::error::{EngineError, Result};
use crate::journal::{Journal, RunRecord, TargetRecord};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use whimbrel_model::{FlowName, Identity, canonical};

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
    let Some(notes) = Known::notes_of(&path)? else { return Ok(false) };
    Ok(notes.get(TABLE).map(String::as_str) == Some(table) && is_of_our_form(&notes))
}

fn is_of_our_form(notes: &Notes) -> bool {
    notes.get(FORM).is_some_and(|form| *form == canonical::VERSION.to_string())
}

/// What the run that has begun may trust; of its first entries so many bytes are held in memory.
pub(super) async fn of_run(
    run_folder: &Path,
    flow: &FlowName,
    resident_bytes: usize,
) -> Result<Option<Arc<Known>>> {
    let (path, flow) = (prior_path(run_folder, flow), flow.clone());
    blocking(move || {
        let known = Known::open(&path, resident_bytes)?.filter(|known| is_of_our_form(&known.notes));
        if let Some(known) = &known {
            let run = known.noted(RUN).unwrap_or_default();
            tracing::info!(%flow, %run, "compared with the fingerprints of that run, which trusts that nobody else has written since");
        }
        Ok(known.map(Arc::new))
    })
    .await
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
        if !is_whole {
            continue;
        }
        let Some(mut notes) = Known::notes_of(&path)? else {
            // Of another form: nobody can tell which table's they are, so that nobody may ever trust them again.
            std::fs::remove_file(&path).map_err(|source| failed(&path, source))?;
            continue;
        };
        let table = notes.remove(TABLE);
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

/// Gathers what a run's slices have kept of a flow, for the next run where its table has an identity; of its first
/// entries so many bytes are held in memory.
pub(super) async fn gather(
    run_folder: &Path,
    run: &RunRecord,
    flow: &FlowName,
    table: Option<&Identity>,
    resident_bytes: usize,
) -> Result<Arc<Known>> {
    let form = Some((FORM, canonical::VERSION.to_string()));
    let table = table.map(|table| (TABLE, table.as_str().to_owned()));
    let notes = [form, table, Some((RUN, run.id.to_string()))].into_iter().flatten();
    let notes: Notes = notes.map(|(name, value)| (name.to_owned(), value)).collect();
    let (run_folder, flow) = (run_folder.to_owned(), flow.clone());
    blocking(move || {
        let path = seen_path(&run_folder, &flow);
        if let Some(known) = Known::open(&path, resident_bytes)? {
            return Ok(Arc::new(known));
        }
        let mut gathering = Gathering::new(&path)?;
        kept::each(&run_folder, &flow, |prints| gathering.add(prints))?;
        gathering.finish(notes, resident_bytes).map(Arc::new)
    })
    .await
}

fn seen_path(run_folder: &Path, flow: &FlowName) -> PathBuf {
    kept::folder(run_folder).join(format!("{flow}.seen"))
}

/// Leaves a flow's fingerprints to the next run.
pub(super) async fn keep(journal: &Journal, run: &RunRecord, flow: &FlowName, seen: &Known) -> Result<()> {
    if seen.noted(TABLE).is_none() {
        return Ok(());
    }
    let from = seen_path(&journal.run_folder(&run.id), flow);
    let folder = folder(journal);
    let to = folder.join(name(run, flow));
    let kept = to.clone();
    let keep = move || {
        std::fs::create_dir_all(&folder)?;
        let new = to.with_extension("new");
        if new.exists() {
            std::fs::remove_file(&new)?;
        }
        // A resumed run finds its own file where it was. Nobody writes to either from here on: it may be the same one.
        if std::fs::hard_link(&from, &new).is_err() {
            std::fs::copy(&from, &new)?;
        }
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, &to)
    };
    blocking(move || keep().map_err(|source| EngineError::file("keep", &kept, source))).await
}
