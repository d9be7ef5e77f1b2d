//! One value out of PostgreSQL's binary form.

use crate::types::{Precision, Scalar};
use whimbrel_model::piece::{Room, SHORT_BYTES, append_first};

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's dates begin.
const EPOCH_DAYS: i32 = 10_957;
/// Microseconds from 1970-01-01 to 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueError {
    /// The bytes are not what the protocol says.
    Malformed(&'static str),
    /// The value is right, and Arrow has no place for it.
    Unreadable(&'static str),
    /// The value is right, and the array has no room left for it.
    TooLong,
}

use ValueError::{Malformed, Unreadable};

/// What is not UTF-8.
pub(crate) const NOT_TEXT: ValueError = Unreadable("the text is not valid UTF-8");

/// Appends the text that stands for a value of one of the types that are read as text. What it appends is UTF-8, but
/// for `Text` and `Json`, which are appended as they came. After an error some of it may have been appended.
pub(crate) fn put_text(scalar: Scalar, bytes: &[u8], into: &mut Vec<u8>) -> Result<(), ValueError> {
    match scalar {
        Scalar::TextAsJson => into.extend_from_slice(json(bytes)?.as_bytes()),
        Scalar::Jsonb => match bytes {
            [1, json @ ..] => into.extend_from_slice(text(json)?.as_bytes()),
            _ => return Err(Malformed("jsonb of another version than 1")),
        },
        Scalar::Char => put_char(fixed::<1>(bytes)?, into),
        Scalar::Uuid => put_uuid(fixed(bytes)?, into),
        Scalar::Numeric => put_numeric(bytes, into)?,
        Scalar::Bits => put_bits(bytes, into)?,
        Scalar::SparseVector => put_sparse_vector(bytes, into)?,
        Scalar::VectorText(precision) => {
            let floats: Vec<_> = vector(precision, bytes)?.map(|float| float.to_string()).collect();
            into.extend_from_slice(format!("[{}]", floats.join(",")).as_bytes());
        }
        Scalar::Text | Scalar::Json => into.extend_from_slice(bytes),
        Scalar::Bool
        | Scalar::Int2
        | Scalar::Int4
        | Scalar::Int8
        | Scalar::Oid
        | Scalar::Float4
        | Scalar::Float8
        | Scalar::Bytea
        | Scalar::Date
        | Scalar::Time
        | Scalar::Timestamp
        | Scalar::TimestampTz => return Err(Malformed("a value of this type is not read as text")),
    }
    Ok(())
}

/// The text of a value of a type that can be the key of slices; `None`: it is of another type, or broken.
pub(crate) fn key_text(scalar: Scalar, bytes: &[u8]) -> Option<String> {
    match scalar {
        Scalar::Int2 => fixed(bytes).ok().map(|bytes| i16::from_be_bytes(bytes).to_string()),
        Scalar::Int4 => fixed(bytes).ok().map(|bytes| i32::from_be_bytes(bytes).to_string()),
        Scalar::Int8 => fixed(bytes).ok().map(|bytes| i64::from_be_bytes(bytes).to_string()),
        Scalar::Oid => fixed(bytes).ok().map(|bytes| u32::from_be_bytes(bytes).to_string()),
        _ => {
            let mut text = Vec::new();
            put_text(scalar, bytes, &mut text).ok()?;
            String::from_utf8(text).ok()
        }
    }
}

pub(crate) fn boolean(bytes: &[u8]) -> Result<bool, ValueError> {
    match bytes {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Malformed("a boolean is not one byte of 0 or 1")),
    }
}

/// How many bits there are, then the bits from the left.
fn put_bits(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), ValueError> {
    const WRONG: ValueError = Malformed("a bit string has another length than it says");
    let (count, packed) = bytes.split_first_chunk::<4>().ok_or(WRONG)?;
    let count = usize::try_from(i32::from_be_bytes(*count)).map_err(|_| WRONG)?;
    if packed.len() != count.div_ceil(8) {
        return Err(WRONG);
    }
    let is_set = |at: usize| packed[at / 8] & (0x80 >> (at % 8)) != 0;
    into.extend((0..count).map(|at| if is_set(at) { b'1' } else { b'0' }));
    Ok(())
}

