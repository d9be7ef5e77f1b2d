//! The migrations that come with whimbrel, from PostgreSQL into DynamoDB.

use super::Live;
use crate::faults::Server;
use crate::items::{self, Items};
use crate::place::{Ended, Place, Shipped};
use serde_json::Value;
use std::process::Command;

/// Runs a migration, and everything that looks at a run; then compares each count with the source and each item with
/// what another DynamoDB got.
fn arrives(
    name: &str,
    table: &str,
    surroundings: impl Fn(&Live, &mut Command),
    elsewhere: impl FnOnce(&Live) -> Items,
) {
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
        run(&["run", &spec, "--env", "live", "--create", "--verify=all", "--json", "--set", &table_name])
            .expect(0)
            .json();
    assert_eq!(summary["outcome"], "complete");
    assert_eq!(summary["rejects"]["count"], 0);
    assert_eq!(summary["verify"]["outcome"], "equal");
    let total = assert_counts_of_source(&live, &summary);

    let found = live.tables.items(table);
    assert_eq!(found.len() as u64, total);
    items::assert_same(&found, &elsewhere(&live));

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
fn ratel_arrives_as_in_the_embedded_dynamodb() {
    let embedded = |live: &Live| {
        let server = Server::start();
        let spec = Shipped::named("ratel").spec();
        let run = ["run", &spec, "--env", "live", "--create", "--quiet", "--journal", "elsewhere"];
        let running = live.place.start_with(&run, |command| {
            live.surroundings(command);
            command.env("AWS_ENDPOINT_URL_DYNAMODB", server.endpoint());
        });
        running.wait().expect(0);
        items::of(&server.database, "ratel-local")
    };
    arrives("ratel", "ratel-local", |_, _| {}, embedded);
}

#[test]
fn cello_arrives_as_in_the_demo() {
    let surroundings = |live: &Live, command: &mut Command| {
        command.env("PGHOST", live.database.address()).env("PGDATABASE", live.database.name());
        command.env("PGUSER", "postgres").env("PGPASSWORD", "is not asked for");
    };
    let demo = |_: &Live| {
        let place = Place::new();
        place.run(&["demo", "cello", "--quiet"]).expect(0);
        items::in_file(&place.path("data/cello.dynamodb"), "cello")
    };
    arrives("cello", "cello", surroundings, demo);
}

#[test]
fn cello_arrives_by_its_file_too_and_old_times_are_repaired() {
    let Some(live) = Live::new() else { return };
    let cello = Shipped::named("cello");
    live.database.script(&cello.script());
    let run = |spec: &str, environment: &str, more: &[&str]| {
        let spec = cello.file(spec);
        let arguments = [&["run", &spec, "--env", environment, "--verify", "--json"], more].concat();
        let running = live.place.start_with(&arguments, |command| {
            live.surroundings(command);
            command.env("PGHOST", live.database.address()).env("PGDATABASE", live.database.name());
            command.env("PGUSER", "postgres").env("PGPASSWORD", "is not asked for");
        });
        running.wait().expect(0).json()
    };
    let table = |table: &str| format!("table={}", live.tables.name(table));
    run("dump.yaml", "live", &[]);
    let loaded = run("load.yaml", "live", &["--create", "--set", &table("loaded")]);
    assert_eq!(
        (&loaded["totals"]["created"], &loaded["verify"]["outcome"]),
        (&6_300.into(), &"equal".into())
    );
    run("cello.yaml", "live", &["--create", "--set", &table("direct")]);
    let expected = live.tables.items("direct");
    items::assert_same(&live.tables.items("loaded"), &expected);

    let url = format!("database={}", live.database.url());
    let endpoint = format!("endpoint={}", live.tables.endpoint);
    for (old, spec) in [("old", "repair.yaml"), ("older", "repair-from-dump.yaml")] {
        let set = ["--set", &url, "--set", &endpoint, "--set", &table(old)];
        run("sample.yaml", "demo", &[&["--create"][..], &set].concat());
        let from = format!("dynamodb://{}?endpoint={}", live.tables.name(old), live.tables.endpoint);
        let copied = live.run(&["copy", &from, "dump.json", "--mode", "upsert", "--quiet"]);
        copied.expect(0);
        let file: &[&str] = if old == "older" { &["--set", "file=dump.json"] } else { &[] };
        // The table is the demo's, and an environment keeps its hands off another's.
        let repaired = run(spec, "demo", &[&["--set", &endpoint, "--set", &table(old)][..], file].concat());
        assert_eq!(repaired["totals"]["read"], 6_300);
        assert_eq!(repaired["totals"]["rejected"], 0);
        assert!(repaired["totals"]["updated"].as_u64() > Some(3_000), "{repaired}");
        items::assert_same(&live.tables.items(old), &expected);
    }
}
