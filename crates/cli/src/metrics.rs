//! A run's figures for Prometheus, in the OpenMetrics text format. What each means: `docs/metrics.md`.

use crate::disk;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use whimbrel_engine::activity::{Activity, Stage};
use whimbrel_engine::latency::{BOUNDS_S, Latency};
use whimbrel_engine::progress::FlowSnapshot;
use whimbrel_engine::{EngineError, Progress, memory};
use whimbrel_model::{Counts, FlowName, RunId};
use whimbrel_store::Meter;

/// What is read anew at each visit of Prometheus.
#[derive(Debug)]
pub struct Metrics {
    migration: String,
    run: RunId,
    journal: PathBuf,
    progress: Arc<Progress>,
    meter: Arc<Meter>,
    /// The most that each flow's counts have been: a counter never falls.
    highest: Mutex<BTreeMap<FlowName, Counts>>,
}

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Metrics {
    /// The figures of one run, whose journal is in this folder.
    #[must_use]
    pub fn new(
        migration: &str,
        run: &RunId,
        journal: PathBuf,
        progress: Arc<Progress>,
        meter: Arc<Meter>,
    ) -> Self {
        let (migration, run) = (migration.to_owned(), run.clone());
        Self { migration, run, journal, progress, meter, highest: Mutex::default() }
    }

    /// All figures, each labelled with the migration and the run.
    fn registry(self) -> Registry {
        let labels = [
            ("migration".into(), self.migration.clone().into()),
            ("run".into(), self.run.to_string().into()),
        ];
        let mut registry = Registry::with_labels(labels.into_iter());
        registry.register_collector(Box::new(self));
        registry
    }

    /// Serves `/metrics`.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn serve(self, address: SocketAddr) -> Result<Serving, EngineError> {
        let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
            EngineError::refused(
                format!("metrics cannot be served on {address}: {error}"),
                "give a free address of this machine: --metrics 127.0.0.1:9184",
            )
        })?;
        let registry = Arc::new(self.registry());
        let answer = move || {
            let registry = Arc::clone(&registry);
            async move {
                let mut text = String::new();
                match prometheus_client::encoding::text::encode(&mut text, &registry) {
                    Ok(()) => Ok((
                        [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
                        text,
                    )),
                    Err(_) => Err(axum::http::StatusCode::INTERNAL_SERVER_ERROR),
                }
            }
        };
        let router = Router::new().route("/metrics", get(answer));
        tracing::info!(%address, "serving metrics");
        Ok(Serving(tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "metrics are no longer served");
            }
        })))
    }

    /// Each flow's counts, none lower than at an earlier visit.
    fn flows(&self) -> Vec<FlowSnapshot> {
        let mut flows = self.progress.snapshot();
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        for flow in &mut flows {
            let before = highest.entry(flow.flow.clone()).or_default();
            *before = at_least(before, &flow.counts);
            flow.counts = *before;
        }
        flows
    }

    fn records(&self, page: &mut Page<'_>) -> fmt::Result {
        let flows = self.flows();
        page.counters(
            "whimbrel_records",
            "Records by flow and what became of them, over resumes",
            flows.iter().flat_map(|flow| {
                let label = |(outcome, value)| {
                    (vec![("flow", flow.flow.to_string()), ("outcome", String::from(outcome))], whole(value))
                };
                outcomes(&flow.counts).map(label)
            }),
        )?;
        page.counters(
            "whimbrel_written_bytes",
            "Bytes written by flow, over resumes",
            flows.iter().map(|flow| (vec![("flow", flow.flow.to_string())], whole(flow.counts.bytes))),
        )?;
        let expected = flows.iter().filter_map(|flow| Some((flow, flow.estimate?)));
        page.gauges(
            "whimbrel_flow_expected_records",
            "Records expected by flow, where that is known",
            expected.map(|(flow, records)| (vec![("flow", flow.flow.to_string())], whole(records))),
        )
    }

    fn progress(&self, page: &mut Page<'_>, now: Instant) -> fmt::Result {
        let (rate, left) = self.progress.pace(now);
        let extent = self.progress.extent();
        let (done, all) = self.progress.slices();
        let idle = self.progress.idle(now).as_secs_f64();
        page.gauge(
            "whimbrel_scanned_records",
            "Records of the sources accounted for",
            whole(extent.scanned),
        )?;
        if let Some(expected) = extent.expected {
            page.gauge("whimbrel_expected_records", "Records of the sources", whole(expected))?;
        }
        if let Some(share) = extent.share {
            page.gauge("whimbrel_progress_ratio", "The share of the whole that is done", share)?;
        }
        page.gauge("whimbrel_records_per_second", "The present rate", rate.records_per_s)?;
        let ends = left.into_iter().flat_map(|left| {
            [("least", Some(left.least)), ("most", left.most)].map(|(bound, time)| Some((bound, time?)))
        });
        page.gauges(
            "whimbrel_remaining_seconds",
            "How long the rest may take, at the fastest and at the slowest recent rate",
            ends.flatten().map(|(bound, time)| (vec![("bound", bound.to_owned())], time.as_secs_f64())),
        )?;
        page.gauge("whimbrel_idle_seconds", "How long nothing has moved", idle)?;
        let step = self.meter.step().and_then(|step| Some((step.share()?, step.phase)));
        page.gauges(
            "whimbrel_step_ratio",
            "The share of what a store does behind the load, an index that it makes, that is done",
            step.map(|(share, phase)| (vec![("phase", phase)], share)),
        )?;
        page.gauge("whimbrel_slices", "Slices in all", whole(all))?;
        page.gauge("whimbrel_slices_done", "Slices complete", whole(done))
    }

    fn work(&self, page: &mut Page<'_>, now: Instant) -> fmt::Result {
        let activity: &Activity = self.progress.activity();
        let slices = activity.slices(now);
        let mut doing: BTreeMap<&str, u64> = BTreeMap::new();
        for slice in &slices {
            *doing.entry(slice.doing.as_ref().map_or("between", |(doing, _)| doing.as_str())).or_default() +=
                1;
        }
        page.gauges(
            "whimbrel_slices_running",
            "Slices at work, by what they wait for",
            doing.into_iter().map(|(doing, slices)| (vec![("doing", doing.to_owned())], whole(slices))),
        )?;
        let oldest = slices.first().map_or(Duration::ZERO, |slice| slice.age);
        page.gauge(
            "whimbrel_oldest_slice_seconds",
            "The age of the oldest slice at work",
            oldest.as_secs_f64(),
        )?;
        page.gauges(
            "whimbrel_batches",
            "Batches in memory, by where they are between source and checkpoint",
            Stage::ALL
                .into_iter()
                .map(|stage| (vec![("stage", stage.as_str().to_owned())], whole(activity.batches(stage)))),
        )?;
        if let Some(budget) = activity.budget() {
            page.gauge("whimbrel_memory_budget_bytes", "The byte budget of batches", whole(budget.all))?;
            page.gauge("whimbrel_memory_taken_bytes", "What batches take of it", whole(budget.taken))?;
            page.gauge(
                "whimbrel_memory_expected_bytes",
                "What the process should have at the most",
                whole(budget.expected),
            )?;
        }
        page.histograms(
            "whimbrel_slice_duration_seconds",
            "How long slices took that were completed",
            [(None, activity.slice_latency())],
        )?;
        let writes = activity.write_latency();
        page.histograms(
            "whimbrel_write_duration_seconds",
            "How long writing a batch took, by store",
            writes.iter().map(|(store, latency)| (Some(("store", store.to_string())), latency.as_ref())),
        )
    }

    fn stores(&self, page: &mut Page<'_>) -> fmt::Result {
        let activity = self.progress.activity();
        let units = activity.units();
        let units = units.iter().flat_map(|(store, used)| {
            let label =
                |kind: &str, units| (vec![("store", store.to_string()), ("kind", kind.to_owned())], units);
            [label("read", used.read_units), label("write", used.write_units)]
        });
        page.counters("whimbrel_consumed_units", "Capacity units of accounted batches, by store", units)?;
        page.counter("whimbrel_read_bytes", "Bytes read", whole(activity.bytes_read()))?;
        page.counter("whimbrel_retries", "Requests sent again", whole(self.meter.retries()))?;
        page.counter("whimbrel_throttles", "Answers that asked for patience", whole(self.meter.throttles()))?;
        page.counter(
            "whimbrel_answers",
            "Answers of metered stores that did not",
            whole(self.meter.answers()),
        )
    }

    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        if let Some(space) = disk::space(&self.journal) {
            page.gauge("whimbrel_journal_free_bytes", "Free on the journal's disk", whole(space.free))?;
            page.gauge("whimbrel_journal_disk_bytes", "The size of the journal's disk", whole(space.all))?;
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        page.gauges("whimbrel_build_info", "The version", [(vec![("version", version)], 1.0)])?;
        if let Some((files, sockets)) = memory::open_files() {
            page.gauge("process_open_fds", "Open file descriptors", whole(files))?;
            page.gauge(
                "whimbrel_open_sockets",
                "Open sockets, connections to stores among them",
                whole(sockets),
            )?;
        }
        page.gauge(
            "process_resident_memory_bytes",
            "Memory of the process",
            whole(memory::resident_bytes()),
        )?;
        page.counter("process_cpu_seconds", "Processor time of the process", memory::cpu_seconds())
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut page, now) = (Page(encoder), Instant::now());
        self.records(&mut page)?;
        self.progress(&mut page, now)?;
        self.work(&mut page, now)?;
        self.stores(&mut page)?;
        self.process(&mut page)
    }
}

