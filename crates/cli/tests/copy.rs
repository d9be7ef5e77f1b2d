//! `whimbrel copy`: from any store to any, without a spec.

use crate::interruption::await_checkpoint;
use crate::items::{self, Items};
use crate::parcels;
use crate::place::{Place, folders};
use pglite_oxide::PgliteServer;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use whimbrel_model::StoreName;
use whimbrel_postgres::{PostgresConfig, PostgresStore};
use whimbrel_store::Store;

const THINGS: &str =
    "CREATE TABLE things (pk text, sk text, amount numeric, small int, doc jsonb, ok boolean,
        at timestamptz, PRIMARY KEY (pk, sk));
    INSERT INTO things VALUES
        ('a', '1', 12345678901234567890.123, 1, '{\"x\": [1, 2.50]}', true, '2022-02-02 18:01:49.345261+00'),
        ('a', '2', NULL, 2, '[]', false, NULL),
        ('b', '1', 0.5, NULL, NULL, NULL, '2022-02-02 18:01:49+00')";
const FROM: &str = "embedded:data/a.pg?table=things";
const ITEMS: &str = "dynamodb://items?endpoint=embedded:data/b.dynamodb";

fn place() -> Place {
    let place = Place::new();
    parcels::fill(&place, "data/a.pg", THINGS);
    place
}

fn items(place: &Place) -> Items {
    items::in_file(&place.path("data/b.dynamodb"), "items")
}

/// What a query over an embedded PostgreSQL answers.
pub fn asked(place: &Place, folder: &str, sql: &str) -> Option<i64> {
    let socket = tempfile::tempdir().expect("a temporary folder");
    let path = socket.path().join(".s.PGSQL.5432");
    let server = PgliteServer::builder().path(place.path(folder)).unix(path).start().expect("it starts");
    let url = Value::String(server.database_url());
    let config = PostgresConfig::from_value(&url).expect("its URL").embedded();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answer = runtime.block_on(async {
        let store = PostgresStore::new(StoreName::new("pg"), config);
        let answer = store.query_scalar_i64(sql).await.expect("the query is answered");
        store.close().await;
        answer
    });
    server.shutdown().expect("it stops");
    answer
}

#[test]
fn there_and_back_without_a_spec() {
    let place = place();
    let there = place.run(&["copy", FROM, ITEMS, "--verify", "--json"]).expect(0);
    assert!(there.err.contains("`items` is made, with the key pk, sk"), "{}", there.err);
    let there = there.json();
    assert_eq!((&there["totals"]["created"], &there["verify"]["outcome"]), (&json!(3), &json!("equal")));
    let found = items(&place);
    assert_eq!(
        found[&("a".to_owned(), "1".to_owned())],
        json!({"pk": {"S": "a"}, "sk": {"S": "1"}, "amount": {"N": "12345678901234567890.123"}, "small": {"N": "1"},
               "doc": {"M": {"x": {"L": [{"N": "1"}, {"N": "2.5"}]}}}, "ok": {"BOOL": true},
               "at": {"S": "2022-02-02T18:01:49.345261Z"}})
    );

    // The same once more: nothing is written over, each existing key is a reject.
    let again = place.run(&["copy", FROM, ITEMS, "--json"]).expect(3).json();
    assert_eq!((&again["totals"]["rejected"], &again["totals"]["created"]), (&json!(3), &json!(0)));
    items::assert_same(&items(&place), &found);

    let back = place.run(&["copy", ITEMS, "embedded:data/c.pg?table=back", "--verify", "--json"]).expect(0);
    for said in ["from all 3 records", "amount number", "doc json", "ok boolean", "at text", "the key pk, sk"]
    {
        assert!(back.err.contains(said), "{said}: {}", back.err);
    }
    assert_eq!(back.json()["totals"]["created"], 3);
    let whole = "SELECT count(*) FROM back WHERE pk = 'a' AND sk = '1' AND amount = 12345678901234567890.123
        AND doc = '{\"x\": [1, 2.50]}' AND ok AND at::timestamptz = '2022-02-02 18:01:49.345261+00'";
    assert_eq!(asked(&place, "data/c.pg", whole), Some(1));
    let key =
        "SELECT count(*) FROM pg_index WHERE indrelid = 'back'::regclass AND indisprimary AND indnatts = 2";
    assert_eq!(asked(&place, "data/c.pg", key), Some(1));
}

