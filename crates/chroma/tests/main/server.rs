//! Collections of servers: the contract, values, and what servers and others do meanwhile.

use crate::fixture::{EVERYTHING, Fixture, read, request, store};
use crate::served::{Held, Loss, Served, Trouble, records_of};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_chroma::{ChromaConfig, ChromaStore};
use whimbrel_store::{ReadBatch, Source, Store as _, StoreErrorKind, conformance};

fn config(url: &str, more: Value) -> ChromaConfig {
    let mut parts = Map::from_iter([("url".to_owned(), json!(url))]);
    if let Value::Object(more) = more {
        parts.extend(more);
    }
    ChromaConfig::from_value(&Value::Object(parts)).expect("a configuration")
}

fn store_of(served: &Served) -> ChromaStore {
    store(config(&served.url, Value::Null))
}

fn docs(store: &ChromaStore) -> Arc<dyn Source> {
    store.source(request("docs", &EVERYTHING)).expect("a source")
}

/// Ids that are awkward everywhere, and embeddings of three floats.
fn held(count: usize) -> Vec<Held> {
    let one = |number: usize| {
        let id = match number % 4 {
            0 => format!("ü\u{0} {number} \"/'"),
            _ => format!("id-{}", (number * 7919) % 100_003),
        };
        #[expect(clippy::cast_precision_loss, reason = "any float will do")]
        let float = number as f32;
        Held {
            id,
            document: (!number.is_multiple_of(3)).then(|| format!("text {number}")),
            uri: number.is_multiple_of(5).then(|| format!("file:///{number}")),
            metadata: number.is_multiple_of(2).then(|| json!({ "n": number, "f": 1.0, "list": ["a", "b"] })),
            embedding: Some(vec![float / 3.0, -float, f32::MIN_POSITIVE]),
        }
    };
    (0..count).map(one).collect()
}

