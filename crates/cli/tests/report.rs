//! `whimbrel report`: the report of a run, in every form.

use crate::parcels;
use serde_json::Value;

const RUN: &[&str] = &["run", "parcels.yaml", "--env", "demo", "--create"];

#[test]
fn a_run_is_reported_in_every_form() {
    let place = parcels::place();
    place.run(RUN).expect(3);
    let markdown = place.run(&["report", "--quiet"]).expect(0);
    assert!(markdown.out.starts_with("# parcels (demo): Done, with rejects\n"), "{}", markdown.out);
    assert!(markdown.out.contains("The counts of every flow add up."), "{}", markdown.out);
    assert_eq!(markdown.err, "");

    let written = place.run(&["report", "--out", "out/r.html", "--out", "r.json", "--out", "r.md"]).expect(0);
    assert_eq!(written.out, "");
    let read = |name: &str| std::fs::read_to_string(place.path(name)).expect("the report is there");
    assert!(read("out/r.html").starts_with("<!doctype html>"));
    let receipt: Value = serde_json::from_str(&read("r.json")).expect("the receipt is JSON");
    assert!(whimbrel_report::receipt::is_unchanged(&receipt));
    let run = &receipt["run"];
    assert_eq!(run["totals"]["read"], parcels::READ + parcels::SENDERS);
    assert_eq!(run["rejects"]["count"], parcels::REJECTED);
    assert_eq!(run["flows"].as_array().expect("flows").len(), 2);
    for flow in run["flows"].as_array().expect("flows") {
        assert_eq!(flow["fingerprints"]["records"], flow["counts"]["created"], "{flow}");
        assert!(!flow["plan"]["columns"].as_array().expect("columns").is_empty(), "{flow}");
    }
    assert!(!run["throughput"]["stretches"][0]["samples"].as_array().expect("samples").is_empty());
}

#[test]
fn what_cannot_be_reported_is_refused() {
    let place = parcels::place();
    place.run(&["report"]).expect(2).one_error();
    place.run(RUN).expect(3);
    place.run(&["report", "ffff0000"]).expect(2).one_error();
    let refused = place.run(&["report", "--out", "r.md", "--out", "r.pdf"]).expect(2);
    refused.one_error();
    assert!(!place.path("r.md").exists(), "nothing was written");
}
