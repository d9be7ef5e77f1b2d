//! A proxy in front of a DynamoDB that does what servers do on bad days, by a script.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
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
    /// The connection is closed, and nothing is carried out.
    DropRequest,
    /// It is carried out after some milliseconds.
    Delay(u64),
    /// It is not carried out, and answered so.
    Answer(&'static str),
    /// Items and statements that hold this text are left out and given back.
    GiveBackHot(&'static str),
}

/// Bad weather: chances in a hundred for each request that writes or reads items.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub seed: u64,
    pub give_back: u64,
    pub throttle: u64,
    pub fail: u64,
    pub fail_after: u64,
    pub drop_request: u64,
    pub drop_answer: u64,
    pub delay: u64,
    /// Items a second that get through; those past it are given back.
    pub items_per_second: Option<u64>,
}

#[derive(Debug)]
struct Storm {
    weather: Weather,
    random: u64,
    /// Thousandths of items that may pass.
    room: u64,
    filled: Instant,
}

impl Storm {
    fn new(weather: Weather) -> Self {
        let room = weather.items_per_second.unwrap_or_default() * 100;
        Self { weather, random: weather.seed | 1, room, filled: Instant::now() }
    }

    /// A number below the limit (xorshift).
    fn random(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % limit
    }

    fn act(&mut self, operation: &str, body: &str) -> Option<Act> {
        let is_batch = matches!(operation, "BatchWriteItem" | "BatchExecuteStatement");
        if !is_batch && !matches!(operation, "BatchGetItem" | "PutItem" | "UpdateItem") {
            return None;
        }
        let count = if is_batch { items_of(body) } else { 1 };
        let weather = self.weather;
        let mut dice = self.random(100);
        let mut falls = |chance: u64| {
            let hit = dice < chance;
            dice = dice.saturating_sub(if hit { 0 } else { chance });
            hit
        };
        if is_batch && falls(weather.give_back) {
            let back = 1 + self.random(count as u64);
            return Some(Act::GiveBack(usize::try_from(back).unwrap()));
        }
        let refused = |status, code| Some(Act::Refuse { status, code });
        if falls(weather.throttle) {
            return refused(400, "ProvisionedThroughputExceededException");
        }
        if falls(weather.fail) {
            return refused(500, "InternalServerError");
        }
        for (chance, act) in [
            (weather.fail_after, Act::FailAfter),
            (weather.drop_request, Act::DropRequest),
            (weather.drop_answer, Act::DropAnswer),
            (weather.delay, Act::Delay(30)),
        ] {
            if falls(chance) {
                return Some(act);
            }
        }
        let limit = weather.items_per_second.filter(|_| is_batch)?;
        let passed = u64::try_from(self.filled.elapsed().as_millis()).unwrap();
        if passed > 0 {
            self.filled = Instant::now();
        }
        self.room = (self.room + passed * limit).min(limit * 100);
        let fits = usize::try_from(self.room / 1000).unwrap().min(count);
        self.room -= fits as u64 * 1000;
        match fits {
            0 => refused(400, "ProvisionedThroughputExceededException"),
            fits if fits < count => Some(Act::GiveBack(count - fits)),
            _ => None,
        }
    }
}

