//! The routes that are measured, and what is known of one afterwards.

use crate::Result;
use crate::changed::{Changed, Compare};
use crate::chroma_to_postgres::{ChromaToPostgres, Tables};
use crate::dynamodb_to_postgres::DynamoDbToPostgres;
use crate::load::Shape;
use crate::postgres_to_dynamodb::{Mode, PostgresToDynamoDb};
use crate::postgres_to_file::PostgresToFile;
use crate::serve::Kind;
use crate::sqlite_to_postgres::SqliteToPostgres;
use futures::future::BoxFuture;
use std::path::PathBuf;
use std::time::Duration;

/// Every route. Another one is another line.
pub(crate) const TABLE: &[&dyn Route] = &[
    &PostgresToDynamoDb { mode: Mode::Upsert, server: Kind::Dynoxide },
    &PostgresToDynamoDb { mode: Mode::SkipExisting, server: Kind::Dynoxide },
    &PostgresToDynamoDb { mode: Mode::Update, server: Kind::Dynoxide },
    &PostgresToDynamoDb { mode: Mode::Upsert, server: Kind::Accept },
    &PostgresToDynamoDb { mode: Mode::SkipExisting, server: Kind::Accept },
    &PostgresToDynamoDb { mode: Mode::Update, server: Kind::Accept },
    &DynamoDbToPostgres { server: Kind::Dynoxide, shape: Shape::Whole },
    &DynamoDbToPostgres { server: Kind::Dynoxide, shape: Shape::Derived },
    &DynamoDbToPostgres { server: Kind::Replay, shape: Shape::Whole },
    &DynamoDbToPostgres { server: Kind::Replay, shape: Shape::Derived },
    &DynamoDbToPostgres { server: Kind::OnePartition, shape: Shape::Derived },
    &DynamoDbToPostgres { server: Kind::TwoPartitions, shape: Shape::Derived },
    &PostgresToFile { format: "parquet" },
    &PostgresToFile { format: "ndjson" },
    &PostgresToFile { format: "csv" },
    &SqliteToPostgres,
    &ChromaToPostgres { tables: Tables::Plain },
    &ChromaToPostgres { tables: Tables::Langchain },
    &Changed { compare: Compare::Target },
    &Changed { compare: Compare::Journal },
];

/// From somewhere to somewhere, in some mode.
pub(crate) trait Route: Sync {
    /// What it is called on the command line and in the report.
    fn name(&self) -> String;

    /// Fills the source where that has not been done, measures the limits, then whimbrel.
    fn measure<'a>(&'a self, bench: &'a mut Bench) -> BoxFuture<'a, Result<Measurement>>;
}

/// What all routes of one start share.
pub(crate) struct Bench {
    /// Records that are moved.
    pub(crate) rows: u64,
    /// The program.
    pub(crate) whimbrel: PathBuf,
    /// The URL of a native PostgreSQL.
    pub(crate) postgres: String,
    /// Rows a second that PostgreSQL can give at most, as soon as it is filled and measured.
    pub(crate) source: Option<f64>,
    /// Records a second that whimbrel writes into a table of DynamoDB's pace, as soon as that is measured.
    pub(crate) full_write: Option<f64>,
}

/// A route that was measured.
pub(crate) struct Measurement {
    pub(crate) route: String,
    pub(crate) outcome: Outcome,
    pub(crate) limits: Vec<Limit>,
}

/// What whimbrel is compared with: what a part of the way allows when nothing else is done, or another program.
pub(crate) struct Limit {
    /// What was done, in a few words.
    pub(crate) what: &'static str,
    pub(crate) records_per_second: f64,
    /// What is measured of whimbrel beside it.
    pub(crate) by: Clock,
    /// Another program that moves the records, or another way for whimbrel to do so, not a limit.
    pub(crate) is_peer: bool,
}

/// How long something took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The moving of the records.
    Run,
    /// A process from start to end.
    Wall,
}

impl Limit {
    /// What a part of the way allows.
    pub(crate) fn part(what: &'static str, records_per_second: f64) -> Self {
        Self { what, records_per_second, by: Clock::Run, is_peer: false }
    }

    /// A peer, by the clock of the moving alone.
    pub(crate) fn peer(what: &'static str, records_per_second: f64) -> Self {
        Self { what, records_per_second, by: Clock::Run, is_peer: true }
    }

    /// A peer, by the time of its process.
    pub(crate) fn process(what: &'static str, records_per_second: f64) -> Self {
        Self { what, records_per_second, by: Clock::Wall, is_peer: true }
    }
}

/// What became of whimbrel.
pub(crate) enum Outcome {
    Done(Figures),
    /// It says that it cannot do this (yet), in these words.
    Refused(String),
    /// It ended otherwise than it should.
    Failed(String),
}

/// What was measured of whimbrel.
pub(crate) struct Figures {
    /// The run itself, by whimbrel's own clock.
    pub(crate) run: Duration,
    /// The process from start to end.
    pub(crate) wall: Duration,
    /// User and system time of the process; `None` where this system does not tell.
    pub(crate) cpu: Option<Duration>,
    /// The most memory that was resident at a time; `None` where this system does not tell.
    pub(crate) peak_bytes: Option<u64>,
}
