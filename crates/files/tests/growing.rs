//! Files on a disk that are written while its slices are read: in order, once, and whole after any end.

use crate::support::{read_all, records, request, usual_store};
use crate::writing::{checkpoint, into, publish, write, writer};
use arrow::array::{Int64Array, RecordBatch, StringArray};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use whimbrel_model::SliceId;
use whimbrel_store::{RunContext, Store as _, StoreErrorKind, Target, Writer, conformance};

const FILES: [&str; 7] =
    ["a.json", "a.ndjson", "a.csv", "a.jsonl.zst", "a.csv.gz", "b/a.dynamodb.json.gz", "a.parquet"];

fn batch(ids: Range<i64>) -> RecordBatch {
    wide(ids, 3)
}

/// Records with a text of so many bytes.
fn wide(ids: Range<i64>, bytes: usize) -> RecordBatch {
    let texts = ids.clone().map(|_| Some("x".repeat(bytes))).collect::<StringArray>();
    let ids = Int64Array::from_iter_values(ids);
    RecordBatch::try_from_iter([("id", Arc::new(ids) as _), ("text", Arc::new(texts) as _)]).unwrap()
}

async fn planned(folder: &Path, table: &str) -> Arc<dyn Target> {
    let target = usual_store(folder).target(into(table)).unwrap();
    target.plan(&batch(0..1).schema()).await.unwrap();
    target
}

/// Begins a slice and writes a batch, which is committed.
async fn begin(
    target: &Arc<dyn Target>,
    slice: &str,
    batch: RecordBatch,
    context: &RunContext,
) -> Box<dyn Writer> {
    let writer = writer(target, slice, context).await;
    write(&*writer, 1, batch).await;
    writer.commit(&checkpoint(1), 1).await.unwrap();
    writer
}

/// What the file holds, in its order.
async fn ids(folder: &Path, table: &str) -> Vec<i64> {
    let source = usual_store(folder).source(request(table, &[], &["id"])).unwrap();
    let read = records(&read_all(&*source).await.unwrap());
    read.iter().map(|record| record["id"].to_string().trim_matches('"').parse().unwrap()).collect()
}

/// The one file of a run whose name begins so.
fn staged(folder: &Path, context: &RunContext, begins: &str) -> PathBuf {
    let run = folder.join(".whimbrel-parts").join(context.run.as_str());
    let mut found = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path());
    found.find(|path| path.file_name().unwrap().to_string_lossy().starts_with(begins)).unwrap()
}

