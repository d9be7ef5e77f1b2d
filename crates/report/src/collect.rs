//! From a run's journal and folder to a report.

use crate::kept_plan::{KeptFlow, KeptPlan, kept_plan};
use crate::report::{
    CostFacts, DeletionFacts, FingerprintFacts, FlowFacts, FlowPlanFacts, Outcome, PatternFacts,
    ProcessFacts, ReasonFacts, RejectFacts, RejectSample, Report, RunFacts, SpecFacts, StoreFacts,
    TableUndoneFacts, TargetFacts, UndoneFacts, VerificationFacts,
};
use crate::shown::{KEPT_CHARACTERS, cut, kept};
use crate::throughput::{seconds_between, throughput};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;
use whimbrel_engine::costs::Cost;
use whimbrel_engine::journal::{RunKind, RunRecord, now_ms};
use whimbrel_engine::price::Prices;
use whimbrel_engine::summary::{Deletions, RejectSummary};
use whimbrel_engine::undo::{TableUndo, UNDOING, UNDONE, UndoOutcome, Way};
use whimbrel_engine::{EngineError, Journal, Migration, Result, Summary, changed};
use whimbrel_model::{Buckets, Capacity, Counts, FlowName, ScanTally};
use whimbrel_verify::Verification;

/// Reasons that a report lists.
const REASONS: usize = 20;
/// Rejects of one flow that a report names.
const SAMPLES_OF_FLOW: usize = 10;
/// Rejects that a report names in all.
const SAMPLES: usize = 200;
/// Records of a table that a report names which others have written since a run.
const CONFLICTS: usize = 20;
/// Patterns of keys that a report lists.
const PATTERNS: usize = 50;

