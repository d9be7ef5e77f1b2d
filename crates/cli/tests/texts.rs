//! What a user reads when all goes well, word by word.

use crate::parcels;
use crate::place::Place;
use crate::redaction::redacted;
use insta::assert_snapshot;

#[test]
fn help() {
    let place = Place::new();
    assert_snapshot!("help", place.run(&["--help"]).expect(0).out);
    assert_snapshot!("plan_help", place.run(&["plan", "--help"]).expect(0).out);
    assert_snapshot!("run_help", place.run(&["run", "--help"]).expect(0).out);
}

#[test]
fn the_story_of_cello() {
    let place = Place::new();
    let demo = place.run(&["demo", "cello", "--no-progress"]).expect(0);
    assert_eq!(demo.out, "");
    redacted(|| assert_snapshot!("demo", demo.err));
    let spec = ["data/cello-spec/cello.yaml", "--env", "demo"];
    redacted(|| {
        assert_snapshot!("plan", place.run(&[&["plan"], &spec[..]].concat()).expect(0).out);
        assert_snapshot!("check", place.run(&[&["check"], &spec[..]].concat()).expect(0).out);
        assert_snapshot!("create", place.run(&[&["create"], &spec[..]].concat()).expect(0).out);
        assert_snapshot!("status", place.run(&["status"]).expect(0).out);
        assert_snapshot!("list", place.run(&["list"]).expect(0).out);
    });
}

#[test]
fn a_run_with_rejects() {
    let place = parcels::place();
    let run = place.run(&["run", "parcels.yaml", "--env", "demo", "--create", "--no-progress"]).expect(3);
    redacted(|| {
        assert_snapshot!("rejects", run.err);
        assert_snapshot!("status_with_rejects", place.run(&["status"]).expect(0).out);
    });
}
