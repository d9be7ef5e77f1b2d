//! `from: { run: flows }`: what the run itself has done so far, one record a flow, as records of a source.

use crate::error::EngineError;
use crate::journal::{Journal, now_ms};
use crate::summary;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use futures::StreamExt as _;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use whimbrel_model::{Capacity, Counts, Cursor, FlowName, RunId, SlicePart, StoreName};
use whimbrel_store::{
    BatchStream, ReadBatch, Result, RunContext, Source, SourceDescription, StoreError, StoreErrorKind,
};

/// What is read under this name in a spec: `from: { run: flows }`.
pub const FLOWS: &str = "flows";

/// Texts of a record, in order.
const TEXTS: [&str; 7] =
    ["run", "migration", "environment", "flow", "target", "content_digest", "spec_digest"];
/// Times of a record.
const TIMES: [&str; 2] = ["run_started", "written_at"];
/// Numbers of a record.
const NUMBERS: [&str; 8] =
    ["read", "created", "updated", "unchanged", "skipped", "rejected", "filtered", "bytes"];

/// The run's own counts as a source. Its flow waits for all others, and does not count itself.
#[derive(Debug)]
pub struct ReceiptSource {
    name: StoreName,
    own: Vec<FlowName>,
    run: OnceLock<(PathBuf, RunId)>,
}

impl ReceiptSource {
    /// A source that knows no run yet: a plan and a check read no records. `own` are the flows that read it.
    pub(crate) fn new(name: StoreName, own: Vec<FlowName>) -> Self {
        Self { name, own, run: OnceLock::new() }
    }

    /// Says whose receipts are read.
    pub(crate) fn of_run(&self, journal: &Path, run: &RunId) {
        self.run.get_or_init(|| (journal.to_owned(), run.clone()));
    }

    fn schema() -> SchemaRef {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = TEXTS
            .iter()
            .map(|name| Field::new(*name, DataType::Utf8, true))
            .chain(TIMES.iter().map(|name| Field::new(*name, time.clone(), false)))
            .chain(NUMBERS.iter().map(|name| Field::new(*name, DataType::Int64, false)));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn records(&self, journal: &Path, run: &RunId) -> crate::error::Result<RecordBatch> {
        let journal = Journal::open(journal)?;
        let record = crate::run::found(&journal, run)?;
        let counts = summary::counts(&journal, &record)?;
        let targets = journal.targets(run)?;
        let targets = targets.iter().filter(|target| !self.own.contains(&target.flow));
        let (mut texts, mut numbers) = (vec![Vec::new(); TEXTS.len()], vec![Vec::new(); NUMBERS.len()]);
        let mut rows = 0;
        for target in targets {
            let digest = blake3::hash(&journal.sums(run, &target.flow)?.to_bytes()).to_hex().to_string();
            let row = [
                Some(run.to_string()),
                Some(record.migration.clone()),
                record.environment.clone(),
                Some(target.flow.to_string()),
                Some(target.resource.clone()),
                Some(digest),
                Some(record.spec_digest.clone()),
            ];
            texts.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
            let counts = counts.get(&target.flow).copied().unwrap_or_default();
            numbers.iter_mut().zip(figures(&counts)).for_each(|(column, value)| column.push(value));
            rows += 1;
        }
        let time = |ms: i64| -> ArrayRef {
            let column = TimestampMicrosecondArray::from(vec![ms.saturating_mul(1_000); rows]);
            Arc::new(column.with_timezone("UTC"))
        };
        let texts = texts.into_iter().map(|column| Arc::new(StringArray::from(column)) as ArrayRef);
        let numbers = numbers.into_iter().map(|column| Arc::new(Int64Array::from(column)) as ArrayRef);
        let columns: Vec<ArrayRef> =
            texts.chain([time(record.started_ms), time(now_ms())]).chain(numbers).collect();
        RecordBatch::try_new(Self::schema(), columns)
            .map_err(|error| EngineError::Internal(format!("records of the run itself: {error}")))
    }
}

fn figures(counts: &Counts) -> [i64; NUMBERS.len()] {
    let Counts { read, created, updated, unchanged, skipped, rejected, filtered, bytes } = *counts;
    [read, created, updated, unchanged, skipped, rejected, filtered, bytes]
        .map(|figure| i64::try_from(figure).unwrap_or(i64::MAX))
}

#[async_trait]
impl Source for ReceiptSource {
    async fn describe(&self) -> Result<SourceDescription> {
        Ok(SourceDescription {
            schema: Self::schema(),
            key: vec!["run".to_owned(), "flow".to_owned()],
            records: None,
            resumable: false,
            sees_all: false,
            notes: vec!["what the run itself has done, one record a flow; it is not verified".to_owned()],
        })
    }

    async fn slices(&self, _wanted: usize) -> Result<Vec<SlicePart>> {
        Ok(vec![SlicePart(json!({ "run": FLOWS }))])
    }

    async fn read(
        &self,
        _part: &SlicePart,
        _after: Option<&Cursor>,
        _context: &RunContext,
    ) -> Result<BatchStream> {
        let Some((journal, run)) = self.run.get() else { return Ok(futures::stream::empty().boxed()) };
        let records = self.records(journal, run).map_err(|error| {
            let context = "cannot read what the run itself has done";
            StoreError::new(StoreErrorKind::Internal, &self.name, context).caused_by(error)
        })?;
        let bytes = u64::try_from(records.get_array_memory_size()).unwrap_or(u64::MAX);
        let capacity = Capacity::default();
        let batch =
            ReadBatch { records, cursor: None, unreadable: Vec::new(), bytes, capacity, originals: None };
        Ok(futures::stream::iter([Ok(batch)]).boxed())
    }
}
