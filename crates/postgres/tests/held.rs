//! Reading back: what a table holds has the fingerprints that its records were written with.

use crate::server::{Fixture, on_each_server, read_all};
use crate::target::{batch, people, request, target, texts, words, write};
use crate::types::{CASES, DEFINITIONS, has_lists, has_type};
use arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::Float32Type;
use futures::{FutureExt as _, TryStreamExt as _};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_model::Fingerprint;
use whimbrel_store::conformance::context;
use whimbrel_store::{HeldBatch, HeldFlow, HeldRecord, KeyPattern, Mode, Store as _, Target, WriteRequest};

/// What a table holds, over so many parts.
async fn held(target: &Arc<dyn Target>, flows: &[HeldFlow], parts: usize) -> Vec<HeldBatch> {
    let mut all = Vec::new();
    for part in target.held_parts(parts).await.unwrap_or_else(|error| panic!("{error}: {error:?}")) {
        let stream = target.held(&part, flows, &context()).await;
        let stream = stream.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        all.extend(stream.try_collect::<Vec<_>>().await.unwrap_or_else(|error| panic!("{error}: {error:?}")));
    }
    all
}

fn records(batches: &[HeldBatch]) -> Vec<HeldRecord> {
    batches.iter().flat_map(|batch| batch.records.clone()).collect()
}

/// The fingerprints of what a flow holds, in the order of their keys.
fn sorted(records: impl IntoIterator<Item = Fingerprint>) -> Vec<(u128, u128)> {
    let mut all: Vec<_> = records.into_iter().map(|print| (print.key, print.record)).collect();
    all.sort_unstable();
    all
}

fn flow(request: &WriteRequest, records: &RecordBatch) -> HeldFlow {
    HeldFlow { constants: Vec::new(), columns: records.schema(), request: request.clone() }
}

fn expected(target: &Arc<dyn Target>, records: &RecordBatch) -> Vec<Fingerprint> {
    let prints = target.fingerprints(records, &context());
    prints.into_iter().map(|print| print.unwrap_or_else(|refusal| panic!("{refusal:?}"))).collect()
}

/// Writes records, and finds them again in both ways.
async fn comes_back(fixture: &Fixture, request: WriteRequest, records: &RecordBatch) {
    let target = target(fixture, request.clone());
    target.plan(records.schema_ref()).await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let written = words(&write(&target, true, batch(records.clone(), 1)).await);
    assert!(written.iter().all(|word| word == "created" || word == "updated"), "{written:?}");
    assert_back(&target, &request, records).await;
}

async fn assert_back(target: &Arc<dyn Target>, request: &WriteRequest, records: &RecordBatch) {
    let wanted = expected(target, records);
    let found = self::records(&held(target, &[flow(request, records)], 3).await);
    assert!(found.iter().all(|record| record.flow == Some(0)));
    let found: Vec<_> = found.into_iter().map(|record| record.fingerprint).collect();
    let values = || format!("{}: {}", records.schema_ref().field(1), shown(records));
    assert_eq!(sorted(found), sorted(wanted.clone()), "{}", values());
    let looked =
        target.look_up(records, &context()).await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let found = looked.rows.iter().map(|row| looked.held.records[row.expect("it is there")].fingerprint);
    assert_eq!(found.collect::<Vec<_>>(), wanted, "{}", values());
}

