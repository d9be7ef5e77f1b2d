//! Two records of one key in one run, over stores that fail: what arrives is what the counts say.

use crate::ledger_store::{CommitFault, Ledger, LedgerStore};
use crate::memory_store::{Fault, MemoryStore, State};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use whimbrel_engine::journal::{BeforeCommit, JournalError, RunKind};
use whimbrel_engine::{
    EngineError, Journal, Migration, Run, RunOutcome, RunSettings, RunnerSettings, Summary,
};
use whimbrel_model::canonical::Canonical;
use whimbrel_model::{Buckets, Checkpoint, Counts, FlowName, Reject, RunId, StoreName};
use whimbrel_spec::{Choices, Providers};
use whimbrel_store::{Store, StoreErrorKind};

/// More records than one slice holds: slices are 0 to 3,999, to 7,999, to 11,999.
const RECORDS: i64 = 12_000;
/// Keys meet in another slice.
const ACROSS_SLICES: &str = "SELECT 'N#' || (id % 6000) AS pk, name, id AS at FROM input";
/// Keys meet in the same batch and in the next one.
const NEAR: &str = "SELECT 'N#' || ((id + 5) / 10 * 5 + id % 5) AS pk, name, id AS at FROM input";
/// Keys never meet, and nobody proves it.
const NOWHERE: &str = "SELECT 'N#' || (id * 3 + 100) AS pk, name, id AS at FROM input";

struct Trial {
    folder: TempDir,
    state: Arc<State>,
    ledger: Option<Arc<Ledger>>,
    spec: String,
    parallel: usize,
}

impl Trial {
    fn new(transform: &str, into: &str) -> Self {
        let spec = format!(
            "
migration: trial
stores: {{ from: {{ postgres: 'postgres://nowhere/x' }}, to: {{ dynamodb: {{ region: nowhere }} }} }}
limits: {{ retry_for: 3s }}
flows:
  numbers:
    from: {{ store: from, query: 'SELECT * FROM numbers', slice_by: id }}
    transform: \"{transform}\"
    into: {{ store: to, table: table, key: [pk], {into} }}
"
        );
        let folder = tempfile::tempdir().unwrap();
        Self { folder, state: Arc::default(), ledger: None, spec, parallel: 3 }
    }

    async fn migration(&self, batch_records: Option<usize>) -> Result<Migration, EngineError> {
        let spec = whimbrel_spec::parse(&self.spec, Path::new("trial.yaml")).unwrap();
        let resolved =
            whimbrel_spec::resolve(&spec, &Choices::default(), &Providers::new(".")).await.unwrap();
        let to: Arc<dyn Store> = match &self.ledger {
            Some(ledger) => LedgerStore::open("to", ledger),
            None => MemoryStore::open("to", RECORDS, &self.state),
        };
        let from = MemoryStore::open("from", RECORDS, &self.state);
        let stores = BTreeMap::from([(StoreName::new("from"), from), (StoreName::new("to"), to)]);
        Migration::prepare(resolved, stores, batch_records).await
    }

    fn journal(&self) -> Journal {
        Journal::open(self.folder.path()).unwrap()
    }

    fn settings(&self) -> RunSettings {
        RunSettings {
            runner: RunnerSettings { parallel: self.parallel, memory_bytes: 1 << 20, limit: None },
            create: false,
            stop: CancellationToken::new(),
            progress: Arc::default(),
            meter: Arc::default(),
        }
    }

    async fn begin(&self, kind: RunKind) -> (Summary, Option<EngineError>) {
        let (mut journal, migration) = (self.journal(), self.migration(None).await.unwrap());
        let id = RunId::generate();
        let run = Run::begin(migration, &mut journal, id, kind, json!({}), self.settings()).await;
        run.unwrap().execute().await.unwrap()
    }

    async fn run(&self) -> (Summary, Option<EngineError>) {
        self.begin(RunKind::Run).await
    }

    async fn resume(&self, batch_records: usize) -> (Summary, Option<EngineError>) {
        let mut journal = self.journal();
        let record = journal.runs().unwrap().remove(0);
        let migration = self.migration(Some(batch_records)).await.unwrap();
        let run = Run::resume(migration, &mut journal, &record, false, self.settings()).await;
        run.unwrap().execute().await.unwrap()
    }

