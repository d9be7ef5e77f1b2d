//! Records that did not arrive.

use crate::{Fingerprint, FlowName, SliceId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// Where on its way a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The source held a value that could not be read.
    Read,
    /// A check of the spec failed.
    Check,
    /// The transform could not be evaluated.
    Transform,
    /// A value did not fit the target's type or limits.
    Convert,
    /// The target refused it.
    Write,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Check => "check",
            Self::Transform => "transform",
            Self::Convert => "convert",
            Self::Write => "write",
        })
    }
}

/// A record that did not arrive, kept whole: one line of a reject file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reject {
    /// The flow that refused it.
    pub flow: FlowName,
    /// The slice that it was read in.
    pub slice: SliceId,
    /// Where it was refused.
    pub stage: Stage,
    /// The key that names it: the source's key columns where there are any, else the target's.
    pub key: Map<String, Value>,
    /// Why, in a sentence for people.
    pub reason: String,
    /// The source's record, in the lossless form of [`crate::record`].
    pub record: Map<String, Value>,
    /// The record as its store holds it, where its columns are not the whole of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Value>,
    /// The fingerprint of what the target would have held, where that can be said: a verification leaves the
    /// record out by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}
