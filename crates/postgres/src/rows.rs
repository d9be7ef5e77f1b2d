//! Rows into Arrow batches.

use crate::catalog::Column;
use crate::copy::Row;
use crate::types::{ColumnType, Precision, Scalar};
use crate::value::{self, Value, ValueError};
use arrow::array::{
    ArrayBuilder as _, ArrayRef, BinaryBuilder, BooleanBuilder, Float32Builder, Float64Builder, Int16Builder,
    Int32Array, Int32Builder, Int64Array, Int64Builder, ListArray, RecordBatch, StringBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Date32Type, SchemaRef, Time64MicrosecondType, TimestampMicrosecondType};
use arrow::error::ArrowError;
use std::sync::Arc;
use whimbrel_store::Unreadable;

/// For how many values builders have room before they grow.
const ROOM_FOR_VALUES: usize = 65_536;

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
    unreadable: Vec<Unreadable>,
    scratch: String,
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
            unreadable: Vec::new(),
            scratch: String::new(),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a row; fields behind the known columns are left out.
    pub(crate) fn push(&mut self, row: Row<'_>) -> Result<(), RowError> {
        for ((column, builder), field) in self.columns.iter_mut().zip(row.fields()) {
            let Some(bytes) = field else {
                if !column.nullable {
                    return Err(RowError::Null { column: column.name.clone() });
                }
                builder.append_null();
                continue;
            };
            match builder.append(bytes, &mut self.scratch) {
                Ok(true) => {}
                Ok(false) => return Err(RowError::TooLong { column: column.name.clone() }),
                Err(ValueError::Unreadable(reason)) if column.nullable => {
                    builder.append_null();
                    let (reason, column) = (reason_of(column, reason), column.name.clone());
                    self.unreadable.push(Unreadable { row: self.rows, column, reason, raw: bytes.to_vec() });
                }
                Err(ValueError::Unreadable(reason) | ValueError::Malformed(reason)) => {
                    return Err(RowError::Malformed { column: column.name.clone(), reason });
                }
            }
        }
        self.rows += 1;
        self.bytes += row.len();
        Ok(())
    }

    /// The text of a key field. Those behind the columns are text already.
    pub(crate) fn key_text(&self, at: usize, bytes: &[u8]) -> Option<String> {
        let Some((column, _)) = self.columns.get(at) else { return String::from_utf8(bytes.to_vec()).ok() };
        let ColumnType::Scalar(scalar) = column.column_type else { return None };
        match value::decode(scalar, bytes, &mut String::new()).ok()? {
            Value::I16(value) => Some(value.to_string()),
            Value::I32(value) => Some(value.to_string()),
            Value::I64(value) => Some(value.to_string()),
            Value::Text(value) => Some(value.to_owned()),
            Value::Bool(_) | Value::F32(_) | Value::F64(_) | Value::Bytes(_) => None,
        }
    }

    /// The rows so far as a batch; the buffer is empty afterwards.
    pub(crate) fn take(&mut self) -> Result<Taken, RowError> {
        let arrays =
            self.columns.iter_mut().map(|(_, builder)| builder.finish()).collect::<Result<Vec<_>, _>>()?;
        let records = RecordBatch::try_new(Arc::clone(&self.schema), arrays)?;
        self.rows = 0;
        Ok(Taken {
            records,
            unreadable: std::mem::take(&mut self.unreadable),
            bytes: std::mem::take(&mut self.bytes),
        })
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

enum ColumnBuilder {
    Scalar(ScalarBuilder),
    List { elements: ScalarBuilder, lists: Lists },
    Vector { precision: Precision, elements: Float32Builder, lists: Lists },
}

/// Where lists end, and which of them are NULL.
struct Lists {
    ends: Vec<i32>,
    valid: Vec<bool>,
}

impl Lists {
    fn new() -> Self {
        Self { ends: vec![0], valid: Vec::new() }
    }

    fn end(&self) -> i32 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn append_null(&mut self) {
        self.ends.push(self.end());
        self.valid.push(false);
    }

    /// `false`: Arrow's offsets have no room left.
    fn append(&mut self, count: usize) -> bool {
        let end = i32::try_from(count).ok().and_then(|count| self.end().checked_add(count));
        self.ends.extend(end);
        self.valid.extend(end.map(|_| true));
        end.is_some()
    }

    fn finish(&mut self, element: Scalar, values: ArrayRef) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.ends, vec![0])));
        let nulls = NullBuffer::from(std::mem::take(&mut self.valid));
        let field = ColumnType::element_field(element);
        Ok(Arc::new(ListArray::try_new(field, offsets, values, Some(nulls))?))
    }
}

