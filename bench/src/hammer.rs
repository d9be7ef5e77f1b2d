//! What a server with the DynamoDB API takes at most: prepared requests over a few connections, with nothing in
//! between.
//!
//! The client is as bare as it can be, bytes onto a socket, since all it costs is missing from the limit.

use crate::postgres_to_dynamodb::Mode;
use crate::{Result, items};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Connections side by side.
const CONNECTIONS: usize = 8;
/// Items of a request, as many as DynamoDB takes.
const BATCH: u64 = 25;
/// Items that are prepared at most.
const PREPARED: u64 = 100_000;
/// A server that is done sooner is sent the same again.
const AT_LEAST: Duration = Duration::from_secs(2);
const LARGEST_HEAD: usize = 64 * 1024;

/// What was measured.
#[derive(Clone, Copy)]
pub(crate) struct HammerLimit {
    pub(crate) requests_per_second: f64,
    pub(crate) items_per_second: f64,
}

/// Makes the table and writes up to `rows` items into it in the way of a mode; `again`: whether a second round of the
/// same items costs the server as much as the first.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) async fn measure(url: &str, mode: Mode, rows: u64, again: bool) -> Result<HammerLimit> {
    let address = url.strip_prefix("http://").ok_or("an http URL is expected")?.to_owned();
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
    let seconds = began.elapsed().as_secs_f64();
    let requests_per_second = sent as f64 / seconds;
    Ok(HammerLimit { requests_per_second, items_per_second: requests_per_second * BATCH as f64 })
}

async fn make_table(address: &str) -> Result<()> {
    let key = |name, role| json!({"AttributeName": name, "KeyType": role});
    let attribute = |name| json!({"AttributeName": name, "AttributeType": "S"});
    let body = json!({
        "TableName": items::TABLE, "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [key(items::PARTITION_KEY, "HASH"), key(items::SORT_KEY, "RANGE")],
        "AttributeDefinitions": [attribute(items::PARTITION_KEY), attribute(items::SORT_KEY)],
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

/// A whole request. Servers on loopback want a signature and do not look into it.
fn request(operation: &str, body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-amz-json-1.0\r\n\
         x-amz-target: DynamoDB_20120810.{operation}\r\nx-amz-date: 20250101T000000Z\r\n\
         authorization: AWS4-HMAC-SHA256 Credential=bench/20250101/us-east-1/dynamodb/aws4_request, \
         SignedHeaders=host;x-amz-date;x-amz-target, Signature=00\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A connection that is kept, for one request after the other.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a request and answers with the body of a success.
    async fn ask(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            self.more().await?;
            if let Some(end) = self.buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
            if self.buffer.len() > LARGEST_HEAD {
                return Err("the server's answer has no end of its head".into());
            }
        };
        let (status, length) = parse_head(&self.buffer[..head])?;
        while self.buffer.len() < head + length {
            self.more().await?;
        }
        let body = &self.buffer[head..head + length];
        if status == 200 { Ok(body) } else { Err(format!("HTTP status {status}: {}", shown(body)).into()) }
    }

    async fn more(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err("the server has closed the connection".into()),
            _ => Ok(()),
        }
    }
}

/// Status and length of the body. Chunked bodies are not expected here.
fn parse_head(head: &[u8]) -> Result<(u16, usize)> {
    let head = std::str::from_utf8(head)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("no status line")?.parse()?;
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let (_, length) = length.ok_or("the server's answer has no content-length")?;
    Ok((status, length.trim().parse()?))
}

fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let head = b"HTTP/1.1 400 Bad Request\r\nServer: x\r\nContent-Length: 12\r\n\r\n";
        assert_eq!(parse_head(head).unwrap(), (400, 12));
        assert!(parse_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

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
