//! Arrow records into rows of a binary `COPY`, checked against what the table's types hold, and fingerprinted
//! in the form that the table will hold.

mod cells;
mod elements;
mod meaning;
mod moment;
mod numeric;
mod vectors;
mod whole;
mod wire;
mod within;

pub(crate) use elements::elements_of;
pub(crate) use meaning::Meaning;
pub(crate) use moment::{date_text, moment_text};
pub(crate) use vectors::plain_sparse;
use whimbrel_model::cell;
pub(crate) use whimbrel_model::cell::plain_type;
pub(crate) use wire::{Form, Wire, shown};
pub(crate) use within::Within;

use arrow::array::{ArrayRef, RecordBatch};
use bytes::{BufMut as _, Bytes, BytesMut};
use cells::Cells;
use std::ops::Range;
use std::sync::Arc;
use whimbrel_model::canonical::{Canonical, Name};
use whimbrel_model::fingerprint::Fingerprints;
use whimbrel_model::{Fingerprint, FingerprintKey, Stage};
use whimbrel_store::Refusal;
use whole::Whole;

/// A column that records are written into.
#[derive(Clone, Debug)]
pub(crate) struct Filled {
    /// Its name in the table.
    pub name: String,
    /// Where its values come from.
    pub from: From,
    pub wire: Wire,
    pub form: Option<Form>,
    /// Whether the table refuses NULL.
    pub is_not_null: bool,
    /// Whether fingerprints leave it out.
    pub is_ignored: bool,
    /// What in its documents they leave out.
    pub without: Within,
    /// Whether a text that ends with spaces is refused.
    pub refuses_blanks: bool,
}

/// Where a column's values come from.
#[derive(Clone, Debug)]
pub(crate) enum From {
    /// The column of the records with this number.
    Column(usize),
    /// One value for all records: an array of one.
    Constant(ArrayRef),
}

/// A value that every record must have.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    /// The column's place among those that are filled.
    column: usize,
    canonical: Vec<u8>,
    shown: String,
}

/// A text that every record must have as a member of a JSON column.
#[derive(Clone, Debug)]
struct FixedMember {
    /// The column's place among those that are filled.
    column: usize,
    key: String,
    value: String,
}

impl FixedMember {
    /// Refuses a document without it. `field`: the column's bytes, without their length.
    fn check(&self, column: &Filled, field: &[u8]) -> Result<(), String> {
        let document = column.wire.document(field);
        match document.as_ref().and_then(|document| document.get(&self.key)?.as_str()) {
            Some(text) if text == self.value => Ok(()),
            _ => Err(format!(
                "`{}` of `{}` is not {}, the flow's scope",
                self.key,
                column.name,
                shown(&self.value)
            )),
        }
    }
}

/// Turns records into rows.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    columns: Vec<Filled>,
    /// The columns' names in canonical form.
    names: Vec<Name>,
    /// The places of the key's columns, in the key's order.
    key: Vec<usize>,
    fixed: Vec<Fixed>,
    members: Vec<FixedMember>,
}

/// What stands in front of the rows of a `COPY`: signature, flags, and no extension.
pub(crate) const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What stands behind them.
pub(crate) const TRAILER: i16 = -1;
/// So many records are encoded at a time: what is made of them on the way is still in the processor's caches when it is
/// needed, and its memory serves the next ones.
const BLOCK_RECORDS: usize = 1_024;

/// Rows as `COPY` takes them.
#[derive(Debug)]
pub(crate) struct Rows {
    /// All rows with their heads, as a whole `COPY`.
    copy: Bytes,
    /// Where each row's fields stand in it.
    rows: Vec<Result<(Range<usize>, Fingerprint), Refusal>>,
}

impl Rows {
    /// A row's fields, each with its length; `Err`: the record is refused.
    pub(crate) fn fields(&self, row: usize) -> Result<&[u8], &Refusal> {
        self.rows[row].as_ref().map(|(range, _)| &self.copy[range.clone()])
    }

