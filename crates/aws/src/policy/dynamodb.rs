//! What is called of DynamoDB, on which tables.

use super::{Drawn, Purpose, partition, title};
use serde_json::{Value, json};
use whimbrel_spec::Resolved;
use whimbrel_spec::resolved::{Relation, ResolvedFlow, ResolvedStore, StoreKind, WriteMode};

/// Whose a table is, and whether it can be brought back. Without these a run goes on, and protects less.
const SAFEGUARDS: [&str; 2] = ["dynamodb:DescribeContinuousBackups", "dynamodb:ListTagsOfResource"];

/// Reading what a key of one's own protects.
const KEY_READ: &[&str] = &["kms:Decrypt", "kms:DescribeKey"];
/// Writing it, too.
const KEY_WRITE: &[&str] =
    &["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"];
/// Putting a table under its protection: DynamoDB takes a grant in the caller's name.
const KEY_GRANT: &[&str] = &[
    "kms:CreateGrant",
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey*",
    "kms:ReEncrypt*",
];

impl Drawn<'_> {
    pub(super) fn dynamodb(&mut self, resolved: &Resolved) {
        let of = |flow: &str| resolved.stores.values().find(|s| s.name.as_str() == flow).filter(is_dynamodb);
        if !resolved.stores.values().any(|store| is_dynamodb(&store)) {
            return;
        }
        if self.purpose != Purpose::Backup {
            // No store is used whose answer has not been heard: each command lists tables first. There is no ARN for it.
            self.allow("ListTables", &["dynamodb:ListTables"], "*".to_owned());
        }
        for flow in &resolved.flows {
            if let (Some(store), Relation::Table(table)) = (of(flow.from.store.as_str()), &flow.from.relation)
            {
                self.source(store, table, flow.from.filter.is_some());
                self.beside(store, table, false);
            }
            if let Some(store) = of(flow.into.store.as_str()) {
                self.target(store, flow, resolved.undo);
                self.beside(store, &flow.into.table, true);
            }
        }
    }

    fn table(&self, store: &ResolvedStore, table: &str) -> String {
        if table.starts_with("arn:") {
            return table.to_owned();
        }
        self.placed.arn("dynamodb", self.placed.region(&store.name), &format!("table/{table}"))
    }

    /// Every command looks at a source's table, and at its first items: what columns it has is known by them alone.
    fn source(&mut self, store: &ResolvedStore, table: &str, is_filtered: bool) {
        if self.purpose == Purpose::Backup {
            return;
        }
        let arn = self.table(store, table);
        self.allow("Describe", &["dynamodb:DescribeTable"], arn.clone());
        self.allow("Read", &["dynamodb:Scan"], arn.clone());
        if is_filtered {
            // A condition on the key of the table, or of an index, is asked for instead of read past.
            self.allow("Query", &["dynamodb:Query"], arn.clone());
            self.allow("Query", &["dynamodb:Query"], format!("{arn}/index/*"));
        }
    }

    fn target(&mut self, store: &ResolvedStore, flow: &ResolvedFlow, undo: bool) {
        let arn = self.table(store, &flow.into.table);
        let safeguards = match self.purpose {
            Purpose::Backup => return,
            // What is compared may be anybody's.
            Purpose::Verify | Purpose::Repair => &SAFEGUARDS[..1],
            Purpose::Create | Purpose::Run | Purpose::Undo | Purpose::Clean => &SAFEGUARDS[..],
        };
        self.allow("Describe", &["dynamodb:DescribeTable"], arn.clone());
        self.allow("Safeguards", safeguards, arn.clone());
        match self.purpose {
            Purpose::Create => {
                self.allow("Tables", &["dynamodb:CreateTable", "dynamodb:TagResource"], arn);
            }
            Purpose::Clean => self.allow("Tables", &["dynamodb:DeleteTable"], arn),
            Purpose::Verify => self.allow("ReadBack", &["dynamodb:BatchGetItem", "dynamodb:Scan"], arn),
            Purpose::Repair => {
                self.allow("ReadBack", &["dynamodb:BatchGetItem", "dynamodb:Scan"], arn.clone());
                let mode = match flow.into.mode {
                    mode @ (WriteMode::Update | WriteMode::Changed) => mode,
                    // What differs is written over, whatever the run itself would do with it.
                    WriteMode::Insert | WriteMode::Upsert | WriteMode::SkipExisting => WriteMode::Upsert,
                };
                let (what, actions) = writing(mode, false);
                self.allow(what, actions, arn);
            }
            Purpose::Run => {
                let (what, actions) = writing(flow.into.mode, undo);
                self.allow(what, actions, arn.clone());
                if flow.into.delete_missing {
                    self.allow("Delete", &["dynamodb:DeleteItem"], arn);
                }
            }
            Purpose::Undo => self.undo(store, flow, undo, arn),
            Purpose::Backup => {}
        }
    }

    /// A table that a run made is removed, one that was empty is emptied, another one brought back by its images.
    fn undo(&mut self, store: &ResolvedStore, flow: &ResolvedFlow, has_images: bool, arn: String) {
        self.allow("Empty", &["dynamodb:DeleteItem", "dynamodb:Scan"], arn.clone());
        if has_images {
            let actions = &["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem"];
            self.allow("Restore", actions, arn.clone());
        }
        if definition(store, &flow.into.table).is_some() {
            self.allow("Tables", &["dynamodb:DeleteTable"], arn);
        }
    }

    /// What is done with a table that is read as with one that is written.
    fn beside(&mut self, store: &ResolvedStore, table: &str, is_written: bool) {
        let arn = self.table(store, table);
        if self.purpose == Purpose::Backup {
            self.allow("Table", &["dynamodb:CreateBackup", "dynamodb:DescribeTable"], arn.clone());
            self.allow("Look", &["dynamodb:DescribeBackup"], format!("{arn}/backup/*"));
        }
        if self.purpose == Purpose::Run && raises_capacity(store) {
            self.allow("Capacity", &["dynamodb:UpdateTable"], arn);
        }
        self.key(store, table, is_written);
    }

    /// The table's own key, where its definition names it.
    fn key(&mut self, store: &ResolvedStore, table: &str, is_written: bool) {
        let Some(key) = self.placed.keys.get(&(store.name.clone(), table.to_owned())) else { return };
        let actions = match self.purpose {
            Purpose::Clean => return,
            Purpose::Create if is_written => KEY_GRANT,
            Purpose::Run | Purpose::Repair | Purpose::Undo if is_written => KEY_WRITE,
            _ => KEY_READ,
        };
        let region = self.placed.region(&store.name);
        let world = if partition(region) == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
        let mut condition =
            json!({ "StringEquals": { "kms:ViaService": format!("dynamodb.{region}.{world}") } });
        let alias = key.split_once(":alias/").map(|(_, name)| name).or_else(|| key.strip_prefix("alias/"));
        let arn = match alias {
            // An alias is no resource on which actions are allowed, only a name by which a key is known.
            Some(name) => {
                condition["ForAnyValue:StringEquals"] =
                    json!({ "kms:ResourceAliases": format!("alias/{name}") });
                self.placed.arn("kms", region, "key/*")
            }
            None if key.starts_with("arn:") => key.clone(),
            None => self.placed.arn("kms", region, &format!("key/{key}")),
        };
        let purpose = if is_written { "Target" } else { "Source" };
        let what = format!("{purpose}Key{}{}", title(&region.replace('-', "")), title(alias.unwrap_or("")));
        self.allow(&what, actions, arn);
        let sid = self.sid(&what);
        if let Some(statement) = self.statements.iter_mut().find(|statement| statement.sid == sid) {
            statement.condition = Some(condition);
        }
    }
}