/// As `dimensions, elements, unused`, the elements' places from zero, and their floats.
fn put_sparse_vector(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), ValueError> {
    const WRONG: ValueError = Malformed("a sparse vector has another length than it says");
    let mut words = bytes.chunks_exact(4).map(|word| word.try_into().unwrap_or_default());
    let mut word = || words.next().map(u32::from_be_bytes).ok_or(WRONG);
    let (dimensions, count, _unused) = (word()?, word()?, word()?);
    let count = usize::try_from(count).map_err(|_| WRONG)?;
    if Some(bytes.len()) != count.checked_mul(8).and_then(|size| size.checked_add(12)) {
        return Err(WRONG);
    }
    let places = (0..count).map(|_| word()).collect::<Result<Vec<_>, _>>()?;
    let floats = (0..count).map(|_| word().map(f32::from_bits)).collect::<Result<Vec<_>, _>>()?;
    into.extend_from_slice(sparse_text(dimensions, places.into_iter().zip(floats)).as_bytes());
    Ok(())
}

/// A sparse vector in its own notation, `{1:0.5,3:2}/5`; places are counted from zero.
pub(crate) fn sparse_text(dimensions: u32, elements: impl IntoIterator<Item = (u32, f32)>) -> String {
    let elements = elements.into_iter().map(|(place, float)| format!("{}:{float}", u64::from(place) + 1));
    format!("{{{}}}/{dimensions}", elements.collect::<Vec<_>>().join(","))
}

#[inline]
pub(crate) fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ValueError> {
    bytes.try_into().map_err(|_| Malformed("a value of fixed size has another size"))
}

#[inline]
pub(crate) fn text(bytes: &[u8]) -> Result<&str, ValueError> {
    std::str::from_utf8(bytes).map_err(|_| NOT_TEXT)
}

fn json(bytes: &[u8]) -> Result<&str, ValueError> {
    match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        Ok(_) => text(bytes),
        Err(_) => Err(Unreadable("the text is no JSON document")),
    }
}

/// As PostgreSQL 16 writes it: a byte above 127 as `\ooo`, zero as nothing.
fn put_char([byte]: [u8; 1], into: &mut Vec<u8>) {
    match byte {
        0 => {}
        1..=127 => into.push(byte),
        _ => into.extend([b'\\', octal(byte >> 6), octal(byte >> 3), octal(byte)]),
    }
}

fn octal(byte: u8) -> u8 {
    b'0' + (byte & 7)
}

fn put_uuid(bytes: [u8; 16], into: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    into.extend_from_slice(&text);
}

pub(crate) fn date(days: i32) -> Result<i32, ValueError> {
    match days {
        i32::MAX | i32::MIN => Ok(days),
        _ => days
            .checked_add(EPOCH_DAYS)
            .filter(|days| *days != i32::MAX)
            .ok_or(Unreadable("the date lies outside of a 32-bit count of days")),
    }
}

#[inline]
pub(crate) fn timestamp(micros: i64) -> Result<i64, ValueError> {
    match micros {
        i64::MAX | i64::MIN => Ok(micros),
        // The last count stands for infinity and cannot stand for a moment too.
        _ => micros
            .checked_add(EPOCH_US)
            .filter(|micros| *micros != i64::MAX)
            .ok_or(Unreadable("the timestamp lies outside of a 64-bit count of microseconds from 1970")),
    }
}

const NUMERIC_NEGATIVE: u16 = 0x4000;
const NUMERIC_NAN: u16 = 0xC000;
const NUMERIC_INFINITY: u16 = 0xD000;
const NUMERIC_MINUS_INFINITY: u16 = 0xF000;

