//! Parquet: each batch is encoded once, as row groups, and these are put together without a look into them.
//!
//! In a part a batch is the length of its bytes (u64, big endian) and a Parquet file of its own. So the work of encoding
//! lies where slices are read side by side, and not in the last step; what is durable is what the file will hold.

use crate::error::{Fault, Outcome};
use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::sync::Arc;
use whimbrel_store::StoreErrorKind;

/// So many values of a column are looked at, to see whether they repeat.
const LOOKED_AT: usize = 1024;
/// What a batch's length takes in a part.
const LENGTH_BYTES: usize = 8;

/// How columns are packed. A row group is a batch and has one page or a few of each column: what pages hold is not
/// said beside what the group holds.
fn properties() -> Result<WriterPropertiesBuilder, ParquetError> {
    let builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    Ok(builder)
}

/// A batch as a part holds it.
pub(super) fn encoded(batch: &RecordBatch) -> Outcome<Vec<u8>> {
    let mut properties = properties()?;
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if !repeats(column) {
            let path = ColumnPath::new(vec![field.name().clone()]);
            properties = properties.set_column_dictionary_enabled(path, false);
        }
    }
    let mut bytes = Vec::with_capacity(batch.get_array_memory_size() / 2);
    bytes.extend_from_slice(&[0; LENGTH_BYTES]);
    let mut writer = ArrowWriter::try_new(Behind(bytes), batch.schema(), Some(properties.build()))?;
    writer.write(batch)?;
    let Behind(mut bytes) = writer.into_inner()?;
    let length = u64::try_from(bytes.len() - LENGTH_BYTES).unwrap_or(u64::MAX);
    bytes[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// Appends behind what is there already. Offsets in a Parquet file are counted by its writer, from where it began.
struct Behind(Vec<u8>);

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a dictionary of a column's values would be shorter than they are, as some of them have it. Of values that
/// are all different a dictionary only adds its own.
fn repeats(column: &ArrayRef) -> bool {
    let step = (column.len() / LOOKED_AT).max(1);
    let rows = (0..column.len()).step_by(step).filter(|row| column.is_valid(*row));
    let (looked_at, different) = match column.data_type() {
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            counted(rows.map(|row| texts.value(row).as_bytes()))
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            counted(rows.map(|row| values.value(row)))
        }
        fixed => {
            // Lists, structs and other texts: what is usual.
            let Some(width) = fixed.primitive_width() else { return true };
            let data = column.to_data();
            let Some(bytes) = data.buffers().first() else { return true };
            let bytes = bytes.as_slice();
            let at = |row: usize| bytes.get((data.offset() + row) * width..)?.get(..width);
            counted(rows.filter_map(at))
        }
    };
    different * 8 <= looked_at * 7
}

/// How many values there are, and how many different ones.
fn counted<'a>(values: impl Iterator<Item = &'a [u8]>) -> (usize, usize) {
    let (mut count, mut different) = (0, HashSet::with_capacity(LOOKED_AT * 2));
    for value in values {
        count += 1;
        different.insert(value);
    }
    (count, different.len())
}

/// A Parquet file of batches that are encoded already.
pub(super) struct Joined<W: Write + Send> {
    writer: SerializedFileWriter<W>,
}

impl<W: Write + Send> Joined<W> {
    /// A file of these columns without any row.
    pub(super) fn new(sink: W, schema: &SchemaRef) -> Outcome<Self> {
        let writer = ArrowWriter::try_new(sink, Arc::clone(schema), Some(properties()?.build()))?;
        let (writer, _) = writer.into_serialized_writer()?;
        Ok(Self { writer })
    }

    /// Appends the batches of a part of so many bytes; answers with how many records they have.
    pub(super) fn append(&mut self, part: &mut impl Read, length: u64) -> Outcome<u64> {
        let mut records = 0;
        while let Some(bytes) = next(part, length)? {
            let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes)?;
            for group in metadata.row_groups() {
                self.append_group(&bytes, group)?;
                records += u64::try_from(group.num_rows()).unwrap_or(0);
            }
        }
        Ok(records)
    }

    fn append_group(&mut self, bytes: &Bytes, group: &RowGroupMetaData) -> Outcome<()> {
        let mut joined = self.writer.next_row_group()?;
        for column in group.columns() {
            let closed = ColumnCloseResult {
                bytes_written: u64::try_from(column.compressed_size()).unwrap_or(0),
                rows_written: u64::try_from(group.num_rows()).unwrap_or(0),
                metadata: column.clone(),
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            joined.append_column(bytes, closed)?;
        }
        joined.close()?;
        Ok(())
    }

    /// Writes what stands at a file's end.
    pub(super) fn close(self) -> Outcome<()> {
        self.writer.close()?;
        Ok(())
    }
}

