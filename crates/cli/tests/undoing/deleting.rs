//! What `delete_missing` has deleted comes back.

use super::{ROWS, asked, both, latest, refused};
use crate::items::Items;
use crate::parcels::{self, fill};
use crate::place::{Place, until};
use dynoxide::Database;
use dynoxide::actions::put_item::PutItemRequest;
use serde_json::{Value, json};

/// Both tables are made what their sources are.
fn spec() -> String {
    super::spec("changed").replace("mode: changed", "mode: changed, delete_missing: true")
}

/// As in the tests beside, with senders that the source does not have, and parcels of theirs.
fn place() -> Place {
    let place = super::place("changed");
    fill(
        &place,
        "data/target.pg",
        "INSERT INTO senders (id, name, joined_at, note)
         SELECT k, E'gone, \"quoted\" \\\\ ' || k, '2020-01-01', 'note ' || k FROM generate_series(50, 60) k;
         INSERT INTO parcels SELECT 9100 + k, 50 + k % 10, 'old', 'of a sender who goes', 1.50, NULL FROM generate_series(0, 400) k;
         UPDATE parcels SET sender = 60 WHERE id <= 20;
         ANALYZE",
    );
    place.write("move.yaml", &spec());
    place
}

#[test]
fn rows_that_a_run_deleted_come_back() {
    let place = place();
    let before = both(&place);
    let plan = place.run(&["plan", "move.yaml"]).expect(0);
    assert!(plan.out.contains("what is deleted is kept before it is deleted"), "{}", plan.out);
    let ran = place.run(&["run", "move.yaml", "--confirm", "--json"]).expect(0).json();
    // Children go before their parents: nothing is left because something refers to it.
    assert_eq!(ran["deletions"]["parcels"], json!({"deleted": 404, "left": 0}), "{ran}");
    assert_eq!(ran["deletions"]["senders"], json!({"deleted": 11, "left": 0}), "{ran}");
    assert_eq!(asked(&place, "SELECT count(*)::int AS n FROM parcels"), ROWS.to_string());
    let run = latest(&place);
    let undone = place.run(&["undo", &run, "--confirm", "--json"]).expect(0).json();
    assert_eq!(both(&place), before, "{undone}");
    assert_eq!(
        (&undone["tables"][0]["restored"], &undone["tables"][1]["restored"]),
        (&json!(504), &json!(21)),
        "{undone}"
    );
    let told = place.run(&["report", &run, "--json"]).expect(0).out;
    let told: Value = serde_json::from_str(&told).expect("a receipt");
    assert_eq!(told["outcome"], "undone", "{told}");
    assert_eq!(told["run"]["undone"]["tables"][0]["restored"], 504);
    let deleted =
        told["run"]["flows"].as_array().expect("flows").iter().map(|flow| &flow["deletions"]["deleted"]);
    assert_eq!(deleted.collect::<Vec<_>>(), [&json!(11), &json!(404)]);
    let page = place.run(&["report", &run]).expect(0).out;
    assert!(page.contains("## Undone") && page.contains("| parcels | 404 | 0 |"), "{page}");
    // The next run begins as if there had been none.
    let again = place.run(&["run", "move.yaml", "--confirm", "--json"]).expect(0).json();
    assert_eq!(again["deletions"]["parcels"]["deleted"], 404);
}

#[test]
fn what_others_have_put_in_the_place_of_a_deleted_row_stays() {
    let place = place();
    place.run(&["run", "move.yaml", "--confirm"]).expect(0);
    let run = latest(&place);
    fill(&place, "data/target.pg", "INSERT INTO parcels SELECT 9003, 1, 'theirs', 'newer', 1");
    let after = both(&place);
    let ended = place.run(&["undo", &run, "--confirm", "--json"]).expect(1);
    refused(&ended, "others have written to records of it since");
    assert_eq!(ended.json()["tables"][0]["conflicting"], json!([{"id": "9003"}]));
    assert_eq!(both(&place), after, "nothing was changed");
    fill(&place, "data/target.pg", "DELETE FROM parcels WHERE id = 9003");
    place.run(&["undo", &run, "--confirm"]).expect(0);
    assert_eq!(asked(&place, "SELECT title AS n FROM parcels WHERE id = 9003"), "\"not of the source\"");
}

