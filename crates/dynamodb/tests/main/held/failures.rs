use super::{batches, by_key, flow, held, target};
use crate::fixture::{endpoint, records, request, store_at, table_name};
use crate::proxy::{Act, Proxy};
use crate::source::Filled;
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use std::sync::Arc;
use whimbrel_model::{Capacity, SlicePart};
use whimbrel_store::conformance::context;
use whimbrel_store::{
    HeldBatch, HeldFlow, Mode, RunContext, Store as _, StoreErrorKind, Target, UnitBudget, UnitLimit,
    WriteRequest,
};

async fn filled() -> Filled {
    let text = "x".repeat(40_000);
    let item = |id| json!({"id": {"S": format!("id{id:05}")}, "text": {"S": text}});
    Filled::with(&[("id", "S")], &[], &(0..60).map(item).collect::<Vec<Value>>()).await
}

async fn read(
    target: &dyn Target,
    flows: &[HeldFlow],
    context: &RunContext,
) -> whimbrel_store::Result<Vec<HeldBatch>> {
    let part = target.held_parts(1).await.unwrap().remove(0);
    target.held(&part, flows, context).await?.try_collect().await
}

#[tokio::test]
async fn a_bad_day_of_the_server_changes_nothing() {
    let table = filled().await;
    let (direct, request) = target(&table, |request| request);
    let flows = [flow(&records(0..1, ""), &request, &[])];
    let throttled = || Act::Refuse { status: 400, code: "ProvisionedThroughputExceededException" };
    let script = vec![
        ("Scan", throttled()),
        ("Scan", Act::DropAnswer),
        ("Scan", Act::FailAfter),
        ("Scan", throttled()),
    ];
    let proxy = Proxy::start(&endpoint(), script).await;
    let behind = store_at(&proxy.url).target(request).unwrap();
    let context = context();
    let read = by_key(&batches(&*behind, &flows, 1, &context).await);
    assert_eq!(read.len(), 60);
    assert_eq!(read, held(&*direct, &flows).await);
    assert_eq!((context.meter.retries(), context.meter.throttles()), (4, 2));
}

#[tokio::test]
async fn reading_back_keeps_to_the_runs_limits() {
    let table = filled().await;
    let (target, request) = target(&table, |request| request);
    let flows = [flow(&records(0..1, ""), &request, &[])];
    let limit = UnitLimit { read: Some(300.0), ..UnitLimit::default() };
    let budget = Arc::new(UnitBudget::new(limit, Capacity::default()));
    let limited = RunContext { budget, ..context() };
    let error = read(&*target, &flows, &limited).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::LimitReached);
    let used = limited.meter.capacity().read_units;
    assert!(used <= 300.0 && used > 100.0, "{used}");
    let stopped = context();
    stopped.stop.cancel();
    let error = read(&*target, &flows, &stopped).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Interrupted);
}

#[tokio::test]
async fn what_cannot_be_read_back_says_why() {
    let table = Filled::with(&[("id", "S")], &[], &[]).await;
    let (target, request_of) = target(&table, |request| request);
    for part in [json!({"scan": {"segment": 2, "of": 2}}), json!({"rowid": 7}), json!(null)] {
        let error = target.held(&SlicePart(part), &[], &context()).await.err().unwrap();
        assert_eq!(error.kind(), StoreErrorKind::Mismatch);
    }
    let wrong = WriteRequest { ignore: vec!["a[x]".into()], ..request_of };
    let error = read(&*target, &[flow(&records(0..1, ""), &wrong, &[])], &context()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unsupported);
    assert!(error.to_string().contains("\"a[x]\" is no path"), "{error}");
    assert!(read(&*target, &[], &context()).await.unwrap().iter().all(|batch| batch.records.is_empty()));

    let missing = store_at(&endpoint()).target(request(&table_name(), Mode::Upsert)).unwrap();
    for error in [
        missing.held_parts(1).await.unwrap_err(),
        missing.look_up(&records(0..1, ""), &context()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StoreErrorKind::NotFound);
    }
}
