//! Batches of which every column lies ready: their records are put together column by column in room that is measured
//! first, and so are the records' canonical forms. None of them can be refused.

use super::cells::{Writing, null_text};
use super::ready::{Behind, Ready};
use super::record::around_record;
use super::text::TextBuffer;
use arrow::buffer::NullBuffer;
use std::ops::Range;
use whimbrel_model::fingerprint::Fingerprints;
use whimbrel_model::forms::Forms;
use whimbrel_model::piece::Piece;
use whimbrel_model::rooms::{self, Rooms};
use whimbrel_model::texts::Texts;
use whimbrel_model::{Fingerprint, FingerprintKey};
use whimbrel_store::Refusal;

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
    key: Forms,
    compared: Forms,
}

struct Column {
    nulls: Option<NullBuffer>,
    /// What stands between the value before this one and this one's text.
    leads: Pieces,
    texts: Texts,
    behind: Behind,
    /// The same for NULL as a whole; `None`: it is left out.
    null_leads: Option<Pieces>,
}

/// What the records under way end with.
enum Last {
    /// All with the same.
    All(Option<Behind>),
    Each(Vec<Option<Behind>>),
}

impl Whole {
    /// `heads`: the columns' names behind a value and as the first; `behind`: what stands behind each record. The forms are
    /// those of the records' keys, and of what is compared of them.
    pub(super) fn new(
        writing: Writing,
        shows_null: bool,
        heads: &[[Piece; 2]],
        ready: Vec<Ready>,
        behind: &str,
        [key, compared]: [Forms; 2],
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
        let measure = |rows, rooms: &mut Rooms| self.measure(rows, rooms);
        Rooms::in_turns(rows, measure, |rooms| {
            let mut last = Last::All(None);
            self.columns.iter().for_each(|column| column.put(&mut last, rooms));
            last.put(&self.ends, rooms);
            into.push_all(rooms.filled());
        });
    }

    fn measure(&self, rows: Range<usize>, rooms: &mut Rooms) {
        rooms.measure(rows, self.ends.longest());
        for column in &self.columns {
            let null = column.null_leads.as_ref().map_or(0, Pieces::longest);
            rooms.more(column.leads.longest().max(null), &column.texts);
        }
    }

    /// The fingerprints of so many records.
    pub(super) fn fingerprints(
        &self,
        rows: usize,
        key: &FingerprintKey,
    ) -> Vec<Result<Fingerprint, Refusal>> {
        let mut fingerprints = Fingerprints::new(key, rows);
        fingerprints.push_rows(rows, &self.key, &self.compared);
        fingerprints.finish().into_iter().map(Ok).collect()
    }
}

impl Column {
    /// Puts the column's value behind what each record has.
    fn put(&self, last: &mut Last, rooms: &mut Rooms) {
        let first = rooms.rows().start;
        let Some(nulls) = &self.nulls else {
            match last {
                Last::All(last) => {
                    let lead = self.leads.after(*last);
                    rooms.put(&rooms::Column { lead, has_length: false, texts: &self.texts, nulls: None });
                }
                Last::Each(lasts) => rooms.each(|row, room| {
                    room.piece(self.leads.after(lasts[row - first]));
                    self.texts.put(row, room);
                }),
            }
            *last = Last::All(Some(self.behind));
            return;
        };
        let lasts = last.each(rooms.rows().len());
        rooms.each(|row, room| {
            let last = &mut lasts[row - first];
            if !nulls.is_null(row) {
                room.piece(self.leads.after(*last));
                self.texts.put(row, room);
                *last = Some(self.behind);
            } else if let Some(leads) = &self.null_leads {
                room.piece(leads.after(*last));
                *last = Some(Behind::Nothing);
            }
        });
    }
}

impl Last {
    /// Puts the piece that stands behind it.
    fn put(&self, pieces: &Pieces, rooms: &mut Rooms) {
        let first = rooms.rows().start;
        match self {
            Self::All(last) => {
                let piece = pieces.after(*last);
                rooms.each(|_, room| room.piece(piece));
            }
            Self::Each(lasts) => rooms.each(|row, room| room.piece(pieces.after(lasts[row - first]))),
        }
    }

    /// What each of so many records ends with.
    fn each(&mut self, rows: usize) -> &mut [Option<Behind>] {
        if let Self::All(last) = self {
            *self = Self::Each(vec![*last; rows]);
        }
        match self {
            Self::Each(lasts) => lasts,
            Self::All(_) => &mut [],
        }
    }
}
