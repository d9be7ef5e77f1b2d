//! `${ssm:/path}`: a parameter of the AWS Systems Manager Parameter Store, decrypted.

use crate::session::{AwsError, Session};
use async_trait::async_trait;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::error::ProvideErrorMetadata;
use aws_sdk_ssm::types::ParameterType;
use whimbrel_spec::{Found, Provider, ProviderError};

const SERVICE: &str = "SSM Parameter Store";

/// The Parameter Store. A `SecureString` is a secret; so is any parameter whose value holds a password, which is
/// what database URLs are kept there for: every value is treated as one.
#[derive(Clone, Debug)]
pub struct Parameters {
    session: Session,
}

impl Parameters {
    /// The store that a session reaches.
    #[must_use]
    pub fn new(session: Session) -> Self {
        Self { session }
    }

    /// The value of a parameter by its name, path or ARN (`name:version` and `name:label` as AWS has them).
    async fn value(&self, name: &str) -> Result<Option<Found>, AwsError> {
        let client = Client::new(self.session.config(SERVICE).await?);
        let answer =
            client.get_parameter().name(name).with_decryption(true).send().await.map_err(|error| {
                let code = error.code().map(str::to_owned);
                AwsError::of(
                    SERVICE,
                    name,
                    error,
                    code.as_deref(),
                    &["ParameterNotFound", "ParameterVersionNotFound"],
                )
            })?;
        let parameter = answer.parameter;
        let plain = |kind: &ParameterType| *kind == ParameterType::StringList;
        let secret = !parameter.as_ref().and_then(|found| found.r#type.as_ref()).is_some_and(plain);
        Ok(parameter.and_then(|found| found.value).map(|value| Found { value, secret }))
    }
}

#[async_trait]
impl Provider for Parameters {
    fn name(&self) -> &'static str {
        "ssm"
    }

    async fn lookup(&self, argument: &str) -> Result<Option<Found>, ProviderError> {
        if argument.is_empty() {
            return Err(ProviderError::new("a parameter has no name", "write `${ssm:/path/of/it}`"));
        }
        self.value(argument)
            .await
            .map_err(|error| error.for_provider("ssm:GetParameter (and kms:Decrypt on its key)"))
    }
}
