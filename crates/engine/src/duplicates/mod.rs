//! Two records of one key in one run.
//!
//! Where [`crate::distinct`] proves that the target's key is an injective function of the source's unique key,
//! they cannot be, and nothing is done. Elsewhere every record's key hash is *claimed* in a set on the disk
//! ([`keys`]) before the record is written ([`claims`]): the second record of one key is a reject, or, under
//! `on_duplicate: last`, one of them wins by its order, which a first pass over the source finds
//! ([`first_pass`], [`latest`]). Flows into one table are not compared with each other.

mod claims;
mod filter;
pub(crate) mod first_pass;
mod generations;
mod keys;
mod latest;
mod order;

pub use claims::Claims;
pub use keys::KeySet;
pub use order::{Order, OrderError};

use crate::error::{EngineError, Result};
use crate::journal::{BeforeCommit, Journal, RunKind, RunRecord};
use crate::migration::{Migration, ScanFlow};
use crate::run::found;
use std::sync::Arc;
use whimbrel_store::Removed;

/// What becomes of the second record of one key.
#[derive(Debug)]
pub enum Duplicates {
    /// There is none: the target's key tells the source's records apart. The source's key columns.
    Impossible(Vec<String>),
    /// It is a reject.
    Rejected,
    /// The greatest in this order wins, the others count as filtered; of two with the same order the second
    /// is a reject.
    Last(Order),
}

impl Duplicates {
    /// What a person should know.
    #[must_use]
    pub fn note(&self) -> String {
        match self {
            Self::Impossible(columns) if columns.is_empty() => {
                "the target has no key: every record is a row of its own, and equal records stay apart"
                    .to_owned()
            }
            Self::Impossible(columns) => {
                format!(
                    "keys are distinct: each comes from one value of the source's key, {}",
                    columns.join(", ")
                )
            }
            Self::Rejected => "keys are watched: a second record of one key is rejected".to_owned(),
            Self::Last(order) => format!(
                "keys are watched: of several records of one key the last by {order} arrives, which a first pass \
                 finds: the source is read twice"
            ),
        }
    }

    /// Whether keys must be claimed.
    #[must_use]
    pub fn are_watched(&self) -> bool {
        !matches!(self, Self::Impossible(_))
    }

    /// By what the last of several records is found, where one is to be found.
    #[must_use]
    pub fn order(&self) -> Option<&Order> {
        match self {
            Self::Last(order) => Some(order),
            Self::Impossible(_) | Self::Rejected => None,
        }
    }
}

/// Opens the set of a run's keys; `None` where no flow's keys must be claimed. A retry goes on with the keys of the
/// run that began it all: what was a second record there is one still.
pub(crate) async fn keys(
    migration: &Migration,
    journal: &Journal,
    run: &RunRecord,
) -> Result<Option<Arc<KeySet>>> {
    if !migration.flows().any(|(_, flow)| flow.plan.duplicates.are_watched()) {
        return Ok(None);
    }
    let mut first = run.clone();
    while let RunKind::Retry { parent } = &first.kind {
        first = found(journal, parent)?;
    }
    let folder = journal.run_folder(&first.id);
    let opened = tokio::task::spawn_blocking(move || KeySet::open(&folder)).await;
    let opened = opened.map_err(|error| EngineError::Internal(format!("the set of keys: {error}")))?;
    Ok(Some(Arc::new(opened?)))
}

/// What the journal must wait for before it stores checkpoints.
pub(crate) fn before_commit(keys: Option<&Arc<KeySet>>) -> Option<Arc<dyn BeforeCommit>> {
    let keys: Arc<dyn BeforeCommit> = Arc::clone(keys?) as _;
    Some(keys)
}

/// Gives keys back of records that a step behind the load removes from a table.
pub(crate) struct GiveBack {
    keys: Arc<KeySet>,
    salts: Vec<u128>,
}

impl GiveBack {
    /// For the table that a flow writes into.
    pub(crate) fn of_table(keys: Option<&Arc<KeySet>>, migration: &Migration, of: &ScanFlow) -> Option<Self> {
        // The target does not say which of the flows into its table a record came by.
        let resource = of.plan.target.resource();
        let flows = migration.flows().map(|(_, flow)| flow);
        let flows = flows.filter(|flow| flow.store == of.store && flow.plan.target.resource() == resource);
        let salts = flows.map(|flow| claims::salt(&flow.plan.name)).collect();
        Some(Self { keys: Arc::clone(keys?), salts })
    }

    /// Gives back the keys of these records; on the disk when it returns.
    pub(crate) async fn give_back(&self, removed: &[Removed]) -> Result<()> {
        let hashes = removed.iter().map(|removed| removed.fingerprint.key);
        let keys: Vec<u128> = hashes.flat_map(|key| self.salts.iter().map(move |salt| key ^ salt)).collect();
        claims::on(&self.keys, move |set| set.give_back(&keys).and_then(|()| set.sync())).await
    }
}
