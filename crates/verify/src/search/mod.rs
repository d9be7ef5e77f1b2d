//! The spec's rules about searches among vectors: `overlap`, whether the target's index finds what an exact search
//! among the source's vectors finds, and `latency`, how long it takes.
//!
//! Stored vectors are looked for, chosen by the keyed hash of their keys: the same ones each time. The source is read
//! twice, once for those and once for the exact search; only they and the nearest of each are held.

mod distance;
mod embed;
mod exact;
mod figures;
mod target;

use crate::compare::{Layout, Reading, Watch};
use crate::{Assertion, VerifyError};
use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Float32Type};
use distance::Metric;
use exact::{Exact, Sample};
use figures::Figures;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use target::{Hit, Target};
use whimbrel_engine::EngineError;
use whimbrel_engine::migration::{Migration, ScanFlow};
use whimbrel_model::logical::{METRIC, SOURCE_TYPE};
use whimbrel_query::{Declared, QueryError, Session, Settings};
use whimbrel_spec::resolved::{SearchDemand, SearchRule, VerifyRule};

/// How much farther than the last of the exact neighbours another may lie and still be as near: what the rounding of
/// single floats makes of equal distances.
const TOLERANCE: f64 = 1e-5;
/// Searches that found least, which are kept as examples.
const EXAMPLES: usize = 5;

/// Carries out the rules about searches, in the order of the spec.
///
/// # Errors
/// The first that cannot be carried out: its flow writes no vectors, nothing says by which distance, or a store fails.
pub async fn searches(
    rules: &[VerifyRule],
    migration: &Arc<Migration>,
    settings: &Settings,
) -> Result<Vec<Assertion>, EngineError> {
    let mut found = Vec::new();
    for rule in rules {
        let VerifyRule::Search(rule) = rule else { continue };
        let begun = Instant::now();
        let search = Search::new(rule, migration, settings)?;
        let (ok, expected, value, examples) = match rule.demand {
            SearchDemand::Overlap(at_least) => search.overlap(at_least).await?,
            SearchDemand::AverageMs(average_ms) => search.latency(average_ms).await?,
        };
        let seconds = begun.elapsed().as_secs_f64();
        found.push(Assertion { name: rule.name.clone(), ok, expected, value, examples, seconds });
    }
    Ok(found)
}

/// Whether it holds, what is expected, what was found, and examples.
type Judged = (bool, String, String, Vec<String>);

/// Vectors of a batch: the texts that tell records apart, and the floats of each.
pub(crate) struct Columns {
    id: usize,
    vector: usize,
}

impl Columns {
    /// The records of a batch that have a vector.
    pub(crate) fn records<'a>(&self, batch: &'a RecordBatch) -> Vec<(usize, String, &'a [f32])> {
        let Some(lists) = batch.column(self.vector).as_list_opt::<i32>() else { return Vec::new() };
        let Some(floats) = lists.values().as_primitive_opt::<Float32Type>() else { return Vec::new() };
        let of = |row: usize| {
            let bounds = lists.value_offsets().get(row..row + 2)?;
            let (start, end) = (usize::try_from(bounds[0]).ok()?, usize::try_from(bounds[1]).ok()?);
            let vector = floats.values().get(start..end).filter(|_| lists.is_valid(row))?;
            Some((row, text(batch.column(self.id), row)?, vector))
        };
        (0..batch.num_rows()).filter_map(of).collect()
    }
}

fn text(column: &ArrayRef, row: usize) -> Option<String> {
    whimbrel_query::text_of(column, row)
}

struct Search<'a> {
    rule: &'a SearchRule,
    migration: &'a Arc<Migration>,
    settings: &'a Settings,
    flow: &'a ScanFlow,
    columns: Arc<Columns>,
    metric: Metric,
}

