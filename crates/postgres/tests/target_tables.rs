//! Tables that are made, tables of every kind, and what follows a load.

use crate::server::{Fixture, on_each_server, on_real_server, read_all};
use crate::target::{batch, checkpoint, people, request, scalar, target, texts, words, write, writer};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, ListBuilder,
    RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::Schema;
use futures::{FutureExt as _, TryStreamExt as _};
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use whimbrel_model::{Fidelity, Fingerprint, FlowName, Logical};
use whimbrel_postgres::config::ForeignKeys;
use whimbrel_postgres::{PostgresConfig, PostgresStore};
use whimbrel_store::conformance::context;
use whimbrel_store::{
    Creation, Mode, Outcome, Store as _, StoreErrorKind, Target, Undoing, WriteBatch, WriteRequest,
};

fn fingerprints(outcomes: &[Outcome]) -> Vec<Fingerprint> {
    let fingerprint = |outcome: &Outcome| match outcome {
        Outcome::Created(fingerprint) | Outcome::Updated(fingerprint) => *fingerprint,
        other => panic!("{other:?}"),
    };
    outcomes.iter().map(fingerprint).collect()
}

const EVERYTHING: &str = "CREATE TYPE mood AS ENUM ('fine', 'bad'); CREATE DOMAIN short AS varchar(5) CHECK (VALUE <> 'no'); \
    CREATE TABLE everything (id uuid PRIMARY KEY, flag boolean, small smallint, big bigint, single real, double double precision, \
    amount numeric(10,2), huge numeric, body text, code char(4), raw bytea, doc jsonb, words json, day date, clock time, \
    local timestamp, at timestamptz, tags text[], numbers integer[], feeling mood, brief short, address inet, span int4range, \
    length interval, feelings mood[], spans int4range[])";