    /// Goes on until the store has been written to so many times, and is then torn down, wherever it is.
    fn killed(&self, begun: bool, writes: u64, batch_records: usize) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let reached = CancellationToken::new();
        let upto = self.state.written.load(Ordering::SeqCst) + writes;
        *self.state.stop_after.lock().unwrap() = Some((upto, reached.clone()));
        runtime.block_on(async {
            let work = async { if begun { self.resume(batch_records).await } else { self.run().await } };
            tokio::select! {
                () = reached.cancelled() => {}
                (summary, _) = work => assert_ne!(summary.outcome, RunOutcome::Failed),
            }
        });
        runtime.shutdown_timeout(Duration::from_secs(10));
        *self.state.stop_after.lock().unwrap() = None;
    }

    /// What the table holds is what the counts say, to the last bit of every record.
    fn assert_sums(&self, summary: &Summary, held: usize) {
        let (journal, table) = (self.journal(), self.state.table.lock().unwrap());
        assert_eq!(table.len(), held);
        let key = journal.fingerprint_key("trial", None).unwrap();
        let mut sums = Buckets::default();
        for (pk, whole) in &*table {
            let (mut keys, mut all) = (Canonical::default(), Canonical::default());
            keys.text(pk);
            all.text(whole);
            sums.add(key.fingerprint(&keys, &all));
        }
        let kept = journal.sums(&RunId::new(summary.run.as_str()), &FlowName::new("numbers")).unwrap();
        assert_eq!((kept.records(), &kept), (sums.records(), &sums));
    }

    fn rejects(summary: &Summary) -> Vec<Reject> {
        let Some(file) = &summary.rejects.file else { return Vec::new() };
        let lines = std::fs::read_to_string(file).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Of 12,000 records half are second ones; 13 is refused by the target, both times.
    fn assert_halved(&self, summary: &Summary) {
        let counts = Counts { bytes: 0, ..summary.totals };
        assert_eq!(counts, Counts { read: 12_000, created: 5_999, rejected: 6_001, ..Counts::default() });
        assert_eq!(summary.outcome, RunOutcome::Incomplete);
        self.assert_sums(summary, 5_999);
        let mut rejects = Self::rejects(summary);
        rejects.retain(|reject| !reject.reason.contains("13 is refused"));
        assert!((5_999..=6_000).contains(&rejects.len()));
        let second = "a second record with the key of an earlier one of this run";
        assert!(rejects.iter().all(|reject| reject.reason == second && reject.record.contains_key("name")));
    }
}

