//! Newtypes for names and identifiers, so that one is never passed where another is meant.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps the text as it is.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

name! {
    /// The name of a flow, as the spec writes it.
    FlowName
}
name! {
    /// The name of a scan group: flows that read the same thing. It is the name of its first flow.
    GroupName
}
name! {
    /// The name of a store, as the spec writes it.
    StoreName
}
name! {
    /// One run of a migration: a UUID of version 7, so that names sort by time.
    RunId
}
name! {
    /// A slice within a run: the scan group's name and a number, `users.0007`.
    SliceId
}
name! {
    /// What a store *is*, not how it is reached: for PostgreSQL the system identifier and the database's
    /// oid, for DynamoDB the table's ARN and id, for a file its path and inode.
    Identity
}

impl RunId {
    /// A new identifier, later in order than all before it.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// The short form that people type: the last eight characters (the first ones are the time).
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[self.0.len().saturating_sub(8)..]
    }
}

impl SliceId {
    /// The slice number `index` of a scan group.
    #[must_use]
    pub fn of(group: &GroupName, index: usize) -> Self {
        Self(format!("{group}.{index:04}"))
    }
}
