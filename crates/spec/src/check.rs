//! The strict check: walks the YAML tree against the JSON Schema and stops at the first thing that is not as
//! the language has it. Texts that the later stages read as templates or SQL are gathered on the way.

use crate::duration;
use crate::elements::text::{ScopePart, scope_part};
use crate::error::{Position, Result, SpecError};
use crate::names::{NameRule, suggest};
use crate::node::{Entry, Node, NodeValue};
use crate::span::TextSpan;
use crate::template::Template;
use serde_json::{Map, Value};

/// Texts in which variables may be named, in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pub(crate) templates: Vec<TemplateAt>,
    pub(crate) sql: Vec<SqlAt>,
}

#[derive(Debug)]
pub(crate) struct TemplateAt {
    pub(crate) template: Template,
    pub(crate) text: String,
    pub(crate) span: TextSpan,
    /// The keys that lead to it.
    pub(crate) path: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct SqlAt {
    pub(crate) text: String,
    pub(crate) span: TextSpan,
    /// Whether `"${name}"` is the name of a table.
    pub(crate) names_tables: bool,
}

/// Checks a tree against the schema.
pub(crate) fn check(root: &Node, schema: &Value) -> Result<Texts> {
    let mut checker = Checker { root: schema, texts: Texts::default(), path: Vec::new() };
    if let NodeValue::Null { .. } = root.value {
        return Err(SpecError::invalid(
            Position::START,
            "the spec is empty",
            "begin with `migration: NAME`, then `stores` and `flows`",
        ));
    }
    checker.node(schema, root, root.position, "the spec")?;
    Ok(checker.texts)
}

struct Checker<'a> {
    root: &'a Value,
    texts: Texts,
    path: Vec<String>,
}

