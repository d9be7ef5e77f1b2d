//! `prices`

use schemars::JsonSchema;
use serde::Deserialize;

/// What request units cost in a region.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a region's prices"))]
pub struct Price {
    /// Dollars for a million write request units.
    #[schemars(range(min = 0))]
    pub write_usd_per_million: f64,
    /// Dollars for a million read request units.
    #[schemars(range(min = 0))]
    pub read_usd_per_million: f64,
}