impl Report {
    /// The report of a run as it is at this moment, from its journal and the files in its folder. Reads only.
    ///
    /// # Errors
    /// The journal fails, or a file of the run's folder cannot be read.
    pub fn of_run(journal: &Journal, record: &RunRecord) -> Result<Self> {
        let folder = journal.run_folder(&record.id);
        // A summary tells of the last stretch that came to its end: not of one under way.
        let ended = record.outcome.is_some();
        let summary: Option<Summary> = stored(&folder.join("summary.json"))?
            .filter(|summary: &Summary| ended && summary.run == record.id.as_str());
        let plan = kept_plan(&folder)?;
        let verification: Option<Verification> = stored(&folder.join("verification.json"))?;
        let outcome = outcome(journal, record);
        let run = run_facts(journal, record, outcome, summary, plan.as_ref())?;
        let mut verification = verification.map(|verification| verification_of(&verification, record));
        if outcome == Outcome::Running {
            // What an earlier stretch verified says nothing of this one.
            verification = None;
        }
        let stores = journal.stores(&record.id)?.into_iter();
        let mut report = Self {
            migration: cut(&record.migration, KEPT_CHARACTERS),
            environment: record.environment.clone(),
            outcome,
            exit_code: None,
            sentence: String::new(),
            next: Vec::new(),
            written: time(now_ms()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            spec: SpecFacts { path: record.spec_path.clone(), digest: record.spec_digest.clone() },
            stores: stores
                .map(|(name, location, _)| StoreFacts { name: name.to_string(), location })
                .collect(),
            run: Some(run),
            verification,
        };
        report.conclude();
        Ok(report)
    }

    /// The report of a verification alone, which needs no run.
    #[must_use]
    pub fn of_verification(migration: &Migration, verification: &Verification) -> Self {
        let resolved = &migration.resolved;
        let equal = verification.outcome == whimbrel_verify::Outcome::Equal;
        let stores = migration.stores.iter();
        let mut report = Self {
            migration: cut(&resolved.migration, KEPT_CHARACTERS),
            environment: resolved.environment.clone(),
            outcome: if equal { Outcome::Equal } else { Outcome::Different },
            exit_code: None,
            sentence: String::new(),
            next: Vec::new(),
            written: time(now_ms()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            spec: SpecFacts { path: resolved.path.display().to_string(), digest: resolved.digest.clone() },
            stores: stores
                .map(|(name, store)| StoreFacts { name: name.to_string(), location: store.location() })
                .collect(),
            run: None,
            verification: Some(VerificationFacts::of(verification)),
        };
        report.conclude();
        report
    }
}

/// A verification of a run; where the run went on after it, it says so.
fn verification_of(verification: &Verification, record: &RunRecord) -> VerificationFacts {
    let mut facts = VerificationFacts::of(verification);
    if record.ended_ms.is_none_or(|ended_ms| verification.ended_ms < ended_ms) {
        facts.notes.push("The run went on after this verification.".to_owned());
    }
    facts
}

fn outcome(journal: &Journal, record: &RunRecord) -> Outcome {
    match record.outcome.as_deref() {
        Some("complete") => Outcome::Complete,
        Some("incomplete") => Outcome::Incomplete,
        Some("paused") => Outcome::Paused,
        Some("abandoned") => Outcome::Abandoned,
        Some(UNDONE) => Outcome::Undone,
        Some(UNDOING) => Outcome::Undoing,
        Some(_) => Outcome::Failed,
        None if journal.is_running(&record.migration, record.environment.as_deref()) => Outcome::Running,
        None => Outcome::Killed,
    }
}

fn run_facts(
    journal: &Journal,
    record: &RunRecord,
    outcome: Outcome,
    summary: Option<Summary>,
    plan: Option<&KeptPlan>,
) -> Result<RunFacts> {
    let counts = whimbrel_engine::summary::counts(journal, record)?;
    let progress = Progress::of(journal, record)?;
    let flows = flow_facts(journal, record, &counts, &progress, plan)?;
    let totals: Counts = counts.values().copied().sum();
    let rejects = summary.as_ref().map(|summary| &summary.rejects);
    let spent = spent(progress.capacity, summary.as_ref(), plan);
    let until_ms = record.ended_ms.unwrap_or_else(now_ms);
    Ok(RunFacts {
        id: record.id.to_string(),
        retry_of: match &record.kind {
            RunKind::Run => None,
            RunKind::Retry { parent } => Some(parent.to_string()),
        },
        started: time(record.started_ms),
        ended: record.ended_ms.map(time),
        seconds: rounded(seconds_between(record.started_ms, until_ms)),
        resumes: record.resumes,
        slices_done: progress.slices_done,
        slices: progress.slices,
        error: summary.as_ref().and_then(|summary| summary.error.clone()).map(|e| cut(&e, 2_000)),
        balanced: flows.iter().all(|flow| flow.balanced),
        success_rate: totals.success_rate().map(rounded),
        throughput: throughput(&journal.stretches(&record.id)?),
        rejects: reject_facts(totals.rejected, rejects),
        unmatched: patterns(&progress.scan.unmatched),
        shared: progress.scan.shared,
        capacity: rounded_units(progress.capacity),
        cost: cost(spent, &totals, &flows, outcome, plan),
        process: summary.map(|summary| ProcessFacts {
            version: summary.version,
            seconds: rounded(summary.seconds),
            peak_memory_bytes: summary.peak_memory_bytes,
            retries: summary.retries,
            throttles: summary.throttles,
        }),
        undone: UndoOutcome::of(&journal.run_folder(&record.id))?.map(undone_facts),
        totals,
        flows,
    })
}

fn undone_facts(outcome: UndoOutcome) -> UndoneFacts {
    let table = |table: TableUndo| TableUndoneFacts {
        store: table.store.to_string(),
        table: cut(&table.table, KEPT_CHARACTERS),
        way: match table.way {
            Way::Remove => "remove",
            Way::Empty => "empty",
            Way::Restore => "restore",
            Way::Nothing => "nothing",
        }
        .to_owned(),
        restored: table.undone.restored,
        removed: table.undone.removed,
        conflicts: table.undone.conflicts,
        conflicting: table
            .undone
            .conflicting
            .into_iter()
            .take(CONFLICTS)
            .map(|of| key(&serde_json::Value::Object(of)))
            .collect(),
    };
    UndoneFacts { ended: time(outcome.at_ms), tables: outcome.tables.into_iter().map(table).collect() }
}

/// What the slices' checkpoints come to beside the flows' counts.
#[derive(Default)]
struct Progress {
    slices: u64,
    slices_done: u64,
    capacity: Capacity,
    scan: ScanTally,
    sums: BTreeMap<FlowName, Buckets>,
}

impl Progress {
    fn of(journal: &Journal, record: &RunRecord) -> Result<Self> {
        let mut progress = Self::default();
        for slice in journal.slices(&record.id)? {
            progress.slices += 1;
            progress.slices_done += u64::from(slice.done);
            for (flow, checkpoint) in slice.checkpoints {
                progress.capacity += checkpoint.capacity;
                progress.scan.merge(&checkpoint.scan);
                // Of a slice that is done they are empty: its flow's sums hold them.
                progress.sums.entry(flow).or_default().merge(&checkpoint.sums);
            }
        }
        Ok(progress)
    }
}

fn flow_facts(
    journal: &Journal,
    record: &RunRecord,
    counts: &BTreeMap<FlowName, Counts>,
    progress: &Progress,
    plan: Option<&KeptPlan>,
) -> Result<Vec<FlowFacts>> {
    let targets = journal.targets(&record.id)?;
    let corrections = journal.corrections(&record.id)?;
    let mut deletions = changed::deletions_of(&journal.run_folder(&record.id))?;
    let mut flows = Vec::new();
    for (flow, counts) in counts {
        let mut sums = journal.sums(&record.id, flow)?;
        if let Some(open) = progress.sums.get(flow) {
            sums.merge(open);
        }
        corrections.iter().filter(|(of, _)| of == flow).for_each(|(_, removed)| sums.take_out(&removed.sums));
        let target = targets.iter().find(|target| target.flow == *flow);
        let planned = plan.and_then(|plan| plan.flows.iter().find(|planned| planned.flow == *flow));
        flows.push(FlowFacts {
            name: flow.to_string(),
            counts: *counts,
            balanced: counts.balanced(),
            expected: target.and_then(|target| target.estimate),
            target: target.map(|target| TargetFacts {
                resource: target.resource.clone(),
                made: target.made,
                empty: target.empty,
            }),
            fingerprints: FingerprintFacts {
                records: sums.records(),
                digest: blake3::hash(&sums.to_bytes()).to_hex().to_string(),
            },
            deletions: deletions.remove(flow).map(deletion_facts),
            plan: planned.map(flow_plan),
        });
    }
    // In the order in which they run.
    let place = |name: &str| targets.iter().position(|target| target.flow.as_str() == name);
    flows.sort_by_key(|flow| place(&flow.name).unwrap_or(usize::MAX));
    Ok(flows)
}

fn deletion_facts(deletions: Deletions) -> DeletionFacts {
    DeletionFacts {
        deleted: deletions.deleted,
        left: deletions.left,
        first_left: deletions.first_left.iter().map(|one| cut(one, KEPT_CHARACTERS)).collect(),
        nothing: deletions.nothing,
    }
}

fn flow_plan(planned: &KeptFlow) -> FlowPlanFacts {
    FlowPlanFacts {
        from: planned.from.clone(),
        into: planned.into.clone(),
        mode: planned.mode.clone(),
        key: planned.key.clone(),
        columns: planned.fidelity.clone(),
        notes: planned.notes.clone(),
        ddl: planned.ddl.clone(),
    }
}

fn reject_facts(count: u64, summary: Option<&RejectSummary>) -> RejectFacts {
    let Some(summary) = summary else { return RejectFacts { count, other: count, ..RejectFacts::default() } };
    let reasons: Vec<ReasonFacts> = summary
        .reasons
        .iter()
        .take(REASONS)
        .map(|reason| ReasonFacts {
            flow: reason.flow.to_string(),
            stage: reason.stage,
            reason: cut(&reason.reason, KEPT_CHARACTERS),
            count: reason.count,
            example: key(&reason.example),
        })
        .collect();
    let samples = summary.first.iter().flat_map(|(flow, rejects)| {
        rejects.iter().take(SAMPLES_OF_FLOW).map(|reject| RejectSample {
            flow: flow.to_string(),
            stage: reject.stage,
            key: key(&reject.key),
            reason: cut(&reject.reason, KEPT_CHARACTERS),
        })
    });
    let listed: u64 = reasons.iter().map(|reason| reason.count).sum();
    RejectFacts {
        count,
        file: summary.file.clone(),
        other: count.saturating_sub(listed),
        samples: samples.take(SAMPLES).collect(),
        reasons,
    }
}

/// A key in one line: `id 7, part 2`.
pub(crate) fn key(key: &serde_json::Value) -> String {
    match key {
        serde_json::Value::Object(columns) => {
            let column = |(name, value): (&String, &serde_json::Value)| format!("{name} {}", kept(value));
            cut(&columns.iter().map(column).collect::<Vec<_>>().join(", "), KEPT_CHARACTERS)
        }
        other => kept(other),
    }
}

fn patterns(unmatched: &BTreeMap<String, u64>) -> Vec<PatternFacts> {
    let pattern = |(pattern, records): (&String, &u64)| PatternFacts {
        pattern: cut(pattern, KEPT_CHARACTERS),
        records: *records,
    };
    let mut patterns: Vec<PatternFacts> = unmatched.iter().map(pattern).collect();
    patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.records));
    patterns.truncate(PATTERNS);
    patterns
}

