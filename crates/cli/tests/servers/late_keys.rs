//! Primary keys that are made behind the load of a SQLite file, and runs that are killed around that.

use super::{Live, runtime};
use crate::place::until;
use rusqlite::Connection;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

const ROWS: u64 = 30_000;

/// A table whose key is the rowid, one that refers to it and comes before it, and one whose key is text.
const FILE: &str = "
    CREATE TABLE numbered (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL);
    CREATE TABLE marked (id INTEGER PRIMARY KEY, number INTEGER NOT NULL REFERENCES numbered (id));
    CREATE TABLE named (code TEXT PRIMARY KEY NOT NULL, note TEXT);
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
      INSERT INTO numbered SELECT i * 7 - 9, 'name ' || i, i / 8.0 FROM n;
    INSERT INTO marked SELECT id, id FROM numbered WHERE id % 3 = 0;
    INSERT INTO marked VALUES (-1, 1000000);
    INSERT INTO named SELECT name, id FROM numbered WHERE id < 7000;";

/// The tables' primary keys that are there.
const KEYS: &str =
    "SELECT count(*) FROM pg_constraint WHERE contype = 'p' AND connamespace = 'public'::regnamespace";
const NUMBERED: &str =
    "SELECT count(*) FROM pg_constraint WHERE contype = 'p' AND conrelid = to_regclass('numbered')";
/// What is told of rows as a whole: how many, how many different ones, and their numbers.
const HELD: &str = "SELECT count(*) FILTER (WHERE name = 'name ' || (id + 9) / 7 AND price = (id + 9) / 7 / 8.0) FROM numbered";

fn copied(live: &Live) -> String {
    let connection = Connection::open(live.place.path("file.db")).expect("a file");
    connection.pragma_update(None, "foreign_keys", false).expect("a setting");
    connection.execute_batch(FILE).expect("the script runs");
    live.database.url()
}

/// A session beside the program's own.
struct Beside {
    runtime: Runtime,
    client: Client,
}

