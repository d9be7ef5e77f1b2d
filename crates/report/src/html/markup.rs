//! Text as HTML holds it.

use crate::shown::{cut, visible, visible_lines};
use std::fmt::Write;

/// Characters of a foreign text that are shown.
const SHOWN_CHARACTERS: usize = 600;
/// Characters of a name that are shown.
const NAME_CHARACTERS: usize = 80;
/// Characters of a statement that are shown.
const STATEMENT_CHARACTERS: usize = 20_000;

/// A foreign text, safe between tags and between double quotes, in one line.
pub fn text(text: &str) -> String {
    escape(&visible(&cut(text, SHOWN_CHARACTERS)))
}

/// A foreign text that cannot change the direction of what stands around it.
pub fn value(value: &str) -> String {
    format!("<bdi>{}</bdi>", text(value))
}

/// The same of a name, which should be short.
pub fn name(name: &str) -> String {
    value(&cut(name, NAME_CHARACTERS))
}

/// A statement, with its lines.
pub fn lines(statement: &str) -> String {
    escape(&visible_lines(&cut(statement, STATEMENT_CHARACTERS)))
}

/// Our own sentence, in which commands stand between backquotes.
pub fn sentence(sentence: &str) -> String {
    let mut html = String::new();
    for (number, part) in sentence.split('`').enumerate() {
        let part = text(part);
        let _ = if number % 2 == 1 { write!(html, "<code>{part}</code>") } else { write!(html, "{part}") };
    }
    html
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A table's cell.
pub enum Cell {
    /// Text to the left, safe already.
    Text(String),
    /// A figure to the right, safe already.
    Figure(String),
    /// A figure that somebody should look at.
    Alarm(String),
}

/// A table in a box of its own, which scrolls where the page is narrow. Heads are ours.
pub fn table(label: &str, heads: &[&str], rows: &[Vec<Cell>], page: &mut String) {
    let label = text(label);
    let _ = write!(
        page,
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{label}\"><table><thead><tr>"
    );
    let is_figure = |column: usize| {
        rows.first().and_then(|row| row.get(column)).is_some_and(|cell| !matches!(cell, Cell::Text(_)))
    };
    for (column, head) in heads.iter().enumerate() {
        let class = if is_figure(column) { " class=\"n\"" } else { "" };
        let _ = write!(page, "<th scope=\"col\"{class}>{head}</th>");
    }
    page.push_str("</tr></thead><tbody>\n");
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            let _ = match cell {
                Cell::Text(text) => write!(page, "<td>{text}</td>"),
                Cell::Figure(figure) => write!(page, "<td class=\"n\">{figure}</td>"),
                Cell::Alarm(figure) => write!(page, "<td class=\"n alarm\">{figure}</td>"),
            };
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody></table></div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_is_markup() {
        assert_eq!(text("<b a=\"1\" c='2'>&\n"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;↵");
        assert_eq!(value("\u{202e}x"), "<bdi>‹U+202E›x</bdi>");
        assert_eq!(sentence("run `a <b>`"), "run <code>a &lt;b&gt;</code>");
        assert_eq!(lines("a\n<b>"), "a\n&lt;b&gt;");
    }
}
