//! Which collections a server has, and what they are.

use super::{Api, Server, Within};
use crate::catalog::Metric;
use crate::error::Outcome;
use crate::types::Described;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// How many collections are listed in one request.
const PAGE: usize = 100;
/// How many names a message lists.
const NAMES_SHOWN: usize = 20;

/// A collection as a server describes it.
#[derive(Debug, Deserialize)]
struct Said {
    id: String,
    name: String,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
    #[serde(default)]
    dimension: Option<usize>,
    #[serde(default)]
    configuration_json: Option<Value>,
    #[serde(default)]
    schema: Option<Value>,
}

/// A collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// Its UUID, as text.
    pub(super) id: String,
    name: String,
    tenant: String,
    database: String,
    /// `None`: it has never held an embedding, or the server does not say.
    pub(super) dimension: Option<usize>,
    pub(super) metric: Metric,
    /// Whether the server says the metric; else it is Chroma's own default.
    pub(super) says_metric: bool,
    /// Names of metadata that the server knows.
    pub(super) keys: BTreeSet<String>,
}

impl Served {
    fn of(said: Said, within: Within<'_>, api: &Api) -> Self {
        let space = space(&said, api);
        let keys = said.schema.as_ref().and_then(|schema| schema.get("keys")?.as_object());
        // Names with a hash are Chroma's own.
        let keys = keys.into_iter().flat_map(Map::keys).filter(|key| !key.starts_with('#'));
        Self {
            keys: keys.cloned().collect(),
            metric: space.map_or(Metric::L2, Metric::of_word),
            says_metric: space.is_some(),
            id: said.id,
            name: said.name,
            tenant: within.tenant.to_owned(),
            database: within.database.to_owned(),
            dimension: said.dimension,
        }
    }

    /// The name by which it can always be read.
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}/{}", self.tenant, self.database, self.name)
    }

    pub(super) fn within(&self) -> Within<'_> {
        Within { tenant: &self.tenant, database: &self.database }
    }
}

impl Described for Served {
    fn full_name(&self) -> String {
        Self::full_name(self)
    }

    fn dimension(&self) -> Option<usize> {
        self.dimension
    }

    fn metric(&self) -> &Metric {
        &self.metric
    }

    fn keys(&self) -> Outcome<Vec<String>> {
        Ok(self.keys.iter().cloned().collect())
    }
}

/// The word for the distance: from 1.0 on in the configuration, before in the metadata that the collection was made
/// with.
fn space<'a>(said: &'a Said, api: &Api) -> Option<&'a str> {
    if api.configures_truly()
        && let Some(configuration) = &said.configuration_json
    {
        let index = |name: &str| configuration.get(name)?.get("space")?.as_str();
        return index("hnsw").or_else(|| index("spann"));
    }
    said.metadata.as_ref()?.get("hnsw:space")?.as_str()
}

impl Server {
    /// The collections of a database, in the server's order, so many at the most.
    pub(super) async fn collections(&self, within: Within<'_>, at_most: usize) -> Result<Vec<Served>> {
        let api = self.api().await?;
        let doing = format!("cannot list the collections of {}/{}", within.tenant, within.database);
        let mut found: Vec<Served> = Vec::new();
        let mut known = BTreeSet::new();
        loop {
            let mut question = api.generation.question(Method::GET, within, &["collections"]);
            let page = PAGE.min(at_most - found.len());
            question.query.extend([("limit", page.to_string()), ("offset", found.len().to_string())]);
            let answer = self.requests.told(&doing, &question, None).await?;
            let said: Vec<Said> = self.read(&doing, &answer)?;
            let before = found.len();
            // The oldest servers know no pages and answer with everything, again and again.
            let new = said.into_iter().filter(|one| known.insert(one.id.clone()));
            found.extend(new.map(|one| Served::of(one, within, api)));
            if found.len() == before || found.len() >= at_most {
                found.truncate(at_most);
                return Ok(found);
            }
        }
    }

    /// The collection of a name: `docs` in the store's own tenant and database, `database/docs`, or
    /// `tenant/database/docs`.
    pub(super) async fn collection(&self, name: &str) -> Result<Served> {
        let (within, own) = self.places(name);
        let api = self.api().await?;
        let question = api.generation.question(Method::GET, within, &["collections", own]);
        let doing = format!("cannot look at the collection \"{name}\"");
        match self.requests.ask(&question, None).await {
            Ok(answer) => Ok(Served::of(self.read(&doing, &answer)?, within, api)),
            // Each version has a status of its own for one that is not there.
            Err(refusal) if refusal.is_refused() || refusal.is_failure_within() => {
                let all = match self.collections(within, usize::MAX).await {
                    Ok(all) => all,
                    // There may be no such database.
                    Err(_) => return Err(refusal.into_error(&self.store, &doing)),
                };
                if all.iter().any(|one| one.name == own) {
                    return Err(refusal.into_error(&self.store, &doing));
                }
                Err(self.missing(&all, within, own))
            }
            Err(refusal) => Err(refusal.into_error(&self.store, &doing)),
        }
    }

