//! The least that a spec needs of AWS: an IAM policy with the actions that whimbrel calls, on the resources that the
//! spec names, each purpose by itself. Made without asking AWS anything.

use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use whimbrel_model::StoreName;
use whimbrel_spec::Resolved;
use whimbrel_spec::resolved::{Relation, ResolvedStore, StoreKind, WriteMode};

/// What somebody is to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// `create`: making tables.
    Create,
    /// `run`, `resume`, `retry` and `plan`: reading sources, writing targets.
    Run,
    /// `verify`: reading both.
    Verify,
    /// `clean`: removing tables.
    Clean,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Create, Self::Run, Self::Verify, Self::Clean];

    fn sid(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Run => "Run",
            Self::Verify => "Verify",
            Self::Clean => "Clean",
        }
    }
}

/// Where the resources are.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The account's number, or `*`.
    pub account: String,
    /// The region of each store that is on AWS, and of values where a store has none.
    pub regions: BTreeMap<StoreName, String>,
    /// The region where values are looked up.
    pub region: String,
}

impl Placed {
    fn region(&self, store: &StoreName) -> &str {
        self.regions.get(store).unwrap_or(&self.region)
    }

    fn arn(&self, service: &str, region: &str, rest: &str) -> String {
        format!("arn:{}:{service}:{region}:{}:{rest}", partition(region), self.account)
    }
}

/// AWS's world that a region belongs to.
fn partition(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

/// A statement of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    /// What it is for; unique in its policy.
    pub sid: String,
    effect: &'static str,
    /// What is allowed.
    pub action: Vec<String>,
    /// On what.
    pub resource: Vec<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Value>,
}

/// A policy document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Policy {
    version: &'static str,
    /// What is allowed.
    pub statement: Vec<Statement>,
}

/// The policy for a spec's chosen flows. `text` is the spec's own, which names the values that it looks up.
#[must_use]
pub fn policy(resolved: &Resolved, text: &str, purposes: &[Purpose], placed: &Placed) -> Policy {
    let mut statement = Vec::new();
    let chosen: BTreeSet<Purpose> = purposes.iter().copied().collect();
    for purpose in chosen {
        let mut drawn = Drawn { purpose, placed, statements: Vec::new() };
        drawn.dynamodb(resolved);
        drawn.files(resolved);
        drawn.values(text);
        statement.extend(drawn.finish());
    }
    Policy { version: "2012-10-17", statement }
}

/// The statements of one purpose, as they are found.
struct Drawn<'a> {
    purpose: Purpose,
    placed: &'a Placed,
    statements: Vec<Statement>,
}

