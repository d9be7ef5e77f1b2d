//! The path of `each`: where in a record the elements stand that become records of their own.

/// Under this name stands the number of an element in its parent, counted from 0 over all that the path finds.
pub const POSITION: &str = "_position";
/// Under this name stands an element whole.
pub const ELEMENT: &str = "_element";

/// A path, `$.tokens[*]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EachPath {
    /// The column of the source that holds the document; `None`: the record whole is the document.
    pub column: Option<String>,
    /// The way through the document. The last step finds the elements.
    pub steps: Vec<EachStep>,
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EachStep {
    /// `.name`: the member of an object.
    Name(String),
    /// `[*]`: every element of a list.
    Elements,
    /// `.*`: every member of an object.
    Members,
}

/// A text that is no path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EachFault {
    /// The byte where it stops to be one.
    pub(crate) at: usize,
    /// What is wrong.
    pub(crate) message: String,
}

impl EachFault {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

impl EachPath {
    /// Reads `$.a.b[*]`, `$.*`, `$[*]`, and what can be made of their steps.
    pub(crate) fn parse(text: &str) -> Result<Self, EachFault> {
        let mut steps = Vec::new();
        let Some(mut rest) = text.strip_prefix('$') else {
            return Err(EachFault::new(0, "a path begins with `$`, the record"));
        };
        while !rest.is_empty() {
            let at = text.len() - rest.len();
            let (step, after) = step(rest, at)?;
            steps.push(step);
            rest = after;
        }
        match steps.last() {
            Some(EachStep::Elements | EachStep::Members) => {}
            Some(EachStep::Name(_)) | None => {
                return Err(EachFault::new(
                    text.len(),
                    "a path ends with `[*]` or `.*`: what it finds are many",
                ));
            }
        }
        let column = match steps.first() {
            Some(EachStep::Name(name)) => Some(name.clone()),
            _ => None,
        };
        steps.drain(..usize::from(column.is_some()));
        Ok(Self { column, steps })
    }

    /// How many of its steps are `.*`.
    #[must_use]
    pub fn members(&self) -> usize {
        self.steps.iter().filter(|step| **step == EachStep::Members).count()
    }

    /// Whether one step alone finds many: the elements of a record then stand in one list or object.
    #[must_use]
    pub fn is_simple(&self) -> bool {
        self.steps.iter().filter(|step| !matches!(step, EachStep::Name(_))).count() == 1
    }
}

/// The step that `rest` begins with, and what is behind it.
fn step(rest: &str, at: usize) -> Result<(EachStep, &str), EachFault> {
    if let Some(after) = rest.strip_prefix("[*]") {
        return Ok((EachStep::Elements, after));
    }
    if rest.starts_with('[') {
        return Err(EachFault::new(at, "only `[*]` stands in brackets: every element of a list"));
    }
    let Some(named) = rest.strip_prefix('.') else {
        return Err(EachFault::new(at, "a step is `.name`, `.*` or `[*]`"));
    };
    if let Some(after) = named.strip_prefix('*') {
        return Ok((EachStep::Members, after));
    }
    let end = named.find(['.', '[']).unwrap_or(named.len());
    let (name, after) = named.split_at(end);
    if let Some((byte, odd)) = name.char_indices().find(|(_, c)| !is_name(*c)) {
        return Err(EachFault::new(at + 1 + byte, format!("{odd:?} has no place in a name of a path")));
    }
    if name.is_empty() {
        return Err(EachFault::new(at, "a name is missing behind the point"));
    }
    Ok((EachStep::Name(name.to_owned()), after))
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_step_by_step() {
        use EachStep::{Elements, Members};
        let name = |name: &str| EachStep::Name(name.to_owned());
        for (text, column, steps) in [
            ("$.tokens[*]", Some("tokens"), vec![Elements]),
            ("$.a.b[*]", Some("a"), vec![name("b"), Elements]),
            ("$.a-1.*", Some("a-1"), vec![Members]),
            ("$.*", None, vec![Members]),
            ("$[*]", None, vec![Elements]),
            ("$.*.tokens[*]", None, vec![Members, name("tokens"), Elements]),
            ("$.ä[*].b[*]", Some("ä"), vec![Elements, name("b"), Elements]),
        ] {
            let path = EachPath::parse(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
            assert_eq!((path.column.as_deref(), &path.steps), (column, &steps), "{text}");
            assert_eq!(
                path.is_simple(),
                steps.iter().filter(|s| !matches!(s, EachStep::Name(_))).count() == 1
            );
        }
    }

    #[test]
    fn a_fault_has_its_place() {
        for (text, at) in [
            ("", 0),
            ("tokens[*]", 0),
            ("$", 1),
            ("$.tokens", 8),
            ("$.a[*].b", 8),
            ("$.tokens[0]", 8),
            ("$.tokens[", 8),
            ("$..tokens[*]", 1),
            ("$.to kens[*]", 4),
            ("$tokens[*]", 1),
            ("$.ä\"[*]", 4),
            ("$[*]x", 4),
            ("$.tokens[?(@.a)]", 8),
        ] {
            let fault = EachPath::parse(text).err().unwrap_or_else(|| panic!("{text:?} was read"));
            assert_eq!(fault.at, at, "{text:?}: {}", fault.message);
        }
    }
}