#[test]
fn where_select_key_and_limit() {
    let place = place();
    let select = "SELECT 'THING#' || pk AS pk, sk, amount FROM input";
    let arguments =
        ["copy", FROM, ITEMS, "--json", "--select", select, "--where", "small > 1 OR small IS NULL"];
    let copied = place.run(&arguments).expect(0).json();
    assert_eq!(copied["totals"]["read"], 2);
    assert_eq!(
        items(&place).into_values().collect::<Vec<_>>(),
        [
            json!({"pk": {"S": "THING#a"}, "sk": {"S": "2"}}),
            json!({"pk": {"S": "THING#b"}, "sk": {"S": "1"}, "amount": {"N": "0.5"}})
        ]
    );
    let keyless = "SELECT amount FROM input";
    let refused =
        place.run(&["copy", FROM, "dynamodb://other?endpoint=embedded:data/b.dynamodb", "--select", keyless]);
    let refused = refused.expect(2);
    refused.one_error();
    assert!(
        refused.err.contains("what the key of `other` is") && refused.err.contains("--key"),
        "{}",
        refused.err
    );
    let missing = place.run(&["copy", FROM, "embedded:data/c.pg?table=t", "--no-create"]).expect(2);
    missing.one_error();
    assert!(missing.err.contains("--no-create"), "{}", missing.err);
}

#[test]
fn the_printed_spec_runs() {
    let place = place();
    let printed =
        place.run(&["copy", FROM, ITEMS, "--spec", "--mode", "upsert", "--where", "sk <> '9'"]).expect(0);
    assert!(!place.path(".whimbrel").exists(), "nothing is kept");
    insta::assert_snapshot!(printed.out);
    place.write("things.yaml", &printed.out);
    let run = place.run(&["run", "things.yaml", "--create", "--verify", "--json"]).expect(0).json();
    assert_eq!((&run["totals"]["created"], &run["verify"]["outcome"]), (&json!(3), &json!("equal")));

    let printed = place.run(&["copy", ITEMS, "embedded:data/c.pg?table=back", "--spec"]).expect(0);
    insta::assert_snapshot!("the_printed_spec_of_sampled_columns", printed.out);
    place.write("back.yaml", &printed.out);
    let run = place.run(&["run", "back.yaml", "--create", "--json"]).expect(0).json();
    assert_eq!(run["totals"]["created"], 3);
}

#[test]
fn a_killed_copy_is_resumed() {
    let place = parcels::place();
    let select = "SELECT 'PARCEL#' || id AS pk, kind AS sk, title, weight FROM input";
    let from = "embedded:data/parcels.pg?table=parcels";
    let copy = ["copy", from, ITEMS, "--select", select, "--key", "pk,sk", "--batch-size", "50", "--json"];
    let mut running = place.start(&copy);
    await_checkpoint(&place, &mut running);
    running.kill();
    let again = place.run(&copy).expect(2);
    again.one_error();
    assert!(again.err.contains("whimbrel resume") && again.err.contains("copy --new"), "{}", again.err);
    let resumed = place.run(&["resume", "--json", "--verify=count"]).expect(0).json();
    let all = json!(parcels::PARCELS);
    assert_eq!((&resumed["totals"]["read"], &resumed["totals"]["created"]), (&all, &all));
    assert_eq!((&resumed["resumes"], &resumed["verify"]["outcome"]), (&json!(1), &json!("equal")));
    assert_eq!(items(&place).len() as u64, parcels::PARCELS);
}

