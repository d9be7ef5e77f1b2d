//! Requests to a server: sent, sent again where that can help, and what a refusal means.

use crate::config::{Address, Login};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Deserialize;
use std::time::Duration;
use whimbrel_model::StoreName;
use whimbrel_store::{Result, RunContext, StoreError, StoreErrorKind};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may say nothing: a large collection takes its time.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a request is sent at the most. Whoever reads a slice tries again for much longer.
const ATTEMPTS: u32 = 4;
/// How often where the server says that it has failed within: that it is deterministic is likelier.
const ATTEMPTS_AT_AN_ERROR: u32 = 2;
/// How long is waited before the second time; twice as long before each further one.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// How long a server may have us wait at its own word.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How much of a refusal a message shows, in characters.
const SHOWN: usize = 200;
/// How much of a refusal is taken at all.
const REFUSAL_BYTES: usize = 1 << 16;
/// How large an answer may be.
const ANSWER_BYTES: usize = 1 << 30;

/// The way to a server.
pub(super) struct Requests {
    store: StoreName,
    base: Url,
    client: std::result::Result<reqwest::Client, String>,
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) method: Method,
    /// The steps of the path below the server's own.
    pub(super) path: Vec<&'a str>,
    pub(super) query: Vec<(&'a str, String)>,
    pub(super) body: Option<String>,
    /// Whether whoever asks does something else where the server fails within.
    pub(super) is_tried_once: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the server cannot be reached")]
    Unreached(#[source] reqwest::Error),
    #[error("{}", said(*.status, .kind.as_deref(), .message))]
    Refused { status: StatusCode, kind: Option<String>, message: String, wait: Option<Duration> },
    #[error("an answer has more than {} bytes", ANSWER_BYTES)]
    TooLarge,
    #[error("no client can be made: {0}")]
    NoClient(String),
    #[error("the run stops while the server is asked")]
    Stopped,
}

/// A refusal as servers of all versions write it.
#[derive(Deserialize)]
struct Written {
    error: Option<String>,
    message: Option<String>,
    detail: Option<serde_json::Value>,
}

fn said(status: StatusCode, kind: Option<&str>, message: &str) -> String {
    let kind = kind.map(|kind| format!(" ({kind})")).unwrap_or_default();
    let message = if message.is_empty() { String::new() } else { format!(": {message}") };
    format!("the server answers {status}{kind}{message}")
}

fn cut(text: &str) -> String {
    let mut shown: String = text.trim().chars().take(SHOWN).collect();
    if shown.len() < text.trim().len() {
        shown.push('…');
    }
    shown
}

impl Refusal {
    /// What it means for those who asked.
    pub(super) fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Unreached(error) if error.is_builder() => StoreErrorKind::Internal,
            Self::Unreached(_) => StoreErrorKind::Unreachable,
            Self::Stopped => StoreErrorKind::Interrupted,
            Self::NoClient(_) | Self::TooLarge => StoreErrorKind::Unsupported,
            Self::Refused { status, .. } => match *status {
                StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                    StoreErrorKind::Unauthenticated
                }
                StatusCode::FORBIDDEN => StoreErrorKind::Forbidden,
                StatusCode::NOT_FOUND => StoreErrorKind::NotFound,
                StatusCode::REQUEST_TIMEOUT => StoreErrorKind::Unreachable,
                StatusCode::TOO_MANY_REQUESTS => StoreErrorKind::Overloaded,
                status if status.is_server_error() => StoreErrorKind::Overloaded,
                _ => StoreErrorKind::Protocol,
            },
        }
    }

    /// Whether the server itself has failed, over what was asked, and not for want of time.
    pub(super) fn is_failure_within(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether the server takes the request for a wrong one.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.is_client_error())
            && !matches!(self.kind(), StoreErrorKind::Unauthenticated | StoreErrorKind::Forbidden)
    }

    fn attempts(&self, question: &Question<'_>) -> u32 {
        match self.is_failure_within() {
            true if question.is_tried_once => 1,
            true => ATTEMPTS_AT_AN_ERROR,
            false if self.kind().is_retryable() => ATTEMPTS,
            false => 1,
        }
    }

    fn wait(&self) -> Option<Duration> {
        match self {
            Self::Refused { wait, .. } => *wait,
            _ => None,
        }
    }

    /// The failure as the contract has it.
    pub(super) fn into_error(self, store: &StoreName, doing: &str) -> StoreError {
        let hint = match &self {
            Self::Refused { status, .. } if status.is_redirection() => {
                Some("the server is at another address: give that as `url`")
            }
            Self::Unreached(_) => Some(
                "is the server running, and is its `url` right? Its persistent directory can be read without it, with \
                 `path`",
            ),
            _ => match self.kind() {
                StoreErrorKind::Unauthenticated | StoreErrorKind::Forbidden => {
                    Some("give the store its `token`, or `user` and `password`")
                }
                _ => None,
            },
        };
        let error = StoreError::new(self.kind(), store, doing).caused_by(self);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl Requests {
    pub(super) fn new(store: &StoreName, address: &Address) -> Self {
        // A server's redirection would take the token to another address.
        let client = headers(&address.login).and_then(|headers| {
            let builder = reqwest::Client::builder()
                .user_agent("whimbrel")
                .default_headers(headers)
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(SILENCE_TIMEOUT);
            builder.build().map_err(|error| error.without_url().to_string())
        });
        Self { store: store.clone(), base: address.base().clone(), client }
    }

    /// Asks, again where that can help.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub(super) async fn ask(
        &self,
        question: &Question<'_>,
        context: Option<&RunContext>,
    ) -> std::result::Result<Vec<u8>, Refusal> {
        let mut wait = FIRST_WAIT;
        for attempt in 1.. {
            let refusal = match stoppable(context, self.ask_once(question)).await? {
                Ok(answer) => return Ok(answer),
                Err(refusal) if attempt >= refusal.attempts(question) => return Err(refusal),
                Err(refusal) => refusal,
            };
            tracing::warn!(store = %self.store, %refusal, "asking again");
            if let Some(context) = context {
                context.meter.retried();
                if matches!(&refusal, Refusal::Refused { status: StatusCode::TOO_MANY_REQUESTS, .. }) {
                    context.meter.throttled();
                }
            }
            let pause = refusal.wait().unwrap_or(wait).min(LONGEST_WAIT);
            stoppable(context, tokio::time::sleep(pause)).await?;
            wait *= 2;
        }
        Err(Refusal::Stopped)
    }

    /// The same; `doing` says what failed.
    pub(super) async fn told(
        &self,
        doing: &str,
        question: &Question<'_>,
        context: Option<&RunContext>,
    ) -> Result<Vec<u8>> {
        let answer = self.ask(question, context).await;
        answer.map_err(|refusal| refusal.into_error(&self.store, doing))
    }

    async fn ask_once(&self, question: &Question<'_>) -> std::result::Result<Vec<u8>, Refusal> {
        let client = self.client.as_ref().map_err(|error| Refusal::NoClient(error.clone()))?;
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(&question.path);
        }
        if !question.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&question.query);
        }
        let mut request = client.request(question.method.clone(), url);
        if let Some(body) = &question.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let unreached = |error: reqwest::Error| Refusal::Unreached(error.without_url());
        let answer = request.send().await.map_err(unreached)?;
        if answer.status().is_success() {
            let (body, is_whole) = body(answer, ANSWER_BYTES).await.map_err(unreached)?;
            return if is_whole { Ok(body) } else { Err(Refusal::TooLarge) };
        }
        Err(refused(answer).await)
    }
}

