//! Tables that are hard to read: odd names, odd kinds, odd sizes.

use crate::server::{
    Fixture, beside, column, end_other_sessions, on_each_server, on_real_server, read, read_all, request,
};
use futures::{FutureExt as _, TryStreamExt as _};
use serde_json::json;
use std::collections::BTreeSet;
use whimbrel_model::StoreName;
use whimbrel_postgres::{PostgresConfig, PostgresStore};
use whimbrel_store::conformance::context;
use whimbrel_store::{Relation, Store as _, StoreErrorKind};

async fn ids(fixture: &Fixture, table: &str, wanted: usize) -> Vec<i64> {
    let read = read_all(&*fixture.table(table), wanted).await;
    column(&read, "id").into_iter().filter_map(|id| id.as_i64()).collect()
}

async fn notes(fixture: &Fixture, table: &str) -> Vec<String> {
    fixture.table(table).describe().await.expect("a description").notes
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_is_only_a_name() {
    on_each_server(|fixture| {
        async {
            let names = ["select", "Order By", "it's", "a\"b", "🐦", "tmp_1", "pg_temp", "x;DROP TABLE y;--", "{slice}", "$name", "ÄÖ", " lead", "a.b.c"];
            for name in names {
                let quoted = format!("\"{}\"", name.replace('"', "\"\""));
                fixture
                    .run(&format!(
                        "CREATE SCHEMA {0}; CREATE TABLE {0}.{0} ({0} int, id int, t interval, PRIMARY KEY ({0}, id)); \
                         INSERT INTO {0}.{0} SELECT n % 3, n, make_interval(days => n) FROM generate_series(1, 40) AS n",
                        quoted.replace("\"pg_temp\"", "\"p temp\"")
                    ))
                    .await;
                let written = quoted.replace("\"pg_temp\"", "\"p temp\"");
                let ids = ids(fixture, &format!("{written}.{written}"), 4).await;
                assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 40, "{name}");
                fixture.run(&format!("DROP SCHEMA {written} CASCADE")).await;
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn few_records_and_none() {
    on_each_server(|fixture| {
        async {
            fixture.run("CREATE UNLOGGED TABLE none (id int PRIMARY KEY); CREATE TABLE one (id int PRIMARY KEY, t inet); INSERT INTO one VALUES (7, '::1')").await;
            assert!(ids(fixture, "none", 16).await.is_empty());
            assert_eq!(fixture.table("none").slices(16).await.unwrap().len(), 1);
            assert_eq!(ids(fixture, "one", 16).await, [7]);
            fixture.run("CREATE TABLE bare ()").await;
            assert_eq!(fixture.table("bare").describe().await.unwrap_err().kind(), StoreErrorKind::Unsupported);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wide_tables() {
    on_each_server(|fixture| {
        async {
            let columns: Vec<_> = (1..1600).map(|n| format!("c{n} {}", ["int", "text", "inet"][n % 3])).collect();
            fixture
                .run(&format!(
                    "CREATE TABLE wide (id int PRIMARY KEY, {}); INSERT INTO wide (id, c1, c1597, c1599) SELECT n, 'x' || n, NULL, n FROM generate_series(1, 30) n",
                    columns.join(", ")
                ))
                .await;
            let batches = read_all(&*fixture.table("wide"), 3).await;
            assert_eq!(batches[0].records.num_columns(), 1600);
            assert_eq!(column(&batches, "c1")[29], json!("x30"));
            assert_eq!(column(&batches, "c1599")[4], json!(5));
            let mut repeating = request(Relation::Table("wide".to_owned()));
            repeating.slice_by = vec!["c1".to_owned(), "c2".to_owned()];
            let source = fixture.store.source(repeating).unwrap();
            assert_eq!(column(&read_all(&*source, 3).await, "id").len(), 30);
            let source = fixture.query("SELECT * FROM wide", &["id", "c1"]);
            assert_eq!(column(&read_all(&*source, 3).await, "id").len(), 30);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_records_go_alone() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE long (id int PRIMARY KEY, t text); INSERT INTO long SELECT n, repeat('x', 1000000 + n) FROM generate_series(1, 6) n; \
                     INSERT INTO long VALUES (7, 'short'), (8, repeat('ü', 20000000))",
                )
                .await;
            let batches = read_all(&*fixture.table("long"), 1).await;
            let sizes: Vec<_> = batches.iter().map(|batch| batch.records.num_rows()).collect();
            assert_eq!(sizes, [1, 1, 1, 1, 1, 2, 1]);
            let lengths: Vec<_> = column(&batches, "t").iter().map(|text| text.as_str().unwrap().len()).collect();
            assert_eq!(lengths[5..], [1_000_006, 5, 40_000_000]);
            let cursor = batches[3].cursor.as_ref();
            let source = fixture.table("long");
            let part = source.slices(1).await.unwrap().remove(0);
            assert_eq!(column(&read(&*source, &part, cursor).await, "id"), [5, 6, 7, 8].map(|id| json!(id)));
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_heirs_and_views() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE parts (id int, gone int, at date, note interval, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); ALTER TABLE parts DROP COLUMN gone; \
                     CREATE TABLE p1 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2021-01-01'); \
                     CREATE TABLE p2 (note interval, at date NOT NULL, id int NOT NULL); ALTER TABLE parts ATTACH PARTITION p2 FOR VALUES FROM ('2021-01-01') TO ('2022-01-01'); \
                     INSERT INTO parts SELECT n, date '2020-01-01' + n, '1 day' FROM generate_series(0, 699) n; \
                     CREATE TABLE parent (id int PRIMARY KEY, t text); CREATE TABLE child (more text) INHERITS (parent); \
                     INSERT INTO parent SELECT n, 'p' FROM generate_series(1, 100) n; INSERT INTO child SELECT n % 50, 'c', 'm' FROM generate_series(1, 200) n; \
                     CREATE VIEW seen AS SELECT id, note FROM parts WHERE id < 100; \
                     CREATE MATERIALIZED VIEW kept AS SELECT id, note FROM parts; CREATE UNIQUE INDEX ON kept (id); \
                     CREATE TABLE made (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, own int GENERATED ALWAYS AS IDENTITY); INSERT INTO made VALUES (1), (2)",
                )
                .await;
            let all = |ids: Vec<i64>| ids.into_iter().collect::<BTreeSet<_>>().len();
            assert_eq!(all(ids(fixture, "parts", 5).await), 700);
            assert_eq!(all(ids(fixture, "p2", 5).await), 334);
            assert_eq!(ids(fixture, "parent", 4).await.len(), 300, "a key of the parent repeats in the child");
            assert_eq!(ids(fixture, "seen", 4).await.len(), 100);
            assert!(notes(fixture, "seen").await[0].contains("one slice"));
            assert_eq!(all(ids(fixture, "kept", 4).await), 700);
            assert_eq!(fixture.table("kept").slices(4).await.unwrap().len(), 5, "four ranges and NULL");
            assert_eq!(column(&read_all(&*fixture.table("made"), 1).await, "twice"), [json!(2), json!(4)]);
            let mut sliced = request(Relation::Table("seen".to_owned()));
            sliced.slice_by = vec!["id".to_owned()];
            let source = fixture.store.source(sliced).unwrap();
            assert!(source.slices(3).await.unwrap().len() > 2);
            assert_eq!(column(&read_all(&*source, 3).await, "id").len(), 100);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_columns_that_a_role_may_not_see() {
    on_real_server(|fixture| {
        async {
            let role = format!("{}_some", fixture.config.database);
            fixture
                .run(&format!(
                    "CREATE ROLE {role} LOGIN; CREATE TABLE owned (id int PRIMARY KEY, owner text); INSERT INTO owned VALUES (1, '{role}'), (2, 'other'); \
                     ALTER TABLE owned ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON owned USING (owner = current_user); GRANT SELECT ON owned TO {role}; \
                     CREATE TABLE part (id int PRIMARY KEY, \"A b\" text, c int); INSERT INTO part VALUES (1, 'x', 2); GRANT SELECT (id) ON part TO {role}; \
                     CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int)"
                ))
                .await;
            let config = PostgresConfig { user: role.clone(), ..fixture.config.clone() };
            let reader = Fixture { store: PostgresStore::new(StoreName::new("pg"), config.clone()), config };
            assert_eq!(ids(&reader, "owned", 2).await, [1]);
            assert!(notes(&reader, "owned").await[0].contains("row-level security"));
            let error = reader.table("part").describe().await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Forbidden);
            assert!(error.to_string().contains("may not read the columns `A b`, `c` of"), "{error}");
            assert!(error.hint().unwrap().contains("`SELECT \"id\" FROM \"public\".\"part\"`"), "{error:?}");
            assert_eq!(column(&read_all(&*reader.query("SELECT id FROM part", &["id"]), 1).await, "id"), [json!(1)]);
            assert_eq!(reader.table("hidden.t").describe().await.unwrap_err().kind(), StoreErrorKind::Forbidden);
            reader.store.close().await;
            fixture.run(&format!("DROP TABLE owned; DROP OWNED BY {role}; DROP ROLE {role}")).await;
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_in_the_middle_can_be_asked_again() {
    on_real_server(|fixture| {
        async {
            fixture.run("CREATE TABLE t (id int PRIMARY KEY, pad text); INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 50000) AS n").await;
            let source = fixture.table("t");
            let part = source.slices(1).await.unwrap().remove(0);
            let mut stream = source.read(&part, None, &context()).await.unwrap();
            let first = stream.try_next().await.unwrap().unwrap();
            let other = beside(fixture).await;
            end_other_sessions(&other).await;
            let error = loop {
                match stream.try_next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the read was cut"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error:?}");
            let rest = loop {
                match source.read(&part, first.cursor.as_ref(), &context()).await {
                    Ok(rest) => break rest.try_collect::<Vec<_>>().await.unwrap(),
                    // A pooled connection may be found dead first.
                    Err(error) => assert_eq!(error.kind(), StoreErrorKind::Unreachable, "{error:?}"),
                }
            };
            assert_eq!(column(&rest, "id").len(), 49_900);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_tables() {
    on_real_server(|fixture| {
        async {
            if fixture.store.execute_script("CREATE EXTENSION postgres_fdw").await.is_err() {
                return;
            }
            fixture
                .run(
                    "CREATE TABLE near (id int PRIMARY KEY, t inet); INSERT INTO near SELECT n, '::1' FROM generate_series(1, 300) n; INSERT INTO near VALUES (0, NULL); \
                     DO $$ BEGIN EXECUTE format('CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host %L, port %L, dbname %L)', '127.0.0.1', current_setting('port'), current_database()); END $$; \
                     CREATE USER MAPPING FOR CURRENT_USER SERVER far OPTIONS (user 'postgres'); \
                     CREATE FOREIGN TABLE far_t (id int, t inet NOT NULL) SERVER far OPTIONS (table_name 'near')",
                )
                .await;
            assert_eq!(ids(fixture, "far_t", 3).await.len(), 301);
            assert!(notes(fixture, "far_t").await.iter().any(|note| note.contains("foreign table")));
            let mut sliced = request(Relation::Table("far_t".to_owned()));
            sliced.slice_by = vec!["id".to_owned()];
            let batches = read_all(&*fixture.store.source(sliced).unwrap(), 3).await;
            assert_eq!(column(&batches, "id").len(), 301);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_was_never_checked_promises_nothing() {
    on_real_server(|fixture| {
        async {
            fixture.run("CREATE TABLE t (id int PRIMARY KEY, c int); INSERT INTO t VALUES (1, NULL)").await;
            // From PostgreSQL 18 on.
            let unchecked = "ALTER TABLE t ADD CONSTRAINT c_is_there NOT NULL c NOT VALID";
            let is_taken = fixture.store.execute_script(unchecked).await.is_ok();
            assert_eq!(column(&read_all(&*fixture.table("t"), 1).await, "c"), [json!(null)], "{is_taken}");
        }
        .boxed_local()
    })
    .await;
}
