//! Items of DynamoDB out and in, whole: whatever only some of them have, and whatever type it has.

use crate::items::{self, Items};
use crate::place::Place;
use dynoxide::{Database, ImportOptions};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// More than a copy looks at to learn what items have.
const ITEMS: u64 = 2_200;
const FROM: &str = "dynamodb://source?endpoint=embedded:data/a.dynamodb";

/// Items of many kinds; what the last ones have, no other has.
fn all() -> Vec<Value> {
    let mut items: Vec<Value> = (0..ITEMS)
        .map(|number| {
            let mut item =
                json!({"pk": {"S": format!("P{:02}", number % 40)}, "sk": {"S": format!("{number:05}")}});
            item[format!("kind{}", number % 7)] = json!({"N": number.to_string()});
            item
        })
        .collect();
    items.push(json!({"pk": {"S": "zz"}, "sk": {"S": "everything"},
        "text": {"S": "ü\u{0}\"\n"}, "empty": {"S": ""}, "null": {"NULL": true}, "no": {"BOOL": false},
        "digits": {"N": "12345678901234567890123456789012345678"}, "bytes": {"B": "AP8="},
        "texts": {"SS": ["a", "b"]}, "numbers": {"NS": ["1.5", "2"]}, "blobs": {"BS": ["AP8=", "AQ=="]},
        "map": {"M": {"texts": {"SS": ["x"]}, "deep": {"L": [{"B": "AQ=="}, {"NS": ["7"]}, {"M": {}}, {"L": []}]}}},
        "kind0": {"S": "another type than everywhere else"}}));
    items
}

fn place() -> Place {
    let place = Place::new();
    make(&place, "data/a.dynamodb", "source", "S", all());
    place
}

fn make(place: &Place, file: &str, table: &str, sort: &str, items: Vec<Value>) {
    let path = place.path(file);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
    let database = Database::new(path.to_str().expect("the path is UTF-8")).expect("the database opens");
    let key = |name, role| json!({"AttributeName": name, "KeyType": role});
    let attribute = |name, kind| json!({"AttributeName": name, "AttributeType": kind});
    let definition = json!({
        "TableName": table, "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [key("pk", "HASH"), key("sk", "RANGE")],
        "AttributeDefinitions": [attribute("pk", "S"), attribute("sk", sort)],
    });
    database
        .create_table(serde_json::from_value(definition).expect("a table"))
        .expect("the table can be made");
    let items = items.into_iter().map(|item| serde_json::from_value(item).expect("an item")).collect();
    database.import_items(table, items, ImportOptions::default()).expect("the items can be written");
}

fn held(place: &Place, table: &str) -> Items {
    items::in_file(&place.path("data/a.dynamodb"), table)
}

fn target(table: &str) -> String {
    format!("dynamodb://{table}?endpoint=embedded:data/a.dynamodb")
}

#[test]
fn items_come_back_value_for_value() {
    let place = place();
    let source = held(&place, "source");
    assert_eq!(source.len() as u64, ITEMS + 1);
    for file in ["items.dynamodb.json", "packed.dynamodb.json.gz"] {
        let out = place.run(&["copy", FROM, file, "--json", "--verify"]).expect(0);
        assert!(out.err.contains("every item whole"), "{}", out.err);
        assert_eq!(out.json()["verify"]["outcome"], "equal");
        let table = file.split('.').next().expect("a name");
        let back =
            place.run(&["copy", file, &target(table), "--key", "pk,sk", "--json", "--verify"]).expect(0);
        assert!(back.err.contains("each attribute with its type"), "{}", back.err);
        assert_eq!(back.json()["totals"]["created"], ITEMS + 1);
        assert_eq!(back.json()["verify"]["outcome"], "equal");
        items::assert_same(&held(&place, table), &source);
    }
    place.run(&["copy", FROM, &target("twin"), "--verify"]).expect(0);
    items::assert_same(&held(&place, "twin"), &source);
}

