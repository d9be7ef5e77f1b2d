//! Targets, each in a process of its own.

use crate::process::{Bound, bound_to_us};
use crate::{Result, accept, answer};
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use tokio::net::TcpListener;

/// What answers the DynamoDB API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// dynoxide, in memory
    Dynoxide,
    /// A server that accepts everything at once and keeps nothing
    Accept,
}

impl Kind {
    /// What it is called here and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Dynoxide => "dynoxide",
            Self::Accept => "accept",
        }
    }
}

/// Serves until standard input ends: whoever has started this holds its other end, and lets go also when killed.
pub(crate) fn serve(kind: Kind, port: u16) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        answer(&format!("http://{}", listener.local_addr()?));
        let ended =
            tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        let served = async {
            match kind {
                Kind::Dynoxide => {
                    let database = dynoxide::Database::memory().map_err(|error| error.to_string())?;
                    dynoxide::server::serve_on(listener, database).await;
                    Ok(())
                }
                Kind::Accept => accept::serve(listener).await,
            }
        };
        tokio::select! {
            served = served => served,
            ended = ended => Ok(ended?.map(drop)?),
        }
    })
}

/// A target that is served; it ends with this value.
pub(crate) struct Served {
    pub(crate) url: String,
    _process: Bound,
}

impl Served {
    /// Starts this program a second time, as a server.
    pub(crate) fn start(kind: Kind) -> Result<Self> {
        let mut command: Command = bound_to_us(&std::env::current_exe()?);
        command.args(["serve", kind.name(), "--port", "0"]);
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
