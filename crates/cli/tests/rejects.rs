//! Records that do not arrive, and their second chance.

use crate::parcels::{self, FILTERED, READ, REJECTED, SENDERS, TOO_HEAVY, UNTITLED};
use crate::place::Place;
use serde_json::Value;
use std::collections::BTreeSet;

const RUN: &[&str] = &["run", "parcels.yaml", "--env", "demo", "--create", "--json"];

#[test]
fn rejects_are_kept_whole_and_come_in_after_the_fix() {
    let place = parcels::place();
    let run = place.run(RUN).expect(3).json();
    assert_eq!(run["outcome"], "incomplete");
    let counts = &run["flows"]["parcels"];
    assert_eq!(counts["read"], READ);
    assert_eq!(counts["filtered"], FILTERED);
    assert_eq!(counts["rejected"], REJECTED);
    assert_eq!(counts["created"], READ - FILTERED - REJECTED);
    assert_eq!(run["flows"]["senders"]["created"], SENDERS);

    let file = run["rejects"]["file"].as_str().expect("the reject file's path");
    check_file(&place, file);
    let name = run["run"].as_str().expect("the run's name");

    // The fix is in the spec: five digits. What has no title stays out.
    place.write("parcels.yaml", &parcels::SPEC.replace("fixed_width(weight, 4)", "fixed_width(weight, 5)"));
    let refused = place.run(&["retry", name]).expect(2);
    refused.one_error();
    assert!(refused.err.contains("--accept-spec"), "{}", refused.err);
    let retry = place.run(&["retry", name, "--accept-spec", "--json"]).expect(3).json();
    assert_eq!(retry["totals"]["read"], REJECTED);
    assert_eq!(retry["totals"]["created"], TOO_HEAVY);
    assert_eq!(retry["totals"]["rejected"], UNTITLED);
    let items = parcels::items(&place);
    assert_eq!(items.len() as u64, SENDERS + READ - FILTERED - UNTITLED);
    let heavy = &items[&("SENDER#998".to_owned(), "PARCEL#997".to_owned())];
    assert_eq!(heavy["weight"]["S"], "10997");
    assert_eq!(heavy["details"]["M"]["number"]["N"], "997");

    let twice = place.run(&["retry", name, "--accept-spec"]).expect(2);
    twice.one_error();
    assert!(twice.err.contains("replayed already"), "{}", twice.err);
}

fn check_file(place: &Place, file: &str) {
    let text = std::fs::read_to_string(place.path(file)).expect("the reject file");
    let rejects: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    assert_eq!(rejects.len() as u64, REJECTED);
    assert!(text.ends_with('\n'));
    let ids: BTreeSet<String> = rejects.iter().map(|reject| reject["key"]["id"].to_string()).collect();
    assert_eq!(ids.len() as u64, REJECTED, "each record is rejected once");
    let untitled = rejects.iter().find(|reject| reject["stage"] == "check").expect("a failed check");
    let id = untitled["record"]["id"].to_string();
    assert_eq!(untitled["reason"], format!("Parcel {} has no title", id.trim_matches('"')));
    for reject in &rejects {
        assert_eq!(reject["flow"], "parcels");
        let columns: BTreeSet<&str> =
            reject["record"].as_object().expect("the record").keys().map(String::as_str).collect();
        assert_eq!(
            columns,
            BTreeSet::from(["id", "sender", "kind", "title", "weight", "details"]),
            "{reject}"
        );
    }
}

#[test]
fn a_retry_that_brings_everything_in_is_complete() {
    let place = parcels::place();
    let name = place.run(RUN).expect(3).json()["run"].as_str().expect("the run's name").to_owned();
    let fixed = parcels::SPEC
        .replace("fixed_width(weight, 4)", "fixed_width(weight, 5)")
        .replace("title <> ''", "id > 0");
    place.write("parcels.yaml", &fixed);
    let retry = place.run(&["retry", &name, "--accept-spec", "--json"]).expect(0).json();
    assert_eq!(retry["outcome"], "complete");
    assert_eq!(retry["totals"]["created"], REJECTED);
    let over = place.run(&["retry", retry["run"].as_str().expect("the retry's name")]).expect(2);
    over.one_error();
}
