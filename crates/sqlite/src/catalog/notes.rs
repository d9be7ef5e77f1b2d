//! What a copy of the whole database should say: what of it stays behind, or becomes something else.

use std::fmt::Write as _;

/// What is said of many tables, columns or indexes in one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    View,
    Virtual,
    Checks,
    Triggers,
    Generated,
    PartialIndex,
    ExpressionIndex,
    /// Columns whose declared type speaks of integers, and which hold others.
    NotIntegers,
    /// Columns that are compared with others, which are text.
    ComparedWithText,
}

/// Sentences, in the order in which each was first called for.
#[derive(Debug, Default)]
pub(super) struct Notes(Vec<Note>);

#[derive(Debug)]
enum Note {
    Sentence(String),
    Group(About, Vec<String>),
}

impl Notes {
    /// A sentence of its own.
    pub(super) fn add(&mut self, sentence: String) {
        self.0.push(Note::Sentence(sentence));
    }

    /// One more of those that the same is said of.
    pub(super) fn group(&mut self, about: About, name: String) {
        let known = self.0.iter_mut().find_map(|note| match note {
            Note::Group(other, names) if *other == about => Some(names),
            _ => None,
        });
        match known {
            Some(names) => names.push(name),
            None => self.0.push(Note::Group(about, vec![name])),
        }
    }

    pub(super) fn into_sentences(self) -> Vec<String> {
        let sentence = |note| match note {
            Note::Sentence(sentence) => sentence,
            Note::Group(about, names) => about.sentence(&names),
        };
        self.0.into_iter().map(sentence).collect()
    }
}

impl About {
    fn sentence(self, names: &[String]) -> String {
        let names_text = names.join(", ");
        let named = |one: &str, many: &str| match names.len() {
            1 => format!("{one} {names_text} is left out"),
            count => format!("{count} {many} are left out: {names_text}"),
        };
        let said = |one: &str, many: &str| match names.len() {
            1 => format!("{names_text} {one}"),
            count => format!("{count} columns {many}: {names_text}"),
        };
        let tables = |what: &str| match names.len() {
            1 => format!("{what} of {names_text} are left out"),
            count => format!("{what} of {count} tables are left out: {names_text}"),
        };
        let mut text = match self {
            Self::View => named("view", "views"),
            Self::Virtual => named("virtual table", "virtual tables"),
            Self::Checks => tables("CHECK constraints"),
            Self::Triggers => tables("triggers"),
            Self::Generated => said(
                "is a generated column: its values are copied, not how they are made",
                "are generated: their values are copied, not how they are made",
            ),
            Self::PartialIndex => named("index", "indexes"),
            Self::ExpressionIndex => named("index", "indexes"),
            Self::NotIntegers => said(
                "is text: not all of its values are integers",
                "are text, as not all of their values are integers",
            ),
            Self::ComparedWithText => {
                said("is text, as what it is compared with", "are text, as what they are compared with")
            }
        };
        let why = match (self, names.len()) {
            (Self::View | Self::Virtual, _) => "; what one shows is copied where it is named: `?table=`",
            (Self::PartialIndex, 1) => ": it is over some records only",
            (Self::PartialIndex, _) => "; they are over some records only",
            (Self::ExpressionIndex, 1) => ": it is over an expression",
            (Self::ExpressionIndex, _) => "; they are over expressions",
            _ => "",
        };
        let _ = write!(text, "{why}");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_many_is_said_once() {
        let mut notes = Notes::default();
        notes.group(About::View, "\"a\"".to_owned());
        notes.add("something else".to_owned());
        notes.group(About::Checks, "\"t\"".to_owned());
        notes.group(About::View, "\"b\"".to_owned());
        notes.group(About::NotIntegers, "\"t\".\"n\" (INTEGER_OR_TEXT)".to_owned());
        assert_eq!(
            notes.into_sentences(),
            [
                "2 views are left out: \"a\", \"b\"; what one shows is copied where it is named: `?table=`",
                "something else",
                "CHECK constraints of \"t\" are left out",
                "\"t\".\"n\" (INTEGER_OR_TEXT) is text: not all of its values are integers",
            ]
        );
    }
}
