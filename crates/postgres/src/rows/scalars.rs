//! Values that are no arrays, a whole column at a time.

use crate::types::Scalar;
use crate::value::{self, ValueError};
use arrow::array::{
    Array as _, ArrayRef, ArrowPrimitiveType, BinaryArray, BooleanArray, BooleanBufferBuilder,
    NullBufferBuilder, PrimitiveArray, StringArray,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use std::sync::Arc;

/// A value that a column does not take. Those before it are taken.
#[derive(Debug)]
pub(super) struct Refused {
    /// Which of those that were given.
    pub at: usize,
    pub error: ValueError,
}

impl Refused {
    pub(super) fn new(at: usize, error: ValueError) -> Self {
        Self { at, error }
    }
}

/// Collects values of one type until they are taken as an array.
pub(super) struct ScalarBuilder {
    scalar: Scalar,
    values: Values,
    /// How many values the last batch had, and of how many bytes, until the next one begins. It then gets room for
    /// as much, so that it need not grow from nothing, and what has no next batch takes no memory for it.
    last: Option<(usize, usize)>,
}

enum Values {
    Bool(Flags),
    I16(Numbers<i16>),
    I32(Numbers<i32>),
    I64(Numbers<i64>),
    F32(Numbers<f32>),
    F64(Numbers<f64>),
    Text(Pieces),
    Bytes(Pieces),
}

impl Values {
    /// With room for so many values, and so many bytes of those that differ in length.
    fn with_room(scalar: Scalar, rows: usize, bytes: usize) -> Self {
        match scalar {
            Scalar::Bool => Self::Bool(Flags::with_room(rows)),
            Scalar::Int2 => Self::I16(Numbers::with_room(rows)),
            Scalar::Int4 | Scalar::Date => Self::I32(Numbers::with_room(rows)),
            Scalar::Int8 | Scalar::Oid | Scalar::Time | Scalar::Timestamp | Scalar::TimestampTz => {
                Self::I64(Numbers::with_room(rows))
            }
            Scalar::Float4 => Self::F32(Numbers::with_room(rows)),
            Scalar::Float8 => Self::F64(Numbers::with_room(rows)),
            Scalar::Numeric
            | Scalar::Text
            | Scalar::Char
            | Scalar::Uuid
            | Scalar::Json
            | Scalar::TextAsJson
            | Scalar::Jsonb
            | Scalar::Bits
            | Scalar::SparseVector
            | Scalar::VectorText(_) => Self::Text(Pieces::with_room(rows, bytes)),
            Scalar::Bytea => Self::Bytes(Pieces::with_room(rows, bytes)),
        }
    }

    /// Makes room for so many times as much as there is, behind it.
    fn reserve(&mut self, times: usize) {
        match self {
            // Their bits take hardly any.
            Self::Bool(_) => {}
            Self::I16(numbers) => reserve(&mut numbers.values, times),
            Self::I32(numbers) => reserve(&mut numbers.values, times),
            Self::I64(numbers) => reserve(&mut numbers.values, times),
            Self::F32(numbers) => reserve(&mut numbers.values, times),
            Self::F64(numbers) => reserve(&mut numbers.values, times),
            Self::Text(pieces) | Self::Bytes(pieces) => {
                reserve(&mut pieces.bytes, times);
                reserve(&mut pieces.ends, times);
            }
        }
    }

    /// How many values there are, and the bytes of those that differ in length.
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Bool(flags) => (flags.nulls.len(), 0),
            Self::I16(numbers) => (numbers.values.len(), 0),
            Self::I32(numbers) => (numbers.values.len(), 0),
            Self::I64(numbers) => (numbers.values.len(), 0),
            Self::F32(numbers) => (numbers.values.len(), 0),
            Self::F64(numbers) => (numbers.values.len(), 0),
            Self::Text(pieces) | Self::Bytes(pieces) => (pieces.nulls.len(), pieces.bytes.len()),
        }
    }
}

