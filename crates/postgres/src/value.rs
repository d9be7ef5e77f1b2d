//! One value out of PostgreSQL's binary form.

use crate::types::Scalar;
use std::fmt::Write as _;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's dates begin.
const EPOCH_DAYS: i32 = 10_957;
/// Microseconds from 1970-01-01 to 2000-01-01.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A decoded value, borrowed where it can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Bool(bool),
    I16(i16),
    I32(i32),
    I64(i64),
    F32(f32),
    F64(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValueError {
    /// The bytes are not what the protocol says.
    Malformed(&'static str),
    /// The value is right, and Arrow has no place for it.
    Unreadable(&'static str),
}

use ValueError::{Malformed, Unreadable};

/// Decodes one value. `scratch` holds text that is made rather than borrowed.
pub(crate) fn decode<'a>(
    scalar: Scalar,
    bytes: &'a [u8],
    scratch: &'a mut String,
) -> Result<Value<'a>, ValueError> {
    Ok(match scalar {
        Scalar::Bool => match bytes {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            _ => return Err(Malformed("a boolean is not one byte of 0 or 1")),
        },
        Scalar::Int2 => Value::I16(i16::from_be_bytes(fixed(bytes)?)),
        Scalar::Int4 => Value::I32(i32::from_be_bytes(fixed(bytes)?)),
        Scalar::Int8 | Scalar::Time => Value::I64(i64::from_be_bytes(fixed(bytes)?)),
        Scalar::Oid => Value::I64(i64::from(u32::from_be_bytes(fixed(bytes)?))),
        Scalar::Float4 => Value::F32(f32::from_be_bytes(fixed(bytes)?)),
        Scalar::Float8 => Value::F64(f64::from_be_bytes(fixed(bytes)?)),
        Scalar::Text | Scalar::Json => text(bytes)?,
        Scalar::Jsonb => match bytes {
            [1, json @ ..] => text(json)?,
            _ => return Err(Malformed("jsonb of another version than 1")),
        },
        Scalar::Bytea => Value::Bytes(bytes),
        Scalar::Char => char_text(fixed::<1>(bytes)?, scratch),
        Scalar::Uuid => uuid(fixed(bytes)?, scratch),
        Scalar::Numeric => numeric(bytes, scratch)?,
        Scalar::Date => Value::I32(date(i32::from_be_bytes(fixed(bytes)?))?),
        Scalar::Timestamp | Scalar::TimestampTz => Value::I64(timestamp(i64::from_be_bytes(fixed(bytes)?))?),
    })
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], ValueError> {
    bytes.try_into().map_err(|_| Malformed("a value of fixed size has another size"))
}

fn text(bytes: &[u8]) -> Result<Value<'_>, ValueError> {
    std::str::from_utf8(bytes).map(Value::Text).map_err(|_| Unreadable("the text is not valid UTF-8"))
}

/// As PostgreSQL 16 writes it: a byte above 127 as `\ooo`, zero as nothing.
fn char_text([byte]: [u8; 1], scratch: &mut String) -> Value<'_> {
    scratch.clear();
    match byte {
        0 => {}
        1..=127 => scratch.push(char::from(byte)),
        _ => scratch.extend(['\\', octal(byte >> 6), octal(byte >> 3), octal(byte)]),
    }
    Value::Text(scratch)
}

fn octal(byte: u8) -> char {
    char::from(b'0' + (byte & 7))
}

fn uuid(bytes: [u8; 16], scratch: &mut String) -> Value<'_> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    scratch.clear();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            scratch.push('-');
        }
        scratch.push(char::from(HEX[usize::from(byte >> 4)]));
        scratch.push(char::from(HEX[usize::from(byte & 15)]));
    }
    Value::Text(scratch)
}

fn date(days: i32) -> Result<i32, ValueError> {
    match days {
        i32::MAX | i32::MIN => Ok(days),
        _ => days
            .checked_add(EPOCH_DAYS)
            .filter(|days| *days != i32::MAX)
            .ok_or(Unreadable("the date lies outside of a 32-bit count of days")),
    }
}

