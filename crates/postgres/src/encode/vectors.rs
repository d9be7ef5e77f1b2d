//! pgvector's types and bit strings in their binary forms, out of lists, JSON arrays and their own notations.

use super::elements::elements_of;
use super::wire::{Wire, shown};
use crate::value::sparse_text;
use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::{Float16Type, Float32Type};
use bytes::{BufMut as _, BytesMut};
use std::borrow::Cow;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::cell::{Cell, cell};

/// What a vector takes, of either precision.
const MOST_DIMENSIONS: usize = 16_000;
/// What a sparse vector takes.
const MOST_SPARSE_DIMENSIONS: u32 = 1_000_000_000;
/// How many of its elements may be something else than zero.
const MOST_NON_ZEROS: usize = 16_000;
/// Why a value among the elements is none of a vector's.
fn no_float(what: impl std::fmt::Display, at: usize) -> String {
    format!("holds {what} as element {}, which a vector does not take", at + 1)
}

/// A half-precision float; Arrow brings it along.
type Half = <Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native;

/// The floats of a value, all of them finite; borrowed where they lie one behind the other.
fn floats<'a>(value: Cell<'a>) -> Result<Cow<'a, [f32]>, String> {
    let all: Cow<'a, [f32]> = match value {
        Cell::List { values, start, end } => match values.as_primitive_opt::<Float32Type>() {
            Some(array) if array.null_count() == 0 => {
                Cow::Borrowed(array.values().get(start..end).unwrap_or_default())
            }
            _ => {
                let element = |at: usize| float(cell(values, at), at - start);
                (start..end).map(element).collect::<Result<Vec<_>, _>>()?.into()
            }
        },
        Cell::Text(text) => {
            let texts = elements_of(text)?;
            // A vector's element is the nearest single float, as PostgreSQL reads it.
            let element = |(at, text): (usize, &Option<_>)| {
                let text: &str = text.as_deref().ok_or_else(|| no_float("NULL", at))?;
                text.trim().parse::<f32>().map_err(|_| no_float(shown(text), at))
            };
            texts.iter().enumerate().map(element).collect::<Result<Vec<_>, _>>()?.into()
        }
        _ => return Err("is no list of numbers".to_owned()),
    };
    // All are looked at, without a branch for each: that is many at a time.
    if all.iter().fold(true, |are_finite, float| are_finite & float.is_finite()) {
        return Ok(all);
    }
    match all.iter().position(|float| !float.is_finite()) {
        None => Ok(all),
        Some(at) => Err(no_float(all[at], at)),
    }
}

fn float(value: Cell<'_>, at: usize) -> Result<f32, String> {
    let mut bytes = BytesMut::new();
    let is_value = Wire::Float4.put_cell(value, &mut bytes, &mut Canonical::default())?;
    let float = bytes.first_chunk::<4>().map(|bytes| f32::from_be_bytes(*bytes));
    float.filter(|_| is_value).ok_or_else(|| no_float("NULL", at))
}

/// Appends the head of a vector, once its number of dimensions is right.
fn put_head(count: usize, dimensions: Option<usize>, out: &mut BytesMut) -> Result<(), String> {
    if let Some(dimensions) = dimensions.filter(|dimensions| *dimensions != count) {
        return Err(format!("has {count} dimensions, the column has {dimensions}"));
    }
    let head = u16::try_from(count).ok().filter(|_| (1..=MOST_DIMENSIONS).contains(&count));
    let head =
        head.ok_or_else(|| format!("has {count} dimensions, a vector takes 1 to {MOST_DIMENSIONS}"))?;
    out.put_u16(head);
    out.put_u16(0);
    Ok(())
}

/// Appends a vector of single floats.
pub(super) fn put_vector(
    value: Cell<'_>,
    dimensions: Option<usize>,
    out: &mut BytesMut,
    canonical: &mut Canonical,
) -> Result<(), String> {
    let floats = floats(value)?;
    put_head(floats.len(), dimensions, out)?;
    let start = out.len();
    out.resize(start + floats.len() * 4, 0);
    // Into room that is there: one call for each would look for room each time.
    let (places, _) = out[start..].as_chunks_mut::<4>();
    for (place, float) in places.iter_mut().zip(floats.iter()) {
        *place = float.to_be_bytes();
    }
    canonical.vector(&floats);
    Ok(())
}

/// Appends a vector of half-precision floats, each the nearest to what is given.
pub(super) fn put_half_vector(
    value: Cell<'_>,
    dimensions: Option<usize>,
    out: &mut BytesMut,
    canonical: &mut Canonical,
) -> Result<(), String> {
    let floats = floats(value)?;
    put_head(floats.len(), dimensions, out)?;
    let mut kept = Vec::with_capacity(floats.len());
    for float in floats.iter() {
        let half = Half::from_f32(*float);
        if !half.is_finite() {
            return Err(format!("holds {float}, out of the range of a half-precision float"));
        }
        out.put_u16(half.to_bits());
        kept.push(half.to_f32());
    }
    canonical.vector(&kept);
    Ok(())
}

