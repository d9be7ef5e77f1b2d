//! Places inside a text of the spec.

use crate::error::Position;

/// How a text is written, as far as it says where its characters stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextStyle {
    /// Without quotes.
    Plain,
    /// In single or double quotes.
    Quoted,
    /// A block after `|`, indented by so many spaces.
    Literal {
        /// Spaces before each line of content.
        indent: usize,
    },
    /// A block after `>`: its lines were joined.
    Folded,
}

/// Where a text of the spec stands, so that a place in the text can be told as a place in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSpan {
    /// Where the text begins: its first character, or its quote; of a block, its first line.
    pub start: Position,
    /// How it is written.
    pub style: TextStyle,
}

impl TextSpan {
    /// The file's place of a line and column of the text, both counted from 1. Exact for a block after `|` and
    /// for the first line of other text; else the beginning of the text.
    #[must_use]
    pub fn at(&self, line: usize, column: usize) -> Position {
        match self.style {
            TextStyle::Literal { indent } => {
                Position { line: self.start.line + line - 1, column: indent + column }
            }
            TextStyle::Plain if line == 1 => {
                Position { line: self.start.line, column: self.start.column + column - 1 }
            }
            TextStyle::Quoted if line == 1 => {
                Position { line: self.start.line, column: self.start.column + column }
            }
            TextStyle::Plain | TextStyle::Quoted | TextStyle::Folded => self.start,
        }
    }

    /// The file's place of a byte of the text.
    #[must_use]
    pub fn at_byte(&self, text: &str, byte: usize) -> Position {
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        self.at(line, column.max(1))
    }
}

/// An SQL text of the spec with its place. Never holds the value of a variable: those are bound.
#[derive(Clone, Debug)]
pub struct SqlText {
    /// The SQL as it is written.
    pub text: String,
    /// Where it stands.
    pub span: TextSpan,
}

impl SqlText {
    /// The SQL as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for SqlText {
    /// Two texts are equal where they say the same, wherever they stand: flows that read the same thing share
    /// one scan.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SqlText {}

impl From<&str> for SqlText {
    /// SQL that stands in no file, for tests.
    fn from(text: &str) -> Self {
        let span = TextSpan { start: Position::START, style: TextStyle::Plain };
        Self { text: text.to_owned(), span }
    }
}
