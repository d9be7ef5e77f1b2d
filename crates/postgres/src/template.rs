//! A query of the spec: SQL with `$name` parameters and at most one `{slice}`.
//!
//! `COPY` takes no bind parameters, so a parameter's value is sent as a quoted literal. That is quoting of a
//! value, not splicing of text: the lexer finds `$name` only where PostgreSQL itself would see a parameter
//! (outside of quotes, comments and dollar quotes), and the value becomes one string constant in
//! parentheses, whatever it holds. As with a bound parameter, its type comes from where it stands.

use std::collections::BTreeMap;
use whimbrel_store::Parameter;

/// The placeholder for the predicate of a slice.
const SLICE: &str = "{slice}";

/// Why a query cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("the query uses ${0}, and no variable has that name")]
    UnknownParameter(String),
    #[error("{{slice}} stands more than once in the query")]
    TwoSlices,
    #[error("a quote or comment of the query is not closed")]
    Unclosed,
    #[error("the value of ${0} holds the character U+0000, which PostgreSQL's text does not have")]
    Zero(String),
}

/// A query whose parameters have been filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    before: String,
    after: Option<String>,
}

impl Query {
    /// Reads the query and fills in its parameters.
    pub(crate) fn parse(sql: &str, parameters: &BTreeMap<String, Parameter>) -> Result<Self, TemplateError> {
        // A semicolon at the end is customary and cannot stand inside parentheses.
        let sql = sql.trim_end().trim_end_matches(';');
        let mut parts = vec![String::new()];
        let mut rest = sql;
        while let Some(first) = rest.chars().next() {
            let (token, kind) = next_token(rest, first)?;
            let part = parts.last_mut().ok_or(TemplateError::Unclosed)?;
            match kind {
                Token::Text => part.push_str(token),
                Token::Slice => parts.push(String::new()),
                Token::Parameter(name) => {
                    let value = parameters
                        .get(name)
                        .ok_or_else(|| TemplateError::UnknownParameter(name.to_owned()))?;
                    let value = literal(&value.0).ok_or_else(|| TemplateError::Zero(name.to_owned()))?;
                    part.push_str(&format!("({value})"));
                }
            }
            rest = &rest[token.len()..];
        }
        let mut parts = parts.into_iter();
        let query = Self { before: parts.next().unwrap_or_default(), after: parts.next() };
        if parts.next().is_some() { Err(TemplateError::TwoSlices) } else { Ok(query) }
    }

    /// Whether a slice's predicate goes inside.
    pub(crate) fn has_slice(&self) -> bool {
        self.after.is_some()
    }

    /// The SQL, with the predicate in place of `{slice}`.
    pub(crate) fn sql(&self, predicate: &str) -> String {
        match &self.after {
            Some(after) => format!("{}({predicate}){after}", self.before),
            None => self.before.clone(),
        }
    }
}

/// A string constant; `None` where the text holds U+0000. Backslashes are plain: every session sets
/// `standard_conforming_strings`.
pub(crate) fn literal(text: &str) -> Option<String> {
    (!text.contains('\0')).then(|| format!("'{}'", text.replace('\'', "''")))
}

/// A quoted identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

enum Token<'a> {
    Text,
    Parameter(&'a str),
    Slice,
}

fn next_token(rest: &str, first: char) -> Result<(&str, Token<'_>), TemplateError> {
    let length = match first {
        '\'' => quoted(rest, '\'', false)?,
        '"' => quoted(rest, '"', false)?,
        'e' | 'E' if rest[1..].starts_with('\'') => 1 + quoted(&rest[1..], '\'', true)?,
        '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
        '/' if rest.starts_with("/*") => comment(rest)?,
        '{' if rest.starts_with(SLICE) => return Ok((&rest[..SLICE.len()], Token::Slice)),
        '$' => return dollar(rest),
        _ if is_word_start(first) || first.is_ascii_digit() => word(rest),
        _ => first.len_utf8(),
    };
    Ok((&rest[..length], Token::Text))
}

