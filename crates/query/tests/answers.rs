//! What comes out.

use crate::memory::{Asked, MemoryStore, Table, ask, ask_limited, fixed, session};
use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field};
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use whimbrel_model::logical::with_source_type;
use whimbrel_model::{Logical, StoreName};
use whimbrel_query::{Bindings, Declared, Numbers, Query, Session, json_row};
use whimbrel_spec::resolved::ParameterValue;
use whimbrel_store::{Comparison, Condition, Literal};

const MEMORY: usize = 64 * 1024 * 1024;

fn users() -> Table {
    let ids: Vec<i64> = (1..=100).collect();
    let names: Vec<String> = ids.iter().map(|id| format!("user {id}")).collect();
    fixed(
        vec![
            (Field::new("id", DataType::Int64, false), Arc::new(Int64Array::from(ids)) as ArrayRef),
            (Field::new("name", DataType::Utf8, true), Arc::new(StringArray::from(names))),
        ],
        3,
    )
}

fn payments() -> Table {
    let users: Vec<i64> = (0..300).map(|payment| payment % 3 + 1).collect();
    let amounts: Vec<&str> = (0..300).map(|payment| if payment % 2 == 0 { "0.1" } else { "0.20" }).collect();
    let prices: Vec<&str> = (0..300).map(|payment| if payment == 7 { "10.00" } else { "9.50" }).collect();
    fixed(
        vec![
            (Field::new("user", DataType::Int64, false), Arc::new(Int64Array::from(users)) as ArrayRef),
            (Logical::Number.field("amount", true), Arc::new(StringArray::from(amounts))),
            (
                with_source_type(Logical::Number.field("price", true), "numeric(10,2)"),
                Arc::new(StringArray::from(prices)),
            ),
        ],
        2,
    )
}

fn pg() -> MemoryStore {
    MemoryStore::new("pg", vec![("users", users()), ("payments", payments())])
}

fn ddb() -> MemoryStore {
    let items = vec![
        BTreeMap::from([("pk", "1"), ("userName", "Ann"), ("score", "9"), ("kind", "a")]),
        BTreeMap::from([("pk", "2"), ("userName", "Bob"), ("score", "10")]),
        BTreeMap::from([("pk", "3"), ("score", "10.50"), ("kind", "b")]),
    ];
    MemoryStore::new("ddb", vec![("Items", Table::Open(items))])
}

fn both(pg: &MemoryStore, ddb: &MemoryStore) -> Session {
    let columns = BTreeMap::from([("score".to_owned(), "number".to_owned())]);
    let declared = Declared::from([((StoreName::new("ddb"), "Items".to_owned()), columns)]);
    session(&[pg, ddb], declared, Numbers::Decimal, MEMORY)
}

/// Compared as text: JSON numbers are the digits that they are written with.
fn assert_rows(found: &[Value], expected: &[Value]) {
    let text = |rows: &[Value]| rows.iter().map(Value::to_string).collect::<Vec<_>>();
    assert_eq!(text(found), text(expected));
}

fn exact(text: &str) -> Value {
    serde_json::from_str(text).expect("it is JSON")
}

