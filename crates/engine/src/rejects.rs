//! Reject files: one NDJSON file per slice and flow, synced before the checkpoint that records its length.

use crate::error::{EngineError, Result};
use crate::journal::Journal;
pub(crate) use crate::synced_file::SyncedFile;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::StreamExt;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt as _, BufReader, Take};
use whimbrel_model::{
    Capacity, Cursor, FlowName, Reject, RunId, SliceId, SlicePart, Stage, StoreName, record,
};
use whimbrel_store::{
    BatchStream, Originals, ReadBatch, RunContext, Source, SourceDescription, StoreError, StoreErrorKind,
    Unreadable,
};

/// Under this name a reject's record keeps values that could not be read, by column, in base64.
pub const RAW: &str = "$raw";

/// Where the rejects of a run's slice and flow lie.
#[must_use]
pub fn path(run_folder: &Path, flow: &FlowName, slice: &SliceId) -> PathBuf {
    run_folder.join("rejects").join(format!("{flow}--{slice}.ndjson"))
}

/// The reject file of a slice and flow; made when the first reject comes.
#[derive(Debug)]
pub struct RejectFile(SyncedFile);

impl RejectFile {
    /// Opens the file at a checkpoint: what lies behind `bytes` belongs to no checkpoint and goes.
    ///
    /// # Errors
    /// The file cannot be cut to that length, or is shorter.
    pub async fn open(path: PathBuf, bytes: u64) -> Result<Self> {
        SyncedFile::open(path, bytes).await.map(Self)
    }

    /// Appends rejects and waits until they are on the disk.
    ///
    /// # Errors
    /// The file cannot be written; the disk may be full.
    pub async fn append(&mut self, rejects: &[Reject]) -> Result<()> {
        if rejects.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for reject in rejects {
            serde_json::to_writer(&mut lines, reject)
                .map_err(|error| EngineError::Internal(format!("a reject has no JSON form: {error}")))?;
            lines.push(b'\n');
        }
        self.0.append(&lines).await
    }

    /// The length that is on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

/// A reject file as far as the journal knows it: what lies behind `bytes` belongs to no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectPart {
    /// The flow.
    pub flow: FlowName,
    /// The slice.
    pub slice: SliceId,
    /// The file's length at the last checkpoint.
    pub bytes: u64,
}

/// The reject files of a run, as its journal has them.
///
/// # Errors
/// The journal fails.
pub fn parts(journal: &Journal, run: &RunId) -> Result<Vec<RejectPart>> {
    let slices = journal.slices(run)?;
    let parts = slices.into_iter().flat_map(|record| {
        let slice = record.slice.id;
        record.checkpoints.into_iter().map(move |(flow, checkpoint)| RejectPart {
            flow,
            slice: slice.clone(),
            bytes: checkpoint.reject_bytes,
        })
    });
    let corrections = journal.corrections(run)?.into_iter().map(|(flow, correction)| RejectPart {
        flow,
        slice: correction.slice,
        bytes: correction.reject_bytes,
    });
    Ok(parts.chain(corrections).filter(|part| part.bytes > 0).collect())
}

/// Joins the reject files of a run into one, `rejects.ndjson`; `None` where there are none.
///
/// # Errors
/// A file cannot be read or written, or is shorter than the journal says.
pub fn gather(run_folder: &Path, parts: &[RejectPart]) -> Result<Option<PathBuf>> {
    let target = run_folder.join("rejects.ndjson");
    if parts.is_empty() {
        match std::fs::remove_file(&target) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(EngineError::file("remove", &target, error));
            }
            _ => return Ok(None),
        }
    }
    let draft = run_folder.join("rejects.ndjson.part");
    let mut out =
        std::fs::File::create(&draft).map_err(|source| EngineError::file("write", &draft, source))?;
    for part in parts {
        let path = path(run_folder, &part.flow, &part.slice);
        let copy = || {
            let mut file = std::fs::File::open(&path)?.take(part.bytes);
            match std::io::copy(&mut file, &mut out)? {
                copied if copied == part.bytes => Ok(()),
                copied => Err(std::io::Error::other(format!("{copied} bytes are left of {}", part.bytes))),
            }
        };
        let mut copy = copy;
        copy().map_err(|source| EngineError::file("read", &path, source))?;
    }
    let keep = || {
        out.sync_all()?;
        std::fs::rename(&draft, &target)
    };
    keep().map_err(|source| EngineError::file("write", &target, source))?;
    Ok(Some(target))
}

/// The rejects of one flow of an earlier run, read as a source: what `retry` replays.
#[derive(Debug)]
pub struct RejectSource {
    store: StoreName,
    parts: Vec<RejectPart>,
    description: SourceDescription,
    folder: PathBuf,
    batch_records: usize,
}