type Labels = Vec<(&'static str, String)>;

/// What is being served. Names are complete but for the `_total` of counters, which the format adds.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn describe(
        &mut self,
        name: &'static str,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    fn gauge(&mut self, name: &'static str, help: &str, value: f64) -> fmt::Result {
        self.describe(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counter(&mut self, name: &'static str, help: &str, value: f64) -> fmt::Result {
        self.describe(name, help, MetricType::Counter)?.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn gauges(
        &mut self,
        name: &'static str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut encoder = self.describe(name, help, MetricType::Gauge)?;
        values
            .into_iter()
            .try_for_each(|(labels, value)| encoder.encode_family(&labels)?.encode_gauge(&value))
    }

    fn counters(
        &mut self,
        name: &'static str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let mut encoder = self.describe(name, help, MetricType::Counter)?;
        values.into_iter().try_for_each(|(labels, value)| {
            encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    fn histograms<'l>(
        &mut self,
        name: &'static str,
        help: &str,
        values: impl IntoIterator<Item = (Option<(&'static str, String)>, &'l Latency)>,
    ) -> fmt::Result {
        let mut encoder = self.describe(name, help, MetricType::Histogram)?;
        values.into_iter().try_for_each(|(label, latency)| {
            let seen = latency.snapshot();
            let bounds = BOUNDS_S.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(seen.buckets).collect();
            let (sum, count) = (seen.sum_s, seen.count);
            match label {
                None => encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None),
                Some(label) => encoder
                    .encode_family(&[label])?
                    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None),
            }
        })
    }
}

fn outcomes(counts: &Counts) -> [(&'static str, u64); 7] {
    [
        ("read", counts.read),
        ("created", counts.created),
        ("updated", counts.updated),
        ("unchanged", counts.unchanged),
        ("skipped", counts.skipped),
        ("rejected", counts.rejected),
        ("filtered", counts.filtered),
    ]
}

/// A slice without cursors begins anew after a failure, and a correction takes records back: a counter waits.
fn at_least(before: &Counts, now: &Counts) -> Counts {
    Counts {
        read: before.read.max(now.read),
        created: before.created.max(now.created),
        updated: before.updated.max(now.updated),
        unchanged: before.unchanged.max(now.unchanged),
        skipped: before.skipped.max(now.skipped),
        rejected: before.rejected.max(now.rejected),
        filtered: before.filtered.max(now.filtered),
        bytes: before.bytes.max(now.bytes),
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no other number")]
fn whole(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use whimbrel_engine::activity::Reading;
    use whimbrel_model::{Capacity, SliceId, StoreName};
    use whimbrel_store::StepExtent;

    /// A run in its middle: everything that may be served is.
    fn served() -> (String, Arc<Progress>) {
        let (progress, meter) = (Arc::new(Progress::default()), Arc::new(Meter::default()));
        let (flow, slice) = (FlowName::new("users"), SliceId::new("users.0000"));
        let (app, main) = (StoreName::new("app"), StoreName::new("main"));
        progress.expect(&flow, Some(1_000));
        progress.expect_records(Some(1_000));
        progress.expect_slices(4, 1);
        progress.activity().lend(&Arc::new(tokio::sync::Semaphore::new(1_024)), 1_024);
        let began = Instant::now();
        progress.pace(began);
        let running =
            progress.activity().begin(&slice, Reading::First, &app, BTreeMap::from([(flow.clone(), main)]));
        let _batch = running.batch(2_048);
        running.writes(&flow).written();
        running.writing_used(&flow, Capacity { write_units: 12.5, ..Capacity::default() });
        running.at(250);
        let counts = Counts { read: 250, created: 240, rejected: 10, bytes: 9_000, ..Counts::default() };
        progress.set(&flow, &slice, &counts);
        progress.pace(began + Duration::from_secs(2));
        running.complete();
        meter.throttled();
        meter.step_at(Some(StepExtent { phase: "loading tuples".to_owned(), done: 1, all: 4 }));
        let metrics = Metrics::new("m", &RunId::new("r1"), PathBuf::from("."), Arc::clone(&progress), meter);
        let _waits = running.reads();
        let mut text = String::new();
        let registry = metrics.registry();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("it can be written");
        progress.set(&flow, &slice, &Counts { read: 100, created: 100, ..Counts::default() });
        let mut later = String::new();
        prometheus_client::encoding::text::encode(&mut later, &registry).expect("it can be written");
        let records = |text: &str| -> Vec<String> {
            text.lines()
                .filter(|line| line.starts_with("whimbrel_records_total"))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(records(&text), records(&later), "a counter never falls");
        (text, progress)
    }

    /// The names of what is served, as a query names them.
    fn names(text: &str) -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split(['{', ' ']).next()).map(str::to_owned).collect()
    }

    #[test]
    fn a_run_is_served_with_its_labels() {
        let (text, _progress) = served();
        let common = r#"migration="m",run="r1""#;
        for line in [
            format!(r#"whimbrel_records_total{{{common},flow="users",outcome="created"}} 240.0"#),
            format!(r#"whimbrel_records_total{{{common},flow="users",outcome="rejected"}} 10.0"#),
            format!(r#"whimbrel_written_bytes_total{{{common},flow="users"}} 9000.0"#),
            format!("whimbrel_progress_ratio{{{common}}} 0.25"),
            format!("whimbrel_expected_records{{{common}}} 1000.0"),
            format!("whimbrel_read_bytes_total{{{common}}} 2048.0"),
            format!(r#"whimbrel_consumed_units_total{{{common},store="main",kind="write"}} 12.5"#),
            format!(r#"whimbrel_slices_running{{{common},doing="reading"}} 1.0"#),
            format!(r#"whimbrel_write_duration_seconds_count{{{common},store="main"}} 1"#),
            format!(r#"whimbrel_slice_duration_seconds_bucket{{{common},le="+Inf"}} 1"#),
            format!("whimbrel_throttles_total{{{common}}} 1.0"),
            format!(r#"whimbrel_step_ratio{{{common},phase="loading tuples"}} 0.25"#),
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn every_figure_is_documented_and_every_documented_one_is_served() {
        let (text, _progress) = served();
        let described = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|rest| {
            let (name, kind) = rest.split_once(' ')?;
            Some(format!("{name}{}", if kind == "counter" { "_total" } else { "" }))
        });
        let described: BTreeSet<String> = described.collect();
        let page = include_str!("../../../docs/metrics.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next());
        let documented: BTreeSet<String> = rows
            .filter(|name| name.starts_with("whimbrel_") || name.starts_with("process_"))
            .map(str::to_owned)
            .collect();
        assert_eq!(described, documented);
    }

    #[test]
    fn the_alerts_ask_for_what_is_served() {
        let (text, _progress) = served();
        let served = names(&text);
        let file: serde_json::Value =
            serde_saphyr::from_str(include_str!("../../../docs/alerts.yml")).expect("it is YAML");
        let rules = file["groups"][0]["rules"].as_array().expect("a list of rules");
        assert!(rules.len() >= 5, "{file}");
        for rule in rules {
            let (name, expression) = (rule["alert"].as_str(), rule["expr"].as_str().expect("an expression"));
            assert!(name.is_some() && rule["annotations"]["summary"].is_string(), "{rule}");
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let asked: Vec<_> =
                words.filter(|word| word.starts_with("whimbrel_") || word.starts_with("process_")).collect();
            assert!(!asked.is_empty(), "{expression}");
            for metric in asked {
                assert!(
                    served.contains(metric),
                    "{name:?} asks for {metric}, which is not served: {served:?}"
                );
            }
        }
    }
}
