//! What a DynamoDB table holds, read back without the program.

use dynoxide::Database;
use dynoxide::actions::scan::ScanRequest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Every item of a table, in DynamoDB's own JSON, by partition and sort key.
pub type Items = BTreeMap<(String, String), Value>;

/// Reads a table of the database in a file that no program has open.
pub fn in_file(path: &Path, table: &str) -> Items {
    let path = path.to_str().expect("the path is UTF-8");
    of(&Database::new(path).expect("the database opens"), table)
}

/// Reads a table.
pub fn of(database: &Database, table: &str) -> Items {
    let mut items = Items::new();
    let mut start = None;
    loop {
        let request = ScanRequest {
            table_name: table.to_owned(),
            exclusive_start_key: start,
            consistent_read: Some(true),
            ..ScanRequest::default()
        };
        let page = serde_json::to_value(database.scan(request).expect("the table can be scanned"))
            .expect("a page is JSON");
        for item in page["Items"].as_array().expect("a page has items") {
            put(&mut items, item.clone());
        }
        match page.get("LastEvaluatedKey").filter(|key| !key.is_null()) {
            Some(key) => start = Some(serde_json::from_value(key.clone()).expect("a key")),
            None => return items,
        }
    }
}

/// Adds an item, which is not there yet, under its keys `pk` and `sk`.
pub fn put(items: &mut Items, item: Value) {
    let key = |name: &str| item[name]["S"].as_str().expect("keys are text").to_owned();
    assert_eq!(items.insert((key("pk"), key("sk")), item), None, "a key comes once");
}

/// Says where two tables differ, the first few keys of each kind.
#[track_caller]
pub fn assert_same(found: &Items, expected: &Items) {
    let missing: Vec<_> = expected.keys().filter(|key| !found.contains_key(*key)).take(3).collect();
    let extra: Vec<_> = found.keys().filter(|key| !expected.contains_key(*key)).take(3).collect();
    let differs =
        |(key, item): &(&(String, String), &Value)| found.get(*key).is_some_and(|other| other != *item);
    let different: Vec<_> = expected.iter().filter(differs).map(|(key, _)| key).take(3).collect();
    assert!(
        missing.is_empty() && extra.is_empty() && different.is_empty(),
        "{} items, {} expected; missing {missing:?}, extra {extra:?}, different {different:?}",
        found.len(),
        expected.len()
    );
}
