//! A SQLite file with more rows than one batch: boxes, things in them, and some things that cannot arrive.

use crate::items::Items;
use crate::place::Place;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};
use std::path::Path;

/// How many boxes there are; of things there are as many.
pub const BOXES: u64 = 2_400;
/// Things that refer to no box.
pub const ORPHANS: u64 = BOXES.div_ceil(401);
/// Things whose weight is no integer.
pub const UNREADABLE: u64 = BOXES.div_ceil(97);
/// The tables that the rows go into, for SQLite and PostgreSQL alike.
pub const SCHEMA: &str = "CREATE TABLE boxes (shelf text NOT NULL, place bigint NOT NULL, label text, PRIMARY KEY (shelf, place));
    CREATE TABLE things (id bigint PRIMARY KEY, shelf text NOT NULL, place bigint NOT NULL, weight bigint, note text,
      FOREIGN KEY (shelf, place) REFERENCES boxes (shelf, place));\n";

/// The flows out of `chest.db`; `into` is the target's store.
pub fn spec(into: &str) -> String {
    format!(
        r#"
migration: chest
variables: {{ target: unset.db }}
environments: {{ demo: {{ default: true }}, live: {{}} }}
stores:
  chest: {{ sqlite: chest.db }}
  into: {{ {into}: "${{target}}", schema: chest.sql }}
flows:
  boxes:
    from: {{ store: chest, table: boxes }}
    into: {{ store: into, table: boxes, mode: insert }}
  things:
    after: [boxes]
    from: {{ store: chest, table: things }}
    into: {{ store: into, table: things, mode: insert }}
verify: [ {{ records: all }} ]
"#
    )
}

/// Makes the file: boxes have no rowid, things have gaps between theirs.
pub fn write(place: &Place, into: &str) {
    place.write("chest.yaml", &spec(into));
    place.write("chest.sql", SCHEMA);
    let connection = Connection::open(place.path("chest.db")).expect("a file");
    connection.pragma_update(None, "foreign_keys", false).expect("a setting");
    let sql = format!(
        "CREATE TABLE boxes (shelf TEXT NOT NULL, place INTEGER NOT NULL, label TEXT, PRIMARY KEY (shelf, place)) WITHOUT ROWID;
         CREATE TABLE things (id INTEGER PRIMARY KEY, shelf TEXT NOT NULL, place INT NOT NULL, weight INT, note VARCHAR(20));
         WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last})
         INSERT INTO boxes SELECT 'shelf ' || (i % 13), i / 13, 'box ' || i FROM n;
         WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {last})
         INSERT INTO things SELECT i * 7 - 5000, CASE WHEN i % 401 = 0 THEN 'nowhere' ELSE 'shelf ' || (i % 13) END, i / 13,
           CASE WHEN i % 97 = 0 THEN 'heavy' WHEN i % 5 = 0 THEN NULL ELSE i * 1000000007 END, 'thing ' || i FROM n;",
        last = BOXES - 1
    );
    connection.execute_batch(&sql).expect("the script runs");
}

/// Every row of both tables of a file, by table and key.
pub fn rows(path: &Path) -> Items {
    let connection = Connection::open(path).expect("the target opens");
    let mut items = Items::new();
    for (table, key) in [("boxes", "shelf || '/' || place"), ("things", "CAST(id AS TEXT)")] {
        let sql = format!("SELECT {key}, * FROM {table}");
        let mut statement = connection.prepare(&sql).expect("the table is there");
        let width = statement.column_count();
        let mut rows = statement.query([]).expect("the query is answered");
        while let Some(row) = rows.next().expect("a row") {
            let values: Vec<Value> = (1..width).map(|at| value(row.get_ref(at).expect("a value"))).collect();
            let key = (table.to_owned(), row.get(0).expect("a key"));
            assert_eq!(items.insert(key, values.into()), None, "a key comes once");
        }
    }
    items
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => json!(value),
        ValueRef::Real(value) => json!(value),
        ValueRef::Text(text) => json!(std::str::from_utf8(text).expect("UTF-8")),
        ValueRef::Blob(bytes) => json!(bytes),
    }
}
