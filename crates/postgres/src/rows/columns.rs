//! Values of a column, arrays and vectors among them.

use super::scalars::{self, Refused, ScalarBuilder};
use crate::types::{ColumnType, Precision, Scalar};
use crate::value::{self, ValueError};
use arrow::array::{ArrayRef, Float32Array, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use std::sync::Arc;

/// Collects values of one column until they are taken as an array.
pub(super) enum ColumnBuilder {
    Scalar(ScalarBuilder),
    List {
        element: Scalar,
        elements: ScalarBuilder,
        lists: Lists,
    },
    /// `last`: how many elements the last batch had; the next one gets room for as many.
    Vector {
        precision: Precision,
        elements: Vec<f32>,
        lists: Lists,
        last: usize,
    },
}

/// Where lists end, and which of them are NULL.
pub(super) struct Lists {
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

    /// Takes a list of so many elements.
    fn append(&mut self, count: usize) -> Result<(), ValueError> {
        let end = i32::try_from(count).ok().and_then(|count| self.end().checked_add(count));
        self.ends.push(end.ok_or(ValueError::TooLong)?);
        self.valid.push(true);
        Ok(())
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
    pub(super) fn new(column_type: ColumnType, rows: usize) -> Self {
        match column_type {
            ColumnType::Scalar(scalar) => Self::Scalar(ScalarBuilder::new(scalar, rows)),
            ColumnType::List(element) => {
                Self::List { element, elements: ScalarBuilder::new(element, rows), lists: Lists::new() }
            }
            ColumnType::Vector(precision) => {
                Self::Vector { precision, elements: Vec::new(), lists: Lists::new(), last: 0 }
            }
        }
    }

    /// Makes room for so many times as much as there is, behind it.
    pub(super) fn reserve(&mut self, times: usize) {
        match self {
            Self::Scalar(builder) => builder.reserve(times),
            Self::List { elements, .. } => elements.reserve(times),
            Self::Vector { elements, .. } => scalars::reserve(elements, times),
        }
    }

    pub(super) fn append_null(&mut self) {
        match self {
            Self::Scalar(builder) => builder.append_null(),
            Self::List { lists, .. } | Self::Vector { lists, .. } => lists.append_null(),
        }
    }

    /// Decodes values and takes them, `None` for NULL.
    pub(super) fn append<'a>(
        &mut self,
        fields: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Result<(), Refused> {
        match self {
            Self::Scalar(builder) => builder.append(fields),
            Self::List { elements, lists, .. } => {
                append_each(lists, fields, |lists, bytes| append_list(elements, lists, bytes))
            }
            Self::Vector { precision, elements, lists, last } => {
                elements.reserve(std::mem::take(last));
                append_each(lists, fields, |lists, bytes| {
                    let floats = value::vector(*precision, bytes)?;
                    lists.append(floats.len())?;
                    elements.extend(floats);
                    Ok(())
                })
            }
        }
    }

    /// The values as an array; there are none afterwards. `not_text` is told of each that is to be text and is
    /// not; NULL stands for it.
    pub(super) fn finish(&mut self, not_text: &mut dyn FnMut(usize, &[u8])) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::Scalar(builder) => Ok(builder.finish(not_text)),
            // Of elements it has been asked already.
            Self::List { element, elements, lists } => {
                lists.finish(*element, elements.finish(&mut |_, _| {}))
            }
            Self::Vector { elements, lists, last, .. } => {
                *last = elements.len() + elements.len() / 16;
                let floats = Float32Array::from(std::mem::take(elements));
                lists.finish(Scalar::Float4, Arc::new(floats))
            }
        }
    }
}

fn append_each<'a>(
    lists: &mut Lists,
    fields: impl Iterator<Item = Option<&'a [u8]>>,
    mut append: impl FnMut(&mut Lists, &[u8]) -> Result<(), ValueError>,
) -> Result<(), Refused> {
    for (at, field) in fields.enumerate() {
        match field {
            None => lists.append_null(),
            Some(bytes) => append(lists, bytes).map_err(|error| Refused::new(at, error))?,
        }
    }
    Ok(())
}

/// An element that is refused takes the whole list with it.
fn append_list(elements: &mut ScalarBuilder, lists: &mut Lists, bytes: &[u8]) -> Result<(), ValueError> {
    let mut values = value::elements(bytes)?;
    let (first, count) = (elements.len(), values.len());
    let mut cut_short = Ok(());
    let fields = std::iter::from_fn(|| {
        values.next().unwrap_or_else(|error| {
            cut_short = Err(error);
            None
        })
    });
    let appended = elements.append(fields).map_err(|refused| refused.error);
    let taken =
        appended.and(cut_short).and_then(|()| elements.check_text(first)).and_then(|()| lists.append(count));
    if taken.is_err() {
        elements.truncate(first);
    }
    taken
}
