//! The canonical form of a record: one byte string for one record, in whichever store it lies.
//!
//! Every value is a tag byte and its content. Text, bytes and numbers carry their length (u32, big endian),
//! lists, maps and sets their number of elements, so that no two values share an encoding. Numbers are
//! compared by value ([`Decimal`]'s normal form), timestamps by instant, maps by sorted keys, sets by sorted
//! elements, vectors bit for bit. NULL and *missing* differ: a missing attribute is not part of its map.
//!
//! [`VERSION`] is stored beside every fingerprint; it changes when an encoding or the way in which it is hashed does.

use crate::decimal::Decimal;
use crate::piece::{Piece, append_within};
use serde_json::Value;
use std::ops::Range;

/// The version of this encoding.
pub const VERSION: u32 = 3;

pub(crate) mod tag {
    pub const NULL: u8 = 0;
    pub const FALSE: u8 = 1;
    pub const TRUE: u8 = 2;
    pub const NUMBER: u8 = 3;
    pub const TEXT: u8 = 4;
    pub const BYTES: u8 = 5;
    pub const INSTANT: u8 = 6;
    pub const LOCAL: u8 = 7;
    pub const DATE: u8 = 8;
    pub const TIME: u8 = 9;
    pub const LIST: u8 = 10;
    pub const MAP: u8 = 11;
    pub const SET: u8 = 12;
    pub const VECTOR: u8 = 13;
}

/// Appends canonical values to a buffer.
#[derive(Debug, Default)]
pub struct Canonical {
    buffer: Vec<u8>,
}

/// A key of maps that is appended again and again.
#[derive(Clone, Debug)]
pub struct Name(Piece);

impl Name {
    /// The key of this text.
    #[must_use]
    pub fn new(key: &str) -> Self {
        let mut canonical = Canonical::default();
        canonical.key(key);
        Self(Piece::new(canonical.bytes()))
    }

    /// It, and behind it the kind of its value.
    pub(crate) fn lead(name: Option<&Self>, tag: &[u8]) -> Piece {
        Piece::new(&[name.map_or(&[][..], |name| name.0.bytes()), tag].concat())
    }
}

/// How many bytes stand in front of a list's or a map's values.
pub(crate) const HEAD_BYTES: usize = 5;

/// The head of a list, as [`Canonical::list`] appends it.
pub(crate) fn list_head(len: usize) -> [u8; HEAD_BYTES] {
    head(tag::LIST, len)
}

/// The head of a map, as [`Canonical::map`] appends it.
pub(crate) fn map_head(len: usize) -> [u8; HEAD_BYTES] {
    head(tag::MAP, len)
}