impl ScalarBuilder {
    pub(super) fn new(scalar: Scalar, rows: usize) -> Self {
        Self { scalar, values: Values::with_room(scalar, rows, rows), last: None }
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.values.size().0
    }

    /// Makes room for a batch like the last one.
    fn begin(&mut self) {
        if let Some((rows, bytes)) = self.last.take() {
            self.values = Values::with_room(self.scalar, rows, bytes + bytes / 16);
        }
    }

    /// Makes room for so many times as much as there is, behind it.
    pub(super) fn reserve(&mut self, times: usize) {
        self.values.reserve(times);
    }

    pub(super) fn append_null(&mut self) {
        // A NULL is never refused.
        let _ = self.append(std::iter::once(None));
    }

    /// Decodes values and takes them, `None` for NULL. Whether text is UTF-8 shows when all are taken, or by
    /// [`check_text`](Self::check_text).
    pub(super) fn append<'a>(
        &mut self,
        fields: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Result<(), Refused> {
        self.begin();
        let scalar = self.scalar;
        match (&mut self.values, scalar) {
            (Values::Bool(flags), _) => flags.append(fields),
            (Values::I16(numbers), _) => numbers.append(fields, |bytes| Ok(i16::from_be_bytes(bytes))),
            (Values::I32(numbers), Scalar::Date) => {
                numbers.append(fields, |bytes| value::date(i32::from_be_bytes(bytes)))
            }
            (Values::I32(numbers), _) => numbers.append(fields, |bytes| Ok(i32::from_be_bytes(bytes))),
            (Values::I64(numbers), Scalar::Oid) => {
                numbers.append(fields, |bytes| Ok(i64::from(u32::from_be_bytes(bytes))))
            }
            (Values::I64(numbers), Scalar::Timestamp | Scalar::TimestampTz) => {
                numbers.append(fields, |bytes| value::timestamp(i64::from_be_bytes(bytes)))
            }
            (Values::I64(numbers), _) => numbers.append(fields, |bytes| Ok(i64::from_be_bytes(bytes))),
            (Values::F32(numbers), _) => numbers.append(fields, |bytes| Ok(f32::from_be_bytes(bytes))),
            (Values::F64(numbers), _) => numbers.append(fields, |bytes| Ok(f64::from_be_bytes(bytes))),
            (Values::Bytes(pieces), _) | (Values::Text(pieces), Scalar::Text | Scalar::Json) => pieces
                .append(fields, |bytes, into| {
                    into.extend_from_slice(bytes);
                    Ok(())
                }),
            (Values::Text(pieces), Scalar::Numeric) => pieces.append(fields, value::put_numeric),
            (Values::Text(pieces), _) => {
                pieces.append(fields, |bytes, into| value::put_text(scalar, bytes, into))
            }
        }
    }

    /// Looks whether the values from this one on are text, where they are to be.
    pub(super) fn check_text(&self, from: usize) -> Result<(), ValueError> {
        match &self.values {
            Values::Text(pieces) => {
                (from..pieces.nulls.len()).try_for_each(|at| value::text(pieces.get(at)).map(|_| ()))
            }
            _ => Ok(()),
        }
    }

    /// Keeps the first values only.
    pub(super) fn truncate(&mut self, values: usize) {
        match &mut self.values {
            Values::Bool(flags) => flags.truncate(values),
            Values::I16(numbers) => numbers.truncate(values),
            Values::I32(numbers) => numbers.truncate(values),
            Values::I64(numbers) => numbers.truncate(values),
            Values::F32(numbers) => numbers.truncate(values),
            Values::F64(numbers) => numbers.truncate(values),
            Values::Text(pieces) | Values::Bytes(pieces) => pieces.truncate(values),
        }
    }

