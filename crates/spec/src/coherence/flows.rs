//! Flows read and write stores that exist, say each thing once, and wait for each other without circles.

use super::{Findings, changed, each, langchain};
use crate::elements::checks::CheckElement;
use crate::elements::flows::{After, Flow};
use crate::elements::from::From as FromElement;
use crate::elements::into::{Into, OnDuplicate};
use crate::names::suggest;
use crate::order;
use crate::spec::Spec;

pub(super) fn check(spec: &Spec, findings: &mut Findings) {
    let document = spec.document();
    for (name, flow) in &document.flows {
        from(spec, name, flow, findings);
        into(spec, name, flow, findings);
        after(spec, name, flow, findings);
        for (index, check) in flow.checks.iter().enumerate() {
            check_element(spec, name, index, check, findings);
        }
        if let Some(group) = flow.group.as_ref().filter(|group| document.flows.contains_key(*group))
            && document.flows.get(group).is_some_and(|other| other.group.as_ref() != Some(group))
        {
            let at = spec.position(&["flows", name, "group"]);
            let message = format!("the group `{group}` has the name of a flow that is not in it");
            findings.add(at, message, "give the group a name of its own, so that `--only` is clear");
        }
    }
    if let Some(circle) = order::circle(spec) {
        let first = circle.first().map(String::as_str).unwrap_or_default();
        let at = spec.key_position(&["flows", first, "after"]);
        let way = circle.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" after ");
        findings.add(
            at,
            format!("flows wait for each other in a circle: {way}"),
            "take one `after` out of the circle",
        );
    }
}

fn store(spec: &Spec, path: &[&str], flow: &str, key: &str, name: Option<&str>, findings: &mut Findings) {
    let stores = || spec.document().stores.keys().map(String::as_str);
    match name {
        None => {
            let hint = match stores().collect::<Vec<_>>().as_slice() {
                [only] => format!("add `store: {only}`, here or under `defaults`"),
                _ => "add `store: NAME`, here or under `defaults`".to_owned(),
            };
            findings.add(spec.position(path), format!("`{key}` of the flow `{flow}` names no store"), hint);
        }
        Some(name) if !spec.document().stores.contains_key(name) => {
            let at = spec.position(&[path, &["store"]].concat());
            findings.add(at, format!("there is no store `{name}`"), suggest(name, "stores", stores()));
        }
        Some(_) => {}
    }
}

fn from(spec: &Spec, name: &str, flow: &Flow, findings: &mut Findings) {
    let path = ["flows", name, "from"];
    let Some(from) = &flow.from else {
        let at = spec.key_position(&["flows", name]);
        findings.add(
            at,
            format!("the flow `{name}` has no `from`"),
            "add `from: { store: NAME, table: NAME }`",
        );
        return;
    };
    if let Some(what) = &from.run {
        run(spec, name, flow, from, what, findings);
        return;
    }
    store(spec, &path, name, "from", from.store.as_deref(), findings);
    each::from(spec, name, from, findings);
    if is_files(spec, from.store.as_deref()) || from.path.is_some() {
        let other = [("table", from.table.is_some()), ("query", from.query.is_some())];
        let other = other.into_iter().find(|(_, there)| *there).map(|(key, _)| key);
        file(spec, &path, from.store.as_deref(), from.path.is_some(), other, findings);
        return;
    }
    if is_chroma(spec, from.store.as_deref()) || from.collection.is_some() {
        collection(spec, name, from, findings);
        return;
    }
    match (&from.table, &from.query) {
        (None, None) => {
            let message = format!("`from` of the flow `{name}` has neither `table` nor `query`");
            findings.add(
                spec.position(&path),
                message,
                "say what is read: `table: NAME` or `query: SELECT …`",
            );
        }
        (Some(_), Some(_)) => {
            let key = |key| spec.key_position(&["flows", name, "from", key]);
            let message = format!("`from` of the flow `{name}` has both `table` and `query`");
            findings.add(key("table").max(key("query")), message, "keep one of them");
        }
        _ => {}
    }
    if from.query.is_some()
        && let Some(store) = &from.store
        && spec.document().stores.get(store).is_some_and(|store| store.dynamodb.is_some())
    {
        let at = spec.key_position(&["flows", name, "from", "query"]);
        let message = format!("the store `{store}` is `dynamodb`, which answers no `query`");
        findings.add(at, message, "name its `table`, and which of its items with `where`");
    }
    if let Some(query) = &from.query
        && let Some(second) = query.0.match_indices("{slice}").nth(1)
        && let Some(node) = spec.tree.find(&["flows", name, "from", "query"])
    {
        let at = node.span().at_byte(&query.0, second.0);
        findings.add(at, "`{slice}` stands in the query twice", "keep the one that should be restricted");
    }
}

