//! Elements of documents as records: what reaches the flow, what is rejected, and how a run goes on within a parent.

use crate::document_store::{DocumentStore, Documents};
use crate::ledger_store::{CommitFault, Ledger, LedgerStore};
use crate::memory_store::{Fault, MemoryStore, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use whimbrel_engine::journal::RunKind;
use whimbrel_engine::{
    EngineError, Journal, Migration, Run, RunOutcome, RunSettings, RunnerSettings, Summary, dry_run,
};
use whimbrel_model::{Counts, Reject, RunId, StoreName};
use whimbrel_spec::{Choices, Providers};
use whimbrel_store::{Condition, Store, StoreErrorKind};

struct Trial {
    folder: TempDir,
    documents: Arc<Documents>,
    state: Arc<State>,
    to: Arc<dyn Store>,
    spec: String,
}

impl Trial {
    /// Into a store that takes record by record; `flow` is the flow without its `into`.
    fn new(documents: Documents, flow: &str) -> Self {
        let state = Arc::new(State::default());
        let to = MemoryStore::open("to", 0, &state);
        Self::into(documents, flow, state, to)
    }

    fn into(documents: Documents, flow: &str, state: Arc<State>, to: Arc<dyn Store>) -> Self {
        let spec = format!(
            "
migration: trial
stores: {{ from: {{ postgres: 'postgres://nowhere/x' }}, to: {{ dynamodb: {{ region: nowhere }} }} }}
limits: {{ retry_for: 3s }}
flows:
  elements:
    {}
    into: {{ store: to, table: parents, key: [pk], mode: insert }}
",
            flow.trim()
        );
        Self { folder: tempfile::tempdir().unwrap(), documents: Arc::new(documents), state, to, spec }
    }

    async fn prepared(&self) -> Result<Migration, EngineError> {
        let spec = whimbrel_spec::parse(&self.spec, Path::new("trial.yaml")).unwrap();
        let resolved =
            whimbrel_spec::resolve(&spec, &Choices::default(), &Providers::new(".")).await.unwrap();
        let from = (StoreName::new("from"), DocumentStore::open("from", &self.documents));
        let to = (StoreName::new("to"), Arc::clone(&self.to));
        Migration::prepare(resolved, BTreeMap::from([from, to]), Some(10)).await
    }

    fn settings(&self) -> RunSettings {
        let stop = CancellationToken::new();
        if let Some((_, token)) = &mut *self.state.stop_after.lock().unwrap() {
            *token = stop.clone();
        }
        RunSettings {
            runner: RunnerSettings { parallel: 2, memory_bytes: 1 << 20, limit: None },
            create: false,
            stop,
            progress: Arc::default(),
            meter: Arc::default(),
        }
    }

    async fn run(&self) -> (Summary, Option<EngineError>) {
        let mut journal = Journal::open(self.folder.path()).unwrap();
        let (id, kind) = (RunId::generate(), RunKind::Run);
        let migration = self.prepared().await.unwrap();
        let run = Run::begin(migration, &mut journal, id, kind, json!({}), self.settings()).await;
        run.unwrap().execute().await.unwrap()
    }

    async fn resume(&self) -> (Summary, Option<EngineError>) {
        let mut journal = Journal::open(self.folder.path()).unwrap();
        let record = journal.runs().unwrap().remove(0);
        let migration = self.prepared().await.unwrap();
        let run = Run::resume(migration, &mut journal, &record, false, self.settings()).await;
        run.unwrap().execute().await.unwrap()
    }

    fn table(&self) -> Vec<Value> {
        let table = self.state.table.lock().unwrap();
        table.values().map(|whole| serde_json::from_str(whole).unwrap()).collect()
    }
}

fn rejects(summary: &Summary) -> Vec<Reject> {
    let lines = std::fs::read_to_string(summary.rejects.file.as_ref().unwrap()).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn projects(records: &[&str]) -> Documents {
    Documents {
        records: records.iter().map(|record| (*record).to_owned()).collect(),
        own: vec!["id", "name", "tokens"],
        key: vec!["id"],
        ..Documents::default()
    }
}

const TOKENS: &str = "
    from: { store: from, table: projects, each: '$.tokens[*]' }
    columns: { n: number }
    transform: \"SELECT id || '#' || \\\"_position\\\" AS pk, name, token, n, \\\"@.name\\\" AS own FROM input\"
";

#[tokio::test(flavor = "multi_thread")]
async fn each_element_is_a_record_with_its_parents_columns() {
    let digits = "12345678901234567890.10";
    let trial = Trial::new(
        projects(&[
            &format!(
                r#"{{"id":"a","name":"A","tokens":[{{"token":"x","n":{digits},"name":"mine"}},{{"token":7}}]}}"#
            ),
            r#"{"id":"b","name":"B","tokens":[]}"#,
            r#"{"id":"c","name":"C","tokens":null}"#,
            r#"{"id":"d","name":"D"}"#,
            r#"{"id":"e","tokens":[{"token":{"deep":[1]}}]}"#,
        ]),
        TOKENS,
    );
    let (summary, error) = trial.run().await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(Counts { bytes: 0, ..summary.totals }, Counts { read: 3, created: 3, ..Counts::default() });
    assert_eq!(
        trial.table(),
        [
            json!({"pk": "a#0", "name": "A", "token": "x", "n": digits, "own": "mine"}),
            json!({"pk": "a#1", "name": "A", "token": "7", "n": null, "own": null}),
            json!({"pk": "e#0", "name": null, "token": "{\"deep\":[1]}", "n": null, "own": null}),
        ]
    );
    assert_eq!(summary.outcome, RunOutcome::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reject_names_the_parent_and_the_place_and_keeps_the_element_whole() {
    let trial = Trial::new(
        projects(&[
            r#"{"id":"a","name":"A","tokens":[{"token":"x","more":[1]},5,{"token":"y","n":"many","z":0},{"token":1,"token":2}]}"#,
            r#"{"id":"b","name":"B","tokens":{"token":"x"}}"#,
            r#"{"id":"c","name":"C","tokens":"none"}"#,
        ]),
        TOKENS,
    );
    let (summary, error) = trial.run().await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(
        Counts { bytes: 0, ..summary.totals },
        Counts { read: 6, created: 1, rejected: 5, ..Counts::default() }
    );
    let rejects = rejects(&summary);
    let told: Vec<_> = rejects.iter().map(|reject| (json!(reject.key), reject.reason.as_str())).collect();
    let expected = [
        (json!({"id": "a", "_position": 1}), "element 1 of `$.tokens[*]` is a number, which has no fields"),
        (json!({"id": "a", "_position": 2}), "column `n`: "),
        (json!({"id": "a", "_position": 3}), "element 3 of `$.tokens[*]`: the name \"token\" stands twice"),
        (
            json!({"id": "b", "_position": 0}),
            "`$.tokens[*]` cannot be followed: there is an object where the path expects a list",
        ),
        (
            json!({"id": "c", "_position": 0}),
            "`$.tokens[*]` cannot be followed: there is text where the path expects a list",
        ),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((key, reason), (expected_key, expected_reason)) in told.iter().zip(&expected) {
        assert_eq!(key, expected_key);
        assert!(reason.starts_with(expected_reason), "{reason}");
    }
    assert!(rejects.iter().all(|reject| reject.stage == whimbrel_model::Stage::Read));
    assert_eq!(
        rejects[1].original,
        Some(json!({"position": 2, "element": {"token": "y", "n": "many", "z": 0}}))
    );
    assert_eq!(rejects[1].record["name"], "A");
    assert_eq!(rejects[2].original.as_ref().unwrap()["element"], r#"{"token":1,"token":2}"#);
    assert_eq!(rejects[3].original.as_ref().unwrap()["element"], json!({"token": "x"}));
}

/// The nested file of projects: one object, a member a project.
const FILE: &str = r#"{"alpha":{"repository":"git/a","tokens":[{"token_id":"t1"},{"token_id":"t2"}]},
    "beta":{"repository":"git/b","tokens":[]},"gamma":{"repository":"git/c","tokens":[{"token_id":"t1"}]}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_projects_comes_apart_into_projects_and_their_tokens() {
    let file = || Documents { records: vec![FILE.to_owned()], ..Documents::default() };
    let trial = Trial::new(
        file(),
        "
    from: { store: from, table: projects.json, each: '$.*', key_as: project }
    transform: SELECT 'PROJECT#' || project AS pk, repository FROM input",
    );
    let (summary, error) = trial.run().await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!((summary.totals.read, summary.totals.created), (3, 3));
    assert_eq!(trial.table()[2], json!({"pk": "PROJECT#gamma", "repository": "git/c"}));

    let trial = Trial::new(
        file(),
        "
    from: { store: from, table: projects.json, each: '$.*.tokens[*]', key_as: project }
    transform: SELECT project || '/' || token_id AS pk FROM input",
    );
    let (summary, error) = trial.run().await;
    assert!(error.is_none(), "{error:?}");
    let keys: Vec<_> = trial.table().iter().map(|row| row["pk"].clone()).collect();
    assert_eq!(keys, ["alpha/t1", "alpha/t2", "gamma/t1"]);
    assert_eq!(summary.totals.read, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_say_whose_they_are() {
    let documents = Documents {
        records: vec![r#"{"pk":"p","title":"parent's","tags":["red","{}",null,1.0]}"#.to_owned()],
        key: vec!["pk"],
        ..Documents::default()
    };
    let trial = Trial::new(
        documents,
        "
    from: { store: from, table: t, each: '$.tags[*]' }
    transform: |
      SELECT pk || _position AS pk, \"$.title\" AS title, _element FROM input",
    );
    let (summary, error) = trial.run().await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(summary.totals.created, 4);
    let elements: Vec<_> = trial.table().iter().map(|row| row["_element"].clone()).collect();
    assert_eq!(elements, ["\"red\"", "\"{}\"", "null", "1.0"], "each is as it is written");
    assert!(trial.table().iter().all(|row| row["title"] == "parent's"));
    let requests = trial.documents.requests.lock().unwrap();
    let wanted = requests[1].wanted.clone().unwrap();
    assert_eq!(wanted.into_iter().collect::<Vec<_>>(), ["pk", "tags", "title"]);
    assert_eq!(requests[1].columns, BTreeMap::from([("tags".to_owned(), "json".to_owned())]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_said_of_parents_is_asked_of_their_source() {
    let flow =
        TOKENS.replace("each: '$.tokens[*]'", "each: '$.tokens[*]', where: \"name = 'A' AND token = 'x'\"");
    let trial = Trial::new(
        projects(&[
            r#"{"id":"a","name":"A","tokens":[{"token":"x"},{"token":"y"}]}"#,
            r#"{"id":"b","name":"B","tokens":[{"token":"x"}]}"#,
        ]),
        &flow,
    );
    let (summary, error) = trial.run().await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!((summary.totals.read, summary.totals.created), (1, 1));
    let said = trial.documents.requests.lock().unwrap()[1].condition.clone();
    let Some(Condition::All(all)) = &said else { panic!("{said:?}") };
    assert!(matches!(all.as_slice(), [Condition::Compare(name, ..)] if name == "name"), "{said:?}");
}

/// Three parents: few, very many, few elements; in batches of ten.
fn large() -> Documents {
    let parent = |id: &str, count: usize| {
        let tokens: Vec<_> = (0..count).map(|n| json!({"token": format!("{id}{n}")})).collect();
        json!({"id": id, "name": id, "tokens": tokens}).to_string()
    };
    projects(&[&parent("a", 3), &parent("b", 5_000), &parent("c", 4)])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_stops_within_a_parent_goes_on() {
    for fault in
        [Some(Fault::Before(StoreErrorKind::Forbidden)), Some(Fault::After(StoreErrorKind::Forbidden)), None]
    {
        let trial = Trial::new(large(), TOKENS);
        match fault {
            Some(fault) => {
                let mut writes = trial.state.writes.lock().unwrap();
                writes.extend(vec![Fault::None; 200]);
                writes.push_back(fault);
            }
            None => *trial.state.stop_after.lock().unwrap() = Some((200, CancellationToken::new())),
        }
        let (summary, _) = trial.run().await;
        assert_ne!(summary.outcome, RunOutcome::Complete);
        assert!(summary.totals.balanced());
        *trial.state.stop_after.lock().unwrap() = None;
        let (summary, error) = trial.resume().await;
        assert!(error.is_none(), "{error:?}");
        // The target refuses what ends with #13.
        let quiet = Counts { read: 5_007, created: 5_006, rejected: 1, ..Counts::default() };
        assert_eq!(Counts { bytes: 0, ..summary.totals }, quiet);
        assert_eq!(trial.table().len(), 5_006);
        assert_eq!(rejects(&summary).len(), 1);
        assert_eq!(json!(rejects(&summary)[0].key), json!({"id": "b", "_position": 13}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_is_one_transaction_where_batches_have_them() {
    for fault in [CommitFault::Lost, CommitFault::AnswerLost, CommitFault::None] {
        let ledger = Arc::new(Ledger::default());
        let to = LedgerStore::open("to", &ledger);
        let trial = Trial::into(large(), TOKENS, Arc::default(), to);
        ledger.commits.lock().unwrap().push_back(fault);
        let (mut summary, mut error) = trial.run().await;
        if error.is_some() {
            assert!(summary.totals.balanced());
            (summary, error) = trial.resume().await;
        }
        assert!(error.is_none(), "{fault:?}: {error:?}");
        let quiet = Counts { read: 5_007, created: 5_007, ..Counts::default() };
        assert_eq!(Counts { bytes: 0, ..summary.totals }, quiet, "{fault:?}");
        assert_eq!(ledger.tables.lock().unwrap()["parents"].len(), 5_007);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_how_many_records_have_no_elements() {
    let trial = Trial::new(
        projects(&[
            r#"{"id":"a","tokens":[{"token":"x"},{"token":"y"}]}"#,
            r#"{"id":"b","tokens":[]}"#,
            r#"{"id":"c"}"#,
        ]),
        TOKENS,
    );
    let migration = trial.prepared().await.unwrap();
    let plan =
        dry_run::dry_run(&migration, true, None, &whimbrel_store::conformance::context()).await.unwrap();
    assert_eq!((plan.flows[0].read, plan.records), (2, 2));
    let notes = plan.flows[0].notes.join("\n");
    assert!(
        notes.contains("3 records were opened at `$.tokens[*]`: 2 elements; 2 records have none"),
        "{notes}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_does_not_have_is_told_where_the_spec_says_it() {
    let refused = async |flow: &str| {
        let trial = Trial::new(projects(&[]), flow);
        trial.prepared().await.err().unwrap().to_string()
    };
    let from = |each: &str| {
        format!("from: {{ store: from, table: t, each: {each} }}\n    transform: SELECT id AS pk FROM input")
    };
    for (each, expected) in [
        (
            "'$.token[*]'",
            "trial.yaml:7:42: flow `elements`: store `from`: `each`: the source has no column `token`",
        ),
        ("'$[*]'", "a record is no document, it has columns: id, name, tokens"),
        ("'$.tokens.*', key_as: name", "the source has a column of that name"),
    ] {
        let message = refused(&from(each)).await;
        assert!(message.contains(expected), "{message}");
    }
    let message = refused(&from("'$.tokens[*]'").replace("SELECT id", "SELECT \"$.nothing\" || id")).await;
    assert!(message.contains("the source has no column `nothing`"), "{message}");
}
