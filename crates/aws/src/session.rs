//! How AWS is reached for values: one configuration for all services, loaded when the first value is asked for.

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_runtime_api::client::result::SdkError;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use whimbrel_spec::ProviderError;

/// How long one attempt of a call may take; the SDK tries three times.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Region, credentials and endpoint from where every tool of AWS takes them: environment variables
/// (`AWS_PROFILE`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_SSM`, …), the shared files, the machine.
/// Nothing is loaded before the first value is asked for. Clones share what was loaded.
#[derive(Clone, Default)]
pub struct Session {
    profile: Option<String>,
    region: Option<String>,
    loaded: Arc<OnceCell<SdkConfig>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("loaded", &self.loaded.initialized()).finish()
    }
}

impl Session {
    /// A session with a given configuration.
    #[must_use]
    pub fn of(config: SdkConfig) -> Self {
        Self { loaded: Arc::new(OnceCell::new_with(Some(config))), ..Self::default() }
    }

    /// A session with a profile and a region that go before those of the environment.
    #[must_use]
    pub fn named(profile: Option<String>, region: Option<String>) -> Self {
        Self { profile, region, ..Self::default() }
    }

    async fn load(&self) -> SdkConfig {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT);
        let mut loader =
            aws_config::defaults(BehaviorVersion::v2026_01_12()).timeout_config(timeouts.build());
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        loader.load().await
    }

    /// The configuration. A region must be known: without one the SDK fails late, and in words of its own.
    pub(crate) async fn config(&self, service: &'static str) -> Result<&SdkConfig, AwsError> {
        let config = self.loaded.get_or_init(|| self.load()).await;
        match config.region() {
            Some(_) => Ok(config),
            None => {
                Err(AwsError { service, asked: String::new(), kind: AwsErrorKind::NoRegion, source: None })
            }
        }
    }
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwsErrorKind {
    /// No region is named anywhere.
    NoRegion,
    /// There are no credentials.
    NoCredentials,
    /// The service refuses these credentials: they are wrong or have expired.
    Unauthenticated,
    /// The credentials are known, and the action is not allowed to them.
    Denied,
    /// There is no such value.
    Absent,
    /// The service could not be reached.
    Unreachable,
    /// The service refused the request for another reason.
    Refused,
}

/// Why AWS gave no value. It holds no value.
#[derive(Debug, thiserror::Error)]
#[error("{service}: {}", self.what())]
pub struct AwsError {
    /// The service, as people name it.
    pub service: &'static str,
    /// What was asked for.
    pub asked: String,
    /// The kind of the failure.
    pub kind: AwsErrorKind,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// Codes of refusals that are about who asks.
const UNAUTHENTICATED: &[&str] = &[
    "ExpiredToken",
    "ExpiredTokenException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "IncompleteSignature",
];
/// Codes of refusals that are about what is allowed.
const DENIED: &[&str] = &["AccessDenied", "AccessDeniedException", "NotAuthorizedException"];

impl AwsError {
    /// Sorts the failure of a call. `code`: the service's own code, where it answered; `absent`: the codes that
    /// say that there is no such value.
    pub(crate) fn of<E, R>(
        service: &'static str,
        asked: &str,
        error: SdkError<E, R>,
        code: Option<&str>,
        absent: &[&str],
    ) -> Self
    where
        E: Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let kind = match (&error, code) {
            (_, Some(code)) if absent.contains(&code) => AwsErrorKind::Absent,
            (_, Some(code)) if UNAUTHENTICATED.contains(&code) => AwsErrorKind::Unauthenticated,
            (_, Some(code)) if DENIED.contains(&code) => AwsErrorKind::Denied,
            (SdkError::ServiceError(_), _) => AwsErrorKind::Refused,
            // The SDK looks for credentials while it builds the request.
            (SdkError::DispatchFailure(failure), _) if failure.is_other() => AwsErrorKind::NoCredentials,
            (SdkError::ConstructionFailure(_), _) => AwsErrorKind::NoCredentials,
            _ => AwsErrorKind::Unreachable,
        };
        Self { service, asked: asked.to_owned(), kind, source: Some(Box::new(error)) }
    }

    fn what(&self) -> String {
        let asked = &self.asked;
        match self.kind {
            AwsErrorKind::NoRegion => "no AWS region is named".to_owned(),
            AwsErrorKind::NoCredentials => format!("no AWS credentials to ask for `{asked}` with"),
            AwsErrorKind::Unauthenticated => {
                format!("the AWS credentials are refused (wrong or expired) when asking for `{asked}`")
            }
            AwsErrorKind::Denied => format!("reading `{asked}` is not allowed"),
            AwsErrorKind::Absent => format!("there is no `{asked}`"),
            AwsErrorKind::Unreachable => format!("`{asked}` cannot be asked for: AWS is not reached"),
            AwsErrorKind::Refused => format!("`{asked}` is refused"),
        }
    }

    /// What to do. `action`: the IAM action that the call needs.
    #[must_use]
    pub fn hint(&self, action: &str) -> String {
        match self.kind {
            AwsErrorKind::NoRegion => "set AWS_REGION, or a region in the AWS profile".to_owned(),
            AwsErrorKind::NoCredentials => {
                "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY".to_owned()
            }
            AwsErrorKind::Unauthenticated => {
                "sign in again (`aws sso login`), or name another profile with AWS_PROFILE".to_owned()
            }
            AwsErrorKind::Denied => format!("allow the action `{action}` to these credentials"),
            AwsErrorKind::Absent => "check its name, the region and the account".to_owned(),
            AwsErrorKind::Unreachable => "check the network, the region and AWS_ENDPOINT_URL".to_owned(),
            AwsErrorKind::Refused => "the cause below is the service's own".to_owned(),
        }
    }

    /// As a provider says it: a value that is not there lets a default take its place.
    pub(crate) fn for_provider(self, action: &str) -> ProviderError {
        let (hint, is_absent) = (self.hint(action), self.kind == AwsErrorKind::Absent);
        crate::told(self, hint, is_absent)
    }
}
