//! `mode: changed`, from PostgreSQL with children embedded by `json_agg` into DynamoDB: a second run writes nothing,
//! a third one what has changed in between.

use crate::parcels::fill;
use crate::place::Place;
use dynoxide::Database;
use dynoxide::actions::get_item::GetItemRequest;
use serde_json::{Value, json};

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
    let place = Place::new();
    place.write("lessons.yaml", &SPEC.replace("COMPARE", compare));
    let sql = format!(
        "CREATE TABLE lessons (id int PRIMARY KEY, title text NOT NULL, level text, updated_at timestamptz NOT NULL);
         CREATE TABLE questions (id int PRIMARY KEY, lesson int NOT NULL, text text NOT NULL, options jsonb,
                                 updated_at timestamptz NOT NULL);
         CREATE TABLE answers (question int NOT NULL, n numeric NOT NULL, is_right boolean NOT NULL);
         INSERT INTO lessons SELECT k, 'lesson ' || k, CASE WHEN k % 3 = 0 THEN 'B2' END, '2024-01-01Z'
         FROM generate_series(1, {LESSONS}) AS k;
         INSERT INTO questions SELECT k, 1 + k % {LESSONS}, 'question ' || k,
                jsonb_build_object('shuffle', k % 2 = 0, 'weights', jsonb_build_array(k, 0.10)), '2024-01-01Z'
         FROM generate_series(1, 900) AS k WHERE k % {LESSONS} <> 6;
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

#[test]
fn nothing_is_deleted_unasked() {
    let place = place("delete_missing: true");
    let refused = place.run(&["run", "lessons.yaml", "--create"]).expect(2);
    assert!(refused.err.contains("not yet: flow `lessons`: `delete_missing`"), "{}", refused.err);
}
