//! Under `on_duplicate: last`: for each key of which there are several records, the greatest order of them.

use super::keys::KeySet;
use crate::journal::JournalError;
use rusqlite::{OptionalExtension as _, params};
use whimbrel_model::RunId;

/// A record's key, and the bytes by which it is ordered.
pub(super) type Candidate = (u128, Box<[u8]>);

impl KeySet {
    /// Whether the first pass of a run, by these orders, is complete.
    pub(super) fn has_first_pass(&self, run: &RunId, orders: &str) -> Result<bool, JournalError> {
        let held = self.held();
        let known = held
            .connection
            .query_row("SELECT orders FROM first_passes WHERE run = ?1", [run.as_str()], |row| row.get(0))
            .optional();
        let known: Option<String> = known.map_err(|source| self.failed(source))?;
        Ok(known.is_some_and(|known| known == orders))
    }

    /// Begins a first pass; what an unfinished one has found is gone.
    pub(super) fn begin_first_pass(&self) -> Result<(), JournalError> {
        let mut held = self.held();
        let begin = "BEGIN; DELETE FROM candidates; DELETE FROM latest; DELETE FROM first_passes; COMMIT";
        held.connection.execute_batch(begin).map_err(|source| self.failed(source))?;
        held.latest = 0;
        Ok(())
    }

    /// Takes in what a first pass has met. A record may be met twice.
    pub(super) fn add_candidates(&self, candidates: &[Candidate]) -> Result<(), JournalError> {
        let mut held = self.held();
        let mut add = || {
            let transaction = held.connection.transaction()?;
            {
                let mut insert =
                    transaction.prepare_cached("INSERT INTO candidates (key, sort) VALUES (?1, ?2)")?;
                for (key, sort) in candidates {
                    insert.execute(params![&key.to_be_bytes()[..], &sort[..]])?;
                }
            }
            transaction.commit()
        };
        add().map_err(|source| self.failed(source))
    }

    /// Ends a first pass: of each key with several records the greatest order is kept. Answers with their number.
    pub(super) fn end_first_pass(&self, run: &RunId, orders: &str) -> Result<u64, JournalError> {
        let mut held = self.held();
        let mut end = || {
            let transaction = held.connection.transaction()?;
            let found = transaction.execute(
                "INSERT INTO latest (key, sort)
                 SELECT key, max(sort) FROM candidates GROUP BY key HAVING count(*) > 1 ORDER BY key",
                [],
            )?;
            transaction.execute("DELETE FROM candidates", [])?;
            transaction
                .execute("INSERT INTO first_passes (run, orders) VALUES (?1, ?2)", [run.as_str(), orders])?;
            transaction.commit()?;
            Ok(u64::try_from(found).unwrap_or(u64::MAX))
        };
        let found = end().map_err(|source| self.failed(source))?;
        held.latest = found;
        held.unsynced = true;
        drop(held);
        self.sync()?;
        Ok(found)
    }

    /// Of each record whether it is the last of its key, as far as the first pass knows.
    pub(super) fn are_last(&self, records: &[Option<Candidate>]) -> Result<Vec<bool>, JournalError> {
        let mut held = self.held();
        if held.latest == 0 {
            return Ok(vec![true; records.len()]);
        }
        held.unsynced = true;
        let look = || {
            let transaction = held.connection.transaction()?;
            let mut last = Vec::with_capacity(records.len());
            {
                let mut find = transaction.prepare_cached("SELECT sort FROM latest WHERE key = ?1")?;
                let mut meet = transaction.prepare_cached("UPDATE latest SET met = 1 WHERE key = ?1")?;
                for record in records {
                    let Some((key, sort)) = record else {
                        last.push(true);
                        continue;
                    };
                    let key = &key.to_be_bytes()[..];
                    let greatest: Option<Vec<u8>> = find.query_row([key], |row| row.get(0)).optional()?;
                    // Greater than the greatest is a record that changed since.
                    let is_last = greatest.as_ref().is_none_or(|greatest| sort[..] >= greatest[..]);
                    if is_last && greatest.is_some() {
                        meet.execute([key])?;
                    }
                    last.push(is_last);
                }
            }
            transaction.commit()?;
            Ok(last)
        };
        let mut look = look;
        look().map_err(|source| self.failed(source))
    }

    /// Keys whose last record was not met again after the first pass: the others gave way to nothing.
    pub(super) fn unmet(&self) -> Result<u64, JournalError> {
        let held = self.held();
        let unmet = "SELECT count(*) FROM latest WHERE met = 0";
        let unmet = held.connection.query_row(unmet, [], |row| row.get::<_, i64>(0));
        Ok(u64::try_from(unmet.map_err(|source| self.failed(source))?).unwrap_or(0))
    }
}
