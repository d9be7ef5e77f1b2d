//! Reading back: what a table holds has the fingerprints that its records were written with.

use crate::server::{Fixture, on_each_server, read_all};
use crate::target::{batch, people, request, target, words, write};
use crate::types::{CASES, DEFINITIONS, has_type};
use arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use futures::{FutureExt as _, TryStreamExt as _};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use whimbrel_model::Fingerprint;
use whimbrel_store::conformance::context;
use whimbrel_store::{
    HeldBatch, HeldFlow, HeldRecord, KeyPattern, Mode, Store as _, StoreErrorKind, Target, WriteRequest,
};

/// What a table holds, over so many parts.
async fn held(target: &Arc<dyn Target>, flows: &[HeldFlow], parts: usize) -> Vec<HeldBatch> {
    let mut all = Vec::new();
    for part in target.held_parts(parts).await.unwrap_or_else(|error| panic!("{error}: {error:?}")) {
        let stream = target.held(&part, flows, &context()).await;
        let stream = stream.unwrap_or_else(|error| panic!("{error}: {error:?}"));
        all.extend(stream.try_collect::<Vec<_>>().await.unwrap_or_else(|error| panic!("{error}: {error:?}")));
    }
    all
}

fn records(batches: &[HeldBatch]) -> Vec<HeldRecord> {
    batches.iter().flat_map(|batch| batch.records.clone()).collect()
}

/// The fingerprints of what a flow holds, in the order of their keys.
fn sorted(records: impl IntoIterator<Item = Fingerprint>) -> Vec<(u128, u128)> {
    let mut all: Vec<_> = records.into_iter().map(|print| (print.key, print.record)).collect();
    all.sort_unstable();
    all
}

fn flow(request: &WriteRequest, records: &RecordBatch) -> HeldFlow {
    HeldFlow { constants: Vec::new(), columns: records.schema(), request: request.clone() }
}

fn expected(target: &Arc<dyn Target>, records: &RecordBatch) -> Vec<Fingerprint> {
    let prints = target.fingerprints(records, &context());
    prints.into_iter().map(|print| print.unwrap_or_else(|refusal| panic!("{refusal:?}"))).collect()
}

/// Writes records, and finds them again in both ways.
async fn comes_back(fixture: &Fixture, request: WriteRequest, records: &RecordBatch) {
    let target = target(fixture, request.clone());
    target.plan(records.schema_ref()).await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let written = words(&write(&target, true, batch(records.clone(), 1)).await);
    assert!(written.iter().all(|word| word == "created" || word == "updated"), "{written:?}");
    assert_back(&target, &request, records).await;
}

async fn assert_back(target: &Arc<dyn Target>, request: &WriteRequest, records: &RecordBatch) {
    let wanted = expected(target, records);
    let found = self::records(&held(target, &[flow(request, records)], 3).await);
    assert!(found.iter().all(|record| record.flow == Some(0)));
    let found: Vec<_> = found.into_iter().map(|record| record.fingerprint).collect();
    let values = || format!("{}: {}", records.schema_ref().field(1), shown(records));
    assert_eq!(sorted(found), sorted(wanted.clone()), "{}", values());
    let looked = target.look_up(records, &context()).await.unwrap_or_else(|error| panic!("{error}: {error:?}"));
    let found = looked.rows.iter().map(|row| looked.held.records[row.expect("it is there")].fingerprint);
    assert_eq!(found.collect::<Vec<_>>(), wanted, "{}", values());
}

fn shown(records: &RecordBatch) -> String {
    let rows = 0..records.num_rows().min(20);
    rows.map(|row| format!("{:?}", whimbrel_store::conformance::row(records, row))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_comes_back_as_it_was_written() {
    on_each_server(|fixture| {
        async {
            fixture.run(DEFINITIONS).await;
            let has_xml = fixture.store.execute_script("SELECT '<a/>'::xml").await.is_ok();
            for (type_name, values, random) in CASES {
                if (type_name == "xml" && !has_xml) || !has_type(fixture, type_name).await {
                    continue;
                }
                let literals =
                    values.iter().map(|value| format!("('{}'::{type_name})", value.replace('\'', "''")));
                fixture
                    .run(&format!(
                        "DROP TABLE IF EXISTS one, two; CREATE TABLE one (n int PRIMARY KEY, v {type_name}); \
                         INSERT INTO one SELECT row_number() OVER (), v FROM (VALUES {}) AS t(v); \
                         INSERT INTO one SELECT 1000 + n, {random} FROM generate_series(1, 40) AS n; \
                         INSERT INTO one VALUES (5000, NULL); CREATE TABLE two (LIKE one INCLUDING ALL)",
                        literals.collect::<Vec<_>>().join(", ")
                    ))
                    .await;
                let batches = read_all(&*fixture.table("one"), 1).await;
                let batches: Vec<_> = batches.into_iter().map(|batch| batch.records).collect();
                let records = concat_batches(batches[0].schema_ref(), &batches).expect("one schema");
                let request = WriteRequest { allow_lossy: vec!["v".to_owned()], ..request("two", Mode::Upsert) };
                comes_back(fixture, request, &records).await;
            }
        }
        .boxed_local()
    })
    .await;
}
