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
use whimbrel_verify::{
    Assertion, Comparison, FlowVerification, Found, Outcome, Settings, Verification, Watch, private_file,
};

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
    /// Leaves the assertions out: some flows alone were rehearsed, and the others' stand-ins are empty.
    pub in_part: bool,
}

/// A comparison of some flows.
struct Look {
    depth: VerifyDepth,
    /// Empty: all.
    only: BTreeSet<FlowName>,
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
        let mut migration = opened.prepare(resolved.clone(), &program.common).await?;
        migration.without_receipts();
        let migration = Arc::new(migration);
        let environment = resolved.environment.as_deref();
        let evidence = opened.hide(evidence::of_migration(journal, &resolved.migration, environment))?;
        let (evidence, mut notes) = opened.hide(of_these_stores(evidence, journal, &migration).await)?;
        notes.extend(of_another_build(&evidence));
        whimbrel_engine::costs::check_limit(&migration)?;
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
        if !self.leaves_assertions_out() {
            let resolved = &self.migration.resolved;
            let declared = whimbrel_query::declared(&resolved.flows);
            let (settings, stores) = (self.query_settings(), &self.migration.stores);
            let found = whimbrel_verify::assertions(&resolved.verify, stores, &declared, &settings);
            let found = found.await.map_err(|error| error.into_engine(&resolved.path));
            verification.assertions =
                self.opened.hide(found)?.into_iter().map(|one| self.without_secrets(one)).collect();
            let searched = whimbrel_verify::searches(&resolved.verify, &self.migration, &settings).await;
            verification.assertions.extend(self.opened.hide(searched)?);
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

    fn leaves_assertions_out(&self) -> bool {
        self.wanted.in_part || !self.wanted.only.is_empty()
    }

    /// The assertions that are not carried out.
    fn left_out(&self) -> Option<String> {
        let is_one = |rule: &&VerifyRule| matches!(rule, VerifyRule::Assert(_) | VerifyRule::Search(_));
        match self.migration.resolved.verify.iter().filter(is_one).count() {
            0 => None,
            _ if !self.leaves_assertions_out() => None,
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
        let looks = match self.wanted.depth {
            Some(depth) => vec![Look { depth, only: self.wanted.only.clone() }],
            None => self.looks_of_rules(),
        };
        for look in &looks {
            if self.wanted.repair
                && let Some(refused) = unrepairable(&self.migration, &look.only)
            {
                return Err(refused);
            }
            if look.depth > VerifyDepth::Count
                && let Some(refused) = incomparable(&self.migration, look.depth, Some(&look.only), false)
            {
                return Err(refused);
            }
        }
        let mut verification: Option<Verification> = None;
        for look in looks {
            let found = self.look(&look).await?;
            verification = Some(match verification {
                Some(records) => with_counted(records, found),
                None => found,
            });
        }
        Ok(verification.unwrap_or_else(Verification::of_assertions))
    }

    async fn look(&self, look: &Look) -> std::result::Result<Verification, EngineError> {
        match look.depth {
            VerifyDepth::Count => self.count(&look.only).await,
            VerifyDepth::Sample(records) => {
                let seed = self.wanted.seed.unwrap_or_else(random);
                let sample = async |comparison: Comparison| comparison.sample(records, seed).await;
                Ok(self.watched(&look.only, sample).await?.verification)
            }
            VerifyDepth::All => self.all(&look.only).await,
        }
    }

    /// What the spec's rules ask for: of the flows under `records` the closest look of these rules, of the others under
    /// `count` the numbers. Every record where there is no rule, or where flows are named and no rule is about records.
    fn looks_of_rules(&self) -> Vec<Look> {
        let rules = &self.migration.resolved.verify;
        let all: BTreeSet<FlowName> =
            self.migration.resolved.flows.iter().map(|flow| flow.name.clone()).collect();
        let wanted = if self.wanted.only.is_empty() { &all } else { &self.wanted.only };
        let named = |only: &[String]| if only.is_empty() { all.clone() } else { self.named(only) };
        let (mut closest, mut compared, mut counted) = (None, BTreeSet::new(), BTreeSet::new());
        for rule in rules {
            match rule {
                VerifyRule::Count { only, .. } => counted.extend(named(only)),
                VerifyRule::Records { sample, only, .. } => {
                    closest = closest.max(Some(sample.map_or(VerifyDepth::All, VerifyDepth::Sample)));
                    compared.extend(named(only));
                }
                VerifyRule::Assert(_) | VerifyRule::Search(_) => {}
            }
        }
        if rules.is_empty() || (compared.is_empty() && counted.is_empty() && !self.wanted.only.is_empty()) {
            return vec![Look { depth: VerifyDepth::All, only: self.wanted.only.clone() }];
        }
        if !self.wanted.only.is_empty() {
            // Whoever names a flow wants it looked at, also where no rule does.
            let unnamed = wanted.iter().filter(|flow| !compared.contains(*flow) && !counted.contains(*flow));
            let unnamed: Vec<FlowName> = unnamed.cloned().collect();
            if closest.is_some() { compared.extend(unnamed) } else { counted.extend(unnamed) }
        }
        compared.retain(|flow| wanted.contains(flow));
        counted.retain(|flow| wanted.contains(flow) && !compared.contains(flow));
        let whole = |only: BTreeSet<FlowName>| if only == all { BTreeSet::new() } else { only };
        let records =
            closest.filter(|_| !compared.is_empty()).map(|depth| Look { depth, only: whole(compared) });
        let numbers = (!counted.is_empty()).then(|| Look { depth: VerifyDepth::Count, only: whole(counted) });
        records.into_iter().chain(numbers).collect()
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
        whimbrel_verify::count(&self.migration, &expected, only, &self.context).await
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

/// A comparison of records, with the flows of which the numbers alone were compared.
fn with_counted(mut records: Verification, counted: Verification) -> Verification {
    let flows = counted.flows.into_iter();
    records
        .flows
        .extend(flows.map(|(name, found)| (name, FlowVerification { numbers_alone: true, ..found })));
    if counted.outcome == Outcome::Different {
        records.outcome = Outcome::Different;
    }
    records.notes.extend(counted.notes);
    records.seconds += counted.seconds;
    records.capacity += counted.capacity;
    records.ended_ms = counted.ended_ms;
    records
}

/// Why records could not be compared, as far as it is known before any of them is read: nothing tells them apart.
/// `depth`: a sample looks records up by their keys. `only`: of these flows; none or empty: of all. `rehearsed`:
/// embedded stores stand in for the targets.
#[must_use]
pub fn incomparable(
    migration: &Migration,
    depth: VerifyDepth,
    only: Option<&BTreeSet<FlowName>>,
    rehearsed: bool,
) -> Option<EngineError> {
    let by_key = matches!(depth, VerifyDepth::Sample(_));
    let is_asked = |flow: &FlowName| only.is_none_or(|only| only.is_empty() || only.contains(flow));
    let has_no_key = |flow: &&ScanFlow| {
        let is_whole = !by_key && flow.plan.target.compares_without_key();
        flow.target.key.is_empty() && !is_whole && is_asked(&flow.plan.name)
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

/// Why records could not be written again one by one.
fn unrepairable(migration: &Migration, only: &BTreeSet<FlowName>) -> Option<EngineError> {
    let is_asked = |flow: &FlowName| only.is_empty() || only.contains(flow);
    let mut flows = migration.flows().map(|(_, flow)| flow);
    let flow = flows.find(|flow| flow.target.key.is_empty() && is_asked(&flow.plan.name))?;
    let table = flow.plan.target.resource();
    Some(EngineError::Flow {
        flow: flow.plan.name.clone(),
        message: format!(
            "the records of {table} cannot be repaired: they have no key by which one is written again"
        ),
        hint: Some(
            "name the columns of a unique key under `key`, or empty the table and load it anew: `run --new`"
                .to_owned(),
        ),
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

/// What a person should know of flows whose last run was of a build that takes fingerprints in another form.
fn of_another_build(evidence: &BTreeMap<FlowName, Evidence>) -> Option<String> {
    let others = evidence.iter().filter(|(_, known)| known.other_fingerprints);
    let others: Vec<&str> = others.map(|(flow, _)| flow.as_str()).collect();
    (!others.is_empty()).then(|| {
        format!(
            "{}: another build of whimbrel, whose fingerprints are of another form, had part in the last run: records \
             that it rejected count as missing",
            others.join(", ")
        )
    })
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
