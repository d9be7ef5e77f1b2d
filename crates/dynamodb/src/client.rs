//! The connection: made once, on first use, out of the spec's configuration and the machine's own.

use crate::config::{DynamoConfig, StaticCredentials, is_local};
use crate::error::{CREDENTIALS_HINT, Failure};
use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use futures::FutureExt as _;
use std::error::Error;
use std::time::Duration;
use tokio::sync::OnceCell;
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// One attempt of one request; a batch of 25 large items on a slow line needs its time.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Where nothing names a region: local servers keep tables by region and do not care which.
const LOCAL_REGION: &str = "us-east-1";

/// A store's connection, opened by the first request.
#[derive(Debug)]
pub(crate) struct Connector {
    name: StoreName,
    config: DynamoConfig,
    endpoint: Option<String>,
    opened: OnceCell<Connection>,
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Sends requests, once each: trying again is the pacer's business.
    pub(crate) client: Client,
    /// The region that requests are signed for.
    pub(crate) region: String,
    /// Where the credentials come from, for people.
    pub(crate) credentials_from: &'static str,
    provider: SharedCredentialsProvider,
}

impl Connector {
    /// Does no I/O.
    pub(crate) fn new(name: StoreName, config: DynamoConfig) -> Self {
        let endpoint = config.effective_endpoint();
        Self { name, config, endpoint, opened: OnceCell::new() }
    }

    /// The store's name.
    pub(crate) fn name(&self) -> &StoreName {
        &self.name
    }

    /// What the spec says.
    pub(crate) fn config(&self) -> &DynamoConfig {
        &self.config
    }

    /// `dynamodb://us-west-2`, with the endpoint where it is not AWS's own. No I/O.
    pub(crate) fn location(&self) -> String {
        let region = match self.opened.get() {
            Some(connection) => connection.region.clone(),
            None => self.config.known_region().unwrap_or_else(|| self.unknown_region()),
        };
        match self.shown_endpoint() {
            Some(endpoint) => format!("dynamodb://{region} at {endpoint}"),
            None => format!("dynamodb://{region}"),
        }
    }

    /// The region as far as it is known; servers on this machine stand for the first of all regions.
    pub(crate) fn price_region(&self) -> String {
        let opened = self.opened.get().map(|connection| connection.region.clone());
        opened.or_else(|| self.config.known_region()).unwrap_or_else(|| LOCAL_REGION.to_owned())
    }

    /// The endpoint as people and identities see it; `None` is AWS's own.
    pub(crate) fn shown_endpoint(&self) -> Option<&str> {
        self.config.shown_as.as_deref().or(self.endpoint.as_deref())
    }

    fn unknown_region(&self) -> String {
        match &self.config.profile {
            Some(profile) => format!("(region of profile {profile})"),
            None if self.is_local() => LOCAL_REGION.to_owned(),
            None => "(default region)".to_owned(),
        }
    }

    fn is_local(&self) -> bool {
        self.endpoint.as_deref().is_some_and(is_local)
    }

    /// The connection. Finds credentials and region, sends nothing to DynamoDB.
    ///
    /// # Errors
    /// No credentials, no region.
    pub(crate) async fn connection(&self) -> Result<&Connection> {
        self.opened.get_or_try_init(|| self.open().boxed()).await
    }

    async fn open(&self) -> Result<Connection> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT);
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .retry_config(RetryConfig::disabled())
            // The time limit of an attempt ends a stalled stream, too, and costs nothing for each request.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(timeouts.build());
        if let Some(profile) = &self.config.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(endpoint) = &self.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let region = self.region().await;
        if let Some(region) = &region {
            loader = loader.region(region.clone());
        }
        let (given, credentials_from) = self.credentials(region).await;
        if let Some(given) = given {
            loader = loader.credentials_provider(given);
        }
        let shared = loader.load().await;
        let region = shared.region().map(ToString::to_string).ok_or_else(|| {
            StoreError::new(StoreErrorKind::Unsupported, &self.name, "no AWS region is known")
                .with_hint("set `region` of the store, --region or AWS_REGION")
        })?;
        let provider =
            shared.credentials_provider().ok_or_else(|| self.no_credentials("no provider is configured"))?;
        // Asked now, so that missing credentials are one clear error and not a failed request later.
        provider.provide_credentials().await.map_err(|error| self.no_credentials(error))?;
        Ok(Connection { client: Client::new(&shared), region, credentials_from, provider })
    }

    /// The region, as far as it is known without asking the instance's metadata service.
    async fn region(&self) -> Option<Region> {
        if let Some(region) = &self.config.region {
            return Some(Region::new(region.clone()));
        }
        let mut profile = ProfileFileRegionProvider::builder();
        if let Some(name) = &self.config.profile {
            profile = profile.profile_name(name);
        }
        let chain =
            RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new()).or_else(profile.build());
        let local = || self.is_local().then(|| Region::new(LOCAL_REGION));
        chain.region().await.or_else(local)
    }

    /// Where credentials come from, where that is not the machine's usual chain: those of the configuration;
    /// the named profile, also where keys are in the environment (they may be another account's); and for a
    /// server on this machine whatever there is, else made-up ones, since such servers take any. The metadata
    /// service is not asked there: where it does not exist that takes seconds.
    async fn credentials(&self, region: Option<Region>) -> (Option<SharedCredentialsProvider>, &'static str) {
        if let Some(keys) = &self.config.credentials {
            let provider = SharedCredentialsProvider::new(credentials(keys));
            return (Some(provider), "the store's own configuration");
        }
        let provider_config = ProviderConfig::default().with_region(region);
        let profile = ProfileFileCredentialsProvider::builder().configure(&provider_config);
        if let Some(name) = &self.config.profile {
            let provider = SharedCredentialsProvider::new(profile.profile_name(name).build());
            return (Some(provider), "the named profile");
        }
        if !self.is_local() {
            return (None, "the AWS configuration of this machine");
        }
        let environment = EnvironmentVariableCredentialsProvider::new();
        let chain = CredentialsProviderChain::first_try("environment", environment)
            .or_else("profile", profile.build());
        match chain.provide_credentials().await {
            Ok(_) => (Some(SharedCredentialsProvider::new(chain)), "the AWS configuration of this machine"),
            Err(_) => {
                let provider = SharedCredentialsProvider::new(credentials(&StaticCredentials::dummy()));
                (Some(provider), "nowhere: they are made up, as a local server takes any")
            }
        }
    }

    fn no_credentials(&self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        StoreError::new(StoreErrorKind::Unauthenticated, &self.name, "no AWS credentials are found")
            .caused_by(cause)
            .with_hint(CREDENTIALS_HINT)
    }
}

impl Connection {
    /// Sorts an error of the SDK. What looks like a broken connection may be credentials that could not be
    /// renewed; then trying again is in vain.
    pub(crate) async fn failure<E>(&self, error: SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let failure = Failure::of(error);
        if !failure.unexplained {
            return failure;
        }
        match self.provider.provide_credentials().await {
            Ok(_) => failure,
            Err(error) => Failure::no_credentials(error),
        }
    }
}

fn credentials(keys: &StaticCredentials) -> Credentials {
    Credentials::new(&keys.access_key_id, &keys.secret_access_key, None, None, "whimbrel")
}
