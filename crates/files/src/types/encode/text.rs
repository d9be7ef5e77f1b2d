//! Text under way: a `String` to which short texts are appended without a call for each.

use std::fmt;
use std::ops::Range;
use std::str::from_utf8;
use whimbrel_model::piece::{Piece, SHORT_BYTES, append_first, append_within};

/// Text, in UTF-8: so is all that is appended.
#[derive(Debug, Default)]
pub(crate) struct TextBuffer {
    bytes: Vec<u8>,
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

    /// Appends a piece that is a text.
    #[inline]
    pub(super) fn push_piece(&mut self, piece: &Piece) {
        piece.append_to(&mut self.bytes);
    }

    /// Appends a text that stands here among others.
    #[inline]
    pub(super) fn push_within(&mut self, texts: &[u8], place: Range<usize>) {
        append_within(&mut self.bytes, texts, place);
    }

    /// Appends the first `length` of these bytes, which are a text.
    #[inline]
    pub(super) fn push_short(&mut self, bytes: &[u8; SHORT_BYTES], length: usize) {
        append_first(&mut self.bytes, bytes, length);
    }

    /// Appends texts.
    pub(super) fn push_all<'a>(&mut self, texts: impl Iterator<Item = &'a [u8]>) {
        texts.for_each(|text| self.bytes.extend_from_slice(text));
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
