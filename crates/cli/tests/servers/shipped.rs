//! The migrations that come with whimbrel, from PostgreSQL into DynamoDB.

use super::Live;
use crate::items;
use crate::place::{Ended, Place, Shipped};
use serde_json::Value;
use std::process::Command;

/// Runs a migration, and everything that looks at a run; then compares each count with the source and each item with
/// that of the embedded demo.
fn arrives_as_in_the_demo(name: &str, table: &str, surroundings: impl Fn(&Live, &mut Command)) {
    let Some(live) = Live::new() else { return };
    let shipped = Shipped::named(name);
    live.database.script(&shipped.script());
    let spec = shipped.spec();
    let table_name = format!("table={}", live.tables.name(table));
    let run = |arguments: &[&str]| -> Ended {
        let environment = |command: &mut Command| {
            live.surroundings(command);
            surroundings(&live, command);
        };
        live.place.start_with(arguments, environment).wait()
    };
    run(&["check", &spec, "--env", "live", "--set", &table_name]).expect(0);
    let summary =
        run(&["run", &spec, "--env", "live", "--create", "--verify=count", "--json", "--set", &table_name])
            .expect(0)
            .json();
    assert_eq!(summary["outcome"], "complete");
    assert_eq!(summary["rejects"]["count"], 0);
    assert_eq!(summary["verify"]["outcome"], "equal");
    let total = assert_counts_of_source(&live, &summary);

    let found = live.tables.items(table);
    assert_eq!(found.len() as u64, total);
    let demo = Place::new();
    demo.run(&["demo", name, "--quiet"]).expect(0);
    items::assert_same(&found, &items::in_file(&demo.path(&format!("data/{name}.dynamodb")), table));

    let id = summary["run"].as_str().expect("the run's name");
    let status = run(&["status", "--json"]).expect(0).json();
    assert_eq!((&status["run"], &status["state"]), (&summary["run"], &Value::from("complete")));
    assert_eq!(status["totals"]["created"], total);
    assert!(run(&["list"]).expect(0).out.contains(&id[..8]), "the run is listed");
    let over = run(&["resume"]).expect(2);
    over.one_error();
    let nothing = run(&["retry", id]).expect(2);
    nothing.one_error();
}

/// Each flow has the name of its source's table. The total is the answer.
#[track_caller]
fn assert_counts_of_source(live: &Live, summary: &Value) -> u64 {
    let flows = summary["flows"].as_object().expect("flows");
    let mut total = 0;
    for (flow, counts) in flows {
        let rows = live.database.number(&format!("SELECT count(*) FROM {flow}"));
        assert_eq!((&counts["read"], &counts["created"]), (&Value::from(rows), &Value::from(rows)), "{flow}");
        total += rows;
    }
    assert!(total > 0);
    assert_eq!((&summary["totals"]["read"], &summary["totals"]["created"]), (&total.into(), &total.into()));
    total
}

#[test]
fn ratel() {
    arrives_as_in_the_demo("ratel", "ratel-local", |_, _| {});
}

#[test]
fn cello() {
    arrives_as_in_the_demo("cello", "cello", |live, command| {
        let url = live.database.url();
        let name = url.rsplit_once('/').expect("a database").1.trim_end_matches('?');
        command.env("PGHOST", live.database.address()).env("PGDATABASE", name);
        command.env("PGUSER", "postgres").env("PGPASSWORD", "is not asked for");
    });
}
