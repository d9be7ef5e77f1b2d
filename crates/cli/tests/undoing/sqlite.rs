//! A SQLite file is as it was.

use super::{latest, refused};
use crate::place::{Place, until};
use rusqlite::Connection;
use rusqlite::types::Value as Stored;
use serde_json::json;

const SPEC: &str = r#"
migration: shop
undo: true
stores:
  from: { sqlite: source.db }
  to: { sqlite: target.db }
flows:
  makers:
    from: { store: from, table: makers }
    into: { store: to, table: makers, key: id, mode: MODE }
  things:
    after: [makers]
    from: { store: from, table: things }
    into: { store: to, table: things, key: [maker, number], mode: MODE }
"#;

const SOURCE: &str = "
CREATE TABLE makers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, founded DATE);
CREATE TABLE things (maker INT NOT NULL REFERENCES makers, number INT NOT NULL, title TEXT, weight REAL, picture BLOB, PRIMARY KEY (maker, number));
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
  INSERT INTO makers SELECT i, 'maker ' || i, date('2000-01-01', i || ' days') FROM n;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)
  INSERT INTO things SELECT 1 + i % 20, i, 'thing ' || i, i / 7.0, CASE WHEN i % 3 = 0 THEN NULL ELSE zeroblob(i % 5) END FROM n;";

/// Some of it with other contents, columns of its own, values of every class, and what the source does not have.
const TARGET: &str = "
CREATE TABLE makers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, founded DATE, note, length INT GENERATED ALWAYS AS (length(name)));
CREATE TABLE things (maker INT NOT NULL REFERENCES makers, number INT NOT NULL, title TEXT UNIQUE, weight REAL, picture BLOB, mark DEFAULT 'none',
  PRIMARY KEY (maker, number)) WITHOUT ROWID;
INSERT INTO makers (id, name, founded, note) VALUES (1, 'old', NULL, NULL), (2, 'old', '1999', x'00ff'), (3, 'ü', NULL, -0.5),
  (4, 'old', NULL, CAST(x'ff' AS TEXT)), (50, 'goes', NULL, ''), (51, 'goes', NULL, 9223372036854775807);
INSERT INTO things VALUES (2, 1, 'old 1', 0.1, x'', 'mine'), (3, 2, NULL, 1e300, NULL, NULL), (51, 99, 'goes', -0.0, x'01', 1),
  (50, 3, 'goes, too', 2, NULL, 2.5);";

fn open(place: &Place, name: &str, script: &str) -> Connection {
    let connection = Connection::open(place.path(name)).expect("a file");
    connection.execute_batch(script).expect("the script runs");
    connection
}

fn place(mode: &str) -> Place {
    let place = Place::new();
    open(&place, "source.db", SOURCE);
    open(&place, "target.db", TARGET);
    place.write("shop.yaml", &SPEC.replace("MODE", mode));
    place
}

/// Every value of both tables with its class.
fn held(place: &Place) -> Vec<Vec<Stored>> {
    let connection = open(place, "target.db", "");
    let mut all = Vec::new();
    for (table, columns) in [("makers", 5), ("things", 6)] {
        let mut statement =
            connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).expect("a table");
        let row = |row: &rusqlite::Row<'_>| {
            let value = |at: usize| match row.get_ref(at)? {
                // Text that is none, too.
                rusqlite::types::ValueRef::Text(bytes) => Ok(Stored::Text(format!("{bytes:?}"))),
                other => Ok(Stored::from(other)),
            };
            (0..columns).map(value).collect::<rusqlite::Result<Vec<_>>>()
        };
        all.extend(statement.query_map([], row).expect("rows").map(|row| row.expect("a row")));
    }
    all
}

#[test]
fn rows_of_a_file_are_as_they_were() {
    for (mode, restored, deleted) in [
        ("upsert", 2, 0),
        ("changed", 2, 0),
        ("skip_existing", 0, 0),
        ("changed, delete_missing: true", 4, 2),
    ] {
        let place = place(mode);
        let before = held(&place);
        let plan = place.run(&["plan", "shop.yaml"]).expect(0);
        assert!(plan.out.contains("are kept in whimbrel_before_image"), "{}", plan.out);
        let ran = place.run(&["run", "shop.yaml", "--confirm", "--json"]).expect(0).json();
        assert_eq!(ran["flows"]["things"]["created"], 598, "{ran}");
        let after = held(&place);
        assert_ne!(after, before);
        if deleted > 0 {
            assert_eq!(ran["deletions"]["things"], json!({"deleted": deleted, "left": 0}), "{ran}");
        }
        let run = latest(&place);
        let undone = place.run(&["undo", &run, "--confirm", "--json"]).expect(0).json();
        let counts = (&undone["tables"][0]["restored"], &undone["tables"][0]["removed"]);
        assert_eq!(counts, (&json!(restored), &json!(598)), "{mode}: {undone}");
        assert_eq!(held(&place), before, "{mode}");
        refused(&place.run(&["undo", &run, "--confirm"]).expect(2), "was undone before");
        place.run(&["run", "shop.yaml", "--confirm"]).expect(0);
        assert_eq!(held(&place), after, "{mode}");
    }
}

