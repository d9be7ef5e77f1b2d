//! Writes one slice's records of one flow into its part.

use super::session::Session;
use super::{Table, nested, row_groups};
use crate::client::blocking;
use crate::error::{Fault, Outcome as Done};
use crate::format::{Compression, Format};
use crate::types::encode::TextBuffer;
use crate::types::encode::decimals::{self, Typed};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::write::GzEncoder;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use whimbrel_model::{Capacity, Checkpoint, Fingerprint, FingerprintKey, FlowName};
use whimbrel_store::{Outcome, Refusal, Result, RunContext, StoreError, WriteBatch, WriteOutcome, Writer};

/// How hard text is packed: it is written once and read seldom, and must not hold the run up.
const GZIP_LEVEL: u32 = 5;
const ZSTD_LEVEL: i32 = 3;
/// For no more bytes a batch's text has room before its first record is there.
const MOST_ROOM: usize = 16 << 20;

pub(super) struct FilesWriter {
    pub(super) table: Arc<Table>,
    pub(super) flow: FlowName,
    pub(super) session: Arc<Session>,
    pub(super) last: Option<Checkpoint>,
    pub(super) context: RunContext,
}

impl FilesWriter {
    fn failed(&self, fault: Fault) -> StoreError {
        fault.into_error(&self.table.name, &format!("cannot write \"{}\"", self.table.path))
    }
}

/// What a batch became.
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) records: u64,
    pub(super) length: u64,
}

#[async_trait]
impl Writer for FilesWriter {
    async fn last(&self) -> Result<Option<Checkpoint>> {
        Ok(self.last.clone())
    }

    async fn write(&self, batch: WriteBatch) -> Result<WriteOutcome> {
        let (table, session) = (Arc::clone(&self.table), Arc::clone(&self.session));
        let (flow, key) = (self.flow.clone(), self.context.fingerprint_key.clone());
        let written = blocking(move || {
            let written = if table.request.shape.is_some() {
                nested::frames(&table, &mut table.encoder(&batch.records, &key)?)?
            } else if table.format.is_text() {
                text(&table, &batch.records, &key, session.is_begun(&flow), |bytes| session.spare(bytes))?
            } else {
                typed(&table, &batch.records, &key, |bytes| session.spare(bytes))?
            };
            if written.records > 0 {
                let schema = || schema_text(&table.written_schema(batch.records.schema_ref()));
                session.append(&flow, batch.seq, written.bytes, written.records, schema)?;
            }
            Ok(WriteOutcome {
                outcomes: written.outcomes,
                bytes: written.length,
                capacity: Capacity::default(),
            })
        });
        written.await.map_err(|fault| self.failed(fault))
    }

    async fn commit(&self, checkpoint: &Checkpoint, flows: usize) -> Result<()> {
        let (session, flow, checkpoint) = (Arc::clone(&self.session), self.flow.clone(), checkpoint.clone());
        let committed = blocking(move || session.commit(&flow, &checkpoint, flows)).await;
        committed.map_err(|fault| self.failed(fault))
    }

    async fn finish(&self) -> Result<()> {
        let (session, flow) = (Arc::clone(&self.session), self.flow.clone());
        let schema = self.table.planned_schema();
        let finished = blocking(move || {
            let schema = schema.as_deref().map(schema_text).transpose()?;
            session.finish(&flow, schema)
        });
        finished.await.map_err(|fault| self.failed(fault))
    }
}

fn text(
    table: &Table,
    batch: &RecordBatch,
    key: &FingerprintKey,
    is_begun: bool,
    memory: impl FnOnce(usize) -> Vec<u8>,
) -> Done<Written> {
    let row_bytes = table.row_bytes.load(Ordering::Relaxed);
    let room = match row_bytes {
        // Nothing is known yet; text is mostly longer than columns are.
        0 => 2 * batch.get_array_memory_size(),
        _ => batch.num_rows() * (row_bytes + row_bytes / 16),
    };
    let room = room.min(MOST_ROOM);
    let mut text = TextBuffer::within(memory(room));
    let is_array = table.format == Format::Json;
    let between = if is_array { ",\n" } else { "\n" };
    if is_array && is_begun {
        text.push_str(between);
    }
    let mut outcomes = Vec::with_capacity(batch.num_rows());
    for encoder in table.encoders(batch, key) {
        outcomes.extend(settled(encoder?.all(&mut text, between)));
    }
    let records = outcomes.iter().filter(|outcome| is_written(outcome)).count();
    if records == 0 {
        text.clear();
    } else if is_array {
        // Nothing stands behind the last one yet.
        text.truncate(text.len() - between.len());
    }
    table.row_bytes.store(text.len() / batch.num_rows().max(1), Ordering::Relaxed);
    let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let records = u64::try_from(records).unwrap_or(u64::MAX);
    Ok(Written { bytes: packed(table.compression, text.into_bytes())?, outcomes, records, length })
}

fn settled(rows: Vec<std::result::Result<Fingerprint, Refusal>>) -> impl Iterator<Item = Outcome> {
    rows.into_iter().map(|row| row.map_or_else(Outcome::Rejected, Outcome::Created))
}

fn is_written(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Created(_))
}

/// A batch as a file by itself: of Parquet, or an Arrow IPC stream.
fn typed(
    table: &Table,
    batch: &RecordBatch,
    key: &FingerprintKey,
    memory: impl FnOnce(usize) -> Vec<u8>,
) -> Done<Written> {
    let Typed { records, refused } = decimals::typed(batch)?;
    let mut outcomes = Vec::with_capacity(batch.num_rows());
    // Of the numbers as they came: to make texts of decimals again would take time, and both count the same.
    for encoder in table.encoders(batch, key) {
        outcomes.extend(settled(encoder?.fingerprints()));
    }
    refused.into_iter().for_each(|(row, refusal)| outcomes[row] = Outcome::Rejected(refusal));
    let kept: arrow::array::BooleanArray = outcomes.iter().map(|outcome| Some(is_written(outcome))).collect();
    let batch = arrow::compute::filter_record_batch(&records, &kept)?;
    let is_parquet = table.format == Format::Parquet;
    let bytes = if is_parquet { row_groups::encoded(&batch, memory)? } else { stream(&batch)? };
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let records = u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
    Ok(Written { bytes, outcomes, records, length })
}

fn stream(batch: &RecordBatch) -> std::result::Result<Vec<u8>, ArrowError> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
    let mut stream = StreamWriter::try_new_with_options(Vec::new(), batch.schema_ref(), options)?;
    stream.write(batch)?;
    stream.into_inner()
}

/// Text as the file holds it: each stretch is a member or a frame of its own, so that parts can be put together.
pub(super) fn packed(compression: Compression, text: Vec<u8>) -> io::Result<Vec<u8>> {
    match compression {
        _ if text.is_empty() => Ok(text),
        Compression::None => Ok(text),
        Compression::Gzip | Compression::Zstd => packed_always(compression, &text),
    }
}

/// The same, and of a text without any byte a member or a frame that holds none.
pub(super) fn packed_always(compression: Compression, text: &[u8]) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(text.to_vec()),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
            encoder.write_all(text)?;
            encoder.finish()
        }
        Compression::Zstd => zstd::bulk::compress(text, ZSTD_LEVEL),
    }
}

/// A schema as text: an Arrow IPC stream without batches, in base64.
fn schema_text(schema: &Schema) -> Done<String> {
    Ok(BASE64.encode(StreamWriter::try_new(Vec::new(), schema)?.into_inner()?))
}
