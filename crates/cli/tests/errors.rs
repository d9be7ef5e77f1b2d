//! What a user sees when something is wrong, word by word: one error, why, what to do next.

use crate::parcels;
use crate::place::{Ended, Place};
use crate::redaction::redacted;
use insta::assert_snapshot;

/// A spec without a source that could be opened.
fn place() -> Place {
    let place = Place::new();
    place.write("parcels.yaml", parcels::SPEC);
    place.write("parcels.json", parcels::TABLE);
    place
}

/// Standard error, which holds one error and must be as the snapshot of this name has it.
#[track_caller]
pub fn assert_error(name: &str, ended: &Ended) {
    ended.one_error();
    assert_eq!(ended.out, "", "nothing on standard output");
    redacted(|| assert_snapshot!(name, ended.err));
}

/// A port that nothing listens on.
pub fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

fn with_database(place: &Place, url: &str) -> Ended {
    let source = format!("source={url}");
    place.run(&["run", "parcels.yaml", "--env", "demo", "--create", "--set", &source])
}

#[test]
fn an_unset_database_names_the_demo() {
    let place = place();
    let ended = place.run(&["run", "parcels.yaml"]).expect(2);
    assert_error("an_unset_database_names_the_demo", &ended);
}

#[test]
fn no_such_host() {
    let place = place();
    let ended = with_database(&place, "postgres://ann@no-such-host.invalid/db").expect(1);
    ended.one_error();
    assert!(ended.err.contains("no-such-host.invalid") && ended.err.contains("hint: "), "{}", ended.err);
}

#[test]
fn connection_refused() {
    let place = place();
    let url = format!("postgres://ann@127.0.0.1:{}/db?sslmode=disable", closed_port());
    let ended = with_database(&place, &url).expect(1);
    assert_error("connection_refused", &ended);
}

#[test]
fn a_wrong_password() {
    let Ok(url) = std::env::var("WHIMBREL_TEST_POSTGRES_URL") else {
        return println!("skipped: WHIMBREL_TEST_POSTGRES_URL names no server");
    };
    let place = place();
    let separator = if url.contains('?') { '&' } else { '?' };
    let ended = with_database(&place, &format!("{url}{separator}user=nobody-knows-me&password=wr0ng-s3cret"));
    let ended = ended.expect(1);
    ended.one_error();
    assert!(ended.err.contains("hint: ") && !ended.err.contains("wr0ng-s3cret"), "{}", ended.err);
}

#[test]
fn a_table_that_the_source_does_not_have() {
    let place = parcels::place();
    place.write("parcels.yaml", &parcels::SPEC.replace("{ table: senders }", "{ table: sender }"));
    let ended = place.run(&["run", "parcels.yaml", "--env", "demo", "--create"]);
    assert!(matches!(ended.code, Some(1 | 2)));
    assert_error("a_table_that_the_source_does_not_have", &ended);
}

#[test]
fn a_column_that_the_source_does_not_have() {
    let place = parcels::place();
    place.write("parcels.yaml", &parcels::SPEC.replace("name, joined_at FROM", "nmae, joined_at FROM"));
    let ended = place.run(&["plan", "parcels.yaml", "--env", "demo"]).expect(2);
    assert_error("a_column_that_the_source_does_not_have", &ended);
}

#[test]
fn a_target_table_that_is_missing() {
    let place = parcels::place();
    let ended = place.run(&["run", "parcels.yaml", "--env", "demo"]);
    assert!(matches!(ended.code, Some(1 | 2)));
    assert_error("a_target_table_that_is_missing", &ended);
    // What the hint says works.
    place.run(&["run", "parcels.yaml", "--env", "demo", "--create"]).expect(3);
}

