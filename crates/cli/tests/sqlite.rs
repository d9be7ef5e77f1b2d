//! SQLite as a store: whole databases copied, single tables both ways, specs, proofs and queries over files.

use crate::copy::asked;
use crate::place::Place;
use rusqlite::Connection;
use serde_json::json;

/// Two tables that refer to each other, odd names, dates in every form, keys of all kinds.
const SHOP: &str = r#"
    CREATE TABLE "order lines" ("Id" INTEGER PRIMARY KEY AUTOINCREMENT, item TEXT NOT NULL REFERENCES items (code),
      amount NUMERIC(10,2) DEFAULT 1.5, "sold.at" DATETIME DEFAULT CURRENT_TIMESTAMP, ok BOOLEAN);
    CREATE INDEX lines_by_item ON "order lines" (item, "Id" DESC);
    CREATE TABLE items (code TEXT PRIMARY KEY, part INT UNIQUE, first INTEGER REFERENCES "order lines", made DATE,
      julian DATETIME, zoned TIMESTAMP, doc JSON, blob BLOB, big BIGINT) WITHOUT ROWID;
    CREATE VIEW dear AS SELECT * FROM "order lines" WHERE amount > 1;
    INSERT INTO items VALUES
      ('a', 1, 1, '2024-02-29', 2460370.25, '2024-02-29T12:30:00+02:00', '{"n": 1.10}', x'00ff', -9223372036854775808),
      ('ä "b"', NULL, NULL, '0001-01-01', 2440587.5, '2024-01-01 00:00:00Z', NULL, x'', 9223372036854775807);
    INSERT INTO "order lines" VALUES (1, 'a', 0.1, '2024-02-29 12:30:45.123456', 1), (7, 'ä "b"', 12345678901234567, NULL, 0);
    DELETE FROM "order lines" WHERE "Id" = 8;
    INSERT INTO "order lines" VALUES (9, 'a', 1, NULL, NULL); DELETE FROM "order lines" WHERE "Id" = 9;
"#;

fn file(place: &Place, name: &str, script: &str) -> Connection {
    let connection = Connection::open(place.path(name)).expect("a file");
    // As in other programs: tables may refer to each other in a circle.
    connection.pragma_update(None, "foreign_keys", false).expect("a setting");
    connection.execute_batch(script).expect("the script runs");
    connection
}

fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).expect("the query is answered")
}

#[test]
fn a_whole_database_arrives_with_keys_indexes_and_counters() {
    let place = Place::new();
    // Another program keeps the file open, with what it wrote last in the write-ahead log.
    let _open =
        file(&place, "shop.db", &format!("PRAGMA encoding = 'UTF-16le'; PRAGMA journal_mode = WAL; {SHOP}"));
    let copied = place.run(&["copy", "sqlite:shop.db", "embedded:shop.pg", "--verify", "--json"]).expect(0);
    let summary = copied.json();
    assert_eq!((&summary["totals"]["created"], &summary["verify"]["outcome"]), (&json!(4), &json!("equal")));
    for said in ["2 tables, all of them made", "view \"dear\" is left out"] {
        assert!(copied.err.contains(said), "{said}: {}", copied.err);
    }
    let ask = |sql: &str| asked(&place, "shop.pg", sql).expect("a number");
    let keys = "SELECT count(*) FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'f', 'u')";
    assert_eq!(ask(keys), 5);
    assert_eq!(ask("SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%(item, \"Id\" DESC)'"), 1);
    // Behind the greatest number that was ever given, not only behind those that are left.
    assert_eq!(ask("SELECT last_value FROM \"order lines_Id_seq\" WHERE NOT is_called"), 10);
    let values =
        "SELECT count(*) FROM items i JOIN \"order lines\" l ON l.item = i.code AND l.\"Id\" = i.first
        WHERE made = '2024-02-29' AND julian = '2024-02-29 18:00:00' AND zoned = '2024-02-29 10:30:00+00'
          AND doc ->> 'n' = '1.10' AND blob = '\\x00ff' AND big = -9223372036854775808
          AND amount = 0.1 AND \"sold.at\" = '2024-02-29 12:30:45.123456' AND ok";
    assert_eq!(ask(values), 1);
    assert_eq!(
        ask("SELECT amount::bigint FROM \"order lines\" WHERE \"Id\" = 7 AND NOT ok"),
        12_345_678_901_234_567
    );
    let defaults = "SELECT count(*) FROM pg_attrdef WHERE pg_get_expr(adbin, adrelid) IN ('1.5', '(now() AT TIME ZONE ''UTC''::text)')";
    assert_eq!(ask(defaults), 2);

    // Once more into what is there: each key exists already.
    let again = place.run(&["copy", "sqlite:shop.db", "embedded:shop.pg", "--json"]);
    assert_eq!(again.expect(3).json()["totals"]["rejected"], 4);
}

