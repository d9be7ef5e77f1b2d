//! The suite that every source passes.

use crate::server::{on_each_server, request};
use futures::FutureExt as _;
use whimbrel_store::{Relation, Store as _, conformance};

const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL, born date, tags text[]); \
    INSERT INTO people SELECT n, 'name ' || n, date '1970-01-01' + n, ARRAY['t' || n % 3, NULL] \
    FROM generate_series(1, 1234) AS n";

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_a_simple_key() {
    on_each_server(|fixture| {
        async {
            fixture.run(PEOPLE).await;
            conformance::source(&*fixture.table("people"), 1234).await;
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_an_epoch() {
    on_each_server(|fixture| {
        async {
            fixture.run(PEOPLE).await;
            fixture.store.begin_epoch().await.unwrap();
            conformance::source(&*fixture.table("people"), 1234).await;
            fixture.store.begin_epoch().await.unwrap();
            conformance::source(&*fixture.table("people"), 1234).await;
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_a_composite_key_of_text() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE pairs (a text, b numeric(10, 2), c text, PRIMARY KEY (a, b)); \
                     INSERT INTO pairs SELECT 'it''s \\ ' || n % 7, n / 100.0, 'c' FROM generate_series(1, 777) AS n",
                )
                .await;
            conformance::source(&*fixture.table("pairs"), 777).await;
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_one_slice() {
    on_each_server(|fixture| {
        async {
            fixture.run("CREATE TABLE loose AS SELECT n FROM generate_series(1, 500) AS n").await;
            let source = fixture.table("loose");
            let description = source.describe().await.unwrap();
            assert!(!description.resumable);
            assert!(description.notes[0].contains("no primary key"), "{:?}", description.notes);
            assert_eq!(source.slices(4).await.unwrap().len(), 1);
            conformance::source(&*source, 500).await;
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_by_a_key_that_repeats() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE crowds (id int, kind text NOT NULL, at inet); INSERT INTO crowds SELECT n, 'k' || n / 250, '::1' FROM generate_series(1, 1500) AS n; \
                     INSERT INTO crowds SELECT n, 'few' || n / 3, NULL FROM generate_series(1, 300) AS n",
                )
                .await;
            let mut request = request(Relation::Table("crowds".to_owned()));
            request.slice_by = vec!["kind".to_owned()];
            conformance::source(&*fixture.store.source(request).unwrap(), 1800).await;
        }
        .boxed_local()
    })
    .await;
}