fn faults() -> Vec<(usize, Fault)> {
    vec![
        (1, Fault::Before(StoreErrorKind::Unreachable)),
        (150, Fault::After(StoreErrorKind::Unreachable)),
        (500, Fault::After(StoreErrorKind::Forbidden)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_record_of_a_key_is_a_reject_near_and_far() {
    for (transform, mode) in [(ACROSS_SLICES, "upsert"), (NEAR, "upsert"), (NEAR, "skip_existing")] {
        let trial = Trial::new(transform, &format!("mode: {mode}"));
        let (summary, error) = trial.run().await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(summary.totals.read, 12_000);
        assert_eq!(summary.totals.created + summary.totals.rejected, 12_000);
        trial.assert_sums(&summary, usize::try_from(summary.totals.created).unwrap());
        assert_eq!(summary.totals.skipped, 0);
        let distinct: std::collections::BTreeSet<i64> = (0..RECORDS)
            .map(|id| if transform == NEAR { (id + 5) / 10 * 5 + id % 5 } else { id % 6_000 })
            .filter(|key| *key != 13)
            .collect();
        assert_eq!(usize::try_from(summary.totals.created).unwrap(), distinct.len());
        assert!(distinct.len() < 6_010);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_and_other_batches_change_nothing() {
    for mode in ["upsert", "skip_existing", "insert"] {
        let trial = Trial::new(ACROSS_SLICES, &format!("mode: {mode}"));
        for (round, (at, fault)) in faults().into_iter().enumerate() {
            trial.state.writes.lock().unwrap().extend(vec![Fault::None; at]);
            trial.state.writes.lock().unwrap().push_back(fault);
            let (summary, error) = match round {
                0 => trial.run().await,
                _ => trial.resume(10 - 3 * round).await,
            };
            assert!(matches!(error, Some(EngineError::Store(_))), "{mode}, {round}: {error:?}");
            assert!(summary.totals.balanced());
            trial.state.writes.lock().unwrap().clear();
        }
        let (summary, error) = trial.resume(9).await;
        assert!(error.is_none(), "{error:?}");
        trial.assert_halved(&summary);
    }
}

#[test]
fn kills_change_nothing() {
    for mode in ["upsert", "skip_existing"] {
        let trial = Trial::new(ACROSS_SLICES, &format!("mode: {mode}"));
        trial.killed(false, 40, 10);
        for (writes, batch_records) in [(15, 4), (60, 25), (110, 10), (7, 3)] {
            trial.killed(true, writes, batch_records);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (summary, error) = runtime.block_on(trial.resume(10));
        assert!(error.is_none(), "{error:?}");
        trial.assert_halved(&summary);
    }
}

#[test]
fn nothing_is_rejected_where_no_keys_meet() {
    let trial = Trial::new(NOWHERE, "mode: upsert");
    trial.state.writes.lock().unwrap().extend(vec![Fault::None; 100]);
    trial.killed(false, 70, 10);
    for (writes, batch_records) in [(90, 2), (50, 7), (130, 5), (20, 25)] {
        trial.state.read_faults.lock().unwrap().extend([(3, StoreErrorKind::SnapshotLost)]);
        trial.killed(true, writes, batch_records);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (summary, error) = runtime.block_on(trial.resume(8));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(summary.outcome, RunOutcome::Complete);
    assert_eq!((summary.totals.created, summary.totals.rejected), (12_000, 0));
    trial.assert_sums(&summary, 12_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_target_refused_leaves_its_key_to_the_next() {
    let trial = Trial { parallel: 1, ..Trial::new(ACROSS_SLICES, "mode: upsert") };
    let (summary, error) = trial.run().await;
    assert!(error.is_none(), "{error:?}");
    let rejects = Trial::rejects(&summary);
    let refused: Vec<_> = rejects.iter().filter(|reject| reject.reason == "13 is refused").collect();
    assert_eq!(refused.iter().map(|reject| reject.key["id"].to_string()).collect::<Vec<_>>(), ["13", "6013"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_puts_no_second_record_over_the_first() {
    let trial = Trial::new(ACROSS_SLICES, "mode: upsert");
    let (first, _) = trial.run().await;
    let before = trial.state.table.lock().unwrap().clone();
    let parent = RunId::new(first.run.as_str());
    let (summary, error) = trial.begin(RunKind::Retry { parent }).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!((summary.totals.read, summary.totals.rejected), (6_001, 6_001));
    assert!(before == *trial.state.table.lock().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_record_by_its_order_wins_whatever_happens() {
    for (order, offset) in [("[at]", 6_000), ("at desc", 0)] {
        let into = format!("mode: upsert, on_duplicate: last, order: {order}");
        let trial = Trial::new(ACROSS_SLICES, &into);
        trial.state.read_faults.lock().unwrap().extend([(7, StoreErrorKind::Unreachable)]);
        trial.state.writes.lock().unwrap().extend(vec![Fault::None; 100]);
        trial.state.writes.lock().unwrap().push_back(Fault::After(StoreErrorKind::Forbidden));
        let (_, error) = trial.run().await;
        assert!(matches!(error, Some(EngineError::Store(_))), "{error:?}");
        let read_first = trial.state.batches_read.load(Ordering::SeqCst);
        assert!(read_first >= 1_200, "the source was read as a whole first: {read_first} batches");
        let (summary, error) = trial.resume(7).await;
        assert!(error.is_none(), "{error:?}");
        let read = trial.state.batches_read.load(Ordering::SeqCst) - read_first;
        assert!(read < 1_800, "the first pass is made once: {read} more batches");
        let counts = Counts { bytes: 0, ..summary.totals };
        let expected =
            Counts { read: 12_000, created: 5_999, rejected: 1, filtered: 6_000, ..Counts::default() };
        assert_eq!(counts, expected);
        trial.assert_sums(&summary, 5_999);
        for (key, whole) in &*trial.state.table.lock().unwrap() {
            let id = key[2..].parse::<i64>().unwrap() + offset;
            assert!(whole.contains(&format!("\"name {id}\"")), "{key}: {whole}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_the_same_order_the_second_is_a_reject() {
    let transform = "SELECT 'N#' || (id % 6000) AS pk, name, id % 10 AS at FROM input";
    let trial = Trial::new(transform, "mode: upsert, on_duplicate: last, order: [at]");
    let (summary, error) = trial.run().await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!((summary.totals.created, summary.totals.rejected, summary.totals.filtered), (5_999, 6_001, 0));
    trial.assert_sums(&summary, 5_999);
    let reason = &Trial::rejects(&summary)[0].reason;
    assert!(reason.contains("the key and the order of an earlier one") || reason.contains("13"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_keeps_the_checkpoints_itself_has_each_key_once() {
    let ledger = Arc::new(Ledger::default());
    let mut trial = Trial::new("SELECT 'P#' || (id % 6000) AS pk, name FROM input", "mode: insert");
    trial.spec = trial
        .spec
        .replace("table: table", "table: parents")
        .replace("dynamodb: { region: nowhere }", "postgres: 'postgres://nowhere/y'");
    trial.ledger = Some(Arc::clone(&ledger));
    for (round, fault) in
        [CommitFault::Lost, CommitFault::AnswerLost, CommitFault::AnswerLost].into_iter().enumerate()
    {
        ledger.commits.lock().unwrap().extend(vec![CommitFault::None; 100 + 77 * round]);
        ledger.commits.lock().unwrap().push_back(fault);
        // What is lost once is written again at once; only beyond all patience does the run stop.
        ledger.commits.lock().unwrap().extend(vec![CommitFault::Lost; 60]);
        let (_, error) = if round == 0 { trial.run().await } else { trial.resume(10 - 3 * round).await };
        assert!(matches!(error, Some(EngineError::Store(_))), "{round}: {error:?}");
        ledger.commits.lock().unwrap().clear();
    }
    let (summary, error) = trial.resume(9).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!((summary.totals.created, summary.totals.rejected), (6_000, 6_000));
    assert_eq!(ledger.tables.lock().unwrap()["parents"].len(), 6_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_becomes_of_duplicates() {
    let note = async |trial: &Trial| {
        let migration = trial.migration(None).await.unwrap();
        let (_, flow) = migration.flows().next().unwrap();
        flow.target.notes.join("\n")
    };
    let watched = Trial::new(NOWHERE, "mode: upsert");
    assert_eq!(note(&watched).await, "keys are watched: a second record of one key is rejected");
    let last = Trial::new(NOWHERE, "mode: upsert, on_duplicate: last, order: [at desc, name]");
    assert!(note(&last).await.contains("the last by at desc, name arrives"));
    assert!(note(&last).await.contains("the source is read twice"));

    let table = |trial: Trial| {
        let spec = trial.spec.replace("query: 'SELECT * FROM numbers', slice_by: id", "table: numbers");
        Trial { spec, ..trial }
    };
    let distinct = table(Trial::new("SELECT 'N#' || id AS pk, name FROM input", "mode: upsert"));
    assert_eq!(note(&distinct).await, "keys are distinct: each comes from one value of the source's key, id");
    let (summary, error) = distinct.run().await;
    assert!(error.is_none(), "{error:?}");
    let folder = distinct.journal().run_folder(&RunId::new(summary.run.as_str()));
    assert!(!folder.join("keys.sqlite").exists(), "nothing is claimed");

    let unknown = Trial::new(NOWHERE, "mode: upsert, on_duplicate: last, order: [changed]");
    let error = unknown.migration(None).await.err().unwrap();
    assert!(error.to_string().contains("`order` names `changed`"), "{error}");
}

struct DiskFull;

impl BeforeCommit for DiskFull {
    fn before_commit(&self) -> Result<(), JournalError> {
        Err(JournalError::Stopped("no room for the keys".to_owned()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_checkpoint_is_stored_whose_keys_are_not() {
    let trial = Trial::new(NOWHERE, "mode: upsert");
    let (summary, _) = trial.run().await;
    let (journal, run) = (trial.journal(), RunId::new(summary.run.as_str()));
    let (slice, flow) = (journal.slices(&run).unwrap().remove(0).slice.id, FlowName::new("numbers"));
    let writer = journal.writer(&run, Some(Arc::new(DiskFull))).unwrap();
    assert!(writer.flush().await.is_ok(), "where no checkpoint moves, no key need be there");
    let checkpoint = Checkpoint { seq: 9_999, ..Checkpoint::default() };
    writer.checkpoint(&slice, 1, vec![(flow, checkpoint)]).unwrap();
    let failed = writer.flush().await.unwrap_err();
    assert!(failed.to_string().contains("no room for the keys"), "{failed}");
    let kept = journal.slice(&run, &slice).unwrap().unwrap();
    assert!(kept.checkpoints.iter().all(|(_, checkpoint)| checkpoint.seq < 9_999));
}
