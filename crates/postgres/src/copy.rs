//! `COPY … TO STDOUT (FORMAT binary)`: rows out of a byte stream, however it is cut.

use std::ops::Range;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, and the length of the extension area.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;
/// The flags' upper half: what a reader must understand or refuse.
const CRITICAL_FLAGS: u32 = 0xFFFF_0000;
/// PostgreSQL's own limit of one message; a longer field is a broken stream, not a long value.
const MAX_FIELD_BYTES: usize = 1 << 30;
/// Before a row's fields stands how many they are.
const COUNT_BYTES: usize = 2;
/// Before a field stands its length.
const LENGTH_BYTES: usize = 4;
/// The length of a field that is NULL.
const NULL: i32 = -1;
/// What stands behind the last row instead of a count.
const TRAILER: i16 = -1;
/// With so many fields, rows are handed on: what was found of them still lies in the processor's caches.
const FIELDS_AT_ONCE: usize = 4_096;
const TOO_LONG: CopyError = CopyError("rows of more than 4 GB at once");

/// The stream is not what the format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed COPY data: {0}")]
pub(crate) struct CopyError(pub(crate) &'static str);

/// Where a field lies in a chunk. A NULL has the length -1.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    length: i32,
}

/// A row as it came: its fields, undecoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Row<'a> {
    /// What it took on the wire.
    #[inline]
    pub(crate) fn len(self) -> usize {
        extent(self.spans)
    }

    /// A field; `None` for NULL.
    #[inline]
    pub(crate) fn field(self, at: usize) -> Option<&'a [u8]> {
        lying(self.bytes, *self.spans.get(at)?)
    }

    /// Its fields in order, `None` for NULL.
    pub(crate) fn fields(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        self.spans.iter().map(move |span| lying(self.bytes, *span))
    }
}

/// Consecutive rows of as many fields each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    bytes: &'a [u8],
    /// Row by row.
    spans: &'a [Span],
    /// In each row.
    fields: usize,
}

impl<'a> Rows<'a> {
    /// How many they are.
    pub(crate) fn len(self) -> usize {
        self.spans.len() / self.fields
    }

    /// What they took on the wire.
    pub(crate) fn bytes(self) -> usize {
        extent(self.spans)
    }

    pub(crate) fn row(self, at: usize) -> Row<'a> {
        let spans = self.spans.get(at * self.fields..(at + 1) * self.fields);
        Row { bytes: self.bytes, spans: spans.unwrap_or_default() }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Row<'a>> {
        self.spans.chunks_exact(self.fields).map(move |spans| Row { bytes: self.bytes, spans })
    }

    /// Some of them.
    pub(crate) fn part(self, rows: Range<usize>) -> Self {
        let spans = self.spans.get(rows.start * self.fields..rows.end * self.fields);
        Self { spans: spans.unwrap_or_default(), ..self }
    }

    /// A field of each of them, `None` for NULL.
    #[inline]
    pub(crate) fn column(self, at: usize) -> impl ExactSizeIterator<Item = Option<&'a [u8]>> {
        // Of a field that no row has there are fewer than rows, and a batch with such a column is refused.
        let spans = self.spans.get(at..).unwrap_or_default();
        spans.iter().step_by(self.fields).map(move |span| lying(self.bytes, *span))
    }
}

/// What the fields of consecutive rows take on the wire, which stand one behind the other.
#[inline]
fn extent(spans: &[Span]) -> usize {
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return 0 };
    let fields = last.start - first.start + u32::try_from(last.length).unwrap_or(0);
    COUNT_BYTES + LENGTH_BYTES + usize::try_from(fields).unwrap_or(usize::MAX)
}

/// The bytes of a field, which lie there: one that did not would be a value lost in silence, and must not pass.
#[inline]
fn lying(bytes: &[u8], span: Span) -> Option<&[u8]> {
    let length = usize::try_from(span.length).ok()?;
    Some(&bytes[span.start as usize..][..length])
}

/// A row of fields that did not come in one.
#[derive(Debug, Default)]
pub(crate) struct OwnRow {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl OwnRow {
    /// Of values one by one, `None` for NULL.
    pub(crate) fn of_values<'v>(values: impl Iterator<Item = Option<&'v [u8]>>) -> Result<Self, CopyError> {
        let mut row = Self::default();
        for value in values {
            let length = value.map_or(Ok(NULL), |value| i32::try_from(value.len())).map_err(|_| TOO_LONG)?;
            row.bytes.extend_from_slice(&length.to_be_bytes());
            let start = u32::try_from(row.bytes.len()).map_err(|_| TOO_LONG)?;
            row.bytes.extend_from_slice(value.unwrap_or_default());
            row.spans.push(Span { start, length });
        }
        Ok(row)
    }

