//! Parquet: each batch is encoded once, as row groups, and these become one file without a look into them.
//!
//! In a part a batch is the length of its bytes (u64, big endian) and a Parquet file of its own, and so it stands in the
//! whole file, one behind the other. The file's end says where their row groups lie; what stands between these nobody
//! looks at: a reader finds everything by that end (Parquet format, "File format"). So the work of encoding lies where
//! slices are read side by side, and what is durable is never written again.

use super::packing::{self, PAGE_RECORDS};
use crate::error::{Fault, Outcome};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::errors::ParquetError;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, FooterTail, ParquetMetaData, ParquetMetaDataReader,
    ParquetMetaDataWriter, RowGroupMetaData,
};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use whimbrel_store::StoreErrorKind;

/// What the file begins with; its end ends with it, too.
pub(super) const MAGIC: &[u8] = b"PAR1";
/// What a batch's length takes in front of it.
const LENGTH_BYTES: usize = 8;
/// What stands behind a file's metadata: its length, and the magic.
const TAIL_BYTES: usize = 8;
/// Of a batch about so many bytes are encoded at a time: beside its elements a list takes up to three times as much.
const ENCODED_AT_ONCE: usize = 1 << 20;

/// A batch as a part holds it, put into memory that is asked for by its size.
pub(super) fn encoded(batch: &RecordBatch, memory: impl FnOnce(usize) -> Vec<u8>) -> Outcome<Vec<u8>> {
    let mut bytes = memory(batch.get_array_memory_size() / 2);
    bytes.clear();
    bytes.extend_from_slice(&[0; LENGTH_BYTES]);
    // What the columns are in Arrow the whole file's end says.
    let options =
        ArrowWriterOptions::new().with_properties(packing::of(batch)?).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(Behind(bytes), batch.schema(), options)?;
    let rows = batch.num_rows();
    let at_once = rows * ENCODED_AT_ONCE / batch.get_array_memory_size().max(1);
    let at_once = at_once.clamp(1, PAGE_RECORDS);
    for start in (0..rows).step_by(at_once) {
        writer.write(&batch.slice(start, at_once.min(rows - start)))?;
    }
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

/// The end of a Parquet file, which says where the row groups of its batches lie.
pub(super) struct Footer {
    groups: Vec<RowGroupMetaData>,
    records: u64,
    /// Where the next batch stands.
    at: u64,
}

impl Footer {
    /// Of a file that has not yet more than its beginning.
    pub(super) fn new() -> Self {
        Self { groups: Vec::new(), records: 0, at: MAGIC.len() as u64 }
    }

    /// How many records the batches hold.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Appends the batches of a part of so many bytes to a file; answers with how many records they have.
    pub(super) fn append(
        &mut self,
        part: &mut impl Read,
        length: u64,
        file: &mut impl Write,
    ) -> Outcome<u64> {
        let before = self.records;
        while let Some(bytes) = next(part, length)? {
            let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes)?;
            file.write_all(&(bytes.len() as u64).to_be_bytes())?;
            file.write_all(&bytes)?;
            self.note(&metadata, bytes.len() as u64)?;
        }
        Ok(self.records - before)
    }

    /// Looks at the batches that stand in a file, up to `end`.
    pub(super) fn look_at(&mut self, file: &mut (impl Read + Seek), end: u64) -> Outcome<()> {
        while self.at < end {
            file.seek(SeekFrom::Start(self.at))?;
            let length = u64::from_be_bytes(read(file)?);
            let batch = self.at.saturating_add(LENGTH_BYTES as u64);
            let tail = batch.saturating_add(length).checked_sub(TAIL_BYTES as u64);
            let tail = tail.filter(|tail| (batch..end).contains(tail)).ok_or_else(damaged)?;
            file.seek(SeekFrom::Start(tail))?;
            let metadata_bytes = FooterTail::try_new(&read(file)?)?.metadata_length();
            let metadata = tail.checked_sub(metadata_bytes as u64).filter(|metadata| *metadata >= batch);
            file.seek(SeekFrom::Start(metadata.ok_or_else(damaged)?))?;
            let mut bytes = vec![0; metadata_bytes];
            file.read_exact(&mut bytes)?;
            self.note(&ParquetMetaDataReader::decode_metadata(&bytes)?, length)?;
        }
        if self.at == end { Ok(()) } else { Err(damaged()) }
    }

    /// Notes the next batch, which is so long without the length in front of it.
    fn note(&mut self, metadata: &ParquetMetaData, length: u64) -> Outcome<()> {
        let start = i64::try_from(self.at + LENGTH_BYTES as u64).map_err(|_| damaged())?;
        for group in metadata.row_groups() {
            let columns = group.columns().iter().map(|column| moved(column, start));
            let moved = RowGroupMetaData::builder(group.schema_descr_ptr())
                .set_num_rows(group.num_rows())
                .set_total_byte_size(group.total_byte_size())
                .set_column_metadata(columns.collect::<Result<_, _>>()?)
                .set_file_offset(group.file_offset().unwrap_or_default().saturating_add(start))
                .set_ordinal(self.ordinal()?);
            self.groups.push(moved.build()?);
            self.records += u64::try_from(group.num_rows()).unwrap_or(0);
        }
        self.at += LENGTH_BYTES as u64 + length;
        Ok(())
    }

    fn ordinal(&self) -> Outcome<i16> {
        i16::try_from(self.groups.len()).map_err(|_| {
            let what = "a Parquet file has 32,768 row groups at the most, and this one would have more: dump it as \
                 several files, each with some of the records";
            Fault::found(StoreErrorKind::Unsupported, what)
        })
    }

    /// Its bytes, of a file of these columns.
    pub(super) fn to_bytes(&self, schema: &SchemaRef) -> Outcome<Vec<u8>> {
        let empty = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(packing::usual()?.build()))?;
        let empty = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(empty.into_inner()?))?;
        let of = empty.file_metadata();
        let file = FileMetaData::new(
            of.version(),
            i64::try_from(self.records).map_err(|_| damaged())?,
            of.created_by().map(str::to_owned),
            of.key_value_metadata().cloned(),
            of.schema_descr_ptr(),
            of.column_orders().cloned(),
        );
        let metadata = ParquetMetaData::new(file, self.groups.clone());
        let mut bytes = Vec::new();
        ParquetMetaDataWriter::new(&mut bytes, &metadata).finish()?;
        Ok(bytes)
    }
}

