//! Files that have types of their own: Parquet, and Arrow IPC as a file or as a stream.

use crate::client::{FileRef, Place, RandomAccess};
use crate::error::{Fault, Outcome};
use crate::format::Format;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::{FileReader, StreamReader};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::RowGroupMetaData;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use tokio::runtime::Handle;
use whimbrel_store::StoreErrorKind;

/// With this an Arrow IPC file begins, and a stream does not.
const ARROW_FILE: &[u8] = b"ARROW1";
const BUFFER_BYTES: usize = 256 << 10;

/// A file whose schema has been read.
pub(super) enum TypedFile {
    Parquet(RandomAccess, ArrowReaderMetadata),
    ArrowFile(RandomAccess, SchemaRef, u64),
    ArrowStream(RandomAccess, SchemaRef),
}

/// Batches of a file, with the first of them in part.
pub(super) type TypedBatches = Box<dyn Iterator<Item = Outcome<RecordBatch>>>;

impl TypedFile {
    pub(super) fn open(place: &Place, handle: &Handle, file: &FileRef, format: Format) -> Outcome<Self> {
        let mut access = place.random(handle, file)?;
        match format {
            Format::Parquet => {
                let metadata = ArrowReaderMetadata::load(&access, ArrowReaderOptions::new())?;
                Ok(Self::Parquet(access, metadata))
            }
            Format::Arrow => {
                let mut head = Vec::new();
                (&mut access).take(8).read_to_end(&mut head)?;
                access.seek(SeekFrom::Start(0))?;
                if !head.starts_with(ARROW_FILE) && first_message_bytes(&head) > file.size {
                    // The reader would make room for what the first bytes say, whatever they are.
                    return Err(Fault::found(StoreErrorKind::Protocol, "it is no Arrow IPC"));
                }
                if head.starts_with(ARROW_FILE) {
                    let reader = FileReader::try_new(buffered(&access), None)?;
                    let batches = u64::try_from(reader.num_batches()).unwrap_or(u64::MAX);
                    Ok(Self::ArrowFile(access, reader.schema(), batches))
                } else {
                    let schema = StreamReader::try_new(buffered(&access), None)?.schema();
                    Ok(Self::ArrowStream(access, schema))
                }
            }
            other => Err(Fault::found(StoreErrorKind::Internal, format!("{other} has no types of its own"))),
        }
    }

    pub(super) fn schema(&self) -> SchemaRef {
        match self {
            Self::Parquet(_, metadata) => SchemaRef::clone(metadata.schema()),
            Self::ArrowFile(_, schema, _) | Self::ArrowStream(_, schema) => SchemaRef::clone(schema),
        }
    }

    /// How many records there are, where the file says it.
    pub(super) fn records(&self) -> Option<u64> {
        match self {
            Self::Parquet(_, metadata) => u64::try_from(metadata.metadata().file_metadata().num_rows()).ok(),
            Self::ArrowFile(..) | Self::ArrowStream(..) => None,
        }
    }

    /// The bytes of each stretch that can be read by itself.
    pub(super) fn group_bytes(&self) -> Vec<u64> {
        match self {
            Self::Parquet(_, metadata) => {
                let groups = metadata.metadata().row_groups().iter();
                groups.map(|group| u64::try_from(group.compressed_size()).unwrap_or(0)).collect()
            }
            // The footer says only where they lie; they are mostly of one size.
            Self::ArrowFile(_, _, batches) => vec![1; usize::try_from(*batches).unwrap_or(0)],
            Self::ArrowStream(..) => vec![1],
        }
    }

    /// The batches of the groups `from..to`, without the first `skip` rows; where the format is read so, each has
    /// `max_records` at the most, and takes about `max_bytes`.
    pub(super) fn read(
        self,
        (from, to): (u64, u64),
        skip: u64,
        (max_records, max_bytes): (usize, usize),
        columns: &[String],
    ) -> Outcome<TypedBatches> {
        let index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        match self {
            Self::Parquet(access, metadata) => {
                let schema = metadata.schema();
                let names = schema.fields().iter().enumerate();
                let roots = names.filter(|(_, field)| columns.contains(field.name())).map(|(place, _)| place);
                let mask = ProjectionMask::roots(metadata.parquet_schema(), roots.collect::<Vec<_>>());
                let groups = index(from)..index(to).min(metadata.metadata().num_row_groups());
                let widest =
                    groups.clone().map(|group| row_bytes(metadata.metadata().row_group(group), columns));
                let by_bytes = max_bytes / widest.max().unwrap_or(1).max(1);
                let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(access, metadata)
                    .with_row_groups(groups.collect())
                    .with_projection(mask)
                    .with_batch_size(by_bytes.clamp(1, max_records))
                    .with_offset(index(skip))
                    .build()?;
                Ok(Box::new(reader.map(|batch| Ok(batch?))))
            }
            Self::ArrowFile(access, schema, batches) => {
                let projection = projection(&schema, columns);
                let mut reader = FileReader::try_new(buffered(&access), Some(projection))?;
                let mut left = to.min(batches).saturating_sub(from);
                if left > 0 {
                    reader.set_index(index(from))?;
                }
                let whole = std::iter::from_fn(move || {
                    left = left.checked_sub(1)?;
                    Some(reader.next()?.map_err(Fault::from))
                });
                Ok(without_first(whole, skip))
            }
            Self::ArrowStream(access, schema) => {
                let projection = projection(&schema, columns);
                let reader = StreamReader::try_new(buffered(&access), Some(projection))?;
                Ok(without_first(reader.map(|batch| batch.map_err(Fault::from)), skip))
            }
        }
    }
}

/// How many bytes a row of a group takes about, once it is decoded: where values repeat, the file has less.
fn row_bytes(group: &RowGroupMetaData, columns: &[String]) -> usize {
    let wanted = group
        .columns()
        .iter()
        .filter(|chunk| chunk.column_path().parts().first().is_some_and(|root| columns.contains(root)));
    let bytes = wanted.map(|chunk| {
        let decoded = chunk.unencoded_byte_array_data_bytes().unwrap_or(0);
        u64::try_from(decoded.max(chunk.uncompressed_size())).unwrap_or(0)
    });
    let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
    usize::try_from(bytes.sum::<u64>() / rows).unwrap_or(usize::MAX)
}

/// What a stream's first bytes say of the length of its first message.
fn first_message_bytes(head: &[u8]) -> u64 {
    let length = head.strip_prefix(&[0xFF; 4]).unwrap_or(head).first_chunk::<4>();
    length.map_or(u64::MAX, |length| u32::from_le_bytes(*length).into())
}

fn buffered(access: &RandomAccess) -> BufReader<RandomAccess> {
    BufReader::with_capacity(BUFFER_BYTES, access.clone())
}

fn projection(schema: &SchemaRef, columns: &[String]) -> Vec<usize> {
    let fields = schema.fields().iter().enumerate();
    fields.filter(|(_, field)| columns.contains(field.name())).map(|(place, _)| place).collect()
}

/// Batches without the first `skip` rows.
fn without_first(
    batches: impl Iterator<Item = Outcome<RecordBatch>> + 'static,
    mut skip: u64,
) -> TypedBatches {
    Box::new(batches.filter_map(move |batch| {
        let batch = match batch {
            Ok(batch) => batch,
            Err(fault) => return Some(Err(fault)),
        };
        let rows = u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
        let passed = skip.min(rows);
        skip -= passed;
        let passed = usize::try_from(passed).unwrap_or(usize::MAX);
        (passed < batch.num_rows()).then(|| Ok(batch.slice(passed, batch.num_rows() - passed)))
    }))
}
