//! Places within documents that are left out of comparison: `questions[*].updated_at`.
//!
//! The same paths are taken out of a document here, where it is fingerprinted, and by an expression in PostgreSQL,
//! where it is compared with what a row holds.

use crate::template::literal;
use serde_json::Value;
use whimbrel_model::place::{self, Step, below};

/// The places within one column, as paths of at least one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Within(Vec<Vec<Step>>);

type Paths<'a> = Vec<&'a [Step]>;

impl Within {
    /// The places that paths name within a column. A path that is a column's whole name means that column.
    ///
    /// # Errors
    /// A path that cannot be read.
    pub(crate) fn of(paths: &[String], column: &str) -> Result<Self, String> {
        let inside = paths.iter().filter_map(|path| {
            let rest = path.strip_prefix(column)?;
            rest.starts_with(['.', '[']).then_some((path, rest))
        });
        let steps = inside.map(|(path, rest)| {
            let message = || format!("\"{path}\" is no path; write `name`, `name.field` or `name[*].field`");
            place::steps(rest).ok_or_else(message)
        });
        steps.collect::<Result<_, _>>().map(Self)
    }

    /// The column that a path is about.
    pub(crate) fn column(path: &str) -> &str {
        place::split(path).0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn paths(&self) -> Paths<'_> {
        self.0.iter().map(Vec::as_slice).collect()
    }

    /// A document without these places.
    pub(crate) fn prune(&self, document: Value) -> Value {
        place::prune(document, &self.paths())
    }

    /// An expression for a document without these places; `document` is one of a `jsonb`.
    pub(crate) fn sql(&self, document: &str) -> String {
        sql(document, &self.paths(), 0)
    }
}

/// Each level names its document, so that the expression is as long as the paths are.
fn sql(document: &str, paths: &[&[Step]], depth: usize) -> String {
    if paths.is_empty() {
        return document.to_owned();
    }
    let x = format!("d{depth}.x");
    format!(
        "(SELECT CASE pg_catalog.jsonb_typeof({x}) WHEN 'object' THEN {} WHEN 'array' THEN {} ELSE {x} END \
         FROM (SELECT {document} AS x) AS d{depth})",
        object(&x, paths, depth),
        array(&x, paths, depth)
    )
}

fn object(x: &str, paths: &[&[Step]], depth: usize) -> String {
    let mut names: Vec<&str> = paths
        .iter()
        .filter_map(
            |path| if let Some(Step::Field(name)) = path.first() { Some(name.as_str()) } else { None },
        )
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut made = x.to_owned();
    for name in names {
        // A document holds no U+0000, nor a name of a field in it.
        let Some(quoted) = literal(name) else { continue };
        made = match below(paths, |step| step.is_field(name)) {
            None => format!("({made} - {quoted}::pg_catalog.text)"),
            Some(rest) => {
                let inner = sql(&format!("({x} -> {quoted})"), &rest, depth + 1);
                format!(
                    "CASE WHEN {x} -> {quoted} IS NULL THEN {made} \
                     ELSE pg_catalog.jsonb_set({made}, ARRAY[{quoted}]::pg_catalog.text[], {inner}) END"
                )
            }
        };
    }
    made
}

fn array(x: &str, paths: &[&[Step]], depth: usize) -> String {
    if below(paths, |step| *step == Step::Each).is_none() {
        return "'[]'::pg_catalog.jsonb".to_owned();
    }
    let mut numbers: Vec<usize> = paths
        .iter()
        .filter_map(|path| if let Some(Step::Element(number)) = path.first() { Some(*number) } else { None })
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    let each = |is_child: &dyn Fn(&Step) -> bool| {
        below(paths, is_child).map(|rest| sql(&format!("e{depth}.v"), &rest, depth + 1))
    };
    let rest = each(&|step| *step == Step::Each).unwrap_or_default();
    let (mut cases, mut left_out) = (String::new(), Vec::new());
    for number in numbers {
        // Numbers count from 1 there.
        let at = number + 1;
        match each(&|step| step.is_element(number)) {
            None => left_out.push(at.to_string()),
            Some(one) => cases += &format!(" WHEN e{depth}.n = {at} THEN {one}"),
        }
    }
    let value = if cases.is_empty() { rest } else { format!("CASE{cases} ELSE {rest} END") };
    let kept = if left_out.is_empty() {
        String::new()
    } else {
        format!(" WHERE e{depth}.n NOT IN ({})", left_out.join(", "))
    };
    format!(
        "(SELECT COALESCE(pg_catalog.jsonb_agg({value} ORDER BY e{depth}.n), '[]'::pg_catalog.jsonb) \
         FROM pg_catalog.jsonb_array_elements({x}) WITH ORDINALITY AS e{depth}(v, n){kept})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn within(paths: &[&str]) -> Within {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        Within::of(&paths, "doc").expect("paths")
    }

    #[test]
    fn places_are_taken_out_at_any_depth() {
        let document =
            json!({"at": 1, "q": [{"at": 1, "a": [{"at": 1, "n": 2}]}, {"x": 3}], "list": [1, 2, 3]});
        let pruned = |paths: &[&str]| within(paths).prune(document.clone());
        assert_eq!(pruned(&[]), document);
        assert_eq!(pruned(&["doc", "other.at"]), document, "whole columns and other columns");
        assert_eq!(pruned(&["doc.at"])["at"], Value::Null);
        assert_eq!(pruned(&["doc.q[*].at"])["q"], json!([{"a": [{"at": 1, "n": 2}]}, {"x": 3}]));
        assert_eq!(pruned(&["doc.q[*].a[*].at"])["q"][0]["a"], json!([{"n": 2}]));
        assert_eq!(pruned(&["doc.list[1]"])["list"], json!([1, 3]));
        assert_eq!(pruned(&["doc.list[*]"])["list"], json!([]));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["doc.", "doc[", "doc[x]", "doc[1", "doc[1]b"] {
            assert!(Within::of(&[path.to_owned()], "doc").is_err(), "{path}");
        }
        assert!(within(&["document.at"]).is_empty(), "another column that begins alike");
    }
}
