//! `mode: changed`, from PostgreSQL with children embedded by `json_agg` into DynamoDB: a second run writes nothing,
//! a third one what has changed in between.

use crate::parcels::fill;
use crate::place::{Place, until};
use dynoxide::Database;
use dynoxide::actions::get_item::GetItemRequest;
use dynoxide::actions::put_item::PutItemRequest;
use serde_json::{Value, json};
use std::time::Duration;

const LESSONS: u64 = 300;

const SPEC: &str = r#"
migration: lessons
stores:
  pg: { postgres: "embedded:data/lessons.pg" }
  ddb: { dynamodb: { endpoint: "embedded:data/lessons.dynamodb", region: us-east-1, tables: { lessons: { key: id } } } }
flows:
  lessons:
    from:
      store: pg
      query: |
        SELECT l.id, l.title, l.level, l.updated_at, q.questions
        FROM (SELECT * FROM lessons WHERE {slice}) AS l
        LEFT JOIN LATERAL (
          SELECT json_agg(json_build_object(
            'id', q.id, 'text', q.text, 'options', q.options, 'updated_at', q.updated_at,
            'answers', (SELECT json_agg(json_build_object('n', a.n, 'right', a.is_right) ORDER BY a.n)
                        FROM answers AS a WHERE a.question = q.id)) ORDER BY q.id) AS questions
          FROM questions AS q WHERE q.lesson = l.id
        ) AS q ON true
      slice_by: id
    columns: { questions: json }
    transform: |
      SELECT 'lesson-' || id AS id, title, coalesce(level, 'A1') AS level, questions,
             rfc3339(updated_at, 3) AS updated_at
      FROM input
    into:
      store: ddb
      table: lessons
      key: id
      mode: changed
      COMPARE
      ignore: [updated_at, "questions[*].updated_at"]
"#;

fn place(compare: &str) -> Place {
    place_with(compare, LESSONS)
}

fn place_with(compare: &str, lessons: u64) -> Place {
    let place = Place::new();
    place.write("lessons.yaml", &SPEC.replace("COMPARE", compare));
    let sql = format!(
        "CREATE TABLE lessons (id int PRIMARY KEY, title text NOT NULL, level text, updated_at timestamptz NOT NULL);
         CREATE TABLE questions (id int PRIMARY KEY, lesson int NOT NULL, text text NOT NULL, options jsonb,
                                 updated_at timestamptz NOT NULL);
         CREATE TABLE answers (question int NOT NULL, n numeric NOT NULL, is_right boolean NOT NULL);
         INSERT INTO lessons SELECT k, 'lesson ' || k, CASE WHEN k % 3 = 0 THEN 'B2' END, '2024-01-01Z'
         FROM generate_series(1, {lessons}) AS k;
         INSERT INTO questions SELECT k, 1 + k % {lessons}, 'question ' || k,
                jsonb_build_object('shuffle', k % 2 = 0, 'weights', jsonb_build_array(k, 0.10)), '2024-01-01Z'
         FROM generate_series(1, 900) AS k WHERE k % {lessons} <> 6;
         INSERT INTO answers SELECT 1 + k % 900, k, k % 2 = 0 FROM generate_series(1, 1800) AS k;
         ANALYZE"
    );
    fill(&place, "data/lessons.pg", &sql);
    place
}

fn item(place: &Place, id: &str) -> Value {
    let path = place.path("data/lessons.dynamodb");
    let database = Database::new(path.to_str().expect("the path is UTF-8")).expect("the database opens");
    let request: GetItemRequest =
        serde_json::from_value(json!({"TableName": "lessons", "Key": {"id": {"S": id}}})).expect("a request");
    let answer = serde_json::to_value(database.get_item(request).expect("an answer")).expect("JSON");
    answer["Item"].clone()
}

#[track_caller]
fn counts(summary: &Value) -> (u64, u64, u64) {
    let count = |name: &str| summary["flows"]["lessons"][name].as_u64().expect("a count");
    assert_eq!(count("read"), count("created") + count("updated") + count("unchanged") + count("rejected"));
    (count("created"), count("updated"), count("unchanged"))
}

fn writes(summary: &Value) -> f64 {
    summary["capacity"]["write_units"].as_f64().expect("units")
}

