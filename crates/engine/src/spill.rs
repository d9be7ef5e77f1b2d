//! Records that wait until other flows of their scan are complete: Arrow IPC in one file per slice and flow.
//!
//! Each batch is an IPC stream of its own behind its length (eight bytes, big-endian), so that the file can be
//! cut at any batch's end and appended to by another process.

use crate::error::{EngineError, Result};
use crate::rejects::KeptOriginals;
use arrow::array::{Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use async_trait::async_trait;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, BufReader};
use whimbrel_model::{Capacity, Cursor, FlowName, SliceId, SlicePart, StoreName};
use whimbrel_store::{
    BatchStream, Originals, ReadBatch, RunContext, Source, SourceDescription, StoreError, StoreErrorKind,
};

use crate::rejects::SyncedFile;

/// The column that keeps a record whole beside its columns.
const ORIGINAL: &str = "$original";

fn path(run_folder: &Path, flow: &FlowName, slice: &SliceId) -> PathBuf {
    run_folder.join("spill").join(format!("{flow}--{slice}.arrow"))
}

/// The spill file of a slice and flow.
#[derive(Debug)]
pub struct SpillFile(SyncedFile);

impl SpillFile {
    /// Opens the file at a checkpoint: what lies behind `bytes` belongs to no checkpoint and goes.
    ///
    /// # Errors
    /// The file cannot be cut to that length, or is shorter.
    pub async fn open(run_folder: &Path, flow: &FlowName, slice: &SliceId, bytes: u64) -> Result<Self> {
        SyncedFile::open(path(run_folder, flow, slice), bytes).await.map(Self)
    }

    /// Appends records and waits until they are on the disk.
    ///
    /// # Errors
    /// The file cannot be written; the disk may be full.
    pub async fn append(&mut self, records: &RecordBatch) -> Result<()> {
        if records.num_rows() == 0 {
            return Ok(());
        }
        let broken = |error| EngineError::Internal(format!("records have no Arrow IPC form: {error}"));
        let mut frame = vec![0; 8];
        let mut writer = StreamWriter::try_new(&mut frame, &records.schema()).map_err(broken)?;
        writer.write(records).and_then(|()| writer.finish()).map_err(broken)?;
        drop(writer);
        let length = u64::try_from(frame.len() - 8).unwrap_or(u64::MAX);
        frame[..8].copy_from_slice(&length.to_be_bytes());
        self.0.append(&frame).await
    }

    /// The length that is on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

/// The rows of a batch as they are spilled: its columns, and the records whole where the columns are not.
pub(crate) fn with_originals(rows: RecordBatch, originals: Option<Vec<Value>>) -> Result<RecordBatch> {
    let Some(originals) = originals else { return Ok(rows) };
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ORIGINAL, DataType::Utf8, false)));
    let mut columns = rows.columns().to_vec();
    let texts: StringArray = originals.into_iter().map(|value| Some(value.to_string())).collect();
    columns.push(Arc::new(texts));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|error| EngineError::Internal(format!("records to be spilled: {error}")))
}

/// What was spilled of one flow, read as a source once the flows that it waits for are complete.
#[derive(Debug)]
pub struct SpillSource {
    flow: FlowName,
    description: SourceDescription,
    run_folder: OnceLock<PathBuf>,
}

impl SpillSource {
    /// Over the spill files of a flow whose records come from a source described so.
    #[must_use]
    pub fn new(flow: FlowName, description: &SourceDescription) -> Self {
        let description = SourceDescription {
            records: None,
            resumable: true,
            sees_all: false,
            notes: Vec::new(),
            ..description.clone()
        };
        Self { flow, description, run_folder: OnceLock::new() }
    }

    /// What it holds: the real source's columns.
    #[must_use]
    pub fn description(&self) -> &SourceDescription {
        &self.description
    }

    /// Says whose files are read.
    pub fn of_run(&self, folder: &Path) {
        self.run_folder.get_or_init(|| folder.to_owned());
    }