impl Beside {
    fn new(live: &Live) -> Self {
        let runtime = runtime();
        let client = runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&live.database.url(), NoTls).await.expect("a session");
            tokio::spawn(connection);
            client
        });
        Self { runtime, client }
    }

    fn run(&self, sql: &str) {
        self.runtime
            .block_on(self.client.batch_execute(sql))
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// Whether the program waits for the table to make its key.
const WAITS: &str = "SELECT count(*) FROM pg_locks WHERE relation = to_regclass('numbered') AND NOT granted";

/// Begins a copy that cannot make the key as long as the session lives: a table that is read takes none.
fn held_up(live: &Live, url: &str) -> (crate::place::Running, Beside) {
    let running = live.start(&["copy", "sqlite:file.db", url, "--json"]);
    let beside = Beside::new(live);
    // The key is taken off when the table is there, which a session that reads it would be in the way of.
    let keyless = "SELECT count(*) FROM pg_class c WHERE c.oid = to_regclass('numbered') \
        AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.contype = 'p' AND k.conrelid = c.oid)";
    until("the table", || (live.database.number(keyless) == 1).then_some(()));
    beside.run("BEGIN; LOCK TABLE numbered IN ACCESS SHARE MODE");
    (running, beside)
}

fn assert_all_is_there(live: &Live) {
    let number = |sql: &str| live.database.number(sql);
    assert_eq!(number(HELD), ROWS);
    assert_eq!(number("SELECT count(*) FROM numbered"), ROWS);
    assert_eq!((number(KEYS), number(NUMBERED)), (3, 1));
    assert_eq!(number("SELECT count(*) FROM pg_constraint WHERE contype = 'f'"), 1);
    assert_eq!(
        number("SELECT count(*) FROM pg_index WHERE indrelid = 'numbered'::regclass AND indisvalid"),
        1
    );
    assert_eq!(number("SELECT count(*) FROM whimbrel.after_load WHERE NOT is_done"), 0);
}

#[test]
fn keys_of_rowids_follow_the_load() {
    let Some(live) = Live::new() else { return };
    let url = copied(&live);
    let copied = live.run(&["copy", "sqlite:file.db", &url, "--verify", "--json"]).expect(3).json();
    assert_eq!(copied["verify"]["outcome"], "equal");
    assert_eq!(copied["flows"]["numbered"]["created"], json!(ROWS));
    // One of the marks refers to nothing.
    assert_eq!(copied["flows"]["marked"]["rejected"], 1);
    assert_all_is_there(&live);
    let late = "SELECT string_agg(name, ' ' ORDER BY name) FROM whimbrel.after_load WHERE kind = 'primary key' AND is_done";
    assert_eq!(
        live.database.rows(late)[0][0].as_deref(),
        Some("marked_pkey numbered_pkey"),
        "text is told apart at once"
    );
    // What the key tells apart it tells apart from now on.
    let again = live.run(&["copy", "sqlite:file.db", &url, "--json"]).expect(3).json();
    assert_eq!(
        (&again["totals"]["created"], &again["flows"]["numbered"]["rejected"]),
        (&json!(0), &json!(ROWS))
    );
}

#[test]
fn a_run_that_is_killed_before_its_keys_makes_them_once() {
    let Some(live) = Live::new() else { return };
    let url = copied(&live);
    let (running, beside) = held_up(&live, &url);
    // In the middle of the load or behind it, the key is still to come.
    until("rows", || (live.database.number("SELECT count(*) FROM numbered") > 0).then_some(()));
    assert_eq!(live.database.number(NUMBERED), 0);
    running.kill();
    drop(beside);
    assert_eq!(live.database.number(NUMBERED), 0);
    let resumed = live.run(&["resume", "--json"]).expect(3).json();
    assert_eq!(resumed["flows"]["numbered"]["created"], json!(ROWS));
    assert_all_is_there(&live);
}

#[test]
fn a_run_that_is_killed_at_its_keys_makes_them_once() {
    let Some(live) = Live::new() else { return };
    let url = copied(&live);
    let (running, beside) = held_up(&live, &url);
    until("the key under way", || (live.database.number(WAITS) > 0).then_some(()));
    running.kill();
    drop(beside);
    live.run(&["resume", "--json"]).expect(3);
    assert_all_is_there(&live);
}

#[test]
fn a_run_that_is_killed_behind_its_keys_leaves_them() {
    let Some(live) = Live::new() else { return };
    let url = copied(&live);
    // The table that refers to this one has its key made behind it.
    let (running, beside) = held_up(&live, &url);
    until("the key under way", || (live.database.number(WAITS) > 0).then_some(()));
    // The program gets its turn as soon as this session goes on, and has to wait for the other table then.
    let second = Beside::new(&live);
    second.run("BEGIN; LOCK TABLE marked IN ACCESS SHARE MODE");
    beside.run("COMMIT");
    until("the key", || (live.database.number(NUMBERED) == 1).then_some(()));
    until("the next key under way", || {
        let waits = "SELECT count(*) FROM pg_locks WHERE relation = to_regclass('marked') AND NOT granted";
        (live.database.number(waits) > 0).then_some(())
    });
    running.kill();
    drop(second);
    live.run(&["resume", "--json"]).expect(3);
    assert_all_is_there(&live);
}

#[test]
fn a_row_of_somebody_else_with_a_key_of_ours_ends_the_run() {
    let Some(live) = Live::new() else { return };
    let url = copied(&live);
    let (running, beside) = held_up(&live, &url);
    until("the key under way", || (live.database.number(WAITS) > 0).then_some(()));
    beside.run("INSERT INTO numbered (id, name) VALUES (5, 'somebody else'); COMMIT");
    let ended = running.wait().expect(1);
    assert!(
        ended.err.contains("Key (id)=(5) is duplicated") && ended.err.contains("whimbrel resume"),
        "{}",
        ended.err
    );
    live.database.script("DELETE FROM numbered WHERE name = 'somebody else'");
    live.run(&["resume", "--json"]).expect(3);
    assert_all_is_there(&live);
}
