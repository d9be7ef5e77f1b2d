//! What is typed on the command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Moves data between databases, proves that every record arrived, and survives being killed at any moment.
#[derive(Debug, Parser)]
#[command(name = "whimbrel", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes:
  0    done, every record arrived
  1    failed
  2    wrong usage or wrong spec
  3    done, with rejects
  4    verify found differences
  5    paused by a limit
  130  interrupted; `whimbrel resume` goes on

Begin with `whimbrel demo`: it needs no server and no account.")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The flags that every command knows.
    #[command(flatten)]
    pub common: Common,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole story on embedded databases with sample data: plan, run, verify
    ///
    /// Everything is kept under data/ in the present folder; delete that to begin anew.
    Demo {
        /// Which migration
        #[arg(value_enum, default_value_t = System::Ratel)]
        system: System,
    },
    /// Looks whether a run could begin: spec, connections, credentials, tables; touches nothing
    Check(SpecArgs),
    /// Shows what a run would do, without writing anything
    ///
    /// Reads a sample of each source, or with --all every record, and shows slices, tables to be made, how each
    /// column arrives, sample records, rejects with their reasons, write units, cost, duration and hot keys.
    /// Exit code 3 says that some of the records looked at would be rejected.
    Plan {
        #[command(flatten)]
        spec: SpecArgs,
        /// Reads every record, not only a sample
        #[arg(long)]
        all: bool,
        /// Prints each record that a run would alter, old and new, on standard output. With --json each is a line
        /// before the plan's
        #[arg(long)]
        diff: bool,
        /// Looks at no more than N records of each source
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Makes the tables that the spec defines and that are missing
    ///
    /// Each is marked as the migration's and environment's (a DynamoDB tag, a comment in PostgreSQL); runs of another
    /// environment do not touch it.
    Create(CreateArgs),
    /// Prints the least-privilege IAM policy for a spec: create, run, verify and clean by themselves
    ///
    /// Exact actions on exact tables, buckets and values, without asking AWS anything. With --create-user an IAM user
    /// is made who has it (docs/costs.md).
    Policy(PolicyArgs),
    /// Removes exactly the tables that whimbrel made or took over, with --confirm, and says what it left
    Clean(SpecArgs),
    /// Runs a migration
    Run(RunArgs),
    /// Copies records from any store to any other, without a spec
    ///
    /// FROM and TO are postgres://user@host/db?table=NAME, dynamodb://TABLE?region=NAME&endpoint=URL&profile=NAME,
    /// sqlite:PATH?table=NAME, a file (.parquet, .arrow; .json, .ndjson, .csv, .dynamodb.json, these also with .gz or
    /// .zst), s3://bucket/key, or - for standard input and output; FROM may be a folder of files, an export of DynamoDB,
    /// or chroma:PATH?collection=NAME, where PATH may be a server's URL. Without `table`, all tables of a database go
    /// into another. It is a run like any other: with journal, rejects and `resume`. Nothing that is there is
    /// overwritten unless --mode says so (docs/copy.md).
    Copy(Box<CopyArgs>),
    /// Goes on with a run that was interrupted, killed or stopped by a failure
    Resume {
        /// The run, or the beginning or end of its name; default: the latest unfinished one
        run: Option<String>,
        /// Goes on although the spec has changed since the run began
        #[arg(long)]
        accept_spec: bool,
        #[command(flatten)]
        verify: VerifyArgs,
        #[command(flatten)]
        values: Values,
    },
    /// Shows how far a run is; of a spec, also what its tables hold and the latest run of each environment
    Status {
        /// A run, or a spec whose latest run is meant; default: the latest run
        run: Option<String>,
        #[command(flatten)]
        values: Values,
    },
    /// Lists all runs, the latest first
    List,
    /// Replays the rejects of a run as a run of its own, after a fix of the spec or the target
    ///
    /// The records are replayed as they were read then. After a fix in the source itself, `run` again.
    Retry {
        /// The run, or the beginning or end of its name
        run: String,
        /// Replays although the spec has changed since the run
        #[arg(long)]
        accept_spec: bool,
        #[command(flatten)]
        verify: VerifyArgs,
        #[command(flatten)]
        values: Values,
    },
    /// Takes back what a run has written: the targets are as they were before it. Wants --confirm
    ///
    /// A table that the run made is removed, and one that held nothing is emptied; elsewhere the run must have kept
    /// before-images, by `undo: true` in its spec. Where others have written since, nothing is taken back and their
    /// records are listed by key. Without --confirm it only shows what it would do. The retries of the run's rejects
    /// are taken back with it. One that was cut off may be called again.
    Undo {
        /// The run, or the beginning or end of its name
        run: String,
        #[command(flatten)]
        values: Values,
    },
    /// Proves that the targets hold what the sources do, record by record
    ///
    /// Without a flag it does what the spec's `verify` asks for, and compares every record where that says nothing.
    /// Each side is read once; only where sums of fingerprints differ, records are read again and listed by key with
    /// the attributes that differ. No earlier run is needed. The spec's assertions are carried out as well.
    Verify(VerifyCommand),
    /// Answers SQL over the stores of a spec; reads only
    ///
    /// Every store is a schema: SELECT count(*) FROM pg.messages m JOIN ddb."Table" t ON t.id = m.id. With --json one
    /// object a line, with all digits of every number.
    Query(QueryArgs),
    /// Reports what a run did: outcome, counts, throughput, rejects, fidelity, costs, verification
    ///
    /// Without --out it prints Markdown, with --json a receipt for programs, signed off by a digest
    /// (docs/report.md).
    Report {
        /// The run, or the beginning or end of its name; default: the latest run
        run: Option<String>,
        /// Writes the report into this file; its end says the form: .html, .md or .json. May stand several times
        #[arg(long, value_name = "PATH")]
        out: Vec<PathBuf>,
    },
    /// Prints the JSON Schema of the spec, for editors
    Schema,
}

