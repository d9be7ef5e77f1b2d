//! Text under way: a `String` to which short texts are appended without a call for each.

use std::fmt;
use std::ops::Range;
use std::str::from_utf8;

/// So many bytes are copied where a text has no more: to copy a number that is known to the compiler, and to take off what
/// was too much, costs less than to copy as many as there are.
pub(super) const SHORT_BYTES: usize = 32;

/// Text, in UTF-8: so is all that is appended.
#[derive(Debug, Default)]
pub(crate) struct TextBuffer {
    bytes: Vec<u8>,
}

/// A text that is appended again and again.
#[derive(Debug)]
pub(super) struct Piece {
    /// The text, and zeros where it is short.
    bytes: Vec<u8>,
    length: usize,
}

impl Piece {
    pub(super) fn new(text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(text.len().max(SHORT_BYTES), 0);
        Self { bytes, length: text.len() }
    }
}

impl TextBuffer {
    /// An empty text, in memory that held another.
    pub(crate) fn within(mut memory: Vec<u8>) -> Self {
        memory.clear();
        Self { bytes: memory }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Takes off what stands behind so many bytes, which are whole characters.
    #[inline]
    pub(crate) fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    /// Appends a character of ASCII.
    #[inline]
    pub(super) fn push(&mut self, character: char) {
        debug_assert!(character.is_ascii());
        self.bytes.push(u8::try_from(character).unwrap_or(b'?'));
    }

    #[inline]
    pub(crate) fn push_str(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    #[inline]
    pub(super) fn push_piece(&mut self, piece: &Piece) {
        match piece.bytes.first_chunk::<SHORT_BYTES>() {
            Some(short) if piece.length <= SHORT_BYTES => self.push_short(short, piece.length),
            _ => self.push_long(&piece.bytes, 0..piece.length),
        }
    }

    /// Appends a text that stands here among others.
    #[inline]
    pub(super) fn push_within(&mut self, texts: &[u8], place: Range<usize>) {
        match texts.get(place.start..).and_then(|rest| rest.first_chunk()) {
            Some(short) if place.len() <= SHORT_BYTES => self.push_short(short, place.len()),
            _ => self.push_long(texts, place),
        }
    }

    /// Apart, so that the short way is small enough to be inlined.
    #[cold]
    #[inline(never)]
    fn push_long(&mut self, texts: &[u8], place: Range<usize>) {
        self.bytes.extend_from_slice(texts.get(place).unwrap_or_default());
    }

    /// Appends the first `length` of these bytes, which are a text.
    #[inline]
    pub(super) fn push_short(&mut self, bytes: &[u8; SHORT_BYTES], length: usize) {
        let end = self.bytes.len() + length;
        self.bytes.extend_from_slice(bytes);
        self.bytes.truncate(end);
    }

    /// A part, cut between characters.
    #[inline]
    pub(super) fn part(&self, range: Range<usize>) -> &str {
        from_utf8(&self.bytes[range]).unwrap_or_default()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn as_str(&self) -> &str {
        self.part(0..self.bytes.len())
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl fmt::Write for TextBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}
