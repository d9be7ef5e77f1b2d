//! One scan into two tables that refer to each other, in a target that keeps the checkpoints itself.

use crate::ledger_store::{CommitFault, Ledger, LedgerStore};
use crate::memory_store::{MemoryStore, State};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use whimbrel_engine::journal::RunKind;
use whimbrel_engine::{
    EngineError, Journal, Migration, Run, RunOutcome, RunSettings, RunnerSettings, Summary,
};
use whimbrel_model::{Counts, Reject, RunId, StoreName};
use whimbrel_spec::{Choices, Providers};

/// Every third number is a parent, the next a child of the parent that comes after it, the next nobody's.
const SPEC: &str = "
migration: families
stores: { from: { postgres: 'postgres://nowhere/x' }, to: { postgres: 'postgres://nowhere/y' } }
limits: { retry_for: 3s }
flows:
  parents:
    from: { store: from, table: numbers, where: 'id % 3 = 0' }
    transform: \"SELECT 'P#' || id AS pk, name FROM input\"
    into: { store: to, table: parents, key: [pk], mode: insert }
  children:
    after: [parents]
    from: { store: from, table: numbers, where: 'id % 3 = 1' }
    checks: [ { expect: 'id <> 31', else: 'unlucky' } ]
    transform: \"SELECT 'C#' || id AS pk, 'P#' || (id + 2) AS parent, name FROM input\"
    into: { store: to, table: children, key: [pk], mode: insert }
";
const RECORDS: i64 = 9_002;

struct Trial {
    folder: TempDir,
    state: Arc<State>,
    ledger: Arc<Ledger>,
}

impl Trial {
    fn new(enforced: bool) -> Self {
        let state = Arc::new(State::default());
        state.sees_all.store(true, Ordering::SeqCst);
        let ledger = Arc::new(Ledger { enforced, ..Ledger::default() });
        Self { folder: tempfile::tempdir().unwrap(), state, ledger }
    }

    async fn migration(&self) -> Migration {
        let spec = whimbrel_spec::parse(SPEC, Path::new("families.yaml")).unwrap();
        let resolved =
            whimbrel_spec::resolve(&spec, &Choices::default(), &Providers::new(".")).await.unwrap();
        let from = (StoreName::new("from"), MemoryStore::open("from", RECORDS, &self.state));
        let to = (StoreName::new("to"), LedgerStore::open("to", &self.ledger));
        Migration::prepare(resolved, BTreeMap::from([from, to]), None).await.unwrap()
    }

    fn settings() -> RunSettings {
        RunSettings {
            runner: RunnerSettings { parallel: 3, memory_bytes: 1 << 20, limit: None },
            create: false,
            stop: CancellationToken::new(),
            progress: Arc::default(),
            meter: Arc::default(),
        }
    }

    async fn run(&self) -> (Summary, Option<EngineError>) {
        let mut journal = Journal::open(self.folder.path()).unwrap();
        let (id, kind) = (RunId::generate(), RunKind::Run);
        let migration = self.migration().await;
        let run = Run::begin(migration, &mut journal, id, kind, json!({}), Self::settings()).await;
        run.unwrap().execute().await.unwrap()
    }

    async fn resume(&self) -> (Summary, Option<EngineError>) {
        let mut journal = Journal::open(self.folder.path()).unwrap();
        let record = journal.runs().unwrap().remove(0);
        let migration = self.migration().await;
        let run = Run::resume(migration, &mut journal, &record, false, Self::settings()).await;
        run.unwrap().execute().await.unwrap()
    }

    /// 9,002 numbers in batches of 10, cut into a few slices.
    fn assert_read_once(&self) {
        let batches = self.state.batches_read.load(Ordering::SeqCst);
        assert!((901..=903).contains(&batches), "the numbers are read once: {batches} batches");
    }

