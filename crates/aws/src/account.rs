//! Who asks AWS, and what that one may do: found by asking STS and IAM.

use crate::policy::Policy;
use crate::session::{AwsError, AwsErrorKind};
use aws_config::retry::RetryConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_iam::error::ProvideErrorMetadata as _;
use aws_sdk_iam::types::PolicyEvaluationDecisionType;
use std::time::Duration;

const STS: &str = "STS";
const IAM: &str = "IAM";
/// A person waits for the answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// An account of AWS, or what stands in for it.
#[derive(Clone, Debug)]
pub struct Account {
    config: SdkConfig,
}

/// How an account is reached, where it is not as everywhere: what a store's configuration says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The profile of the AWS configuration.
    pub profile: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The URL of an emulator, which answers for every service.
    pub endpoint: Option<String>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// `arn:aws:iam::123456789012:user/ann`.
    pub arn: String,
    /// The account's number.
    pub account: String,
}

/// Whether an action is allowed on a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// `dynamodb:Scan`.
    pub action: String,
    /// The resource's ARN, or `*`.
    pub resource: String,
    /// Whether it is.
    pub is_allowed: bool,
    /// Whether a policy forbids it in so many words.
    pub is_forbidden: bool,
}

impl Caller {
    /// The user or role whose policies hold for the caller; `None` for the account's root, who may do everything,
    /// and for those whom IAM does not know.
    #[must_use]
    pub fn principal(&self) -> Option<String> {
        let rest = self.arn.strip_prefix("arn:")?;
        let (partition, rest) = rest.split_once(':')?;
        if let Some((_, role)) = rest.split_once(":assumed-role/") {
            let role = role.split('/').next()?;
            return Some(format!("arn:{partition}:iam::{}:role/{role}", self.account));
        }
        let is_known = rest.contains(":user/") || rest.contains(":role/");
        is_known.then(|| self.arn.clone())
    }

    /// Whether it is the account's root user.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.arn.ends_with(":root")
    }
}

impl Account {
    /// Finds configuration and credentials; sends nothing yet.
    pub async fn reach(reach: &Reach) -> Self {
        let timeouts =
            aws_config::timeout::TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT);
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .timeout_config(timeouts.build())
            .retry_config(RetryConfig::standard().with_max_attempts(2));
        if let Some(profile) = &reach.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = &reach.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(endpoint) = &reach.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        Self { config: loader.load().await }
    }

    /// The configuration's region.
    #[must_use]
    pub fn region(&self) -> Option<String> {
        self.config.region().map(ToString::to_string)
    }

    /// For the users of this account.
    pub(crate) fn iam(&self) -> Result<aws_sdk_iam::Client, AwsError> {
        // IAM is one for all regions, and still wants one to be named.
        let builder = aws_sdk_iam::config::Builder::from(&self.config);
        let region = self.config.region().cloned().unwrap_or_else(|| Region::new("us-east-1"));
        Ok(aws_sdk_iam::Client::from_conf(builder.region(region).build()))
    }

    /// Who asks. Everybody who has credentials may know that.
    ///
    /// # Errors
    /// There are no credentials, they are refused, or there is no STS here.
    pub async fn caller(&self) -> Result<Caller, AwsError> {
        if self.config.region().is_none() {
            return Err(AwsError {
                service: STS,
                asked: "who asks".to_owned(),
                kind: AwsErrorKind::NoRegion,
                source: None,
            });
        }
        let client = aws_sdk_sts::Client::new(&self.config);
        let answer = client.get_caller_identity().send().await.map_err(|error| {
            let code = error.code().map(str::to_owned);
            AwsError::of(STS, "who asks", error, code.as_deref(), &[])
        })?;
        Ok(Caller { arn: answer.arn.unwrap_or_default(), account: answer.account.unwrap_or_default() })
    }

    /// Whether a user or role may do what a policy allows, as far as IAM's simulation knows: conditions on the network
    /// and the policies of the resources themselves it does not see.
    ///
    /// # Errors
    /// IAM does not answer, or does not tell this caller.
    pub async fn allowances(&self, principal: &str, policy: &Policy) -> Result<Vec<Allowance>, AwsError> {
        let client = self.iam()?;
        let mut found = Vec::new();
        for statement in &policy.statement {
            for resource in &statement.resource {
                let mut request = client
                    .simulate_principal_policy()
                    .policy_source_arn(principal)
                    .set_action_names(Some(statement.action.clone()));
                if resource != "*" {
                    request = request.resource_arns(resource);
                }
                let answer = request.send().await.map_err(|error| {
                    let code = error.code().map(str::to_owned);
                    AwsError::of(IAM, "what the caller may do", error, code.as_deref(), &["NoSuchEntity"])
                })?;
                found.extend(answer.evaluation_results().iter().map(|result| Allowance {
                    action: result.eval_action_name().to_owned(),
                    resource: resource.clone(),
                    is_allowed: *result.eval_decision() == PolicyEvaluationDecisionType::Allowed,
                    is_forbidden: *result.eval_decision() == PolicyEvaluationDecisionType::ExplicitDeny,
                }));
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_has_a_principal() {
        let principal = |arn: &str| Caller { arn: arn.to_owned(), account: "1".to_owned() }.principal();
        assert_eq!(principal("arn:aws:iam::1:user/a/ann").as_deref(), Some("arn:aws:iam::1:user/a/ann"));
        assert_eq!(
            principal("arn:aws:sts::1:assumed-role/mover/session").as_deref(),
            Some("arn:aws:iam::1:role/mover")
        );
        assert_eq!(principal("arn:aws:iam::1:root"), None);
        assert_eq!(principal("arn:aws:sts::1:federated-user/bob"), None);
        assert_eq!(principal(""), None);
    }
}