impl<'a> Checker<'a> {
    /// The schema itself, where it is a reference to a definition.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        while let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let Some(target) = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer))
            else {
                break;
            };
            schema = target;
        }
        schema
    }

    /// `place` is where to point when the value itself is not there; `name` is what messages call it.
    fn node(&mut self, schema: &'a Value, node: &Node, place: Position, name: &str) -> Result<()> {
        let outer = schema;
        let schema = self.resolve(schema);
        if let Some(Value::Array(alternatives)) = schema.get("anyOf").or_else(|| schema.get("oneOf")) {
            return self.alternatives(alternatives, node, place, name);
        }
        let Some(expected) = schema.get("type") else {
            return Ok(());
        };
        if !types(expected).any(|expected| fits(node, expected)) {
            return Err(wrong_type(node, place, name, &[schema]));
        }
        let label = label(outer, schema).unwrap_or(name);
        match &node.value {
            NodeValue::Mapping(entries) => self.mapping(schema, outer, entries, place, label),
            NodeValue::Sequence(items) => self.sequence(schema, items, place, name),
            NodeValue::Text(text, _) => self.text(outer, schema, node, text, name),
            NodeValue::Number(number) => range(schema, number.as_str(), node.position, name),
            NodeValue::Null { .. } | NodeValue::Bool(_) => Ok(()),
        }
    }

    fn alternatives(&mut self, all: &'a [Value], node: &Node, place: Position, name: &str) -> Result<()> {
        let all: Vec<&'a Value> = all.iter().flat_map(|one| self.flatten(one)).collect();
        let words: Vec<&'a str> = all.iter().filter_map(|one| one.get("const")?.as_str()).collect();
        let written = match &node.value {
            NodeValue::Text(text, _) => Some(text.as_str()),
            NodeValue::Null { written: true } => Some("null"),
            _ => None,
        };
        if words.iter().any(|word| Some(*word) == written) {
            return Ok(());
        }
        let others = || all.iter().filter(|one| one.get("const").is_none());
        let fitting = others().find(|one| types(&one["type"]).any(|expected| fits(node, expected)));
        if let Some(schema) = fitting {
            return self.node(schema, node, place, name);
        }
        match node.text() {
            Some(text) if !words.is_empty() && others().next().is_some() => Err(SpecError::invalid(
                node.position,
                format!("`{name}` must be {}, not `{}`", type_names(all.iter().copied()), shorten(text)),
                match others().any(|other| types(&other["type"]).any(|other| other == "array")) {
                    true => format!("write `{name}: [{}]`", shorten(text)),
                    false => suggest(text, "its words", words),
                },
            )),
            Some(text) if !words.is_empty() => {
                let hint = match crate::names::nearest(text, words.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => suggest(text, &format!("values of `{name}`"), words),
                };
                Err(SpecError::invalid(
                    node.position,
                    format!("`{name}` cannot be `{}`", shorten(text)),
                    hint,
                ))
            }
            _ => Err(wrong_type(node, place, name, &all)),
        }
    }

    /// An alternative, and those that it is made of.
    fn flatten(&self, schema: &'a Value) -> Vec<&'a Value> {
        let schema = self.resolve(schema);
        match schema.get("anyOf").or_else(|| schema.get("oneOf")) {
            Some(Value::Array(inner)) => inner.iter().flat_map(|one| self.flatten(one)).collect(),
            _ => vec![schema],
        }
    }

    fn mapping(
        &mut self,
        schema: &'a Value,
        outer: &'a Value,
        entries: &[Entry],
        place: Position,
        label: &str,
    ) -> Result<()> {
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        for entry in entries {
            let additional = schema.get("additionalProperties");
            let property = match (properties.and_then(|all| all.get(&entry.key)), additional) {
                (Some(property), _) => property,
                (None, Some(Value::Bool(false)) | None) if properties.is_some() || additional.is_some() => {
                    return Err(unknown_key(entry, properties.unwrap_or(&empty), label));
                }
                (None, Some(every @ Value::Object(_))) => {
                    self.key(outer, entry, label)?;
                    every
                }
                (None, _) => continue,
            };
            let place = match entry.value.value {
                NodeValue::Null { .. } => entry.key_position,
                _ => entry.value.position,
            };
            self.path.push(entry.key.clone());
            self.node(property, &entry.value, place, &entry.key)?;
            self.path.pop();
        }
        required(schema, entries, place, label)?;
        if entries.is_empty() && at_least_one(outer, schema, "minProperties") {
            return Err(SpecError::invalid(place, format!("{label} has nothing in it"), "name at least one"));
        }
        Ok(())
    }

    /// A key that the user chooses.
    fn key(&mut self, outer: &Value, entry: &Entry, label: &str) -> Result<()> {
        let Some(rule) = outer.get("x-keys") else { return Ok(()) };
        if rule == "template" {
            let span = TextSpan { start: entry.key_position, style: crate::span::TextStyle::Plain };
            return self.template(&entry.key, span);
        }
        match NameRule::from_schema(rule) {
            Some(rule) if !rule.accepts(&entry.key) => Err(SpecError::invalid(
                entry.key_position,
                format!("`{}` cannot be a name in {label}", shorten(&entry.key)),
                rule.description(),
            )),
            _ => Ok(()),
        }
    }

    fn sequence(&mut self, schema: &'a Value, items: &[Node], place: Position, name: &str) -> Result<()> {
        if items.is_empty() && at_least_one(schema, schema, "minItems") {
            let message = format!("the list `{name}` is empty");
            return Err(SpecError::invalid(place, message, "name at least one, or leave the key out"));
        }
        let Some(item_schema) = schema.get("items") else { return Ok(()) };
        for (index, item) in items.iter().enumerate() {
            self.path.push(index.to_string());
            self.node(item_schema, item, item.position, name)?;
            self.path.pop();
        }
        Ok(())
    }

    fn text(&mut self, outer: &Value, schema: &Value, node: &Node, text: &str, name: &str) -> Result<()> {
        let span = node.span();
        let kind = outer.get("x-text").or_else(|| schema.get("x-text")).and_then(Value::as_str);
        match kind {
            Some("template") => self.template(text, span),
            Some(sql @ ("sql" | "table_sql")) => {
                let names_tables = sql == "table_sql";
                self.texts.sql.push(SqlAt { text: text.to_owned(), span, names_tables });
                Ok(())
            }
            Some("scope") => self.scope_value(text, span, name),
            Some("duration") if duration::parse(text).is_none() => Err(SpecError::invalid(
                node.position,
                format!("`{name}` cannot be `{}`", shorten(text)),
                "a stretch of time is a whole number with `ms`, `s`, `m`, `h` or `d`, as in `5m`",
            )),
            Some("name") if !NameRule::Name.accepts(text) => Err(SpecError::invalid(
                node.position,
                format!("`{}` cannot be a name for `{name}`", shorten(text)),
                NameRule::Name.description(),
            )),
            Some(_) => Ok(()),
            None => match text.find("${") {
                Some(at) => Err(SpecError::invalid(
                    span.at_byte(text, at),
                    format!("variables do not work in `{name}`"),
                    "`${…}` works in `stores`, `variables` and `table`; SQL takes `$name`",
                )),
                None => Ok(()),
            },
        }
    }

    /// A name in it is checked like a parameter's in SQL.
    fn scope_value(&mut self, text: &str, span: TextSpan, name: &str) -> Result<()> {
        match scope_part(text) {
            Some(ScopePart::Variable(_)) => {
                self.texts.sql.push(SqlAt { text: text.to_owned(), span, names_tables: false });
            }
            Some(ScopePart::Text(_)) => {}
            None => {
                let message = format!("`{name}` cannot be `{}`", shorten(text));
                let hint =
                    "write `$name` of a variable alone, or the text itself; `$$` in front stands for `$`";
                return Err(SpecError::invalid(span.start, message, hint));
            }
        }
        Ok(())
    }

    fn template(&mut self, text: &str, span: TextSpan) -> Result<()> {
        let template = Template::parse(text)
            .map_err(|error| SpecError::invalid(span.at_byte(text, error.at), error.message, error.hint))?;
        self.texts.templates.push(TemplateAt {
            template,
            text: text.to_owned(),
            span,
            path: self.path.clone(),
        });
        Ok(())
    }
}

fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let one = schema.as_str();
    let many = schema.as_array().into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(many)
}

fn fits(node: &Node, expected: &str) -> bool {
    match &node.value {
        NodeValue::Null { .. } => expected == "null",
        NodeValue::Bool(_) => expected == "boolean",
        NodeValue::Number(number) => {
            expected == "number"
                || (expected == "integer" && number.as_str().bytes().all(|b| b.is_ascii_digit() || b == b'-'))
        }
        NodeValue::Text(..) => expected == "string",
        NodeValue::Sequence(_) => expected == "array",
        NodeValue::Mapping(_) => expected == "object",
    }
}

fn label<'a>(outer: &'a Value, schema: &'a Value) -> Option<&'a str> {
    outer.get("x-label").or_else(|| schema.get("x-label")).and_then(Value::as_str)
}

/// Names what is expected, `text or a list`.
fn type_names<'a>(schemas: impl IntoIterator<Item = &'a Value>) -> String {
    let mut names: Vec<String> = Vec::new();
    for schema in schemas {
        let words = match schema.get("const").and_then(Value::as_str) {
            Some(word) => vec![format!("`{word}`")],
            None => types(&schema["type"]).map(|name| type_name(name).to_owned()).collect(),
        };
        words.into_iter().for_each(|word| {
            if !names.contains(&word) {
                names.push(word);
            }
        });
    }
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

fn type_name(schema_type: &str) -> &'static str {
    match schema_type {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        _ => "something else",
    }
}

fn wrong_type(node: &Node, place: Position, name: &str, schemas: &[&Value]) -> SpecError {
    let expected = type_names(schemas.iter().copied());
    let quoted = if name == "the spec" { name.to_owned() } else { format!("`{name}`") };
    let given = match &node.value {
        NodeValue::Number(number) if expected.contains("number") => number.to_string(),
        NodeValue::Null { written: true } => "null".to_owned(),
        _ => node.type_name().to_owned(),
    };
    let hint = type_hint(node, name, &expected, schemas);
    SpecError::invalid(place, format!("{quoted} must be {expected}, not {given}"), hint)
}