impl<'a> Search<'a> {
    fn new(
        rule: &'a SearchRule,
        migration: &'a Arc<Migration>,
        settings: &'a Settings,
    ) -> Result<Self, EngineError> {
        let refused = |message: String, hint: &str| unusable(rule, migration, message, hint);
        let flow = migration.flows().map(|(_, flow)| flow).find(|flow| flow.plan.name == rule.flow);
        let flow = flow
            .ok_or_else(|| refused(format!("the flow `{}` is not chosen", rule.flow), "leave --only out"))?;
        let output = flow.plan.output();
        let is_vector = |field: &&Arc<arrow::datatypes::Field>| match field.data_type() {
            DataType::List(item) => *item.data_type() == DataType::Float32,
            _ => false,
        };
        let vectors: Vec<_> = output.fields().iter().filter(is_vector).collect();
        let named = vectors
            .iter()
            .find(|field| field.metadata().get(SOURCE_TYPE).is_some_and(|name| name.starts_with("vector")));
        let Some(field) = named.or(vectors.first()) else {
            let message = format!("the flow `{}` writes no column of 32-bit floats", rule.flow);
            return Err(refused(message, "name the flow that writes the vectors"));
        };
        let [key] = flow.target.key.as_slice() else {
            let message = format!("the records of `{}` are not told apart by one column", rule.flow);
            return Err(refused(message, "a rule about searches needs a key of one column"));
        };
        let place = |name: &str| output.index_of(name).ok();
        let (Some(id), Some(vector)) = (place(key), place(field.name())) else {
            return Err(EngineError::Internal("a flow's columns are not where they are".to_owned()));
        };
        let request = migration.write_request(&rule.flow);
        let asked = request.and_then(|request| request.collection?.metric).map(|metric| metric.as_str());
        let metric = asked.or_else(|| field.metadata().get(METRIC).map(String::as_str));
        let Some(metric) = metric.and_then(Metric::of_word) else {
            let message =
                format!("nothing says by which distance the vectors of `{}` are searched", rule.flow);
            return Err(refused(message, "Chroma says it, or `langchain: { metric: cosine }`"));
        };
        let columns = Arc::new(Columns { id, vector });
        Ok(Self { rule, migration, settings, flow, columns, metric })
    }

    /// Reads the flow's records, as they would be written, into something.
    async fn read(&self, take: Arc<dyn crate::compare::Take>) -> Result<(), EngineError> {
        let only = BTreeSet::from([self.rule.flow.clone()]);
        let layout = Layout::of(self.migration, Some(&only))?;
        let flows = (0..layout.flows.len()).collect();
        let reading = Reading {
            migration: Arc::clone(self.migration),
            layout: Arc::new(layout),
            context: self.settings.context.clone(),
            parallel: self.settings.parallel,
            watch: Arc::new(Watch::default()),
        };
        reading.sources(&flows, &take).await
    }

    /// What is looked for, each with what it is called.
    async fn queries(&self) -> Result<Vec<(String, Vec<f32>)>, EngineError> {
        let Some(texts) = &self.rule.texts else { return self.sample().await };
        let stop = &self.settings.context.stop;
        let queries = embed::embed(texts, stop).await.map_err(|error| self.failed(error))?;
        let field = self.flow.plan.output().field(self.columns.vector).clone();
        let name = field.metadata().get(SOURCE_TYPE).map_or("", String::as_str);
        let dimension =
            name.strip_prefix("vector(").and_then(|name| name.strip_suffix(')')?.parse::<usize>().ok());
        if let Some((_, vector)) =
            queries.iter().find(|(_, vector)| dimension.is_some_and(|most| most != vector.len()))
        {
            let (model, given) = (&texts.model, vector.len());
            let message =
                format!("the model {model} makes vectors of {given} dimensions, and the column is {name}");
            return Err(unusable(
                self.rule,
                self.migration,
                message,
                "name the model that made the stored vectors",
            ));
        }
        Ok(queries)
    }