#[test]
fn a_row_that_a_trigger_alters_as_it_comes_back_is_as_it_was() {
    let place = place();
    fill(
        &place,
        "data/target.pg",
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := 'stamped'; RETURN NEW; END $$;
         CREATE TRIGGER stamp BEFORE INSERT ON senders FOR EACH ROW EXECUTE FUNCTION stamp()",
    );
    let before = both(&place);
    place.run(&["run", "move.yaml", "--confirm"]).expect(0);
    let run = latest(&place);
    place.run(&["undo", &run, "--confirm"]).expect(0);
    assert_eq!(both(&place), before);
}

#[test]
fn what_a_deletion_would_take_along_is_not_deleted() {
    let place = place();
    fill(
        &place,
        "data/target.pg",
        "CREATE TABLE labels (parcel bigint REFERENCES parcels ON DELETE CASCADE); INSERT INTO labels VALUES (9001)",
    );
    let before = both(&place);
    let plan = place.run(&["plan", "move.yaml"]).expect(0);
    let why = "where `delete_missing` deletes a record, the foreign key labels_parcel_fkey deletes rows of labels with it";
    assert!(plan.out.contains(why), "{}", plan.out);
    refused(&place.run(&["run", "move.yaml", "--confirm"]).expect(2), why);
    assert_eq!(both(&place), before, "nothing was written");
}

#[test]
fn a_run_that_only_deleted_is_not_undone_without_images() {
    let place = place();
    place.run(&["run", "move.yaml", "--confirm"]).expect(0);
    fill(&place, "data/target.pg", "INSERT INTO parcels SELECT 9003, 1, 'old', 'goes', 1");
    place.write("move.yaml", &spec().replace("undo: true", "undo: false"));
    let ran = place.run(&["run", "move.yaml", "--confirm", "--json"]).expect(0).json();
    assert_eq!((&ran["totals"]["updated"], &ran["deletions"]["parcels"]["deleted"]), (&json!(0), &json!(1)));
    refused(
        &place.run(&["undo", &latest(&place), "--confirm"]).expect(2),
        "kept no before-images, and the table `parcels` held records before it",
    );
}

const ITEMS: &str = r#"
migration: parcels
undo: true
stores:
  pg: { postgres: "embedded:data/parcels.pg" }
  ddb: { dynamodb: { endpoint: "embedded:data/parcels.dynamodb", region: us-east-1, tables: { parcels: { file: parcels.json } } } }
flows:
  parcels:
    from: { store: pg, table: parcels }
    transform: |
      SELECT 'SENDER#' || sender AS pk, 'PARCEL#' || id AS sk, kind, title, details FROM input
    into: { store: ddb, table: parcels, key: [pk, sk], mode: changed, delete_missing: true }
"#;

/// Items of so many parcels, of which the source then has fewer, some changed, and some new.
fn items(parcels: u64) -> Place {
    let place = Place::new();
    fill(&place, "data/parcels.pg", &parcels::sql(parcels, 40));
    parcels::write(&place);
    place.write("parcels.yaml", ITEMS);
    place.run(&["run", "parcels.yaml", "--create", "--confirm"]).expect(0);
    // Attributes that the flow does not write.
    put(
        &place,
        json!({"pk": {"S": "SENDER#1"}, "sk": {"S": "PARCEL#BY HAND"}, "all": {"L": [{"NULL": true}, {"BS": ["AP8="]}]}}),
    );
    put(&place, json!({"pk": {"S": "SENDER#2"}, "sk": {"S": "PARCEL#BARE"}}));
    fill(
        &place,
        "data/parcels.pg",
        "DELETE FROM parcels WHERE id % 3 = 0; UPDATE parcels SET title = 'new' WHERE id % 5 = 0;
         INSERT INTO parcels SELECT 100000 + k, 1, 'sent', 'later ' || k, 1, NULL FROM generate_series(1, 100) k; ANALYZE",
    );
    place
}

