//! Policies, enforced: with what `whimbrel policy` allows each command does its work, with one action less it does not,
//! and says which one is missing.
//!
//! The server is MiniStack, which judges each request by the policies of whoever signed it, with the resource. What it
//! takes for a request on no resource, `gate` has judged by its simulation: PartiQL's statements, tags, backups. It has
//! no condition on the network and no policies of resources; neither is in what `policy` makes.

use super::gate::{Gate, REGION, ROOT, Server};
use super::unique_name;
use crate::place::{Ended, Place, folders};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write as _;

const IAM: &str = "WHIMBREL_TEST_IAM_ENDPOINT";

/// A file and a table are read, and two tables written.
const SPEC: &str = r#"
migration: allowed
UNDO
stores:
  app:
    dynamodb:
      region: us-east-1
      CAPACITY
      tables: { "${env:PREFIX}-people": { file: people.json }, "${env:PREFIX}-some": { key: id } }
  files: { files: "." }
flows:
  people:
    from: { store: files, path: people.ndjson }
    columns: { id: text, n: integer, COLUMNS }
    transform: SELECT id, n, NAMES FROM input
    into: { store: app, table: "${env:PREFIX}-people", key: id, mode: MODE }
  some:
    from: { store: app, table: "${env:PREFIX}-source" WHERE }
    columns: { n: integer }
    transform: SELECT id, n FROM input
    into: { store: app, table: "${env:PREFIX}-some", key: id, mode: upsert }
"#;

const TABLE: &str = r#"{
  "TableName": "people", "BillingMode": "PROVISIONED",
  "ProvisionedThroughput": { "ReadCapacityUnits": 5, "WriteCapacityUnits": 5 },
  "AttributeDefinitions": [{ "AttributeName": "id", "AttributeType": "S" }],
  "KeySchema": [{ "AttributeName": "id", "KeyType": "HASH" }]
}"#;

/// So many columns of such long names make a record too long for a statement.
const COLUMNS: usize = 60;
const NAME_LENGTH: usize = 150;

/// Actions without which a command goes on, with the reason; each is still asked for, or would be.
type Needless<'a> = &'a [(&'a str, &'a str)];

/// Without these a run goes on, and protects less.
const SAFEGUARDS: [(&str, &str); 2] = [
    ("dynamodb:DescribeContinuousBackups", "whether a table can be brought back is told where it is known"),
    ("dynamodb:ListTagsOfResource", "whose a table is stands in the journal, too"),
];

struct World {
    place: Place,
    server: Server,
    gate: Gate,
    prefix: String,
    key: (String, String),
}

impl World {
    /// A user who has the policy for a purpose, and two tables that nobody owns.
    fn new(spec: &str, purpose: &str) -> Option<Self> {
        let endpoint = std::env::var(IAM).ok().filter(|url| !url.is_empty());
        let Some(endpoint) = endpoint else {
            writeln!(std::io::stdout(), "skipped: {IAM} names no server").expect("it can be said");
            return None;
        };
        let place = Place::new();
        place.write("allowed.yaml", spec);
        place.write("people.json", TABLE);
        let prefix = unique_name().replace('_', "-");
        let (server, gate) = (Server::at(&endpoint), Gate::before(&endpoint));
        let mut world = Self { place, server, gate, prefix, key: Default::default() };
        world.people();
        world.make("source");
        for id in ["a", "b"] {
            world.put("source", &json!({ "id": { "S": id }, "n": { "N": "1" } }));
        }
        let user = world.prefix.clone();
        let made = world.as_root(&[
            "policy",
            "allowed.yaml",
            "--for",
            purpose,
            "--create-user",
            &user,
            "--policy-name",
            &user,
            "--json",
        ]);
        let made = made.expect(0).json();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        world.key = (text(&made["access_key"]["id"]), text(&made["access_key"]["secret"]));
        let arn = text(&made["policy"]);
        world.gate.judges(&arn.replace(":policy/", ":user/"));
        Some(world)
    }

