//! Servers with the DynamoDB API, each in a process of its own.

use crate::process::{Bound, bound_to_us};
use crate::{Result, accept, answer, items, partitions, replay, template};
use dynoxide::{Database, ImportOptions};
use serde_json::json;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use tokio::net::TcpListener;

/// Items that are handed to dynoxide at a time.
const IMPORT_ITEMS: u64 = 10_000;

/// What answers the DynamoDB API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// dynoxide, in memory
    Dynoxide,
    /// A server that accepts everything at once and keeps nothing
    Accept,
    /// A server that replays prepared pages of a scan
    Replay,
    /// The same, as fast as one partition of DynamoDB
    OnePartition,
    /// The same, as fast as two of them
    TwoPartitions,
    /// A table that gives pages and items as fast as eight of them, takes every write at their pace, and keeps none
    EightPartitions,
}

/// How many of DynamoDB's partitions [`Kind::EightPartitions`] is as fast as.
pub(crate) const PARTITIONS: u32 = 8;

impl Kind {
    /// What it is called here and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dynoxide => "dynoxide",
            Self::Accept => "accept",
            Self::Replay => "replay",
            Self::OnePartition => "one-partition",
            Self::TwoPartitions => "two-partitions",
            Self::EightPartitions => "eight-partitions",
        }
    }
}

impl Kind {
    /// How many of DynamoDB's partitions it is as fast as; `None`: as it can be.
    fn partitions(self) -> Option<u32> {
        match self {
            Self::Dynoxide | Self::Accept | Self::Replay => None,
            Self::OnePartition => Some(1),
            Self::TwoPartitions => Some(2),
            Self::EightPartitions => Some(PARTITIONS),
        }
    }
}

/// Serves until standard input ends: whoever has started this holds its other end, and lets go also when killed. The
/// table holds so many items from the start; where they are none, there is no table.
pub(crate) fn serve(kind: Kind, port: u16, items: u64) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let ended =
            tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        let served = async {
            match kind {
                Kind::Dynoxide => {
                    let database = filled(items)?;
                    answer(&url);
                    dynoxide::server::serve_on(listener, database).await;
                    Ok(())
                }
                Kind::Accept => {
                    answer(&url);
                    accept::serve(listener).await
                }
                Kind::Replay | Kind::OnePartition | Kind::TwoPartitions => {
                    answer(&url);
                    replay::serve(listener, items, kind.partitions()).await
                }
                Kind::EightPartitions => {
                    answer(&url);
                    partitions::serve(listener, items, PARTITIONS).await
                }
            }
        };
        tokio::select! {
            served = served => served,
            ended = ended => Ok(ended?.map(drop)?),
        }
    })
}

/// A database with the table and so many items.
fn filled(items: u64) -> Result<Database> {
    let fail = |error: dynoxide::DynoxideError| error.to_string();
    let database = Database::memory().map_err(fail)?;
    if items == 0 {
        return Ok(database);
    }
    let table = json!({
        "TableName": items::TABLE, "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": items::key_schema(), "AttributeDefinitions": items::attribute_definitions(),
    });
    database.create_table(serde_json::from_value(table)?).map_err(fail)?;
    let (mut next, end) = (template::FIRST + 1, template::FIRST + items);
    while next <= end {
        let upto = end.min(next + IMPORT_ITEMS - 1);
        let part = (next..=upto).map(|number| serde_json::from_value(items::item(number)));
        let part = part.collect::<serde_json::Result<Vec<_>>>()?;
        database.import_items(items::TABLE, part, ImportOptions::default()).map_err(fail)?;
        next = upto + 1;
    }
    Ok(database)
}

/// A server that is served; it ends with this value.
pub(crate) struct Served {
    pub(crate) url: String,
    _process: Bound,
}

impl Served {
    /// Starts this program a second time, as a server whose table holds so many items.
    pub(crate) fn start(kind: Kind, items: u64) -> Result<Self> {
        let mut command: Command = bound_to_us(&std::env::current_exe()?);
        command.args(["serve", kind.name(), "--port", "0", "--items", &items.to_string()]);
        let mut process = Bound(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
        let out = process.0.stdout.take().ok_or("the server has no standard output")?;
        let mut url = String::new();
        BufReader::new(out).read_line(&mut url)?;
        if !url.starts_with("http://") {
            return Err(format!("the server {} does not start", kind.name()).into());
        }
        Ok(Self { url: url.trim().to_owned(), _process: process })
    }
}
