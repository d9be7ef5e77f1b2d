//! PostgreSQL → DynamoDB where one record in a hundred has changed, in `mode: changed`, beside a write of all records
//! into the same table: one that is as fast as some of DynamoDB's partitions, see `partitions`.

use crate::pace::{READ_UNITS_PER_SECOND, read_units};
use crate::peer::per_second;
use crate::program::{self, judge, last_error};
use crate::replay::{ITEM_BYTES, PAGE_ITEMS};
use crate::route::{Bench, Limit, Measurement, Outcome, Route};
use crate::serve::{Kind, PARTITIONS, Served};
use crate::template::FIRST;
use crate::{Result, items, load, say};
use futures::future::BoxFuture;
use futures::{FutureExt as _, SinkExt as _};
use std::fmt::Write as _;
use std::path::Path;
use std::pin::pin;
use tokio_postgres::Client;

/// One record in so many has changed.
const ONE_IN: u64 = 100;

/// What records are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    /// The table.
    Target,
    /// Fingerprints of the run before.
    Journal,
}

impl Compare {
    fn name(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Journal => "journal",
        }
    }
}

/// One way to compare.
pub(crate) struct Changed {
    pub(crate) compare: Compare,
}

impl Route for Changed {
    fn name(&self) -> String {
        format!("changed-{}", self.compare.name())
    }

    fn measure<'a>(&'a self, bench: &'a mut Bench) -> BoxFuture<'a, Result<Measurement>> {
        self.measure_in_order(bench).boxed()
    }
}

impl Changed {
    async fn measure_in_order(&self, bench: &mut Bench) -> Result<Measurement> {
        let folder = tempfile::Builder::new().prefix("whimbrel-bench-").tempdir()?;
        let client = fill(bench).await?;
        let served = Served::start(Kind::EightPartitions, bench.rows)?;
        let spec = items::spec(&load::url(&bench.postgres)?, &served.url, &Self::into(self.compare));
        let mut limits = Vec::new();
        if self.compare == Compare::Journal {
            // The run before keeps the fingerprints: nothing has changed yet.
            let before = self.run(bench, folder.path(), &spec, 0).await?;
            if !matches!(before, Outcome::Done(_)) {
                return Ok(Measurement { route: self.name(), outcome: before, limits });
            }
        }
        let changed = change(&client).await?;
        let outcome = self.run(bench, folder.path(), &spec, changed).await?;
        let rate = match bench.full_write {
            Some(rate) => rate,
            None => *bench.full_write.insert(full_write(bench, folder.path(), &served.url).await?),
        };
        load::remove(&bench.postgres).await?;
        limits.push(Limit::peer("a write of all records in mode upsert into the same 8 partitions", rate));
        if self.compare == Compare::Target {
            let units = f64::from(PARTITIONS * READ_UNITS_PER_SECOND);
            let per_unit = per_second(PAGE_ITEMS, read_units(PAGE_ITEMS * ITEM_BYTES, true));
            let what = "what 8 partitions give in consistent reads, by their pace";
            limits.push(Limit::part(what, units * per_unit));
        }
        Ok(Measurement { route: self.name(), outcome, limits })
    }

    fn into(compare: Compare) -> String {
        format!("mode: changed, compare: {}", compare.name())
    }

    /// A run that is to update so many records and to leave all others alone.
    async fn run(&self, bench: &Bench, folder: &Path, spec: &str, changed: u64) -> Result<Outcome> {
        let watched = program::run(bench, folder, "changed", spec).await?;
        let outcome = judge(&watched, bench.rows)?;
        if let Outcome::Done(_) = outcome {
            let totals = program::totals(&watched)?;
            let (updated, same) = (&totals["updated"], &totals["unchanged"]);
            if *updated != changed || *same != bench.rows - changed {
                let said = format!("{changed} records were to be updated, the totals are {totals}");
                return Ok(Outcome::Failed(said));
            }
        }
        Ok(outcome)
    }
}

