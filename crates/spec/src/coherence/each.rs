//! `each` is a path, and `key_as` names what it finds.

use super::Findings;
use crate::each::{ELEMENT, EachPath, POSITION};
use crate::elements::from::From;
use crate::elements::into::{Into, WriteMode};
use crate::spec::Spec;

const PATHS: &str = "write `$.tokens[*]` for a list, `$.a.*` for an object's members, `$.*` for the record's";

pub(super) fn from(spec: &Spec, name: &str, from: &From, findings: &mut Findings) {
    let path = |key| ["flows", name, "from", key];
    let Some(each) = &from.each else {
        if from.key_as.is_some() {
            let hint = "add `each: $.path.*`, or leave `key_as` out";
            findings.add(spec.key_position(&path("key_as")), "`key_as` belongs to `each`", hint);
        }
        return;
    };
    let parsed = match EachPath::parse(each) {
        Ok(parsed) => parsed,
        Err(fault) => {
            let place = spec.tree.find(&path("each")).map(|node| node.span().at_byte(each, fault.at));
            let place = place.unwrap_or_else(|| spec.position(&path("each")));
            findings.add(place, format!("`each`: {}", fault.message), PATHS);
            return;
        }
    };
    let Some(key_as) = &from.key_as else { return };
    let at = spec.position(&path("key_as"));
    if key_as.is_empty() || [POSITION, ELEMENT].contains(&key_as.as_str()) || key_as.starts_with(['$', '@']) {
        findings.add(at, format!("`key_as` cannot be `{key_as}`"), "give the column a name of its own");
    }
    match parsed.members() {
        1 => {}
        0 => findings.add(
            at,
            "`key_as` takes the keys of an object's members, and the path has no `.*`",
            "end the path with `.*`, or leave `key_as` out",
        ),
        _ => findings.add(
            at,
            "the path has several `.*`, and `key_as` takes the keys of one",
            "leave `key_as` out, or make it two flows",
        ),
    }
}

/// A `shape` is that of a file, and says by which column.
pub(super) fn shape(spec: &Spec, path: &[&str], into: &Into, findings: &mut Findings) {
    let Some(shape) = &into.shape else { return };
    let whole = [path, &["shape"]].concat();
    if into.path.is_none() {
        let at = spec.key_position(&whole);
        findings.add(at, "`shape` belongs to a file", "name the file with `path`, or leave `shape` out");
        return;
    }
    let (by, column) = match (&shape.object_by, &shape.records_by) {
        (Some(column), None) => ("object_by", column),
        (None, Some(column)) => ("records_by", column),
        (None, None) => {
            let hint =
                "add `object_by: …`, the column whose values are the keys of one object, or `records_by: …`";
            findings.add(spec.position(&whole), "the `shape` does not say by which column", hint);
            return;
        }
        (Some(_), Some(_)) => {
            let at = spec.key_position(&[&whole[..], &["records_by"]].concat());
            findings.add(
                at,
                "a file is one object, or holds records",
                "leave `object_by` or `records_by` out",
            );
            return;
        }
    };
    if column.is_empty() {
        let hint = "name the column whose values tell the documents apart";
        findings.add(spec.position(&[&whole[..], &[by]].concat()), format!("`{by}` names no column"), hint);
    }
    if shape.list.as_ref().is_some_and(|list| list.is_empty() || list == column) {
        let at = spec.position(&[&whole[..], &["list"]].concat());
        findings.add(at, "`list` cannot be named so", "give the list a name of its own");
    }
}

/// Only an update can be guarded.
pub(super) fn guarded(spec: &Spec, path: &[&str], into: &Into, findings: &mut Findings) {
    if into.guarded.is_some() && into.mode != WriteMode::Update {
        let at = spec.key_position(&[path, &["guarded"]].concat());
        findings.add(at, "`guarded` belongs to `mode: update`", "add `mode: update`, or leave `guarded` out");
    }
}
