//! Capacity that a run raises, where its spec says so, and puts back: what it was is on the disk before it is raised, so
//! that the next run puts back what a killed one has left.

use crate::error::{EngineError, Result};
use crate::journal::Journal;
use crate::migration::Migration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use whimbrel_model::{RunId, StoreName};
use whimbrel_spec::resolved::Relation;
use whimbrel_store::Raise;

/// Capacity that is raised.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Raised {
    migration: String,
    environment: Option<String>,
    /// The run that raised it.
    pub run: RunId,
    /// The store.
    pub store: StoreName,
    /// What the store is.
    identity: String,
    /// From what to what.
    pub raise: Raise,
}

fn folder(journal: &Path) -> PathBuf {
    journal.join("capacity")
}

impl Raised {
    fn path(&self, journal: &Path) -> PathBuf {
        let name = blake3::hash(format!("{}\n{}", self.identity, self.raise.identity).as_bytes()).to_hex();
        folder(journal).join(format!("{}.json", &name[..16]))
    }
}

/// Puts a file in the place of an earlier one, whole and on the disk.
fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    // The name is on the disk only with its folder.
    std::fs::File::open(folder).and_then(|folder| folder.sync_all())
}

/// What runs of a migration in an environment have raised and not put back.
///
/// # Errors
/// A file cannot be read.
pub fn left(journal: &Journal, migration: &str, environment: Option<&str>) -> Result<Vec<Raised>> {
    let folder = folder(journal.folder());
    let failed = |path: &Path, source| EngineError::file("read", path, source);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(&folder, error)),
    };
    let mut left = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| failed(&folder, source))?.path();
        // What else stands there was cut off while it was made: nothing was raised by it.
        if path.extension().is_none_or(|suffix| suffix != "json") {
            continue;
        }
        let text = std::fs::read(&path).map_err(|source| failed(&path, source))?;
        let raised: Raised = serde_json::from_slice(&text).map_err(|error| failed(&path, error.into()))?;
        if raised.migration == migration && raised.environment.as_deref() == environment {
            left.push(raised);
        }
    }
    left.sort_by(|one, other| one.raise.table.cmp(&other.raise.table));
    Ok(left)
}

/// Raises what the stores' configurations say.
pub(crate) async fn begin(migration: &Migration, journal: &Journal, run: &RunId) -> Result<()> {
    let resolved = &migration.resolved;
    let left = left(journal, &resolved.migration, resolved.environment.as_deref())?;
    let mut tables: BTreeMap<&StoreName, Vec<String>> = BTreeMap::new();
    for flow in &resolved.flows {
        tables.entry(&flow.into.store).or_default().push(flow.into.table.clone());
        if let Relation::Table(table) = &flow.from.relation {
            tables.entry(&flow.from.store).or_default().push(table.clone());
        }
    }
    for (name, mut tables) in tables {
        let Some(store) = migration.stores.get(name) else { continue };
        tables.sort_unstable();
        tables.dedup();
        for mut raise in store.raises(&tables).await? {
            let identity = store.identity().await?.as_str().to_owned();
            let killed = left
                .iter()
                .find(|other| other.identity == identity && other.raise.identity == raise.identity);
            if let Some(killed) = killed {
                // What stands there now is what a killed run has raised.
                raise.before.clone_from(&killed.raise.before);
            }
            let raised = Raised {
                migration: resolved.migration.clone(),
                environment: resolved.environment.clone(),
                run: run.clone(),
                store: name.clone(),
                identity,
                raise,
            };
            let path = raised.path(journal.folder());
            let text = serde_json::to_vec_pretty(&raised)
                .map_err(|error| EngineError::file("write", &path, error.into()))?;
            replace(&path, &text).map_err(|source| EngineError::file("write", &path, source))?;
            tracing::info!(store = %name, raise = %raised.raise, "capacity raised");
            if !store.provision(&raised.raise, false).await? {
                tracing::warn!(store = %name, table = %raised.raise.table, "not all of the capacity could be raised");
            }
        }
    }
    Ok(())
}

/// Puts back what this run and killed ones before it have raised. What cannot be put back now is noted still, and told.
pub(crate) async fn end(migration: &Migration, journal: &Journal) -> Result<()> {
    let resolved = &migration.resolved;
    for raised in left(journal, &resolved.migration, resolved.environment.as_deref())? {
        let Some(store) = migration.stores.get(&raised.store) else { continue };
        let put_back = async {
            if store.identity().await?.as_str() != raised.identity {
                return Ok(None);
            }
            store.provision(&raised.raise, true).await.map(Some)
        };
        let (table, path) = (&raised.raise.table, raised.path(journal.folder()));
        match put_back.await {
            Ok(None) => continue,
            Ok(Some(true)) => tracing::info!(store = %raised.store, %table, "capacity put back"),
            Ok(Some(false)) => {
                tracing::warn!(store = %raised.store, %table, "the capacity is left as somebody else has set it since");
            }
            Err(error) => {
                tracing::warn!(store = %raised.store, %table, %error, "the capacity could not be put back");
                continue;
            }
        }
        std::fs::remove_file(&path).map_err(|source| EngineError::file("remove", &path, source))?;
    }
    Ok(())
}
