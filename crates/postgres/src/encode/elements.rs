//! Arrays, out of lists, JSON arrays and PostgreSQL's own notation.

use super::wire::{Wire, shown, with_text};
use bytes::{BufMut as _, BytesMut};
use serde_json::Value;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::cell::{Cell, cell};
use whimbrel_model::json;

/// Appends an array of one dimension.
pub(super) fn put_array(
    value: Cell<'_>,
    element: &Wire,
    oid: u32,
    out: &mut BytesMut,
    canonical: &mut Canonical,
) -> Result<(), String> {
    match value {
        Cell::List { values, start, end } => {
            let cells = (start..end).map(|at| cell(values, at));
            put_elements(cells, end - start, element, oid, out, canonical)
        }
        Cell::Text(text) => {
            let texts = elements_of(text)?;
            let cells = texts.iter().map(|text| text.as_deref().map_or(Cell::Null, Cell::Text));
            put_elements(cells, texts.len(), element, oid, out, canonical)
        }
        _ => Err("is no list".to_owned()),
    }
}

fn put_elements<'a>(
    cells: impl Iterator<Item = Cell<'a>>,
    count: usize,
    element: &Wire,
    oid: u32,
    out: &mut BytesMut,
    canonical: &mut Canonical,
) -> Result<(), String> {
    let length = |length: usize| i32::try_from(length).map_err(|_| "is too long a list".to_owned());
    canonical.list(count);
    if count == 0 {
        out.put_i32(0);
        out.put_i32(0);
        out.put_u32(oid);
        return Ok(());
    }
    out.put_i32(1);
    let nulls_at = out.len();
    out.put_i32(0);
    out.put_u32(oid);
    out.put_i32(length(count)?);
    out.put_i32(1);
    for value in cells {
        let at = out.len();
        out.put_i32(-1);
        let is_value = element
            .put_cell(value, out, canonical)
            .map_err(|reason| format!("holds an element that {reason}"))?;
        if is_value {
            let size = length(out.len() - at - 4)?;
            out[at..at + 4].copy_from_slice(&size.to_be_bytes());
        } else {
            out[nulls_at..nulls_at + 4].copy_from_slice(&1_i32.to_be_bytes());
        }
    }
    Ok(())
}

/// The elements of `["a", 1, null]` or `{a,1,NULL}`.
pub(crate) fn elements_of(text: &str) -> Result<Vec<Option<String>>, String> {
    let trimmed = text.trim();
    if trimmed.starts_with('[')
        && let Ok(Value::Array(values)) = json::parse(trimmed)
    {
        return values.into_iter().map(element_of_json).collect();
    }
    let inner = trimmed.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let inner = inner.ok_or_else(|| format!("is {}, which is no array", shown(text)))?;
    elements_of_literal(inner)
        .ok_or_else(|| format!("is {}, which is no array of one dimension", shown(text)))
}

fn element_of_json(value: Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        other @ (Value::Bool(_) | Value::Number(_)) => Ok(Some(other.to_string())),
        // An element of a json[] is a document; what is none is refused by the element's own type.
        other @ (Value::Array(_) | Value::Object(_)) => Ok(Some(other.to_string())),
    }
}

/// What stands between the braces of an array of one dimension.
fn elements_of_literal(inner: &str) -> Option<Vec<Option<String>>> {
    let mut elements = Vec::new();
    let mut chars = inner.chars().peekable();
    if inner.trim().is_empty() {
        return Some(elements);
    }
    loop {
        while chars.next_if(|char| char.is_ascii_whitespace()).is_some() {}
        let mut element = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => element.push(chars.next()?),
                    char => element.push(char),
                }
            }
            elements.push(Some(element));
            while chars.next_if(|char| char.is_ascii_whitespace()).is_some() {}
        } else {
            while let Some(char) = chars.next_if(|char| *char != ',') {
                match char {
                    '{' | '}' | '"' => return None,
                    '\\' => element.push(chars.next()?),
                    char => element.push(char),
                }
            }
            let element = element.trim_end();
            if element.is_empty() {
                return None;
            }
            elements.push((!element.eq_ignore_ascii_case("null")).then(|| element.to_owned()));
        }
        match chars.next() {
            None => return Some(elements),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

/// Calls with a list in PostgreSQL's notation.
pub(super) fn with_literal(
    value: Cell<'_>,
    put: &mut dyn FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    let Cell::List { values, start, end } = value else { return Err("is no list".to_owned()) };
    let mut text = String::from("{");
    for at in start..end {
        if at > start {
            text.push(',');
        }
        match cell(values, at) {
            Cell::Null => text.push_str("NULL"),
            value => with_text(value, &mut |element| {
                text.push('"');
                for char in element.chars() {
                    if matches!(char, '"' | '\\') {
                        text.push('\\');
                    }
                    text.push(char);
                }
                text.push('"');
                Ok(())
            })?,
        }
    }
    text.push('}');
    put(&text)
}

/// Calls with a list of numbers as a vector is written, `[1,2.5]`.
pub(super) fn with_brackets(
    value: Cell<'_>,
    put: &mut dyn FnMut(&str) -> Result<(), String>,
) -> Result<(), String> {
    let Cell::List { values, start, end } = value else { return Err("is no list".to_owned()) };
    let mut texts = Vec::with_capacity(end - start);
    for at in start..end {
        with_text(cell(values, at), &mut |text| {
            texts.push(text.to_owned());
            Ok(())
        })?;
    }
    put(&format!("[{}]", texts.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_notations_are_read() {
        let some = |texts: &[&str]| texts.iter().map(|text| Some((*text).to_owned())).collect::<Vec<_>>();
        assert_eq!(elements_of(r#"["a", 1, true]"#).unwrap(), some(&["a", "1", "true"]));
        assert_eq!(elements_of(r#"{a,"b,\"c",  d }"#).unwrap(), some(&["a", "b,\"c", "d"]));
        assert_eq!(elements_of(r#"{a,NULL,"NULL"}"#).unwrap()[1..], [None, Some("NULL".to_owned())]);
        assert_eq!(elements_of("{}").unwrap(), Vec::<Option<String>>::new());
        assert_eq!(elements_of("[]").unwrap(), Vec::<Option<String>>::new());
        for text in ["", "a,b", "{a", "{{1},{2}}", "{a,}", "{\"a}", "{\"a\"b}"] {
            assert!(elements_of(text).is_err(), "{text}");
        }
    }
}
