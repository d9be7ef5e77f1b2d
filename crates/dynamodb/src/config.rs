//! What the spec says of a DynamoDB store.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// A DynamoDB store of the spec: `dynamodb: { region, endpoint, profile, consistent_reads, tables }`.
///
/// What is unset comes from the AWS configuration of the machine (`AWS_*` variables, profiles).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DynamoConfig {
    /// The region, `eu-west-1`.
    pub region: Option<String>,
    /// The URL of the service, where it is not AWS's own: `http://127.0.0.1:8000`.
    pub endpoint: Option<String>,
    /// The profile of the AWS configuration files.
    pub profile: Option<String>,
    /// Whether reading sees every write that was answered before; it costs twice the read units.
    pub consistent_reads: bool,
    /// What tables are to look like, by name: `{ "file": PATH }` or `{ "key": …, "sort_key": …, "billing": … }`.
    pub tables: BTreeMap<String, Value>,
    /// What provisioned tables and their indexes take while a run goes on; put back behind it.
    pub capacity: Option<DuringRun>,
    /// Credentials that take the place of the machine's own.
    pub credentials: Option<StaticCredentials>,
    /// What people are shown, and what the identity holds, instead of the endpoint, where the endpoint is a
    /// loopback port that changes with every start: `embedded:data/app.dynamodb`.
    pub shown_as: Option<String>,
}

/// An access key. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticCredentials {
    /// The access key's id.
    pub access_key_id: String,
    /// The access key's secret.
    pub secret_access_key: String,
}

impl StaticCredentials {
    /// What DynamoDB Local and embedded servers take: they ask for credentials and accept any.
    #[must_use]
    pub fn dummy() -> Self {
        Self { access_key_id: "local".to_owned(), secret_access_key: "local".to_owned() }
    }
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StaticCredentials(…)")
    }
}

/// Units a second that provisioned tables are to take while a run goes on, at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DuringRun {
    /// Read units; `None`: as many as before.
    pub read: Option<u64>,
    /// Write units.
    pub write: Option<u64>,
}

/// A store's configuration that cannot be right, said with the key that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

const KEYS: [&str; 6] = ["region", "endpoint", "profile", "consistent_reads", "tables", "capacity"];

impl DynamoConfig {
    /// Reads the value of `dynamodb:`; NULL is an empty map, and an empty string counts as unset.
    ///
    /// # Errors
    /// A key that there is none of, or a value of the wrong shape.
    pub fn from_value(value: &Value) -> Result<Self, ConfigError> {
        let map = match value {
            Value::Null => return Ok(Self::default()),
            Value::Object(map) => map,
            _ => return Err(ConfigError(format!("`dynamodb` takes a map of {}", KEYS.join(", ")))),
        };
        if let Some(key) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(ConfigError(format!("`dynamodb` has no key `{key}`; it takes {}", KEYS.join(", "))));
        }
        let config = Self {
            region: text(map, "region")?,
            endpoint: text(map, "endpoint")?,
            profile: text(map, "profile")?,
            consistent_reads: flag(map, "consistent_reads")?,
            tables: tables(map)?,
            capacity: capacity(map)?,
            credentials: None,
            shown_as: None,
        };
        let is_url = |endpoint: &&String| endpoint.starts_with("http://") || endpoint.starts_with("https://");
        if let Some(endpoint) = config.endpoint.as_ref().filter(|endpoint| !is_url(endpoint)) {
            return Err(ConfigError(format!("the endpoint {endpoint:?} is no http or https URL")));
        }
        Ok(config)
    }

    /// The endpoint of the spec, else that of the environment (`AWS_ENDPOINT_URL_DYNAMODB`,
    /// `AWS_ENDPOINT_URL`, as everywhere); `None` is AWS itself.
    pub(crate) fn effective_endpoint(&self) -> Option<String> {
        let from_environment = || {
            if variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|v| v.eq_ignore_ascii_case("true"))
            {
                return None;
            }
            variable("AWS_ENDPOINT_URL_DYNAMODB").or_else(|| variable("AWS_ENDPOINT_URL"))
        };
        self.endpoint.clone().or_else(from_environment)
    }

    /// The region as far as it is known without opening a file.
    pub(crate) fn known_region(&self) -> Option<String> {
        self.region.clone().or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"))
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn text(map: &Map<String, Value>, key: &str) -> Result<Option<String>, ConfigError> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(ConfigError(format!("`{key}` of a dynamodb store is text"))),
    }
}