/// Appends a sparse vector: `{1:0.5,3:2}/5`, where counting begins with 1, or a list of all its elements.
pub(super) fn put_sparse_vector(
    value: Cell<'_>,
    dimensions: Option<usize>,
    out: &mut BytesMut,
    canonical: &mut Canonical,
) -> Result<(), String> {
    let (count, mut elements) = match value {
        Cell::Text(text) if text.trim_start().starts_with('{') && text.contains('/') => sparse_of(text)?,
        value => {
            let floats = floats(value)?;
            let count = u32::try_from(floats.len()).map_err(|_| "is too long a list".to_owned())?;
            (count, (0..).zip(floats.iter().copied()).collect())
        }
    };
    elements.retain(|(_, float)| *float != 0.0);
    if let Some(dimensions) = dimensions.filter(|dimensions| u32::try_from(*dimensions) != Ok(count)) {
        return Err(format!("has {count} dimensions, the column has {dimensions}"));
    }
    if !(1..=MOST_SPARSE_DIMENSIONS).contains(&count) || elements.len() > MOST_NON_ZEROS {
        let found = elements.len();
        return Err(format!(
            "has {count} dimensions and {found} elements that are not zero; a sparse vector takes {MOST_SPARSE_DIMENSIONS} \
             and {MOST_NON_ZEROS}"
        ));
    }
    out.put_u32(count);
    out.put_u32(u32::try_from(elements.len()).unwrap_or(0));
    out.put_u32(0);
    elements.iter().for_each(|(index, _)| out.put_u32(*index));
    elements.iter().for_each(|(_, float)| out.put_f32(*float));
    canonical.list(elements.len() + 1);
    canonical.number(&count.to_string());
    for (index, float) in &elements {
        canonical.list(2);
        canonical.number(&index.to_string());
        canonical.vector(&[*float]);
    }
    Ok(())
}

/// A sparse vector's text as we write it, whoever wrote it; `None`: it is none.
pub(crate) fn plain_sparse(text: &str) -> Option<String> {
    let (dimensions, elements) = sparse_of(text).ok()?;
    Some(sparse_text(dimensions, elements))
}

/// The dimensions and elements of `{1:0.5,3:2}/5`, counted from zero, in order.
fn sparse_of(text: &str) -> Result<(u32, Vec<(u32, f32)>), String> {
    let wrong = || format!("is {}, which is no sparse vector", shown(text));
    let (elements, count) = text.trim().rsplit_once('/').ok_or_else(wrong)?;
    let count = count.trim().parse::<u32>().map_err(|_| wrong())?;
    let inner = elements.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let inner = inner.ok_or_else(wrong)?.trim();
    let element = |part: &str| {
        let (index, float) = part.split_once(':')?;
        let index = index.trim().parse::<u32>().ok().filter(|index| (1..=count).contains(index))?;
        let float = float.trim().parse::<f32>().ok().filter(|float| float.is_finite())?;
        Some((index - 1, float))
    };
    let parts = inner.split(',').filter(|_| !inner.is_empty());
    let mut elements = parts.map(element).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
    elements.sort_unstable_by_key(|(index, _)| *index);
    if elements.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(format!("is {}, which names one element twice", shown(text)));
    }
    Ok((count, elements))
}

