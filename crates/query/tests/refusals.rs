//! What is refused or fails, and what is said of it.

use crate::memory::{MemoryStore, Table, ask, fixed, session};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_model::{Logical, StoreName};
use whimbrel_query::{Declared, Numbers, Query, QueryError};
use whimbrel_store::{StoreErrorKind, Unreadable};

const MEMORY: usize = 64 * 1024 * 1024;

fn store() -> MemoryStore {
    let numbers = vec!["1", "NaN", "0.123456789012345678901"];
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 0]));
    let table = fixed(
        vec![
            (Field::new("id", DataType::Int64, false), Arc::clone(&ids)),
            (Field::new("userId", DataType::Utf8, true), Arc::new(StringArray::from(vec!["a", "b", "x"]))),
            (Logical::Number.field("n", true), Arc::new(StringArray::from(numbers))),
        ],
        1,
    );
    let Table::Fixed(batches, _) = table else { panic!("it is fixed") };
    let unreadable = Unreadable {
        row: 0,
        column: "userId".to_owned(),
        reason: "it is no text".to_owned(),
        raw: vec![255],
    };
    let failing = RecordBatch::try_from_iter([("id", ids)]).expect("one column");
    let many: ArrayRef =
        Arc::new((0..200_000).map(|n| Some(format!("a text that takes room {n}"))).collect::<StringArray>());
    MemoryStore::new(
        "pg",
        vec![
            ("numbers", Table::Fixed(batches.clone(), Vec::new())),
            ("unreadable", Table::Fixed(batches, vec![unreadable])),
            ("failing", Table::Failing(failing)),
            ("many", fixed(vec![(Field::new("t", DataType::Utf8, true), many)], 1)),
        ],
    )
}

async fn refused(sql: &str) -> QueryError {
    let store = store();
    let other = MemoryStore::new("ddb", vec![("Items", Table::Open(vec![BTreeMap::from([("pk", "1")])]))]);
    let session = session(&[&store, &other], Declared::new(), Numbers::Decimal, MEMORY);
    ask(&session, sql).await.expect_err(sql)
}

#[tokio::test]
async fn a_wrong_name_is_explained() {
    let error = refused("SELECT id FROM pg.nothing").await;
    assert_eq!(error.to_string(), "store `pg`: there is no table nothing");
    assert_eq!(error.hint(), Some("its tables are failing, many, numbers, unreadable"));
    let error = refused("SELECT x.idd FROM pg.numbers x").await;
    assert_eq!(error.to_string(), "there is no column `x.idd`");
    assert_eq!(error.hint(), Some(r#"there are: x.id, x."userId", x.n"#));
    let error = refused("SELECT userId FROM pg.numbers").await;
    assert_eq!(error.hint(), Some("a name with capitals is written in double quotes: \"userId\""));
    let error = refused("SELECT pk FROM ddb.Items").await;
    assert_eq!(error.hint(), Some("a name with capitals is written in double quotes: \"Items\""));
    let error = refused(r#"SELECT createdAt FROM ddb."Items""#).await;
    assert_eq!(error.to_string(), "`createdAt` without quotes is the column `createdat` of ddb.Items");
    let error = refused("SELECT nofunction(id) FROM pg.numbers").await;
    assert!(matches!(error, QueryError::Sql { .. }), "{error}");
    let error = refused("SELECT id FROM pg.numbers a, pg.failing b").await;
    assert!(error.to_string().contains("mbiguous"), "{error}");
}

#[tokio::test]
async fn a_value_that_sql_cannot_hold_is_an_error_and_never_null() {
    for (sql, reason) in [
        ("SELECT n FROM pg.numbers WHERE id = 2", "NaN is no number that can be computed with exactly"),
        ("SELECT sum(n) FROM pg.numbers", "NaN is no number that can be computed with exactly"),
        ("SELECT \"userId\" FROM pg.unreadable", "it is no text"),
    ] {
        let error = refused(sql).await;
        let text = error.to_string();
        assert!(text.starts_with("store `pg`: column `") && text.ends_with(reason), "{text}");
        let QueryError::Store(error) = error else { panic!("{text}") };
        assert_eq!(error.kind(), StoreErrorKind::Mismatch);
    }
    let store = store();
    let read = |numbers| session(&[&store], Declared::new(), numbers, MEMORY);
    let rows = ask(&read(Numbers::Decimal), "SELECT id FROM unreadable ORDER BY id").await.unwrap();
    assert_eq!(rows.len(), 3, "a column that nobody looks at does not matter");
    let rows = ask(&read(Numbers::Text), "SELECT n FROM numbers").await.unwrap();
    assert_eq!(rows[1], json!({ "n": "NaN" }));
    assert_eq!(rows[2].to_string(), r#"{"n":0.123456789012345678901}"#);
}

#[tokio::test]
async fn a_failure_on_the_way_ends_the_answer() {
    let error = refused("SELECT id FROM pg.failing").await;
    assert_eq!(error.hint(), Some("try again"));
    let QueryError::Store(error) = error else { panic!("{error}") };
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    let error = refused("SELECT 1 / id FROM pg.numbers").await;
    assert!(
        matches!(&error, QueryError::Computation { message, .. } if message.contains("ivide by zero")),
        "{error}"
    );
    let error = refused("SELECT CAST(\"userId\" AS int) FROM pg.numbers").await;
    assert!(matches!(&error, QueryError::Computation { .. }), "{error}");
}

#[tokio::test]
async fn memory_is_bounded() {
    let store = store();
    let session = session(&[&store], Declared::new(), Numbers::Decimal, 4 * 1024 * 1024);
    let error = ask(&session, "SELECT count(*) FROM many a JOIN many b ON a.t = b.t").await.unwrap_err();
    assert_eq!(error.to_string(), "the query needs more memory than it may use");
}

#[tokio::test]
async fn a_store_is_asked_in_its_own_language_if_it_has_one() {
    let store = store();
    let session = session(&[&store], Declared::new(), Numbers::Decimal, MEMORY);
    let error = session.ask_store(&StoreName::new("pg"), "SELECT 1", None).await.unwrap_err();
    assert_eq!(error.to_string(), "store `pg`: there is no query language here");
    let error = session.ask_store(&StoreName::new("other"), "SELECT 1", None).await.unwrap_err();
    assert_eq!(error.hint(), Some("the spec's flows use: pg"));
    assert!(Query::parse("DELETE FROM pg.numbers").is_err());
}
