//! PostgreSQL → DynamoDB: one table into a single-table design, the key made out of a number.

use crate::program::{self, judge, last_error};
use crate::route::{Bench, Limit, Measurement, Outcome, Route};
use crate::serve::{Kind, Served};
use crate::{Result, copy, hammer, items};
use futures::FutureExt as _;
use futures::future::BoxFuture;

/// How items are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Upsert,
    SkipExisting,
    Update,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::SkipExisting => "skip_existing",
            Self::Update => "update",
        }
    }
}

/// One mode, one server.
pub(crate) struct PostgresToDynamoDb {
    pub(crate) mode: Mode,
    pub(crate) server: Kind,
}

impl Route for PostgresToDynamoDb {
    fn name(&self) -> String {
        format!("postgres-{}-{}", self.server.name(), self.mode.name())
    }

    fn measure<'a>(&'a self, bench: &'a mut Bench) -> BoxFuture<'a, Result<Measurement>> {
        self.measure_in_order(bench).boxed()
    }
}

impl PostgresToDynamoDb {
    async fn measure_in_order(&self, bench: &mut Bench) -> Result<Measurement> {
        let source = match bench.source {
            Some(source) => source,
            None => {
                items::fill(&bench.postgres, bench.rows).await?;
                let source = copy::measure(&bench.postgres, bench.rows).await?;
                *bench.source.insert(source)
            }
        };
        // Each in a server that nobody has used before.
        let target = {
            let served = Served::start(self.server, 0)?;
            let again = self.server == Kind::Accept || self.mode != Mode::SkipExisting;
            hammer::measure(&served.url, self.mode, bench.rows, again).await?
        };
        let served = Served::start(self.server, 0)?;
        let outcome = self.run(bench, &served.url).await?;
        let limits = vec![
            Limit::part("COPY to a bare client", source),
            Limit::part("requests of a bare client", target),
        ];
        Ok(Measurement { route: self.name(), outcome, limits })
    }

    async fn run(&self, bench: &Bench, endpoint: &str) -> Result<Outcome> {
        let folder = tempfile::Builder::new().prefix("whimbrel-bench-").tempdir()?;
        let database = items::url(&bench.postgres)?;
        if self.mode == Mode::Update {
            // What is updated must be there.
            let spec = items::spec(&database, endpoint, "mode: upsert");
            let loaded = program::run(bench, folder.path(), Mode::Upsert.name(), &spec).await?;
            if !loaded.status.success() {
                return Ok(Outcome::Failed(format!("loading failed: {}", last_error(&loaded.err))));
            }
        }
        let spec = items::spec(&database, endpoint, &format!("mode: {}", self.mode.name()));
        let watched = program::run(bench, folder.path(), self.mode.name(), &spec).await?;
        judge(&watched, bench.rows)
    }
}
