//! Fields of CSV: RFC 4180, with the names in the first record, which say what separates fields, too.
//!
//! A field without quotes and without any byte is NULL; `""` is the text without characters. Within quotes a
//! quote is written twice. A quote within a field that does not begin with one is a character as any other.

use super::frame::Framing;
use super::input::Input;
use crate::error::{Fault, Outcome};
use std::borrow::Cow;
use std::collections::BTreeSet;
use whimbrel_store::StoreErrorKind;

/// What stands between fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Separator(u8);

impl Separator {
    pub(super) const COMMA: Self = Self(b',');
    /// What may stand in the place of a comma.
    const OTHERS: [u8; 3] = [b';', b'\t', b'|'];

    /// A comma, if there is one outside of quotes; else the first of the others; else there is one field alone.
    pub(super) fn of_header(header: &[u8]) -> Self {
        let mut others = Vec::new();
        for byte in outside_quotes(header) {
            match byte {
                b',' => return Self::COMMA,
                byte if Self::OTHERS.contains(&byte) => others.push(byte),
                _ => {}
            }
        }
        others.first().map_or(Self::COMMA, |byte| Self(*byte))
    }

    pub(super) fn byte(self) -> u8 {
        self.0
    }
}

impl std::fmt::Display for Separator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            b'\t' => f.write_str("tab"),
            byte => write!(f, "`{}`", char::from(byte)),
        }
    }
}

fn outside_quotes(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut is_quoted = false;
    text.iter().copied().filter(move |byte| {
        is_quoted ^= *byte == b'"';
        !is_quoted
    })
}

/// The names in the first record of a file, and what stands between fields.
pub(super) fn header(input: &mut Input) -> Outcome<(Vec<String>, Separator)> {
    let mut text = Vec::new();
    let wrong = |what: &str| Fault::found(StoreErrorKind::Protocol, format!("the header of the CSV {what}"));
    if Framing::Csv(Separator::COMMA).next(input, &mut text)?.is_none() {
        return Ok((Vec::new(), Separator::COMMA));
    }
    if outside_quotes(&text).any(|byte| byte == b'\r') {
        // The whole file would be a header, and its records lost.
        return Err(wrong("holds a carriage return: let lines end with a newline"));
    }
    let separator = Separator::of_header(&text);
    let text = String::from_utf8(text).map_err(|_| wrong("is not UTF-8"))?;
    let fields: Result<Vec<_>, _> = Fields::of(&text, separator).collect();
    let fields = fields.map_err(|reason| wrong(&format!("cannot be read: {reason}")))?;
    let names: Vec<String> = fields.into_iter().map(|field| field.unwrap_or_default().into_owned()).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    if distinct.len() < names.len() {
        return Err(wrong("names a column twice"));
    }
    Ok((names, separator))
}

/// The fields of a record; `None` is NULL.
pub(super) struct Fields<'a> {
    rest: Option<&'a str>,
    separator: u8,
}

impl<'a> Fields<'a> {
    pub(super) fn of(record: &'a str, separator: Separator) -> Self {
        Self { rest: Some(record), separator: separator.byte() }
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
                Some(byte) if *byte == self.separator => {
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
        let field = match memchr::memchr(self.separator, text.as_bytes()) {
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
        let fields = Fields::of(record, Separator::COMMA);
        fields.map(|field| field.map(|field| field.map(Cow::into_owned))).collect()
    }

    fn header_of(text: &str) -> Result<(Vec<String>, String), String> {
        let found = header(&mut Input::of(text.as_bytes().to_vec(), 7));
        found.map(|(names, separator)| (names, separator.to_string())).map_err(|fault| format!("{fault:?}"))
    }

    #[test]
    fn the_header_says_what_separates_fields() {
        for (text, names, separator) in [
            ("id,a;b\n1,2\n", &["id", "a;b"][..], "`,`"),
            ("id;name\n1;a,b\n", &["id", "name"], "`;`"),
            ("\"id\";\"a,b\"\r\n", &["id", "a,b"], "`;`"),
            ("id\tname;x\n", &["id", "name;x"], "tab"),
            ("id|name", &["id", "name"], "`|`"),
            ("id\n1\n", &["id"], "`,`"),
            ("\"i;d\"\n", &["i;d"], "`,`"),
        ] {
            let found = header_of(text).map(|(found, separator)| (found.join("/"), separator));
            assert_eq!(found, Ok((names.join("/"), separator.to_owned())), "{text:?}");
        }
        assert!(header_of("id,name\r1,a\r2,b\r").is_err_and(|error| error.contains("carriage return")));
        assert!(header_of("id,\"a\rb\"\n").is_ok());
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