/// Puts an item into the target, as somebody else would.
fn put(place: &Place, item: Value) {
    let path = place.path("data/parcels.dynamodb");
    let database = Database::new(path.to_str().expect("the path is UTF-8")).expect("the database opens");
    let item = serde_json::from_value(item).expect("an item");
    let request = PutItemRequest { table_name: "parcels".to_owned(), item, ..PutItemRequest::default() };
    database.put_item(request).expect("an answer");
}

fn held(place: &Place) -> Items {
    parcels::items(place)
}

#[test]
fn items_that_a_run_deleted_come_back() {
    let place = items(ROWS);
    let before = held(&place);
    let ran = place.run(&["run", "parcels.yaml", "--confirm", "--json"]).expect(0).json();
    assert_eq!(ran["deletions"]["parcels"], json!({"deleted": ROWS / 3 + 2, "left": 0}), "{ran}");
    let after = held(&place);
    let run = latest(&place);
    // Somebody puts something where an item was deleted.
    put(&place, json!({"pk": {"S": "SENDER#2"}, "sk": {"S": "PARCEL#BARE"}, "theirs": {"BOOL": true}}));
    let taken = held(&place);
    let ended = place.run(&["undo", &run, "--confirm", "--json"]).expect(1);
    refused(&ended, "others have written to records of it since");
    assert_eq!(ended.json()["tables"][0]["conflicting"], json!([{"pk": "SENDER#2", "sk": "PARCEL#BARE"}]));
    crate::items::assert_same(&held(&place), &taken);
    put(&place, json!({"pk": {"S": "SENDER#2"}, "sk": {"S": "PARCEL#BARE"}}));
    let undone = place.run(&["undo", &run, "--confirm", "--json"]).expect(0).json();
    crate::items::assert_same(&held(&place), &before);
    assert_eq!(undone["tables"][0]["removed"], 100, "{undone}");
    place.run(&["run", "parcels.yaml", "--confirm"]).expect(0);
    crate::items::assert_same(&held(&place), &after);
}

#[test]
fn a_run_killed_while_it_deletes_is_undone() {
    let place = items(6_000);
    let before = held(&place);
    for resumes in [false, true] {
        let running = place.start(&["run", "parcels.yaml", "--confirm", "--new"]);
        let run = until("it deletes", || {
            let runs = crate::place::folders(&place.path(".whimbrel/runs")).into_iter();
            let mut deleting = runs.filter(|run| run.join("fingerprints/parcels.missing").exists());
            deleting.next()
        });
        running.kill();
        let run = run.file_name().expect("a name").to_string_lossy().into_owned();
        if resumes {
            place.run(&["resume", &run]).expect(0);
            let running = place.start(&["undo", &run, "--confirm"]);
            until("the undoing begins", || {
                (place.run(&["status", "--json"]).json()["state"] == "undoing").then_some(())
            });
            running.kill();
        }
        place.run(&["undo", &run, "--confirm"]).expect(0);
        crate::items::assert_same(&held(&place), &before);
        // What is left of a run that did not come to its end is in nobody's way.
        std::fs::remove_dir_all(place.path(".whimbrel/runs").join(&run).join("fingerprints")).ok();
    }
}

#[test]
fn rows_of_a_run_killed_while_it_deletes_come_back() {
    let place = place();
    fill(
        &place,
        "data/target.pg",
        "INSERT INTO parcels SELECT k, 50 + k % 10, 'old', 'much', 1.50, NULL FROM generate_series(100001, 120000) k; ANALYZE",
    );
    let before = both(&place);
    let running = place.start(&["run", "move.yaml", "--confirm"]);
    let run = until("it deletes", || {
        let runs = crate::place::folders(&place.path(".whimbrel/runs")).into_iter();
        let mut deleting = runs.filter(|run| run.join("fingerprints/parcels.missing").exists());
        deleting.next()
    });
    running.kill();
    let run = run.file_name().expect("a name").to_string_lossy().into_owned();
    place.run(&["undo", &run, "--confirm"]).expect(0);
    assert_eq!(both(&place), before);
}
