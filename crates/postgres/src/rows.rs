//! Rows into Arrow batches, column by column.

use crate::catalog::Column;
use crate::copy::Rows;
use crate::types::{ColumnType, Scalar};
use crate::value::{self, ValueError};
use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use columns::ColumnBuilder;
use std::sync::Arc;
use whimbrel_store::Unreadable;

mod columns;
mod scalars;

/// For how many values builders have room before they grow.
const ROOM_FOR_VALUES: usize = 65_536;

/// The part of a batch, one in so many, that tells how much the whole takes: smaller ones take no memory that they do
/// not need.
const TOLD_BY: usize = 8;

/// Why a row cannot become part of a batch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error("column `{column}`: {reason}")]
    Malformed { column: String, reason: &'static str },
    #[error("the values of column `{column}` in one batch take more than 2 GB")]
    TooLong { column: String },
    #[error("a value is NULL in column `{column}`, which the catalog says has none")]
    Null { column: String },
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// Collects rows of one relation until they are taken as a batch.
pub(crate) struct RowBuffer {
    schema: SchemaRef,
    columns: Vec<(Column, ColumnBuilder)>,
    rows: usize,
    bytes: usize,
    unreadable: Refusals,
    /// How much a full batch holds, until it is told how much room columns need: when it is an eighth full. The
    /// columns know it by themselves of each batch behind the first.
    full: Option<Portion>,
}

/// How much one batch holds at the most.
#[derive(Clone, Copy)]
pub(crate) struct Portion {
    pub rows: usize,
    pub bytes: usize,
}

/// What a [`RowBuffer`] held.
pub(crate) struct Taken {
    pub records: RecordBatch,
    pub unreadable: Vec<Unreadable>,
    pub bytes: usize,
}

impl RowBuffer {
    pub(crate) fn new(schema: &SchemaRef, columns: &[Column]) -> Self {
        // Room for a small batch; a wide table's hundreds of columns would take megabytes for what may be a row.
        let rows = (ROOM_FOR_VALUES / columns.len().max(1)).clamp(1, 1024);
        let builders =
            columns.iter().map(|column| (column.clone(), ColumnBuilder::new(column.column_type, rows)));
        Self {
            schema: Arc::clone(schema),
            columns: builders.collect(),
            rows: 0,
            bytes: 0,
            unreadable: Refusals::default(),
            full: None,
        }
    }

    /// Collects batches of so much.
    pub(crate) fn in_portions(self, portion: Portion) -> Self {
        Self { full: Some(portion), ..self }
    }

    /// Appends rows; fields behind the known columns are left out.
    pub(crate) fn push(&mut self, rows: Rows<'_>) -> Result<(), RowError> {
        for (at, (column, builder)) in self.columns.iter_mut().enumerate() {
            let mut begin = 0;
            while let Err(refused) = builder.append(rows.part(begin..rows.len()).column(at)) {
                let row = begin + refused.at;
                let raw = rows.row(row).field(at).unwrap_or_default();
                self.unreadable.note(self.rows + row, at, column, refused.error, raw)?;
                builder.append_null();
                begin = row + 1;
            }
        }
        self.rows += rows.len();
        self.bytes += rows.bytes();
        self.make_room();
        Ok(())
    }

    /// Columns that are to grow to a full batch's size step by step would be copied at each step.
    fn make_room(&mut self) {
        let Some(full) = self.full else { return };
        let times = (full.rows / self.rows.max(1)).min(full.bytes / self.bytes.max(1));
        if times <= TOLD_BY {
            self.full = None;
            for (_, builder) in &mut self.columns {
                builder.reserve(times);
            }
        }
    }

    /// The text of a key field. Those behind the columns are text already.
    pub(crate) fn key_text(&self, at: usize, bytes: &[u8]) -> Option<String> {
        let Some((column, _)) = self.columns.get(at) else { return String::from_utf8(bytes.to_vec()).ok() };
        let ColumnType::Scalar(scalar) = column.column_type else { return None };
        value::key_text(scalar, bytes)
    }

    /// The rows so far as a batch; the buffer is empty afterwards.
    pub(crate) fn take(&mut self) -> Result<Taken, RowError> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (at, (column, builder)) in self.columns.iter_mut().enumerate() {
            arrays.push(finished(at, column, builder, &mut self.unreadable)?);
        }
        let records = RecordBatch::try_new(Arc::clone(&self.schema), arrays)?;
        (self.rows, self.full) = (0, None);
        let (unreadable, bytes) = (self.unreadable.take(), std::mem::take(&mut self.bytes));
        Ok(Taken { records, unreadable, bytes })
    }
}

