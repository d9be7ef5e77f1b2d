//! `into: { langchain: … }` goes into PostgreSQL, and says what its tables do not say already.

use super::Findings;
use crate::elements::into::Into;
use crate::elements::text::scope_part;
use crate::spec::Spec;

/// `langchain` of one target. `path` leads to it.
pub(super) fn check(spec: &Spec, path: &[&str], flow: &str, target: &Into, findings: &mut Findings) {
    let at = |key: &str| spec.key_position(&[path, &[key]].concat());
    let store = target.store.as_deref().unwrap_or_default();
    let is_other = spec.document().stores.get(store).is_some_and(|store| store.postgres.is_none());
    if is_other {
        let message =
            format!("`langchain` names tables of PostgreSQL, and the store `{store}` is not `postgres`");
        findings.add(at("langchain"), message, "write into a `postgres` store, or into a `table` or `path`");
    }
    let beside = [
        ("table", target.table.is_some()),
        ("path", target.path.is_some()),
        ("key", target.key.is_some()),
        ("shape", target.shape.is_some()),
    ];
    for (key, _) in beside.into_iter().filter(|(_, there)| *there) {
        let message = format!("`{key}` has no place beside `langchain`");
        findings.add(at(key), message, "leave it out: the library's tables and their key are known");
    }
    if target.scope.as_ref().is_some_and(|scope| scope.contains_key("collection_id")) {
        let message = "`collection_id` in `scope` is what `langchain` says already";
        findings.add(at("scope"), message, "leave it out");
    }
    let Some(langchain) = &target.langchain else { return };
    for (key, value) in langchain.metadata.iter().filter(|(_, value)| scope_part(&value.0).is_none()) {
        let place = spec.position(&[path, &["langchain", "metadata", key]].concat());
        let message = format!("`{}` is neither `$name` of a variable nor text", value.0);
        findings.add(place, message, "write `$name` alone");
    }
    let written = spec.document().flows.get(flow);
    let is_read_otherwise = written.is_some_and(|flow| {
        let from = flow.from.as_ref();
        flow.transform.is_none() && from.is_some_and(|from| from.collection.is_none())
    });
    if !langchain.metadata.is_empty() && written.is_some_and(|flow| flow.transform.is_some()) {
        let place = spec.key_position(&[path, &["langchain", "metadata"]].concat());
        let hint = "put it into the transform: `json_set(cmetadata, 'user_id', $user_id) AS cmetadata`";
        findings.add(place, "`metadata` has no place beside a transform, which makes `cmetadata`", hint);
    }
    if is_read_otherwise {
        let hint =
            "add `transform: SELECT … AS id, … AS document, … AS cmetadata, … AS embedding FROM input`";
        findings.add(at("langchain"), "nothing says what the collection's records are made of", hint);
    }
}
