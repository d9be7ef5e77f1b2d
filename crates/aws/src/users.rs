//! A user of IAM who may do what a spec needs and nothing else. What is made is tagged, and only what carries the tags
//! is changed or removed.

use crate::account::Account;
use crate::policy::Policy;
use crate::session::{AwsError, AwsErrorKind};
use aws_sdk_iam::Client;
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_iam::types::Tag;
use std::error::Error;

const IAM: &str = "IAM";
/// IAM's own limit for a policy, blanks not counted.
const MOST_CHARACTERS: usize = 6144;
/// How many versions of a policy IAM keeps.
const MOST_VERSIONS: usize = 5;
const MIGRATION: &str = "whimbrel:migration";
const ENVIRONMENT: &str = "whimbrel:environment";

/// Whom and what to make, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserOrder {
    /// The user's name.
    pub user: String,
    /// The policy's name.
    pub policy: String,
    /// The path of both: `/` or `/team/`.
    pub path: String,
    /// The account's number, for the policy's ARN.
    pub account: String,
    /// AWS's world that the account is in: `aws`, `aws-cn`, `aws-us-gov`.
    pub partition: String,
    /// Written on both.
    pub migration: String,
    /// Written on both; empty where the spec has no environments.
    pub environment: String,
}

/// What became of an order.
#[derive(Debug)]
pub struct MadeUser {
    /// Whether the user was made; else it was there.
    pub is_new: bool,
    /// Whether the policy was made or given a new version; else it was as it is to be.
    pub policy_changed: bool,
    /// The policy's ARN.
    pub policy_arn: String,
    /// The access key, where one was made: it cannot be had again.
    pub key: Option<AccessKey>,
}

/// An access key. Debug does not show the secret.
pub struct AccessKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl std::fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a user is not made or removed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// IAM fails.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// Something of that name is not ours.
    #[error("{what} `{name}` is there, and whimbrel did not make it for {whose}")]
    Foreign {
        /// `user` or `policy`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The migration and environment.
        whose: String,
    },
    /// IAM takes no policy of that length.
    #[error("the policy has {0} characters, and IAM takes {MOST_CHARACTERS}")]
    TooLong(usize),
}

impl UserError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Aws(error) => error.hint("iam:* on this user and policy"),
            Self::Foreign { .. } => "give another name, or remove it by hand".to_owned(),
            Self::TooLong(_) => {
                "take one purpose at a time with `--for`, or fewer flows with `--only`".to_owned()
            }
        }
    }
}

type Done<T> = Result<T, UserError>;

/// An answer, or `None` where there is nothing of that name.
fn answer<T, E, R>(asked: &str, answer: Result<T, SdkError<E, R>>) -> Done<Option<T>>
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => {
            let code = error.code().map(str::to_owned);
            let error = AwsError::of(IAM, asked, error, code.as_deref(), &["NoSuchEntity"]);
            if error.kind == AwsErrorKind::Absent { Ok(None) } else { Err(error.into()) }
        }
    }
}

/// Makes and removes users.
#[derive(Debug)]
pub struct Users {
    client: Client,
    order: UserOrder,
}

impl Users {
    /// For one user of an account.
    ///
    /// # Errors
    /// The account is not reached.
    pub fn new(account: &Account, order: UserOrder) -> Done<Self> {
        Ok(Self { client: account.iam()?, order })
    }

    fn policy_arn(&self) -> String {
        let UserOrder { partition, account, path, policy, .. } = &self.order;
        format!("arn:{partition}:iam::{account}:policy{path}{policy}")
    }

    fn tags(&self) -> Vec<Tag> {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build().ok();
        let tags = [tag(MIGRATION, &self.order.migration), tag(ENVIRONMENT, &self.order.environment)];
        tags.into_iter().flatten().collect()
    }

    fn is_ours(&self, tags: &[Tag]) -> bool {
        let has = |key: &str, value: &str| tags.iter().any(|tag| tag.key() == key && tag.value() == value);
        has(MIGRATION, &self.order.migration) && has(ENVIRONMENT, &self.order.environment)
    }

    fn foreign(&self, what: &'static str, name: &str) -> UserError {
        let UserOrder { migration, environment, .. } = &self.order;
        let whose = if environment.is_empty() {
            format!("migration `{migration}`")
        } else {
            format!("environment `{environment}` of migration `{migration}`")
        };
        UserError::Foreign { what, name: name.to_owned(), whose }
    }

    /// Makes user and policy, or brings them to what they are to be. A key is made where the user has none.
    ///
    /// # Errors
    /// IAM fails, or one of them is there and is not ours.
    pub async fn make(&self, policy: &Policy) -> Done<MadeUser> {
        let document = serde_json::to_string(policy).unwrap_or_default();
        if document.len() > MOST_CHARACTERS {
            return Err(UserError::TooLong(document.len()));
        }
        let is_there = self.user_is_there().await?;
        let policy_changed = self.make_policy(&document).await?;
        let user = &self.order.user;
        if !is_there {
            let request = self.client.create_user().user_name(user).path(&self.order.path);
            answer(user, request.set_tags(Some(self.tags())).send().await)?;
        }
        let attach = self.client.attach_user_policy().user_name(user).policy_arn(self.policy_arn());
        answer(user, attach.send().await)?;
        let keys = answer(user, self.client.list_access_keys().user_name(user).send().await)?;
        let has_key = keys.is_some_and(|keys| !keys.access_key_metadata.is_empty());
        let key = if has_key {
            None
        } else {
            let made = answer(user, self.client.create_access_key().user_name(user).send().await)?;
            made.and_then(|made| made.access_key)
                .map(|key| AccessKey { id: key.access_key_id, secret: key.secret_access_key })
        };
        Ok(MadeUser { is_new: !is_there, policy_changed, policy_arn: self.policy_arn(), key })
    }