/// Records a second of a run that writes all of them.
async fn full_write(bench: &Bench, folder: &Path, endpoint: &str) -> Result<f64> {
    say(&format!("writing {} records into {PARTITIONS} partitions …", bench.rows));
    let spec = items::spec(&load::url(&bench.postgres)?, endpoint, "mode: upsert");
    let watched = program::run(bench, folder, "full", &spec).await?;
    match judge(&watched, bench.rows)? {
        Outcome::Done(figures) => Ok(per_second(bench.rows, figures.run.as_secs_f64())),
        Outcome::Refused(why) | Outcome::Failed(why) => {
            Err(format!("writing all records failed: {why} {}", last_error(&watched.err)).into())
        }
    }
}

/// Makes the rows that the served table holds.
async fn fill(bench: &Bench) -> Result<Client> {
    load::clear(&bench.postgres).await?;
    let client = load::open(&bench.postgres, true).await?;
    client.batch_execute(items::SCHEMA).await?;
    client
        .batch_execute(
            "CREATE TABLE shapes (place bigint PRIMARY KEY, author_id bigint, created_at bigint, title text, \
             html_contents text)",
        )
        .await?;
    let mut sink = pin!(client.copy_in::<_, axum::body::Bytes>("COPY shapes FROM STDIN").await?);
    sink.send(shapes().into()).await?;
    sink.as_mut().finish().await?;
    let sql = format!(
        "INSERT INTO items SELECT k, author_id, created_at, replace(title, '#', k::text), html_contents \
         FROM generate_series({}, {}::bigint) AS k JOIN shapes ON place = (k - {} - 1) % {PAGE_ITEMS}",
        FIRST + 1,
        FIRST + bench.rows,
        FIRST
    );
    client.batch_execute(&sql).await?;
    client.batch_execute("DROP TABLE shapes").await?;
    client.batch_execute("VACUUM (ANALYZE) items").await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(client)
}

/// What the prepared items hold beside their numbers, as COPY reads it.
fn shapes() -> Vec<u8> {
    let mut text = String::new();
    for place in 0..PAGE_ITEMS {
        let number = FIRST + 1 + place;
        let item = items::item(number);
        let value = |name: &str, kind: &str| item[name][kind].as_str().unwrap_or_default().to_owned();
        let title = value("title", "S").replace(&number.to_string(), "#");
        let (author, created) = (value("author_id", "N"), value("created_at", "N"));
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{place}\t{author}\t{created}\t{title}\t{}", value("html_contents", "S"));
    }
    text.into_bytes()
}

/// Changes one record in a hundred, all over the table.
async fn change(client: &Client) -> Result<u64> {
    let sql = format!("UPDATE items SET title = title || ' (revised)' WHERE id % {ONE_IN} = 0");
    let changed = client.execute(&sql, &[]).await?;
    client.batch_execute("VACUUM (ANALYZE) items").await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partitions;
    use serde_json::{Value, json};

    /// The row of a number as `fill` makes it must be the item that the served table has.
    #[test]
    fn rows_are_the_items_that_are_served() {
        let shapes = String::from_utf8(shapes()).unwrap();
        let shapes: Vec<Vec<&str>> = shapes.lines().map(|line| line.split('\t').collect()).collect();
        let template = partitions::prepared();
        for number in [FIRST + 1, FIRST + 3_500, FIRST + 3_501, FIRST + 987_654] {
            let mut text = Vec::new();
            template.append_in_place(&mut text, number, 1);
            text.pop();
            let item: Value = serde_json::from_slice(&text).unwrap();
            let shape = &shapes[usize::try_from((number - FIRST - 1) % PAGE_ITEMS).unwrap()];
            let digits = number.to_string();
            let row = json!({
                "pk": {"S": format!("FEED#{digits}")}, "sk": {"S": "METADATA"}, "type": {"S": "FEED"},
                "id": {"N": digits}, "author_id": {"N": shape[1]}, "created_at": {"N": shape[2]},
                "title": {"S": shape[3].replace('#', &digits)}, "html_contents": {"S": shape[4]},
            });
            assert_eq!(item, row);
        }
    }
}
