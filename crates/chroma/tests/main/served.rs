//! A server that speaks as Chroma's do, of either generation, and that fails where it is told to.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A record as the server holds it.
#[derive(Clone, Debug)]
pub struct Held {
    pub id: String,
    pub document: Option<String>,
    pub uri: Option<String>,
    pub metadata: Option<Value>,
    /// `None`: the server has lost it.
    pub embedding: Option<Vec<f32>>,
}

/// What a request meets with in place of its answer.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    Status(u16),
    /// The connection ends in the middle of the answer.
    CutOff,
}

/// What a server that has lost an embedding does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    Fails,
    GivesTooFew,
    GivesNull,
}

type Meddling = Box<dyn FnMut(&mut Vec<Held>, &Value) + Send>;

/// What the server has and how it behaves.
pub struct Holding {
    /// 1: the API up to 0.5.15; 2: that of later ones.
    pub generation: u8,
    pub version: &'static str,
    pub id: String,
    pub metric: &'static str,
    /// Whether the collection's metadata still say the metric.
    pub says_metric: bool,
    pub records: Vec<Held>,
    pub loss: Loss,
    /// A header without which nobody is let in.
    pub login: Option<(&'static str, &'static str)>,
    /// What the next requests for records meet with.
    pub troubles: VecDeque<Trouble>,
    /// Changes the records before each request for some, whose body it sees.
    pub meddling: Option<Meddling>,
    /// The bodies of all requests for records.
    pub asked: Vec<Value>,
}

