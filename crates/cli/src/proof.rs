//! Carrying out a verification: what `verify` does, and `run --verify` behind a run.

use crate::args::VerifyDepth;
use crate::commands::Program;
use crate::failure::Result;
use crate::workspace::Opened;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use whimbrel_engine::evidence::{self, Evidence};
use whimbrel_engine::migration::ScanFlow;
use whimbrel_engine::summary::{self, Expected};
use whimbrel_engine::{EngineError, Journal, Migration};
use whimbrel_model::{Capacity, FlowName, Identity, RunId, StoreName};
use whimbrel_query::{Numbers, Settings as QuerySettings};
use whimbrel_report::figures::count;
use whimbrel_spec::Resolved;
use whimbrel_spec::resolved::VerifyRule;
use whimbrel_store::{Meter, RunContext, UnitBudget, UnitLimit};
use whimbrel_verify::{Assertion, Comparison, Found, Outcome, Settings, Verification, Watch, private_file};

/// How often a line says how far a comparison is, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
const REDRAW: Duration = Duration::from_millis(200);
/// How long a dropped comparison may take to remove what it spilled.
const CLEARING: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// How closely; `None`: as the spec's rules say, and every record where they say nothing.
    pub depth: Option<VerifyDepth>,
    /// What a sample follows from.
    pub seed: Option<u64>,
    /// Only these flows; the spec's assertions are then left out. Empty: all.
    pub only: BTreeSet<FlowName>,
    /// Writes again what differs.
    pub repair: bool,
    /// The run beside which it is kept; `None`: the latest that had part in it.
    pub run: Option<RunId>,
}

/// A verification about to be carried out.
pub struct Proof<'a> {
    program: &'a Program,
    opened: &'a Opened,
    migration: Arc<Migration>,
    journal: &'a Journal,
    evidence: BTreeMap<FlowName, Evidence>,
    context: RunContext,
    wanted: Wanted,
    /// What a person should know of the evidence.
    notes: Vec<String>,
    /// The folders of what was spilled: cancelled when they are gone.
    spilled: Mutex<Vec<CancellationToken>>,
}

impl<'a> Proof<'a> {
    /// Makes the flows ready and looks up what earlier runs left behind.
    ///
    /// # Errors
    /// A store or the journal fails.
    pub async fn prepare(
        program: &'a Program,
        resolved: &Resolved,
        opened: &'a Opened,
        journal: &'a Journal,
        wanted: Wanted,
        stop: CancellationToken,
    ) -> Result<Self> {
        let migration = Arc::new(opened.prepare(resolved.clone(), &program.common).await?);
        let environment = resolved.environment.as_deref();
        let evidence = opened.hide(evidence::of_migration(journal, &resolved.migration, environment))?;
        let (evidence, notes) = opened.hide(of_these_stores(evidence, journal, &migration).await)?;
        let limit = UnitLimit {
            read: resolved.limits.max_read_units,
            write: resolved.limits.max_write_units,
            cost: whimbrel_engine::costs::limit(&migration),
        };
        let context = RunContext {
            run: RunId::generate(),
            fingerprint_key: opened.hide(journal.fingerprint_key(&resolved.migration, environment))?,
            retry_for: resolved.limits.retry_for,
            stop,
            meter: Arc::new(Meter::default()),
            budget: Arc::new(UnitBudget::new(limit, Capacity::default())),
        };
        let spilled = Mutex::default();
        Ok(Self { program, opened, migration, journal, evidence, context, wanted, notes, spilled })
    }

    /// What is verified.
    #[must_use]
    pub fn migration(&self) -> &Migration {
        &self.migration
    }

