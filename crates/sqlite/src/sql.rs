//! SQL as text: names, constants, and a query of the spec with its place for a slice.
//!
//! Parameters (`$name`) are SQLite's own and are bound; nothing of a user's values is spliced.

/// The placeholder for the predicate of a slice.
const SLICE: &str = "{slice}";

/// Why a query cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("{{slice}} stands more than once in the query")]
    TwoSlices,
    #[error("a quote or comment of the query is not closed")]
    Unclosed,
}

/// A query of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    before: String,
    after: Option<String>,
}

impl Query {
    pub(crate) fn parse(sql: &str) -> Result<Self, TemplateError> {
        // A semicolon at the end is customary and cannot stand inside parentheses.
        let sql = sql.trim_end().trim_end_matches(';');
        let mut parts = vec![String::new()];
        let mut rest = sql;
        while let Some(first) = rest.chars().next() {
            let length = token(rest, first)?;
            let (head, tail) = rest.split_at(length);
            match parts.last_mut() {
                Some(part) if head != SLICE => part.push_str(head),
                _ => parts.push(String::new()),
            }
            rest = tail;
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

/// How long the next token is; only what may hold `{slice}` without meaning it is told apart.
fn token(rest: &str, first: char) -> Result<usize, TemplateError> {
    Ok(match first {
        '\'' | '"' | '`' => quoted(rest, first)?,
        '[' => rest.find(']').ok_or(TemplateError::Unclosed)? + 1,
        '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
        // SQLite closes a comment at the query's end by itself; here something follows it.
        '/' if rest.starts_with("/*") => {
            rest[2..].find("*/").map(|at| at + 4).ok_or(TemplateError::Unclosed)?
        }
        '{' if rest.starts_with(SLICE) => SLICE.len(),
        _ => first.len_utf8(),
    })
}

/// The length of a quoted text; a doubled quote stands for one.
fn quoted(rest: &str, quote: char) -> Result<usize, TemplateError> {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, char)) = chars.next() {
        if char != quote {
            continue;
        }
        if chars.next_if(|(_, next)| *next == quote).is_none() {
            return Ok(at + quote.len_utf8());
        }
    }
    Err(TemplateError::Unclosed)
}

/// A quoted identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quoted identifiers with commas between.
pub(crate) fn identifiers<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names.into_iter().map(|name| identifier(name)).collect::<Vec<_>>().join(", ")
}

/// A string constant. SQL text ends at U+0000, so that a text with one is written by its bytes.
pub(crate) fn literal(text: &str) -> String {
    if text.contains('\0') {
        let hex: String = text.bytes().map(|byte| format!("{byte:02X}")).collect();
        return format!("CAST(X'{hex}' AS TEXT)");
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// Looks a column up by its name, as SQLite does: ASCII capitals do not count.
pub(crate) fn is_same_name(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_goes_inside_where_it_is_asked_for() {
        let query = Query::parse("SELECT 1 WHERE {slice} AND a = $b ; ").unwrap();
        assert!(query.has_slice());
        assert_eq!(query.sql("TRUE"), "SELECT 1 WHERE (TRUE) AND a = $b ");
        for sql in
            ["SELECT '{slice}', \"{slice}\"", "SELECT 1 -- {slice}\n /* {slice} */ + 2", "SELECT [{slice}]"]
        {
            let query = Query::parse(sql).unwrap();
            assert!(!query.has_slice());
            assert_eq!(query.sql("TRUE"), sql);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(Query::parse("{slice} {slice}"), Err(TemplateError::TwoSlices));
        for sql in ["SELECT 'a", "SELECT /* x", "SELECT [a", "SELECT 'it''s"] {
            assert_eq!(Query::parse(sql), Err(TemplateError::Unclosed), "{sql}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(sql in "[$a'\"{slice}\\-/*\n`\\[\\]ü1 ]{0,40}") {
            let _ = Query::parse(&sql);
        }

        #[test]
        fn a_constant_is_its_text(text in "\\PC*|[a'\\x00\\x01]*") {
            let connection = rusqlite::Connection::open_in_memory().unwrap();
            let held: String = connection.query_row(&format!("SELECT {}", literal(&text)), [], |row| row.get(0)).unwrap();
            proptest::prop_assert_eq!(held, text);
        }
    }
}