/// What the run itself has done is known when all else is done, and is read as it is.
fn run(spec: &Spec, name: &str, flow: &Flow, from: &FromElement, what: &str, findings: &mut Findings) {
    let at = |key: &str| spec.key_position(&["flows", name, "from", key]);
    if what != "flows" {
        findings.add(at("run"), format!("`run: {what}` is nothing that can be read"), "write `run: flows`");
    }
    if flow.after != Some(After::All) {
        let message = format!("the flow `{name}` reads what the run has done, and does not wait for it");
        findings.add(at("run"), message, "add `after: all` to the flow");
    }
    let others = [
        ("table", from.table.is_some()),
        ("query", from.query.is_some()),
        ("collection", from.collection.is_some()),
        ("path", from.path.is_some()),
        ("slice_by", from.slice_by.is_some()),
        ("each", from.each.is_some()),
        ("where", from.filter.is_some()),
    ];
    for (key, _) in others.into_iter().filter(|(_, there)| *there) {
        let hint = "leave it out; conditions go behind WHERE of the transform";
        findings.add(at(key), format!("`{key}` has no place beside `run`"), hint);
    }
}

fn is_files(spec: &Spec, store: Option<&str>) -> bool {
    store.and_then(|store| spec.document().stores.get(store)).is_some_and(|store| store.files.is_some())
}

fn is_chroma(spec: &Spec, store: Option<&str>) -> bool {
    store.and_then(|store| spec.document().stores.get(store)).is_some_and(|store| store.chroma.is_some())
}

/// A collection of Chroma is named by `collection`, and nothing else is.
fn collection(spec: &Spec, name: &str, from: &FromElement, findings: &mut Findings) {
    let at = |key: &str| spec.key_position(&["flows", name, "from", key]);
    let shown = from.store.as_deref().unwrap_or_default();
    let others = [("table", from.table.is_some()), ("query", from.query.is_some())];
    if spec.document().stores.contains_key(shown) && !is_chroma(spec, from.store.as_deref()) {
        let message =
            format!("`collection` names a collection of Chroma, and the store `{shown}` is not `chroma`");
        findings.add(at("collection"), message, "name its `table`");
    } else if let Some((key, _)) = others.into_iter().find(|(_, there)| *there) {
        let message = match from.collection.is_some() {
            true => format!("`{key}` has no place beside `collection`"),
            false => format!("the store `{shown}` is `chroma`, which has no `{key}`"),
        };
        findings.add(at(key), message, "name the `collection`, and which of its records with `where`");
    } else if from.collection.is_none() {
        let message = format!("no collection of the store `{shown}` is named");
        findings.add(spec.position(&["flows", name, "from"]), message, "say which: `collection: NAME`");
    }
}

/// A file is named by its `path`, and nothing else is. `other` is what stands there besides.
fn file(
    spec: &Spec,
    path: &[&str],
    store: Option<&str>,
    named: bool,
    other: Option<&str>,
    findings: &mut Findings,
) {
    let at = |key: &str| spec.key_position(&[path, &[key]].concat());
    let shown = store.unwrap_or_default();
    if named
        && store.is_some_and(|store| spec.document().stores.contains_key(store))
        && !is_files(spec, store)
    {
        let message = format!("`path` names a file, and the store `{shown}` is not `files`");
        findings.add(at("path"), message, "name its `table`");
    } else if let Some(key) = other {
        let message = match named {
            true => format!("`{key}` has no place beside `path`"),
            false => format!("the store `{shown}` is `files`, which has no `{key}`"),
        };
        findings.add(at(key), message, "name a file below the store's root: `path: users.parquet`");
    } else if !named {
        let message = format!("no file of the store `{shown}` is named");
        findings.add(spec.position(path), message, "say which: `path: users.parquet`");
    }
}

fn into(spec: &Spec, name: &str, flow: &Flow, findings: &mut Findings) {
    let Some(into) = &flow.into else {
        let at = spec.key_position(&["flows", name]);
        findings.add(
            at,
            format!("the flow `{name}` has no `into`"),
            "add `into: { store: NAME, table: NAME, key: [NAME] }`",
        );
        return;
    };
    for (index, target) in into.as_slice().iter().enumerate() {
        let index = index.to_string();
        let mut path = vec!["flows", name, "into"];
        if into.is_list() {
            path.push(&index);
        }
        store(spec, &path, name, "into", target.store.as_deref(), findings);
        if is_chroma(spec, target.store.as_deref()) {
            let at = spec.position(&[path.as_slice(), &["store"]].concat());
            let message = format!(
                "the store `{}` is `chroma`, to which nothing is ever written",
                target.store.as_deref().unwrap_or_default()
            );
            findings.add(
                at,
                message,
                "write into another store: `postgres`, `sqlite`, `dynamodb` or `files`",
            );
            continue;
        }
        if target.langchain.is_some() {
            langchain::check(spec, &path, name, target, findings);
        } else if is_files(spec, target.store.as_deref()) || target.path.is_some() {
            let other = target.table.as_ref().map(|_| "table");
            file(spec, &path, target.store.as_deref(), target.path.is_some(), other, findings);
        } else if target.table.is_none() {
            let message = format!("`into` of the flow `{name}` names no table");
            findings.add(spec.position(&path), message, "say where records go: `table: NAME`");
        }
        each::shape(spec, &path, target, findings);
        each::guarded(spec, &path, target, findings);
        changed::check(spec, &path, name, target, findings);
        order(spec, &path, target, findings);
    }
}

