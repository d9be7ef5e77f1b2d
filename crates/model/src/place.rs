//! Places within documents, as the paths under `ignore` name them: a column, then fields with a point, `[*]` for each
//! element of a list, `[2]` for one of them: `questions[*].updated_at`, `meta.counts[0]`.

use serde_json::Value;

/// A step from a value to what lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into the field of an object.
    Field(String),
    /// Into each element of a list.
    Each,
    /// Into one element of a list; counting begins with 0.
    Element(usize),
}

impl Step {
    /// Whether it leads into the field of this name.
    #[must_use]
    pub fn is_field(&self, name: &str) -> bool {
        matches!(self, Self::Field(field) if field == name)
    }

    /// Whether it leads into the element at this position.
    #[must_use]
    pub fn is_element(&self, position: usize) -> bool {
        matches!(self, Self::Each) || *self == Self::Element(position)
    }
}

/// The column that a path begins with, and the rest of the path.
#[must_use]
pub fn split(path: &str) -> (&str, &str) {
    path.split_at(path.find(['.', '[']).unwrap_or(path.len()))
}

/// The steps of a path behind its column; `None`: it is no path.
#[must_use]
pub fn steps(mut rest: &str) -> Option<Vec<Step>> {
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

/// What remains of paths below a child; `None` where a path ends there: the child itself is left out.
pub fn below<'p>(paths: &[&'p [Step]], is_child: impl Fn(&Step) -> bool) -> Option<Vec<&'p [Step]>> {
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

/// A document without what these paths, of at least one step each, lead to.
#[must_use]
pub fn prune(value: Value, paths: &[&[Step]]) -> Value {
    match value {
        value if paths.is_empty() => value,
        Value::Object(fields) => {
            let kept = fields.into_iter().filter_map(|(name, value)| {
                let rest = below(paths, |step| step.is_field(&name))?;
                Some((name, prune(value, &rest)))
            });
            Value::Object(kept.collect())
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
    fn a_path_is_a_column_and_steps() {
        assert_eq!(split("questions[*].at"), ("questions", "[*].at"));
        assert_eq!(split("at"), ("at", ""));
        let field = |name: &str| Step::Field(name.to_owned());
        assert_eq!(steps("[*].at[2]"), Some(vec![Step::Each, field("at"), Step::Element(2)]));
        assert_eq!(steps(""), Some(Vec::new()));
        for wrong in [".", "[", "[x]", "[1", "[1]b", "a", ".a.", "]"] {
            assert_eq!(steps(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_lies_on_a_path_is_left_out() {
        let document = json!({"at": 1, "q": [{"at": 1, "x": 2}, {"at": 3}, 4], "list": [1, 2, 3]});
        let pruned = |paths: &[&str]| {
            let paths: Vec<_> = paths.iter().filter_map(|path| steps(path)).collect();
            prune(document.clone(), &paths.iter().map(Vec::as_slice).collect::<Vec<_>>())
        };
        assert_eq!(pruned(&[]), document);
        assert_eq!(pruned(&[".at"]), json!({"q": [{"at": 1, "x": 2}, {"at": 3}, 4], "list": [1, 2, 3]}));
        assert_eq!(pruned(&[".q[*].at"])["q"], json!([{"x": 2}, {}, 4]));
        assert_eq!(pruned(&[".q[0].at"])["q"], json!([{"x": 2}, {"at": 3}, 4]));
        assert_eq!(pruned(&[".list[1]", ".list[2]"])["list"], json!([1]));
        assert_eq!(pruned(&[".list[*]"])["list"], json!([]));
        assert_eq!(pruned(&[".none.at", ".at.at"]), document, "paths that lead nowhere");
    }
}
