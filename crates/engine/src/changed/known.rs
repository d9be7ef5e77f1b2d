//! Fingerprints on the disk, by key: one SQLite file, so that memory does not grow with the table.

use crate::error::{EngineError, Result};
use crate::journal::JournalError;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use whimbrel_model::Fingerprint;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS known (key BLOB PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// What is known of the records of one flow.
#[derive(Debug)]
pub(crate) struct Known {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Known {
    /// Opens the file, or makes it with nothing in it. Blocks.
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>> {
        let wrap = |source| JournalError::Sqlite { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| EngineError::file("make the folder of", path, source))?;
        }
        let connection = Connection::open(path).map_err(wrap)?;
        connection.pragma_update(None, "synchronous", "NORMAL").map_err(wrap)?;
        connection.execute_batch(TABLES).map_err(wrap)?;
        Ok(Arc::new(Self { path: path.to_owned(), connection: Mutex::new(connection) }))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrap<T>(&self, result: rusqlite::Result<T>) -> Result<T> {
        Ok(result.map_err(|source| JournalError::Sqlite { path: self.path.clone(), source })?)
    }

    /// Notes records; what was known of their keys before is forgotten. Blocks.
    pub(crate) fn add(&self, prints: &[Fingerprint]) -> Result<()> {
        // In the order of the tree. Of two of one key the later one stays behind the earlier one.
        let mut prints = prints.to_vec();
        prints.sort_by_key(|print| print.key);
        let add = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            {
                let mut insert = transaction
                    .prepare_cached("INSERT OR REPLACE INTO known (key, record) VALUES (?1, ?2)")?;
                for print in &prints {
                    insert.execute(params![print.key.to_be_bytes(), print.record.to_be_bytes()])?;
                }
            }
            transaction.commit()
        };
        self.wrap(add(&mut self.connection()))
    }

    /// Of each key the hash of its record, where it is known. Blocks.
    pub(crate) fn records(&self, keys: &[u128]) -> Result<Vec<Option<u128>>> {
        let connection = self.connection();
        let find = || {
            let mut find = connection.prepare_cached("SELECT record FROM known WHERE key = ?1")?;
            let one =
                |key: &u128| find.query_row([key.to_be_bytes()], |row| row.get::<_, [u8; 16]>(0)).optional();
            keys.iter().map(one).collect::<rusqlite::Result<Vec<_>>>()
        };
        let found = self.wrap(find())?;
        Ok(found.into_iter().map(|record| record.map(u128::from_be_bytes)).collect())
    }

    /// How many keys are known. Blocks.
    pub(crate) fn count(&self) -> Result<u64> {
        let count: i64 =
            self.wrap(self.connection().query_row("SELECT count(*) FROM known", [], |row| row.get(0)))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Notes something about the whole of it. Blocks.
    pub(crate) fn note(&self, name: &str, value: &str) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)";
        self.wrap(self.connection().execute(sql, [name, value]))?;
        Ok(())
    }

    /// What was noted. Blocks.
    pub(crate) fn noted(&self, name: &str) -> Result<Option<String>> {
        let sql = "SELECT value FROM meta WHERE name = ?1";
        self.wrap(self.connection().query_row(sql, [name], |row| row.get(0)).optional())
    }
}

/// Asks or tells on a thread that may block.
pub(crate) async fn on<T: Send + 'static>(
    known: &Arc<Known>,
    work: impl FnOnce(&Known) -> Result<T> + Send + 'static,
) -> Result<T> {
    let known = Arc::clone(known);
    let done = tokio::task::spawn_blocking(move || work(&known)).await;
    done.map_err(|error| EngineError::Internal(format!("known fingerprints: {error}")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(key: u128, record: u128) -> Fingerprint {
        Fingerprint { key, record }
    }

    #[test]
    fn what_was_added_last_is_known() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sub/known.sqlite");
        let known = Known::open(&path).expect("made");
        known.add(&[print(3, 30), print(1, 10), print(3, 31)]).expect("added");
        known.add(&[print(2, 20), print(1, u128::MAX)]).expect("added");
        known.note("complete", "yes").expect("noted");
        drop(known);
        let again = Known::open(&path).expect("opened");
        assert_eq!(again.records(&[1, 2, 3, 4]).expect("found"), [Some(u128::MAX), Some(20), Some(31), None]);
        assert_eq!(again.count().expect("counted"), 3);
        assert_eq!(again.noted("complete").expect("read").as_deref(), Some("yes"));
        assert_eq!(again.noted("run").expect("read"), None);
    }
}
