use super::expected;
use crate::fixture::endpoint;
use crate::fixture::{Table, records, two_columns};
use crate::proxy::{Act, Proxy};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use std::sync::Arc;
use whimbrel_model::Capacity;
use whimbrel_store::conformance::context;
use whimbrel_store::{Mode, RunContext, StoreErrorKind, UnitBudget, UnitLimit};

#[tokio::test]
async fn records_are_found_by_their_keys() {
    let proxy = Proxy::start(&endpoint(), Vec::new()).await;
    let table = Table::behind(&proxy.url).await;
    table.write(Mode::Upsert, &records(0..230, "here")).await;
    let target = table.target(Mode::Upsert);
    let asked = records(100..400, "there");
    let context = context();
    let found = target.look_up(&asked, &context).await.unwrap();
    assert_eq!(proxy.seen("BatchGetItem"), 3, "a hundred keys a request");
    let here = expected(&*target, &records(100..230, "here"));
    for (row, place) in found.rows.iter().enumerate() {
        match place {
            Some(place) => assert_eq!(found.held.records[*place].fingerprint, here[row]),
            None => assert!(row >= 130, "{row} is there"),
        }
    }
    assert_eq!((found.held.records.len(), found.rows.iter().flatten().count()), (130, 130));
    assert_eq!(found.held.contents.record(0)["text"], "here");
    let units = found.held.capacity.read_units;
    assert!(units >= 130.0 && (context.meter.capacity().read_units - units).abs() < 1e-6, "{units}");
}

#[tokio::test]
async fn keys_are_asked_for_once_and_only_where_they_can_be() {
    let table = Table::new().await;
    table.write(Mode::Upsert, &records(0..3, "here")).await;
    let target = table.target(Mode::Upsert);
    let ids: Vec<Option<&str>> =
        vec![Some("id00001"), None, Some("id00001"), Some(""), Some("id00000"), Some("id9")];
    let long = "x".repeat(500_000);
    let texts: Vec<_> = ids.iter().map(|_| long.as_str()).collect();
    let asked = RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(StringArray::from(ids)) as ArrayRef, true),
        ("text", Arc::new(StringArray::from(texts)), true),
    ])
    .unwrap();
    let found = target.look_up(&asked, &context()).await.unwrap();
    assert_eq!(
        found.rows,
        [Some(0), None, Some(0), None, Some(1), None],
        "also where the record is too large"
    );
    assert_eq!(found.held.records.len(), 2);
    assert_eq!(found.held.contents.key(1)["id"], "id00000");
    let nothing = target.look_up(&asked.slice(0, 0), &context()).await.unwrap();
    assert!(nothing.rows.is_empty() && nothing.held.records.is_empty());
}

#[tokio::test]
async fn what_is_given_back_is_asked_for_again() {
    let table = Table::new().await;
    table.write(Mode::Upsert, &records(0..120, "here")).await;
    let script = vec![
        ("BatchGetItem", Act::Refuse { status: 400, code: "ProvisionedThroughputExceededException" }),
        ("BatchGetItem", Act::GiveBack(100)),
        ("BatchGetItem", Act::GiveBack(7)),
        ("BatchGetItem", Act::DropAnswer),
        ("BatchGetItem", Act::FailAfter),
    ];
    let proxy = Proxy::start(&endpoint(), script).await;
    let behind = crate::fixture::store_at(&proxy.url);
    let target =
        whimbrel_store::Store::target(&behind, crate::fixture::request(&table.name, Mode::Upsert)).unwrap();
    let context = context();
    let found = target.look_up(&records(0..121, "here"), &context).await.unwrap();
    assert_eq!(found.rows.iter().flatten().count(), 120);
    assert!(found.rows[120].is_none());
    assert!(context.meter.retries() >= 3, "{}", context.meter.retries());
}

#[tokio::test]
async fn a_look_up_keeps_to_the_runs_limits() {
    let table = Table::new().await;
    table.write(Mode::Upsert, &records(0..50, "here")).await;
    let target = table.target(Mode::Upsert);
    let limit = UnitLimit { read: Some(49.0), ..UnitLimit::default() };
    let budget = Arc::new(UnitBudget::new(limit, Capacity::default()));
    let limited = RunContext { budget, ..context() };
    let error = target.look_up(&records(0..50, "here"), &limited).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::LimitReached);
    let stopped = context();
    stopped.stop.cancel();
    let error = target.look_up(&two_columns(vec!["a".into()], vec!["b".into()]), &stopped).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Interrupted);
}
