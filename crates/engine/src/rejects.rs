//! Reject files: one NDJSON file per slice and flow, synced before the checkpoint that records its length.

use crate::error::{EngineError, Result};
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::StreamExt;
use std::path::{Path, PathBuf};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, AsyncWriteExt, BufReader};
use whimbrel_model::{Cursor, FlowName, Reject, SliceId, SlicePart, Stage, StoreName, record};
use whimbrel_store::{
    BatchStream, ReadBatch, Source, SourceDescription, StoreError, StoreErrorKind, Unreadable,
};

/// The reject file of a slice and flow; made when the first reject comes.
#[derive(Debug)]
pub struct RejectFile {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

/// Where the rejects of a run's slice and flow lie.
#[must_use]
pub fn path(run_folder: &Path, flow: &FlowName, slice: &SliceId) -> PathBuf {
    run_folder.join("rejects").join(format!("{flow}--{slice}.ndjson"))
}

impl RejectFile {
    /// Opens the file at a checkpoint: what lies behind `bytes` belongs to no checkpoint and goes.
    ///
    /// # Errors
    /// The file cannot be cut to that length, or is shorter.
    pub async fn open(path: PathBuf, bytes: u64) -> Result<Self> {
        let failed = |source| EngineError::file("reset", &path, source);
        if bytes == 0 {
            match tokio::fs::remove_file(&path).await {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
            return Ok(Self { path, file: None, bytes });
        }
        let mut file = OpenOptions::new().write(true).open(&path).await.map_err(failed)?;
        let length = file.metadata().await.map_err(failed)?.len();
        if length < bytes {
            let lost =
                std::io::Error::other(format!("{length} bytes are left of {bytes}: rejects are missing"));
            return Err(failed(lost));
        }
        file.set_len(bytes).await.map_err(failed)?;
        file.seek(std::io::SeekFrom::End(0)).await.map_err(failed)?;
        Ok(Self { path, file: Some(file), bytes })
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
        self.write(&lines).await.map_err(|source| EngineError::file("write", &self.path, source))
    }

    async fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                if let Some(folder) = self.path.parent() {
                    tokio::fs::create_dir_all(folder).await?;
                }
                let file =
                    OpenOptions::new().write(true).create(true).truncate(true).open(&self.path).await?;
                self.file.insert(file)
            }
        };
        file.write_all(lines).await?;
        file.flush().await?;
        file.sync_data().await?;
        self.bytes += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// The length that is on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Joins the reject files of a run into one, `rejects.ndjson`; `None` where there are none.
///
/// # Errors
/// A file cannot be read or written.
pub fn gather(run_folder: &Path) -> Result<Option<PathBuf>> {
    let target = run_folder.join("rejects.ndjson");
    let parts = files(run_folder)?;
    if parts.is_empty() {
        return Ok(None);
    }
    let draft = run_folder.join("rejects.ndjson.part");
    let write = || -> std::io::Result<()> {
        let mut out = std::fs::File::create(&draft)?;
        for part in &parts {
            std::io::copy(&mut std::fs::File::open(part)?, &mut out)?;
        }
        out.sync_all()?;
        std::fs::rename(&draft, &target)
    };
    write().map_err(|source| EngineError::file("write", &target, source))?;
    Ok(Some(target))
}

/// The reject files of a run, in the order of their names.
fn files(run_folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = run_folder.join("rejects");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(EngineError::file("read", folder, error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(|source| EngineError::file("read", folder, source))?;
    paths.sort();
    Ok(paths)
}

/// The rejects of one flow of an earlier run, read as a source: what `retry` replays.
#[derive(Debug)]
pub struct RejectSource {
    store: StoreName,
    flow: FlowName,
    description: SourceDescription,
    folder: PathBuf,
    batch_records: usize,
}

impl RejectSource {
    /// `description` is that of the flow's real source.
    #[must_use]
    pub fn new(
        flow: &FlowName,
        description: &SourceDescription,
        run_folder: &Path,
        batch_records: usize,
        records: u64,
    ) -> Self {
        let description = SourceDescription {
            schema: std::sync::Arc::clone(&description.schema),
            key: description.key.clone(),
            records: Some(records),
            resumable: true,
            notes: Vec::new(),
        };
        let store = StoreName::new("rejects");
        Self { store, flow: flow.clone(), description, folder: run_folder.to_owned(), batch_records }
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
        let prefix = format!("{}--", self.flow);
        let paths = files(&self.folder).map_err(|error| {
            StoreError::new(StoreErrorKind::NotFound, &self.store, "cannot list the reject files")
                .caused_by(error)
        })?;
        let names = paths.iter().filter_map(|path| path.file_name()?.to_str());
        Ok(names.filter(|name| name.starts_with(&prefix)).map(|name| SlicePart(name.into())).collect())
    }

    async fn read(&self, part: &SlicePart, after: Option<&Cursor>) -> whimbrel_store::Result<BatchStream> {
        let path = self.folder.join("rejects").join(part.0.as_str().unwrap_or_default());
        let done = after.and_then(|cursor| cursor.0.as_u64()).unwrap_or(0);
        let opened = File::open(&path).await;
        let file = opened.map_err(|error| {
            let context = format!("cannot read the reject file {}", path.display());
            StoreError::new(StoreErrorKind::NotFound, &self.store, context).caused_by(error)
        })?;
        let reader = LineReader {
            lines: BufReader::new(file).lines(),
            line: 0,
            done,
            schema: std::sync::Arc::clone(&self.description.schema),
            batch_records: self.batch_records,
            store: self.store.clone(),
        };
        let batches = futures::stream::try_unfold(reader, |mut reader| async move {
            Ok(reader.next_batch().await?.map(|batch| (batch, reader)))
        });
        Ok(batches.boxed())
    }
}

/// Reads a reject file in batches.
struct LineReader {
    lines: tokio::io::Lines<BufReader<File>>,
    line: u64,
    done: u64,
    schema: SchemaRef,
    batch_records: usize,
    store: StoreName,
}

impl LineReader {
    async fn next_batch(&mut self) -> whimbrel_store::Result<Option<ReadBatch>> {
        let mut records = Vec::new();
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
                // The source could not hand it over then; no replay can.
                unreadable.push(Unreadable {
                    row: records.len(),
                    column: String::new(),
                    reason: reject.reason,
                    raw: Vec::new(),
                });
            }
            records.push(reject.record);
        }
        if records.is_empty() {
            return Ok(None);
        }
        let records = record::from_json(&self.schema, &records).map_err(|error| self.failed(error))?;
        Ok(Some(ReadBatch { records, cursor: Some(Cursor(self.line.into())), unreadable, bytes }))
    }

    fn failed(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        let context = format!("line {} of a reject file cannot be read", self.line);
        StoreError::new(StoreErrorKind::Mismatch, &self.store, context)
            .caused_by(error)
            .with_hint("the source's columns may have changed since; `run` reads the source itself again")
    }
}
