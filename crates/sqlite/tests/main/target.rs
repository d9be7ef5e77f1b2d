//! Writing: modes, types, what SQLite refuses.

use crate::fixture::{Fixture, batch, batch_of, checkpoint, people, writing};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeListArray, Float32Array,
    Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;
use whimbrel_model::{Fidelity, Logical, SliceId, Stage};
use whimbrel_store::{
    Creation, KeyPattern, Mode, Outcome, Store as _, StoreErrorKind, Target, WriteBatch, WriteRequest,
    conformance,
};

pub fn words(outcomes: &[Outcome]) -> Vec<String> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Created(_) => "created".to_owned(),
        Outcome::Updated(_) => "updated".to_owned(),
        Outcome::Unchanged(_) => "unchanged".to_owned(),
        Outcome::Skipped => "skipped".to_owned(),
        Outcome::Rejected(refusal) => refusal.reason.clone(),
    };
    outcomes.iter().map(word).collect()
}

/// Writes a batch as the first and only one of a slice.
pub async fn write(target: &Arc<dyn Target>, batch: WriteBatch) -> Vec<Outcome> {
    let writer = target.writer(&SliceId::new("flow.0000"), false, &conformance::context()).await.unwrap();
    let written = writer.write(batch).await.unwrap();
    writer.commit(&checkpoint(1), 1).await.unwrap();
    writer.finish().await.unwrap();
    written.outcomes
}