    fn table(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A table that nobody owns.
    fn make(&self, table: &str) {
        let mut definition: Value = serde_json::from_str(TABLE).expect("JSON");
        definition["TableName"] = json!(self.table(table));
        self.server.dynamodb("CreateTable", &definition);
    }

    fn put(&self, table: &str, item: &Value) {
        self.server.dynamodb("PutItem", &json!({ "TableName": self.table(table), "Item": item }));
    }

    /// Four people; two of them have many attributes of long names.
    fn people(&self) {
        let wide = |id: &str| {
            let mut record = json!({ "id": id, "n": 1 });
            for column in columns() {
                record[column] = json!("1");
            }
            record
        };
        let narrow = |id: &str| json!({ "id": id, "n": 1 });
        let lines = [narrow("a"), narrow("b"), wide("wide"), wide("wider")];
        self.place.write("people.ndjson", &lines.map(|line| line.to_string()).join("\n"));
    }

    fn run_at(&self, endpoint: &str, key: (&str, &str), arguments: &[&str]) -> Ended {
        let command = self.place.start_with(arguments, |command| {
            command
                .env("AWS_ENDPOINT_URL", endpoint)
                .env("AWS_ACCESS_KEY_ID", key.0)
                .env("AWS_SECRET_ACCESS_KEY", key.1)
                .env("AWS_REGION", REGION)
                .env("PREFIX", &self.prefix);
        });
        command.wait()
    }

    fn as_root(&self, arguments: &[&str]) -> Ended {
        self.run_at(&self.gate.endpoint, ROOT, arguments)
    }

    /// `LATEST` stands for the latest run.
    fn as_user(&self, arguments: &[&str]) -> Ended {
        let latest = folders(&self.place.path(".whimbrel/runs")).pop();
        let latest = latest.as_ref().and_then(|folder| folder.file_name()?.to_str()).unwrap_or_default();
        let arguments: Vec<&str> =
            arguments.iter().map(|word| if *word == "LATEST" { latest } else { *word }).collect();
        let arguments = arguments.as_slice();
        self.run_at(&self.gate.endpoint, (&self.key.0, &self.key.1), arguments)
    }

    /// No table of the targets, no journal.
    fn clear(&self) {
        let journal = self.place.path(".whimbrel");
        if journal.exists() {
            std::fs::remove_dir_all(journal).expect("the journal can be removed");
        }
        let listed = self.server.dynamodb("ListTables", &json!({ "Limit": 100 }));
        for table in ["people", "some"].map(|table| self.table(table)) {
            let names = listed["TableNames"].as_array().expect("names");
            if names.iter().any(|name| name.as_str() == Some(&table)) {
                self.server.dynamodb("DeleteTable", &json!({ "TableName": table }));
            }
        }
    }

    /// The user has these statements and no others.
    fn allow(&self, statements: &[Value]) {
        let document = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        let user = self.prefix.as_str();
        let policy = [("UserName", user), ("PolicyName", "less"), ("PolicyDocument", &document)];
        self.server.iam("PutUserPolicy", &policy);
    }

    /// Every command does its work with the policy that was made, and none goes to its end with an action less, but
    /// for those that are named.
    fn proves(&self, purpose: &str, before: impl Fn(&Self), commands: &[&[&str]], needless: Needless<'_>) {
        let all = |expected: Option<&str>| -> bool {
            self.clear();
            before(self);
            self.gate.actions();
            for command in commands {
                let ended = self.as_user(command);
                let Some(missing) = expected else {
                    ended.expect(0);
                    continue;
                };
                if ended.code != Some(0) {
                    let denied = format!("is not authorized to perform: {missing}");
                    assert!(ended.err.contains(&denied), "{purpose} without {missing}: {}", ended.err);
                    ended.one_error();
                    return false;
                }
            }
            true
        };
        all(None);
        let called = self.gate.actions();
        let printed =
            self.as_root(&["policy", "allowed.yaml", "--for", purpose, "--account", "000000000000"]);
        let document: Value = serde_json::from_str(&printed.expect(0).out).expect("JSON");
        let statements = document["Statement"].as_array().expect("statements");
        let actions = |one: &Value| -> Vec<String> {
            let texts = one["Action"].as_array().expect("actions").iter();
            texts.map(|text| text.as_str().expect("a name").to_owned()).collect()
        };
        let allowed: BTreeSet<String> = statements.iter().flat_map(&actions).collect();
        let lacking: Vec<_> = called.difference(&allowed).collect();
        assert!(lacking.is_empty(), "{purpose} calls {lacking:?}, and the policy does not allow it");
        let (user, arn) = (self.prefix.as_str(), self.policy_arn());
        self.server.iam("DetachUserPolicy", &[("UserName", user), ("PolicyArn", &arn)]);
        for action in &allowed {
            let less = statements.iter().filter_map(|one| {
                let kept: Vec<String> = actions(one).into_iter().filter(|other| other != action).collect();
                let mut one = one.clone();
                one["Action"] = json!(kept);
                (!kept.is_empty()).then_some(one)
            });
            self.allow(&less.collect::<Vec<_>>());
            let goes_on = all(Some(action));
            let known = needless.iter().find(|(name, _)| name == action);
            assert_eq!(goes_on, known.is_some(), "{purpose} without {action}: {known:?}");
        }
        let unknown: Vec<_> = needless.iter().filter(|(name, _)| !allowed.contains(*name)).collect();
        assert!(unknown.is_empty(), "{purpose} does not allow {unknown:?} at all");
        // The same on other tables is worth nothing.
        let others = serde_json::to_string(statements).expect("JSON").replace(&self.prefix, "another");
        self.allow(serde_json::from_str::<Vec<Value>>(&others).expect("JSON").as_slice());
        self.clear();
        before(self);
        let refused =
            commands.iter().map(|command| self.as_user(command)).find(|ended| ended.code != Some(0));
        assert!(refused.expect("a refusal").err.contains("is not authorized to perform: dynamodb:"));
        // Put back, all is well again.
        self.server.iam("DeleteUserPolicy", &[("UserName", user), ("PolicyName", "less")]);
        self.server.iam("AttachUserPolicy", &[("UserName", user), ("PolicyArn", &arn)]);
        all(None);
        let remove = ["policy", "allowed.yaml", "--delete-user", user, "--policy-name", user, "--confirm"];
        self.as_root(&remove).expect(0);
    }

    fn policy_arn(&self) -> String {
        format!("arn:aws:iam::000000000000:policy/{}", self.prefix)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let remove = || {
            self.clear();
            self.server.dynamodb("DeleteTable", &json!({ "TableName": self.table("source") }));
        };
        if std::thread::panicking() {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(remove));
        } else {
            remove();
        }
    }
}