#[test]
fn what_does_not_fit_its_declared_type_is_a_reject_with_both_named() {
    let place = Place::new();
    file(
        &place,
        "odd.db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, mixed INTEGER_OR_TEXT, d DATETIME);
         INSERT INTO t VALUES (1, 5, 'x', '2024-01-01'), (2, 'five', 7, 'soon'), (3, 2.5, NULL, NULL);
         CREATE TABLE u (k TEXT, v TEXT, PRIMARY KEY (k));
         INSERT INTO u VALUES (NULL, 'a'), (NULL, 'b');",
    );
    let copied = place.run(&["copy", "sqlite:odd.db", "embedded:odd.pg", "--json"]).expect(3);
    assert_eq!(
        (&copied.json()["totals"]["created"], &copied.json()["totals"]["rejected"]),
        (&json!(3), &json!(2))
    );
    let rejects = std::fs::read_to_string(place.only_run().join("rejects.ndjson")).expect("the rejects");
    for said in ["INTEGER and holds the text \\\"five\\\"", "INTEGER and holds the real 2.5"] {
        assert!(rejects.contains(&format!("the column is declared {said}")), "{said}: {rejects}");
    }
    for said in [
        "\"t\".\"mixed\" (INTEGER_OR_TEXT) is text: not all of its values are integers",
        "\"t\".\"d\" (DATETIME) stays text",
        "the primary key (k) of \"u\" holds NULL: it is only unique",
    ] {
        assert!(copied.err.contains(said), "{said}: {}", copied.err);
    }
    assert_eq!(asked(&place, "odd.pg", "SELECT count(*) FROM u WHERE k IS NULL"), Some(2));
    assert_eq!(asked(&place, "odd.pg", "SELECT id FROM t WHERE mixed = 'x' AND d = '2024-01-01'"), Some(1));
}

#[test]
fn tables_go_there_and_back_one_by_one() {
    let place = Place::new();
    file(&place, "shop.db", SHOP);
    let there =
        place.run(&["copy", "sqlite:shop.db?table=items", "dynamodb://items?endpoint=embedded:d", "--json"]);
    assert_eq!(there.expect(0).json()["totals"]["created"], 2);
    let back = ["copy", "dynamodb://items?endpoint=embedded:d", "sqlite:back.db", "--verify", "--json"];
    assert_eq!(place.run(&back).expect(0).json()["verify"]["outcome"], "equal");
    let copied = Connection::open(place.path("back.db")).expect("the file was made");
    assert_eq!(number(&copied, "SELECT count(*) FROM items WHERE code = 'ä \"b\"'"), 1);

    place
        .run(&["copy", "sqlite:shop.db?table=order lines", "embedded:a.pg", "--verify", "--quiet"])
        .expect(0);
    let down = ["copy", "embedded:a.pg?table=order lines", "sqlite:down.db", "--verify", "--json"];
    assert_eq!(place.run(&down).expect(0).json()["verify"]["outcome"], "equal");
    let down = Connection::open(place.path("down.db")).expect("the file was made");
    let sql = "SELECT count(*) FROM \"order lines\" WHERE amount IN ('0.1', '12345678901234567')";
    assert_eq!(number(&down, sql), 2);
    let view = ["copy", "sqlite:shop.db?table=dear", "dear.ndjson", "--json"];
    assert_eq!(place.run(&view).expect(0).json()["totals"]["created"], 1);
}

const SPEC: &str = r#"
migration: shop
stores:
  shop: { sqlite: shop.db }
  into: { sqlite: "sqlite:target.db", schema: target.sql }
flows:
  items:
    from: { store: shop, table: items }
    transform: SELECT code, big, doc FROM input
    into: { store: into, table: items, mode: upsert }
  lines:
    after: [items]
    from: { store: shop, query: 'SELECT * FROM "order lines" WHERE {slice}', slice_by: Id }
    columns: { sold.at: timestamp }
    transform: SELECT "Id" AS id, item, "sold.at" AS sold_at FROM input
    into: { store: into, table: lines, mode: upsert }
verify:
  - { records: all }
  - { name: no orphans, sql: "SELECT count(*) FROM into.lines l LEFT JOIN shop.items i ON i.code = l.item WHERE i.code IS NULL", equals: 0 }
