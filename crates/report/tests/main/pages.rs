//! The page is well formed and holds no markup but its own, whatever the names and values are.

use crate::fixture::{plain, report};
use whimbrel_report::Format;

const ELEMENTS: [&str; 44] = [
    "html",
    "head",
    "meta",
    "link",
    "title",
    "style",
    "body",
    "header",
    "main",
    "footer",
    "section",
    "div",
    "p",
    "h1",
    "h2",
    "h3",
    "span",
    "strong",
    "bdi",
    "code",
    "pre",
    "dl",
    "dt",
    "dd",
    "ul",
    "ol",
    "li",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "figure",
    "figcaption",
    "svg",
    "desc",
    "path",
    "rect",
    "details",
    "summary",
    "br",
    "em",
    "a",
];
const ATTRIBUTES: [&str; 32] = [
    "lang",
    "charset",
    "http-equiv",
    "content",
    "name",
    "rel",
    "href",
    "class",
    "id",
    "role",
    "tabindex",
    "scope",
    "aria-label",
    "aria-labelledby",
    "aria-hidden",
    "viewBox",
    "preserveAspectRatio",
    "d",
    "x",
    "y",
    "width",
    "height",
    "open",
    "dir",
    "title",
    "type",
    "cx",
    "cy",
    "r",
    "fill",
    "stroke",
    "for",
];
const VOID: [&str; 4] = ["meta", "link", "br", "img"];
/// What breaks out of text, attributes, comments and the direction of lines.
const HOSTILE: &str =
    "<script>alert(1)</script>\"' onload=x><img src=http://e.example>--><!--]]>&#60;\u{202e}\u{0}\n`|";

/// Fails where an element or an attribute is not ours, or where an element is not closed.
pub fn assert_well_formed(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!doctype html>").expect("a document of HTML");
    while let Some((text, behind)) = rest.split_once('<') {
        assert!(open.last() == Some(&"style") || !text.contains('>'), "a loose > in {text:?}");
        let (tag, after) = behind.split_once('>').expect("a tag ends");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in the order of opening");
            continue;
        }
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let (name, closed) = (name.trim_end_matches('/'), tag.ends_with('/'));
        assert!(ELEMENTS.contains(&name), "<{name}> is not ours");
        assert_attributes(attributes.trim_end_matches('/'));
        if !closed && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} are left open");
}

fn assert_attributes(mut attributes: &str) {
    while !attributes.trim().is_empty() {
        let (name, behind) = attributes.split_once("=\"").expect("a value in quotes");
        assert!(ATTRIBUTES.contains(&name.trim()), "the attribute {name:?} is not ours");
        let (value, after) = behind.split_once('"').expect("quotes end");
        if name.trim() == "href" {
            assert_eq!(value, "data:,");
        }
        attributes = after;
    }
}

#[test]
fn the_page_is_well_formed_and_loads_nothing() {
    let page = Format::Html.render(&report(&plain));
    assert_well_formed(&page);
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\""));
    for outside in ["http://", "https://", "url(", "@import", "<script", "<img", "javascript:"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for said in
        ["prefers-color-scheme: dark", "@media print", "name=\"viewport\"", "role=\"img\"", "<title id="]
    {
        assert!(page.contains(said), "{said}");
    }
}

#[test]
fn hostile_names_and_values_are_text() {
    let page = Format::Html.render(&report(&|text| format!("{HOSTILE}{text}")));
    assert_well_formed(&page);
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!page.contains(['\u{202e}', '\u{0}']) && page.contains("‹U+202E›"));
    let text = Format::Markdown.render(&report(&|text| format!("{HOSTILE}{text}")));
    assert!(!text.contains(['\u{202e}', '\u{0}']), "{text}");
    // Between fences everything is text.
    assert!(text.split("\n```").step_by(2).all(|part| !part.contains("<script")), "{text}");
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let bars = line.replace("\\|", "").matches('|').count();
        assert!(bars >= 3 && line.ends_with(" |"), "{line}");
    }
}

#[test]
fn long_values_are_cut() {
    let long = |text: &str| format!("{text}{}", "ü<".repeat(5_000));
    for format in [Format::Html, Format::Markdown] {
        let (page, short) = (format.render(&report(&long)), format.render(&report(&plain)));
        assert!(page.contains("(10,0"), "the cut is said");
        assert!(page.len() < short.len() + 400_000, "{} against {}", page.len(), short.len());
    }
}
