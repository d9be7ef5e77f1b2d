//! The bytes of a text file, unpacked, from one end to the other.

use crate::catalog::{DataFile, Expected};
use crate::client::Place;
use crate::error::{Fault, Outcome};
use crate::format::Compression;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::MultiGzDecoder;
use md5::{Digest as _, Md5};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use whimbrel_store::StoreErrorKind;

const BUFFER_BYTES: usize = 256 << 10;
/// A mark at the beginning of a text, which is no part of it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// A text under way.
pub(super) struct Input {
    reader: BufReader<Box<dyn Read + Send>>,
    /// The place of the next byte, in the unpacked text.
    position: u64,
    digest: Option<Digest>,
    expected: Option<Expected>,
}

type Digest = Arc<Mutex<Md5>>;

impl Input {
    /// Opens a file at a byte of its unpacked text; what is packed, or has a digest, is read from its start.
    pub(super) fn open(place: &Place, handle: &Handle, file: &DataFile, at: u64) -> Outcome<Self> {
        let compression = Compression::of_name(&file.file.path).0;
        let md5 = file.expected.as_ref().and_then(|expected| expected.md5.as_ref());
        let is_whole = compression != Compression::None || md5.is_some();
        let from = if is_whole { 0 } else { at };
        let mut raw = place.reader(handle, &file.file, from, file.file.size)?;
        let mut digest = None;
        if md5.is_some() {
            let shared = Digest::default();
            digest = Some(Arc::clone(&shared));
            raw = Box::new(Digesting { inner: raw, digest: shared });
        }
        let unpacked: Box<dyn Read + Send> = match compression {
            Compression::None => raw,
            Compression::Gzip => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, raw))),
            Compression::Zstd => Box::new(Unpacking(zstd::stream::read::Decoder::new(raw)?)),
        };
        let mut input = Self {
            reader: BufReader::with_capacity(BUFFER_BYTES, unpacked),
            position: from,
            digest,
            expected: file.expected.clone(),
        };
        if at == 0 {
            input.pass_mark()?;
        } else if is_whole {
            input.pass(at)?;
        }
        Ok(input)
    }

    /// A text that is at hand, given out in small stretches.
    #[cfg(test)]
    pub(super) fn of(text: Vec<u8>, stretch_bytes: usize) -> Self {
        let reader: Box<dyn Read + Send> = Box::new(io::Cursor::new(text));
        let reader = BufReader::with_capacity(stretch_bytes.max(1), reader);
        Self { reader, position: 0, digest: None, expected: None }
    }

    /// The place of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// The bytes at hand; empty at the end.
    pub(super) fn fill(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    /// Passes over bytes that [`Input::fill`] gave.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.position += u64::try_from(bytes).unwrap_or(0);
    }

    /// Passes over the rest of the line that the next byte belongs to.
    pub(super) fn pass_line(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            match memchr::memchr(b'\n', bytes) {
                Some(at) => {
                    self.consume(at + 1);
                    return Ok(());
                }
                None => {
                    let length = bytes.len();
                    self.consume(length);
                }
            }
        }
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut (&mut self.reader).take(bytes), &mut io::sink())?;
        self.position += passed;
        Ok(())
    }

    fn pass_mark(&mut self) -> io::Result<()> {
        if self.reader.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
            self.consume(BYTE_ORDER_MARK.len());
        }
        Ok(())
    }

    /// Compares a file that was read to its end with what a manifest says of it.
    pub(super) fn check(mut self, records: u64) -> Outcome<()> {
        let Some(expected) = self.expected.take() else { return Ok(()) };
        if records != expected.items {
            let what = format!("it holds {records} items, and the export's manifest says {}", expected.items);
            return Err(Fault::found(StoreErrorKind::Mismatch, what));
        }
        io::copy(&mut self.reader, &mut io::sink())?;
        let Some((digest, said)) = self.digest.take().zip(expected.md5) else { return Ok(()) };
        let found = digest.lock().unwrap_or_else(PoisonError::into_inner).clone().finalize();
        if BASE64.encode(found) == said {
            return Ok(());
        }
        let what = "its bytes do not have the MD5 that the export's manifest says";
        Err(Fault::found(StoreErrorKind::Mismatch, what))
    }
}

/// Whether a text begins with an array.
pub(super) fn is_array(input: &mut Input) -> Outcome<bool> {
    let bytes = input.fill()?;
    Ok(bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'['))
}

/// Tells what is wrong with packed bytes from what is wrong with reading them: the decoder's own errors have no
/// kind.
struct Unpacking<R>(R);

impl<R: Read> Read for Unpacking<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into).map_err(|error| {
            let is_below = error.raw_os_error().is_some()
                || error.get_ref().is_some_and(|inner| inner.is::<object_store::Error>());
            if error.kind() == io::ErrorKind::Other && !is_below {
                io::Error::new(io::ErrorKind::InvalidData, error)
            } else {
                error
            }
        })
    }
}

/// Computes the digest of what is read through it.
struct Digesting {
    inner: Box<dyn Read + Send>,
    digest: Digest,
}

impl Read for Digesting {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.digest.lock().unwrap_or_else(PoisonError::into_inner).update(&into[..length]);
        Ok(length)
    }
}
