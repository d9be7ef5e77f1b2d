//! Batches of which every column lies ready: their records are put together in room that is measured first, and so are
//! the records' canonical forms. None of them can be refused.

use super::cells::{Writing, null_text};
use super::ready::{Behind, Ready};
use super::record::around_record;
use super::text::TextBuffer;
use arrow::buffer::NullBuffer;
use std::ops::Range;
use whimbrel_model::canonical::{HEAD_BYTES, Values, put_map};
use whimbrel_model::fingerprint::Fingerprints;
use whimbrel_model::piece::{Piece, Room};
use whimbrel_model::texts::Texts;
use whimbrel_model::{Fingerprint, FingerprintKey};
use whimbrel_store::Refusal;

/// Of so many records the text is put together at a time.
const TOGETHER: usize = 256;

/// What stands in front of a value, or behind the last one: at the record's beginning, and behind each [`Behind`].
#[derive(Debug)]
struct Pieces {
    first: Piece,
    later: [Piece; Behind::ALL.len()],
}

impl Pieces {
    /// `of` is given what stands behind the value before; `None`: there is none.
    fn new(of: impl Fn(Option<&str>) -> Vec<u8>) -> Self {
        let piece = |behind: Option<Behind>| Piece::new(&of(behind.map(Behind::text)));
        Self { first: piece(None), later: Behind::ALL.map(|behind| piece(Some(behind))) }
    }

    #[inline]
    fn after(&self, last: Option<Behind>) -> &Piece {
        let [nothing, quote, quote_and_brace, brace] = &self.later;
        match last {
            None => &self.first,
            Some(Behind::Nothing) => nothing,
            Some(Behind::Quote) => quote,
            Some(Behind::QuoteAndBrace) => quote_and_brace,
            Some(Behind::Brace) => brace,
        }
    }

    fn longest(&self) -> usize {
        self.later.iter().map(Piece::len).fold(self.first.len(), usize::max)
    }
}

/// Puts the records of a batch together.
pub(super) struct Whole {
    columns: Vec<Column>,
    /// What ends a record.
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
    behind: Behind,
    /// The same for NULL as a whole; `None`: it is left out.
    null_leads: Option<Pieces>,
}

impl Whole {
    /// `heads`: the columns' names behind a value and as the first; `behind`: what stands behind each record. The columns
    /// of `key` and those that are `compared` are in the order of their names.
    pub(super) fn new(
        writing: Writing,
        shows_null: bool,
        heads: &[[Piece; 2]],
        ready: Vec<Ready>,
        behind: &str,
        [key, compared]: [Named; 2],
    ) -> Self {
        let [opening, closing] = around_record(writing);
        let columns = ready.into_iter().zip(heads).map(|(ready, [head, first])| {
            let leads = |value: &str| {
                Pieces::new(|last| match last {
                    None => [opening.as_bytes(), first.bytes(), value.as_bytes()].concat(),
                    Some(last) => [last.as_bytes(), head.bytes(), value.as_bytes()].concat(),
                })
            };
            Column {
                leads: leads(ready.before),
                null_leads: shows_null.then(|| leads(null_text(writing))),
                nulls: ready.nulls.filter(|nulls| nulls.null_count() > 0),
                texts: ready.texts,
                behind: ready.behind,
            }
        });
        let ends = Pieces::new(|last| [last.unwrap_or(opening), closing, behind].concat().into_bytes());
        Self { columns: columns.collect(), ends, key, compared }
    }

    /// Appends the text of so many records.
    pub(super) fn append(&self, rows: usize, into: &mut TextBuffer) {
        for start in (0..rows).step_by(TOGETHER) {
            let block = start..rows.min(start + TOGETHER);
            into.put_together(self.bytes_of(block.clone()), |room| {
                block.for_each(|row| self.put(row, room));
            });
        }
    }

    /// How many bytes the text of these records has at most.
    fn bytes_of(&self, rows: Range<usize>) -> usize {
        let columns = self.columns.iter().map(|column| {
            let null = column.null_leads.as_ref().map_or(0, Pieces::longest);
            rows.len() * column.leads.longest().max(null) + column.texts.bytes_of(rows.clone())
        });
        rows.len() * self.ends.longest() + columns.sum::<usize>()
    }

    #[inline]
    fn put(&self, row: usize, room: &mut Room<'_>) {
        let mut last = None;
        for column in &self.columns {
            if !is_null(column.nulls.as_ref(), row) {
                room.piece(column.leads.after(last));
                column.texts.put(row, room);
                last = Some(column.behind);
            } else if let Some(leads) = &column.null_leads {
                room.piece(leads.after(last));
                last = Some(Behind::Nothing);
            }
        }
        room.piece(self.ends.after(last));
    }

    /// The fingerprints of so many records.
    pub(super) fn fingerprints(
        &self,
        rows: usize,
        key: &FingerprintKey,
    ) -> Vec<Result<Fingerprint, Refusal>> {
        let mut fingerprints = Fingerprints::new(key, rows);
        fingerprints.push_rows(
            rows,
            |rows| form_bytes(&self.key, rows.clone()) + form_bytes(&self.compared, rows),
            |row, room| self.put_form(&self.key, row, room),
            |row, room| self.put_form(&self.compared, row, room),
        );
        fingerprints.finish().into_iter().map(Ok).collect()
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

fn form_bytes(columns: &[(usize, Values)], rows: Range<usize>) -> usize {
    let columns = columns.iter().map(|(_, values)| values.bytes_of(rows.clone()));
    HEAD_BYTES * rows.len() + columns.sum::<usize>()
}
