//! `COPY … TO STDOUT (FORMAT binary)`: rows out of a byte stream, however it is cut.

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, and the length of the extension area.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;
/// The flags' upper half: what a reader must understand or refuse.
const CRITICAL_FLAGS: u32 = 0xFFFF_0000;
/// PostgreSQL's own limit of one message; a longer field is a broken stream, not a long value.
const MAX_FIELD_BYTES: usize = 1 << 30;
/// Before a row's fields stands how many they are.
const COUNT_BYTES: usize = 2;
/// No row is so short.
const TRAILER: usize = 0;

/// The stream is not what the format says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed COPY data: {0}")]
pub(crate) struct CopyError(pub(crate) &'static str);

/// A row as it came: its fields, undecoded, each behind its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    fields: &'a [u8],
}

impl<'a> Row<'a> {
    /// A row of fields as they stand in it, each behind its length.
    pub(crate) fn of_fields(fields: &'a [u8]) -> Self {
        Self { fields }
    }

    /// The fields as they stand in it.
    pub(crate) fn as_fields(self) -> &'a [u8] {
        self.fields
    }

    /// What it took on the wire.
    pub(crate) fn len(self) -> usize {
        COUNT_BYTES + self.fields.len()
    }

    /// Its fields in order, `None` for NULL.
    #[inline]
    pub(crate) fn fields(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk()?;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                rest = after;
                return Some(None);
            };
            let (field, after) = after.split_at_checked(length)?;
            rest = after;
            Some(Some(field))
        })
    }
}

/// Fields that came one by one, `None` for NULL, as they stand in a row.
pub(crate) fn fields_of<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> Vec<u8> {
    let mut fields = Vec::new();
    for value in values {
        match value.map(|value| (i32::try_from(value.len()).unwrap_or(i32::MAX), value)) {
            None => fields.extend((-1_i32).to_be_bytes()),
            Some((length, value)) => {
                fields.extend(length.to_be_bytes());
                fields.extend(value);
            }
        }
    }
    fields
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
}

impl CopyDecoder {
    /// For rows of so many fields.
    pub(crate) fn new(fields: usize) -> Self {
        Self { begun: Vec::new(), state: State::Header, fields }
    }

    /// Takes the next chunk of the stream, and gives `take` each row that is whole with it.
    ///
    /// # Errors
    /// The stream is malformed, or `take` failed; the decoder is of no use then.
    pub(crate) fn rows<E: From<CopyError>>(
        &mut self,
        chunk: &[u8],
        take: impl FnMut(Row<'_>) -> Result<(), E>,
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
        mut take: impl FnMut(Row<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
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
                State::Rows => match row_length(front, self.fields)? {
                    Some(TRAILER) => {
                        at += COUNT_BYTES;
                        self.state = State::Ended;
                    }
                    Some(length) => {
                        take(Row { fields: &front[COUNT_BYTES..length] })?;
                        at += length;
                    }
                    None => return Ok(at),
                },
                State::Ended if front.is_empty() => return Ok(at),
                State::Ended => return Err(CopyError("bytes after the trailer").into()),
            }
        }
    }

    /// To be called at the end of the stream.
    pub(crate) fn finish(&self) -> Result<(), CopyError> {
        match self.state {
            State::Ended => Ok(()),
            _ => Err(CopyError("the stream ends before its trailer")),
        }
    }
}

/// The bytes of the row at the front when it is whole; [`TRAILER`] for what stands behind the last.
#[inline]
fn row_length(front: &[u8], fields: usize) -> Result<Option<usize>, CopyError> {
    let Some(count) = front.first_chunk() else { return Ok(None) };
    let count = i16::from_be_bytes(*count);
    if count == -1 {
        return Ok(Some(TRAILER));
    }
    if usize::try_from(count) != Ok(fields) {
        return Err(CopyError("a row has another number of fields than was asked for"));
    }
    let mut end = COUNT_BYTES;
    for _ in 0..fields {
        let Some(length) = front.get(end..).and_then(|rest| rest.first_chunk()) else {
            return Ok(None);
        };
        end += 4;
        match i32::from_be_bytes(*length) {
            -1 => {}
            length => {
                let length = usize::try_from(length).ok().filter(|length| *length <= MAX_FIELD_BYTES);
                end += length.ok_or(CopyError("a field has an impossible length"))?;
            }
        }
    }
    Ok((end <= front.len()).then_some(end))
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
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    type Fields = Vec<Option<Vec<u8>>>;

    fn encode(rows: &[Fields], extension: &[u8]) -> Vec<u8> {
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
            decoder.rows(chunk, |row| {
                rows.push(row.fields().map(|field| field.map(<[u8]>::to_vec)).collect());
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