    /// The part that one slice of the real source left.
    #[must_use]
    pub fn part(slice: &SliceId) -> SlicePart {
        SlicePart(json!({ "spilled_by": slice }))
    }

    fn failed(
        &self,
        context: impl Into<String>,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::new(StoreErrorKind::Mismatch, &StoreName::new("spill"), context).caused_by(error)
    }
}

#[async_trait]
impl Source for SpillSource {
    async fn describe(&self) -> whimbrel_store::Result<SourceDescription> {
        Ok(self.description.clone())
    }

    /// The runner knows the parts: one for each slice of the real source.
    async fn slices(&self, _wanted: usize) -> whimbrel_store::Result<Vec<SlicePart>> {
        Ok(Vec::new())
    }

    async fn read(
        &self,
        part: &SlicePart,
        after: Option<&Cursor>,
        _context: &RunContext,
    ) -> whimbrel_store::Result<BatchStream> {
        let slice = part.0.get("spilled_by").and_then(Value::as_str).map(SliceId::new);
        let (Some(slice), Some(folder)) = (slice, self.run_folder.get()) else {
            let context = "a part does not belong to the spilled records of a run";
            return Err(StoreError::new(StoreErrorKind::Internal, &StoreName::new("spill"), context));
        };
        let path = path(folder, &self.flow, &slice);
        let failed = |error| self.failed(format!("cannot read the spill file {}", path.display()), error);
        let mut file = match File::open(&path).await {
            Ok(file) => BufReader::new(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(futures::stream::empty().boxed());
            }
            Err(error) => return Err(failed(error)),
        };
        let at = after.and_then(|cursor| cursor.0.as_u64()).unwrap_or(0);
        file.seek(std::io::SeekFrom::Start(at)).await.map_err(failed)?;
        let reader = FrameReader { file, at, schema: Arc::clone(&self.description.schema), path };
        let batches = futures::stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next().await?.map(|batch| (batch, reader)))
        });
        Ok(batches.boxed())
    }
}

struct FrameReader {
    file: BufReader<File>,
    at: u64,
    schema: SchemaRef,
    path: PathBuf,
}

impl FrameReader {
    async fn next(&mut self) -> whimbrel_store::Result<Option<ReadBatch>> {
        let mut length = [0; 8];
        match self.file.read_exact(&mut length).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(self.failed(error)),
        }
        let length = u64::from_be_bytes(length);
        let mut frame = vec![0; usize::try_from(length).map_err(|error| self.failed(error))?];
        self.file.read_exact(&mut frame).await.map_err(|error| self.failed(error))?;
        let mut stream = StreamReader::try_new(&frame[..], None).map_err(|error| self.failed(error))?;
        let batch = stream.next().transpose().map_err(|error| self.failed(error))?;
        let Some(mut batch) = batch else { return Err(self.failed("a frame without records")) };
        self.at += 8 + length;
        let originals = batch.schema().index_of(ORIGINAL).ok().map(|index| batch.remove_column(index));
        let originals = originals.map(|texts| {
            let kept: Arc<dyn Originals> = Arc::new(KeptOriginals(parsed(texts.as_ref())));
            kept
        });
        let records = RecordBatch::try_new(Arc::clone(&self.schema), batch.columns().to_vec())
            .map_err(|error| self.failed(error))?;
        let (cursor, capacity) = (Some(Cursor(self.at.into())), Capacity::default());
        Ok(Some(ReadBatch { records, cursor, unreadable: Vec::new(), bytes: length, capacity, originals }))
    }

    fn failed(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        let context = format!("the spill file {} cannot be read", self.path.display());
        StoreError::new(StoreErrorKind::Mismatch, &StoreName::new("spill"), context).caused_by(error)
    }
}

fn parsed(texts: &dyn Array) -> Vec<Option<Value>> {
    let texts = texts.as_any().downcast_ref::<StringArray>();
    let texts = texts.into_iter().flat_map(|texts| texts.iter());
    texts.map(|text| serde_json::from_str(text?).ok()).collect()
}
