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
    /// Those of an array; of what is NULL it is anyone's guess. `None`: its offsets are none.
    #[must_use]
    pub fn of(array: &StringArray) -> Option<Self> {
        let offset = |offset: i32| u32::try_from(offset).ok();
        let place = |pair: &[i32]| {
            let (start, end) = (offset(pair[0])?, offset(pair[1])?);
            Some((start, end.checked_sub(start)?))
        };
        let places = array.value_offsets().windows(2).map(place).collect::<Option<_>>()?;
        Some(Self { bytes: array.values().clone(), places })
    }

    /// Texts that stand one behind the other and end here. `None`: they are too long together.
    #[must_use]
    pub fn ending(mut bytes: Vec<u8>, ends: impl IntoIterator<Item = usize>) -> Option<Self> {
        let mut start = 0;
        let place = |end: usize| {
            let end = u32::try_from(end).ok()?;
            let length = end.checked_sub(std::mem::replace(&mut start, end))?;
            Some((end - length, length))
        };
        let places = ends.into_iter().map(place).collect::<Option<_>>()?;
        // Then the last ones are copied as quickly as the others.
        bytes.extend_from_slice(&[0; SHORT_BYTES]);
        Some(Self { bytes: Buffer::from_vec(bytes), places })
    }

    /// The same, each as long as `length` says, which is no more than it is.
    #[must_use]
    pub fn cut(&self, length: impl Fn(usize) -> Option<usize>) -> Option<Self> {
        let places = self.places.iter().enumerate();
        let places = places.map(|(row, (start, most))| {
            let length = u32::try_from(length(row)?).ok().filter(|length| length <= most)?;
            Some((*start, length))
        });
        Some(Self { bytes: self.bytes.clone(), places: places.collect::<Option<_>>()? })
    }

    /// For each row the text that `choice` names.
    #[must_use]
    pub fn chosen(&self, rows: usize, choice: impl Fn(usize) -> usize) -> Self {
        let places = (0..rows).map(|row| self.places[choice(row)]).collect();
        Self { bytes: self.bytes.clone(), places }
    }

    /// How many bytes a row's text has.
    #[inline]
    #[must_use]
    pub fn length(&self, row: usize) -> usize {
        self.places[row].1 as usize
    }

    /// How many bytes those of these rows have together.
    #[must_use]
    pub fn bytes_of(&self, rows: Range<usize>) -> usize {
        self.places[rows].iter().map(|(_, length)| *length as usize).sum()
    }

    /// All bytes, and where a row's stand among them.
    #[inline]
    #[must_use]
    pub fn within(&self, row: usize) -> (&[u8], Range<usize>) {
        let (start, length) = self.places[row];
        (&self.bytes, start as usize..start as usize + length as usize)
    }

    /// Puts a row's text.
    #[inline]
    pub fn put(&self, row: usize, room: &mut Room<'_>) {
        let (start, length) = self.places[row];
        room.within(&self.bytes, start as usize, length as usize);
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
        let texts = Texts::of(&array).unwrap();
        assert_eq!(all(&texts, 4), ["one", "", "", "four"]);
        assert_eq!(all(&Texts::of(&array.slice(2, 2)).unwrap(), 2), ["", "four"]);
        assert_eq!((texts.length(3), texts.bytes_of(0..4), texts.bytes_of(1..3)), (4, 7, 0));
        let cut = texts.cut(|row| Some(texts.length(row).min(2))).unwrap();
        assert_eq!(all(&cut, 4), ["on", "", "", "fo"]);
        assert!(texts.cut(|_| Some(1)).is_none());
        assert_eq!(all(&texts.chosen(3, |row| if row == 1 { 0 } else { 3 }), 3), ["four", "one", "four"]);
        assert_eq!(all(&Texts::ending(b"ac".to_vec(), [1, 1, 2]).unwrap(), 3), ["a", "", "c"]);
    }
}
