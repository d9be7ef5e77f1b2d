//! `each` is a path, and `key_as` names what it finds.

use super::Findings;
use crate::each::{ELEMENT, EachPath, POSITION};
use crate::elements::from::From;
use crate::elements::into::Into;
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

/// A `shape` is that of a file.
pub(super) fn shape(spec: &Spec, path: &[&str], into: &Into, findings: &mut Findings) {
    let Some(shape) = &into.shape else { return };
    if into.path.is_none() {
        let at = spec.key_position(&[path, &["shape"]].concat());
        findings.add(at, "`shape` belongs to a file", "name the file with `path`, or leave `shape` out");
    } else if shape.object_by.is_empty() {
        let at = spec.position(&[path, &["shape", "object_by"]].concat());
        findings.add(at, "`object_by` names no column", "name the column whose values are the object's keys");
    }
}
