//! Metadata of a record: out of the tables, out of the log's JSON, into JSON and into columns.

use rusqlite::types::ValueRef;
use serde_json::Value;
use std::borrow::Cow;
use whimbrel_model::attribute::Attribute;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entry {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Entry>),
    /// JSON that no table of Chroma's holds: a sparse vector, an integer beyond 64 bits.
    Json(String),
}

/// The log's metadata.
pub(crate) struct Metadata;

impl Metadata {
    /// The entries of an operation, each in JSON; `None`: the key is taken away. Answers with a reason where it is no
    /// JSON that can be read.
    ///
    /// The Python writers print what JSON has no form for: the infinities are kept here, and NaN is no value, as it is
    /// none in Chroma's tables.
    pub(crate) fn of_log(text: &[u8]) -> Result<Vec<(String, Option<String>)>, String> {
        let text = std::str::from_utf8(text).map_err(|_| "the log's metadata are not UTF-8".to_owned())?;
        let parsed = serde_json::from_str(text).or_else(|_| serde_json::from_str(&without_bare_words(text)));
        match parsed {
            Ok(Value::Object(entries)) => {
                let json = |value: Value| (!value.is_null()).then(|| value.to_string());
                Ok(entries.into_iter().map(|(key, value)| (key, json(value))).collect())
            }
            Ok(Value::Null) => Ok(Vec::new()),
            Ok(_) => Err("the log's metadata are no object".to_owned()),
            // Its message names a place and not the text.
            Err(error) => Err(format!("the log's metadata are no text that can be kept: {error}")),
        }
    }
}

/// JSON with numbers and nulls in place of `NaN`, `Infinity` and `-Infinity`.
fn without_bare_words(text: &str) -> String {
    const WORDS: [(&str, &str); 2] = [("NaN", "null"), ("Infinity", "1e999")];
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut is_in_text) = (text, false);
    while let Some(character) = rest.chars().next() {
        if !is_in_text && let Some((word, instead)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            out.push_str(instead);
            rest = &rest[word.len()..];
            continue;
        }
        // What is escaped goes through with its escape.
        let taken = match character {
            '\\' if is_in_text => rest.chars().take(2).map(char::len_utf8).sum(),
            '"' => {
                is_in_text = !is_in_text;
                1
            }
            other => other.len_utf8(),
        };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    out
}

impl Entry {
    /// The value of a row of a metadata table: the first column that is not NULL. `None`: there is no value.
    ///
    /// # Errors
    /// A text that is not UTF-8, or another type than the column's.
    pub(crate) fn of_row(
        text: ValueRef<'_>,
        integer: ValueRef<'_>,
        float: ValueRef<'_>,
        boolean: ValueRef<'_>,
    ) -> Result<Option<Self>, String> {
        Ok(Some(match (text, integer, float, boolean) {
            (ValueRef::Text(bytes), ..) => {
                let text = std::str::from_utf8(bytes).map_err(|_| "a text of the metadata is not UTF-8")?;
                Self::Text(text.to_owned())
            }
            (ValueRef::Null, ValueRef::Integer(value), ..) => Self::Integer(value),
            (ValueRef::Null, ValueRef::Null, ValueRef::Real(value), _) => Self::Float(value),
            (ValueRef::Null, ValueRef::Null, ValueRef::Null, ValueRef::Integer(value)) => {
                Self::Boolean(value != 0)
            }
            (ValueRef::Null, ValueRef::Null, ValueRef::Null, ValueRef::Null) => return Ok(None),
            _ => return Err("a value of the metadata is of another type than its column".to_owned()),
        }))
    }

    /// The value of JSON.
    ///
    /// # Errors
    /// Text that is no JSON.
    pub(crate) fn of_json(text: &str) -> Result<Self, serde_json::Error> {
        Ok(Self::of_value(serde_json::from_str(text)?))
    }

    pub(crate) fn of_value(value: Value) -> Self {
        match value {
            Value::String(text) => Self::Text(text),
            Value::Bool(value) => Self::Boolean(value),
            Value::Number(number) => {
                let text = number.to_string();
                let is_float = text.contains(['.', 'e', 'E']);
                match (is_float, text.parse::<i64>(), text.parse::<f64>()) {
                    (true, _, Ok(float)) => Self::Float(float),
                    (_, Ok(integer), _) => Self::Integer(integer),
                    _ => Self::Json(text),
                }
            }
            Value::Array(values) => Self::List(values.into_iter().map(Self::of_value).collect()),
            other => Self::Json(other.to_string()),
        }
    }

