//! Runs that meet faults end as a quiet run does.

use crate::memory_store::{Fault, MemoryStore, State};
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
use whimbrel_store::StoreErrorKind;

/// More records than one slice holds, so that there are several.
const RECORDS: i64 = 12_000;

struct Trial {
    folder: TempDir,
    state: Arc<State>,
    spec: String,
    records: i64,
    memory_bytes: u64,
    parallel: usize,
}

impl Trial {
    fn new(mode: &str) -> Self {
        let spec = format!(
            "
migration: trial
stores: {{ from: {{ postgres: 'postgres://nowhere/x' }}, to: {{ dynamodb: {{ region: nowhere }} }} }}
limits: {{ retry_for: 3s }}
flows:
  numbers:
    from: {{ store: from, table: numbers, where: 'id <> 7' }}
    checks: [ {{ expect: 'id <> 11', else: 'the id {{id}} is unlucky' }} ]
    transform: \"SELECT 'N#' || id AS pk, name FROM input WHERE id <> 12\"
    into: {{ store: to, table: table, key: [pk], mode: {mode} }}
"
        );
        let folder = tempfile::tempdir().unwrap();
        Self { folder, state: Arc::default(), spec, records: RECORDS, memory_bytes: 1 << 20, parallel: 3 }
    }

    async fn migration(&self) -> Migration {
        let spec = whimbrel_spec::parse(&self.spec, Path::new("trial.yaml")).unwrap();
        let resolved =
            whimbrel_spec::resolve(&spec, &Choices::default(), &Providers::new(".")).await.unwrap();
        let store = |name: &str| (StoreName::new(name), MemoryStore::open(name, self.records, &self.state));
        Migration::prepare(resolved, BTreeMap::from([store("from"), store("to")]), None).await.unwrap()
    }

    fn journal(&self) -> Journal {
        Journal::open(self.folder.path()).unwrap()
    }

    fn settings(&self) -> RunSettings {
        let stop = CancellationToken::new();
        if let Some((_, token)) = &mut *self.state.stop_after.lock().unwrap() {
            *token = stop.clone();
        }
        RunSettings {
            runner: RunnerSettings { parallel: self.parallel, memory_bytes: self.memory_bytes, limit: None },
            create: false,
            stop,
            progress: Arc::default(),
            meter: Arc::default(),
        }
    }

    async fn run(&self) -> (Summary, Option<EngineError>) {
        let mut journal = self.journal();
        let (id, kind) = (RunId::generate(), RunKind::Run);
        let run =
            Run::begin(self.migration().await, &mut journal, id, kind, json!({}), self.settings()).await;
        run.unwrap().execute().await.unwrap()
    }

    async fn resume(&self) -> (Summary, Option<EngineError>) {
        let mut journal = self.journal();
        let record = journal.runs().unwrap().remove(0);
        let run = Run::resume(self.migration().await, &mut journal, &record, false, self.settings()).await;
        run.unwrap().execute().await.unwrap()
    }

    /// The table and the counts are those of a run that nothing disturbed, and each reject is kept once.
    fn assert_quiet(&self, summary: &Summary) {
        let quiet = Counts { read: 11_999, created: 11_996, rejected: 2, filtered: 1, ..Counts::default() };
        assert_eq!(Counts { bytes: 0, ..summary.totals }, quiet);
        assert_eq!(summary.outcome, RunOutcome::Incomplete);
        let table = self.state.table.lock().unwrap();
        assert_eq!(table.len(), 11_996);
        assert!(table.iter().all(|(key, whole)| whole.contains(&format!("name {}", &key[2..]))));
        let lines = std::fs::read_to_string(summary.rejects.file.as_ref().unwrap()).unwrap();
        let mut rejects: Vec<(String, String)> = lines
            .lines()
            .map(|line| serde_json::from_str::<Reject>(line).unwrap())
            .map(|reject| (reject.record["id"].to_string(), reject.reason))
            .collect();
        rejects.sort();
        let expected = [("11", "the id 11 is unlucky"), ("13", "13 is refused")];
        assert_eq!(rejects, expected.map(|(id, reason)| (id.to_owned(), reason.to_owned())));
    }

