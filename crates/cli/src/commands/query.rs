//! `whimbrel query`

use super::Program;
use crate::args::{NumberForm, QueryArgs, SpecArgs};
use crate::console::Console;
use crate::failure::{Exit, Failure, Result};
use crate::rows::{RowFormat, RowWriter};
use crate::workspace::{Opened, Workspace};
use futures::StreamExt as _;
use std::collections::BTreeSet;
use std::io::{self, BufWriter};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use whimbrel_engine::EngineError;
use whimbrel_model::{Capacity, FingerprintKey, RunId, StoreName};
use whimbrel_query::{Answer, Numbers, Query, QueryError, Session, Settings};
use whimbrel_report::figures;
use whimbrel_store::{RunContext, UnitBudget, UnitLimit};

/// Rows of a table on the terminal where nothing is said.
const TABLE_ROWS: u64 = 1000;

/// What is asked, and of whom.
enum Question {
    /// SQL over all stores.
    All(Box<Query>),
    /// One store's own language.
    One(StoreName),
}

/// Answers a query. Exit 1 where it fails on what the stores hold.
///
/// # Errors
/// The spec or the SQL is wrong, or a store fails.
pub async fn query(program: &Program, args: &QueryArgs) -> Result<Exit> {
    let spec = SpecArgs { spec: args.spec.clone(), only: Vec::new(), values: args.values.clone() };
    let mut workspace = Workspace::load(&spec, None).await?;
    let known: Vec<StoreName> = workspace.resolved.stores.keys().cloned().collect();
    let (question, named) = match question(args, &known) {
        Ok(asked) => asked,
        Err(error) => return fail(error),
    };
    // Only what is asked is opened: another store may be out of reach.
    workspace.resolved.stores.retain(|name, _| named.contains(name));
    let opened = workspace.open().await?;
    let outcome = ask(program, args, &workspace, &opened, known, question).await;
    let outcome = match outcome {
        Ok(exit) => Ok(exit),
        Err(error) => opened.hide(fail(error)),
    };
    opened.close().await;
    outcome
}

fn question(
    args: &QueryArgs,
    known: &[StoreName],
) -> std::result::Result<(Question, BTreeSet<StoreName>), QueryError> {
    if let Some(store) = &args.store {
        let name = StoreName::new(store.as_str());
        return Ok((Question::One(name.clone()), BTreeSet::from([name])));
    }
    let query = Query::parse(&args.sql)?;
    let named = query.stores(known)?;
    Ok((Question::All(Box::new(query)), named))
}

async fn ask(
    program: &Program,
    args: &QueryArgs,
    workspace: &Workspace,
    opened: &Opened,
    known: Vec<StoreName>,
    question: Question,
) -> std::result::Result<Exit, QueryError> {
    let settings = settings(program, args, workspace);
    let meter = Arc::clone(&settings.context.meter);
    let declared = whimbrel_query::declared(&workspace.resolved.flows);
    let session = Session::new(opened.stores.clone(), known, declared, settings);
    let explains = matches!(&question, Question::All(query) if query.explains());
    let format = match (program.common.json, args.csv, explains) {
        (true, ..) => RowFormat::Json,
        (_, true, _) => RowFormat::Csv,
        (_, _, true) => RowFormat::Plain,
        _ => RowFormat::Table,
    };
    let shown = match (args.limit, format) {
        (Some(limit), _) => Some(limit),
        (None, RowFormat::Table) => Some(TABLE_ROWS),
        (None, _) => None,
    };
    // One row more says whether there are more.
    let asked = shown.map(|shown| usize::try_from(shown.saturating_add(1)).unwrap_or(usize::MAX));
    let answer = match question {
        Question::All(query) => session.answer(*query, asked).await?,
        Question::One(store) => session.ask_store(&store, &args.sql, asked).await?,
    };
    print(program, args, answer, format, shown).await?;
    let Capacity { read_units, .. } = meter.capacity();
    if read_units > 0.0 {
        program.console.say(format!("{} read units", figures::units(read_units)));
    }
    Ok(Exit::Done)
}

fn settings(program: &Program, args: &QueryArgs, workspace: &Workspace) -> Settings {
    let limits = &workspace.resolved.limits;
    let limit = UnitLimit { read: limits.max_read_units, ..UnitLimit::default() };
    Settings {
        parallel: program.parallel(),
        memory_bytes: usize::try_from(program.common.memory).unwrap_or(usize::MAX),
        numbers: match args.numbers {
            NumberForm::Decimal => Numbers::Decimal,
            NumberForm::Text => Numbers::Text,
        },
        context: RunContext {
            run: RunId::generate(),
            // Nothing is fingerprinted.
            fingerprint_key: FingerprintKey::new([0; 32]),
            retry_for: limits.retry_for,
            stop: CancellationToken::new(),
            meter: Arc::default(),
            budget: Arc::new(UnitBudget::new(limit, Capacity::default())),
        },
    }
}

async fn print(
    program: &Program,
    args: &QueryArgs,
    answer: Answer,
    format: RowFormat,
    shown: Option<u64>,
) -> std::result::Result<(), QueryError> {
    if format == RowFormat::Json {
        refuse_same_names(&answer)?;
    }
    let Answer { schema, mut batches } = answer;
    let Ok(mut writer) = RowWriter::new(BufWriter::new(io::stdout()), format, schema) else { return Ok(()) };
    let mut left = shown.map(|shown| usize::try_from(shown).unwrap_or(usize::MAX));
    let mut is_all = true;
    let mut failed = None;
    while let Some(batch) = batches.next().await {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        let rows = left.map_or(batch.num_rows(), |left| left.min(batch.num_rows()));
        is_all = rows == batch.num_rows();
        // A reader that has gone away wants no more.
        if writer.write(&batch.slice(0, rows)).is_err() {
            return Ok(());
        }
        left = left.map(|left| left - rows);
        if !is_all {
            break;
        }
    }
    drop(batches);
    let Ok(written) = writer.finish() else { return Ok(()) };
    if let Some(error) = failed {
        return Err(error);
    }
    if format != RowFormat::Plain {
        let rows = if written == 1 { "row" } else { "rows" };
        let count = figures::count(written);
        program.console.say(match (is_all, args.limit) {
            (false, None) => {
                format!("the first {count} {rows}; --limit N shows more, --json and --csv give all")
            }
            (false, Some(_)) => format!("the first {count} {rows}; there are more"),
            _ => format!("{count} {rows}"),
        });
    }
    Ok(())
}

/// In a JSON object the second of two columns of one name would take the place of the first.
fn refuse_same_names(answer: &Answer) -> std::result::Result<(), QueryError> {
    let mut seen = BTreeSet::new();
    match answer.schema.fields().iter().find(|field| !seen.insert(field.name())) {
        None => Ok(()),
        Some(twice) => Err(QueryError::Sql {
            message: format!("two columns of the result are named `{}`", twice.name()),
            hint: "give each a name of its own: SELECT a.id AS a_id, b.id AS b_id".to_owned(),
        }),
    }
}

/// The SQL itself is wrong usage; a store's failure is one; what fails on the data fails.
fn fail(error: QueryError) -> std::result::Result<Exit, Failure> {
    match error {
        QueryError::Sql { message, hint } => Err(EngineError::refused(message, hint).into()),
        QueryError::Store(error) => Err(error.into()),
        QueryError::Computation { message, hint } => {
            Console::insist(format!("error: {message}\n\nhint: {hint}"));
            Ok(Exit::Failed)
        }
    }
}