/// Records by id, whatever batches they came in, and the reasons of those that do not go on.
fn by_id(batches: &[ReadBatch]) -> (BTreeMap<String, Value>, BTreeMap<String, String>) {
    let (mut records, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for batch in batches {
        let row = |row: usize| conformance::row(&batch.records, row);
        let id = |row: &Map<String, Value>| row["id"].as_str().expect("an id").to_owned();
        for unreadable in &batch.unreadable {
            refused.insert(id(&row(unreadable.row)), unreadable.reason.clone());
        }
        for number in 0..batch.records.num_rows() {
            let record = row(number);
            assert!(records.insert(id(&record), Value::Object(record)).is_none(), "a record came twice");
        }
    }
    (records, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_for_servers_of_both_generations() {
    for generation in [1, 2] {
        let served = Served::start(generation, "l2", held(345)).await;
        let store = store_of(&served);
        store.begin_epoch().await.expect("an epoch");
        let source = store.source(request("docs", &[])).expect("a source");
        conformance::source(&*source, 345).await;
        assert!(store.check().await.iter().all(|finding| finding.ok));
        assert_eq!(
            store.identity().await.expect("an identity").as_str(),
            format!("chroma:{} tenant default_tenant database default_database", served.url)
        );
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gives_what_its_directory_holds() {
    let mut count = 0;
    for (generation, name) in [(1, "0.4.24"), (2, "1.5.9")] {
        let fixture = Fixture::unpack(name);
        for truth in fixture.truth()["collections"].as_array().expect("collections") {
            let word = |name: &str| truth[name].as_str().expect("a text");
            let full = format!("{}/{}/{}", word("tenant"), word("database"), word("name"));
            let directory = fixture.store();
            let source = directory.source(request(&full, &EVERYTHING[..5])).expect("a source");
            let (expected, _) = by_id(&read(&source).await.expect("the directory is read"));
            let finite = |one: &Held| one.embedding.iter().flatten().all(|float| float.is_finite());
            let records: Vec<_> = records_of(truth).into_iter().filter(finite).collect();
            // JSON holds no infinities, and a server gives null for one.
            let whole =
                |one: &&Held| one.metadata.as_ref().is_none_or(|all| !all.to_string().contains("null"));
            let ids: Vec<_> = records.iter().filter(whole).map(|one| one.id.clone()).collect();
            let metric = ["l2", "cosine", "ip"].into_iter().find(|one| *one == word("space")).expect("known");
            let served = Served::start(generation, metric, records).await;
            let store = store_of(&served);
            let source = store.source(request("docs", &EVERYTHING[..5])).expect("a source");
            let description = source.describe().await.expect("a description");
            let field = description.schema.field_with_name("embedding").expect("embeddings");
            assert_eq!(field.metadata().get("whimbrel:metric").map(String::as_str), Some(metric));
            let (found, _) = by_id(&read(&source).await.expect("the server is read"));
            for id in &ids {
                assert_eq!(found.get(id), expected.get(id), "{name} {full} {id:?}");
            }
            count += ids.len();
        }
    }
    assert!(count > 2000, "{count}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_shows_the_metric_that_the_metadata_have_lost() {
    for metric in ["l2", "cosine", "ip"] {
        let served = Served::start(1, metric, held(10).split_off(1)).await;
        served.holding().says_metric = false;
        let description = docs(&store_of(&served)).describe().await.expect("a description");
        let field = description.schema.field_with_name("embedding").expect("embeddings");
        assert_eq!(field.metadata().get("whimbrel:metric").map(String::as_str), Some(metric));
        assert!(
            description.notes.iter().any(|note| note.contains("a search has shown it")),
            "{:?}",
            description.notes
        );
    }
    let served = Served::start(1, "ip", Vec::new()).await;
    served.holding().says_metric = false;
    let description = docs(&store_of(&served)).describe().await.expect("a description");
    assert!(description.notes[0].contains("no embedding yet, metric l2"), "{:?}", description.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_trouble_is_asked_again() {
    let served = Served::start(2, "l2", held(500)).await;
    let source = docs(&store_of(&served));
    let expected = by_id(&read(&source).await.expect("quiet"));
    let parts = source.slices(1).await.expect("one slice");
    let context = conformance::context();
    for troubles in [
        [Trouble::Status(429), Trouble::CutOff, Trouble::Status(503)],
        [Trouble::Status(500), Trouble::CutOff, Trouble::Status(500)],
    ] {
        served.holding().troubles.extend(troubles);
        let stream = source.read(&parts[0], None, &context).await.expect("readable");
        let batches: Vec<ReadBatch> = futures::TryStreamExt::try_collect(stream).await.expect("all arrives");
        assert_eq!(by_id(&batches), expected);
        assert!(served.holding().troubles.is_empty());
    }
    assert!(context.meter.retries() >= 3 && context.meter.throttles() == 1);

    // One that stays in trouble is an error that can be tried again later.
    served.holding().troubles.extend([Trouble::Status(503); 100]);
    let error = read(&source).await.expect_err("busy all the time");
    assert_eq!(error.kind(), StoreErrorKind::Overloaded);
    // What was cut off is no answer.
    served.holding().troubles.clear();
    served.holding().troubles.extend([Trouble::CutOff; 100]);
    assert_eq!(read(&source).await.expect_err("cut off").kind(), StoreErrorKind::Unreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn embeddings_that_the_server_has_lost_are_named_by_record() {
    for loss in [Loss::Fails, Loss::GivesTooFew, Loss::GivesNull] {
        let mut records = held(300);
        for number in [0, 17, 18, 299] {
            records[number].embedding = None;
        }
        let lost: Vec<String> = [0, 17, 18, 299].map(|number| records[number].id.clone()).into();
        let served = Served::start(if loss == Loss::GivesNull { 2 } else { 1 }, "l2", records).await;
        served.holding().loss = loss;
        let (found, refused) = by_id(&read(&docs(&store_of(&served))).await.expect("readable"));
        assert_eq!((found.len(), refused.len()), (300, 4), "{loss:?}");
        for (id, record) in &found {
            assert_eq!(lost.contains(id), record["embedding"].is_null(), "{loss:?} {id:?}");
            assert_eq!(lost.contains(id), record["vector_state"] == "lost", "{loss:?} {id:?}");
        }
        assert!(lost.iter().all(|id| refused[id].contains("lost")), "{refused:?}");
        let kept = store(config(&served.url, json!({ "lost": "null" })));
        let (found, refused) = by_id(&read(&docs(&kept)).await.expect("readable"));
        assert_eq!((found.len(), refused.len()), (300, 0), "{loss:?}");
        assert!(lost.iter().all(|id| found[id]["embedding"].is_null()), "{loss:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_meanwhile_is_found_or_named() {
    let records = held(25_000);
    let staying: Vec<String> = records[12_000..].iter().map(|one| one.id.clone()).collect();
    let served = Served::start(2, "l2", records).await;
    // While ids are listed, somebody deletes in front.
    let mut requests = 0;
    served.holding().meddling = Some(Box::new(move |records, asked| {
        requests += usize::from(asked["ids"].is_null());
        if (2..6).contains(&requests) && asked["ids"].is_null() {
            records.drain(..3000);
        }
    }));
    let source = store_of(&served).source(request("docs", &["document"])).expect("a source");
    let description = source.describe().await.expect("a description");
    assert!(
        description.notes.iter().any(|note| note.contains("somebody writes to it")),
        "{:?}",
        description.notes
    );
    let (found, refused) = by_id(&read(&source).await.expect("readable"));
    assert!(staying.iter().all(|id| found.contains_key(id) && !refused.contains_key(id)));
    assert_eq!(u64::try_from(found.len()).expect("few"), description.records.expect("a count"));
    let deleted = refused.values().filter(|reason| reason.contains("deleted from the server")).count();
    assert!(deleted > 0 && deleted == refused.len(), "{deleted} of {}", refused.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_collection_of_the_same_name_is_not_taken_for_the_first() {
    let served = Served::start(2, "l2", held(10)).await;
    let source = docs(&store_of(&served));
    let parts = source.slices(2).await.expect("slices");
    served.holding().id = "5b8e3a3c-0000-4000-8000-000000000002".to_owned();
    let Err(error) = source.read(&parts[0], None, &conformance::context()).await else {
        panic!("another collection is read");
    };
    assert_eq!(error.kind(), StoreErrorKind::Drift);
    assert!(error.to_string().contains("docs"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_let_in_is_told_and_secrets_stay_out() {
    let served = Served::start(2, "l2", held(5)).await;
    for (header, value, parts) in [
        ("x-chroma-token", "hush hush", json!({ "token": "hush hush" })),
        ("authorization", "Bearer hush", json!({ "token": "hush" })),
        ("authorization", "Basic dXM6aHVzaA==", json!({ "user": "us", "password": "hush" })),
    ] {
        served.holding().login = Some((header, value));
        let inside = store(config(&served.url, parts));
        assert_eq!(by_id(&read(&docs(&inside)).await.expect("let in")).0.len(), 5, "{header}");
        let outside = store(config(&served.url, json!({ "token": "other-hush" })));
        let error = read(&docs(&outside)).await.expect_err("not let in");
        assert_eq!(error.kind(), StoreErrorKind::Unauthenticated);
        assert_eq!(outside.identity().await.expect_err("not let in").kind(), StoreErrorKind::Unauthenticated);
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let said = format!("{error} {cause} {error:?} {}", outside.location());
        assert!(!said.contains("other-hush") && error.hint().expect("a hint").contains("token"), "{said}");
        assert!(cause.contains("401") && cause.len() < 400, "a long refusal is cut: {cause}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_with_what_is() {
    for generation in [1, 2] {
        let served = Served::start(generation, "l2", held(5)).await;
        let store = store_of(&served);
        let source = store.source(request("dogs", &[])).expect("a source");
        let error = source.describe().await.expect_err("no such collection");
        assert_eq!(error.kind(), StoreErrorKind::NotFound);
        assert!(
            error.to_string().contains("default_tenant/default_database/dogs\"; there are docs"),
            "{error}"
        );
        assert!(error.hint().expect("a hint").contains("`docs`"));
        let source = store.source(request("elsewhere/docs", &[])).expect("a source");
        let said = source.describe().await.expect_err("no such place").to_string();
        assert!(said.contains("default_tenant/elsewhere/docs"), "{said}");
        let unknown = store.source(request("docs", &["nonsense"])).expect("a source");
        let error = unknown.describe().await.expect_err("no such metadata");
        assert!(error.to_string().contains("`nonsense`; there are id, document, uri"), "{error}");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let error = store(config(&nobody, Value::Null)).identity().await.expect_err("nobody listens");
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    let other = Served::start(2, "l2", Vec::new()).await;
    let error = store(config(&format!("{}/elsewhere", other.url), Value::Null)).identity().await;
    assert_eq!(error.expect_err("no Chroma").kind(), StoreErrorKind::Protocol);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_as_large_as_batches_and_no_larger() {
    let wide =
        |number: usize| Held { embedding: Some(vec![0.123_456_79; 2000]), ..held(number + 1).remove(number) };
    let served = Served::start(2, "l2", (0..200).map(wide).collect()).await;
    let source = docs(&store_of(&served));
    assert_eq!(by_id(&read(&source).await.expect("readable")).0.len(), 200);
    let most = served.holding().asked.iter().filter_map(|asked| asked["ids"].as_array().map(Vec::len)).max();
    assert!(most.is_some_and(|most| (20..=110).contains(&most)), "{most:?}");
    // The oldest servers are asked for one record at a time, as they mix embeddings up.
    served.holding().asked.clear();
    served.holding().version = "0.4.3";
    let source = docs(&store_of(&served));
    assert_eq!(by_id(&read(&source).await.expect("readable")).0.len(), 200);
    let most = served.holding().asked.iter().filter_map(|asked| asked["ids"].as_array().map(Vec::len)).max();
    assert_eq!(most, Some(1));
}