fn story(compare: &str) -> Place {
    let place = place(compare);
    let run =
        |more: &[&str]| place.run(&[&["run", "lessons.yaml", "--json"], more].concat()).expect(0).json();
    assert_eq!(counts(&run(&["--create", "--verify"])), (LESSONS, 0, 0));
    let nested = item(&place, "lesson-2");
    let question = &nested["questions"]["L"][0]["M"];
    assert_eq!(question["options"]["M"]["weights"]["L"][1], json!({"N": "0.1"}), "{nested}");
    assert_eq!(question["answers"]["L"].as_array().map(Vec::len), Some(2));
    assert_eq!(nested["level"], json!({"S": "A1"}));
    assert_eq!(nested["updated_at"], json!({"S": "2024-01-01T00:00:00.000Z"}));
    assert_eq!(item(&place, "lesson-7").get("questions"), None, "no children, no attribute");

    let second = run(&[]);
    assert_eq!(counts(&second), (0, 0, LESSONS));
    assert!(writes(&second).abs() < f64::EPSILON, "{second}");

    fill(
        &place,
        "data/lessons.pg",
        "UPDATE lessons SET updated_at = '2025-01-01Z'; UPDATE questions SET updated_at = '2025-01-01Z';
         UPDATE answers SET is_right = NOT is_right WHERE question IN (1, 2); UPDATE lessons SET title = 'new' WHERE id = 9;
         INSERT INTO lessons VALUES (1000, 'more', NULL, '2025-01-01Z')",
    );
    let third = run(&["--verify"]);
    assert_eq!(counts(&third), (1, 3, LESSONS - 3), "what is ignored changes nothing");
    assert!(writes(&third) > 0.0 && writes(&third) < 20.0, "{third}");
    assert_eq!(third["verify"]["outcome"], "equal");
    place
}

#[test]
fn a_second_run_writes_nothing() {
    let place = story("compare: target");
    let plan = place.run(&["plan", "lessons.yaml"]).expect(0);
    assert!(plan.out.contains("compared with"), "{}\n{}", plan.out, plan.err);
}

#[test]
fn fingerprints_of_the_last_run_cost_no_reads() {
    let place = story("compare: journal");
    let reads = |summary: &Value| summary["capacity"]["read_units"].as_f64().expect("units");
    let run =
        |more: &[&str]| place.run(&[&["run", "lessons.yaml", "--json"], more].concat()).expect(0).json();
    let again = run(&[]);
    assert_eq!((counts(&again), reads(&again).abs() < f64::EPSILON), ((0, 0, LESSONS + 1), true), "{again}");
    // A run that breaks off leaves nothing to trust: the next one looks.
    place.run(&["run", "lessons.yaml", "--limit", "0", "--json"]);
    let looks = run(&["--new"]);
    assert_eq!(counts(&looks), (0, 0, LESSONS + 1));
}

fn deletions<'a>(summary: &'a Value, flow: &str) -> &'a Value {
    &summary["deletions"][flow]
}

/// Puts an item into the target, as somebody else would.
fn put(place: &Place, item: Value) {
    let path = place.path("data/lessons.dynamodb");
    let database = Database::new(path.to_str().expect("the path is UTF-8")).expect("the database opens");
    let item = serde_json::from_value(item).expect("an item");
    let request = PutItemRequest { table_name: "lessons".to_owned(), item, ..PutItemRequest::default() };
    database.put_item(request).expect("an answer");
}

#[test]
fn nothing_is_deleted_unasked() {
    let place = place("delete_missing: true");
    let refused = place.run(&["run", "lessons.yaml", "--create"]).expect(2);
    refused.one_error();
    assert!(refused.err.contains("deleting records that the source no longer has"), "{}", refused.err);
    assert!(refused.err.contains("add `--confirm`"), "{}", refused.err);
    assert!(!place.path(".whimbrel/runs").exists() || place.run(&["list", "--json"]).out.lines().count() < 2);
    let limited = place.run(&["run", "lessons.yaml", "--create", "--confirm", "--limit", "5"]).expect(2);
    assert!(limited.err.contains("with --limit it would delete what was not read"), "{}", limited.err);
    let narrowed = SPEC.replace("COMPARE", "delete_missing: true");
    place.write(
        "where.yaml",
        &narrowed.replace("      slice_by: id", "      slice_by: id\n      where: level = 'B2'"),
    );
    let refused = place.run(&["run", "where.yaml", "--create", "--confirm"]).expect(2);
    assert!(refused.err.contains("`delete_missing` would delete what `where` leaves out"), "{}", refused.err);
}