async fn write_words(target: &Arc<dyn Target>, records: &RecordBatch) -> Vec<String> {
    words(&write(target, batch(records, 1)).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_and_a_strict_table_are_made_from_the_types() {
    let fixture = Fixture::missing();
    let instants = TimestampMicrosecondArray::from(vec![1_709_209_815_250_000, -1]).with_timezone("UTC");
    let vectors = FixedSizeListArray::new(
        Arc::new(Field::new("item", DataType::Float32, true)),
        2,
        Arc::new(Float32Array::from(vec![1.0, -0.0, 0.1, f32::MAX])),
        None,
    );
    let mut tags = ListBuilder::new(StringBuilder::new());
    tags.append_value([Some("a"), None]);
    tags.append_value(Vec::<Option<&str>>::new());
    let plain = batch_of(vec![
        ("id", Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN])) as ArrayRef),
        ("big", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
        ("flag", Arc::new(BooleanArray::from(vec![true, false]))),
        ("float", Arc::new(Float64Array::from(vec![f64::MIN_POSITIVE, f64::NEG_INFINITY]))),
        ("text", Arc::new(StringArray::from(vec!["ü\u{0}x", "007"]))),
        ("price", Arc::new(Decimal128Array::from(vec![150, -1]).with_precision_and_scale(38, 2).unwrap())),
        ("bytes", Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..], b""]))),
        ("day", Arc::new(Date32Array::from(vec![19782, -719_528]))),
        ("at", Arc::new(instants)),
        ("local", Arc::new(TimestampNanosecondArray::from(vec![1, 1_709_209_815_000_000_000]))),
        ("tags", Arc::new(tags.finish())),
        ("vector", Arc::new(vectors)),
        ("doc", Arc::new(StringArray::from(vec!["{\"n\": 1.50}", "12345678901234567890.5"]))),
    ]);
    let mut fields: Vec<_> = plain.schema().fields().iter().map(|field| (**field).clone()).collect();
    fields[12] = Logical::Json.field("doc", true);
    let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), plain.columns().to_vec()).unwrap();
    let target = fixture.target(WriteRequest { key: vec!["id".to_owned()], ..writing("all", Mode::Upsert) });

    assert!(fixture.store.check().await[0].ok);
    assert_eq!(target.identity().await.unwrap(), None);
    let plan = target.plan(records.schema_ref()).await.unwrap();
    assert!(!plan.exists && plan.ddl[0].ends_with(") STRICT"), "{:?}", plan.ddl);
    assert!(plan.fidelity.iter().all(|column| !matches!(column.fidelity, Fidelity::Lossy(_))));
    assert!(!fixture.path().exists(), "a plan writes nothing");
    assert_eq!(target.create().await.unwrap(), Creation::Created("all".to_owned()));
    assert_eq!(target.create().await.unwrap(), Creation::Created("all".to_owned()));
    assert!(target.state().await.unwrap().empty);
    assert_eq!(write_words(&target, &records).await, ["created", "created"]);

    let held = |name: &str, id: &str| {
        fixture.ask(&format!("SELECT typeof({name}) || ' ' || quote({name}) FROM \"all\" WHERE id {id} 0"))
    };
    for (name, first, second) in [
        ("id", "integer 9223372036854775807", "integer -9223372036854775808"),
        ("big", "text '18446744073709551615'", "text '0'"),
        ("flag", "integer 1", "integer 0"),
        ("float", "real 2.2250738585072013", "real -9.0e+999"),
        ("text", "text 'ü", "text '007'"),
        ("price", "text '1.50'", "text '-0.01'"),
        ("bytes", "blob X'00FF'", "blob X''"),
        ("day", "text '2024-02-29'", "text '0000-01-01'"),
        ("at", "text '2024-02-29 12:30:15.25Z'", "text '1969-12-31 23:59:59.999999Z'"),
        ("local", "text '1970-01-01 00:00:00.000000001'", "text '2024-02-29 12:30:15'"),
        ("tags", "text '[\"a\",null]'", "text '[]'"),
        ("vector", "blob X'0000803F00000080'", "blob X'CDCCCC3DFFFF7F7F'"),
        ("doc", "text '{\"n\": 1.50}'", "text '12345678901234567890.5'"),
    ] {
        assert!(held(name, ">").starts_with(first), "{name}: {}", held(name, ">"));
        assert!(held(name, "<").starts_with(second), "{name}: {}", held(name, "<"));
    }
    let preview = &target.encode(&records, &conformance::context())[0];
    assert_eq!(preview.as_ref().unwrap().preview["doc"]["n"].to_string(), "1.50");
    fixture.store.close().await;
    assert!(!fixture.folder().join("test.db-wal").exists(), "one file is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_not_made_with_a_key_that_no_column_has() {
    let fixture = Fixture::missing();
    let records = batch_of(vec![("user_id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
    let target =
        fixture.target(WriteRequest { key: vec!["user_ids".to_owned()], ..writing("t", Mode::Upsert) });
    let error = target.plan(records.schema_ref()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Mismatch);
    assert!(error.to_string().contains("no column `user_ids`, which is part of the key"), "{error}");
    assert_eq!(error.hint(), Some("the nearest are `user_id`"));
    let other =
        fixture.target(WriteRequest { key: vec!["USER_ID".to_owned()], ..writing("t", Mode::Upsert) });
    assert_eq!(
        other.plan(records.schema_ref()).await.unwrap().key,
        ["user_id"],
        "SQLite's names have no case"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn values_take_the_form_that_columns_will_hold() {
    let fixture = Fixture::new(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n NUMERIC, f BOOLEAN, d DATETIME, r REAL, j JSON, x, s VARCHAR(3))",
    );
    let target = fixture.target(writing("t", Mode::Insert));
    let texts = |name: &'static str, values: &[&str]| {
        let ids: Vec<i64> = (1..=i64::try_from(values.len()).unwrap()).collect();
        batch_of(vec![
            ("id", Arc::new(Int64Array::from(ids)) as ArrayRef),
            (name, Arc::new(StringArray::from(values.to_vec()))),
        ])
    };
    for (name, values, expected) in [
        (
            "n",
            &["1.50", "7.0", "0.1000000000000000055", "x", "12345678901234567890"][..],
            "created|created|`n` is \"0.1000000000000000055\", and the column keeps no more digits than a float of 64 bits|`n` is \"x\", which is no number|`n` is \"12345678901234567890\", and the column keeps no more digits than a float of 64 bits",
        ),
        ("f", &["true", "false", "1"], "created|created|`f` is \"1\", and truth values are true and false"),
        (
            "d",
            &["2024-02-29", "20240229", "soon"],
            "created|`d` is \"20240229\", in whose place SQLite would hold a number|created",
        ),
        (
            "r",
            &["1.98", "1e2", "0.10000000000000001"],
            "created|created|`r` is \"0.10000000000000001\", and the column keeps no more digits than a float of 64 bits",
        ),
        (
            "j",
            &["{\"a\":1}", "17", "\"17\"", "{"],
            "created|created|created|`j` is \"{\", which is no JSON document: EOF while parsing an object at line 1 column 1",
        ),
        ("x", &["007", ""], "created|created"),
        ("s", &["longer", "007"], "created|created"),
    ] {
        let records = texts(name, values);
        target.plan(records.schema_ref()).await.unwrap();
        assert_eq!(write_words(&target, &records).await.join("|"), expected);
        let held = fixture.ask(&format!("SELECT group_concat(typeof({name}) || ' ' || {name}, '|') FROM t"));
        let sent: Vec<_> =
            target.fingerprints(&records, &conformance::context()).into_iter().flatten().collect();
        let found = target.look_up(&records, &conformance::context()).await.unwrap();
        let read: Vec<_> = found.held.records.iter().map(|record| record.fingerprint).collect();
        assert_eq!(sent, read, "{name}: what is held is what was sent: {held}");
        fixture.connect().execute("DELETE FROM t", []).unwrap();
    }
    let nan = batch_of(vec![
        ("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
        ("r", Arc::new(Float64Array::from(vec![f64::NAN]))),
    ]);
    target.plan(nan.schema_ref()).await.unwrap();
    assert!(write_words(&target, &nan).await[0].contains("NaN"));
    let blob = batch_of(vec![("s", Arc::new(BinaryArray::from(vec![&b"x"[..]])) as ArrayRef)]);
    let error = target.plan(blob.schema_ref()).await.unwrap_err();
    assert!(error.to_string().contains("cannot go into \"t\" (VARCHAR(3))"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_does_what_it_says() {
    let script = "CREATE TABLE people (id INT PRIMARY KEY, name TEXT, more TEXT DEFAULT 'kept'); INSERT INTO people (id, name) VALUES (1, 'a')";
    let records = people(&[1, 2, 2], &[Some("x"), Some("y"), Some("z")]);
    let second = "a second record with the key of an earlier one";
    for (mode, expected, held) in [
        (Mode::Insert, ["the key exists already", "created", second], "1akept2ykept"),
        (Mode::Upsert, ["updated", "created", second], "1xkept2ykept"),
        (Mode::SkipExisting, ["skipped", "created", second], "1akept2ykept"),
        (Mode::Update, ["updated", "the key does not exist", "the key does not exist"], "1xkept"),
    ] {
        let fixture = Fixture::new(script);
        let target = fixture.target(writing("people", mode));
        target.plan(records.schema_ref()).await.unwrap();
        assert_eq!(write_words(&target, &records).await, expected, "{mode:?}");
        assert_eq!(fixture.ask("SELECT group_concat(id || name || more, '' ORDER BY id) FROM people"), held);
        let replaced = Fixture::new(&script.replace("PRIMARY KEY", "PRIMARY KEY ON CONFLICT REPLACE"));
        let target = replaced.target(writing("people", mode));
        target.plan(records.schema_ref()).await.unwrap();
        assert_eq!(
            write_words(&target, &records).await,
            expected,
            "no conflict clause of the table replaces anything"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_is_guarded_by_what_was_read() {
    let fixture = Fixture::new(
        "CREATE TABLE people (id INT PRIMARY KEY, name TEXT); INSERT INTO people VALUES (1, 'old'), (2, 'newer'), (3, 'new'), (4, NULL)",
    );
    let target = fixture.target(writing("people", Mode::Update));
    let records = people(&[1, 2, 3, 4], &[Some("new"); 4]);
    target.plan(records.schema_ref()).await.unwrap();
    let guards = batch_of(vec![(
        "name",
        Arc::new(StringArray::from(vec![Some("old"), Some("old"), Some("old"), None])) as ArrayRef,
    )]);
    let outcomes = write(&target, WriteBatch { guards: Some(guards), ..batch(&records, 1) }).await;
    let conflict = "conflict: name changed since it was read; the newer value stays";
    assert_eq!(words(&outcomes), ["updated", conflict, "unchanged", "updated"]);
    assert_eq!(fixture.ask("SELECT group_concat(name ORDER BY id) FROM people"), "new,newer,new,new");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sqlite_refuses_is_rejected_with_its_reason_and_its_neighbours_arrive() {
    let fixture = Fixture::new(
        "CREATE TABLE parents (id INTEGER PRIMARY KEY); INSERT INTO parents VALUES (1);
         CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE CHECK (length(name) < 9),
           parent INT REFERENCES parents, late INT REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
         CREATE TRIGGER no BEFORE INSERT ON people WHEN new.name = 'no' BEGIN SELECT RAISE(ABORT, 'we do not take no'); END;
         CREATE TRIGGER nil BEFORE INSERT ON people WHEN new.name = 'nil' BEGIN SELECT RAISE(IGNORE); END",
    );
    let target = fixture.target(writing("people", Mode::Upsert));
    let names = [
        Some("a"),
        None,
        Some("much too long"),
        Some("a"),
        Some("no"),
        Some("nil"),
        Some("b"),
        Some("c"),
        Some("d"),
    ];
    let records = batch_of(vec![
        ("id", Arc::new(Int64Array::from((1..10).collect::<Vec<_>>())) as ArrayRef),
        ("name", Arc::new(StringArray::from(names.to_vec()))),
        (
            "parent",
            Arc::new(Int64Array::from(vec![Some(1), None, None, None, None, None, Some(7), None, None])),
        ),
        (
            "late",
            Arc::new(Int64Array::from(vec![None, None, None, None, None, None, None, Some(8), Some(1)])),
        ),
    ]);
    let plan = target.plan(records.schema_ref()).await.unwrap();
    assert_eq!((plan.parents.len(), plan.parents[0].resource.as_str()), (2, "parents"));
    assert!(plan.notes[0].contains("nil, no"), "{:?}", plan.notes);
    let outcomes = write(&target, batch(&records, 1)).await;
    assert_eq!(
        words(&outcomes),
        [
            "created",
            "`name` is NULL, and the column is NOT NULL",
            "CHECK constraint failed: length(name) < 9",
            "UNIQUE constraint failed: people.name",
            "we do not take no",
            "a trigger of the table dropped it",
            "FOREIGN KEY constraint failed: (parent) refers to no row of \"parents\"",
            "FOREIGN KEY constraint failed: (late) refers to no row of \"parents\"",
            "created",
        ]
    );
    let stages: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| if let Outcome::Rejected(r) = outcome { Some(r.stage) } else { None })
        .collect();
    assert_eq!(stages[..2], [Stage::Convert, Stage::Write]);
    assert_eq!(fixture.ask("SELECT group_concat(name) FROM people"), "a,d");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_tenants_row_is_touched_or_counted() {
    let fixture = Fixture::new(
        "CREATE TABLE people (id INT PRIMARY KEY, name TEXT, tenant INTEGER); INSERT INTO people VALUES (1, 'theirs', 8), (2, 'ours', 7)",
    );
    let request = WriteRequest {
        scope: [("tenant".to_owned(), "7".to_owned())].into(),
        ..writing("people", Mode::Upsert)
    };
    let target = fixture.target(request.clone());
    let records = people(&[1, 2, 3], &[Some("x"), Some("y"), Some("z")]);
    target.plan(records.schema_ref()).await.unwrap();
    let expected = ["the key is held outside of the flow's scope", "updated", "created"];
    assert_eq!(write_words(&target, &records).await, expected);
    assert_eq!(target.count(&[Vec::new()]).await.unwrap().flows, [2]);
    assert_eq!(fixture.ask("SELECT group_concat(name || tenant ORDER BY id) FROM people"), "theirs8,y7,z7");
    let found = target.look_up(&records, &conformance::context()).await.unwrap();
    assert_eq!(found.rows, [None, Some(0), Some(1)]);
    let empty = WriteRequest { scope: [("tenant".to_owned(), "9".to_owned())].into(), ..request };
    assert!(fixture.target(empty).state().await.unwrap().empty);
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_into_one_table_are_told_apart_by_what_is_constant() {
    let fixture = Fixture::new(
        "CREATE TABLE items (pk TEXT, sk TEXT, PRIMARY KEY (pk, sk)); INSERT INTO items VALUES ('USER#1', 'META'), ('USER#1', 'ORDER#1'), ('ADMIN#1', 'META'), ('user#1', 'META')",
    );
    let target = fixture.target(writing("items", Mode::Upsert));
    let pattern = |column: &str, text: &str, whole| KeyPattern {
        column: column.to_owned(),
        text: text.to_owned(),
        whole,
    };
    let users = vec![pattern("pk", "USER#", false)];
    let metas = vec![pattern("pk", "USER#", false), pattern("sk", "META", true)];
    let held = target.count(&[users, metas]).await.unwrap();
    assert_eq!((held.flows, held.others), (vec![1, 1], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_makes_the_tables_or_nothing() {
    let fixture = Fixture::missing();
    let path = fixture.folder().join("schema.sql");
    let store = |script: &str| {
        std::fs::write(&path, script).unwrap();
        crate::fixture::open(&fixture.path()).with_schema_file(path.clone())
    };
    let records = people(&[1], &[Some("a")]);
    let good = "CREATE TABLE IF NOT EXISTS teams (id INTEGER PRIMARY KEY); CREATE TABLE IF NOT EXISTS people (id INT PRIMARY KEY, name TEXT NOT NULL, team INT REFERENCES teams); CREATE INDEX IF NOT EXISTS by_name ON people (name);";
    for (script, word) in [
        (format!("{good} CREATE TABLE nonsense;"), "schema.sql failed"),
        (format!("BEGIN; {good} COMMIT;"), "schema.sql failed"),
    ] {
        let failing = store(&script);
        let target = failing.target(writing("people", Mode::Upsert)).unwrap();
        // In memory a script may begin a transaction; in a file it runs in one.
        let error = match target.plan(records.schema_ref()).await {
            Err(error) => error,
            Ok(_) => target.create().await.unwrap_err(),
        };
        assert!(error.to_string().contains(word), "{error}");
        assert!(error.hint().unwrap().contains("one transaction"));
    }
    let made = store(good);
    let target = made.target(writing("people", Mode::Upsert)).unwrap();
    let plan = target.plan(records.schema_ref()).await.unwrap();
    assert!(plan.ddl[0].contains("schema.sql") && plan.key == ["id"], "{:?}", plan.ddl);
    assert_eq!(target.create().await.unwrap(), Creation::Created("people".to_owned()));
    assert_eq!(
        fixture.ask(
            "SELECT group_concat(name ORDER BY name) FROM sqlite_schema WHERE type = 'index' AND sql > ''"
        ),
        "by_name"
    );
    let again = store(&good.replace("name TEXT NOT NULL", "name VARCHAR(9), age INT"));
    let target = again.target(writing("people", Mode::Upsert)).unwrap();
    target.plan(records.schema_ref()).await.unwrap();
    let Creation::Existed { differences, .. } = target.create().await.unwrap() else {
        panic!("it was there")
    };
    assert_eq!(
        differences,
        [
            "column `name` is TEXT, by its definition VARCHAR(9)",
            "column `name` is NOT NULL, by its definition nullable",
            "column `age` (INT) is missing"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_is_wrong() {
    let fixture = Fixture::new(
        "CREATE TABLE people (id INT, name TEXT COLLATE NOCASE UNIQUE, must TEXT NOT NULL, g AS (id) STORED); CREATE VIEW v AS SELECT * FROM people;
         CREATE TABLE free (a TEXT)",
    );
    let records = people(&[1], &[Some("a")]);
    let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (request, word) in [
        (writing("people", Mode::Upsert), "no primary key"),
        (WriteRequest { key: named(&["id"]), ..writing("people", Mode::Upsert) }, "no unique key"),
        (
            WriteRequest { key: named(&["name"]), ..writing("people", Mode::Upsert) },
            "takes different texts for one",
        ),
        (writing("people", Mode::Insert), "`must` must not be NULL"),
        (writing("v", Mode::Insert), "is a view"),
        (writing("free", Mode::Insert), "has no column `id`"),
    ] {
        let error = fixture.target(request).plan(records.schema_ref()).await.unwrap_err();
        assert!(error.to_string().contains(word), "{word}: {error}");
    }
    let error = fixture.target(writing("peple", Mode::Insert)).state().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotFound);
    assert!(error.hint().unwrap().contains("`people`"), "{:?}", error.hint());
    let missing = Fixture::missing();
    let error = missing.target(writing("people", Mode::Insert)).state().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotFound);
    assert!(!missing.path().exists());
}
