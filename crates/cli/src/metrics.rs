//! A run's figures for Prometheus, in the OpenMetrics text format.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinHandle;
use whimbrel_engine::{EngineError, Progress};
use whimbrel_model::Counts;
use whimbrel_store::Meter;

/// What is read anew at each visit of Prometheus.
#[derive(Clone, Debug)]
pub struct Metrics {
    migration: String,
    progress: Arc<Progress>,
    meter: Arc<Meter>,
}

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecordLabels {
    flow: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FlowLabel {
    flow: String,
}

impl Metrics {
    /// The figures of one run.
    #[must_use]
    pub fn new(migration: &str, progress: Arc<Progress>, meter: Arc<Meter>) -> Self {
        Self { migration: migration.to_owned(), progress, meter }
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
        let labels = [("migration".into(), self.migration.clone().into())];
        let mut registry = Registry::with_prefix_and_labels("whimbrel", labels.into_iter());
        registry.register_collector(Box::new(self));
        let registry = Arc::new(registry);
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
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let records = Family::<RecordLabels, Gauge>::default();
        let expected = Family::<FlowLabel, Gauge>::default();
        for snapshot in self.progress.snapshot() {
            let flow = snapshot.flow.to_string();
            for (outcome, value) in outcomes(&snapshot.counts) {
                records.get_or_create(&RecordLabels { flow: flow.clone(), outcome }).set(signed(value));
            }
            if let Some(estimate) = snapshot.estimate {
                expected.get_or_create(&FlowLabel { flow }).set(signed(estimate));
            }
        }
        let kind = records.metric_type();
        records.encode(encoder.encode_descriptor("records", "Records by flow and outcome", None, kind)?)?;
        let kind = expected.metric_type();
        expected.encode(encoder.encode_descriptor(
            "expected_records",
            "Records expected by flow",
            None,
            kind,
        )?)?;
        let (done, all) = self.progress.slices();
        let capacity = self.meter.capacity();
        let memory = whimbrel_engine::memory::resident_bytes();
        gauge(&mut encoder, "slices_done", "Slices complete", None, signed(done))?;
        gauge(&mut encoder, "slices", "Slices in all", None, signed(all))?;
        gauge(&mut encoder, "resident_memory", "Memory of the process", Some(&Unit::Bytes), signed(memory))?;
        counter(&mut encoder, "retries", "Requests sent again", whole(self.meter.retries()))?;
        counter(&mut encoder, "throttles", "Answers that asked for patience", whole(self.meter.throttles()))?;
        counter(&mut encoder, "write_units", "Write units used", capacity.write_units)?;
        counter(&mut encoder, "read_units", "Read units used", capacity.read_units)?;
        counter(
            &mut encoder,
            "cpu_seconds",
            "Processor time of the process",
            whimbrel_engine::memory::cpu_seconds(),
        )
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

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: i64,
) -> Result<(), std::fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: f64,
) -> Result<(), std::fmt::Error> {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no other number")]
fn whole(value: u64) -> f64 {
    value as f64
}