fn parts(folder: &Path, context: &RunContext) -> usize {
    let run = folder.join(".whimbrel-parts").join(context.run.as_str()).join("parts");
    let folders = std::fs::read_dir(run).into_iter().flatten().map(|entry| entry.unwrap().path());
    folders.map(|folder| std::fs::read_dir(folder).unwrap().count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_stand_in_their_order_whichever_ends_first() {
    let folder = tempfile::tempdir().unwrap();
    for table in FILES {
        let (target, context) = (planned(folder.path(), table).await, conformance::context());
        let mut writers = Vec::new();
        for number in 0..5 {
            let slice = format!("s.{number:04}");
            writers.push(begin(&target, &slice, batch(number * 10..number * 10 + 5), &context).await);
        }
        // One waits a moment and becomes a part, the last one has no record, the first ones come in turn.
        writers.pop();
        writers.pop().unwrap().finish().await.unwrap();
        assert_eq!(parts(folder.path(), &context), 1, "{table}");
        let empty = writer(&target, "s.0004", &context).await;
        for writer in [&writers[0], &writers[1], &writers[2], &empty] {
            writer.finish().await.unwrap();
        }
        assert_eq!(parts(folder.path(), &context), 0, "{table}: the part is in the file");
        let last = begin(&target, "s.0005", batch(90..91), &context).await;
        last.finish().await.unwrap();
        publish(&target, &context).await;
        publish(&target, &context).await;
        let expected: Vec<i64> = (0..4).flat_map(|at| at * 10..at * 10 + 5).chain([90]).collect();
        assert_eq!(ids(folder.path(), table).await, expected, "{table}");
    }
    assert!(!folder.path().join(".whimbrel-parts").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_slices_that_end_at_once_need_no_part() {
    let folder = tempfile::tempdir().unwrap();
    let (target, context) = (planned(folder.path(), "a.ndjson").await, conformance::context());
    let first = begin(&target, "s.0000", batch(0..5), &context).await;
    let second = begin(&target, "s.0001", batch(5..9), &context).await;
    let (second, first) = tokio::join!(second.finish(), first.finish());
    first.unwrap();
    second.unwrap();
    let run = folder.path().join(".whimbrel-parts").join(context.run.as_str());
    assert!(!run.join("parts").exists(), "one waited for the other");
    publish(&target, &context).await;
    assert_eq!(ids(folder.path(), "a.ndjson").await, (0..9).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_when_a_process_was_killed_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    for table in FILES {
        let context = conformance::context();
        let target = planned(folder.path(), table).await;
        begin(&target, "s.0000", batch(0..5), &context).await.finish().await.unwrap();
        drop(begin(&target, "s.0001", batch(5..7), &context).await);
        drop(target);
        // What was written and no ledger knows of.
        let growing = staged(folder.path(), &context, "publishing");
        let mut torn = std::fs::read(&growing).unwrap();
        torn.extend(b"half of a rec");
        std::fs::write(&growing, torn).unwrap();

        let target = planned(folder.path(), table).await;
        let done = writer(&target, "s.0000", &context).await;
        assert_eq!(done.last().await.unwrap(), Some(checkpoint(1)), "{table}");
        let lost = writer(&target, "s.0001", &context).await;
        assert_eq!(lost.last().await.unwrap(), None, "{table}");
        write(&*lost, 1, batch(5..9)).await;
        lost.commit(&checkpoint(1), 1).await.unwrap();
        lost.finish().await.unwrap();
        // A slice that the journal did not know to be done, and of which more has come meanwhile.
        write(&*done, 2, batch(20..22)).await;
        done.commit(&checkpoint(2), 1).await.unwrap();
        done.finish().await.unwrap();
        begin(&target, "s.0002", batch(9..11), &context).await.finish().await.unwrap();
        publish(&target, &context).await;
        let expected: Vec<i64> = (0..11).chain(20..22).collect();
        assert_eq!(ids(folder.path(), table).await, expected, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slice_that_is_too_long_to_be_held_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (target, context) = (planned(folder.path(), "a.ndjson").await, conformance::context());
    let long = writer(&target, "s.0000", &context).await;
    for number in 0..4 {
        let seq = u64::try_from(number).unwrap() + 1;
        write(&*long, seq, wide(number * 5..number * 5 + 5, 1 << 20)).await;
        long.commit(&checkpoint(seq), 1).await.unwrap();
    }
    drop((long, target));
    let target = planned(folder.path(), "a.ndjson").await;
    let again = writer(&target, "s.0000", &context).await;
    assert_eq!(again.last().await.unwrap(), Some(checkpoint(4)));
    let next = begin(&target, "s.0001", batch(21..23), &context).await;
    write(&*again, 5, batch(20..21)).await;
    again.commit(&checkpoint(5), 1).await.unwrap();
    let ended = tokio::join!(next.finish(), again.finish());
    ended.0.unwrap();
    ended.1.unwrap();
    assert_eq!(parts(folder.path(), &context), 0, "it is in the file");
    publish(&target, &context).await;
    assert_eq!(ids(folder.path(), "a.ndjson").await, (0..23).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_that_share_slices_or_a_file_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (store, context) = (usual_store(folder.path()), conformance::context());
    let target = |flow: &str, table: &str| {
        store.target(whimbrel_store::WriteRequest { flow: flow.into(), ..into(table) }).unwrap()
    };
    let (one, other, third) = (target("f", "a.json"), target("g", "a.json"), target("h", "b.csv"));
    for at in [&one, &other, &third] {
        at.plan(&batch(0..1).schema()).await.unwrap();
    }
    for number in 0..3 {
        let slice = SliceId::new(format!("s.{number:04}"));
        let mut writers = Vec::new();
        for target in [&one, &other, &third] {
            writers.push(target.writer(&slice, true, &context).await.unwrap());
        }
        for (place, writer) in (0..).zip(&writers) {
            write(&**writer, 1, batch(number * 100 + place * 10..number * 100 + place * 10 + 3)).await;
            writer.commit(&checkpoint(1), 3).await.unwrap();
        }
        for writer in &writers {
            writer.finish().await.unwrap();
        }
    }
    // Another scan of one of the flows.
    begin(&one, "t.0000", batch(900..902), &context).await.finish().await.unwrap();
    publish(&one, &context).await;
    publish(&third, &context).await;
    let mut found = ids(folder.path(), "a.json").await;
    found.sort_unstable();
    let of = |place: i64| (0..3).flat_map(move |at| at * 100 + place * 10..at * 100 + place * 10 + 3);
    let mut expected: Vec<i64> = of(0).chain(of(1)).chain(900..902).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(ids(folder.path(), "b.csv").await, of(2).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_lost_what_its_ledgers_know_of_is_refused_and_one_that_has_its_name_is_kept() {
    for table in ["a.json", "a.parquet"] {
        let (folder, before) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (target, context) = (planned(folder.path(), table).await, conformance::context());
        begin(&target, "s.0000", batch(0..5), &context).await.finish().await.unwrap();
        let growing = staged(folder.path(), &context, "publishing");
        let whole = std::fs::read(&growing).unwrap();
        std::fs::write(&growing, &whole[..whole.len() - 1]).unwrap();
        let step = target.load_steps().await.unwrap().remove(0);
        assert_eq!(target.apply_step(&step, &context).await.unwrap_err().kind(), StoreErrorKind::Mismatch);
        let again = planned(folder.path(), table).await;
        let next = begin(&again, "s.0001", batch(5..6), &context).await;
        assert_eq!(next.finish().await.unwrap_err().kind(), StoreErrorKind::Mismatch);
        let named = folder.path().join(table);
        assert!(!named.exists());

        // The same records as they are where nothing failed.
        let (target, other) = (planned(before.path(), table).await, conformance::context());
        begin(&target, "s.0000", batch(0..5), &other).await.finish().await.unwrap();
        publish(&target, &other).await;
        // Killed when the file had its name and that was not noted.
        let published = std::fs::read(before.path().join(table)).unwrap();
        assert!(published.starts_with(&whole), "{table}: what was written is not written again");
        std::fs::write(&named, &published).unwrap();
        std::fs::remove_file(&growing).unwrap();
        publish(&again, &context).await;
        assert_eq!(std::fs::read(&named).unwrap(), published, "{table}");
        assert_eq!(ids(folder.path(), table).await, (0..5).collect::<Vec<_>>());
    }
}
