//! A YAML document as a tree in which every key and every value knows its place.
//!
//! A plain scalar is a number exactly where JSON would read it as one, so that `007` and `0x10` stay text; no
//! digit of a number is lost. Aliases are copied in; `<<` merges mappings.

use crate::error::{Position, Result, SpecError, SpecErrorKind};
use crate::span::{TextSpan, TextStyle};
use serde_json::{Map, Number, Value};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};
use std::borrow::Cow;
use std::collections::HashMap;

/// The most nodes that a spec may have with its aliases copied in.
const MOST_NODES: usize = 200_000;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) value: NodeValue,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeValue {
    /// Nothing; whether somebody wrote `null` or `~` for it.
    Null {
        written: bool,
    },
    Bool(bool),
    Number(Number),
    Text(String, TextStyle),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_position: Position,
    pub(crate) value: Node,
}

impl Node {
    /// What a person calls it.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.value {
            NodeValue::Null { .. } => "nothing",
            NodeValue::Bool(_) => "true or false",
            NodeValue::Number(_) => "a number",
            NodeValue::Text(..) => "text",
            NodeValue::Sequence(_) => "a list",
            NodeValue::Mapping(_) => "a mapping",
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            NodeValue::Mapping(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The node below a path of keys and indexes.
    pub(crate) fn find(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, step| match &node.value {
            NodeValue::Mapping(_) => node.get(step),
            NodeValue::Sequence(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            NodeValue::Text(text, _) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn span(&self) -> TextSpan {
        let style = match &self.value {
            NodeValue::Text(_, style) => *style,
            _ => TextStyle::Plain,
        };
        TextSpan { start: self.position, style }
    }

    /// The value without places.
    pub(crate) fn to_json(&self) -> Value {
        match &self.value {
            NodeValue::Null { .. } => Value::Null,
            NodeValue::Bool(value) => Value::Bool(*value),
            NodeValue::Number(number) => Value::Number(number.clone()),
            NodeValue::Text(text, _) => Value::String(text.clone()),
            NodeValue::Sequence(items) => items.iter().map(Node::to_json).collect(),
            NodeValue::Mapping(entries) => {
                let pairs = entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    fn size(&self) -> usize {
        match &self.value {
            NodeValue::Sequence(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            NodeValue::Mapping(entries) => 1 + entries.iter().map(|entry| entry.value.size()).sum::<usize>(),
            _ => 1,
        }
    }
}

/// Reads one YAML document.
///
/// # Errors
/// The text is no YAML, has several documents, duplicate keys, keys that are no scalars, or custom tags.
pub(crate) fn parse(text: &str) -> Result<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { events: Vec::new(), at: 0, anchors: HashMap::new(), nodes: 0 };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        if !matches!(event, Event::Comment(..)) {
            builder.events.push((event, span));
        }
    }
    builder.document()
}

struct Builder<'a> {
    events: Vec<(Event<'a>, Span)>,
    at: usize,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Node> {
        let mut root = None;
        while let Some((event, span)) = self.events.get(self.at) {
            match event {
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => self.at += 1,
                Event::DocumentStart(..) if root.is_some() => {
                    return Err(SpecError::at(
                        SpecErrorKind::Syntax,
                        position(span),
                        "a second document begins here",
                        "a spec is one YAML document; move the second one into a file of its own",
                    ));
                }
                Event::DocumentStart(..) => self.at += 1,
                _ => root = Some(self.node()?),
            }
        }
        let empty = Node { position: Position::START, value: NodeValue::Null { written: false } };
        Ok(root.unwrap_or(empty))
    }

    fn next(&mut self) -> Option<(Event<'a>, Span)> {
        let event = self.events.get(self.at).cloned();
        self.at += 1;
        event
    }

    /// The parser has seen the whole document balanced, so an end is always there; should one be missing,
    /// the node is what was read so far.
    fn node(&mut self) -> Result<Node> {
        let Some((event, span)) = self.next() else {
            return Ok(Node { position: Position::START, value: NodeValue::Null { written: false } });
        };
        let place = position(&span);
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (scalar(text, style, tag.as_deref(), &span)?, anchor),
            Event::SequenceStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), place)?;
                (Node { position: place, value: NodeValue::Sequence(self.sequence()?) }, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                refuse_tag(tag.as_deref(), place)?;
                (Node { position: place, value: NodeValue::Mapping(self.mapping()?) }, anchor)
            }
            Event::Alias(id) => (self.alias(id, place)?, 0),
            _ => (Node { position: place, value: NodeValue::Null { written: false } }, 0),
        };
        self.count(1, place)?;
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self) -> Result<Vec<Node>> {
        let mut items = Vec::new();
        while !matches!(self.events.get(self.at), None | Some((Event::SequenceEnd, _))) {
            items.push(self.node()?);
        }
        self.at += 1;
        Ok(items)
    }

    fn mapping(&mut self) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged = Vec::new();
        while !matches!(self.events.get(self.at), None | Some((Event::MappingEnd, _))) {
            let key = self.node()?;
            let value = self.node()?;
            let name = key_text(&key)?;
            if name == "<<" {
                merged.extend(merge_sources(value)?);
                continue;
            }
            if let Some(first) = entries.iter().find(|entry| entry.key == name) {
                return Err(SpecError::invalid(
                    key.position,
                    format!("the key `{name}` is there twice"),
                    format!("the first one is in line {}; keep one of them", first.key_position.line),
                ));
            }
            entries.push(Entry { key: name, key_position: key.position, value });
        }
        self.at += 1;
        for entry in merged {
            if entries.iter().all(|own| own.key != entry.key) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn alias(&mut self, id: usize, place: Position) -> Result<Node> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            return Err(SpecError::at(
                SpecErrorKind::Syntax,
                place,
                "an alias stands inside the value that it names",
                "move the anchor to a value that is complete before the alias",
            ));
        };
        self.count(node.size(), place)?;
        Ok(node)
    }

    fn count(&mut self, nodes: usize, place: Position) -> Result<()> {
        self.nodes += nodes;
        if self.nodes > MOST_NODES {
            return Err(SpecError::invalid(
                place,
                "the spec is too large with its aliases copied in",
                format!("a spec has at most {MOST_NODES} values; use fewer aliases of aliases"),
            ));
        }
        Ok(())
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>, span: &Span) -> Result<Node> {
    let mut place = position(span);
    let is_text = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    if !is_text {
        refuse_tag(tag, place)?;
    }
    if style == ScalarStyle::Literal {
        // The span begins at the first character that is not blank, the text at the first line.
        let blank = text.len() - text.trim_start_matches('\n').len();
        place.line = place.line.saturating_sub(blank).max(1);
    }
    let value = match style {
        // The parser calls a value that is not there `~`; its span tells.
        ScalarStyle::Plain if span.is_empty() => NodeValue::Null { written: false },
        ScalarStyle::Plain if !is_text => plain(text),
        _ => NodeValue::Text(text.into_owned(), text_style(style, span)),
    };
    Ok(Node { position: place, value })
}

fn text_style(style: ScalarStyle, span: &Span) -> TextStyle {
    match style {
        ScalarStyle::Plain => TextStyle::Plain,
        ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => TextStyle::Quoted,
        ScalarStyle::Literal => TextStyle::Literal { indent: span.start.col() },
        ScalarStyle::Folded => TextStyle::Folded,
    }
}

fn plain(text: Cow<'_, str>) -> NodeValue {
    match text.as_ref() {
        "~" | "null" | "Null" | "NULL" => NodeValue::Null { written: true },
        "true" | "True" | "TRUE" => NodeValue::Bool(true),
        "false" | "False" | "FALSE" => NodeValue::Bool(false),
        other => match serde_json::from_str::<Number>(other) {
            Ok(number) => NodeValue::Number(number),
            Err(_) => NodeValue::Text(text.into_owned(), TextStyle::Plain),
        },
    }
}

fn key_text(key: &Node) -> Result<String> {
    match &key.value {
        NodeValue::Text(text, _) => Ok(text.clone()),
        NodeValue::Number(number) => Ok(number.to_string()),
        NodeValue::Bool(value) => Ok(value.to_string()),
        NodeValue::Null { .. } | NodeValue::Sequence(_) | NodeValue::Mapping(_) => Err(SpecError::invalid(
            key.position,
            format!("a key must be a name, not {}", key.type_name()),
            "`${…}` at the beginning of a value needs quotes: \"${name}\"",
        )),
    }
}

fn merge_sources(value: Node) -> Result<Vec<Entry>> {
    let place = value.position;
    match value.value {
        NodeValue::Mapping(entries) => Ok(entries),
        NodeValue::Sequence(items) => {
            let nested: Vec<_> = items.into_iter().map(merge_sources).collect::<Result<_>>()?;
            Ok(nested.into_iter().flatten().collect())
        }
        _ => Err(SpecError::invalid(
            place,
            "`<<` merges mappings only",
            "write `<<: *name` of an anchored mapping",
        )),
    }
}

fn refuse_tag(tag: Option<&Tag>, place: Position) -> Result<()> {
    match tag {
        None => Ok(()),
        Some(tag) => Err(SpecError::invalid(
            place,
            format!("the tag `{}` means nothing here", tag.original()),
            "leave the tag out; text that begins with `!` needs quotes",
        )),
    }
}

fn position(span: &Span) -> Position {
    Position { line: span.start.line().max(1), column: span.start.col() + 1 }
}

fn syntax(error: &ScanError) -> SpecError {
    use serde_saphyr::granit_parser::ErrorKind;
    let marker = error.marker();
    let hint = match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => "YAML is indented with spaces; replace the tab",
        ErrorKind::UnclosedQuotedScalar | ErrorKind::UnclosedFlowCollection { .. } => {
            "something opened here or before is not closed: look for a missing quote, `]` or `}`"
        }
        ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::MisplacedFlowCollectionEnd
        | ErrorKind::MismatchedFlowCollectionEnd { .. } => {
            "count the brackets; between `{ }` and `[ ]` a value with brackets or commas needs quotes: \"${name}\""
        }
        ErrorKind::UnknownAnchor => "an alias `*name` needs an anchor `&name` before it",
        ErrorKind::MappingValueNotAllowed => "text with `: ` in it needs quotes; else check the indentation",
        ErrorKind::UnexpectedCharacter { .. } => "text that begins with a special character needs quotes",
        _ => "check the indentation and the quotes here and on the line before",
    };
    let place = Position { line: marker.line().max(1), column: marker.col() + 1 };
    SpecError::at(SpecErrorKind::Syntax, place, format!("not valid YAML: {}", error.kind()), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a byte of the text under `a` stands, as `line:column`.
    fn place(yaml: &str, of: &str) -> String {
        let tree = parse(yaml).unwrap();
        let node = tree.get("a").unwrap();
        let text = node.text().unwrap();
        let at = node.span().at_byte(text, text.find(of).unwrap());
        format!("{}:{}", at.line, at.column)
    }

    #[test]
    fn places_inside_texts() {
        assert_eq!(place("a: one two", "two"), "1:8");
        assert_eq!(place("x: 1\na: 'one two'", "two"), "2:9");
        assert_eq!(place("a: |\n  one\n   two\n", "two"), "3:4");
        assert_eq!(place("a: |\n  one\n   two\n", "one"), "2:3");
        assert_eq!(place("a: | # why\n\n\n  one\n   two\n", "two"), "5:4");
        assert_eq!(place("a: |-\n\n  one\n\n  two\n", "two"), "5:3");
        assert_eq!(place("a: |2\n   one\n  two\n", "two"), "3:3");
        assert_eq!(place("a: |2\n   one\n  two\n", "one"), "2:4");
        assert_eq!(place("x:\n - a: |\n     one\n     ü two\na: |\n  b ü two", "two"), "6:7");
    }

    #[test]
    fn plain_scalars_are_what_json_says() {
        let tree = parse(
            "a: [1, -2.50, 1e3, 007, 0x10, +1, .5, yes, true, ~, '5', !!str 5, 12345678901234567890123]",
        )
        .unwrap();
        let json = tree.to_json()["a"].to_string();
        assert_eq!(
            json,
            r#"[1,-2.50,1e+3,"007","0x10","+1",".5","yes",true,null,"5","5",12345678901234567890123]"#
        );
    }

    #[test]
    fn anchors_are_copied_and_merged() {
        let tree =
            parse("a: &a { x: 1, y: 2 }\nb: { <<: *a, y: 3 }\nc: { <<: [*a, { z: 4 }] }\nd: *a").unwrap();
        let json = tree.to_json().to_string();
        assert_eq!(
            json,
            r#"{"a":{"x":1,"y":2},"b":{"y":3,"x":1},"c":{"x":1,"y":2,"z":4},"d":{"x":1,"y":2}}"#
        );
    }

    #[test]
    fn aliases_of_aliases_do_not_explode() {
        let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..10 {
            let below = vec![format!("*a{}", level - 1); 10].join(", ");
            yaml.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        let error = parse(&yaml).unwrap_err();
        assert_eq!(error.message(), "the spec is too large with its aliases copied in");
        assert_eq!(parse("a: &a [*a]").unwrap_err().kind(), SpecErrorKind::Syntax);
    }

    #[test]
    fn nothing_that_people_type_makes_it_panic() {
        let pieces = [
            "a", ": ", "\n", "  ", "- ", "\"", "'", "{", "}", "[", "]", "|\n", "|+\n", "&a ", "*a", "\t",
            "#", "é", ",", "? ", "!!str ", "<<",
        ];
        let mut seed = 0x9E37_79B9_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let index = usize::try_from(seed >> 33).unwrap() % pieces.len();
                text.push_str(pieces[index]);
            }
            if let Err(error) = parse(&text) {
                assert!(
                    error.line().is_some_and(|line| line >= 1) && !error.hint().is_empty(),
                    "{text:?}: {error}"
                );
            }
        }
    }
}