fn is_dynamodb(store: &&ResolvedStore) -> bool {
    store.kind == StoreKind::DynamoDb
}

/// What the spec says of how a table is to look.
pub(super) fn definition<'a>(store: &'a ResolvedStore, table: &str) -> Option<&'a Value> {
    store.config.get("tables")?.get(table)
}

/// Whether a run raises the capacity of a store's tables.
fn raises_capacity(store: &ResolvedStore) -> bool {
    let during = store.config.get("capacity").and_then(|capacity| capacity.get("during_run"));
    during.and_then(Value::as_object).is_some_and(|during| !during.is_empty())
}

/// What writing in a mode calls. Every mode asks whether the table is empty, by a scan of one item. Before-images are
/// read first, and what they were made of is then written under a condition, statement by statement.
fn writing(mode: WriteMode, has_images: bool) -> (&'static str, &'static [&'static str]) {
    match mode {
        WriteMode::Upsert if has_images => (
            "UpsertWithImages",
            &[
                "dynamodb:BatchGetItem",
                "dynamodb:BatchWriteItem",
                "dynamodb:PartiQLInsert",
                "dynamodb:PartiQLUpdate",
                "dynamodb:PutItem",
                "dynamodb:Scan",
                "dynamodb:UpdateItem",
            ],
        ),
        WriteMode::Upsert => ("Upsert", &["dynamodb:BatchWriteItem", "dynamodb:Scan"]),
        WriteMode::Insert | WriteMode::SkipExisting => (
            "Insert",
            &["dynamodb:BatchGetItem", "dynamodb:PartiQLInsert", "dynamodb:PutItem", "dynamodb:Scan"],
        ),
        WriteMode::Update => (
            "Update",
            &["dynamodb:BatchGetItem", "dynamodb:PartiQLUpdate", "dynamodb:Scan", "dynamodb:UpdateItem"],
        ),
        WriteMode::Changed => (
            "Changed",
            &[
                "dynamodb:BatchGetItem",
                "dynamodb:PartiQLInsert",
                "dynamodb:PartiQLUpdate",
                "dynamodb:PutItem",
                "dynamodb:Scan",
                "dynamodb:UpdateItem",
            ],
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_that_looks_before_it_writes_may_look() {
        for mode in [WriteMode::Insert, WriteMode::SkipExisting, WriteMode::Update, WriteMode::Changed] {
            assert!(writing(mode, false).1.contains(&"dynamodb:BatchGetItem"), "{mode:?}");
        }
        assert!(!writing(WriteMode::Upsert, false).1.contains(&"dynamodb:BatchGetItem"));
        assert!(writing(WriteMode::Upsert, true).1.contains(&"dynamodb:BatchGetItem"));
    }
}
