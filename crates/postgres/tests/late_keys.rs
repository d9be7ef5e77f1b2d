//! Primary keys that are made behind the load, against real servers.

use crate::server::{Fixture, on_each_server, on_real_server};
use crate::target::{batch, people, request, scalar, target, words, write};
use futures::FutureExt as _;
use std::sync::Arc;
use whimbrel_store::conformance::context;
use whimbrel_store::{Creation, Mode, Outcome, Store as _, StoreErrorKind, Target, WriteBatch, WriteRequest};

const KEYS: &str = "SELECT count(*) FROM pg_constraint WHERE contype = 'p' AND conrelid = 'people'::regclass";
const NOTED: &str = "SELECT count(*) FROM whimbrel.after_load WHERE kind = 'primary key' AND NOT is_done";

fn keyed(mode: Mode) -> WriteRequest {
    WriteRequest { key: vec!["id".to_owned()], ..request("people", mode) }
}

/// Makes a table into which records of distinct keys are to go.
async fn made(fixture: &Fixture, request: WriteRequest) -> Arc<dyn Target> {
    let target = target(fixture, request);
    target.plan(people(&[1], &["a"]).schema_ref()).await.expect("a plan");
    target.expect_distinct_keys();
    assert!(matches!(target.create().await.expect("made"), Creation::Created(_)));
    target
}