    /// The sums that the journal keeps are those of the records in the table.
    fn assert_sums(&self, summary: &Summary) {
        let journal = self.journal();
        let (run, flow) = (RunId::new(summary.run.as_str()), whimbrel_model::FlowName::new("numbers"));
        let kept = journal.sums(&run, &flow).unwrap();
        let context_key = journal.fingerprint_key("trial", None).unwrap();
        let mut sums = whimbrel_model::Buckets::default();
        for (key, whole) in &*self.state.table.lock().unwrap() {
            let (mut keys, mut all) = (whimbrel_model::canonical::Canonical::default(), Default::default());
            keys.text(key);
            whimbrel_model::canonical::Canonical::text(&mut all, whole);
            sums.add(context_key.fingerprint(&keys, &all));
        }
        assert_eq!(kept, sums);
        assert_eq!(kept.differing(&sums), Vec::<usize>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_run_accounts_for_every_record() {
    let trial = Trial::new("upsert");
    let (summary, error) = trial.run().await;
    assert!(error.is_none());
    trial.assert_quiet(&summary);
    trial.assert_sums(&summary);
    assert_eq!((summary.slices_done, summary.slices), (3, 3));
    assert_eq!(trial.state.epochs.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_are_told_how_much_is_asked_of_them_at_once() {
    let trial = Trial { parallel: 2, ..Trial::new("upsert") };
    let (summary, error) = trial.run().await;
    assert!(error.is_none());
    assert_eq!(summary.slices, 3);
    // Two slices at a time are read from one of them, and written into the other.
    assert_eq!(*trial.state.expected.lock().unwrap(), [(2, 0), (0, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_source_is_a_complete_run() {
    let trial = Trial { records: 0, ..Trial::new("upsert") };
    let (summary, error) = trial.run().await;
    assert!(error.is_none());
    assert_eq!((summary.outcome, summary.totals), (RunOutcome::Complete, Counts::default()));
}

/// The first slice's last batch is written when the second slice is being read, though only one is read at a time.
#[tokio::test(flavor = "multi_thread")]
async fn a_slice_is_read_while_the_one_before_it_is_still_written() {
    let trial = Trial { parallel: 1, ..Trial::new("upsert") };
    let batches = usize::try_from(RECORDS / 3 / 10).unwrap();
    let writes = std::iter::repeat_n(Fault::None, batches - 1).chain([Fault::AwaitsReads(2)]);
    trial.state.writes.lock().unwrap().extend(writes);
    let run = tokio::time::timeout(std::time::Duration::from_secs(60), trial.run()).await;
    let (summary, error) = run.expect("the second slice is never read");
    assert!(error.is_none());
    trial.assert_quiet(&summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_stops_the_run_and_a_resume_ends_it() {
    for mode in ["upsert", "skip_existing"] {
        for (at, fault) in [
            (0, Fault::Before(StoreErrorKind::Unreachable)),
            (1, Fault::After(StoreErrorKind::Unreachable)),
            (100, Fault::Before(StoreErrorKind::Forbidden)),
            (101, Fault::After(StoreErrorKind::Overloaded)),
        ] {
            let trial = Trial::new(mode);
            trial.state.writes.lock().unwrap().extend(vec![Fault::None; at]);
            trial.state.writes.lock().unwrap().push_back(fault);
            let (summary, error) = trial.run().await;
            assert!(matches!(error, Some(EngineError::Store(_))), "{error:?}");
            assert_eq!(summary.outcome, RunOutcome::Failed);
            assert!(summary.totals.balanced());
            let (summary, error) = trial.resume().await;
            assert!(error.is_none(), "{error:?}");
            trial.assert_quiet(&summary);
            trial.assert_sums(&summary);
            assert_eq!(summary.resumes, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_is_in_flight_and_a_resume_ends_it() {
    let trial = Trial::new("skip_existing");
    *trial.state.stop_after.lock().unwrap() = Some((50, CancellationToken::new()));
    let (summary, error) = trial.run().await;
    assert!(matches!(error, Some(EngineError::Interrupted)), "{error:?}");
    assert_eq!(summary.outcome, RunOutcome::Paused);
    let held = u64::try_from(trial.state.table.lock().unwrap().len()).unwrap();
    assert_eq!(summary.totals.created, held, "what was in flight is accounted for");
    assert!(held < 11_000, "it did stop");
    *trial.state.stop_after.lock().unwrap() = None;
    let (summary, error) = trial.resume().await;
    assert!(error.is_none());
    trial.assert_quiet(&summary);
    trial.assert_sums(&summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_snapshot_begins_a_new_epoch_and_the_slice_goes_on() {
    let trial = Trial::new("upsert");
    trial
        .state
        .read_faults
        .lock()
        .unwrap()
        .extend([(5, StoreErrorKind::SnapshotLost), (9, StoreErrorKind::Unreachable)]);
    let (summary, error) = trial.run().await;
    assert!(error.is_none(), "{error:?}");
    trial.assert_quiet(&summary);
    trial.assert_sums(&summary);
    assert!(trial.state.epochs.load(Ordering::SeqCst) >= 2);
    let batches = trial.state.batches_read.load(Ordering::SeqCst);
    assert!(
        batches < 1_220,
        "{batches} batches of 10 were read for 12,000 records: a checkpoint was ignored"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_never_comes_back_ends_the_run_resumable() {
    let trial = Trial { spec: Trial::new("upsert").spec.replace("3s", "1s"), ..Trial::new("upsert") };
    trial.state.read_faults.lock().unwrap().extend(vec![(0, StoreErrorKind::Unreachable); 1000]);
    let (summary, error) = trial.run().await;
    assert!(
        matches!(error, Some(EngineError::Store(ref error)) if error.kind() == StoreErrorKind::Unreachable),
        "{error:?}"
    );
    assert_eq!(summary.outcome, RunOutcome::Failed);
    trial.state.read_faults.lock().unwrap().clear();
    let (summary, error) = trial.resume().await;
    assert!(error.is_none());
    trial.assert_quiet(&summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_smaller_than_one_batch_is_slow_and_enough() {
    let trial = Trial { memory_bytes: 1, ..Trial::new("upsert") };
    let (summary, error) = trial.run().await;
    assert!(error.is_none());
    trial.assert_quiet(&summary);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_rejects_pause_the_run() {
    let base = Trial::new("upsert");
    let spec = base.spec.replace("id <> 11'", "id % 2 = 0'").replace("3s }", "3s, max_reject_rate: 0.4 }");
    let trial = Trial { spec, ..base };
    let (summary, error) = trial.run().await;
    assert!(matches!(error, Some(EngineError::RejectRate { .. })), "{error:?}");
    assert_eq!(summary.outcome, RunOutcome::Paused);
    assert!(summary.totals.read < 11_999);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_store_or_spec_is_refused_on_resume() {
    let trial = Trial::new("upsert");
    trial.state.writes.lock().unwrap().push_back(Fault::Before(StoreErrorKind::Forbidden));
    trial.run().await;
    let mut journal = trial.journal();
    let record = journal.runs().unwrap().remove(0);

    let changed = Trial { spec: trial.spec.replace("unlucky", "odd"), ..Trial::new("upsert") };
    let refused =
        Run::resume(changed.migration().await, &mut journal, &record, false, trial.settings()).await;
    assert!(refused.err().unwrap().to_string().contains("has changed since"));

    "another database".clone_into(&mut trial.state.identity.lock().unwrap());
    let refused = Run::resume(trial.migration().await, &mut journal, &record, false, trial.settings()).await;
    assert!(refused.err().unwrap().to_string().contains("is not the one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_replayed_once_the_cause_is_gone() {
    let trial = Trial::new("upsert");
    let (summary, _) = trial.run().await;
    let parent = RunId::new(summary.run.as_str());
    let fixed = Trial { spec: trial.spec.replace("id <> 11'", "true'"), ..Trial::new("upsert") };
    let fixed = Trial { state: Arc::clone(&trial.state), ..fixed };
    let mut journal = trial.journal();
    let (id, kind) = (RunId::generate(), RunKind::Retry { parent });
    let run = Run::begin(fixed.migration().await, &mut journal, id, kind, json!({}), fixed.settings()).await;
    let (summary, error) = run.unwrap().execute().await.unwrap();
    assert!(error.is_none(), "{error:?}");
    assert_eq!((summary.totals.read, summary.totals.updated, summary.totals.rejected), (2, 1, 1));
    assert!(trial.state.table.lock().unwrap().contains_key("N#11"));
    assert_eq!(summary.rejects.reasons[0].reason, "13 is refused");
}
