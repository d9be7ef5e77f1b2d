//! How relations are cut, and what cannot be.

use crate::fixture::{Fixture, all, batches, query, reading};
use whimbrel_model::Cursor;
use whimbrel_store::{ReadRequest, Relation, StoreErrorKind};

const NUMBERS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)";

#[tokio::test(flavor = "multi_thread")]
async fn slices_are_even_and_the_last_one_is_open() {
    let fixture = Fixture::new(&format!("CREATE TABLE t (a); {NUMBERS} INSERT INTO t SELECT i FROM n"));
    let source = fixture.table("t");
    let parts = source.slices(4).await.unwrap();
    fixture.connect().execute_batch("INSERT INTO t VALUES ('later'), ('later still')").unwrap();
    let mut sizes = Vec::new();
    for part in &parts {
        let read = batches(&*source, part).await.unwrap();
        sizes.push(read.iter().map(|batch| batch.records.num_rows()).sum::<usize>());
    }
    assert_eq!(sizes, [250, 250, 250, 252], "what arrives later falls into exactly one slice");
    assert_eq!(source.describe().await.unwrap().records, Some(1002));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_slice_can_be_cut_again() {
    let fixture = Fixture::new(&format!("CREATE TABLE t (a); {NUMBERS} INSERT INTO t SELECT i FROM n"));
    let source = fixture.table("t");
    let whole = source.slices(1).await.unwrap().remove(0);
    let first = batches(&*source, &whole).await.unwrap().remove(0);
    let cursor: Option<Cursor> = first.cursor;
    let mut rest = 0;
    let parts = source.split(&whole, cursor.as_ref()).await.unwrap();
    assert_eq!(parts.len(), 4);
    for part in &parts {
        rest += batches(&*source, part)
            .await
            .unwrap()
            .iter()
            .map(|batch| batch.records.num_rows())
            .sum::<usize>();
    }
    assert_eq!(rest, 900);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_repeats_or_is_missing_is_refused() {
    let fixture = Fixture::new(
        "CREATE TABLE t (k, v); INSERT INTO t VALUES ('a', 1), ('b', 2), ('b', 3); CREATE TABLE u (k); INSERT INTO u VALUES ('a'), (NULL), ('c')",
    );
    for (table, word) in [("t", "several records share it"), ("u", "is NULL")] {
        let request =
            ReadRequest { slice_by: vec!["k".to_owned()], ..query(&format!("SELECT k FROM {table}")) };
        let source = fixture.source(request);
        for wanted in [1, 3] {
            let mut failures = Vec::new();
            for part in source.slices(wanted).await.unwrap() {
                failures.extend(batches(&*source, &part).await.err());
            }
            let failure = failures.first().map(ToString::to_string).unwrap_or_default();
            assert!(failure.contains(word), "{table} in {wanted}: {failure}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_bytes_that_are_no_text_are_not_passed_over() {
    let fixture = Fixture::new(
        "CREATE TABLE t (k TEXT PRIMARY KEY, v INT) WITHOUT ROWID; INSERT INTO t VALUES ('a', 1), (CAST(x'61ff' AS TEXT), 2), \
         (CAST(x'61ff01' AS TEXT), 3), ('b', 4), (x'00', 5)",
    );
    let mut request = reading(Relation::Table("t".to_owned()));
    request.batch_records = 1;
    let source = fixture.source(request);
    let whole = source.slices(1).await.unwrap().remove(0);
    let read = batches(&*source, &whole).await.unwrap();
    assert_eq!(read.len(), 5);
    for (at, batch) in read.iter().enumerate() {
        let stored = serde_json::to_string(batch.cursor.as_ref().unwrap()).unwrap();
        let cursor: Cursor = serde_json::from_str(&stored).unwrap();
        let context = whimbrel_store::conformance::context();
        let rest = source.read(&whole, Some(&cursor), &context).await.unwrap();
        let rest: Vec<_> = futures::TryStreamExt::try_collect(rest).await.unwrap();
        assert_eq!(rest.len(), 4 - at, "behind record {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_and_foreign_slices_are_found() {
    let fixture = Fixture::new(
        "CREATE TABLE t (a INT); INSERT INTO t VALUES (1); CREATE TABLE w (k PRIMARY KEY) WITHOUT ROWID",
    );
    let source = fixture.table("t");
    source.describe().await.unwrap();
    let part = source.slices(1).await.unwrap().remove(0);
    fixture.connect().execute_batch("ALTER TABLE t ADD COLUMN b").unwrap();
    assert_eq!(batches(&*source, &part).await.unwrap_err().kind(), StoreErrorKind::Drift);
    fixture.connect().execute_batch("DROP TABLE t").unwrap();
    assert_eq!(batches(&*source, &part).await.unwrap_err().kind(), StoreErrorKind::Drift);
    let error = all(&*source).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("`w`"), "{:?}", error.hint());
    let view = fixture.source(query("SELECT 1 AS a"));
    let error = batches(&*view, &part).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Mismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_rowid_is_sure_to_come_once() {
    let fixture = Fixture::new(
        "CREATE TABLE a (id INTEGER PRIMARY KEY, n INT UNIQUE NOT NULL); CREATE TABLE b (id INT PRIMARY KEY NOT NULL); \
         CREATE TABLE c (id TEXT PRIMARY KEY) WITHOUT ROWID; CREATE TABLE d (id INTEGER); CREATE VIEW e AS SELECT * FROM a",
    );
    for (table, expected) in [("a", true), ("b", false), ("c", false), ("d", false), ("e", false)] {
        assert_eq!(fixture.table(table).delivers_keys_once().await.unwrap(), expected, "{table}");
    }
    // A text of a number is another key elsewhere, and a row may change what it is cut by.
    let mut as_text = reading(Relation::Table("a".to_owned()));
    as_text.columns.insert("id".to_owned(), "text".to_owned());
    assert!(!fixture.source(as_text).delivers_keys_once().await.unwrap());
    let mut by_other = reading(Relation::Table("a".to_owned()));
    by_other.slice_by = vec!["n".to_owned()];
    assert!(!fixture.source(by_other).delivers_keys_once().await.unwrap());
}