    async fn user_is_there(&self) -> Done<bool> {
        let user = &self.order.user;
        let Some(_) = answer(user, self.client.get_user().user_name(user).send().await)? else {
            return Ok(false);
        };
        let tags = answer(user, self.client.list_user_tags().user_name(user).send().await)?;
        if !tags.is_some_and(|tags| self.is_ours(&tags.tags)) {
            return Err(self.foreign("the user", user));
        }
        Ok(true)
    }

    async fn policy_is_there(&self) -> Done<bool> {
        let (name, arn) = (&self.order.policy, self.policy_arn());
        let Some(_) = answer(name, self.client.get_policy().policy_arn(&arn).send().await)? else {
            return Ok(false);
        };
        let tags = answer(name, self.client.list_policy_tags().policy_arn(&arn).send().await)?;
        if !tags.is_some_and(|tags| self.is_ours(&tags.tags)) {
            return Err(self.foreign("the policy", name));
        }
        Ok(true)
    }

    /// Whether the policy was made or changed.
    async fn make_policy(&self, document: &str) -> Done<bool> {
        let (name, arn) = (&self.order.policy, self.policy_arn());
        if !self.policy_is_there().await? {
            let request = self.client.create_policy().policy_name(name).path(&self.order.path);
            let request = request.policy_document(document).set_tags(Some(self.tags()));
            answer(name, request.send().await)?;
            return Ok(true);
        }
        let versions = answer(name, self.client.list_policy_versions().policy_arn(&arn).send().await)?;
        let versions = versions.map(|listed| listed.versions.unwrap_or_default()).unwrap_or_default();
        let standing = versions.iter().find(|version| version.is_default_version);
        if let Some(id) = standing.and_then(|version| version.version_id()) {
            let request = self.client.get_policy_version().policy_arn(&arn).version_id(id);
            let version = answer(name, request.send().await)?.and_then(|answer| answer.policy_version);
            if version.and_then(|version| version.document).is_some_and(|now| same(&now, document)) {
                return Ok(false);
            }
        }
        if versions.len() >= MOST_VERSIONS {
            let mut others = versions.iter().filter(|version| !version.is_default_version);
            // They are numbered v1, v2, …, the oldest of them is listed last.
            if let Some(oldest) = others.next_back().and_then(|version| version.version_id()) {
                let request = self.client.delete_policy_version().policy_arn(&arn).version_id(oldest);
                answer(name, request.send().await)?;
            }
        }
        let request = self.client.create_policy_version().policy_arn(&arn).policy_document(document);
        answer(name, request.set_as_default(true).send().await)?;
        Ok(true)
    }

    /// Removes user, keys and policy; `false` for what was not there.
    ///
    /// # Errors
    /// IAM fails, or one of them is not ours: then nothing is removed.
    pub async fn remove(&self) -> Done<(bool, bool)> {
        let (user, has_user, has_policy) =
            (&self.order.user, self.user_is_there().await?, self.policy_is_there().await?);
        let arn = self.policy_arn();
        if has_user {
            let keys = answer(user, self.client.list_access_keys().user_name(user).send().await)?;
            for key in keys.map(|keys| keys.access_key_metadata).unwrap_or_default() {
                let request = self.client.delete_access_key().user_name(user);
                answer(user, request.access_key_id(key.access_key_id.unwrap_or_default()).send().await)?;
            }
            let detach = self.client.detach_user_policy().user_name(user).policy_arn(&arn);
            answer(user, detach.send().await)?;
            answer(user, self.client.delete_user().user_name(user).send().await)?;
        }
        if has_policy {
            let name = &self.order.policy;
            let versions = answer(name, self.client.list_policy_versions().policy_arn(&arn).send().await)?;
            let versions = versions.map(|listed| listed.versions.unwrap_or_default()).unwrap_or_default();
            for version in versions.iter().filter(|version| !version.is_default_version) {
                let id = version.version_id().unwrap_or_default();
                let request = self.client.delete_policy_version().policy_arn(&arn).version_id(id);
                answer(name, request.send().await)?;
            }
            answer(name, self.client.delete_policy().policy_arn(&arn).send().await)?;
        }
        Ok((has_user, has_policy))
    }
}

/// Whether two documents say the same. IAM gives them percent-encoded, emulators as they are.
fn same(now: &str, wanted: &str) -> bool {
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    let now = parse(now).or_else(|| parse(&decoded(now)));
    now.is_some() && now == parse(wanted)
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%');
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_the_same_however_it_is_written() {
        assert!(same(r#"{"a": [1]}"#, r#"{"a":[1]}"#));
        assert!(same("%7B%22a%22%3A%5B1%5D%7D", r#"{"a":[1]}"#));
        assert!(!same(r#"{"a":[2]}"#, r#"{"a":[1]}"#));
        assert!(!same("%7", "%7"));
    }

    #[test]
    fn a_key_s_secret_is_not_shown() {
        let key = AccessKey { id: "AKIA".to_owned(), secret: "hush".to_owned() };
        assert!(!format!("{key:?}").contains("hush"));
    }
}
