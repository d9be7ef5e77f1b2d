//! How a batch's columns are written as Parquet: which get a dictionary, and which are packed.

use crate::error::Outcome;
use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{ArrowNativeType as _, DataType};
use foldhash::HashSet;
use foldhash::fast::RandomState;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use std::io;
use std::sync::Arc;

const ZSTD_LEVEL: i32 = 1;
/// A page holds no more values. Of few the processor still has in its caches what it packs.
pub(super) const PAGE_RECORDS: usize = 8_192;
/// So many bytes of a column are packed to see whether they shrink.
const PACKED_TO_SEE: usize = 4 << 10;
/// So many values of a column are looked at, to see whether they repeat.
const LOOKED_AT: usize = 1024;

/// What suits the values that a batch has.
pub(super) fn of(batch: &RecordBatch) -> Outcome<WriterProperties> {
    let mut properties = usual()?;
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let (path, values) = leaf(vec![field.name().clone()], column);
        if repeats(&values) {
            continue;
        }
        let path = ColumnPath::new(path);
        properties = properties.set_column_dictionary_enabled(path.clone(), false);
        if !shrinks(&values)? {
            properties = properties.set_column_compression(path, Compression::UNCOMPRESSED);
        }
    }
    Ok(properties.build())
}

/// What suits most columns. A row group is a batch and has one page or a few of each column: what pages hold is not
/// said beside what the group holds.
pub(super) fn usual() -> Result<WriterPropertiesBuilder, ParquetError> {
    let builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_data_page_row_count_limit(PAGE_RECORDS)
        .set_write_batch_size(PAGE_RECORDS);
    Ok(builder)
}

/// The values that a column's pages hold, and the path by which Parquet calls them. Of a list these are its elements
/// (Parquet format, "LogicalTypes", "Lists").
fn leaf(mut path: Vec<String>, column: &ArrayRef) -> (Vec<String>, ArrayRef) {
    let DataType::List(element) = column.data_type() else { return (path, Arc::clone(column)) };
    let lists = column.as_list::<i32>();
    let held = range(lists.value_offsets());
    path.extend(["list".to_owned(), element.name().clone()]);
    let elements = lists.values().slice(held.start, held.len());
    leaf(path, &elements)
}

/// Whether some of the values that lie side by side take less than three quarters of their room when they are packed.
/// Packing what hardly shrinks, as measured numbers and vectors do, is most of what a dump of them would cost.
fn shrinks(column: &ArrayRef) -> io::Result<bool> {
    let Some(bytes) = side_by_side(column) else { return Ok(true) };
    let taken = bytes.len().min(PACKED_TO_SEE);
    let some = bytes.slice_with_length((bytes.len() - taken) / 2, taken);
    Ok(zstd::bulk::compress(&some, ZSTD_LEVEL)?.len() * 4 <= taken * 3)
}

/// The bytes of a column's values, where Parquet has the same.
fn side_by_side(column: &ArrayRef) -> Option<Buffer> {
    let (buffer, range) = match column.data_type() {
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            (texts.values(), range(texts.value_offsets()))
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>();
            (values.values(), range(values.value_offsets()))
        }
        DataType::Decimal128(..) | DataType::Decimal256(..) => return None,
        fixed => {
            let width = fixed.primitive_width()?;
            let data = column.to_data();
            let bytes = data.buffers().first()?;
            return Some(bytes.slice_with_length(data.offset() * width, data.len() * width));
        }
    };
    Some(buffer.slice_with_length(range.start, range.len()))
}

fn range(offsets: &[i32]) -> std::ops::Range<usize> {
    let at = |offset: Option<&i32>| offset.map_or(0, |offset| offset.as_usize());
    at(offsets.first())..at(offsets.last())
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
            // Structs and other texts: what is usual.
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
    let (mut count, mut different) =
        (0, HashSet::with_capacity_and_hasher(LOOKED_AT * 2, RandomState::default()));
    for value in values {
        count += 1;
        different.insert(value);
    }
    (count, different.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryArray, Float32Builder, Int64Array, ListBuilder, StringArray};
    use arrow::compute::concat_batches;
    use bytes::Bytes;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    #[test]
    fn what_does_not_shrink_is_not_packed() {
        // Every bit of these is as likely as the other.
        let noise = |id: u64| blake3::hash(&id.to_le_bytes()).as_bytes().to_vec();
        let mut vectors = ListBuilder::new(Float32Builder::new());
        let mut same = ListBuilder::new(Float32Builder::new());
        for id in 0..5000 {
            let elements = noise(id);
            let elements = elements.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]]));
            vectors.append_value(elements.map(|element| Some(f32::from(element) / 7919.0)));
            same.append_value([0.0, 0.5, 1.0, 1.5].map(Some));
        }
        vectors.append_null();
        same.append_null();
        let texts = |of: fn(u64) -> String| (0..5001).map(|id| Some(of(id))).collect::<StringArray>();
        let columns: [(&str, ArrayRef); 6] = [
            ("vector", Arc::new(vectors.finish())),
            ("same", Arc::new(same.finish())),
            ("counted", Arc::new(Int64Array::from_iter_values(0..5001))),
            ("noise", Arc::new((0..5001).map(|id| Some(noise(id))).collect::<BinaryArray>())),
            ("named", Arc::new(texts(|id| format!("record number {id}")))),
            ("nothing", Arc::new(Int64Array::from_iter((0..5001).map(|_| None::<i64>)))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let batch = batch.slice(1, 5000);
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(of(&batch).unwrap())).unwrap();
        writer.write(&batch).unwrap();
        let file = Bytes::from(writer.into_inner().unwrap());
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let groups = reader.metadata().row_groups().to_vec();
        let looks = groups[0].columns().iter().map(|column| {
            (column.compression() != Compression::UNCOMPRESSED, column.dictionary_page_offset().is_some())
        });
        let looks: Vec<_> = looks.collect();
        assert_eq!(
            looks,
            [(false, false), (true, true), (true, false), (false, false), (true, false), (true, true)]
        );
        let read: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
        assert_eq!(concat_batches(batch.schema_ref(), &read).unwrap(), batch);
    }
}
