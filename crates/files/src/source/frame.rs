//! Where one record ends and the next begins, in a text that is read once.

use super::elements;
use super::input::Input;
use super::part::Within;
use crate::error::{Fault, Outcome};
use whimbrel_store::StoreErrorKind;

/// The longest record that is held in memory.
const LONGEST_RECORD_BYTES: usize = 64 << 20;

/// How records are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Each is a line.
    Lines,
    /// Each is an element of an array, or one of several JSON texts.
    Elements(Within),
    /// Each is a line, but for newlines in quotes.
    Csv,
}

/// A record whose bytes were appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Framed {
    /// Why it is no whole record.
    pub(super) fault: Option<&'static str>,
}

/// A record ends with the file.
pub(super) const TORN: &str = "the file ends within this record";

impl Framing {
    /// Appends the bytes of the next record, without what separates it from others; `None`: there is none.
    pub(super) fn next(&mut self, input: &mut Input, into: &mut Vec<u8>) -> Outcome<Option<Framed>> {
        match self {
            Self::Lines => line(input, into),
            Self::Elements(within) => elements::next(within, input, into),
            Self::Csv => csv_record(input, into),
        }
    }

    /// Where a JSON text goes on.
    pub(super) fn within(self) -> Within {
        match self {
            Self::Elements(within) => within,
            Self::Lines | Self::Csv => Within::Start,
        }
    }
}

/// Takes bytes of a record.
pub(super) fn take(input: &mut Input, into: &mut Vec<u8>, started: usize, bytes: usize) -> Outcome<()> {
    let taken = input.fill()?.get(..bytes).unwrap_or_default();
    into.extend_from_slice(taken);
    input.consume(bytes);
    if into.len() - started > LONGEST_RECORD_BYTES {
        let megabytes = LONGEST_RECORD_BYTES >> 20;
        let what = format!(
            "the record before byte {} is longer than {megabytes} MB; is the format another?",
            input.position()
        );
        return Err(Fault::found(StoreErrorKind::Unsupported, what));
    }
    Ok(())
}

/// The next line that is not blank.
fn line(input: &mut Input, into: &mut Vec<u8>) -> Outcome<Option<Framed>> {
    let started = into.len();
    loop {
        let bytes = input.fill()?;
        if bytes.is_empty() {
            return Ok(ended(into, started).then(Framed::default));
        }
        match memchr::memchr(b'\n', bytes) {
            None => {
                let length = bytes.len();
                take(input, into, started, length)?;
            }
            Some(at) => {
                take(input, into, started, at)?;
                input.consume(1);
                if ended(into, started) {
                    return Ok(Some(Framed::default()));
                }
            }
        }
    }
}

/// Whether there is a record; one of blanks is none.
fn ended(into: &mut Vec<u8>, started: usize) -> bool {
    if into[started..].last() == Some(&b'\r') {
        into.pop();
    }
    let is_blank = into[started..].iter().all(u8::is_ascii_whitespace);
    if is_blank {
        into.truncate(started);
    }
    !is_blank
}

/// Where in a record of CSV the next byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    /// At its first byte.
    Start,
    /// In one without quotes.
    Bare,
    /// Between its quotes.
    Quoted,
    /// Behind a quote that may be the first of two.
    Quote,
}

/// The next record of CSV; a line without any byte is none.
fn csv_record(input: &mut Input, into: &mut Vec<u8>) -> Outcome<Option<Framed>> {
    let started = into.len();
    let mut field = Field::Start;
    loop {
        let bytes = input.fill()?;
        if bytes.is_empty() {
            let fault = (field == Field::Quoted).then_some(TORN);
            strip_return(into, started);
            return Ok((into.len() > started).then_some(Framed { fault }));
        }
        let (length, ends) = scan_csv(bytes, &mut field);
        take(input, into, started, length)?;
        if ends {
            input.consume(1);
            strip_return(into, started);
            if into.len() > started {
                return Ok(Some(Framed::default()));
            }
            field = Field::Start;
        }
    }
}

fn strip_return(into: &mut Vec<u8>, started: usize) {
    if into[started..].last() == Some(&b'\r') {
        into.pop();
    }
}

/// How many bytes belong to the record, and whether a newline ends it behind them.
fn scan_csv(bytes: &[u8], field: &mut Field) -> (usize, bool) {
    let mut at = 0;
    while at < bytes.len() {
        match field {
            Field::Quoted => match memchr::memchr(b'"', &bytes[at..]) {
                None => return (bytes.len(), false),
                Some(found) => {
                    *field = Field::Quote;
                    at += found + 1;
                }
            },
            Field::Bare => match memchr::memchr2(b',', b'\n', &bytes[at..]) {
                None => return (bytes.len(), false),
                Some(found) if bytes[at + found] == b'\n' => return (at + found, true),
                Some(found) => {
                    *field = Field::Start;
                    at += found + 1;
                }
            },
            Field::Start | Field::Quote => {
                match bytes[at] {
                    b'\n' => return (at, true),
                    b',' => *field = Field::Start,
                    b'"' => *field = Field::Quoted,
                    _ => *field = Field::Bare,
                }
                at += 1;
            }
        }
    }
    (bytes.len(), false)
}
