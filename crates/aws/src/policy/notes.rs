//! What a policy cannot know, as sentences for whoever reads it.

use super::dynamodb::definition;
use super::values::asked;
use super::{Placed, Purpose};
use std::collections::BTreeSet;
use whimbrel_spec::Resolved;
use whimbrel_spec::resolved::{Relation, StoreKind};

/// What has to be allowed beside the policy, where it depends on what the spec does not say.
#[must_use]
pub fn notes(resolved: &Resolved, text: &str, purposes: &[Purpose], placed: &Placed) -> Vec<String> {
    let mut notes = Vec::new();
    let looks_up = |provider: &str| asked(text).iter().any(|(other, _)| *other == provider);
    let kept: Vec<&str> = [("ssm", "parameters (SecureString)"), ("secret", "secrets")]
        .into_iter()
        .filter_map(|(provider, what)| looks_up(provider).then_some(what))
        .collect();
    if !kept.is_empty() {
        notes.push(format!(
            "{}: one that is encrypted with a KMS key of your own also needs kms:Decrypt on that key, which the spec \
             does not name; AWS's own keys need nothing",
            kept.join(" and ")
        ));
    }
    let tables = untold(resolved, placed);
    if !tables.is_empty() {
        let tables: Vec<_> = tables.into_iter().collect();
        notes.push(format!(
            "table {}: the spec does not say what it is encrypted with; under a KMS key of your own, kms:Decrypt and \
             kms:DescribeKey are needed, for writing kms:Encrypt, kms:GenerateDataKey* and kms:ReEncrypt*, too",
            tables.join(", ")
        ));
    }
    let is_in_s3 = |config: &serde_json::Value| {
        let root = config.as_str().or_else(|| config.get("path")?.as_str());
        root.is_some_and(|root| root.starts_with("s3://"))
    };
    let mut files = resolved.stores.values().filter(|store| store.kind == StoreKind::Files);
    if files.any(|store| is_in_s3(&store.config)) {
        notes.push(
            "S3: objects under a KMS key of your own need kms:Decrypt on it, for writing kms:GenerateDataKey, too"
                .to_owned(),
        );
    }
    if !purposes.contains(&Purpose::Run) {
        return notes;
    }
    for (purpose, what) in [
        (Purpose::Create, "`run --create` and `--clean` (`--for create`, `--for clean`)"),
        (Purpose::Backup, "`run --backup` (`--for backup`)"),
        (Purpose::Repair, "`verify --repair` (`--for repair`)"),
        (Purpose::Undo, "`undo` (`--for undo`)"),
    ] {
        if !purposes.contains(&purpose) {
            notes.push(format!("not in it: {what}"));
        }
    }
    notes
}

/// The tables of DynamoDB of which the spec has no definition.
fn untold(resolved: &Resolved, placed: &Placed) -> BTreeSet<String> {
    let mut tables = BTreeSet::new();
    for flow in &resolved.flows {
        let from = match &flow.from.relation {
            Relation::Table(table) => Some((&flow.from.store, table)),
            Relation::Query(_) | Relation::Run => None,
        };
        for (store, table) in from.into_iter().chain([(&flow.into.store, &flow.into.table)]) {
            let Some(store) = resolved.stores.get(store) else { continue };
            let is_known = placed.keys.contains_key(&(store.name.clone(), table.clone()));
            if store.kind == StoreKind::DynamoDb && !is_known && definition(store, table).is_none() {
                tables.insert(table.clone());
            }
        }
    }
    tables
}
