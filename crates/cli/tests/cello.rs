//! Cello's file: dumped from PostgreSQL, loaded into DynamoDB, and compared with both.

use crate::items::{self, Items};
use crate::kills::{Case, Target, kills};
use crate::parcels;
use crate::place::{Place, Shipped};
use dynoxide::Database;
use serde_json::{Value, json};
use std::process::Command;

/// What the file should hold, as PostgreSQL itself writes JSON.
const EXPECTED: &str = r#"
    SELECT json_object_agg(project, json_build_object('repository', repository, 'tokens', (
        SELECT coalesce(json_agg(json_build_object(
                   'token_id', token_id,
                   'created_at', to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"000Z"'),
                   'expires_at', to_char(expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"000Z"')
               )), '[]')
        FROM tokens WHERE tokens.project = projects.project))) AS file
    FROM projects"#;

const PROJECTS: u64 = 300;
const TOKENS: u64 = 6_000;

/// A folder with Cello's PostgreSQL in it.
fn place() -> (Place, Shipped) {
    let (place, cello) = (Place::new(), Shipped::named("cello"));
    parcels::fill(&place, "data/cello.pg", &cello.script());
    (place, cello)
}

/// One of Cello's migrations with its sample data.
fn run(place: &Place, spec: &str, more: &[&str], code: i32) -> Value {
    let common = ["run", spec, "--env", "demo", "--json"];
    place.run(&[&common, more].concat()).expect(code).json()
}

/// A file of documents, with the lists in an order of their own.
fn sorted(mut file: Value) -> Value {
    for document in file.as_object_mut().expect("an object").values_mut() {
        let tokens = document["tokens"].as_array_mut().expect("tokens");
        tokens.sort_by_key(|token| token["token_id"].as_str().expect("a token has a name").to_owned());
    }
    file
}

fn read(place: &Place, name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(place.path(name)).expect("the file")).expect("the file is JSON")
}

#[test]
fn the_file_holds_what_postgresql_holds() {
    let (place, cello) = place();
    let dump = cello.file("dump.yaml");
    let dumped = run(&place, &dump, &["--verify"], 0);
    assert_eq!(dumped["verify"]["outcome"], "equal");
    let counts = |flow: &str| {
        (dumped["flows"][flow]["created"].clone(), dumped["verify"]["flows"][flow]["compared"].clone())
    };
    assert_eq!(counts("projects"), (json!(PROJECTS), json!(PROJECTS)));
    assert_eq!(counts("tokens"), (json!(TOKENS), json!(TOKENS)));

    let query = ["query", &dump, EXPECTED, "--store", "pg", "--env", "demo", "--json"];
    let mut expected = place.run(&query).expect(0).json();
    let expected = sorted(expected["file"].take());
    assert_eq!(expected.as_object().map(serde_json::Map::len), usize::try_from(PROJECTS).ok());
    let without =
        expected.as_object().expect("an object").values().filter(|project| project["tokens"] == json!([]));
    assert!(without.count() > 0, "a project without tokens is part of the sample");
    let text = std::fs::read_to_string(place.path("migration_data.json")).expect("the file");
    assert_eq!(sorted(read(&place, "migration_data.json")), expected);

    // A dump does nothing but what its name says, and a second one takes the place of the first.
    assert!(!place.path("data/cello.dynamodb").exists());
    run(&place, &dump, &[], 0);
    assert_eq!(std::fs::read_to_string(place.path("migration_data.json")).expect("the file"), text);
}

#[test]
fn the_file_loads_into_the_items_of_the_direct_way_and_skips_what_is_there() {
    let (place, cello) = place();
    let (direct, load) = (cello.spec(), cello.file("load.yaml"));
    run(&place, &direct, &["--create"], 0);
    run(&place, &cello.file("dump.yaml"), &["--set", "output_file=out/cello.json"], 0);
    let loaded = ["--set", "endpoint=embedded:data/loaded.dynamodb"];
    let from = ["--set", "data_file=out/cello.json"];
    let first = run(&place, &load, &[&loaded[..], &from, &["--create", "--verify"]].concat(), 0);
    assert_eq!(
        (&first["totals"]["created"], &first["verify"]["outcome"]),
        (&json!(PROJECTS + TOKENS), &json!("equal"))
    );
    let at = place.path("data/loaded.dynamodb");
    let items = items::in_file(&at, "cello");
    items::assert_same(&items, &items::in_file(&place.path("data/cello.dynamodb"), "cello"));

    let again = run(&place, &load, &[&loaded[..], &from, &["--verify"]].concat(), 0);
    assert_eq!(
        (&again["totals"]["created"], &again["totals"]["skipped"]),
        (&json!(0), &json!(PROJECTS + TOKENS))
    );
    items::assert_same(&items::in_file(&at, "cello"), &items);

    // Counts of projects and of tokens by project, against PostgreSQL, of what came by the file.
    let verify = [&["verify", &direct, "--env", "demo", "--json"][..], &loaded].concat();
    let verified = place.run(&verify).expect(0).json();
    assert_eq!(verified["assertions"][0]["name"], "projects, and tokens per project");
    let database = Database::new(at.to_str().expect("the path is UTF-8")).expect("the database opens");
    let token = items.keys().find(|(_, sk)| sk.starts_with("TOKEN#")).expect("a token");
    let key = json!({"TableName": "cello", "Key": {"pk": {"S": token.0}, "sk": {"S": token.1}}});
    database.delete_item(serde_json::from_value(key).expect("a key")).expect("the token can go");
    drop(database);
    let verified = place.run(&verify).expect(4);
    let project = token.0.trim_start_matches("PROJECT#");
    assert!(verified.out.contains(project), "{}", verified.out);
    let verified = verified.json();
    assert_eq!(verified["assertions"][0]["ok"], json!(false), "{verified}");
}

