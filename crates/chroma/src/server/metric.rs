//! The metric of a collection whose server does not say it.
//!
//! Up to 0.6 it stands in the metadata that the collection was made with, which their user may have replaced since, and
//! in the index, which the API does not show. But a search shows distances, and these tell it.

use super::catalog::Served;
use super::{Server, answer};
use crate::catalog::Metric;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use whimbrel_store::Result;

/// How many neighbours are looked at.
const NEIGHBOURS: usize = 4;
/// How far, as a part of what it is computed from, a distance of 32-bit floats may lie from ours.
const TOLERANCE: f64 = 1e-4;

/// What a search answers, for each of its vectors.
#[derive(Deserialize)]
struct Searched {
    distances: Option<Vec<Vec<f64>>>,
    embeddings: Option<Vec<Vec<Vec<f64>>>>,
}

impl Server {
    /// The metric by which the server searches; `None`: it holds no embedding, or its answer does not tell.
    pub(super) async fn searched_metric(&self, collection: &Served) -> Result<Option<Metric>> {
        let doing = format!("cannot search the collection {}", collection.full_name());
        let body = json!({ "limit": 1, "offset": 0, "include": ["embeddings"] });
        let Ok(answer) = self.records(collection, &body, None).await? else { return Ok(None) };
        let found = answer::records(&answer, &collection.metric).unwrap_or_default();
        let Some(stored) = found.into_values().find_map(|one| one.record.embedding) else { return Ok(None) };
        // Near a stored vector and not on it: there the distances of all metrics differ.
        let first = stored.iter().copied().fold(0.0, |most: f32, float| most.max(float.abs()));
        let looked_for: Vec<f64> = stored
            .iter()
            .enumerate()
            .map(|(at, float)| f64::from(*float) + if at == 0 { f64::from(first) } else { 0.0 })
            .collect();
        let body = json!({
            "query_embeddings": [looked_for],
            "n_results": NEIGHBOURS,
            "include": ["embeddings", "distances"],
        });
        let api = self.api().await?;
        let steps = ["collections", collection.id.as_str(), "query"];
        let mut question = api.generation.question(Method::POST, collection.within(), &steps);
        question.body = Some(body.to_string());
        let answer = match self.requests.ask(&question, None).await {
            Ok(answer) => answer,
            // The oldest fail where there are fewer neighbours than asked for.
            Err(refusal) if refusal.is_failure_within() || refusal.is_refused() => return Ok(None),
            Err(refusal) => return Err(refusal.into_error(&self.store, &doing)),
        };
        let searched: Searched = self.read(&doing, &answer)?;
        Ok(told_by(&looked_for, &searched))
    }
}

/// The one metric by which all of the distances are right.
fn told_by(looked_for: &[f64], searched: &Searched) -> Option<Metric> {
    let distances = searched.distances.as_ref()?.first()?;
    let neighbours = searched.embeddings.as_ref()?.first()?;
    if distances.is_empty() || distances.len() != neighbours.len() {
        return None;
    }
    let all = || neighbours.iter().zip(distances);
    let is_right =
        |metric: &Metric| all().all(|(neighbour, said)| agrees(metric, looked_for, neighbour, *said));
    let mut right = [Metric::L2, Metric::Cosine, Metric::InnerProduct].into_iter().filter(is_right);
    right.next().filter(|_| right.next().is_none())
}

fn agrees(metric: &Metric, one: &[f64], other: &[f64], said: f64) -> bool {
    let dot = |one: &[f64], other: &[f64]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
    let (ours, theirs, both) = (dot(one, one), dot(other, other), dot(one, other));
    let lengths = (ours * theirs).sqrt();
    // What is computed, and the size of what it is computed from.
    let (distance, size) = match metric {
        Metric::L2 => (ours + theirs - 2.0 * both, ours + theirs),
        Metric::Cosine => (1.0 - both / lengths, 1.0),
        Metric::InnerProduct => (1.0 - both, 1.0 + lengths),
        Metric::Other(_) => return false,
    };
    one.len() == other.len() && distance.is_finite() && (distance - said).abs() <= TOLERANCE * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_tell_the_metric() {
        let looked_for = [2.0, 1.0, -0.5];
        let stored = vec![vec![1.0, 1.0, -0.5], vec![-3.0, 0.25, 4.0]];
        let distances = |of: &dyn Fn(&[f64]) -> f64| Searched {
            distances: Some(vec![stored.iter().map(|one| of(one)).collect()]),
            embeddings: Some(vec![stored.clone()]),
        };
        let dot = |other: &[f64]| looked_for.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
        let length = |one: &[f64]| one.iter().map(|float| float * float).sum::<f64>().sqrt();
        let l2 = distances(&|one| looked_for.iter().zip(one).map(|(a, b)| (a - b) * (a - b)).sum());
        assert_eq!(told_by(&looked_for, &l2), Some(Metric::L2));
        let cosine = distances(&|one| 1.0 - dot(one) / length(one) / length(&looked_for) + 1e-7);
        assert_eq!(told_by(&looked_for, &cosine), Some(Metric::Cosine));
        let ip = distances(&|one| 1.0 - dot(one));
        assert_eq!(told_by(&looked_for, &ip), Some(Metric::InnerProduct));
        assert_eq!(told_by(&looked_for, &distances(&|_| 0.125)), None);
        assert_eq!(told_by(&looked_for, &Searched { distances: None, embeddings: None }), None);
        let none = Searched { distances: Some(vec![vec![]]), embeddings: Some(vec![vec![]]) };
        assert_eq!(told_by(&looked_for, &none), None);
    }
}
