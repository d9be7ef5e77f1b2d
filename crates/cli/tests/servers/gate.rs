//! What stands before an emulator of AWS that enforces policies: it notes what is asked for, and has those requests
//! judged that the emulator does not know how to judge.

use serde_json::{Value, json};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Whoever signs with this key is the account's root, who may do everything; the emulator looks at no signature of his.
pub const ROOT: (&str, &str) = ("test", "test");
pub const REGION: &str = "us-east-1";

/// A proxy on a port of its own.
pub struct Gate {
    pub endpoint: String,
    seen: Arc<Mutex<BTreeSet<String>>>,
    /// Whose policies are asked for.
    principal: Arc<Mutex<String>>,
}

impl Gate {
    pub fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("its address"));
        let gate = Self { endpoint, seen: Arc::default(), principal: Arc::default() };
        let (seen, principal) = (Arc::clone(&gate.seen), Arc::clone(&gate.principal));
        let server = Server(address(server));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let guard = Guard {
                    server: server.clone(),
                    seen: Arc::clone(&seen),
                    principal: Arc::clone(&principal),
                };
                std::thread::spawn(move || guard.serve(client));
            }
        });
        gate
    }

    pub fn judges(&self, principal: &str) {
        principal.clone_into(&mut self.principal.lock().expect("nobody panicked"));
    }

    /// The IAM actions that were asked for since the last time.
    pub fn actions(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.seen.lock().expect("nobody panicked"))
    }
}

fn address(url: &str) -> String {
    url.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// The emulator.
#[derive(Clone)]
pub struct Server(String);

impl Server {
    pub fn at(url: &str) -> Self {
        Self(address(url))
    }

    /// Sends a request and takes the answer as it comes, to its end.
    fn send(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(&self.0)?;
        server.write_all(request)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn as_root(&self, service: &str, headers: &str, body: &str) -> String {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\nX-Amz-Date: 20260101T000000Z\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={}/20260101/{REGION}/{service}/aws4_request, \
             SignedHeaders=host, Signature=0\r\n{headers}\r\n\r\n{body}",
            self.0,
            body.len(),
            ROOT.0
        );
        let answer = self.send(request.as_bytes()).expect("the emulator answers");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{body}");
        if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            return body.to_owned();
        }
        let lines = body.split("\r\n").collect::<Vec<_>>();
        lines.chunks(2).filter_map(|chunk| chunk.get(1)).copied().collect()
    }

    /// An action of IAM as the account's root.
    pub fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        let mut body = format!("Action={action}&Version=2010-05-08");
        for (name, value) in parameters {
            body.push_str(&format!("&{name}={}", encoded(value)));
        }
        self.as_root("iam", "Content-Type: application/x-www-form-urlencoded", &body)
    }

    /// An operation of DynamoDB as the account's root.
    pub fn dynamodb(&self, operation: &str, body: &Value) -> Value {
        let headers = format!(
            "Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: DynamoDB_20120810.{operation}"
        );
        serde_json::from_str(&self.as_root("dynamodb", &headers, &body.to_string())).expect("JSON")
    }
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// One connection, which carries one request.
struct Guard {
    server: Server,
    seen: Arc<Mutex<BTreeSet<String>>>,
    principal: Arc<Mutex<String>>,
}

struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// `None` where the client has gone.
    fn read(client: &mut TcpStream) -> Option<Self> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
            bytes.extend(&buffer[..count]);
        };
        let mut request =
            Self { head: String::from_utf8(bytes[..end].to_vec()).ok()?, body: bytes[end + 4..].to_vec() };
        let length: usize =
            request.header("content-length").map_or(0, |length| length.parse().expect("a number"));
        while request.body.len() < length {
            let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
            request.body.extend(&buffer[..count]);
        }
        Some(request)
    }

    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// The operation's name, where it is one of DynamoDB.
    fn operation(&self) -> Option<&str> {
        self.header("x-amz-target")?.strip_prefix("DynamoDB_20120810.")
    }

    fn is_root(&self) -> bool {
        let credential = format!("Credential={}/", ROOT.0);
        self.header("authorization").is_some_and(|authorization| authorization.contains(&credential))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The bytes for the emulator, which closes the connection behind its answer.
    fn bytes(&self) -> Vec<u8> {
        let kept = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            !["connection", "content-length"].contains(&name.as_str())
        };
        let head = self.head.lines().filter(kept).collect::<Vec<_>>().join("\r\n");
        let length = self.body.len();
        let head = format!("{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    /// The same, asked for by the account's root.
    fn of_root(&self, body: Vec<u8>) -> Self {
        let line = |line: &str| match line.split_once("Credential=") {
            Some((before, after)) => {
                let (_, rest) = after.split_once('/').expect("a scope");
                format!("{before}Credential={}/{rest}", ROOT.0)
            }
            None => line.to_owned(),
        };
        Self { head: self.head.lines().map(line).collect::<Vec<_>>().join("\r\n"), body }
    }
}

/// The action and the table of a PartiQL statement.
fn statement(statement: &Value) -> (String, String) {
    let text = statement["Statement"].as_str().expect("a statement");
    let action = match text.split(' ').next() {
        Some("INSERT") => "dynamodb:PartiQLInsert",
        Some("UPDATE") => "dynamodb:PartiQLUpdate",
        Some("DELETE") => "dynamodb:PartiQLDelete",
        _ => "dynamodb:PartiQLSelect",
    };
    (action.to_owned(), text.split('"').nth(1).expect("a table").to_owned())
}

fn account(principal: &str) -> &str {
    principal.split(':').nth(4).expect("an account")
}

impl Guard {
    fn serve(&self, mut client: TcpStream) {
        let Some(request) = Request::read(&mut client) else { return };
        self.note(&request);
        let answer = if request.is_root() { None } else { self.judged(&request) };
        let answer = match answer {
            Some(answer) => answer,
            None => self.server.send(&request.bytes()).expect("the emulator answers"),
        };
        // A client that was killed has gone.
        let _ = client.write_all(&answer);
    }

    fn note(&self, request: &Request) {
        let mut seen = self.seen.lock().expect("nobody panicked");
        match request.operation() {
            Some("BatchExecuteStatement") => {
                let statements = request.json()["Statements"].as_array().cloned().unwrap_or_default();
                seen.extend(statements.iter().map(|one| statement(one).0));
            }
            Some(operation) => {
                seen.insert(format!("dynamodb:{operation}"));
            }
            None => {}
        }
    }

    /// What the emulator takes for something on no resource at all: the answer, where it is not its own.
    fn judged(&self, request: &Request) -> Option<Vec<u8>> {
        let operation = request.operation()?;
        let body = request.json();
        let resource = match operation {
            "BatchExecuteStatement" => return Some(self.statements(request, &body)),
            "TagResource" | "ListTagsOfResource" => &body["ResourceArn"],
            "DescribeBackup" => &body["BackupArn"],
            _ => return None,
        };
        let (action, resource) = (format!("dynamodb:{operation}"), resource.as_str().expect("an ARN"));
        Some(match self.is_allowed(&action, resource) {
            true => self.server.send(&request.of_root(request.body.clone()).bytes()).expect("an answer"),
            false => {
                let denied = json!({
                    "__type": "com.amazon.coral.service#AccessDeniedException",
                    "Message": self.denial(&action, resource)
                });
                answer(400, &denied)
            }
        })
    }

    /// Each statement has an answer of its own.
    fn statements(&self, request: &Request, body: &Value) -> Vec<u8> {
        let principal = self.principal.lock().expect("nobody panicked").clone();
        let statements = body["Statements"].as_array().expect("statements");
        let judge = |one: &Value| {
            let (action, table) = statement(one);
            let arn = format!("arn:aws:dynamodb:{REGION}:{}:table/{table}", account(&principal));
            (action, arn)
        };
        let mut verdicts = BTreeMap::new();
        for one in statements {
            let asked = judge(one);
            if let Entry::Vacant(unknown) = verdicts.entry(asked) {
                let (action, arn) = unknown.key();
                let is_allowed = self.is_allowed(action, arn);
                unknown.insert(is_allowed);
            }
        }
        let allowed: Vec<&Value> = statements.iter().filter(|one| verdicts[&judge(one)]).collect();
        let mut answered = json!({ "Responses": [] });
        if !allowed.is_empty() {
            let mut body = body.clone();
            body["Statements"] = json!(allowed);
            let sent = request.of_root(body.to_string().into_bytes()).bytes();
            let whole = self.server.send(&sent).expect("the emulator answers");
            if allowed.len() == statements.len() {
                return whole;
            }
            let text = String::from_utf8(whole).expect("JSON is text");
            let (_, body) = text.split_once("\r\n\r\n").expect("a head");
            answered = serde_json::from_str(body).expect("JSON");
        }
        let mut responses = answered["Responses"].as_array().cloned().expect("answers").into_iter();
        let all = statements.iter().map(|one| {
            let (action, arn) = judge(one);
            match verdicts[&(action.clone(), arn.clone())] {
                true => responses.next().expect("an answer for each"),
                false => {
                    json!({ "Error": { "Code": "AccessDenied", "Message": self.denial(&action, &arn) } })
                }
            }
        });
        let all: Vec<Value> = all.collect();
        answered["Responses"] = json!(all);
        answer(200, &answered)
    }

    /// The emulator's own simulation of the principal's policies decides.
    fn is_allowed(&self, action: &str, resource: &str) -> bool {
        let principal = self.principal.lock().expect("nobody panicked").clone();
        let simulated = self.server.iam(
            "SimulatePrincipalPolicy",
            &[
                ("PolicySourceArn", &principal),
                ("ActionNames.member.1", action),
                ("ResourceArns.member.1", resource),
            ],
        );
        simulated.contains("<EvalDecision>allowed</EvalDecision>")
    }

    fn denial(&self, action: &str, resource: &str) -> String {
        let principal = self.principal.lock().expect("nobody panicked").clone();
        format!(
            "User: {principal} is not authorized to perform: {action} on resource: {resource} because no \
             identity-based policy allows the {action} action"
        )
    }
}

fn answer(status: u16, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let reason = if status == 200 { "OK" } else { "Bad Request" };
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