fn columns() -> impl Iterator<Item = String> {
    (0..COLUMNS).map(|number| format!("c{number:0NAME_LENGTH$}"))
}

/// What a test changes of the spec.
#[derive(Default)]
struct Words {
    /// Of the first flow, with what stands behind it.
    mode: &'static str,
    undo: bool,
    capacity: &'static str,
    /// Whether the source's table is asked for one key.
    filtered: bool,
}

fn spec(words: &Words) -> String {
    let columns: Vec<String> = columns().map(|column| format!("{column}: text")).collect();
    SPEC.replace("UNDO", if words.undo { "undo: true" } else { "" })
        .replace("CAPACITY", words.capacity)
        .replace("COLUMNS", &columns.join(", "))
        .replace("NAMES", &self::columns().collect::<Vec<_>>().join(", "))
        .replace("WHERE", if words.filtered { ", where: \"id = 'a'\"" } else { "" })
        .replace("MODE", words.mode)
}

const CREATE: &[&str] = &["create", "allowed.yaml"];
const RUN: &[&str] = &["run", "allowed.yaml"];

/// Safeguards, and others.
fn with<'a>(other: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&SAFEGUARDS[..], other].concat()
}

/// The tables as whimbrel makes them.
fn created(world: &World) {
    world.as_root(CREATE).expect(0);
}

