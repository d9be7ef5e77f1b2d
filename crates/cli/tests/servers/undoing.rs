//! `undo` on real servers: what a run has written over or deleted comes back, table by table.

use super::Live;
use crate::items::{self, Items};
use serde_json::{Value, json};

const PARCELS: u64 = 900;

const SPEC: &str = r#"
migration: back
undo: true
variables: { table: parcels }
stores:
  pg: { postgres: "${env:DATABASE_URL}" }
  ddb: { dynamodb: { endpoint: "${env:AWS_ENDPOINT_URL_DYNAMODB:-}", region: us-east-1, tables: { "${table}": { file: parcels.json } } } }
flows:
  senders:
    from: { store: pg, table: senders }
    into: { store: pg, table: moved.senders, key: id, mode: changed, delete_missing: true }
  parcels:
    after: [senders]
    from: { store: pg, table: parcels }
    into: { store: pg, table: moved.parcels, key: id, mode: changed, delete_missing: true }
  items:
    from: { store: pg, table: parcels }
    transform: |
      SELECT 'SENDER#' || sender AS pk, 'PARCEL#' || id AS sk, kind, title, details FROM input
    into: { store: ddb, table: "${table}", key: [pk, sk], MODE }
"#;

const DELETING: &str = "mode: changed, delete_missing: true";

/// What both targets hold: the rows as text, the items.
fn held(live: &Live) -> (Vec<Vec<Option<String>>>, Items) {
    let sql =
        "SELECT s.*::text FROM moved.senders s UNION ALL SELECT p.*::text FROM moved.parcels p ORDER BY 1";
    (live.database.rows(sql), live.tables.items("items"))
}

/// Targets that hold a part of the source, some of it changed, and more.
fn live() -> Option<Live> {
    let live = Live::with_parcels(PARCELS, 40)?;
    live.place.write("back.yaml", &SPEC.replace("MODE", DELETING));
    let table = format!("table={}", live.tables.name("items"));
    live.database.script(
        "CREATE SCHEMA moved;
         CREATE TABLE moved.senders (id bigint PRIMARY KEY, name text NOT NULL, joined_at timestamptz NOT NULL, note text);
         CREATE TABLE moved.parcels (id bigint PRIMARY KEY, sender bigint NOT NULL REFERENCES moved.senders, kind text NOT NULL,
           title text NOT NULL, weight bigint NOT NULL, details jsonb, mark text DEFAULT 'mark');",
    );
    live.run(&["run", "back.yaml", "--create", "--confirm", "--set", &table]).expect(0);
    live.database.script(
        "INSERT INTO moved.senders SELECT k, 'goes', now(), E'a\\tb' FROM generate_series(100, 110) k;
         INSERT INTO moved.parcels SELECT 5000 + k, 100 + k % 10, 'old', 'goes', k, '{\"n\": 1.10}', NULL FROM generate_series(1, 300) k;
         UPDATE moved.parcels SET sender = 105, title = 'old' WHERE id % 4 = 0;
         DELETE FROM parcels WHERE id % 5 = 0; UPDATE parcels SET title = title || ' new' WHERE id % 7 = 0;
         INSERT INTO parcels SELECT 10000 + k, 1, 'sent', 'later', 1, NULL FROM generate_series(1, 50) k",
    );
    Some(live)
}

fn run(live: &Live, more: &[&str], code: i32) -> Value {
    let table = format!("table={}", live.tables.name("items"));
    let run = ["run", "back.yaml", "--confirm", "--json", "--new", "--set", &table];
    live.run(&[&run, more].concat()).expect(code).json()
}

fn undo(live: &Live, ran: &Value) -> Value {
    let run = ran["run"].as_str().expect("a run");
    live.run(&["undo", run, "--confirm", "--json"]).expect(0).json()
}

#[test]
fn what_was_written_over_and_deleted_comes_back() {
    let Some(live) = live() else { return };
    let before = held(&live);
    let ran = run(&live, &[], 0);
    assert_eq!(ran["deletions"]["parcels"], json!({"deleted": 300 + PARCELS / 5, "left": 0}), "{ran}");
    assert_eq!(ran["deletions"]["senders"], json!({"deleted": 11, "left": 0}), "{ran}");
    assert_eq!(ran["deletions"]["items"], json!({"deleted": PARCELS / 5, "left": 0}), "{ran}");
    let undone = undo(&live, &ran);
    let after = held(&live);
    assert_eq!(after.0, before.0, "{undone}");
    items::assert_same(&after.1, &before.1);
    assert_eq!(undone["tables"][0]["removed"], 50, "{undone}");
}

