//! A running server: collections over HTTP, by the API of either generation.
//!
//! Which API a server speaks is asked of it. A collection is read by ids: all of them are listed first, page by page
//! and without a gap however it changes meanwhile ([`listing`]), and records are then asked for by their ids, so that
//! slices and cursors are ranges of ids. Embeddings come as decimal numbers, which name one 32-bit float each
//! ([`answer`]).

mod answer;
mod catalog;
mod listing;
mod metric;
mod requests;
mod source;

pub(crate) use source::ServerSource;

use crate::config::{Address, ChromaConfig};
use catalog::Served;
use listing::Listing;
use requests::{Question, Requests};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Mutex, OnceCell};
use whimbrel_model::StoreName;
use whimbrel_store::{Finding, Result, RunContext, StoreError, StoreErrorKind};

/// How many collections `check` lists.
const COLLECTIONS_SHOWN: usize = 20;

/// A store's server.
pub(crate) struct Server {
    pub(crate) store: StoreName,
    pub(crate) config: ChromaConfig,
    requests: Requests,
    api: OnceCell<Api>,
    /// The ids of this epoch, by the collection's id.
    listings: Mutex<HashMap<String, Arc<OnceCell<Arc<Listing>>>>>,
}

/// What a server speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Api {
    generation: Generation,
    /// As the server says it: `1.0.0` by every later one, too.
    version: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    /// `/api/v1`, up to 0.5.15.
    First,
    /// `/api/v2`, from 0.5.16 on.
    Second,
}

/// A tenant's database.
#[derive(Clone, Copy, Debug)]
struct Within<'a> {
    tenant: &'a str,
    database: &'a str,
}

impl Generation {
    fn word(self) -> &'static str {
        match self {
            Self::First => "v1",
            Self::Second => "v2",
        }
    }

    /// A question about the collections of a database.
    fn question<'a>(self, method: Method, within: Within<'a>, steps: &[&'a str]) -> Question<'a> {
        let Within { tenant, database } = within;
        let mut path = vec!["api", self.word()];
        let mut query = Vec::new();
        match self {
            Self::First => query.extend([("tenant", tenant.to_owned()), ("database", database.to_owned())]),
            Self::Second => path.extend(["tenants", tenant, "databases", database]),
        }
        path.extend(steps);
        Question { method, path, query, body: None, is_tried_once: false }
    }
}

impl Api {
    /// Whether several records at once come with their embeddings in another order: 0.4.0 to 0.4.3.
    fn mixes_embeddings(&self) -> bool {
        matches!(self.version.as_str(), "0.4.0" | "0.4.1" | "0.4.2" | "0.4.3")
    }

    /// Whether the configuration of a collection is to be believed: before 1.0 it says `l2` whatever is true.
    fn configures_truly(&self) -> bool {
        !self.version.starts_with("0.")
    }
}

impl Server {
    pub(crate) fn new(store: &StoreName, config: ChromaConfig, address: &Address) -> Self {
        Self {
            store: store.clone(),
            requests: Requests::new(store, address),
            config,
            api: OnceCell::new(),
            listings: Mutex::default(),
        }
    }

    fn error(&self, kind: StoreErrorKind, context: impl Into<String>) -> StoreError {
        StoreError::new(kind, &self.store, context)
    }

    /// What the server speaks; asked once.
    async fn api(&self) -> Result<&Api> {
        self.api.get_or_try_init(|| self.ask_api()).await
    }

    async fn ask_api(&self) -> Result<Api> {
        let doing = format!("cannot speak with {}", self.config);
        for generation in [Generation::Second, Generation::First] {
            let question = |step| Question {
                method: Method::GET,
                path: vec!["api", generation.word(), step],
                query: Vec::new(),
                body: None,
                is_tried_once: true,
            };
            let beat = match self.requests.ask(&question("heartbeat"), None).await {
                Ok(beat) => beat,
                // The other generation's turn: servers refuse what they do not know in ways of their own.
                Err(refusal) if refusal.is_refused() || refusal.is_failure_within() => continue,
                Err(refusal) => return Err(refusal.into_error(&self.store, &doing)),
            };
            let is_chroma = serde_json::from_slice::<Value>(&beat).is_ok_and(|beat| {
                beat.as_object().is_some_and(|beat| beat.contains_key("nanosecond heartbeat"))
            });
            if !is_chroma {
                continue;
            }
            let version = self.requests.told(&doing, &question("version"), None).await?;
            return Ok(Api { generation, version: self.read(&doing, &version)? });
        }
        Err(self
            .error(StoreErrorKind::Protocol, format!("{doing}: what answers there is no Chroma server"))
            .with_hint("`url` is the server's own address, `http://HOST:8000`, without a path unless a proxy adds one"))
    }

