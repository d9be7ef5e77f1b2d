//! Every type, with the database as the oracle.

use crate::server::{Fixture, beside, column, on_each_server, on_real_server, read_all};
use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::{DataType, Date32Type, TimeUnit, TimestampMicrosecondType};
use futures::FutureExt as _;
use serde_json::{Value, json};
use whimbrel_model::{Logical, logical, record};
use whimbrel_postgres::PostgresConfig;
use whimbrel_store::Store as _;

/// Types whose Arrow form is text, or prints as PostgreSQL's own text does, with values as SQL literals.
const AS_TEXT: [(&str, &[&str]); 20] = [
    ("smallint", &["-32768", "32767", "0"]),
    ("integer", &["-2147483648", "2147483647"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("oid", &["0", "4294967295"]),
    (
        "numeric",
        &[
            "0",
            "0.000",
            "-1",
            "10000",
            "1e20",
            "123456789012345678901234567890.123456789",
            "0.00000000000000000001",
            "-0.1000",
            "NaN",
            "9999.9999",
            "1e-30",
            "100000000",
        ],
    ),
    ("numeric(12,4)", &["1", "-99999999.9999", "0.0001"]),
    ("text", &["", "it's", "ü🐦\n\t\\", "NULL"]),
    ("varchar(5)", &["abc", ""]),
    ("name", &["a name"]),
    ("\"char\"", &["x", ""]),
    ("uuid", &["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"]),
    ("json", &["{\"a\" : 1.50, \"a\":2}", "null", "1e400"]),
    ("jsonb", &["{\"b\": 1.50, \"a\": [1, 12345678901234567890.5]}", "\"x\""]),
    ("date", &["0001-01-01", "1969-12-31", "2000-02-29", "9999-12-31"]),
    ("time", &["00:00:00", "23:59:59.999999", "12:34:56.5"]),
    ("timestamp", &["1970-01-01 00:00:00", "2024-02-29 12:34:56.789012", "0001-01-01 00:00:00"]),
    ("mood", &["happy", "so so"]),
    ("positive", &["7"]),
    ("double precision", &["0.1", "-1e-300", "1e300"]),
    ("real", &["0.1", "3.4e38"]),
];

/// PostgreSQL and Arrow write some of the same values differently: the text is brought to one form.
fn normal(type_name: &str, text: &str) -> String {
    let text = match type_name {
        "timestamp" => text.replace(' ', "T"),
        _ => text.to_owned(),
    };
    if type_name.starts_with("time") && text.contains('.') {
        return text.trim_end_matches('0').to_owned();
    }
    if matches!(type_name, "double precision" | "real") {
        return text.parse::<f64>().expect("a float").to_string();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_what_the_database_says() {
    on_each_server(|fixture| {
        async {
            fixture.run("CREATE TYPE mood AS ENUM ('happy', 'so so'); CREATE DOMAIN positive AS int CHECK (VALUE > 0)").await;
            for (type_name, values) in AS_TEXT {
                let rows = values.iter().enumerate().map(|(n, value)| {
                    let value = value.replace('\'', "''");
                    format!("({n}, '{value}'::{type_name}, ARRAY['{value}'::{type_name}, NULL])")
                });
                let rows = rows.collect::<Vec<_>>().join(", ");
                fixture
                    .run(&format!(
                        "CREATE TABLE one (n int PRIMARY KEY, v {type_name}, list {type_name}[]); \
                         INSERT INTO one VALUES {rows}, (1000, NULL, NULL), (1001, NULL, '{{}}')"
                    ))
                    .await;
                let batches = read_all(&*fixture.table("one"), 1).await;
                let oracle = read_all(&*fixture.query("SELECT v::text AS v, list[1]::text AS e FROM one ORDER BY n", &[]), 1).await;
                let text = |value: &Value| match value {
                    Value::Null => None,
                    Value::String(text) => Some(normal(type_name, text)),
                    other => Some(normal(type_name, &other.to_string())),
                };
                let ours: Vec<_> = column(&batches, "v").iter().map(text).collect();
                let theirs: Vec<_> = column(&oracle, "v").iter().map(text).collect();
                assert_eq!(ours, theirs, "{type_name}");
                let lists = column(&batches, "list");
                let elements: Vec<_> = lists.iter().map(|list| list.get(0).and_then(text)).collect();
                assert_eq!(elements, column(&oracle, "e").iter().map(text).collect::<Vec<_>>(), "{type_name}[]");
                assert_eq!(lists[0].as_array().map(Vec::len), Some(2), "{type_name}[]");
                assert_eq!(lists[lists.len() - 2..], [Value::Null, json!([])], "{type_name}[]");
                assert!(batches.iter().all(|batch| batch.unreadable.is_empty()), "{type_name}");
                fixture.run("DROP TABLE one").await;
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_say_what_they_are() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE t (id uuid PRIMARY KEY, n numeric(10, 2) NOT NULL, j jsonb, gone int, \
                     at timestamptz(3), day date NOT NULL, double int GENERATED ALWAYS AS (2) STORED, c char(3)); \
                     ALTER TABLE t DROP COLUMN gone",
                )
                .await;
            let schema = fixture.table("t").describe().await.unwrap().schema;
            let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            assert_eq!(names, ["id", "n", "j", "at", "day", "double", "c"]);
            let field = |name: &str| schema.field_with_name(name).unwrap();
            assert_eq!(Logical::of(field("id")), Some(Logical::Uuid));
            assert_eq!(Logical::of(field("n")), Some(Logical::Number));
            assert_eq!(Logical::of(field("j")), Some(Logical::Json));
            assert_eq!(logical::type_name(field("n")), "numeric(10,2)");
            assert_eq!(logical::type_name(field("c")), "character(3)");
            assert!(!field("id").is_nullable() && !field("n").is_nullable() && field("j").is_nullable());
            assert!(field("day").is_nullable(), "a date may be unreadable");
            assert_eq!(*field("at").data_type(), DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn booleans_bytes_zones_and_infinities() {
    on_each_server(|fixture| {
        async {
            let sql = "SELECT true AS yes, '\\x00ff'::bytea AS bytes, timestamptz '2024-01-01 01:00+01' AS at, \
                 'infinity'::timestamp AS late, '-infinity'::timestamptz AS early, 'infinity'::date AS day, \
                 'NaN'::float8 AS nan, '-Infinity'::float4 AS low, 'ab '::char(4) AS padded, time '24:00' AS midnight, \
                 ARRAY[]::int[] AS none, ARRAY[true, NULL] AS flags";
            let batches = read_all(&*fixture.query(sql, &[]), 1).await;
            let row = record::to_json(&batches[0].records, 0);
            assert_eq!(row["yes"], json!(true));
            assert_eq!(row["bytes"], json!("AP8="));
            assert_eq!(row["at"], json!("2024-01-01T00:00:00Z"));
            assert_eq!((&row["nan"], &row["low"]), (&json!("NaN"), &json!("-inf")));
            assert_eq!(row["padded"], json!("ab  "));
            assert_eq!((&row["none"], &row["flags"]), (&json!([]), &json!([true, null])));
            let records = &batches[0].records;
            let count = |name: &str| records.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>().value(0);
            assert_eq!((count("late"), row["midnight"].clone()), (i64::MAX, json!(86_400_000_000_i64)));
            assert_eq!(records.column_by_name("early").unwrap().to_data().buffer::<i64>(0)[0], i64::MIN);
            assert_eq!(records.column_by_name("day").unwrap().as_primitive::<Date32Type>().value(0), i32::MAX);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrow_cannot_hold_is_a_row_apart() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE odd (n int PRIMARY KEY, at timestamp NOT NULL, list int[] NOT NULL); INSERT INTO odd VALUES \
                     (1, '2024-01-01', '{1}'), (2, '294276-12-31 23:59:59', '{2}'), (3, '2024-01-01', '{{1,2},{3,4}}'), \
                     (4, '2024-01-01', '[0:1]={1,2}'), (5, '4713-01-01 BC', '{5}')",
                )
                .await;
            let batches = read_all(&*fixture.table("odd"), 1).await;
            assert_eq!(batches.len(), 1);
            let batch = &batches[0];
            let rows: Vec<_> = batch.unreadable.iter().map(|value| (value.row, value.column.as_str())).collect();
            assert_eq!(rows, [(1, "at"), (2, "list"), (3, "list")]);
            assert_eq!(batch.unreadable[0].raw.len(), 8);
            assert!(batch.unreadable[1].reason.contains("more than one dimension"));
            assert!(batch.records.column_by_name("at").unwrap().is_null(1));
            assert_eq!(column(&batches, "list"), [json!([1]), json!([2]), Value::Null, Value::Null, json!([5])]);
            let raw = batch.records.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>().value(4);
            assert_eq!(raw, -210_863_520_000_000_000, "4713-01-01 BC");
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_of_no_encoding_is_a_row_apart() {
    on_real_server(|fixture| {
        async {
            let name = format!("{}_ascii", fixture.config.database);
            let admin = beside(fixture).await;
            let create = format!("CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
            admin.batch_execute(&create).await.unwrap();
            let ascii = Fixture::new(PostgresConfig { database: name.clone(), ..fixture.config.clone() });
            ascii
                .run("CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL); INSERT INTO t VALUES (1, 'ü'), (2, E'\\xff'), (3, 'z')")
                .await;
            let batches = read_all(&*ascii.table("t"), 1).await;
            assert_eq!(column(&batches, "name"), [json!("ü"), Value::Null, json!("z")]);
            assert_eq!((batches[0].unreadable[0].row, &batches[0].unreadable[0].raw), (1, &vec![0xff]));
            ascii.store.close().await;
            admin.batch_execute(&format!("DROP DATABASE {name}")).await.unwrap();
        }
        .boxed_local()
    })
    .await;
}
