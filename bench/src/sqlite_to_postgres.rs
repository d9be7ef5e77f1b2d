//! SQLite → PostgreSQL: a file copied whole, beside COPY of the same rows and, where they are
//! there, ADBC's drivers and pgloader.

use crate::peer::{self, per_second};
use crate::process::{bound_to_us, watch};
use crate::program::{self, judge};
use crate::route::{Bench, Limit, Measurement, Outcome, Route};
use crate::{Result, load, say};
use futures::future::BoxFuture;
use futures::{FutureExt as _, SinkExt as _, TryStreamExt as _};
use rusqlite::Connection;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::pin::pin;
use std::time::Instant;
use tokio_postgres::Client;

/// The table's name.
const TABLE: &str = "orders";
/// How much of the file a bare COPY sends at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A table of seven columns, with a key that is a number.
pub(crate) struct SqliteToPostgres;

impl Route for SqliteToPostgres {
    fn name(&self) -> String {
        "sqlite-postgres".to_owned()
    }

    fn measure<'a>(&'a self, bench: &'a mut Bench) -> BoxFuture<'a, Result<Measurement>> {
        self.measure_in_order(bench).boxed()
    }
}

impl SqliteToPostgres {
    async fn measure_in_order(&self, bench: &Bench) -> Result<Measurement> {
        let folder = tempfile::Builder::new().prefix("whimbrel-bench-").tempdir()?;
        let path = folder.path().join("orders.db");
        fill(&path, bench.rows)?;
        load::clear(&bench.postgres).await?;
        let target = load::url(&bench.postgres)?;
        let from = format!("sqlite:{}", path.display());
        let watched = program::copy(bench, folder.path(), &from, &target).await?;
        let outcome = judge(&watched, bench.rows)?;
        let mut limits = Vec::new();
        if let Outcome::Done(_) = outcome {
            let rows_path = folder.path().join("rows.bin");
            let (rows, definition) = keep(bench, &rows_path).await?;
            if rows != bench.rows {
                let said = format!("{} rows were to arrive, the table holds {rows}", bench.rows);
                return Ok(Measurement { route: self.name(), outcome: Outcome::Failed(said), limits });
            }
            let rate = bare(bench, &rows_path, &definition).await?;
            limits.push(Limit::part("COPY of the same rows from a file, one connection", rate));
            limits.extend(psql(bench, folder.path(), &definition).await?);
        }
        limits.extend(adbc(bench, folder.path(), &path).await?);
        limits.extend(pgloader(bench, folder.path(), &path).await?);
        load::remove(&bench.postgres).await?;
        Ok(Measurement { route: self.name(), outcome, limits })
    }
}

/// Makes the file. It is read once, so that it is in memory for all that are measured.
fn fill(path: &Path, rows: u64) -> Result<()> {
    let connection = Connection::open(path)?;
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
         CREATE TABLE {TABLE} (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, sku TEXT NOT NULL, quantity INTEGER,
           price REAL, placed DATETIME, note TEXT);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO {TABLE} SELECT i, i * 7919 % 100000, 'SKU-' || (i * 31 % 5000), i % 100, (i % 100000) / 100.0 + 0.01,
           datetime(1600000000 + i * 37, 'unixepoch'), CASE WHEN i % 10 THEN 'to be left at the door of number ' || i END FROM n;"
    ))?;
    drop(connection);
    std::io::copy(&mut File::open(path)?, &mut std::io::sink())?;
    Ok(())
}

/// Keeps the rows that arrived in a file of binary COPY; how many they are, and what makes their table.
async fn keep(bench: &Bench, path: &Path) -> Result<(u64, String)> {
    let client = load::open(&bench.postgres, true).await?;
    let (mut file, sql) = (File::create(path)?, format!("COPY {TABLE} TO STDOUT (FORMAT binary)"));
    let mut stream = pin!(client.copy_out(sql.as_str()).await?);
    while let Some(chunk) = stream.try_next().await? {
        file.write_all(&chunk)?;
    }
    let columns =
        "SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0";
    let columns: String = client.query_one(columns, &[]).await?.get(0);
    let count: i64 = client.query_one(&format!("SELECT count(*) FROM {TABLE}"), &[]).await?.get(0);
    Ok((u64::try_from(count)?, format!("CREATE TABLE {TABLE} ({columns}, PRIMARY KEY (id))")))
}

