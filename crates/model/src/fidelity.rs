//! How faithfully a column arrives.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What happens to a column's values on the way. Lossy needs `allow_lossy` by the column's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fidelity {
    /// The value arrives as it is.
    Exact,
    /// The form changes, the value can be had back; how.
    Reversible(String),
    /// Something is gone afterwards; what.
    Lossy(String),
}

impl fmt::Display for Fidelity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact => f.write_str("exact"),
            Self::Reversible(how) => write!(f, "reversible: {how}"),
            Self::Lossy(what) => write!(f, "lossy: {what}"),
        }
    }
}

/// One column's journey: its name, the type it leaves with, the type it arrives as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnFidelity {
    /// The target's column or attribute.
    pub column: String,
    /// The type the transform yields.
    pub from: String,
    /// The target's type.
    pub into: String,
    /// What happens to the values.
    pub fidelity: Fidelity,
}
