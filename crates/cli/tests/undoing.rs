//! `undo`: the targets are as they were before a run.

use crate::parcels::{self, fill};
use crate::place::{Ended, Place};
use serde_json::Value;

mod deleting;
mod sqlite;
mod whole;

const ROWS: u64 = 600;

/// Two tables of PostgreSQL, the second referring to the first.
const MOVE: &str = r#"
migration: move
undo: true
stores:
  from: { postgres: "embedded:data/source.pg" }
  to: { postgres: "embedded:data/target.pg" }
flows:
  senders:
    from: { store: from, table: senders }
    into: { store: to, table: senders, key: id, mode: MODE }
  parcels:
    after: [senders]
    from: { store: from, table: parcels }
    into: { store: to, table: parcels, key: id, mode: MODE }
"#;

fn spec(mode: &str) -> String {
    MOVE.replace("MODE", mode)
}

/// A source of so many parcels, and a target with tables that hold some of them already, with other content, a column
/// of their own, and a column that the table itself makes.
fn place(mode: &str) -> Place {
    let place = Place::new();
    fill(&place, "data/source.pg", &parcels::sql(ROWS, 20));
    fill(
        &place,
        "data/target.pg",
        "CREATE TABLE senders (id bigint PRIMARY KEY, name text NOT NULL, joined_at timestamptz NOT NULL, note text DEFAULT 'as it was',
                               length int GENERATED ALWAYS AS (length(name)) STORED);
         CREATE TABLE parcels (id bigint PRIMARY KEY, sender bigint NOT NULL REFERENCES senders, kind text NOT NULL, title text NOT NULL,
                               weight numeric NOT NULL, details jsonb, t real DEFAULT 0.1);
         INSERT INTO senders (id, name, joined_at, note)
         SELECT k, E'old, \"quoted\" \\\\ ' || k, '2020-01-01 00:00:00.000001+00', CASE WHEN k % 2 = 0 THEN NULL ELSE '' END FROM generate_series(1, 10) k;
         INSERT INTO parcels SELECT k, 1 + k % 10, 'old', '', 1.50, NULL, 0.3 FROM generate_series(1, 100) k;
         INSERT INTO parcels SELECT k, 1, 'mine', 'not of the source', 1, '{\"a\": 1.10}' FROM generate_series(9001, 9003) k;
         ANALYZE",
    );
    place.write("move.yaml", &spec(mode));
    place
}

/// What a table of the target holds, as one hash.
#[track_caller]
fn content(place: &Place, table: &str) -> String {
    let sql = format!(
        "SELECT count(*)::text || ' ' || md5(string_agg(x.*::text, chr(10) ORDER BY id)) AS n FROM {table} x"
    );
    asked(place, &sql)
}

#[track_caller]
fn asked(place: &Place, sql: &str) -> String {
    let answer = place.run(&["query", "move.yaml", "--store", "to", sql, "--json"]).expect(0);
    let row: Value = serde_json::from_str(answer.out.trim()).expect("a row");
    row["n"].to_string()
}

fn both(place: &Place) -> (String, String) {
    (content(place, "senders"), content(place, "parcels"))
}

/// The name of the latest run.
fn latest(place: &Place) -> String {
    let status = place.run(&["status", "--json"]).expect(0).json();
    status["run"].as_str().expect("a run").to_owned()
}

#[track_caller]
fn refused(ended: &Ended, why: &str) {
    ended.one_error();
    assert!(ended.err.contains(why), "{}", ended.err);
}

