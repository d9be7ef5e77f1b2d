//! SQLite files into native PostgreSQL: whole databases, every value compared, and runs that are killed.

use super::{Database, Live};
use crate::chest;
use crate::items::Items;
use crate::kills::{Case, Target, kills};
use crate::place::Place;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// A video shop as it is passed around: two tables that refer to each other, one that refers to itself, keys of one
/// and of several columns, columns of every kind, tables without a key and without a row.
const SHOP: &str = r#"
    CREATE TABLE store (store_id INT NOT NULL, manager SMALLINT NOT NULL REFERENCES staff (staff_id), PRIMARY KEY (store_id));
    CREATE TABLE staff (staff_id SMALLINT NOT NULL PRIMARY KEY, name VARCHAR(45) NOT NULL, picture BLOB, boss SMALLINT REFERENCES staff,
      store_id INT NOT NULL REFERENCES store ON UPDATE CASCADE, active BOOLEAN DEFAULT 1 NOT NULL);
    CREATE TABLE film (film_id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL UNIQUE, rate DECIMAL(4,2) DEFAULT 4.99 NOT NULL,
      length REAL, extra JSON, updated TIMESTAMP NOT NULL);
    CREATE TABLE copy ("Film" INT NOT NULL REFERENCES film ON DELETE CASCADE, number BIGINT NOT NULL, shelf CHAR(4), "order" INT,
      PRIMARY KEY (number, "Film")) WITHOUT ROWID;
    CREATE INDEX "copies by shelf" ON copy (shelf, number DESC);
    CREATE TABLE visits (who TEXT, day DATE, minutes);
    CREATE TABLE "empty one" (id INTEGER PRIMARY KEY, note TEXT);
    INSERT INTO store VALUES (1, 1), (2, 3);
    INSERT INTO staff VALUES (1, 'Ann', x'89504e470d0a', NULL, 1, 1), (2, 'Bob ''the'' ü', NULL, 1, 1, 0), (3, '', x'', 2, 2, 1);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
      INSERT INTO film SELECT i * 3, 'Film ' || i, CASE i % 3 WHEN 0 THEN 0.99 WHEN 1 THEN 5 ELSE 12345678901234 END,
        CASE WHEN i % 7 = 0 THEN NULL ELSE i / 3.0 END, json_object('n', i, 'tags', json_array('a', NULL)), datetime(1000000000 + i * 86399, 'unixepoch') FROM n;
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)
      INSERT INTO copy SELECT i * 3, 9223372036854775807 - i % 4, 'S' || (i % 90), i FROM n;
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
      INSERT INTO visits SELECT 'guest ' || (i % 9), date('2024-01-01', (i % 5) || ' days'), 'x' || (i % 2) FROM n;
"#;

fn file(path: &Path, script: &str) -> Connection {
    let connection = Connection::open(path).expect("a file");
    connection.pragma_update(None, "foreign_keys", false).expect("a setting");
    connection.execute_batch(script).expect("the script runs");
    connection
}

/// The names of a file's tables.
fn tables(connection: &Connection) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name";
    let mut statement = connection.prepare(sql).expect("a query");
    let names = statement.query_map([], |row| row.get(0)).expect("names");
    names.map(|name| name.expect("a name")).collect()
}

/// Every value of a table must be what SQLite holds; in answer, how many rows there are.
#[track_caller]
fn assert_same_values(source: &Connection, target: &Database, table: &str) -> usize {
    let mut statement = source.prepare(&format!("SELECT * FROM \"{table}\"")).expect("the table is there");
    let columns: Vec<String> = statement.column_names().iter().map(|name| format!("\"{name}\"")).collect();
    let mut held = target.rows(&format!("SELECT {} FROM \"{table}\"", columns.join(", ")));
    let mut rows = statement.query([]).expect("rows");
    let mut expected = Vec::new();
    while let Some(row) = rows.next().expect("a row") {
        let values = (0..columns.len()).map(|at| said(row.get_ref(at).expect("a value")));
        expected.push(values.collect::<Vec<_>>());
    }
    for row in &mut held {
        row.iter_mut().for_each(|value| *value = value.take().map(|text| plain(&text)));
    }
    held.sort();
    expected.sort();
    assert!(held == expected, "{table}: {:?}", held.iter().zip(&expected).find(|(one, other)| one != other));
    expected.len()
}

