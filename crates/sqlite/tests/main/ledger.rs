//! A batch arrives whole with its checkpoint, once, or not at all.

use crate::fixture::{Fixture, batch, checkpoint, people, writing};
use crate::target::words;
use rusqlite::Connection;
use std::sync::Arc;
use whimbrel_model::{FlowName, SliceId};
use whimbrel_store::{
    Mode, RunContext, Store as _, StoreErrorKind, Target, WriteRequest, Writer, conformance,
};

const TABLES: &str = "CREATE TABLE people (id INT PRIMARY KEY, name TEXT); CREATE TABLE others (id INT PRIMARY KEY, name TEXT)";

async fn writer(target: &Arc<dyn Target>, context: &RunContext) -> Box<dyn Writer> {
    target.writer(&SliceId::new("flow.0000"), true, context).await.unwrap()
}

fn count(fixture: &Fixture) -> String {
    fixture.ask("SELECT CAST(count(*) AS TEXT) FROM people")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_committed_never_was() {
    for mode in ["DELETE", "WAL"] {
        let fixture = Fixture::new(&format!("PRAGMA journal_mode = {mode}; {TABLES}"));
        let target = fixture.target(writing("people", Mode::Insert));
        let context = conformance::context();
        let first = writer(&target, &context).await;
        assert_eq!(first.last().await.unwrap(), None);
        assert_eq!(
            words(&first.write(batch(&people(&[1], &[Some("a")]), 1)).await.unwrap().outcomes),
            ["created"]
        );
        first.commit(&checkpoint(1), 1).await.unwrap();
        assert_eq!(
            words(&first.write(batch(&people(&[2], &[Some("b")]), 2)).await.unwrap().outcomes),
            ["created"]
        );
        drop(first);
        assert_eq!(count(&fixture), "1", "{mode}");
        let again = writer(&target, &context).await;
        assert_eq!(again.last().await.unwrap(), Some(checkpoint(1)));
        assert_eq!(
            words(&again.write(batch(&people(&[2], &[Some("b")]), 2)).await.unwrap().outcomes),
            ["created"]
        );
        again.commit(&checkpoint(2), 1).await.unwrap();
        again.finish().await.unwrap();
        assert_eq!(count(&fixture), "2");
        assert_eq!(fixture.ask("SELECT seq || ' ' || is_finished FROM whimbrel_ledger"), "2 1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_of_a_slice_share_their_transaction() {
    let fixture = Fixture::new(TABLES);
    let context = conformance::context();
    let people_of = fixture.target(writing("people", Mode::Insert));
    let others_of =
        fixture.target(WriteRequest { flow: FlowName::new("second"), ..writing("others", Mode::Insert) });
    let (one, other) = (writer(&people_of, &context).await, writer(&others_of, &context).await);
    one.write(batch(&people(&[1], &[Some("a")]), 1)).await.unwrap();
    other.write(batch(&people(&[1], &[Some("b")]), 1)).await.unwrap();
    one.commit(&checkpoint(1), 2).await.unwrap();
    assert_eq!(count(&fixture), "0", "the last flow's call commits");
    other.commit(&checkpoint(1), 2).await.unwrap();
    assert_eq!(count(&fixture), "1");
    assert_eq!(
        fixture.ask("SELECT group_concat(flow || seq ORDER BY flow) FROM whimbrel_ledger"),
        "flow1,second1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_is_noticed() {
    let fixture = Fixture::new(TABLES);
    let target = fixture.target(writing("people", Mode::Insert));
    let context = conformance::context();
    let (slow, fast) = (writer(&target, &context).await, writer(&target, &context).await);
    assert_eq!((slow.last().await.unwrap(), fast.last().await.unwrap()), (None, None));
    fast.write(batch(&people(&[1], &[Some("a")]), 1)).await.unwrap();
    fast.commit(&checkpoint(1), 1).await.unwrap();
    let error = slow.write(batch(&people(&[1], &[Some("a")]), 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Mismatch);
    assert!(error.to_string().contains("another process has gone on"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_file_is_waited_for() {
    let fixture = Fixture::new(TABLES);
    let target = fixture.target(writing("people", Mode::Insert));
    let context = conformance::context();
    let writer = writer(&target, &context).await;
    let other: Connection = fixture.connect();
    other.execute_batch("BEGIN IMMEDIATE; INSERT INTO others VALUES (1, 'x')").unwrap();
    let records = people(&[1], &[Some("a")]);
    let (written, ()) = tokio::join!(writer.write(batch(&records, 1)), async {
        // The other program commits while the writer stands before its lock.
        tokio::task::yield_now().await;
        other.execute_batch("COMMIT").unwrap();
    });
    assert_eq!(words(&written.unwrap().outcomes), ["created"]);
    writer.commit(&checkpoint(1), 1).await.unwrap();
    assert_eq!(count(&fixture), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_that_rolls_everything_back_is_no_reject() {
    let fixture = Fixture::new(&format!(
        "{TABLES}; CREATE TRIGGER t BEFORE INSERT ON people WHEN new.id = 2 BEGIN SELECT RAISE(ROLLBACK, 'all of it'); END"
    ));
    let target = fixture.target(writing("people", Mode::Insert));
    let writer = writer(&target, &conformance::context()).await;
    let error = writer.write(batch(&people(&[1, 2], &[None, None]), 1)).await.unwrap_err();
    assert!(error.hint().unwrap().contains("RAISE(ABORT)"), "{error}");
    let error = writer.commit(&checkpoint(1), 1).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable, "what was lost is not committed");
    assert_eq!(count(&fixture), "0");
}

/// What [`a_transaction_keeps_its_lock_whoever_else_looks_at_the_file`] runs as another process.
#[test]
#[ignore = "a part of another test"]
fn another_process_that_wants_to_write() {
    let path = std::env::var_os("WHIMBREL_SQLITE_TEST").unwrap();
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(std::time::Duration::ZERO).unwrap();
    let error = connection.execute_batch("BEGIN IMMEDIATE").unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_keeps_its_lock_whoever_else_looks_at_the_file() {
    let fixture = Fixture::new(TABLES);
    let target = fixture.target(writing("people", Mode::Insert));
    let writer = writer(&target, &conformance::context()).await;
    writer.write(batch(&people(&[1], &[Some("a")]), 1)).await.unwrap();
    // A file that is closed by anybody in a process gives up the locks of all.
    target.identity().await.unwrap().unwrap();
    assert!(fixture.store.check().await.iter().all(|finding| finding.ok));
    target.count(&[Vec::new()]).await.unwrap();
    let other = crate::fixture::open(&fixture.path());
    other.identity().await.unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "ledger::another_process_that_wants_to_write"])
        .env("WHIMBREL_SQLITE_TEST", fixture.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    writer.commit(&checkpoint(1), 1).await.unwrap();
    assert_eq!(count(&fixture), "1");
}
