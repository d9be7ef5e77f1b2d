//! Records that seem to differ, where only the target knows when two texts are one value: it is asked.

use super::reading::{Reading, Take};
use super::sums::locked;
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use async_trait::async_trait;
use std::collections::HashSet;
use std::sync::Mutex;
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::Fingerprint;

/// Asks the target for records that seem to differ.
pub(crate) struct Confirm {
    reading: Reading,
    suspects: HashSet<Fingerprint>,
    equal: Mutex<HashSet<Fingerprint>>,
}

impl Confirm {
    pub(crate) fn new(reading: &Reading, suspects: HashSet<Fingerprint>) -> Self {
        Self { reading: reading.clone(), suspects, equal: Mutex::default() }
    }

    /// The suspects of which the target holds the same.
    pub(crate) fn equal(&self) -> HashSet<Fingerprint> {
        std::mem::take(&mut locked(&self.equal))
    }
}

#[async_trait]
impl Take for Confirm {
    async fn expected(
        &self,
        flow: usize,
        records: &RecordBatch,
        fingerprints: Vec<Option<Fingerprint>>,
        _: u64,
    ) -> Result<()> {
        let suspected =
            |print: &Option<Fingerprint>| print.is_some_and(|print| self.suspects.contains(&print));
        let mask: BooleanArray = fingerprints.iter().map(|print| Some(suspected(print))).collect();
        if mask.true_count() == 0 {
            return Ok(());
        }
        let records = filter_record_batch(records, &mask)
            .map_err(|error| EngineError::Internal(format!("records to ask for: {error}")))?;
        let found = self.reading.look_up(flow, &records).await?;
        let asked = fingerprints.into_iter().flatten().filter(|print| self.suspects.contains(print));
        for (wanted, row) in asked.zip(&found.rows) {
            let held = row.and_then(|row| found.held.records.get(row));
            if held.is_some_and(|held| held.fingerprint.record == wanted.record) {
                locked(&self.equal).insert(wanted);
            }
        }
        Ok(())
    }
}
