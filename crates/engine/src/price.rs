//! What capacity units cost.
//!
//! On-demand prices of DynamoDB in us-east-1 since November 2024: $0.625 for a million write request units,
//! $0.125 for a million read request units. Other regions cost up to about a third more.

use whimbrel_model::Capacity;

/// The state of the table below, shown beside every figure.
pub const AS_OF: &str = "us-east-1 on demand, November 2024";

const USD_PER_WRITE_UNIT: f64 = 0.625 / 1_000_000.0;
const USD_PER_READ_UNIT: f64 = 0.125 / 1_000_000.0;

/// The price of so many units, in dollars.
#[must_use]
pub fn usd(capacity: Capacity) -> f64 {
    capacity.write_units * USD_PER_WRITE_UNIT + capacity.read_units * USD_PER_READ_UNIT
}