/// The migrations that come with whimbrel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// A social platform: PostgreSQL → one DynamoDB table with three indexes
    Ratel,
    /// Projects and tokens: PostgreSQL → one DynamoDB table, existing items kept
    Cello,
    /// Conversations and messages, many of them broken: one DynamoDB table → PostgreSQL
    Contramate,
    /// Lessons, passages and questions: PostgreSQL → DynamoDB, twice; the second run writes only what has changed
    Pni,
    /// A photo library: SQLite → PostgreSQL, Chroma → pgvector, every vector proven
    Collections,
}

/// A spec and what is chosen of it.
#[derive(Clone, Debug, Args)]
pub struct SpecArgs {
    /// The spec's file
    pub spec: PathBuf,
    /// Only these flows or groups, by name, comma between them
    #[arg(long, value_name = "FLOW", value_delimiter = ',')]
    pub only: Vec<String>,
    #[command(flatten)]
    pub values: Values,
}

/// What is made.
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Takes tables over that are there already: they are this environment's from now on. Wants --confirm
    #[arg(long)]
    pub adopt: bool,
}

/// A policy, and who is to have it.
#[derive(Clone, Debug, Args)]
pub struct PolicyArgs {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Only what these commands need, comma between them [default: create, run, verify, clean, and undo where the spec
    /// says so]
    #[arg(long = "for", value_name = "COMMAND", value_enum, value_delimiter = ',')]
    pub purposes: Vec<PolicyFor>,
    /// The account's number in the ARNs [default: *; with --create-user the caller's]
    #[arg(long, value_name = "NUMBER", value_parser = account)]
    pub account: Option<String>,
    /// Makes an IAM user with the policy and an access key, which is shown once; what is there already is kept
    #[arg(long, value_name = "NAME", conflicts_with = "delete_user")]
    pub create_user: Option<String>,
    /// Removes a user that --create-user made, the policy and the keys. Wants --confirm
    #[arg(long, value_name = "NAME")]
    pub delete_user: Option<String>,
    /// The policy's name [default: whimbrel-MIGRATION-ENVIRONMENT]
    #[arg(long, value_name = "NAME")]
    pub policy_name: Option<String>,
    /// The path of user and policy
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = iam_path)]
    pub path: String,
}

