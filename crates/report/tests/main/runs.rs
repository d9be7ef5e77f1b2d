//! Reports of runs as a journal and a folder have them.

use crate::pages::assert_well_formed;
use serde_json::json;
use std::io::Write;
use std::path::Path;
use whimbrel_engine::journal::{NewRun, RunKind, RunRecord, Sample, TargetRecord};
use whimbrel_engine::summary::{Cost, RejectSummary};
use whimbrel_engine::{Journal, RunOutcome, Summary};
use whimbrel_model::{
    Capacity, Checkpoint, Counts, FlowName, GroupName, Receipt, RunId, Slice, SliceId, SlicePart, StoreName,
};
use whimbrel_report::report::Outcome;
use whimbrel_report::{Format, Report};

const REJECTS: u64 = 100_000;

fn begun(folder: &Path) -> (Journal, RunId) {
    let mut journal = Journal::open(folder).unwrap();
    let id = RunId::generate();
    let run = NewRun {
        id: id.clone(),
        migration: "<script>".to_owned(),
        environment: "e".to_owned(),
        kind: RunKind::Run,
        spec_path: "m.yaml".to_owned(),
        spec_digest: "d".to_owned(),
        shape: "s".to_owned(),
        options: json!({}),
        stores: vec![(StoreName::new("s"), "somewhere".to_owned(), "id".to_owned())],
    };
    journal.begin(&run).unwrap();
    let target = TargetRecord {
        flow: FlowName::new("f"),
        resource: "t".to_owned(),
        identity: None,
        made: false,
        empty: true,
        estimate: Some(REJECTS * 2),
    };
    let group = GroupName::new("f");
    let slice = Slice { id: SliceId::of(&group, 0), group, part: SlicePart(json!(0)) };
    journal.planned(&id, &[target], &[slice]).unwrap();
    (journal, id)
}

fn counts() -> Counts {
    Counts { read: REJECTS + 5, created: 5, rejected: REJECTS, ..Counts::default() }
}

async fn moved(journal: &Journal, run: &RunId) {
    let writer = journal.writer(run, None).unwrap();
    let capacity = Capacity { write_units: 1_000_000.0, ..Capacity::default() };
    let last = Checkpoint { counts: counts(), capacity, ..Checkpoint::default() };
    for second in 0..4 {
        let at_ms = 1_000 * second;
        writer.sample(Sample { at_ms, records: 100 * u64::try_from(second).unwrap(), ..Sample::default() });
    }
    let receipt = Receipt { slice: SliceId::new("f.0000"), flow: FlowName::new("f"), epoch: 1, last };
    writer.done(&SliceId::new("f.0000"), vec![receipt]).await.unwrap();
}

fn record(journal: &Journal, run: &RunId) -> RunRecord {
    journal.find(run.as_str()).unwrap().remove(0)
}

fn summary(run: &RunId, rejects: RejectSummary) -> Summary {
    Summary {
        migration: "m".to_owned(),
        run: run.to_string(),
        outcome: RunOutcome::Incomplete,
        environment: None,
        totals: counts(),
        flows: [(FlowName::new("f"), counts())].into(),
        unmatched: [].into(),
        shared: 0,
        deletions: [].into(),
        rejects,
        capacity: Capacity::default(),
        cost_usd: Cost::default(),
        seconds: 3.0,
        peak_memory_bytes: 1,
        stores: [].into(),
        slices_done: 1,
        slices: 1,
        resumes: 0,
        retries: 0,
        throttles: 0,
        spec_digest: "d".to_owned(),
        version: "0.1.0".to_owned(),
        error: None,
    }
}

#[tokio::test]
async fn a_hundred_thousand_rejects_make_a_small_report() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, run) = begun(folder.path());
    moved(&journal, &run).await;
    journal.end(&run, "incomplete").unwrap();
    let file = folder.path().join("rejects.ndjson");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&file).unwrap());
    for number in 0..REJECTS {
        // Every one has a reason of its own, and the first are very long.
        let long = "x".repeat(if number < 50 { 10_240 } else { 0 });
        let reason: String = format!("{number:06}").chars().map(|d| char::from(d as u8 + 49)).collect();
        let reject = json!({"flow": "f", "slice": "f.0000", "stage": "check", "key": {"id": number, "<b>": long},
            "reason": format!("{reason} </td> {long}"), "record": {}});
        writeln!(out, "{reject}").unwrap();
    }
    out.into_inner().unwrap();
    let rejects = RejectSummary::read(Some(&file)).unwrap();
    summary(&run, rejects).store(&journal.run_folder(&run)).unwrap();

    let report = Report::of_run(&journal, &record(&journal, &run)).unwrap();
    assert_eq!((report.outcome, report.exit_code), (Outcome::Incomplete, Some(3)));
    let facts = report.run.as_ref().unwrap();
    let listed: u64 = facts.rejects.reasons.iter().map(|reason| reason.count).sum();
    assert_eq!(listed + facts.rejects.other, REJECTS, "no reject is left unsaid");
    assert_eq!(facts.cost.actual_usd, 0.625);
    let page = Format::Html.render(&report);
    assert_well_formed(&page);
    for format in [Format::Html, Format::Markdown, Format::Json] {
        let bytes = format.render(&report).len();
        assert!(bytes < 100_000, "{format:?} has {bytes} bytes");
    }
}

#[tokio::test]
async fn a_killed_run_has_a_report_from_its_journal_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, run) = begun(folder.path());
    moved(&journal, &run).await;
    let report = Report::of_run(&journal, &record(&journal, &run)).unwrap();
    assert_eq!((report.outcome, report.exit_code), (Outcome::Killed, None));
    assert!(report.next[0].contains(&format!("`whimbrel resume {}`", run.short())));
    let facts = report.run.unwrap();
    assert_eq!((facts.totals, facts.balanced, facts.ended), (counts(), true, None));
    assert_eq!((facts.rejects.count, facts.rejects.other), (REJECTS, REJECTS));
    assert_eq!(facts.throughput.mean_per_s, Some(100.0));
    let projected = facts.cost.projected_usd.unwrap();
    assert!((1.2..1.26).contains(&projected), "twice what half of it cost: {projected}");
}

#[tokio::test]
async fn a_run_under_way_does_not_show_what_an_earlier_stretch_found() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, run) = begun(folder.path());
    moved(&journal, &run).await;
    journal.end(&run, "failed").unwrap();
    let mut earlier = summary(&run, RejectSummary::default());
    earlier.error = Some("it broke".to_owned());
    earlier.store(&journal.run_folder(&run)).unwrap();
    let report = Report::of_run(&journal, &record(&journal, &run)).unwrap();
    assert_eq!(report.run.unwrap().error.as_deref(), Some("it broke"));

    journal.continue_run(&run, "d", "s").unwrap();
    let _lock = journal.lock("<script>", Some("e")).unwrap();
    let report = Report::of_run(&journal, &record(&journal, &run)).unwrap();
    assert_eq!(report.outcome, Outcome::Running);
    let facts = report.run.unwrap();
    assert_eq!((facts.error, facts.process.is_none(), facts.resumes), (None, true, 1));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, run) = begun(folder.path());
    std::fs::create_dir_all(journal.run_folder(&run)).unwrap();
    std::fs::write(journal.run_folder(&run).join("plan.json"), "{").unwrap();
    let error = Report::of_run(&journal, &record(&journal, &run)).unwrap_err();
    assert!(error.to_string().contains("plan.json"), "{error}");
}
