//! What a copy asks its stores before it begins: columns, key, whether the target is there.

use super::draft::{Draft, Whole as WholeForm, is_file};
use super::sample::{Column, Sample};
use crate::failure::with_causes;
use crate::store_url::Place;
use crate::workspace::{Opened, Workspace};
use arrow::datatypes::{DataType, Field, Schema};
use std::error::Error as _;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use whimbrel_engine::flow::FlowPlan;
use whimbrel_engine::{EngineError, needs};
use whimbrel_model::attribute::ITEM;
use whimbrel_model::{FingerprintKey, Logical, RunId};
use whimbrel_report::figures::count;
use whimbrel_spec::resolved::{Relation as Named, ResolvedFlow, WriteMode};
use whimbrel_store::{
    Mode, Nulls, ReadRequest, Relation, RunContext, Source, SourceDescription, Store, StoreError,
    StoreErrorKind, Target, WriteRequest,
};

/// Records of a batch of the sample.
const BATCH_RECORDS: usize = 500;
const BATCH_BYTES: usize = 4 << 20;

/// How many records of a table are looked at to find its columns.
const SAMPLED_RECORDS: u64 = 2_000;

fn request(columns: std::collections::BTreeMap<String, String>, wanted: Option<Vec<String>>) -> ReadRequest {
    ReadRequest {
        relation: Relation::Table(String::new()),
        slice_by: Vec::new(),
        columns,
        parameters: std::collections::BTreeMap::new(),
        wanted: wanted.map(|wanted| wanted.into_iter().collect()),
        condition: None,
        wants_all: false,
        whole: false,
        batch_records: BATCH_RECORDS,
        batch_bytes: BATCH_BYTES,
    }
}

/// The ends of a copy.
struct Ends<'a> {
    flow: &'a ResolvedFlow,
    source: &'a Arc<dyn Store>,
    target: &'a Arc<dyn Store>,
}

impl<'a> Ends<'a> {
    fn of(workspace: &'a Workspace, opened: &'a Opened) -> Result<Self, EngineError> {
        let internal = || EngineError::Internal("the spec of a copy has one flow and its stores".to_owned());
        let flow = workspace.resolved.flows.first().ok_or_else(internal)?;
        let store = |name| opened.stores.get(name).ok_or_else(internal);
        Ok(Self { flow, source: store(&flow.from.store)?, target: store(&flow.into.store)? })
    }

    fn source(&self, wanted: Option<Vec<String>>) -> Result<Arc<dyn Source>, EngineError> {
        let flow = self.flow;
        let Named::Table(table) = &flow.from.relation else {
            return Err(EngineError::Internal("a copy reads a table".to_owned()));
        };
        let source = self.source.source(ReadRequest {
            relation: Relation::Table(table.clone()),
            ..request(flow.columns.clone(), wanted)
        });
        source.map_err(refused)
    }

    /// The columns of the source's records. A table is billed for what is read of it: the first will do. A file is
    /// read to its end, so that none is missed.
    async fn sample(
        &self,
        draft: &Draft,
        is_tagged: bool,
        workspace: &Workspace,
    ) -> Result<Sample, EngineError> {
        let source = self.source(Some(vec![ITEM.to_owned()]))?;
        let most = if is_file(&draft.from) { u64::MAX } else { SAMPLED_RECORDS };
        Ok(Sample::take(&*source, is_tagged, most, &context(workspace)).await?)
    }

    /// What the target table is, read as a source; `None`: it is not there.
    /// Of its columns those are told that are `wanted`, and its key; `None`: all.
    async fn target_table(
        &self,
        wanted: Option<Vec<String>>,
    ) -> Result<Option<SourceDescription>, EngineError> {
        let source = self.target.source(ReadRequest {
            relation: Relation::Table(self.flow.into.table.clone()),
            ..request(std::collections::BTreeMap::new(), wanted)
        });
        match source.map_err(refused)?.describe().await {
            Ok(described) => Ok(Some(described)),
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(refused(error)),
        }
    }

    fn target(&self) -> Result<(Arc<dyn Target>, Mode), EngineError> {
        let into = &self.flow.into;
        let mode = match into.mode {
            WriteMode::Insert => Mode::Insert,
            WriteMode::Upsert => Mode::Upsert,
            WriteMode::Changed => Mode::Changed,
            WriteMode::SkipExisting => Mode::SkipExisting,
            WriteMode::Update => Mode::Update,
        };
        let target = self.target.target(WriteRequest {
            flow: self.flow.name.clone(),
            table: into.table.clone(),
            key: into.key.clone(),
            mode,
            nulls: Nulls::Omit,
            forms: into.forms.clone(),
            ignore: Vec::new(),
            scope: std::collections::BTreeMap::new(),
            allow_lossy: Vec::new(),
            shape: None,
            collection: None,
        })?;
        Ok((target, mode))
    }
}

