//! What earlier runs left behind of what they did: which records a verification must not ask for, and what the
//! target held when a run ended.

use crate::error::{EngineError, Result};
use crate::journal::{Journal, RunKind, RunRecord};
use crate::rejects;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::BufRead as _;
use std::path::PathBuf;
use whimbrel_model::{Buckets, Counts, Fingerprint, FlowName, RunId};

/// What is known of a flow from the latest run that it had part in, the retries of its rejects included.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// That run.
    pub run: RunId,
    /// What became of the records: of the run itself.
    pub counts: Counts,
    /// The sums of the fingerprints of what the target held of them at the end.
    pub sums: Buckets,
    /// Where the rejects lie that still stand.
    pub rejects: Vec<PathBuf>,
    /// Whether the run came to its end.
    pub ended: bool,
    /// How many records of each source the run was told to read at most.
    pub limit: Option<u64>,
    /// Whether the table held nothing when the run began, so that what is there now came later.
    pub fresh: bool,
    /// The spec by which the run, all its stretches and its retries wrote; `None`: not all by the same.
    pub spec_digest: Option<String>,
    /// The flows' values and their sources' columns ([`crate::Migration::shape`]) as the run had them.
    pub shape: String,
    /// Whether another build, whose fingerprints are of another form, had part in it: there are no sums then, and no
    /// rejects that could be told.
    pub other_fingerprints: bool,
}

/// A reject's line, as far as it is looked at here.
#[derive(Deserialize)]
struct Line {
    flow: FlowName,
    #[serde(default)]
    fingerprint: Option<Fingerprint>,
}

/// What the journal knows of each flow of a migration.
///
/// # Errors
/// The journal fails.
pub fn of_migration(
    journal: &Journal,
    migration: &str,
    environment: Option<&str>,
) -> Result<BTreeMap<FlowName, Evidence>> {
    let mut known = BTreeMap::new();
    let is_ours = |run: &RunRecord| {
        run.kind == RunKind::Run
            && run.planned
            && !run.is_undone()
            && run.migration == migration
            && run.environment.as_deref() == environment
    };
    for run in journal.runs()?.into_iter().filter(is_ours) {
        for target in journal.targets(&run.id)? {
            let fresh = target.made || target.empty;
            // The latest run comes first.
            if let Entry::Vacant(vacant) = known.entry(target.flow) {
                let evidence = of_flow(journal, &run, vacant.key(), fresh)?;
                vacant.insert(evidence);
            }
        }
    }
    Ok(known)
}

fn of_flow(journal: &Journal, run: &RunRecord, flow: &FlowName, fresh: bool) -> Result<Evidence> {
    let mut sums = Buckets::default();
    let counts = crate::summary::counts(journal, run)?.get(flow).copied().unwrap_or_default();
    let mut standing = Vec::new();
    let (mut by_one_spec, mut other_fingerprints) = (true, false);
    let mut next = Some(run.clone());
    while let Some(stretch) = next {
        by_one_spec &= !stretch.was_respecified() && stretch.spec_digest == run.spec_digest;
        other_fingerprints |= stretch.has_other_fingerprints();
        sums.merge(&journal.sums(&stretch.id, flow)?);
        for (_, correction) in journal.corrections(&stretch.id)?.iter().filter(|(name, _)| name == flow) {
            sums.take_out(&correction.sums);
        }
        // A retry that ended has tried all rejects of its parent: its own are those that are left.
        if !stretch.is_unfinished() || standing.is_empty() {
            standing = vec![stretch.id.clone()];
        } else {
            standing.push(stretch.id.clone());
        }
        next = journal.retry_of(&stretch.id)?;
    }
    let mut files = Vec::new();
    for id in &standing {
        let folder = journal.run_folder(id);
        let parts = rejects::parts(journal, id)?.into_iter().filter(|part| part.flow == *flow);
        files.extend(parts.map(|part| rejects::path(&folder, flow, &part.slice)));
    }
    if other_fingerprints {
        (sums, by_one_spec) = (Buckets::default(), false);
        files.clear();
    }
    let limit = run.options.get("limit").and_then(serde_json::Value::as_u64);
    Ok(Evidence {
        run: run.id.clone(),
        counts,
        sums,
        rejects: files,
        ended: !run.is_unfinished(),
        limit,
        fresh,
        spec_digest: by_one_spec.then(|| run.spec_digest.clone()),
        shape: run.shape.clone(),
        other_fingerprints,
    })
}

impl Evidence {
    /// Goes through the fingerprints of the rejects that still stand, of those that the target could have held.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn each_reject(&self, flow: &FlowName, mut take: impl FnMut(Fingerprint)) -> Result<()> {
        for path in &self.rejects {
            let failed = |source| EngineError::file("read", path, source);
            let file = std::fs::File::open(path).map_err(failed)?;
            for line in std::io::BufReader::new(file).lines() {
                let line = line.map_err(failed)?;
                // Behind the last checkpoint a line may be torn; it belongs to no outcome.
                let Ok(line) = serde_json::from_str::<Line>(&line) else { continue };
                if line.flow == *flow {
                    line.fingerprint.into_iter().for_each(&mut take);
                }
            }
        }
        Ok(())
    }
}
