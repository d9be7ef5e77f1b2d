//! A text for each row of a batch, among others: the bytes of all of them lie together.

use crate::piece::{Room, SHORT_BYTES};
use arrow::array::StringArray;
use arrow::buffer::Buffer;
use std::ops::Range;
use std::sync::Arc;

/// Texts, or any bytes.
#[derive(Clone, Debug)]
pub struct Texts {
    bytes: Buffer,
    /// Where each row's begins, and its length.
    places: Arc<[(u32, u32)]>,
}

impl Texts {
    /// Those of an array; of what is NULL it is anyone's guess.
    #[must_use]
    pub fn of(array: &StringArray) -> Self {
        // Arrow's offsets are never below zero, and none is below the one before it.
        let offsets = array.value_offsets().windows(2);
        let places = offsets.map(|pair| (pair[0].cast_unsigned(), (pair[1] - pair[0]).cast_unsigned()));
        Self { bytes: array.values().clone(), places: places.collect() }
    }

    /// Texts that stand one behind the other, each between two of these bounds. What lies outside of the bytes ends the
    /// program when it is looked at.
    #[must_use]
    pub fn between(mut bytes: Vec<u8>, bounds: &[u32]) -> Self {
        let places = bounds.windows(2).map(|pair| (pair[0], pair[1].wrapping_sub(pair[0]))).collect();
        // Then the last ones are copied as quickly as the others.
        bytes.extend_from_slice(&[0; SHORT_BYTES]);
        Self { bytes: Buffer::from_vec(bytes), places }
    }

    /// Texts that stand one behind the other, so many bytes each.
    #[must_use]
    pub fn of_length(mut bytes: Vec<u8>, length: u32) -> Self {
        let rows = bytes.len().checked_div(length as usize).unwrap_or(0);
        let starts = (0..u32::MAX).step_by(length.max(1) as usize);
        let places = starts.take(rows).map(|start| (start, length)).collect();
        bytes.extend_from_slice(&[0; SHORT_BYTES]);
        Self { bytes: Buffer::from_vec(bytes), places }
    }

    /// The same, each as long as `length` says, which is no more than it is.
    #[must_use]
    pub fn cut(&self, length: impl Fn(usize) -> Option<usize>) -> Option<Self> {
        let mut places = Vec::with_capacity(self.places.len());
        for (row, (start, most)) in self.places.iter().enumerate() {
            places.push((*start, u32::try_from(length(row)?).ok().filter(|length| length <= most)?));
        }
        Some(Self { bytes: self.bytes.clone(), places: places.into() })
    }

    /// For each row the text that its choice names.
    #[must_use]
    pub fn chosen(&self, choices: impl Iterator<Item = usize>) -> Self {
        Self { bytes: self.bytes.clone(), places: choices.map(|choice| self.places[choice]).collect() }
    }

    /// Where a row's text begins among all bytes, and how many bytes it has.
    #[inline]
    fn place(&self, row: usize) -> (usize, usize) {
        let (start, length) = self.places[row];
        (start as usize, length as usize)
    }

    /// All bytes, and where those of each of these rows begin, and how many they are.
    #[inline]
    #[must_use]
    pub(crate) fn of_rows(&self, rows: Range<usize>) -> (&[u8], &[(u32, u32)]) {
        (&self.bytes, &self.places[rows])
    }

    /// How many bytes a row's text has.
    #[inline]
    #[must_use]
    pub fn length(&self, row: usize) -> usize {
        self.place(row).1
    }

    /// The same as it stands in front of a text: four bytes, the highest first.
    #[inline]
    #[must_use]
    pub(crate) fn length_bytes(&self, row: usize) -> [u8; 4] {
        self.places[row].1.to_be_bytes()
    }

    /// All bytes, and where a row's stand among them.
    #[inline]
    #[must_use]
    pub fn within(&self, row: usize) -> (&[u8], Range<usize>) {
        let (start, length) = self.place(row);
        (&self.bytes, start..start + length)
    }

    /// Puts a row's text.
    #[inline]
    pub fn put(&self, row: usize, room: &mut Room<'_>) {
        let (start, length) = self.place(row);
        room.within(&self.bytes, start, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &Texts, rows: usize) -> Vec<&str> {
        let text = |row| {
            let (bytes, place) = texts.within(row);
            std::str::from_utf8(&bytes[place]).unwrap()
        };
        (0..rows).map(text).collect()
    }

    #[test]
    fn a_row_has_its_text() {
        let array = StringArray::from(vec![Some("one"), None, Some(""), Some("four")]);
        let texts = Texts::of(&array);
        assert_eq!(all(&texts, 4), ["one", "", "", "four"]);
        assert_eq!(all(&Texts::of(&array.slice(2, 2)), 2), ["", "four"]);
        assert_eq!((texts.length(3), texts.length(1), texts.length_bytes(3)), (4, 0, [0, 0, 0, 4]));
        let cut = texts.cut(|row| Some(texts.length(row).min(2))).unwrap();
        assert_eq!(all(&cut, 4), ["on", "", "", "fo"]);
        assert!(texts.cut(|_| Some(1)).is_none());
        assert_eq!(all(&texts.chosen([3, 0, 3].into_iter()), 3), ["four", "one", "four"]);
        assert_eq!(all(&Texts::of_length(b"abcdef".to_vec(), 2), 3), ["ab", "cd", "ef"]);
        assert_eq!(all(&Texts::between(b"ac".to_vec(), &[0, 1, 1, 2]), 3), ["a", "", "c"]);
    }
}
