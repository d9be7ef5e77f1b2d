//! The way through a document in JSON to the elements that a path finds, without reading them.

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserializer as _, de};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use whimbrel_spec::EachStep;

/// What a path found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its bytes in the document.
    pub(super) bytes: Range<usize>,
    /// The key of the member that it is, or lies in.
    pub(super) key: Option<Arc<str>>,
    /// Why the path cannot go on here; the bytes are then those of what it cannot go through.
    pub(super) fault: Option<String>,
}

/// All elements in their order. A branch of the document that is not as the path says is one fault; what is
/// missing or null is nothing.
pub(super) fn walk(document: &str, steps: &[EachStep]) -> Vec<Found> {
    let mut walker = Walker { start: document.as_ptr() as usize, found: Vec::new() };
    walker.go(document.trim(), steps, None);
    walker.found
}

struct Walker {
    /// The address of the document's first byte: what is found in it is told by its distance from here.
    start: usize,
    found: Vec<Found>,
}

impl Walker {
    fn add(&mut self, text: &str, key: Option<&Arc<str>>, fault: Option<String>) {
        let from = text.as_ptr() as usize - self.start;
        self.found.push(Found { bytes: from..from + text.len(), key: key.cloned(), fault });
    }

    fn go(&mut self, text: &str, steps: &[EachStep], key: Option<&Arc<str>>) {
        let Some((step, rest)) = steps.split_first() else {
            self.add(text, key, None);
            return;
        };
        if kind(text) == Kind::Null {
            return;
        }
        let outcome = match step {
            EachStep::Name(name) => self.member(text, name, rest, key),
            EachStep::Elements => self.elements(text, rest, key),
            EachStep::Members => self.members(text, rest),
        };
        if let Err(fault) = outcome {
            self.add(text, key, Some(fault));
        }
    }

    fn member(
        &mut self,
        text: &str,
        name: &str,
        rest: &[EachStep],
        key: Option<&Arc<str>>,
    ) -> Result<(), String> {
        expect(text, Kind::Object, &format!("an object with `{name}`"))?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = deserializer.deserialize_map(Member(name)).map_err(|error| no_json(&error))?;
        deserializer.end().map_err(|error| no_json(&error))?;
        if let Some(value) = value {
            self.go(value.get(), rest, key);
        }
        Ok(())
    }

    fn elements(&mut self, text: &str, rest: &[EachStep], key: Option<&Arc<str>>) -> Result<(), String> {
        expect(text, Kind::List, "a list")?;
        let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| no_json(&error))?;
        for element in elements {
            self.go(element.get(), rest, key);
        }
        Ok(())
    }

    fn members(&mut self, text: &str, rest: &[EachStep]) -> Result<(), String> {
        expect(text, Kind::Object, "an object")?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let members = deserializer.deserialize_map(Members).map_err(|error| no_json(&error))?;
        deserializer.end().map_err(|error| no_json(&error))?;
        let mut seen = HashSet::new();
        if let Some((twice, _)) = members.iter().find(|(name, _)| !seen.insert(name.as_ref())) {
            return Err(format!("the key {twice:?} stands twice in one object"));
        }
        for (name, value) in &members {
            self.go(value.get(), rest, Some(&Arc::from(name.as_ref())));
        }
        Ok(())
    }
}

/// What a text of JSON is, by its first character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    List,
    Text,
    Number,
    Boolean,
    Null,
    /// Nothing that JSON has.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "an object",
            Self::List => "a list",
            Self::Text => "text",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Null => "null",
            Self::Other => "no JSON",
        })
    }
}

pub(super) fn kind(text: &str) -> Kind {
    match text.as_bytes() {
        [b'{', ..] => Kind::Object,
        [b'[', ..] => Kind::List,
        [b'"', ..] => Kind::Text,
        [b'-' | b'0'..=b'9', ..] => Kind::Number,
        b"true" | b"false" => Kind::Boolean,
        b"null" => Kind::Null,
        _ => Kind::Other,
    }
}

fn expect(text: &str, wanted: Kind, named: &str) -> Result<(), String> {
    match kind(text) {
        found if found == wanted => Ok(()),
        found => Err(format!("there is {found} where the path expects {named}")),
    }
}

