//! Texts as vectors, by an endpoint of the shape of Voyage's: `POST …/embeddings` with `input` and `model`.

use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use whimbrel_query::QueryError;
use whimbrel_spec::resolved::Texts;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_mins(1);
/// How often an endpoint that is busy is asked.
const ATTEMPTS: u32 = 5;
/// How long is waited before the second time; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How much of an answer a message shows.
const SHOWN: usize = 200;

#[derive(Deserialize)]
struct Answer {
    data: Vec<Embedding>,
}

#[derive(Deserialize)]
struct Embedding {
    embedding: Vec<f64>,
    #[serde(default)]
    index: Option<usize>,
}

fn failed(texts: &Texts, what: &str, hint: &str) -> QueryError {
    QueryError::Sql { message: format!("the endpoint {} {what}", texts.url), hint: hint.to_owned() }
}

/// The texts with their vectors, in order.
///
/// # Errors
/// The endpoint cannot be reached, refuses, or answers something else.
pub(super) async fn embed(
    texts: &Texts,
    stop: &CancellationToken,
) -> Result<Vec<(String, Vec<f32>)>, QueryError> {
    let client = reqwest::Client::builder().timeout(TIMEOUT).build();
    let client = client
        .map_err(|error| failed(texts, &format!("cannot be asked: {error}"), "look at the TLS setup"))?;
    let base = texts.url.trim_end_matches('/');
    let url = if base.ends_with("/embeddings") { base.to_owned() } else { format!("{base}/embeddings") };
    let question = json!({ "input": texts.queries, "model": texts.model, "input_type": "query" }).to_string();
    let mut wait = FIRST_WAIT;
    for attempt in 1..=ATTEMPTS {
        let request = client
            .post(&url)
            .bearer_auth(&texts.key.0)
            .header("content-type", "application/json")
            .body(question.clone());
        let (is_busy, what) = match request.send().await {
            Err(error) => (true, format!("cannot be reached: {}", error.without_url())),
            Ok(answer) => {
                let status = answer.status();
                let body = answer.text().await.unwrap_or_default();
                if status.is_success() {
                    return vectors_of(texts, &body);
                }
                let shown: String = body.chars().take(SHOWN).collect();
                (status.as_u16() == 429 || status.is_server_error(), format!("answers {status}: {shown}"))
            }
        };
        if !is_busy || attempt == ATTEMPTS {
            let hint = "look at `embed`: its `url`, `model` and `key`; `stored: 100` looks for stored vectors and needs none";
            return Err(failed(texts, &what, hint));
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return Err(failed(texts, "was not waited for", "verify again")),
        }
        wait *= 2;
    }
    Err(failed(texts, "was not asked", "verify again"))
}

fn vectors_of(texts: &Texts, body: &str) -> Result<Vec<(String, Vec<f32>)>, QueryError> {
    let hint = "it takes an endpoint of the shape of Voyage's: { data: [ { embedding: [ … ], index } ] }";
    let answer: Answer = serde_json::from_str(body)
        .map_err(|error| failed(texts, &format!("answers something else: {error}"), hint))?;
    if answer.data.len() != texts.queries.len() {
        let what = format!("answers {} vectors for {} texts", answer.data.len(), texts.queries.len());
        return Err(failed(texts, &what, hint));
    }
    let mut vectors = vec![Vec::new(); texts.queries.len()];
    for (at, found) in answer.data.into_iter().enumerate() {
        let place = found.index.unwrap_or(at);
        let Some(vector) = vectors.get_mut(place) else {
            return Err(failed(
                texts,
                &format!("answers a vector for text {place}, which was not asked"),
                hint,
            ));
        };
        #[expect(clippy::cast_possible_truncation, reason = "a vector's floats are single ones")]
        let floats = found.embedding.into_iter().map(|float| float as f32);
        *vector = floats.collect();
    }
    Ok(texts.queries.iter().cloned().zip(vectors).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_spec::resolved::ParameterValue;

    fn texts() -> Texts {
        Texts {
            queries: vec!["a".to_owned(), "b".to_owned()],
            url: "http://localhost/v1".to_owned(),
            model: "m".to_owned(),
            key: ParameterValue("hush".to_owned()),
        }
    }

    #[test]
    fn vectors_are_put_in_the_order_of_their_texts() {
        let body = r#"{"data":[{"embedding":[2.5],"index":1},{"embedding":[1],"index":0}],"model":"m"}"#;
        let vectors = vectors_of(&texts(), body).unwrap();
        assert_eq!(vectors, [("a".to_owned(), vec![1.0]), ("b".to_owned(), vec![2.5])]);
        for wrong in
            [r#"{"data":[]}"#, "{}", "no", r#"{"data":[{"embedding":[1],"index":9},{"embedding":[1]}]}"#]
        {
            let error = vectors_of(&texts(), wrong).unwrap_err().to_string();
            assert!(error.contains("http://localhost/v1") && !error.contains("hush"), "{error}");
        }
    }
}