/// The next batch of a part of so many bytes; `None`: there is none left.
fn next(part: &mut impl Read, most: u64) -> Outcome<Option<Bytes>> {
    let damaged = || Fault::found(StoreErrorKind::Mismatch, "a part of the file holds no row groups");
    let mut head = Vec::with_capacity(LENGTH_BYTES);
    part.take(LENGTH_BYTES as u64).read_to_end(&mut head)?;
    if head.is_empty() {
        return Ok(None);
    }
    let length = head.first_chunk().map(|head| u64::from_be_bytes(*head));
    let length = length.filter(|length| *length <= most).ok_or_else(damaged)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(|_| damaged())?);
    part.take(length).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()) != Ok(length) {
        return Err(damaged());
    }
    Ok(Some(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, ListBuilder, StringArray, StringBuilder, TimestampMicrosecondArray};
    use arrow::compute::concat_batches;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    fn batch(ids: std::ops::Range<i64>) -> RecordBatch {
        let mut tags = ListBuilder::new(StringBuilder::new());
        for id in ids.clone() {
            if id % 3 == 0 { tags.append_null() } else { tags.append_value([Some("a"), None]) }
        }
        let words = ids.clone().map(|id| (id % 5 != 0).then(|| format!("word {}", id % 7)));
        let moments = TimestampMicrosecondArray::from_iter_values(ids.clone()).with_timezone("UTC");
        let columns: [(&str, ArrayRef, bool); 4] = [
            ("a.id", Arc::new(Int64Array::from_iter_values(ids)), false),
            ("word", Arc::new(words.collect::<StringArray>()), true),
            ("at", Arc::new(moments), false),
            ("tags", Arc::new(tags.finish()), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn joined(parts: &[Vec<u8>], schema: &SchemaRef) -> Outcome<(Vec<u8>, u64)> {
        let (mut file, mut records) = (Vec::new(), 0);
        let mut joined = Joined::new(&mut file, schema)?;
        for part in parts {
            records += joined.append(&mut part.as_slice(), part.len() as u64)?;
        }
        joined.close()?;
        Ok((file, records))
    }

    #[test]
    fn batches_become_row_groups_of_one_file() {
        let batches = [batch(0..3000), batch(3000..3001), batch(3001..8000)];
        let schema = batches[0].schema();
        let [first, second, third] = batches.each_ref().map(|batch| encoded(batch).unwrap());
        let (file, records) = joined(&[[first, second].concat(), Vec::new(), third], &schema).unwrap();
        assert_eq!(records, 8000);
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
        assert_eq!(*reader.schema(), schema);
        let groups = reader.metadata().row_groups().to_vec();
        assert_eq!(groups.iter().map(RowGroupMetaData::num_rows).collect::<Vec<_>>(), [3000, 1, 4999]);
        // A dictionary where values repeat, and what a reader skips groups by.
        let has_dictionary = |column: usize| groups[2].column(column).dictionary_page_offset().is_some();
        assert_eq!([0, 1, 2, 3].map(has_dictionary), [false, true, false, true]);
        let least = groups[2].column(0).statistics().unwrap().min_bytes_opt().unwrap();
        assert_eq!(least, 3001_i64.to_le_bytes());
        let read: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
        assert_eq!(concat_batches(&schema, &read).unwrap(), concat_batches(&schema, &batches).unwrap());
    }

    #[test]
    fn a_part_that_is_cut_or_is_something_else_is_refused() {
        let schema = batch(0..1).schema();
        let part = encoded(&batch(0..100)).unwrap();
        for torn in [&part[..part.len() - 1], &part[..7], &part[8..], b"PAR1 and more of it"] {
            let refused = joined(&[torn.to_vec()], &schema);
            assert!(matches!(refused, Err(Fault::Found(StoreErrorKind::Mismatch, _))), "{}", torn.len());
        }
    }
}
