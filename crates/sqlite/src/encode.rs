//! Arrow records into values as SQLite will hold them, checked against what the columns are for, and fingerprinted.

mod slot;
mod stored;

pub(crate) use slot::{Form, Slot, shown, type_for};
pub(crate) use stored::{Meaning, Stored};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field};
use whimbrel_model::canonical::Canonical;
use whimbrel_model::cell::{self, Cell};
use whimbrel_model::{Fingerprint, FingerprintKey, Logical, Stage};
use whimbrel_store::Refusal;

/// A column that records are written into.
#[derive(Clone, Debug)]
pub(crate) struct Filled {
    /// Its name in the table.
    pub name: String,
    /// Where its values come from.
    pub from: From,
    pub slot: Slot,
    pub meaning: Meaning,
    pub form: Option<Form>,
    /// Whether the table refuses NULL.
    pub is_not_null: bool,
    /// Whether fingerprints leave it out.
    pub is_ignored: bool,
}

/// Where a column's values come from.
#[derive(Clone, Debug)]
pub(crate) enum From {
    /// The column of the records with this number.
    Column(usize),
    /// One value for all records: the scope's.
    Constant(String),
}

/// Turns records into rows.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    columns: Vec<Filled>,
    /// The places of the key's columns, in the key's order.
    key: Vec<usize>,
    /// What columns must hold in every record, by their places.
    fixed: Vec<(usize, Stored<'static>, String)>,
}

/// A record as SQLite will hold it: the columns' values in the encoder's order.
#[derive(Clone, Debug)]
pub(crate) struct Row<'a> {
    pub values: Vec<Stored<'a>>,
    pub fingerprint: Fingerprint,
}

/// What the values of a field mean.
pub(crate) fn meaning_of(field: &Field) -> Meaning {
    match field.data_type() {
        DataType::Timestamp(_, Some(_)) => Meaning::Instant,
        DataType::Timestamp(_, None) | DataType::Date64 => Meaning::Local,
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Meaning::Json,
        data_type if cell::is_document(data_type) => Meaning::Json,
        data_type if data_type.is_numeric() => Meaning::Number,
        _ => match Logical::of(field) {
            Some(Logical::Json) => Meaning::Json,
            Some(Logical::Number) => Meaning::Number,
            Some(Logical::Uuid) | None => Meaning::Plain,
        },
    }
}

/// A refusal before sending.
pub(crate) fn unfit(reason: String) -> Refusal {
    Refusal { stage: Stage::Convert, reason }
}

