//! Everything at once: whatever happens to the requests, the table ends as after a quiet run, and the counts
//! are those of a quiet run.

use crate::fixture::{Table, created, endpoint, patient, reason, records, store_at, table_name, two_columns};
use crate::proxy::{Proxy, Weather};
use arrow::array::RecordBatch;
use futures::future::try_join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use whimbrel_model::{Capacity, SliceId};
use whimbrel_store::conformance::context;
use whimbrel_store::{Mode, Outcome, RunContext, Store, StoreErrorKind, UnitBudget, UnitLimit, WriteBatch};

const CALM: Weather = Weather {
    seed: 1,
    give_back: 0,
    throttle: 0,
    fail: 0,
    fail_after: 0,
    drop_request: 0,
    drop_answer: 0,
    delay: 0,
    items_per_second: None,
};

fn storm(seed: u64) -> Weather {
    Weather {
        seed,
        give_back: 15,
        throttle: 8,
        fail: 8,
        fail_after: 8,
        drop_request: 8,
        drop_answer: 8,
        delay: 10,
        items_per_second: Some(600),
    }
}

const WRITTEN: usize = 200;

/// A table in which the first keys are held by others, the next by what an update read.
async fn prepared(endpoint_of_writes: &str) -> Table {
    let table = Table::behind(endpoint_of_writes).await;
    let direct = Table { store: store_at(&endpoint()), name: table.name.clone() };
    direct.write(Mode::Upsert, &records(0..10, "theirs")).await;
    direct.write(Mode::Upsert, &records(10..50, "old")).await;
    table
}

/// What became of each record, in four batches that are under way at once.
async fn written(table: &Table, mode: Mode, context: &RunContext) -> Vec<String> {
    let writer = table.target(mode).writer(&SliceId::new("test.0000"), false, context).await.unwrap();
    let batch = |seq: usize| {
        let rows = seq * WRITTEN / 4..(seq + 1) * WRITTEN / 4;
        let guards = (mode == Mode::Update).then(|| records(rows.clone(), "old"));
        WriteBatch {
            records: records(rows, "new"),
            seq: seq as u64 + 1,
            cursor: None,
            contested: false,
            guards,
        }
    };
    let outcomes = try_join_all((0..4).map(|seq| writer.write(batch(seq)))).await.unwrap();
    let shown = |outcome: Outcome| match outcome {
        Outcome::Rejected(refusal) => refusal.reason,
        other => format!("{other:?}"),
    };
    outcomes.into_iter().flat_map(|outcome| outcome.outcomes).map(shown).collect()
}

async fn content(table: &Table) -> BTreeMap<String, String> {
    let records = crate::updates::scan(&table.name).await;
    let text = |item: &crate::updates::Item, name: &str| item[name].as_s().unwrap().clone();
    records.iter().map(|item| (text(item, "id"), text(item, "text"))).collect()
}

async fn as_in_calm(mode: Mode) {
    let calm = prepared(&endpoint()).await;
    let expected = written(&calm, mode, &context()).await;
    for seed in [11, 22_222, 333_333_333] {
        let proxy = Proxy::start(&endpoint(), Vec::new()).await;
        let table = prepared(&proxy.url).await;
        proxy.storm(storm(seed));
        let context = patient(Duration::from_secs(60));
        assert_eq!(written(&table, mode, &context).await, expected, "{mode:?}, seed {seed}");
        assert_eq!(content(&table).await, content(&calm).await, "{mode:?}, seed {seed}");
        assert!(context.meter.retries() > 0, "there was a storm");
    }
}

#[tokio::test]
async fn upserts_in_a_storm() {
    as_in_calm(Mode::Upsert).await;
}

#[tokio::test]
async fn inserts_in_a_storm() {
    as_in_calm(Mode::Insert).await;
}

#[tokio::test]
async fn skipping_in_a_storm() {
    as_in_calm(Mode::SkipExisting).await;
}

#[tokio::test]
async fn updates_in_a_storm() {
    as_in_calm(Mode::Update).await;
}