/// What a run's units cost: as its summary has it, else, as long as there is none, at the dearest store's prices.
fn spent(used: Capacity, summary: Option<&Summary>, plan: Option<&KeptPlan>) -> Cost {
    let priced = |summary: &&Summary| summary.capacity == used;
    if let Some(summary) = summary.filter(priced) {
        return summary.cost_usd.clone();
    }
    let prices = plan.map_or_else(Prices::unknown, |plan| plan.prices.clone());
    let usd = prices.at_most_usd(used);
    // Nothing has come to an end since: what is on its way now, or was when the process was killed, is not counted.
    Cost { all: usd, actual: usd, prices: prices.from(), at_least: usd > 0.0 }
}

fn cost(
    spent: Cost,
    totals: &Counts,
    flows: &[FlowFacts],
    outcome: Outcome,
    plan: Option<&KeptPlan>,
) -> CostFacts {
    let actual = spent.actual;
    let expected: Option<u64> = flows.iter().map(|flow| flow.expected).sum();
    let projected_usd = match (outcome, expected) {
        (Outcome::Complete | Outcome::Incomplete, _) => Some(spent.all),
        (_, Some(expected)) if totals.read > 0 => {
            let share = crate::figures::float(expected.max(totals.read)) / crate::figures::float(totals.read);
            Some(actual * share)
        }
        _ => None,
    };
    CostFacts {
        planned: plan.and_then(|plan| plan.planned).map(|planned| crate::report::PlannedCost {
            capacity: rounded_units(planned.capacity),
            usd: rounded(planned.usd),
            seconds: rounded(planned.seconds),
            ..planned
        }),
        actual_usd: rounded(actual),
        at_least: spent.at_least,
        projected_usd: projected_usd.map(rounded),
        prices: spent.prices,
    }
}

fn rounded_units(capacity: Capacity) -> Capacity {
    Capacity {
        read_units: rounded(capacity.read_units),
        write_units: rounded(capacity.write_units),
        spared_write_units: rounded(capacity.spared_write_units),
    }
}

/// To a millionth: what a receipt signs must be written alike by every program.
pub(crate) fn rounded(value: f64) -> f64 {
    if value.is_finite() { (value * 1e6).round() / 1e6 } else { 0.0 }
}

/// A moment as RFC 3339 in UTC, to the second.
pub(crate) fn time(at_ms: i64) -> String {
    let at = jiff::Timestamp::from_second(at_ms.div_euclid(1_000));
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// A file that a run keeps; `None` where it is not there.
pub(crate) fn stored<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| EngineError::file("read", path, std::io::Error::other(error))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EngineError::file("read", path, error)),
    }
}
