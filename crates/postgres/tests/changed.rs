//! `Mode::Changed`: what is the same is not written, and what was written since it was compared stays.

use crate::server::{beside, on_each_server, on_real_server};
use crate::target::{batch, people, request, scalar, target, texts, words, write};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use futures::{FutureExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_model::Logical;
use whimbrel_store::conformance::context;
use whimbrel_store::{Doomed, HeldFlow, Mode, WriteBatch, WriteRequest};

fn document(id: i64, document: &Value) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, true), Logical::Json.field("doc", true)]);
    let id: ArrayRef = Arc::new(Int64Array::from(vec![id]));
    let text: ArrayRef = Arc::new(StringArray::from(vec![document.to_string()]));
    RecordBatch::try_new(Arc::new(schema), vec![id, text]).expect("a batch")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_differs_is_written() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE people (id bigint PRIMARY KEY, name text, other text);
                     CREATE TABLE writes (n int);
                     CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN INSERT INTO writes VALUES (1); RETURN NEW; END $$;
                     CREATE TRIGGER note BEFORE INSERT OR UPDATE ON people FOR EACH ROW EXECUTE FUNCTION note();
                     INSERT INTO people VALUES (1, 'a', 'kept'), (2, 'old', 'kept'), (3, NULL, 'kept');
                     TRUNCATE writes",
                )
                .await;
            let changed = target(fixture, request("people", Mode::Changed));
            let records = people(&[1, 2, 3, 4, 4], &["a", "b", "c", "d", "e"]);
            let outcomes = write(&changed, false, batch(records.clone(), 1)).await;
            let second = "a second record with the key of an earlier one";
            assert_eq!(words(&outcomes), ["unchanged", "updated", "updated", "created", second]);
            assert_eq!(scalar(fixture, "SELECT count(*) FROM writes").await, 3);
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people WHERE other = 'kept'").await, 3);
            // Not even a row is locked.
            let versions = "SELECT sum(xmin::text::bigint + xmax::text::bigint * 1000)::bigint FROM people";
            let before = scalar(fixture, versions).await;
            let again = write(&changed, false, batch(people(&[1, 2, 3, 4], &["a", "b", "c", "d"]), 1)).await;
            assert_eq!(words(&again), ["unchanged"; 4]);
            assert_eq!(scalar(fixture, versions).await, before);
            assert_eq!(scalar(fixture, "SELECT count(*) FROM writes").await, 3);
            fixture.run("TRUNCATE people").await;
            let empty = write(&changed, true, batch(people(&[1, 2, 1], &["a", "b", "c"]), 1)).await;
            assert_eq!(words(&empty), ["created", "created", second]);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ignored_makes_no_difference_at_any_depth() {
    on_each_server(|fixture| {
        async {
            for kind in ["json", "jsonb"] {
                fixture
                    .run(&format!(
                        "DROP TABLE IF EXISTS lessons; CREATE TABLE lessons (id bigint PRIMARY KEY, doc {kind})"
                    ))
                    .await;
                let ignoring = |paths: &[&str]| {
                    let ignore = paths.iter().map(|path| (*path).to_owned()).collect();
                    target(fixture, WriteRequest { ignore, ..request("lessons", Mode::Changed) })
                };
                let doc = |at: &str, text: &str| {
                    let answers = json!([{"n": 1, "at": at}, {"n": 2}]);
                    json!({"q": [{"text": text, "at": at, "answers": answers}, {"x": null}], "at": at,
                           "list": [1, at, 3], "it's": {"at": at}})
                };
                let paths = ["doc.q[*].at", "doc.q[*].answers[*].at", "doc.at", "doc.list[1]", "doc.it's.at"];
                let all = ignoring(&paths);
                let first = document(1, &doc("1", "x"));
                all.plan(first.schema_ref()).await.expect("a plan");
                let one = async |target: &Arc<dyn whimbrel_store::Target>, doc: &Value| {
                    words(&write(target, false, batch(document(1, doc), 1)).await).remove(0)
                };
                assert_eq!(one(&all, &doc("1", "x")).await, "created");
                assert_eq!(one(&all, &doc("2", "x")).await, "unchanged");
                for without in 0..paths.len() {
                    let mut others = paths.to_vec();
                    others.remove(without);
                    let seeing = ignoring(&others);
                    assert_eq!(one(&seeing, &doc("2", "x")).await, "updated", "{}", paths[without]);
                    assert_eq!(one(&seeing, &doc("1", "x")).await, "updated", "{}", paths[without]);
                }
                assert_eq!(one(&all, &doc("3", "y")).await, "updated");
                assert_eq!(one(&all, &doc("4", "y")).await, "unchanged");

                let prints = |doc: &Value| {
                    all.fingerprints(&document(1, doc), &context()).remove(0).expect("a fingerprint")
                };
                assert_eq!(prints(&doc("1", "y")), prints(&doc("2", "y")));
                assert_ne!(prints(&doc("1", "y")), prints(&doc("1", "z")));
                let held = all.look_up(&document(1, &doc("9", "y")), &context()).await.expect("a look");
                assert_eq!(held.held.records[0].fingerprint, prints(&doc("8", "y")), "{kind}");
            }
            let ignore = vec!["name.at".to_owned()];
            fixture.run("CREATE TABLE people (id bigint PRIMARY KEY, name text)").await;
            let wrong = target(fixture, WriteRequest { ignore, ..request("people", Mode::Changed) });
            let error = wrong.plan(people(&[1], &["a"]).schema_ref()).await.expect_err("no documents");
            assert!(error.to_string().contains("text holds no documents"), "{error}");
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_tenants_and_refused_records() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE people (id bigint PRIMARY KEY, name varchar(5) CHECK (name <> 'bad'), tenant text);
                     INSERT INTO people VALUES (1, 'a', 'us'), (2, 'b', 'them'), (3, 'c', 'us')",
                )
                .await;
            let scope = BTreeMap::from([("tenant".to_owned(), "us".to_owned())]);
            let changed = target(fixture, WriteRequest { scope, ..request("people", Mode::Changed) });
            let records = people(&[1, 2, 3, 4, 5, 6], &["a", "x", "bad", "bad", "too long", "new"]);
            let outcomes = words(&write(&changed, false, batch(records, 1)).await);
            assert_eq!((outcomes[0].as_str(), outcomes[5].as_str()), ("unchanged", "created"));
            assert_eq!(outcomes[1], "the key is held outside of the flow's scope");
            assert!(outcomes[2].contains("check constraint"), "{outcomes:?}");
            assert!(outcomes[3].contains("check constraint"), "{outcomes:?}");
            assert!(outcomes[4].contains("too long"), "{outcomes:?}");
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people WHERE name IN ('a', 'b', 'c')").await, 3);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_and_columns_that_postgres_reads() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE parts (id text, at interval, PRIMARY KEY (id)) PARTITION BY HASH (id);
                     CREATE TABLE part_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                     CREATE TABLE part_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
                     INSERT INTO parts VALUES ('a', '90 minutes'), ('b', '1 day')",
                )
                .await;
            let lossy = vec!["at".to_owned()];
            let request = WriteRequest { allow_lossy: lossy, ..request("parts", Mode::Changed) };
            let changed = target(fixture, request);
            for (id, at, expected) in
                [("a", "1:30", "unchanged"), ("b", "2 days", "updated"), ("c", "1 day", "created")]
            {
                let outcome = write(&changed, false, batch(texts(&[("id", id), ("at", at)]), 1)).await;
                assert_eq!(words(&outcome), [expected], "{id}");
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_since_it_was_compared_stays() {
    on_real_server(|fixture| {
        async {
            fixture
                .run("CREATE TABLE people (id bigint PRIMARY KEY, name text); INSERT INTO people VALUES (1, 'a'), (2, 'b'), (3, 'c')")
                .await;
            let other = beside(fixture).await;
            other
                .batch_execute("BEGIN; UPDATE people SET name = 'newer' WHERE id = 2; UPDATE people SET name = 'z' WHERE id = 3; INSERT INTO people VALUES (4, 'newer')")
                .await
                .expect("edits");
            let changed = target(fixture, request("people", Mode::Changed));
            let writing = write(&changed, false, WriteBatch { ..batch(people(&[1, 2, 3, 4], &["x", "y", "z", "w"]), 1) });
            let committing = async {
                let watch = beside(fixture).await;
                let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
                while watch.query_one(waits, &[]).await.expect("a count").get::<_, i64>(0) == 0 {}
                other.batch_execute("COMMIT").await.expect("committed");
            };
            let (outcomes, ()) = futures::join!(writing, committing);
            let words = words(&outcomes);
            assert_eq!((words[0].as_str(), words[2].as_str()), ("updated", "unchanged"));
            for row in [1, 3] {
                assert!(words[row].starts_with("conflict: it has changed since"), "{words:?}");
            }
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people WHERE name = 'newer'").await, 2);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_rows_that_are_as_they_were_read_are_deleted() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE kept (id bytea, at timestamptz, n double precision, name text, PRIMARY KEY (id, at, n));
                     INSERT INTO kept SELECT decode(md5(k::text), 'hex'), timestamptz '2024-01-01' + k * interval '1.000001 s',
                       k / 3.0, 'a' FROM generate_series(1, 30) AS k",
                )
                .await;
            let request = WriteRequest {
                key: ["id", "at", "n"].map(str::to_owned).to_vec(),
                ..request("kept", Mode::Changed)
            };
            let target = target(fixture, request.clone());
            let fields = [
                Field::new("id", DataType::Binary, true),
                Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
                Field::new("n", DataType::Float64, true),
                Field::new("name", DataType::Utf8, true),
            ];
            let columns = Arc::new(Schema::new(fields.to_vec()));
            target.plan(&columns).await.expect("a plan");
            let flow = HeldFlow { constants: Vec::new(), columns, request };
            let mut doomed = Vec::new();
            for part in target.held_parts(2).await.expect("parts") {
                let batches = target.held(&part, std::slice::from_ref(&flow), &context()).await.expect("a reading");
                for batch in batches.try_collect::<Vec<_>>().await.expect("batches") {
                    doomed.extend((0..batch.records.len()).map(|row| Doomed {
                        key: batch.contents.key(row),
                        version: batch.contents.version(row),
                    }));
                }
            }
            assert_eq!(doomed.len(), 30);
            fixture.run("UPDATE kept SET name = 'newer' WHERE n = 4; DELETE FROM kept WHERE n = 5").await;
            let deleted = target.delete(&doomed, &context()).await.expect("deleted");
            assert_eq!((deleted.records, deleted.left.len()), (29, 1), "{:?}", deleted.left);
            assert!(deleted.left[0].1.contains("changed after it was read"), "{:?}", deleted.left);
            assert_eq!(scalar(fixture, "SELECT count(*) FROM kept WHERE name = 'newer'").await, 1);
            assert_eq!(scalar(fixture, "SELECT count(*) FROM kept").await, 1);
        }
        .boxed_local()
    })
    .await;
}
