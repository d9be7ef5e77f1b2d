//! What of a condition SQLite is told, so that it leaves records out before they are decoded.
//!
//! It is told only what it takes as whimbrel does: text by its bytes, numbers as numbers. A value that cannot be read
//! is no reason to leave its record out: such a record is let through, and becomes a reject.

use crate::catalog::{Layout, SourceColumn};
use crate::sql::{identifier, literal};
use crate::types::Reading;
use whimbrel_store::{Comparison, Condition, Literal};

/// An SQL condition that every record within the condition satisfies; `None`: there is none but TRUE.
pub(crate) fn filter(layout: &Layout, condition: &Condition) -> Option<String> {
    match condition {
        Condition::All(all) => {
            let known: Vec<_> = all.iter().filter_map(|one| filter(layout, one)).collect();
            (!known.is_empty()).then(|| format!("({})", known.join(" AND ")))
        }
        Condition::Any(any) => {
            let all = any.iter().map(|one| filter(layout, one)).collect::<Option<Vec<_>>>()?;
            (!all.is_empty()).then(|| format!("({})", all.join(" OR ")))
        }
        Condition::Compare(name, comparison, value) => {
            compare(layout, column(layout, name)?, *comparison, value)
        }
        Condition::StartsWith(name, start) => starts_with(layout, column(layout, name)?, start),
        Condition::Present(name) => {
            column(layout, name).map(|column| format!("{} IS NOT NULL", identifier(&column.name)))
        }
    }
}

fn column<'a>(layout: &'a Layout, name: &str) -> Option<&'a SourceColumn> {
    layout.columns.iter().find(|column| column.name == name)
}

/// A column whose texts are compared as they are.
fn text(column: &SourceColumn) -> Option<String> {
    (column.reading == Reading::Text).then(|| identifier(&column.name))
}

/// The condition, or that the value is of another kind than the one that it was said of.
fn or_other(condition: &str, name: &str, kind: &str) -> String {
    format!("({condition} OR typeof({name}) NOT IN ('{kind}', 'null'))")
}

fn compare(
    layout: &Layout,
    column: &SourceColumn,
    comparison: Comparison,
    value: &Literal,
) -> Option<String> {
    let operator = match comparison {
        Comparison::Equal => "=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    };
    match value {
        // The order of text by its bytes is that of UTF-16 in some databases.
        Literal::Text(value) if layout.is_utf8 || comparison == Comparison::Equal => {
            let name = text(column)?;
            let condition = format!("{name} COLLATE BINARY {operator} {}", literal(value));
            Some(or_other(&condition, &name, "text"))
        }
        Literal::Text(_) => None,
        Literal::Number(number) => {
            let number: i64 = number.parse().ok().filter(|_| column.reading == Reading::Integer)?;
            let name = identifier(&column.name);
            Some(or_other(&format!("{name} {operator} {}", integer(number)), &name, "integer"))
        }
        Literal::Boolean(value) => {
            let is_boolean = column.reading == Reading::Boolean && comparison == Comparison::Equal;
            let name = identifier(&column.name);
            let condition = format!("{name} IS NOT {}", u8::from(!*value));
            is_boolean.then(|| format!("({name} IS NOT NULL AND {condition})"))
        }
    }
}

/// An integer constant. The least one has no positive counterpart that could be negated.
fn integer(value: i64) -> String {
    if value == i64::MIN { format!("({} - 1)", i64::MIN + 1) } else { format!("({value})") }
}

fn starts_with(layout: &Layout, column: &SourceColumn, start: &str) -> Option<String> {
    if !layout.is_utf8 {
        return None;
    }
    let name = text(column)?;
    let mut condition = format!("{name} COLLATE BINARY >= {}", literal(start));
    if let Some(end) = successor(start) {
        condition.push_str(&format!(" AND {name} COLLATE BINARY < {}", literal(&end)));
    }
    Some(or_other(&format!("({condition})"), &name, "text"))
}

/// The least text that is greater than all that begin so; `None`: there is none.
fn successor(start: &str) -> Option<String> {
    let mut text = start.to_owned();
    loop {
        let last = text.pop()?;
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_greater_than_all_that_begin_so() {
        assert_eq!(successor("CONV#").as_deref(), Some("CONV$"));
        assert_eq!(successor("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(successor("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!((successor(""), successor("\u{10ffff}")), (None, None));
    }
}