fn no_json(error: &serde_json::Error) -> String {
    // The text of the error names the fault and its place, and no value: nothing was read but brackets.
    format!("it is no JSON that can be read: {error}")
}

/// One member of an object.
struct Member<'n>(&'n str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Name(name)) = map.next_key()? {
            if name != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom(format_args!("the key {name:?} stands twice in one object")));
            }
        }
        Ok(found)
    }
}

/// All members of an object.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(members)
    }
}

/// A name, borrowed where nothing in it is escaped.
struct Name<'a>(Cow<'a, str>);

impl<'de> de::Deserialize<'de> for Name<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in the document, as `key=text` or `!fault`.
    fn found(document: &str, steps: &[EachStep]) -> Vec<String> {
        let shown = |found: Found| match (found.fault, found.key) {
            (Some(fault), _) => format!("!{fault}"),
            (None, Some(key)) => format!("{key}={}", &document[found.bytes]),
            (None, None) => document[found.bytes].to_owned(),
        };
        walk(document, steps).into_iter().map(shown).collect()
    }

    fn name(name: &str) -> EachStep {
        EachStep::Name(name.to_owned())
    }

    #[test]
    fn elements_are_told_apart_as_they_are_written() {
        use EachStep::{Elements, Members};
        let number = "12345678901234567890.10";
        for (document, steps, expected) in [
            (
                format!(" [ {{\"n\": {number} }}, \"x\",null ] "),
                vec![Elements],
                vec![format!("{{\"n\": {number} }}"), "\"x\"".to_owned(), "null".to_owned()],
            ),
            ("[]".to_owned(), vec![Elements], vec![]),
            ("null".to_owned(), vec![Elements], vec![]),
            ("{}".to_owned(), vec![Members], vec![]),
            (
                r#"{"a\u00e4":[1],"b":2}"#.to_owned(),
                vec![Members],
                vec!["aä=[1]".to_owned(), "b=2".to_owned()],
            ),
            (r#"{"x":1}"#.to_owned(), vec![name("b"), Elements], vec![]),
            (r#"{"b":null}"#.to_owned(), vec![name("b"), Elements], vec![]),
            (
                r#"{"b":{"c":[1,2]}}"#.to_owned(),
                vec![name("b"), name("c"), Elements],
                vec!["1".into(), "2".into()],
            ),
            (
                r#"{"p":{"t":[1,2]},"q":{},"r":{"t":[]},"s":{"t":[3]}}"#.to_owned(),
                vec![Members, name("t"), Elements],
                vec!["p=1".into(), "p=2".into(), "s=3".into()],
            ),
            ("[[1],[],[2,3]]".to_owned(), vec![Elements, Elements], vec!["1".into(), "2".into(), "3".into()]),
        ] {
            assert_eq!(found(&document, &steps), expected, "{document}");
        }
    }

    #[test]
    fn a_branch_that_is_not_as_the_path_says_is_one_fault() {
        use EachStep::{Elements, Members};
        let one = |document: &str, steps: &[EachStep]| {
            let found = found(document, steps);
            assert_eq!(found.len(), 1, "{document}: {found:?}");
            found.into_iter().next().unwrap_or_default()
        };
        assert_eq!(one("{}", &[Elements]), "!there is an object where the path expects a list");
        assert_eq!(one("\"x\"", &[Elements]), "!there is text where the path expects a list");
        assert_eq!(one("7", &[Members]), "!there is a number where the path expects an object");
        assert_eq!(one("", &[Elements]), "!there is no JSON where the path expects a list");
        assert!(one("[1,2", &[Elements]).starts_with("!it is no JSON"));
        assert!(one("[1] x", &[Elements]).starts_with("!it is no JSON"));
        assert!(one(r#"{"a":1,"a":2}"#, &[Members]).contains("stands twice"));
        assert!(one(r#"{"a":[],"a":[]}"#, &[name("a"), Elements]).contains("stands twice"));
        let mixed = found(r#"{"p":{"t":[1]},"q":{"t":"x"},"r":{"t":[2]}}"#, &[Members, name("t"), Elements]);
        assert_eq!(mixed, ["p=1", "!there is text where the path expects a list", "r=2"]);
    }
}
