//! Records of which every value fits: each column is made by itself, then rows are put together out of what lies ready,
//! column by column, and so are their canonical forms.
//!
//! A batch in which one value is refused goes row by row, which tells what becomes of each; so does one with columns
//! whose values are large, or are looked at together with others.

use super::cells::Cells;
use super::{Encoder, Filled, From, Wire};
use arrow::array::Array as _;
use arrow::buffer::NullBuffer;
use bytes::{BufMut as _, BytesMut};
use std::ops::Range;
use whimbrel_model::canonical::{Canonical, Name};
use whimbrel_model::cell::Cell;
use whimbrel_model::fingerprint::Fingerprints;
use whimbrel_model::forms::{Forms, Values};
use whimbrel_model::piece::Piece;
use whimbrel_model::rooms::{self, LENGTH_BYTES, Rooms};
use whimbrel_model::texts::Texts;
use whimbrel_model::{Fingerprint, FingerprintKey};

/// In front of a row's fields stands how many they are.
const COUNT_BYTES: usize = 2;

/// The columns of a batch.
pub(super) struct Whole {
    columns: Vec<Column>,
    /// Of the columns that count in a fingerprint, with their names, and of those of the key.
    compared: Forms,
    key: Forms,
}

enum Column {
    /// Texts that go as they are.
    Texts(Texts, Option<NullBuffer>),
    /// Fields with their lengths, and the canonical forms of what they hold; NULL among them.
    Made { fields: Texts, forms: Texts },
}

impl Whole {
    /// `None`: the batch is to be encoded row by row.
    pub(super) fn new(encoder: &Encoder, cells: &[Cells<'_>], rows: usize) -> Option<Self> {
        let has_checks = !encoder.fixed.is_empty() || !encoder.members.is_empty();
        if has_checks || encoder.columns.iter().any(goes_by_row) {
            return None;
        }
        let columns = encoder.columns.iter().zip(cells).enumerate().map(|(place, (column, cells))| {
            let is_key = encoder.key.contains(&place);
            Column::new(column, is_key, cells, rows)
        });
        let columns = columns.collect::<Option<Vec<_>>>()?;
        let named = columns.iter().zip(&encoder.names).zip(&encoder.columns);
        let compared = named.filter(|(_, filled)| !filled.is_ignored);
        let compared: Vec<_> = compared.map(|((column, name), _)| column.values(Some(name))).collect();
        let key: Vec<_> = encoder.key.iter().map(|place| columns[*place].values(None)).collect();
        let key = if key.is_empty() { Forms::keyless(compared.clone()) } else { Forms::lists(key) };
        Some(Self { columns, compared: Forms::maps(compared), key })
    }

    /// Appends so many rows; where the fields of each stand, and its fingerprint.
    pub(super) fn rows(
        &self,
        count: usize,
        copy: &mut BytesMut,
        key: &FingerprintKey,
    ) -> impl Iterator<Item = (Range<usize>, Fingerprint)> {
        let mut ranges = Vec::with_capacity(count);
        self.append(count, copy, &mut ranges);
        let mut prints = Fingerprints::new(key, count);
        prints.push_rows(count, &self.key, &self.compared);
        ranges.into_iter().zip(prints.finish())
    }

    /// Appends so many rows, and notes where the fields of each stand.
    fn append(&self, count: usize, copy: &mut BytesMut, ranges: &mut Vec<Range<usize>>) {
        let fields = i16::try_from(self.columns.len()).unwrap_or(i16::MAX).to_be_bytes();
        let measure = |rows, rooms: &mut Rooms| {
            rooms.measure(rows, COUNT_BYTES);
            self.columns.iter().for_each(|column| column.measure(rooms));
        };
        Rooms::in_turns(count, measure, |rooms| {
            rooms.each(|_, room| room.first(&fields, COUNT_BYTES));
            self.columns.iter().for_each(|column| column.put(rooms));
            for row in rooms.filled() {
                let fields = copy.len() + COUNT_BYTES;
                copy.extend_from_slice(row);
                ranges.push(fields..copy.len());
            }
        });
    }
}

impl Column {
    /// `None`: a value does not fit.
    fn new(filled: &Filled, is_key: bool, cells: &Cells<'_>, rows: usize) -> Option<Self> {
        if matches!(filled.from, From::Constant(_)) {
            let (fields, forms) = made(filled, is_key, cells, 1)?;
            let [fields, forms] = [fields, forms].map(|one| one.chosen(std::iter::repeat_n(0, rows)));
            return Some(Self::Made { fields, forms });
        }
        texts(filled, is_key, cells).or_else(|| {
            let (fields, forms) = made(filled, is_key, cells, rows)?;
            Some(Self::Made { fields, forms })
        })
    }

    /// Its values in canonical form, where they have this name.
    fn values(&self, name: Option<&Name>) -> Values {
        match self {
            Self::Texts(texts, nulls) => Values::texts(name, texts.clone()).or_null(nulls.clone(), name),
            Self::Made { forms, .. } => Values::forms(name, forms.clone()),
        }
    }

