//! The rows of a COPY in fewer messages.
//!
//! A server sends each row as a message of its own, and the driver gives each message a buffer, a place in a queue
//! and a turn of its own: more work than to decode the row. Between the two, consecutive messages of COPY data are
//! put together into one as large as the driver has room for. What they say stays the same: where COPY data is cut
//! into messages has no meaning.
//!
//! Source: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY> and
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// A message's type.
const TAG_BYTES: usize = 1;
/// The type, and the length, which counts itself and all that follows.
const HEAD_BYTES: usize = 5;
/// The type of messages of COPY data.
const COPY_DATA: u8 = b'd';
/// What is asked of the connection at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// A connection to a server, from the first message of the server's on.
#[derive(Debug)]
pub(super) struct Gathered<S> {
    inner: S,
    /// What has come and was not handed on lies in `start..end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How many bytes of the message under way are still to be handed on as they are.
    passing: usize,
}

/// What the bytes at the front are.
enum Front {
    /// Too few to tell.
    Begun,
    /// A message of so many bytes, of which not all need be there, which is handed on as it is.
    Message(usize),
    /// The same of COPY data for which there is no room.
    Row(usize),
    /// Whole messages of COPY data, of so many bytes with their heads and so many without.
    Rows { bytes: usize, data: usize },
}

impl<S> Gathered<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, buffer: Vec::new(), start: 0, end: 0, passing: 0 }
    }

    fn held(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Hands on all that is there, as far as there is room; `false`: more must come first.
    ///
    /// The driver takes what comes with one read as one piece, and reads no further while more than two pieces of an
    /// answer wait to be taken. Who has not taken all of an answer and asks something else, as the driver itself does
    /// for types, would then wait for ever. So messages that come together are handed on together.
    fn hand_on(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let before = into.filled().len();
        while into.remaining() > 0 && self.hand_on_next(into, before) {}
        into.filled().len() > before
    }

    /// Hands on rows, or some of a message; `false`: there is nothing, or too little room for it. `before`: how many bytes
    /// were there before this read.
    fn hand_on_next(&mut self, into: &mut ReadBuf<'_>, before: usize) -> bool {
        if self.passing == 0 {
            match front(self.held(), into.remaining()) {
                Front::Begun => return false,
                // A row that is cut costs the driver a buffer. With the next read there may be more room.
                Front::Row(_) if into.filled().len() > before => return false,
                Front::Row(bytes) | Front::Message(bytes) => self.passing = bytes,
                Front::Rows { bytes, data } => {
                    put_together(&self.buffer[self.start..self.start + bytes], data, into);
                    self.start += bytes;
                    return true;
                }
            }
        }
        self.pass(into)
    }

    /// Hands bytes on as they are.
    fn pass(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let passed = self.passing.min(self.held().len()).min(into.remaining());
        into.put_slice(&self.buffer[self.start..self.start + passed]);
        self.start += passed;
        self.passing -= passed;
        passed > 0
    }

    /// Hands on what a server that has gone away left, as it is.
    fn hand_on_rest(&mut self, into: &mut ReadBuf<'_>) {
        self.passing = self.held().len();
        self.pass(into);
    }
}

/// Looks at what begins with a message, where so many bytes can be handed on.
fn front(held: &[u8], room: usize) -> Front {
    let Some(first) = message(held) else { return Front::Begun };
    if held[0] != COPY_DATA {
        return Front::Message(first);
    }
    if first > room.min(BUFFER_BYTES) {
        return Front::Row(first);
    }
    let (mut bytes, mut data) = (0, 0);
    while let Some(next) = held.get(bytes..)
        && let Some(length) = message(next)
        && next[0] == COPY_DATA
        && length <= next.len()
        && HEAD_BYTES + data + (length - HEAD_BYTES) <= room
    {
        bytes += length;
        data += length - HEAD_BYTES;
    }
    if bytes == 0 { Front::Begun } else { Front::Rows { bytes, data } }
}

/// The bytes of the message that these begin with, its head among them; `None`: too few to tell. Where the length is
/// impossible, all that follows: the driver says so when it sees it.
#[inline]
fn message(bytes: &[u8]) -> Option<usize> {
    let length: &[u8; HEAD_BYTES - TAG_BYTES] = bytes.get(TAG_BYTES..)?.first_chunk()?;
    let bytes = usize::try_from(u32::from_be_bytes(*length)).ok()?.saturating_add(TAG_BYTES);
    Some(if bytes < HEAD_BYTES { usize::MAX } else { bytes })
}