    fn looked_for(&self) -> &'static str {
        if self.rule.texts.is_some() { "texts" } else { "stored vectors" }
    }

    async fn sample(&self) -> Result<Vec<(String, Vec<f32>)>, EngineError> {
        let most = usize::try_from(self.rule.stored).unwrap_or(usize::MAX);
        let sample = Arc::new(Sample::new(Arc::clone(&self.columns), most));
        self.read(Arc::clone(&sample) as Arc<dyn crate::compare::Take>).await?;
        Ok(sample.chosen())
    }

    fn session(&self) -> Session {
        let stores = self.migration.stores.clone();
        let names = stores.keys().cloned().collect();
        Session::new(stores, names, Declared::default(), self.settings.clone())
    }

    fn target(&self) -> Result<Target<'_>, EngineError> {
        let request = self
            .migration
            .write_request(&self.rule.flow)
            .ok_or_else(|| EngineError::Internal("a flow without what it asks for".to_owned()))?;
        let output = self.flow.plan.output();
        let name = |place: usize| output.field(place).name().clone();
        let vector = name(self.columns.vector);
        let into = self.flow.target.fidelity.iter().find(|column| column.column == vector);
        let into = into.map_or_else(|| "vector".to_owned(), |column| column.into.clone());
        Ok(Target {
            store: &self.flow.store,
            session: self.session(),
            sql: target::Sql::new(
                &request,
                &name(self.columns.id),
                &vector,
                &into,
                self.metric,
                self.rule.top,
            ),
        })
    }

    fn failed(&self, error: QueryError) -> EngineError {
        VerifyError::new(&self.rule.name, self.rule.position, error)
            .into_engine(&self.migration.resolved.path)
    }

    /// The average share of the exact neighbours that the target finds.
    async fn overlap(&self, at_least: f64) -> Result<Judged, EngineError> {
        let queries = self.queries().await?;
        let expected = format!("at least {at_least} of the nearest {} on the average", self.rule.top);
        if queries.is_empty() {
            return Ok((false, expected, "there is no vector to look for".to_owned(), Vec::new()));
        }
        let top = usize::try_from(self.rule.top).unwrap_or(usize::MAX);
        let vectors = queries.iter().map(|(_, vector)| vector.clone()).collect();
        let exact = Arc::new(Exact::new(Arc::clone(&self.columns), self.metric, vectors, top));
        self.read(Arc::clone(&exact) as Arc<dyn crate::compare::Take>).await?;
        let target = self.target()?;
        let mut shares = Vec::with_capacity(queries.len());
        for ((id, vector), nearest) in queries.iter().zip(exact.nearest()) {
            let (hits, _) = target.search(vector).await.map_err(|error| self.failed(error))?;
            shares.push((shared(&nearest, &hits), id));
        }
        let figures = Figures::of(shares.iter().map(|(share, _)| *share).collect());
        let (low, high) = figures.interval();
        let value = format!(
            "{:.3} on the average, 95 % confidence {low:.3} to {high:.3}, over {} searches for {} by {}",
            figures.mean(),
            shares.len(),
            self.looked_for(),
            self.metric.as_str()
        );
        shares.sort_by(|one, other| one.0.total_cmp(&other.0));
        let worst = shares.iter().filter(|(share, _)| *share < 1.0).take(EXAMPLES);
        let examples = worst.map(|(share, id)| format!("{share:.2} of the nearest of {id:?}")).collect();
        Ok((figures.mean() >= at_least, expected, value, examples))
    }

    /// How long searches take.
    async fn latency(&self, average_ms: f64) -> Result<Judged, EngineError> {
        let queries = self.queries().await?;
        let expected = format!("less than {average_ms} ms on the average");
        if queries.is_empty() {
            return Ok((false, expected, "there is no vector to look for".to_owned(), Vec::new()));
        }
        let target = self.target()?;
        let mut times = Vec::with_capacity(queries.len());
        for (_, vector) in &queries {
            let (_, milliseconds) = target.search(vector).await.map_err(|error| self.failed(error))?;
            times.push(milliseconds);
        }
        let figures = Figures::of(times);
        let value = format!(
            "{:.1} ms on the average, p50 {:.1}, p95 {:.1}, max {:.1}, over {} searches",
            figures.mean(),
            figures.quantile(0.5),
            figures.quantile(0.95),
            figures.quantile(1.0),
            queries.len()
        );
        Ok((figures.mean() < average_ms, expected, value, Vec::new()))
    }
}

/// The share of the nearest that were hit; what lies as near as the last of them is as good.
fn shared(nearest: &[(f64, String)], hits: &[Hit]) -> f64 {
    let Some((farthest, _)) = nearest.last() else { return 1.0 };
    let limit = farthest + TOLERANCE * farthest.abs().max(1.0);
    let is_hit = |hit: &&Hit| {
        nearest.iter().any(|(_, id)| *id == hit.id) || hit.distance.is_some_and(|distance| distance <= limit)
    };
    let found = hits.iter().filter(is_hit).count().min(nearest.len());
    f64::from(u32::try_from(found).unwrap_or(u32::MAX))
        / f64::from(u32::try_from(nearest.len()).unwrap_or(u32::MAX))
}

fn unusable(rule: &SearchRule, migration: &Migration, message: String, hint: &str) -> EngineError {
    let error = QueryError::Sql { message, hint: hint.to_owned() };
    VerifyError::new(&rule.name, rule.position, error).into_engine(&migration.resolved.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_as_near_as_the_last_count() {
        let nearest = [(0.0, "a".to_owned()), (1.0, "b".to_owned())];
        let hit = |id: &str, distance| Hit { id: id.to_owned(), distance: Some(distance) };
        assert_eq!(shared(&nearest, &[hit("a", 0.0), hit("c", 1.0)]), 1.0);
        assert_eq!(shared(&nearest, &[hit("a", 0.0), hit("d", 1.1)]), 0.5);
        assert_eq!(shared(&nearest, &[]), 0.0);
        assert_eq!(shared(&[], &[]), 1.0);
    }
}
