//! What `ignore` leaves out of records as people are shown them: columns, and places within documents.

use serde_json::{Map, Value};

/// A step from a value to what lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Each,
    Element(usize),
}

impl Step {
    fn is_field(&self, name: &str) -> bool {
        matches!(self, Self::Field(field) if field == name)
    }

    fn is_element(&self, position: usize) -> bool {
        matches!(self, Self::Each) || *self == Self::Element(position)
    }
}

/// The paths under `ignore` of a flow: `updated_at`, `questions[*].updated_at`, `meta.counts[0]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ignored {
    /// A path that is a column's whole name means that column, whatever characters it holds.
    columns: Vec<String>,
    within: Vec<(String, Vec<Step>)>,
}

impl Ignored {
    /// Of the spec's paths; what cannot be read the target has refused.
    pub(crate) fn new(paths: Vec<String>) -> Self {
        let within = paths.iter().filter_map(|path| {
            let (column, rest) = path.split_at(path.find(['.', '['])?);
            Some((column.to_owned(), steps(rest)?))
        });
        Self { within: within.collect(), columns: paths }
    }

    /// Whether a whole column is left out.
    pub(crate) fn whole(&self, column: &str) -> bool {
        self.columns.iter().any(|name| name == column)
    }

    /// A column's value without what is left out within it.
    pub(crate) fn prune(&self, column: &str, value: Value) -> Value {
        let paths = self.within.iter().filter(|(name, _)| name == column);
        prune(value, &paths.map(|(_, steps)| steps.as_slice()).collect::<Vec<_>>())
    }
}

fn steps(mut rest: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            steps.push(Step::Field(after.get(..end).filter(|field| !field.is_empty())?.to_owned()));
            rest = &after[end..];
        } else {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            steps.push(if index == "*" { Step::Each } else { Step::Element(index.parse().ok()?) });
            rest = after;
        }
    }
    Some(steps)
}

/// What remains of the paths below a child; `None` where the child itself is left out.
fn below<'p>(paths: &[&'p [Step]], is_child: impl Fn(&Step) -> bool) -> Option<Vec<&'p [Step]>> {
    let mut rest = Vec::new();
    for path in paths {
        match path {
            [step] if is_child(step) => return None,
            [step, more @ ..] if is_child(step) => rest.push(more),
            _ => {}
        }
    }
    Some(rest)
}

fn prune(value: Value, paths: &[&[Step]]) -> Value {
    match value {
        value if paths.is_empty() => value,
        Value::Object(fields) => {
            let kept = fields.into_iter().filter_map(|(name, value)| {
                let rest = below(paths, |step| step.is_field(&name))?;
                Some((name, prune(value, &rest)))
            });
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(values) => {
            let kept = values.into_iter().enumerate().filter_map(|(position, value)| {
                let rest = below(paths, |step| step.is_element(position))?;
                Some(prune(value, &rest))
            });
            Value::Array(kept.collect())
        }
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn places_within_documents_are_left_out() {
        let paths = ["a", "b.c", "q[*].at", "m.counts[0]", "m.gone"];
        let ignored = Ignored::new(paths.map(str::to_owned).to_vec());
        assert!(ignored.whole("a") && ignored.whole("b.c") && !ignored.whole("q"));
        assert_eq!(ignored.prune("q", json!([{"at": 1, "x": 2}, {"at": 3}, 4])), json!([{"x": 2}, {}, 4]));
        assert_eq!(ignored.prune("m", json!({"counts": [1, 2], "gone": {}})), json!({"counts": [2]}));
        assert_eq!(ignored.prune("b", json!({"c": 1, "d": {"c": 1}})), json!({"d": {"c": 1}}));
        assert_eq!(ignored.prune("other", json!({"at": 1})), json!({"at": 1}));
    }
}