#[test]
fn a_run_killed_while_it_deletes_is_undone() {
    let Some(live) = live() else { return };
    live.database.script(
        "INSERT INTO moved.parcels SELECT 100000 + k, 100 + k % 10, 'old', 'goes', k, NULL FROM generate_series(1, 40000) k",
    );
    let before = held(&live);
    let table = format!("table={}", live.tables.name("items"));
    let running = live.start(&["run", "back.yaml", "--confirm", "--new", "--set", &table]);
    let run = crate::place::until("it deletes", || {
        let runs = crate::place::folders(&live.place.path(".whimbrel/runs")).into_iter();
        let mut deleting = runs.filter(|run| run.join("fingerprints/parcels.missing").exists());
        deleting.next()
    });
    running.kill();
    let run = run.file_name().expect("a name").to_string_lossy().into_owned();
    live.run(&["undo", &run, "--confirm"]).expect(0);
    let after = held(&live);
    assert_eq!(after.0, before.0);
    items::assert_same(&after.1, &before.1);
}

#[test]
fn updates_and_whole_items_are_as_they_were() {
    let Some(live) = live() else { return };
    live.place.write("back.yaml", &SPEC.replace("MODE", "mode: update"));
    let before = held(&live);
    // What is not there is not updated: 50 parcels are new.
    let ran = run(&live, &["--only", "items"], 3);
    assert_eq!(ran["flows"]["items"]["rejected"], 50, "{ran}");
    assert_ne!(held(&live).1, before.1);
    let undone = undo(&live, &ran);
    assert_eq!(undone["tables"][0]["restored"], ran["flows"]["items"]["updated"], "{undone}");
    items::assert_same(&held(&live).1, &before.1);
    live.place.write(
        "back.yaml",
        r#"
migration: back
undo: true
variables: { table: parcels }
stores:
  ddb: { dynamodb: { endpoint: "${env:AWS_ENDPOINT_URL_DYNAMODB:-}", region: us-east-1, tables: { "${table}-2": { file: parcels.json } } } }
flows:
  all:
    from: { store: ddb, table: "${table}" }
    transform: "SELECT pk, sk, 'moved' AS state, TITLE _item FROM input"
    into: { store: ddb, table: "${table}-2", key: [pk, sk], mode: upsert }
"#,
    );
    let spec = std::fs::read_to_string(live.place.path("back.yaml")).expect("the spec");
    live.place.write(
        "back.yaml",
        &spec.replace("TITLE", "upper(title) AS title,").replace("migration: back", "migration: first"),
    );
    run(&live, &["--create"], 0);
    let before = live.tables.items("items-2");
    live.place.write("back.yaml", &spec.replace("TITLE", ""));
    let ran = run(&live, &[], 0);
    assert_ne!(live.tables.items("items-2"), before);
    let undone = undo(&live, &ran);
    assert_eq!(undone["tables"][0]["restored"], ran["flows"]["all"]["updated"], "{undone}");
    items::assert_same(&live.tables.items("items-2"), &before);
}

#[test]
fn values_that_were_handed_on_are_handed_back() {
    let Some(live) = Live::with_parcels(10, 2) else { return };
    live.place.write(
        "back.yaml",
        "migration: back\nundo: true\nstores: { pg: { postgres: \"${env:DATABASE_URL}\" } }\nflows:\n  desks:\n    \
         from: { store: pg, table: desks }\n    into: { store: pg, table: moved.desks, key: id, mode: upsert }\n",
    );
    let table = "(id int PRIMARY KEY, holder text UNIQUE)";
    // Each desk takes the holder of the one before it, which has just given it away.
    live.database.script(&format!(
        "CREATE SCHEMA moved; CREATE TABLE desks {table}; CREATE TABLE moved.desks {table};
         INSERT INTO desks VALUES (1, 'new'), (2, 'a'), (3, 'b'), (4, 'd');
         INSERT INTO moved.desks VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    ));
    let holders = || live.database.rows("SELECT string_agg(holder, ',' ORDER BY id) FROM moved.desks");
    let ran = live.run(&["run", "back.yaml", "--json"]).expect(0).json();
    assert_eq!(holders(), [[Some("new,a,b,d".to_owned())]]);
    undo(&live, &ran);
    assert_eq!(holders(), [[Some("a,b,c".to_owned())]]);
}