#[test]
fn what_the_source_no_longer_has_is_deleted() {
    let place = place("delete_missing: true");
    let on = |command: &str, more: &[&str]| {
        place.run(&[&[command, "lessons.yaml", "--json"], more].concat()).expect(0).json()
    };
    let first = on("run", &["--create", "--confirm"]);
    assert_eq!(deletions(&first, "lessons"), &json!({"deleted": 0, "left": 0}));
    fill(
        &place,
        "data/lessons.pg",
        "DELETE FROM lessons WHERE id IN (3, 4, 5); UPDATE lessons SET title = 'new' WHERE id = 9",
    );
    put(&place, json!({"id": {"S": "lesson-extra"}, "title": {"S": "by hand"}}));
    put(&place, json!({"id": {"S": "lesson-bare"}}));
    let plan = on("plan", &["--all"]);
    assert_eq!(plan["flows"][0]["deletes"], 5);
    let second = on("run", &["--verify", "--confirm"]);
    assert_eq!(counts(&second), (0, 1, LESSONS - 4));
    assert_eq!(deletions(&second, "lessons"), &json!({"deleted": 5, "left": 0}));
    assert_eq!(second["verify"]["outcome"], "equal", "nothing extra is left");
    let used = writes(&second);
    assert!((6.0..12.0).contains(&used), "{used} units");
    let foretold = plan["capacity"]["read_units"].as_f64().expect("units");
    let read = second["capacity"]["read_units"].as_f64().expect("units");
    assert!(foretold > 0.0 && read > 0.0, "{foretold} {read}");
    let third = on("run", &["--confirm"]);
    assert_eq!((counts(&third), writes(&third).abs() < f64::EPSILON), ((0, 0, LESSONS - 3), true));
    assert_eq!(item(&place, "lesson-4"), Value::Null);
}

#[test]
fn a_source_without_records_deletes_nothing() {
    let place = place("delete_missing: true");
    let run = |more: &[&str]| place.run(&[&["run", "lessons.yaml", "--confirm"], more].concat());
    run(&["--create"]).expect(0);
    fill(&place, "data/lessons.pg", "TRUNCATE lessons");
    let ended = run(&[]).expect(3);
    assert!(ended.err.contains("lessons: nothing was deleted: the source has no record"), "{}", ended.err);
    assert_ne!(item(&place, "lesson-4"), Value::Null);
    fill(
        &place,
        "data/lessons.pg",
        "INSERT INTO lessons VALUES (1, 'one', NULL, 'infinity'), (2, 'two', NULL, now())",
    );
    let rejected = place.run(&["run", "lessons.yaml", "--confirm", "--json"]).expect(3).json();
    let nothing = rejected["deletions"]["lessons"]["nothing"].as_str().expect("a reason");
    assert!(nothing.contains("a record was rejected"), "{nothing}");
    assert_ne!(item(&place, "lesson-4"), Value::Null);
}

const MOVE: &str = r#"
migration: move
environments:
  dev: { default: true }
  prod: { protected: true }
stores:
  from: { postgres: "embedded:data/source.pg" }
  to: { postgres: "embedded:data/target.pg" }
flows:
  parcels:
    from: { store: from, table: parcels }
    into: { store: to, table: parcels, key: [id], mode: changed, ignore: [seen_at, "details.at"], delete_missing: true }
"#;

/// A source with so many parcels, and a target of the same shape in which something refers to them.
fn moving(parcels: u64) -> Place {
    let place = Place::new();
    place.write("move.yaml", MOVE);
    let table = "CREATE TABLE parcels (id bigint PRIMARY KEY, title text NOT NULL, details jsonb, seen_at timestamptz)";
    let rows = format!(
        "INSERT INTO parcels SELECT k, 'parcel ' || k, jsonb_build_object('n', k, 'at', k), now()
         FROM generate_series(1, {parcels}) AS k; ANALYZE"
    );
    fill(&place, "data/source.pg", &format!("{table}; {rows}"));
    fill(
        &place,
        "data/target.pg",
        &format!("{table}; CREATE TABLE labels (parcel bigint REFERENCES parcels (id))"),
    );
    place
}

#[test]
fn rows_that_are_gone_are_deleted_unless_something_refers_to_them() {
    let place = moving(200);
    let run = |more: &[&str]| place.run(&[&["run", "move.yaml", "--json"], more].concat());
    run(&["--confirm"]).expect(0);
    fill(
        &place,
        "data/target.pg",
        "INSERT INTO labels VALUES (7); INSERT INTO parcels VALUES (900, 'by hand', NULL, NULL)",
    );
    fill(
        &place,
        "data/source.pg",
        "DELETE FROM parcels WHERE id IN (7, 8, 9); UPDATE parcels SET title = 'new', seen_at = NULL WHERE id = 20;
         UPDATE parcels SET seen_at = NULL, details = jsonb_set(details, '{at}', '0') WHERE id > 20",
    );
    let ended = run(&["--confirm"]).expect(3).json();
    let flow = &ended["flows"]["parcels"];
    assert_eq!((&flow["updated"], &flow["unchanged"]), (&json!(1), &json!(196)), "{flow}");
    let deletions = &ended["deletions"]["parcels"];
    assert_eq!((&deletions["deleted"], &deletions["left"]), (&json!(3), &json!(1)), "{deletions}");
    let left = deletions["first_left"][0].as_str().expect("a key and a reason");
    assert!(left.contains("{\"id\":7}") && left.contains("foreign key"), "{left}");
    fill(&place, "data/target.pg", "DELETE FROM labels");
    let last = run(&["--confirm", "--verify"]).expect(0).json();
    assert_eq!(last["deletions"]["parcels"], json!({"deleted": 1, "left": 0}));
    assert_eq!(last["verify"]["outcome"], "equal");
}