    /// Of fields as they stand in a row, each behind its length.
    pub(crate) fn of_fields(fields: &[u8]) -> Result<Self, CopyError> {
        let mut row = Self { bytes: fields.to_vec(), spans: Vec::new() };
        let mut at = 0;
        while at < fields.len() {
            at = field_end(fields, at, &mut row.spans)?.ok_or(CopyError("a field is cut short"))?;
        }
        if at > fields.len() { Err(CopyError("a field is cut short")) } else { Ok(row) }
    }

    /// As rows, of which it is the only one.
    pub(crate) fn as_rows(&self) -> Rows<'_> {
        Rows { bytes: &self.bytes, spans: &self.spans, fields: self.spans.len().max(1) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Header,
    Extension(usize),
    Rows,
    Ended,
}

/// Takes chunks, gives rows.
#[derive(Debug)]
pub(crate) struct CopyDecoder {
    /// What came of a row that is not whole yet. Chunks mostly end where rows do, and rows then lie in them.
    begun: Vec<u8>,
    state: State,
    fields: usize,
    /// Of rows that were found and not handed on yet.
    spans: Vec<Span>,
}

impl CopyDecoder {
    /// For rows of so many fields.
    pub(crate) fn new(fields: usize) -> Self {
        Self { begun: Vec::new(), state: State::Header, fields, spans: Vec::new() }
    }