    /// 3,001 parents (0, 3, …, 9000), 3,001 children (1, 4, …, 9001) of which one fails its check and the last
    /// has no parent, and 3,000 numbers that are nobody's.
    fn assert_quiet(&self, summary: &Summary) {
        assert_eq!(summary.outcome, RunOutcome::Incomplete);
        let counts = |name: &str| Counts { bytes: 0, ..summary.flows[&name.into()] };
        assert_eq!(counts("parents"), Counts { read: 3_001, created: 3_001, ..Counts::default() });
        assert_eq!(
            counts("children"),
            Counts { read: 3_001, created: 2_999, rejected: 2, ..Counts::default() }
        );
        assert_eq!(summary.unmatched, BTreeMap::from([("id=*".to_owned(), 3_000)]));
        let tables = self.ledger.tables.lock().unwrap();
        assert_eq!((tables["parents"].len(), tables["children"].len()), (3_001, 2_999));
        let lines = std::fs::read_to_string(summary.rejects.file.as_ref().unwrap()).unwrap();
        let rejects = lines.lines().map(|line| serde_json::from_str::<Reject>(line).unwrap());
        let mut reasons: Vec<_> = rejects.map(|reject| reject.reason).collect();
        reasons.sort();
        assert_eq!(reasons, ["its parent is missing", "unlucky"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_scan_feeds_both_tables_and_orphans_are_found_behind_the_load() {
    let trial = Trial::new(false);
    let (summary, error) = trial.run().await;
    assert!(error.is_none(), "{error:?}");
    trial.assert_quiet(&summary);
    trial.assert_read_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn children_wait_where_the_target_insists_on_parents() {
    let trial = Trial::new(true);
    let (summary, error) = trial.run().await;
    assert!(error.is_none(), "{error:?}");
    trial.assert_quiet(&summary);
    trial.assert_read_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_commits_and_lost_answers_change_nothing() {
    for enforced in [false, true] {
        for (at, fault) in
            [(0, CommitFault::Lost), (5, CommitFault::AnswerLost), (700, CommitFault::AnswerLost)]
        {
            let trial = Trial::new(enforced);
            trial.ledger.commits.lock().unwrap().extend(vec![CommitFault::None; at]);
            trial.ledger.commits.lock().unwrap().push_back(fault);
            let (summary, error) = trial.run().await;
            assert!(error.is_none(), "{at} {fault:?} {error:?}");
            assert!(summary.retries > 0, "the slice is written again from what was committed");
            trial.assert_quiet(&summary);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_behind_the_load_waits_for_its_store() {
    use CommitFault::{AnswerLost, Lost};
    for attempts in [&[Lost, Lost][..], &[AnswerLost], &[Lost, AnswerLost]] {
        let trial = Trial::new(false);
        trial.ledger.step_attempts.lock().unwrap().extend(attempts);
        let (summary, error) = trial.run().await;
        assert!(error.is_none(), "{attempts:?} {error:?}");
        trial.assert_quiet(&summary);
    }
    let trial = Trial::new(false);
    // Beyond the patience of 3 s.
    trial.ledger.step_attempts.lock().unwrap().extend(vec![Lost; 60]);
    let (_, error) = trial.run().await;
    assert!(matches!(error, Some(EngineError::Store(_))), "{error:?}");
    trial.ledger.step_attempts.lock().unwrap().clear();
    let (summary, error) = trial.resume().await;
    assert!(error.is_none(), "{error:?}");
    trial.assert_quiet(&summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_stopped_goes_on_from_what_was_committed() {
    for at in [0, 5, 700] {
        let trial = Trial::new(true);
        trial.ledger.commits.lock().unwrap().extend(vec![CommitFault::None; at]);
        // Beyond the patience of 3 s.
        trial.ledger.commits.lock().unwrap().extend(vec![CommitFault::Lost; 60]);
        let (summary, error) = trial.run().await;
        assert!(error.is_some() && summary.outcome == RunOutcome::Failed, "{at} {error:?}");
        trial.ledger.commits.lock().unwrap().clear();
        let (summary, error) = trial.resume().await;
        assert!(error.is_none(), "{at} {error:?}");
        trial.assert_quiet(&summary);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_step_removed_can_be_replayed() {
    let trial = Trial::new(false);
    let (summary, _) = trial.run().await;
    trial.assert_quiet(&summary);
    // The missing parent arrives by another way.
    let parent = ("P#9003".to_owned(), (None, "{}".to_owned()));
    trial.ledger.tables.lock().unwrap().get_mut("parents").unwrap().extend([parent]);
    *trial.ledger.step_done.lock().unwrap() = false;
    let mut journal = Journal::open(trial.folder.path()).unwrap();
    let kind = RunKind::Retry { parent: RunId::new(summary.run.as_str()) };
    let migration = trial.migration().await;
    let id = RunId::generate();
    let run = Run::begin(migration, &mut journal, id, kind, json!({}), Trial::settings()).await;
    let (retried, error) = run.unwrap().execute().await.unwrap();
    assert!(error.is_none(), "{error:?}");
    assert_eq!((retried.totals.read, retried.totals.created, retried.totals.rejected), (2, 1, 1));
    assert!(trial.ledger.tables.lock().unwrap()["children"].contains_key("C#9001"));
}