/// Appends a bit string, `0101`; `canonical` is filled by the type's meaning.
pub(super) fn put_bits(bits: &str, out: &mut BytesMut) -> Result<(), String> {
    if let Some(other) = bits.chars().find(|char| !matches!(char, '0' | '1')) {
        return Err(format!("holds {other:?}, and a bit string takes 0 and 1"));
    }
    let count = i32::try_from(bits.len()).map_err(|_| "is too long a bit string".to_owned())?;
    out.put_i32(count);
    for eight in bits.as_bytes().chunks(8) {
        let byte = eight.iter().enumerate();
        out.put_u8(byte.fold(0, |byte, (at, bit)| byte | u8::from(*bit == b'1') << (7 - at)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float32Array, Float64Array};
    use std::sync::Arc;

    type Put = fn(Cell<'_>, Option<usize>, &mut BytesMut, &mut Canonical) -> Result<(), String>;

    fn put(put: Put, value: Cell<'_>, dimensions: Option<usize>) -> Result<(Vec<u8>, Vec<u8>), String> {
        let (mut out, mut canonical) = (BytesMut::new(), Canonical::default());
        put(value, dimensions, &mut out, &mut canonical)?;
        Ok((out.to_vec(), canonical.bytes().to_vec()))
    }

    fn list(values: &ArrayRef) -> Cell<'_> {
        Cell::List { values, start: 0, end: values.len() }
    }

    #[test]
    fn floats_keep_their_bits_whatever_they_come_as() {
        let singles: ArrayRef = Arc::new(Float32Array::from(vec![1.0, -0.0, f32::MIN_POSITIVE / 2.0]));
        let (bytes, canonical) = put(put_vector, list(&singles), Some(3)).unwrap();
        assert_eq!(bytes[..8], [0, 3, 0, 0, 0x3f, 0x80, 0, 0]);
        assert_eq!(bytes[8..], [0x80, 0, 0, 0, 0, 0x40, 0, 0]);
        let text = put(put_vector, Cell::Text("[1, -0.0, 5.877471754111438e-39]"), None).unwrap();
        assert_eq!(text, (bytes, canonical));
        // Doubles go there only where the loss is allowed: each is the nearest single float.
        let doubles: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 0.1]));
        let singles: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 0.1]));
        assert_eq!(put(put_vector, list(&doubles), None), put(put_vector, list(&singles), None));
    }

    #[test]
    fn long_vectors_keep_every_bit_and_every_place() {
        let floats: Vec<f32> =
            (0..1_027_u32).map(|n| f32::from_bits(n.wrapping_mul(2_654_435_761))).collect();
        let floats: Vec<f32> =
            floats.into_iter().map(|float| if float.is_finite() { float } else { 0.5 }).collect();
        let values: ArrayRef = Arc::new(Float32Array::from(floats.clone()));
        let (bytes, canonical) = put(put_vector, list(&values), Some(1_027)).unwrap();
        let expected: Vec<u8> = floats.iter().flat_map(|float| float.to_bits().to_be_bytes()).collect();
        assert_eq!((&bytes[..4], &bytes[4..]), (&[4, 3, 0, 0][..], &expected[..]));
        assert_eq!((&canonical[..5], &canonical[5..]), (&[13, 0, 0, 4, 3][..], &expected[..]));
        // A part of an array begins where it begins.
        let part = Cell::List { values: &values, start: 1_000, end: 1_003 };
        assert_eq!(put(put_vector, part, None).unwrap().0[4..], expected[4_000..4_012]);
        for at in [0, 511, 1_026] {
            let mut bad = floats.clone();
            bad[at] = f32::NAN;
            let bad: ArrayRef = Arc::new(Float32Array::from(bad));
            let refused = put(put_vector, list(&bad), None).unwrap_err();
            assert!(refused.contains(&format!("holds NaN as element {}", at + 1)), "{refused}");
        }
    }

    #[test]
    fn what_a_vector_does_not_take_is_said() {
        let with = |float: f32| -> ArrayRef { Arc::new(Float32Array::from(vec![1.0, float])) };
        for (float, said) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
            let refused = put(put_vector, list(&with(float)), None).unwrap_err();
            assert!(refused.contains(&format!("holds {said} as element 2")), "{refused}");
        }
        let nulls: ArrayRef = Arc::new(Float32Array::from(vec![Some(1.0), None]));
        assert!(put(put_vector, list(&nulls), None).unwrap_err().contains("NULL"));
        let two = with(2.0);
        assert!(
            put(put_vector, list(&two), Some(3)).unwrap_err().contains("has 2 dimensions, the column has 3")
        );
        let none: ArrayRef = Arc::new(Float32Array::from(Vec::<f32>::new()));
        assert!(put(put_vector, list(&none), None).unwrap_err().contains("1 to 16000"));
        let large = with(70_000.0);
        assert!(put(put_half_vector, list(&large), None).unwrap_err().contains("half-precision"));
    }

    #[test]
    fn halves_are_rounded_and_their_form_is_what_is_held() {
        let exact: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 0.099_975_586]));
        let rounded: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 0.1]));
        let (bytes, canonical) = put(put_half_vector, list(&exact), Some(2)).unwrap();
        assert_eq!(bytes, [0, 2, 0, 0, 0x38, 0, 0x2e, 0x66]);
        assert_eq!(put(put_half_vector, list(&rounded), Some(2)).unwrap(), (bytes, canonical));
    }

    #[test]
    fn sparse_vectors_of_either_notation_are_one() {
        let dense: ArrayRef = Arc::new(Float32Array::from(vec![0.5, 0.0, 2.0, -0.0, 0.0]));
        let (bytes, canonical) = put(put_sparse_vector, list(&dense), Some(5)).unwrap();
        assert_eq!(bytes[..12], [0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!(bytes[12..20], [0, 0, 0, 0, 0, 0, 0, 2]);
        let text = put(put_sparse_vector, Cell::Text("{3:2, 1:0.5}/5"), None).unwrap();
        assert_eq!(text, (bytes, canonical));
        assert!(put(put_sparse_vector, Cell::Text("{}/3"), Some(3)).is_ok());
        for wrong in ["{0:1}/3", "{4:1}/3", "{1:1,1:2}/3", "{1:nan}/3", "{1}/3", "{1:1}/x"] {
            assert!(put(put_sparse_vector, Cell::Text(wrong), None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bits_are_packed_from_the_left() {
        let mut out = BytesMut::new();
        put_bits("1010000011", &mut out).unwrap();
        assert_eq!(out[..], [0, 0, 0, 10, 0b1010_0000, 0b1100_0000]);
        assert!(put_bits("012", &mut BytesMut::new()).is_err());
    }
}