/// The values of a column, each of which has its place in it.
fn finished(
    at: usize,
    column: &Column,
    builder: &mut ColumnBuilder,
    unreadable: &mut Refusals,
) -> Result<ArrayRef, RowError> {
    let mut noted = Ok(());
    let array = builder.finish(&mut |row, raw| {
        if noted.is_ok() {
            noted = unreadable.note(row, at, column, value::NOT_TEXT, raw);
        }
    })?;
    noted?;
    if !column.nullable && array.null_count() > 0 {
        return Err(RowError::Null { column: column.name.clone() });
    }
    Ok(array)
}

/// Values that are NULL in the batch because they have no place in it, each with its column.
#[derive(Default)]
struct Refusals(Vec<(usize, Unreadable)>);

impl Refusals {
    /// Fails where NULL cannot stand for the value, or the value is none.
    fn note(
        &mut self,
        row: usize,
        at: usize,
        column: &Column,
        error: ValueError,
        raw: &[u8],
    ) -> Result<(), RowError> {
        match error {
            ValueError::Unreadable(reason) if column.nullable => {
                let (reason, column) = (reason_of(column, reason), column.name.clone());
                self.0.push((at, Unreadable { row, column, reason, raw: raw.to_vec() }));
                Ok(())
            }
            ValueError::Unreadable(reason) | ValueError::Malformed(reason) => {
                Err(RowError::Malformed { column: column.name.clone(), reason })
            }
            ValueError::TooLong => Err(RowError::TooLong { column: column.name.clone() }),
        }
    }

    /// In the order of the rows, and in a row in that of the columns.
    fn take(&mut self) -> Vec<Unreadable> {
        let mut refused = std::mem::take(&mut self.0);
        refused.sort_by_key(|(column, unreadable)| (unreadable.row, *column));
        refused.into_iter().map(|(_, unreadable)| unreadable).collect()
    }
}