/// What a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PolicyFor {
    /// Making tables
    Create,
    /// Running, resuming, planning
    Run,
    /// What run --backup takes beside a run
    Backup,
    /// Comparing
    Verify,
    /// Comparing, and writing what differs once more
    Repair,
    /// Taking a run back
    Undo,
    /// Removing tables
    Clean,
}

/// What fills a spec's variables.
#[derive(Clone, Debug, Default, Args)]
pub struct Values {
    /// The environment of the spec
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Gives a variable a value; may stand several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// The AWS profile for all stores on AWS
    #[arg(long, value_name = "NAME")]
    pub aws_profile: Option<String>,
    /// The AWS region for all stores on AWS
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
}

/// What is verified after a run.
#[derive(Clone, Debug, Default, Args)]
pub struct VerifyArgs {
    /// Verifies afterwards, and carries out the spec's assertions: `count` compares the numbers of records, a number
    /// so many records by key, `all` every record
    #[arg(long, value_name = "WHAT", num_args = 0..=1, default_missing_value = "all", require_equals = true)]
    pub verify: Option<VerifyDepth>,
    /// Writes a report of the run into this file; its end says the form: .html, .md or .json. May stand several times
    #[arg(long, value_name = "PATH")]
    pub report: Vec<PathBuf>,
}

/// How closely is looked, the closest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerifyDepth {
    /// The numbers of records
    Count,
    /// So many records by key
    Sample(u64),
    /// Every record
    All,
}

impl std::str::FromStr for VerifyDepth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "count" => Ok(Self::Count),
            "all" => Ok(Self::All),
            number => match number.parse() {
                Ok(records) if records > 0 => Ok(Self::Sample(records)),
                _ => Err("`count`, `all` or a number of records is expected".to_owned()),
            },
        }
    }
}

impl std::fmt::Display for VerifyDepth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Count => f.write_str("count"),
            Self::Sample(records) => write!(f, "{records}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// What is verified without a run.
#[derive(Clone, Debug, Args)]
pub struct VerifyCommand {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Compares the numbers of records: what the latest run says arrived, with what is there
    #[arg(long, group = "depth")]
    pub count: bool,
    /// Compares N records, chosen by their keys
    #[arg(long, value_name = "N", group = "depth", value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: Option<u64>,
    /// Compares every record, both ways
    #[arg(long, group = "depth")]
    pub all: bool,
    /// Chooses the same sample again
    #[arg(long, value_name = "SEED", requires = "sample")]
    pub seed: Option<u64>,
    /// Writes exactly the records again that are missing or differ, and compares once more; extra records are left
    #[arg(long, conflicts_with_all = ["count", "sample"])]
    pub repair: bool,
    /// Writes a report into this file; its end says the form: .html, .md or .json. May stand several times
    #[arg(long, value_name = "PATH")]
    pub report: Vec<PathBuf>,
}

/// How a run is done.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub spec: SpecArgs,
    /// Makes missing tables first
    #[arg(long)]
    pub create: bool,
    /// Removes the tables that whimbrel made or took over and makes them anew first; nothing is removed where one of
    /// them is not its own. An unfinished run is set aside. Wants --confirm
    #[arg(long, conflicts_with = "rehearse")]
    pub clean: bool,
    /// Takes an on-demand backup of the run's DynamoDB tables first; what no store backs up is named
    #[arg(long, conflicts_with = "rehearse")]
    pub backup: bool,
    /// Reads no more than N records of each source
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Prints each record that is altered, old and new as far as it was read, on standard output. With --json each is
    /// a line before the summary's
    #[arg(long)]
    pub diff: bool,
    /// Begins anew beside an unfinished run, which is set aside
    #[arg(long)]
    pub new: bool,
    /// Rehearses: embedded databases stand in for the targets, which are not touched; tables are made, every record
    /// is verified, and a report is written. They and the report stay in the run's folder
    #[arg(long)]
    pub rehearse: bool,
    #[command(flatten)]
    pub verify: VerifyArgs,
}

