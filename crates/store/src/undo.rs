//! Undoing a run: what a target held before the run wrote, kept where the write itself is made.
//!
//! Where a batch arrives with its checkpoint in one transaction, the target keeps before-images in that transaction.
//! Elsewhere they are handed to the run's folder first: an image is durable before the write that is conditional on it.

use crate::error::Result;
use async_trait::async_trait;
use serde_json::{Map, Value};

/// How a target can bring back what a run has written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undoing {
    /// It cannot, or not yet; why, in a sentence.
    Unable(&'static str),
    /// It keeps before-images beside the data, in the table of this name, in the batch's own transaction.
    Beside(&'static str),
    /// It hands before-images over before it writes.
    HandedOver,
}

/// What a key held before a write, and what it holds after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeforeImage {
    /// The hash of the key.
    pub key: u128,
    /// The record before, in the target's own lossless text; `None`: the key held nothing.
    pub before: Option<String>,
    /// The hash of all that the key held; `None`: nothing.
    pub was: Option<u128>,
    /// The key in the target's own lossless text.
    pub key_text: String,
    /// The hash of all that the key holds when the write is done; `None`: nothing, the record is deleted.
    pub becomes: Option<u128>,
}

/// How far [`crate::Target::undo`] goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndoStep {
    /// It only looks at what there is to be brought back.
    Look,
    /// It puts back what the run has deleted, and nothing else. A run deletes last, so that this comes first, parents
    /// before their children: then everything refers again to what it referred to before the deletion.
    PutBack,
    /// It brings everything back.
    All,
}

/// Keeps the before-images of one table.
#[async_trait]
pub trait BeforeImages: Send + Sync + std::fmt::Debug {
    /// Keeps images; durable when this returns. Of a key that has one already the older image stays where the newer
    /// begins with what the older write left.
    ///
    /// # Errors
    /// They cannot be kept: nothing may be written.
    async fn keep(&self, images: Vec<BeforeImage>) -> Result<()>;

    /// Forgets the latest image of keys that were not written after all.
    ///
    /// # Errors
    /// The images cannot be reached.
    async fn forget(&self, keys: Vec<u128>) -> Result<()>;

    /// So many images behind a key, in the order of their keys' hashes.
    ///
    /// # Errors
    /// The images cannot be reached.
    async fn behind(&self, key: Option<u128>, at_most: usize) -> Result<Vec<BeforeImage>>;
}

/// What undoing a table did, or would do.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Undone {
    /// Records that the run had written over or deleted and that are as they were before.
    pub restored: u64,
    /// Records that the run had added and that are gone.
    pub removed: u64,
    /// Records that others have written since.
    pub conflicts: u64,
    /// Their keys, the first of them.
    pub conflicting: Vec<Map<String, Value>>,
    /// Whether there is nothing to undo by: the images are not there, or not any more.
    pub nothing_kept: bool,
    /// Whether it was undone before.
    pub already: bool,
}

/// How many keys of records that others have written are listed.
pub const CONFLICTS_LISTED: usize = 100;