#[test]
fn a_file_whose_times_are_as_postgresql_prints_them_loads_with_nine_digits() {
    let place = Place::new();
    let cello = Shipped::named("cello");
    // The guide shows both forms; the second token has a day that there is not, and the third a time of its own.
    place.write(
        "migration_data.json",
        r#"{ "my-project": { "repository": "https://github.com/example/project", "tokens": [
             {"token_id": "tkn-1", "created_at": "2022-02-02 18:01:49.345261+00", "expires_at": "2023-06-15T12:00:00Z"},
             {"token_id": "tkn-2", "created_at": "2023-02-30 00:00:00+00", "expires_at": "2023-06-15T12:00:00Z"},
             {"token_id": "tkn-3", "created_at": "15.06.2023", "expires_at": "2023-06-15T12:00:00Z"} ] },
           "no-tokens": { "repository": "https://github.com/example/other", "tokens": [] } }"#,
    );
    let ended =
        place.run(&["run", &cello.file("load.yaml"), "--env", "demo", "--create", "--no-progress"]).expect(3);
    assert!(ended.err.contains("my-project 1: \"2023-02-30 00:00:00+00\""), "{}", ended.err);
    assert!(ended.err.contains("my-project 2: \"15.06.2023\""), "{}", ended.err);
    let items = items::in_file(&place.path("data/cello.dynamodb"), "cello");
    let s = |text: &str| json!({ "S": text });
    let expected = [
        json!({"pk": s("PROJECT#my-project"), "sk": s("METADATA"), "repository": s("https://github.com/example/project")}),
        json!({"pk": s("PROJECT#my-project"), "sk": s("TOKEN#tkn-1"),
               "created_at": s("2022-02-02T18:01:49.345261000Z"), "expires_at": s("2023-06-15T12:00:00.000000000Z")}),
        json!({"pk": s("PROJECT#no-tokens"), "sk": s("METADATA"), "repository": s("https://github.com/example/other")}),
    ];
    assert_eq!(items.into_values().collect::<Vec<_>>(), expected);
}

/// A file in the folder of each trial, in which an earlier dump lies.
struct Dumped<'a>(&'a Place);

const EARLIER: &str = "{\"earlier\": {\"repository\": \"\", \"tokens\": []}}";

impl Dumped<'_> {
    fn text(&self, trial: &str) -> String {
        let path = self.0.path(&format!("{trial}/migration_data.json"));
        std::fs::read_to_string(path).expect("there is a file at any time")
    }
}

impl Target for Dumped<'_> {
    fn environment(&self) -> &'static str {
        "demo"
    }

    fn variable(&self, trial: &str) -> String {
        format!("folder={}", self.0.path(trial).display())
    }

    fn surroundings(&self, _: &mut Command) {}

    fn prepare(&self, trial: &str) {
        self.0.write(&format!("{trial}/migration_data.json"), EARLIER);
    }

    fn look(&self, trial: &str) {
        let text = self.text(trial);
        if text != EARLIER {
            let file: Value = serde_json::from_str(&text).expect("the file is whole");
            assert_eq!(file.as_object().expect("an object").len() as u64, PROJECTS);
        }
    }

    fn items(&self, trial: &str) -> Items {
        let file: Value = serde_json::from_str(&self.text(trial)).expect("the file is JSON");
        let mut items = Items::new();
        for (project, document) in file.as_object().expect("an object") {
            items.insert((project.clone(), String::new()), document["repository"].clone());
            for token in document["tokens"].as_array().expect("tokens") {
                let id = token["token_id"].as_str().expect("a token has a name").to_owned();
                assert_eq!(items.insert((project.clone(), id), token.clone()), None, "a token comes once");
            }
        }
        let folder = self.0.path(trial);
        let left: Vec<_> =
            crate::place::folders(&folder).into_iter().filter(|path| !path.ends_with("journal")).collect();
        assert_eq!(left, [folder.join("migration_data.json")], "nothing unfinished is left");
        items
    }
}

#[test]
fn dumps_of_cello_survive_kills() {
    let (place, cello) = place();
    let target = Dumped(&place);
    let case = Case { place: &place, spec: cello.file("dump.yaml"), target: &target, exit: 0, only: None };
    case.survives(kills(4));
}
