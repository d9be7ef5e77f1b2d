//! Room for each of many rows, put full column by column.
//!
//! Row by row, what a column puts has to be looked up anew for each value: its name, its texts, whether it has NULLs.
//! Column by column that is done once, and no value waits for the one before it.

use crate::piece::{Piece, Room, SHORT_BYTES};
use crate::texts::Texts;
use arrow::buffer::NullBuffer;
use std::ops::Range;

/// So much room is behind each row, for what is too much of its last piece.
const SLACK_BYTES: usize = 64;
const _: () = assert!(SHORT_BYTES <= SLACK_BYTES);

/// So many rows get room at a time, or fewer that need so many bytes: what is put for one column is still in the
/// processor's nearest cache when the next one's turn has come.
const TOGETHER: usize = 128;
const MOST_BYTES: usize = 256 << 10;

/// How many bytes a value's length takes in front of it.
pub const LENGTH_BYTES: usize = 4;
/// What is put for a value at once: a short lead, a length and a short text.
const WINDOW_BYTES: usize = SHORT_BYTES + LENGTH_BYTES + SHORT_BYTES;

/// What a column puts.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// In front of each value.
    pub lead: &'a Piece,
    /// Whether a value's length follows, four bytes, the highest first.
    pub has_length: bool,
    /// The values.
    pub texts: &'a Texts,
    /// The rows without a value, and what is put for them.
    pub nulls: Option<(&'a NullBuffer, &'a Piece)>,
}

/// The rooms of rows, one behind the other, with gaps: measured, opened, put full and looked at, again and again.
#[derive(Debug, Default)]
pub struct Rooms {
    bytes: Vec<u8>,
    first_row: usize,
    places: Vec<Place>,
}

/// Where the room of a row is.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: usize,
    /// Where what has been put ends; while room is measured, how many bytes the row needs.
    end: usize,
    /// How far it may reach.
    limit: usize,
}

impl Rooms {
    /// Goes through so many rows, a few at a time: `measure` says how much each of them needs, beginning with
    /// [`Rooms::measure`], and `fill` puts as much for those that have room, and takes it.
    pub fn in_turns(rows: usize, measure: impl Fn(Range<usize>, &mut Self), mut fill: impl FnMut(&mut Self)) {
        let (mut rooms, mut start) = (Self::default(), 0);
        while start < rows {
            measure(start..rows.min(start + TOGETHER), &mut rooms);
            rooms.open(MOST_BYTES);
            start = rooms.rows().end;
            fill(&mut rooms);
        }
    }

    /// Forgets what is there, and begins to measure room for these rows, each of which needs so many bytes.
    pub fn measure(&mut self, rows: Range<usize>, bytes: usize) {
        self.first_row = rows.start;
        self.places.clear();
        self.places.resize(rows.len(), Place { start: 0, end: bytes, limit: 0 });
    }

    /// Each row needs so many bytes more, and its text.
    pub fn more(&mut self, bytes: usize, texts: &Texts) {
        let rows = self.rows();
        for (place, (_, length)) in self.places.iter_mut().zip(texts.of_rows(rows).1) {
            place.end += bytes + *length as usize;
        }
    }

    /// Makes as much room as was measured. Of the rows only the first ones stay that need no more than `most` bytes
    /// together, but one at least.
    pub(crate) fn open(&mut self, most: usize) {
        let (mut end, mut count) = (0, 0);
        for place in &mut self.places {
            let needed = place.end + SLACK_BYTES;
            if count > 0 && end + needed > most {
                break;
            }
            *place = Place { start: end, end, limit: end + place.end };
            end += needed;
            count += 1;
        }
        self.places.truncate(count);
        // What is there already is put over. Behind the last row there is a whole window, too.
        if self.bytes.len() < end + WINDOW_BYTES {
            self.bytes.resize(end + WINDOW_BYTES, 0);
        }
    }

    /// The rows that have room.
    #[must_use]
    pub fn rows(&self) -> Range<usize> {
        self.first_row..self.first_row + self.places.len()
    }