    /// The values as an array; there are none afterwards. `not_text` is told of each that is to be text and is
    /// not; NULL stands for it.
    pub(super) fn finish(&mut self, not_text: &mut dyn FnMut(usize, &[u8])) -> ArrayRef {
        self.last.get_or_insert_with(|| self.values.size());
        match (&mut self.values, self.scalar) {
            (Values::Bool(flags), _) => flags.finish(),
            (Values::I16(numbers), _) => Arc::new(numbers.finish::<Int16Type>()),
            (Values::I32(numbers), Scalar::Date) => Arc::new(numbers.finish::<Date32Type>()),
            (Values::I32(numbers), _) => Arc::new(numbers.finish::<Int32Type>()),
            (Values::I64(numbers), Scalar::Time) => Arc::new(numbers.finish::<Time64MicrosecondType>()),
            (Values::I64(numbers), Scalar::Timestamp) => {
                Arc::new(numbers.finish::<TimestampMicrosecondType>())
            }
            (Values::I64(numbers), Scalar::TimestampTz) => {
                Arc::new(numbers.finish::<TimestampMicrosecondType>().with_timezone("UTC"))
            }
            (Values::I64(numbers), _) => Arc::new(numbers.finish::<Int64Type>()),
            (Values::F32(numbers), _) => Arc::new(numbers.finish::<Float32Type>()),
            (Values::F64(numbers), _) => Arc::new(numbers.finish::<Float64Type>()),
            (Values::Text(pieces), _) => pieces.finish_text(not_text),
            (Values::Bytes(pieces), _) => Arc::new(pieces.finish()),
        }
    }
}

/// Makes room for so many times as much as there is, behind it.
pub(super) fn reserve<T>(values: &mut Vec<T>, times: usize) {
    values.reserve(values.len().saturating_mul(times));
}

/// Which values are NULL. Those that are not are mostly many, one behind the other, and are taken together.
struct Validity {
    nulls: NullBufferBuilder,
    /// How many that are not NULL the builder has not been told of.
    valid: usize,
}

impl Validity {
    fn with_room(rows: usize) -> Self {
        Self { nulls: NullBufferBuilder::new(rows), valid: 0 }
    }

    fn len(&self) -> usize {
        self.nulls.len() + self.valid
    }

    #[inline]
    fn append(&mut self, is_valid: bool) {
        if is_valid {
            self.valid += 1;
        } else {
            self.settle().append_null();
        }
    }

    fn settle(&mut self) -> &mut NullBufferBuilder {
        self.nulls.append_n_non_nulls(std::mem::take(&mut self.valid));
        &mut self.nulls
    }

    fn truncate(&mut self, values: usize) {
        self.settle().truncate(values);
    }

    fn finish(&mut self) -> Option<NullBuffer> {
        self.settle().finish()
    }
}

/// Booleans.
struct Flags {
    values: BooleanBufferBuilder,
    nulls: Validity,
}

impl Flags {
    fn with_room(rows: usize) -> Self {
        Self { values: BooleanBufferBuilder::new(rows), nulls: Validity::with_room(rows) }
    }

    fn append<'a>(&mut self, fields: impl Iterator<Item = Option<&'a [u8]>>) -> Result<(), Refused> {
        for (at, field) in fields.enumerate() {
            let value = field.map(value::boolean).transpose().map_err(|error| Refused::new(at, error))?;
            self.nulls.append(value.is_some());
            self.values.append(value.unwrap_or(false));
        }
        Ok(())
    }

    fn truncate(&mut self, values: usize) {
        self.values.truncate(values);
        self.nulls.truncate(values);
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(BooleanArray::new(self.values.finish(), self.nulls.finish()))
    }
}

/// Values of fixed size.
struct Numbers<T> {
    values: Vec<T>,
    nulls: Validity,
}

impl<T: ArrowNativeType> Numbers<T> {
    fn with_room(rows: usize) -> Self {
        Self { values: Vec::with_capacity(rows), nulls: Validity::with_room(rows) }
    }