#[test]
fn rows_of_postgresql_are_as_they_were() {
    for mode in ["upsert", "changed", "skip_existing"] {
        let place = place(mode);
        let before = both(&place);
        place.run(&["run", "move.yaml"]).expect(0);
        let run = latest(&place);
        assert_ne!(both(&place), before, "the run writes");
        let shown = place.run(&["undo", &run]).expect(2);
        refused(&shown, "undoing a run in migration `move` has to be confirmed");
        assert!(shown.err.contains("to: parcels: "), "what it would do is shown: {}", shown.err);
        assert_ne!(both(&place), before, "and not done");
        let undone = place.run(&["undo", &run, "--confirm", "--json"]).expect(0).json();
        assert_eq!(both(&place), before, "{mode}: {undone}");
        let table = |number: usize| {
            (undone["tables"][number]["restored"].as_u64(), undone["tables"][number]["removed"].as_u64())
        };
        let overwritten = if mode == "skip_existing" { (0, 0) } else { (100, 10) };
        assert_eq!(table(0), (Some(overwritten.0), Some(ROWS - 100)), "{mode}: {undone}");
        assert_eq!(table(1), (Some(overwritten.1), Some(10)), "{mode}: {undone}");
        refused(&place.run(&["undo", &run, "--confirm"]).expect(2), "was undone before");
        // The next run begins as if there had been none.
        let again = place.run(&["run", "move.yaml", "--json"]);
        let again = if mode == "skip_existing" { again } else { again.expect(0) };
        assert_eq!(again.json()["flows"]["parcels"]["created"], ROWS - 100, "{mode}");
    }
}

#[test]
fn what_others_have_written_since_is_named_and_nothing_is_undone() {
    let place = place("upsert");
    place.run(&["run", "move.yaml"]).expect(0);
    let run = latest(&place);
    fill(
        &place,
        "data/target.pg",
        "UPDATE parcels SET title = 'newer' WHERE id IN (7, 500); DELETE FROM parcels WHERE id = 8; UPDATE parcels SET title = title WHERE id = 9",
    );
    let after = both(&place);
    let ended = place.run(&["undo", &run, "--confirm", "--json"]).expect(1);
    refused(&ended, "the run is not undone: others have written to records of it since");
    let told = ended.json();
    assert_eq!(
        (&told["outcome"], &told["tables"][0]["conflicts"]),
        (&Value::from("refused"), &Value::from(3)),
        "{told}"
    );
    let mut keys: Vec<&str> = told["tables"][0]["conflicting"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|key| key["id"].as_str().expect("text"))
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["500", "7", "8"]);
    assert_eq!(both(&place), after, "nothing was changed");
    // As soon as they hold what stood there before, it goes.
    fill(&place, "data/target.pg", "UPDATE parcels SET sender = 1 + id % 10, kind = 'old', title = '', weight = 1.50, details = NULL, t = 0.3 WHERE id = 7;
         INSERT INTO parcels SELECT 8, 9, 'old', '', 1.50, NULL, 0.3; DELETE FROM parcels WHERE id = 500");
    place.run(&["undo", &run, "--confirm"]).expect(0);
    assert_eq!(asked(&place, "SELECT count(*)::int AS n FROM parcels WHERE kind = 'old'"), "100");
    assert_eq!(asked(&place, "SELECT count(*)::int AS n FROM parcels"), "103");
}

#[test]
fn tables_that_the_run_made_are_removed_and_empty_ones_emptied() {
    let place = Place::new();
    fill(&place, "data/source.pg", &parcels::sql(ROWS, 20));
    fill(
        &place,
        "data/target.pg",
        "CREATE TABLE senders (id bigint PRIMARY KEY, name text NOT NULL, joined_at timestamptz NOT NULL)",
    );
    place.write("move.yaml", &spec("upsert").replace("undo: true\n", ""));
    place.run(&["run", "move.yaml", "--create"]).expect(0);
    let run = latest(&place);
    fill(
        &place,
        "data/target.pg",
        "INSERT INTO senders VALUES (-1, 'stray', now()); UPDATE parcels SET title = 'newer' WHERE id = 7",
    );
    let ended = place.run(&["undo", &run, "--confirm", "--json"]).expect(1);
    let told = ended.json();
    assert_eq!(told["tables"][1]["conflicting"], serde_json::json!([{"id": -1}]), "{told}");
    let suspects = told["tables"][0]["conflicting"].as_array().expect("keys");
    assert!(suspects.iter().any(|key| key["id"] == 7) && suspects.len() < 5, "{told}");
    fill(
        &place,
        "data/target.pg",
        "DELETE FROM senders WHERE id = -1; UPDATE parcels SET title = 'parcel ' || md5('7') WHERE id = 7",
    );
    let undone = place.run(&["undo", &run, "--confirm"]).expect(0);
    assert!(undone.out.contains("to: parcels: removed, with 600 records"), "{}", undone.out);
    assert!(undone.out.contains("to: senders: 20 records deleted"), "{}", undone.out);
    assert_eq!(asked(&place, "SELECT count(*)::int AS n FROM senders"), "0");
    assert_eq!(asked(&place, "SELECT (to_regclass('parcels') IS NULL)::int AS n"), "1");
    place.run(&["run", "move.yaml", "--create"]).expect(0);
}

