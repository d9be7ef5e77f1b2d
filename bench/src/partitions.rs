//! A table that is as fast as so many of DynamoDB's partitions, both ways: what a run takes there is measured, at no
//! cost.
//!
//! It holds as many items as it is told to. Each follows from its number, is given by scan and by key, and takes no
//! room. Every write is taken and none is kept: conditions count as met. Reads and writes wait for the pace.

use crate::accept::{batch_written, statements_executed};
use crate::pace::{Pace, READ_UNITS_PER_SECOND, WRITE_UNITS_PER_SECOND, read_units};
use crate::replay::{BEFORE_ITEMS, ITEM_BYTES, PAGE_ITEMS, Refused, close_page, description, reply};
use crate::template::{FIRST, Template};
use crate::{Result, items};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::serve::ListenerExt as _;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;

/// What DynamoDB takes at most.
const LARGEST_BODY: usize = 16 * 1024 * 1024;

struct Table {
    items: u64,
    page: Template,
    reads: Pace,
    writes: Pace,
}

/// An answer's body, and the units that it uses.
#[derive(Debug, Default)]
struct Answer {
    body: Vec<u8>,
    read_units: f64,
    write_units: f64,
}

/// Serves for ever.
pub(crate) async fn serve(listener: TcpListener, items: u64, partitions: u32) -> Result<()> {
    let listener = listener.tap_io(|stream| {
        // Without it small answers wait for each other; a stream that is closed already says so by itself.
        let _ = stream.set_nodelay(true);
    });
    let router = Router::new().fallback(respond).layer(DefaultBodyLimit::max(LARGEST_BODY + 1024));
    axum::serve(listener, router.with_state(Arc::new(Table::new(items, partitions)))).await?;
    Ok(())
}

async fn respond(State(table): State<Arc<Table>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let answer = table.answer(target.rsplit('.').next().unwrap_or_default(), &body);
    if let Ok(answer) = &answer {
        if answer.read_units > 0.0 {
            tokio::time::sleep_until(table.reads.due(answer.read_units)).await;
        }
        if answer.write_units > 0.0 {
            tokio::time::sleep_until(table.writes.due(answer.write_units)).await;
        }
    }
    reply(answer.map(|answer| answer.body))
}

/// An item's text as a page has it: behind each stands a comma.
pub(crate) fn prepared() -> Template {
    Template::new(PAGE_ITEMS, |number| format!("{},", items::item(number)).into_bytes())
}

impl Table {
    fn new(items: u64, partitions: u32) -> Self {
        Self {
            items,
            page: prepared(),
            reads: Pace::new(partitions * READ_UNITS_PER_SECOND),
            writes: Pace::new(partitions * WRITE_UNITS_PER_SECOND),
        }
    }

    fn answer(&self, operation: &str, body: &[u8]) -> std::result::Result<Answer, Refused> {
        let text = || std::str::from_utf8(body).map_err(|error| malformed(&error));
        let parsed = || serde_json::from_slice::<Value>(body).map_err(|error| malformed(&error));
        let free = |body: &Value| Answer { body: body.to_string().into_bytes(), ..Answer::default() };
        match operation {
            "BatchWriteItem" => Ok(written(batch_written(text()?), text()?, "\"PutRequest\":{")),
            "BatchExecuteStatement" => Ok(written(statements_executed(text()?), text()?, "\"Statement\":\"")),
            "BatchGetItem" => self.get(&parsed()?),
            "ListTables" => Ok(free(&json!({"TableNames": [items::TABLE]}))),
            "ListTagsOfResource" => Ok(free(&json!({"Tags": []}))),
            "TagResource" => Ok(free(&json!({}))),
            "DescribeTable" | "Scan" if parsed()?["TableName"] != items::TABLE => {
                Err(("ResourceNotFoundException", "Requested resource not found".to_owned()))
            }
            "DescribeTable" => Ok(free(&json!({ "Table": description(self.items) }))),
            "Scan" => self.scan(&parsed()?),
            other => Err(("UnknownOperationException", format!("{other} is not answered here"))),
        }
    }

    /// A page of a segment: it ends where the prepared one does.
    fn scan(&self, request: &Value) -> std::result::Result<Answer, Refused> {
        for name in ["FilterExpression", "ProjectionExpression", "IndexName"] {
            if !request[name].is_null() {
                return Err(("ValidationException", format!("{name} is not answered here")));
            }
        }
        let number = |name: &str, default| request[name].as_u64().unwrap_or(default);
        let (segment, of) = (number("Segment", 0), number("TotalSegments", 1).max(1));
        let end = FIRST + self.items * (segment + 1) / of;
        let after = match &request["ExclusiveStartKey"] {
            Value::Null => FIRST + self.items * segment / of,
            key => number_of(key)?,
        };
        let (left, limit) = (end.saturating_sub(after), number("Limit", u64::MAX));
        let mut body = BEFORE_ITEMS.to_vec();
        let count = self.page.append_in_place(&mut body, after + 1, left.min(limit));
        if count > 0 {
            // The comma behind the last item.
            body.pop();
        }
        if request["Select"] == "COUNT" {
            body.truncate(BEFORE_ITEMS.len());
        }
        let read_units = read_units(count * ITEM_BYTES, request["ConsistentRead"] == true);
        close_page(&mut body, count, (count < left).then_some(after + count), read_units);
        Ok(Answer { body, read_units, ..Answer::default() })
    }