fn type_hint(node: &Node, name: &str, expected: &str, schemas: &[&Value]) -> String {
    let is_duration =
        schemas.iter().any(|schema| schema.get("x-text").is_some_and(|kind| kind == "duration"));
    let keys = schemas.iter().find_map(|schema| schema.get("properties")?.as_object());
    match &node.value {
        NodeValue::Null { .. } => format!("write its value after `{name}:`"),
        NodeValue::Number(number) if is_duration => {
            format!("write its unit: `{number}s`, `{number}m`, `{number}h`")
        }
        NodeValue::Number(number) if expected.contains("text") => format!("put it in quotes: \"{number}\""),
        NodeValue::Bool(value) if expected == "text" => format!("put it in quotes: \"{value}\""),
        NodeValue::Text(text, _) if expected == "a list" => format!("write `{name}: [{}]`", shorten(text)),
        NodeValue::Mapping(_) if expected.contains("a list") => "begin each entry with `- `".to_owned(),
        NodeValue::Text(text, _) if expected == "true or false" => match text.to_lowercase().as_str() {
            "yes" | "on" | "y" => "write `true`".to_owned(),
            "no" | "off" | "n" => "write `false`".to_owned(),
            _ => "write `true` or `false`, without quotes".to_owned(),
        },
        NodeValue::Text(text, _) if text.parse::<f64>().is_ok() => format!("leave the quotes out: {text}"),
        _ => match keys {
            Some(keys) => suggest("", "its keys", keys.keys().map(String::as_str)),
            None => "`whimbrel schema` describes it".to_owned(),
        },
    }
}

fn unknown_key(entry: &Entry, properties: &Map<String, Value>, label: &str) -> SpecError {
    let all = || properties.keys().map(String::as_str);
    let hint = match crate::names::nearest(&entry.key, all()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => suggest("", "keys", all()),
    };
    SpecError::invalid(entry.key_position, format!("unknown key `{}` in {label}", shorten(&entry.key)), hint)
}

fn required(schema: &Value, entries: &[Entry], place: Position, label: &str) -> Result<()> {
    let names =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    for name in names {
        if entries.iter().all(|entry| entry.key != name) {
            let description = schema["properties"][name]["description"].as_str().unwrap_or_default();
            return Err(SpecError::invalid(
                place,
                format!("`{name}` is missing in {label}"),
                format!("add `{name}: …`: {}", first_sentence(description)),
            ));
        }
    }
    Ok(())
}

/// The first sentence without its full stop, to go on with after a colon.
fn first_sentence(text: &str) -> String {
    let sentence = text.split(['.', ':', '\n']).next().unwrap_or_default();
    let mut chars = sentence.chars();
    let first = chars.next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
    first + chars.as_str()
}

fn at_least_one(outer: &Value, schema: &Value, key: &str) -> bool {
    outer.get(key).or_else(|| schema.get(key)).is_some_and(|least| *least == 1)
}

fn range(schema: &Value, written: &str, place: Position, name: &str) -> Result<()> {
    let Ok(value) = written.parse::<f64>() else { return Ok(()) };
    let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
    let (least, most) = (bound("minimum"), bound("maximum"));
    let too_small = least.is_some_and(|least| value < least);
    let too_large = most.is_some_and(|most| value > most);
    if !too_small && !too_large {
        return Ok(());
    }
    let hint = match (least, most) {
        (Some(least), Some(most)) => format!("it is at least {least} and at most {most}"),
        (Some(least), None) => format!("it is at least {least}"),
        (None, Some(most)) => format!("it is at most {most}"),
        (None, None) => String::new(),
    };
    let direction = if too_small { "small" } else { "large" };
    Err(SpecError::invalid(place, format!("`{name}` is too {direction}: {}", shorten(written)), hint))
}

/// A value for a message: one line, not too long.
pub(crate) fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
