use super::{batches, by_key, expected, flow, held, target, write};
use crate::source::Filled;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use serde_json::{Value, json};
use std::sync::Arc;
use whimbrel_store::WriteRequest;
use whimbrel_store::conformance::context;

/// Records of text columns.
fn rows(columns: &[&str], rows: &[&[&str]]) -> RecordBatch {
    let column = |(number, name): (usize, &&str)| {
        let values: Vec<_> = rows.iter().map(|row| row[number]).collect();
        ((*name).to_owned(), Arc::new(StringArray::from(values)) as ArrayRef, true)
    };
    RecordBatch::try_from_iter_with_nullable(columns.iter().enumerate().map(column)).unwrap()
}

async fn single_table(items: &[Value]) -> Filled {
    Filled::with(&[("pk", "S"), ("sk", "S")], &[], items).await
}

fn item(pk: &str, sk: &str, more: &Value) -> Value {
    let mut item = json!({"pk": {"S": pk}, "sk": {"S": sk}});
    item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    item
}

#[tokio::test]
async fn an_item_belongs_to_a_flow_by_its_constants_and_is_compared_over_its_columns() {
    let table = single_table(&[
        item("USER#1", "METADATA", &json!({"name": {"S": "Ada"}, "score": {"N": "7"}})),
        item("USER#1", "POST#1", &json!({"name": {"S": "not this flow's"}, "title": {"S": "t"}})),
        item("FEED#1", "X", &json!({"deep": {"M": {"b": {"B": "AP8="}}}})),
    ])
    .await;
    let users = rows(&["pk", "sk", "name"], &[&["USER#1", "METADATA", "Ada"]]);
    let posts = rows(&["pk", "sk", "title"], &[&["USER#1", "POST#1", "t"]]);
    let (target, request) = target(&table, |request| request);
    let flows = [
        flow(&posts, &request, &[("pk", "USER#", false)]),
        flow(&users, &request, &[("pk", "USER#", false), ("sk", "METADATA", true)]),
    ];
    let read = held(&*target, &flows).await;
    assert_eq!(read.len(), 3);
    let (user, post) = (expected(&*target, &users)[0], expected(&*target, &posts)[0]);
    let shown = |value: Value| value.as_object().unwrap().clone();
    let user_shown = shown(json!({"pk": "USER#1", "sk": "METADATA", "name": "Ada"}));
    assert_eq!(read[&user.key], (Some(1), user.record, user_shown), "its other attributes are left out");
    let post_shown = shown(json!({"pk": "USER#1", "sk": "POST#1", "title": "t"}));
    assert_eq!(read[&post.key], (Some(0), post.record, post_shown));
    let stranger = expected(&*target, &rows(&["pk", "sk"], &[&["FEED#1", "X"]]))[0];
    let (flow, hash, all) = &read[&stranger.key];
    assert_eq!((*flow, *hash), (None, stranger.key), "over its key alone");
    assert_eq!(*all, shown(json!({"pk": "FEED#1", "sk": "X", "deep": {"b": "AP8="}})), "shown as it is");
}

#[tokio::test]
async fn what_is_ignored_does_not_count_and_is_shown() {
    let table = single_table(&[]).await;
    let ignore = vec!["seen".to_owned(), "list[*].at".to_owned(), "meta.counts[0]".to_owned()];
    let (target, request) = target(&table, |request| WriteRequest {
        ignore,
        forms: [("list".to_owned(), "json".to_owned()), ("meta".to_owned(), "map".to_owned())].into(),
        ..request
    });
    let columns = ["pk", "sk", "seen", "list", "meta"];
    let record = |seen: &str, at: &str, count: u32, rest: u32| {
        let list = format!(r#"[{{"id":1,"at":"{at}"}},{{"id":2}}]"#);
        let meta = format!(r#"{{"counts":[{count},{rest}]}}"#);
        rows(&columns, &[&["a", "b", seen, &list, &meta]])
    };
    write(&*target, &record("yesterday", "noon", 1, 5)).await;
    let flows = [flow(&record("", "", 0, 0), &request, &[])];
    for (same, other) in [(true, record("today", "night", 2, 5)), (false, record("today", "night", 2, 6))] {
        let wanted = expected(&*target, &other)[0];
        let read = held(&*target, &flows).await;
        let (_, hash, shown) = &read[&wanted.key];
        assert_eq!(*hash == wanted.record, same);
        assert_eq!(shown["seen"], "yesterday");
        let found = by_key(&[target.look_up(&other, &context()).await.unwrap().held]);
        assert_eq!(found, read, "a look-up leaves out the same");
    }
}

#[tokio::test]
async fn another_tenants_items_are_nobodys_business() {
    let tenants = ["T1", "T2"]
        .map(|tenant| [item(tenant, "POST#1", &json!({"a": {"S": "x"}})), item(tenant, "OTHER", &json!({}))]);
    let table = single_table(&tenants.concat()).await;
    let posts = rows(&["pk", "sk", "a"], &[&["T1", "POST#1", "x"]]);
    let scope = [("pk".to_owned(), "T1".to_owned())].into();
    let (target, request) = target(&table, |request| WriteRequest { scope, ..request });
    let read = held(&*target, &[flow(&posts, &request, &[("sk", "POST#", false)])]).await;
    let flows: Vec<_> = read.values().map(|(flow, _, item)| (*flow, item["pk"].clone())).collect();
    assert_eq!(flows.len(), 2, "{flows:?}");
    assert!(flows.iter().all(|(_, pk)| pk == "T1"), "{flows:?}");
    assert_eq!(flows.iter().filter(|(flow, _)| flow.is_none()).count(), 1);
}

#[tokio::test]
async fn parts_are_disjoint_and_together_the_whole() {
    let text = "x".repeat(20_000);
    let items: Vec<_> = (0..150).map(|id| item(&format!("k{id}"), "s", &json!({"a": {"S": text}}))).collect();
    let table = single_table(&items).await;
    let records = rows(&["pk", "sk", "a"], &[&["k7", "s", &text]]);
    let (target, request) = target(&table, |request| request);
    let flows = [flow(&records, &request, &[])];
    let mut seen = Vec::new();
    for wanted in [1, 4, 9] {
        let context = context();
        let read = batches(&*target, &flows, wanted, &context).await;
        assert!(read.len() >= 3, "3 MB take some pages, and each is a batch: {}", read.len());
        let bytes: u64 = read.iter().map(|batch| batch.bytes).sum();
        assert!((150 * 20_000..150 * 20_100).contains(&bytes), "{bytes}");
        let units: f64 = read.iter().map(|batch| batch.capacity.read_units).sum();
        assert!((units - context.meter.capacity().read_units).abs() < 1e-6, "what is said is metered");
        assert!((700.0..900.0).contains(&units), "a consistent unit for each 4 KB: {units}");
        seen.push(by_key(&read));
    }
    assert_eq!(seen[0].len(), 150);
    assert!(seen.iter().all(|read| *read == seen[0]), "however it is cut");
    let one = expected(&*target, &records)[0];
    assert_eq!(seen[0][&one.key].1, one.record);
}