const VALUES: [(&str, &str); 26] = [
    ("id", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"),
    ("flag", "yes"),
    ("small", "-32768"),
    ("big", "9223372036854775807"),
    ("single", "0.1"),
    ("double", "1e300"),
    ("amount", "12345678.90"),
    ("huge", "12345678901234567890123456789.000000000000000000001"),
    ("body", "grün 🐦"),
    ("code", "ab"),
    ("raw", "\\x00ff"),
    ("doc", r#"{"b": 1.50, "a": [12345678901234567890]}"#),
    ("words", r#"{"b": 1,  "b": 2}"#),
    ("day", "2024-02-29"),
    ("clock", "24:00:00"),
    ("local", "2024-02-29T12:00:00+02:00"),
    ("at", "2024-02-29T12:00:00.123456+02:00"),
    ("tags", r#"["a", null, "b\"c"]"#),
    ("numbers", "{1,NULL,-3}"),
    ("feeling", "fine"),
    ("brief", "okay"),
    ("address", "10.0.0.1/8"),
    ("span", "[1,5)"),
    ("length", "1 year 2 mons"),
    ("feelings", "{bad,fine}"),
    ("spans", r#"{"[1,2)","[3,4)"}"#),
];

const EXPECTED: &str = "SELECT count(*) FROM everything WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' AND flag AND small = -32768 \
    AND big = 9223372036854775807 AND single = '0.1'::real AND double = 1e300 AND amount = 12345678.90 \
    AND huge::text = '12345678901234567890123456789.000000000000000000001' AND body = 'grün 🐦' AND code = 'ab' AND raw = '\\x00ff' \
    AND doc = '{\"a\": [12345678901234567890], \"b\": 1.5}' AND words::text = '{\"b\": 1,  \"b\": 2}' AND day = '2024-02-29' \
    AND clock = '24:00' AND local = '2024-02-29 10:00' AND at = '2024-02-29 10:00:00.123456+00' AND tags = ARRAY['a', NULL, 'b\"c'] \
    AND numbers = '{1,NULL,-3}' AND feeling = 'fine' AND brief = 'okay' AND address = '10.0.0.1/8' AND span = '[1,5)' \
    AND length = '1 year 2 mons' AND feelings = '{bad,fine}' AND spans = '{\"[1,2)\",\"[3,4)\"}'";

#[tokio::test(flavor = "multi_thread")]
async fn text_becomes_every_type() {
    on_each_server(|fixture| {
        async {
            fixture.run(EVERYTHING).await;
            let records = texts(&VALUES);
            for (mode, created) in [(Mode::Insert, true), (Mode::Upsert, false)] {
                let mut wanted = request("everything", mode);
                let refused = target(fixture, wanted.clone()).plan(records.schema_ref()).await;
                let refused = refused.expect_err("an interval rounds what it reads").to_string();
                assert!(refused.contains("`length` would lose something"), "{refused}");
                wanted.allow_lossy.push("length".to_owned());
                let target = target(fixture, wanted.clone());
                let plan = target.plan(records.schema_ref()).await.expect("a plan");
                assert_eq!(plan.key, ["id"]);
                let lossy =
                    plan.fidelity.iter().filter(|column| matches!(column.fidelity, Fidelity::Lossy(_)));
                assert_eq!(lossy.map(|column| column.column.as_str()).collect::<Vec<_>>(), ["length"]);
                let outcomes = write(&target, created, batch(records.clone(), 1)).await;
                let expected = if mode == Mode::Insert { "created" } else { "updated" };
                assert_eq!(words(&outcomes), [expected]);
                assert_eq!(scalar(fixture, EXPECTED).await, 1);
                let contested = WriteBatch { contested: true, ..batch(records.clone(), 1) };
                let skipping = WriteRequest { mode: Mode::SkipExisting, ..wanted };
                let skip = fixture.store.target(skipping).expect("a target");
                assert_eq!(words(&write(&skip, false, contested).await), ["created"], "equal in every type");
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_back_has_the_same_fingerprint() {
    on_each_server(|fixture| {
        async {
            fixture.run(EVERYTHING).await;
            // What PostgreSQL alone reads is fingerprinted as it was written.
            let own = |name: &str| !matches!(name, "words" | "spans" | "address" | "span" | "length");
            let values: Vec<_> = VALUES.into_iter().filter(|(name, _)| own(name)).collect();
            let target = target(fixture, request("everything", Mode::Upsert));
            let outcomes = write(&target, true, batch(texts(&values), 1)).await;
            let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
            let source = fixture.query(&format!("SELECT {} FROM everything", names.join(", ")), &[]);
            let held = read_all(&*source, 1).await;
            let encoded = target.encode(&held[0].records, &context());
            let encoded: Vec<_> = encoded.into_iter().map(|one| one.expect("it fits").fingerprint).collect();
            assert_eq!(encoded, fingerprints(&outcomes));
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_before_it_is_sent() {
    on_each_server(|fixture| {
        async {
            fixture.run(EVERYTHING).await;
            let target = target(fixture, request("everything", Mode::Insert));
            let id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
            for (column, text, reason) in [
                ("id", "not-a-uuid", "no UUID"),
                ("small", "32768", "out of the range"),
                ("amount", "1.005", "digits behind the point"),
                ("body", "a\0b", "U+0000"),
                ("code", "abcde", "value too long for type character(4)"),
                ("doc", r#"{"a":1,"a":2}"#, "stands twice"),
                ("doc", r#"{"a":NaN}"#, "no JSON document"),
                ("doc", r#"["\u0000"]"#, "U+0000"),
                ("day", "2023-02-29", "no calendar"),
                ("at", "2024-01-01T00:00:00.1234567Z", "more digits"),
                ("double", "0.12345678901234567890", "more digits"),
                ("feeling", "so so", "the enum has fine, bad"),
                ("brief", "longer", "value too long for type character varying(5)"),
                ("brief", "no", "short_check"),
                ("address", "10.0.0.300", "invalid input syntax for type inet"),
                ("tags", "a,b", "no array"),
                ("numbers", "{{1},{2}}", "one dimension"),
                ("raw", "abc", "hex digits"),
            ] {
                let records = if column == "id" {
                    texts(&[("id", text)])
                } else {
                    texts(&[("id", id), (column, text)])
                };
                let outcomes = words(&write(&target, true, batch(records, 1)).await);
                assert!(outcomes[0].contains(reason), "{column}: {outcomes:?}");
            }
            assert_eq!(scalar(fixture, "SELECT count(*) FROM everything").await, 0);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_follows_from_the_records() {
    on_each_server(|fixture| {
        async {
            let mut tags = ListBuilder::new(StringBuilder::new());
            tags.append_value([Some("a")]);
            let arrays: Vec<ArrayRef> = vec![
                Arc::new(Int64Array::from(vec![1])),
                Arc::new(StringArray::from(vec!["{\"a\":1}"])),
                Arc::new(StringArray::from(vec!["1.5"])),
                Arc::new(BooleanArray::from(vec![true])),
                Arc::new(Float64Array::from(vec![0.1])),
                Arc::new(BinaryArray::from(vec![&b"x"[..]])),
                Arc::new(Date32Array::from(vec![0])),
                Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC")),
                Arc::new(Decimal128Array::from(vec![150]).with_precision_and_scale(5, 2).expect("valid")),
                Arc::new(tags.finish()),
            ];
            let names = ["Key Column", "doc", "number", "flag", "double", "raw", "day", "at", "amount", "tags"];
            let mut fields: Vec<_> = names
                .iter()
                .zip(&arrays)
                .map(|(name, array)| arrow::datatypes::Field::new(*name, array.data_type().clone(), true))
                .collect();
            fields[1] = Logical::Json.field("doc", true);
            fields[2] = Logical::Number.field("number", true);
            let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("a batch");
            let request =
                WriteRequest { key: vec!["Key Column".to_owned()], ..request("App.Made", Mode::Upsert) };
            let target = target(fixture, request);
            let plan = target.plan(records.schema_ref()).await.expect("a plan");
            assert!(!plan.exists);
            assert!(plan.ddl[0].contains("\"doc\" jsonb"), "{:?}", plan.ddl);
            assert!(plan.ddl[0].contains("PRIMARY KEY (\"Key Column\")"), "{:?}", plan.ddl);
            let error = target.state().await.expect_err("nothing was made by the plan");
            assert_eq!(error.kind(), StoreErrorKind::NotFound);
            assert_eq!(target.create().await.expect("made"), Creation::Created("App.Made".to_owned()));
            assert_eq!(target.create().await.expect("known"), Creation::Created("App.Made".to_owned()));
            assert!(target.state().await.expect("a state").empty);
            assert_eq!(words(&write(&target, true, batch(records, 1)).await), ["created"]);
            let sql = "SELECT count(*) FROM \"App\".\"Made\" WHERE doc->>'a' = '1' AND number = 1.5 AND amount = 1.50 AND tags = '{a}'";
            assert_eq!(scalar(fixture, sql).await, 1);
            assert!(target.identity().await.expect("an identity").is_some());
        }
        .boxed_local()
    })
    .await;
}

const SCRIPT: &str = "CREATE TABLE conversations (id bigint PRIMARY KEY, name text);\n\
    CREATE INDEX by_name ON conversations (name);\n\
    CREATE TABLE messages (id bigserial PRIMARY KEY, conversation bigint NOT NULL REFERENCES conversations ON DELETE CASCADE, body text UNIQUE);\n\
    CREATE TABLE notes (id bigint PRIMARY KEY, message bigint REFERENCES messages);\n\
    CREATE INDEX by_conversation ON messages (conversation);";

fn messages(ids: &[i64], conversations: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef),
        ("conversation", Arc::new(Int64Array::from(conversations.to_vec()))),
    ])
    .expect("a batch")
}

fn notes(ids: &[i64], messages: &[i64]) -> RecordBatch {
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef),
        ("message", Arc::new(Int64Array::from(messages.to_vec()))),
    ])
    .expect("a batch")
}

/// The keys of what each step of a target removes; the steps are done behind it.
async fn finish_load(target: &Arc<dyn Target>) -> Vec<(String, Vec<i64>, Vec<Fingerprint>)> {
    let mut removed = Vec::new();
    for step in target.load_steps().await.expect("steps") {
        let found = target.removed_by(&step, &context()).await.expect("a stream");
        let found: Vec<_> = found.try_collect().await.expect("rows");
        target.apply_step(&step, &context()).await.expect("done");
        target.apply_step(&step, &context()).await.expect("done twice");
        let keys = found.iter().map(|row| row.key["id"].as_i64().expect("a key")).collect();
        removed.push((step.text, keys, found.iter().map(|row| row.fingerprint).collect()));
    }
    removed
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_and_foreign_keys_follow_the_load() {
    on_each_server(|fixture| {
        async {
            let folder = std::env::temp_dir().join(format!("whimbrel-schema-{}", uuid(fixture)));
            std::fs::create_dir_all(&folder).expect("a folder");
            let path = folder.join("schema.sql");
            std::fs::write(&path, SCRIPT).expect("written");
            // Tests share the only connection of an embedded server.
            fixture.store.close().await;
            let store = PostgresStore::new("pg".into(), fixture.config.clone()).with_schema_file(path);
            let of = |table: &str| {
                let request = WriteRequest { flow: FlowName::new(table), ..request(table, Mode::Insert) };
                store.target(request).expect("a target")
            };
            let (parent, child, grandchild) = (of("conversations"), of("messages"), of("notes"));
            let plan = child.plan(messages(&[1], &[1]).schema_ref()).await.expect("a plan");
            assert!(!plan.exists && plan.parents.is_empty());
            assert!(plan.ddl[0].contains("schema.sql"), "{:?}", plan.ddl);
            parent.plan(people(&[1], &["a"]).schema_ref()).await.expect("a plan");
            grandchild.plan(notes(&[1], &[1]).schema_ref()).await.expect("a plan");
            for target in [&child, &parent, &grandchild] {
                assert!(matches!(target.create().await.expect("made"), Creation::Created(_)));
            }
            write(&child, true, batch(messages(&[1, 2, 3], &[10, 11, 99]), 1)).await;
            let written = write(&grandchild, true, batch(notes(&[1, 2, 3], &[1, 3, 77]), 1)).await;
            write(&parent, true, batch(people(&[10, 11], &["a", "b"]), 1)).await;
            // The grandchildren come first, and know which messages will go.
            let steps = finish_load(&grandchild).await;
            assert_eq!(steps[0].1, [2, 3], "{steps:?}");
            assert_eq!(steps[0].2, fingerprints(&written)[1..], "as they were counted");
            let steps = finish_load(&child).await;
            let texts: Vec<_> = steps.iter().map(|(text, ..)| text.split(' ').next().expect("a word")).collect();
            assert_eq!(texts, ["CREATE", "ALTER", "SELECT", "ANALYZE"]);
            assert_eq!(steps[1].1, [3]);
            finish_load(&parent).await;
            let left: Vec<_> = child.load_steps().await.expect("steps");
            assert_eq!(left.len(), 1, "only the sequence: {left:?}");
            let sql = "SELECT (SELECT count(*) FROM pg_constraint WHERE contype = 'f') * 100 \
                 + (SELECT count(*) FROM pg_indexes WHERE indexname LIKE 'by_%') * 10 + (SELECT last_value FROM messages_id_seq)";
            assert_eq!(store.query_scalar_i64(sql).await.expect("an answer"), Some(222));
            store.close().await;
            std::fs::remove_dir_all(folder).expect("removed");
        }
        .boxed_local()
    })
    .await;
}

fn uuid(fixture: &Fixture) -> String {
    format!("{}-{}", std::process::id(), fixture.config.database)
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_of_empty_tables_can_follow_the_load() {
    on_each_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE people (id bigint PRIMARY KEY, name text); CREATE TABLE messages (id bigint PRIMARY KEY, \
                      conversation bigint CONSTRAINT its_own REFERENCES people ON DELETE CASCADE DEFERRABLE, \
                      CONSTRAINT to_itself FOREIGN KEY (conversation) REFERENCES messages)",
                )
                .await;
            let definitions = "SELECT string_agg(conname || pg_get_constraintdef(oid), ';' ORDER BY conname) = \
                'its_ownFOREIGN KEY (conversation) REFERENCES people(id) ON DELETE CASCADE DEFERRABLE;\
                to_itselfFOREIGN KEY (conversation) REFERENCES messages(id)' FROM pg_constraint WHERE contype = 'f'";
            let as_they_were = format!("SELECT coalesce(({definitions})::int, -1)");
            assert_eq!(scalar(fixture, &as_they_were).await, 1);
            fixture.store.close().await;
            let config = PostgresConfig { foreign_keys: ForeignKeys::AfterLoad, ..fixture.config.clone() };
            let store = PostgresStore::new("pg".into(), config);
            let of = || store.target(request("messages", Mode::Insert)).expect("a target");
            let child = of();
            let plan = child.plan(messages(&[1], &[1]).schema_ref()).await.expect("a plan");
            assert_eq!(plan.parents, []);
            assert_eq!(
                plan.notes,
                ["while \"public\".\"messages\" is filled it is without its_own, to_itself, made again and checked after the load"]
            );
            assert!(matches!(child.undoing(), Undoing::Unable(_)));
            // What was planned only is as it was.
            assert_eq!(store.query_scalar_i64(&as_they_were).await.expect("an answer"), Some(1));
            child.prepare().await.expect("prepared");
            child.prepare().await.expect("prepared twice");
            assert_eq!(store.query_scalar_i64(&as_they_were).await.expect("an answer"), Some(-1));
            let outcomes = words(&write(&child, true, batch(messages(&[1, 2, 3], &[2, 3, 99]), 1)).await);
            assert_eq!(outcomes, ["created"; 3]);
            store.execute_script("INSERT INTO people VALUES (2, 'a'), (3, 'b')").await.expect("written");
            // A run that goes on has a target of its own, and finds what is to be done.
            let child = of();
            child.plan(messages(&[1], &[1]).schema_ref()).await.expect("a plan");
            child.prepare().await.expect("prepared again");
            let steps = finish_load(&child).await;
            let gone: BTreeSet<_> = steps.iter().flat_map(|(_, keys, _)| keys.clone()).collect();
            assert_eq!(gone, BTreeSet::from([1, 2, 3]), "the last refers to nothing, and each to the next: {steps:?}");
            assert_eq!(store.query_scalar_i64(&as_they_were).await.expect("an answer"), Some(1));
            // What somebody made by hand meanwhile is checked.
            store.execute_script("TRUNCATE messages").await.expect("emptied");
            of().prepare().await.expect("prepared");
            let by_hand = "INSERT INTO messages VALUES (7, 7), (8, 2); ALTER TABLE messages ADD CONSTRAINT its_own \
                FOREIGN KEY (conversation) REFERENCES people ON DELETE CASCADE DEFERRABLE NOT VALID";
            store.execute_script(by_hand).await.expect("made");
            let gone: BTreeSet<_> = finish_load(&child).await.into_iter().flat_map(|(_, keys, _)| keys).collect();
            assert_eq!(gone, BTreeSet::from([7, 8]));
            assert_eq!(store.query_scalar_i64(&as_they_were).await.expect("an answer"), Some(1));
            // A table with rows keeps its keys.
            store.execute_script("INSERT INTO messages VALUES (2, 2)").await.expect("written");
            let child = of();
            let plan = child.plan(messages(&[1], &[1]).schema_ref()).await.expect("a plan");
            assert!(plan.notes[0].contains("holds rows already: its foreign keys stay"), "{:?}", plan.notes);
            assert_eq!(plan.parents.len(), 1);
            child.prepare().await.expect("prepared");
            assert_eq!(store.query_scalar_i64(&as_they_were).await.expect("an answer"), Some(1));
            store.close().await;
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_that_could_not_be_made_again_are_not_taken_off() {
    on_real_server(|fixture| {
        async {
            let role = format!("{}_filler", fixture.config.database);
            let tables = "CREATE TABLE people (id bigint PRIMARY KEY); CREATE TABLE messages (id bigint PRIMARY KEY, \
                 conversation bigint CONSTRAINT its_own REFERENCES people)";
            let rights = format!(
                "CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT ON messages TO {role}; \
                 GRANT CREATE ON DATABASE {} TO {role}",
                fixture.config.database
            );
            fixture.run(&format!("{tables}; {rights}")).await;
            let config =
                PostgresConfig { user: role.clone(), foreign_keys: ForeignKeys::AfterLoad, ..fixture.config.clone() };
            let store = PostgresStore::new("pg".into(), config);
            let steps = [
                ("be the owner of \"public\".\"messages\"", format!("ALTER TABLE messages OWNER TO {role}")),
                ("have SELECT on public.people", format!("GRANT SELECT ON people TO {role}")),
                ("have REFERENCES on public.people", format!("GRANT REFERENCES ON people TO {role}")),
                ("have UPDATE, DELETE or TRUNCATE on public.people", format!("GRANT DELETE ON people TO {role}")),
            ];
            for (missing, granted) in steps {
                let child = store.target(request("messages", Mode::Insert)).expect("a target");
                let error = child.plan(messages(&[1], &[1]).schema_ref()).await.expect_err(missing);
                assert_eq!(error.kind(), StoreErrorKind::Forbidden);
                assert!(error.hint().expect("a hint").contains(missing), "{error:?}");
                fixture.run(&granted).await;
            }
            let child = store.target(request("messages", Mode::Insert)).expect("a target");
            child.plan(messages(&[1], &[1]).schema_ref()).await.expect("a plan");
            child.prepare().await.expect("prepared");
            assert_eq!(words(&write(&child, true, batch(messages(&[1], &[7]), 1)).await), ["created"]);
            let gone: Vec<_> = finish_load(&child).await.into_iter().flat_map(|(_, keys, _)| keys).collect();
            assert_eq!(gone, [1]);
            store.close().await;
            fixture.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_every_kind() {
    on_each_server(|fixture| {
        async {
            fixture
                .run("CREATE TABLE parted (id bigint, name text, PRIMARY KEY (id)) PARTITION BY RANGE (id); \
                      CREATE TABLE low PARTITION OF parted FOR VALUES FROM (0) TO (10); \
                      CREATE TABLE high PARTITION OF parted FOR VALUES FROM (10) TO (20); \
                      CREATE TABLE numbered (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, \
                        twice text GENERATED ALWAYS AS (name || name) STORED); \
                      CREATE TABLE \"select\" (\"id\" bigint PRIMARY KEY, \"name\" text); \
                      CREATE TABLE keyless (id bigint, name text); \
                      CREATE TABLE watched (id bigint PRIMARY KEY, name text); \
                      CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                        IF NEW.name = 'drop' THEN RETURN NULL; END IF; \
                        IF NEW.name = 'fail' THEN RAISE EXCEPTION 'not this one'; END IF; \
                        NEW.name := upper(NEW.name); RETURN NEW; END $$; \
                      CREATE TRIGGER watch BEFORE INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION watch()")
                .await;
            for (created, expected) in [(true, "created"), (false, "updated")] {
                for table in ["parted", "numbered", "select"] {
                    let upsert = target(fixture, request(table, Mode::Upsert));
                    let outcomes = words(&write(&upsert, created, batch(people(&[1, 12], &["a", "b"]), 1)).await);
                    assert_eq!(outcomes, [expected; 2], "{table}");
                }
            }
            let parted = target(fixture, request("parted", Mode::Upsert));
            let outcomes = words(&write(&parted, true, batch(people(&[13, 25], &["a", "b"]), 1)).await);
            assert_eq!(outcomes[0], "created");
            assert!(outcomes[1].contains("no partition"), "{outcomes:?}");
            for created in [true, false] {
                let keyless = target(fixture, request("keyless", Mode::Insert));
                let outcomes = words(&write(&keyless, created, batch(people(&[1, 1], &["a", "a"]), 1)).await);
                assert_eq!(outcomes, ["created", "created"]);
            }
            for (mode, created) in [(Mode::Insert, true), (Mode::Upsert, false)] {
                fixture.run("TRUNCATE watched").await;
                let watched = target(fixture, request("watched", mode));
                let records = people(&[1, 2, 3], &["a", "drop", "fail"]);
                let outcomes = words(&write(&watched, created, batch(records, 1)).await);
                assert_eq!(outcomes[0], "created");
                assert!(outcomes[1].contains("dropped it"), "{outcomes:?}");
                assert!(outcomes[2].contains("not this one"), "{outcomes:?}");
                assert_eq!(scalar(fixture, "SELECT count(*) FROM watched WHERE name = 'A'").await, 1);
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_will_not_do() {
    on_each_server(|fixture| {
        async {
            fixture
                .run("CREATE TABLE parents (id bigint PRIMARY KEY); CREATE TABLE people (id bigint PRIMARY KEY, name text, \
                      parent bigint REFERENCES parents, needed text NOT NULL, twice text GENERATED ALWAYS AS (name || name) STORED, \
                      narrow real); CREATE VIEW seen AS SELECT * FROM people; CREATE TABLE later (id bigint PRIMARY KEY DEFERRABLE, name text)")
                .await;
            let records = |columns: &[&str]| {
                let columns = columns.iter().map(|name| {
                    let array: ArrayRef = match *name {
                        "narrow" => Arc::new(Float64Array::from(vec![0.1])),
                        _ => Arc::new(StringArray::from(vec!["1"])),
                    };
                    (*name, array)
                });
                RecordBatch::try_from_iter(columns).expect("a batch").schema()
            };
            let base = request("people", Mode::Upsert);
            for (asked, columns, word) in [
                (base.clone(), vec!["id", "nmae", "needed"], "no column `nmae`"),
                (base.clone(), vec!["id"], "`needed` must not be NULL"),
                (base.clone(), vec!["id", "needed", "twice"], "generated by the table"),
                (base.clone(), vec!["id", "needed", "narrow"], "would lose something"),
                (base.clone(), vec!["needed"], "no column `id`"),
                (WriteRequest { key: vec!["name".to_owned()], ..base.clone() }, vec!["name", "needed"], "no unique key"),
                (WriteRequest { allow_lossy: vec!["nrrow".to_owned()], ..base.clone() }, vec!["id", "needed"], "`allow_lossy` names it"),
                (request("seen", Mode::Upsert), vec!["id"], "is a view"),
                (request("later", Mode::Upsert), vec!["id"], "no unique key"),
            ] {
                let keyed = asked.table == "later";
                let asked = if keyed { WriteRequest { key: vec!["id".to_owned()], ..asked } } else { asked };
                let error = target(fixture, asked).plan(&records(&columns)).await.expect_err(word);
                assert!(error.to_string().contains(word), "{error}");
            }
            let _parents = target(fixture, request("parents", Mode::Upsert));
            let plan = target(fixture, base).plan(&records(&["id", "needed", "parent"])).await.expect("a plan");
            assert_eq!(plan.parents[0].resource, "parents");
            assert_eq!(plan.parents[0].columns, ["parent"]);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cuts_the_connection_leaves_nothing_behind() {
    on_real_server(|fixture| {
        async {
            fixture.run("CREATE TABLE people (id bigint PRIMARY KEY, name text)").await;
            let insert = target(fixture, request("people", Mode::Insert));
            let context = context();
            let first = writer(&insert, true, &context).await;
            first.last().await.expect("the ledger");
            first.write(batch(people(&[1], &["a"]), 1)).await.expect("written");
            let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE datname = current_database() AND pid <> pg_backend_pid()";
            assert!(scalar(fixture, others).await > 0);
            let error = first.commit(&checkpoint(1), 1).await.expect_err("the connection is gone");
            assert!(error.kind().is_retryable(), "{error}");
            assert!(first.write(batch(people(&[2], &["b"]), 2)).await.is_err(), "the attempt is over");
            let second = writer(&insert, true, &context).await;
            assert_eq!(second.last().await.expect("the ledger"), None);
            second.write(batch(people(&[1], &["a"]), 1)).await.expect("written");
            second.commit(&checkpoint(1), 1).await.expect("committed");
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people").await, 1);
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_a_merge_is_what_is_told() {
    on_real_server(|fixture| {
        async {
            fixture
                .run(
                    "CREATE TABLE people (id bigint PRIMARY KEY, name text); \
                     CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS \
                     $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$; \
                     CREATE TRIGGER cut BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION cut()",
                )
                .await;
            let upsert = target(fixture, request("people", Mode::Upsert));
            let writer = writer(&upsert, false, &context()).await;
            writer.last().await.expect("the ledger");
            let error =
                writer.write(batch(people(&[1], &["a"]), 1)).await.expect_err("the connection is cut");
            let told = format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default());
            assert!(told.contains("terminating connection"), "{told}");
            assert!(error.kind().is_retryable(), "{told}");
        }
        .boxed_local()
    })
    .await;
}

/// Stands before a server and, once asked to, lets a COMMIT through and cuts the connection before its answer.
async fn forgetful_proxy(to: String) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let cuts = Arc::new(AtomicBool::new(false));
    let armed = Arc::clone(&cuts);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&to).await.expect("the server");
            let armed = Arc::clone(&armed);
            tokio::spawn(relay(client, server, armed));
        }
    });
    (port, cuts)
}

async fn relay(mut client: TcpStream, mut server: TcpStream, armed: Arc<AtomicBool>) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(count @ 1..) = read else { return };
                if server.write_all(&asked[..count]).await.is_err() { return }
                let commits = asked[..count].windows(6).any(|word| word == b"COMMIT");
                if commits && armed.swap(false, Ordering::SeqCst) {
                    // The server has carried it out when it answers; nobody hears it.
                    let _ = server.read(&mut answered).await;
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(count @ 1..) = read else { return };
                if client.write_all(&answered[..count]).await.is_err() { return }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_looked_up() {
    on_real_server(|fixture| {
        async {
            fixture.run("CREATE TABLE people (id bigint PRIMARY KEY, name text)").await;
            let (port, cuts) = forgetful_proxy(fixture.address()).await;
            let store = fixture.by_way_of(port);
            let insert = store.target(request("people", Mode::Insert)).expect("a target");
            let context = context();
            let one = writer(&insert, true, &context).await;
            one.last().await.expect("the ledger");
            one.write(batch(people(&[1], &["a"]), 1)).await.expect("written");
            cuts.store(true, Ordering::SeqCst);
            one.commit(&checkpoint(1), 1).await.expect("the ledger says that it happened");
            assert!(!cuts.load(Ordering::SeqCst), "the connection was cut");
            one.write(batch(people(&[2], &["b"]), 2)).await.expect("the attempt goes on");
            one.commit(&checkpoint(2), 1).await.expect("committed");
            assert_eq!(scalar(fixture, "SELECT count(*) FROM people").await, 2);
            store.close().await;
        }
        .boxed_local()
    })
    .await;
}
