//! A server that replays prepared pages of a scan, so that nothing but whimbrel and its target is measured.
//!
//! The table holds as many items as it is told to, and takes no room: every page is made out of one that is prepared,
//! with keys that grow. It answers what a scan asks, and refuses what it would have to look into items for.
//!
//! It is as fast as it can be, or as fast as so many of DynamoDB's partitions.

use crate::pace::{Pace, READ_UNITS_PER_SECOND, read_units};
use crate::template::{FIRST, Template};
use crate::{Result, items};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::serve::ListenerExt as _;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;

/// Items of a page: as many as fit into the 1 MB that DynamoDB reads at a time.
pub(crate) const PAGE_ITEMS: u64 = 3_500;
/// As DynamoDB counts an item.
pub(crate) const ITEM_BYTES: u64 = 299;

/// What an error has for its code and message.
pub(crate) type Refused = (&'static str, String);

struct Table {
    items: u64,
    page: Template,
    pace: Option<Pace>,
}

/// Serves for ever; `partitions`: not faster than so many.
pub(crate) async fn serve(listener: TcpListener, items: u64, partitions: Option<u32>) -> Result<()> {
    let listener = listener.tap_io(|stream| {
        // Without it small answers wait for each other; a stream that is closed already says so by itself.
        let _ = stream.set_nodelay(true);
    });
    let router = Router::new().fallback(respond).with_state(Arc::new(Table::new(items, partitions)));
    axum::serve(listener, router).await?;
    Ok(())
}

async fn respond(State(table): State<Arc<Table>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default();
    let answer = table.answer(operation, &body);
    if let (Ok((_, items)), Some(pace)) = (&answer, &table.pace)
        && *items > 0
    {
        tokio::time::sleep_until(pace.due(read_units(items * ITEM_BYTES, false))).await;
    }
    reply(answer.map(|(body, _)| body))
}

/// What is sent: an answer's body or an error.
pub(crate) fn reply(answer: std::result::Result<Vec<u8>, Refused>) -> Response {
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err((code, message)) => {
            let kind = format!("com.amazonaws.dynamodb.v20120810#{code}");
            (StatusCode::BAD_REQUEST, json!({"__type": kind, "message": message}).to_string().into_bytes())
        }
    };
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], body).into_response()
}

/// A table of so many items, as `DescribeTable` has it.
pub(crate) fn description(items: u64) -> Value {
    let name = items::TABLE;
    json!({
        "TableName": name, "TableStatus": "ACTIVE", "ItemCount": items, "TableSizeBytes": items * ITEM_BYTES,
        "TableArn": format!("arn:aws:dynamodb:us-east-1:000000000000:table/{name}"),
        "TableId": "00000000-0000-4000-8000-000000000000",
        "CreationDateTime": 1_735_689_600,
        "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
        "KeySchema": items::key_schema(), "AttributeDefinitions": items::attribute_definitions(),
    })
}

impl Table {
    fn new(items: u64, partitions: Option<u32>) -> Self {
        let make = |number| format!("{},", items::item(number)).into_bytes();
        let pace = partitions.map(|partitions| Pace::new(partitions * READ_UNITS_PER_SECOND));
        Self { items, page: Template::new(PAGE_ITEMS, make), pace }
    }

