use crate::fixture::{Table, created, reason, records, request, skipped, two_columns};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use std::sync::Arc;
use whimbrel_model::{SliceId, Stage};
use whimbrel_store::conformance::context;
use whimbrel_store::{Mode, Outcome, Store, WriteBatch, WriteRequest};

#[tokio::test]
async fn insert_rejects_what_exists() {
    let table = Table::new().await;
    assert_eq!(created(&table.write(Mode::Insert, &records(0..30, "one")).await), 30);
    let again = table.write(Mode::Insert, &records(20..40, "two")).await;
    assert_eq!(created(&again), 10);
    for outcome in &again[..10] {
        assert!(reason(outcome).contains("exists already"));
    }
}

#[tokio::test]
async fn skip_existing_counts_right() {
    let table = Table::new().await;
    assert_eq!(created(&table.write(Mode::SkipExisting, &records(0..60, "one")).await), 60);
    let outcomes = table.write(Mode::SkipExisting, &records(40..100, "one")).await;
    assert_eq!(
        (skipped(&outcomes), created(&outcomes)),
        (20, 40),
        "equal content is skipped where nothing is contested"
    );
    assert_eq!(table.count().await, 100);
}

#[tokio::test]
async fn contested_records_are_ours_only_where_they_are_equal() {
    let table = Table::new().await;
    table.write(Mode::Upsert, &records(0..30, "ours")).await;
    table.write(Mode::Upsert, &records(30..60, "theirs")).await;
    let outcome =
        table.write_in(Mode::SkipExisting, &records(0..90, "ours"), true, &context()).await.unwrap();
    assert_eq!((created(&outcome.outcomes), skipped(&outcome.outcomes)), (60, 30));
    let outcome = table.write_in(Mode::Insert, &records(0..90, "theirs"), true, &context()).await.unwrap();
    assert_eq!(created(&outcome.outcomes), 30);
    assert!(reason(&outcome.outcomes[0]).contains("exists already"));
}

#[tokio::test]
async fn a_second_record_of_a_key_is_a_reject() {
    let table = Table::new().await;
    for mode in [Mode::Upsert, Mode::SkipExisting] {
        let (first, second) = (records(0..3, "first"), records(1..2, "second"));
        let outcomes =
            table.write(mode, &concat_batches(first.schema_ref(), [&first, &second]).unwrap()).await;
        assert!(reason(&outcomes[3]).contains("a second record with the key (\"id\")"), "{outcomes:?}");
        assert!(!outcomes[..3].iter().any(|outcome| matches!(outcome, Outcome::Rejected(_))), "{outcomes:?}");
    }
}

#[tokio::test]
async fn a_record_too_wide_for_a_statement_is_put_with_a_condition() {
    let table = Table::new().await;
    let ids: ArrayRef = Arc::new(StringArray::from(vec!["wide", "wider"]));
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let columns = (0..150).map(|number| (format!("column{number}"), Arc::clone(&text)));
    let wide = RecordBatch::try_from_iter(std::iter::once(("id".to_owned(), ids)).chain(columns)).unwrap();
    assert_eq!(created(&table.write(Mode::SkipExisting, &wide).await), 2);
    assert_eq!(skipped(&table.write(Mode::SkipExisting, &wide).await), 2);
    let contested = table.write_in(Mode::Insert, &wide, true, &context()).await.unwrap();
    assert_eq!(created(&contested.outcomes), 2);
}

#[tokio::test]
async fn large_batches_are_cut_by_size() {
    let table = Table::new().await;
    // 50 items of 390 KB: 25 of them would be too much for one request by our measure.
    let batch = two_columns((0..50).map(|id| id.to_string()).collect(), vec!["x".repeat(390 * 1024); 50]);
    let outcome = table.write_in(Mode::Upsert, &batch, false, &context()).await.unwrap();
    assert_eq!((created(&outcome.outcomes), table.count().await), (50, 50), "counted over several pages");
    assert!(outcome.bytes > 50 * 390 * 1024, "{}", outcome.bytes);
    assert!(outcome.capacity.write_units >= 50.0 * 390.0, "{:?}", outcome.capacity);
}

#[tokio::test]
async fn the_estimate_is_what_the_server_charges() {
    let table = Table::new().await;
    let batch = two_columns(vec!["a".into(), "b".into()], vec!["x".repeat(1000), "x".repeat(1100)]);
    let encoded = table.target(Mode::Upsert).encode(&batch, &context());
    let estimate: f64 = encoded.iter().map(|encoded| encoded.as_ref().unwrap().capacity.write_units).sum();
    let context = context();
    let outcome = table.write_in(Mode::Upsert, &batch, false, &context).await.unwrap();
    assert!((estimate - 3.0).abs() < f64::EPSILON, "{estimate}");
    assert!((outcome.capacity.write_units - estimate).abs() < f64::EPSILON, "{:?}", outcome.capacity);
    assert_eq!(context.meter.capacity(), outcome.capacity);
}

#[tokio::test]
async fn refusals_come_before_sending() {
    let table = Table::new().await;
    let outcomes = table.write(Mode::Upsert, &two_columns(vec![String::new()], vec!["t".into()])).await;
    assert!(matches!(&outcomes[0], Outcome::Rejected(refusal) if refusal.stage == Stage::Convert));
}

#[tokio::test]
async fn ignored_places_do_not_tell_records_apart() {
    let table = Table::new().await;
    let document = |title: &str, at: &str| {
        let text = format!(r#"{{"questions": [{{"title": "{title}", "updated_at": "{at}"}}]}}"#);
        two_columns(vec!["a".into()], vec![text])
    };
    let forms = || [("text".to_owned(), "map".to_owned())].into();
    let ignore = vec!["text.questions[*].updated_at".to_owned()];
    let asked = |mode| WriteRequest { forms: forms(), ignore: ignore.clone(), ..request(&table.name, mode) };
    let write = async |mode, records: RecordBatch| {
        let target = table.store.target(asked(mode)).unwrap();
        target.plan(records.schema_ref()).await.unwrap();
        let writer = target.writer(&SliceId::new("test.0000"), true, &context()).await.unwrap();
        let batch = WriteBatch { records, seq: 1, cursor: None, contested: true, guards: None };
        writer.write(batch).await.unwrap().outcomes.remove(0)
    };
    let first = write(Mode::Upsert, document("t", "then")).await;
    let Outcome::Created(fingerprint) = first else { panic!("{first:?}") };
    assert_eq!(write(Mode::SkipExisting, document("t", "now")).await, Outcome::Created(fingerprint), "ours");
    assert_eq!(write(Mode::SkipExisting, document("other", "then")).await, Outcome::Skipped);
}