/// A value of SQLite in words that both databases have for it.
fn said(value: ValueRef<'_>) -> Option<String> {
    Some(match value {
        ValueRef::Null => return None,
        ValueRef::Integer(value) => value.to_string(),
        ValueRef::Real(value) => value.to_string(),
        ValueRef::Text(text) => plain(std::str::from_utf8(text).expect("UTF-8")),
        ValueRef::Blob(bytes) => {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            format!("\\x{}", digits.collect::<String>())
        }
    })
}

/// A value as PostgreSQL writes it, in the same words.
fn plain(text: &str) -> String {
    match text {
        "t" => return "1".to_owned(),
        "f" => return "0".to_owned(),
        _ => {}
    }
    if text.starts_with(['{', '[']) {
        return serde_json::from_str::<Value>(text).expect("JSON").to_string();
    }
    match text.parse::<f64>() {
        // Integers of 64 bits are compared by their digits, fractions by the float that they name.
        Ok(number) if text.contains('.') => number.to_string(),
        _ => text.to_owned(),
    }
}

#[test]
fn a_whole_database_arrives_value_by_value() {
    let Some(live) = Live::new() else { return };
    let source = file(&live.place.path("shop.db"), SHOP);
    let url = live.database.url();
    let copied = live.run(&["copy", "sqlite:shop.db", &url, "--verify", "--json"]).expect(0);
    let summary = copied.json();
    assert_eq!(summary["verify"]["outcome"], "equal");
    let names = tables(&source);
    let rows: usize = names.iter().map(|table| assert_same_values(&source, &live.database, table)).sum();
    assert_eq!((names.len(), &summary["totals"]["created"]), (6, &json!(rows)));
    assert_eq!(rows, 2 + 3 + 6_000 + 6_000 + 500);

    let database = &live.database;
    let constraints = |kind: &str| {
        database.number(&format!(
            "SELECT count(*) FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype = '{kind}'"
        ))
    };
    assert_eq!((constraints("p"), constraints("u"), constraints("f")), (5, 1, 4));
    let index = "SELECT count(*) FROM pg_indexes WHERE indexname = 'copies by shelf' AND indexdef LIKE '%(shelf, number DESC)'";
    assert_eq!(database.number(index), 1);
    // What is there already stays; only a table without a key takes its rows again.
    let again = live.run(&["copy", "sqlite:shop.db", &url, "--json"]).expect(3).json();
    assert_eq!(
        (&again["totals"]["created"], &again["flows"]["visits"]["created"]),
        (&json!(500), &json!(500))
    );

    // What the next record gets lies behind all that were ever given.
    let next = "INSERT INTO film (title, updated) VALUES ('new', now()) RETURNING film_id";
    assert_eq!(database.number(next), 18_001);
    assert_eq!(database.number("SELECT count(*) FROM film WHERE film_id = 18001 AND rate = 4.99"), 1);
    database.script("UPDATE store SET store_id = 9 WHERE store_id = 2");
    assert_eq!(database.number("SELECT store_id FROM staff WHERE name = ''"), 9, "it follows");
}

#[test]
fn a_whole_database_comes_down_to_one_file() {
    let Some(live) = Live::new() else { return };
    file(&live.place.path("shop.db"), SHOP);
    let url = live.database.url();
    live.run(&["copy", "sqlite:shop.db", &url, "--quiet"]).expect(0);
    live.database.script(
        "CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE VIEW shelves AS SELECT shelf FROM copy;
         CREATE TABLE odd (id uuid PRIMARY KEY, mood mood DEFAULT 'good', list int[], wide numeric(40, 10), at timestamptz DEFAULT now());
         INSERT INTO odd VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'bad', '{1,NULL}', 123456789012345678901234567890.5, '2024-02-29 12:30+02');",
    );
    let copied = live.run(&["copy", &url, "sqlite:back.db", "--verify", "--json"]).expect(0);
    let summary = copied.json();
    assert_eq!(summary["verify"]["outcome"], "equal");
    for said in ["views are left out: shelves", "the foreign key (boss) of `staff` to `staff` is left out"] {
        assert!(copied.err.contains(said), "{said}: {}", copied.err);
    }
    let back = Connection::open(live.place.path("back.db")).expect("the file was made");
    let names: Vec<_> =
        tables(&back).into_iter().filter(|name| name != "odd" && name != "whimbrel_ledger").collect();
    let rows: usize = names.iter().map(|table| assert_same_values(&back, &live.database, table)).sum();
    assert_eq!((names.len(), rows), (6, 2 + 3 + 6_000 + 6_000 + 500));
    let number = |sql: &str| back.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    let odd = "SELECT count(*) FROM odd WHERE id = 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' AND mood = 'bad' AND list = '[1,null]' \
        AND wide = '123456789012345678901234567890.5000000000' AND at = '2024-02-29 10:30:00Z'";
    assert_eq!(number(odd), 1);
    let keys =
        "SELECT count(*) FROM sqlite_schema s, pragma_foreign_key_list(s.name) k WHERE s.type = 'table'";
    assert_eq!(number(keys), 2);
    back.execute("INSERT INTO film (title, updated) VALUES ('new', 'x')", []).expect("the counter goes on");
    assert_eq!(number("SELECT max(film_id) FROM film"), 18_001);
}

