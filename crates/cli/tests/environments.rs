//! What one environment owns, a run of another does not touch; what is protected wants its name.

use crate::parcels;
use crate::place::{Ended, Place};
use serde_json::Value;

/// Three environments: `dev` points at a store of its own, and `stray` at that of `prod`.
const ENVIRONMENTS: &str = r#"environments:
  dev:   { default: true, variables: { source: "embedded:data/parcels.pg", items: "embedded:data/dev.dynamodb" } }
  stray: { variables: { source: "embedded:data/parcels.pg", items: "embedded:data/prod.dynamodb" } }
  prod:
    protected: true
    guards: { ddb: prod.dynamodb, pg: data/parcels }
    variables: { source: "embedded:data/parcels.pg", items: "embedded:data/prod.dynamodb" }
stores:
"#;

fn spec() -> String {
    let (head, rest) = parcels::SPEC.split_once("environments:").expect("the spec has environments");
    let (_, rest) = rest.split_once("stores:\n").expect("the spec has stores");
    format!("{head}{ENVIRONMENTS}{rest}")
}

fn place() -> Place {
    let place = Place::new();
    parcels::fill(&place, "data/parcels.pg", &parcels::sql(60, 40));
    place.write("parcels.yaml", &spec());
    place.write("parcels.json", parcels::TABLE);
    place
}

fn on(place: &Place, command: &str, env: &str, more: &[&str]) -> Ended {
    place.run(&[&[command, "parcels.yaml", "--env", env], more].concat())
}

#[track_caller]
fn refused(ended: &Ended, why: &str) {
    ended.one_error();
    assert!(ended.err.contains(why), "{}", ended.err);
}

#[test]
fn a_run_of_one_environment_does_not_touch_what_another_owns() {
    let place = place();
    on(&place, "run", "prod", &["--create"]).expect(0);
    let theirs = "table `parcels` belongs to environment `prod` of migration `parcels`, and this is stray";
    // Another machine's journal knows nothing: the table itself says whose it is.
    for journal in [".whimbrel", "elsewhere"] {
        for command in ["run", "create"] {
            let ended = on(&place, command, "stray", &["--journal", journal]).expect(2);
            refused(&ended, theirs);
        }
    }
    on(&place, "run", "dev", &["--create"]).expect(0);
    on(&place, "run", "prod", &[]).expect(0);
    let checked = on(&place, "check", "stray", &[]).expect(1);
    assert!(checked.out.contains(&format!("✗ store `ddb`: {theirs}")), "{}", checked.out);
}

#[test]
fn tables_are_taken_over_only_by_name_where_they_are_protected() {
    let place = place();
    on(&place, "run", "stray", &["--create"]).expect(0);
    refused(&on(&place, "run", "prod", &[]).expect(2), "belongs to environment `stray`");
    refused(
        &on(&place, "create", "prod", &["--adopt"]).expect(2),
        "taking tables over in the protected environment `prod` has to be confirmed",
    );
    for wrong in [&["--adopt", "--confirm"][..], &["--adopt", "--confirm", "dev"]] {
        let ended = on(&place, "create", "prod", wrong).expect(2);
        refused(&ended, "has to be confirmed");
        assert!(ended.err.contains("add `--confirm prod`"), "{}", ended.err);
    }
    let taken = on(&place, "create", "prod", &["--adopt", "--confirm", "prod"]).expect(0);
    let whose = "taken over from environment `stray` of migration `parcels`";
    assert!(taken.out.contains(whose), "{}", taken.out);
    on(&place, "run", "prod", &[]).expect(0);
    refused(&on(&place, "run", "stray", &["--new"]).expect(2), "belongs to environment `prod`");
}

#[test]
fn what_whimbrel_made_is_removed_and_nothing_else() {
    let place = place();
    on(&place, "run", "prod", &["--create"]).expect(0);
    refused(
        &on(&place, "clean", "prod", &["--confirm"]).expect(2),
        "removing tables in the protected environment `prod` has to be confirmed",
    );
    let cleaned = on(&place, "clean", "prod", &["--confirm", "prod", "--json"]).expect(0).json();
    assert_eq!(cleaned["tables"][0]["removed"], true, "{cleaned}");
    refused(&on(&place, "run", "prod", &[]).expect(1), "there is no table \"parcels\"");

    // Without --create nobody but the operator made it.
    on(&place, "create", "dev", &["--journal", "other"]).expect(0);
    let ended = on(&place, "clean", "dev", &[]).expect(2);
    refused(&ended, "removing tables in environment `dev` has to be confirmed");
    let own = on(&place, "clean", "dev", &["--confirm"]).expect(0);
    assert!(own.out.contains("ddb: parcels removed"), "its tag says whose it is: {}", own.out);
    let again = on(&place, "clean", "dev", &["--confirm"]).expect(0);
    assert!(again.out.contains("left: it is not there"), "{}", again.out);
}

#[test]
fn an_environment_guards_what_its_stores_are() {
    let place = place();
    place.write("parcels.yaml", &spec().replace("items: \"embedded:data/prod.dynamodb\" }\n\"", ""));
    let moved = spec().replace(
        "    variables: { source: \"embedded:data/parcels.pg\", items: \"embedded:data/prod.dynamodb\" }",
        "    variables: { source: \"embedded:data/parcels.pg\", items: \"embedded:data/dev.dynamodb\" }",
    );
    place.write("parcels.yaml", &moved);
    let ended = on(&place, "run", "prod", &["--create"]).expect(2);
    refused(&ended, "is not what environment `prod` guards it to be: `prod.dynamodb`");
    place.write("parcels.yaml", &spec().replace("guards: { ddb:", "guards: { dbb:"));
    let ended = on(&place, "run", "prod", &[]).expect(2);
    refused(&ended, "there is no store `dbb` to be guarded");
    assert!(ended.err.contains("did you mean `ddb`?"), "{}", ended.err);
}

#[test]
fn a_table_of_postgresql_says_whose_it_is_in_its_comment() {
    let place = Place::new();
    parcels::fill(&place, "data/source.pg", &parcels::sql(20, 10));
    parcels::fill(&place, "data/target.pg", "SELECT 1");
    place.write(
        "move.yaml",
        r#"
migration: move
environments:
  dev: { default: true }
  prod: { protected: true }
stores:
  from: { postgres: "embedded:data/source.pg" }
  to: { postgres: "embedded:data/target.pg" }
flows:
  senders:
    from: { store: from, table: senders }
    into: { store: to, table: senders, key: id, mode: upsert }
"#,
    );
    let on = |command: &str, env: &str, more: &[&str]| {
        place.run(&[&[command, "move.yaml", "--env", env], more].concat())
    };
    on("run", "prod", &["--create"]).expect(0);
    refused(&on("run", "dev", &["--journal", "elsewhere"]).expect(2), "belongs to environment `prod`");
    let comment = place
        .run(&[
            "query",
            "move.yaml",
            "--store",
            "to",
            "SELECT obj_description('senders'::regclass, 'pg_class') AS comment",
            "--json",
        ])
        .expect(0);
    let row: Value = serde_json::from_str(comment.out.trim()).expect("a row");
    assert_eq!(row["comment"], "whimbrel: migration move, environment prod");
    on("clean", "prod", &["--confirm", "prod"]).expect(0);
    refused(&on("run", "prod", &[]).expect(1), "there is no table `senders`");
}
