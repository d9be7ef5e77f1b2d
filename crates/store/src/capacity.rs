//! Capacity that is raised while a run goes on, and put back behind it.

use serde::{Deserialize, Serialize};

/// What a table, or one of its indexes, takes in a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provisioned {
    /// The index; `None`: the table itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// Read units a second.
    pub read: u64,
    /// Write units a second.
    pub write: u64,
}

/// A change of what a table and its indexes take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raise {
    /// The table.
    pub table: String,
    /// What the table is.
    pub identity: String,
    /// What it takes without the change: the table itself first.
    pub before: Vec<Provisioned>,
    /// What it takes while the run goes on.
    pub during: Vec<Provisioned>,
}

impl std::fmt::Display for Raise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |all: &[Provisioned]| {
            let one = |one: &Provisioned| {
                let place = one.index.as_ref().map(|index| format!("{index}: ")).unwrap_or_default();
                format!("{place}{} read, {} write", one.read, one.write)
            };
            all.iter().map(one).collect::<Vec<_>>().join("; ")
        };
        write!(
            f,
            "table {}: {} in place of {} units a second",
            self.table,
            shown(&self.during),
            shown(&self.before)
        )
    }
}