#[test]
fn files_out_and_in() {
    let place = place();
    place.run(&["copy", FROM, "out/things.json", "--json"]).expect(0);
    let text = std::fs::read_to_string(place.path("out/things.json")).expect("the file is there");
    let records: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(records.as_array().map(Vec::len), Some(3));
    assert!(text.contains("12345678901234567890.123"), "{text}");

    let refused = place.run(&["copy", FROM, "out/things.json"]).expect(2);
    refused.one_error();
    assert!(
        refused.err.contains("is there already") && refused.err.contains("--mode upsert"),
        "{}",
        refused.err
    );
    place.run(&["copy", FROM, "out/things.json", "--mode", "upsert", "--where", "pk = 'b'"]).expect(0);
    let text = std::fs::read_to_string(place.path("out/things.json")).expect("the file is there");
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON").as_array().map(Vec::len), Some(1));

    // No record at all: a file of the columns that records would have.
    for format in ["parquet", "arrow", "csv"] {
        let empty = format!("out/empty.{format}");
        place.run(&["copy", FROM, &empty, "--where", "pk = 'none'"]).expect(0);
        let back = place.run(&["copy", &empty, "-", "--format", "csv"]).expect(0);
        assert!(back.out.starts_with("pk,sk,"), "{format}: {}", back.out);
    }

    place.run(&["copy", FROM, "out/things.parquet"]).expect(0);
    place.run(&["copy", "out/things.parquet", ITEMS, "--key", "pk,sk", "--verify"]).expect(0);
    assert_eq!(items(&place).len(), 3);
    place.run(&["copy", ITEMS, "out/items.dynamodb.json"]).expect(0);
    let text = std::fs::read_to_string(place.path("out/items.dynamodb.json")).expect("the file is there");
    assert!(text.contains(r#""doc":{"M":{"x":{"L":[{"N":"1"},{"N":"2.5"}]}}}"#), "{text}");
    place.run(&["copy", ITEMS, "dynamodb://twin?endpoint=embedded:data/b.dynamodb"]).expect(0);
    let twin = items::in_file(&place.path("data/b.dynamodb"), "twin");
    items::assert_same(&twin, &items(&place));
    let back = "dynamodb://back?endpoint=embedded:data/b.dynamodb";
    place.run(&["copy", "out/items.dynamodb.json", back, "--key", "pk,sk"]).expect(0);
    let back = items::in_file(&place.path("data/b.dynamodb"), "back");
    items::assert_same(&back, &items(&place));
}

#[test]
fn standard_streams() {
    let place = place();
    let out = place.run(&["copy", FROM, "-"]).expect(0);
    let lines: Vec<Value> = out.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3, "{}", out.out);

    let mut command =
        place.whimbrel(&["copy", "-", ITEMS, "--key", "pk,sk", "--columns", "pk,sk,small=number", "--json"]);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the program starts");
    child.stdin.take().expect("its input").write_all(out.out.as_bytes()).expect("it reads");
    let ended = crate::place::ended(child.wait_with_output().expect("it ends")).expect(0);
    assert_eq!(ended.json()["totals"]["created"], 3);
    let left = folders(&place.path(".whimbrel/runs")).into_iter().flat_map(|run| folders(&run));
    assert!(!left.into_iter().any(|path| path.ends_with("stdin.ndjson") || path.ends_with("stdout.ndjson")));
    assert_eq!(
        items(&place)[&("a".to_owned(), "2".to_owned())],
        json!({"pk": {"S": "a"}, "sk": {"S": "2"}, "small": {"N": "2"}})
    );
    place.run(&["copy", FROM, "-", "--json"]).expect(2).one_error();
    place.run(&["copy", FROM, "-", "--spec"]).expect(2).one_error();
}

#[test]
fn what_cannot_be_copied_is_one_error() {
    let place = Place::new();
    for (from, to, said) in [
        ("postgres://ann:hush@h/db", "x.json", "FROM names no table"),
        ("x.json", "mysql://ann:hush@h/db", "TO: the URL's scheme is none that whimbrel knows"),
        ("x.json", "dynamodb://", "TO: the DynamoDB URL names no table"),
        ("nowhere.json", "out.csv", "there is no file"),
        ("chroma:data/c?collection=x", "out.csv", "data/c"),
    ] {
        let refused = place.run(&["copy", from, to]).expect(2);
        refused.one_error();
        assert!(refused.err.contains(said) && refused.err.contains("hint: "), "{from} {to}: {}", refused.err);
        assert!(!refused.err.contains("hush"), "{}", refused.err);
    }
}

const PASSWORD: &str = "hunter2-zq8w";

#[test]
fn a_password_in_a_url_is_kept_nowhere() {
    let place = Place::new();
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    for url in [
        format!("postgres://ann:{PASSWORD}@{closed}/db?sslmode=disable&table=t"),
        format!("postgres://ann@{closed}/db?sslmode=disable&password={PASSWORD}&table=t"),
    ] {
        for arguments in [
            vec!["copy", &url, ITEMS, "--log", "text"],
            vec!["copy", ITEMS, &url, "--json"],
            vec!["copy", &url, ITEMS, "--spec"],
        ] {
            let with_log = |command: &mut std::process::Command| {
                command.env("WHIMBREL_LOG", "debug");
            };
            let ended = place.start_with(&arguments, with_log).wait();
            assert!(ended.code.is_some_and(|code| code > 0), "{ended:?}");
            for text in [&ended.out, &ended.err] {
                assert!(!text.contains(PASSWORD), "{arguments:?}:\n{text}");
            }
        }
    }
    assert_kept_nowhere(&place.path(".whimbrel"));
}

fn assert_kept_nowhere(folder: &Path) {
    for path in folders(folder) {
        if path.is_dir() {
            assert_kept_nowhere(&path);
        } else {
            let bytes = std::fs::read(&path).expect("a file of the journal");
            let found = bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
            assert!(!found, "{} holds the password", path.display());
        }
    }
}