fn flag(map: &Map<String, Value>, key: &str) -> Result<bool, ConfigError> {
    match map.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(ConfigError(format!("`{key}` of a dynamodb store is true or false"))),
    }
}

fn capacity(map: &Map<String, Value>) -> Result<Option<DuringRun>, ConfigError> {
    let wrong = || {
        ConfigError(
            "`capacity` of a dynamodb store is { during_run: { read: UNITS, write: UNITS } }".to_owned(),
        )
    };
    let during = match map.get("capacity") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(capacity)) if capacity.keys().all(|key| key == "during_run") => {
            capacity.get("during_run").and_then(Value::as_object).ok_or_else(wrong)?
        }
        Some(_) => return Err(wrong()),
    };
    let units = |key: &str| match during.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(units) => units.as_u64().filter(|units| *units > 0).map(Some).ok_or_else(wrong),
    };
    if during.is_empty() || during.keys().any(|key| key != "read" && key != "write") {
        return Err(wrong());
    }
    Ok(Some(DuringRun { read: units("read")?, write: units("write")? }))
}

fn tables(map: &Map<String, Value>) -> Result<BTreeMap<String, Value>, ConfigError> {
    match map.get("tables") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(tables)) => {
            if let Some((name, _)) = tables.iter().find(|(_, definition)| !definition.is_object()) {
                return Err(ConfigError(format!(
                    "the table `{name}` takes a map: file, or key, sort_key, billing"
                )));
            }
            Ok(tables.iter().map(|(name, definition)| (name.clone(), definition.clone())).collect())
        }
        Some(_) => Err(ConfigError("`tables` of a dynamodb store is a map by table name".to_owned())),
    }
}

/// Whether the URL's host is this machine, reached without encryption: only then may credentials be made up.
pub(crate) fn is_local(endpoint: &str) -> bool {
    let Some(rest) = endpoint.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit('@').next().unwrap_or_default();
    let host = match host_and_port.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host_and_port.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn empty_strings_are_unset() {
        let config = DynamoConfig::from_value(&json!({"region": "", "endpoint": "", "profile": ""})).unwrap();
        assert_eq!(config, DynamoConfig::default());
        assert_eq!(DynamoConfig::from_value(&Value::Null).unwrap(), DynamoConfig::default());
    }

    #[test]
    fn wrong_shapes_are_refused_by_name() {
        for (value, word) in [
            (json!({"regin": "x"}), "regin"),
            (json!({"region": 1}), "region"),
            (json!({"endpoint": "localhost:8000"}), "localhost:8000"),
            (json!({"tables": []}), "tables"),
            (json!({"tables": {"users": "x"}}), "users"),
            (json!({"capacity": {}}), "during_run"),
            (json!({"capacity": {"during_run": {"write": 0}}}), "during_run"),
            (json!({"capacity": {"during_run": {"writes": 10}}}), "during_run"),
            (json!("x"), "map"),
        ] {
            let error = DynamoConfig::from_value(&value).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn only_plain_loopback_is_local() {
        for url in ["http://127.0.0.1:8000", "http://localhost", "http://LOCALHOST:1/x", "http://[::1]:8000"]
        {
            assert!(is_local(url), "{url}");
        }
        for url in [
            "https://localhost:8000",
            "http://localhost.example.com",
            "http://127.0.0.1@example.com",
            "http://10.0.0.1",
        ] {
            assert!(!is_local(url), "{url}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let config = DynamoConfig {
            credentials: Some(StaticCredentials {
                access_key_id: "AKIA1".into(),
                secret_access_key: "hush".into(),
            }),
            ..DynamoConfig::default()
        };
        let shown = format!("{config:?}");
        assert!(!shown.contains("hush") && !shown.contains("AKIA1"), "{shown}");
    }
}