fn shown(records: &RecordBatch) -> String {
    let rows = 0..records.num_rows().min(20);
    rows.map(|row| format!("{:?}", whimbrel_store::conformance::row(records, row))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back_as_it_was_written() {
    on_each_server(|fixture| {
        async {
            fixture.run(DEFINITIONS).await;
            let has_xml = fixture.store.execute_script("SELECT '<a/>'::xml").await.is_ok();
            for (type_name, values, random) in CASES {
                if (type_name == "xml" && !has_xml) || !has_type(fixture, type_name).await {
                    continue;
                }
                let literals =
                    values.iter().map(|value| format!("('{}'::{type_name})", value.replace('\'', "''")));
                fixture
                    .run(&format!(
                        "DROP TABLE IF EXISTS one, two; CREATE TABLE one (n int PRIMARY KEY, v {type_name}); \
                         INSERT INTO one SELECT row_number() OVER (), v FROM (VALUES {}) AS t(v); \
                         INSERT INTO one SELECT 1000 + n, {random} FROM generate_series(1, 40) AS n; \
                         INSERT INTO one VALUES (5000, NULL); CREATE TABLE two (LIKE one INCLUDING ALL)",
                        literals.collect::<Vec<_>>().join(", ")
                    ))
                    .await;
                let batches = read_all(&*fixture.table("one"), 1).await;
                let batches: Vec<_> = batches.into_iter().map(|batch| batch.records).collect();
                let records = concat_batches(batches[0].schema_ref(), &batches).expect("one schema");
                let request =
                    WriteRequest { allow_lossy: vec!["v".to_owned()], ..request("two", Mode::Upsert) };
                comes_back(fixture, request, &records).await;
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_every_type_come_back() {
    on_each_server(|fixture| {
        async {
            fixture.run(DEFINITIONS).await;
            let has_xml = fixture.store.execute_script("SELECT '<a/>'::xml").await.is_ok();
            for (type_name, values, _) in CASES {
                // Arrays of boxes are the only ones that are not separated by commas.
                let is_other = !has_lists(type_name) || type_name == "box" || (type_name == "xml" && !has_xml);
                if is_other || !has_type(fixture, type_name).await {
                    continue;
                }
                let literals =
                    values.iter().map(|value| format!("('{}'::{type_name})", value.replace('\'', "''")));
                fixture
                    .run(&format!(
                        "DROP TABLE IF EXISTS one, two; CREATE TABLE one (n int PRIMARY KEY, v {type_name}[]); \
                         INSERT INTO one SELECT row_number() OVER (), ARRAY[v, NULL, v] FROM (VALUES {}) AS t(v); \
                         INSERT INTO one VALUES (4999, '{{}}'), (5000, NULL); CREATE TABLE two (LIKE one INCLUDING ALL)",
                        literals.collect::<Vec<_>>().join(", ")
                    ))
                    .await;
                let batches = read_all(&*fixture.table("one"), 1).await;
                let request = WriteRequest { allow_lossy: vec!["v".to_owned()], ..request("two", Mode::Upsert) };
                comes_back(fixture, request, &batches[0].records).await;
            }
        }
        .boxed_local()
    })
    .await;
}

/// A table with a column of each type that keeps another form than it is sent, and texts that are sent.
const FORMS: [(&str, &str, &[&str]); 26] = [
    ("numeric(38,10)", "a", &["1", "1234567890123456789012345678.0123456789", "-0.50", "1e3"]),
    ("numeric", "a", &["1.000", "inf", "NaN", "1e-20"]),
    ("double precision", "a", &["-0", "0", "1e300", "NaN"]),
    ("real", "a", &["0.1", "-0"]),
    ("char(5)", "a", &["ab", ""]),
    ("varchar(5)", "a", &["ab ", ""]),
    ("jsonb", "a", &[r#"{"b":1.0,"a":[1e2,"\u00fc"]}"#, "1.50"]),
    ("json", "a", &[r#"{"b":1.0,  "a":1}"#, r#"{"a":1,"a":2}"#]),
    ("uuid", "a", &["{A0EEBC999C0B4EF8BB6D6BB9BD380A11}"]),
    ("timestamp", "a", &["2024-02-29T12:00:00.1+02:00", "infinity"]),
    ("timestamptz", "a", &["2024-02-29T12:00:00.123456-05:30", "0044-03-15 BC"]),
    ("date", "a", &["2024-02-29"]),
    ("time", "a", &["24:00", "12:30:00.5"]),
    ("bytea", "a", &["\\xDEadBEEF", "\\x"]),
    ("text[]", "a", &[r#"["a", null, "b\"c"]"#, "{}", "{a,NULL,\"NULL\"}"]),
    ("numeric[]", "a", &["{1.0,2}"]),
    ("interval", "a", &["14 months 1 week", "P1DT36H", "-00:00:00.5", "1 day -1 seconds"]),
    ("timetz", "a", &["12:30+02", "23:59:00.10Z"]),
    ("inet", "a", &["10.0.0.1/32", "10.0.0.1/8", "::FFFF:1.2.3.4"]),
    ("cidr", "a", &["10.0.0.0/8", "10.0.0.1"]),
    ("macaddr", "a", &["08-00-2b-01-02-03", "0800.2B01.0203"]),
    ("bit varying", "a", &["x1F", "b101", ""]),
    ("int4range", "a", &["[1,5]", "(,3)", "(1,2)"]),
    ("daterange", "a", &["[2024-01-01,2024-02-28]"]),
    ("inet[]", "a", &["{10.0.0.1/32,NULL}"]),
    ("money", "a", &["12.3", "-5"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_in_another_form_comes_back() {
    on_each_server(|fixture| {
        async {
            for (type_name, column, values) in FORMS {
                let sql = format!("DROP TABLE IF EXISTS forms; CREATE TABLE forms (id text PRIMARY KEY, {column} {type_name})");
                fixture.run(&sql).await;
                let ids: Vec<String> = (0..values.len()).map(|id| id.to_string()).collect();
                let ids: ArrayRef = Arc::new(StringArray::from(ids));
                let values: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
                let records = RecordBatch::try_from_iter([("id", ids), (column, values)]).expect("a batch");
                let request = WriteRequest { allow_lossy: vec![column.to_owned()], ..request("forms", Mode::Insert) };
                comes_back(fixture, request, &records).await;
            }
        }
        .boxed_local()
    })
    .await;
}

/// Texts whose form only PostgreSQL knows: read back they look other than they were sent, looked up they do not.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_server_can_read_is_looked_up() {
    on_each_server(|fixture| {
        async {
            fixture
                .run("CREATE TABLE words (id bigint PRIMARY KEY, q tsquery, p point, v tsvector); INSERT INTO words VALUES (9, 'x', '(0,0)', '')")
                .await;
            let records = RecordBatch::try_from_iter([
                ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
                ("q", Arc::new(StringArray::from(vec!["a & b", "c|d", "& broken"]))),
                ("p", Arc::new(StringArray::from(vec!["( 1 , 2.0 )", "(3,4)", "(5,6)"]))),
                ("v", Arc::new(StringArray::from(vec!["b a", "'c':1", ""]))),
            ])
            .expect("a batch");
            let lossy = vec!["p".to_owned(), "q".to_owned()];
            let request = WriteRequest { allow_lossy: lossy, ..request("words", Mode::Upsert) };
            let target = target(fixture, request.clone());
            target.plan(records.schema_ref()).await.expect("a plan");
            let written = words(&write(&target, false, batch(records.clone(), 1)).await);
            assert_eq!(written[..2], ["created", "created"], "{written:?}");
            assert!(written[2].contains("syntax error in tsquery"), "a record's error, though it reads as a statement's");
            let wanted = expected(&target, &records);
            let looked = target.look_up(&records, &context()).await.expect("looked up");
            let of = |row: usize| looked.rows[row].map(|place| looked.held.records[place].fingerprint);
            assert_eq!([of(0), of(1), of(2)], [Some(wanted[0]), Some(wanted[1]), None]);
            fixture.run("UPDATE words SET q = 'a | b' WHERE id = 1; UPDATE words SET p = '(3,5)' WHERE id = 2").await;
            let looked = target.look_up(&records, &context()).await.expect("looked up");
            for row in [0, 1] {
                let print = looked.held.records[looked.rows[row].expect("it is there")].fingerprint;
                assert_eq!(print.key, wanted[row].key);
                assert_ne!(print.record, wanted[row].record);
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_change_is_seen() {
    on_each_server(|fixture| {
        async {
            fixture
                .run("CREATE TABLE all_kinds (id bigint PRIMARY KEY, n numeric, t text, f real, d double precision, \
                      l text[], j jsonb, b bytea, at timestamptz, other int)")
                .await;
            let records = RecordBatch::try_from_iter_with_nullable([
                ("id", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef, true),
                ("n", Arc::new(StringArray::from(vec!["12345678901234567890123456789012345678", "0"])), true),
                ("t", Arc::new(StringArray::from(vec![Some(""), None])), true),
                ("f", Arc::new(Float32Array::from(vec![0.1, 0.0])), true),
                ("d", Arc::new(Float64Array::from(vec![0.1, 0.0])), true),
                ("l", Arc::new(StringArray::from(vec!["{a,b}", "{}"])), true),
                ("j", Arc::new(StringArray::from(vec![r#"{"a":1.0,"b":null}"#, "[]"])), true),
                ("b", Arc::new(StringArray::from(vec!["\\x00", "\\x"])), true),
                ("at", Arc::new(StringArray::from(vec!["2024-01-01T00:00:00.000001Z", "infinity"])), true),
            ])
            .expect("a batch");
            let request = request("all_kinds", Mode::Upsert);
            let target = target(fixture, request.clone());
            comes_back(fixture, request.clone(), &records).await;
            target.plan(records.schema_ref()).await.expect("a plan");
            let wanted = sorted(expected(&target, &records));
            for change in [
                "n = 12345678901234567890123456789012345679 WHERE id = 1",
                "t = NULL WHERE id = 1",
                "t = '' WHERE id = 2",
                "f = 0.10000001 WHERE id = 1",
                "f = '-0' WHERE id = 2",
                "d = 0.10000000000000002 WHERE id = 1",
                "l = '{b,a}' WHERE id = 1",
                "l = NULL WHERE id = 2",
                "j = '{\"a\":1.0}' WHERE id = 1",
                "j = 'null' WHERE id = 2",
                "b = '\\x01' WHERE id = 1",
                "at = at + interval '1 microsecond' WHERE id = 1",
                "at = '294276-12-31 23:59:59' WHERE id = 1",
                "l = '[0:1]={a,b}' WHERE id = 1",
                "id = 3 WHERE id = 1",
            ] {
                fixture.run(&format!("UPDATE all_kinds SET {change}")).await;
                let found = self::records(&held(&target, &[flow(&request, &records)], 2).await);
                let found = sorted(found.into_iter().map(|record| record.fingerprint));
                let same = found.iter().filter(|print| wanted.contains(print)).count();
                assert_eq!((found.len(), same), (2, 1), "{change}");
                words(&write(&target, false, batch(records.clone(), 1)).await);
                fixture.run("DELETE FROM all_kinds WHERE id = 3").await;
            }
            // What is no change, and what is none of the flow's business.
            fixture.run("UPDATE all_kinds SET j = '{\"b\":null,\"a\":1}', other = 7, n = n + 0.00 WHERE id = 1").await;
            assert_back(&target, &request, &records).await;
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_belong_to_flows_by_constants_and_scope() {
    on_each_server(|fixture| {
        async {
            fixture
                .run("CREATE TABLE single (pk text, sk text, a text, b int, PRIMARY KEY (pk, sk)); INSERT INTO single VALUES \
                      ('USER#1', 'METADATA', 'u', NULL), ('USER#1', 'ORDER#1', 'o', 1), ('USER#2', 'METADATA', 'v', NULL), ('X', 'Y', 'z', 9)")
                .await;
            let pattern = |column: &str, text: &str, whole| KeyPattern { column: column.into(), text: text.into(), whole };
            let users = texts(&[("pk", "USER#1"), ("sk", "METADATA"), ("a", "u")]);
            let orders = texts(&[("pk", "USER#1"), ("sk", "ORDER#1"), ("b", "1")]);
            let request = request("single", Mode::Upsert);
            let flows = [
                HeldFlow { constants: vec![pattern("pk", "USER#", false)], ..flow(&request, &users) },
                HeldFlow {
                    constants: vec![pattern("pk", "USER#", false), pattern("sk", "ORDER#", false)],
                    ..flow(&request, &orders)
                },
            ];
            let target = target(fixture, request.clone());
            target.plan(users.schema_ref()).await.expect("a plan");
            let batches = held(&target, &flows, 1).await;
            let mut seen: Vec<_> = Vec::new();
            for batch in &batches {
                for (row, record) in batch.records.iter().enumerate() {
                    seen.push((record.flow, batch.contents.record(row), batch.contents.key(row), record.fingerprint));
                }
            }
            seen.sort_by_key(|(_, _, key, _)| format!("{key:?}"));
            let flows_seen: Vec<_> = seen.iter().map(|(flow, ..)| *flow).collect();
            assert_eq!(flows_seen, [Some(0), Some(1), Some(0), None]);
            assert_eq!(seen[0].3, expected(&target, &users)[0]);
            assert_eq!(seen[1].3, expected(&target, &orders)[0]);
            assert_eq!(json!(seen[1].1), json!({"pk": "USER#1", "sk": "ORDER#1", "b": 1}));
            assert_eq!(json!(seen[3].1), json!({"pk": "X", "sk": "Y", "a": "z", "b": 9}));
            assert_eq!(json!(seen[3].2), json!({"pk": "X", "sk": "Y"}));
            // A tenant sees its own rows, and the column that says so is part of them.
            fixture
                .run("CREATE TABLE shared (id bigint PRIMARY KEY, name text, tenant int NOT NULL); \
                      INSERT INTO shared SELECT n, 'n' || n, n % 2 FROM generate_series(1, 100) n")
                .await;
            let scoped = WriteRequest { scope: BTreeMap::from([("tenant".into(), "1".into())]), ..self::request("shared", Mode::Upsert) };
            let records = people(&[1, 2], &["n1", "n2"]);
            let target = fixture.store.target(scoped.clone()).expect("a target");
            target.plan(records.schema_ref()).await.expect("a plan");
            let found = self::records(&held(&target, &[flow(&scoped, &records)], 4).await);
            assert_eq!(found.len(), 50);
            let wanted = expected(&target, &records);
            assert!(found.iter().any(|record| record.fingerprint == wanted[0]));
            let looked = target.look_up(&records, &context()).await.expect("looked up");
            assert_eq!(looked.rows, [Some(0), None], "the other one is not in scope");
            assert_eq!(looked.held.records[0].fingerprint, wanted[0]);
            assert_eq!(json!(looked.held.contents.record(0)), json!({"id": 1, "name": "n1", "tenant": 1}));
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_rows_few_rows_and_no_key() {
    on_each_server(|fixture| {
        async {
            fixture
                .run("CREATE TABLE many (id bigint PRIMARY KEY, name text); CREATE TABLE keyless (id bigint, name text); \
                      CREATE TABLE numbered (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text); \
                      CREATE TABLE loose (mail text UNIQUE, name text); INSERT INTO loose VALUES ('a', 'x'), (NULL, 'y')")
                .await;
            let records = people(&[7, 7], &["a", "b"]);
            let request = request("many", Mode::Upsert);
            let many = target(fixture, request.clone());
            many.plan(records.schema_ref()).await.expect("a plan");
            assert!(held(&many, &[flow(&request, &records)], 3).await.is_empty(), "no rows, no batch");
            let looked = many.look_up(&records, &context()).await.expect("looked up");
            assert_eq!((looked.rows, looked.held.records.len()), (vec![None, None], 0));
            fixture.run("INSERT INTO many SELECT n, 'n' || n FROM generate_series(1, 9000) n").await;
            let found = self::records(&held(&many, &[flow(&request, &records)], 5).await);
            let keys: std::collections::BTreeSet<_> = found.iter().map(|record| record.fingerprint.key).collect();
            assert_eq!((found.len(), keys.len()), (9_000, 9_000));
            let ids: Vec<i64> = (0..3_000).map(|n| n * 5).collect();
            let names: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
            let asked = people(&ids, &names.iter().map(String::as_str).collect::<Vec<_>>());
            let looked = many.look_up(&asked, &context()).await.expect("looked up");
            let wanted = expected(&many, &asked);
            for (row, place) in looked.rows.iter().enumerate() {
                let is_there = (1..=9000).contains(&ids[row]);
                assert_eq!(place.map(|place| looked.held.records[place].fingerprint), is_there.then_some(wanted[row]));
            }
            // A unique key may hold NULL: such a row belongs to the flow, and no record can be it.
            let by_mail = WriteRequest { key: vec!["mail".to_owned()], ..self::request("loose", Mode::Upsert) };
            let loose = target(fixture, by_mail.clone());
            let records = texts(&[("mail", "a"), ("name", "x")]);
            loose.plan(records.schema_ref()).await.expect("a plan");
            let found = self::records(&held(&loose, &[flow(&by_mail, &records)], 2).await);
            assert_eq!(found.len(), 2);
            let wanted = expected(&loose, &records)[0];
            assert_eq!(found.iter().filter(|record| record.fingerprint == wanted).count(), 1);
            // Without a key rows are compared as wholes, in one part.
            let insert = self::request("keyless", Mode::Insert);
            assert_eq!(target(fixture, insert).held_parts(4).await.expect("a part").len(), 1);
            let insert = self::request("numbered", Mode::Insert);
            let numbered = target(fixture, insert.clone());
            let names = texts(&[("name", "x")]);
            assert!(numbered.plan(names.schema_ref()).await.expect("the table makes the key").key.is_empty());
            for created in [true, false] {
                assert_eq!(words(&write(&numbered, created, batch(names.clone(), 1)).await), ["created"]);
            }
            // Of what the table makes itself nothing is compared: both rows are the record.
            let found = self::records(&held(&numbered, &[flow(&insert, &names)], 1).await);
            let wanted = expected(&numbered, &names)[0];
            assert_eq!(found.iter().filter(|record| record.fingerprint == wanted).count(), 2);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_are_shown_alike() {
    on_each_server(|fixture| {
        async {
            fixture
                .run("CREATE TABLE shown (id uuid PRIMARY KEY, at timestamptz, doc jsonb, code char(4), tags inet[], amount numeric(5,2))")
                .await;
            let records = texts(&[
                ("id", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
                ("at", "2024-02-29T12:00:00+02:00"),
                ("doc", r#"{"b": 1, "a": [true]}"#),
                ("code", "ab"),
                ("tags", "{10.0.0.1,NULL}"),
                ("amount", "1.5"),
            ]);
            let request = request("shown", Mode::Upsert);
            let target = target(fixture, request.clone());
            comes_back(fixture, request, &records).await;
            target.plan(records.schema_ref()).await.expect("a plan");
            let encoded = target.encode(&records, &context()).remove(0).expect("it fits");
            let looked = target.look_up(&records, &context()).await.expect("looked up");
            let mut held = json!(looked.held.contents.record(0));
            assert_eq!(held["amount"], json!("1.50"));
            held["amount"] = json!("1.5");
            assert_eq!(encoded.preview, held);
            assert_eq!(held["doc"]["a"], json!([true]));
            assert_eq!(held["tags"], json!(["10.0.0.1", null]));
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_come_back_bit_for_bit() {
    on_each_server(|fixture| {
        async {
            if fixture.store.execute_script("CREATE EXTENSION IF NOT EXISTS vector").await.is_err() {
                return;
            }
            fixture.run("CREATE TABLE v (id bigint PRIMARY KEY, a vector(3), h halfvec(2))").await;
            let list = |values: [f32; 3], count: usize| {
                let values = values.into_iter().take(count).map(Some).collect::<Vec<_>>();
                Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>([Some(values)])) as ArrayRef
            };
            let records = RecordBatch::try_from_iter([
                ("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
                ("a", list([0.1, -0.0, f32::MIN_POSITIVE], 3)),
                ("h", list([0.5, -1.5, 0.0], 2)),
            ])
            .expect("a batch");
            let request = WriteRequest { allow_lossy: vec!["h".to_owned()], ..request("v", Mode::Upsert) };
            let target = target(fixture, request.clone());
            comes_back(fixture, request.clone(), &records).await;
            target.plan(records.schema_ref()).await.expect("a plan");
            fixture.run("UPDATE v SET a = '[0.1,0,1.17549435e-38]'").await;
            let found = self::records(&held(&target, &[flow(&request, &records)], 1).await);
            assert_ne!(found[0].fingerprint.record, expected(&target, &records)[0].record);
        }
        .boxed_local()
    })
    .await;
}
