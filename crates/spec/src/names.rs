//! Names: what they may look like, and which one was meant.

use serde_json::Value;

/// The longest name, in characters: names become parts of file names and of tags.
const LONGEST: usize = 64;

/// What a name in the spec is for; decides its characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// A migration, store, flow, group or environment.
    Name,
    /// A variable, which is also a parameter in SQL.
    Variable,
}

impl NameRule {
    /// The rule that a schema extension names.
    pub(crate) fn from_schema(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "name" => Some(Self::Name),
            "variable" => Some(Self::Variable),
            _ => None,
        }
    }

    /// Whether the name is well formed.
    pub(crate) fn accepts(self, name: &str) -> bool {
        let dash = self == Self::Name;
        let first = name.chars().next();
        first.is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && name.len() <= LONGEST
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || (dash && c == '-'))
    }

    /// The rule for people.
    pub(crate) fn description(self) -> String {
        let dash = if self == Self::Name { ", `_` and `-`" } else { " and `_`" };
        format!("a name begins with a letter and has letters, digits{dash}, at most {LONGEST} characters")
    }
}

/// The candidate that was most likely meant: equal but for case, or a few slips away.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let slips = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= slips || (lower.len() > 2 && candidate.to_lowercase().starts_with(&lower))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The hint for a name that is not among the candidates.
pub(crate) fn suggest<'a>(
    name: &str,
    what: &str,
    candidates: impl IntoIterator<Item = &'a str, IntoIter: Clone>,
) -> String {
    let candidates = candidates.into_iter();
    if let Some(meant) = nearest(name, candidates.clone()) {
        return format!("did you mean `{meant}`?");
    }
    let known: Vec<_> = candidates.map(|candidate| format!("`{candidate}`")).collect();
    match known.as_slice() {
        [] => format!("there are no {what}"),
        known => format!("{what}: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_and_a_stranger_does_not() {
        assert_eq!(nearest("tabel", ["table", "key", "mode"]), Some("table"));
        assert_eq!(nearest("User_ID", ["user_id"]), Some("user_id"));
        assert_eq!(nearest("env", ["environments", "flows"]), Some("environments"));
        assert_eq!(nearest("colour", ["table", "key"]), None);
    }

    #[test]
    fn a_name_has_letters_and_no_dots() {
        assert!(NameRule::Name.accepts("pni-lessons"));
        for name in ["", "1st", "a.b", "a b", "ünder", "a/b"] {
            assert!(!NameRule::Name.accepts(name), "{name}");
        }
        assert!(!NameRule::Variable.accepts("user-id"));
        assert!(!NameRule::Name.accepts(&"a".repeat(65)));
    }
}