/// Does all steps behind the load; their statements.
async fn finish(target: &Arc<dyn Target>) -> Vec<String> {
    let steps = target.load_steps().await.expect("steps");
    for step in &steps {
        target.apply_step(step, &context()).await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        target.apply_step(step, &context()).await.expect("done twice");
    }
    steps.into_iter().map(|step| step.text).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_follows_the_load_and_counts_as_there_meanwhile() {
    on_real_server(|fixture| {
        async {
            let first = made(fixture, keyed(Mode::Insert)).await;
            assert_eq!((scalar(fixture, KEYS).await, scalar(fixture, NOTED).await), (0, 1));
            assert_eq!(
                words(&write(&first, true, batch(people(&[3, 1, 2], &["c", "a", "b"]), 1)).await),
                ["created"; 3]
            );
            // A process that comes later, to go on or to look, sees the table with its key.
            let process = Fixture::new(fixture.config.clone());
            let later = target(&process, keyed(Mode::Insert));
            let plan = later.plan(people(&[1], &["a"]).schema_ref()).await.expect("a plan");
            assert!(plan.exists && plan.key == ["id"], "{plan:?}");
            let found = later.create().await.expect("looked at");
            assert!(
                matches!(&found, Creation::Existed { differences, .. } if differences.is_empty()),
                "{found:?}"
            );
            let known = later.look_up(&people(&[2], &["b"]), &context()).await.expect("looked up");
            assert_eq!(known.rows, [Some(0)], "the record is found");
            later.expect_distinct_keys();
            // What only the server refuses is found in a staging table, without the key.
            fixture.run("ALTER TABLE people ADD CHECK (id < 1000)").await;
            let later = target(&process, keyed(Mode::Insert));
            later.plan(people(&[1], &["a"]).schema_ref()).await.expect("a plan");
            later.expect_distinct_keys();
            let outcomes = write(&later, true, batch(people(&[4, 1_000, 5], &["d", "x", "e"]), 1)).await;
            assert!(matches!(outcomes[..], [Outcome::Created(_), Outcome::Rejected(_), Outcome::Created(_)]));
            assert_eq!(scalar(fixture, KEYS).await, 0);
            let steps = finish(&later).await;
            assert!(steps[0].ends_with("PRIMARY KEY (id)"), "{steps:?}");
            assert_eq!((scalar(fixture, KEYS).await, scalar(fixture, NOTED).await), (1, 0));
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people").await, 5);
            assert!(finish(&later).await.is_empty(), "nothing is left");
            process.store.close().await;
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_needs_the_key_has_it_made_first() {
    on_each_server(|fixture| {
        async {
            let first = made(fixture, keyed(Mode::Insert)).await;
            write(&first, true, batch(people(&[1, 2], &["a", "b"]), 1)).await;
            // Another run, which is not told that keys are distinct, and finds records there.
            let other = target(fixture, keyed(Mode::Insert));
            let outcomes = write(&other, false, batch(people(&[2, 3], &["x", "c"]), 1)).await;
            assert_eq!(words(&outcomes), ["the key exists already", "created"]);
            assert_eq!(scalar(fixture, KEYS).await, 1);

            fixture.run("DROP TABLE people").await;
            let first = made(fixture, keyed(Mode::Insert)).await;
            write(&first, true, batch(people(&[1, 2], &["a", "b"]), 1)).await;
            let other = target(fixture, keyed(Mode::Upsert));
            other.expect_distinct_keys();
            let outcomes = write(&other, true, batch(people(&[2, 3], &["x", "c"]), 1)).await;
            assert!(outcomes.iter().all(|outcome| !matches!(outcome, Outcome::Rejected(_))), "{outcomes:?}");
            assert_eq!(
                (scalar(fixture, KEYS).await, scalar(fixture, "SELECT count(*) FROM people").await),
                (1, 3)
            );
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rows_of_one_key_end_the_load() {
    on_each_server(|fixture| {
        async {
            let first = made(fixture, keyed(Mode::Insert)).await;
            write(&first, true, batch(people(&[1, 2], &["a", "b"]), 1)).await;
            fixture.run("INSERT INTO people VALUES (2, 'somebody else')").await;
            let step = first.load_steps().await.expect("steps").remove(0);
            let error = first.apply_step(&step, &context()).await.expect_err("they share a key");
            assert_eq!(error.kind(), StoreErrorKind::Mismatch);
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            assert!(cause.contains("Key (id)=(2) is duplicated"), "{cause}");
            assert!(error.hint().is_some_and(|hint| hint.contains("whimbrel resume")), "{:?}", error.hint());
            fixture.run("DELETE FROM people WHERE name = 'somebody else'").await;
            first.apply_step(&step, &context()).await.expect("done");
            assert_eq!(scalar(fixture, KEYS).await, 1);
            let again = WriteBatch { contested: true, ..batch(people(&[1], &["a"]), 2) };
            let later = target(fixture, keyed(Mode::Insert));
            assert_eq!(words(&write(&later, true, again).await), ["created"], "it is there already");
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_may_be_missed_are_few() {
    on_real_server(|fixture| {
        async {
            // Not told; text; a table that is there; one that wants to know of each record.
            let untold = target(fixture, keyed(Mode::Insert));
            untold.plan(people(&[1], &["a"]).schema_ref()).await.expect("a plan");
            untold.create().await.expect("made");
            assert_eq!(scalar(fixture, KEYS).await, 1);
            for request in [
                WriteRequest { key: vec!["name".to_owned()], ..keyed(Mode::Insert) },
                keyed(Mode::Upsert),
                WriteRequest { allow_lossy: vec!["id".to_owned()], ..keyed(Mode::Insert) },
            ] {
                fixture.run("DROP TABLE people").await;
                made(fixture, request).await;
                assert_eq!(scalar(fixture, KEYS).await, 1);
            }
            // Another flow into the same table, which it calls by another name.
            fixture.run("DROP TABLE people").await;
            let _other =
                target(fixture, WriteRequest { table: "public.people".to_owned(), ..keyed(Mode::Insert) });
            made(fixture, keyed(Mode::Insert)).await;
            assert_eq!(scalar(fixture, KEYS).await, 1);
            let process = Fixture::new(fixture.config.clone());
            let there = target(&process, keyed(Mode::Insert));
            there.plan(people(&[1], &["a"]).schema_ref()).await.expect("a plan");
            there.expect_distinct_keys();
            assert!(matches!(there.create().await.expect("looked at"), Creation::Existed { .. }));
            assert_eq!((scalar(fixture, KEYS).await, scalar(fixture, NOTED).await), (1, 0));
            process.store.close().await;
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_say_whether_keys_come_once() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE numbered (id bigint PRIMARY KEY, name text UNIQUE NOT NULL); \
                     CREATE TABLE keyless (id bigint)",
                )
                .await;
            let says = async |name: &str| fixture.table(name).delivers_keys_once().await.expect("an answer");
            assert!(says("numbered").await && !says("keyless").await);
            let mut by_name = crate::server::request(whimbrel_store::Relation::Table("numbered".to_owned()));
            by_name.slice_by = vec!["name".to_owned()];
            let by_name = fixture.store.source(by_name).expect("a source");
            assert!(!by_name.delivers_keys_once().await.expect("an answer"), "a name may change");
            assert!(
                !fixture
                    .query("SELECT id FROM numbered", &["id"])
                    .delivers_keys_once()
                    .await
                    .expect("an answer")
            );
        }
        .boxed_local()
    })
    .await;
}