#[test]
fn what_others_have_written_since_is_named_and_nothing_is_undone() {
    let place = place("changed, delete_missing: true");
    let before = held(&place);
    place.run(&["run", "shop.yaml", "--confirm"]).expect(0);
    let run = latest(&place);
    open(
        &place,
        "target.db",
        "UPDATE things SET mark = 'newer' WHERE number IN (1, 300); INSERT INTO makers (id, name) VALUES (50, 'theirs')",
    );
    let after = held(&place);
    let ended = place.run(&["undo", &run, "--confirm", "--json"]).expect(1);
    refused(&ended, "others have written to records of it since");
    let told = ended.json();
    let mut keys: Vec<_> = told["tables"][0]["conflicting"].as_array().expect("keys").clone();
    keys.sort_by_key(|key| key["number"].as_i64());
    assert_eq!(keys, [json!({"maker": 2, "number": 1}), json!({"maker": 1, "number": 300})]);
    assert_eq!(told["tables"][1]["conflicting"], json!([{"id": 50}]));
    assert_eq!(held(&place), after, "nothing was changed");
    open(
        &place,
        "target.db",
        "UPDATE things SET mark = 'mine' WHERE number = 1; UPDATE things SET mark = 'none' WHERE number = 300; DELETE FROM makers WHERE id = 50",
    );
    place.run(&["undo", &run, "--confirm"]).expect(0);
    assert_eq!(held(&place), before);
}

#[test]
fn tables_that_a_run_made_are_removed_and_empty_ones_emptied() {
    let place = place("upsert");
    std::fs::remove_file(place.path("target.db")).expect("the file can be removed");
    open(
        &place,
        "target.db",
        "CREATE TABLE makers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, founded DATE, note)",
    );
    place.run(&["run", "shop.yaml", "--create"]).expect(0);
    let run = latest(&place);
    open(&place, "target.db", "UPDATE makers SET name = 'newer' WHERE id = 7");
    let ended = place.run(&["undo", &run, "--confirm", "--json"]).expect(1);
    let suspects = ended.json()["tables"][1]["conflicting"].clone();
    assert!(suspects.as_array().expect("keys").contains(&json!({"id": 7})), "{suspects}");
    open(&place, "target.db", "UPDATE makers SET name = 'maker 7' WHERE id = 7");
    let undone = place.run(&["undo", &run, "--confirm"]).expect(0);
    assert!(undone.out.contains("to: things: removed, with 600 records"), "{}", undone.out);
    assert!(undone.out.contains("to: makers: 20 records deleted"), "{}", undone.out);
    let connection = open(&place, "target.db", "");
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    assert_eq!(count("SELECT count(*) FROM makers"), 0);
    assert_eq!(count("SELECT count(*) FROM sqlite_schema WHERE name = 'things'"), 0);
    drop(connection);
    place.run(&["run", "shop.yaml", "--create"]).expect(0);
}

#[test]
fn a_killed_run_into_a_file_is_undone() {
    let place = place("changed, delete_missing: true");
    open(
        &place,
        "source.db",
        "WITH RECURSIVE n (i) AS (SELECT 10001 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
         INSERT INTO things SELECT 1 + i % 20, i, 'thing ' || i, 1, NULL FROM n",
    );
    let before = held(&place);
    let running = place.start(&["run", "shop.yaml", "--confirm", "--batch-size", "500"]);
    until("a run writes", || {
        let status = place.run(&["status", "--json"]);
        (status.code == Some(0) && status.json()["totals"]["created"].as_u64().unwrap_or(0) > 2_000)
            .then_some(())
    });
    running.kill();
    let run = latest(&place);
    place.run(&["undo", &run, "--confirm"]).expect(0);
    assert_eq!(held(&place), before);
}

#[test]
fn what_a_deletion_would_take_along_is_not_deleted() {
    let place = place("changed, delete_missing: true");
    open(&place, "target.db", "CREATE TABLE labels (maker INT REFERENCES makers ON DELETE SET NULL)");
    let before = held(&place);
    refused(
        &place.run(&["run", "shop.yaml", "--confirm"]).expect(2),
        "where `delete_missing` deletes a record, a foreign key changes rows of labels with it",
    );
    assert_eq!(held(&place), before);
}

#[test]
fn values_that_were_handed_on_are_handed_back_in_the_other_order() {
    let place = Place::new();
    let table = "CREATE TABLE desks (id INTEGER PRIMARY KEY, holder TEXT UNIQUE);";
    // Each desk takes the holder of the one before it, which has just given it away.
    open(&place, "source.db", &format!("{table} INSERT INTO desks VALUES (1, 'new'), (2, 'a'), (3, 'b')"));
    open(&place, "target.db", &format!("{table} INSERT INTO desks VALUES (1, 'a'), (2, 'b'), (3, 'c')"));
    let spec = "migration: office\nundo: true\nstores:\n  from: { sqlite: source.db }\n  to: { sqlite: target.db }\n\
                flows:\n  desks:\n    from: { store: from, table: desks }\n    \
                into: { store: to, table: desks, key: id, mode: upsert }\n";
    place.write("office.yaml", spec);
    let holders = || {
        let connection = open(&place, "target.db", "");
        let all = "SELECT group_concat(holder) FROM (SELECT holder FROM desks ORDER BY id)";
        connection.query_row(all, [], |row| row.get::<_, String>(0)).expect("a text")
    };
    place.run(&["run", "office.yaml"]).expect(0);
    assert_eq!(holders(), "new,a,b");
    let run = latest(&place);
    place.run(&["undo", &run, "--confirm"]).expect(0);
    assert_eq!(holders(), "a,b,c");
}