    /// The latest run that had part in what is verified.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        let latest = || self.evidence.values().map(|evidence| &evidence.run).max().cloned();
        self.wanted.run.clone().or_else(latest)
    }

    /// Compares, carries out the spec's assertions, and keeps what was found beside the latest run.
    ///
    /// # Errors
    /// A store fails, the disk is full, or an assertion cannot be carried out.
    pub async fn carry_out(&self) -> Result<Verification> {
        let mut verification = self.opened.hide(self.compare().await)?;
        verification.notes.extend(self.notes.iter().cloned());
        verification.notes.extend(self.left_out());
        if self.wanted.only.is_empty() {
            let resolved = &self.migration.resolved;
            let declared = whimbrel_query::declared(&resolved.flows);
            let (settings, stores) = (self.query_settings(), &self.migration.stores);
            let found = whimbrel_verify::assertions(&resolved.verify, stores, &declared, &settings);
            let found = found.await.map_err(|error| error.into_engine(&resolved.path));
            verification.assertions =
                self.opened.hide(found)?.into_iter().map(|one| self.without_secrets(one)).collect();
            if verification.assertions.iter().any(|assertion| !assertion.ok) {
                verification.outcome = Outcome::Different;
            }
        }
        self.opened.hide(self.keep(&verification))?;
        Ok(verification)
    }

    /// Waits until nothing is left on the disk of what a comparison spilled: one that was dropped in its middle has
    /// tasks that end a moment later.
    pub async fn cleared(&self) {
        let spilled = std::mem::take(&mut *self.spilled.lock().unwrap_or_else(PoisonError::into_inner));
        for gone in spilled {
            if tokio::time::timeout(CLEARING, gone.cancelled()).await.is_err() {
                tracing::warn!("what a comparison spilled is still there; the next verification removes it");
            }
        }
    }

    /// The assertions that are not carried out.
    fn left_out(&self) -> Option<String> {
        let is_one = |rule: &&VerifyRule| matches!(rule, VerifyRule::Assert(_));
        match self.migration.resolved.verify.iter().filter(is_one).count() {
            0 => None,
            _ if self.wanted.only.is_empty() => None,
            1 => {
                Some("with --only the spec's assertion was left out: it may be about other flows".to_owned())
            }
            all => Some(format!(
                "with --only the spec's {} assertions were left out: they may be about other flows",
                count(u64::try_from(all).unwrap_or(u64::MAX))
            )),
        }
    }

    /// A value that an assertion expects may be a secret.
    fn without_secrets(&self, assertion: Assertion) -> Assertion {
        let hide = |text: String| self.migration.resolved.secrets.redact(&text).into_owned();
        Assertion {
            expected: hide(assertion.expected),
            value: hide(assertion.value),
            examples: assertion.examples.into_iter().map(hide).collect(),
            ..assertion
        }
    }

    async fn compare(&self) -> std::result::Result<Verification, EngineError> {
        let (depth, only) = match self.wanted.depth {
            Some(depth) => (Some(depth), self.wanted.only.clone()),
            None => self.depth_of_rules(),
        };
        let only = if self.wanted.only.is_empty() { only } else { self.wanted.only.clone() };
        if matches!(depth, Some(VerifyDepth::Sample(_) | VerifyDepth::All))
            && let Some(refused) = incomparable(&self.migration, Some(&only), false)
        {
            return Err(refused);
        }
        match depth {
            Some(VerifyDepth::Count) => self.count(&only).await,
            Some(VerifyDepth::Sample(records)) => {
                let seed = self.wanted.seed.unwrap_or_else(random);
                let found =
                    self.watched(&only, async |comparison| comparison.sample(records, seed).await).await?;
                Ok(found.verification)
            }
            Some(VerifyDepth::All) => self.all(&only).await,
            None => Ok(Verification::of_assertions()),
        }
    }

    /// The closest look that the spec asks for, and the flows that it is about: every record of all where it has no
    /// rule at all.
    fn depth_of_rules(&self) -> (Option<VerifyDepth>, BTreeSet<FlowName>) {
        let rules = &self.migration.resolved.verify;
        if rules.is_empty() {
            return (Some(VerifyDepth::All), BTreeSet::new());
        }
        let depths = rules.iter().filter_map(|rule| match rule {
            VerifyRule::Count { only, .. } => Some((VerifyDepth::Count, only)),
            VerifyRule::Records { sample: Some(records), only, .. } => {
                Some((VerifyDepth::Sample(*records), only))
            }
            VerifyRule::Records { sample: None, only, .. } => Some((VerifyDepth::All, only)),
            VerifyRule::Assert(_) => None,
        });
        let closest = depths.max_by_key(|(depth, only)| (*depth, only.is_empty()));
        match closest {
            Some((depth, only)) => (Some(depth), self.named(only)),
            None => (None, BTreeSet::new()),
        }
    }

    /// The flows of these names and groups.
    fn named(&self, names: &[String]) -> BTreeSet<FlowName> {
        let is_named = |flow: &&whimbrel_spec::ResolvedFlow| {
            names.iter().any(|name| {
                *name == flow.name.as_str()
                    || *name == flow.scan.as_str()
                    || flow.group.as_ref() == Some(name)
            })
        };
        self.migration.resolved.flows.iter().filter(is_named).map(|flow| flow.name.clone()).collect()
    }

    async fn all(&self, only: &BTreeSet<FlowName>) -> std::result::Result<Verification, EngineError> {
        let Found { verification, repairs } = self.watched(only, Comparison::all).await?;
        if !self.wanted.repair || repairs.count() == 0 {
            return Ok(verification);
        }
        let wanted = u64::try_from(repairs.count()).unwrap_or(u64::MAX);
        self.program.console.say(format!("{} records differ and are written again", count(wanted)));
        let repaired = self.watched(only, async |comparison| comparison.repair(repairs).await).await?;
        // What was written is proven like everything else.
        let Found { mut verification, .. } = self.watched(only, Comparison::all).await?;
        verification.repaired = repaired.written;
        let refused = repaired.refused.into_iter().map(|(reason, records)| {
            format!("{} records could not be written again: {reason}", count(records))
        });
        verification.notes.extend(refused);
        if verification.flows.values().any(|flow| flow.extra > 0) || verification.others > 0 {
            verification.notes.push("extra records are left as they are: repairing never deletes".to_owned());
        }
        Ok(verification)
    }

    async fn count(&self, only: &BTreeSet<FlowName>) -> std::result::Result<Verification, EngineError> {
        let mut expected: BTreeMap<FlowName, Expected> = BTreeMap::new();
        for run in self.evidence.values().map(|evidence| evidence.run.clone()).collect::<BTreeSet<_>>() {
            let Some(mut record) = self.journal.find(run.as_str())?.into_iter().next() else { continue };
            while let Some(retry) = self.journal.retry_of(&record.id)? {
                record = retry;
            }
            let of_run = summary::expected(self.journal, &record)?.into_iter();
            let ours = |flow: &FlowName| self.evidence.get(flow).is_some_and(|evidence| evidence.run == run);
            expected.extend(of_run.filter(|(flow, _)| ours(flow)));
        }
        let mut flows = self.migration.flows().map(|(_, flow)| &flow.plan.name);
        if !flows.all(|flow| expected.contains_key(flow)) {
            // No run has counted them: the sources are.
            expected = self.watched(only, Comparison::expected).await?;
        }
        let mut verification = whimbrel_verify::count(&self.migration, &expected, &self.context).await?;
        if !only.is_empty() {
            verification.flows.retain(|flow, _| only.contains(flow));
            let equal = verification.flows.values().all(whimbrel_verify::FlowVerification::is_equal);
            verification.outcome = if equal { Outcome::Equal } else { Outcome::Different };
        }
        Ok(verification)
    }

    fn comparison(
        &self,
        only: &BTreeSet<FlowName>,
        watch: &Arc<Watch>,
    ) -> std::result::Result<Comparison, EngineError> {
        let gone = CancellationToken::new();
        let settings = Settings {
            gone: gone.clone(),
            only: (!only.is_empty()).then(|| only.clone()),
            parallel: self.program.parallel(),
            scratch: self.journal.folder().join(format!("compare-{}", self.context.run.short())),
            differences: self.folder().join("differences.ndjson"),
        };
        let (migration, evidence) = (Arc::clone(&self.migration), self.evidence.clone());
        let comparison =
            Comparison::new(migration, evidence, self.context.clone(), Arc::clone(watch), settings)?;
        self.spilled.lock().unwrap_or_else(PoisonError::into_inner).push(gone);
        Ok(comparison)
    }

    /// A comparison under a display of how far it is.
    async fn watched<T>(
        &self,
        only: &BTreeSet<FlowName>,
        work: impl AsyncFnOnce(Comparison) -> std::result::Result<T, EngineError>,
    ) -> std::result::Result<T, EngineError> {
        let watch = Arc::new(Watch::default());
        let comparison = self.comparison(only, &watch)?;
        let showing = self.program.console.progress.then(|| tokio::spawn(show(self.program.console, watch)));
        let outcome = work(comparison).await;
        if let Some(showing) = showing {
            showing.abort();
        }
        outcome
    }

    /// Where what was found is kept: beside the latest run, else beside the journal.
    fn folder(&self) -> PathBuf {
        match self.run() {
            Some(run) => self.journal.run_folder(&run),
            None => self.journal.folder().join("verify").join(&self.migration.resolved.migration),
        }
    }

    fn keep(&self, verification: &Verification) -> std::result::Result<(), EngineError> {
        let folder = self.folder();
        let path = folder.join("verification.json");
        let text = serde_json::to_vec_pretty(verification)
            .map_err(|error| EngineError::Internal(format!("a verification has no JSON form: {error}")))?;
        let write = || {
            std::fs::create_dir_all(&folder)?;
            let draft = folder.join("verification.json.part");
            // What a killed process left of it may be open to others.
            let _ = std::fs::remove_file(&draft);
            private_file().create(true).truncate(true).write(true).open(&draft)?.write_all(&text)?;
            std::fs::rename(&draft, &path)
        };
        write().map_err(|source| EngineError::file("write", &path, source))
    }

    fn query_settings(&self) -> QuerySettings {
        QuerySettings {
            parallel: self.program.parallel(),
            memory_bytes: usize::try_from(self.program.common.memory).unwrap_or(usize::MAX),
            numbers: Numbers::Decimal,
            context: self.context.clone(),
        }
    }
}

