use super::{Filled, all, lines};
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use whimbrel_model::record::base64;
use whimbrel_store::conformance::{self, context};
use whimbrel_store::{Comparison, Condition, Literal, ReadRequest};

/// Items of three kinds in one table, some large, so that a scan takes several pages.
fn items(count: usize, bytes: usize) -> Vec<Value> {
    let one = |number: usize| {
        json!({
            "pk": {"S": format!("P#{}", number % 7)},
            "n": {"N": format!("{}.5", number)},
            "g": {"S": "all"},
            "text": {"S": "ü".repeat(bytes / 2)},
            "tags": {"SS": ["a", "b"]}
        })
    };
    (0..count).map(one).collect()
}

fn equal(column: &str, text: &str) -> Condition {
    Condition::Compare(column.to_owned(), Comparison::Equal, Literal::Text(text.to_owned()))
}

#[tokio::test]
async fn the_suite_holds_for_scans() {
    let table = Filled::with(&[("pk", "S"), ("n", "N")], &[], &items(250, 10)).await;
    let request = ReadRequest { batch_records: 30, ..table.request(&["text", "tags", "missing", "_item"]) };
    conformance::source(&*table.source(request), 250).await;
}

#[tokio::test]
async fn the_suite_holds_where_a_scan_takes_many_pages() {
    let table = Filled::with(&[("pk", "S"), ("n", "N")], &[], &items(90, 60_000)).await;
    let request = ReadRequest { batch_records: 7, batch_bytes: 300_000, ..table.request(&["text"]) };
    conformance::source(&*table.source(request.clone()), 90).await;
    let one_batch = ReadRequest { batch_records: 1000, batch_bytes: usize::MAX, ..request };
    conformance::source(&*table.source(one_batch), 90).await;
}

#[tokio::test]
async fn the_suite_holds_for_queries_of_a_table_and_of_an_index() {
    let indexes: &[(&str, &[_])] = &[("by_g", &[("g", "S"), ("n", "N")])];
    let table = Filled::with(&[("pk", "S"), ("n", "N")], indexes, &items(140, 3000)).await;
    let request = ReadRequest { batch_records: 8, ..table.request(&["text"]) };
    let of_table = ReadRequest { condition: Some(equal("pk", "P#3")), ..request.clone() };
    conformance::source(&*table.source(of_table), 20).await;
    let of_index = Condition::All(vec![equal("g", "all"), Condition::Present("n".to_owned())]);
    let of_index = table.source(ReadRequest { condition: Some(of_index), ..request });
    let description = of_index.describe().await.unwrap();
    assert!(description.notes[0].starts_with("Query on index by_g"), "{:?}", description.notes);
    conformance::source(&*of_index, 140).await;
}

#[tokio::test]
async fn the_suite_holds_for_binary_keys() {
    let key = |number: u8| json!({"id": {"B": base64(&[0, 255, number])}, "v": {"N": number.to_string()}});
    let items: Vec<_> = (0..40).map(key).collect();
    let table = Filled::with(&[("id", "B")], &[], &items).await;
    let request = ReadRequest { batch_records: 3, ..table.request(&["v"]) };
    conformance::source(&*table.source(request), 40).await;
}

#[tokio::test]
async fn an_empty_table_yields_nothing() {
    let table = Filled::with(&[("pk", "S")], &[], &[]).await;
    let source = table.source(table.request(&["a"]));
    let parts = source.slices(8).await.unwrap();
    assert_eq!(parts.len(), 1);
    assert!(all(&*source, &parts[0], None, &context()).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_written_and_deleted_meanwhile_moves_nobody() {
    let table = Filled::with(&[("pk", "S"), ("n", "N")], &[], &items(200, 20_000)).await;
    let source = table.source(ReadRequest { batch_records: 10, ..table.request(&[]) });
    let parts = source.slices(1).await.unwrap();
    let mut stream = source.read(&parts[0], None, &context()).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    // The very item that the cursor names goes, and others come before and behind it.
    let last = lines(std::slice::from_ref(&first)).pop().unwrap();
    let key = json!({"pk": {"S": last["pk"]}, "n": {"N": last["n"]}});
    table.client.delete_item().table_name(&table.name).set_key(Some(super::item(&key))).send().await.unwrap();
    let come =
        |number: i32| json!({"pk": {"S": format!("P#{}", number % 7)}, "n": {"N": (-number).to_string()}});
    table.put(&(1..50).map(come).collect::<Vec<_>>()).await;

    let rest: Vec<_> = stream.map(Result::unwrap).collect().await;
    let resumed = all(&*source, &parts[0], first.cursor.as_ref(), &context()).await.unwrap();
    for rest in [rest, resumed] {
        let rows = lines(std::slice::from_ref(&first)).into_iter().chain(lines(&rest));
        let keys: Vec<_> = rows.map(|row| (row["pk"].to_string(), row["n"].to_string())).collect();
        let old: Vec<_> = keys.iter().filter(|(_, n)| n.contains(".5")).collect();
        assert_eq!(old.len(), 200, "each item that stayed comes once");
        assert_eq!(old.iter().collect::<BTreeSet<_>>().len(), 200);
    }
}
