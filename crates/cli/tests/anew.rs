//! `run --clean`: the tables that whimbrel made are made anew, and no others.

use crate::parcels::{self, fill};
use crate::place::{Ended, Place};

/// Two tables of PostgreSQL, one referring to the other, beside one that nobody asked for.
const MOVE: &str = r#"
migration: move
stores:
  from: { postgres: "embedded:data/source.pg" }
  to: { postgres: "embedded:data/target.pg" }
flows:
  senders:
    from: { store: from, table: senders }
    into: { store: to, table: senders, key: id, mode: upsert }
  parcels:
    after: [senders]
    from: { store: from, table: parcels }
    into: { store: to, table: parcels, key: id, mode: upsert }
"#;

fn postgres() -> Place {
    let place = Place::new();
    fill(&place, "data/source.pg", &parcels::sql(60, 20));
    fill(&place, "data/target.pg", "SELECT 1");
    place.write("move.yaml", MOVE);
    place
}

/// One value out of the target.
#[track_caller]
fn asked(place: &Place, sql: &str) -> String {
    let answer = place.run(&["query", "move.yaml", "--store", "to", sql, "--json"]).expect(0);
    let row: serde_json::Value = serde_json::from_str(answer.out.trim()).expect("a row");
    row["n"].to_string()
}

#[track_caller]
fn refused(ended: &Ended, why: &str) {
    ended.one_error();
    assert!(ended.err.contains(why), "{}", ended.err);
}

#[test]
fn tables_of_postgresql_are_made_anew() {
    let place = postgres();
    place.run(&["run", "move.yaml", "--create"]).expect(0);
    fill(
        &place,
        "data/target.pg",
        "INSERT INTO senders VALUES (-1, 'stray', now()); CREATE TABLE mine AS SELECT 1 AS n",
    );
    let count = "SELECT count(*)::int AS n FROM senders";
    assert_eq!(asked(&place, count), "21");
    refused(
        &place.run(&["run", "move.yaml", "--clean"]).expect(2),
        "removing tables in migration `move` has to be confirmed",
    );
    assert_eq!(asked(&place, count), "21", "nothing is removed unconfirmed");
    let ended = place.run(&["run", "move.yaml", "--clean", "--confirm", "--verify", "--json"]).expect(0);
    assert!(ended.err.contains("to: senders removed, to be made anew"), "{}", ended.err);
    assert_eq!(ended.json()["flows"]["parcels"]["created"], 60, "all is written again");
    assert_eq!(asked(&place, count), "20", "the stray is gone");
    assert_eq!(asked(&place, "SELECT n FROM mine"), "1", "what is not whimbrel's stays");
}

#[test]
fn a_table_that_whimbrel_did_not_make_keeps_all_from_being_removed() {
    let place = postgres();
    fill(&place, "data/target.pg", "CREATE TABLE parcels (id bigint PRIMARY KEY, sender bigint, kind text, title text, weight bigint, details jsonb);
         INSERT INTO parcels (id) VALUES (-1)");
    place.run(&["run", "move.yaml", "--create"]).expect(0);
    let ended = place.run(&["run", "move.yaml", "--clean", "--confirm"]).expect(2);
    refused(&ended, "table `parcels` is not made anew: whimbrel did not make it");
    assert_eq!(asked(&place, "SELECT count(*)::int AS n FROM senders"), "20", "the other table stays, too");
    assert_eq!(asked(&place, "SELECT count(*)::int AS n FROM parcels"), "61");
    place.run(&["create", "move.yaml", "--adopt", "--confirm"]).expect(0);
    place.run(&["run", "move.yaml", "--clean", "--confirm"]).expect(0);
    assert_eq!(asked(&place, "SELECT count(*)::int AS n FROM parcels"), "60");
}

#[test]
fn tables_of_dynamodb_are_made_anew() {
    let place = Place::new();
    parcels::write(&place);
    fill(&place, "data/parcels.pg", &parcels::sql(60, 40));
    let run =
        |more: &[&str]| place.run(&[&["run", "parcels.yaml", "--env", "demo", "--json"], more].concat());
    run(&["--create"]).expect(0);
    let before = parcels::items(&place);
    fill(&place, "data/parcels.pg", "DELETE FROM senders WHERE id > 30");
    let ended = run(&["--clean", "--confirm", "--only", "senders"]).expect(2);
    refused(&ended, "flow `parcels`, which is not chosen, is written into it, too");
    let ended = run(&["--clean", "--confirm"]).expect(0);
    assert_eq!(ended.json()["totals"]["updated"], 0, "{}", ended.out);
    assert_eq!(ended.json()["flows"]["senders"]["created"], 30);
    let after = parcels::items(&place);
    assert_eq!(before.len() - after.len(), 10, "what the source no longer has is gone");
}

#[test]
fn an_unfinished_run_is_set_aside() {
    let place = Place::new();
    parcels::write(&place);
    fill(&place, "data/parcels.pg", &parcels::sql(60, 40));
    let run =
        |more: &[&str]| place.run(&[&["run", "parcels.yaml", "--env", "demo", "--json"], more].concat());
    run(&["--create", "--max-cost", "0.00001"]).expect(5);
    let ended = run(&["--clean", "--confirm"]).expect(0);
    assert_eq!(ended.json()["flows"]["senders"]["created"], 40, "{}", ended.out);
    assert_eq!(place.run(&["resume"]).expect(2).code, Some(2), "nothing is left to go on with");
}

#[test]
fn a_backup_that_cannot_be_made_is_in_the_way() {
    let place = postgres();
    let ended = place.run(&["run", "move.yaml", "--create", "--backup"]).expect(2);
    refused(&ended, "--backup: no store of this run keeps backups: `from`, `to`");
    assert!(ended.err.contains("pg_dump"), "{}", ended.err);
    assert_eq!(asked(&place, "SELECT (to_regclass('senders') IS NULL)::int AS n"), "1", "nothing was made");

    let place = Place::new();
    parcels::write(&place);
    fill(&place, "data/parcels.pg", &parcels::sql(60, 40));
    let run = |more: &[&str]| place.run(&[&["run", "parcels.yaml", "--env", "demo"], more].concat());
    run(&["--create"]).expect(0);
    let before = parcels::items(&place);
    let ended = run(&["--backup", "--clean", "--confirm"]).expect(1);
    refused(&ended, "cannot back up table \"parcels\"");
    assert!(ended.err.contains("servers on this machine keep no backups"), "{}", ended.err);
    assert_eq!(parcels::items(&place), before, "nothing was removed");
}