"#;

#[test]
fn a_spec_reads_writes_proves_and_asks_files() {
    let place = Place::new();
    let shop = file(&place, "shop.db", SHOP);
    place.write("shop.yaml", SPEC);
    place.write(
        "target.sql",
        "CREATE TABLE items (code TEXT PRIMARY KEY, big INTEGER, doc TEXT) WITHOUT ROWID;
         CREATE TABLE lines (id INTEGER PRIMARY KEY, item TEXT NOT NULL REFERENCES items (code), sold_at TEXT);",
    );
    let check = place.run(&["check", "shop.yaml"]).expect(0);
    assert!(check.out.contains("not there yet") || check.err.contains("not there yet"), "{check:?}");
    assert!(!place.path("target.db").exists(), "a check makes nothing");
    let run = place.run(&["run", "shop.yaml", "--create", "--verify", "--json"]).expect(0).json();
    assert_eq!((&run["totals"]["created"], &run["verify"]["outcome"]), (&json!(4), &json!("equal")));
    let target = Connection::open(place.path("target.db")).expect("the target");
    assert_eq!(
        number(&target, "SELECT count(*) FROM lines WHERE sold_at LIKE '2024-02-29 12:30:45.123456%'"),
        1
    );

    let sql = "SELECT i.code, max(l.id) AS last FROM shop.items i JOIN into.lines l ON l.item = i.code GROUP BY 1 ORDER BY 1";
    let answer = place.run(&["query", "shop.yaml", sql, "--json"]).expect(0);
    assert_eq!(answer.out, "{\"code\":\"a\",\"last\":1}\n{\"code\":\"ä \\\"b\\\"\",\"last\":7}\n");

    // What is altered on either side is found.
    target
        .execute_batch("UPDATE items SET big = 1 WHERE code = 'a'; DELETE FROM lines WHERE id = 7")
        .expect("altered");
    let verified = place.run(&["verify", "shop.yaml", "--json"]).expect(4).json();
    assert_eq!(
        (&verified["flows"]["items"]["different"], &verified["flows"]["lines"]["missing"]),
        (&json!(1), &json!(1))
    );
    shop.execute_batch(
        "UPDATE items SET big = 1 WHERE code = 'a'; DELETE FROM \"order lines\" WHERE \"Id\" = 7",
    )
    .expect("altered");
    assert_eq!(place.run(&["verify", "shop.yaml", "--json"]).expect(0).json()["outcome"], "equal");
}

#[test]
fn what_a_whole_copy_cannot_do_is_said_before_anything_is_made() {
    let place = Place::new();
    file(&place, "shop.db", SHOP);
    file(&place, "empty.db", "PRAGMA user_version = 1");
    for (arguments, code, said) in [
        (["sqlite:shop.db", "embedded:x.pg", "--key", "id"], 2, "`--key` is for one table"),
        (["sqlite:shop.db", "dynamodb://x", "--mode", "insert"], 2, "FROM names no table"),
        (["embedded:x.pg", "embedded:y.pg", "--mode", "insert"], 2, "holds no tables"),
        (["sqlite:empty.db", "embedded:x.pg", "--mode", "insert"], 2, "holds no tables"),
        (["sqlite:none.db", "embedded:x.pg", "--mode", "insert"], 2, "cannot open"),
    ] {
        let refused = place.run(&[&["copy"], &arguments[..]].concat()).expect(code);
        refused.one_error();
        assert!(refused.err.contains(said), "{said}: {}", refused.err);
    }
    assert!(!place.path("none.db").exists() && !place.path("other.db").exists());
}

#[test]
fn a_whole_database_goes_into_another_file() {
    let place = Place::new();
    file(&place, "shop.db", SHOP);
    let copied = place.run(&["copy", "sqlite:shop.db", "sqlite:other.db", "--verify", "--json"]).expect(0);
    let summary = copied.json();
    assert_eq!((&summary["totals"]["created"], &summary["verify"]["outcome"]), (&json!(4), &json!("equal")));
    let left = "the foreign key (first) of `items` to `order lines` is left out: its records may come before";
    assert!(copied.err.contains(left), "{}", copied.err);
    let other = Connection::open(place.path("other.db")).expect("the target");
    let strict = "SELECT count(*) FROM pragma_table_list WHERE strict AND name IN ('items', 'order lines')";
    assert_eq!(number(&other, strict), 2);
    assert_eq!(number(&other, "SELECT seq FROM sqlite_sequence WHERE name = 'order lines'"), 9);
    assert_eq!(number(&other, "SELECT count(*) FROM pragma_foreign_key_list('order lines')"), 1);
    let index = "SELECT count(*) FROM pragma_index_xinfo('lines_by_item') WHERE name = 'Id' AND desc";
    assert_eq!(number(&other, index), 1);
    let values = "SELECT count(*) FROM items WHERE made = '2024-02-29' AND julian = '2024-02-29 18:00:00Z' \
        AND zoned = '2024-02-29 10:30:00Z' AND big = -9223372036854775808 AND blob = x'00ff'";
    assert_eq!(number(&other, values), 1);
}

