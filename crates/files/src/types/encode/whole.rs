//! Batches of which every column lies ready: their records are put together in room that is measured first, and so are
//! the records' canonical forms. None of them can be refused.

use super::cells::{Writing, null_text};
use super::ready::Ready;
use super::record::around_record;
use super::text::TextBuffer;
use arrow::buffer::NullBuffer;
use std::ops::Range;
use whimbrel_model::canonical::{HEAD_BYTES, Values, put_map};
use whimbrel_model::fingerprint::Fingerprints;
use whimbrel_model::piece::{Piece, Room};
use whimbrel_model::texts::Texts;

/// Of so many records the text is put together at a time.
const TOGETHER: usize = 256;

/// What can stand behind a value, by which what comes next differs; the first stands for the record's beginning.
const BEHIND: [&str; 5] = ["", "", "\"", "\"}", "}"];
/// Where [`BEHIND`] has the record's beginning.
const FIRST: usize = 0;
/// Where it has nothing.
const NOTHING: usize = 1;

/// One piece for each of [`BEHIND`].
type Pieces = [Piece; BEHIND.len()];

/// Puts the records of a batch together.
pub(super) struct Whole {
    /// Whether records are text.
    is_text: bool,
    columns: Vec<Column>,
    /// What ends a record, with what stands behind its last value.
    ends: Pieces,
    key: Named,
    compared: Named,
}

/// Columns' places, with their canonical forms.
type Named = Vec<(usize, Values)>;

struct Column {
    nulls: Option<NullBuffer>,
    /// What stands between the value before this one and this one's text.
    leads: Pieces,
    texts: Texts,
    /// What stands behind it, as a place in [`BEHIND`].
    behind: usize,
    /// The same for NULL as a whole; `None`: it is left out.
    null_leads: Option<Pieces>,
}

impl Whole {
    /// `heads`: the columns' names behind a value and as the first. The columns of `key` and those that are `compared`
    /// are in the order of their names.
    pub(super) fn new(
        writing: Writing,
        shows_null: bool,
        heads: &[[Piece; 2]],
        ready: Vec<Ready>,
        key: Named,
        compared: Named,
    ) -> Self {
        let [opening, closing] = around_record(writing);
        let columns = ready.into_iter().zip(heads).map(|(ready, heads)| {
            let leads = |value: &str| {
                pieces(|at, behind| match at {
                    FIRST => [opening.as_bytes(), heads[1].bytes(), value.as_bytes()].concat(),
                    _ => [behind.as_bytes(), heads[0].bytes(), value.as_bytes()].concat(),
                })
            };
            let behind = BEHIND.iter().rposition(|text| *text == ready.around.1).unwrap_or(NOTHING);
            Column {
                leads: leads(ready.around.0),
                null_leads: shows_null.then(|| leads(null_text(writing))),
                nulls: ready.nulls.filter(|nulls| nulls.null_count() > 0),
                texts: ready.texts,
                behind,
            }
        });
        let ends = pieces(|at, behind| {
            let before = if at == FIRST { opening } else { behind };
            [before.as_bytes(), closing.as_bytes()].concat()
        });
        Self { is_text: writing != Writing::Typed, columns: columns.collect(), ends, key, compared }
    }

    /// Appends the text of so many records, and `behind` each of them.
    pub(super) fn append(mut self, rows: usize, behind: &str, into: &mut TextBuffer) -> Self {
        if !self.is_text {
            return self;
        }
        self.ends = self.ends.map(|end| Piece::new(&[end.bytes(), behind.as_bytes()].concat()));
        for start in (0..rows).step_by(TOGETHER) {
            let block = start..rows.min(start + TOGETHER);
            into.put_together(self.bytes_of(block.clone()), |room| {
                block.for_each(|row| self.put(row, room));
            });
        }
        self
    }

    /// How many bytes the text of these records has at most.
    fn bytes_of(&self, rows: Range<usize>) -> usize {
        let columns = self.columns.iter().map(|column| {
            let null = column.null_leads.as_ref().map_or(0, longest);
            rows.len() * longest(&column.leads).max(null) + column.texts.bytes_of(rows.clone())
        });
        rows.len() * longest(&self.ends) + columns.sum::<usize>()
    }

    #[inline]
    fn put(&self, row: usize, room: &mut Room<'_>) {
        let mut at = FIRST;
        for column in &self.columns {
            if !is_null(column.nulls.as_ref(), row) {
                room.piece(&column.leads[at]);
                column.texts.put(row, room);
                at = column.behind;
            } else if let Some(leads) = &column.null_leads {
                room.piece(&leads[at]);
                at = NOTHING;
            }
        }
        room.piece(&self.ends[at]);
    }

    /// Hands on the keys and the whole of so many records in canonical form.
    pub(super) fn push(&self, rows: usize, fingerprints: &mut Fingerprints) {
        fingerprints.push_rows(
            rows,
            |rows| form_bytes(&self.key, rows.clone()) + form_bytes(&self.compared, rows),
            |row, room| self.put_form(&self.key, row, room),
            |row, room| self.put_form(&self.compared, row, room),
        );
    }

    /// The values of these columns by name, as one; NULL is none of them.
    #[inline]
    fn put_form(&self, columns: &[(usize, Values)], row: usize, room: &mut Room<'_>) {
        let is_there = |place: usize| !is_null(self.columns[place].nulls.as_ref(), row);
        put_map(columns.iter().filter(|(place, _)| is_there(*place)).count(), room);
        for (place, values) in columns {
            if is_there(*place) {
                values.put(row, room);
            }
        }
    }
}

#[inline]
fn is_null(nulls: Option<&NullBuffer>, row: usize) -> bool {
    nulls.is_some_and(|nulls| nulls.is_null(row))
}

fn pieces(of: impl Fn(usize, &str) -> Vec<u8>) -> Pieces {
    std::array::from_fn(|at| Piece::new(&of(at, BEHIND[at])))
}

fn longest(pieces: &Pieces) -> usize {
    pieces.iter().map(Piece::len).max().unwrap_or(0)
}

fn form_bytes(columns: &[(usize, Values)], rows: Range<usize>) -> usize {
    let columns = columns.iter().map(|(_, values)| values.bytes_of(rows.clone()));
    HEAD_BYTES * rows.len() + columns.sum::<usize>()
}