/// A column of a row group in a file that begins elsewhere.
fn moved(column: &ColumnChunkMetaData, start: i64) -> Result<ColumnChunkMetaData, ParquetError> {
    let dictionary = column.dictionary_page_offset().map(|offset| offset.saturating_add(start));
    let builder = column.clone().into_builder().set_dictionary_page_offset(dictionary);
    builder.set_data_page_offset(column.data_page_offset().saturating_add(start)).build()
}

fn read<const BYTES: usize>(file: &mut impl Read) -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn damaged() -> Fault {
    Fault::found(StoreErrorKind::Mismatch, "a part of the file holds no row groups")
}

/// The next batch of a part of so many bytes; `None`: there is none left.
fn next(part: &mut impl Read, most: u64) -> Outcome<Option<Bytes>> {
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
    use arrow::array::{
        ArrayRef, Int64Array, ListBuilder, StringArray, StringBuilder, TimestampMicrosecondArray,
    };
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

    fn part(ids: std::ops::Range<i64>) -> Vec<u8> {
        encoded(&batch(ids), |_| b"memory that was used before".to_vec()).unwrap()
    }

    /// The file of these parts, once as they are appended and once looked at as they stand there; and its records.
    fn joined(parts: &[Vec<u8>], schema: &SchemaRef) -> Outcome<(Vec<u8>, u64)> {
        let (mut footer, mut file) = (Footer::new(), MAGIC.to_vec());
        for part in parts {
            footer.append(&mut part.as_slice(), part.len() as u64, &mut file)?;
        }
        assert_eq!(file, [MAGIC, &parts.concat()].concat());
        let mut looked_at = Footer::new();
        looked_at.look_at(&mut io::Cursor::new(&file), file.len() as u64)?;
        assert_eq!(looked_at.to_bytes(schema)?, footer.to_bytes(schema)?);
        file.extend(footer.to_bytes(schema)?);
        Ok((file, footer.records()))
    }

    #[test]
    fn batches_become_row_groups_of_one_file() {
        let batches = [batch(0..3000), batch(3000..3001), batch(3001..30_000)];
        let schema = batches[0].schema();
        let [first, second, third] = [part(0..3000), part(3000..3001), part(3001..30_000)];
        let (file, records) = joined(&[[first, second].concat(), Vec::new(), third], &schema).unwrap();
        assert_eq!(records, 30_000);
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
        assert_eq!(*reader.schema(), schema);
        let groups = reader.metadata().row_groups().to_vec();
        assert_eq!(
            groups.iter().map(RowGroupMetaData::num_rows).collect::<Vec<_>>(),
            [3000, 1, 26_999],
            "however many of a batch are encoded at a time"
        );
        // A dictionary where values repeat, and what a reader skips groups by.
        let has_dictionary = |column: usize| groups[2].column(column).dictionary_page_offset().is_some();
        assert_eq!([0, 1, 2, 3].map(has_dictionary), [false, true, false, true]);
        let least = groups[2].column(0).statistics().unwrap().min_bytes_opt().unwrap();
        assert_eq!(least, 3001_i64.to_le_bytes());
        let read: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
        assert_eq!(concat_batches(&schema, &read).unwrap(), concat_batches(&schema, &batches).unwrap());
    }

    #[test]
    fn a_file_without_records_has_its_columns() {
        let schema = batch(0..1).schema();
        let (file, records) = joined(&[], &schema).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap();
        assert_eq!((records, reader.metadata().num_row_groups()), (0, 0));
        assert_eq!(*reader.schema(), schema);
    }

    #[test]
    fn a_part_that_is_cut_or_is_something_else_is_refused() {
        let part = part(0..100);
        let half = part.len() / 2;
        for torn in [&part[..part.len() - 1], &part[..half], &part[..7], &part[8..], b"PAR1 and more of it"] {
            let length = torn.len() as u64;
            let appended = Footer::new().append(&mut &*torn, length, &mut Vec::new());
            assert!(matches!(appended, Err(Fault::Found(StoreErrorKind::Mismatch, _))), "{length}");
            let file = [MAGIC, torn].concat();
            let looked_at = Footer::new().look_at(&mut io::Cursor::new(&file), file.len() as u64);
            assert!(looked_at.is_err(), "{length}");
        }
    }

    #[test]
    fn row_groups_that_no_reader_could_count_are_refused() {
        let part = part(0..1);
        let mut footer = Footer::new();
        let refused =
            (0..=1 << 15).map(|_| footer.append(&mut part.as_slice(), part.len() as u64, &mut io::sink()));
        let refused: Vec<_> =
            refused.enumerate().filter_map(|(number, appended)| Some((number, appended.err()?))).collect();
        assert!(
            matches!(refused.as_slice(), [(32_768, Fault::Found(StoreErrorKind::Unsupported, _))]),
            "{refused:?}"
        );
    }
}
