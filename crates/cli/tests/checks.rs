//! `check` and `policy`: what a run needs, asked before it begins.

use crate::parcels;
use crate::place::Place;
use crate::redaction::redacted;
use insta::assert_snapshot;
use serde_json::Value;

const CHECK: &[&str] = &["check", "parcels.yaml", "--env", "demo"];

fn place() -> Place {
    let place = Place::new();
    parcels::fill(&place, "data/parcels.pg", &parcels::sql(33, 20));
    parcels::write(&place);
    place
}

#[test]
fn everything_that_a_run_needs_is_looked_at_and_nothing_is_touched() {
    let place = place();
    let checked = place.run(CHECK).expect(0);
    redacted(|| assert_snapshot!("check_of_everything", checked.out));
    assert!(!place.path(".whimbrel").exists(), "a check makes no journal");
    let found = place.run(&[CHECK, &["--json"]].concat()).expect(0).json();
    assert_eq!(found["ok"], true);
    for section in ["spec", "journal"] {
        assert_eq!(found[section][0]["ok"], true, "{found}");
    }
    let stores = found["stores"].as_object().expect("an object");
    assert_eq!(stores.len(), 2, "{found}");
    assert!(
        stores.values().flat_map(|lines| lines.as_array().expect("lines")).all(|line| line["ok"] == true)
    );
}

#[test]
fn what_is_in_the_way_has_a_next_step() {
    let place = place();
    place.write("taken", "no folder");
    let found = place.run(&[CHECK, &["--journal", "taken", "--json"]].concat()).expect(1).json();
    assert_eq!(found["ok"], false);
    let line = &found["journal"][0];
    assert_eq!(line["ok"], false, "{found}");
    assert!(line["hint"].as_str().is_some_and(|hint| hint.contains("--journal DIR")), "{line}");
    let shown = place.run(&[CHECK, &["--journal", "taken"]].concat()).expect(1).out;
    assert!(shown.contains("A run cannot begin yet: "), "{shown}");
}

const SPEC: &str = r#"
migration: move
variables:
  url: "${ssm:/move/${stage:-dev}/url}"
  password: { default: "${secret:move/db#password}", secret: true }
  stage: dev
environments:
  dev: { default: true }
stores:
  pg: { postgres: "${url}" }
  app: { dynamodb: { region: eu-west-1, tables: { items: { key: id }, copies: { key: id } } } }
  lake: { files: { path: "s3://bucket/raw/", region: eu-west-1 } }
flows:
  items:
    from: { store: pg, table: items }
    into: { store: app, table: items, key: id, mode: changed }
  copies:
    from: { store: app, table: items, where: "starts_with(id, 'a')" }
    columns: { id: text }
    into: { store: app, table: copies, key: id, mode: upsert }
  raw:
    from: { store: lake, path: items.ndjson }
    columns: { id: text }
    into: { store: app, table: items, key: id, mode: skip_existing }
"#;

fn policy(place: &Place, more: &[&str]) -> Value {
    let own = ["policy", "move.yaml", "--set", "url=postgres://127.0.0.1:1/db", "--set", "password=hush"];
    serde_json::from_str(&place.run(&[&own[..], more].concat()).expect(0).out).expect("a document")
}

#[test]
fn a_policy_names_actions_and_resources_and_nothing_else() {
    let place = Place::new();
    place.write("move.yaml", SPEC);
    let whole = policy(&place, &["--account", "123456789012"]);
    assert_snapshot!("policy", serde_json::to_string_pretty(&whole).expect("JSON"));
    let statements = |document: &Value| document["Statement"].as_array().expect("statements").clone();
    let sids: Vec<String> = statements(&whole).iter().map(|one| one["Sid"].to_string()).collect();
    let distinct: std::collections::BTreeSet<&String> = sids.iter().collect();
    assert_eq!(distinct.len(), sids.len(), "{sids:?}");
    // One purpose by itself is its part of the whole.
    let mut parts = Vec::new();
    for purpose in ["create", "run", "verify", "clean"] {
        parts.extend(statements(&policy(&place, &["--account", "123456789012", "--for", purpose])));
    }
    assert_eq!(parts, statements(&whole));
    let anywhere = policy(&place, &["--for", "clean"]).to_string();
    assert!(anywhere.contains("arn:aws:dynamodb:eu-west-1:*:table/items"), "{anywhere}");
    assert!(!anywhere.contains("hush"), "{anywhere}");
    let wrong = place.run(&["policy", "move.yaml", "--account", "12"]).expect(2);
    assert!(wrong.err.contains("twelve digits are expected"), "{}", wrong.err);
}
