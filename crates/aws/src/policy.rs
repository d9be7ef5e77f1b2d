//! The least that a spec needs of AWS: an IAM policy with the actions that whimbrel calls, on the resources that the
//! spec names, each purpose by itself. Made without asking AWS anything.

mod dynamodb;
mod notes;
mod values;

use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use whimbrel_model::StoreName;
use whimbrel_spec::Resolved;
use whimbrel_spec::resolved::StoreKind;

pub use notes::notes;

/// What somebody is to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// `create`: making tables.
    Create,
    /// `run`, `resume`, `retry` and `plan`: reading sources, writing targets.
    Run,
    /// `run --backup`: what it takes beside a run.
    Backup,
    /// `verify`: reading both.
    Verify,
    /// `verify --repair`: writing the records that differ once more, and all of `verify`.
    Repair,
    /// `undo`: bringing targets back to what they were.
    Undo,
    /// `clean`: removing tables.
    Clean,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Create, Self::Run, Self::Backup, Self::Verify, Self::Repair, Self::Undo, Self::Clean];

    /// Those that a spec asks for by itself: what only a flag of a command wants is asked for by name.
    #[must_use]
    pub fn usual(resolved: &Resolved) -> Vec<Self> {
        let is_usual = |purpose: &Self| match purpose {
            Self::Create | Self::Run | Self::Verify | Self::Clean => true,
            Self::Undo => resolved.undo,
            Self::Backup | Self::Repair => false,
        };
        Self::ALL.into_iter().filter(is_usual).collect()
    }

    fn sid(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Run => "Run",
            Self::Backup => "Backup",
            Self::Verify => "Verify",
            Self::Repair => "Repair",
            Self::Undo => "Undo",
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
    /// The KMS key of each table whose definition names one: a key's id, its ARN, or an alias.
    pub keys: BTreeMap<(StoreName, String), String>,
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
        // A backup is a part of a run, which is allowed the rest.
        if purpose != Purpose::Backup {
            drawn.files(resolved);
            drawn.values(text);
        }
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
    fn sid(&self, what: &str) -> String {
        format!("{}{what}", self.purpose.sid())
    }

    /// Adds to the statement of that name.
    fn allow(&mut self, what: &str, actions: &[&str], resource: String) {
        let sid = self.sid(what);
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

    /// Files in S3. Every command looks at what there is and at how it begins.
    fn files(&mut self, resolved: &Resolved) {
        for store in resolved.stores.values().filter(|store| store.kind == StoreKind::Files) {
            let root = store.config.as_str().or_else(|| store.config.get("path")?.as_str());
            let Some(rest) = root.and_then(|root| root.strip_prefix("s3://")) else { continue };
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let world = partition(self.placed.region(&store.name));
            let below = format!("arn:{world}:s3:::{bucket}/{prefix}");
            let bucket = format!("arn:{world}:s3:::{bucket}");
            let is_written = resolved.flows.iter().any(|flow| flow.into.store == store.name);
            self.allow(&format!("List{}", title(store.name.as_str())), &["s3:ListBucket"], bucket);
            if let Some(list) = self.statements.last_mut().filter(|_| !prefix.is_empty()) {
                list.condition = Some(json!({ "StringLike": { "s3:prefix": format!("{prefix}*") } }));
            }
            self.allow("ReadObjects", &["s3:GetObject"], format!("{below}*"));
            if is_written && matches!(self.purpose, Purpose::Run | Purpose::Repair) {
                let actions = &["s3:AbortMultipartUpload", "s3:PutObject"];
                self.allow("WriteObjects", actions, format!("{below}*"));
                // What a killed run left there of a part is removed before the part goes on.
                let parts = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
                self.allow("RemoveParts", &["s3:DeleteObject"], format!("{below}{parts}.whimbrel-parts/*"));
            }
        }
    }
}

/// A name as a part of a Sid, which takes letters and digits only.
fn title(name: &str) -> String {
    let mut letters = name.chars().filter(char::is_ascii_alphanumeric);
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_parts_of_a_sid() {
        assert_eq!(title("my-dump_1"), "Mydump1");
        assert_eq!(
            (partition("cn-north-1"), partition("us-gov-west-1"), partition("eu-west-1")),
            ("aws-cn", "aws-us-gov", "aws")
        );
    }
}