impl RejectSource {
    /// `description` is that of the flow's real source, `parts` are the flow's reject files in `run_folder`.
    #[must_use]
    pub fn new(
        parts: Vec<RejectPart>,
        description: &SourceDescription,
        run_folder: &Path,
        batch_records: usize,
    ) -> Self {
        let description = SourceDescription {
            schema: Arc::clone(&description.schema),
            key: description.key.clone(),
            records: None,
            resumable: true,
            // What was rejected had been taken by its flow.
            sees_all: false,
            notes: Vec::new(),
        };
        let store = StoreName::new("rejects");
        Self { store, parts, description, folder: run_folder.to_owned(), batch_records }
    }

    /// What it holds: the real source's columns.
    #[must_use]
    pub fn description(&self) -> &SourceDescription {
        &self.description
    }
}

#[async_trait]
impl Source for RejectSource {
    async fn describe(&self) -> whimbrel_store::Result<SourceDescription> {
        Ok(self.description.clone())
    }

    async fn slices(&self, _wanted: usize) -> whimbrel_store::Result<Vec<SlicePart>> {
        let part = |part: &RejectPart| SlicePart(json!([part.flow, part.slice, part.bytes]));
        Ok(self.parts.iter().map(part).collect())
    }

    async fn read(
        &self,
        part: &SlicePart,
        after: Option<&Cursor>,
        _context: &RunContext,
    ) -> whimbrel_store::Result<BatchStream> {
        let (flow, slice, bytes): (FlowName, SliceId, u64) = serde_json::from_value(part.0.clone())
            .map_err(|error| self.failed("a part of the rejects cannot be read", error))?;
        let path = path(&self.folder, &flow, &slice);
        let done = after.and_then(|cursor| cursor.0.as_u64()).unwrap_or(0);
        let file = File::open(&path)
            .await
            .map_err(|error| self.failed(format!("cannot read the reject file {}", path.display()), error))?;
        let reader = LineReader {
            lines: BufReader::new(file.take(bytes)).lines(),
            line: 0,
            done,
            schema: Arc::clone(&self.description.schema),
            batch_records: self.batch_records,
            store: self.store.clone(),
        };
        let batches = futures::stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next_batch().await?.map(|batch| (batch, reader)))
        });
        Ok(batches.boxed())
    }
}

impl RejectSource {
    fn failed(
        &self,
        context: impl Into<String>,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::new(StoreErrorKind::NotFound, &self.store, context).caused_by(error)
    }
}

/// Reads a reject file in batches.
struct LineReader {
    lines: tokio::io::Lines<BufReader<Take<File>>>,
    line: u64,
    done: u64,
    schema: SchemaRef,
    batch_records: usize,
    store: StoreName,
}

impl LineReader {
    async fn next_batch(&mut self) -> whimbrel_store::Result<Option<ReadBatch>> {
        let mut records = Vec::new();
        let mut originals = Vec::new();
        let mut unreadable = Vec::new();
        let mut bytes = 0;
        while records.len() < self.batch_records {
            let next = self.lines.next_line().await.map_err(|error| self.failed(error))?;
            let Some(text) = next else { break };
            self.line += 1;
            if self.line <= self.done {
                continue;
            }
            bytes += u64::try_from(text.len()).unwrap_or(0);
            let reject: Reject = serde_json::from_str(&text).map_err(|error| self.failed(error))?;
            if reject.stage == Stage::Read {
                unreadable.extend(still_unreadable(records.len(), &reject));
            }
            records.push(reject.record);
            originals.push(reject.original);
        }
        if records.is_empty() {
            return Ok(None);
        }
        let records = record::from_json(&self.schema, &records).map_err(|error| self.failed(error))?;
        let originals = originals.iter().any(Option::is_some).then(|| {
            let kept: Arc<dyn Originals> = Arc::new(KeptOriginals(originals));
            kept
        });
        let (cursor, capacity) = (Some(Cursor(self.line.into())), Capacity::default());
        Ok(Some(ReadBatch { records, cursor, unreadable, bytes, capacity, originals }))
    }

    fn failed(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        let context = format!("line {} of a reject file cannot be read", self.line);
        StoreError::new(StoreErrorKind::Mismatch, &self.store, context)
            .caused_by(error)
            .with_hint("the source's columns may have changed since; `run` reads the source itself again")
    }
}

/// Records whole, as they were kept.
#[derive(Debug)]
pub struct KeptOriginals(pub Vec<Option<Value>>);

impl Originals for KeptOriginals {
    fn original(&self, row: usize) -> Value {
        self.0.get(row).cloned().flatten().unwrap_or_default()
    }
}

/// What the source could not hand over then, no replay can: the values as the store sent them are kept on.
fn still_unreadable(row: usize, reject: &Reject) -> Vec<Unreadable> {
    let raw = reject.record.get(RAW).and_then(Value::as_object);
    let columns = raw.into_iter().flatten().map(|(column, raw)| (column.clone(), record::from_base64(raw)));
    let mut columns: Vec<_> = columns.collect();
    if columns.is_empty() {
        columns.push((String::new(), Vec::new()));
    }
    let unreadable = |(column, raw)| Unreadable { row, column, reason: reject.reason.clone(), raw };
    columns.into_iter().map(unreadable).collect()
}
