//! A value as SQLite holds it.

use crate::types::{float_text, moment, number_text};
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use serde_json::{Number, Value};
use std::borrow::Cow;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::decimal::Decimal;
use whimbrel_model::{json, record};

/// A value of one of SQLite's storage classes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stored<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(Cow<'a, str>),
    Blob(Cow<'a, [u8]>),
    /// Text that is not UTF-8; never written, but found.
    Broken(Cow<'a, [u8]>),
}

/// What the values of a column mean to a flow, so that two forms of one value are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// What they are.
    Plain,
    Json,
    Number,
    /// A moment with its zone.
    Instant,
    /// A date and time without a zone.
    Local,
}

impl<'a> Stored<'a> {
    pub(crate) fn of(value: ValueRef<'a>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(value) => Self::Integer(value),
            ValueRef::Real(value) => Self::Real(value),
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Self::Text(Cow::Borrowed(text)),
                Err(_) => Self::Broken(Cow::Borrowed(bytes)),
            },
            ValueRef::Blob(bytes) => Self::Blob(Cow::Borrowed(bytes)),
        }
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(Cow::Owned(text.into()))
    }

    pub(crate) fn into_owned(self) -> Stored<'static> {
        match self {
            Self::Null => Stored::Null,
            Self::Integer(value) => Stored::Integer(value),
            Self::Real(value) => Stored::Real(value),
            Self::Text(text) => Stored::Text(Cow::Owned(text.into_owned())),
            Self::Blob(bytes) => Stored::Blob(Cow::Owned(bytes.into_owned())),
            Self::Broken(bytes) => Stored::Broken(Cow::Owned(bytes.into_owned())),
        }
    }

    /// How many bytes the value has.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Integer(_) | Self::Real(_) => 8,
            Self::Text(text) => text.len(),
            Self::Blob(bytes) | Self::Broken(bytes) => bytes.len(),
        }
    }

    /// Appends the canonical form.
    pub(crate) fn canonical(&self, meaning: Meaning, to: &mut Canonical) {
        match self {
            Self::Null => to.null(),
            Self::Integer(value) => to.number(&value.to_string()),
            Self::Real(value) => to.number(&number_text(*value)),
            Self::Text(text) => canonical_text(text, meaning, to),
            Self::Blob(bytes) => to.binary(bytes),
            Self::Broken(bytes) => {
                to.list(2);
                to.text("text that is not UTF-8");
                to.binary(bytes);
            }
        }
    }

    /// The value for people, in plain JSON.
    pub(crate) fn json(&self, meaning: Meaning) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Integer(value) => Value::Number((*value).into()),
            Self::Real(value) => {
                Number::from_f64(*value).map_or_else(|| Value::String(float_text(*value)), Value::Number)
            }
            Self::Text(text) => {
                let document = (meaning == Meaning::Json).then(|| json::parse(text).ok()).flatten();
                document.unwrap_or_else(|| Value::String(text.clone().into_owned()))
            }
            Self::Blob(bytes) | Self::Broken(bytes) => Value::String(record::base64(bytes)),
        }
    }
}

fn canonical_text(text: &str, meaning: Meaning, to: &mut Canonical) {
    match meaning {
        Meaning::Json => {
            if let Ok(document) = json::parse(text) {
                return to.json(&document);
            }
        }
        Meaning::Number if Decimal::parse(text).is_some() => return to.number(text),
        Meaning::Instant | Meaning::Local => {
            if let Some((us, ns, has_zone)) = exact_moment(text) {
                return match (meaning, has_zone) {
                    (Meaning::Instant, _) => to.instant(us, ns),
                    (_, false) => to.local(us, ns),
                    (_, true) => to.text(text),
                };
            }
        }
        Meaning::Number | Meaning::Plain => {}
    }
    to.text(text);
}

/// A moment down to the nanosecond: microseconds since 1970, nanoseconds below them, and whether it has a zone.
fn exact_moment(text: &str) -> Option<(i64, u16, bool)> {
    let (head, fraction, zone) = match text.find('.') {
        None => return moment::of_text(text).ok().map(|(us, has_zone)| (us, 0, has_zone)),
        Some(at) => {
            let digits = text[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
            (&text[..at], &text[at + 1..at + 1 + digits], &text[at + 1 + digits..])
        }
    };
    let nanos = fraction.get(6..).unwrap_or_default();
    if nanos.len() > 3 {
        return None;
    }
    let micros = &fraction[..fraction.len().min(6)];
    let (us, has_zone) = moment::of_text(&format!("{head}.{micros}{zone}")).ok()?;
    let ns = format!("{nanos:0<3}").parse().ok()?;
    Some((us, ns, has_zone))
}

impl ToSql for Stored<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(value) => ValueRef::Integer(*value),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
            Self::Broken(bytes) => ValueRef::Text(bytes),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(stored: &Stored<'_>, meaning: Meaning) -> Vec<u8> {
        let mut to = Canonical::default();
        stored.canonical(meaning, &mut to);
        to.bytes().to_vec()
    }

    #[test]
    fn forms_of_one_value_are_the_same() {
        let same = |one: &str, other: &str, meaning| {
            canonical(&Stored::text(one), meaning) == canonical(&Stored::text(other), meaning)
        };
        assert!(same("2024-01-01 00:00:00Z", "2024-01-01T01:00:00.000+01:00", Meaning::Instant));
        assert!(!same("2024-01-01 00:00:00.000000001Z", "2024-01-01 00:00:00Z", Meaning::Instant));
        assert!(!same("2024-01-01 00:00:00Z", "2024-01-01 00:00:00", Meaning::Local));
        assert!(same("1.50", "1.5", Meaning::Number));
        assert!(!same("1.50", "1.5", Meaning::Plain));
        assert!(same(r#"{"a":1,"b":2}"#, r#"{ "b": 2.0, "a": 1 }"#, Meaning::Json));
        assert_eq!(
            canonical(&Stored::Integer(2), Meaning::Plain),
            canonical(&Stored::Real(2.0), Meaning::Plain),
            "SQLite itself keeps a whole real as an integer"
        );
        assert_ne!(
            canonical(&Stored::Broken(Cow::Borrowed(b"\xff")), Meaning::Plain),
            canonical(&Stored::Blob(Cow::Borrowed(b"\xff")), Meaning::Plain)
        );
    }
}