impl ColumnBuilder {
    /// With room for so many rows.
    fn new(column_type: ColumnType, rows: usize) -> Self {
        match column_type {
            ColumnType::Scalar(scalar) => Self::Scalar(ScalarBuilder::new(scalar, rows)),
            ColumnType::List(element) => {
                Self::List { elements: ScalarBuilder::new(element, rows), lists: Lists::new() }
            }
            ColumnType::Vector(precision) => {
                Self::Vector { precision, elements: Float32Builder::new(), lists: Lists::new() }
            }
        }
    }

    fn append_null(&mut self) {
        match self {
            Self::Scalar(builder) => builder.append_null(),
            Self::List { lists, .. } | Self::Vector { lists, .. } => lists.append_null(),
        }
    }

    /// `false`: Arrow's offsets have no room left.
    fn append(&mut self, bytes: &[u8], scratch: &mut String) -> Result<bool, ValueError> {
        match self {
            Self::Scalar(builder) => builder.read(bytes, scratch),
            Self::List { elements, lists } => append_list(elements, lists, bytes, scratch),
            Self::Vector { precision, elements, lists } => {
                let floats = value::vector(*precision, bytes)?;
                let has_room = lists.append(floats.len());
                floats.for_each(|float| elements.append_value(float));
                Ok(has_room)
            }
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Scalar(builder) => Ok(builder.finish()),
            Self::List { elements, lists } => lists.finish(elements.scalar, elements.finish()),
            Self::Vector { elements, lists, .. } => lists.finish(Scalar::Float4, Arc::new(elements.finish())),
        }
    }
}

/// `false`: Arrow's offsets have no room left.
fn append_list(
    elements: &mut ScalarBuilder,
    lists: &mut Lists,
    bytes: &[u8],
    scratch: &mut String,
) -> Result<bool, ValueError> {
    let values = value::elements(bytes)?;
    // An unreadable element takes the whole list, so all are looked at before the first is kept.
    if elements.scalar.may_be_unreadable(false) {
        let mut values = values.clone();
        while let Some(element) = values.next()? {
            element.map(|bytes| value::decode(elements.scalar, bytes, scratch)).transpose()?;
        }
    }
    let has_room = lists.append(values.len());
    let mut values = values;
    while let Some(element) = values.next()? {
        match element {
            None => elements.append_null(),
            Some(bytes) => {
                if !elements.append(value::decode(elements.scalar, bytes, scratch)?) {
                    return Ok(false);
                }
            }
        }
    }
    Ok(has_room)
}

struct ScalarBuilder {
    scalar: Scalar,
    values: Values,
    /// How many values the last batch had, and of how many bytes, until the next one begins. It then gets room for
    /// as much, so that it need not grow from nothing, and what has no next batch takes no memory for it.
    last: Option<(usize, usize)>,
}

enum Values {
    Bool(BooleanBuilder),
    I16(Int16Builder),
    I32(Int32Builder),
    I64(Int64Builder),
    F32(Float32Builder),
    F64(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
}

impl Values {
    /// With room for so many values, and so many bytes of those that differ in length.
    fn with_room(scalar: Scalar, rows: usize, bytes: usize) -> Self {
        match scalar {
            Scalar::Bool => Self::Bool(BooleanBuilder::with_capacity(rows)),
            Scalar::Int2 => Self::I16(Int16Builder::with_capacity(rows)),
            Scalar::Int4 | Scalar::Date => Self::I32(Int32Builder::with_capacity(rows)),
            Scalar::Int8 | Scalar::Oid | Scalar::Time | Scalar::Timestamp | Scalar::TimestampTz => {
                Self::I64(Int64Builder::with_capacity(rows))
            }
            Scalar::Float4 => Self::F32(Float32Builder::with_capacity(rows)),
            Scalar::Float8 => Self::F64(Float64Builder::with_capacity(rows)),
            Scalar::Numeric
            | Scalar::Text
            | Scalar::Char
            | Scalar::Uuid
            | Scalar::Json
            | Scalar::TextAsJson
            | Scalar::Jsonb
            | Scalar::Bits
            | Scalar::SparseVector
            | Scalar::VectorText(_) => Self::Text(StringBuilder::with_capacity(rows, bytes)),
            Scalar::Bytea => Self::Bytes(BinaryBuilder::with_capacity(rows, bytes)),
        }
    }

    /// How many values there are, and the bytes of those that differ in length.
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Bool(builder) => (builder.len(), 0),
            Self::I16(builder) => (builder.len(), 0),
            Self::I32(builder) => (builder.len(), 0),
            Self::I64(builder) => (builder.len(), 0),
            Self::F32(builder) => (builder.len(), 0),
            Self::F64(builder) => (builder.len(), 0),
            Self::Text(builder) => (builder.len(), builder.values_slice().len()),
            Self::Bytes(builder) => (builder.len(), builder.values_slice().len()),
        }
    }
}

