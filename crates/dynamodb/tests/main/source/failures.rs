use super::{Filled, all, lines};
use crate::fixture::{endpoint, store_at};
use crate::proxy::{Act, Proxy};
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use whimbrel_model::{Capacity, Cursor, SlicePart};
use whimbrel_store::conformance::context;
use whimbrel_store::{ReadRequest, Relation, RunContext, Store, StoreErrorKind, UnitBudget, UnitLimit};

fn items(count: usize, bytes: usize) -> Vec<Value> {
    (0..count).map(|id| json!({"id": {"S": format!("k{id:04}")}, "text": {"S": "x".repeat(bytes)}})).collect()
}

async fn whole(source: &dyn whimbrel_store::Source) -> SlicePart {
    source.slices(1).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_bad_day_of_the_server_changes_nothing() {
    let table = Filled::with(&[("id", "S")], &[], &items(60, 40_000)).await;
    let throttled = || Act::Refuse { status: 400, code: "ProvisionedThroughputExceededException" };
    let script = vec![
        ("Scan", throttled()),
        ("Scan", Act::DropAnswer),
        ("Scan", Act::FailAfter),
        ("Scan", throttled()),
    ];
    let proxy = Proxy::start(&endpoint(), Vec::new()).await;
    let source = store_at(&proxy.url).source(table.request(&["text"])).unwrap();
    let part = whole(&*source).await;
    // The script begins behind the first look, which has a patience of its own.
    source.describe().await.unwrap();
    let scripted = Proxy::start(&endpoint(), script).await;
    let source = store_at(&scripted.url).source(table.request(&["text"])).unwrap();
    let context = context();
    let rows = lines(&all(&*source, &part, None, &context).await.unwrap());
    assert_eq!(rows.len(), 60);
    assert_eq!((context.meter.retries(), context.meter.throttles()), (4, 2));
}

#[tokio::test]
async fn what_came_before_a_failure_is_handed_over() {
    let table = Filled::with(&[("id", "S")], &[], &items(60, 40_000)).await;
    let proxy = Proxy::start(&endpoint(), Vec::new()).await;
    let request = ReadRequest { batch_records: 10, ..table.request(&["text"]) };
    let source = store_at(&proxy.url).source(request).unwrap();
    let part = whole(&*source).await;
    let context = RunContext { retry_for: Duration::ZERO, ..context() };
    let mut stream = source.read(&part, None, &context).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    proxy.always("Scan", Act::Refuse { status: 503, code: "ServiceUnavailable" });
    let (mut seen, mut cursor, mut failure) = (10, first.cursor, None);
    while let Some(next) = stream.next().await {
        match next {
            Ok(batch) => (seen, cursor) = (seen + batch.records.num_rows(), batch.cursor),
            Err(error) => failure = Some(error),
        }
    }
    assert_eq!(failure.unwrap().kind(), StoreErrorKind::Overloaded);
    assert!((20..60).contains(&seen), "a page at the least, and not all of them: {seen}");
    let source = table.source(table.request(&["text"]));
    let rest = lines(&all(&*source, &part, cursor.as_ref(), &context).await.unwrap());
    assert_eq!(seen + rest.len(), 60, "and the cursor goes on there");
}

#[tokio::test]
async fn the_units_of_a_run_are_a_limit() {
    let table = Filled::with(&[("id", "S")], &[], &items(200, 20_000)).await;
    let source = table.source(table.request(&["text"]));
    let part = whole(&*source).await;
    let unlimited = context();
    assert_eq!(lines(&all(&*source, &part, None, &unlimited).await.unwrap()).len(), 200);
    let needed = unlimited.meter.capacity().read_units;
    assert!((400.0..700.0).contains(&needed), "half a unit for each 4 KB: {needed}");
    for limit in [needed / 2.0, 40.0] {
        let limits = UnitLimit { read: Some(limit), ..UnitLimit::default() };
        let budget = Arc::new(UnitBudget::new(limits, Capacity::default()));
        let context = RunContext { budget, ..context() };
        let mut stream = source.read(&part, None, &context).await.unwrap();
        let (mut seen, mut cursor, mut failure) = (0, None, None);
        while let Some(next) = stream.next().await {
            match next {
                Ok(batch) => (seen, cursor) = (seen + batch.records.num_rows(), batch.cursor),
                Err(error) => failure = Some(error),
            }
        }
        assert_eq!(failure.unwrap().kind(), StoreErrorKind::LimitReached);
        let used = context.meter.capacity().read_units;
        assert!(used <= limit && used > limit / 3.0, "{used} of {limit} units");
        let rest = lines(&all(&*source, &part, cursor.as_ref(), &unlimited).await.unwrap());
        assert_eq!(seen + rest.len(), 200);
    }
}

#[tokio::test]
async fn a_stopping_run_asks_for_nothing_more() {
    let table = Filled::with(&[("id", "S")], &[], &items(3, 10)).await;
    let source = table.source(table.request(&[]));
    let part = whole(&*source).await;
    let stop = CancellationToken::new();
    stop.cancel();
    let context = RunContext { stop, ..context() };
    let error = all(&*source, &part, None, &context).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Interrupted);
}

#[tokio::test]
async fn what_dynamodb_does_not_have_is_said() {
    let table = Filled::with(&[("id", "S")], &[], &items(3, 10)).await;
    let store = store_at(&endpoint());
    let refused = |request: ReadRequest| store.source(request).err().unwrap().to_string();
    let query = ReadRequest { relation: Relation::Query("SELECT 1".into()), ..table.request(&[]) };
    assert!(refused(query).contains("use `table` and `where`"));
    let sliced = ReadRequest { slice_by: vec!["id".into()], ..table.request(&[]) };
    assert!(refused(sliced).contains("`slice_by`"));
    let missing = ReadRequest { relation: Relation::Table("no_such_table".into()), ..table.request(&[]) };
    let error = store.source(missing).unwrap().describe().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotFound);
    let wrong = ReadRequest { columns: [("a".into(), "varchar".into())].into(), ..table.request(&["a"]) };
    assert_eq!(
        store.source(wrong).unwrap().describe().await.unwrap_err().kind(),
        StoreErrorKind::Unsupported
    );

    let source = table.source(table.request(&[]));
    let part = whole(&*source).await;
    for cursor in [json!({"after": {}}), json!({"after": {"id": {"S": 1}}}), json!(7)] {
        let error = all(&*source, &part, Some(&Cursor(cursor)), &context()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Mismatch);
    }
    for part in
        [json!({"query": {"index": null, "key": {"S": "k"}}}), json!({"scan": {"segment": 2, "of": 2}})]
    {
        let error = all(&*source, &SlicePart(part), None, &context()).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Mismatch);
    }
}