impl Canonical {
    /// What has been appended.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// What has been appended, by itself.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.buffer
    }

    /// Empties the buffer and keeps its memory.
    #[inline]
    pub fn clear(&mut self) {
        self.buffer.clear();
    }

    /// Appends what is no value: what fills a form up.
    #[inline]
    pub(crate) fn fill(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes have been appended: where the next value begins.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing has been appended.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Whether all that was appended since `start` is one NULL.
    #[inline]
    #[must_use]
    pub fn is_null_since(&self, start: usize) -> bool {
        self.buffer.get(start..) == Some(&[tag::NULL])
    }

    /// Appends a value that another buffer holds in this range.
    #[inline]
    pub fn append_part(&mut self, other: &Self, range: Range<usize>) {
        self.buffer.extend_from_slice(other.buffer.get(range).unwrap_or_default());
    }

    /// Appends what another buffer holds: a value that was made aside.
    #[inline]
    pub fn append(&mut self, other: &Self) {
        self.buffer.extend_from_slice(&other.buffer);
    }

    /// NULL.
    #[inline]
    pub fn null(&mut self) {
        self.buffer.push(tag::NULL);
    }

    /// A truth value.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.buffer.push(if value { tag::TRUE } else { tag::FALSE });
    }

    /// A number by its value; what is no finite decimal (`NaN`, `Infinity`) by its text.
    pub fn number(&mut self, text: &str) {
        if let Some(plain) = Decimal::plain(text) {
            return self.content(tag::NUMBER, plain.as_bytes());
        }
        match Decimal::parse(text) {
            Some(decimal) => self.content(tag::NUMBER, decimal.to_string().as_bytes()),
            None => self.content(tag::NUMBER, text.as_bytes()),
        }
    }

    /// A whole number, as [`Canonical::number`] has its digits.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.digits(itoa::Buffer::new().format(value));
    }

    /// A number by digits that are its normal form already: those of an integer, without zeros before them.
    #[inline]
    pub fn digits(&mut self, digits: &str) {
        self.content(tag::NUMBER, digits.as_bytes());
    }

    /// Text.
    #[inline]
    pub fn text(&mut self, text: &str) {
        self.content(tag::TEXT, text.as_bytes());
    }

    /// Text that stands here among other bytes.
    #[inline]
    pub fn text_within(&mut self, bytes: &[u8], place: Range<usize>) {
        self.content_within(tag::TEXT, bytes, place);
    }

    /// As [`Canonical::digits`], of digits that stand here among other bytes.
    #[inline]
    pub fn digits_within(&mut self, bytes: &[u8], place: Range<usize>) {
        self.content_within(tag::NUMBER, bytes, place);
    }

    /// A value whose form stands here among other bytes.
    #[inline]
    pub fn form_within(&mut self, bytes: &[u8], place: Range<usize>) {
        append_within(&mut self.buffer, bytes, place);
    }

    /// Bytes.
    #[inline]
    pub fn binary(&mut self, bytes: &[u8]) {
        self.content(tag::BYTES, bytes);
    }

    /// An instant: microseconds since 1970-01-01 UTC and the nanoseconds below them.
    #[inline]
    pub fn instant(&mut self, epoch_us: i64, nanoseconds: u16) {
        self.buffer.push(tag::INSTANT);
        self.buffer.extend_from_slice(&epoch_us.to_be_bytes());
        self.buffer.extend_from_slice(&nanoseconds.to_be_bytes());
    }

    /// A date and time without a zone, counted as if it were UTC.
    #[inline]
    pub fn local(&mut self, epoch_us: i64, nanoseconds: u16) {
        self.buffer.push(tag::LOCAL);
        self.buffer.extend_from_slice(&epoch_us.to_be_bytes());
        self.buffer.extend_from_slice(&nanoseconds.to_be_bytes());
    }

    /// A date, in days since 1970-01-01.
    #[inline]
    pub fn date(&mut self, epoch_days: i32) {
        self.buffer.push(tag::DATE);
        self.buffer.extend_from_slice(&epoch_days.to_be_bytes());
    }

    /// A time of day, in microseconds since midnight.
    #[inline]
    pub fn time(&mut self, micros: i64) {
        self.buffer.push(tag::TIME);
        self.buffer.extend_from_slice(&micros.to_be_bytes());
    }

    /// The head of a list; `len` values follow.
    #[inline]
    pub fn list(&mut self, len: usize) {
        self.head(tag::LIST, len);
    }

    /// The head of a map; `len` pairs of [`Canonical::key`] and a value follow, sorted by key.
    #[inline]
    pub fn map(&mut self, len: usize) {
        self.head(tag::MAP, len);
    }

    /// A key of a map.
    #[inline]
    pub fn key(&mut self, key: &str) {
        self.buffer.extend_from_slice(&length(key.len()));
        self.buffer.extend_from_slice(key.as_bytes());
    }

    /// A key of a map, as [`Canonical::key`] appends it.
    #[inline]
    pub fn name(&mut self, name: &Name) {
        name.0.append_to(&mut self.buffer);
    }

    /// A set: its elements in any order, each appended by the closure.
    pub fn set<T>(&mut self, elements: impl IntoIterator<Item = T>, mut append: impl FnMut(&mut Self, T)) {
        let mut encoded: Vec<Vec<u8>> = elements
            .into_iter()
            .map(|element| {
                let mut one = Self::default();
                append(&mut one, element);
                one.buffer
            })
            .collect();
        encoded.sort_unstable();
        encoded.dedup();
        self.head(tag::SET, encoded.len());
        encoded.iter().for_each(|element| self.buffer.extend(element));
    }

    /// A vector of 32-bit floats, bit for bit.
    pub fn vector(&mut self, values: &[f32]) {
        self.head(tag::VECTOR, values.len());
        let start = self.buffer.len();
        self.buffer.resize(start + values.len() * 4, 0);
        // Into room that is there, so that many are turned round at a time.
        let (places, _) = self.buffer[start..].as_chunks_mut::<4>();
        for (place, value) in places.iter_mut().zip(values) {
            *place = value.to_bits().to_be_bytes();
        }
    }

    /// A JSON value.
    pub fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(value) => self.bool(*value),
            Value::Number(number) => self.number(number.as_str()),
            Value::String(text) => self.text(text),
            Value::Array(values) => {
                self.list(values.len());
                values.iter().for_each(|value| self.json(value));
            }
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                self.map(entries.len());
                for (key, value) in entries {
                    self.key(key);
                    self.json(value);
                }
            }
        }
    }

    #[inline]
    fn content(&mut self, tag: u8, bytes: &[u8]) {
        self.head(tag, bytes.len());
        self.buffer.extend_from_slice(bytes);
    }

    #[inline]
    fn content_within(&mut self, tag: u8, bytes: &[u8], place: Range<usize>) {
        self.head(tag, place.len());
        self.form_within(bytes, place);
    }

    /// What a value is, and its length.
    #[inline]
    fn head(&mut self, tag: u8, len: usize) {
        self.buffer.extend_from_slice(&head(tag, len));
    }
}

