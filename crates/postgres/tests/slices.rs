//! Slices, cursors and batches.

use crate::server::{column, on_each_server, read, read_all, request};
use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use whimbrel_model::{Cursor, SlicePart};
use whimbrel_store::conformance::{self, context};
use whimbrel_store::{Parameter, ReadBatch, Relation, Source, Store as _, StoreErrorKind};

#[tokio::test(flavor = "multi_thread")]
async fn slices_are_of_similar_size() {
    on_each_server(|fixture| {
        async {
            fixture.run("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT n * n FROM generate_series(1, 1000) AS n").await;
            let source = fixture.table("t");
            let slices = source.slices(4).await.unwrap();
            assert_eq!(slices[0], SlicePart(json!({ "above": null, "upto": ["62500"] })));
            assert_eq!(slices[3], SlicePart(json!({ "above": ["562500"], "upto": null })));
            let mut sizes = Vec::new();
            for part in &slices {
                sizes.push(read(&*source, part, None).await.iter().map(|batch| batch.records.num_rows()).sum::<usize>());
            }
            assert_eq!(sizes, [250, 250, 250, 250]);
            fixture.run("DELETE FROM t WHERE id > 4").await;
            assert_eq!(fixture.table("t").slices(16).await.unwrap().len(), 2, "fewer keys than slices");
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_of_a_large_table_come_from_a_sample() {
    on_each_server(|fixture| {
        async {
            fixture.run("CREATE TABLE big (id int PRIMARY KEY, pad text); INSERT INTO big SELECT n, 'x' FROM generate_series(1, 300000) AS n").await;
            fixture.run("ANALYZE big").await;
            let source = fixture.table("big");
            assert!(source.describe().await.unwrap().records.unwrap() > 250_000);
            let slices = source.slices(4).await.unwrap();
            assert_eq!(slices.len(), 4);
            let mut sizes = Vec::new();
            for part in &slices {
                sizes.push(read(&*source, part, None).await.iter().map(|batch| batch.records.num_rows()).sum::<usize>());
            }
            assert_eq!(sizes.iter().sum::<usize>(), 300_000);
            assert!(sizes.iter().all(|size| *size < 75_000 * 3 / 2), "{sizes:?}");
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_all_kinds_are_found() {
    on_each_server(|fixture| {
        async {
            let names = ["Users", "two words", "a.b", "🐦 \"bird\"", "sélection"];
            for name in names {
                let quoted = format!("\"{}\"", name.replace('"', "\"\""));
                fixture
                    .run(&format!(
                        "CREATE TABLE {quoted} (\"Id\" int PRIMARY KEY); INSERT INTO {quoted} VALUES (1), (2)"
                    ))
                    .await;
                assert_eq!(
                    column(&read_all(&*fixture.table(name), 2).await, "Id"),
                    [json!(1), json!(2)],
                    "{name}"
                );
            }
            fixture
                .run(
                    "CREATE SCHEMA \"S\"; CREATE TABLE \"S\".t (id int); CREATE TABLE \"S\".\"x.y\" (id int)",
                )
                .await;
            for name in ["S.t", "\"S\".\"t\"", "S.x.y", "\"S\".\"x.y\"", "PG_CATALOG.PG_AM"] {
                fixture
                    .table(name)
                    .describe()
                    .await
                    .map(|_| ())
                    .or_else(|error| {
                        // Found; its columns are of types that are not read.
                        if error.kind() == StoreErrorKind::Unsupported { Ok(()) } else { Err(error) }
                    })
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_cut_by_records_and_bytes() {
    on_each_server(|fixture| {
        async {
            fixture.run("CREATE TABLE t (id int PRIMARY KEY, pad text); INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 50) AS n").await;
            let sizes = async |records, bytes| {
                let mut request = request(Relation::Table("t".to_owned()));
                (request.batch_records, request.batch_bytes) = (records, bytes);
                let source = fixture.store.source(request).unwrap();
                read_all(&*source, 1).await.iter().map(|batch| batch.records.num_rows()).collect::<Vec<_>>()
            };
            assert_eq!(sizes(20, 1 << 20).await, [20, 20, 10]);
            assert_eq!(sizes(1000, 10_500).await, [10, 10, 10, 10, 10]);
            assert_eq!(sizes(1000, 10).await, vec![1; 50], "a record larger than a batch goes alone");
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_loses_no_records_of_one_key() {
    on_each_server(|fixture| {
        async {
            // 1.0 and 1.00 are one key in two forms.
            fixture
                .run(
                    "CREATE TABLE t (k numeric, v int); INSERT INTO t SELECT CASE WHEN n % 2 = 0 THEN 1.0 ELSE 1.00 END * (n / 7), n \
                     FROM generate_series(0, 699) AS n; INSERT INTO t SELECT 50, n FROM generate_series(1000, 1299) AS n; \
                     INSERT INTO t VALUES (NULL, -1), (NULL, -2)",
                )
                .await;
            let mut request = request(Relation::Table("t".to_owned()));
            request.slice_by = vec!["k".to_owned()];
            let source = fixture.store.source(request).unwrap();
            assert!(source.describe().await.unwrap().resumable);
            let slices = source.slices(3).await.unwrap();
            assert_eq!(slices.last(), Some(&SlicePart(json!({ "null": true }))));
            let mut all = Vec::new();
            for part in &slices {
                let batches = read(&*source, part, None).await;
                let again = read(&*source, part, None).await;
                assert_eq!(shapes(&batches), shapes(&again), "the order is the same again");
                for (at, batch) in batches.iter().enumerate() {
                    let Some(cursor) = &batch.cursor else {
                        assert_eq!(column(&batches, "v").len(), 2, "only NULL keys have no cursor");
                        continue;
                    };
                    let rest = read(&*source, part, Some(cursor)).await;
                    assert_eq!(column(&rest, "v"), column(&batches[at + 1..], "v"));
                }
                all.extend(column(&batches, "v").into_iter().filter_map(|value| value.as_i64()));
            }
            assert_eq!(all.len(), 1002);
            assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 1002);
        }
        .boxed_local()
    })
    .await;
}

/// Values and cursors of batches.
fn shapes(batches: &[ReadBatch]) -> Vec<(Vec<Value>, Option<Cursor>)> {
    batches.iter().map(|batch| (column(std::slice::from_ref(batch), "v"), batch.cursor.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_binds_its_parameters_and_takes_its_slice_inside() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE u (id int PRIMARY KEY, org text); INSERT INTO u SELECT n, 'o''r' || n % 2 FROM generate_series(1, 400) AS n; \
                     CREATE TABLE p (id int PRIMARY KEY, u int); INSERT INTO p SELECT n, n FROM generate_series(1, 400) AS n",
                )
                .await;
            let ask = |sql: &str, slice_by: &[&str]| {
                let mut request = request(Relation::Query(sql.to_owned()));
                request.slice_by = slice_by.iter().map(|name| (*name).to_owned()).collect();
                for (name, value) in [("org", "o'r1"), ("least", "11"), ("evil", "'; DROP TABLE u; --")] {
                    request.parameters.insert(name.to_owned(), Parameter(value.to_owned()));
                }
                fixture.store.source(request).unwrap()
            };
            let sql = "SELECT u.id, p.id AS p FROM u JOIN p ON p.u = u.id WHERE {slice} AND u.org = $org AND u.id >= $least ORDER BY 2; -- done";
            let source = ask(sql.trim_end_matches("; -- done"), &["u.id"]);
            let description = source.describe().await.unwrap();
            assert_eq!((description.records, description.key), (Some(195), vec!["id".to_owned()]));
            assert_eq!(source.slices(4).await.unwrap().len(), 5, "four ranges and NULL");
            assert_eq!(column(&read_all(&*source, 4).await, "p").len(), 195);
            let around = ask("SELECT id FROM u WHERE org = $org -- all", &["id"]);
            assert_eq!(column(&read_all(&*around, 3).await, "id").len(), 200);
            let evil = ask("SELECT id FROM u WHERE org = $evil", &[]);
            assert_eq!(read_all(&*evil, 3).await.len(), 0);
            let unknown = ask("SELECT id FROM u WHERE org = $nobody", &[]).describe().await.unwrap_err();
            assert_eq!(unknown.kind(), StoreErrorKind::Mismatch);
            let missing = ask("SELECT org FROM u", &["id"]).describe().await.unwrap_err();
            assert_eq!(missing.kind(), StoreErrorKind::NotFound);
            assert!(missing.hint().unwrap().contains("org"));
            let twice = ask("SELECT u.id, p.id FROM u JOIN p ON true", &[]).describe().await.unwrap_err();
            assert!(twice.to_string().contains("one name"), "{twice}");
            assert!(!ask("SELECT id FROM u", &[]).describe().await.unwrap().resumable);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_read_side_by_side_are_the_whole() {
    on_each_server(|fixture| {
        async {
            fixture.run("CREATE TABLE t (id int PRIMARY KEY, pad text); INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(1, 20000) AS n").await;
            fixture.store.begin_epoch().await.unwrap();
            let source = fixture.table("t");
            let parts = source.slices(6).await.unwrap();
            let reads = parts.iter().map(|part| read(&*source, part, None));
            let all = futures::future::join_all(reads).await.concat();
            let ids: BTreeSet<_> = column(&all, "id").into_iter().filter_map(|id| id.as_i64()).collect();
            assert_eq!(ids.len(), 20_000);
            // Readers that stop early, one after the other and at once.
            for _ in 0..3 {
                let early = parts.iter().map(|part| async {
                    let mut stream = source.read(part, None, &context()).await.unwrap();
                    stream.next().await.unwrap().unwrap().records.num_rows()
                });
                assert_eq!(futures::future::join_all(early).await, vec![100; 6]);
            }
            assert_eq!(column(&read_all(&*source, 1).await, "id").len(), 20_000);
        }
        .boxed_local()
    })
    .await;
}

/// The numbers of records of a source's slices.
async fn sizes(source: &dyn Source, wanted: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    for part in source.slices(wanted).await.expect("slices") {
        sizes.push(read(source, &part, None).await.iter().map(|batch| batch.records.num_rows()).sum());
    }
    sizes
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_are_even_whatever_the_keys_are() {
    const KEYS: [(&str, &str); 11] = [
        ("a bigint PRIMARY KEY", "CASE WHEN n <= 8000 THEN n ELSE n::bigint * 900000000000 END"),
        ("a int, b int, PRIMARY KEY (a, b)", "CASE WHEN n <= 7200 THEN 1 ELSE n END, n"),
        (
            "a text PRIMARY KEY",
            "CASE WHEN n % 10 > 0 THEN 'same long beginning ' ELSE chr(97 + n % 26) END || n",
        ),
        ("a text COLLATE \"C\" PRIMARY KEY", "chr(33 + n % 300) || n"),
        ("a uuid PRIMARY KEY", "md5(n::text)::uuid"),
        (
            "a timestamptz PRIMARY KEY",
            "CASE WHEN n = 1 THEN '-infinity' ELSE timestamptz '2024-01-01' + n * interval '1 microsecond' END",
        ),
        (
            "a numeric, b text, c date, PRIMARY KEY (a, b, c)",
            "round(1.0 / n, 4), 'x' || n % 3, date '2024-01-01' + n",
        ),
        ("a int[] PRIMARY KEY", "ARRAY[n % 7, n]"),
        ("a bytea PRIMARY KEY", "decode(md5(n::text), 'hex')"),
        ("a char(12) PRIMARY KEY", "'k' || n"),
        ("a float8 PRIMARY KEY", "CASE WHEN n = 8000 THEN 'NaN' ELSE 10.0::float8 ^ (n % 300) + n END"),
    ];
    on_each_server(|fixture| {
        async {
            for (key, values) in KEYS {
                fixture.run(&format!("CREATE TABLE t ({key}); INSERT INTO t SELECT DISTINCT {values} FROM generate_series(1, 8000) AS n")).await;
                let sizes = sizes(&*fixture.table("t"), 16).await;
                let all = sizes.iter().sum::<usize>();
                assert_eq!(Some(all), fixture.store.query_scalar_i64("SELECT count(*) FROM t").await.unwrap().and_then(|all| usize::try_from(all).ok()), "{key}");
                assert_eq!(sizes.len(), 16, "{key}");
                assert!(sizes.iter().all(|size| size * 16 < all * 11 / 10), "{key}: {sizes:?}");
                fixture.run("DROP TABLE t").await;
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_records_of_one_key_go_on_where_they_stopped() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE t (id int PRIMARY KEY, k text, at timestamp); \
                     INSERT INTO t SELECT n, CASE WHEN n BETWEEN 40 AND 1500 THEN 'crowd' ELSE 'k' || n END, timestamp '2024-01-01' + n * interval '1 s' FROM generate_series(1, 1600) n",
                )
                .await;
            for relation in [Relation::Table("t".to_owned()), Relation::Query("SELECT * FROM t".to_owned())] {
                let mut request = request(relation);
                request.slice_by = vec!["k".to_owned()];
                let source = fixture.store.source(request).unwrap();
                let part = SlicePart(json!({ "above": null, "upto": null }));
                let batches = read(&*source, &part, None).await;
                let all = column(&batches, "id");
                assert_eq!(all.iter().filter_map(Value::as_i64).collect::<BTreeSet<_>>().len(), 1600);
                assert!(batches.iter().all(|batch| batch.records.num_rows() <= 100), "a crowd needs no more memory");
                let mut done = 0;
                let mut within = 0;
                for batch in &batches {
                    done += batch.records.num_rows();
                    let cursor = batch.cursor.as_ref().expect("each batch has a cursor");
                    within += usize::from(cursor.0.is_object());
                    assert_eq!(column(&read(&*source, &part, Some(cursor)).await, "id"), all[done..]);
                }
                assert!(within >= 13, "{within}");
                // What the cursor counts on has changed: said, not read over.
                let cursor = batches.iter().rev().filter_map(|batch| batch.cursor.clone()).find(|cursor| cursor.0.is_object()).unwrap();
                fixture.run("DELETE FROM t WHERE k = 'crowd' AND id < 60").await;
                let stream = source.read(&part, Some(&cursor), &context()).await.unwrap();
                let error = futures::TryStreamExt::try_collect::<Vec<_>>(stream).await.unwrap_err();
                assert_eq!(error.kind(), StoreErrorKind::Drift, "{error:?}");
                assert!(source.split(&part, Some(&cursor)).await.unwrap().is_empty());
                fixture.run("INSERT INTO t SELECT n, 'crowd', timestamp '2024-01-01' + n * interval '1 s' FROM generate_series(40, 59) n").await;
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_slice_can_be_split() {
    on_each_server(|fixture| {
        async {
            fixture.run("CREATE TABLE t (a int, b text, PRIMARY KEY (a, b)); INSERT INTO t SELECT n / 500, 'b' || n FROM generate_series(0, 1999) n; CREATE TABLE loose (a int)").await;
            let source = fixture.table("t");
            let slices = source.slices(2).await.unwrap();
            for part in &slices {
                let batches = read(&*source, part, None).await;
                let cursor = batches[2].cursor.clone();
                let rest = column(&batches[3..], "b");
                let parts = source.split(part, cursor.as_ref()).await.unwrap();
                assert_eq!(parts.len(), 4);
                let mut found = Vec::new();
                for part in &parts {
                    let read = column(&read(&*source, part, None).await, "b");
                    assert!((150..=200).contains(&read.len()), "{}", read.len());
                    found.extend(read);
                }
                assert_eq!(found, rest);
                let last = batches.last().unwrap().cursor.clone();
                assert!(source.split(part, last.as_ref()).await.unwrap().is_empty(), "nothing is left to split");
            }
            let loose = fixture.table("loose");
            let whole = loose.slices(1).await.unwrap().remove(0);
            assert!(loose.split(&whole, None).await.unwrap().is_empty());
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_differ_as_text_may_be_equal() {
    on_each_server(|fixture| {
        async {
            let collation = "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
            if fixture.store.execute_script(collation).await.is_err() {
                return;
            }
            fixture
                .run(
                    "CREATE TABLE t (k text COLLATE blind NOT NULL, id int); INSERT INTO t SELECT CASE n % 2 WHEN 0 THEN 'Key ' ELSE 'kEY ' END || n / 40, n FROM generate_series(0, 1999) n; \
                     CREATE TABLE u (k text COLLATE blind PRIMARY KEY, id int); INSERT INTO u SELECT CASE n % 2 WHEN 0 THEN 'Key ' ELSE 'kEY ' END || n, n FROM generate_series(0, 1999) n",
                )
                .await;
            let mut request = request(Relation::Table("t".to_owned()));
            request.slice_by = vec!["k".to_owned()];
            conformance::source(&*fixture.store.source(request).unwrap(), 2000).await;
            conformance::source(&*fixture.table("u"), 2000).await;
        }
        .boxed_local()
    })
    .await;
}