    /// An answer in JSON.
    fn read<T: DeserializeOwned>(&self, doing: &str, answer: &[u8]) -> Result<T> {
        serde_json::from_slice(answer).map_err(|error| {
            let context = format!("{doing}: the server's answer is not what Chroma answers");
            self.error(StoreErrorKind::Protocol, context).caused_by(error)
        })
    }

    /// Asks for the records of a collection. A failure within the server over some records is not tried again.
    async fn records(
        &self,
        collection: &Served,
        body: &Value,
        context: Option<&RunContext>,
    ) -> Result<std::result::Result<Vec<u8>, requests::Refusal>> {
        let api = self.api().await?;
        let steps = ["collections", collection.id.as_str(), "get"];
        let mut question = api.generation.question(Method::POST, collection.within(), &steps);
        question.body = Some(body.to_string());
        question.is_tried_once = body.get("ids").is_some();
        Ok(self.requests.ask(&question, context).await)
    }

    /// How many records the server counts.
    async fn count(&self, collection: &Served) -> Result<u64> {
        let api = self.api().await?;
        let steps = ["collections", collection.id.as_str(), "count"];
        let question = api.generation.question(Method::GET, collection.within(), &steps);
        let doing = format!("cannot count the records of the collection {}", collection.full_name());
        let answer = self.requests.told(&doing, &question, None).await?;
        self.read(&doing, &answer)
    }

    /// The ids of a collection, as they are in this epoch.
    async fn listing(&self, collection: &Served) -> Result<Arc<Listing>> {
        let of_collection = {
            let mut listings = self.listings.lock().await;
            Arc::clone(listings.entry(collection.id.clone()).or_default())
        };
        let made = of_collection.get_or_try_init(|| async { self.list(collection).await.map(Arc::new) });
        made.await.map(Arc::clone)
    }

    /// What it is: the server by its address, and in it the database. Connects.
    pub(crate) async fn identity(&self) -> Result<String> {
        let ChromaConfig { tenant, database, .. } = &self.config;
        // Whoever may not look is told so now.
        self.collections(Within { tenant, database }, 1).await?;
        Ok(format!("{} tenant {tenant} database {database}", self.config))
    }

    /// What `check` tells of a server.
    pub(crate) async fn findings(&self) -> Result<Vec<Finding>> {
        let ChromaConfig { tenant, database, .. } = &self.config;
        let api = self.api().await?;
        let collections = self.collections(Within { tenant, database }, usize::MAX).await?;
        let mut findings = vec![Finding::good(format!(
            "{}: version {}, API {}: {} collections in {tenant}/{database}",
            self.config,
            api.version,
            api.generation.word(),
            collections.len(),
        ))];
        findings.extend(collections.iter().take(COLLECTIONS_SHOWN).map(|one| {
            let dimension = one.dimension.map_or("not said".to_owned(), |count| count.to_string());
            let metric = if one.says_metric { one.metric.as_str() } else { "not said" };
            Finding::good(format!("{}: dimensions {dimension}, metric {metric}", one.full_name()))
        }));
        let more = collections.len().saturating_sub(COLLECTIONS_SHOWN);
        findings.extend((more > 0).then(|| Finding::good(format!("and {more} more collections"))));
        Ok(findings)
    }

    /// From now on the ids are listed anew.
    pub(crate) async fn begin_epoch(&self) {
        self.listings.lock().await.clear();
    }

    /// Lets go of what was listed. Whoever still reads keeps it until the end.
    pub(crate) async fn close(&self) {
        self.listings.lock().await.clear();
    }
}