#[test]
fn a_run_without_before_images_is_not_undone() {
    let place = place("upsert");
    place.write("move.yaml", &spec("upsert").replace("undo: true", "undo: false"));
    place.run(&["run", "move.yaml"]).expect(0);
    refused(
        &place.run(&["undo", &latest(&place), "--confirm"]).expect(2),
        "kept no before-images, and the table `parcels` held records before it",
    );
}

#[test]
fn a_run_that_was_killed_is_undone() {
    let place = place("upsert");
    let before = both(&place);
    fill(
        &place,
        "data/source.pg",
        "INSERT INTO parcels SELECT k, 1 + k % 20, 'sent', 'more', 1, NULL FROM generate_series(10001, 90000) k; ANALYZE",
    );
    let running = place.start(&["run", "move.yaml", "--batch-size", "500", "--parallel", "1"]);
    crate::place::until("a run begins", || {
        let status = place.run(&["status", "--json"]);
        (status.code == Some(0) && status.json()["totals"]["created"].as_u64().unwrap_or(0) > 2_000)
            .then_some(())
    });
    running.kill();
    let run = latest(&place);
    place.run(&["undo", &run, "--confirm"]).expect(0);
    assert_eq!(both(&place), before);
    refused(&place.run(&["resume", &run]).expect(2), "is over: undone");
}

/// Parcels into a table of DynamoDB that holds some of them already, beside items of others.
fn dynamodb(mode: &str) -> Place {
    let place = Place::new();
    fill(&place, "data/parcels.pg", &parcels::sql(ROWS, 40));
    parcels::write(&place);
    place.run(&["run", "parcels.yaml", "--env", "demo", "--create"]).expect(0);
    // Other contents, other attributes, and fewer of them.
    let spec = parcels::SPEC
        .replace("limits:", "undo: true\nlimits:")
        .replace("mode: skip_existing", &format!("mode: {mode}"))
        .replace("kind, title, details", "kind, upper(title) AS title, 'new' AS note, CASE WHEN weight % 2 = 0 THEN details END AS details");
    place.write("parcels.yaml", &spec);
    fill(
        &place,
        "data/parcels.pg",
        "DELETE FROM parcels WHERE id % 3 = 0; INSERT INTO parcels SELECT 100000 + k, 1, 'sent', 'later ' || k, 1, '{\"a\": 1.10}' FROM generate_series(1, 100) k; ANALYZE",
    );
    place
}

fn run_on(place: &Place, more: &[&str]) -> Ended {
    place.run(&[&["run", "parcels.yaml", "--env", "demo", "--json"], more].concat())
}

#[test]
fn items_of_dynamodb_are_as_they_were() {
    for mode in ["upsert", "changed", "skip_existing"] {
        let place = dynamodb(mode);
        let before = parcels::items(&place);
        let ran = run_on(&place, &[]).expect(0).json();
        let counts = &ran["flows"]["parcels"];
        assert_eq!(counts["created"], 100, "before-images tell what is new: {ran}");
        let after = parcels::items(&place);
        assert_eq!(after.len(), before.len() + 100);
        let run = latest(&place);
        let undone = place.run(&["undo", &run, "--confirm", "--json"]).expect(0).json();
        assert_eq!(undone["tables"][0]["removed"], 100, "{mode}: {undone}");
        assert_eq!(undone["tables"][0]["restored"] == 0, mode == "skip_existing", "{mode}: {undone}");
        crate::items::assert_same(&parcels::items(&place), &before);
        assert_eq!(run_on(&place, &[]).expect(0).json()["flows"]["parcels"]["created"], 100);
        crate::items::assert_same(&parcels::items(&place), &after);
    }
}