/// How many items or statements a request holds.
fn items_of(body: &str) -> usize {
    let body: Value = serde_json::from_str(body).unwrap();
    let statements = body["Statements"].as_array().map(Vec::len);
    let tables = body["RequestItems"].as_object();
    let items = |tables: &serde_json::Map<String, Value>| {
        tables.values().filter_map(|items| items.as_array().or(items["Keys"].as_array())).map(Vec::len).sum()
    };
    statements.or(tables.map(items)).unwrap_or(1)
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<(&'static str, Act)>,
    /// An operation all of whose requests meet the same act, until told otherwise.
    always: Option<(&'static str, Act)>,
    /// Requests with this text are refused as invalid.
    poison: Option<&'static str>,
    storm: Option<Storm>,
    /// Items with this text are given back until so many others have passed.
    hot: Option<(&'static str, usize)>,
    passed: usize,
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

    /// From now on the weather is bad.
    pub fn storm(&self, weather: Weather) {
        self.state.lock().unwrap().storm = Some(Storm::new(weather));
    }

    /// Items with this text are given back until so many others have passed.
    pub fn hot(&self, text: &'static str, others: usize) {
        self.state.lock().unwrap().hot = Some((text, others));
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
        if let Some((hot, others)) = state.hot {
            let count = items_of(body);
            // Each item holds the text once.
            let heated = body.matches(hot).count();
            let is_hot = heated > 0 && state.passed < others;
            state.passed += count - heated;
            return is_hot.then_some(Act::GiveBackHot(hot));
        }
        if let Some(storm) = &mut state.storm {
            return storm.act(operation, body);
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
                Some(Act::GiveBack(count)) => {
                    let kept = items_of(&text).saturating_sub(count);
                    give_back(upstream, &head, &text, |number, _| number < kept).await
                }
                Some(Act::GiveBackHot(hot)) => {
                    give_back(upstream, &head, &text, |_, item| !item.to_string().contains(hot)).await
                }
                Some(Act::DropRequest) => return,
                Some(Act::Answer(body)) => (200, body.as_bytes().to_vec()),
                Some(Act::Delay(milliseconds)) => {
                    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                    forward(upstream, &head, &body).await
                }
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

/// Carries out what is kept and gives back the rest.
async fn give_back(
    upstream: &str,
    head: &str,
    text: &str,
    keep: impl Fn(usize, &Value) -> bool,
) -> (u16, Vec<u8>) {
    let mut request: Value = serde_json::from_str(text).unwrap();
    if let Some(statements) = request.get_mut("Statements").and_then(Value::as_array_mut) {
        let kept: Vec<bool> =
            statements.iter().enumerate().map(|(number, statement)| keep(number, statement)).collect();
        let mut flags = kept.iter();
        statements.retain(|_| *flags.next().unwrap());
        let mut answered = carried_out(upstream, head, &request, kept.contains(&true)).await["Responses"]
            .as_array()
            .cloned()
            .unwrap_or_default()
            .into_iter();
        let failed = json!({"Error": {"Code": "ThrottlingError", "Message": "slow down"}});
        let responses: Vec<Value> = kept
            .into_iter()
            .map(|kept| if kept { answered.next().unwrap() } else { failed.clone() })
            .collect();
        return (200, json!({"Responses": responses}).to_string().into_bytes());
    }
    if request["RequestItems"].as_object().is_some_and(|tables| tables.values().all(Value::is_object)) {
        return give_back_keys(upstream, head, request, keep).await;
    }
    let tables = request["RequestItems"].as_object_mut().unwrap();
    let (table, items) = tables.iter_mut().next().unwrap();
    let table = table.clone();
    let (kept, back): (Vec<_>, Vec<_>) =
        items.as_array().unwrap().iter().cloned().enumerate().partition(|(number, item)| keep(*number, item));
    let values = |items: Vec<(usize, Value)>| items.into_iter().map(|(_, item)| item).collect::<Vec<_>>();
    let any = !kept.is_empty();
    *items = Value::Array(values(kept));
    let mut answer = carried_out(upstream, head, &request, any).await;
    answer["UnprocessedItems"] = if back.is_empty() { json!({}) } else { json!({table: values(back)}) };
    (200, answer.to_string().into_bytes())
}

/// Of a `BatchGetItem`: looks at the keys that are kept and gives back the rest.
async fn give_back_keys(
    upstream: &str,
    head: &str,
    mut request: Value,
    keep: impl Fn(usize, &Value) -> bool,
) -> (u16, Vec<u8>) {
    let mut back = request["RequestItems"].clone();
    let (table, wanted) = request["RequestItems"].as_object_mut().unwrap().iter_mut().next().unwrap();
    let keys = wanted["Keys"].as_array().unwrap().clone();
    let (kept, rest): (Vec<_>, Vec<_>) =
        keys.into_iter().enumerate().partition(|(number, key)| keep(*number, key));
    let values = |keys: Vec<(usize, Value)>| keys.into_iter().map(|(_, key)| key).collect::<Value>();
    let any = !kept.is_empty();
    back[table]["Keys"] = values(rest);
    wanted["Keys"] = values(kept);
    let mut answer = carried_out(upstream, head, &request, any).await;
    answer["UnprocessedKeys"] = back;
    (200, answer.to_string().into_bytes())
}

async fn carried_out(upstream: &str, head: &str, request: &Value, any: bool) -> Value {
    if !any {
        return json!({});
    }
    let (status, body) = forward(upstream, head, request.to_string().as_bytes()).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
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
