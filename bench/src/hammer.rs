//! What a server with the DynamoDB API takes at most: prepared requests over a few connections, with nothing in
//! between.

use crate::connection::{Connection, address, request, shown};
use crate::postgres_to_dynamodb::Mode;
use crate::{Result, items};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Connections side by side.
const CONNECTIONS: usize = 8;
/// Items of a request, as many as DynamoDB takes.
const BATCH: u64 = 25;
/// Items that are prepared at most.
const PREPARED: u64 = 100_000;
/// A server that is done sooner is sent the same again.
const AT_LEAST: Duration = Duration::from_secs(2);

/// Makes the table and writes up to `rows` items into it in the way of a mode; `again`: whether a second round of the
/// same items costs the server as much as the first. Items per second.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) async fn measure(url: &str, mode: Mode, rows: u64, again: bool) -> Result<f64> {
    let address = address(url)?.to_owned();
    make_table(&address).await?;
    let items = rows.min(PREPARED).next_multiple_of(BATCH);
    if mode == Mode::Update {
        // What is updated must be there.
        send_all(&address, Arc::new(requests(Mode::Upsert, items)), Duration::ZERO).await?;
    }
    let prepared = Arc::new(requests(mode, items));
    let began = Instant::now();
    let at_least = if again { AT_LEAST } else { Duration::ZERO };
    let sent = send_all(&address, prepared, at_least).await?;
    Ok(sent as f64 * BATCH as f64 / began.elapsed().as_secs_f64())
}

async fn make_table(address: &str) -> Result<()> {
    let body = json!({
        "TableName": items::TABLE, "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": items::key_schema(), "AttributeDefinitions": items::attribute_definitions(),
    });
    let mut connection = Connection::open(address).await?;
    connection.ask(&request("CreateTable", &body.to_string())).await.map(drop)
}

/// Sends every request once, and all of them again until the time is over; answers with their number.
async fn send_all(address: &str, requests: Arc<Vec<Vec<u8>>>, at_least: Duration) -> Result<usize> {
    let (next, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut senders = Vec::new();
    for _ in 0..CONNECTIONS {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        let mut connection = Connection::open(address).await?;
        senders.push(tokio::spawn(async move {
            let mut sent = 0;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= requests.len() && began.elapsed() >= at_least {
                    return Result::Ok(sent);
                }
                let answer = connection.ask(&requests[number % requests.len()]).await?;
                // Statements fail one by one within an answer that is a success.
                if answer.windows(8).any(|part| part == b"\"Error\":") {
                    return Err(format!("refused: {}", shown(answer)).into());
                }
                sent += 1;
            }
        }));
    }
    let mut sent = 0;
    for sender in senders {
        sent += sender.await??;
    }
    Ok(sent)
}

fn requests(mode: Mode, items: u64) -> Vec<Vec<u8>> {
    let batches = (0..items / BATCH).map(|batch| batch * BATCH + 1..=(batch + 1) * BATCH);
    let one = |keys: std::ops::RangeInclusive<u64>| match mode {
        Mode::Upsert => {
            let puts: Vec<_> = keys.map(|k| json!({"PutRequest": {"Item": items::item(k)}})).collect();
            request("BatchWriteItem", &json!({"RequestItems": {items::TABLE: puts}}).to_string())
        }
        Mode::SkipExisting => statements(keys.map(|k| insert(&items::item(k)))),
        Mode::Update => statements(keys.map(|k| update(&items::item(k)))),
    };
    batches.map(one).collect()
}

fn statements(statements: impl Iterator<Item = Value>) -> Vec<u8> {
    let statements: Vec<_> = statements.collect();
    request("BatchExecuteStatement", &json!({"Statements": statements}).to_string())
}

fn insert(item: &Value) -> Value {
    let (names, values): (Vec<_>, Vec<_>) = item.as_object().into_iter().flatten().unzip();
    let pairs: Vec<_> = names.into_iter().map(|name| format!("'{name}': ?")).collect();
    let text = format!("INSERT INTO \"{}\" VALUE {{{}}}", items::TABLE, pairs.join(", "));
    json!({"Statement": text, "Parameters": values})
}

fn update(item: &Value) -> Value {
    let key = [items::PARTITION_KEY, items::SORT_KEY];
    let set: Vec<_> =
        item.as_object().into_iter().flatten().filter(|(name, _)| !key.contains(&name.as_str())).collect();
    let assignments: Vec<_> = set.iter().map(|(name, _)| format!("SET \"{name}\" = ?")).collect();
    let conditions = key.map(|name| format!("\"{name}\" = ?")).join(" AND ");
    let text = format!("UPDATE \"{}\" {} WHERE {conditions}", items::TABLE, assignments.join(" "));
    let values = set.iter().map(|(_, value)| *value).chain(key.iter().map(|name| &item[*name]));
    json!({"Statement": text, "Parameters": values.collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_bind_what_they_name() {
        let item = items::item(7);
        let insert = insert(&item);
        let text = insert["Statement"].as_str().unwrap();
        assert_eq!(text.matches('?').count(), insert["Parameters"].as_array().unwrap().len());
        let update = update(&item);
        let text = update["Statement"].as_str().unwrap();
        assert!(text.ends_with("WHERE \"pk\" = ? AND \"sk\" = ?"), "{text}");
        assert_eq!(update["Parameters"][7], item["sk"]);
        assert_eq!(text.matches('?').count(), 8);
    }
}
