//! Snapshots: what an epoch sees, and what happens when it is gone.

use crate::server::{beside, column, end_other_sessions, on_each_server, on_real_server, read, read_all};
use futures::FutureExt as _;
use whimbrel_store::conformance::context;
use whimbrel_store::{Store as _, StoreErrorKind};

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT n FROM generate_series(1, 300) AS n";

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_sees_one_snapshot() {
    on_real_server(|fixture| {
        async {
            fixture.run(TABLE).await;
            let source = fixture.table("t");
            let other = beside(fixture).await;
            let parts = source.slices(3).await.unwrap();
            fixture.store.begin_epoch().await.unwrap();
            other.batch_execute("DELETE FROM t WHERE id % 2 = 0; INSERT INTO t VALUES (1000)").await.unwrap();
            let mut seen = 0;
            for part in &parts {
                seen += column(&read(&*source, part, None).await, "id").len();
            }
            assert_eq!(seen, 300, "the epoch began before the change");
            fixture.store.begin_epoch().await.unwrap();
            assert_eq!(column(&read_all(&*source, 3).await, "id").len(), 151, "the next one sees it");
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_expected_are_there_and_an_epoch_reads_beside_them() {
    on_real_server(|fixture| {
        async {
            fixture.run(TABLE).await;
            let other = beside(fixture).await;
            let sessions = async || {
                let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND application_name = 'whimbrel' AND state = 'idle'";
                other.query_one(count, &[]).await.unwrap().get::<_, i64>(0)
            };
            fixture.store.expect(2, 1);
            let all = async { while sessions().await < 3 {} };
            tokio::time::timeout(std::time::Duration::from_secs(60), all).await.expect("three connections");
            let source = fixture.table("t");
            let parts = source.slices(3).await.unwrap();
            fixture.store.begin_epoch().await.unwrap();
            for part in &parts {
                assert_eq!(column(&read(&*source, part, None).await, "id").len(), 100);
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_snapshot_is_said_and_a_new_epoch_goes_on() {
    on_real_server(|fixture| {
        async {
            fixture.run(TABLE).await;
            let source = fixture.table("t");
            let part = source.slices(1).await.unwrap().remove(0);
            fixture.store.begin_epoch().await.unwrap();
            assert_eq!(column(&read(&*source, &part, None).await, "id").len(), 300);
            let other = beside(fixture).await;
            end_other_sessions(&other).await;
            let error = loop {
                match source.read(&part, None, &context()).await {
                    // A pooled connection may be found dead first.
                    Err(error) if error.kind() == StoreErrorKind::Unreachable => {}
                    Err(error) => break error,
                    Ok(_) => panic!("nothing can be read after all sessions were ended"),
                }
            };
            assert_eq!(error.kind(), StoreErrorKind::SnapshotLost);
            fixture.store.begin_epoch().await.unwrap();
            assert_eq!(column(&read(&*source, &part, None).await, "id").len(), 300);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_columns_is_drift() {
    on_each_server(|fixture| {
        async {
            fixture.run(TABLE).await;
            let source = fixture.table("t");
            let part = source.slices(1).await.unwrap().remove(0);
            fixture.run("ALTER TABLE t ALTER COLUMN id TYPE bigint").await;
            assert_eq!(
                source.read(&part, None, &context()).await.err().unwrap().kind(),
                StoreErrorKind::Drift
            );
            fixture.run("ALTER TABLE t RENAME COLUMN id TO key").await;
            assert_eq!(
                source.read(&part, None, &context()).await.err().unwrap().kind(),
                StoreErrorKind::Drift
            );
            source.describe().await.unwrap();
            assert_eq!(column(&read(&*source, &part, None).await, "key").len(), 300);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_within_an_epoch_leaves_it_alive() {
    on_each_server(|fixture| {
        async {
            fixture.run(TABLE).await;
            let source = fixture.table("t");
            let part = source.slices(1).await.unwrap().remove(0);
            fixture.store.begin_epoch().await.unwrap();
            for sql in ["SELECT nothing FROM t", "SELECT id FROM nowhere", "SELEC"] {
                assert!(fixture.query(sql, &[]).describe().await.is_err());
            }
            let failing = fixture.query("SELECT 1 / (id - 200) AS x FROM t", &[]);
            let whole = failing.slices(1).await.unwrap().remove(0);
            let stream = failing.read(&whole, None, &context()).await;
            let error = match stream {
                Err(error) => error,
                Ok(stream) => futures::TryStreamExt::try_collect::<Vec<_>>(stream).await.unwrap_err(),
            };
            assert_eq!(error.kind(), StoreErrorKind::Mismatch, "{error:?}");
            assert_eq!(column(&read(&*source, &part, None).await, "id").len(), 300);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_are_all_or_nothing() {
    on_each_server(|fixture| {
        async {
            fixture.run(TABLE).await;
            fixture.store.begin_epoch().await.unwrap();
            let error = fixture
                .store
                .execute_script("INSERT INTO t VALUES (301);\nINSERT INTO\n  nowhere VALUES (1)")
                .await
                .unwrap_err();
            assert!(error.to_string().contains("line 3"), "{error}");
            let count = async || fixture.store.query_scalar_i64("SELECT count(*) FROM t").await.unwrap();
            assert_eq!(count().await, Some(300));
            fixture.run("INSERT INTO t VALUES (301); CREATE TABLE u (x int)").await;
            assert_eq!(count().await, Some(301));
            assert_eq!(fixture.store.query_scalar_i64("SELECT max(x) FROM u").await.unwrap(), None);
            assert!(fixture.store.query_scalar_i64("SELECT 'x'").await.is_err());
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identity_is_the_database_and_check_says_where_we_are() {
    on_each_server(|fixture| {
        async {
            let identity = fixture.store.identity().await.unwrap();
            assert_eq!(fixture.store.identity().await.unwrap(), identity);
            let (cluster, database) = identity.as_str().rsplit_once(':').unwrap();
            assert!(cluster.parse::<u64>().is_ok() && database.parse::<u32>().is_ok(), "{identity}");
            let findings = fixture.store.check().await;
            assert!(findings.iter().all(|finding| finding.ok));
            assert!(
                findings[0].text.contains("PostgreSQL 1")
                    && findings[0].text.contains(&fixture.config.database),
                "{findings:?}"
            );
        }
        .boxed_local()
    })
    .await;
}
