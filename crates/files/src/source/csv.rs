//! Fields of CSV: RFC 4180, with the names in the first record.
//!
//! A field without quotes and without any byte is NULL; `""` is the text without characters. Within quotes a
//! quote is written twice. A quote within a field that does not begin with one is a character as any other.

use super::frame::Framing;
use super::input::Input;
use crate::error::{Fault, Outcome};
use std::borrow::Cow;
use std::collections::BTreeSet;
use whimbrel_store::StoreErrorKind;

/// The names in the first record of a file.
pub(super) fn header(input: &mut Input) -> Outcome<Vec<String>> {
    let mut text = Vec::new();
    let wrong = |what: &str| Fault::found(StoreErrorKind::Protocol, format!("the header of the CSV {what}"));
    if Framing::Csv.next(input, &mut text)?.is_none() {
        return Ok(Vec::new());
    }
    let text = String::from_utf8(text).map_err(|_| wrong("is not UTF-8"))?;
    let fields: Result<Vec<_>, _> = Fields::of(&text).collect();
    let fields = fields.map_err(|reason| wrong(&format!("cannot be read: {reason}")))?;
    let names: Vec<String> = fields.into_iter().map(|field| field.unwrap_or_default().into_owned()).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    if distinct.len() < names.len() {
        return Err(wrong("names a column twice"));
    }
    Ok(names)
}

/// The fields of a record; `None` is NULL.
pub(super) struct Fields<'a> {
    rest: Option<&'a str>,
}

impl<'a> Fields<'a> {
    pub(super) fn of(record: &'a str) -> Self {
        Self { rest: Some(record) }
    }

    fn quoted(&mut self, text: &'a str) -> Result<Cow<'a, str>, &'static str> {
        let mut field = Cow::Borrowed("");
        let mut rest = &text[1..];
        loop {
            let Some(at) = memchr::memchr(b'"', rest.as_bytes()) else {
                return Err("a quoted field does not end");
            };
            let (stretch, behind) = (&rest[..at], &rest[at + 1..]);
            if field.is_empty() {
                field = Cow::Borrowed(stretch);
            } else {
                field.to_mut().push_str(stretch);
            }
            match behind.as_bytes().first() {
                Some(b'"') => {
                    field.to_mut().push('"');
                    rest = &behind[1..];
                }
                None => {
                    self.rest = None;
                    return Ok(field);
                }
                Some(b',') => {
                    self.rest = Some(&behind[1..]);
                    return Ok(field);
                }
                Some(_) => return Err("there is text behind the closing quote of a field"),
            }
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Option<Cow<'a, str>>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.take()?;
        if text.starts_with('"') {
            return Some(self.quoted(text).map(Some));
        }
        let field = match memchr::memchr(b',', text.as_bytes()) {
            Some(at) => {
                self.rest = Some(&text[at + 1..]);
                &text[..at]
            }
            None => text,
        };
        Some(Ok((!field.is_empty()).then_some(Cow::Borrowed(field))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(record: &str) -> Result<Vec<Option<String>>, &'static str> {
        Fields::of(record).map(|field| field.map(|field| field.map(Cow::into_owned))).collect()
    }

    #[test]
    fn fields_and_nulls() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(fields("a,,\"\",b"), Ok(vec![some("a"), None, some(""), some("b")]));
        assert_eq!(fields("\"a,\"\"b\"\"\nc\",x"), Ok(vec![some("a,\"b\"\nc"), some("x")]));
        assert_eq!(fields("\"\"\"\""), Ok(vec![some("\"")]));
        assert_eq!(fields("5\" pipe,"), Ok(vec![some("5\" pipe"), None]));
        assert!(fields("\"a").is_err());
        assert!(fields("\"a\"b").is_err());
    }
}
