//! What belongs to `mode: changed`, and what may be deleted.

use super::Findings;
use crate::elements::into::{Into, WriteMode};
use crate::spec::Spec;

/// `compare` and `delete_missing` of one target. `path` leads to it.
pub(super) fn check(spec: &Spec, path: &[&str], flow: &str, target: &Into, findings: &mut Findings) {
    let at = |key: &str| spec.key_position(&[path, &[key]].concat());
    if target.mode != WriteMode::Changed {
        let hint = "add `mode: changed`, or leave it out";
        if target.compare.is_some() {
            findings.add(at("compare"), "`compare` belongs to `mode: changed`", hint);
        }
        if target.delete_missing {
            findings.add(at("delete_missing"), "`delete_missing` belongs to `mode: changed`", hint);
        }
        return;
    }
    if !target.delete_missing {
        return;
    }
    // Other flows' records would be missing from this flow's source.
    let all = spec.document().flows.iter();
    let mut others = all.flat_map(|(name, other)| {
        let targets = other.into.iter().flat_map(|into| into.as_slice());
        targets.map(move |target| (name, target))
    });
    let shares = |other: &Into| {
        !std::ptr::eq(other, target)
            && other.store == target.store
            && other.table.as_ref().map(|table| &table.0) == target.table.as_ref().map(|table| &table.0)
            && !are_disjoint(target, other)
    };
    if let Some((name, _)) = others.find(|(_, other)| shares(other)) {
        let message = format!(
            "`delete_missing` of the flow `{flow}` would delete what the flow `{name}` writes into the same table"
        );
        let hint = "give both a `scope` of one column with different values, or delete by hand";
        findings.add(at("delete_missing"), message, hint);
    }
}

/// Whether no record can be in the scope of both.
fn are_disjoint(one: &Into, other: &Into) -> bool {
    let (Some(one), Some(other)) = (&one.scope, &other.scope) else { return false };
    one.iter().any(|(column, value)| {
        // Two variables may have one value.
        let is_text = |text: &str| !text.starts_with('$') || text.starts_with("$$");
        other.get(column).is_some_and(|theirs| value.0 != theirs.0 && is_text(&value.0) && is_text(&theirs.0))
    })
}