/// Empty tables that nobody owns.
fn made(world: &World) {
    ["people", "some"].into_iter().for_each(|table| world.make(table));
}

/// Two of the people are there, with another number.
fn filled(world: &World) {
    made(world);
    world.put("people", &json!({ "id": { "S": "a" }, "n": { "N": "7" } }));
    let mut wide = json!({ "id": { "S": "wide" }, "n": { "N": "7" } });
    columns().for_each(|column| wide[column] = json!({ "S": "7" }));
    world.put("people", &wide);
}

#[test]
fn create_is_allowed_what_it_calls() {
    let words = Words { mode: "upsert", ..Words::default() };
    let Some(world) = World::new(&spec(&words), "create") else { return };
    let untagged = "a table that cannot be tagged is this migration's by the journal";
    world.proves("create", |_| {}, &[CREATE, CREATE], &with(&[("dynamodb:TagResource", untagged)]));
}

#[test]
fn run_is_allowed_what_it_calls_to_raise_capacity_and_to_ask_for_a_key() {
    let capacity = "capacity: { during_run: { write: 20 } }";
    let words = Words { mode: "upsert", capacity, filtered: true, ..Words::default() };
    let Some(world) = World::new(&spec(&words), "run") else { return };
    world.proves("run", made, &[&["plan", "allowed.yaml", "--all"], RUN, RUN], &with(&[]));
    let raised = world.server.dynamodb("DescribeTable", &json!({ "TableName": world.table("people") }));
    assert_eq!(raised["Table"]["ProvisionedThroughput"]["WriteCapacityUnits"], 5, "put back");
}

#[test]
fn run_is_allowed_what_it_calls_to_keep_before_images() {
    let words = Words { mode: "upsert", undo: true, ..Words::default() };
    let Some(world) = World::new(&spec(&words), "run") else { return };
    world.proves("run", filled, &[RUN], &with(&[]));
}

#[test]
fn run_is_allowed_what_it_calls_to_insert() {
    let words = Words { mode: "insert", ..Words::default() };
    let Some(world) = World::new(&spec(&words), "run") else { return };
    let lost = "what a key holds is looked at after an answer that was lost";
    world.proves("run", made, &[RUN], &with(&[("dynamodb:BatchGetItem", lost)]));
}

#[test]
fn run_is_allowed_what_it_calls_to_change_and_to_delete() {
    let words = Words { mode: "changed, delete_missing: true", ..Words::default() };
    let Some(world) = World::new(&spec(&words), "run") else { return };
    let before = |world: &World| {
        filled(world);
        world.put("people", &json!({ "id": { "S": "gone" } }));
    };
    world.proves("run", before, &[&["run", "allowed.yaml", "--confirm"]], &with(&[]));
}

#[test]
fn a_backup_is_allowed_what_it_calls() {
    let words = Words { mode: "upsert", ..Words::default() };
    let Some(world) = World::new(&spec(&words), "run,backup") else { return };
    world.proves("run,backup", made, &[&["run", "allowed.yaml", "--backup"]], &with(&[]));
    let runs = folders(&world.place.path(".whimbrel/runs"));
    let noted = std::fs::read_to_string(runs[0].join("backups.json")).expect("backups are noted");
    let noted: Value = serde_json::from_str(&noted).expect("JSON");
    for table in ["people", "some", "source"] {
        assert!(noted.to_string().contains(&format!(":table/{}/backup/", world.table(table))), "{noted}");
    }
}

#[test]
fn verify_is_allowed_what_it_calls() {
    let words = Words { mode: "upsert", ..Words::default() };
    let Some(world) = World::new(&spec(&words), "verify") else { return };
    let before = |world: &World| {
        made(world);
        world.as_root(RUN).expect(0);
    };
    let commands: &[&[&str]] =
        &[&["verify", "allowed.yaml", "--all"], &["verify", "allowed.yaml", "--sample", "2"]];
    world.proves("verify", before, commands, &SAFEGUARDS[..1]);
}