/// Whole messages of COPY data as one.
fn put_together(mut messages: &[u8], data: usize, into: &mut ReadBuf<'_>) {
    let length = u32::try_from(HEAD_BYTES - TAG_BYTES + data).unwrap_or(u32::MAX);
    into.put_slice(&[COPY_DATA]);
    into.put_slice(&length.to_be_bytes());
    while let Some((one, rest)) = message(messages).and_then(|length| messages.split_at_checked(length)) {
        into.put_slice(&one[HEAD_BYTES..]);
        messages = rest;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if into.remaining() == 0 || this.hand_on(into) {
            return Poll::Ready(Ok(()));
        }
        loop {
            this.buffer.resize(BUFFER_BYTES, 0);
            this.buffer.copy_within(this.start..this.end, 0);
            (this.start, this.end) = (0, this.end - this.start);
            let mut free = ReadBuf::new(&mut this.buffer[this.end..]);
            ready!(Pin::new(&mut this.inner).poll_read(context, &mut free))?;
            let come = free.filled().len();
            this.end += come;
            if come == 0 {
                this.hand_on_rest(into);
                return Poll::Ready(Ok(()));
            }
            if this.hand_on(into) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Gathered<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// Makes the TLS below a connection.
pub(super) struct GatheredTls<T>(pub T);

impl<S, T> TlsConnect<S> for GatheredTls<T>
where
    T: TlsConnect<S, Future: Send + 'static>,
{
    type Stream = Gathered<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let connecting = self.0.connect(stream);
        Box::pin(async move { Ok(Gathered::new(connecting.await?)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use tokio::io::AsyncReadExt as _;

    /// Gives one piece with each read, then ends.
    struct Pieces(VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop_front() {
                let rest = piece.split_off(piece.len().min(into.remaining()));
                into.put_slice(&piece);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    type Messages = Vec<(u8, Vec<u8>)>;

    fn bytes_of(messages: &Messages) -> Vec<u8> {
        let one = |(tag, body): &(u8, Vec<u8>)| {
            let length = u32::try_from(body.len() + 4).unwrap();
            [&[*tag][..], &length.to_be_bytes(), body].concat()
        };
        messages.iter().flat_map(one).collect()
    }

    /// The messages in these bytes, neighbours of COPY data as one, and what is no whole message.
    fn messages_of(mut bytes: &[u8]) -> (Messages, Vec<u8>, usize) {
        let (mut messages, mut count) = (Messages::new(), 0);
        while let Some(length) = message(bytes).filter(|length| *length <= bytes.len()) {
            let (one, rest) = bytes.split_at(length);
            count += 1;
            match messages.last_mut() {
                Some((COPY_DATA, data)) if one[0] == COPY_DATA => data.extend(&one[HEAD_BYTES..]),
                _ => messages.push((one[0], one[HEAD_BYTES..].to_vec())),
            }
            bytes = rest;
        }
        (messages, bytes.to_vec(), count)
    }

    /// Reads to the end, so many bytes at once.
    async fn read(pieces: impl Iterator<Item = Vec<u8>>, room: usize) -> Vec<u8> {
        let mut gathered = Gathered::new(Pieces(pieces.collect()));
        let mut read = Vec::new();
        let mut buffer = vec![0; room];
        loop {
            match gathered.read(&mut buffer).await.unwrap() {
                0 => return read,
                come => read.extend(&buffer[..come]),
            }
        }
    }

    fn messages() -> impl Strategy<Value = Messages> {
        let tag = prop_oneof![4 => Just(COPY_DATA), 1 => Just(b'N'), 1 => Just(b'c')];
        vec((tag, vec(any::<u8>(), 0..60)), 0..40)
    }

    /// What is read of these bytes, however they come and whatever room there is, says what they say.
    fn says_the_same(bytes: &[u8], size: usize, room: usize) -> Result<(), TestCaseError> {
        let pieces = bytes.chunks(size).map(<[u8]>::to_vec);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(read(pieces, room));
        let (before, rest_before, count_before) = messages_of(bytes);
        let (after, rest_after, count_after) = messages_of(&read);
        prop_assert_eq!(before, after);
        prop_assert_eq!(rest_before, rest_after);
        prop_assert!(count_after <= count_before);
        Ok(())
    }

    proptest! {
        #[test]
        fn messages_say_the_same(all in messages(), size in 1_usize..300, room in 1_usize..200, cut in 0_usize..9) {
            let mut bytes = bytes_of(&all);
            bytes.truncate(bytes.len().saturating_sub(cut));
            says_the_same(&bytes, size, room)?;
        }

        #[test]
        fn noise_is_handed_on(noise in vec(prop_oneof![Just(0), Just(COPY_DATA), any::<u8>()], 0..200), size in 1_usize..50) {
            says_the_same(&noise, size, 64)?;
        }
    }

    #[tokio::test]
    async fn rows_become_one_message() {
        let messages = vec![(COPY_DATA, vec![7; 10]); 100];
        let bytes = bytes_of(&messages);
        let read = read(std::iter::once(bytes), 8_192).await;
        assert_eq!(messages_of(&read).2, 1);
        assert_eq!(read.len(), HEAD_BYTES + 1_000);
    }

    #[tokio::test]
    async fn what_comes_together_is_handed_on_together() {
        let row = (COPY_DATA, vec![7; 10]);
        let messages = vec![
            (b'2', vec![]),
            (b'H', vec![1; 9]),
            row.clone(),
            row,
            (b'c', vec![]),
            (b'C', vec![2; 7]),
            (b'Z', vec![3]),
        ];
        let bytes = bytes_of(&messages);
        let mut gathered = Gathered::new(Pieces(VecDeque::from([bytes.clone()])));
        let mut buffer = [0; 8_192];
        let come = gathered.read(&mut buffer).await.unwrap();
        assert_eq!(come, bytes.len() - HEAD_BYTES, "two rows have become one message");
        assert_eq!(messages_of(&buffer[..come]).2, messages.len() - 1);
    }

    #[tokio::test]
    async fn a_row_larger_than_the_buffer_passes() {
        let messages = vec![(COPY_DATA, vec![1; 10]), (COPY_DATA, vec![2; 2 * BUFFER_BYTES]), (b'c', vec![])];
        let bytes = bytes_of(&messages);
        let read = read(bytes.chunks(70_000).map(<[u8]>::to_vec), 8_192).await;
        assert_eq!(read, bytes);
    }
}