/// Rows a second of a client that only sends the file, as `psql` does with `\copy`.
async fn bare(bench: &Bench, path: &Path, definition: &str) -> Result<f64> {
    load::clear(&bench.postgres).await?;
    let client: Client = load::open(&bench.postgres, true).await?;
    client.batch_execute(definition).await?;
    let mut file = File::open(path)?;
    let began = Instant::now();
    let sql = format!("COPY {TABLE} FROM STDIN (FORMAT binary)");
    let mut sink = pin!(client.copy_in::<_, axum::body::Bytes>(sql.as_str()).await?);
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        chunk.truncate(read);
        sink.send(chunk.into()).await?;
    }
    let written = sink.finish().await?;
    let taken = began.elapsed();
    if written != bench.rows {
        return Err(format!("{written} rows arrived of {}", bench.rows).into());
    }
    Ok(per_second(written, taken.as_secs_f64()))
}

/// `psql` with the same file.
async fn psql(bench: &Bench, folder: &Path, definition: &str) -> Result<Option<Limit>> {
    load::clear(&bench.postgres).await?;
    load::open(&bench.postgres, true).await?.batch_execute(definition).await?;
    let asked = format!("\\copy {TABLE} from 'rows.bin' (format binary)");
    let took = peer::psql(folder, &load::url(&bench.postgres)?, &asked).await?;
    let rate = took.map(|took| per_second(bench.rows, took.as_secs_f64()));
    Ok(rate.map(|rate| {
        Limit::process("psql \\copy from a binary file of the same rows, the whole process", rate)
    }))
}

/// ADBC's drivers, which make no key and lose numerics.
async fn adbc(bench: &Bench, folder: &Path, source: &Path) -> Result<Option<Limit>> {
    load::clear(&bench.postgres).await?;
    let url = load::url(&bench.postgres)?;
    let arguments = [&*source.to_string_lossy(), TABLE, &url];
    let rate = peer::ADBC.rate(folder, bench.rows, &arguments).await?;
    Ok(rate.map(|rate| Limit::peer("ADBC's drivers, without the key, imports not counted", rate)))
}

/// pgloader, where it is there and gets to the end.
async fn pgloader(bench: &Bench, folder: &Path, source: &Path) -> Result<Option<Limit>> {
    if !peer::is_there("pgloader") {
        say("left out: pgloader is not there");
        return Ok(None);
    }
    load::clear(&bench.postgres).await?;
    let mut command = bound_to_us(Path::new("pgloader"));
    command.arg(source).arg(load::url(&bench.postgres)?).current_dir(folder);
    let watched = watch(command, folder).await?;
    let client = load::open(&bench.postgres, true).await?;
    let held = client.query_one(&format!("SELECT count(*) FROM {TABLE}"), &[]).await;
    let held = held.map(|row| row.get::<_, i64>(0)).ok().and_then(|held| u64::try_from(held).ok());
    if held != Some(bench.rows) {
        say(&format!("left out: pgloader has moved {held:?} rows: {}", watched.err.trim()));
        return Ok(None);
    }
    say(&format!("pgloader's memory: {} MB", watched.peak_bytes.unwrap_or(0) >> 20));
    let rate = per_second(bench.rows, watched.wall.as_secs_f64());
    Ok(Some(Limit::process("pgloader, the whole process", rate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_as_many_rows_as_are_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("orders.db");
        fill(&path, 1_000).unwrap();
        let connection = Connection::open(path).unwrap();
        let sql = "SELECT count(*) || ' ' || count(note) || ' ' || max(placed) FROM orders";
        let held: String = connection.query_row(sql, [], |row| row.get(0)).unwrap();
        assert_eq!(held, "1000 900 2020-09-13 22:43:20");
    }
}