/// Why records could not be compared, as far as it is known before any of them is read: nothing tells them apart.
/// `only`: of these flows; none or empty: of all. `rehearsed`: embedded stores stand in for the targets.
#[must_use]
pub fn incomparable(
    migration: &Migration,
    only: Option<&BTreeSet<FlowName>>,
    rehearsed: bool,
) -> Option<EngineError> {
    let is_asked = |flow: &FlowName| only.is_none_or(|only| only.is_empty() || only.contains(flow));
    let has_no_key = |flow: &&ScanFlow| {
        flow.target.key.is_empty() && !flow.plan.target.compares_without_key() && is_asked(&flow.plan.name)
    };
    let flow = migration.flows().map(|(_, flow)| flow).find(has_no_key)?;
    let table = flow.plan.target.resource();
    let hint = if rehearsed {
        "what stands in for the target has the keys that the spec names: name the real table's under `key`, or \
         rehearse with `--verify=count`"
    } else {
        "name the columns of a unique key under `key`, or compare the numbers of records alone: `--verify=count`, \
         `verify --count`"
    };
    Some(EngineError::Flow {
        flow: flow.plan.name.clone(),
        message: format!("the records of {table} cannot be compared: they have no key that tells them apart"),
        hint: Some(hint.to_owned()),
    })
}

