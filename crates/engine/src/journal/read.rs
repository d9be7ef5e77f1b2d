//! Questions that the journal answers.

use super::records::{RunKind, RunRecord, SliceRecord, TargetRecord};
use super::{Journal, JournalError};
use rusqlite::{OptionalExtension, Row, params};
use std::collections::BTreeMap;
use whimbrel_model::{
    Buckets, Capacity, Checkpoint, Counts, Cursor, FlowName, GroupName, RunId, ScanTally, Slice, SliceId,
    SlicePart, StoreName,
};

const RUN_COLUMNS: &str = "id, migration, environment, kind, parent, spec_path, spec_digest, options, started_ms, ended_ms, outcome, epoch, resumes, planned, shape, canonical_version";

impl Journal {
    /// All runs, the latest first.
    ///
    /// # Errors
    /// The journal fails.
    pub fn runs(&self) -> Result<Vec<RunRecord>, JournalError> {
        let sql = format!("SELECT {RUN_COLUMNS} FROM runs ORDER BY started_ms DESC, id DESC");
        let mut statement = self.sql(self.connection.prepare(&sql))?;
        let rows = self.sql(statement.query_map([], run_record))?;
        rows.map(|row| self.sql(row)).collect()
    }

    /// The runs whose name begins or ends with the given text.
    ///
    /// # Errors
    /// The journal fails.
    pub fn find(&self, name: &str) -> Result<Vec<RunRecord>, JournalError> {
        let fits = |run: &RunRecord| run.id.as_str().starts_with(name) || run.id.as_str().ends_with(name);
        Ok(self.runs()?.into_iter().filter(fits).collect())
    }

    /// The latest unfinished run of a migration in an environment. One that did not come to have slices is
    /// not in anybody's way.
    ///
    /// # Errors
    /// The journal fails.
    pub fn unfinished(
        &self,
        migration: &str,
        environment: Option<&str>,
    ) -> Result<Option<RunRecord>, JournalError> {
        let fits = |run: &RunRecord| {
            run.is_unfinished()
                && run.planned
                && run.migration == migration
                && run.environment.as_deref() == environment
        };
        Ok(self.runs()?.into_iter().find(fits))
    }

    /// The retry of a run, where there is one that was not set aside.
    ///
    /// # Errors
    /// The journal fails.
    pub fn retry_of(&self, parent: &RunId) -> Result<Option<RunRecord>, JournalError> {
        let fits = |run: &RunRecord| {
            run.kind == RunKind::Retry { parent: parent.clone() }
                && run.outcome.as_deref() != Some("abandoned")
                && !run.is_undone()
        };
        Ok(self.runs()?.into_iter().find(fits))
    }

    /// The identities of a run's stores.
    ///
    /// # Errors
    /// The journal fails.
    pub fn stores(&self, run: &RunId) -> Result<Vec<(StoreName, String, String)>, JournalError> {
        let sql = "SELECT store, location, identity FROM stores WHERE run = ?1 ORDER BY store";
        let mut statement = self.sql(self.connection.prepare(sql))?;
        let read = |row: &Row| Ok((StoreName::new(row.get::<_, String>(0)?), row.get(1)?, row.get(2)?));
        let rows = self.sql(statement.query_map([run.as_str()], read))?;
        rows.map(|row| self.sql(row)).collect()
    }

    /// The targets of a run's flows, as they were when it began.
    ///
    /// # Errors
    /// The journal fails.
    pub fn targets(&self, run: &RunId) -> Result<Vec<TargetRecord>, JournalError> {
        let sql = "SELECT flow, resource, identity, made, empty, estimate FROM targets WHERE run = ?1 ORDER BY rowid";
        let mut statement = self.sql(self.connection.prepare(sql))?;
        let read = |row: &Row| {
            Ok(TargetRecord {
                flow: FlowName::new(row.get::<_, String>(0)?),
                resource: row.get(1)?,
                identity: row.get(2)?,
                made: row.get(3)?,
                empty: row.get(4)?,
                estimate: row.get::<_, Option<i64>>(5)?.and_then(|estimate| u64::try_from(estimate).ok()),
            })
        };
        let rows = self.sql(statement.query_map([run.as_str()], read))?;
        rows.map(|row| self.sql(row)).collect()
    }

    /// All slices of a run with their flows' checkpoints.
    ///
    /// # Errors
    /// The journal fails or is damaged.
    pub fn slices(&self, run: &RunId) -> Result<Vec<SliceRecord>, JournalError> {
        self.slices_like(run, None)
    }

    /// One slice of a run.
    ///
    /// # Errors
    /// The journal fails or is damaged.
    pub fn slice(&self, run: &RunId, slice: &SliceId) -> Result<Option<SliceRecord>, JournalError> {
        Ok(self.slices_like(run, Some(slice))?.pop())
    }

    fn slices_like(&self, run: &RunId, only: Option<&SliceId>) -> Result<Vec<SliceRecord>, JournalError> {
        let mut checkpoints = self.checkpoints(run, only)?;
        let sql = "SELECT id, scan, part, done, reserved FROM slices WHERE run = ?1 AND (?2 IS NULL OR id = ?2) ORDER BY rowid";
        let mut statement = self.sql(self.connection.prepare_cached(sql))?;
        let mut rows = self.sql(statement.query(params![run.as_str(), only.map(SliceId::as_str)]))?;
        let mut slices = Vec::new();
        while let Some(row) = self.sql(rows.next())? {
            let id: String = self.sql(row.get(0))?;
            let part: String = self.sql(row.get(2))?;
            let part =
                serde_json::from_str(&part).map_err(|_| self.damaged(format!("the part of slice {id}")))?;
            let reserved: i64 = self.sql(row.get(4))?;
            slices.push(SliceRecord {
                checkpoints: checkpoints.remove(&id).unwrap_or_default(),
                done: self.sql(row.get(3))?,
                reserved: u64::try_from(reserved).unwrap_or(0),
                slice: Slice {
                    id: SliceId::new(id),
                    group: GroupName::new(self.sql(row.get::<_, String>(1))?),
                    part: SlicePart(part),
                },
            });
        }
        Ok(slices)
    }

