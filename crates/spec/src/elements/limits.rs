//! `limits`

use super::text::DurationText;
use schemars::JsonSchema;
use serde::Deserialize;

/// When a run gives up.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "`limits`"))]
pub struct Limits {
    /// Dollars that the run's units may cost in all; it pauses before they are passed, resumable.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub max_cost_usd: Option<f64>,
    /// Write units that the run may use in all; it pauses before they are passed, resumable.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub max_write_units: Option<f64>,
    /// Read units that the run may use in all; it pauses before they are passed, resumable.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub max_read_units: Option<f64>,
    /// The share of rejects, 0 to 1, at which the run stops. Without it 0.05 only warns.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    pub max_reject_rate: Option<f64>,
    /// How long one store may make no progress before the run stops, resumable. 5m if nothing is said.
    #[serde(default)]
    pub retry_for: Option<DurationText>,
    /// How long the whole run may make no progress before it says so. 10m if nothing is said.
    #[serde(default)]
    pub stall_after: Option<DurationText>,
}
