//! What every part of whimbrel speaks about: identifiers, slices and cursors, checkpoints and receipts,
//! counts that must add up, rejects, logical column types over Arrow, the canonical form of a record and
//! its fingerprint.
//!
//! This crate does no I/O and knows no database.

pub mod attribute;
pub mod canonical;
pub mod capacity;
pub mod cell;
pub mod counts;
pub mod decimal;
mod document;
pub mod fidelity;
pub mod fingerprint;
pub mod float;
pub mod forms;
pub mod ids;
pub mod json;
pub mod logical;
pub mod piece;
pub mod place;
pub mod record;
pub mod reject;
pub mod rooms;
pub mod slice;
pub mod texts;

pub use capacity::Capacity;
pub use counts::Counts;
pub use fidelity::{ColumnFidelity, Fidelity};
pub use fingerprint::{BUCKETS, Buckets, Fingerprint, FingerprintKey, bucket};
pub use ids::{FlowName, GroupName, Identity, RunId, SliceId, StoreName};
pub use logical::Logical;
pub use reject::{Reject, Stage};
pub use slice::{Checkpoint, Cursor, Receipt, ScanTally, Slice, SlicePart, SpilledSoFar};
