//! What `ignore` leaves out of records as people are shown them: columns, and places within documents.

use serde_json::Value;
use whimbrel_model::place::{self, Step};

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
            let (column, rest) = place::split(path);
            let steps = place::steps(rest).filter(|steps| !steps.is_empty())?;
            Some((column.to_owned(), steps))
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
        place::prune(value, &paths.map(|(_, steps)| steps.as_slice()).collect::<Vec<_>>())
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