/// What earlier runs left behind, of those that wrote into the stores of today: what another database held says
/// nothing of this one.
async fn of_these_stores(
    mut evidence: BTreeMap<FlowName, Evidence>,
    journal: &Journal,
    migration: &Migration,
) -> std::result::Result<(BTreeMap<FlowName, Evidence>, Vec<String>), EngineError> {
    let mut elsewhere: BTreeSet<FlowName> = BTreeSet::new();
    let mut now: BTreeMap<&StoreName, Identity> = BTreeMap::new();
    for (_, flow) in migration.flows() {
        let Some(known) = evidence.get(&flow.plan.name) else { continue };
        let Some(store) = migration.stores.get(&flow.store) else { continue };
        if !now.contains_key(&flow.store) {
            now.insert(&flow.store, store.identity().await?);
        }
        let then = journal.stores(&known.run)?.into_iter().find(|(name, ..)| *name == flow.store);
        let is_same = |(.., identity): &(StoreName, String, String)| {
            now.get(&flow.store).is_some_and(|now| now.as_str() == identity)
        };
        if then.as_ref().is_some_and(|then| !is_same(then)) {
            elsewhere.insert(flow.plan.name.clone());
        }
    }
    evidence.retain(|flow, _| !elsewhere.contains(flow));
    let names: Vec<&str> = elsewhere.iter().map(FlowName::as_str).collect();
    let note = || {
        format!(
            "{}: the last run wrote into another store than the spec names now, and says nothing of it",
            names.join(", ")
        )
    };
    let notes = if names.is_empty() { Vec::new() } else { vec![note()] };
    Ok((evidence, notes))
}

/// Says how far a comparison is until it is aborted.
async fn show(console: crate::console::Console, watch: Arc<Watch>) {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::default_spinner());
    let mut ticks = tokio::time::interval(if console.live { REDRAW } else { LINE_EVERY });
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let (source, target) = watch.records();
        let again = if watch.pass() > 1 { " again, where sums differ" } else { "" };
        let line = format!(
            "verify: {} records of the sources and {} of the targets read{again}",
            count(source),
            count(target)
        );
        if console.live {
            bar.set_message(line);
            bar.tick();
        } else {
            console.say(line);
        }
    }
}

/// A seed that nobody chose; short enough to be typed again.
fn random() -> u64 {
    u64::from(uuid::Uuid::new_v4().as_fields().0)
}