/// Waits for something, but not beyond the end of a run.
async fn stoppable<T>(
    context: Option<&RunContext>,
    future: impl Future<Output = T>,
) -> std::result::Result<T, Refusal> {
    let Some(context) = context else { return Ok(future.await) };
    tokio::select! {
        () = context.stop.cancelled() => Err(Refusal::Stopped),
        done = future => Ok(done),
    }
}

/// What comes of a body, up to so many bytes, and whether that is all.
async fn body(mut answer: Response, at_most: usize) -> reqwest::Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > at_most {
            return Ok((body, false));
        }
    }
    Ok((body, true))
}

async fn refused(answer: Response) -> Refusal {
    let status = answer.status();
    let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = body(answer, REFUSAL_BYTES).await.map(|(body, _)| body).unwrap_or_default();
    let (kind, message) = match serde_json::from_slice::<Written>(&body) {
        Ok(Written { error, message: Some(message), .. }) => (error, message),
        Ok(Written { error: Some(error), .. }) => (None, error),
        Ok(Written { detail: Some(detail), .. }) => (None, detail.to_string()),
        _ => (None, String::from_utf8_lossy(&body).into_owned()),
    };
    let kind = kind.map(|kind| cut(&kind));
    Refusal::Refused { status, kind, message: cut(&message), wait: seconds.map(Duration::from_secs) }
}

fn headers(login: &Login) -> std::result::Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let secret = |text: String| {
        let value = HeaderValue::from_str(&text);
        // The error repeats nothing of the text.
        let mut value =
            value.map_err(|_| "the token, user or password holds a character that no header takes")?;
        value.set_sensitive(true);
        Ok::<_, String>(value)
    };
    match login {
        Login::Open => {}
        Login::Token(token) => {
            headers.insert(HeaderName::from_static("x-chroma-token"), secret(token.clone())?);
            headers.insert(AUTHORIZATION, secret(format!("Bearer {token}"))?);
        }
        Login::Basic { user, password } => {
            let both = STANDARD.encode(format!("{user}:{password}"));
            headers.insert(AUTHORIZATION, secret(format!("Basic {both}"))?);
        }
    }
    Ok(headers)
}
