//! Short pieces of bytes, appended without a call for each.
//!
//! To copy a number of bytes that is known to the compiler, and to take off what was too much, costs less than to copy as
//! many as there are.

use std::ops::Range;

/// So many bytes are copied of a piece that has no more.
pub const SHORT_BYTES: usize = 32;

/// Bytes that are appended again and again.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The bytes, and zeros where they are few.
    padded: Vec<u8>,
    length: usize,
}

impl Piece {
    /// A piece of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let mut padded = bytes.to_vec();
        padded.resize(bytes.len().max(SHORT_BYTES), 0);
        Self { padded, length: bytes.len() }
    }

    /// Appends it.
    #[inline]
    pub fn append_to(&self, buffer: &mut Vec<u8>) {
        append_within(buffer, &self.padded, 0..self.length);
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

#[cfg(test)]
mod tests {
    use super::*;

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
