//! A whole database of PostgreSQL into another one, whose tables its own program has made.

use super::{Database, Live};
use serde_json::json;

/// What only PostgreSQL holds: types of its own, a column that it works out, identities, parts, a schema beside.
const TABLES: &str = "
    CREATE TYPE mood AS ENUM ('good', 'bad');
    CREATE DOMAIN short AS varchar(9) CHECK (value <> '');
    CREATE TABLE team (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name short NOT NULL UNIQUE);
    CREATE TABLE person (id serial PRIMARY KEY, team bigint NOT NULL REFERENCES team, boss int,
        mood mood DEFAULT 'good', tags text[], doc jsonb, wide numeric(40, 10), twice int GENERATED ALWAYS AS (team * 2) STORED);
    CREATE INDEX by_mood ON person (mood) WHERE mood = 'bad';
    CREATE TABLE log (at timestamptz NOT NULL, word text) PARTITION BY RANGE (at);
    CREATE TABLE log_old PARTITION OF log FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
    CREATE TABLE log_new PARTITION OF log FOR VALUES FROM ('2024-01-01') TO (MAXVALUE);
    CREATE TABLE empty (id uuid PRIMARY KEY DEFAULT gen_random_uuid());
    CREATE VIEW names AS SELECT name FROM team;
    CREATE SCHEMA aside; CREATE TABLE aside.extra (id int PRIMARY KEY)";

const RECORDS: &str = "
    INSERT INTO team (name) SELECT 'team ' || i FROM generate_series(1, 30) i;
    INSERT INTO person (team, boss, mood, tags, doc, wide) SELECT 1 + i % 30, nullif(i % 7, 0),
        (ARRAY['good', 'bad', NULL])[1 + i % 3]::mood, ARRAY['a', NULL, i::text], jsonb_build_object('i', i),
        1234567890123456789012345678.5 + i FROM generate_series(1, 5000) i;
    INSERT INTO log SELECT '2023-12-01'::timestamptz + i * interval '1 hour', 'word ' || i FROM generate_series(1, 2000) i";

/// One text for all records of a table, whatever the order in which they lie.
fn digest(database: &Database, table: &str) -> Vec<Vec<Option<String>>> {
    let sql = format!("SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {table} t");
    database.rows(&sql)
}

#[test]
fn a_whole_database_goes_into_another_that_has_its_tables() {
    let Some(live) = Live::new() else { return };
    let (from, bare) = (live.database.url(), live.database.copy());
    let into = bare.url();
    live.database.script(TABLES);
    // Nothing is made of PostgreSQL's own types; who has them made is told how.
    let refused = live.run(&["copy", &from, &into]).expect(2);
    refused.one_error();
    assert!(
        refused.err.contains("the table `empty` is missing") && refused.err.contains("pg_dump --schema-only")
    );

    bare.script(TABLES);
    live.database.script(RECORDS);
    let copied = live.run(&["copy", &from, &into, "--verify", "--json"]).expect(0);
    let summary = copied.json();
    assert_eq!(
        (&summary["totals"]["created"], &summary["verify"]["outcome"]),
        (&json!(7_030), &json!("equal"))
    );
    assert!(copied.err.contains("tables of other schemas are left out: aside.extra"), "{}", copied.err);
    assert!(copied.err.contains("as the target works them out itself: person.twice"), "{}", copied.err);
    for not_said in ["the default of", "views", "may refer to records"] {
        assert!(!copied.err.contains(not_said), "{not_said}: {}", copied.err);
    }
    for table in ["team", "person", "log_old", "log_new", "empty"] {
        assert_eq!(digest(&bare, table), digest(&live.database, table), "{table}");
    }
    // All that the tables had is there, and their counters go on.
    let kept =
        "SELECT count(*) FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND convalidated";
    assert_eq!(bare.number(kept), live.database.number(kept));
    assert_eq!(bare.number("SELECT count(*) FROM pg_indexes WHERE indexname = 'by_mood'"), 1);
    assert_eq!(bare.number("INSERT INTO team (name) VALUES ('new') RETURNING id"), 31);
    assert_eq!(bare.number("INSERT INTO person (team) VALUES (1) RETURNING id"), 5_001);
}

#[test]
fn tables_that_no_order_puts_right_are_named() {
    let Some(live) = Live::new() else { return };
    let bare = live.database.copy();
    let tables = "CREATE TABLE node (id int PRIMARY KEY, up int REFERENCES node);
        CREATE TABLE store (id int PRIMARY KEY, manager int); CREATE TABLE staff (id int PRIMARY KEY, store int REFERENCES store);
        ALTER TABLE store ADD FOREIGN KEY (manager) REFERENCES staff; CREATE TABLE leaf (node int PRIMARY KEY REFERENCES node)";
    live.database.script(tables);
    bare.script(tables);
    let records = "INSERT INTO node VALUES (1, 2), (2, NULL); INSERT INTO leaf VALUES (2); INSERT INTO store VALUES (1, NULL);
        INSERT INTO staff VALUES (7, 1); UPDATE store SET manager = 7";
    live.database.script(records);
    let (from, into) = (live.database.url(), bare.url());
    let copied = live.run(&["copy", &from, &into, "--json"]).expect(3);
    assert!(copied.err.contains("`node`, `staff` may refer to records"), "{}", copied.err);
    // The circle's first is refused, and what refers to it; each is kept whole, and named.
    let flows = &copied.json()["flows"];
    let counts = |flow: &str| (flows[flow]["created"].clone(), flows[flow]["rejected"].clone());
    assert_eq!((counts("node"), counts("leaf")), ((json!(2), json!(0)), (json!(1), json!(0))));
    assert_eq!((counts("store"), counts("staff")), ((json!(0), json!(1)), (json!(0), json!(1))));

    // Without the keys meanwhile every record arrives, and the keys are there again.
    let keys = "SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid), convalidated::text FROM pg_constraint
        WHERE contype = 'f' ORDER BY 1, 2";
    let before = bare.rows(keys);
    assert_eq!(before.len(), 4);
    bare.script("TRUNCATE node, leaf, store, staff");
    let into = format!("{into}{}foreign_keys=after_load", if into.contains('?') { '&' } else { '?' });
    let copied = live.run(&["copy", &from, &into, "--verify", "--json"]).expect(0);
    assert!(copied.err.contains("are without their foreign keys while they are filled"), "{}", copied.err);
    assert!(!copied.err.contains("may refer to records"), "{}", copied.err);
    assert_eq!(copied.json()["totals"]["created"], 5);
    assert_eq!(bare.rows(keys), before);
    for table in ["node", "leaf", "store", "staff"] {
        assert_eq!(digest(&bare, table), digest(&live.database, table), "{table}");
    }
}
