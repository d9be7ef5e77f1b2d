//! Short pieces of bytes, appended without a call for each.
//!
//! To copy a number of bytes that is known to the compiler, and to take off what was too much, costs less than to copy as
//! many as there are. Where many are put together, that is done in a [`Room`]: each append to a buffer has to look up in
//! memory where the one before it ended, and a room's place stays in a register.

use std::ops::Range;

/// So many bytes are copied of a piece that has no more.
pub const SHORT_BYTES: usize = 32;

/// Bytes that are appended again and again.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The first bytes, and zeros where there are fewer.
    short: [u8; SHORT_BYTES],
    length: usize,
    /// All of them, where they are more.
    long: Vec<u8>,
}

impl Piece {
    /// A piece of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT_BYTES];
        let count = bytes.len().min(SHORT_BYTES);
        short[..count].copy_from_slice(&bytes[..count]);
        let long = if bytes.len() > SHORT_BYTES { bytes.to_vec() } else { Vec::new() };
        Self { short, length: bytes.len(), long }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        if self.length <= SHORT_BYTES { &self.short[..self.length] } else { &self.long }
    }

    /// They, and zeros behind them; `None`: they are more.
    #[must_use]
    pub fn short(&self) -> Option<&[u8; SHORT_BYTES]> {
        (self.length <= SHORT_BYTES).then_some(&self.short)
    }

    /// How many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Appends it.
    #[inline]
    pub fn append_to(&self, buffer: &mut Vec<u8>) {
        if self.length <= SHORT_BYTES {
            append_first(buffer, &self.short, self.length);
        } else {
            append_long(buffer, &self.long, 0..self.length);
        }
    }
}

/// Appends what stands at a place that is within these bytes.
#[inline]
pub fn append_within(buffer: &mut Vec<u8>, bytes: &[u8], place: Range<usize>) {
    match bytes.get(place.start..).and_then(|rest| rest.first_chunk()) {
        Some(first) if place.len() <= SHORT_BYTES => append_first(buffer, first, place.len()),
        _ => append_long(buffer, bytes, place),
    }
}

/// Appends the first `length` of these bytes.
#[inline]
pub fn append_first(buffer: &mut Vec<u8>, bytes: &[u8; SHORT_BYTES], length: usize) {
    let end = buffer.len() + length;
    buffer.extend_from_slice(bytes);
    buffer.truncate(end);
}

/// Apart, so that the short way is small enough to be inlined. A place that is not there would be a value lost in
/// silence: that must not pass.
#[cold]
#[inline(never)]
fn append_long(buffer: &mut Vec<u8>, bytes: &[u8], place: Range<usize>) {
    buffer.extend_from_slice(&bytes[place]);
}

/// Room behind a buffer's end, put full from its start on.
#[derive(Debug)]
pub struct Room<'a> {
    bytes: &'a mut [u8],
    filled: usize,
}

impl<'a> Room<'a> {
    /// The room of these bytes, behind the first `filled` of them; a short piece needs [`SHORT_BYTES`] of it, however
    /// short it is.
    #[inline]
    pub fn behind(bytes: &'a mut [u8], filled: usize) -> Self {
        Self { bytes, filled }
    }

    /// How many bytes have been put.
    #[inline]
    #[must_use]
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Puts a piece.
    #[inline]
    pub fn piece(&mut self, piece: &Piece) {
        if piece.length <= SHORT_BYTES {
            self.first(&piece.short, piece.length);
        } else {
            self.long(&piece.long);
        }
    }

    /// Puts what stands in these bytes from a place on.
    #[inline]
    pub fn within(&mut self, bytes: &[u8], start: usize, length: usize) {
        match bytes.get(start..start + SHORT_BYTES).and_then(|rest| rest.first_chunk::<SHORT_BYTES>()) {
            Some(first) if length <= SHORT_BYTES => self.first(first, length),
            _ => self.long(&bytes[start..start + length]),
        }
    }

    /// Puts the first `length` of these bytes.
    #[inline]
    pub fn first<const COUNT: usize>(&mut self, bytes: &[u8; COUNT], length: usize) {
        self.bytes[self.filled..self.filled + COUNT].copy_from_slice(bytes);
        self.filled += length;
    }

    #[inline]
    fn long(&mut self, bytes: &[u8]) {
        put_long(self.bytes, self.filled, bytes);
        self.filled += bytes.len();
    }
}

/// Apart, so that the short way is small enough to be inlined.
#[inline(never)]
fn put_long(into: &mut [u8], at: usize, bytes: &[u8]) {
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_filled_with_pieces_of_every_length() {
        let bytes: Vec<u8> = (0..200).collect();
        for length in 0..80 {
            for from in [0, 3, bytes.len() - length] {
                let (place, mut buffer) = (from..from + length, b"before".to_vec());
                let piece = Piece::new(&bytes[place.clone()]);
                assert_eq!((piece.bytes(), piece.is_empty()), (&bytes[place.clone()], length == 0));
                let filled = buffer.len();
                buffer.resize(filled + 2 * length + 5 + SHORT_BYTES, 0);
                let mut room = Room::behind(&mut buffer, filled);
                room.within(&bytes, from, length);
                room.first(b"eight by", 5);
                room.piece(&piece);
                let filled = room.filled();
                buffer.truncate(filled);
                let expected = [b"before", &bytes[place.clone()], b"eight", &bytes[place]].concat();
                assert_eq!(buffer, expected);
            }
        }
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn what_has_no_room_is_not_left_out() {
        Room::behind(&mut [0; 90], 0).within(&[1; 100], 0, 100);
    }

    #[test]
    fn pieces_of_every_length_are_appended_whole() {
        let bytes: Vec<u8> = (0..200).collect();
        for length in 0..80 {
            for from in [0, 3, bytes.len() - length] {
                let (place, mut buffer) = (from..from + length, b"before".to_vec());
                append_within(&mut buffer, &bytes, place.clone());
                Piece::new(&bytes[place.clone()]).append_to(&mut buffer);
                assert_eq!(buffer, [b"before", &bytes[place.clone()], &bytes[place]].concat());
            }
        }
    }
}