/// A server on a port of its own, until it is dropped.
pub struct Served {
    pub url: String,
    holding: Arc<Mutex<Holding>>,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    pub async fn start(generation: u8, metric: &'static str, records: Vec<Held>) -> Self {
        let holding = Arc::new(Mutex::new(Holding {
            generation,
            version: if generation == 1 { "0.4.24" } else { "1.0.0" },
            id: "5b8e3a3c-0000-4000-8000-000000000001".to_owned(),
            metric,
            says_metric: true,
            records,
            loss: Loss::Fails,
            login: None,
            troubles: VecDeque::new(),
            meddling: None,
            asked: Vec::new(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let app = Router::new().fallback(answer).with_state(Arc::clone(&holding));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.expect("it serves") });
        Self { url, holding, task }
    }

    pub fn holding(&self) -> MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The records that a directory is known to hold, as a server would give them.
pub fn records_of(truth: &Value) -> Vec<Held> {
    let held = |record: &Value| {
        let text = |name: &str| record[name].as_str().map(str::to_owned);
        let metadata: Map<String, Value> = record["metadata"]
            .as_object()
            .expect("metadata")
            .iter()
            .map(|(key, value)| (key.clone(), plain(value)))
            .collect();
        let floats = record["embedding"].as_str().map(|text| {
            let bytes = STANDARD.decode(text).expect("base64");
            bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four"))).collect()
        });
        Held {
            id: text("id").expect("an id"),
            document: text("document"),
            uri: text("uri"),
            metadata: (!metadata.is_empty()).then_some(Value::Object(metadata)),
            embedding: floats,
        }
    };
    truth["records"].as_array().expect("records").iter().map(held).collect()
}

/// A value of the truth as JSON.
fn plain(value: &Value) -> Value {
    let Value::Object(typed) = value else { return value.clone() };
    match typed.iter().next().expect("a typed value") {
        (kind, Value::String(digits)) if kind == "i" => serde_json::from_str(digits).expect("an integer"),
        (kind, Value::String(hex)) if kind == "f" => {
            json!(f64::from_bits(u64::from_str_radix(hex, 16).expect("bits")))
        }
        (_, Value::Array(values)) => values.iter().map(plain).collect(),
        other => panic!("the truth has a value of another kind: {other:?}"),
    }
}

fn text(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    Response::builder().status(status).body(body.into()).expect("an answer")
}

fn refused(status: StatusCode, kind: &str, message: &str) -> Response<Body> {
    text(status, json!({ "error": kind, "message": message }).to_string())
}

async fn answer(
    State(holding): State<Arc<Mutex<Holding>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let mut holding = holding.lock().unwrap_or_else(PoisonError::into_inner);
    let steps: Vec<&str> = uri.path().trim_start_matches('/').split('/').collect();
    let word = if holding.generation == 1 { "v1" } else { "v2" };
    let Some(["api", own]) = steps.first_chunk::<2>() else {
        return text(StatusCode::NOT_FOUND, r#"{"detail":"Not Found"}"#);
    };
    if *own != word {
        return refused(StatusCode::GONE, "Unimplemented", "The v1 API is deprecated. Please use /v2 apis");
    }
    match &steps[2..] {
        ["heartbeat"] => return text(StatusCode::OK, r#"{"nanosecond heartbeat":1795286052880514240}"#),
        ["version"] => return text(StatusCode::OK, json!(holding.version).to_string()),
        _ => {}
    }
    if let Some((name, value)) = holding.login
        && headers.get(name).is_none_or(|given| given != value)
    {
        return refused(StatusCode::UNAUTHORIZED, "AuthError", &"no entry ".repeat(200));
    }
    let query = uri.query().unwrap_or_default();
    let rest = match holding.generation {
        1 if query.contains("tenant=default_tenant&database=default_database") => &steps[2..],
        2 if steps[2..].starts_with(&["tenants", "default_tenant", "databases", "default_database"]) => {
            &steps[6..]
        }
        // Another place holds nothing.
        _ if steps.last() == Some(&"collections") => return text(StatusCode::OK, "[]"),
        _ => &["nothing"],
    };
    let id = holding.id.clone();
    match (method, rest) {
        (Method::GET, ["collections"]) if query.contains("offset=0") => {
            text(StatusCode::OK, json!([described(&holding)]).to_string())
        }
        (Method::GET, ["collections"]) => text(StatusCode::OK, "[]"),
        (Method::GET, ["collections", "docs"]) => text(StatusCode::OK, described(&holding).to_string()),
        (Method::GET, ["collections", one, "count"]) if *one == id => {
            text(StatusCode::OK, holding.records.len().to_string())
        }
        (Method::POST, ["collections", one, "get"]) if *one == id => {
            got(&mut holding, &serde_json::from_slice(&body).expect("a body"))
        }
        (Method::POST, ["collections", one, "query"]) if *one == id => text(
            StatusCode::OK,
            searched(&holding, &serde_json::from_slice(&body).expect("a body")).to_string(),
        ),
        _ if holding.generation == 1 => {
            text(StatusCode::INTERNAL_SERVER_ERROR, r#"{"error":"ValueError('Collection does not exist.')"}"#)
        }
        _ => refused(StatusCode::NOT_FOUND, "NotFoundError", "Collection does not exist"),
    }
}

fn described(holding: &Holding) -> Value {
    let mut collection =
        json!({ "id": holding.id, "name": "docs", "metadata": { "hnsw:space": holding.metric } });
    if !holding.says_metric {
        collection["metadata"] = json!({ "owner": "somebody" });
    }
    if holding.generation == 2 {
        collection["dimension"] =
            json!(holding.records.iter().find_map(|one| one.embedding.as_ref().map(Vec::len)));
        collection["metadata"] = Value::Null;
        collection["configuration_json"] = json!({ "hnsw": { "space": holding.metric } });
    }
    collection
}

fn got(holding: &mut Holding, asked: &Value) -> Response<Body> {
    holding.asked.push(asked.clone());
    if let Some(mut meddling) = holding.meddling.take() {
        meddling(&mut holding.records, asked);
        holding.meddling = Some(meddling);
    }
    if let Some(Trouble::Status(status)) = holding.troubles.front() {
        let status = StatusCode::from_u16(*status).expect("a status");
        holding.troubles.pop_front();
        let answer = Response::builder().status(status).header("retry-after", "0");
        return answer.body(Body::from("<html>busy</html>")).expect("an answer");
    }
    let ids: Option<HashSet<&str>> =
        asked["ids"].as_array().map(|ids| ids.iter().filter_map(Value::as_str).collect());
    let is_asked = |one: &&Held| ids.as_ref().is_none_or(|ids| ids.contains(one.id.as_str()));
    let number = |name: &str| asked[name].as_u64().map(|number| usize::try_from(number).expect("a number"));
    let chosen = holding.records.iter().filter(is_asked);
    let chosen: Vec<&Held> =
        chosen.skip(number("offset").unwrap_or(0)).take(number("limit").unwrap_or(usize::MAX)).collect();
    let wants = |name: &str| asked["include"].as_array().expect("include").iter().any(|one| one == name);
    if wants("embeddings") && holding.loss == Loss::Fails && chosen.iter().any(|one| one.embedding.is_none())
    {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            r#"{"error":"IndexError('list index out of range')"}"#,
        );
    }
    let list = |name: &str, of: &dyn Fn(&Held) -> Value| match wants(name) {
        true => chosen.iter().map(|one| of(one)).collect(),
        false => Value::Null,
    };
    let embeddings = wants("embeddings").then(|| embeddings(holding, &chosen));
    let mut answer = json!({
        "ids": chosen.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(),
        "documents": list("documents", &|one| json!(one.document)),
        "metadatas": list("metadatas", &|one| json!(one.metadata)),
        "uris": list("uris", &|one| json!(one.uri)),
    })
    .to_string();
    answer.insert_str(1, &format!("\"embeddings\":{},", embeddings.unwrap_or("null".to_owned())));
    if holding.troubles.pop_front().is_some() {
        let front = Bytes::from(answer[..answer.len() / 2].to_owned());
        let ends = std::io::Error::other("the connection is gone");
        return text(StatusCode::OK, Body::from_stream(futures::stream::iter([Ok(front), Err(ends)])));
    }
    text(StatusCode::OK, answer)
}

/// As each generation prints them: the one as 64-bit floats, the other with the digits that name a 32-bit float.
fn embeddings(holding: &Holding, chosen: &[&Held]) -> String {
    let list = |floats: &Vec<f32>| {
        let print = |float: &f32| match holding.generation {
            1 => format!("{:?}", f64::from(*float)),
            _ => format!("{float:?}"),
        };
        format!("[{}]", floats.iter().map(print).collect::<Vec<_>>().join(","))
    };
    let printed = chosen.iter().filter_map(|one| match (&one.embedding, holding.loss) {
        (Some(floats), _) => Some(list(floats)),
        (None, Loss::GivesNull) => Some("null".to_owned()),
        (None, _) => None,
    });
    format!("[{}]", printed.collect::<Vec<_>>().join(","))
}

/// The first records with their distances; which ones is of no account here.
fn searched(holding: &Holding, asked: &Value) -> Value {
    let floats: Vec<f64> = serde_json::from_value(asked["query_embeddings"][0].clone()).expect("floats");
    let dot = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
    let embeddings = holding.records.iter().filter_map(|one| one.embedding.as_ref()).take(4);
    let embeddings: Vec<Vec<f64>> =
        embeddings.map(|floats| floats.iter().map(|float| f64::from(*float)).collect()).collect();
    let distance = |one: &Vec<f64>| match holding.metric {
        "l2" => one.iter().zip(&floats).map(|(a, b)| (a - b) * (a - b)).sum(),
        "cosine" => 1.0 - dot(one, &floats) / (dot(one, one) * dot(&floats, &floats)).sqrt(),
        _ => 1.0 - dot(one, &floats),
    };
    let distances: Vec<f64> = embeddings.iter().map(distance).collect();
    json!({ "ids": [[]], "distances": [distances], "embeddings": [embeddings] })
}
