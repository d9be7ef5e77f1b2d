//! Finds `$name` parameters in SQL. It knows only as much of SQL as it takes to skip what is no code:
//! quoted text and names, comments, dollar quotes.

/// Something in an SQL text that the spec has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding<'a> {
    /// `$name`.
    Parameter { name: &'a str, at: usize },
    /// `$1`.
    Numbered { at: usize },
    /// `"${name}"`, the whole of a quoted name.
    Named { name: &'a str, at: usize },
    /// `${`, also inside other quotes: whoever writes it there means a variable.
    Spliced { at: usize },
}

/// All findings, in order.
pub(crate) fn scan(sql: &str) -> Vec<Finding<'_>> {
    let mut findings = Vec::new();
    let mut at = 0;
    // Whether the character before can be part of a name: `a$b` is one name in PostgreSQL.
    let mut in_name = false;
    while let Some(next) = sql[at..].chars().next() {
        let rest = &sql[at..];
        let skipped = match next {
            '\'' => {
                let length = quoted(rest, '\'', in_name && is_escape_string(&sql[..at]));
                spliced(&rest[..length], at, &mut findings);
                length
            }
            '"' | '`' => {
                let length = quoted(rest, next, false);
                match named(&rest[..length]) {
                    Some(name) => findings.push(Finding::Named { name, at: at + 1 }),
                    None => spliced(&rest[..length], at, &mut findings),
                }
                length
            }
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '$' if rest.starts_with("${") => {
                findings.push(Finding::Spliced { at });
                2
            }
            '$' if !in_name => dollar(rest, at, &mut findings),
            other => {
                in_name = is_name(other) || other == '$';
                at += other.len_utf8();
                continue;
            }
        };
        in_name = false;
        at += skipped;
    }
    findings
}

fn spliced<'a>(quoted: &str, at: usize, findings: &mut Vec<Finding<'a>>) {
    findings.extend(quoted.match_indices("${").map(|(inner, _)| Finding::Spliced { at: at + inner }));
}

/// The variable, where a name in double quotes is nothing but one.
fn named(quoted: &str) -> Option<&str> {
    let variable = quoted.strip_prefix("\"${")?.strip_suffix("}\"")?;
    (!variable.is_empty() && name(variable) == variable).then_some(variable)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The name at the beginning of the text.
fn name(text: &str) -> &str {
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    &text[..end]
}

/// Whether the quote that follows begins an `E'…'` string, in which a backslash escapes.
fn is_escape_string(before: &str) -> bool {
    let mut last = before.chars().rev();
    matches!(last.next(), Some('E' | 'e')) && !last.next().is_some_and(is_name)
}

/// How many bytes a quoted stretch takes; a doubled quote stands for itself.
fn quoted(text: &str, quote: char, backslash: bool) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if backslash && c == '\\' {
            chars.next();
        } else if c == quote {
            if chars.peek().is_none_or(|(_, next)| *next != quote) {
                return at + c.len_utf8();
            }
            chars.next();
        }
    }
    text.len()
}

/// How many bytes a comment takes; PostgreSQL nests them.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// A parameter, a numbered one, or a dollar quote, which is skipped whole.
fn dollar<'a>(text: &'a str, at: usize, findings: &mut Vec<Finding<'a>>) -> usize {
    let name = name(&text[1..]);
    let after = 1 + name.len();
    let numbered = name.starts_with(|c: char| c.is_ascii_digit());
    if text[after..].starts_with('$') && !numbered {
        let delimiter = &text[..=after];
        let content = &text[delimiter.len()..];
        return content.find(delimiter).map_or(text.len(), |end| 2 * delimiter.len() + end);
    }
    match name {
        "" => {}
        _ if numbered => findings.push(Finding::Numbered { at }),
        _ => findings.push(Finding::Parameter { name, at }),
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sql: &str) -> Vec<&str> {
        let name = |finding| match finding {
            Finding::Parameter { name, .. } => name,
            Finding::Numbered { .. } => "NUMBERED",
            Finding::Named { .. } => "NAMED",
            Finding::Spliced { .. } => "SPLICED",
        };
        scan(sql).into_iter().map(name).collect()
    }

    #[test]
    fn parameters_are_found_in_code_only() {
        assert_eq!(names("a = $a AND b=$b::text AND c > $c1+1"), ["a", "b", "c1"]);
        assert_eq!(names("'$a' || \"$b\" || $c -- $d\n + $e /* $f /* $g */ $h */ + $i"), ["c", "e", "i"]);
        assert_eq!(names("'it''s $a' = $b AND E'it\\'s $c' = $d AND 'x\\' = $e"), ["b", "d", "e"]);
        assert_eq!(names("$$ $a $$ || $tag$ $b $$ $tag$ || $c"), ["c"]);
        assert_eq!(names("tab$le + x$y.z + $é"), ["é"]);
        assert_eq!(names("$1 + ${a} + $ + $"), ["NUMBERED", "SPLICED"]);
        assert_eq!(names("'x ${a}' || \"${b}\" -- ${c}"), ["SPLICED", "NAMED"]);
        assert_eq!(names("\"${b} \" || \"${b:-c}\" || \"${}\" || '\"${b}\"'"), ["SPLICED"; 4]);
    }

    #[test]
    fn what_is_not_closed_hides_the_rest() {
        for sql in ["'$a", "\"$a", "/* $a", "$$ $a", "$t$ $a", "-- $a", "E'\\"] {
            assert_eq!(names(sql), Vec::<&str>::new(), "{sql}");
        }
    }

    #[test]
    fn places_are_bytes() {
        assert_eq!(scan("ü = $a"), [Finding::Parameter { name: "a", at: 5 }]);
    }
}