#[tokio::test]
async fn a_table_that_throttles_by_units_is_given_what_it_takes() {
    for mode in [Mode::Upsert, Mode::SkipExisting] {
        let proxy = Proxy::start(&endpoint(), Vec::new()).await;
        let table = Table::behind(&proxy.url).await;
        proxy.storm(Weather { items_per_second: Some(500), ..CALM });
        let context = patient(Duration::from_secs(20));
        let outcome = table.write_in(mode, &records(0..400, "t"), false, &context).await.unwrap();
        assert_eq!((created(&outcome.outcomes), table.count().await), (400, 400));
        let operation = if mode == Mode::Upsert { "BatchWriteItem" } else { "BatchExecuteStatement" };
        assert!(proxy.seen(operation) < 160, "it is not hammered: {} requests", proxy.seen(operation));
    }
}

#[tokio::test]
async fn hot_keys_wait_aside() {
    for mode in [Mode::Upsert, Mode::Insert] {
        let proxy = Proxy::start(&endpoint(), Vec::new()).await;
        let table = Table::behind(&proxy.url).await;
        let texts = (0..200).map(|id| if id % 40 == 0 { "scorching" } else { "cool" }.to_owned()).collect();
        let batch = two_columns((0..200).map(|id| format!("{id:03}")).collect(), texts);
        // The five hot records pass only when all others have: who waits for them first waits for ever.
        proxy.hot("scorching", 195);
        let context = patient(Duration::from_secs(20));
        let outcome = table.write_in(mode, &batch, false, &context).await.unwrap();
        assert_eq!((created(&outcome.outcomes), table.count().await), (200, 200), "{mode:?}");
    }
}

fn limited(write: f64) -> RunContext {
    let limit = UnitLimit { write: Some(write), ..UnitLimit::default() };
    RunContext { budget: Arc::new(UnitBudget::new(limit, Capacity::default())), ..context() }
}

#[tokio::test]
async fn a_spent_budget_pauses_the_run() {
    let table = Table::new().await;
    let context = limited(60.0);
    let error = table.write_in(Mode::Upsert, &records(0..200, "t"), false, &context).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::LimitReached);
    assert!(error.to_string().contains("`max_write_units`"), "{error}");
    assert_eq!(table.count().await, 50, "what fits is written, and not one item more");
    assert!(context.budget.reserve(Capacity { write_units: 10.0, ..Capacity::default() }).is_ok());
    let enough = limited(200.0);
    let outcome = table.write_in(Mode::Upsert, &records(0..200, "t"), false, &enough).await.unwrap();
    assert_eq!((created(&outcome.outcomes), table.count().await), (200, 200));
    let spent = enough.budget.reserve(Capacity { write_units: 0.5, ..Capacity::default() });
    assert!(spent.is_err(), "what was used is counted");
}

#[tokio::test]
async fn a_bounded_table_paces_itself() {
    let name = table_name();
    let definition = crate::fixture::definition_file(&serde_json::json!({
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "ProvisionedThroughput": {"ReadCapacityUnits": 100, "WriteCapacityUnits": 100}
    }));
    let store = crate::fixture::store_with(&endpoint(), &[(&name, &definition)]);
    let target = store.target(crate::fixture::request(&name, Mode::Upsert)).unwrap();
    target.create().await.unwrap();
    let batch: RecordBatch = records(0..300, "t");
    assert_eq!(target.plan(batch.schema_ref()).await.unwrap().write_units_per_second, Some(100.0));
    let table = Table { store, name };
    let began = std::time::Instant::now();
    let outcome = table.write_in(Mode::Upsert, &batch, false, &context()).await.unwrap();
    assert_eq!(created(&outcome.outcomes), 300);
    // 100 units are there at once; the rest comes at a rate that grows to 400 a second at the most.
    assert!(began.elapsed() > Duration::from_millis(300), "{:?}", began.elapsed());
    let refused = table.write(Mode::Insert, &records(0..1, "t")).await;
    assert!(reason(&refused[0]).contains("exists already"));
}
