//! Updates of single attributes, and items that are written whole.

use super::{dynamodb, latest, refused, run_on};
use crate::items::{self, Items};
use crate::parcels;
use crate::place::{Place, until};
use dynoxide::actions::update_item::UpdateItemRequest;
use dynoxide::{Database, ImportOptions};
use serde_json::{Value, json};

#[test]
fn attributes_that_a_run_set_are_as_they_were() {
    let place = dynamodb("update");
    let before = parcels::items(&place);
    let plan = place.run(&["plan", "parcels.yaml", "--env", "demo"]).expect(0);
    assert!(plan.out.contains("before-images are kept in the run's folder"), "{}", plan.out);
    // What is not there is not updated.
    let ran = run_on(&place, &["--only", "parcels"]).expect(3).json();
    let counts = &ran["flows"]["parcels"];
    assert_eq!((&counts["rejected"], &counts["created"]), (&json!(100), &json!(0)), "{ran}");
    let updated = counts["updated"].as_u64().expect("a count");
    assert!(updated > 300, "{ran}");
    let after = parcels::items(&place);
    assert_ne!(after, before);
    let run = latest(&place);
    let undone = place.run(&["undo", &run, "--confirm", "--json"]).expect(0).json();
    assert_eq!(
        (&undone["tables"][0]["restored"], &undone["tables"][0]["removed"]),
        (&json!(updated), &json!(0))
    );
    items::assert_same(&parcels::items(&place), &before);
    run_on(&place, &["--only", "parcels"]).expect(3);
    items::assert_same(&parcels::items(&place), &after);
}

#[test]
fn an_attribute_that_others_have_set_since_is_named() {
    let place = dynamodb("update");
    run_on(&place, &["--only", "parcels"]).expect(3);
    let run = latest(&place);
    let path = place.path("data/parcels.dynamodb");
    {
        let database = Database::new(path.to_str().expect("UTF-8")).expect("the database opens");
        let request: UpdateItemRequest = serde_json::from_value(json!({
            "TableName": "parcels", "Key": {"pk": {"S": "SENDER#2"}, "sk": {"S": "PARCEL#1"}},
            "UpdateExpression": "SET seen = :s", "ExpressionAttributeValues": {":s": {"BOOL": true}}}))
        .expect("a request");
        database.update_item(request).expect("an answer");
    }
    let held = parcels::items(&place);
    let ended = place.run(&["undo", &run, "--confirm", "--json"]).expect(1);
    refused(&ended, "others have written to records of it since");
    assert_eq!(ended.json()["tables"][0]["conflicting"], json!([{"pk": "SENDER#2", "sk": "PARCEL#1"}]));
    items::assert_same(&parcels::items(&place), &held);
}

#[test]
fn a_killed_update_is_undone() {
    let place = dynamodb("update");
    let before = parcels::items(&place);
    let running =
        place.start(&["run", "parcels.yaml", "--env", "demo", "--only", "parcels", "--batch-size", "20"]);
    until("a run writes", || {
        let status = place.run(&["status", "--json"]);
        (status.code == Some(0) && status.json()["totals"]["updated"].as_u64().unwrap_or(0) > 50)
            .then_some(())
    });
    running.kill();
    place.run(&["undo", &latest(&place), "--confirm"]).expect(0);
    items::assert_same(&parcels::items(&place), &before);
}

const WHOLE: &str = r#"
migration: whole
undo: true
stores:
  ddb: { dynamodb: { endpoint: "embedded:data/whole.dynamodb", region: us-east-1 } }
flows:
  all:
    from: { store: ddb, table: source }
    transform: SELECT pk, sk, 'moved' AS state, _item FROM input
    into: { store: ddb, table: target, key: [pk, sk], mode: upsert }
"#;

fn make(place: &Place, table: &str, items: Vec<Value>) {
    let path = place.path("data/whole.dynamodb");
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
    let database = Database::new(path.to_str().expect("UTF-8")).expect("the database opens");
    let mut definition: Value = serde_json::from_str(parcels::TABLE).expect("a definition");
    definition["TableName"] = table.into();
    database
        .create_table(serde_json::from_value(definition).expect("a table"))
        .expect("the table can be made");
    let items = items.into_iter().map(|item| serde_json::from_value(item).expect("an item")).collect();
    database.import_items(table, items, ImportOptions::default()).expect("the items can be written");
}

fn held(place: &Place) -> Items {
    items::in_file(&place.path("data/whole.dynamodb"), "target")
}

#[test]
fn items_that_were_written_whole_are_as_they_were() {
    let item = |number: u32, more: Value| {
        let mut item =
            json!({"pk": {"S": format!("P{:02}", number % 7)}, "sk": {"S": format!("{number:04}")}});
        item.as_object_mut().expect("an item").extend(more.as_object().expect("attributes").clone());
        item
    };
    let new = |number: u32| match number % 4 {
        0 => json!({"n": {"N": number.to_string()}, "tags": {"SS": ["a", "b"]}}),
        1 => {
            json!({"m": {"M": {"deep": {"L": [{"NULL": true}, {"B": "AP8="}]}}}, "state": {"S": "of the source"}})
        }
        2 => json!({"a.b": {"S": "a name with a dot"}, "it's \"so\"": {"BOOL": true}}),
        _ => (0..120)
            .map(|at| (format!("attribute{at}"), json!({"N": at.to_string()})))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    };
    let old = |number: u32| match number % 3 {
        0 => json!({"n": {"S": "another type"}, "state": {"NULL": true}, "gone": {"NS": ["1", "2"]}}),
        1 => json!({"m": {"M": {}}, "old one": {"S": ""}}),
        _ => json!({}),
    };
    let place = Place::new();
    make(&place, "source", (0..300).map(|number| item(number, new(number))).collect());
    make(&place, "target", (200..400).map(|number| item(number, old(number))).collect());
    place.write("whole.yaml", WHOLE);
    let before = held(&place);
    let plan = place.run(&["plan", "whole.yaml"]).expect(0);
    assert!(plan.out.contains("before-images are kept in the run's folder"), "{}", plan.out);
    let ran = place.run(&["run", "whole.yaml", "--json"]).expect(0).json();
    let counts = &ran["flows"]["all"];
    assert_eq!((&counts["created"], &counts["updated"]), (&json!(200), &json!(100)), "{ran}");
    let after = held(&place);
    let mut expected = before.clone();
    for number in 0..300 {
        let mut item = item(number, new(number));
        item["state"] = json!({"S": "moved"});
        expected.remove(&(
            item["pk"]["S"].as_str().expect("text").to_owned(),
            item["sk"]["S"].as_str().expect("text").to_owned(),
        ));
        items::put(&mut expected, item);
    }
    items::assert_same(&after, &expected);
    let run = latest(&place);
    let undone = place.run(&["undo", &run, "--confirm", "--json"]).expect(0).json();
    assert_eq!(
        (&undone["tables"][0]["restored"], &undone["tables"][0]["removed"]),
        (&json!(100), &json!(200))
    );
    items::assert_same(&held(&place), &before);
    // Once more, with nothing to be written at the end.
    place.run(&["run", "whole.yaml"]).expect(0);
    let again = place.run(&["run", "whole.yaml", "--json"]).expect(0).json();
    assert_eq!(again["flows"]["all"]["unchanged"], 300, "{again}");
    items::assert_same(&held(&place), &after);
}
