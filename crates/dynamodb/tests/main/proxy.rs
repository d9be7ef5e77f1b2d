//! A proxy in front of a DynamoDB that does what servers do on bad days, by a script.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// It is answered with an error and not carried out.
    Refuse { status: u16, code: &'static str },
    /// It is carried out, and the connection is closed without an answer.
    DropAnswer,
    /// It is carried out, and answered with status 500.
    FailAfter,
    /// The last so many of its items or statements are left out and given back.
    GiveBack(usize),
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<(&'static str, Act)>,
    /// An operation all of whose requests meet the same act, until told otherwise.
    always: Option<(&'static str, Act)>,
    /// Requests with this text are refused as invalid.
    poison: Option<&'static str>,
    seen: Vec<String>,
}

/// The proxy; ends with the runtime of its test.
#[derive(Clone, Debug)]
pub struct Proxy {
    state: Arc<Mutex<State>>,
    pub url: String,
}

impl Proxy {
    /// The first requests of the named operations meet these acts, in order; all others pass.
    pub async fn start(upstream: &str, script: Vec<(&'static str, Act)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { script: script.into(), ..State::default() }));
        let upstream = upstream.trim_start_matches("http://").to_owned();
        let proxy = Self { state, url };
        let accepted = proxy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (proxy, upstream) = (accepted.clone(), upstream.clone());
                tokio::spawn(async move { proxy.serve(client, &upstream).await });
            }
        });
        proxy
    }

    pub fn always(&self, operation: &'static str, act: Act) {
        self.state.lock().unwrap().always = Some((operation, act));
    }

    pub fn poison(&self, text: &'static str) {
        self.state.lock().unwrap().poison = Some(text);
    }

    /// How many requests of an operation came.
    pub fn seen(&self, operation: &str) -> usize {
        self.state.lock().unwrap().seen.iter().filter(|seen| *seen == operation).count()
    }

    fn act(&self, operation: &str, body: &str) -> Option<Act> {
        let mut state = self.state.lock().unwrap();
        state.seen.push(operation.to_owned());
        if state.poison.is_some_and(|poison| body.contains(poison)) {
            return Some(Act::Refuse { status: 400, code: "ValidationException" });
        }
        if let Some((_, act)) = state.always.as_ref().filter(|(wanted, _)| *wanted == operation) {
            return Some(act.clone());
        }
        let place = state.script.iter().position(|(wanted, _)| *wanted == operation)?;
        state.script.remove(place).map(|(_, act)| act)
    }

    async fn serve(&self, mut client: TcpStream, upstream: &str) {
        let mut buffer = Vec::new();
        while let Some((head, body)) = read_message(&mut client, &mut buffer).await {
            let operation = header(&head, "x-amz-target").rsplit('.').next().unwrap_or_default().to_owned();
            let text = String::from_utf8_lossy(&body).into_owned();
            let answer = match self.act(&operation, &text) {
                None => forward(upstream, &head, &body).await,
                Some(Act::Refuse { status, code }) => (status, error(code, &text)),
                Some(Act::DropAnswer) => {
                    forward(upstream, &head, &body).await;
                    return;
                }
                Some(Act::FailAfter) => {
                    forward(upstream, &head, &body).await;
                    (500, error("InternalServerError", "after the fact"))
                }
                Some(Act::GiveBack(count)) => give_back(upstream, &head, &text, count).await,
            };
            if client.write_all(&message(answer.0, &answer.1)).await.is_err() {
                return;
            }
        }
    }
}

fn error(code: &str, text: &str) -> Vec<u8> {
    let kind = format!("com.amazonaws.dynamodb.v20120810#{code}");
    json!({"__type": kind, "message": format!("the request was {text}")}).to_string().into_bytes()
}

fn message(status: u16, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

async fn give_back(upstream: &str, head: &str, text: &str, count: usize) -> (u16, Vec<u8>) {
    let mut request: Value = serde_json::from_str(text).unwrap();
    if let Some(statements) = request.get_mut("Statements").and_then(Value::as_array_mut) {
        let kept = statements.len().saturating_sub(count);
        let back = statements.split_off(kept).len();
        let failed = vec![json!({"Error": {"Code": "ThrottlingError", "Message": "slow down"}}); back];
        let mut answer = json!({"Responses": []});
        if kept > 0 {
            let (status, body) = forward(upstream, head, request.to_string().as_bytes()).await;
            assert_eq!(status, 200);
            answer = serde_json::from_slice(&body).unwrap();
        }
        answer["Responses"].as_array_mut().unwrap().extend(failed);
        return (200, answer.to_string().into_bytes());
    }
    let tables = request["RequestItems"].as_object_mut().unwrap();
    let (table, items) = tables.iter_mut().next().unwrap();
    let (table, items) = (table.clone(), items.as_array_mut().unwrap());
    let back = items.split_off(items.len().saturating_sub(count));
    let mut answer = json!({});
    if !items.is_empty() {
        let (status, body) = forward(upstream, head, request.to_string().as_bytes()).await;
        assert_eq!(status, 200);
        answer = serde_json::from_slice(&body).unwrap();
    }
    answer["UnprocessedItems"] = json!({table: back});
    (200, answer.to_string().into_bytes())
}

/// Sends a request on a connection of its own, as HTTP/1.0, so that the answer ends with the connection.
async fn forward(upstream: &str, head: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut server = TcpStream::connect(upstream).await.unwrap();
    let mut lines = vec!["POST / HTTP/1.0".to_owned(), format!("content-length: {}", body.len())];
    let dropped = ["content-length", "connection"];
    let kept = head.lines().skip(1).filter(|line| {
        line.split_once(':').is_some_and(|(name, _)| !dropped.contains(&name.to_ascii_lowercase().as_str()))
    });
    lines.extend(kept.map(str::to_owned));
    let request = [format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes(), body].concat();
    server.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await.unwrap();
    let end = find(&answer, b"\r\n\r\n").unwrap();
    let status = String::from_utf8_lossy(&answer[..end]).split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer[end + 4..].to_vec())
}

async fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length: usize = header(&head, "content-length").parse().unwrap_or(0);
            if buffer.len() >= end + 4 + length {
                let rest = buffer.split_off(end + 4 + length);
                let body = buffer.split_off(end + 4);
                *buffer = rest;
                return Some((head, body));
            }
        }
        let mut chunk = vec![0; 64 * 1024];
        match stream.read(&mut chunk).await {
            Ok(count) if count > 0 => buffer.extend(&chunk[..count]),
            _ => return None,
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .next()
        .unwrap_or_default()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