#[inline]
fn head(tag: u8, len: usize) -> [u8; HEAD_BYTES] {
    let [a, b, c, d] = length(len);
    [tag, a, b, c, d]
}

/// No value of any store comes near 4 GiB; one that did would be refused long before.
#[inline]
fn length(len: usize) -> [u8; 4] {
    u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Vec<u8> {
        let mut canonical = Canonical::default();
        canonical.json(&crate::json::parse(text).unwrap());
        canonical.buffer
    }

    #[test]
    fn order_of_keys_and_form_of_numbers_do_not_matter() {
        assert_eq!(json(r#"{"a":1.50,"b":[100]}"#), json(r#"{"b":[1e2],"a":1.5}"#));
    }

    #[test]
    fn what_differs_stays_different() {
        let values = [
            "null",
            "false",
            "true",
            "0",
            "\"0\"",
            "\"\"",
            "[]",
            "{}",
            "[null]",
            "[[],[]]",
            "[[[]]]",
            r#"{"a":null}"#,
            r#"["ab","c"]"#,
            r#"["a","bc"]"#,
            "12345678901234567890",
            "12345678901234567891",
            "0.1",
            "0.10000000000000001",
        ];
        for (i, left) in values.iter().enumerate() {
            for right in &values[..i] {
                assert_ne!(json(left), json(right), "{left} and {right}");
            }
        }
    }

    #[test]
    fn an_integer_is_the_number_of_its_digits() {
        for value in [i64::MIN, -100, -10, -1, 0, 1, 7, 10, 99, 100, 123_456_789, i64::MAX] {
            let (mut integer, mut number) = (Canonical::default(), Canonical::default());
            integer.integer(value);
            number.number(&value.to_string());
            assert_eq!(integer.bytes(), number.bytes(), "{value}");
        }
    }

    #[test]
    fn what_stands_among_other_bytes_has_the_same_form() {
        let bytes = "0123456789".repeat(10);
        for length in [0, 1, 7, 31, 32, 33, 50] {
            for from in [0, 3, bytes.len() - length] {
                let (place, mut within, mut alone) =
                    (from..from + length, Canonical::default(), Canonical::default());
                within.text_within(bytes.as_bytes(), place.clone());
                within.digits_within(bytes.as_bytes(), place.clone());
                within.name(&Name::new(&bytes[place.clone()]));
                alone.text(&bytes[place.clone()]);
                alone.digits(&bytes[place.clone()]);
                alone.key(&bytes[place]);
                assert_eq!(within.bytes(), alone.bytes(), "{length} from {from}");
            }
        }
    }

    #[test]
    fn sets_have_no_order_and_no_duplicates() {
        let set = |texts: &[&str]| {
            let mut canonical = Canonical::default();
            canonical.set(texts, |one, text| one.text(text));
            canonical.buffer
        };
        assert_eq!(set(&["b", "a", "b"]), set(&["a", "b"]));
        assert_ne!(set(&["a"]), set(&["a", "b"]));
    }

    #[test]
    fn vectors_are_compared_by_their_bits() {
        let vector = |values: &[f32]| {
            let mut canonical = Canonical::default();
            canonical.vector(values);
            canonical.buffer
        };
        assert_ne!(vector(&[0.0]), vector(&[-0.0]));
        assert_eq!(vector(&[f32::NAN]), vector(&[f32::NAN]));
    }
}
