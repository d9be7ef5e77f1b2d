//! What `check` says of a role that may not do all that a run does, and what IAM says of a user.

use super::Live;
use crate::place::{Ended, Place};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const SPEC: &str = r#"
migration: move
stores:
  from: { postgres: "${env:SOURCE}" }
  to: { postgres: "${env:TARGET}" }
flows:
  senders:
    from: { store: from, table: senders }
    into: { store: to, table: arrived, key: id, mode: upsert }
"#;

/// The lines that are not well, of all stores.
fn wrong(found: &Value) -> Vec<(String, String)> {
    let stores = found["stores"].as_object().expect("stores");
    let lines = stores.values().flat_map(|lines| lines.as_array().expect("lines"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    lines.filter(|line| line["ok"] == false).map(|line| (text(&line["text"]), text(&line["hint"]))).collect()
}

#[test]
fn a_role_without_a_privilege_is_told_which_and_how_to_get_it() {
    let Some(live) = Live::with_parcels(11, 6) else { return };
    let role = live.database.url_as_role(
        "CREATE TABLE arrived (id bigint PRIMARY KEY, name text, joined_at timestamptz); \
         GRANT SELECT, INSERT ON arrived TO $role; GRANT SELECT (id, name) ON senders TO $role",
    );
    live.place.write("move.yaml", SPEC);
    let check = || {
        let command = live.place.start_with(&["check", "move.yaml", "--json"], |command| {
            command.env("SOURCE", live.database.url()).env("TARGET", &role);
        });
        command.wait()
    };
    let found = check().expect(1).json();
    let told = wrong(&found);
    let name = format!("{}_role", live.database.name());
    let texts: Vec<&str> = told.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(
        texts,
        [
            format!("role `{name}` may not UPDATE on \"public\".\"arrived\"").as_str(),
            format!("role `{name}` may not make the schema `whimbrel`, in which the ledger is kept").as_str(),
        ],
        "{found}"
    );
    // Each hint is what helps.
    for (_, hint) in &told {
        let statement = hint.strip_prefix("as its owner: ").unwrap_or(hint);
        live.database.script(statement);
    }
    let found = check().expect(0).json();
    assert_eq!(found["ok"], true, "{found}");
    let run = live.place.start_with(&["run", "move.yaml"], |command| {
        command.env("SOURCE", live.database.url()).env("TARGET", &role);
    });
    run.wait().expect(0);
}

const ON_AWS: &str = r#"
migration: walk
environments:
  dev: { default: true }
stores:
  app: { dynamodb: { region: us-east-1, endpoint: "${env:AWS_ENDPOINT_URL}", tables: { "${env:TABLE}": { key: id } } } }
  file: { files: "." }
flows:
  items:
    from: { store: file, path: items.ndjson }
    columns: { id: text, n: integer }
    transform: SELECT id, n FROM input
    into: { store: app, table: "${env:TABLE}", key: id, mode: upsert }
"#;

/// An emulator of AWS that knows IAM and STS, and a folder.
struct Emulated {
    place: Place,
    endpoint: String,
    name: String,
}

impl Emulated {
    fn new() -> Option<Self> {
        let endpoint = std::env::var("WHIMBREL_TEST_AWS_ENDPOINT").ok().filter(|url| !url.is_empty());
        let Some(endpoint) = endpoint else {
            writeln!(std::io::stdout(), "skipped: WHIMBREL_TEST_AWS_ENDPOINT names no server")
                .expect("it can be said");
            return None;
        };
        let place = Place::new();
        place.write("walk.yaml", ON_AWS);
        place.write("items.ndjson", "{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\",\"n\":2}\n");
        Some(Self { place, endpoint, name: super::unique_name().replace('_', "-") })
    }

    fn run_as(&self, key: (&str, &str), arguments: &[&str]) -> Ended {
        let command = self.place.start_with(arguments, |command| {
            command
                .env("AWS_ENDPOINT_URL", &self.endpoint)
                .env("AWS_ACCESS_KEY_ID", key.0)
                .env("AWS_SECRET_ACCESS_KEY", key.1)
                .env("AWS_REGION", "us-east-1")
                .env("TABLE", &self.name);
        });
        command.wait()
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_as(("test", "test"), arguments)
    }
}

#[test]
fn a_user_is_made_once_and_removed_with_all_that_is_its_own() {
    let Some(aws) = Emulated::new() else { return };
    let user = aws.name.as_str();
    let make =
        &["policy", "walk.yaml", "--create-user", user, "--policy-name", user, "--path", "/team/", "--json"]
            [..];
    let made = aws.run(make).expect(0).json();
    assert_eq!(
        (&made["created"], &made["policy_changed"]),
        (&Value::Bool(true), &Value::Bool(true)),
        "{made}"
    );
    assert!(
        made["policy"].as_str().is_some_and(|arn| arn.ends_with(&format!(":policy/team/{user}"))),
        "{made}"
    );
    let key = &made["access_key"];
    let (id, secret) = (key["id"].as_str().expect("an id"), key["secret"].as_str().expect("a secret"));
    // A second time nothing is made, and no key is shown.
    let again = aws.run(make).expect(0).json();
    assert_eq!(
        (&again["created"], &again["policy_changed"]),
        (&Value::Bool(false), &Value::Bool(false)),
        "{again}"
    );
    assert_eq!(again["access_key"], Value::Null);
    // Other flows, another policy.
    let narrower = aws.run(&[make, &["--for", "run"]].concat()).expect(0).json();
    assert_eq!(narrower["policy_changed"], true, "{narrower}");
    for folder in [".whimbrel", "."] {
        let kept = std::fs::read_dir(aws.place.path(folder)).into_iter().flatten().flatten();
        for file in kept.filter(|file| file.path().is_file()) {
            let bytes = std::fs::read(file.path()).expect("a file can be read");
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(secret), "{} keeps the key", file.path().display());
        }
    }
    let checked = aws.run_as((id, secret), &["check", "walk.yaml"]);
    assert!(checked.out.contains("AWS account "), "{}", checked.out);
    let refused =
        aws.run(&["policy", "walk.yaml", "--delete-user", user, "--policy-name", user, "--path", "/team/"]);
    refused.expect(2).one_error();
    let delete = [
        "policy",
        "walk.yaml",
        "--delete-user",
        user,
        "--policy-name",
        user,
        "--path",
        "/team/",
        "--confirm",
        "--json",
    ];
    let gone = aws.run(&delete).expect(0).json();
    assert_eq!((&gone["user"], &gone["policy"]), (&Value::Bool(true), &Value::Bool(true)), "{gone}");
    let gone = aws.run(&delete).expect(0).json();
    assert_eq!((&gone["user"], &gone["policy"]), (&Value::Bool(false), &Value::Bool(false)), "{gone}");
}

#[test]
fn iam_is_asked_what_a_user_may_do() {
    let Some(aws) = Emulated::new() else { return };
    let user = aws.name.as_str();
    aws.run(&["create", "walk.yaml"]).expect(0);
    let policy = |more: &[&str]| {
        let own = ["policy", "walk.yaml", "--create-user", user, "--policy-name", user, "--json"];
        aws.run(&[&own[..], more].concat()).expect(0).json()
    };
    let made = policy(&["--for", "run"]);
    let key = &made["access_key"];
    let key = (key["id"].as_str().expect("an id"), key["secret"].as_str().expect("a secret"));
    let allowed = aws.run_as(key, &["check", "walk.yaml"]).expect(0);
    let clean_up = || {
        aws.run(&["clean", "walk.yaml", "--confirm"]).expect(0);
        aws.run(&["policy", "walk.yaml", "--delete-user", user, "--policy-name", user, "--confirm"])
            .expect(0);
    };
    // Not every emulator simulates. Then that is said, and nothing is in the way.
    if allowed.out.contains("✓ permissions could not be asked for") {
        assert!(allowed.out.contains("`iam:SimulatePrincipalPolicy` on arn:aws:iam::"), "{}", allowed.out);
        return clean_up();
    }
    assert!(
        allowed.out.contains("dynamodb:BatchWriteItem, dynamodb:Scan on arn:aws:dynamodb:"),
        "{}",
        allowed.out
    );
    policy(&["--for", "clean"]);
    let denied = aws.run_as(key, &["check", "walk.yaml"]).expect(1);
    assert!(denied.out.contains("✗ may not dynamodb:BatchWriteItem on arn:aws:dynamodb:"), "{}", denied.out);
    assert!(
        denied.out.contains("`whimbrel policy SPEC --for run` prints all that is needed"),
        "{}",
        denied.out
    );
    clean_up();
}

#[test]
fn a_backup_is_made_before_anything_is_written() {
    let Some(aws) = Emulated::new() else { return };
    aws.run(&["create", "walk.yaml"]).expect(0);
    let ran = aws.run(&["run", "walk.yaml", "--backup", "--json"]).expect(0).json();
    let run = ran["run"].as_str().expect("a run");
    let noted = std::fs::read_to_string(aws.place.path(&format!(".whimbrel/runs/{run}/backups.json")));
    let noted: Value = serde_json::from_str(&noted.expect("backups are noted")).expect("JSON");
    assert!(noted.to_string().contains(&format!(":table/{}/backup/", aws.name)), "{noted}");
    aws.run(&["clean", "walk.yaml", "--confirm"]).expect(0);
}

/// Everything that goes to a server, seen on its way.
struct Overheard {
    endpoint: String,
    said: Arc<Mutex<Vec<u8>>>,
}

impl Overheard {
    fn before(server: &str) -> Self {
        let server = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&server).expect("the server answers");
                let (asking, answering) = (client.try_clone(), server.try_clone());
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || pump(asking.expect("a socket"), server, Some(&heard)));
                std::thread::spawn(move || pump(answering.expect("a socket"), client, None));
            }
        });
        Self { endpoint, said }
    }

    /// The IAM actions of what was said since the last time.
    fn actions(&self) -> BTreeSet<String> {
        let said = std::mem::take(&mut *self.said.lock().expect("nobody panicked"));
        let said = String::from_utf8_lossy(&said);
        let operations = said.split("DynamoDB_20120810.").skip(1);
        let operations =
            operations.map(|rest| rest.split(|c: char| !c.is_alphanumeric()).next().expect("a name"));
        let mut actions: BTreeSet<String> = operations
            .filter(|name| *name != "BatchExecuteStatement")
            .map(|name| format!("dynamodb:{name}"))
            .collect();
        for (statement, action) in [("INSERT", "PartiQLInsert"), ("UPDATE", "PartiQLUpdate")] {
            if said.contains(&format!("{{\"Statement\":\"{statement}")) {
                actions.insert(format!("dynamodb:{action}"));
            }
        }
        actions
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, heard: Option<&Mutex<Vec<u8>>>) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if let Some(heard) = heard {
            heard.lock().expect("nobody panicked").extend(&bytes[..count]);
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // The other side has gone, so this one is let go of.
    let _ = to.shutdown(std::net::Shutdown::Both);
}