/// `ndigits, weight, sign, dscale`, then digits to the base of 10,000; the first stands for
/// 10,000 to the power of `weight`, and `dscale` decimals are shown.
pub(crate) fn put_numeric(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), ValueError> {
    let (header, digits) =
        bytes.split_first_chunk::<8>().ok_or(Malformed("a numeric is shorter than its header"))?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (count, sign, scale) = (usize::from(word(0)), word(4), usize::from(word(6)));
    let weight = i32::from(i16::from_be_bytes([header[2], header[3]]));
    if digits.len() != count * 2 {
        return Err(Malformed("a numeric has another number of digits than it says"));
    }
    let no_number = match sign {
        0 | NUMERIC_NEGATIVE => None,
        NUMERIC_NAN => Some("NaN"),
        NUMERIC_INFINITY => Some("Infinity"),
        NUMERIC_MINUS_INFINITY => Some("-Infinity"),
        _ => return Err(Malformed("a numeric has an unknown sign")),
    };
    if let Some(name) = no_number {
        into.extend_from_slice(name.as_bytes());
        return Ok(());
    }
    let (digits, _) = digits.as_chunks::<2>();
    if digits.iter().any(|digit| u16::from_be_bytes(*digit) > 9999) {
        return Err(Malformed("a numeric digit is above 9999"));
    }
    if sign == NUMERIC_NEGATIVE {
        into.push(b'-');
    }
    put_decimals(digits, weight, scale, into);
    Ok(())
}

/// Digits to the base of 10,000 as decimal ones, `scale` of them behind the point.
fn put_decimals(digits: &[[u8; 2]], weight: i32, scale: usize, text: &mut Vec<u8>) {
    // A place before the first digit or after the last one holds zero.
    let digit = |power: i32| {
        let index = usize::try_from(i64::from(weight) - i64::from(power)).ok();
        index.and_then(|index| digits.get(index)).map_or(0, |digit| u16::from_be_bytes(*digit))
    };
    let whole = (weight >= 0 && !digits.is_empty()).then_some(weight);
    let groups = whole.and_then(|weight| usize::try_from(weight).ok()).map_or(1, |weight| weight + 1);
    // The last digits behind the point are put with those that are cut off again.
    let most = 4 * groups + 1 + scale + 3;
    if most <= SHORT_BYTES {
        let mut short = [0; SHORT_BYTES];
        let length = fill_decimals(digit, whole, scale, Room::behind(&mut short, 0));
        return append_first(text, &short, length);
    }
    let start = text.len();
    text.resize(start + most, 0);
    let length = fill_decimals(digit, whole, scale, Room::behind(text, start));
    text.truncate(length);
}

/// The same where there is room for them; without a `weight` there are none before the point. Answers with where they end.
#[inline]
fn fill_decimals(digit: impl Fn(i32) -> u16, weight: Option<i32>, scale: usize, mut room: Room<'_>) -> usize {
    match weight {
        None => room.first(b"0", 1),
        Some(weight) => {
            let (first, count) = first_four(digit(weight));
            room.first(&first, count);
            (0..weight).rev().for_each(|power| room.first(&four(digit(power)), 4));
        }
    }
    if scale == 0 {
        return room.filled();
    }
    room.first(b".", 1);
    let end = room.filled() + scale;
    let mut power = -1;
    while room.filled() < end {
        room.first(&four(digit(power)), 4);
        power -= 1;
    }
    end
}

/// The digits without the zeros before them, but for the last, and how many they are.
#[inline]
fn first_four(digit: u16) -> ([u8; 4], usize) {
    let zeros = match digit {
        0..10 => 3,
        10..100 => 2,
        100..1000 => 1,
        _ => 0,
    };
    let digits = u32::from_be_bytes(four(digit)) << (8 * zeros);
    (digits.to_be_bytes(), 4 - zeros)
}

/// Four decimal digits. Formatting by `write!` would cost more than all the rest of a numeric.
#[inline]
fn four(digit: u16) -> [u8; 4] {
    let decimal = |power: u16| b'0' + u8::try_from(digit / power % 10).unwrap_or(0);
    [decimal(1000), decimal(100), decimal(10), decimal(1)]
}