#[tokio::test]
async fn tables_are_joined_and_added_up_exactly() {
    let (pg, ddb) = (pg(), ddb());
    let session = both(&pg, &ddb);
    let sql = "SELECT u.name, sum(p.amount) AS total, max(p.price) AS most FROM pg.users u
               JOIN pg.payments p ON p.user = u.id GROUP BY u.name ORDER BY 1 LIMIT 2";
    let rows = ask(&session, sql).await.unwrap();
    let expected = [
        exact(r#"{"name":"user 1","total":15,"most":9.50}"#),
        exact(r#"{"name":"user 2","total":15,"most":10.00}"#),
    ];
    assert_rows(&rows, &expected);
    let rows =
        ask(&session, "SELECT DISTINCT amount FROM pg.payments ORDER BY amount * 3 DESC").await.unwrap();
    assert_rows(&rows, &[exact(r#"{"amount":0.2}"#), exact(r#"{"amount":0.1}"#)]);
    let rows = ask(&session, "SELECT count(*) AS n FROM pg.payments WHERE amount + 0.2 = 0.3").await.unwrap();
    assert_rows(&rows, &[json!({ "n": 150 })]);
    let rows = ask(&session, "SELECT max(amount) / 3 AS q, avg(price) > 9.50 AS more FROM pg.payments").await;
    assert_eq!(rows.unwrap()[0]["more"], json!(true));
}

#[tokio::test]
async fn stores_are_joined_and_names_find_their_tables() {
    let (pg, ddb) = (pg(), ddb());
    let session = both(&pg, &ddb);
    let sql = r#"SELECT name, "userName", i.score FROM pg.users JOIN ddb."Items" AS i ON CAST(id AS text) = i.pk
                 WHERE i.score > 9 ORDER BY i.score"#;
    let rows = ask(&session, sql).await.unwrap();
    let expected = [
        exact(r#"{"name":"user 2","userName":"Bob","score":10}"#),
        exact(r#"{"name":"user 3","userName":null,"score":10.5}"#),
    ];
    assert_rows(&rows, &expected);
    let asked = ddb.asked_of("Items");
    let wanted = BTreeSet::from(["pk", "score", "userName"].map(str::to_owned));
    let condition =
        Condition::Compare("score".to_owned(), Comparison::Greater, Literal::Number("9".to_owned()));
    assert_eq!(asked, [Asked { table: "Items".to_owned(), wanted, condition: Some(condition) }]);
}

#[tokio::test]
async fn a_star_over_records_without_columns_shows_them_whole() {
    let (pg, ddb) = (pg(), ddb());
    let session = both(&pg, &ddb);
    let rows = ask(&session, r#"SELECT * FROM ddb."Items" WHERE kind = 'b'"#).await.unwrap();
    let item = r#"{"kind":"b","pk":"3","score":"10.50"}"#;
    assert_rows(&rows, &[json!({ "_item": item, "kind": "b", "pk": "3" })]);
    let rows = ask(&session, r#"SELECT count(*) AS n FROM ddb."Items""#).await.unwrap();
    assert_rows(&rows, &[json!({ "n": 3 })]);
}

#[tokio::test]
async fn only_what_is_needed_is_asked_for() {
    let (pg, ddb) = (pg(), ddb());
    let session = both(&pg, &ddb);
    let sql = "SELECT name FROM pg.users WHERE id BETWEEN 5 AND 6 AND name LIKE 'user%' AND length(name) > 1";
    assert_eq!(ask(&session, sql).await.unwrap().len(), 2);
    let asked = pg.asked_of("users");
    assert_eq!(asked.len(), 3, "each slice is read once");
    assert_eq!(asked[0].wanted, BTreeSet::from(["id", "name"].map(str::to_owned)));
    let compare = |comparison, number: &str| {
        Condition::Compare("id".to_owned(), comparison, Literal::Number(number.to_owned()))
    };
    let said = format!("{:?}", asked[0].condition);
    for part in [
        compare(Comparison::GreaterOrEqual, "5"),
        compare(Comparison::LessOrEqual, "6"),
        Condition::StartsWith("name".to_owned(), "user".to_owned()),
    ] {
        assert!(said.contains(&format!("{part:?}")), "{said} lacks {part:?}");
    }
}

#[tokio::test]
async fn a_limit_ends_the_reading() {
    let (pg, ddb) = (pg(), ddb());
    let session = both(&pg, &ddb);
    assert_eq!(ask(&session, "SELECT id FROM pg.users LIMIT 5").await.unwrap().len(), 5);
    assert_eq!(ask_limited(&session, "SELECT id FROM pg.users", Some(5)).await.unwrap().len(), 5);
    assert!(pg.batches_read.load(Ordering::Relaxed) <= 6, "each slice gives one batch at most");
    assert_eq!(ask_limited(&session, "SELECT id FROM pg.users", Some(0)).await.unwrap().len(), 0);
}

#[tokio::test]
async fn no_query_waits_for_itself_on_one_connection() {
    let (pg, ddb) = (pg(), ddb());
    let session = both(&pg, &ddb);
    for (sql, rows) in [
        ("SELECT * FROM pg.users a JOIN pg.users b ON a.id = b.id JOIN pg.payments p ON p.user = a.id", 300),
        ("SELECT * FROM pg.users a JOIN pg.users b ON a.id < b.id WHERE b.id < 3", 1),
        ("SELECT * FROM pg.users a FULL JOIN pg.payments p ON p.user = a.id ORDER BY a.id, p.amount", 397),
        ("(SELECT id FROM pg.users LIMIT 2) UNION ALL (SELECT \"user\" FROM pg.payments LIMIT 2)", 4),
        ("SELECT id FROM pg.users UNION SELECT \"user\" FROM pg.payments ORDER BY 1", 100),
        ("SELECT id FROM pg.users WHERE id > (SELECT avg(\"user\") FROM pg.payments)", 98),
        ("SELECT id FROM pg.users u WHERE EXISTS (SELECT 1 FROM pg.payments p WHERE p.user = u.id)", 3),
        (
            "WITH a AS (SELECT id FROM pg.users LIMIT 10) SELECT * FROM a x, a y, (SELECT 1 FROM pg.users LIMIT 1)",
            100,
        ),
        (
            "SELECT id, row_number() OVER (ORDER BY name) FROM pg.users, (SELECT name AS n FROM pg.users LIMIT 2) LIMIT 7",
            7,
        ),
    ] {
        assert_eq!(ask(&session, sql).await.unwrap().len(), rows, "{sql}");
    }
}

#[tokio::test]
async fn queries_without_tables_and_whimbrels_functions_work() {
    let (pg, ddb) = (pg(), ddb());
    let session = both(&pg, &ddb);
    let sql = "SELECT value * 1.5 AS n, fixed_width(value, 3) AS f FROM generate_series(2, 2)";
    let rows = ask(&session, sql).await.unwrap();
    assert_rows(&rows, &[exact(r#"{"n":3.0,"f":"002"}"#)]);
    let rows = ask(&session, "EXPLAIN SELECT name FROM pg.users WHERE id = 5").await.unwrap();
    let plan = rows.last().unwrap()["plan"].as_str().unwrap().to_owned();
    assert!(plan.contains("StoreScan: pg.users, columns=[id, name], slices=3, asked for="), "{plan}");
    let rows = ask(&session, "DESCRIBE pg.users").await.unwrap();
    assert_eq!(rows[0]["column_name"], json!("id"));
}

#[tokio::test]
async fn what_one_store_understands_is_answered_there() {
    let counted = |number: i64| {
        fixed(
            vec![(
                Field::new("n", DataType::Int64, false),
                Arc::new(Int64Array::from(vec![number])) as ArrayRef,
            )],
            1,
        )
    };
    let known = "SELECT count(*) AS n FROM users WHERE name = $who";
    let pg = MemoryStore::new("pg", vec![("users", users()), (known, counted(-1))]);
    let ddb = ddb();
    let session = both(&pg, &ddb);
    let bindings = Bindings {
        parameters: BTreeMap::from([("who".to_owned(), ParameterValue("user 7".to_owned()))]),
        tables: BTreeMap::from([("table".to_owned(), "users".to_owned())]),
    };
    for (sql, in_place, n) in [
        (r#"SELECT count(*) AS n FROM pg.users WHERE name = $who"#, true, -1),
        (r#"SELECT count(*) AS n FROM pg.users WHERE name = $who"#, false, 1),
        (r#"SELECT count(id) AS n FROM pg."${table}" WHERE name = $who"#, true, 1),
        (r#"SELECT count(*) AS n FROM pg.users u, ddb."Items" i WHERE name = $who"#, true, 3),
    ] {
        let query = Query::bound(sql, &bindings).unwrap();
        let answer = match in_place {
            true => session.answer_in_place(query, None).await.unwrap(),
            false => session.answer(query, None).await.unwrap(),
        };
        let batches: Vec<_> = answer.batches.try_collect().await.unwrap();
        let rows: Vec<Value> = batches.iter().map(|batch| Value::Object(json_row(batch, 0))).collect();
        assert_eq!(rows, [json!({ "n": n })], "{sql}");
    }
}

#[tokio::test]
async fn a_table_says_its_columns_and_key() {
    let (pg, ddb) = (pg(), ddb());
    let session = both(&pg, &ddb);
    let users = session.columns(&StoreName::new("pg"), "users").await.unwrap();
    assert_eq!(users.columns, Some(vec!["id".to_owned(), "name".to_owned()]));
    let items = session.columns(&StoreName::new("ddb"), "Items").await.unwrap();
    assert_eq!((items.columns, items.key), (None, vec!["pk".to_owned()]));
    let error = session.columns(&StoreName::new("pg"), "user").await.unwrap_err();
    assert_eq!(error.to_string(), "store `pg`: there is no table user");
}
