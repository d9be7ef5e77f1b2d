use crate::fixture::{Table, created, endpoint, patient, reason, records, skipped, store_at, two_columns};
use crate::proxy::{Act, Proxy};
use std::time::{Duration, Instant};
use whimbrel_model::SliceId;
use whimbrel_store::conformance::context;
use whimbrel_store::{Mode, Outcome, Store, StoreErrorKind, WriteBatch};

const THROTTLED: Act = Act::Refuse { status: 400, code: "ProvisionedThroughputExceededException" };

async fn behind(script: Vec<(&'static str, Act)>) -> (Proxy, Table) {
    let proxy = Proxy::start(&endpoint(), script).await;
    let table = Table::behind(&proxy.url).await;
    (proxy, table)
}

#[tokio::test]
async fn what_is_given_back_is_sent_again() {
    let script = vec![
        ("BatchWriteItem", Act::GiveBack(7)),
        ("BatchWriteItem", Act::GiveBack(25)),
        ("BatchWriteItem", Act::GiveBack(1)),
    ];
    let (proxy, table) = behind(script).await;
    let context = context();
    let outcome = table.write_in(Mode::Upsert, &records(0..100, "t"), false, &context).await.unwrap();
    assert_eq!(created(&outcome.outcomes), 100);
    assert_eq!(table.count().await, 100);
    assert_eq!(proxy.seen("BatchWriteItem"), 7, "four requests, three of them again");
    assert_eq!((context.meter.throttles(), context.meter.retries()), (3, 3));
}

#[tokio::test]
async fn throttled_requests_are_sent_again() {
    for (mode, operation) in [(Mode::Upsert, "BatchWriteItem"), (Mode::SkipExisting, "BatchExecuteStatement")]
    {
        let (proxy, table) =
            behind(vec![(operation, THROTTLED), (operation, THROTTLED), (operation, THROTTLED)]).await;
        assert_eq!(created(&table.write(mode, &records(0..50, "t")).await), 50);
        assert_eq!(proxy.seen(operation), 5);
    }
}

#[tokio::test]
async fn throttled_statements_alone_are_sent_again() {
    let (proxy, table) = behind(vec![("BatchExecuteStatement", Act::GiveBack(5))]).await;
    table.write(Mode::Upsert, &records(0..10, "theirs")).await;
    let outcomes = table.write(Mode::SkipExisting, &records(0..25, "ours")).await;
    assert_eq!((skipped(&outcomes), created(&outcomes)), (10, 15));
    assert_eq!(proxy.seen("BatchExecuteStatement"), 2);
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_reading() {
    for act in [Act::DropAnswer, Act::FailAfter] {
        for mode in [Mode::SkipExisting, Mode::Insert] {
            let (proxy, table) = behind(vec![("BatchExecuteStatement", act.clone())]).await;
            store_write(&table, &records(0..5, "theirs")).await;
            let outcomes = table.write(mode, &records(0..25, "ours")).await;
            assert_eq!(created(&outcomes), 20, "{act:?}: what the lost request wrote is ours");
            let left = if mode == Mode::SkipExisting {
                skipped(&outcomes)
            } else {
                outcomes[..5].iter().map(reason).count()
            };
            assert_eq!(left, 5, "{act:?}: what was there before is not");
            assert_eq!((proxy.seen("BatchExecuteStatement"), proxy.seen("BatchGetItem")), (2, 1));
        }
    }
}

/// Writes past the proxy.
async fn store_write(table: &Table, batch: &arrow::array::RecordBatch) {
    let direct = Table { store: store_at(&endpoint()), name: table.name.clone() };
    direct.write(Mode::Upsert, batch).await;
}

#[tokio::test]
async fn a_lost_answer_of_an_upsert_is_sent_again() {
    let (proxy, table) = behind(vec![("BatchWriteItem", Act::DropAnswer)]).await;
    assert_eq!(created(&table.write(Mode::Upsert, &records(0..25, "t")).await), 25);
    assert_eq!((proxy.seen("BatchWriteItem"), table.count().await), (2, 25));
}

#[tokio::test]
async fn a_poison_item_is_rejected_alone() {
    for (mode, operation) in [(Mode::Upsert, "BatchWriteItem"), (Mode::SkipExisting, "BatchExecuteStatement")]
    {
        let (proxy, table) = behind(Vec::new()).await;
        proxy.poison("poisonous");
        let texts = (0..50)
            .map(|id| if id == 17 { format!("poisonous {}", "x".repeat(1000)) } else { "good".into() });
        let outcomes = table
            .write(mode, &two_columns((0..50).map(|id| id.to_string()).collect(), texts.collect()))
            .await;
        assert_eq!(created(&outcomes), 49);
        let reason = reason(&outcomes[17]);
        assert!(reason.contains("ValidationException") && reason.chars().count() < 280, "{reason}");
        assert_eq!(table.count().await, 49);
        assert!(proxy.seen(operation) < 14, "found by halving, not one by one: {}", proxy.seen(operation));
    }
}

#[tokio::test]
async fn patience_ends_where_nothing_moves() {
    let (proxy, table) = behind(Vec::new()).await;
    proxy.always("BatchWriteItem", THROTTLED);
    let began = Instant::now();
    let error = table
        .write_in(Mode::Upsert, &records(0..50, "t"), false, &patient(Duration::from_millis(300)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Overloaded);
    assert!(error.to_string().contains("no progress"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_stopped_run_waits_for_nothing() {
    let (proxy, table) = behind(Vec::new()).await;
    proxy.always("BatchWriteItem", THROTTLED);
    let context = patient(Duration::from_secs(600));
    let stop = context.stop.clone();
    let meter = std::sync::Arc::clone(&context.meter);
    let batch = records(0..50, "t");
    let stopping = async {
        while meter.throttles() == 0 {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    };
    let (outcome, ()) = tokio::join!(table.write_in(Mode::Upsert, &batch, false, &context), stopping);
    assert_eq!(outcome.unwrap_err().kind(), StoreErrorKind::Interrupted);
}

#[tokio::test]
async fn what_time_does_not_heal_is_not_tried_again() {
    for (code, kind) in [
        ("ExpiredTokenException", StoreErrorKind::Unauthenticated),
        ("AccessDeniedException", StoreErrorKind::Forbidden),
        ("ResourceNotFoundException", StoreErrorKind::NotFound),
    ] {
        let (proxy, table) = behind(Vec::new()).await;
        proxy.always("BatchWriteItem", Act::Refuse { status: 400, code });
        let error = table.write_in(Mode::Upsert, &records(0..10, "t"), false, &context()).await.unwrap_err();
        assert_eq!((error.kind(), proxy.seen("BatchWriteItem")), (kind, 1), "{code}");
        if kind == StoreErrorKind::Unauthenticated {
            assert!(error.hint().unwrap().contains("AWS_PROFILE"));
        }
    }
}

#[tokio::test]
async fn writes_of_one_writer_may_overlap() {
    let (_proxy, table) =
        behind(vec![("BatchWriteItem", THROTTLED), ("BatchWriteItem", Act::GiveBack(3))]).await;
    let writer =
        table.target(Mode::Upsert).writer(&SliceId::new("test.0000"), true, &context()).await.unwrap();
    let batches = (0..4).map(|seq| WriteBatch {
        records: records(seq * 60..(seq + 1) * 60, "t"),
        seq: seq as u64 + 1,
        cursor: None,
        contested: false,
        guards: None,
    });
    let written = futures::future::try_join_all(batches.map(|batch| writer.write(batch))).await.unwrap();
    assert!(
        written
            .iter()
            .all(|outcome| outcome.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Created(_))))
    );
    assert_eq!(table.count().await, 240);
}

#[tokio::test]
async fn counting_goes_on_through_throttling() {
    let (proxy, table) =
        behind(vec![("Scan", THROTTLED), ("Scan", Act::Refuse { status: 500, code: "InternalServerError" })])
            .await;
    store_write(&table, &records(0..40, "t")).await;
    assert_eq!(table.count().await, 40);
    assert_eq!(proxy.seen("Scan"), 6, "four segments, two of them again");
}

#[tokio::test]
async fn nobody_there_is_one_clear_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let store = store_at(&format!("http://{}", listener.local_addr().unwrap()));
    drop(listener);
    let began = Instant::now();
    let error = store.identity().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    assert!(error.hint().is_some() && std::error::Error::source(&error).is_some(), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(store.check().await.iter().any(|finding| !finding.ok));
}