/// Why a value is unreadable, and how it could be read.
fn reason_of(column: &Column, reason: &str) -> String {
    match column.column_type {
        // As text it would be no better.
        ColumnType::Scalar(Scalar::Text | Scalar::Json | Scalar::Jsonb) => reason.to_owned(),
        _ => format!("{reason}; `columns: {{ {}: text }}` reads it as text", column.name),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::copy::tests::encode;
    use crate::copy::{CopyDecoder, CopyError, OwnRow};
    use crate::types::ReadAs;
    use arrow::array::AsArray as _;
    use arrow::datatypes::Schema;
    use proptest::prelude::*;

    const TYPES: [ColumnType; 8] = [
        ColumnType::Scalar(Scalar::Int8),
        ColumnType::Scalar(Scalar::Bool),
        ColumnType::Scalar(Scalar::Text),
        ColumnType::Scalar(Scalar::Timestamp),
        ColumnType::Scalar(Scalar::Numeric),
        ColumnType::Scalar(Scalar::Bytea),
        ColumnType::List(Scalar::Text),
        ColumnType::Vector(crate::types::Precision::Single),
    ];

    pub(crate) fn buffer(types: &[ColumnType], nullable: bool) -> RowBuffer {
        let column = |(at, column_type): (usize, &ColumnType)| Column {
            name: format!("c{at}"),
            type_oid: 0,
            source_type: String::new(),
            is_money: false,
            read_as: ReadAs::sent(*column_type),
            column_type: *column_type,
            holds_null: nullable,
            nullable,
        };
        let columns: Vec<_> = types.iter().enumerate().map(column).collect();
        let fields = columns.iter().map(|column| column.column_type.field(&column.name, nullable, ""));
        RowBuffer::new(&Arc::new(Schema::new(fields.collect::<Vec<_>>())), &columns)
    }

    /// An array of texts as PostgreSQL sends it.
    fn array(texts: &[Option<&[u8]>]) -> Vec<u8> {
        let count = u32::try_from(texts.len()).unwrap();
        let mut bytes: Vec<u8> = [1, 0, 25, count, 1].into_iter().flat_map(u32::to_be_bytes).collect();
        for text in texts {
            let length = text.map_or(-1, |text| i32::try_from(text.len()).unwrap());
            bytes.extend(length.to_be_bytes());
            bytes.extend(text.unwrap_or_default());
        }
        bytes
    }

    fn value(column_type: ColumnType) -> BoxedStrategy<Vec<u8>> {
        let text = prop_oneof![4 => "[a-zß]{0,6}".prop_map(String::into_bytes), 1 => Just(vec![b'a', 0xFF])];
        match column_type {
            ColumnType::Scalar(Scalar::Bool) => any::<bool>().prop_map(|value| vec![u8::from(value)]).boxed(),
            ColumnType::Scalar(Scalar::Int8) => {
                any::<i64>().prop_map(|value| value.to_be_bytes().to_vec()).boxed()
            }
            ColumnType::Scalar(Scalar::Timestamp) => prop_oneof![any::<i64>(), (i64::MAX - 9)..=i64::MAX]
                .prop_map(|value| value.to_be_bytes().to_vec())
                .boxed(),
            ColumnType::Scalar(Scalar::Numeric) => (0_u16..=9999, 0_u16..2)
                .prop_map(|(digit, sign)| [1, 0, sign * 0x4000, 0, digit].map(u16::to_be_bytes).concat())
                .boxed(),
            ColumnType::List(_) => proptest::collection::vec(proptest::option::of(text), 0..3)
                .prop_map(|texts| array(&texts.iter().map(Option::as_deref).collect::<Vec<_>>()))
                .boxed(),
            ColumnType::Vector(_) => proptest::collection::vec(any::<u32>(), 0..3)
                .prop_map(|floats| {
                    let count = u16::try_from(floats.len()).unwrap();
                    let floats = floats.into_iter().flat_map(u32::to_be_bytes);
                    [count.to_be_bytes(), [0, 0]].into_iter().flatten().chain(floats).collect()
                })
                .boxed(),
            ColumnType::Scalar(_) => text.boxed(),
        }
    }

    fn rows() -> impl Strategy<Value = Vec<Vec<Option<Vec<u8>>>>> {
        let row: Vec<_> = TYPES.iter().map(|kind| proptest::option::weighted(0.8, value(*kind))).collect();
        proptest::collection::vec(row, 1..12)
    }

    fn noted(taken: &Taken) -> Vec<(usize, &str, &str, &[u8])> {
        taken.unreadable.iter().map(|at| (at.row, &*at.column, &*at.reason, &*at.raw)).collect()
    }

    fn push_values(buffer: &mut RowBuffer, row: &[Option<Vec<u8>>]) -> Result<(), RowError> {
        buffer.push(OwnRow::of_values(row.iter().map(Option::as_deref)).unwrap().as_rows())
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_rows_come(rows in rows(), size in 1_usize..900) {
            let portion = Portion { rows: 5, bytes: 1 << 10 };
            let (mut together, mut singly) = (buffer(&TYPES, true).in_portions(portion), buffer(&TYPES, true));
            let mut decoder = CopyDecoder::new(TYPES.len());
            for chunk in encode(&rows, b"").chunks(size) {
                let pushed = decoder.rows(chunk, |rows| {
                    together.push(rows).unwrap();
                    Ok::<_, CopyError>(())
                });
                pushed.unwrap();
            }
            for row in &rows {
                push_values(&mut singly, row).unwrap();
            }
            let (together, singly) = (together.take().unwrap(), singly.take().unwrap());
            prop_assert_eq!(&together.records, &singly.records);
            prop_assert_eq!(noted(&together), noted(&singly));
            prop_assert_eq!(together.bytes, singly.bytes);
            for (row, values) in rows.iter().enumerate() {
                for (at, value) in values.iter().enumerate() {
                    let is_noted = noted(&together).iter().any(|one| one.0 == row && one.1 == format!("c{at}"));
                    prop_assert_eq!(together.records.column(at).is_null(row), value.is_none() || is_noted);
                }
            }
        }
    }

    #[test]
    fn what_has_no_place_is_kept_beside_the_batch() {
        let types = [ColumnType::Scalar(Scalar::Text), ColumnType::Scalar(Scalar::Timestamp)];
        let mut buffer = buffer(&types, true);
        let late = (i64::MAX - 1).to_be_bytes().to_vec();
        push_values(&mut buffer, &[Some(b"a".to_vec()), Some(late.clone())]).unwrap();
        push_values(&mut buffer, &[Some(vec![0xC3]), Some(vec![0; 8])]).unwrap();
        push_values(&mut buffer, &[Some(vec![0xA4]), Some(late.clone())]).unwrap();
        let taken = buffer.take().unwrap();
        let places: Vec<_> =
            noted(&taken).into_iter().map(|(row, column, _, raw)| (row, column, raw)).collect();
        // Both halves of a letter together would be text.
        assert_eq!(places, [(0, "c1", &*late), (1, "c0", &[0xC3]), (2, "c0", &[0xA4]), (2, "c1", &*late)]);
        assert_eq!(
            taken.records.column(0).as_string::<i32>().iter().collect::<Vec<_>>(),
            [Some("a"), None, None]
        );
        assert_eq!(taken.records.column(1).null_count(), 2);
    }

    #[test]
    fn a_batch_has_room_when_part_of_it_is_there() {
        let types = [ColumnType::Scalar(Scalar::Text), ColumnType::Vector(crate::types::Precision::Single)];
        let vector = [[0, 16, 0, 0].as_slice(), &[0; 64]].concat();
        let row = [Some(vec![b'a'; 64]), Some(vector)];
        let sizes = |rows: usize, portion: Portion| {
            let mut buffer = buffer(&types, true).in_portions(portion);
            for _ in 0..rows {
                push_values(&mut buffer, &row).unwrap();
            }
            let records = buffer.take().unwrap().records;
            let (text, list) =
                (records.column(0).to_data(), records.column(1).as_list::<i32>().values().to_data());
            [text.buffers()[1].capacity(), list.buffers()[0].capacity()]
        };
        // Of 100,000 rows 11,111 are a ninth, and what is more is room enough for eight times as much.
        let portion = Portion { rows: 100_000, bytes: 1 << 30 };
        let [before, then] = [sizes(11_111, portion), sizes(11_112, portion)];
        assert!(before.iter().all(|bytes| *bytes < 2 * 11_111 * 64), "{before:?}");
        assert!(then.iter().all(|bytes| (100_000 * 64..110_000 * 64).contains(bytes)), "{then:?}");
        let by_bytes = sizes(12_500, Portion { rows: usize::MAX, bytes: 12_500 * 200 });
        assert!(by_bytes.iter().all(|bytes| *bytes < 3 * 12_500 * 64), "{by_bytes:?}");
    }

    #[test]
    fn nothing_else_is_made_null() {
        let types = [ColumnType::Scalar(Scalar::Text)];
        let mut strict = buffer(&types, false);
        push_values(&mut strict, &[None]).unwrap();
        assert!(matches!(strict.take(), Err(RowError::Null { column }) if column == "c0"));
        let mut strict = buffer(&types, false);
        push_values(&mut strict, &[Some(vec![0xFF])]).unwrap();
        assert!(matches!(strict.take(), Err(RowError::Malformed { column, .. }) if column == "c0"));
        let mut short = buffer(&[ColumnType::Scalar(Scalar::Int8)], true);
        assert!(matches!(push_values(&mut short, &[Some(vec![0; 7])]), Err(RowError::Malformed { .. })));
        let mut two = buffer(&[ColumnType::Scalar(Scalar::Text), ColumnType::Scalar(Scalar::Text)], true);
        let rows = encode(&vec![vec![Some(b"a".to_vec())]; 2], b"");
        let push = |rows: Rows<'_>| {
            two.push(rows).unwrap();
            Ok::<_, CopyError>(())
        };
        CopyDecoder::new(1).rows(&rows, push).unwrap();
        assert!(matches!(two.take(), Err(RowError::Arrow(_))), "a row without its last field");
    }
}