    /// The value as the column of its name takes it.
    pub(crate) fn with_attribute<T>(
        &self,
        take: impl FnOnce(&Attribute<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        match self {
            Self::Text(text) => take(&Attribute::S(Cow::Borrowed(text))),
            Self::Integer(value) => take(&Attribute::N(Cow::Owned(value.to_string()))),
            Self::Float(value) if value.is_finite() => take(&Attribute::N(Cow::Owned(float(*value)))),
            Self::Float(value) if *value > 0.0 => take(&Attribute::S(Cow::Borrowed("Infinity"))),
            Self::Float(_) => take(&Attribute::S(Cow::Borrowed("-Infinity"))),
            Self::Boolean(value) => take(&Attribute::Bool(*value)),
            Self::Json(json) => take(&Attribute::of_plain(json).map_err(|error| error.to_string())?),
            Self::List(_) => {
                let mut json = String::new();
                self.put(&mut json).map_err(str::to_owned)?;
                take(&Attribute::Document(&json))
            }
        }
    }

    /// Appends the value in JSON.
    fn put(&self, out: &mut String) -> Result<(), &'static str> {
        match self {
            Self::Text(text) => put_text(text, out),
            Self::Integer(value) => out.push_str(&value.to_string()),
            Self::Float(value) if value.is_finite() => out.push_str(&float(*value)),
            Self::Float(_) => return Err("JSON holds no infinity"),
            Self::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Json(json) => out.push_str(json),
            Self::List(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    value.put(out)?;
                }
                out.push(']');
            }
        }
        Ok(())
    }

    /// The value for a reject.
    pub(crate) fn shown(&self) -> Vec<u8> {
        match self {
            Self::Float(value) => value.to_string().into_bytes(),
            Self::Text(text) => text.clone().into_bytes(),
            other => {
                let mut json = String::new();
                // A list with an infinity in it is shown up to there.
                let _shown = other.put(&mut json);
                json.into_bytes()
            }
        }
    }
}

/// A float so that it is read as one again, also where JSON is kept as a decimal number: with a point and, if it is
/// whole, without an exponent.
fn float(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.1}") } else { format!("{value:?}") }
}

fn put_text(text: &str, out: &mut String) {
    // Most texts have nothing in them that JSON writes otherwise.
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

/// A record's metadata as an object; answers with a reason and the value that JSON does not hold. Such a value is left
/// out where it has a column of its own, as `has_column` says of its name.
pub(super) fn object(
    entries: &[(String, Entry)],
    has_column: impl Fn(&str) -> bool,
) -> Result<String, (String, Vec<u8>)> {
    let mut out = String::from("{");
    for (name, entry) in entries {
        if matches!(entry, Entry::Float(value) if !value.is_finite()) && has_column(name) {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        put_text(name, &mut out);
        out.push(':');
        entry.put(&mut out).map_err(|reason| {
            let reason = format!("the value of `{name}`: {reason}; declare it as a column of its own, `columns: {{ {name}: float }}`");
            (reason, entry.shown())
        })?;
    }
    out.push('}');
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_prints_is_read() {
        let log = r#"{"a": NaN, "b": Infinity, "c": -Infinity, "NaN \" Infinity": "NaN\\", "d": null, "n": 9223372036854775808, "f": 1e+22}"#;
        let entries = Metadata::of_log(log.as_bytes()).unwrap();
        let entry = |name: &str| {
            let json = entries.iter().find(|(key, _)| key == name).unwrap().1.as_deref()?;
            Some(Entry::of_json(json).unwrap())
        };
        assert_eq!(entry("a"), None);
        assert_eq!(entry("b"), Some(Entry::Float(f64::INFINITY)));
        assert_eq!(entry("c"), Some(Entry::Float(f64::NEG_INFINITY)));
        assert_eq!(entry("NaN \" Infinity"), Some(Entry::Text("NaN\\".to_owned())));
        assert_eq!(entry("d"), None);
        assert_eq!(entry("n"), Some(Entry::Json("9223372036854775808".to_owned())));
        assert_eq!(entry("f"), Some(Entry::Float(1e22)));
        assert!(Metadata::of_log(br#"{"a": "\ud800"}"#).is_err(), "half a character is no text");
        assert!(Metadata::of_log(b"[1]").is_err());
    }

    #[test]
    fn texts_are_written_as_json_writes_them() {
        let odd = (0..=0x100).filter_map(char::from_u32).map(String::from);
        for text in odd.chain(["", "plain", "a\"b", "a\\b", "tab\t", "\u{7f}é\u{2028}😀"].map(str::to_owned))
        {
            let mut out = String::new();
            put_text(&text, &mut out);
            assert_eq!(out, serde_json::to_string(&text).unwrap());
        }
    }

    #[test]
    fn floats_stay_floats_and_integers_integers() {
        let json = |entry: Entry| object(&[("k\"".to_owned(), entry)], |_| false).unwrap();
        assert_eq!(json(Entry::Float(1.0)), r#"{"k\"":1.0}"#);
        assert_eq!(json(Entry::Float(1e22)), r#"{"k\"":10000000000000000000000.0}"#);
        assert_eq!(json(Entry::Float(5e-324)), r#"{"k\"":5e-324}"#);
        assert_eq!(json(Entry::Integer(i64::MIN)), r#"{"k\"":-9223372036854775808}"#);
        let list = Entry::List(vec![Entry::Boolean(true), Entry::Text("\u{0}".to_owned())]);
        assert_eq!(json(list), r#"{"k\"":[true,"\u0000"]}"#);
        assert_eq!(object(&[], |_| false).unwrap(), "{}");
        let beyond = [("x".to_owned(), Entry::Float(f64::INFINITY)), ("y".to_owned(), Entry::Integer(1))];
        assert!(object(&beyond, |_| false).unwrap_err().0.contains("`x`"));
        assert_eq!(object(&beyond, |name| name == "x").unwrap(), r#"{"y":1}"#);
        for value in [0.1, f64::MAX, f64::MIN_POSITIVE, 1.5e300, -123_456_789.125] {
            let read: f64 = float(value).parse().unwrap();
            assert_eq!(read.to_bits(), value.to_bits());
        }
    }
}
