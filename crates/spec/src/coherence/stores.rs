//! Stores have one kind each, and keys that belong to it.

use super::Findings;
use crate::elements::stores::{Store, TableDefinition};
use crate::spec::Spec;

pub(super) fn check(spec: &Spec, findings: &mut Findings) {
    for (name, store) in &spec.document().stores {
        kinds(spec, name, store, findings);
        let tables = store.dynamodb.iter().flat_map(|dynamodb| &dynamodb.tables);
        for (table, definition) in tables {
            table_definition(spec, name, table, definition, findings);
        }
    }
}

fn kinds(spec: &Spec, name: &str, store: &Store, findings: &mut Findings) {
    let present = [
        ("postgres", store.postgres.is_some()),
        ("dynamodb", store.dynamodb.is_some()),
        ("sqlite", store.sqlite.is_some()),
        ("chroma", store.chroma.is_some()),
        ("files", store.files.is_some()),
    ];
    let mut kinds: Vec<&str> = present.iter().filter(|(_, there)| *there).map(|(kind, _)| *kind).collect();
    kinds.sort_by_key(|kind| spec.key_position(&["stores", name, kind]));
    match kinds.as_slice() {
        [] => {
            let at = spec.key_position(&["stores", name]);
            findings.add(
                at,
                format!("the store `{name}` has no kind"),
                "give it `postgres`, `dynamodb`, `sqlite`, `chroma` or `files`",
            );
        }
        [_] => {}
        [first, second, ..] => {
            let at = spec.key_position(&["stores", name, second]);
            let message = format!("the store `{name}` is `{first}` already and cannot be `{second}` too");
            findings.add(at, message, format!("make `{second}` a store of its own"));
        }
    }
    let has_schema = kinds.contains(&"postgres") || kinds.contains(&"sqlite");
    if store.schema.is_some() && !has_schema && !kinds.is_empty() {
        let at = spec.key_position(&["stores", name, "schema"]);
        let hint = match kinds.as_slice() {
            ["dynamodb"] => "describe the tables under `dynamodb: { tables: … }`",
            ["chroma"] => "leave it out: nothing is made in a Chroma directory",
            _ => "leave it out: the columns of a file follow from the flow",
        };
        findings.add(at, "`schema` belongs to a `postgres` or `sqlite` store", hint);
    }
    if store.format.is_some() && !kinds.contains(&"files") && !kinds.is_empty() {
        let at = spec.key_position(&["stores", name, "format"]);
        findings.add(at, "`format` belongs to a `files` store", "leave it out");
    }
}

fn table_definition(
    spec: &Spec,
    store: &str,
    table: &str,
    definition: &TableDefinition,
    findings: &mut Findings,
) {
    let path = ["stores", store, "dynamodb", "tables", table];
    let at = |key: &str| spec.key_position(&[path.as_slice(), &[key]].concat());
    match (&definition.file, &definition.key) {
        (None, None) => findings.add(
            spec.key_position(&path),
            format!("the table `{table}` has neither `file` nor `key`"),
            "name a CreateTable request with `file`, or the partition key with `key`",
        ),
        (Some(_), Some(_)) => findings.add(
            at("key"),
            format!("the table `{table}` has both `file` and `key`"),
            "the file says the key already; keep one of them",
        ),
        (Some(_), None) => {
            let beside =
                [("sort_key", definition.sort_key.is_some()), ("billing", definition.billing.is_some())];
            for (key, _) in beside.iter().filter(|(_, there)| *there) {
                findings.add(at(key), format!("`{key}` has no place beside `file`"), "say it in the file");
            }
        }
        (None, Some(_)) => {}
    }
}