    /// The database that a name means, and the collection's own name.
    fn places<'a>(&'a self, name: &'a str) -> (Within<'a>, &'a str) {
        let (tenant, database) = (self.config.tenant.as_str(), self.config.database.as_str());
        let own = Within { tenant, database };
        // A tenant or database may have a slash in its name, too.
        if let Some(name) = name.strip_prefix(&format!("{tenant}/{database}/")) {
            return (own, name);
        }
        let parts: Vec<&str> = name.split('/').collect();
        match parts.as_slice() {
            [tenant, database, name] => (Within { tenant, database }, name),
            [database, name] => (Within { tenant, database }, name),
            _ => (own, name),
        }
    }

    /// There is no such collection, with those that there are.
    fn missing(&self, all: &[Served], within: Within<'_>, own: &str) -> StoreError {
        let Within { tenant, database } = within;
        let mut context = format!("there is no collection \"{tenant}/{database}/{own}\"");
        if all.is_empty() {
            context.push_str(", nor any other in that database");
            return self.error(StoreErrorKind::NotFound, context).with_hint(
                "one in another place is named `tenant/database/name`, or give the store its `tenant` and `database`",
            );
        }
        let shown: Vec<&str> = all.iter().take(NAMES_SHOWN).map(|one| one.name.as_str()).collect();
        context.push_str(&format!("; there are {}", shown.join(", ")));
        let more = all.len().saturating_sub(NAMES_SHOWN);
        if more > 0 {
            context.push_str(&format!(", and {more} more"));
        }
        self.error(StoreErrorKind::NotFound, context)
            .with_nearest(own, all.iter().map(|one| one.name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Generation;
    use super::*;

    fn served(version: &str, text: &str) -> Served {
        let api = Api { generation: Generation::Second, version: version.to_owned() };
        let within = Within { tenant: "t", database: "d" };
        Served::of(serde_json::from_str(text).unwrap(), within, &api)
    }

    /// What servers of these versions have answered, shortened.
    #[test]
    fn each_line_of_versions_says_the_metric_elsewhere() {
        let old =
            r#"{"name":"docs","id":"48c4","metadata":{"hnsw:space":"cosine"},"tenant":"t","database":"d"}"#;
        let found = served("0.4.24", old);
        assert_eq!(
            (found.full_name().as_str(), found.metric, found.dimension),
            ("t/d/docs", Metric::Cosine, None)
        );
        let misleading = r#"{"id":"1","name":"docs","configuration_json":{"hnsw_configuration":{"space":"l2","_type":
            "HNSWConfigurationInternal"},"_type":"CollectionConfigurationInternal"},"metadata":{"hnsw:space":"ip"},
            "dimension":6,"tenant":"t","database":"d","version":0,"log_position":0}"#;
        let found = served("0.5.23", misleading);
        assert_eq!((found.metric, found.dimension), (Metric::InnerProduct, Some(6)));
        let replaced = misleading.replace("hnsw:space", "owner");
        assert!(!served("0.5.23", &replaced).says_metric, "the user's metadata have taken its place");
        let new = r##"{"id":"0e11","name":"docs","configuration_json":{"hnsw":{"space":"cosine","max_neighbors":16},
            "spann":null,"embedding_function":null},"schema":{"defaults":{},"keys":{"n":{},"#document":{},"s":{}}},
            "metadata":{"hnsw:space":"l2"},"dimension":6,"tenant":"t","database":"d","log_position":0,"version":0}"##;
        let found = served("1.0.0", new);
        assert_eq!(found.metric, Metric::Cosine);
        assert_eq!(Described::keys(&found).unwrap(), ["n", "s"]);
        let bare = r#"{"id":"1","name":"docs","metadata":null,"configuration_json":{"hnsw":null,"spann":{"space":"ip"}}}"#;
        assert_eq!(served("1.0.0", bare).metric, Metric::InnerProduct);
        assert_eq!(served("0.4.0", r#"{"id":"1","name":"docs"}"#).metric, Metric::L2);
    }
}