    /// A whole `COPY` of these rows, which ascend, where they are all that there are.
    pub(crate) fn copy_of(&self, rows: &[usize]) -> Option<Bytes> {
        (rows.len() == self.rows.len()).then(|| self.copy.clone())
    }

    /// The memory of the rows, to be used again, unless somebody holds them still.
    pub(crate) fn into_memory(self) -> Option<BytesMut> {
        self.copy.try_into_mut().ok()
    }

    pub(crate) fn fingerprint(&self, row: usize) -> Option<Fingerprint> {
        self.rows[row].as_ref().ok().map(|(_, fingerprint)| *fingerprint)
    }

    pub(crate) fn refuse(&mut self, row: usize, refusal: Refusal) {
        self.rows[row] = Err(refusal);
    }
}

/// A refusal before sending.
pub(crate) fn unfit(reason: String) -> Refusal {
    Refusal { stage: Stage::Convert, reason }
}

impl Encoder {
    /// `key` and the names in `fixed` are names of columns; columns are sorted by name, as the canonical form
    /// has them. `Err`: a fixed value that its column does not hold.
    pub(crate) fn new(
        mut columns: Vec<Filled>,
        key: &[String],
        fixed: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, String> {
        columns.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let place = |name: &str| columns.iter().position(|column| column.name == name);
        let key = key.iter().filter_map(|name| place(name)).collect();
        let mut all = Vec::new();
        for (name, value) in fixed {
            let Some(column) = place(&name) else { continue };
            let mut canonical = Canonical::default();
            columns[column]
                .wire
                .put_cell(cell::Cell::Text(&value), &mut BytesMut::new(), &mut canonical)
                .map_err(|reason| format!("`{name}` {reason}"))?;
            all.push(Fixed { column, canonical: canonical.bytes().to_vec(), shown: shown(&value) });
        }
        let names = columns.iter().map(|column| Name::new(&column.name)).collect();
        Ok(Self { columns, names, key, fixed: all, members: Vec::new() })
    }

    /// With members of JSON columns that every record must have: column, key, text. A column that is not filled
    /// has none to check.
    pub(crate) fn with_members(
        mut self,
        members: impl IntoIterator<Item = (String, String, String)>,
    ) -> Self {
        let place = |name: &str| self.columns.iter().position(|column| column.name == name);
        let placed = members
            .into_iter()
            .filter_map(|(column, key, value)| Some(FixedMember { column: place(&column)?, key, value }));
        self.members = placed.collect();
        self
    }

    pub(crate) fn columns(&self) -> &[Filled] {
        &self.columns
    }

    /// Whether records are told apart by a key.
    pub(crate) fn has_key(&self) -> bool {
        !self.key.is_empty()
    }

    /// The columns' values in the layout that they are encoded from.
    fn arrays(&self, records: &RecordBatch) -> Result<Vec<ArrayRef>, Refusal> {
        let arrays = self.columns.iter().map(|column| match &column.from {
            From::Column(at) => {
                let array = records.columns().get(*at).map(cell::plain);
                let array = array.unwrap_or_else(|| {
                    Err(arrow::error::ArrowError::SchemaError("it is not there".to_owned()))
                });
                array.map_err(|error| unfit(format!("`{}` cannot be read: {error}", column.name)))
            }
            From::Constant(value) => Ok(Arc::clone(value)),
        });
        arrays.collect()
    }

    /// The fingerprints of the rows with these numbers, in that order; what could not be sent is refused.
    pub(crate) fn fingerprints(
        &self,
        records: &RecordBatch,
        rows: impl IntoIterator<Item = usize>,
        key: &FingerprintKey,
    ) -> Vec<Result<Fingerprint, Refusal>> {
        let mut prints = Fingerprints::new(key, records.num_rows());
        let told = self.each(records, rows, |scratch| prints.push(&scratch.key, &scratch.record));
        let mut prints = prints.finish().into_iter();
        let print = |told: Result<(), Refusal>| {
            told?;
            prints.next().ok_or_else(|| unfit("it has no fingerprint".to_owned()))
        };
        told.into_iter().map(print).collect()
    }

    /// The hashes of the keys alone; `None` for what could not be sent, whichever of its columns is to blame.
    pub(crate) fn keys(&self, records: &RecordBatch, key: &FingerprintKey) -> Vec<Option<u128>> {
        let keys = self.each(records, 0..records.num_rows(), |scratch| key.key(&scratch.key));
        keys.into_iter().map(Result::ok).collect()
    }

    /// Encodes rows for what can be told of their canonical form.
    fn each<T>(
        &self,
        records: &RecordBatch,
        rows: impl IntoIterator<Item = usize>,
        mut told: impl FnMut(&Scratch) -> T,
    ) -> Vec<Result<T, Refusal>> {
        let arrays = match self.arrays(records) {
            Ok(arrays) => arrays,
            Err(refusal) => return rows.into_iter().map(|_| Err(refusal.clone())).collect(),
        };
        let (mut out, mut scratch) = (BytesMut::new(), Scratch::default());
        let cells: Vec<_> = arrays.iter().map(Cells::of).collect();
        let one = |row| {
            out.clear();
            self.row(&cells, row, &mut out, &mut scratch).map_err(unfit)?;
            Ok(told(&scratch))
        };
        rows.into_iter().map(one).collect()
    }

    /// One result a record, in order.
    pub(crate) fn encode(&self, records: &RecordBatch, key: &FingerprintKey) -> Rows {
        self.encode_into(BytesMut::new(), records, key)
    }

    /// As [`Encoder::encode`], in memory that was used before.
    pub(crate) fn encode_into(
        &self,
        mut copy: BytesMut,
        records: &RecordBatch,
        key: &FingerprintKey,
    ) -> Rows {
        let count = records.num_rows();
        let arrays = match self.arrays(records) {
            Ok(arrays) => arrays,
            Err(refusal) => return Rows { copy: Bytes::new(), rows: vec![Err(refusal); count] },
        };
        copy.clear();
        // What is there would be copied, and its size doubled, if it were asked to grow.
        let expected = records.get_array_memory_size().min(64 << 20);
        if copy.capacity() < expected {
            copy = BytesMut::with_capacity(expected);
        }
        copy.put_slice(HEADER);
        let mut rows = Vec::with_capacity(count);
        for start in (0..count).step_by(BLOCK_RECORDS) {
            let block = BLOCK_RECORDS.min(count - start);
            let arrays = self.columns.iter().zip(&arrays).map(|(column, array)| match column.from {
                From::Column(_) => array.slice(start, block),
                From::Constant(_) => Arc::clone(array),
            });
            let arrays: Vec<_> = arrays.collect();
            let cells: Vec<_> = arrays.iter().map(Cells::of).collect();
            match Whole::new(self, &cells, block) {
                Some(whole) => rows.extend(whole.rows(block, &mut copy, key).map(Ok)),
                None => rows.extend(self.singly(&cells, block, &mut copy, key)),
            }
        }
        copy.put_i16(TRAILER);
        Rows { copy: copy.freeze(), rows }
    }

    /// Row by row, each of which may be refused.
    fn singly(
        &self,
        cells: &[Cells<'_>],
        count: usize,
        copy: &mut BytesMut,
        key: &FingerprintKey,
    ) -> impl Iterator<Item = Result<(Range<usize>, Fingerprint), Refusal>> {
        let fields = i16::try_from(self.columns.len()).unwrap_or(i16::MAX);
        let mut ranges = Vec::with_capacity(count);
        let (mut prints, mut scratch) = (Fingerprints::new(key, count), Scratch::default());
        for row in 0..count {
            let head = copy.len();
            copy.put_i16(fields);
            let start = copy.len();
            ranges.push(match self.row(cells, row, copy, &mut scratch) {
                Ok(()) => {
                    prints.push(&scratch.key, &scratch.record);
                    Ok(start..copy.len())
                }
                Err(reason) => {
                    copy.truncate(head);
                    Err(unfit(reason))
                }
            });
        }
        let mut prints = prints.finish().into_iter();
        // There is a fingerprint for each row that is not refused, in their order.
        ranges.into_iter().map(move |range| {
            let range = range?;
            prints.next().map(|print| (range, print)).ok_or_else(|| unfit("it has no fingerprint".to_owned()))
        })
    }

    fn row(
        &self,
        cells: &[Cells<'_>],
        row: usize,
        out: &mut BytesMut,
        scratch: &mut Scratch,
    ) -> Result<(), String> {
        let Scratch { key, record, other, places } = scratch;
        key.clear();
        record.clear();
        places.clear();
        record.map(self.columns.iter().filter(|column| !column.is_ignored).count());
        for (place, (column, cells)) in self.columns.iter().zip(cells).enumerate() {
            let row = if matches!(column.from, From::Constant(_)) { 0 } else { row };
            let value = cells.cell(row);
            if !column.is_ignored {
                record.name(&self.names[place]);
            }
            let is_aside = column.is_ignored || !column.without.is_empty();
            let canonical = if is_aside {
                other.clear();
                &mut *other
            } else {
                &mut *record
            };
            let before = canonical.len();
            let at = out.len();
            out.put_i32(-1);
            if column.refuses_blanks
                && let cell::Cell::Text(text) = value
                && text.ends_with(' ')
            {
                let wide = "ends with spaces, which a character type of fixed length does not keep";
                return Err(format!("`{}` {wide}", column.name));
            }
            let is_value = column
                .wire
                .put(value, column.form, out, canonical)
                .map_err(|reason| format!("`{}` {reason}", column.name))?;
            if is_value {
                let length = i32::try_from(out.len() - at - 4)
                    .map_err(|_| format!("`{}` is larger than PostgreSQL takes", column.name))?;
                out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            } else if column.is_not_null {
                return Err(format!("`{}` is NULL, and the column is NOT NULL", column.name));
            }
            self.check_fixed(place, &canonical.bytes()[before..], &out[at + 4..])?;
            places.push((!is_aside && is_value).then(|| before..record.len()));
            if !column.without.is_empty() && !column.is_ignored {
                let document = is_value.then(|| column.wire.document(&out[at + 4..])).flatten();
                match document {
                    Some(document) => record.json(&column.without.prune(document)),
                    None => record.append(other),
                }
            }
        }
        self.key_of(cells, row, out, scratch)
    }

    /// Refuses a record that does not have in a column what all must have; `canonical` and `field` are what it has.
    fn check_fixed(&self, place: usize, canonical: &[u8], field: &[u8]) -> Result<(), String> {
        let name = &self.columns[place].name;
        if let Some(fixed) = self.fixed.iter().find(|fixed| fixed.column == place)
            && canonical != fixed.canonical
        {
            return Err(format!("`{name}` is not {}, the flow's scope", fixed.shown));
        }
        for member in self.members.iter().filter(|member| member.column == place) {
            member.check(&self.columns[place], field)?;
        }
        Ok(())
    }

    /// The canonical form of the key, of a record whose own is made.
    fn key_of(
        &self,
        cells: &[Cells<'_>],
        row: usize,
        out: &mut BytesMut,
        scratch: &mut Scratch,
    ) -> Result<(), String> {
        let Scratch { key, record, places, .. } = scratch;
        key.list(self.key.len());
        for place in &self.key {
            if let Some(range) = &places[*place] {
                key.append_part(record, range.clone());
                continue;
            }
            let column = &self.columns[*place];
            let row = if matches!(column.from, From::Constant(_)) { 0 } else { row };
            let at = out.len();
            let put = column.wire.put(cells[*place].cell(row), column.form, out, key);
            out.truncate(at);
            if !put? {
                return Err(format!("`{}` is a key and must not be NULL", column.name));
            }
        }
        if self.key.is_empty() {
            // Where nothing tells records apart, each is told by all that it holds.
            key.append(record);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Scratch {
    key: Canonical,
    record: Canonical,
    other: Canonical,
    /// Where the columns' values stand in `record`, as far as they stand there as they are.
    places: Vec<Option<Range<usize>>>,
}
