//! Canonical forms of a batch's rows, made column by column.

use crate::canonical::{HEAD_BYTES, Name, list_head, map_head, tag};
use crate::piece::Piece;
use crate::rooms::{Column, LENGTH_BYTES, Rooms};
use crate::texts::Texts;
use arrow::buffer::NullBuffer;
use std::ops::Range;

/// The values of a column in canonical form: with the column's name, where they are those of maps.
#[derive(Clone, Debug)]
pub struct Values {
    lead: Piece,
    /// Whether the lead says what kind of value follows, of which there are only the bytes.
    has_length: bool,
    texts: Texts,
    nulls: Option<NullBuffer>,
    /// What stands for NULL; empty: nothing does.
    null: Piece,
}

impl Values {
    /// Of texts.
    #[must_use]
    pub fn texts(name: Option<&Name>, texts: Texts) -> Self {
        Self::led(name, &[tag::TEXT], texts)
    }

    /// Of numbers, by digits that are their normal form already.
    #[must_use]
    pub fn digits(name: Option<&Name>, texts: Texts) -> Self {
        Self::led(name, &[tag::NUMBER], texts)
    }

    /// Of values whose form lies here whole.
    #[must_use]
    pub fn forms(name: Option<&Name>, forms: Texts) -> Self {
        Self::led(name, &[], forms)
    }

    fn led(name: Option<&Name>, tag: &[u8], texts: Texts) -> Self {
        let lead = Name::lead(name, tag);
        Self { lead, has_length: !tag.is_empty(), texts, nulls: None, null: Piece::new(&[]) }
    }

    /// The same, but for the rows where there is no value: a map has none there.
    #[must_use]
    pub fn where_valid(self, nulls: Option<NullBuffer>) -> Self {
        Self { nulls: nulls.filter(|nulls| nulls.null_count() > 0), ..self }
    }

    /// The same, with NULL in the rows where there is no value.
    #[must_use]
    pub fn or_null(self, nulls: Option<NullBuffer>, name: Option<&Name>) -> Self {
        Self { null: Name::lead(name, &[tag::NULL]), ..self.where_valid(nulls) }
    }

    /// The rows that a map has no value of.
    fn left_out(&self) -> Option<&NullBuffer> {
        self.nulls.as_ref().filter(|_| self.null.is_empty())
    }

    fn measure(&self, rooms: &mut Rooms) {
        let most = self.lead.len().max(self.null.len()) + LENGTH_BYTES;
        rooms.more(most, &self.texts);
    }

    fn put(&self, rooms: &mut Rooms) {
        rooms.put(&Column {
            lead: &self.lead,
            has_length: self.has_length,
            texts: &self.texts,
            nulls: self.nulls.as_ref().map(|nulls| (nulls, &self.null)),
        });
    }
}

/// One form of each row: that of some columns' values.
#[derive(Clone, Debug)]
pub struct Forms {
    kind: Kind,
    columns: Vec<Values>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Map,
    List,
    /// A list of nothing, and behind it a map.
    ListAndMap,
}

impl Forms {
    /// Maps of these columns, in the order of their names.
    #[must_use]
    pub fn maps(columns: Vec<Values>) -> Self {
        Self { kind: Kind::Map, columns }
    }

    /// Lists of these columns.
    #[must_use]
    pub fn lists(columns: Vec<Values>) -> Self {
        Self { kind: Kind::List, columns }
    }

    /// Maps behind lists of nothing: of records without a key, each of which is told by all that it holds.
    #[must_use]
    pub fn keyless(columns: Vec<Values>) -> Self {
        Self { kind: Kind::ListAndMap, columns }
    }

    /// Measures room for these rows' forms, and for so many bytes behind each.
    pub(crate) fn measure(&self, rows: Range<usize>, behind: usize, rooms: &mut Rooms) {
        rooms.measure(rows, 2 * HEAD_BYTES + behind);
        self.columns.iter().for_each(|column| column.measure(rooms));
    }

