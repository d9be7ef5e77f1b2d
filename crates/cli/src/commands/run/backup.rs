//! `run --backup`

use super::super::Program;
use crate::failure::Result;
use crate::workspace::{Opened, Workspace};
use std::collections::BTreeMap;
use std::path::Path;
use whimbrel_engine::EngineError;
use whimbrel_model::{RunId, StoreName};
use whimbrel_spec::resolved::Relation;

/// The file in a run's folder that names its backups.
const FILE: &str = "backups.json";

/// Backs up the tables that a run reads and writes, where their store keeps backups, and says of the others that they
/// are not backed up.
///
/// # Errors
/// No store of the run keeps backups, or one fails: nothing is written then.
pub(super) async fn back_up(
    program: &Program,
    workspace: &Workspace,
    opened: &Opened,
    run: &RunId,
    folder: &Path,
) -> Result<()> {
    let mut tables: BTreeMap<&StoreName, Vec<String>> = BTreeMap::new();
    for flow in &workspace.resolved.flows {
        tables.entry(&flow.into.store).or_default().push(flow.into.table.clone());
        let read = tables.entry(&flow.from.store).or_default();
        if let Relation::Table(table) = &flow.from.relation {
            read.push(table.clone());
        }
    }
    let name = format!("whimbrel-{}-{run}", workspace.resolved.migration);
    let (mut made, mut without) = (BTreeMap::new(), Vec::new());
    for (store, mut tables) in tables {
        tables.sort_unstable();
        tables.dedup();
        let Some(known) = opened.stores.get(store) else { continue };
        match opened.hide(known.back_up(&tables, &name).await)? {
            Some(backups) => drop(made.insert(store.to_string(), backups)),
            None => without.push(format!("`{store}`")),
        }
    }
    let hint = "use what the store itself has for that, such as pg_dump, or copy its tables into files: `whimbrel copy`";
    if made.is_empty() {
        let message = format!("--backup: no store of this run keeps backups: {}", without.join(", "));
        return Err(EngineError::refused(message, hint).into());
    }
    let path = folder.join(FILE);
    let write = || {
        std::fs::create_dir_all(folder)?;
        std::fs::write(&path, serde_json::to_vec_pretty(&made)?)
    };
    write().map_err(|source| EngineError::file("write", &path, source))?;
    for (store, backup) in
        made.iter().flat_map(|(store, backups)| backups.iter().map(move |one| (store, one)))
    {
        tracing::info!(%store, %backup, "backed up");
        program.console.say(format!("{store}: backed up as {backup}"));
    }
    if !without.is_empty() {
        program.console.say(format!("not backed up: {}; {hint}", without.join(", ")));
    }
    Ok(())
}
