//! An index that takes its time behind the load: the run says how far PostgreSQL is with it.

use super::Live;
use crate::logs::page;
use crate::place::until;
use serde_json::Value;

const SPEC: &str = r#"migration: indexes
stores:
  disk: { files: "." }
  pg: { postgres: "${env:DATABASE_URL}", schema: schema.sql }
flows:
  people: { from: { store: disk, path: people.csv }, columns: { id: integer }, into: { store: pg, table: people } }
"#;

/// Each row waits, so that the index takes four seconds.
const SCHEMA: &str = "CREATE FUNCTION slow(bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN PERFORM pg_catalog.pg_sleep(0.004); RETURN $1; END';
    CREATE TABLE people (id bigint PRIMARY KEY, name text);
    CREATE INDEX people_slowly ON people (slow(id));";

fn fill(live: &Live) {
    live.place.write("people.yaml", SPEC);
    live.place.write("schema.sql", SCHEMA);
    let name = "x".repeat(500);
    let people: String = (0..1_000).map(|id| format!("{id},{name}\n")).collect();
    live.place.write("people.csv", &format!("id,name\n{people}"));
}

fn told(live: &Live) -> bool {
    let log = std::fs::read_to_string(live.place.only_run().join("run.log")).expect("the run's log");
    log.contains("an index is made") && log.contains("building index")
}

const INDEXES: &str = "SELECT count(*) FROM pg_indexes WHERE indexname = 'people_slowly'";

#[test]
fn how_far_an_index_is_stands_in_figures_log_and_progress() {
    let Some(live) = Live::new() else { return };
    fill(&live);
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("a free port");
    let metrics = address.to_string();
    let mut running = live.start(&["run", "people.yaml", "--create", "--metrics", &metrics]);
    let text = until("an index under way", || {
        assert!(!running.has_ended(), "the run ended before its index was seen");
        page(address).filter(|text| text.contains("whimbrel_step_ratio{"))
    });
    let line = text.lines().find(|line| line.starts_with("whimbrel_step_ratio{")).expect("the figure");
    assert!(line.contains("phase=\"building index"), "{line}");
    let share: f64 = line.rsplit(' ').next().expect("a value").parse().expect("a number");
    assert!((0.0..=1.0).contains(&share), "{line}");
    running.wait().expect(0);
    assert!(told(&live));
    assert_eq!(live.database.number(INDEXES), 1);
}

#[test]
fn an_index_is_made_where_nobody_may_see_how_far_it_is() {
    let Some(live) = Live::new() else { return };
    fill(&live);
    live.database.script("REVOKE SELECT ON pg_catalog.pg_stat_progress_create_index FROM PUBLIC");
    let name = live.database.name();
    let url = live.database.url_as_role(&format!(
        "GRANT CREATE ON DATABASE {name} TO $role; GRANT USAGE, CREATE ON SCHEMA public TO $role"
    ));
    let mut command = live.place.whimbrel(&["run", "people.yaml", "--create", "--json"]);
    command.env("DATABASE_URL", url);
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ran: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(ran["totals"]["created"], 1_000);
    assert!(!told(&live));
    assert_eq!(live.database.number(INDEXES), 1);
}