#[test]
fn dynamodb_is_not_there() {
    let place = parcels::place();
    let items = format!("items=http://127.0.0.1:{}", closed_port());
    let run = ["run", "parcels.yaml", "--env", "demo", "--create", "--set", &items];
    let environment = |command: &mut std::process::Command| {
        command.env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "nothing");
    };
    let ended = place.start_with(&run, environment).wait().expect(1);
    ended.one_error();
    assert!(ended.err.contains("store `ddb`") && ended.err.contains("hint: "), "{}", ended.err);
}

#[test]
fn no_aws_credentials() {
    let place = parcels::place();
    let ended = place.run(&["run", "parcels.yaml", "--env", "demo", "--create", "--set", "items="]).expect(1);
    assert_error("no_aws_credentials", &ended);
}

#[test]
fn runs_that_are_not_there() {
    let place = place();
    assert_error("no_journal", &place.run(&["status"]).expect(2));
    assert_error("no_journal_to_resume", &place.run(&["resume"]).expect(2));
    let place = Place::new();
    place.run(&["demo", "cello", "--quiet"]).expect(0);
    assert_error("nothing_to_resume", &place.run(&["resume"]).expect(2));
    assert_error("no_such_run", &place.run(&["status", "0000ffff"]).expect(2));
    let retry = place.run(&["retry", "0000ffff"]).expect(2);
    assert_error("no_such_run_to_retry", &retry);
}

#[test]
fn wrong_usage() {
    let place = place();
    let usages: &[&[&str]] = &[
        &["rnu", "parcels.yaml"],
        &["run"],
        &["run", "parcels.yaml", "--parallel", "0"],
        &["run", "parcels.yaml", "--memory", "12"],
        &["run", "parcels.yaml", "--set", "digits"],
        &["demo", "jello"],
        &["retry"],
    ];
    for usage in usages {
        let ended = place.run(usage).expect(2);
        ended.one_error();
        assert_eq!(ended.out, "");
    }
    assert_error("wrong_usage", &place.run(usages[0]));
}

#[test]
fn a_wrong_spec() {
    let place = place();
    assert_error("no_such_file", &place.run(&["run", "parcel.yaml"]).expect(2));
    let ended = place.run(&["run", "parcels.yaml", "--env", "prod"]).expect(2);
    assert_error("no_such_environment", &ended);
    let ended = place.run(&["run", "parcels.yaml", "--env", "demo", "--set", "digit=5"]).expect(2);
    assert_error("no_such_variable", &ended);
    let ended = place.run(&["run", "parcels.yaml", "--env", "demo", "--only", "parcel"]).expect(2);
    assert_error("no_such_flow", &ended);
    place.write("parcels.yaml", &parcels::SPEC.replace("checks:", "cheks:"));
    let ended = place.run(&["check", "parcels.yaml", "--env", "demo"]).expect(2);
    assert_error("a_key_misspelt", &ended);
    place.write("parcels.yaml", &parcels::SPEC.replace("dynamodb: {", "dynamo: {"));
    let ended = place.run(&["check", "parcels.yaml", "--env", "demo"]).expect(2);
    assert_error("no_such_kind_of_store", &ended);
}

#[test]
fn a_key_of_a_column_that_no_record_has() {
    for target in ["postgres: \"embedded:t.pg\"", "sqlite: t.db"] {
        let place = Place::new();
        place.write("in.csv", "id,name\n1,a\n");
        place.write(
            "m.yaml",
            &format!(
                "migration: m\nstores: {{ disk: {{ files: . }}, t: {{ {target} }} }}\n\
                 flows: {{ f: {{ from: {{ store: disk, path: in.csv }}, into: {{ store: t, table: people, key: [nmae] }} }} }}\n"
            ),
        );
        for command in [&["plan", "m.yaml"][..], &["run", "m.yaml", "--create"]] {
            let refused = place.run(command).expect(2);
            refused.one_error();
            assert!(
                refused.err.contains("nmae") && refused.err.contains("`name`"),
                "{target}: {}",
                refused.err
            );
            assert!(!refused.err.contains("CREATE TABLE"), "{}", refused.err);
        }
    }
}
