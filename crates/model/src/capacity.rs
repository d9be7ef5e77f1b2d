//! Capacity units of metered stores.

use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// Request units that a metered store reported or that were estimated for it. Units can be halves, so they
/// are kept as tenths exactly where the store reports them so; a sum is for people and prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Read request units.
    pub read_units: f64,
    /// Write request units, indexes included.
    pub write_units: f64,
    /// Write request units, indexes included, that records would have used which the target held already, so that
    /// nothing was written.
    #[serde(default)]
    pub spared_write_units: f64,
}

impl AddAssign for Capacity {
    fn add_assign(&mut self, other: Self) {
        self.read_units += other.read_units;
        self.write_units += other.write_units;
        self.spared_write_units += other.spared_write_units;
    }
}
