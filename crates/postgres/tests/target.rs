//! Writing, against real servers.

use crate::server::{Fixture, on_each_server};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use futures::FutureExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_model::{Checkpoint, FlowName, SliceId};
use whimbrel_store::conformance::{self, TargetFixture, context};
use whimbrel_store::{
    Mode, Nulls, Outcome, RunContext, Store as _, Target, WriteBatch, WriteRequest, Writer,
};

pub fn request(table: &str, mode: Mode) -> WriteRequest {
    WriteRequest {
        flow: FlowName::new("flow"),
        table: table.to_owned(),
        key: Vec::new(),
        mode,
        nulls: Nulls::Null,
        forms: BTreeMap::new(),
        ignore: Vec::new(),
        scope: BTreeMap::new(),
        allow_lossy: Vec::new(),
        shape: None,
        collection: None,
    }
}

pub fn target(fixture: &Fixture, request: WriteRequest) -> Arc<dyn Target> {
    fixture.store.target(request).expect("a target")
}

pub fn people(ids: &[i64], names: &[&str]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef, true),
        ("name", Arc::new(StringArray::from(names.to_vec())), true),
    ])
    .expect("a batch")
}

/// One record of texts.
pub fn texts(columns: &[(&str, &str)]) -> RecordBatch {
    let columns = columns.iter().map(|(name, text)| {
        let array: ArrayRef = Arc::new(StringArray::from(vec![*text]));
        (*name, array, true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
}

pub fn batch(records: RecordBatch, seq: u64) -> WriteBatch {
    WriteBatch { records, seq, cursor: None, contested: false, guards: None }
}

pub fn checkpoint(seq: u64) -> Checkpoint {
    Checkpoint { seq, position: seq * 10, ..Checkpoint::default() }
}

pub const SLICE: &str = "flow.0000";

pub async fn writer(target: &Arc<dyn Target>, created: bool, context: &RunContext) -> Box<dyn Writer> {
    target.writer(&SliceId::new(SLICE), created, context).await.expect("a writer")
}

/// Writes one batch and makes it durable.
pub async fn write(target: &Arc<dyn Target>, created: bool, batch: WriteBatch) -> Vec<Outcome> {
    let writer = writer(target, created, &context()).await;
    let outcome = writer.write(batch).await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    writer.commit(&checkpoint(1), 1).await.expect("committed");
    writer.finish().await.expect("finished");
    outcome.outcomes
}

/// The outcomes in a word each, rejects with their reasons.
pub fn words(outcomes: &[Outcome]) -> Vec<String> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Created(_) => "created".to_owned(),
        Outcome::Updated(_) => "updated".to_owned(),
        Outcome::Unchanged(_) => "unchanged".to_owned(),
        Outcome::Skipped => "skipped".to_owned(),
        Outcome::Rejected(refusal) => refusal.reason.clone(),
    };
    outcomes.iter().map(word).collect()
}

pub async fn scalar(fixture: &Fixture, sql: &str) -> i64 {
    fixture.store.query_scalar_i64(sql).await.expect("an answer").expect("a value")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_that_every_target_passes() {
    on_each_server(|fixture| {
        async {
            fixture
                .run("CREATE TABLE people (id bigint PRIMARY KEY, name varchar(20) NOT NULL, CHECK (id < 1000))")
                .await;
            let upsert = target(fixture, request("people", Mode::Upsert));
            let skip_existing = target(fixture, request("people", Mode::SkipExisting));
            let records = people(&[1, 2, 3], &["a", "b", "c"]);
            upsert.plan(records.schema_ref()).await.expect("a plan");
            let refused = people(&[9], &["a name that is longer than the column is wide"]);
            let suite = TargetFixture {
                upsert: &*upsert,
                skip_existing: &*skip_existing,
                changed: people(&[1, 2, 3], &["x", "y", "z"]),
                refused,
                records: records.clone(),
            };
            conformance::target(&suite).await;
            fixture.run("TRUNCATE people").await;
            // This one is refused by the server alone.
            conformance::target(&TargetFixture { refused: people(&[1000], &["q"]), ..suite }).await;
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn insert_refuses_keys_that_exist() {
    on_each_server(|fixture| {
        async {
            fixture.run("CREATE TABLE people (id bigint PRIMARY KEY, name text); INSERT INTO people VALUES (2, 'b')").await;
            let insert = target(fixture, request("people", Mode::Insert));
            let outcomes = write(&insert, false, batch(people(&[1, 2, 1], &["a", "B", "c"]), 1)).await;
            let expected =
                ["created", "the key exists already", "a second record with the key of an earlier one"];
            assert_eq!(words(&outcomes), expected);
            let again = WriteBatch { contested: true, ..batch(people(&[1, 2], &["a", "B"]), 1) };
            assert_eq!(words(&write(&insert, false, again).await), ["created", "the key exists already"]);
            // A table that is said to be empty and is not: the merge finds out.
            let outcomes = write(&insert, true, batch(people(&[2, 3], &["x", "y"]), 1)).await;
            assert_eq!(words(&outcomes), ["the key exists already", "created"]);
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people").await, 3);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn update_is_guarded_by_what_was_read() {
    on_each_server(|fixture| {
        async {
            fixture
                .run("CREATE TABLE people (id bigint PRIMARY KEY, name text, other text); \
                      INSERT INTO people VALUES (1, 'a', 'o'), (2, 'changed', 'o'), (3, 'c', 'o'), (5, NULL, 'o')")
                .await;
            let update = target(fixture, request("people", Mode::Update));
            let records = people(&[1, 2, 3, 4, 5], &["A", "B", "c", "D", "E"]);
            let guards = RecordBatch::try_from_iter_with_nullable([(
                "name",
                Arc::new(StringArray::from(vec![Some("a"), Some("b"), Some("c"), Some("d"), None])) as ArrayRef,
                true,
            )])
            .expect("guards");
            let guarded = WriteBatch { guards: Some(guards), ..batch(records.clone(), 1) };
            let outcomes = write(&update, false, guarded).await;
            let conflict = "conflict: name changed since it was read; the newer value stays";
            assert_eq!(words(&outcomes), ["updated", conflict, "unchanged", "the key does not exist", "updated"]);
            let unguarded = write(&update, false, batch(records, 1)).await;
            assert_eq!(
                words(&unguarded),
                ["unchanged", "updated", "unchanged", "the key does not exist", "unchanged"]
            );
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people WHERE other = 'o'").await, 4);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_elses_rows_are_touched() {
    on_each_server(|fixture| {
        async {
            fixture
                .run("CREATE TABLE people (id bigint PRIMARY KEY, name text, tenant uuid NOT NULL); INSERT INTO people VALUES \
                      (1, 'theirs', '00000000-0000-0000-0000-000000000002'), (2, 'ours', '00000000-0000-0000-0000-000000000001')")
                .await;
            let scope = BTreeMap::from([(
                "tenant".to_owned(),
                "00000000-0000-0000-0000-000000000001".to_owned(),
            )]);
            let of = |mode| target(fixture, WriteRequest { scope: scope.clone(), ..request("people", mode) });
            let records = people(&[1, 2, 3], &["x", "y", "z"]);
            let outside = "the key is held outside of the flow's scope";
            for (mode, ours, new) in [
                (Mode::Update, "updated", "the key does not exist"),
                (Mode::Upsert, "updated", "created"),
                (Mode::SkipExisting, "skipped", "skipped"),
                (Mode::Insert, "the key exists already", "the key exists already"),
            ] {
                let outcomes = write(&of(mode), false, batch(records.clone(), 1)).await;
                assert_eq!(words(&outcomes), [outside, ours, new], "{mode:?}");
            }
            assert_eq!(of(Mode::Upsert).count(&[Vec::new()]).await.expect("a count").flows, [2]);
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people WHERE name = 'theirs'").await, 1);
            let tenants: ArrayRef = Arc::new(StringArray::from(vec!["00000000-0000-0000-0000-000000000003"]));
            let foreign = RecordBatch::try_from_iter([
                ("id", Arc::new(Int32Array::from(vec![7])) as ArrayRef),
                ("tenant", tenants),
            ])
            .expect("a batch");
            let outcomes = words(&write(&of(Mode::Upsert), false, batch(foreign, 1)).await);
            assert!(outcomes[0].contains("the flow's scope"), "{outcomes:?}");
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_found_alone() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE parents (id bigint PRIMARY KEY); INSERT INTO parents VALUES (0); \
                      CREATE TABLE people (id bigint PRIMARY KEY, name text UNIQUE, \
                        parent bigint NOT NULL DEFAULT 0 REFERENCES parents DEFERRABLE INITIALLY DEFERRED, \
                        CONSTRAINT no_negatives CHECK (id >= 0))",
                )
                .await;
            let upsert = target(fixture, request("people", Mode::Upsert));
            let ids: Vec<i64> = (0..5_000).map(|id| if id == 1_234 { -1 } else { id }).collect();
            let names: Vec<String> = (0..5_000).map(|id| format!("n{id}")).collect();
            let records = people(&ids, &names.iter().map(String::as_str).collect::<Vec<_>>());
            let outcomes = words(&write(&upsert, true, batch(records, 1)).await);
            assert!(outcomes[1_234].contains("no_negatives"), "{}", outcomes[1_234]);
            assert!(!outcomes[1_234].contains("n1234"), "the row itself is not shown");
            assert_eq!(outcomes.iter().filter(|word| *word == "created").count(), 4_999);
            // Every second one is bad.
            let ids: Vec<i64> = (0..5_000).map(|id| if id % 2 == 0 { -id - 1 } else { id + 5_000 }).collect();
            let names: Vec<String> = (0..5_000).map(|id| format!("m{id}")).collect();
            let records = people(&ids, &names.iter().map(String::as_str).collect::<Vec<_>>());
            let outcomes = words(&write(&upsert, false, batch(records, 1)).await);
            assert_eq!(outcomes.iter().filter(|word| *word == "created").count(), 2_500);
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people").await, 7_499);
            // Unique in another column, and a deferred foreign key.
            let outcomes =
                words(&write(&upsert, false, batch(people(&[90_000, 90_001], &["n1", "new"]), 1)).await);
            assert!(outcomes[0].contains("people_name_key"), "{outcomes:?}");
            let orphan = RecordBatch::try_from_iter([
                ("id", Arc::new(Int64Array::from(vec![90_002, 90_003])) as ArrayRef),
                ("parent", Arc::new(Int64Array::from(vec![77, 0]))),
            ])
            .expect("a batch");
            let outcomes = words(&write(&upsert, false, batch(orphan, 1)).await);
            assert!(outcomes[0].contains("(parent)=(77)"), "{outcomes:?}");
            assert_eq!(outcomes[1], "created");
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_batch_may_refer_to_each_other() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE nodes (id bigint PRIMARY KEY CHECK (id <> 13), up bigint REFERENCES nodes); \
                      INSERT INTO nodes VALUES (900000, NULL)",
                )
                .await;
            // Ten at a time go up to one that is not there, that is refused, that is, or to each other.
            let ids: Vec<i64> = (0..4_000).collect();
            let up = |id: i64| match (id % 10, id / 10 % 4) {
                (0, 0) => Some(-5),
                (0, 1) => Some(13),
                (0, 2) => Some(900_000),
                (0, _) => Some(id + 9),
                _ => Some(id - 1),
            };
            let refers = Arc::new(ids.iter().map(|id| up(*id)).collect::<Int64Array>()) as ArrayRef;
            let id = Arc::new(Int64Array::from(ids)) as ArrayRef;
            let records = RecordBatch::try_from_iter([("id", id), ("up", refers)]).expect("a batch");
            for mode in [Mode::Insert, Mode::Upsert] {
                let target = target(fixture, request("nodes", mode));
                let outcomes = words(&write(&target, false, batch(records.clone(), 1)).await);
                let created = outcomes.iter().filter(|word| *word == "created").count();
                assert_eq!(created, 2_000, "{mode:?}: {:?}", &outcomes[..40]);
                assert!(outcomes[9].contains("(up)=(8) is not present in table"), "{}", outcomes[9]);
                assert!(outcomes[13].contains("nodes_id_check"), "{}", outcomes[13]);
                assert!(outcomes[59].contains("(up)=(58)"), "{}", outcomes[59]);
                fixture.run("DELETE FROM nodes WHERE id < 900000").await;
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_arrives_with_its_checkpoint_or_not_at_all() {
    on_each_server(|fixture| {
        async {
            fixture.run("CREATE TABLE people (id bigint PRIMARY KEY, name text)").await;
            let insert = target(fixture, request("people", Mode::Insert));
            let context = context();
            let first = writer(&insert, true, &context).await;
            assert_eq!(first.last().await.expect("the ledger"), None);
            first.write(batch(people(&[1], &["a"]), 1)).await.expect("written");
            // The process ends here.
            drop(first);
            let second = writer(&insert, true, &context).await;
            assert_eq!(second.last().await.expect("the ledger"), None);
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people").await, 0);
            second.write(batch(people(&[1], &["a"]), 1)).await.expect("written");
            second.commit(&checkpoint(1), 1).await.expect("committed");
            second.write(batch(people(&[2], &["b"]), 2)).await.expect("written");
            drop(second);
            let third = writer(&insert, true, &context).await;
            assert_eq!(third.last().await.expect("the ledger"), Some(checkpoint(1)));
            // A batch without a record of this flow moves the checkpoint too.
            third.commit(&checkpoint(2), 1).await.expect("committed");
            third.finish().await.expect("finished");
            let fourth = writer(&insert, true, &context).await;
            assert_eq!(fourth.last().await.expect("the ledger"), Some(checkpoint(2)));
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people").await, 1);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_attempts_cannot_both_commit() {
    on_each_server(|fixture| {
        async {
            fixture.run("CREATE TABLE people (id bigint PRIMARY KEY, name text)").await;
            let insert = target(fixture, request("people", Mode::Insert));
            let context = context();
            let slow = writer(&insert, true, &context).await;
            assert_eq!(slow.last().await.expect("the ledger"), None);
            let fast = writer(&insert, true, &context).await;
            assert_eq!(fast.last().await.expect("the ledger"), None);
            fast.write(batch(people(&[1], &["a"]), 1)).await.expect("written");
            fast.commit(&checkpoint(1), 1).await.expect("committed");
            let error = slow.write(batch(people(&[1], &["a"]), 1)).await.expect_err("it was overtaken");
            assert!(error.to_string().contains("another process"), "{error}");
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people").await, 1);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_of_a_slice_share_a_transaction() {
    on_each_server(|fixture| {
        async {
            fixture
                .run("CREATE TABLE people (id bigint PRIMARY KEY, name text); CREATE TABLE others (LIKE people INCLUDING ALL)")
                .await;
            let people_flow = target(fixture, request("people", Mode::Insert));
            let others = WriteRequest { flow: FlowName::new("others"), ..request("others", Mode::Upsert) };
            let others_flow = target(fixture, others);
            let context = context();
            let one = writer(&people_flow, true, &context).await;
            let other = writer(&others_flow, true, &context).await;
            one.write(batch(people(&[1], &["a"]), 1)).await.expect("written");
            other.write(batch(people(&[1], &["a"]), 1)).await.expect("written");
            one.commit(&checkpoint(1), 2).await.expect("called");
            other.commit(&checkpoint(1), 2).await.expect("committed");
            assert_eq!(scalar(fixture, "SELECT (SELECT count(*) FROM people) + (SELECT count(*) FROM others)").await, 2);
            one.write(batch(people(&[2], &["b"]), 2)).await.expect("written");
            other.write(batch(people(&[2], &["b"]), 2)).await.expect("written");
            one.commit(&checkpoint(2), 2).await.expect("called");
            drop((one, other));
            let again = writer(&others_flow, true, &context).await;
            assert_eq!(again.last().await.expect("the ledger"), Some(checkpoint(1)));
            assert_eq!(scalar(fixture, "SELECT (SELECT count(*) FROM people) + (SELECT count(*) FROM others)").await, 2);
        }
        .boxed_local()
    })
    .await;
}
