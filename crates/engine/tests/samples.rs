//! Samples of a run, and a journal of the format before them.

use serde_json::json;
use whimbrel_engine::Journal;
use whimbrel_engine::journal::{MOST_SAMPLES, NewRun, RunKind, Sample};
use whimbrel_model::RunId;

fn begun(journal: &mut Journal) -> RunId {
    let id = RunId::generate();
    let run = NewRun {
        id: id.clone(),
        migration: "m".to_owned(),
        environment: String::new(),
        kind: RunKind::Run,
        spec_path: "m.yaml".to_owned(),
        spec_digest: "d".to_owned(),
        shape: "s".to_owned(),
        options: json!({}),
        stores: Vec::new(),
    };
    journal.begin(&run).unwrap();
    id
}

fn sample(second: i64) -> Sample {
    let records = u64::try_from(second).unwrap() * 10;
    Sample { at_ms: second * 1_000, records, rejected: 1, bytes: 2 }
}

#[tokio::test]
async fn samples_come_back_by_stretch_and_stay_few() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    let run = begun(&mut journal);
    let writer = journal.writer(&run, None).unwrap();
    (0..3).for_each(|second| writer.sample(sample(second)));
    writer.flush().await.unwrap();
    journal.continue_run(&run, "d", "s").unwrap();
    // In portions, as a long run hands them over.
    for second in 100..3_100 {
        writer.sample(sample(second));
        if second % 250 == 0 {
            writer.flush().await.unwrap();
        }
    }
    writer.flush().await.unwrap();

    let stretches = journal.stretches(&run).unwrap();
    assert_eq!(stretches.iter().map(|stretch| stretch.number).collect::<Vec<_>>(), [0, 1]);
    let (first, second) = (&stretches[0].samples, &stretches[1].samples);
    assert_eq!((first.first(), first.last()), (Some(&sample(0)), Some(&sample(2))));
    assert_eq!((second.first(), second.last()), (Some(&sample(100)), Some(&sample(3_099))));
    assert!((200..=MOST_SAMPLES).contains(&(first.len() + second.len())), "{}", second.len());
    assert!(second.is_sorted_by_key(|sample| sample.at_ms));
}

#[test]
fn a_journal_of_format_2_is_brought_up() {
    let folder = tempfile::tempdir().unwrap();
    let run = begun(&mut Journal::open(folder.path()).unwrap());
    let connection = rusqlite::Connection::open(folder.path().join("journal.sqlite")).unwrap();
    connection
        .execute_batch(
            "DROP TABLE samples; ALTER TABLE checkpoints DROP COLUMN spared_write_units;
             ALTER TABLE resources DROP COLUMN identity; ALTER TABLE runs DROP COLUMN canonical_version;
             INSERT INTO migrations VALUES ('m', '', zeroblob(32), 1)",
        )
        .unwrap();
    connection.pragma_update(None, "user_version", 2).unwrap();
    drop(connection);
    let journal = Journal::open(folder.path()).unwrap();
    let runs = journal.runs().unwrap();
    assert_eq!(runs.len(), 1, "what was there stays");
    // Its fingerprints are of the form that its migration began with.
    assert_eq!((runs[0].canonical_version, runs[0].has_other_fingerprints()), (1, true));
    assert_eq!(journal.stretches(&run).unwrap(), []);
}
