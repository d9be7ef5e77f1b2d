//! A server that accepts everything at once, so that nothing but whimbrel is measured.
//!
//! It answers what whimbrel asks, and looks no further into a request than the answer needs: it counts puts and
//! statements by the bytes they begin with, which no value can hold unescaped.

use crate::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// What DynamoDB takes at most.
const LARGEST_BODY: usize = 16 * 1024 * 1024;
/// Where a request says what else it wants: at its beginning or its end, depending on who wrote it.
const EDGE: usize = 256;

/// The tables that were made: their descriptions by name.
type Tables = Arc<Mutex<BTreeMap<String, Value>>>;

/// Serves for ever.
pub(crate) async fn serve(listener: TcpListener) -> Result<()> {
    let listener = listener.tap_io(|stream| {
        // Without it small answers wait for each other; a stream that is closed already says so by itself.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router()).await?;
    Ok(())
}

fn router() -> Router {
    Router::new()
        .fallback(respond)
        .layer(DefaultBodyLimit::max(LARGEST_BODY + 1024))
        .with_state(Tables::default())
}

async fn respond(State(tables): State<Tables>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target.rsplit('.').next().unwrap_or_default();
    let (status, text) = match answer(operation, &body, &tables) {
        Ok(text) => (StatusCode::OK, text),
        Err((code, message)) => {
            let kind = format!("com.amazonaws.dynamodb.v20120810#{code}");
            (StatusCode::BAD_REQUEST, json!({"__type": kind, "message": message}).to_string())
        }
    };
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.0")], text).into_response()
}

/// The answer's body, or the code and message of an error.
fn answer(
    operation: &str,
    body: &[u8],
    tables: &Mutex<BTreeMap<String, Value>>,
) -> std::result::Result<String, (&'static str, String)> {
    let invalid = |error: std::str::Utf8Error| ("SerializationException", error.to_string());
    match operation {
        "BatchWriteItem" => {
            let body = std::str::from_utf8(body).map_err(invalid)?;
            Ok(batch_written(body))
        }
        "BatchExecuteStatement" => {
            let body = std::str::from_utf8(body).map_err(invalid)?;
            Ok(statements_executed(body))
        }
        "BatchGetItem" => Ok(r#"{"Responses":{},"UnprocessedKeys":{}}"#.to_owned()),
        "Scan" | "Query" => Ok(r#"{"Items":[],"Count":0,"ScannedCount":0}"#.to_owned()),
        "PutItem" | "UpdateItem" | "DeleteItem" | "TransactWriteItems" | "TagResource" => Ok("{}".to_owned()),
        "ListTagsOfResource" => Ok(r#"{"Tags":[]}"#.to_owned()),
        "ListTables" => {
            let tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(json!({"TableNames": tables.keys().collect::<Vec<_>>()}).to_string())
        }
        "DescribeTable" | "CreateTable" => table(operation == "CreateTable", body, tables),
        other => Err(("UnknownOperationException", format!("{other} is not answered here"))),
    }
}

fn table(
    make: bool,
    body: &[u8],
    tables: &Mutex<BTreeMap<String, Value>>,
) -> std::result::Result<String, (&'static str, String)> {
    let request: Value =
        serde_json::from_slice(body).map_err(|error| ("SerializationException", error.to_string()))?;
    let name = request["TableName"].as_str().unwrap_or_default().to_owned();
    let mut tables = tables.lock().unwrap_or_else(PoisonError::into_inner);
    if !make {
        let known = tables.get(&name).map(|table| json!({"Table": table}).to_string());
        return known.ok_or_else(|| ("ResourceNotFoundException", format!("Table: {name} not found")));
    }
    if tables.contains_key(&name) {
        return Err(("ResourceInUseException", format!("Table already exists: {name}")));
    }
    let mut description = json!({
        "TableName": name, "TableStatus": "ACTIVE", "ItemCount": 0, "TableSizeBytes": 0,
        "TableArn": format!("arn:aws:dynamodb:us-east-1:000000000000:table/{name}"),
        "TableId": format!("00000000-0000-4000-8000-{:012}", tables.len()),
        "CreationDateTime": 1_735_689_600,
        "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
    });
    for key in ["KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "LocalSecondaryIndexes"] {
        if let Some(value) = request.get(key) {
            description[key] = value.clone();
        }
    }
    for index in description["GlobalSecondaryIndexes"].as_array_mut().into_iter().flatten() {
        index["IndexStatus"] = json!("ACTIVE");
    }
    let answer = json!({"TableDescription": description}).to_string();
    tables.insert(name, description);
    Ok(answer)
}

/// Whether the request asks what it costs.
fn wants_capacity(body: &str) -> bool {
    let (body, asked) = (body.as_bytes(), b"\"ReturnConsumedCapacity\":\"".as_slice());
    let edges = [&body[..body.len().min(EDGE)], &body[body.len().saturating_sub(EDGE)..]];
    let asks = |edge: &[u8]| {
        let mut found = edge.windows(asked.len()).enumerate().filter(|(_, part)| *part == asked);
        found.any(|(at, _)| !edge[at + asked.len()..].starts_with(b"NONE"))
    };
    edges.into_iter().any(asks)
}

/// One unit for each put: items are smaller than 1 KB.
pub(crate) fn batch_written(body: &str) -> String {
    if !wants_capacity(body) {
        return r#"{"UnprocessedItems":{}}"#.to_owned();
    }
    let units = body.matches("\"PutRequest\":{").count() + body.matches("\"DeleteRequest\":{").count();
    let table = body.split_once("\"RequestItems\":{\"").and_then(|(_, rest)| rest.split('"').next());
    let table = table.unwrap_or_default();
    format!(
        "{{\"UnprocessedItems\":{{}},\"ConsumedCapacity\":[{{\"TableName\":\"{table}\",\
         \"CapacityUnits\":{units}.0,\"Table\":{{\"CapacityUnits\":{units}.0}}}}]}}"
    )
}

/// A success for each statement, and a unit.
pub(crate) fn statements_executed(body: &str) -> String {
    let count = body.matches("\"Statement\":\"").count();
    let list = |entry: &str| vec![entry; count].join(",");
    let mut answer = format!("{{\"Responses\":[{}]", list("{}"));
    if wants_capacity(body) {
        let entry = r#"{"TableName":"bench_items","CapacityUnits":1.0,"Table":{"CapacityUnits":1.0}}"#;
        // Writing into a string cannot fail.
        let _ = write!(answer, ",\"ConsumedCapacity\":[{}]", list(entry));
    }
    answer.push('}');
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(operation: &str, body: &Value, tables: &Mutex<BTreeMap<String, Value>>) -> Value {
        let text = answer(operation, body.to_string().as_bytes(), tables).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn each_put_costs_a_unit() {
        let tables = Mutex::default();
        let put = json!({"PutRequest": {"Item": {"pk": {"S": "\"PutRequest\":{ \"Statement\":\""}}}});
        let mut body = json!({"RequestItems": {"t": [put, put]}});
        assert_eq!(asked("BatchWriteItem", &body, &tables), json!({"UnprocessedItems": {}}));
        body["ReturnConsumedCapacity"] = json!("INDEXES");
        let answer = asked("BatchWriteItem", &body, &tables);
        assert_eq!(answer["ConsumedCapacity"][0]["CapacityUnits"], json!(2.0));
        assert_eq!(answer["ConsumedCapacity"][0]["TableName"], "t");
    }

    #[test]
    fn each_statement_has_an_answer() {
        let tables = Mutex::default();
        let tricky = json!({"M": {"Statement": {"S": "\"Statement\":\""}}});
        let statement = json!({"Statement": "INSERT …", "Parameters": [tricky]});
        let mut body = json!({"Statements": [statement, statement, statement]});
        assert_eq!(asked("BatchExecuteStatement", &body, &tables), json!({"Responses": [{}, {}, {}]}));
        body["ReturnConsumedCapacity"] = json!("TOTAL");
        let answer = asked("BatchExecuteStatement", &body, &tables);
        assert_eq!(answer["ConsumedCapacity"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn a_table_is_there_once_it_is_made() {
        let tables = Mutex::default();
        let name = json!({"TableName": "t"});
        let missing = answer("DescribeTable", name.to_string().as_bytes(), &tables).unwrap_err();
        assert_eq!(missing.0, "ResourceNotFoundException");
        let key = json!([{"AttributeName": "pk", "KeyType": "HASH"}]);
        asked("CreateTable", &json!({"TableName": "t", "KeySchema": key}), &tables);
        let table = &asked("DescribeTable", &name, &tables)["Table"];
        assert_eq!((&table["TableStatus"], &table["KeySchema"]), (&json!("ACTIVE"), &key));
        assert_eq!(asked("ListTables", &json!({}), &tables), json!({"TableNames": ["t"]}));
        assert_eq!(answer("Nonsense", b"{}", &tables).unwrap_err().0, "UnknownOperationException");
    }
}