/// `$name`, `$1`, or a dollar-quoted string.
fn dollar(rest: &str) -> Result<(&str, Token<'_>), TemplateError> {
    let name = &rest[1..];
    let end = name.find(|char: char| !(is_word_start(char) || char.is_ascii_digit())).unwrap_or(name.len());
    let name = &name[..end];
    let is_name = name.chars().next().is_none_or(is_word_start);
    if is_name && rest[1 + end..].starts_with('$') {
        let tag = &rest[..end + 2];
        let close = rest[tag.len()..].find(tag).ok_or(TemplateError::Unclosed)?;
        return Ok((&rest[..close + 2 * tag.len()], Token::Text));
    }
    let kind = if is_name && !name.is_empty() { Token::Parameter(name) } else { Token::Text };
    Ok((&rest[..=end], kind))
}

fn is_word_start(char: char) -> bool {
    char == '_' || char.is_ascii_alphabetic() || !char.is_ascii()
}

/// An identifier, keyword or number: a `$` inside belongs to it.
fn word(rest: &str) -> usize {
    let inside = |char: char| is_word_start(char) || char.is_ascii_digit() || char == '$';
    rest.find(|char| !inside(char)).unwrap_or(rest.len())
}

/// The length of a quoted text; a doubled quote stands for one, and a backslash escapes where it may.
fn quoted(rest: &str, quote: char, backslash: bool) -> Result<usize, TemplateError> {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, char)) = chars.next() {
        let is_doubled = char == quote && chars.peek().is_some_and(|(_, next)| *next == quote);
        if is_doubled || (backslash && char == '\\') {
            chars.next();
        } else if char == quote {
            return Ok(at + quote.len_utf8());
        }
    }
    Err(TemplateError::Unclosed)
}

/// The length of a comment; comments nest.
fn comment(rest: &str) -> Result<usize, TemplateError> {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if here.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return Ok(at);
            }
        } else {
            at += 1;
        }
    }
    Err(TemplateError::Unclosed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(sql: &str) -> Result<String, TemplateError> {
        let value = |name: &str, value: &str| (name.to_owned(), Parameter(value.to_owned()));
        let parameters = BTreeMap::from([value("who", "O'Hara\\"), value("n", "5"), value("zero", "\0")]);
        Ok(Query::parse(sql, &parameters)?.sql("TRUE"))
    }

    #[test]
    fn parameters_become_one_constant_each() {
        assert_eq!(fill("SELECT $who, $n;").unwrap(), "SELECT ('O''Hara\\'), ('5')");
        assert_eq!(fill("x=$n::int").unwrap(), "x=('5')::int");
        assert_eq!(fill("SELECT 1 WHERE {slice} AND a").unwrap(), "SELECT 1 WHERE (TRUE) AND a");
    }

    #[test]
    fn what_is_no_parameter_is_left_alone() {
        for sql in [
            "SELECT '$who', \"$who\", E'\\'$who', 'it''s $who'",
            "SELECT $$ $who $$, $a$ $who $$ $a$, a$who, $1",
            "SELECT 1 -- $who {slice}\n, /* $who /* {slice} */ $who */ 2",
            "SELECT '{slice}', \"a\"\"$who\"",
            "SELECT 'ü€', ü$who",
        ] {
            assert_eq!(fill(sql).as_deref(), Ok(sql));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(fill("SELECT $x"), Err(TemplateError::UnknownParameter("x".to_owned())));
        assert_eq!(fill("{slice} {slice}"), Err(TemplateError::TwoSlices));
        assert_eq!(fill("SELECT $zero"), Err(TemplateError::Zero("zero".to_owned())));
        for sql in ["SELECT 'a", "SELECT /* /* */", "SELECT $$ a", "SELECT \"a", "SELECT E'\\'"] {
            assert_eq!(fill(sql), Err(TemplateError::Unclosed), "{sql}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(sql in "[$a'\"{slice}\\-/*\nEeü1 ]{0,40}") {
            let _ = fill(&sql);
        }
    }
}