#[test]
fn a_table_without_a_key_is_compared_row_by_row() {
    let Some(live) = Live::new() else { return };
    let source = file(&live.place.path("shop.db"), SHOP);
    let url = live.database.url();
    live.run(&["copy", "sqlite:shop.db", &url, "--quiet"]).expect(0);
    let spec = live.run(&["copy", "sqlite:shop.db", &url, "--spec"]).expect(0).out;
    live.place.write("shop.yaml", &spec);
    let verify = |code| live.run(&["verify", "shop.yaml", "--all", "--json"]).expect(code).json();
    assert_eq!(verify(0)["flows"]["visits"]["compared"], 500);
    // One of several equal rows too many, and one that is another now.
    live.database.script("INSERT INTO visits SELECT * FROM visits LIMIT 1");
    assert_eq!(verify(4)["flows"]["visits"]["extra"], 1);
    source.execute("UPDATE visits SET minutes = 'z' WHERE rowid = 3", []).expect("altered");
    let found = verify(4);
    assert_eq!(
        (&found["flows"]["visits"]["missing"], &found["flows"]["visits"]["extra"]),
        (&json!(1), &json!(2))
    );
    let sample = live.run(&["verify", "shop.yaml", "--sample", "10"]).expect(2);
    assert!(sample.err.contains("they have no key that tells them apart"), "{}", sample.err);
}

/// Each trial into a database of its own.
struct Chest {
    live: Live,
    databases: RefCell<BTreeMap<String, Database>>,
}

impl Target for Chest {
    fn environment(&self) -> &'static str {
        "live"
    }

    fn variable(&self, trial: &str) -> String {
        format!("target={}", self.databases.borrow()[trial].url())
    }

    fn surroundings(&self, command: &mut Command) {
        self.live.surroundings(command);
    }

    fn prepare(&self, trial: &str) {
        let name = format!("{}_{}", self.live.database.name(), trial.replace('-', "_"));
        let database = Database::make(&self.live.database.server, &name);
        self.databases.borrow_mut().insert(trial.to_owned(), database);
    }

    fn clear(&self, trial: &str) {
        self.databases.borrow_mut().remove(trial);
    }

    fn items(&self, trial: &str) -> Items {
        let sql = "SELECT json_build_object('table', 'boxes', 'key', shelf || '/' || place, 'row', to_json(b)) FROM boxes b
            UNION ALL SELECT json_build_object('table', 'things', 'key', id::text, 'row', to_json(t)) FROM things t";
        let mut items = Items::new();
        for mut row in self.databases.borrow()[trial].documents(sql) {
            let text = |name: &str| row[name].as_str().expect("a text").to_owned();
            let key = (text("table"), text("key"));
            assert_eq!(items.insert(key, row["row"].take()), None, "a key comes once");
        }
        items
    }

    fn assert_counts(&self, flows: &Value) {
        assert_eq!(
            (&flows["boxes"]["created"], &flows["things"]["read"]),
            (&json!(chest::BOXES), &json!(chest::BOXES))
        );
        assert_eq!(flows["things"]["rejected"], chest::ORPHANS + chest::UNREADABLE - 1);
    }
}

#[test]
fn rows_of_a_file_survive_kills() {
    let Some(live) = Live::new() else { return };
    chest::write(&live.place, "postgres");
    let target = Chest { live, databases: RefCell::default() };
    let place: &Place = &target.live.place;
    Case { place, spec: "chest.yaml".to_owned(), target: &target, exit: 3, only: None }.survives(kills(4));
}