fn timestamp(micros: i64) -> Result<i64, ValueError> {
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
fn numeric<'a>(bytes: &[u8], scratch: &'a mut String) -> Result<Value<'a>, ValueError> {
    let (header, digits) =
        bytes.split_first_chunk::<8>().ok_or(Malformed("a numeric is shorter than its header"))?;
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (count, sign, scale) = (usize::from(word(0)), word(4), usize::from(word(6)));
    let weight = i32::from(i16::from_be_bytes([header[2], header[3]]));
    if digits.len() != count * 2 {
        return Err(Malformed("a numeric has another number of digits than it says"));
    }
    scratch.clear();
    match sign {
        0 => {}
        NUMERIC_NEGATIVE => scratch.push('-'),
        NUMERIC_NAN => return Ok(Value::Text("NaN")),
        NUMERIC_INFINITY => return Ok(Value::Text("Infinity")),
        NUMERIC_MINUS_INFINITY => return Ok(Value::Text("-Infinity")),
        _ => return Err(Malformed("a numeric has an unknown sign")),
    }
    let digits: Vec<u16> =
        digits.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    if digits.iter().any(|digit| *digit > 9999) {
        return Err(Malformed("a numeric digit is above 9999"));
    }
    // A place before the first digit or after the last one holds zero.
    let digit = |power: i32| {
        let index = usize::try_from(i64::from(weight) - i64::from(power)).ok();
        index.and_then(|index| digits.get(index)).copied().unwrap_or(0)
    };
    if weight < 0 || count == 0 {
        scratch.push('0');
    } else {
        write_number(scratch, format_args!("{}", digit(weight)));
        (0..weight).rev().for_each(|power| write_number(scratch, format_args!("{:04}", digit(power))));
    }
    if scale > 0 {
        scratch.push('.');
        let end = scratch.len() + scale;
        let mut power = -1;
        while scratch.len() < end {
            write_number(scratch, format_args!("{:04}", digit(power)));
            power -= 1;
        }
        scratch.truncate(end);
    }
    Ok(Value::Text(scratch))
}

fn write_number(text: &mut String, number: std::fmt::Arguments<'_>) {
    // Writing into a `String` does not fail.
    let _ = text.write_fmt(number);
}

/// The elements of an array, `None` for NULL.
pub(crate) fn elements(bytes: &[u8]) -> Result<Vec<Option<&[u8]>>, ValueError> {
    let mut rest = bytes;
    let dimensions = take_i32(&mut rest)?;
    let _has_nulls = take_i32(&mut rest)?;
    let _element_oid = take_i32(&mut rest)?;
    let count = match dimensions {
        0 => {
            return if rest.is_empty() {
                Ok(Vec::new())
            } else {
                Err(Malformed("an empty array has elements"))
            };
        }
        1 => take_i32(&mut rest)?,
        2..=6 => return Err(Unreadable("an array of more than one dimension")),
        _ => return Err(Malformed("an array has an impossible number of dimensions")),
    };
    if take_i32(&mut rest)? != 1 {
        return Err(Unreadable("an array whose lower bound is not 1"));
    }
    // Each element has a length of four bytes at least, which bounds what a wrong count can make us reserve.
    let count = usize::try_from(count).ok().filter(|count| *count <= rest.len() / 4);
    let count = count.ok_or(Malformed("an array says to have more elements than it has bytes"))?;
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        elements.push(match take_i32(&mut rest)? {
            -1 => None,
            length => {
                let length = usize::try_from(length)
                    .map_err(|_| Malformed("an array element has a negative length"))?;
                let (element, after) =
                    rest.split_at_checked(length).ok_or(Malformed("an array element is cut short"))?;
                rest = after;
                Some(element)
            }
        });
    }
    if rest.is_empty() { Ok(elements) } else { Err(Malformed("an array is followed by other bytes")) }
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

    const ALL: [Scalar; 18] = [
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
        Scalar::Jsonb,
        Scalar::Date,
        Scalar::Time,
        Scalar::Timestamp,
        Scalar::TimestampTz,
    ];

    fn numeric_text(digits: &[u16], weight: i16, sign: u16, scale: u16) -> String {
        let count = u16::try_from(digits.len()).unwrap();
        let mut bytes = Vec::new();
        bytes.extend(count.to_be_bytes());
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(scale.to_be_bytes());
        digits.iter().for_each(|digit| bytes.extend(digit.to_be_bytes()));
        let mut scratch = String::new();
        match decode(Scalar::Numeric, &bytes, &mut scratch).unwrap() {
            Value::Text(text) => text.to_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numerics_keep_digits_and_scale() {
        assert_eq!(numeric_text(&[], 0, 0, 0), "0");
        assert_eq!(numeric_text(&[], 0, 0, 3), "0.000");
        assert_eq!(numeric_text(&[1], 1, 0, 0), "10000");
        assert_eq!(numeric_text(&[12, 3400], 0, NUMERIC_NEGATIVE, 2), "-12.34");
        assert_eq!(numeric_text(&[1], -2, 0, 8), "0.00000001");
        assert_eq!(numeric_text(&[1, 0, 5000], 1, 0, 5), "10000.50000");
        assert_eq!(numeric_text(&[], 0, NUMERIC_NAN, 0), "NaN");
        assert_eq!(numeric_text(&[], 0, NUMERIC_MINUS_INFINITY, 0), "-Infinity");
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
            let mut scratch = String::new();
            for scalar in ALL {
                let _ = decode(scalar, &bytes, &mut scratch);
            }
            if let Ok(elements) = elements(&bytes) {
                prop_assert!(elements.len() <= bytes.len() / 4);
            }
        }
    }
}