    /// What keys hold.
    fn get(&self, request: &Value) -> std::result::Result<Answer, Refused> {
        let wanted = &request["RequestItems"][items::TABLE];
        let keys = wanted["Keys"].as_array().ok_or_else(|| malformed(&"keys of another table"))?;
        let mut body = format!("{{\"Responses\":{{\"{}\":[", items::TABLE).into_bytes();
        let mut found = 0_u32;
        for key in keys {
            let number = number_of(key)?;
            if (FIRST + 1..=FIRST + self.items).contains(&number) {
                self.page.append_in_place(&mut body, number, 1);
                found += 1;
            }
        }
        if found > 0 {
            body.pop();
        }
        // Each item is rounded up by itself; what is not there costs as much as the least.
        let each = read_units(ITEM_BYTES, wanted["ConsistentRead"] == true);
        let read_units = each * f64::from(u32::try_from(keys.len()).unwrap_or(u32::MAX));
        let rest = json!({
            "UnprocessedKeys": {},
            "ConsumedCapacity": [{"TableName": items::TABLE, "CapacityUnits": read_units}],
        });
        body.extend_from_slice(b"]},");
        body.extend_from_slice(&rest.to_string().as_bytes()[1..]);
        Ok(Answer { body, read_units, ..Answer::default() })
    }
}

/// A unit for each record: they are smaller than 1 KB.
fn written(answer: String, request: &str, each: &str) -> Answer {
    let records = u32::try_from(request.matches(each).count()).unwrap_or(u32::MAX);
    Answer { body: answer.into_bytes(), write_units: f64::from(records), ..Answer::default() }
}

fn number_of(key: &Value) -> std::result::Result<u64, Refused> {
    let number = key[items::PARTITION_KEY]["S"].as_str().and_then(items::number_of);
    number.ok_or_else(|| ("ValidationException", "a key of another table".to_owned()))
}

fn malformed(error: &dyn std::fmt::Display) -> Refused {
    ("SerializationException", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(table: &Table, operation: &str, request: &Value) -> (Value, f64, f64) {
        let answer = table.answer(operation, request.to_string().as_bytes()).unwrap();
        (serde_json::from_slice(&answer.body).unwrap(), answer.read_units, answer.write_units)
    }

    #[test]
    fn an_item_is_the_same_by_scan_and_by_key() {
        let table = Table::new(10_001, 8);
        let mut found = Vec::new();
        for segment in 0..4 {
            let mut request = json!({
                "TableName": items::TABLE, "Segment": segment, "TotalSegments": 4, "ConsistentRead": true,
            });
            loop {
                let (page, ..) = asked(&table, "Scan", &request);
                found.extend(page["Items"].as_array().unwrap().clone());
                match &page["LastEvaluatedKey"] {
                    Value::Null => break,
                    key => request["ExclusiveStartKey"] = key.clone(),
                }
            }
        }
        let number = |item: &Value| items::number_of(item["pk"]["S"].as_str().unwrap()).unwrap();
        assert!(found.iter().map(number).eq(FIRST + 1..=FIRST + 10_001));
        let keys = [items::key(FIRST + 9_999), items::key(FIRST + 10_002)];
        let request = json!({"RequestItems": {items::TABLE: {"Keys": keys, "ConsistentRead": true}}});
        let (got, units, _) = asked(&table, "BatchGetItem", &request);
        assert_eq!(got["Responses"][items::TABLE], json!([found[9_998]]));
        assert!((units - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_table_is_counted_without_its_items() {
        let table = Table::new(5, 1);
        let request = json!({"TableName": items::TABLE, "Select": "COUNT", "Limit": 1});
        let (page, units, _) = asked(&table, "Scan", &request);
        assert_eq!((page["Count"].as_u64(), page["Items"].as_array().unwrap().len()), (Some(1), 0));
        assert_eq!(page["LastEvaluatedKey"], items::key(FIRST + 1));
        assert!((units - 0.5).abs() < 1e-9);
    }

    #[test]
    fn each_write_is_a_unit() {
        let table = Table::new(5, 1);
        let put = json!({"PutRequest": {"Item": items::item(7)}});
        let (_, _, units) = asked(&table, "BatchWriteItem", &json!({"RequestItems": {"t": [put, put]}}));
        assert!((units - 2.0).abs() < 1e-9);
        let statement = json!({"Statement": "UPDATE …", "Parameters": []});
        let (answer, _, units) =
            asked(&table, "BatchExecuteStatement", &json!({"Statements": [statement, statement, statement]}));
        assert_eq!(answer["Responses"].as_array().unwrap().len(), 3);
        assert!((units - 3.0).abs() < 1e-9);
    }
}
