//! Where one record ends and the next begins, in a text that is read once.

use super::csv::Separator;
use super::input::Input;
use super::part::Within;
use super::{elements, members};
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
    /// Each is a member of one object.
    Members(Within),
    /// Each is a line, but for newlines in quotes.
    Csv(Separator),
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
            Self::Members(within) => members::next(within, input, into),
            Self::Csv(separator) => csv_record(input, into, *separator),
        }
    }

    /// Where a JSON text goes on.
    pub(super) fn within(self) -> Within {
        match self {
            Self::Elements(within) | Self::Members(within) => within,
            Self::Lines | Self::Csv(_) => Within::Start,
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
fn csv_record(input: &mut Input, into: &mut Vec<u8>, separator: Separator) -> Outcome<Option<Framed>> {
    let started = into.len();
    let mut field = Field::Start;
    loop {
        let bytes = input.fill()?;
        if bytes.is_empty() {
            let fault = (field == Field::Quoted).then_some(TORN);
            strip_return(into, started);
            return Ok((into.len() > started).then_some(Framed { fault }));
        }
        let (length, ends) = scan_csv(bytes, &mut field, separator.byte());
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
fn scan_csv(bytes: &[u8], field: &mut Field, separator: u8) -> (usize, bool) {
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
            Field::Bare => match memchr::memchr2(separator, b'\n', &bytes[at..]) {
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
                    byte if byte == separator => *field = Field::Start,
                    b'"' => *field = Field::Quoted,
                    _ => *field = Field::Bare,
                }
                at += 1;
            }
        }
    }
    (bytes.len(), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::csv::Fields;
    use proptest::prelude::*;
    use serde_json::Value;

    /// The records of a text, with the place behind each, read in small stretches.
    fn framed(framing: Framing, text: &str, stretch_bytes: usize) -> Vec<(String, u64)> {
        let mut input = Input::of(text.as_bytes().to_vec(), stretch_bytes);
        let (mut framing, mut records) = (framing, Vec::new());
        loop {
            let mut into = b"before".to_vec();
            match framing.next(&mut input, &mut into).unwrap() {
                Some(framed) => {
                    assert_eq!(framed.fault, None);
                    let record = String::from_utf8(into.split_off(6)).unwrap();
                    records.push((record, input.position()));
                }
                None => return records,
            }
        }
    }

    fn texts(records: &[(String, u64)]) -> Vec<&str> {
        records.iter().map(|(record, _)| record.as_str()).collect()
    }

    fn document() -> impl Strategy<Value = Value> {
        let text = prop_oneof!["[a-z\\\\\"{}\\[\\],\n]{0,12}", any::<String>()];
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), text.prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            let name = "[a-c\\\\\"}\\]]{0,4}";
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((name, inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_is_cut_where_its_values_end(
            values in proptest::collection::vec(document(), 0..6),
            stretch_bytes in 1_usize..20,
            pretty in any::<bool>(),
        ) {
            let whole = Value::from(values.clone());
            let text = if pretty { serde_json::to_string_pretty(&whole) } else { serde_json::to_string(&whole) };
            let text = text.unwrap();
            let records = framed(Framing::Elements(Within::Start), &text, stretch_bytes);
            let read: Vec<Value> = records.iter().map(|(record, _)| serde_json::from_str(record).unwrap()).collect();
            prop_assert_eq!(&read, &values);
            // Behind any record the rest is what is left.
            for (done, (_, at)) in (1..).zip(&records) {
                let rest = &text[usize::try_from(*at).unwrap()..];
                let rest = framed(Framing::Elements(Within::Array), rest, stretch_bytes);
                prop_assert_eq!(texts(&rest), &texts(&records)[done..]);
            }
        }

        #[test]
        fn csv_is_cut_where_its_records_end(
            rows in proptest::collection::vec(proptest::collection::vec(proptest::option::of("[a-c\",\n\r]{0,6}"), 2), 0..6),
            stretch_bytes in 1_usize..20,
            newline in prop_oneof![Just("\n"), Just("\r\n")],
        ) {
            let field = |field: &Option<String>| {
                field.as_ref().map(|text| format!("\"{}\"", text.replace('"', "\"\""))).unwrap_or_default()
            };
            let line = |row: &Vec<Option<String>>| row.iter().map(field).collect::<Vec<_>>().join(",") + newline;
            let text: String = rows.iter().map(line).collect();
            let records = framed(Framing::Csv(Separator::COMMA), &text, stretch_bytes);
            let read: Vec<Vec<Option<String>>> = records
                .iter()
                .map(|(record, _)| {
                    Fields::of(record, Separator::COMMA).map(|field| field.unwrap().map(Into::into)).collect()
                })
                .collect();
            prop_assert_eq!(read, rows);
        }
    }

    #[test]
    fn lines_are_cut_at_newlines_whatever_the_stretches() {
        for stretch_bytes in [1, 2, 3, 100] {
            let records = framed(Framing::Lines, "a\r\n\n  \nbc\n\nd", stretch_bytes);
            assert_eq!(texts(&records), ["a", "bc", "d"]);
            assert_eq!(records[1].1, 10);
        }
    }

    #[test]
    fn a_record_without_end_is_not_held_in_memory() {
        let text = format!("{{\"a\":\"{}", "x".repeat(LONGEST_RECORD_BYTES + 10));
        for framing in [Framing::Lines, Framing::Elements(Within::Start)] {
            let mut input = Input::of(text.clone().into_bytes(), 1 << 16);
            let fault = { framing }.next(&mut input, &mut Vec::new()).unwrap_err();
            assert_eq!(fault.kind(), StoreErrorKind::Unsupported);
        }
    }
}
