//! Capacity of a provisioned table: raised while a run goes on, and put back, also after a kill.

use crate::parcels::{self, fill};
use crate::place::{Place, until};
use dynoxide::Database;
use dynoxide::actions::describe_table::DescribeTableRequest;
use serde_json::{Value, json};

const TABLE: &str = r#"{
  "TableName": "parcels", "BillingMode": "PROVISIONED",
  "ProvisionedThroughput": { "ReadCapacityUnits": 5, "WriteCapacityUnits": 400 },
  "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }, { "AttributeName": "sk", "AttributeType": "S" }],
  "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }, { "AttributeName": "sk", "KeyType": "RANGE" }]
}"#;

fn place(parcels: u64) -> Place {
    let place = Place::new();
    fill(&place, "data/parcels.pg", &parcels::sql(parcels, 40));
    place.write("parcels.json", TABLE);
    let spec = parcels::SPEC
        .replace("region: us-east-1,", "region: us-east-1, capacity: { during_run: { write: 1000 } },");
    place.write("parcels.yaml", &spec);
    place
}

/// Read and write units of the table.
fn capacity(place: &Place) -> Value {
    let path = place.path("data/parcels.dynamodb");
    let database = Database::new(path.to_str().expect("the path is UTF-8")).expect("the database opens");
    let request = DescribeTableRequest { table_name: "parcels".to_owned() };
    let answer = serde_json::to_value(database.describe_table(request).expect("an answer")).expect("JSON");
    let units = |of: &Value| {
        let of = &of["ProvisionedThroughput"];
        json!([of["ReadCapacityUnits"], of["WriteCapacityUnits"]])
    };
    units(&answer["Table"])
}

#[test]
fn it_is_raised_for_a_run_and_put_back() {
    let place = place(200);
    let ran = place.run(&["run", "parcels.yaml", "--env", "demo", "--create", "--log", "text"]).expect(0);
    assert!(
        ran.err.contains("capacity raised")
            && ran.err.contains("5 read, 1000 write in place of 5 read, 400 write"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("capacity put back"), "{}", ran.err);
    assert_eq!(capacity(&place), json!([5, 400]));
    // A run that ends early puts it back as well.
    place.run(&["run", "parcels.yaml", "--env", "demo", "--max-cost", "0.00001"]).expect(5);
    assert_eq!(capacity(&place), json!([5, 400]));
}

#[test]
fn what_a_killed_run_has_raised_is_put_back_by_the_next() {
    let place = place(15_000);
    let killed = |more: &[&str]| {
        let running = place.start(&[&["run", "parcels.yaml", "--env", "demo"], more].concat());
        until("a run writes", || {
            let status = place.run(&["status", "--json"]);
            let status = (status.code == Some(0)).then(|| status.json())?;
            (status["state"] == "running" && status["totals"]["created"].as_u64().unwrap_or(0) > 200)
                .then_some(())
        });
        running.kill();
    };
    killed(&["--create"]);
    assert_eq!(capacity(&place), json!([5, 1000]));
    let status = place.run(&["status"]).expect(0);
    assert!(
        status.out.contains("capacity is still raised: table parcels: 5 read, 1000 write"),
        "{}",
        status.out
    );
    assert!(status.out.contains("`whimbrel resume` puts it back"), "{}", status.out);
    // Killed twice: what it was first is what counts.
    killed(&["--new"]);
    let resumed = place.run(&["resume", "--max-cost", "0.00001", "--json"]).expect(5);
    assert_eq!(capacity(&place), json!([5, 400]));
    // What was on its way when it was killed nobody has counted, and the bill says so.
    assert_eq!(resumed.json()["cost_usd"]["at_least"], true, "{}", resumed.out);
    assert!(!place.run(&["status"]).expect(0).out.contains("still raised"));
}