/// Finds the columns of a source whose records have none of their own. The answer is what the source says of itself, where
/// the draft still says as much of it as before.
///
/// # Errors
/// The source cannot be read, or holds nothing by which columns could be told.
pub async fn columns(
    draft: &mut Draft,
    workspace: &Workspace,
    opened: &Opened,
) -> Result<Option<SourceDescription>, EngineError> {
    let ends = Ends::of(workspace, opened)?;
    let described = ends.source(None)?.describe().await.map_err(refused)?;
    if described.schema.index_of(ITEM).is_err() {
        if draft.reads_csv() && !is_file(&draft.into) && draft.transform.is_none() {
            let table = ends.target_table(None).await?;
            let names = described.schema.fields().iter().filter(|field| field.data_type().is_string());
            let names: Vec<_> = names.map(|field| field.name().clone()).collect();
            as_in_table(draft, table.as_ref(), names.iter(), false);
            return Ok(None);
        }
        return Ok(Some(described));
    }
    item_columns(draft, workspace, &ends, &described).await?;
    Ok(None)
}

/// The same where a record is one value.
async fn item_columns(
    draft: &mut Draft,
    workspace: &Workspace,
    ends: &Ends<'_>,
    described: &SourceDescription,
) -> Result<(), EngineError> {
    let is_tagged = described.sees_all || matches!(draft.from, Place::DynamoDb { .. });
    if draft.transform.is_none()
        && draft.columns.is_empty()
        && let Some(form) = draft.takes_whole()
    {
        return Whole { ends, described, is_tagged, form }.take(draft, workspace).await;
    }
    if !draft.columns.is_empty() {
        if draft.transform.is_none() {
            draft.transform = Some(select(&described.key, draft.columns.iter().map(|(name, _)| name)));
        }
        return Ok(());
    }
    let sample = ends.sample(draft, is_tagged, workspace).await?;
    if sample.columns.is_empty() && described.key.is_empty() {
        let message =
            format!("`{}` holds no record by which its columns could be told", draft.from.relation());
        return Err(EngineError::refused(message, "name them: `--columns id=text,count=number`"));
    }
    let by_person = draft.transform.is_some();
    take(draft, described, &sample);
    if is_file(&draft.from) && !is_file(&draft.into) && !is_tagged && !by_person {
        let table = ends.target_table(None).await?;
        as_in_table(draft, table.as_ref(), sample.columns.iter().map(|column| &column.name), true);
    }
    Ok(())
}

/// What a table that is there has as bytes is base64 in a text file. What it has as JSON is any value of a file of
/// JSON; in other text it is the document's own text, which the table reads itself.
fn as_in_table<'a>(
    draft: &mut Draft,
    table: Option<&SourceDescription>,
    names: impl Iterator<Item = &'a String>,
    is_json: bool,
) {
    let Some(table) = table else { return };
    for name in names {
        let Ok(field) = table.schema.field_with_name(name) else { continue };
        let word = match field.data_type() {
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "binary",
            _ if is_json && Logical::of(field) == Some(Logical::Json) => "json",
            _ => continue,
        };
        match draft.columns.iter_mut().find(|(known, _)| known == name) {
            Some((_, declared)) if is_json => word.clone_into(declared),
            Some(_) => {}
            None => draft.columns.push((name.clone(), word.to_owned())),
        }
    }
}

/// A copy of whole records, whatever they hold: nothing depends on a sample but what `where` and the key need.
struct Whole<'a> {
    ends: &'a Ends<'a>,
    described: &'a SourceDescription,
    is_tagged: bool,
    form: WholeForm,
}