/// Buffers for canonical forms.
#[derive(Default)]
pub(crate) struct Scratch {
    key: Canonical,
    record: Canonical,
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
            let Some(at) = place(&name) else { continue };
            let stored = columns[at].slot.put_cell(Cell::Text(&value));
            let stored = stored.map_err(|reason| format!("`{name}` {reason}"))?.into_owned();
            all.push((at, stored, shown(&value)));
        }
        Ok(Self { columns, key, fixed: all })
    }

    pub(crate) fn columns(&self) -> &[Filled] {
        &self.columns
    }

    /// The places of the key's columns.
    pub(crate) fn key(&self) -> &[usize] {
        &self.key
    }

    /// The columns' values in the layout that they are encoded from.
    pub(crate) fn arrays(&self, records: &RecordBatch) -> Result<Vec<Option<ArrayRef>>, Refusal> {
        let arrays = self.columns.iter().map(|column| match &column.from {
            From::Column(at) => {
                let array = records.columns().get(*at).map(cell::plain);
                let array = array.unwrap_or_else(|| {
                    Err(arrow::error::ArrowError::SchemaError("it is not there".to_owned()))
                });
                array.map(Some).map_err(|error| unfit(format!("`{}` cannot be read: {error}", column.name)))
            }
            From::Constant(_) => Ok(None),
        });
        arrays.collect()
    }

    /// A row of what [`Encoder::arrays`] has made.
    pub(crate) fn row<'a>(
        &'a self,
        arrays: &'a [Option<ArrayRef>],
        row: usize,
        key: &FingerprintKey,
        scratch: &mut Scratch,
    ) -> Result<Row<'a>, Refusal> {
        let mut values = Vec::with_capacity(self.columns.len());
        for (column, array) in self.columns.iter().zip(arrays) {
            let value = match (&column.from, array) {
                (From::Constant(text), _) => column.slot.put_cell(Cell::Text(text)),
                (From::Column(_), Some(array)) => column.slot.put(array, row, column.form),
                (From::Column(_), None) => Err("is not there".to_owned()),
            };
            let value = value.map_err(|reason| unfit(format!("`{}` {reason}", column.name)))?;
            if column.is_not_null && value == Stored::Null {
                return Err(unfit(format!("`{}` is NULL, and the column is NOT NULL", column.name)));
            }
            values.push(value);
        }
        for (at, expected, shown) in &self.fixed {
            if values.get(*at) != Some(expected) {
                return Err(unfit(format!("`{}` is not {shown}, the flow's scope", self.columns[*at].name)));
            }
        }
        for at in &self.key {
            if values.get(*at) == Some(&Stored::Null) {
                return Err(unfit(format!("`{}` is a key and must not be NULL", self.columns[*at].name)));
            }
        }
        let fingerprint = self.fingerprint(&values, key, scratch);
        Ok(Row { values, fingerprint })
    }

    /// The fingerprint of values in the encoder's order.
    pub(crate) fn fingerprint(
        &self,
        values: &[Stored<'_>],
        key: &FingerprintKey,
        scratch: &mut Scratch,
    ) -> Fingerprint {
        let Scratch { key: keys, record } = scratch;
        keys.clear();
        record.clear();
        record.map(self.columns.iter().filter(|column| !column.is_ignored).count());
        for (column, value) in self.columns.iter().zip(values) {
            if !column.is_ignored {
                record.key(&column.name);
                value.canonical(column.meaning, record);
            }
        }
        keys.list(self.key.len());
        for at in &self.key {
            if let (Some(column), Some(value)) = (self.columns.get(*at), values.get(*at)) {
                value.canonical(column.meaning, keys);
            }
        }
        if self.key.is_empty() {
            // Where nothing tells records apart, each is told by all that it holds.
            keys.append(record);
        }
        key.fingerprint(keys, record)
    }

    /// Whether two rows say the same, but for what is ignored and for the columns of the key.
    pub(crate) fn is_same(&self, one: &[Stored<'_>], other: &[Stored<'_>]) -> bool {
        let (mut left, mut right) = (Canonical::default(), Canonical::default());
        for (column, (one, other)) in self.columns.iter().zip(one.iter().zip(other)) {
            if !column.is_ignored {
                one.canonical(column.meaning, &mut left);
                other.canonical(column.meaning, &mut right);
            }
        }
        left.bytes() == right.bytes()
    }

    /// Whether what is there lies within the scope.
    pub(crate) fn is_inside(&self, held: &[Stored<'_>]) -> bool {
        self.fixed.iter().all(|(at, expected, _)| {
            held.get(*at).is_some_and(|held| {
                let (mut left, mut right) = (Canonical::default(), Canonical::default());
                held.canonical(Meaning::Plain, &mut left);
                expected.canonical(Meaning::Plain, &mut right);
                left.bytes() == right.bytes()
            })
        })
    }

    /// One result a record, in order.
    pub(crate) fn fingerprints(
        &self,
        records: &RecordBatch,
        key: &FingerprintKey,
    ) -> Vec<Result<Fingerprint, Refusal>> {
        let arrays = match self.arrays(records) {
            Ok(arrays) => arrays,
            Err(refusal) => return vec![Err(refusal); records.num_rows()],
        };
        let mut scratch = Scratch::default();
        let mut one = |row| self.row(&arrays, row, key, &mut scratch).map(|row| row.fingerprint);
        (0..records.num_rows()).map(&mut one).collect()
    }

    /// The row for people.
    pub(crate) fn shown(&self, values: &[Stored<'_>]) -> serde_json::Map<String, serde_json::Value> {
        let shown = self.columns.iter().zip(values);
        shown.map(|(column, value)| (column.name.clone(), value.json(column.meaning))).collect()
    }
}

/// The encoder of rows that are read back: the same columns, whatever they come from.
pub(crate) fn held_columns(columns: &[Filled]) -> Vec<Filled> {
    let held = columns.iter().map(|column| Filled { is_not_null: false, form: None, ..column.clone() });
    held.collect()
}
