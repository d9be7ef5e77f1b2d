//! PostgreSQL → a file, beside `psql` that copies the same table to CSV.

use crate::peer::{self, per_second};
use crate::program::{self, judge};
use crate::route::{Bench, Limit, Measurement, Outcome, Route};
use crate::{Result, load, say};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::time::Duration;

/// Seven columns of the types that tables have most.
const SCHEMA: &str = "CREATE TABLE orders (id bigint PRIMARY KEY, sku text NOT NULL, price numeric(12,2) NOT NULL, \
                      placed timestamptz NOT NULL, paid boolean NOT NULL, weight double precision NOT NULL, \
                      quantity integer)";
/// How often `psql` and whimbrel are timed; the best time of each counts. The first also brings the table into memory.
const ATTEMPTS: usize = 3;

/// A whole table into one file.
pub(crate) struct PostgresToFile {
    /// The file's format, as its name ends.
    pub(crate) format: &'static str,
}

impl Route for PostgresToFile {
    fn name(&self) -> String {
        format!("postgres-{}", self.format)
    }

    fn measure<'a>(&'a self, bench: &'a mut Bench) -> BoxFuture<'a, Result<Measurement>> {
        self.measure_in_order(bench).boxed()
    }
}

impl PostgresToFile {
    async fn measure_in_order(&self, bench: &Bench) -> Result<Measurement> {
        fill(bench).await?;
        let folder = tempfile::Builder::new().prefix("whimbrel-bench-").tempdir()?;
        let url = load::url(&bench.postgres)?;
        let mut best: Option<Duration> = None;
        for _ in 0..ATTEMPTS {
            let asked = "\\copy (SELECT * FROM orders) TO 'peer.csv' (FORMAT csv)";
            let took = peer::psql(folder.path(), &url, asked).await?;
            best = best.into_iter().chain(took).min();
        }
        let from = format!("{url}{}table=orders", if url.contains('?') { '&' } else { '?' });
        let to = folder.path().join(format!("orders.{}", self.format));
        let mut outcome = None;
        for _ in 0..ATTEMPTS {
            if to.exists() {
                std::fs::remove_file(&to)?;
            }
            let watched = program::copy(bench, folder.path(), &from, &to.to_string_lossy()).await?;
            outcome = Some(better(outcome, judge(&watched, bench.rows)?));
        }
        let outcome = outcome.ok_or("nothing was measured")?;
        if let Ok(written) = to.metadata() {
            say(&format!("{}: {} MB", self.name(), written.len() >> 20));
        }
        load::remove(&bench.postgres).await?;
        let rate = best.map(|took| per_second(bench.rows, took.as_secs_f64()));
        let what = "psql \\copy of the same table to CSV, the whole process, best of 3 of each";
        let limits = rate.map(|rate| Limit::process(what, rate)).into_iter().collect();
        Ok(Measurement { route: self.name(), outcome, limits })
    }
}

/// The quicker one of two; what did not end well stays.
fn better(before: Option<Outcome>, now: Outcome) -> Outcome {
    match (before, now) {
        (Some(Outcome::Done(before)), Outcome::Done(now)) => {
            Outcome::Done(if before.wall <= now.wall { before } else { now })
        }
        (None | Some(Outcome::Done(_)), now) => now,
        (Some(failed), _) => failed,
    }
}

async fn fill(bench: &Bench) -> Result<()> {
    load::clear(&bench.postgres).await?;
    let client = load::open(&bench.postgres, true).await?;
    client.batch_execute(SCHEMA).await?;
    let sql = format!(
        "INSERT INTO orders SELECT k, 'SKU-' || (k * 31 % 5000), (k % 100000) / 100.0 + 0.01, \
         timestamptz '2020-09-13 12:26:40+00' + k * interval '37.25 seconds', k % 3 = 0, sqrt(k), \
         CASE WHEN k % 10 > 0 THEN k % 100 END FROM generate_series(1, {}) AS k",
        bench.rows
    );
    client.batch_execute(&sql).await?;
    client.batch_execute("VACUUM (ANALYZE) orders").await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(())
}