/// The floats of a vector, as `dimensions, unused` and then each of them.
pub(crate) fn vector(
    precision: Precision,
    bytes: &[u8],
) -> Result<impl ExactSizeIterator<Item = f32>, ValueError> {
    let (header, floats) =
        bytes.split_first_chunk::<4>().ok_or(Malformed("a vector is shorter than its header"))?;
    let dimensions = usize::from(u16::from_be_bytes([header[0], header[1]]));
    let size = match precision {
        Precision::Single => 4,
        Precision::Half => 2,
    };
    if floats.len() != dimensions * size {
        return Err(Malformed("a vector has another number of dimensions than it says"));
    }
    Ok(floats.chunks_exact(size).map(|float| match *float {
        [a, b, c, d] => f32::from_be_bytes([a, b, c, d]),
        [a, b] => Half::from_be_bytes([a, b]).to_f32(),
        _ => f32::NAN,
    }))
}

/// A half-precision float; Arrow brings it along.
type Half = <arrow::datatypes::Float16Type as arrow::datatypes::ArrowPrimitiveType>::Native;

/// The elements of an array, one by one, `None` for NULL.
#[derive(Clone, Debug)]
pub(crate) struct Elements<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Elements<'a> {
    /// How many are still to come.
    pub(crate) fn len(&self) -> usize {
        self.left
    }

    /// The next one; the outer `None`: there is none left.
    pub(crate) fn next(&mut self) -> Result<Option<Option<&'a [u8]>>, ValueError> {
        if self.left == 0 {
            return if self.rest.is_empty() {
                Ok(None)
            } else {
                Err(Malformed("an array is followed by other bytes"))
            };
        }
        self.left -= 1;
        let length = match take_i32(&mut self.rest)? {
            -1 => return Ok(Some(None)),
            length => {
                usize::try_from(length).map_err(|_| Malformed("an array element has a negative length"))?
            }
        };
        let (element, rest) =
            self.rest.split_at_checked(length).ok_or(Malformed("an array element is cut short"))?;
        self.rest = rest;
        Ok(Some(Some(element)))
    }
}

/// Looks at the head of an array.
pub(crate) fn elements(bytes: &[u8]) -> Result<Elements<'_>, ValueError> {
    let mut rest = bytes;
    let dimensions = take_i32(&mut rest)?;
    let _has_nulls = take_i32(&mut rest)?;
    let _element_oid = take_i32(&mut rest)?;
    let count = match dimensions {
        0 if rest.is_empty() => return Ok(Elements { rest, left: 0 }),
        0 => return Err(Malformed("an empty array has elements")),
        1 => take_i32(&mut rest)?,
        2..=6 => return Err(Unreadable("an array of more than one dimension")),
        _ => return Err(Malformed("an array has an impossible number of dimensions")),
    };
    if take_i32(&mut rest)? != 1 {
        return Err(Unreadable("an array whose lower bound is not 1"));
    }
    // Each element has a length of four bytes at least, which bounds what a wrong count can make us reserve.
    let left = usize::try_from(count).ok().filter(|count| *count <= rest.len() / 4);
    let left = left.ok_or(Malformed("an array says to have more elements than it has bytes"))?;
    Ok(Elements { rest, left })
}

