//! How far a run was from time to time, for the curve of its throughput.
//!
//! A run of ten hours must not leave ten hours of seconds behind: once a run has more than [`MOST_SAMPLES`], those
//! nearest to each other go, until half as many are left. The first and the last of each stretch stay, so that the
//! gaps between stretches are seen.

use super::{Journal, JournalError};
use rusqlite::{Row, Transaction, params};
use whimbrel_model::RunId;

/// Samples of a run that are kept at the most.
pub const MOST_SAMPLES: usize = 600;

/// A run at one moment. The figures are those of the whole run, over all flows, and over resumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When, in milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// Records that have been read and have an outcome.
    pub records: u64,
    /// Of these, rejected.
    pub rejected: u64,
    /// Bytes that the targets received.
    pub bytes: u64,
}

/// A stretch of a run by one process: from its beginning or resume to its end, or until it was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// Its number: 0 for the beginning, then one more for each resume.
    pub number: u64,
    /// In the order of time.
    pub samples: Vec<Sample>,
}

impl Journal {
    /// The samples of a run, by stretch.
    ///
    /// # Errors
    /// The journal fails.
    pub fn stretches(&self, run: &RunId) -> Result<Vec<Stretch>, JournalError> {
        let sql = "SELECT stretch, at_ms, records, rejected, bytes FROM samples WHERE run = ?1 ORDER BY stretch, rowid";
        let mut statement = self.sql(self.connection.prepare(sql))?;
        let rows = self.sql(statement.query_map([run.as_str()], sample))?;
        let mut stretches: Vec<Stretch> = Vec::new();
        for row in rows {
            let (number, sample) = self.sql(row)?;
            match stretches.last_mut().filter(|stretch| stretch.number == number) {
                Some(stretch) => stretch.samples.push(sample),
                None => stretches.push(Stretch { number, samples: vec![sample] }),
            }
        }
        Ok(stretches)
    }
}

fn sample(row: &Row) -> rusqlite::Result<(u64, Sample)> {
    let unsigned = |index: usize| row.get::<_, i64>(index).map(|value| u64::try_from(value).unwrap_or(0));
    let sample =
        Sample { at_ms: row.get(1)?, records: unsigned(2)?, rejected: unsigned(3)?, bytes: unsigned(4)? };
    Ok((unsigned(0)?, sample))
}

/// Adds samples to those of the run's present stretch, and thins them where there are too many.
pub(super) fn store(transaction: &Transaction, run: &RunId, samples: &[Sample]) -> rusqlite::Result<()> {
    if samples.is_empty() {
        return Ok(());
    }
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut statement = transaction.prepare_cached(
        "INSERT INTO samples (run, stretch, at_ms, records, rejected, bytes)
         SELECT id, resumes, ?2, ?3, ?4, ?5 FROM runs WHERE id = ?1",
    )?;
    for sample in samples {
        statement.execute(params![
            run.as_str(),
            sample.at_ms,
            signed(sample.records),
            signed(sample.rejected),
            signed(sample.bytes)
        ])?;
    }
    let mut statement = transaction.prepare_cached("SELECT count(*) FROM samples WHERE run = ?1")?;
    let stored: i64 = statement.query_row([run.as_str()], |row| row.get(0))?;
    if usize::try_from(stored).is_ok_and(|stored| stored > MOST_SAMPLES) {
        thin(transaction, run)?;
    }
    Ok(())
}

fn thin(transaction: &Transaction, run: &RunId) -> rusqlite::Result<()> {
    let mut statement = transaction
        .prepare_cached("SELECT rowid, stretch, at_ms FROM samples WHERE run = ?1 ORDER BY stretch, rowid")?;
    let rows = statement.query_map([run.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<(i64, i64, i64)> = rows.collect::<rusqlite::Result<_>>()?;
    let mut statement = transaction.prepare_cached("DELETE FROM samples WHERE rowid = ?1")?;
    for rowid in superfluous(&rows) {
        statement.execute([rowid])?;
    }
    Ok(())
}

/// Of samples by row, stretch and time, the rows that go.
fn superfluous(rows: &[(i64, i64, i64)]) -> Vec<i64> {
    let pairs = rows.windows(2).filter(|pair| pair[0].1 == pair[1].1);
    let active_ms: i64 = pairs.map(|pair| pair[1].2.saturating_sub(pair[0].2).max(0)).sum();
    let wanted = MOST_SAMPLES / 2;
    let apart_ms = active_ms / i64::try_from(wanted).unwrap_or(i64::MAX);
    let mut gone = Vec::new();
    let mut kept: Option<(i64, i64)> = None;
    for (index, (rowid, stretch, at_ms)) in rows.iter().enumerate() {
        let last = rows.get(index + 1).is_none_or(|next| next.1 != *stretch);
        let near = kept.is_some_and(|(kept_in, kept_ms)| {
            kept_in == *stretch && at_ms.saturating_sub(kept_ms) <= apart_ms
        });
        if near && !last {
            gone.push(*rowid);
        } else {
            kept = Some((*stretch, *at_ms));
        }
    }
    if rows.len() - gone.len() > MOST_SAMPLES {
        // Hundreds of short stretches: their oldest samples go.
        let gone_already: std::collections::BTreeSet<i64> = gone.iter().copied().collect();
        let left = rows.iter().map(|row| row.0).filter(|rowid| !gone_already.contains(rowid));
        gone.extend(left.take(rows.len() - gone_already.len() - wanted));
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_evenly_apart_and_keeps_the_ends_of_each_stretch() {
        let second = |index: i64| (index, index / 400, index * 1_000);
        let rows: Vec<_> = (0..700).map(second).collect();
        let gone = superfluous(&rows);
        let left: Vec<_> = rows.iter().filter(|row| !gone.contains(&row.0)).collect();
        assert!((200..=400).contains(&left.len()), "{}", left.len());
        for end in [0, 399, 400, 699] {
            assert!(left.iter().any(|row| row.0 == end), "{end} is gone");
        }
        let apart = left.windows(2).filter(|pair| pair[0].1 == pair[1].1);
        assert!(apart.map(|pair| pair[1].2 - pair[0].2).all(|apart_ms| apart_ms <= 4_000));
    }

    #[test]
    fn many_stretches_are_bounded_too() {
        let rows: Vec<_> = (0..1_400).map(|index| (index, index / 2, index * 1_000)).collect();
        let gone = superfluous(&rows);
        assert_eq!(rows.len() - gone.len(), MOST_SAMPLES / 2);
        assert!(!gone.contains(&1_399), "the latest stays");
    }
}