impl Drawn<'_> {
    /// Adds to the statement of that name.
    fn allow(&mut self, what: &str, actions: &[&str], resource: String) {
        let sid = format!("{}{what}", self.purpose.sid());
        let actions = actions.iter().map(|action| (*action).to_owned());
        match self.statements.iter_mut().find(|statement| statement.sid == sid) {
            Some(known) => known.resource.push(resource),
            None => self.statements.push(Statement {
                sid,
                effect: "Allow",
                action: actions.collect(),
                resource: vec![resource],
                condition: None,
            }),
        }
    }

    fn finish(mut self) -> Vec<Statement> {
        for statement in &mut self.statements {
            statement.action.sort();
            statement.resource.sort();
            statement.resource.dedup();
        }
        self.statements
    }

    fn dynamodb(&mut self, resolved: &Resolved) {
        let of = |name: &StoreName| resolved.stores.get(name).filter(|s| s.kind == StoreKind::DynamoDb);
        if !resolved.stores.values().any(|store| store.kind == StoreKind::DynamoDb) {
            return;
        }
        // No store is used whose answer has not been heard: each command lists tables first. There is no ARN for it.
        self.allow("ListTables", &["dynamodb:ListTables"], "*".to_owned());
        for flow in &resolved.flows {
            if let (Some(store), Relation::Table(table)) = (of(&flow.from.store), &flow.from.relation) {
                let arn = self.table(store, table);
                self.source(&arn, flow.from.filter.is_some());
            }
            if let Some(store) = of(&flow.into.store) {
                let arn = self.table(store, &flow.into.table);
                self.target(&arn, flow.into.mode, flow.into.delete_missing);
            }
        }
    }

    fn table(&self, store: &ResolvedStore, table: &str) -> String {
        if table.starts_with("arn:") {
            return table.to_owned();
        }
        self.placed.arn("dynamodb", self.placed.region(&store.name), &format!("table/{table}"))
    }

    fn source(&mut self, arn: &str, is_filtered: bool) {
        // Every command looks at the tables; only two read them.
        self.allow("Describe", &["dynamodb:DescribeTable"], arn.to_owned());
        if matches!(self.purpose, Purpose::Run | Purpose::Verify) {
            self.allow("Read", &["dynamodb:Scan"], arn.to_owned());
            if is_filtered {
                // A condition on the key is asked for instead of read past.
                self.allow("Query", &["dynamodb:Query"], arn.to_owned());
            }
        }
    }

    fn target(&mut self, arn: &str, mode: WriteMode, deletes: bool) {
        let arn = || arn.to_owned();
        self.allow("Describe", &["dynamodb:DescribeTable"], arn());
        // Whose a table is, and whether it can be brought back. Without these a run goes on, and protects less.
        let safeguards = &["dynamodb:DescribeContinuousBackups", "dynamodb:ListTagsOfResource"];
        match self.purpose {
            Purpose::Create => {
                self.allow("Tables", &["dynamodb:CreateTable", "dynamodb:TagResource"], arn());
                self.allow("Safeguards", safeguards, arn());
            }
            Purpose::Clean => {
                self.allow("Tables", &["dynamodb:DeleteTable"], arn());
                self.allow("Safeguards", safeguards, arn());
            }
            Purpose::Verify => {
                self.allow("ReadBack", &["dynamodb:BatchGetItem", "dynamodb:Scan"], arn());
                self.allow("Safeguards", &safeguards[..1], arn());
            }
            Purpose::Run => {
                self.allow("Safeguards", safeguards, arn());
                let (what, actions) = writing(mode);
                self.allow(what, actions, arn());
                if deletes {
                    self.allow("Delete", &["dynamodb:DeleteItem"], arn());
                }
            }
        }
    }

    /// Files in S3.
    fn files(&mut self, resolved: &Resolved) {
        let reads = matches!(self.purpose, Purpose::Run | Purpose::Verify);
        for store in resolved.stores.values().filter(|store| store.kind == StoreKind::Files) {
            let root = store.config.as_str().or_else(|| store.config.get("path")?.as_str());
            let Some(rest) = root.and_then(|root| root.strip_prefix("s3://")) else { continue };
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let world = partition(self.placed.region(&store.name));
            let (bucket, objects) =
                (format!("arn:{world}:s3:::{bucket}"), format!("arn:{world}:s3:::{bucket}/{prefix}*"));
            let is_written = resolved.flows.iter().any(|flow| flow.into.store == store.name);
            if !reads {
                continue;
            }
            self.allow(&format!("List{}", title(store.name.as_str())), &["s3:ListBucket"], bucket);
            if let Some(list) = self.statements.last_mut().filter(|_| !prefix.is_empty()) {
                list.condition = Some(json!({ "StringLike": { "s3:prefix": format!("{prefix}*") } }));
            }
            self.allow("ReadObjects", &["s3:GetObject"], objects.clone());
            if is_written && self.purpose == Purpose::Run {
                self.allow("WriteObjects", &["s3:AbortMultipartUpload", "s3:PutObject"], objects);
            }
        }
    }

    /// Values that the spec looks up; every command needs them.
    fn values(&mut self, text: &str) {
        let region = self.placed.region.clone();
        for (provider, argument) in asked(text) {
            match provider {
                "ssm" => {
                    let name = argument.split(':').next().unwrap_or_default().trim_start_matches('/');
                    let arn = self.value("ssm", &region, &argument, &format!("parameter/{name}"));
                    self.allow("Parameters", &["ssm:GetParameter"], arn);
                }
                "secret" => {
                    let name = argument.split('#').next().unwrap_or_default();
                    // A secret's ARN ends with six characters of its own.
                    let arn = self.value("secretsmanager", &region, name, &format!("secret:{name}-??????"));
                    self.allow("Secrets", &["secretsmanager:GetSecretValue"], arn);
                }
                _ => {
                    let pool = argument.split('/').next().unwrap_or_default();
                    let arn = self.placed.arn("cognito-idp", &region, &format!("userpool/{pool}"));
                    self.allow("Users", &["cognito-idp:AdminGetUser"], arn.clone());
                    match self.purpose {
                        Purpose::Run if makes_users(text) => {
                            self.allow("MakeUsers", &["cognito-idp:AdminCreateUser"], arn);
                        }
                        Purpose::Clean if makes_users(text) => {
                            self.allow("RemoveUsers", &["cognito-idp:AdminDeleteUser"], arn);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

impl Drawn<'_> {
    /// The ARN of a value, which may be named by its ARN.
    fn value(&self, service: &str, region: &str, name: &str, rest: &str) -> String {
        if name.starts_with("arn:") { name.to_owned() } else { self.placed.arn(service, region, rest) }
    }
}

/// What writing in a mode calls. Every mode asks whether the table is empty, by a scan of one item.
fn writing(mode: WriteMode) -> (&'static str, &'static [&'static str]) {
    match mode {
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

/// Whether the spec has users made that are not there.
fn makes_users(text: &str) -> bool {
    let mut places = text.match_indices("create:").map(|(at, word)| text[at + word.len()..].trim_start());
    text.contains("cognito:") && places.any(|rest| rest.starts_with("true"))
}

/// A name as a part of a Sid, which takes letters and digits only.
fn title(name: &str) -> String {
    let mut letters = name.chars().filter(char::is_ascii_alphanumeric);
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// `${provider:argument}` of the providers on AWS. What stands for something else within an argument is any text.
fn asked(text: &str) -> BTreeSet<(&'static str, String)> {
    let mut found = BTreeSet::new();
    for provider in ["ssm", "secret", "cognito"] {
        let opening = format!("${{{provider}:");
        for (at, _) in text.match_indices(&opening) {
            if text[..at].ends_with('$') {
                continue;
            }
            found.insert((provider, argument(&text[at + opening.len()..])));
        }
    }
    found
}

/// The argument of a reference, up to its end or its default.
fn argument(text: &str) -> String {
    let mut argument = String::new();
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        let rest = &text[at..];
        match c {
            '$' if rest.starts_with("${") => {
                depth += 1;
                if depth == 1 {
                    argument.push('*');
                }
            }
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ':' if depth == 0 && rest.starts_with(":-") => break,
            _ if depth == 0 => argument.push(c),
            _ => {}
        }
    }
    argument
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_the_spec_s_text() {
        let text = "a: ${ssm:/app/${stage:-x}/url:-none}, b: $${ssm:/no}, c: ${secret:db#password} ${env:X:-${cognito:pool/ann#sub}}";
        let found: Vec<_> = asked(text).into_iter().collect();
        let found: Vec<(&str, &str)> = found.iter().map(|(p, a)| (*p, a.as_str())).collect();
        assert_eq!(found, [("cognito", "pool/ann#sub"), ("secret", "db#password"), ("ssm", "/app/*/url")]);
    }

    #[test]
    fn users_are_made_where_the_spec_says_so() {
        assert!(makes_users("user: { default: x, cognito: { create: true, email: a@b } }"));
        assert!(!makes_users("user: ${cognito:pool/ann#sub}, cognito: { create: false }"));
    }

    #[test]
    fn names_become_parts_of_a_sid() {
        assert_eq!(title("my-dump_1"), "Mydump1");
        assert_eq!(
            (partition("cn-north-1"), partition("us-gov-west-1"), partition("eu-west-1")),
            ("aws-cn", "aws-us-gov", "aws")
        );
    }

    #[test]
    fn every_mode_that_looks_before_it_writes_may_look() {
        for mode in [WriteMode::Insert, WriteMode::SkipExisting, WriteMode::Update, WriteMode::Changed] {
            assert!(writing(mode).1.contains(&"dynamodb:BatchGetItem"), "{mode:?}");
        }
        assert!(!writing(WriteMode::Upsert).1.contains(&"dynamodb:BatchGetItem"));
    }
}
