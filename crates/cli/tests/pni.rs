//! `whimbrel demo pni`, over fewer lessons: everything moves, one in twenty changes, and a second run writes that alone.

use crate::parcels::fill;
use crate::place::{Place, Shipped};
use serde_json::{Value, json};

const SPEC: &str = "data/pni-spec/pni.yaml";

/// The demo's source with 100 lessons, 250 passages and 2,500 questions.
fn place() -> Place {
    let place = Place::new();
    let script = Shipped::named("pni").script();
    assert!(script.contains("SELECT 2000 AS lessons"));
    fill(&place, "data/pni.pg", &script.replace("SELECT 2000 AS lessons", "SELECT 100 AS lessons"));
    place
}

fn rows(place: &Place, sql: &str) -> Vec<Value> {
    let ended = place.run(&["query", SPEC, sql, "--env", "demo", "--json"]).expect(0);
    ended.out.lines().map(|line| serde_json::from_str(line).expect("a row is JSON")).collect()
}

/// Created, updated and unchanged of a flow.
fn counts(summary: &Value, flow: &str) -> [u64; 3] {
    let counts = &summary["flows"][flow];
    ["created", "updated", "unchanged"].map(|name| counts[name].as_u64().expect("a count"))
}

#[test]
fn a_second_run_writes_what_has_changed() {
    let place = place();
    let demo = place.run(&["demo", "pni", "--json"]).expect(0).json();
    let (first, second) = (&demo["before"][0], &demo["run"]);
    assert_eq!((counts(first, "lessons"), counts(first, "passages")), ([100, 0, 0], [250, 0, 0]));
    let topics = counts(first, "topics")[0];
    assert!(topics > 20, "{topics}");
    assert_eq!(first["totals"]["rejected"], 0, "{first}");
    assert_eq!((counts(second, "lessons"), counts(second, "passages")), ([0, 5, 95], [0, 12, 238]));
    assert_eq!(counts(second, "topics"), [0, 0, topics]);
    let cost = &second["cost_usd"];
    let (all, actual) = (cost["all"].as_f64().expect("dollars"), cost["actual"].as_f64().expect("dollars"));
    assert!(actual < 0.25 * all, "three quarters are saved: {cost}");
    assert_eq!(demo["verify"]["outcome"], "equal");

    // A question stands in its lesson or, through its passage, in it and in the passage.
    let lesson = &rows(
        &place,
        "SELECT questions, passages, edition, updated_at FROM ddb.\"pni-lessons\" WHERE id = '20'",
    )[0];
    let document = |name: &str| match &lesson[name] {
        Value::String(text) => serde_json::from_str::<Value>(text).expect("a document"),
        document => document.clone(),
    };
    assert_eq!(document("questions").as_array().map(Vec::len), Some(10));
    let passages = document("passages");
    assert_eq!(passages.as_array().map(Vec::len), Some(3));
    assert!(passages[0]["questions"].as_array().is_some_and(|questions| questions.len() > 3), "{passages}");
    assert_eq!(
        (&lesson["edition"], &lesson["updated_at"]),
        (&json!("2"), &json!("2024-01-08T07:40:00.002500Z"))
    );
    let odd = &rows(&place, "SELECT content FROM ddb.\"pni-lessons\" WHERE id = '41'")[0];
    let content = odd["content"].to_string();
    assert!(content.contains("12345678901234567890123456789.0123456"), "every digit: {content}");
    let missing = &rows(
        &place,
        "SELECT topic, level FROM ddb.\"pni-lessons\" WHERE id = '17' OR id = '23' ORDER BY id",
    );
    assert_eq!((&missing[0]["topic"], &missing[1]["level"]), (&json!("general"), &json!("unrated")));

    let kept = rows(
        &place,
        "SELECT table_name, run, created, updated, unchanged, content_digest FROM ddb.\"pni-cache-metadata\"
         ORDER BY table_name, run",
    );
    assert_eq!(kept.len(), 6, "one item a table and run: {kept:?}");
    let [lessons, again, .., topics, same] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!(
        (&lessons["created"], &again["updated"], &again["unchanged"]),
        (&json!("100"), &json!("5"), &json!("95"))
    );
    assert_ne!(lessons["content_digest"], again["content_digest"]);
    assert_eq!(topics["content_digest"], same["content_digest"], "the topics are the same");
    assert_eq!(again["run"], second["run"]);

    let run = place.run(&["run", SPEC, "--env", "demo", "--json"]).expect(0).json();
    assert_eq!((counts(&run, "lessons"), counts(&run, "passages")), ([0, 0, 100], [0, 0, 250]));
    let written = run["capacity"]["write_units"].as_f64().expect("units");
    assert!(written <= 3.0, "what the run says of itself and nothing else: {written}");
    let status = place.run(&["status", SPEC, "--env", "demo"]).expect(0).out;
    assert!(status.contains("of environment `demo` of migration `pni`"), "{status}");
    assert!(status.contains("dev: no run yet") && status.contains("demo: complete, begun"), "{status}");
    assert!(status.contains("pni-lessons: about 100 records"), "{status}");
    assert!(status.contains(", 100 unchanged\n") && status.contains(", 250 unchanged\n"), "{status}");
    assert!(status.contains("Savings:                     $"), "{status}");
}

#[test]
fn the_demo_shows_what_is_saved() {
    let place = place();
    let told = place.run(&["demo", "pni"]).expect(0).err;
    let (first, second) = told.split_once("Now the source changes: one lesson in twenty").expect("two runs");
    assert!(!first.contains("Savings:"), "{first}");
    for line in
        ["Potential cost (all writes): $", "Actual cost (changed only):  $", "Savings:                     $"]
    {
        assert!(second.contains(line), "{line}: {second}");
    }
}

#[test]
fn prod_is_protected_and_guarded() {
    let place = place();
    place.run(&["demo", "pni"]).expect(0);
    let values = ["--set", "pg_host=embedded:data/pni.pg", "--set", "endpoint=embedded:data/pni.dynamodb"];
    let run = |more: &[&str]| place.run(&[&["run", SPEC, "--env", "prod"], more, &values].concat());
    let refused = run(&[]).expect(2);
    assert!(refused.err.contains("environment `prod`"), "{}", refused.err);
}
