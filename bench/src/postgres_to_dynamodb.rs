//! PostgreSQL → DynamoDB: one table into a single-table design, the key made out of a number.

use crate::process::{Watched, bound_to_us, watch};
use crate::route::{Bench, Figures, Measurement, Outcome, Route};
use crate::serve::{Kind, Served};
use crate::{Result, copy, hammer, items};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

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
            let served = Served::start(self.server)?;
            let again = self.server == Kind::Accept || self.mode != Mode::SkipExisting;
            hammer::measure(&served.url, self.mode, bench.rows, again).await?
        };
        let served = Served::start(self.server)?;
        let outcome = self.run(bench, &served.url).await?;
        Ok(Measurement { route: self.name(), outcome, source, target })
    }

    async fn run(&self, bench: &Bench, endpoint: &str) -> Result<Outcome> {
        let folder = tempfile::Builder::new().prefix("whimbrel-bench-").tempdir()?;
        if self.mode == Mode::Update {
            // What is updated must be there.
            let loaded = whimbrel(bench, folder.path(), Mode::Upsert, endpoint).await?;
            if !loaded.status.success() {
                return Ok(Outcome::Failed(format!("loading failed: {}", last_error(&loaded.err))));
            }
        }
        let watched = whimbrel(bench, folder.path(), self.mode, endpoint).await?;
        judge(&watched, bench.rows)
    }
}

async fn whimbrel(bench: &Bench, folder: &Path, mode: Mode, endpoint: &str) -> Result<Watched> {
    let spec = folder.join(format!("{}.yaml", mode.name()));
    fs::write(&spec, spec_text(&items::url(&bench.postgres)?, endpoint, mode))?;
    let mut command: Command = bound_to_us(&bench.whimbrel);
    command.args(["run", "--create", "--json", "--no-progress", "--journal"]);
    command.arg(folder.join(format!("journal-{}", mode.name()))).arg(&spec).current_dir(folder);
    // Nothing of this machine's configuration is to count.
    command.env_clear().env("HOME", folder).env("AWS_EC2_METADATA_DISABLED", "true");
    command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "TMPDIR"));
    command.env("AWS_ACCESS_KEY_ID", "bench").env("AWS_SECRET_ACCESS_KEY", "bench");
    watch(command, folder).await
}

fn spec_text(database: &str, endpoint: &str, mode: Mode) -> String {
    let (table, pk, sk) = (items::TABLE, items::PARTITION_KEY, items::SORT_KEY);
    let (mode, transform) = (mode.name(), items::TRANSFORM);
    // Strings of JSON are strings of YAML.
    let (database, endpoint) = (Value::from(database), Value::from(endpoint));
    format!(
        "migration: bench-{mode}
stores:
  pg: {{ postgres: {database} }}
  ddb:
    dynamodb:
      endpoint: {endpoint}
      region: us-east-1
      tables: {{ {table}: {{ key: {pk}, sort_key: {sk}, billing: on_demand }} }}
limits: {{ retry_for: 15s }}
flows:
  items:
    from: {{ store: pg, table: items }}
    transform: \"{transform}\"
    into: {{ store: ddb, table: {table}, key: [{pk}, {sk}], mode: {mode} }}
"
    )
}

/// What a run came to: every row must have arrived.
fn judge(watched: &Watched, rows: u64) -> Result<Outcome> {
    match watched.status.code() {
        Some(0) => {}
        Some(2) => return Ok(Outcome::Refused(last_error(&watched.err))),
        _ => return Ok(Outcome::Failed(format!("{}: {}", watched.status, last_error(&watched.err)))),
    }
    let summary: Value = serde_json::from_str(&watched.out)?;
    let count = |name: &str| summary["totals"][name].as_u64().unwrap_or_default();
    let arrived: u64 = ["created", "updated", "unchanged"].into_iter().map(count).sum();
    if count("read") != rows || arrived != rows {
        let totals = &summary["totals"];
        return Ok(Outcome::Failed(format!("{rows} rows were to arrive, the totals are {totals}")));
    }
    let seconds = summary["seconds"].as_f64().ok_or("the summary has no seconds")?;
    Ok(Outcome::Done(Figures {
        run: Duration::try_from_secs_f64(seconds)?,
        wall: watched.wall,
        cpu: watched.cpu,
        peak_bytes: watched.peak_bytes,
    }))
}

/// The error that whimbrel has said, in one line.
fn last_error(err: &str) -> String {
    let error = err.lines().rev().find_map(|line| line.strip_prefix("error: "));
    error.or(err.lines().last()).unwrap_or("it says nothing").to_owned()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    fn watched(code: i32, out: &str, err: &str) -> Watched {
        Watched {
            status: std::process::ExitStatus::from_raw(code << 8),
            wall: Duration::from_secs(2),
            cpu: None,
            peak_bytes: None,
            out: out.to_owned(),
            err: err.to_owned(),
        }
    }

    #[test]
    fn a_run_counts_only_where_every_row_arrived() {
        let out = r#"{"totals": {"read": 5, "created": 3, "updated": 1, "unchanged": 1}, "seconds": 0.5}"#;
        let Outcome::Done(figures) = judge(&watched(0, out, ""), 5).unwrap() else { panic!("done") };
        assert_eq!(figures.run, Duration::from_millis(500));
        assert!(matches!(judge(&watched(0, out, ""), 6).unwrap(), Outcome::Failed(_)));
        assert!(matches!(judge(&watched(3, out, "error: x"), 5).unwrap(), Outcome::Failed(_)));
        let Outcome::Refused(why) = judge(&watched(2, "", "x\nerror: not yet\nhint: y"), 5).unwrap() else {
            panic!("refused")
        };
        assert_eq!(why, "not yet");
    }
}