    /// Takes the next chunk of the stream, and gives `take` the rows that are whole with it.
    ///
    /// # Errors
    /// The stream is malformed, or `take` failed; the decoder is of no use then.
    pub(crate) fn rows<E: From<CopyError>>(
        &mut self,
        chunk: &[u8],
        take: impl FnMut(Rows<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.begun.is_empty() {
            let used = self.walk(chunk, take)?;
            self.begun.extend_from_slice(&chunk[used..]);
            return Ok(());
        }
        let mut begun = std::mem::take(&mut self.begun);
        begun.extend_from_slice(chunk);
        let used = self.walk(&begun, take)?;
        if used == 0 {
            self.begun = begun;
        } else {
            self.begun.extend_from_slice(&begun[used..]);
        }
        Ok(())
    }

    /// Goes over what is whole of these bytes; answers with how many they are.
    fn walk<E: From<CopyError>>(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Rows<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        u32::try_from(bytes.len()).map_err(|_| TOO_LONG)?;
        let mut at = 0;
        loop {
            let front = &bytes[at..];
            match self.state {
                State::Header => {
                    let Some(front) = front.first_chunk() else { return Ok(at) };
                    at += HEADER_BYTES;
                    self.state = State::Extension(header(front)?);
                }
                State::Extension(length) => {
                    let skipped = length.min(front.len());
                    at += skipped;
                    if skipped < length {
                        self.state = State::Extension(length - skipped);
                        return Ok(at);
                    }
                    self.state = State::Rows;
                }
                State::Rows => {
                    let found = self.find_rows(bytes, at)?;
                    if !self.spans.is_empty() {
                        take(Rows { bytes, spans: &self.spans, fields: self.fields })?;
                        self.spans.clear();
                    }
                    if found == at {
                        return Ok(at);
                    }
                    at = found;
                }
                State::Ended if front.is_empty() => return Ok(at),
                State::Ended => return Err(CopyError("bytes after the trailer").into()),
            }
        }
    }

    /// Finds rows from `at` on, some at least where one is whole; answers with where they end. Where the trailer
    /// stands, the state is another one.
    fn find_rows(&mut self, bytes: &[u8], mut at: usize) -> Result<usize, CopyError> {
        while self.spans.len() < FIELDS_AT_ONCE {
            let Some(count) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else { return Ok(at) };
            let count = i16::from_be_bytes(*count);
            if count == TRAILER {
                self.state = State::Ended;
                return Ok(at + COUNT_BYTES);
            }
            if usize::try_from(count) != Ok(self.fields) {
                return Err(CopyError("a row has another number of fields than was asked for"));
            }
            let found = self.spans.len();
            let Some(end) = row_end(bytes, at + COUNT_BYTES, self.fields, &mut self.spans)? else {
                self.spans.truncate(found);
                return Ok(at);
            };
            at = end;
        }
        Ok(at)
    }

    /// To be called at the end of the stream.
    pub(crate) fn finish(&self) -> Result<(), CopyError> {
        match self.state {
            State::Ended => Ok(()),
            _ => Err(CopyError("the stream ends before its trailer")),
        }
    }
}

/// Where a row ends whose fields begin at `at`; `None`: it is not whole.
#[inline]
fn row_end(
    bytes: &[u8],
    mut at: usize,
    fields: usize,
    spans: &mut Vec<Span>,
) -> Result<Option<usize>, CopyError> {
    spans.reserve(fields);
    for _ in 0..fields {
        let Some(end) = field_end(bytes, at, spans)? else { return Ok(None) };
        at = end;
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// Where a field ends whose length stands at `at`, which may be behind the last byte; `None`: the length is not whole.
#[inline]
fn field_end(bytes: &[u8], at: usize, spans: &mut Vec<Span>) -> Result<Option<usize>, CopyError> {
    let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
    let length = i32::from_be_bytes(*length);
    let start = at + LENGTH_BYTES;
    spans.push(Span { start: u32::try_from(start).map_err(|_| TOO_LONG)?, length });
    match usize::try_from(length) {
        Ok(length) if length <= MAX_FIELD_BYTES => Ok(Some(start + length)),
        Err(_) if length == NULL => Ok(Some(start)),
        _ => Err(CopyError("a field has an impossible length")),
    }
}

/// Looks at the header; the answer is the length of the extension area.
fn header(header: &[u8; HEADER_BYTES]) -> Result<usize, CopyError> {
    let Some([f0, f1, f2, f3, l0, l1, l2, l3]) = header.strip_prefix(SIGNATURE) else {
        return Err(CopyError("the signature is missing"));
    };
    if u32::from_be_bytes([*f0, *f1, *f2, *f3]) & CRITICAL_FLAGS != 0 {
        return Err(CopyError("a critical flag that is not known"));
    }
    usize::try_from(i32::from_be_bytes([*l0, *l1, *l2, *l3]))
        .map_err(|_| CopyError("the extension area has a negative length"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    type Fields = Vec<Option<Vec<u8>>>;

    /// A whole stream.
    pub(crate) fn encode(rows: &[Fields], extension: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend(0x0000_0001_u32.to_be_bytes());
        bytes.extend(u32::try_from(extension.len()).unwrap().to_be_bytes());
        bytes.extend(extension);
        for row in rows {
            bytes.extend(i16::try_from(row.len()).unwrap().to_be_bytes());
            for field in row {
                match field {
                    None => bytes.extend((-1_i32).to_be_bytes()),
                    Some(field) => {
                        bytes.extend(i32::try_from(field.len()).unwrap().to_be_bytes());
                        bytes.extend(field);
                    }
                }
            }
        }
        bytes.extend((-1_i16).to_be_bytes());
        bytes
    }

    fn decode<'a>(fields: usize, chunks: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Fields>, CopyError> {
        let mut decoder = CopyDecoder::new(fields);
        let mut rows = Vec::new();
        for chunk in chunks {
            decoder.rows(chunk, |come| {
                rows.extend(
                    come.iter().map(|row| row.fields().map(|field| field.map(<[u8]>::to_vec)).collect()),
                );
                Ok::<(), CopyError>(())
            })?;
        }
        decoder.finish()?;
        Ok(rows)
    }

    prop_compose! {
        fn rows()(rows in vec(vec(proptest::option::of(vec(any::<u8>(), 0..12)), 3), 0..6)) -> Vec<Fields> {
            rows
        }
    }

    proptest! {
        #[test]
        fn chunks_may_be_cut_anywhere(rows in rows(), extension in vec(any::<u8>(), 0..9), size in 1_usize..40) {
            let bytes = encode(&rows, &extension);
            prop_assert_eq!(decode(3, bytes.chunks(size)), Ok(rows));
        }

        #[test]
        fn a_cut_stream_is_an_error(rows in rows(), part in 0.0..1.0_f64) {
            let bytes = encode(&rows, b"");
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a small length")]
            let end = (bytes.len() as f64 * part) as usize;
            prop_assert!(decode(3, bytes[..end].chunks(7)).is_err());
        }

        #[test]
        fn a_changed_byte_never_panics(rows in rows(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = encode(&rows, b"");
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(read) = decode(3, bytes.chunks(11)) {
                prop_assert!(read.iter().all(|row| row.len() == 3));
            }
        }

        #[test]
        fn noise_never_panics(noise in vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(2, noise.chunks(13)).is_err());
            let mut framed = encode(&[], b"");
            framed.truncate(HEADER_BYTES);
            framed.extend(noise);
            let _ = decode(2, framed.chunks(13));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = encode(&[vec![None, None]], b"");
        assert!(decode(3, std::iter::once(&good[..])).unwrap_err().to_string().contains("number of fields"));
        let mut critical = good.clone();
        critical[11] = 1;
        assert!(decode(2, std::iter::once(&critical[..])).unwrap_err().to_string().contains("critical flag"));
        let mut long = good;
        long.push(0);
        assert!(decode(2, std::iter::once(&long[..])).unwrap_err().to_string().contains("after the trailer"));
    }
}