#[test]
fn a_repair_is_allowed_what_it_calls() {
    let words = Words { mode: "insert", ..Words::default() };
    let Some(world) = World::new(&spec(&words), "repair") else { return };
    let lost = "what a key holds is looked at where records are drawn, or only some are compared";
    let commands: &[&[&str]] = &[&["verify", "allowed.yaml", "--all", "--repair"]];
    let before = |world: &World| {
        made(world);
        world.as_root(RUN).expect(0);
        world.put("people", &json!({ "id": { "S": "a" }, "n": { "N": "7" } }));
    };
    world.proves("repair", before, commands, &[SAFEGUARDS[0], ("dynamodb:BatchGetItem", lost)]);
}

#[test]
fn undo_is_allowed_what_it_calls_to_bring_records_back() {
    let words = Words { mode: "upsert", undo: true, ..Words::default() };
    let Some(world) = World::new(&spec(&words), "undo") else { return };
    let before = |world: &World| {
        filled(world);
        world.as_root(RUN).expect(0);
    };
    let needless = [
        ("dynamodb:DeleteTable", "the run made no table"),
        ("dynamodb:GetItem", "what a key holds is looked at after an answer that was lost"),
    ];
    world.proves("undo", before, &[&["undo", "LATEST", "--confirm"]], &with(&needless));
}

#[test]
fn undo_is_allowed_what_it_calls_to_empty_and_remove_tables() {
    let words = Words { mode: "upsert", ..Words::default() };
    let Some(world) = World::new(&spec(&words), "undo") else { return };
    // One of the tables was there, and empty; the other one is made by the run.
    let before = |world: &World| {
        world.make("people");
        world.as_root(&["run", "allowed.yaml", "--create"]).expect(0);
    };
    world.proves("undo", before, &[&["undo", "LATEST", "--confirm"]], &with(&[]));
}

#[test]
fn clean_is_allowed_what_it_calls() {
    let words = Words { mode: "upsert", ..Words::default() };
    let Some(world) = World::new(&spec(&words), "clean") else { return };
    world.proves("clean", created, &[&["clean", "allowed.yaml", "--confirm"]], &with(&[]));
}

#[test]
fn check_asks_iam_and_names_what_is_missing() {
    let words = Words { mode: "upsert", ..Words::default() };
    let Some(world) = World::new(&spec(&words), "run") else { return };
    let simulate = json!({ "Effect": "Allow", "Action": ["iam:SimulatePrincipalPolicy"], "Resource": "*" });
    world.allow(std::slice::from_ref(&simulate));
    let check = |code: i32| world.as_user(&["check", "allowed.yaml"]).expect(code).out;
    // No table is there yet, and this user may not make one.
    let told = check(0);
    for table in ["people", "some"] {
        let line = format!(
            "may not dynamodb:CreateTable on arn:aws:dynamodb:{REGION}:000000000000:table/{}",
            world.table(table)
        );
        assert!(told.contains(&line), "{told}");
    }
    created(&world);
    let told = check(0);
    assert!(told.contains("dynamodb:BatchWriteItem, dynamodb:Scan on arn:aws:dynamodb:"), "{told}");
    assert!(!told.contains("may not"), "{told}");
    let denied = json!({ "Effect": "Deny", "Action": ["dynamodb:BatchWriteItem"], "Resource": "*" });
    world.allow(&[simulate, denied]);
    let told = check(1);
    let line = format!("✗ may not dynamodb:BatchWriteItem on arn:aws:dynamodb:{REGION}:000000000000:table/");
    assert!(told.contains(&line) && told.contains(": a policy denies it"), "{told}");
    let user = world.prefix.as_str();
    world.server.iam("DeleteUserPolicy", &[("UserName", user), ("PolicyName", "less")]);
    let remove = ["policy", "allowed.yaml", "--delete-user", user, "--policy-name", user, "--confirm"];
    world.as_root(&remove).expect(0);
}
