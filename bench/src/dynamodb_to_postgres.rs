//! DynamoDB → PostgreSQL: a table scanned into a new table of rows.

use crate::load::{self, Load, Shape};
use crate::program::{self, judge};
use crate::route::{Bench, Limit, Measurement, Outcome, Route};
use crate::serve::{Kind, Served};
use crate::{Result, items, scan};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use std::fs;

/// One server, one shape of rows.
pub(crate) struct DynamoDbToPostgres {
    pub(crate) server: Kind,
    pub(crate) shape: Shape,
}

impl Route for DynamoDbToPostgres {
    fn name(&self) -> String {
        format!("{}-postgres-{}", self.server.name(), self.shape.name())
    }

    fn measure<'a>(&'a self, bench: &'a mut Bench) -> BoxFuture<'a, Result<Measurement>> {
        self.measure_in_order(bench).boxed()
    }
}

impl DynamoDbToPostgres {
    async fn measure_in_order(&self, bench: &Bench) -> Result<Measurement> {
        let (server, rows) = (&bench.postgres, bench.rows);
        // What is read stays as it is, so that one server is enough.
        let served = Served::start(self.server, rows)?;
        let scanned = scan::measure(&served.url, rows).await?;
        let loaded = load::measure(server, self.shape, rows).await?;
        let prepared = Load::prepare(server, self.shape).await?;
        let both = scan::measure_with_load(&served.url, scanned.segments, rows, prepared).await?;
        let outcome = self.run(bench, &served.url).await?;
        load::remove(server).await?;
        let limits = vec![
            Limit::part("pages to a bare client", scanned.items_per_second),
            Limit::part("COPY of a bare client", loaded),
            Limit::part("both at once", both),
        ];
        Ok(Measurement { route: self.name(), outcome, limits })
    }

    async fn run(&self, bench: &Bench, endpoint: &str) -> Result<Outcome> {
        load::clear(&bench.postgres).await?;
        let folder = tempfile::Builder::new().prefix("whimbrel-bench-").tempdir()?;
        fs::write(folder.path().join("schema.sql"), self.shape.schema())?;
        let spec = spec_text(&load::url(&bench.postgres)?, endpoint, self.shape);
        let watched = program::run(bench, folder.path(), self.shape.name(), &spec).await?;
        let outcome = judge(&watched, bench.rows)?;
        if let Outcome::Done(_) = outcome {
            let held = load::count(&bench.postgres).await?;
            if held != bench.rows {
                let said = format!("{} rows were to arrive, the table holds {held}", bench.rows);
                return Ok(Outcome::Failed(said));
            }
        }
        Ok(outcome)
    }
}

fn spec_text(database: &str, endpoint: &str, shape: Shape) -> String {
    let (from, into) = (items::TABLE, load::TABLE);
    let (name, key, transform) = (shape.name(), shape.key(), shape.transform());
    // Strings of JSON are strings of YAML.
    let (database, endpoint) = (Value::from(database), Value::from(endpoint));
    format!(
        "migration: bench-{name}
stores:
  ddb: {{ dynamodb: {{ endpoint: {endpoint}, region: us-east-1 }} }}
  pg: {{ postgres: {database}, schema: schema.sql }}
limits: {{ retry_for: 15s }}
flows:
  posts:
    from: {{ store: ddb, table: {from} }}
    columns: {{ id: integer, author_id: integer, created_at: integer }}
    transform: \"{transform}\"
    into: {{ store: pg, table: {into}, key: [{key}], mode: upsert }}
"
    )
}
