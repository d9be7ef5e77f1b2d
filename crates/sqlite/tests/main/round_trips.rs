//! Whatever is written is held as it was fingerprinted, whatever SQLite makes of values in a column of that type.

use crate::fixture::{Fixture, batch, batch_of, writing};
use crate::target::write;
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use whimbrel_store::{Mode, Outcome, conformance};

const TYPES: [&str; 12] = [
    "INTEGER",
    "REAL",
    "TEXT",
    "NUMERIC",
    "DECIMAL(10,2)",
    "BOOLEAN",
    "JSON",
    "DATETIME",
    "",
    "ANY",
    "STRING",
    "BLOB",
];

fn texts() -> impl Strategy<Value = String> {
    let json = "[0-9]{1,3}|\\{\"a\": ?[0-9]{1,3}\\.?[0-9]{0,2}\\}|\"[0-9]{1,3}\"|true|null";
    let number = "-?[0-9]{1,20}(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?| ?[0-9]{1,3} ?|\\+?\\.?[0-9]{1,3}\\.?|0x[0-9]{1,2}|NaN|-?Infinity|inf";
    prop_oneof![json, number, "\\PC{0,8}|[\\x00\\t 1]{0,4}"]
}

/// How many records arrived; each with the fingerprint of what it was sent as.
async fn arrived(declared: &str, values: ArrayRef) -> Result<usize, TestCaseError> {
    let fixture = Fixture::new(&format!("CREATE TABLE t (id INTEGER PRIMARY KEY, v {declared})"));
    let ids: Vec<i64> = (0..i64::try_from(values.len()).unwrap()).collect();
    let records: RecordBatch =
        batch_of(vec![("id", Arc::new(Int64Array::from(ids)) as ArrayRef), ("v", values)]);
    let target = fixture.target(writing("t", Mode::Insert));
    if target.plan(records.schema_ref()).await.is_err() {
        return Ok(0);
    }
    let outcomes = write(&target, batch(&records, 1)).await;
    let found = target.look_up(&records, &conformance::context()).await.unwrap();
    let mut count = 0;
    for (row, outcome) in outcomes.iter().enumerate() {
        let held = found.rows[row].map(|at| found.held.records[at].fingerprint);
        match outcome {
            Outcome::Created(sent) => {
                count += 1;
                prop_assert_eq!(
                    Some(*sent),
                    held,
                    "{}: {:?}",
                    declared,
                    found.held.contents.record(found.rows[row].unwrap())
                );
            }
            Outcome::Rejected(_) => prop_assert_eq!(None, held, "what was refused is not there"),
            other => prop_assert!(false, "{:?}", other),
        }
    }
    Ok(count)
}

fn run<T: std::fmt::Debug>(
    values: impl Strategy<Value = T>,
    array: impl Fn(Vec<Option<T>>) -> ArrayRef,
    least: usize,
) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(ProptestConfig { cases: 12, ..ProptestConfig::default() });
    let rows = proptest::collection::vec(proptest::option::weighted(0.9, values), 30);
    let arrived_in = std::cell::Cell::new(0);
    runner
        .run(&rows, |rows| {
            let values = array(rows);
            for declared in TYPES {
                arrived_in.set(arrived_in.get() + runtime.block_on(arrived(declared, Arc::clone(&values)))?);
            }
            Ok(())
        })
        .unwrap();
    assert!(arrived_in.get() > least, "most of it arrives somewhere: {}", arrived_in.get());
}

#[test]
fn integers() {
    let values = prop_oneof![any::<i64>(), -3_i64..3, Just(i64::MAX), Just((1 << 53) + 1)];
    run(values, |rows| Arc::new(Int64Array::from(rows)), 1_000);
}

#[test]
fn floats() {
    let values = prop_oneof![
        any::<f64>(),
        Just(-0.0),
        Just(f64::INFINITY),
        (-9_i32..9).prop_map(|n| f64::from(n) / 2.0)
    ];
    run(values, |rows| Arc::new(Float64Array::from(rows)), 1_000);
}

#[test]
fn texts_of_all_kinds() {
    run(texts(), |rows| Arc::new(StringArray::from(rows)), 1_000);
}
