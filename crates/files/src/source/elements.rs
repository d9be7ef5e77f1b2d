//! Elements of a JSON array, or JSON texts one behind the other, told apart without reading them.
//!
//! An object ends where its braces are balanced, outside of strings; what else is wrong with it is found when it
//! is read, and costs that record alone.

use super::frame::{Framed, TORN, take};
use super::input::Input;
use super::part::Within;
use crate::error::{Fault, Outcome};
use whimbrel_store::StoreErrorKind;

const NO_END: &str = "the file ends within the array, before its closing bracket";

/// Appends the next value; `None`: there is none.
pub(super) fn next(within: &mut Within, input: &mut Input, into: &mut Vec<u8>) -> Outcome<Option<Framed>> {
    let Some(first) = begin(within, input)? else {
        let was_array = std::mem::replace(within, Within::End) == Within::Array;
        return Ok(was_array.then_some(Framed { fault: Some(NO_END) }));
    };
    if *within == Within::End || (first == b']' && *within == Within::Array) {
        *within = Within::End;
        input.consume(1);
        return match blanks(input)? {
            None => Ok(None),
            Some(_) => Err(unexpected(input, "the array has ended")),
        };
    }
    let started = into.len();
    let is_whole = match first {
        b'{' => balanced(input, into, (b'{', b'}'))?,
        b'[' => balanced(input, into, (b'[', b']'))?,
        b'"' => string(input, into)?,
        b',' | b']' | b'}' | b':' => return Err(unexpected(input, "a value is expected")),
        _ => word(input, into, started)?,
    };
    if *within == Within::Start {
        *within = Within::Sequence;
    }
    Ok(Some(Framed { fault: (!is_whole).then_some(TORN) }))
}

/// Passes over what lies before a value; its first byte.
fn begin(within: &mut Within, input: &mut Input) -> Outcome<Option<u8>> {
    let Some(first) = (if *within == Within::End { None } else { blanks(input)? }) else { return Ok(None) };
    match (*within, first) {
        (Within::Start, b'[') => {
            *within = Within::Array;
            input.consume(1);
            blanks(input)
        }
        (Within::Array, b',') => {
            input.consume(1);
            blanks(input)
        }
        _ => Ok(Some(first)),
    }
}

/// Passes over blanks; the byte behind them.
pub(super) fn blanks(input: &mut Input) -> Outcome<Option<u8>> {
    loop {
        let bytes = input.fill()?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let found = bytes.iter().position(|byte| !byte.is_ascii_whitespace());
        let (length, byte) = found.map_or((bytes.len(), None), |at| (at, Some(bytes[at])));
        input.consume(length);
        if byte.is_some() {
            return Ok(byte);
        }
    }
}

pub(super) fn unexpected(input: &mut Input, what: &str) -> Fault {
    let byte = input.fill().ok().and_then(|bytes| bytes.first().copied()).unwrap_or_default();
    let what = format!("at byte {}: {what}, and there is {:?}", input.position(), char::from(byte));
    Fault::found(StoreErrorKind::Protocol, what)
}

/// Appends an object or an array; `false`: the text ends within it.
pub(super) fn balanced(input: &mut Input, into: &mut Vec<u8>, (open, close): (u8, u8)) -> Outcome<bool> {
    let started = into.len();
    let mut depth = 0_usize;
    let mut quoted = false;
    let mut escaped = false;
    loop {
        let bytes = input.fill()?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let mut at = 0;
        let mut ends = false;
        while at < bytes.len() {
            if escaped {
                escaped = false;
                at += 1;
            } else if quoted {
                let found = memchr::memchr2(b'"', b'\\', &bytes[at..]);
                let Some(found) = found else { break };
                if bytes[at + found] == b'"' {
                    quoted = false;
                } else {
                    escaped = true;
                }
                at += found + 1;
            } else {
                let found = memchr::memchr3(b'"', open, close, &bytes[at..]);
                let Some(found) = found else { break };
                let byte = bytes[at + found];
                at += found + 1;
                if byte == b'"' {
                    quoted = true;
                } else if byte == open {
                    depth += 1;
                } else {
                    depth = depth.saturating_sub(1);
                    ends = depth == 0;
                }
                if ends {
                    break;
                }
            }
        }
        let length = if ends { at } else { bytes.len() };
        take(input, into, started, length)?;
        if ends {
            return Ok(true);
        }
    }
}

/// Appends a string; `false`: the text ends within it.
pub(super) fn string(input: &mut Input, into: &mut Vec<u8>) -> Outcome<bool> {
    let started = into.len();
    take(input, into, started, 1)?;
    let mut escaped = false;
    loop {
        let bytes = input.fill()?;
        if bytes.is_empty() {
            return Ok(false);
        }
        let mut end = None;
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    end = Some(at + 1);
                    break;
                }
                _ => {}
            }
        }
        let length = end.unwrap_or(bytes.len());
        take(input, into, started, length)?;
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Appends a number, or a word, up to what cannot be part of one.
pub(super) fn word(input: &mut Input, into: &mut Vec<u8>, started: usize) -> Outcome<bool> {
    loop {
        let bytes = input.fill()?;
        let end = bytes.iter().position(|byte| {
            byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}' | b'{' | b'[' | b'"')
        });
        let (length, is_last) = (end.unwrap_or(bytes.len()), end.is_some() || bytes.is_empty());
        take(input, into, started, length)?;
        if is_last {
            return Ok(true);
        }
    }
}
