//! A server, stores and tables for tests.

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use dynoxide::Database;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use whimbrel_dynamodb::{DynamoConfig, DynamoStore, StaticCredentials};
use whimbrel_model::SliceId;
use whimbrel_store::conformance::context;
use whimbrel_store::{Mode, Nulls, Outcome, RunContext, Store, Target, WriteBatch, WriteRequest};

/// The server's URL; the embedded one starts with the first test of a process and ends with it.
pub fn endpoint() -> String {
    static ENDPOINT: OnceLock<String> = OnceLock::new();
    ENDPOINT
        .get_or_init(|| std::env::var("WHIMBREL_TEST_DYNAMODB_ENDPOINT").unwrap_or_else(|_| embedded()))
        .clone()
}

fn embedded() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            dynoxide::server::serve_on(listener, Database::memory().unwrap()).await;
        });
    });
    format!("http://{address}")
}

/// A table name that nothing else uses, also on a server that outlives the test.
pub fn table_name() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("whimbrel_{}_{now}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

pub fn store_at(endpoint: &str) -> DynamoStore {
    store_with(endpoint, &[])
}

/// A store whose spec says what some tables are to look like.
pub fn store_with(endpoint: &str, tables: &[(&str, &Value)]) -> DynamoStore {
    let config = DynamoConfig {
        tables: tables.iter().map(|(name, definition)| ((*name).to_owned(), (*definition).clone())).collect(),
        region: Some("us-east-1".into()),
        endpoint: Some(endpoint.to_owned()),
        credentials: Some(StaticCredentials::dummy()),
        ..DynamoConfig::default()
    };
    DynamoStore::new("ddb".into(), config)
}

/// A definition that is read from a file.
pub fn definition_file(definition: &Value) -> Value {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.json", table_name()));
    std::fs::write(&file, definition.to_string()).unwrap();
    json!({"file": file})
}

pub fn request(table: &str, mode: Mode) -> WriteRequest {
    WriteRequest {
        flow: "flow".into(),
        table: table.to_owned(),
        key: Vec::new(),
        mode,
        nulls: Nulls::Omit,
        forms: [].into(),
        scope: [].into(),
        ignore: Vec::new(),
        allow_lossy: Vec::new(),
        shape: None,
        collection: None,
    }
}

/// A table with a partition key `id` and nothing else, behind an endpoint.
pub struct Table {
    pub store: DynamoStore,
    pub name: String,
}

impl Table {
    pub async fn new() -> Self {
        Self::behind(&endpoint()).await
    }

    /// Made directly, written to through the endpoint.
    pub async fn behind(endpoint_of_writes: &str) -> Self {
        let name = table_name();
        let direct = store_with(&endpoint(), &[(&name, &definition())]);
        let made = direct.target(request(&name, Mode::Upsert)).unwrap().create().await.unwrap();
        assert_eq!(made, whimbrel_store::Creation::Created(name.clone()));
        Self { store: store_with(endpoint_of_writes, &[(&name, &definition())]), name }
    }

    pub fn target(&self, mode: Mode) -> Arc<dyn Target> {
        self.store.target(request(&self.name, mode)).unwrap()
    }

    pub async fn write(&self, mode: Mode, records: &RecordBatch) -> Vec<Outcome> {
        self.write_in(mode, records, false, &context()).await.unwrap().outcomes
    }

    pub async fn write_in(
        &self,
        mode: Mode,
        records: &RecordBatch,
        contested: bool,
        context: &RunContext,
    ) -> whimbrel_store::Result<whimbrel_store::WriteOutcome> {
        let writer = self.target(mode).writer(&SliceId::new("test.0000"), true, context).await.unwrap();
        writer
            .write(WriteBatch { records: records.clone(), seq: 1, cursor: None, contested, guards: None })
            .await
    }

    /// Updates records that were read with these values.
    pub async fn update(
        &self,
        records: &RecordBatch,
        guards: Option<&RecordBatch>,
        contested: bool,
    ) -> Vec<Outcome> {
        let writer =
            self.target(Mode::Update).writer(&SliceId::new("test.0000"), false, &context()).await.unwrap();
        let (records, guards) = (records.clone(), guards.cloned());
        let batch = WriteBatch { records, seq: 1, cursor: None, contested, guards };
        writer.write(batch).await.unwrap().outcomes
    }

    pub async fn count(&self) -> u64 {
        self.target(Mode::Upsert).count(&[Vec::new()]).await.unwrap().flows[0]
    }
}

pub fn definition() -> Value {
    json!({"key": "id"})
}

/// Records `id`, `text` with ids from a range and one text.
pub fn records(ids: std::ops::Range<usize>, text: &str) -> RecordBatch {
    let texts: Vec<_> = ids.clone().map(|_| text.to_owned()).collect();
    two_columns(ids.map(|id| format!("id{id:05}")).collect(), texts)
}

pub fn two_columns(ids: Vec<String>, texts: Vec<String>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(StringArray::from(ids)) as ArrayRef, true),
        ("text", Arc::new(StringArray::from(texts)), true),
    ])
    .unwrap()
}

pub fn patient(retry_for: Duration) -> RunContext {
    RunContext { retry_for, ..context() }
}

pub fn created(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Created(_))).count()
}

pub fn skipped(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Skipped)).count()
}

pub fn reason(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Rejected(refusal) => refusal.reason.clone(),
        other => panic!("rejected was expected, not {other:?}"),
    }
}