/// Actions of the policy that not every run comes to: what is too long for a statement goes alone, and what a key holds
/// is looked at after a lost answer.
const RARE: [&str; 3] = ["dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"];

#[test]
fn a_policy_is_what_the_commands_call_no_more_and_no_less() {
    let Some(live) = Live::with_parcels(120, 60) else { return };
    let overheard = Overheard::before(&live.tables.endpoint);
    let table = format!("table={}", live.tables.name("policy"));
    let run = |arguments: &[&str]| {
        let all = [arguments, &["--set", &table]].concat();
        let running = live.place.start_with(&all, |command| {
            live.surroundings(command);
            command.env("AWS_ENDPOINT_URL_DYNAMODB", &overheard.endpoint);
        });
        running.wait()
    };
    let exactly = |commands: &[&[&str]], purpose: &str| {
        overheard.actions();
        for command in commands {
            run(command).expect(0);
        }
        let called = overheard.actions();
        let document: Value =
            serde_json::from_str(&run(&["policy", "parcels.yaml", "--for", purpose]).expect(0).out)
                .expect("JSON");
        let statements = document["Statement"].as_array().expect("statements").iter();
        let actions = statements.flat_map(|one| one["Action"].as_array().expect("actions"));
        let allowed: BTreeSet<String> =
            actions.map(|action| action.as_str().expect("a name").to_owned()).collect();
        let lacking: Vec<_> = called.difference(&allowed).collect();
        assert!(lacking.is_empty(), "{commands:?} calls {lacking:?}, and {purpose} does not allow it");
        let needless: Vec<_> =
            allowed.difference(&called).filter(|action| !RARE.contains(&action.as_str())).collect();
        assert!(needless.is_empty(), "{purpose} allows {needless:?}, and {commands:?} does not call it");
    };
    // The second time there is a table to be looked at.
    exactly(&[&["create", "parcels.yaml"], &["create", "parcels.yaml"]], "create");
    exactly(&[&["run", "parcels.yaml"], &["run", "parcels.yaml"]], "run");
    exactly(&[&["verify", "parcels.yaml", "--all"]], "verify");
    let changed = crate::parcels::SPEC
        .replace("mode: upsert", "mode: changed")
        .replace("mode: skip_existing", "mode: changed");
    live.place.write("parcels.yaml", &changed);
    live.database.script(
        "UPDATE senders SET name = 'other' WHERE id < 5; INSERT INTO senders VALUES (61, 'new', '2024-01-01Z')",
    );
    exactly(&[&["run", "parcels.yaml"]], "run");
    exactly(&[&["clean", "parcels.yaml", "--confirm"]], "clean");
}
