//! Arrow records into rows of a binary `COPY`, checked against what the table's types hold, and fingerprinted
//! in the form that the table will hold.

mod elements;
mod meaning;
mod moment;
mod numeric;
mod vectors;
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
use bytes::{BufMut as _, BytesMut};
use std::ops::Range;
use std::sync::Arc;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::{Fingerprint, FingerprintKey, Stage};
use whimbrel_store::Refusal;

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
    /// The places of the key's columns, in the key's order.
    key: Vec<usize>,
    fixed: Vec<Fixed>,
    members: Vec<FixedMember>,
}

/// Rows as `COPY` takes them, without their heads.
#[derive(Debug)]
pub(crate) struct Rows {
    bytes: BytesMut,
    rows: Vec<Result<(Range<usize>, Fingerprint), Refusal>>,
}

impl Rows {
    /// A row's fields, each with its length; `Err`: the record is refused.
    pub(crate) fn fields(&self, row: usize) -> Result<&[u8], &Refusal> {
        self.rows[row].as_ref().map(|(range, _)| &self.bytes[range.clone()])
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
        Ok(Self { columns, key, fixed: all, members: Vec::new() })
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
        self.each(records, rows, |scratch| key.fingerprint(&scratch.key, &scratch.record))
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
        told: impl Fn(&Scratch) -> T,
    ) -> Vec<Result<T, Refusal>> {
        let arrays = match self.arrays(records) {
            Ok(arrays) => arrays,
            Err(refusal) => return rows.into_iter().map(|_| Err(refusal.clone())).collect(),
        };
        let (mut out, mut scratch) = (BytesMut::new(), Scratch::default());
        let one = |row| {
            out.clear();
            self.row(&arrays, row, &mut out, &mut scratch).map_err(unfit)?;
            Ok(told(&scratch))
        };
        rows.into_iter().map(one).collect()
    }

    /// One result a record, in order.
    pub(crate) fn encode(&self, records: &RecordBatch, key: &FingerprintKey) -> Rows {
        let count = records.num_rows();
        let arrays = match self.arrays(records) {
            Ok(arrays) => arrays,
            Err(refusal) => return Rows { bytes: BytesMut::new(), rows: vec![Err(refusal); count] },
        };
        let mut rows = Rows {
            bytes: BytesMut::with_capacity(records.get_array_memory_size().min(64 << 20)),
            rows: Vec::with_capacity(count),
        };
        let mut scratch = Scratch::default();
        for row in 0..count {
            let start = rows.bytes.len();
            let encoded = self.row(&arrays, row, &mut rows.bytes, &mut scratch);
            rows.rows.push(match encoded {
                Ok(()) => {
                    let fingerprint = key.fingerprint(&scratch.key, &scratch.record);
                    Ok((start..rows.bytes.len(), fingerprint))
                }
                Err(reason) => {
                    rows.bytes.truncate(start);
                    Err(unfit(reason))
                }
            });
        }
        rows
    }

    fn row(
        &self,
        arrays: &[ArrayRef],
        row: usize,
        out: &mut BytesMut,
        scratch: &mut Scratch,
    ) -> Result<(), String> {
        let Scratch { key, record, other } = scratch;
        key.clear();
        record.clear();
        record.map(self.columns.iter().filter(|column| !column.is_ignored).count());
        for (place, (column, array)) in self.columns.iter().zip(arrays).enumerate() {
            let row = if matches!(column.from, From::Constant(_)) { 0 } else { row };
            if !column.is_ignored {
                record.key(&column.name);
            }
            let canonical = if column.is_ignored || !column.without.is_empty() {
                other.clear();
                &mut *other
            } else {
                &mut *record
            };
            let before = canonical.bytes().len();
            let at = out.len();
            out.put_i32(-1);
            if column.refuses_blanks
                && let cell::Cell::Text(text) = cell::cell(array, row)
                && text.ends_with(' ')
            {
                let wide = "ends with spaces, which a character type of fixed length does not keep";
                return Err(format!("`{}` {wide}", column.name));
            }
            let is_value = column
                .wire
                .put(array, row, column.form, out, canonical)
                .map_err(|reason| format!("`{}` {reason}", column.name))?;
            if is_value {
                let length = i32::try_from(out.len() - at - 4)
                    .map_err(|_| format!("`{}` is larger than PostgreSQL takes", column.name))?;
                out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            } else if column.is_not_null {
                return Err(format!("`{}` is NULL, and the column is NOT NULL", column.name));
            }
            if let Some(fixed) = self.fixed.iter().find(|fixed| fixed.column == place)
                && canonical.bytes()[before..] != fixed.canonical
            {
                return Err(format!("`{}` is not {}, the flow's scope", column.name, fixed.shown));
            }
            for member in self.members.iter().filter(|member| member.column == place) {
                member.check(column, &out[at + 4..])?;
            }
            if !column.without.is_empty() && !column.is_ignored {
                let document = is_value.then(|| column.wire.document(&out[at + 4..])).flatten();
                match document {
                    Some(document) => record.json(&column.without.prune(document)),
                    None => record.append(other),
                }
            }
        }
        key.list(self.key.len());
        for place in &self.key {
            let column = &self.columns[*place];
            let row = if matches!(column.from, From::Constant(_)) { 0 } else { row };
            let at = out.len();
            let put = column.wire.put(&arrays[*place], row, column.form, out, key);
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
}