impl Whole<'_> {
    async fn take(&self, draft: &mut Draft, workspace: &Workspace) -> Result<(), EngineError> {
        let key = match self.form {
            WholeForm::Table => self.key(draft).await?,
            WholeForm::Items | WholeForm::Objects => Vec::new(),
        };
        let untyped =
            |(name, kind): &(String, Option<_>)| kind.is_none() && !self.described.key.contains(name);
        if draft.is_filtered() || key.iter().any(untyped) {
            let sample = self.ends.sample(draft, self.is_tagged, workspace).await?;
            let others = sample.columns.iter().filter(|column| !self.described.key.contains(&column.name));
            let needed = others.filter(|column| {
                let is_key = key.iter().any(|(name, kind)| *name == column.name && kind.is_none());
                is_key || draft.filters_by(&column.name)
            });
            let declared =
                needed.filter_map(|column| Some((column.name.clone(), column.declared()?.to_owned())));
            let declared: Vec<_> = declared.collect();
            draft.columns.extend(declared);
        }
        for (name, kind) in &key {
            let is_declared = draft.columns.iter().any(|(declared, _)| declared == name);
            if let (Some(kind), false) = (kind, is_declared || self.described.key.contains(name)) {
                draft.columns.push((name.clone(), (*kind).to_owned()));
            }
        }
        let item = match (self.form, self.is_tagged) {
            (WholeForm::Table | WholeForm::Items, true) | (WholeForm::Objects, false) => ITEM.to_owned(),
            (WholeForm::Objects, true) => format!("plain_json({ITEM}) AS {ITEM}"),
            (WholeForm::Table | WholeForm::Items, false) => format!("dynamodb_json({ITEM}) AS {ITEM}"),
        };
        let names = key.iter().map(|(name, _)| quoted(name));
        let columns: Vec<_> = names.chain([item]).collect();
        draft.transform = Some(format!("SELECT {} FROM input", columns.join(", ")));
        draft.notes.push(self.said().to_owned());
        Ok(())
    }

    /// The key of the table, with the types that are known: of the table that is there, else as it was asked for,
    /// else of the source.
    async fn key(&self, draft: &Draft) -> Result<Vec<(String, Option<&'static str>)>, EngineError> {
        if let Some(table) = self.ends.target_table(Some(Vec::new())).await? {
            let kind = |name: &String| table.schema.field_with_name(name).ok().map(key_kind);
            return Ok(table.key.iter().map(|name| (name.clone(), kind(name))).collect());
        }
        let key = if draft.key.is_empty() { &self.described.key } else { &draft.key };
        if key.is_empty() {
            return Err(no_key(draft));
        }
        Ok(key.iter().map(|name| (name.clone(), None)).collect())
    }

    /// What becomes of the records, for people.
    fn said(&self) -> &'static str {
        match (self.form, self.is_tagged) {
            (WholeForm::Table, true) => "every item whole, each attribute with its type",
            (WholeForm::Items, true) => "every item whole, in DynamoDB's own JSON",
            (WholeForm::Objects, true) => {
                "every item whole, as plain JSON: sets become arrays and bytes base64; a name that ends in \
                 .dynamodb.json keeps their types"
            }
            (WholeForm::Objects, false) => "every record whole",
            (WholeForm::Table | WholeForm::Items, false) => {
                "every record whole: strings as S, numbers as N, arrays as L, objects as M"
            }
        }
    }
}

/// The sampled columns become the spec's: their types, and the SELECT where none was given.
fn take(draft: &mut Draft, described: &SourceDescription, sample: &Sample) {
    let others: Vec<&Column> =
        sample.columns.iter().filter(|column| !described.key.contains(&column.name)).collect();
    // Of a SELECT that was given, only what it names matters.
    let is_named = |name: &str| match &draft.transform {
        Some(sql) => sql.contains(name),
        None => true,
    };
    let named: Vec<&Column> = others.into_iter().filter(|column| is_named(&column.name)).collect();
    let declared = |column: &&Column| Some((column.name.clone(), column.declared()?.to_owned()));
    draft.columns = named.iter().filter_map(declared).collect();
    if matches!(draft.into, Place::DynamoDb { .. }) && draft.transform.is_none() {
        draft.forms = named.iter().filter_map(|column| Some((column.name.clone(), column.set()?))).collect();
    }
    let shown: Vec<_> = named.iter().map(|column| format!("{} {}", column.name, column.shown())).collect();
    let of = match sample.is_all {
        true => format!("all {} records", count(sample.records)),
        false => format!("the first {} records, a sample", count(sample.records)),
    };
    let key = match described.key.is_empty() {
        true => String::new(),
        false => format!("the key {}; ", described.key.join(", ")),
    };
    draft.notes.push(format!("columns, from {of}: {key}{}", shown.join(", ")));
    if !sample.is_all && draft.transform.is_none() {
        draft.notes.push(
            "an attribute that only other records have is left out, and a value of another type is a reject: name \
             columns with --columns, or copy into DynamoDB or JSON, which take every record whole"
                .to_owned(),
        );
    }
    if draft.transform.is_none() {
        draft.transform = Some(select(&described.key, named.iter().map(|column| &column.name)));
    }
}

/// Chooses columns, those of the key first.
pub fn select<'a>(key: &'a [String], others: impl Iterator<Item = &'a String>) -> String {
    let others = others.filter(|name| !key.contains(name));
    let names: Vec<_> = key.iter().chain(others).map(|name| quoted(name)).collect();
    format!("SELECT {}\nFROM input", names.join(", "))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A column as the key of a DynamoDB table.
