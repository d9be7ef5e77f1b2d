//! What happens to the servers, the source or the target in the middle of a run.

use super::{Live, assert_error, expected_parcels};
use crate::interruption::await_checkpoint;
use crate::items;
use crate::parcels::{PARCELS, READ, SENDERS};
use crate::place::until;

/// The program's sessions, and what their last statement must be like.
const SESSIONS: &str =
    "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'whimbrel'";
const READS: &str = "state = 'active' AND query LIKE 'COPY%'";

#[test]
fn a_run_goes_on_when_every_session_of_its_source_is_ended() {
    let Some(live) = Live::with_parcels(3_300, 600) else { return };
    // More than what sockets keep: the server waits for its reader.
    live.database
        .script("UPDATE parcels SET details = jsonb_set(details, '{note}', to_jsonb(repeat('x', 8000)))");
    let table = format!("table={}", live.tables.name("sessions"));
    let mut arguments = vec!["run", "parcels.yaml", "--create", "--verify=count", "--json", "--set", &table];
    arguments.extend(["--batch-size", "50", "--memory", "1M"]);
    let mut running = live.start(&arguments);
    await_checkpoint(&live.place, &mut running);
    // The first time in the middle of a read, the second time whatever the sessions do, also those that only keep
    // the snapshot.
    for when in [READS, "true"] {
        let end = format!(
            "SELECT count(pg_terminate_backend(pid)) {SESSIONS} AND EXISTS (SELECT 1 {SESSIONS} AND {when})"
        );
        until("a session that can be ended", || {
            assert!(!running.has_ended(), "the run ended before its sessions could be");
            (live.database.number(&end) > 0).then_some(())
        });
    }
    let summary = running.wait().expect(3).json();
    assert_eq!(summary["totals"]["read"], 3_000 + 600);
    assert_eq!(summary["verify"]["outcome"], "equal");
    items::assert_same(&live.tables.items("sessions"), &expected_parcels(&live.database));
}

/// A run that was killed in its middle, into the table of this name.
fn killed(table: &str) -> Option<Live> {
    let live = Live::with_parcels(PARCELS, SENDERS)?;
    let table = format!("table={}", live.tables.name(table));
    let mut running =
        live.start(&["run", "parcels.yaml", "--create", "--batch-size", "50", "--json", "--set", &table]);
    await_checkpoint(&live.place, &mut running);
    running.kill();
    Some(live)
}

#[test]
fn a_column_that_went_between_kill_and_resume() {
    let Some(live) = killed("column") else { return };
    live.database.script("ALTER TABLE parcels DROP COLUMN details");
    let refused = live.run(&["resume"]);
    assert!(matches!(refused.code, Some(1 | 2)), "{}", refused.err);
    assert_error(&live, "a_column_that_went_between_kill_and_resume", &refused);
    // Nothing is lost: with the column back, the run goes on.
    live.database.script(
        "ALTER TABLE parcels ADD COLUMN details jsonb;
         UPDATE parcels SET details = jsonb_build_object('number', id, 'tags', jsonb_build_array('a', id % 7),
                                                         'note', repeat('x', (id % 50)::int))",
    );
    let resumed = live.run(&["resume", "--json"]).expect(3).json();
    assert_eq!(resumed["totals"]["read"], READ + SENDERS);
    items::assert_same(&live.tables.items("column"), &expected_parcels(&live.database));
}

#[test]
fn a_column_that_went_between_plan_and_run() {
    let Some(live) = Live::with_parcels(1_100, 60) else { return };
    let table = format!("table={}", live.tables.name("column"));
    live.run(&["plan", "parcels.yaml", "--all", "--set", &table]).expect(3);
    live.database.script("ALTER TABLE parcels DROP COLUMN details");
    let refused = live.run(&["run", "parcels.yaml", "--create", "--set", &table]).expect(2);
    assert_error(&live, "a_column_that_went_between_plan_and_run", &refused);
}

#[test]
fn a_target_that_was_deleted_between_kill_and_resume() {
    let Some(live) = killed("deleted") else { return };
    live.tables.delete("deleted");
    let refused = live.run(&["resume"]);
    assert!(matches!(refused.code, Some(1 | 2)), "{}", refused.err);
    refused.one_error();
    let name = live.tables.name("deleted");
    assert!(refused.err.contains(&name) && refused.err.contains("hint: "), "{}", refused.err);
}

#[test]
fn a_target_that_was_made_anew_between_kill_and_resume() {
    let Some(live) = killed("anew") else { return };
    live.tables.delete("anew");
    let table = format!("table={}", live.tables.name("anew"));
    live.run(&["create", "parcels.yaml", "--set", &table]).expect(0);
    let refused = live.run(&["resume"]);
    refused.one_error();
    assert!(refused.err.contains("is not the one"), "{}", refused.err);
}

#[test]
fn a_copy_of_the_source_is_not_the_source() {
    let Some(live) = killed("copy") else { return };
    let copy = live.database.copy();
    let resume = live.place.start_with(&["resume"], |command| {
        live.surroundings(command);
        command.env("DATABASE_URL", copy.url());
    });
    let refused = resume.wait();
    refused.one_error();
    assert!(refused.err.contains("is not the one"), "{}", refused.err);
    let resumed = live.run(&["resume", "--json"]).expect(3).json();
    assert_eq!(resumed["totals"]["read"], READ + SENDERS);
}