/// What is copied, and how.
#[derive(Clone, Debug, Args)]
pub struct CopyArgs {
    /// Where the records come from
    pub from: String,
    /// Where they go
    pub to: String,
    /// Only records for which this holds: whimbrel's SQL over the source's columns
    #[arg(long = "where", value_name = "SQL")]
    pub filter: Option<String>,
    /// What becomes of each record: SELECT … FROM input
    #[arg(long, value_name = "SQL")]
    pub select: Option<String>,
    /// What becomes of a record whose key is there already
    #[arg(long, value_name = "MODE", value_enum, default_value_t = CopyMode::Insert)]
    pub mode: CopyMode,
    /// The target's key, comma between columns; default: the source's
    #[arg(long, value_name = "COLUMN", value_delimiter = ',')]
    pub key: Vec<String>,
    /// Columns to read with their types, comma between them: id=text,count=number. Default: those of the table; of a
    /// sample where there are none
    #[arg(long, value_name = "NAME=TYPE", value_delimiter = ',', value_parser = column)]
    pub columns: Vec<(String, String)>,
    /// The format of a file whose name does not say it, and of standard input and output; default there: ndjson
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<CopyFormat>,
    /// Copies no more than N records
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Refuses to make a table that is missing
    #[arg(long)]
    pub no_create: bool,
    /// Begins anew beside an unfinished copy of the same names, which is set aside
    #[arg(long)]
    pub new: bool,
    /// Prints the spec that would be run, as a start for one of your own, and does nothing else
    #[arg(long, conflicts_with_all = ["limit", "verify", "report", "new"])]
    pub spec: bool,
    /// The AWS profile for all stores on AWS
    #[arg(long, value_name = "NAME")]
    pub aws_profile: Option<String>,
    /// The AWS region for all stores on AWS
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    #[command(flatten)]
    pub verify: VerifyArgs,
}

/// What becomes of a record whose key is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum CopyMode {
    /// It is a reject; a file that is there is refused
    Insert,
    /// It takes the place of what was there; a file is replaced whole
    Upsert,
    /// It is skipped
    SkipExisting,
    /// Its columns are set; a key that is not there is a reject
    Update,
}

impl CopyMode {
    /// The word in the spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Upsert => "upsert",
            Self::SkipExisting => "skip_existing",
            Self::Update => "update",
        }
    }
}

/// How records are written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CopyFormat {
    /// An array of objects
    Json,
    /// One object a line
    Ndjson,
    /// RFC 4180, with the columns' names first
    Csv,
    /// Apache Parquet
    Parquet,
    /// Arrow IPC
    Arrow,
    /// Items of DynamoDB JSON
    #[value(name = "dynamodb-json")]
    DynamoDbJson,
}

impl CopyFormat {
    /// The word in the spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::DynamoDbJson => "dynamodb-json",
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, Args)]
pub struct QueryArgs {
    /// The spec's file
    pub spec: PathBuf,
    /// The query: SELECT, WITH, VALUES, DESCRIBE or EXPLAIN
    pub sql: String,
    /// Asks this store alone, in its own language
    #[arg(long, value_name = "NAME")]
    pub store: Option<String>,
    /// Gives no more than N rows [default: 1000 in a table, else all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Prints CSV
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// What exact numbers of no declared precision are in SQL
    #[arg(long, value_enum, default_value_t = NumberForm::Decimal)]
    pub numbers: NumberForm,
    #[command(flatten)]
    pub values: Values,
}

/// What exact numbers are in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NumberForm {
    /// 76 digits, 20 of them behind the point
    Decimal,
    /// Text, whatever its length
    Text,
}

