//! What undoing a run came to, kept in the run's folder for whoever reports on it.

use super::TableUndo;
use crate::error::{EngineError, Result};
use crate::journal::now_ms;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file in a run's folder.
const FILE: &str = "undone.json";

/// The outcome of the latest `undo` of a run that changed something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UndoOutcome {
    /// When it ended: milliseconds since 1970.
    pub at_ms: i64,
    /// Table by table, what it did. Of an undo that was cut off and called again, what was left to be done.
    pub tables: Vec<TableUndo>,
}

impl UndoOutcome {
    pub(super) fn store(tables: &[TableUndo], run_folder: &Path) -> Result<()> {
        let outcome = Self { at_ms: now_ms(), tables: tables.to_vec() };
        let path = run_folder.join(FILE);
        let write = || {
            let new = path.with_extension("new");
            std::fs::create_dir_all(run_folder)?;
            std::fs::write(&new, serde_json::to_vec(&outcome).map_err(std::io::Error::other)?)?;
            std::fs::rename(&new, &path)
        };
        write().map_err(|source| EngineError::file("write", &path, source))
    }

    /// That of a run; `None` where nobody has undone it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of(run_folder: &Path) -> Result<Option<Self>> {
        let path = run_folder.join(FILE);
        let failed = |source| EngineError::file("read", &path, source);
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}
