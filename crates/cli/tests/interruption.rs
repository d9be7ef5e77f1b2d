//! Ctrl-C, a second run beside the first, a changed spec, foreign journals.

use crate::parcels::{self, READ, SENDERS};
use crate::place::{Place, Running, until};
use rusqlite::{Connection, OpenFlags};

const RUN: &[&str] = &["run", "parcels.yaml", "--env", "demo", "--create", "--batch-size", "50", "--json"];

/// Waits until the run in the journal `.whimbrel` has a checkpoint with records behind it.
pub fn await_checkpoint(place: &Place, running: &mut Running) {
    let path = place.path(".whimbrel/journal.sqlite");
    until("a checkpoint", || {
        assert!(!running.has_ended(), "the run ended before it was looked at");
        let journal = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        let position = "SELECT coalesce(sum(position), 0) FROM checkpoints";
        let position: i64 = journal.query_row(position, [], |row| row.get(0)).ok()?;
        (position > 0).then_some(())
    });
}

/// A run that was begun and interrupted in its middle.
fn interrupted() -> Place {
    let place = parcels::place();
    let mut running = place.start(RUN);
    await_checkpoint(&place, &mut running);
    running.signal("INT");
    let ended = running.wait().expect(130);
    assert_eq!(ended.json()["outcome"], "paused");
    assert!(ended.err.contains("whimbrel resume"), "{}", ended.err);
    place
}

#[test]
fn ctrl_c_finishes_what_is_in_flight_and_resume_goes_on() {
    let place = interrupted();
    let status = place.run(&["status", "--json"]).expect(0).json();
    assert_eq!(status["state"], "paused");
    let read = status["totals"]["read"].as_u64().expect("a number");
    assert!(read > 0 && read < READ + SENDERS, "{read} read");

    let again = place.run(RUN).expect(2);
    again.one_error();
    assert!(again.err.contains("whimbrel resume") && again.err.contains("--new"), "{}", again.err);

    let resumed = place.run(&["resume", "--json", "--verify=count"]).expect(3).json();
    assert_eq!(resumed["totals"]["read"], READ + SENDERS);
    assert_eq!(resumed["resumes"], 1);
    assert_eq!(resumed["verify"]["outcome"], "equal");
    let totals = &resumed["totals"];
    let arrived = totals["created"].as_u64().expect("created");
    assert_eq!(parcels::items(&place).len() as u64, arrived);
    assert_eq!(totals["skipped"], 0, "what the first stretch wrote is not taken for another's");

    let over = place.run(&["resume"]).expect(2);
    over.one_error();
}

#[test]
fn a_changed_spec_is_refused_unless_it_is_accepted() {
    let place = interrupted();
    place.write("parcels.yaml", &parcels::SPEC.replace("fixed_width(weight, 4)", "fixed_width(weight, 5)"));
    let refused = place.run(&["resume"]).expect(2);
    refused.one_error();
    assert!(refused.err.contains("has changed") && refused.err.contains("--accept-spec"), "{}", refused.err);
    let resumed = place.run(&["resume", "--accept-spec", "--json"]).expect(3).json();
    assert_eq!(resumed["totals"]["read"], READ + SENDERS);
}

#[test]
fn an_unfinished_run_can_be_set_aside() {
    let place = interrupted();
    let new = place.run(&[RUN, &["--new"]].concat()).expect(3).json();
    assert_eq!(new["totals"]["read"], READ + SENDERS);
    let over = place.run(&["resume"]).expect(2);
    over.one_error();
    let list = place.run(&["list"]).expect(0);
    assert!(list.out.contains("abandoned"), "{}", list.out);
}

/// Stops a run, which keeps its locks, however quick this machine is; but not while it writes its journal, which
/// others would wait for.
fn stop_between_commits(place: &Place, running: &mut Running) {
    let journal = Connection::open(place.path(".whimbrel/journal.sqlite")).expect("the journal opens");
    journal.busy_timeout(std::time::Duration::ZERO).expect("no patience");
    until("a moment between two commits", || {
        running.signal("STOP");
        match journal.execute_batch("BEGIN IMMEDIATE; ROLLBACK") {
            Ok(()) => Some(()),
            Err(_) => {
                running.signal("CONT");
                None
            }
        }
    });
}

#[test]
fn a_second_run_beside_the_first_is_refused() {
    let place = parcels::place();
    let mut first = place.start(RUN);
    await_checkpoint(&place, &mut first);
    stop_between_commits(&place, &mut first);
    for arguments in [RUN, &["resume"]] {
        let second = place.run(arguments).expect(1);
        second.one_error();
        assert!(second.err.contains("another whimbrel runs `parcels.demo`"), "{}", second.err);
    }
    let status = place.run(&["status", "--json"]).expect(0).json();
    assert_eq!(status["state"], "running");
    // Another journal does not know of the first run, but its embedded databases are taken.
    let elsewhere = place.run(&[RUN, &["--journal", "elsewhere"]].concat()).expect(1);
    elsewhere.one_error();
    assert!(elsewhere.err.contains("does not start"), "{}", elsewhere.err);
    assert!(elsewhere.err.contains("another whimbrel may use that"), "{}", elsewhere.err);
    first.signal("CONT");
    let first = first.wait().expect(3).json();
    assert_eq!(first["totals"]["read"], READ + SENDERS);
}

#[test]
fn a_journal_of_another_format_is_refused() {
    let place = parcels::place();
    place.run(&[RUN, &["--limit", "5"]].concat()).expect(0);
    let journal = Connection::open(place.path(".whimbrel/journal.sqlite")).expect("the journal opens");
    journal.pragma_update(None, "user_version", 99).expect("the version is set");
    drop(journal);
    for arguments in [RUN, &["status"], &["list"], &["resume"]] {
        let refused = place.run(arguments).expect(1);
        refused.one_error();
        assert!(refused.err.contains("has format 99"), "{}", refused.err);
        assert!(refused.err.contains("hint: "), "{}", refused.err);
    }
}

#[test]
fn a_foreign_file_is_no_journal() {
    let place = Place::new();
    place.write(".whimbrel/journal.sqlite", &"this is a letter to my grandmother. ".repeat(40));
    let letter = std::fs::read(place.path(".whimbrel/journal.sqlite")).expect("the letter");
    let refused = place.run(&["list"]).expect(1);
    refused.one_error();
    assert!(refused.err.contains("is not a journal of whimbrel"), "{}", refused.err);
    assert_eq!(std::fs::read(place.path(".whimbrel/journal.sqlite")).expect("the letter"), letter);

    place.write("other/readme", "a folder");
    let other = Connection::open(place.path("other/journal.sqlite")).expect("a database");
    other.execute_batch("CREATE TABLE letters (line TEXT)").expect("a table");
    drop(other);
    let refused = place.run(&["list", "--journal", "other"]).expect(1);
    refused.one_error();
    assert!(refused.err.contains("is not a journal of whimbrel"), "{}", refused.err);
}