/// The flags that every command knows.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Common flags")]
pub struct Common {
    /// Prints one JSON object on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Says nothing but errors
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Shows no progress
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// Writes the log to standard error as well; each run's folder has it in any case
    #[arg(long, global = true, value_name = "FORMAT", value_enum)]
    pub log: Option<LogFormat>,
    /// Serves the run's metrics for Prometheus at http://ADDR/metrics while it goes on: 127.0.0.1:9184
    #[arg(long, global = true, value_name = "ADDR")]
    pub metrics: Option<std::net::SocketAddr>,
    /// The folder of the journal; each run keeps its log, rejects and summary there
    #[arg(long, global = true, value_name = "DIR", default_value = ".whimbrel", env = "WHIMBREL_JOURNAL")]
    pub journal: PathBuf,
    /// Slices read at a time [default: 4, or one for each processor if there are more]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub parallel: Option<u16>,
    /// Bytes of records in memory at a time, beyond the engine's own: 64M, 1G
    #[arg(long, global = true, value_name = "BYTES", default_value = "96M", value_parser = byte_size)]
    pub memory: u64,
    /// What a run's request units may cost in all, in dollars; it pauses before they cost more, and `resume` goes on
    #[arg(long, global = true, value_name = "USD", value_parser = dollars)]
    pub max_cost: Option<f64>,
    /// Confirms what destroys or takes over something; in a protected environment with the environment's name
    #[arg(long, global = true, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub confirm: Option<String>,
    /// Records in a batch [default: what suits the target]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch_size: Option<u32>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("NAME=VALUE is expected".to_owned()),
    }
}

/// A column and its type, `text` where none is said.
fn column(text: &str) -> Result<(String, String), String> {
    let (name, kind) = text.split_once('=').unwrap_or((text, "text"));
    let is_word = !kind.is_empty() && kind.chars().all(|c| c.is_ascii_lowercase());
    if name.is_empty() || !is_word {
        return Err("NAME=TYPE is expected: created_at=timestamp".to_owned());
    }
    Ok((name.to_owned(), kind.to_owned()))
}

fn account(text: &str) -> Result<String, String> {
    let is_number = text.len() == 12 && text.chars().all(|c| c.is_ascii_digit());
    if is_number || text == "*" {
        Ok(text.to_owned())
    } else {
        Err("twelve digits are expected, or *".to_owned())
    }
}

/// A path of IAM: `/` or `/team/`.
fn iam_path(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/') && text.ends_with('/') && text.chars().all(|c| c.is_ascii_graphic());
    if is_path { Ok(text.to_owned()) } else { Err("`/` or `/team/` is expected".to_owned()) }
}

fn dollars(text: &str) -> Result<f64, String> {
    match text.trim_start_matches('$').parse::<f64>() {
        Ok(usd) if usd.is_finite() && usd >= 0.0 => Ok(usd),
        _ => Err("a sum in dollars is expected: 0.50".to_owned()),
    }
}

fn byte_size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let factor: u64 = match unit.trim().to_ascii_uppercase().trim_end_matches('B') {
        "" => 1,
        "K" | "KI" => 1024,
        "M" | "MI" => 1024 * 1024,
        "G" | "GI" => 1024 * 1024 * 1024,
        _ => return Err("a number with K, M or G is expected, 96M".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "a number with K, M or G is expected, 96M".to_owned())?;
    let bytes = number.checked_mul(factor).ok_or("that is more than any machine has")?;
    if bytes < 1024 * 1024 { Err("at least 1M is needed".to_owned()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sums_are_dollars() {
        assert_eq!((dollars("0.5"), dollars("$12")), (Ok(0.5), Ok(12.0)));
        assert!(dollars("-1").is_err() && dollars("NaN").is_err() && dollars("five").is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(byte_size("96M"), Ok(96 * 1024 * 1024));
        assert_eq!(byte_size("1GiB"), Ok(1024 * 1024 * 1024));
        assert!(byte_size("1K").is_err() && byte_size("x").is_err() && byte_size("99999999999G").is_err());
    }
}
