//! Values of every storage class in columns of every type, with SQLite as the oracle.

use crate::fixture::{Fixture, column, declared, query, records};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rusqlite::types::Value as Held;
use serde_json::{Value, json};
use whimbrel_model::logical::SOURCE_TYPE;
use whimbrel_store::{Comparison, Condition, Literal, Parameter, ReadRequest, Relation};

#[tokio::test(flavor = "multi_thread")]
async fn types_at_their_extremes() {
    let fixture = Fixture::new(
        "CREATE TABLE t (i INTEGER, r REAL, s TEXT, b BLOB, n NUMERIC(10,2), f BOOLEAN, j JSON, d DATETIME, u, g INT AS (i / 2), h TEXT AS (s || '!') STORED);
         INSERT INTO t (i, r, s, b, n, f, j, d, u) VALUES
         (9223372036854775807, 1.7976931348623157e308, '', x'', 1.98, 1, '{\"a\": 1.50}', '2021-01-01 00:00:00', 'x'),
         (-9223372036854775808, -5e-324, char(0) || 'a' || char(0) || 'ü€😀', x'00ff', 12345678901234567, 0, '[]', 2459215.5, 1.0),
         (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
         (0, 9e999, 'null', x'00', 'abc', 'true', 17, 1609459200, 42)",
    );
    let (rows, unreadable) = records(&*fixture.table("t")).await;
    let row = |at: usize| Value::Object(rows[at].clone());
    assert_eq!(
        row(0),
        json!({"i": i64::MAX, "r": rows[0]["r"], "s": "", "b": "", "n": "1.98", "f": true, "j": "{\"a\": 1.50}",
            "d": "2021-01-01 00:00:00", "u": "x", "g": i64::MAX / 2, "h": "!"})
    );
    assert_eq!(
        row(1),
        json!({"i": i64::MIN, "r": rows[1]["r"], "s": "\u{0}a\u{0}ü€😀", "b": "AP8=", "n": "12345678901234567", "f": false,
            "j": "[]", "d": "2459215.5", "u": "1.0", "g": i64::MIN / 2, "h": "\u{0}a\u{0}ü€😀!"})
    );
    assert_eq!((rows[0]["r"].as_f64(), rows[1]["r"].as_f64()), (Some(f64::MAX), Some(-5e-324)));
    assert!(rows[2].values().all(Value::is_null));
    assert_eq!(
        (&rows[3]["r"], &rows[3]["f"], &rows[3]["j"], &rows[3]["d"], &rows[3]["u"]),
        (&json!("inf"), &json!(true), &json!("17"), &json!("1609459200"), &json!("42"))
    );
    assert_eq!((unreadable.len(), unreadable[0].row, unreadable[0].column.as_str()), (1, 3, "n"));
    assert_eq!(unreadable[0].raw, b"abc");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_unreadable_with_both_types_named() {
    let fixture = Fixture::new(
        "CREATE TABLE t (i INTEGER, s VARCHAR(5), b BLOB, f BOOL, j JSON, x);
         INSERT INTO t (i) VALUES ('twelve'), (1.5), (x'01');
         INSERT INTO t (s) VALUES (x'6162'), (CAST(x'61ff62' AS TEXT));
         INSERT INTO t (b) VALUES ('text'), (7);
         INSERT INTO t (f) VALUES (2), ('yes');
         INSERT INTO t (j) VALUES ('{');
         INSERT INTO t (x) VALUES (x'00');
         INSERT INTO t (s) VALUES ('longer than five')",
    );
    let (rows, unreadable) = records(&*fixture.table("t")).await;
    assert_eq!(rows.len(), 12);
    assert!(rows[..11].iter().all(|row| row.values().all(Value::is_null)), "NULL stands where nothing can");
    assert_eq!(rows[11]["s"], "longer than five", "SQLite does not enforce lengths, nor does a read");
    let seen: Vec<_> =
        unreadable.iter().map(|value| (value.row, value.column.as_str(), value.reason.as_str())).collect();
    let expected = [
        (0, "i", "the column is declared INTEGER and holds the text \"twelve\""),
        (1, "i", "the column is declared INTEGER and holds the real 1.5"),
        (2, "i", "the column is declared INTEGER and holds a blob of 1 bytes"),
        (3, "s", "the column is declared VARCHAR(5) and holds a blob of 2 bytes"),
        (
            4,
            "s",
            "the column is declared VARCHAR(5) and holds text of 3 bytes that is not UTF-8; its byte 1 begins no character",
        ),
        (5, "b", "the column is declared BLOB and holds the text \"text\""),
        (6, "b", "the column is declared BLOB and holds the integer 7"),
        (7, "f", "the column is declared BOOL and holds the integer 2; truth values are 0 and 1"),
        (8, "f", "the column is declared BOOL and holds the text \"yes\"; truth values are 0 and 1"),
    ];
    assert_eq!(seen[..9], expected);
    assert_eq!((seen[9].0, seen[9].1), (9, "j"));
    assert!(seen[9].2.contains("no JSON document"), "{}", seen[9].2);
    assert_eq!(seen[10], (10, "x", "the column has no type and holds a blob of 1 bytes"));
    assert_eq!(unreadable[4].raw, b"a\xffb");
    assert_eq!(unreadable[2].raw, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_spec_declares_what_the_database_does_not() {
    let fixture = Fixture::new(
        "CREATE TABLE t (a, b, c, d, e);
         INSERT INTO t VALUES (7.0, 2, '1.50', x'000102030405060708090a0b0c0d0e0f', 'true'),
         ('12', '0.5', 0.1, '00010203-0405-0607-0809-0A0B0C0D0E0F', 0)",
    );
    let request =
        declared("t", &[("a", "integer"), ("b", "float"), ("c", "number"), ("D", "uuid"), ("e", "boolean")]);
    let (rows, unreadable) = records(&*fixture.source(request)).await;
    assert_eq!(unreadable, []);
    let id = "00010203-0405-0607-0809-0a0b0c0d0e0f";
    assert_eq!(Value::Object(rows[0].clone()), json!({"a": 7, "b": 2, "c": "1.50", "d": id, "e": true}));
    assert_eq!(Value::Object(rows[1].clone()), json!({"a": 12, "b": 0.5, "c": "0.1", "d": id, "e": false}));
    let error = fixture.source(declared("t", &[("f", "text")])).describe().await.unwrap_err();
    assert!(error.to_string().contains("names `f`"), "{error}");
    let error = fixture.source(declared("t", &[("a", "int")])).describe().await.unwrap_err();
    assert!(error.hint().unwrap().contains("integer"), "{:?}", error.hint());
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_in_utf_16_read_the_same() {
    for encoding in ["UTF-16le", "UTF-16be"] {
        let fixture = Fixture::new(&format!(
            "PRAGMA encoding = '{encoding}'; CREATE TABLE t (k TEXT PRIMARY KEY, v) WITHOUT ROWID; \
             INSERT INTO t VALUES ('ü€😀', 'größe'), ('\u{ffff}', 'a' || char(0) || 'b')"
        ));
        let seen = column(&*fixture.table("t"), "v").await;
        let set: std::collections::BTreeSet<_> = seen.iter().filter_map(Value::as_str).collect();
        assert_eq!(set, ["a\u{0}b", "größe"].into());
        let mut request = crate::fixture::reading(Relation::Table("t".to_owned()));
        request.condition =
            Some(Condition::Compare("k".to_owned(), Comparison::Equal, Literal::Text("ü€😀".to_owned())));
        assert_eq!(column(&*fixture.source(request), "v").await, ["größe"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_take_variables_as_bound_values() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT); INSERT INTO t VALUES (1, 'O''Hara'), (2, 'x'), (3, '$who')",
    );
    let with = |sql: &str| {
        let value = |name: &str, value: &str| (name.to_owned(), Parameter(value.to_owned()));
        let parameters = [value("who", "O'Hara"), value("n", "2")].into();
        ReadRequest { parameters, ..query(sql) }
    };
    let ids = |sql: &str| {
        let source = fixture.source(with(sql));
        async move { column(&*source, "id").await }
    };
    assert_eq!(ids("SELECT id FROM t WHERE s = $who").await, [1]);
    assert_eq!(ids("SELECT id FROM t WHERE id = $n").await, [2], "a value takes the type of its column");
    assert_eq!(ids("SELECT id FROM t WHERE s = '$who'").await, [3]);
    assert_eq!(ids("SELECT id FROM t ORDER BY id DESC LIMIT $n").await, [3, 2]);
    for (sql, word) in [
        ("SELECT $nobody", "$nobody"),
        ("SELECT ?", "no variable"),
        ("SELECT 1 AS a, 2 AS A", "two columns"),
        ("SELECT id FROM nowhere", "cannot carry out"),
        ("DELETE FROM t RETURNING id", "cannot carry out"),
        ("SELECT 1); DELETE FROM t; --", "cannot carry out"),
        ("PRAGMA user_version = 7", "cannot carry out"),
        ("SELECT id FROM t WHERE {slice}", "slice_by"),
    ] {
        let error = crate::fixture::all(&*fixture.source(with(sql))).await.unwrap_err();
        assert!(
            error.to_string().contains(word) || error.hint().is_some_and(|hint| hint.contains(word)),
            "{sql}: {error}"
        );
    }
    assert_eq!(fixture.ask("SELECT CAST(count(*) AS TEXT) FROM t"), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_leaves_out_only_what_nobody_would_see() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT COLLATE NOCASE, n INT, f BOOLEAN);
         INSERT INTO t VALUES (1, 'CONV#1', 5, 1), (2, 'conv#1', 6, 0), (3, 'CONV$', 7, NULL), (4, NULL, NULL, 'true'),
         (5, x'434F4E56', 'five', 2), (6, 'CONV#', 5, 'x'), (7, 'CONV#\u{10ffff}x', -5, 1)",
    );
    let seen = |condition: Condition| {
        let mut request = crate::fixture::reading(Relation::Table("t".to_owned()));
        request.condition = Some(condition);
        let source = fixture.source(request);
        async move {
            let (rows, _) = records(&*source).await;
            rows.iter().map(|row| row["id"].as_i64().unwrap()).collect::<Vec<_>>()
        }
    };
    let compare = |name: &str, how, value| Condition::Compare(name.to_owned(), how, value);
    let text = |text: &str| Literal::Text(text.to_owned());
    let number = |number: &str| Literal::Number(number.to_owned());
    assert_eq!(seen(Condition::StartsWith("s".to_owned(), "CONV#".to_owned())).await, [1, 5, 6, 7]);
    assert_eq!(seen(compare("s", Comparison::Equal, text("CONV#1"))).await, [1, 5]);
    assert_eq!(seen(compare("s", Comparison::Greater, text("CONV#1"))).await, [2, 3, 5, 7]);
    assert_eq!(seen(compare("n", Comparison::Equal, number("5"))).await, [1, 5, 6]);
    assert_eq!(seen(compare("n", Comparison::Less, number("-9223372036854775808"))).await, [5]);
    assert_eq!(seen(compare("f", Comparison::Equal, Literal::Boolean(true))).await, [1, 4, 5, 6, 7]);
    assert_eq!(seen(Condition::Present("f".to_owned())).await, [1, 2, 4, 5, 6, 7]);
    let both =
        vec![Condition::Present("f".to_owned()), compare("n", Comparison::GreaterOrEqual, number("6"))];
    assert_eq!(seen(Condition::All(both.clone())).await, [2, 5]);
    assert_eq!(seen(Condition::Any(both)).await, [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_wanted_columns_are_read_and_types_are_named() {
    let fixture = Fixture::new("CREATE TABLE t (k INTEGER PRIMARY KEY, a NVARCHAR(10), b, c)");
    let mut request = crate::fixture::reading(Relation::Table("T".to_owned()));
    request.wanted = Some(["a".to_owned()].into());
    let description = fixture.source(request).describe().await.unwrap();
    let names: Vec<_> = description.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!((names, description.key), (vec!["k", "a"], vec!["k".to_owned()]));
    let named = description.schema.field(1).metadata().get(SOURCE_TYPE).unwrap();
    assert_eq!(named, "sqlite NVARCHAR(10)", "no other store takes the name for one of its own types");
}

fn any_value() -> impl Strategy<Value = Held> {
    prop_oneof![
        Just(Held::Null),
        any::<i64>().prop_map(Held::Integer),
        (-3_i64..3).prop_map(Held::Integer),
        any::<f64>().prop_filter("SQLite has no NaN", |value| !value.is_nan()).prop_map(Held::Real),
        (-100_i32..100).prop_map(|value| Held::Real(f64::from(value) / 4.0)),
        "\\PC{0,12}|[0-9]{1,20}|[0-9]{1,5}\\.[0-9]{1,5}|[\\x00a]{0,4}".prop_map(Held::Text),
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(Held::Blob),
    ]
}

/// What a value that was read says, in SQLite's own words: the value must come back.
fn is_same(held: &Held, declared: &str, read: &Value) -> bool {
    match (held, read) {
        (Held::Null, Value::Null) => true,
        (Held::Integer(value), Value::Number(read)) => {
            read.to_string() == value.to_string() || {
                #[expect(clippy::cast_precision_loss, reason = "that is the question")]
                let float = *value as f64;
                read.as_f64() == Some(float) && declared == "REAL"
            }
        }
        (Held::Integer(value), Value::Bool(read)) => *value == i64::from(*read),
        (Held::Integer(value), Value::String(read)) => *read == value.to_string(),
        (Held::Real(value), Value::Number(read)) => read.as_f64() == Some(*value),
        (Held::Real(value), Value::String(read)) => {
            let read = read.to_lowercase().replace("infinity", "inf");
            read.parse() == Ok(*value)
        }
        (Held::Text(value), Value::String(read)) => value == read,
        (Held::Text(value), Value::Bool(read)) => value.to_lowercase() == read.to_string(),
        (Held::Blob(value), Value::String(read)) => {
            declared == "BLOB" && *read == whimbrel_model::record::base64(value)
        }
        _ => false,
    }
}

#[test]
fn every_value_comes_back_or_is_kept_by_its_bytes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let types = ["INTEGER", "REAL", "TEXT", "BLOB", "NUMERIC", "BOOLEAN", "JSON", "DATETIME", ""];
    let columns: Vec<_> =
        types.iter().enumerate().map(|(at, declared)| format!("c{at} {declared}")).collect();
    let rows = proptest::collection::vec(proptest::collection::vec(any_value(), types.len()), 1..40);
    let mut runner = TestRunner::new(ProptestConfig { cases: 24, ..ProptestConfig::default() });
    let outcome = runner.run(&rows, |rows| {
        let fixture = Fixture::new(&format!("CREATE TABLE t ({})", columns.join(", ")));
        let connection = fixture.connect();
        let places: Vec<_> = (1..=types.len()).map(|at| format!("?{at}")).collect();
        let insert = format!("INSERT INTO t VALUES ({})", places.join(", "));
        for row in &rows {
            connection.execute(&insert, rusqlite::params_from_iter(row)).unwrap();
        }
        let (read, unreadable) = runtime.block_on(records(&*fixture.table("t")));
        prop_assert_eq!(read.len(), rows.len());
        let mut statement = connection.prepare("SELECT * FROM t ORDER BY rowid").unwrap();
        let mut held = statement.query([]).unwrap();
        for (number, read) in read.iter().enumerate() {
            let held = held.next().unwrap().unwrap();
            for (at, declared) in types.iter().enumerate() {
                let value: Held = held.get(at).unwrap();
                let name = format!("c{at}");
                let broken = unreadable.iter().find(|broken| broken.row == number && broken.column == name);
                match (broken, &value) {
                    (None, _) => prop_assert!(
                        is_same(&value, declared, &read[&name]),
                        "{:?} in {}: {}",
                        value,
                        declared,
                        read[&name]
                    ),
                    (Some(broken), Held::Text(text)) => prop_assert_eq!(&broken.raw, text.as_bytes()),
                    (Some(broken), Held::Blob(bytes)) => prop_assert_eq!(&broken.raw, bytes),
                    (Some(broken), Held::Integer(value)) => {
                        let text = value.to_string();
                        prop_assert_eq!(broken.raw.as_slice(), text.as_bytes());
                    }
                    (Some(broken), Held::Real(value)) => {
                        let text = String::from_utf8_lossy(&broken.raw).to_lowercase();
                        prop_assert_eq!(text.parse::<f64>(), Ok(*value));
                    }
                    (Some(_), Held::Null) => prop_assert!(false, "NULL is never unreadable"),
                }
            }
        }
        Ok(())
    });
    outcome.unwrap();
}