/// `on_duplicate: last` and `order` need each other.
fn order(spec: &Spec, path: &[&str], target: &Into, findings: &mut Findings) {
    let key = |key: &str| spec.key_position(&[path, &[key]].concat());
    let columns = match (target.on_duplicate, &target.order) {
        (OnDuplicate::Last, None) => {
            let hint =
                "add `order: [column, …]`: the record with the greatest value wins, with ` desc` the least";
            findings.add(key("on_duplicate"), "`on_duplicate: last` does not say by what", hint);
            return;
        }
        (OnDuplicate::Reject, Some(_)) => {
            let hint = "add `on_duplicate: last`, or leave `order` out";
            findings.add(key("order"), "`order` belongs to `on_duplicate: last`", hint);
            return;
        }
        (OnDuplicate::Reject, None) => return,
        (OnDuplicate::Last, Some(columns)) => columns,
    };
    for (index, column) in columns.as_slice().iter().enumerate() {
        let position = index.to_string();
        let mut place = [path, &["order"]].concat();
        if columns.is_list() {
            place.push(&position);
        }
        let before = columns.as_slice().iter().take(index);
        if column.column.is_empty() {
            findings.add(
                spec.position(&place),
                "a column of `order` has no name",
                "name a column, or leave it out",
            );
        } else if before.into_iter().any(|other| other.column == column.column) {
            let message = format!("`order` names `{}` twice", column.column);
            findings.add(spec.position(&place), message, "keep one of them");
        }
    }
}

fn after(spec: &Spec, name: &str, flow: &Flow, findings: &mut Findings) {
    let Some(After::Flows(names)) = &flow.after else { return };
    let flows = || spec.document().flows.keys().map(String::as_str);
    for (index, other) in names.iter().enumerate() {
        let at = spec.position(&["flows", name, "after", &index.to_string()]);
        if other == name {
            findings.add(
                at,
                format!("the flow `{name}` waits for itself"),
                "leave it out of its own `after`",
            );
        } else if !spec.document().flows.contains_key(other) {
            findings.add(
                at,
                format!("there is no flow `{other}`"),
                suggest(other, "flows", flows().filter(|f| *f != name)),
            );
        }
    }
}

fn check_element(spec: &Spec, name: &str, index: usize, check: &CheckElement, findings: &mut Findings) {
    let index = index.to_string();
    let path = ["flows", name, "checks", index.as_str()];
    let key = |key| spec.key_position(&["flows", name, "checks", index.as_str(), key]);
    match (&check.expect, &check.required) {
        (None, None) => {
            findings.add(
                spec.position(&path),
                "a check has neither `expect` nor `required`",
                "add one of them",
            );
        }
        (Some(_), Some(_)) => {
            let at = key("expect").max(key("required"));
            findings.add(at, "a check has both `expect` and `required`", "make them two checks");
        }
        (None, Some(_)) if check.message.is_some() => {
            findings.add(
                key("else"),
                "`else` belongs to `expect`",
                "`required` has a message of its own; leave `else` out",
            );
        }
        _ => {}
    }
    required_columns(spec, name, &index, check, findings);
}

/// A column that `columns` names with other capitals is a slip. Others cannot be known before the source is
/// seen.
fn required_columns(spec: &Spec, name: &str, index: &str, check: &CheckElement, findings: &mut Findings) {
    let Some(flow) = spec.document().flows.get(name) else { return };
    let Some(required) = &check.required else { return };
    for (at, column) in required.as_slice().iter().enumerate() {
        let declared = flow.columns.keys().find(|declared| declared.eq_ignore_ascii_case(column));
        let Some(declared) = declared.filter(|declared| *declared != column) else { continue };
        let position = at.to_string();
        let mut path = vec!["flows", name, "checks", index, "required"];
        if required.is_list() {
            path.push(&position);
        }
        let message = format!("`required` names `{column}`, and `columns` calls it `{declared}`");
        findings.add(spec.position(&path), message, format!("did you mean `{declared}`?"));
    }
}