    /// Whether a run noted that it would make a resource.
    ///
    /// # Errors
    /// The journal fails.
    pub fn made_by(&self, run: &RunId, store: &StoreName, name: &str) -> Result<bool, JournalError> {
        self.sql(self.connection.query_row(
            "SELECT EXISTS (SELECT 1 FROM resources WHERE run = ?1 AND store = ?2 AND name = ?3)",
            params![run.as_str(), store.as_str(), name],
            |row| row.get(0),
        ))
    }

    fn checkpoints(
        &self,
        run: &RunId,
        only: Option<&SliceId>,
    ) -> Result<BTreeMap<String, Vec<(FlowName, Checkpoint)>>, JournalError> {
        let sql = "SELECT slice, flow, seq, cursor, reject_bytes, read, created, updated, unchanged, skipped, rejected,
                          filtered, bytes, read_units, write_units, sums, position, scan, spared_write_units FROM checkpoints
                   WHERE run = ?1 AND (?2 IS NULL OR slice = ?2)";
        let mut statement = self.sql(self.connection.prepare_cached(sql))?;
        let mut rows = self.sql(statement.query(params![run.as_str(), only.map(SliceId::as_str)]))?;
        let mut checkpoints: BTreeMap<String, Vec<_>> = BTreeMap::new();
        while let Some(row) = self.sql(rows.next())? {
            let slice: String = self.sql(row.get(0))?;
            let flow: String = self.sql(row.get(1))?;
            let checkpoint = self.checkpoint(row).map_err(|error| match error {
                JournalError::Damaged { path, what } => {
                    JournalError::Damaged { path, what: format!("{what} of slice {slice}, flow {flow}") }
                }
                other => other,
            })?;
            checkpoints.entry(slice).or_default().push((FlowName::new(flow), checkpoint));
        }
        Ok(checkpoints)
    }

    fn checkpoint(&self, row: &Row) -> Result<Checkpoint, JournalError> {
        let count = |index: usize| -> Result<u64, JournalError> {
            u64::try_from(self.sql(row.get::<_, i64>(index))?).map_err(|_| self.damaged("a negative count"))
        };
        let cursor: Option<String> = self.sql(row.get(3))?;
        let cursor = cursor.map(|text| serde_json::from_str(&text).map(Cursor)).transpose();
        let sums: Vec<u8> = self.sql(row.get(15))?;
        let scan: Option<String> = self.sql(row.get(17))?;
        let scan = scan.map_or_else(|| Ok(ScanTally::default()), |text| serde_json::from_str(&text));
        Ok(Checkpoint {
            scan: scan.map_err(|_| self.damaged("the tally of the scan"))?,
            seq: count(2)?,
            position: count(16)?,
            cursor: cursor.map_err(|_| self.damaged("the cursor"))?,
            reject_bytes: count(4)?,
            counts: Counts {
                read: count(5)?,
                created: count(6)?,
                updated: count(7)?,
                unchanged: count(8)?,
                skipped: count(9)?,
                rejected: count(10)?,
                filtered: count(11)?,
                bytes: count(12)?,
            },
            capacity: Capacity {
                read_units: self.sql(row.get(13))?,
                write_units: self.sql(row.get(14))?,
                spared_write_units: self.sql(row.get(18))?,
            },
            sums: Buckets::from_bytes(&sums).map_err(|error| self.damaged(error.to_string()))?,
        })
    }

    /// The sums of a flow's complete slices.
    ///
    /// # Errors
    /// The journal fails or is damaged.
    pub fn sums(&self, run: &RunId, flow: &FlowName) -> Result<Buckets, JournalError> {
        let sums: Option<Vec<u8>> = self.sql(
            self.connection
                .query_row(
                    "SELECT sums FROM sums WHERE run = ?1 AND flow = ?2",
                    params![run.as_str(), flow.as_str()],
                    |row| row.get(0),
                )
                .optional(),
        )?;
        sums.map_or_else(
            || Ok(Buckets::default()),
            |sums| Buckets::from_bytes(&sums).map_err(|e| self.damaged(e.to_string())),
        )
    }
}

fn run_record(row: &Row) -> rusqlite::Result<RunRecord> {
    let environment: String = row.get(2)?;
    let parent: Option<String> = row.get(4)?;
    let options: String = row.get(7)?;
    let unsigned = |index: usize| row.get::<_, i64>(index).map(|value| u64::try_from(value).unwrap_or(0));
    Ok(RunRecord {
        id: RunId::new(row.get::<_, String>(0)?),
        migration: row.get(1)?,
        environment: (!environment.is_empty()).then_some(environment),
        kind: parent.map_or(RunKind::Run, |parent| RunKind::Retry { parent: RunId::new(parent) }),
        spec_path: row.get(5)?,
        spec_digest: row.get(6)?,
        options: serde_json::from_str(&options).unwrap_or_default(),
        started_ms: row.get(8)?,
        ended_ms: row.get(9)?,
        outcome: row.get(10)?,
        epoch: unsigned(11)?,
        resumes: unsigned(12)?,
        planned: row.get(13)?,
        shape: row.get(14)?,
        canonical_version: row.get(15)?,
    })
}
