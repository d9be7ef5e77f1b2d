//! How the stores of a spec are reached on AWS.

use crate::args::Values;
use crate::workspace::embedded_path;
use serde_json::Value;
use std::collections::BTreeMap;
use whimbrel_aws::{Placed, Reach};
use whimbrel_model::StoreName;
use whimbrel_spec::Resolved;
use whimbrel_spec::resolved::{ResolvedStore, StoreKind};

/// Where nothing names a region.
const FALLBACK_REGION: &str = "us-east-1";

/// Whether a DynamoDB store is within the program.
pub fn is_embedded(store: &ResolvedStore) -> bool {
    embedded_path(&store.config, "endpoint").is_some()
}

/// How the account of a DynamoDB store is reached: as the store itself is.
pub fn reach(store: &ResolvedStore, values: &Values) -> Reach {
    let text = |key: &str| store.config.get(key)?.as_str().map(str::to_owned);
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Reach {
        profile: values.aws_profile.clone().or_else(|| text("profile")),
        region: values.region.clone().or_else(|| text("region")),
        endpoint: text("endpoint").or_else(|| {
            // An emulator's own address, where one is given, goes before that of its DynamoDB.
            let own =
                ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_IAM"].iter().any(|name| variable(name).is_some());
            let dynamodb = || variable("AWS_ENDPOINT_URL_DYNAMODB").or_else(|| variable("AWS_ENDPOINT_URL"));
            if own { None } else { dynamodb() }
        }),
    }
}

/// Whether the URL's host is this machine.
pub fn is_local(endpoint: &str) -> bool {
    let authority = endpoint.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// Whether credentials are named anywhere but on the machine's metadata service, which answers slowly or never.
pub fn has_credentials(reach: &Reach) -> bool {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    reach.profile.is_some() || is_set("AWS_ACCESS_KEY_ID") || is_set("AWS_PROFILE")
}

/// Where the resources of a spec are. `known`: the region of the AWS configuration.
pub fn placed(resolved: &Resolved, values: &Values, account: &str, known: Option<String>) -> Placed {
    let region = values.region.clone().or(known).unwrap_or_else(|| FALLBACK_REGION.to_owned());
    let of = |store: &ResolvedStore| -> Option<(StoreName, String)> {
        let is_on_aws = matches!(store.kind, StoreKind::DynamoDb | StoreKind::Files);
        let own = store.config.get("region").and_then(|region| region.as_str()).map(str::to_owned);
        let region = values.region.clone().or(own).unwrap_or_else(|| region.clone());
        is_on_aws.then(|| (store.name.clone(), region))
    };
    let regions: BTreeMap<StoreName, String> = resolved.stores.values().filter_map(of).collect();
    let keys = resolved.stores.values().flat_map(table_keys).collect();
    Placed { account: account.to_owned(), regions, region, keys }
}

/// The KMS keys that the definitions of a store's tables name, by table. A file that cannot be read is told of where
/// the store is opened.
fn table_keys(store: &ResolvedStore) -> Vec<((StoreName, String), String)> {
    let tables = store.config.get("tables").and_then(Value::as_object).into_iter().flatten();
    let key = |(table, definition): (&String, &Value)| {
        let text = std::fs::read_to_string(definition.get("file")?.as_str()?).ok()?;
        let definition: Value = serde_json::from_str(&text).ok()?;
        let key = definition.get("SSESpecification")?.get("KMSMasterKeyId")?.as_str()?;
        Some(((store.name.clone(), table.clone()), key.to_owned()))
    };
    tables.filter_map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_three_names() {
        for (url, local) in [
            ("http://127.0.0.1:8000", true),
            ("http://localhost/x", true),
            ("http://[::1]:8000", true),
            ("https://dynamodb.eu-west-1.amazonaws.com", false),
            ("http://localhost.example.com:80", false),
        ] {
            assert_eq!(is_local(url), local, "{url}");
        }
    }
}