    /// An answer, and how many items it holds.
    fn answer(&self, operation: &str, body: &[u8]) -> std::result::Result<(Vec<u8>, u64), Refused> {
        let request: Value =
            serde_json::from_slice(body).map_err(|error| ("SerializationException", error.to_string()))?;
        match operation {
            "ListTables" => Ok((json!({"TableNames": [items::TABLE]}).to_string().into_bytes(), 0)),
            "ListTagsOfResource" => Ok((br#"{"Tags":[]}"#.to_vec(), 0)),
            "DescribeTable" | "Scan" if request["TableName"] != items::TABLE => {
                Err(("ResourceNotFoundException", "Requested resource not found".to_owned()))
            }
            "DescribeTable" => Ok((json!({ "Table": description(self.items) }).to_string().into_bytes(), 0)),
            "Scan" => self.scan(&request),
            other => Err(("UnknownOperationException", format!("{other} is not answered here"))),
        }
    }

    fn scan(&self, request: &Value) -> std::result::Result<(Vec<u8>, u64), Refused> {
        for name in ["FilterExpression", "ProjectionExpression", "Select", "IndexName"] {
            if !request[name].is_null() {
                return Err(("ValidationException", format!("{name} is not answered here")));
            }
        }
        let number = |name: &str, default| request[name].as_u64().unwrap_or(default);
        let (segment, of) = (number("Segment", 0), number("TotalSegments", 1).max(1));
        let end = FIRST + self.items * (segment + 1) / of;
        let after = match &request["ExclusiveStartKey"][items::PARTITION_KEY]["S"] {
            Value::Null => FIRST + self.items * segment / of,
            key => items::number_of(key.as_str().unwrap_or_default())
                .ok_or_else(|| ("ValidationException", "a key of another table".to_owned()))?,
        };
        Ok(self.page(after, end.saturating_sub(after), number("Limit", u64::MAX)))
    }

    /// The items behind a number, of which there are `left`.
    fn page(&self, after: u64, left: u64, limit: u64) -> (Vec<u8>, u64) {
        let mut page = BEFORE_ITEMS.to_vec();
        let count = self.page.append(&mut page, after + 1, left.min(limit));
        if count > 0 {
            // The comma behind the last item.
            page.pop();
        }
        let last = (count < left).then_some(after + count);
        close_page(&mut page, count, last, read_units(count * ITEM_BYTES, false));
        (page, count)
    }
}

/// What a page begins with; items follow.
pub(crate) const BEFORE_ITEMS: &[u8] = br#"{"Items":["#;

/// Appends what stands behind a page's items: how many they are, the number of the last of them where more follow, and
/// the units used.
pub(crate) fn close_page(page: &mut Vec<u8>, count: u64, last: Option<u64>, read_units: f64) {
    let mut rest = json!({
        "Count": count, "ScannedCount": count,
        "ConsumedCapacity": {"TableName": items::TABLE, "CapacityUnits": read_units},
    });
    if let Some(last) = last {
        rest["LastEvaluatedKey"] = items::key(last);
    }
    page.extend_from_slice(b"],");
    page.extend_from_slice(&rest.to_string().as_bytes()[1..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(table: &Table, request: &Value) -> Value {
        let (body, _) = table.answer("Scan", request.to_string().as_bytes()).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn segments_hold_every_item_once() {
        let table = Table::new(10_001, None);
        let mut found = Vec::new();
        for segment in 0..3 {
            let mut request = json!({"TableName": items::TABLE, "Segment": segment, "TotalSegments": 3});
            loop {
                let page = scan(&table, &request);
                let items = page["Items"].as_array().unwrap();
                assert_eq!(page["Count"], items.len());
                found.extend(
                    items.iter().map(|item| items::number_of(item["pk"]["S"].as_str().unwrap()).unwrap()),
                );
                match &page["LastEvaluatedKey"] {
                    Value::Null => break,
                    key => request["ExclusiveStartKey"] = key.clone(),
                }
            }
        }
        assert!(found.into_iter().eq(FIRST + 1..=FIRST + 10_001));
    }

    #[test]
    fn an_item_is_that_of_its_number_but_for_its_digest() {
        let table = Table::new(1_000_000, None);
        let request =
            json!({"TableName": items::TABLE, "Limit": 2, "ExclusiveStartKey": items::key(FIRST + 777_777)});
        let page = scan(&table, &request);
        let (item, expected) = (&page["Items"][1], items::item(FIRST + 777_779));
        assert_eq!(page["Items"].as_array().unwrap().len(), 2);
        for name in ["pk", "sk", "type", "id"] {
            assert_eq!(item[name], expected[name], "{name}");
        }
        let title = item["title"]["S"].as_str().unwrap();
        assert!(title.starts_with("Post 1000777779: "), "{title}");
        assert_eq!(page["LastEvaluatedKey"], items::key(FIRST + 777_779));
    }

    #[test]
    fn what_looks_into_items_is_refused() {
        let table = Table::new(1, None);
        let request = json!({"TableName": items::TABLE, "FilterExpression": "a = b"});
        let refused = table.answer("Scan", request.to_string().as_bytes()).unwrap_err();
        assert_eq!(refused.0, "ValidationException");
        let other = table.answer("DescribeTable", br#"{"TableName": "other"}"#).unwrap_err();
        assert_eq!(other.0, "ResourceNotFoundException");
    }
}