    #[inline]
    fn append<'a, const SIZE: usize>(
        &mut self,
        fields: impl Iterator<Item = Option<&'a [u8]>>,
        read: impl Fn([u8; SIZE]) -> Result<T, ValueError>,
    ) -> Result<(), Refused> {
        self.values.reserve(fields.size_hint().0);
        for (at, field) in fields.enumerate() {
            match field {
                Some(bytes) => {
                    let value = value::fixed(bytes).and_then(&read);
                    self.values.push(value.map_err(|error| Refused::new(at, error))?);
                }
                None => {
                    self.values.push(T::default());
                }
            }
            self.nulls.append(field.is_some());
        }
        Ok(())
    }

    fn truncate(&mut self, values: usize) {
        self.values.truncate(values);
        self.nulls.truncate(values);
    }

    fn finish<A: ArrowPrimitiveType<Native = T>>(&mut self) -> PrimitiveArray<A> {
        PrimitiveArray::new(ScalarBuffer::from(std::mem::take(&mut self.values)), self.nulls.finish())
    }
}

/// Values that differ in length, one behind the other.
struct Pieces {
    bytes: Vec<u8>,
    /// Where each of them ends, behind a zero.
    ends: Vec<i32>,
    nulls: Validity,
}

impl Pieces {
    fn with_room(rows: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { bytes: Vec::with_capacity(bytes), ends, nulls: Validity::with_room(rows) }
    }

    /// `put` adds a value's bytes; what it added of one that it refuses goes.
    #[inline]
    fn append<'a>(
        &mut self,
        fields: impl Iterator<Item = Option<&'a [u8]>>,
        put: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), ValueError>,
    ) -> Result<(), Refused> {
        self.ends.reserve(fields.size_hint().0);
        for (at, field) in fields.enumerate() {
            let begin = self.bytes.len();
            let put = field.map_or(Ok(()), |bytes| put(bytes, &mut self.bytes));
            match put.and_then(|()| i32::try_from(self.bytes.len()).map_err(|_| ValueError::TooLong)) {
                Ok(end) => self.ends.push(end),
                Err(error) => {
                    self.bytes.truncate(begin);
                    return Err(Refused::new(at, error));
                }
            }
            self.nulls.append(field.is_some());
        }
        Ok(())
    }

    fn get(&self, at: usize) -> &[u8] {
        let end = |at: usize| self.ends.get(at).and_then(|end| usize::try_from(*end).ok());
        end(at).zip(end(at + 1)).and_then(|(from, upto)| self.bytes.get(from..upto)).unwrap_or_default()
    }

    fn truncate(&mut self, values: usize) {
        self.ends.truncate(values + 1);
        let end = self.ends.last().and_then(|end| usize::try_from(*end).ok());
        self.bytes.truncate(end.unwrap_or(0));
        self.nulls.truncate(values);
    }

    fn finish(&mut self) -> BinaryArray {
        let ends = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(&mut self.ends, vec![0])));
        let bytes = Buffer::from_vec(std::mem::take(&mut self.bytes));
        BinaryArray::new(ends, bytes, self.nulls.finish())
    }

    /// That it is text is asked once of all the bytes, which is far quicker than value by value.
    fn finish_text(&mut self, not_text: &mut dyn FnMut(usize, &[u8])) -> ArrayRef {
        let all = self.finish();
        let (ends, bytes, nulls) = (all.offsets().clone(), all.values().clone(), all.nulls().cloned());
        if let Ok(texts) = StringArray::try_new(ends, bytes, nulls) {
            return Arc::new(texts);
        }
        let texts = all.iter().enumerate().map(|(at, value)| {
            let text = value.map(std::str::from_utf8)?;
            text.inspect_err(|_| not_text(at, value.unwrap_or_default())).ok()
        });
        Arc::new(texts.collect::<StringArray>())
    }
}