#[test]
fn deleting_in_a_protected_environment_wants_its_name() {
    let place = moving(10);
    let run = |more: &[&str]| place.run(&[&["run", "move.yaml", "--env", "prod"], more].concat());
    for wrong in [&[][..], &["--confirm"], &["--confirm", "dev"]] {
        let refused = run(wrong).expect(2);
        assert!(
            refused.err.contains("in the protected environment `prod` has to be confirmed"),
            "{}",
            refused.err
        );
        assert!(refused.err.contains("add `--confirm prod`"), "{}", refused.err);
    }
    run(&["--confirm", "prod"]).expect(0);
}

/// Copies the target aside, or back.
fn copy_items(place: &Place, from: &str, to: &str) {
    std::fs::create_dir_all(place.path(to).parent().expect("a folder")).expect("the folder can be made");
    for journal in ["-wal", "-shm"] {
        // What a killed program has left of its own.
        let _ = std::fs::remove_file(place.path(&format!("{to}{journal}")));
    }
    std::fs::copy(place.path(from), place.path(to)).expect("the items can be copied");
}

/// All items, a line each.
fn all_items(place: &Place) -> String {
    let sql = "SELECT id, title, level, questions, updated_at FROM ddb.lessons ORDER BY id";
    place.run(&["query", "lessons.yaml", sql, "--json"]).expect(0).out
}

/// The file of what is to be deleted, once it is whole.
fn doomed(place: &Place, journal: &str) -> bool {
    let runs = std::fs::read_dir(place.path(journal).join("runs"));
    let files =
        runs.into_iter().flatten().flatten().map(|run| run.path().join("fingerprints/lessons.missing"));
    files.into_iter().any(|file| file.exists())
}

#[test]
fn killed_runs_change_and_delete_what_an_undisturbed_one_does() {
    let place = place_with("delete_missing: true", 4_000);
    place.run(&["run", "lessons.yaml", "--create", "--confirm"]).expect(0);
    fill(
        &place,
        "data/lessons.pg",
        "DELETE FROM lessons WHERE id > 1000; UPDATE lessons SET title = 'new' WHERE id % 3 = 0;
         INSERT INTO lessons SELECT k, 'more', NULL, '2025-01-01Z' FROM generate_series(5001, 5500) AS k; ANALYZE",
    );
    let (items, base) = ("data/lessons.dynamodb", "base.dynamodb");
    copy_items(&place, items, base);
    let begin = |journal: &'static str| {
        ["run", "lessons.yaml", "--confirm", "--json", "--batch-size", "50", "--journal", journal]
    };
    let undisturbed = place.run(&begin("undisturbed")).expect(0).json();
    assert_eq!(counts(&undisturbed), (500, 333, 667));
    assert_eq!(deletions(&undisturbed, "lessons"), &json!({"deleted": 3000, "left": 0}));
    let expected = all_items(&place);
    assert_eq!(expected.lines().count(), 1_500);
    // Killed as it begins to delete, and while it writes.
    for (journal, moment) in [("deleting", None), ("early", Some(300)), ("late", Some(900))] {
        copy_items(&place, base, items);
        let running = place.start(&begin(journal));
        match moment {
            None => until("it deletes", || doomed(&place, journal).then_some(())),
            Some(moment) => std::thread::sleep(Duration::from_millis(moment)),
        }
        running.kill();
        let status = place.run(&["status", "--json", "--journal", journal]);
        let next = if status.code == Some(2) {
            begin(journal).to_vec()
        } else {
            vec!["resume", "--json", "--journal", journal]
        };
        let summary = place.run(&next).expect(0).json();
        let (created, updated, unchanged) = counts(&summary);
        assert_eq!(created + updated + unchanged, 1_500, "{summary}");
        assert!(created <= 500 && updated <= 333, "{summary}");
        assert_eq!(deletions(&summary, "lessons"), &json!({"deleted": 3000, "left": 0}), "{journal}");
        assert!(all_items(&place) == expected, "{journal}");
    }
}
