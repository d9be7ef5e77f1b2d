//! The journal's tables.

use super::{BUSY_TIMEOUT, JournalError, sqlite};
use rusqlite::Connection;
use std::path::Path;

/// The format that this whimbrel writes.
pub const VERSION: i64 = 5;
/// `whbl`, so that no other SQLite file is taken for a journal.
const APPLICATION_ID: i64 = 0x7768_626c;

const TABLES: &str = "
CREATE TABLE migrations (
    name TEXT NOT NULL, environment TEXT NOT NULL, fingerprint_key BLOB NOT NULL, canonical_version INTEGER NOT NULL,
    PRIMARY KEY (name, environment)
) STRICT;
CREATE TABLE runs (
    id TEXT PRIMARY KEY, migration TEXT NOT NULL, environment TEXT NOT NULL, kind TEXT NOT NULL, parent TEXT,
    spec_path TEXT NOT NULL, spec_digest TEXT NOT NULL, shape TEXT NOT NULL, options TEXT NOT NULL, version TEXT NOT NULL,
    started_ms INTEGER NOT NULL, ended_ms INTEGER, outcome TEXT,
    epoch INTEGER NOT NULL DEFAULT 1, resumes INTEGER NOT NULL DEFAULT 0,
    planned INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE stores (
    run TEXT NOT NULL REFERENCES runs, store TEXT NOT NULL, location TEXT NOT NULL, identity TEXT NOT NULL,
    PRIMARY KEY (run, store)
) STRICT;
CREATE TABLE targets (
    run TEXT NOT NULL REFERENCES runs, flow TEXT NOT NULL, resource TEXT NOT NULL, identity TEXT,
    made INTEGER NOT NULL, empty INTEGER NOT NULL, estimate INTEGER,
    PRIMARY KEY (run, flow)
) STRICT;
CREATE TABLE slices (
    run TEXT NOT NULL REFERENCES runs, id TEXT NOT NULL, scan TEXT NOT NULL, part TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0, reserved INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, id)
) STRICT;
CREATE TABLE checkpoints (
    run TEXT NOT NULL REFERENCES runs, slice TEXT NOT NULL, flow TEXT NOT NULL, epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL, cursor TEXT, position INTEGER NOT NULL, reject_bytes INTEGER NOT NULL,
    read INTEGER NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL, unchanged INTEGER NOT NULL,
    skipped INTEGER NOT NULL, rejected INTEGER NOT NULL, filtered INTEGER NOT NULL, bytes INTEGER NOT NULL,
    read_units REAL NOT NULL, write_units REAL NOT NULL, sums BLOB NOT NULL, scan TEXT,
    PRIMARY KEY (run, slice, flow)
) STRICT;
CREATE TABLE sums (
    run TEXT NOT NULL REFERENCES runs, flow TEXT NOT NULL, sums BLOB NOT NULL,
    PRIMARY KEY (run, flow)
) STRICT;
CREATE TABLE corrections (
    run TEXT NOT NULL REFERENCES runs, flow TEXT NOT NULL, step TEXT NOT NULL, slice TEXT NOT NULL,
    records INTEGER NOT NULL, reject_bytes INTEGER NOT NULL, sums BLOB NOT NULL,
    PRIMARY KEY (run, flow, step)
) STRICT;
CREATE TABLE resources (
    migration TEXT NOT NULL, environment TEXT NOT NULL, run TEXT, store TEXT NOT NULL, name TEXT NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;
";

/// What format 3 added to format 2.
const SAMPLES: &str = "
CREATE TABLE samples (
    run TEXT NOT NULL REFERENCES runs, stretch INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    records INTEGER NOT NULL, rejected INTEGER NOT NULL, bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX samples_of_run ON samples (run, stretch);
";

/// What format 4 added to format 3: units that unchanged records did not use, and which store a resource is in.
const SPARED: &str = "
ALTER TABLE checkpoints ADD COLUMN spared_write_units REAL NOT NULL DEFAULT 0;
ALTER TABLE resources ADD COLUMN identity TEXT;
";

/// What format 5 added to format 4: the form in which each run's fingerprints were taken. Runs before it have that of
/// their migration's first run: where a later one took another form, too much is refused, never too little.
const FORMS: &str = "
ALTER TABLE runs ADD COLUMN canonical_version INTEGER NOT NULL DEFAULT 1;
UPDATE runs SET canonical_version = coalesce((SELECT canonical_version FROM migrations
    WHERE migrations.name = runs.migration AND migrations.environment = runs.environment), 1);
";
/// What each format added to the one before it, from the third on.
const ADDITIONS: [(i64, &str); 3] = [(3, SAMPLES), (4, SPARED), (5, FORMS)];

/// Makes the tables in a new file, or checks that an old one is ours and of this format.
pub fn prepare(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let wrap = |source| sqlite(path, source);
    configure(connection).map_err(wrap)?;
    // Two processes may meet here: whoever comes second finds the tables made.
    connection.execute_batch("BEGIN IMMEDIATE").map_err(wrap)?;
    let result = prepare_locked(connection, path);
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    connection.execute_batch(end).map_err(wrap)?;
    result
}

fn prepare_locked(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let wrap = |source| sqlite(path, source);
    let pragma =
        |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(wrap);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(wrap)?;
    if tables == 0 {
        connection.execute_batch(TABLES).map_err(wrap)?;
        connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(wrap)?;
        return add(connection, 2).map_err(wrap);
    }
    if pragma("application_id")? != APPLICATION_ID {
        return Err(JournalError::Foreign { path: path.to_owned() });
    }
    match pragma("user_version")? {
        VERSION => Ok(()),
        found @ 2..VERSION => add(connection, found).map_err(wrap),
        found => Err(JournalError::Version { path: path.to_owned(), found }),
    }
}

/// Brings a file of a format up to this one.
fn add(connection: &Connection, format: i64) -> rusqlite::Result<()> {
    for (_, statements) in ADDITIONS.iter().filter(|(number, _)| *number > format) {
        connection.execute_batch(statements)?;
    }
    connection.pragma_update(None, "user_version", VERSION)
}

/// What every connection needs: readers never wait for the writer, and a commit is on the disk when it returns.
pub fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // What a statement would need to be taken back is kept in memory, not in a file beside the journal.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "foreign_keys", "ON")
}