#[test]
fn items_that_others_have_written_since_are_named() {
    let place = dynamodb("upsert");
    let before = parcels::items(&place);
    run_on(&place, &[]).expect(0);
    let first = latest(&place);
    // A later run that cannot be undone itself is one of the others.
    let spec = std::fs::read_to_string(place.path("parcels.yaml")).expect("the spec");
    place.write(
        "later.yaml",
        &spec
            .replace("migration: parcels", "migration: later")
            .replace("undo: true\n", "")
            .replace("kind <> 'draft'", "kind <> 'draft' AND id > 100098")
            .replace("'new' AS note", "'newer' AS note"),
    );
    place.run(&["run", "later.yaml", "--env", "demo", "--only", "parcels"]).expect(0);
    let held = parcels::items(&place);
    let ended = place.run(&["undo", &first, "--confirm", "--json"]).expect(1);
    refused(&ended, "the run is not undone: others have written to records of it since");
    let told = ended.json();
    let mut keys: Vec<&str> = told["tables"][0]["conflicting"]
        .as_array()
        .expect("keys")
        .iter()
        .map(|key| key["sk"].as_str().expect("text"))
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["PARCEL#100099", "PARCEL#100100"], "{told}");
    crate::items::assert_same(&parcels::items(&place), &held);
    assert_ne!(held, before);
}

#[test]
fn a_killed_run_into_dynamodb_is_undone() {
    let place = dynamodb("upsert");
    fill(
        &place,
        "data/parcels.pg",
        "INSERT INTO parcels SELECT 200000 + k, 1 + k % 40, 'sent', 'much ' || k, 1, NULL FROM generate_series(1, 15000) k; ANALYZE",
    );
    let before = parcels::items(&place);
    for resumes in [false, true] {
        let running = place.start(&["run", "parcels.yaml", "--env", "demo", "--new"]);
        crate::place::until("a run writes", || {
            let status = place.run(&["status", "--json"]);
            let (state, totals) = (status.json()["state"].clone(), status.json()["totals"].clone());
            (state == "running" && totals["created"].as_u64().unwrap_or(0) > 500).then_some(())
        });
        running.kill();
        let run = latest(&place);
        if resumes {
            place.run(&["resume", &run]).expect(0);
            // Undoing is killed as well, and goes on.
            let running = place.start(&["undo", &run, "--confirm"]);
            crate::place::until("the undoing begins", || {
                (place.run(&["status", "--json"]).json()["state"] == "undoing").then_some(())
            });
            running.kill();
            refused(&run_on(&place, &[]).expect(2), "is undone only in part");
            refused(&place.run(&["resume", &run]).expect(2), "is over: undoing");
        }
        place.run(&["undo", &run, "--confirm"]).expect(0);
        crate::items::assert_same(&parcels::items(&place), &before);
    }
}

#[test]
fn the_retries_of_a_run_are_undone_with_it() {
    let place = place("upsert");
    fill(
        &place,
        "data/target.pg",
        "ALTER TABLE parcels ADD CHECK (id <> 50) NOT VALID, ADD CHECK (id <> 300)",
    );
    let before = both(&place);
    place.run(&["run", "move.yaml"]).expect(3);
    let run = latest(&place);
    fill(
        &place,
        "data/target.pg",
        "ALTER TABLE parcels DROP CONSTRAINT parcels_id_check, DROP CONSTRAINT parcels_id_check1",
    );
    place.run(&["retry", &run]).expect(0);
    assert_eq!(asked(&place, "SELECT count(*)::int AS n FROM parcels"), "603");
    let undone = place.run(&["undo", &run, "--confirm", "--json"]).expect(0).json();
    assert_eq!(undone["runs"].as_array().map(Vec::len), Some(2), "{undone}");
    assert_eq!(both(&place), before);
}

#[test]
fn a_plan_shows_what_before_images_cost() {
    let place = dynamodb("upsert");
    let plan = place.run(&["plan", "parcels.yaml", "--env", "demo"]).expect(0);
    assert!(
        plan.out.contains("before-images are kept in the run's folder before each write"),
        "{}",
        plan.out
    );
}
