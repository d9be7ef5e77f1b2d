//! What happens to the servers, the source or the target in the middle of a run.

use super::{Live, expected_parcels};
use crate::interruption::await_checkpoint;
use crate::items;
use crate::parcels::{PARCELS, READ, SENDERS};
use crate::place::{Ended, until};
use crate::redaction::redacted;
use insta::assert_snapshot;

/// Sessions of the program that read at this moment.
const READERS: &str = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                       AND state = 'active' AND query LIKE 'COPY%'";

#[test]
fn a_run_goes_on_when_every_session_of_its_source_is_ended() {
    let Some(live) = Live::with_parcels(PARCELS, SENDERS) else { return };
    let table = format!("table={}", live.tables.name("sessions"));
    let arguments = ["run", "parcels.yaml", "--create", "--batch-size", "50", "--json", "--set", &table];
    let mut running = live.start(&arguments);
    await_checkpoint(&live.place, &mut running);
    for _ in 0..2 {
        until("a session that reads", || {
            assert!(!running.has_ended(), "the run ended before its sessions could be");
            (live.database.number(&format!("SELECT count(*) {READERS}")) > 0).then_some(())
        });
        let ended = live.database.number(&format!(
            "SELECT count(pg_terminate_backend(pid)) {}",
            READERS.split(" AND state").next().expect("sessions, whatever they do")
        ));
        assert!(ended > 0);
    }
    let summary = running.wait().expect(3).json();
    assert_eq!(summary["totals"]["read"], READ + SENDERS);
    assert_eq!(summary["outcome"], "incomplete");
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

/// The error must be one, and as the snapshot of this name has it, but for the names that this test alone has.
#[track_caller]
pub fn assert_error(live: &Live, name: &str, ended: &Ended) {
    ended.one_error();
    let text = live.without_names(&ended.err);
    redacted(|| assert_snapshot!(name, text));
}

impl Live {
    fn without_names(&self, text: &str) -> String {
        let name = self.tables.name("");
        let name = name.trim_end_matches('.');
        text.replace(name, "[NAME]")
    }
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
    let text = live.without_names(&refused.err);
    assert!(text.contains("[NAME].deleted") && text.contains("hint: "), "{text}");

    // A table of the same name is not the same table.
    let table = format!("table={}", live.tables.name("deleted"));
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
