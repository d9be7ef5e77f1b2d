//! What is left out of comparison: whole attributes, and places within them.
//!
//! Its paths are those of [`whimbrel_model::place`].

use super::value::canonical;
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::{HashMap, HashSet};
use whimbrel_model::canonical::Canonical;
use whimbrel_model::place::{self, Step, below};

/// The attributes and places that are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ignore {
    attributes: HashSet<String>,
    within: HashMap<String, Vec<Vec<Step>>>,
}

impl Ignore {
    /// Reads the paths of the spec. A path that is an attribute's whole name means that attribute, whatever
    /// characters it holds.
    ///
    /// # Errors
    /// A path that cannot be read, said with the reason.
    pub(crate) fn parse(paths: &[String]) -> Result<Self, String> {
        let mut ignore = Self::default();
        for path in paths {
            let (attribute, steps) = parse(path).ok_or_else(|| {
                format!("\"{path}\" is no path; write `name`, `name.field` or `name[*].field`")
            })?;
            ignore.attributes.insert(path.clone());
            if !steps.is_empty() {
                ignore.within.entry(attribute.to_owned()).or_default().push(steps);
            }
        }
        Ok(ignore)
    }

    /// The attribute that a path begins with.
    pub(crate) fn attribute(path: &str) -> &str {
        place::split(path).0
    }

    /// Whether the whole attribute is left out.
    pub(crate) fn whole(&self, attribute: &str) -> bool {
        self.attributes.contains(attribute)
    }

    /// Appends an attribute's value in canonical form, without what is left out within it.
    pub(crate) fn canonical(&self, into: &mut Canonical, attribute: &str, value: &AttributeValue) {
        match self.within.get(attribute) {
            None => canonical(into, value),
            Some(paths) => {
                let paths: Vec<&[Step]> = paths.iter().map(Vec::as_slice).collect();
                canonical_without(into, value, &paths);
            }
        }
    }

    /// Whether something within the attribute is left out.
    pub(crate) fn is_within(&self, attribute: &str) -> bool {
        self.within.contains_key(attribute)
    }
}

fn parse(path: &str) -> Option<(&str, Vec<Step>)> {
    let (attribute, rest) = place::split(path);
    Some((attribute, place::steps(rest)?)).filter(|(attribute, _)| !attribute.is_empty())
}

fn canonical_without(into: &mut Canonical, value: &AttributeValue, paths: &[&[Step]]) {
    match value {
        _ if paths.is_empty() => canonical(into, value),
        AttributeValue::M(map) => {
            let kept = |(name, value): (&String, _)| {
                let paths = below(paths, |step| step.is_field(name))?;
                Some((name.clone(), value, paths))
            };
            let mut entries: Vec<(String, &AttributeValue, _)> = map.iter().filter_map(kept).collect();
            entries.sort_unstable_by(|one, other| one.0.cmp(&other.0));
            into.map(entries.len());
            for (name, value, paths) in entries {
                into.key(&name);
                canonical_without(into, value, &paths);
            }
        }
        AttributeValue::L(values) => {
            let kept = |(position, value)| Some((value, below(paths, |step| step.is_element(position))?));
            let elements: Vec<(&AttributeValue, _)> = values.iter().enumerate().filter_map(kept).collect();
            into.list(elements.len());
            for (value, paths) in elements {
                canonical_without(into, value, &paths);
            }
        }
        _ => canonical(into, value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::from_json;
    use super::*;
    use serde_json::{Value, json};

    fn form(paths: &[&str], value: &Value) -> Vec<u8> {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let mut into = Canonical::default();
        Ignore::parse(&paths).unwrap().canonical(&mut into, "doc", &from_json(value.clone()).unwrap());
        into.bytes().to_vec()
    }

    #[test]
    fn what_lies_on_a_path_does_not_count() {
        let one = json!([{"id": 1, "at": "x", "deep": {"at": "x"}}, {"id": 2}]);
        let other = json!([{"id": 1, "at": "y", "deep": {"at": "x"}}, {"id": 2, "at": "z"}]);
        assert_ne!(form(&[], &one), form(&[], &other));
        assert_eq!(form(&["doc[*].at"], &one), form(&["doc[*].at"], &other));
        assert_ne!(
            form(&["doc[0].at"], &one),
            form(&["doc[0].at"], &other),
            "the second element differs too"
        );
        assert_eq!(
            form(&["doc[0].at", "doc[1].at"], &one),
            form(&["doc[0].at", "doc[1].at"], &other),
            "both elements by number"
        );
        assert_ne!(form(&["doc[*].deep.at"], &one), form(&["doc[*].deep.at"], &other));
        assert_eq!(form(&["other[*].at"], &one), form(&[], &one), "a path of another attribute");
        let without = json!([{"id": 1, "deep": {"at": "x"}}, {"id": 2}]);
        assert_eq!(form(&["doc[*].at"], &one), form(&[], &without), "as if it were not there");
    }

    #[test]
    fn other_values_stay() {
        let (one, other) = (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 1, "c": 3}}));
        assert_ne!(form(&["doc.a.b"], &one), form(&["doc.a.b"], &other));
        assert_eq!(form(&["doc.a.c"], &one), form(&["doc.a.c"], &other));
        assert_eq!(form(&["doc.a.b", "doc.a.c"], &one), form(&[], &json!({"a": {}})));
        assert_eq!(form(&["doc[*]"], &json!([1, 2])), form(&[], &json!([])));
        assert_eq!(form(&["doc.a"], &json!("text")), form(&[], &json!("text")), "a path that leads nowhere");
    }

    #[test]
    fn whole_attributes_by_their_names() {
        let ignore = Ignore::parse(&["a".to_owned(), "b.c".to_owned()]).unwrap();
        assert!(ignore.whole("a") && ignore.whole("b.c") && !ignore.whole("b") && ignore.is_within("b"));
        for path in ["", ".a", "a.", "a[", "a[x]", "a[1", "a]b["] {
            assert!(Ignore::parse(&[path.to_owned()]).is_err(), "{path}");
        }
    }
}
