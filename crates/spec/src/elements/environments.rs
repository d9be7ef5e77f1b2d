//! `environments`

use super::text::Scalar;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A set of values that a command works with.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "an environment"))]
pub struct Environment {
    /// Whether commands without `--env` work here. At most one environment says so.
    #[serde(default)]
    pub default: bool,
    /// Whether destructive acts need `--confirm` with the environment's name.
    #[serde(default)]
    pub protected: bool,
    /// What must be true of a store here, by its name: a text that stands in its location or identity, as an account's
    /// number, a region, a database's name. A command that would write elsewhere is refused.
    #[serde(default)]
    #[schemars(extend("x-keys" = "name", "x-label" = "an environment's `guards`"))]
    pub guards: BTreeMap<String, String>,
    /// Values that take the place of those in the spec's own `variables`.
    #[serde(default)]
    #[schemars(extend("x-keys" = "variable", "x-label" = "an environment's `variables`"))]
    pub variables: BTreeMap<String, Scalar>,
}
