//! What the journal promises: its format, its lock, and that nothing is told before it is on the disk.

use serde_json::json;
use std::path::Path;
use whimbrel_engine::journal::{NewRun, RunKind, TargetRecord};
use whimbrel_engine::{Journal, JournalError};
use whimbrel_model::{
    Checkpoint, Counts, Cursor, FlowName, GroupName, Receipt, RunId, Slice, SliceId, SlicePart, StoreName,
};

fn begun(folder: &Path) -> (Journal, RunId) {
    let mut journal = Journal::open(folder).unwrap();
    let id = RunId::generate();
    journal.begin(&new_run(&id)).unwrap();
    let slice = |number| Slice {
        id: SliceId::of(&GroupName::new("g"), number),
        group: GroupName::new("g"),
        part: SlicePart(json!([number])),
    };
    let target = TargetRecord {
        flow: FlowName::new("f"),
        resource: "t".to_owned(),
        identity: Some("t1".to_owned()),
        made: true,
        empty: true,
        estimate: Some(9),
    };
    journal.planned(&id, &[target], &[slice(0), slice(1)]).unwrap();
    (journal, id)
}

fn new_run(id: &RunId) -> NewRun {
    NewRun {
        id: id.clone(),
        migration: "m".to_owned(),
        environment: "e".to_owned(),
        kind: RunKind::Run,
        spec_path: "m.yaml".to_owned(),
        spec_digest: "d".to_owned(),
        shape: "s".to_owned(),
        options: json!({"limit": 3}),
        stores: vec![(StoreName::new("s"), "somewhere".to_owned(), "id".to_owned())],
    }
}

fn checkpoint(seq: u64) -> Checkpoint {
    let counts = Counts { read: seq * 10, created: seq * 10, ..Counts::default() };
    Checkpoint {
        seq,
        cursor: Some(Cursor(json!(["k", seq]))),
        position: seq * 10,
        counts,
        ..Checkpoint::default()
    }
}

#[tokio::test]
async fn checkpoints_and_receipts_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, run) = begun(folder.path());
    let writer = journal.writer(&run, None).unwrap();
    let (first, second) = (SliceId::new("g.0000"), SliceId::new("g.0001"));
    let flow = FlowName::new("f");
    for seq in 1..=3 {
        writer.checkpoint(&first, 1, vec![(flow.clone(), checkpoint(seq))]).unwrap();
    }
    writer.reserve(&first, 50).await.unwrap();
    writer.reserve(&first, 40).await.unwrap();
    let receipt = Receipt { slice: second.clone(), flow: flow.clone(), epoch: 1, last: checkpoint(7) };
    writer.checkpoint(&second, 1, vec![(flow.clone(), checkpoint(6))]).unwrap();
    writer.done(&second, vec![receipt]).await.unwrap();
    writer.flush().await.unwrap();

    // Another process sees it: it is on the disk.
    let other = Journal::open(folder.path()).unwrap();
    let slices = other.slices(&run).unwrap();
    assert_eq!((slices[0].done, slices[0].reserved), (false, 50), "a reservation never shrinks");
    assert_eq!(slices[0].checkpoints, vec![(flow.clone(), checkpoint(3))]);
    assert!(slices[1].done);
    assert_eq!(slices[1].checkpoints[0].1.counts.read, 70);
    assert_eq!(other.slice(&run, &second).unwrap().unwrap().slice.part, SlicePart(json!([1])));
    let record = other.runs().unwrap().remove(0);
    assert!(record.planned && record.is_unfinished());
    assert_eq!(record.options, json!({"limit": 3}));
    assert_eq!(record.environment.as_deref(), Some("e"));
}

#[test]
fn a_new_run_sets_an_unfinished_one_aside() {
    let folder = tempfile::tempdir().unwrap();
    let (mut journal, first) = begun(folder.path());
    assert_eq!(journal.unfinished("m", Some("e")).unwrap().unwrap().id, first);
    assert!(journal.unfinished("m", None).unwrap().is_none(), "another environment is another matter");
    let second = RunId::generate();
    journal.begin(&new_run(&second)).unwrap();
    journal.end(&second, "complete").unwrap();
    assert!(journal.unfinished("m", Some("e")).unwrap().is_none());
    let outcomes: Vec<_> = journal.runs().unwrap().into_iter().map(|run| run.outcome.unwrap()).collect();
    assert_eq!(outcomes, ["complete", "abandoned"]);
}

#[test]
fn a_lock_is_held_once_for_each_migration_and_environment() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    let lock = journal.lock("m", Some("e")).unwrap();
    assert!(matches!(journal.lock("m", Some("e")), Err(JournalError::Locked { .. })));
    assert!(journal.is_running("m", Some("e")));
    assert!(journal.lock("m", Some("other")).is_ok() && journal.lock("m", None).is_ok());
    drop(lock);
    assert!(journal.lock("m", Some("e")).is_ok());
}

#[test]
fn another_format_or_another_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    begun(folder.path());
    let file = folder.path().join("journal.sqlite");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    assert!(matches!(Journal::open(folder.path()), Err(JournalError::Version { found: 99, .. })));

    let other = tempfile::tempdir().unwrap();
    let connection = rusqlite::Connection::open(other.path().join("journal.sqlite")).unwrap();
    connection.execute_batch("CREATE TABLE mine (x)").unwrap();
    drop(connection);
    assert!(matches!(Journal::open(other.path()), Err(JournalError::Foreign { .. })));
    std::fs::write(other.path().join("journal.sqlite"), "no database, but longer than a header ".repeat(30))
        .unwrap();
    assert!(matches!(Journal::open(other.path()), Err(JournalError::Foreign { .. })));
}

#[test]
fn a_migration_keeps_its_fingerprint_key() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    let key = journal.fingerprint_key("m", None).unwrap();
    assert_eq!(journal.fingerprint_key("m", None).unwrap(), key);
    assert_ne!(journal.fingerprint_key("other", None).unwrap(), key);
}