fn key_kind(field: &Field) -> &'static str {
    match field.data_type() {
        _ if Logical::of(field) == Some(Logical::Number) => "number",
        data_type if data_type.is_numeric() => "number",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "binary"
        }
        _ => "text",
    }
}

/// Finds the key, and what a table that is missing is made of. `described`: what the source has said of itself already.
///
/// # Errors
/// A store cannot be asked, the SQL cannot be compiled, or nothing says what the key is.
pub async fn key(
    draft: &mut Draft,
    workspace: &Workspace,
    opened: &Opened,
    described: Option<SourceDescription>,
    create: bool,
) -> Result<(), EngineError> {
    let ends = Ends::of(workspace, opened)?;
    let wanted = needs::wanted(ends.flow).map(|wanted| wanted.into_iter().collect());
    let described = match described.filter(|_| wanted.is_none()) {
        Some(described) => described,
        None => ends.source(wanted)?.describe().await.map_err(refused)?,
    };
    let (target, mode) = ends.target()?;
    let plan = FlowPlan::compile(ends.flow, &workspace.resolved.path, &described, Arc::clone(&target), mode)?;
    let output = plan.output();
    let is_missing = match target.state().await {
        Ok(_) => false,
        Err(error) if error.kind() == StoreErrorKind::NotFound && create => true,
        Err(error) if error.kind() == StoreErrorKind::NotFound => {
            return Err(refused(error.with_hint("leave `--no-create` out, and it is made")));
        }
        Err(error) if error.kind() == StoreErrorKind::Mismatch && is_file(&draft.into) => {
            let hint = "name another file, or replace this one with `--mode upsert`";
            return Err(refused(error.with_hint(hint)));
        }
        Err(error) => return Err(refused(error)),
    };
    if draft.key.is_empty() && (is_missing || is_file(&draft.into)) {
        let is_whole = described.key.iter().all(|name| output.index_of(name).is_ok());
        draft.key = if is_whole { described.key.clone() } else { Vec::new() };
    }
    if is_missing && matches!(draft.into, Place::DynamoDb { .. }) {
        draft.table_key = table_key(draft, output)?;
    }
    if is_missing {
        draft.notes.push(made(draft));
    }
    Ok(())
}

fn made(draft: &Draft) -> String {
    let table = draft.into.relation();
    match draft.key.len() {
        0 => format!("`{table}` is made, without a primary key"),
        _ => format!("`{table}` is made, with the key {}", draft.key.join(", ")),
    }
}

const KEY_HINT: &str = "name it: `--key pk,sk`, the partition key first; `--select` can make columns for it";

fn no_key(draft: &Draft) -> EngineError {
    let table = draft.into.relation();
    EngineError::refused(format!("nothing says what the key of `{table}` is"), KEY_HINT)
}

/// Partition and sort key of a DynamoDB table, with their types.
fn table_key(draft: &Draft, output: &Schema) -> Result<Vec<(String, &'static str)>, EngineError> {
    match draft.key.len() {
        1 | 2 => {}
        0 => return Err(no_key(draft)),
        _ => {
            let key = draft.key.join(", ");
            let message =
                format!("a DynamoDB table has one or two key attributes, and the source's key is {key}");
            return Err(EngineError::refused(message, KEY_HINT));
        }
    }
    let attribute = |name: &String| {
        let field = output.field_with_name(name).map_err(|_| {
            let names: Vec<_> = output.fields().iter().map(|field| field.name().as_str()).collect();
            let message = format!("the key names `{name}`, which is none of the columns that are written");
            EngineError::refused(message, format!("they are: {}", names.join(", ")))
        })?;
        Ok((name.clone(), key_kind(field)))
    };
    draft.key.iter().map(attribute).collect()
}

/// What a store does not have, or cannot do, was wrongly asked for; a store that fails is no usage.
pub fn refused(error: StoreError) -> EngineError {
    match error.kind() {
        StoreErrorKind::NotFound | StoreErrorKind::Unsupported | StoreErrorKind::Mismatch => {
            let hint = error.hint().unwrap_or("look at the place and at its name").to_owned();
            EngineError::refused(with_causes(&error.to_string(), error.source()), hint)
        }
        _ => error.into(),
    }
}

fn context(workspace: &Workspace) -> RunContext {
    RunContext {
        run: RunId::generate(),
        budget: Arc::default(),
        // Nothing is fingerprinted.
        fingerprint_key: FingerprintKey::new([0; 32]),
        retry_for: workspace.resolved.limits.retry_for,
        stop: CancellationToken::new(),
        meter: Arc::default(),
    }
}
