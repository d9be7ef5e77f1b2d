//! What steps behind the load took back.

use super::{Journal, JournalError};
use rusqlite::{Row, params};
use whimbrel_model::{Buckets, FlowName, RunId, SliceId};

/// Records that were written and removed again by a step behind the load.
#[derive(Clone, Debug)]
pub struct Correction {
    /// How many.
    pub records: u64,
    /// Under this slice's name their rejects are kept.
    pub slice: SliceId,
    /// The length of that reject file.
    pub reject_bytes: u64,
    /// The sums of their fingerprints.
    pub sums: Buckets,
}

impl Journal {
    /// Keeps what a step removes, in the place of what an earlier attempt of it removed.
    ///
    /// # Errors
    /// The journal fails.
    pub fn correct(
        &self,
        run: &RunId,
        flow: &FlowName,
        step: &str,
        correction: &Correction,
    ) -> Result<(), JournalError> {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.sql(self.connection.execute(
            "INSERT OR REPLACE INTO corrections (run, flow, step, slice, records, reject_bytes, sums)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                run.as_str(),
                flow.as_str(),
                step,
                correction.slice.as_str(),
                signed(correction.records),
                signed(correction.reject_bytes),
                correction.sums.to_bytes(),
            ],
        ))?;
        Ok(())
    }

    /// What the steps of a run removed, by flow.
    ///
    /// # Errors
    /// The journal fails or is damaged.
    pub fn corrections(&self, run: &RunId) -> Result<Vec<(FlowName, Correction)>, JournalError> {
        let sql =
            "SELECT flow, slice, records, reject_bytes, sums FROM corrections WHERE run = ?1 ORDER BY rowid";
        let mut statement = self.sql(self.connection.prepare(sql))?;
        let read = |row: &Row| {
            let (records, reject_bytes): (i64, i64) = (row.get(2)?, row.get(3)?);
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                records,
                reject_bytes,
                row.get::<_, Vec<u8>>(4)?,
            ))
        };
        let rows = self.sql(statement.query_map([run.as_str()], read))?;
        let mut corrections = Vec::new();
        for row in rows {
            let (flow, slice, records, reject_bytes, sums) = self.sql(row)?;
            let correction = Correction {
                records: u64::try_from(records).unwrap_or(0),
                slice: SliceId::new(slice),
                reject_bytes: u64::try_from(reject_bytes).unwrap_or(0),
                sums: Buckets::from_bytes(&sums).map_err(|error| self.damaged(error.to_string()))?,
            };
            corrections.push((FlowName::new(flow), correction));
        }
        Ok(corrections)
    }
}
