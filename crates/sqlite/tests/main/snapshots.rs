//! One snapshot an epoch, also of a database that another program writes to.

use crate::fixture::{Fixture, batches};
use futures::TryStreamExt as _;
use whimbrel_store::{Source, Store as _, conformance};

async fn rows(source: &dyn Source) -> usize {
    let mut rows = 0;
    for part in source.slices(3).await.unwrap() {
        rows +=
            batches(source, &part).await.unwrap().iter().map(|batch| batch.records.num_rows()).sum::<usize>();
    }
    rows
}

const TABLE: &str = "PRAGMA journal_mode = WAL; CREATE TABLE t (a); INSERT INTO t VALUES (1), (2), (3)";

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_sees_one_snapshot_while_another_program_writes() {
    let fixture = Fixture::new(TABLE);
    let other = fixture.connect();
    let source = fixture.table("t");
    fixture.store.begin_epoch().await.unwrap();
    assert_eq!(rows(&*source).await, 3);
    other.execute_batch("INSERT INTO t VALUES (4); DELETE FROM t WHERE a = 1; UPDATE t SET a = 9").unwrap();
    assert_eq!(rows(&*source).await, 3);
    let part = source.slices(1).await.unwrap().remove(0);
    // More reads at once than the epoch has connections: they share those, one after the other.
    let reads = (0..12).map(|_| async { batches(&*source, &part).await.unwrap()[0].records.num_rows() });
    assert_eq!(futures::future::join_all(reads).await, [3; 12]);
    other.execute_batch("INSERT INTO t VALUES (5)").unwrap();
    fixture.store.begin_epoch().await.unwrap();
    assert_eq!(rows(&*source).await, 4, "the next epoch sees what is there now");
    fixture.store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_readers_join_an_epoch_while_nobody_writes() {
    let fixture = Fixture::new(TABLE);
    let source = fixture.table("t");
    fixture.store.begin_epoch().await.unwrap();
    let part = source.slices(1).await.unwrap().remove(0);
    let context = conformance::context();
    let mut open = Vec::new();
    for _ in 0..9 {
        open.push(source.read(&part, None, &context).await.unwrap());
    }
    fixture.connect().execute_batch("INSERT INTO t VALUES (4)").unwrap();
    for stream in open {
        let read: Vec<_> = stream.try_collect().await.unwrap();
        assert_eq!(read[0].records.num_rows(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_epoch_what_is_committed_is_read() {
    let fixture = Fixture::new(TABLE);
    let source = fixture.table("t");
    assert_eq!(rows(&*source).await, 3);
    let other = fixture.connect();
    other.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES (4)").unwrap();
    assert_eq!(rows(&*source).await, 3);
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(rows(&*source).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_of_the_same_file_is_not_held_up_by_a_snapshot_that_nobody_reads() {
    let fixture = Fixture::new("CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    let source = fixture.table("t");
    fixture.store.begin_epoch().await.unwrap();
    assert_eq!(rows(&*source).await, 1);
    fixture.store.execute_script("INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(rows(&*source).await, 2);
}