    /// Puts something for each row, behind what is there. No more than was measured: the next row would begin with it.
    #[inline]
    pub fn each(&mut self, mut put: impl FnMut(usize, &mut Room<'_>)) {
        for (place, row) in self.places.iter_mut().zip(self.first_row..) {
            let mut room = Room::behind(&mut self.bytes, place.end);
            put(row, &mut room);
            place.end = room.filled();
        }
    }

    /// Puts a column's values, each behind what is there.
    pub fn put(&mut self, column: &Column<'_>) {
        match (column.nulls, column.lead.short()) {
            (None, Some(lead)) => self.put_all(column, lead),
            (nulls, _) => self.each(|row, room| match nulls {
                Some((nulls, null)) if nulls.is_null(row) => room.piece(null),
                _ => column.put(row, room),
            }),
        }
    }

    /// The same where there is no NULL and the lead is short: each value is put into a window, of which is known once for
    /// all of its pieces that it is there.
    fn put_all(&mut self, column: &Column<'_>, lead: &[u8; SHORT_BYTES]) {
        let length_at = column.lead.len().min(SHORT_BYTES);
        let text_at = if column.has_length { length_at + LENGTH_BYTES } else { length_at };
        let rows = self.rows();
        let (texts, values) = column.texts.of_rows(rows.clone());
        // As they are here, the compiler knows that nothing that is put alters them.
        let bytes = self.bytes.as_mut_slice();
        for ((place, (start, length)), row) in self.places.iter_mut().zip(values).zip(rows) {
            let (at, start) = (place.end, *start as usize);
            let window = bytes.get_mut(at..at + WINDOW_BYTES).and_then(<[u8]>::first_chunk_mut);
            let text = texts.get(start..start + SHORT_BYTES).and_then(<[u8]>::first_chunk);
            match (window, text) {
                (Some(window), Some(text)) if *length as usize <= SHORT_BYTES => {
                    let window: &mut [u8; WINDOW_BYTES] = window;
                    let text: &[u8; SHORT_BYTES] = text;
                    window[..SHORT_BYTES].copy_from_slice(lead);
                    // Without a length its place is the text's, which is put over it.
                    window[length_at..length_at + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
                    window[text_at..text_at + SHORT_BYTES].copy_from_slice(text);
                    place.end = at + text_at + *length as usize;
                }
                _ => {
                    let mut room = Room::behind(bytes, at);
                    column.put(row, &mut room);
                    place.end = room.filled();
                }
            }
        }
    }

    /// Puts something for each row, told how many bytes are there.
    #[inline]
    pub fn each_filled(&mut self, mut put: impl FnMut(usize, &mut Room<'_>)) {
        for place in &mut self.places {
            let mut room = Room::behind(&mut self.bytes, place.end);
            put(place.end - place.start, &mut room);
            place.end = room.filled();
        }
    }

    /// What was put for each row. A row that took more than was measured is a fault of the program, and ends it.
    pub fn filled(&self) -> impl Iterator<Item = &[u8]> {
        self.places.iter().map(|place| {
            assert!(place.end <= place.limit, "a row took more room than it needed");
            &self.bytes[place.start..place.end]
        })
    }
}

impl Column<'_> {
    #[inline]
    fn put(&self, row: usize, room: &mut Room<'_>) {
        room.piece(self.lead);
        if self.has_length {
            room.first(&self.texts.length_bytes(row), LENGTH_BYTES);
        }
        self.texts.put(row, room);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"a text that is longer than the longest of all short pieces, which are 32 bytes";

    fn put(rooms: &mut Rooms, rows: Range<usize>, most: usize) -> Vec<Vec<u8>> {
        let lengths = (0..200).map(|row| u32::try_from(row % TEXT.len()).unwrap());
        let bounds: Vec<u32> =
            lengths.scan(0, |end, length| Some(std::mem::replace(end, *end + length))).collect();
        rooms.measure(rows, 1);
        rooms.more(0, &Texts::between(Vec::new(), &[bounds, vec![u32::MAX]].concat()));
        rooms.open(most);
        rooms.each(|row, room| room.within(TEXT, 0, row % TEXT.len()));
        rooms.each_filled(|filled, room| room.first(&[u8::try_from(filled).unwrap()], 1));
        rooms.filled().map(<[u8]>::to_vec).collect()
    }

    fn expected(rows: Range<usize>) -> Vec<Vec<u8>> {
        let one = |row: usize| {
            let length = row % TEXT.len();
            [&TEXT[..length], &[u8::try_from(length).unwrap()]].concat()
        };
        rows.map(one).collect()
    }

    #[test]
    fn rows_lie_side_by_side() {
        let mut rooms = Rooms::default();
        for rows in [0..200, 100..101, 3..3, 70..90] {
            assert_eq!(put(&mut rooms, rows.clone(), usize::MAX), expected(rows.clone()));
            assert_eq!(rooms.rows(), rows);
        }
    }

    #[test]
    fn columns_put_values_of_every_length_behind_leads_of_every_length() {
        let row_bytes = |row: usize| &TEXT[..row];
        let all: Vec<u8> = (0..TEXT.len()).flat_map(row_bytes).copied().collect();
        let end = |row: usize| u32::try_from((0..row).sum::<usize>()).unwrap();
        let bounds: Vec<u32> = (0..=TEXT.len()).map(end).collect();
        let texts = Texts::between(all, &bounds);
        let valid: NullBuffer = (0..TEXT.len()).map(|row| row % 3 > 0).collect();
        let null = Piece::new(b"NULL");
        let mut rooms = Rooms::default();
        for (lead, has_length, is_sparse) in (0..70).flat_map(|lead| {
            [(lead, false, false), (lead, true, false), (lead, false, true), (lead, true, true)]
        }) {
            let lead = Piece::new(&TEXT[TEXT.len() - lead..]);
            let column = Column {
                lead: &lead,
                has_length,
                texts: &texts,
                nulls: is_sparse.then_some((&valid, &null)),
            };
            rooms.measure(0..TEXT.len(), null.len() + lead.len() + LENGTH_BYTES);
            rooms.more(0, &texts);
            rooms.open(usize::MAX);
            rooms.put(&column);
            for (row, put) in rooms.filled().enumerate() {
                let length = u32::try_from(row).unwrap().to_be_bytes();
                let length = if has_length { &length[..] } else { &[] };
                let value = [lead.bytes(), length, row_bytes(row)].concat();
                let expected = if is_sparse && valid.is_null(row) { null.bytes() } else { &value };
                assert_eq!(put, expected, "{column:?} {row}");
            }
        }
    }

    #[test]
    fn only_so_many_rows_have_room() {
        let mut rooms = Rooms::default();
        assert_eq!(put(&mut rooms, 5..200, 10 * SLACK_BYTES), expected(5..13));
        assert_eq!(put(&mut rooms, 5..200, 0), expected(5..6));
        assert_eq!(rooms.rows(), 5..6);
    }

    #[test]
    #[should_panic(expected = "a row took more room")]
    fn a_row_does_not_reach_into_the_next() {
        let mut rooms = Rooms::default();
        rooms.measure(0..2, 3);
        rooms.open(usize::MAX);
        rooms.each(|_, room| room.within(TEXT, 0, 4));
        let _ = rooms.filled().count();
    }
}