    /// Puts the forms of the rows that have room.
    pub(crate) fn put(&self, rooms: &mut Rooms) {
        if self.kind == Kind::ListAndMap {
            rooms.each(|_, room| room.first(&list_head(0), HEAD_BYTES));
        }
        let head = if self.kind == Kind::List { list_head } else { map_head };
        if self.columns.iter().any(|column| column.left_out().is_some()) {
            let counts = self.counts(rooms.rows());
            let first = rooms.rows().start;
            rooms.each(|row, room| room.first(&head(counts[row - first]), HEAD_BYTES));
        } else {
            let head = head(self.columns.len());
            rooms.each(|_, room| room.first(&head, HEAD_BYTES));
        }
        self.columns.iter().for_each(|column| column.put(rooms));
    }

    /// How many values each of these rows has.
    fn counts(&self, rows: Range<usize>) -> Vec<usize> {
        let mut counts = vec![self.columns.len(); rows.len()];
        for nulls in self.columns.iter().filter_map(Values::left_out) {
            for (count, row) in counts.iter_mut().zip(rows.clone()) {
                *count -= usize::from(nulls.is_null(row));
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::Canonical;
    use arrow::array::{Array as _, StringArray};

    const ROWS: usize = 5;

    fn form(append: impl FnOnce(&mut Canonical)) -> Vec<u8> {
        let mut canonical = Canonical::default();
        append(&mut canonical);
        canonical.into_bytes()
    }

    #[test]
    fn forms_are_those_that_are_appended_value_by_value() {
        let long = "long ".repeat(20);
        let words = StringArray::from(vec![Some("one"), None, Some(""), Some(&long), None]);
        let digits = StringArray::from(vec!["1", "-20", "3.5", "4", "5"]);
        let (a, b) = (Name::new("a"), Name::new("a name that is longer than thirty-two bytes"));
        let texts = |array: &StringArray| Texts::of(array);
        let word = |row: usize, canonical: &mut Canonical| match words.is_null(row) {
            true => canonical.null(),
            false => canonical.text(words.value(row)),
        };
        let number = |row: usize, canonical: &mut Canonical| canonical.number(digits.value(row));

        let with_null = Values::texts(Some(&b), texts(&words)).or_null(words.nulls().cloned(), Some(&b));
        let without = Values::texts(Some(&b), texts(&words)).where_valid(words.nulls().cloned());
        let named = Values::digits(Some(&a), texts(&digits));
        let unnamed = Values::digits(None, texts(&digits));
        let map = |row: usize, canonical: &mut Canonical| {
            canonical.map(2);
            canonical.name(&a);
            number(row, canonical);
            canonical.name(&b);
            word(row, canonical);
        };
        let sparse = |row: usize, canonical: &mut Canonical| {
            canonical.map(if words.is_null(row) { 1 } else { 2 });
            canonical.name(&a);
            number(row, canonical);
            if !words.is_null(row) {
                canonical.name(&b);
                word(row, canonical);
            }
        };
        let list = |row: usize, canonical: &mut Canonical| {
            canonical.list(1);
            number(row, canonical);
        };
        let keyless = |row: usize, canonical: &mut Canonical| {
            canonical.list(0);
            map(row, canonical);
        };
        let both = vec![named.clone(), with_null];
        let mut rooms = Rooms::default();
        type Append<'a> = &'a dyn Fn(usize, &mut Canonical);
        let all: [(Forms, Append<'_>); 4] = [
            (Forms::maps(both.clone()), &map),
            (Forms::maps(vec![named, without]), &sparse),
            (Forms::lists(vec![unnamed]), &list),
            (Forms::keyless(both), &keyless),
        ];
        for (forms, append) in all {
            for rows in [0..ROWS, 1..4, 3..ROWS] {
                forms.measure(rows.clone(), 0, &mut rooms);
                rooms.open(usize::MAX);
                forms.put(&mut rooms);
                let expected: Vec<_> = rows.map(|row| form(|canonical| append(row, canonical))).collect();
                assert_eq!(rooms.filled().collect::<Vec<_>>(), expected);
            }
        }
    }
}