    /// Measures room for its fields.
    fn measure(&self, rooms: &mut Rooms) {
        let (texts, length) = match self {
            Self::Texts(texts, _) => (texts, LENGTH_BYTES),
            Self::Made { fields, .. } => (fields, 0),
        };
        rooms.more(length, texts);
    }

    /// Puts its fields.
    fn put(&self, rooms: &mut Rooms) {
        let (nothing, null) = (Piece::new(&[]), Piece::new(&(-1_i32).to_be_bytes()));
        // Arrow's own texts are no longer than a field may be.
        let (texts, has_length, nulls) = match self {
            Self::Texts(texts, nulls) => (texts, true, nulls.as_ref()),
            Self::Made { fields, .. } => (fields, false, None),
        };
        let nulls = nulls.map(|nulls| (nulls, &null));
        rooms.put(&rooms::Column { lead: &nothing, has_length, texts, nulls });
    }
}

/// Whether a column's values are large, so that they are not to be copied twice, or are looked at together with others.
fn goes_by_row(filled: &Filled) -> bool {
    let is_large = matches!(
        filled.wire,
        Wire::Vector(_)
            | Wire::HalfVector(_)
            | Wire::SparseVector(_)
            | Wire::Bits(_)
            | Wire::Bytea
            | Wire::Array(..)
    );
    is_large || !filled.without.is_empty()
}

/// A column that takes each text as it is.
fn texts(column: &Filled, is_key: bool, cells: &Cells<'_>) -> Option<Column> {
    let (Cells::Text(array, nulls), Wire::Text { limit, is_padded: false }) = (cells, &column.wire) else {
        return None;
    };
    let bounds = array.value_offsets();
    let at = |bound: Option<&i32>| bound.and_then(|bound| usize::try_from(*bound).ok());
    let bytes = array.value_data().get(at(bounds.first())?..at(bounds.last())?)?;
    let texts = Texts::of(array);
    let is_long = |limit: usize| (0..array.len()).any(|row| texts.length(row) > limit);
    let is_missing = (column.is_not_null || is_key) && nulls.is_some();
    let may_be_refused =
        is_missing || column.refuses_blanks || bytes.contains(&0) || limit.is_some_and(is_long);
    (!may_be_refused).then(|| Column::Texts(texts, nulls.cloned()))
}

/// The fields of a column with their lengths, and the canonical forms of what they hold; `None`: a value does not fit.
fn made(column: &Filled, is_key: bool, cells: &Cells<'_>, rows: usize) -> Option<(Texts, Texts)> {
    let (mut fields, mut forms) = (BytesMut::with_capacity(12 * rows), Canonical::default());
    let (mut field_bounds, mut form_bounds) = (bounds(rows), bounds(rows));
    let refuses_null = column.is_not_null || is_key;
    for row in 0..rows {
        let value = cells.cell(row);
        if column.refuses_blanks && matches!(value, Cell::Text(text) if text.ends_with(' ')) {
            return None;
        }
        let at = fields.len();
        fields.put_i32(-1);
        if column.wire.put(value, column.form, &mut fields, &mut forms).ok()? {
            let length = i32::try_from(fields.len() - at - LENGTH_BYTES).ok()?;
            fields[at..at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        } else if refuses_null {
            return None;
        }
        field_bounds.push(u32::try_from(fields.len()).ok()?);
        form_bounds.push(u32::try_from(forms.len()).ok()?);
    }
    let forms = Texts::between(forms.into_bytes(), &form_bounds);
    Some((Texts::between(fields.into(), &field_bounds), forms))
}

/// Where the first of so many texts begins; where each of them ends follows.
fn bounds(rows: usize) -> Vec<u32> {
    let mut bounds = Vec::with_capacity(rows + 1);
    bounds.push(0);
    bounds
}

#[cfg(test)]
mod tests {
    use super::super::{HEADER, Rows, TRAILER};
    use super::*;
    use arrow::array::{
        ArrayRef, BooleanArray, Date32Array, Float32Array, Float64Array, Int64Array, RecordBatch,
        StringArray, TimestampMicrosecondArray, UInt64Array,
    };
    use arrow::compute::concat_batches;
    use std::sync::Arc;

    fn column(name: &str, from: From, wire: Wire) -> Filled {
        Filled {
            name: name.to_owned(),
            from,
            wire,
            form: None,
            is_not_null: false,
            is_ignored: name == "ignored",
            without: super::super::Within::default(),
            refuses_blanks: name == "char",
        }
    }

    /// Columns of many types with a NULL in each but the first; where `odd`, one of the texts does not fit.
    fn batch(odd: bool) -> RecordBatch {
        let long = "long ".repeat(20) + "end";
        let texts = |third| {
            Arc::new(StringArray::from(vec![Some("a"), None, Some(""), third, Some(&long)])) as ArrayRef
        };
        let numbers = vec![Some("1.50"), None, Some("NaN"), Some("-7"), Some("1e30")];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from(vec![1, -2, 3, i64::MAX, i64::MIN]))),
            ("text", texts(Some(if odd { "a\0b" } else { "thirty-two characters, about it!" }))),
            ("ignored", texts(Some("b"))),
            ("char", texts(Some("b"))),
            ("number", Arc::new(StringArray::from(numbers))),
            ("small", Arc::new(Int64Array::from(vec![Some(1), None, Some(-5), Some(32_767), Some(0)]))),
            ("large", Arc::new(UInt64Array::from(vec![Some(1), None, Some(u64::MAX), Some(3), Some(0)]))),
            (
                "wide",
                Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(f64::NAN), Some(1e15), Some(0.1)])),
            ),
            ("narrow", Arc::new(Float32Array::from(vec![Some(0.1), None, Some(-2.5), Some(1e10), None]))),
            ("truth", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None, Some(true), None]))),
            ("day", Arc::new(Date32Array::from(vec![Some(0), None, Some(-1), Some(i32::MAX), Some(20_000)]))),
            (
                "moment",
                Arc::new(TimestampMicrosecondArray::from(vec![
                    Some(0),
                    Some(i64::MIN),
                    None,
                    Some(1),
                    Some(1_600_000_000_120_000),
                ])),
            ),
            ("json", Arc::new(StringArray::from(vec![Some("{\"b\": 1.0, \"a\": null}"); 5]))),
        ];
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap()
    }

    fn encoder(batch: &RecordBatch, key: &[&str]) -> Encoder {
        let text = |limit| Wire::Text { limit, is_padded: false };
        let wire = |name: &str| match name {
            "id" => Wire::Int8,
            "number" => Wire::Numeric(None),
            "small" => Wire::Int2,
            "large" => Wire::Numeric(Some((20, 0))),
            "wide" => Wire::Float8,
            "narrow" => Wire::Float4,
            "truth" => Wire::Bool,
            "day" => Wire::Date,
            "moment" => Wire::Timestamp(6),
            "json" => Wire::Jsonb,
            "char" => text(Some(200)),
            _ => text(None),
        };
        let names = batch.schema_ref().fields().iter().map(|field| field.name().clone());
        let mut columns: Vec<_> =
            names.enumerate().map(|(place, name)| column(&name, From::Column(place), wire(&name))).collect();
        let constant = From::Constant(Arc::new(StringArray::from(vec!["one for all"])) as ArrayRef);
        columns.push(column("constant", constant, text(None)));
        let key: Vec<String> = key.iter().map(|&name| name.to_owned()).collect();
        Encoder::new(columns, &key, []).unwrap()
    }

    #[test]
    fn rows_are_those_that_are_encoded_singly() {
        let secret = FingerprintKey::new([5; 32]);
        for (key, is_whole) in [(&["id", "constant"][..], true), (&[], true), (&["text"], false)] {
            let many = vec![batch(false); 300];
            let many = concat_batches(&many[0].schema(), many.iter().chain([&batch(true)])).unwrap();
            for batch in [batch(false), batch(false).slice(2, 3), batch(true), batch(true).slice(1, 2), many]
            {
                let encoder = encoder(&batch, key);
                let arrays = encoder.arrays(&batch).unwrap();
                let cells: Vec<_> = arrays.iter().map(Cells::of).collect();
                let mut copy = BytesMut::from(&HEADER[..]);
                let singly = encoder.singly(&cells, batch.num_rows(), &mut copy, &secret).collect();
                copy.put_i16(TRAILER);
                let singly = Rows { copy: copy.freeze(), rows: singly };
                let has_odd = (0..batch.num_rows()).any(|row| singly.fields(row).is_err());
                let whole = Whole::new(&encoder, &cells, batch.num_rows());
                if is_whole {
                    assert_eq!(whole.is_some(), !has_odd);
                }
                let rows = encoder.encode(&batch, &secret);
                for row in 0..batch.num_rows() {
                    assert_eq!(rows.fields(row).ok(), singly.fields(row).ok(), "{key:?} {row}");
                    assert_eq!(rows.fingerprint(row), singly.fingerprint(row), "{key:?} {row}");
                }
                assert_eq!(rows.copy, singly.copy);
            }
        }
    }

    #[test]
    fn what_one_row_refuses_goes_row_by_row() {
        let batch = batch(false);
        let with = |change: &dyn Fn(&mut Filled)| {
            let mut encoder = encoder(&batch, &["id"]);
            encoder.columns.iter_mut().filter(|column| column.name == "text").for_each(change);
            let arrays = encoder.arrays(&batch).unwrap();
            let cells: Vec<_> = arrays.iter().map(Cells::of).collect();
            Whole::new(&encoder, &cells, batch.num_rows()).is_some()
        };
        assert!(with(&|_| ()));
        assert!(!with(&|column| column.is_not_null = true));
        assert!(!with(&|column| column.wire = Wire::Text { limit: Some(50), is_padded: false }));
        assert!(!with(&|column| column.wire = Wire::Int4));
        assert!(!with(&|column| column.wire = Wire::Bytea));
    }
}