#[test]
fn plain_json_has_every_attribute_and_loads_again() {
    let place = place();
    let out = place.run(&["copy", FROM, "dump.json", "--verify"]).expect(0);
    assert!(out.err.contains("sets become arrays") && out.err.contains(".dynamodb.json"), "{}", out.err);
    let text = std::fs::read_to_string(place.path("dump.json")).expect("the dump");
    let dump: Vec<Value> = serde_json::from_str(&text).expect("an array");
    assert_eq!(dump.len() as u64, ITEMS + 1);
    assert!(text.contains(r#""digits":12345678901234567890123456789012345678"#), "no digit is lost");
    let last = dump.iter().find(|item| item["pk"] == "zz").expect("the last item");
    let mut last = last.clone();
    last.as_object_mut().expect("an object").remove("digits");
    let expected = json!({"pk": "zz", "sk": "everything", "text": "ü\u{0}\"\n", "empty": "", "null": null, "no": false,
        "bytes": "AP8=", "texts": ["a", "b"], "numbers": [1.5, 2], "blobs": ["AP8=", "AQ=="],
        "map": {"texts": ["x"], "deep": ["AQ==", [7], {}, []]}, "kind0": "another type than everywhere else"});
    assert_eq!(last, expected);

    // What a person would call the same: types of JSON, not of DynamoDB, but nothing is missing.
    let back = place
        .run(&["copy", "dump.json", &target("loaded"), "--key", "pk,sk", "--json", "--verify"])
        .expect(0);
    assert_eq!(back.json()["totals"]["created"], ITEMS + 1);
    let (loaded, source) = (held(&place, "loaded"), held(&place, "source"));
    assert_eq!(loaded.keys().collect::<BTreeSet<_>>(), source.keys().collect::<BTreeSet<_>>());
    for (key, item) in &source {
        let names =
            |item: &Value| item.as_object().expect("an item").keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&loaded[key]), names(item));
    }
    let everything = &loaded[&("zz".to_owned(), "everything".to_owned())];
    assert_eq!(everything["digits"], json!({"N": "12345678901234567890123456789012345678"}));
    assert_eq!(everything["texts"], json!({"L": [{"S": "a"}, {"S": "b"}]}));
    assert_eq!(everything["null"], json!({"NULL": true}));
    assert_eq!(
        loaded[&("P00".to_owned(), "00000".to_owned())],
        source[&("P00".to_owned(), "00000".to_owned())]
    );

    // From file to file, nothing is lost either.
    place.run(&["copy", "dump.json", "lines.ndjson.zst"]).expect(0);
    place.run(&["copy", "lines.ndjson.zst", "again.json"]).expect(0);
    let again = std::fs::read_to_string(place.path("again.json")).expect("the dump");
    let again: Vec<Value> = serde_json::from_str(&again).expect("an array");
    assert_eq!(again, dump);
}

#[test]
fn where_mode_and_keys_of_whole_items() {
    let place = place();
    let copied = place
        .run(&["copy", FROM, "some.json", "--where", "kind1 > 1000 AND pk <> 'P05'", "--json"])
        .expect(0);
    let read = copied.json()["totals"]["read"].as_u64().expect("a number");
    let text = std::fs::read_to_string(place.path("some.json")).expect("the dump");
    let dump: Vec<Value> = serde_json::from_str(&text).expect("an array");
    assert_eq!(dump.len() as u64, read);
    assert!(!dump.is_empty());
    assert!(dump.iter().all(|item| item["kind1"].as_u64() > Some(1000) && item["pk"] != "P05"));

    // A table that is there has its own key, and its types: here the sort key is a number.
    make(&place, "data/a.dynamodb", "numbered", "N", Vec::new());
    place.write("numbered.json", r#"[{"pk": "a", "sk": 1, "x": [1]}, {"pk": "a", "sk": 2.50}, {"pk": "a"}]"#);
    let copied = place.run(&["copy", "numbered.json", &target("numbered"), "--json"]).expect(3).json();
    assert_eq!((&copied["totals"]["created"], &copied["totals"]["rejected"]), (&json!(2), &json!(1)));
    let again = ["copy", "numbered.json", &target("numbered"), "--json", "--mode", "skip_existing"];
    let again = place.run(&again).expect(3).json();
    assert_eq!((&again["totals"]["skipped"], &again["totals"]["rejected"]), (&json!(2), &json!(1)));
    let limited = ["copy", FROM, &target("limited"), "--limit", "5", "--json"];
    assert_eq!(place.run(&limited).json()["totals"]["created"], 5);

    let keyless = place.run(&["copy", "numbered.json", &target("other")]).expect(2);
    keyless.one_error();
    assert!(keyless.err.contains("--key pk,sk"), "{}", keyless.err);
    let unknown = place.run(&["copy", "numbered.json", &target("other"), "--key", "nope"]).expect(3);
    assert!(unknown.err.contains("nope"), "{}", unknown.err);
}

#[test]
fn the_printed_spec_of_whole_items_runs() {
    let place = place();
    let printed = place.run(&["copy", FROM, &target("twin"), "--spec"]).expect(0);
    insta::assert_snapshot!(printed.out);
    place.write("twin.yaml", &printed.out);
    let run = place.run(&["run", "twin.yaml", "--create", "--verify", "--json"]).expect(0).json();
    assert_eq!((&run["totals"]["created"], &run["verify"]["outcome"]), (&json!(ITEMS + 1), &json!("equal")));
    items::assert_same(&held(&place, "twin"), &held(&place, "source"));
    let printed = place.run(&["copy", FROM, "dump.json", "--spec"]).expect(0);
    assert!(printed.out.contains("plain_json(_item) AS _item"), "{}", printed.out);
}