fn take_i32(rest: &mut &[u8]) -> Result<i32, ValueError> {
    let (word, after) = rest.split_first_chunk().ok_or(Malformed("an array is cut short"))?;
    *rest = after;
    Ok(i32::from_be_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Scalar; 23] = [
        Scalar::Bool,
        Scalar::Int2,
        Scalar::Int4,
        Scalar::Int8,
        Scalar::Oid,
        Scalar::Float4,
        Scalar::Float8,
        Scalar::Numeric,
        Scalar::Text,
        Scalar::Char,
        Scalar::Bytea,
        Scalar::Uuid,
        Scalar::Json,
        Scalar::TextAsJson,
        Scalar::Jsonb,
        Scalar::Date,
        Scalar::Time,
        Scalar::Timestamp,
        Scalar::TimestampTz,
        Scalar::Bits,
        Scalar::SparseVector,
        Scalar::VectorText(Precision::Single),
        Scalar::VectorText(Precision::Half),
    ];

    fn numeric_text(digits: &[u16], weight: i16, sign: u16, scale: u16) -> String {
        let count = u16::try_from(digits.len()).unwrap();
        let mut bytes = Vec::new();
        bytes.extend(count.to_be_bytes());
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(scale.to_be_bytes());
        digits.iter().for_each(|digit| bytes.extend(digit.to_be_bytes()));
        let mut text = Vec::new();
        put_numeric(&bytes, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn numerics_keep_digits_and_scale() {
        assert_eq!(numeric_text(&[], 0, 0, 0), "0");
        assert_eq!(numeric_text(&[], 0, 0, 3), "0.000");
        assert_eq!(numeric_text(&[1], 1, 0, 0), "10000");
        assert_eq!(numeric_text(&[900], 0, 0, 1), "900.0");
        assert_eq!(numeric_text(&[12, 3400], 0, NUMERIC_NEGATIVE, 2), "-12.34");
        assert_eq!(numeric_text(&[1], -2, 0, 8), "0.00000001");
        assert_eq!(numeric_text(&[1, 0, 5000], 1, 0, 5), "10000.50000");
        assert_eq!(numeric_text(&[], 0, NUMERIC_NAN, 0), "NaN");
        assert_eq!(numeric_text(&[], 0, NUMERIC_MINUS_INFINITY, 0), "-Infinity");
    }

    #[test]
    fn vectors_of_both_precisions() {
        let floats = |precision, bytes: &[u8]| vector(precision, bytes).map(Iterator::collect::<Vec<_>>);
        let single = [0, 2, 0, 0, 0x80, 0, 0, 0, 0x3f, 0xc0, 0, 0];
        assert_eq!(
            floats(Precision::Single, &single)
                .unwrap()
                .iter()
                .map(|float| float.to_bits())
                .collect::<Vec<_>>(),
            [(-0.0_f32).to_bits(), 1.5_f32.to_bits()]
        );
        let half = [0, 3, 0, 0, 0x7b, 0xff, 0, 1, 0xbe, 0];
        assert_eq!(floats(Precision::Half, &half), Ok(vec![65_504.0, 2.0_f32.powi(-24), -1.5]));
        assert!(floats(Precision::Single, &half).is_err());
    }

    #[test]
    fn moments_at_the_edges() {
        assert_eq!(timestamp(0), Ok(EPOCH_US));
        assert_eq!(timestamp(i64::MAX), Ok(i64::MAX));
        assert_eq!(timestamp(i64::MIN), Ok(i64::MIN));
        assert!(matches!(timestamp(i64::MAX - EPOCH_US), Err(Unreadable(_))));
        assert!(matches!(timestamp(i64::MAX - 1), Err(Unreadable(_))));
        assert_eq!(date(-EPOCH_DAYS), Ok(0));
        assert!(matches!(date(i32::MAX - 1), Err(Unreadable(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for scalar in ALL {
                let mut text = Vec::new();
                let as_it_came = matches!(scalar, Scalar::Text | Scalar::Json);
                if put_text(scalar, &bytes, &mut text).is_ok() && !as_it_came {
                    prop_assert!(String::from_utf8(text).is_ok(), "{:?}", scalar);
                }
                let _ = key_text(scalar, &bytes);
            }
            if let Ok(mut elements) = elements(&bytes) {
                prop_assert!(elements.len() <= bytes.len() / 4);
                while let Ok(Some(_)) = elements.next() {}
            }
            for precision in [Precision::Single, Precision::Half] {
                if let Ok(floats) = vector(precision, &bytes) {
                    prop_assert!(floats.len() <= bytes.len() / 2);
                }
            }
        }
    }
}