/// Tables with a key and without, into another file.
const TAGS: &str = r#"
migration: tags
stores:
  from: { sqlite: tags.db }
  into: { sqlite: copy.db }
flows:
  posts:
    from: { store: from, table: posts }
    into: { store: into, table: posts, key: id, mode: changed }
  tags:
    from: { store: from, table: tags }
    into: { store: into, table: tags }
"#;

fn tags(place: &Place, script: &str) -> Connection {
    place.write("tags.yaml", TAGS);
    let tables =
        "CREATE TABLE posts (id INTEGER PRIMARY KEY, title TEXT); CREATE TABLE tags (post INT, tag TEXT);";
    file(place, "tags.db", &format!("PRAGMA journal_mode = WAL; {tables} {script}"))
}

#[test]
fn rows_without_a_key_are_proved_and_only_what_changed_is_written() {
    let place = Place::new();
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
        INSERT INTO posts SELECT i, 'post ' || i FROM n;
        INSERT INTO tags SELECT id % 7, nullif('t' || (id % 3), 't0') FROM posts;";
    let source = tags(&place, many);
    let rehearsed = place.run(&["run", "tags.yaml", "--rehearse", "--verify", "--json"]).expect(0).json();
    assert_eq!(rehearsed["verify"]["outcome"], "equal");
    assert!(!place.path("copy.db").exists(), "a rehearsal leaves the target alone");

    let run = place.run(&["run", "tags.yaml", "--create", "--verify", "--json"]).expect(0).json();
    assert_eq!((&run["totals"]["created"], &run["verify"]["outcome"]), (&json!(600), &json!("equal")));
    // Of several equal rows one goes, and another becomes what it was not.
    let target = Connection::open(place.path("copy.db")).expect("the target");
    target
        .execute_batch("DELETE FROM tags WHERE rowid = 9; UPDATE tags SET tag = NULL WHERE rowid = 1")
        .expect("altered");
    let verified = place.run(&["verify", "tags.yaml", "--all", "--json"]).expect(4).json();
    let found = &verified["flows"]["tags"];
    assert_eq!((&found["missing"], &found["extra"], &found["different"]), (&json!(2), &json!(1), &json!(0)));
    place.run(&["verify", "tags.yaml", "--sample", "5"]).expect(2).one_error();

    source
        .execute_batch("UPDATE posts SET title = 'new' WHERE id = 5; INSERT INTO posts VALUES (301, NULL)")
        .expect("altered");
    let again = place.run(&["run", "tags.yaml", "--only", "posts", "--json"]).expect(0).json();
    let totals = &again["totals"];
    assert_eq!(
        (&totals["created"], &totals["updated"], &totals["unchanged"]),
        (&json!(1), &json!(1), &json!(299))
    );
}

#[test]
fn a_database_in_use_is_read_as_it_was_at_one_moment() {
    let place = Place::new();
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
        INSERT INTO posts SELECT i, 'post ' || i FROM n;
        INSERT INTO tags SELECT id, 'first' FROM posts;";
    let writer = tags(&place, many);
    let mut running = place.start(&["run", "tags.yaml", "--create", "--json"]);
    let mut written = 20_000;
    while !running.has_ended() {
        written += 1;
        let both = format!(
            "BEGIN; INSERT INTO posts VALUES ({written}, 'late'); INSERT INTO tags VALUES ({written}, 'late'); COMMIT"
        );
        writer.execute_batch(&both).expect("a reader does not hold it up");
    }
    running.wait().expect(0);
    assert!(written > 20_000);
    let target = Connection::open(place.path("copy.db")).expect("the target");
    let posts = number(&target, "SELECT count(*) FROM posts");
    assert!((20_000..=written).contains(&posts), "{posts} of {written}");
    assert_eq!(
        number(&target, "SELECT count(*) FROM tags"),
        posts,
        "what was written together arrives together"
    );
}
