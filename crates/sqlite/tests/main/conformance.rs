//! The suites that every source and every target passes.

use crate::fixture::{Fixture, people, query, reading, writing};
use whimbrel_store::conformance::{self, TargetFixture};
use whimbrel_store::{Mode, ReadRequest, Relation, Store as _};

const NUMBERS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1234)";

#[tokio::test(flavor = "multi_thread")]
async fn a_table_by_its_rowid() {
    let fixture = Fixture::new(&format!(
        "CREATE TABLE people (name TEXT, born DATE, score REAL); {NUMBERS} INSERT INTO people \
         SELECT 'name ' || i, date('1970-01-01', i || ' days'), i / 7.0 FROM n; DELETE FROM people WHERE rowid % 10 = 3; \
         INSERT INTO people (rowid, name) VALUES (-5, 'first'), (9223372036854775807, 'last'), (-9223372036854775808, 'least')"
    ));
    conformance::source(&*fixture.table("people"), 1234 - 124 + 3).await;
    fixture.store.begin_epoch().await.unwrap();
    conformance::source(&*fixture.table("people"), 1234 - 124 + 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_rowids_by_a_key_of_mixed_types() {
    let fixture = Fixture::new(&format!(
        "CREATE TABLE pairs (a, b, c TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID; {NUMBERS} INSERT INTO pairs SELECT \
         CASE i % 4 WHEN 0 THEN i WHEN 1 THEN i / 3.0 WHEN 2 THEN 'it''s ' || (i % 7) ELSE CAST(i AS BLOB) END, i, 'c' FROM n"
    ));
    // Blobs in a column without a type are unreadable: as binary, the others are.
    let mut request = reading(Relation::Table("pairs".to_owned()));
    request.wanted = Some(["b".to_owned(), "c".to_owned()].into());
    conformance::source(&*fixture.source(request), 1234).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_by_a_key_of_its_result() {
    let fixture =
        Fixture::new(&format!("CREATE TABLE t (k TEXT); {NUMBERS} INSERT INTO t SELECT 'k' || i FROM n"));
    let sliced = |sql: &str| ReadRequest { slice_by: vec!["name".to_owned()], ..query(sql) };
    let plain = sliced("SELECT upper(k) AS name, k FROM t -- all of them");
    conformance::source(&*fixture.source(plain), 1234).await;
    let inside = sliced("WITH x AS (SELECT k AS name FROM t) SELECT * FROM x WHERE {slice};");
    conformance::source(&*fixture.source(inside), 1234).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_one_slice() {
    let fixture = Fixture::new(&format!(
        "CREATE TABLE t (k TEXT); {NUMBERS} INSERT INTO t SELECT 'k' || i FROM n; CREATE VIEW v AS SELECT k, length(k) AS n FROM t"
    ));
    let source = fixture.table("v");
    assert!(!source.describe().await.unwrap().resumable);
    assert_eq!(source.slices(4).await.unwrap().len(), 1);
    conformance::source(&*source, 1234).await;
}

async fn suite(script: &str, refused: (i64, &str)) {
    let fixture = Fixture::new(script);
    let upsert = fixture.target(writing("people", Mode::Upsert));
    let skip_existing = fixture.target(writing("people", Mode::SkipExisting));
    let records = people(&[1, 2, 3], &[Some("a"), Some("b"), None]);
    upsert.plan(records.schema_ref()).await.unwrap();
    let suite = TargetFixture {
        upsert: &*upsert,
        skip_existing: &*skip_existing,
        changed: people(&[1, 2, 3], &[Some("x"), None, Some("z")]),
        refused: people(&[refused.0], &[Some(refused.1)]),
        records,
    };
    conformance::target(&suite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_by_its_rowid() {
    suite("CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, CHECK (id < 1000))", (1000, "q")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_in_wal_mode_without_rowids() {
    let script = "PRAGMA journal_mode = WAL; CREATE TABLE people (id INT PRIMARY KEY, name TEXT UNIQUE) WITHOUT ROWID, STRICT; \
        CREATE TRIGGER t BEFORE INSERT ON people WHEN new.name = 'poison' BEGIN SELECT RAISE(ABORT, 'no poison here'); END";
    suite(script, (9, "poison")).await;
}