impl ScalarBuilder {
    fn new(scalar: Scalar, rows: usize) -> Self {
        Self { scalar, values: Values::with_room(scalar, rows, rows), last: None }
    }

    /// Makes room for a batch like the last one.
    fn begin(&mut self) {
        if let Some((rows, bytes)) = self.last.take() {
            self.values = Values::with_room(self.scalar, rows, bytes + bytes / 16);
        }
    }

    fn append_null(&mut self) {
        self.begin();
        match &mut self.values {
            Values::Bool(builder) => builder.append_null(),
            Values::I16(builder) => builder.append_null(),
            Values::I32(builder) => builder.append_null(),
            Values::I64(builder) => builder.append_null(),
            Values::F32(builder) => builder.append_null(),
            Values::F64(builder) => builder.append_null(),
            Values::Text(builder) => builder.append_null(),
            Values::Bytes(builder) => builder.append_null(),
        }
    }

    /// Decodes a value and appends it. `false`: there is no room.
    #[inline]
    fn read(&mut self, bytes: &[u8], scratch: &mut String) -> Result<bool, ValueError> {
        self.begin();
        // Most values are of these types, and need no look at what else there is.
        match (&mut self.values, self.scalar) {
            (Values::I64(builder), Scalar::Int8) => {
                builder.append_value(i64::from_be_bytes(value::fixed(bytes)?));
            }
            (Values::I32(builder), Scalar::Int4) => {
                builder.append_value(i32::from_be_bytes(value::fixed(bytes)?));
            }
            (Values::F64(builder), Scalar::Float8) => {
                builder.append_value(f64::from_be_bytes(value::fixed(bytes)?));
            }
            (Values::I64(builder), Scalar::Timestamp | Scalar::TimestampTz) => {
                builder.append_value(value::timestamp(i64::from_be_bytes(value::fixed(bytes)?))?);
            }
            (Values::Text(builder), Scalar::Text) => {
                if i32::try_from(builder.values_slice().len() + bytes.len()).is_err() {
                    return Ok(false);
                }
                builder.append_value(value::text(bytes)?);
            }
            _ => return Ok(self.append(value::decode(self.scalar, bytes, scratch)?)),
        }
        Ok(true)
    }

    /// `false`: there is no room, or the value is of another kind than `decode` gives for this scalar.
    fn append(&mut self, value: Value<'_>) -> bool {
        self.begin();
        let fits = |held: usize, more: usize| i32::try_from(held + more).is_ok();
        match (&mut self.values, value) {
            (Values::Bool(builder), Value::Bool(value)) => builder.append_value(value),
            (Values::I16(builder), Value::I16(value)) => builder.append_value(value),
            (Values::I32(builder), Value::I32(value)) => builder.append_value(value),
            (Values::I64(builder), Value::I64(value)) => builder.append_value(value),
            (Values::F32(builder), Value::F32(value)) => builder.append_value(value),
            (Values::F64(builder), Value::F64(value)) => builder.append_value(value),
            (Values::Text(builder), Value::Text(value))
                if fits(builder.values_slice().len(), value.len()) =>
            {
                builder.append_value(value);
            }
            (Values::Bytes(builder), Value::Bytes(value))
                if fits(builder.values_slice().len(), value.len()) =>
            {
                builder.append_value(value);
            }
            _ => return false,
        }
        true
    }

    fn finish(&mut self) -> ArrayRef {
        self.last.get_or_insert_with(|| self.values.size());
        match &mut self.values {
            Values::Bool(builder) => Arc::new(builder.finish()),
            Values::I16(builder) => Arc::new(builder.finish()),
            Values::I32(builder) => dated(self.scalar, builder.finish()),
            Values::I64(builder) => timed(self.scalar, builder.finish()),
            Values::F32(builder) => Arc::new(builder.finish()),
            Values::F64(builder) => Arc::new(builder.finish()),
            Values::Text(builder) => Arc::new(builder.finish()),
            Values::Bytes(builder) => Arc::new(builder.finish()),
        }
    }
}

fn dated(scalar: Scalar, counts: Int32Array) -> ArrayRef {
    if scalar == Scalar::Date { Arc::new(counts.reinterpret_cast::<Date32Type>()) } else { Arc::new(counts) }
}

fn timed(scalar: Scalar, counts: Int64Array) -> ArrayRef {
    match scalar {
        Scalar::Time => Arc::new(counts.reinterpret_cast::<Time64MicrosecondType>()),
        Scalar::Timestamp => Arc::new(counts.reinterpret_cast::<TimestampMicrosecondType>()),
        Scalar::TimestampTz => {
            Arc::new(counts.reinterpret_cast::<TimestampMicrosecondType>().with_timezone("UTC"))
        }
        _ => Arc::new(counts),
    }
}
