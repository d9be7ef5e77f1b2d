//! `${cognito:POOL/username#attribute}`: an attribute of a user of a Cognito user pool, `sub` as a rule. The user
//! is made where a run is to make it, marked as whimbrel's, and removed again only with that mark.

use crate::session::{AwsError, AwsErrorKind, Session};
use async_trait::async_trait;
use aws_sdk_cognitoidentityprovider::config::Region;
use aws_sdk_cognitoidentityprovider::error::ProvideErrorMetadata;
use aws_sdk_cognitoidentityprovider::types::{AttributeType, MessageActionType};
use aws_sdk_cognitoidentityprovider::{Client, Config};
use whimbrel_spec::{Creation, Found, Provider, ProviderError};

const SERVICE: &str = "Cognito";
/// The attribute that says whose a user is: a standard one, since pools allow no new ones after their making.
const MARK: &str = "profile";
const MARK_PREFIX: &str = "urn:whimbrel:";
const NO_USER: &[&str] = &["UserNotFoundException"];

/// Users of Cognito user pools.
#[derive(Clone, Debug)]
pub struct CognitoUsers {
    session: Session,
}

/// What became of a user that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It was whimbrel's and is gone.
    Removed,
    /// It was not made by this migration in this environment, and is left.
    NotOurs,
    /// There was none.
    Absent,
}

/// A user and one of its attributes, as the spec writes them.
#[derive(Debug, PartialEq, Eq)]
struct Wanted<'a> {
    pool: &'a str,
    username: &'a str,
    attribute: &'a str,
}

impl<'a> Wanted<'a> {
    fn parse(argument: &'a str) -> Result<Self, ProviderError> {
        let (user, attribute) = argument.rsplit_once('#').unwrap_or((argument, "sub"));
        match user.split_once('/') {
            Some((pool, username)) if ![pool, username, attribute].contains(&"") => {
                Ok(Self { pool, username, attribute })
            }
            _ => Err(ProviderError::new(
                format!("`{argument}` is no `POOL/username#attribute` of Cognito"),
                "write `${cognito:POOL/username#sub}`",
            )),
        }
    }

    fn user(&self) -> String {
        format!("{}/{}", self.pool, self.username)
    }
}

impl CognitoUsers {
    /// The pools that a session reaches.
    #[must_use]
    pub fn new(session: Session) -> Self {
        Self { session }
    }

    /// A pool's id begins with its region, which may be another one than the session's.
    async fn client(&self, wanted: &Wanted<'_>) -> Result<Client, AwsError> {
        let shared = self.session.config(SERVICE).await?;
        let config = Config::from(shared).to_builder();
        Ok(Client::from_conf(match wanted.pool.split_once('_') {
            Some((region, _)) if !region.is_empty() => config.region(Region::new(region.to_owned())).build(),
            _ => config.build(),
        }))
    }

    /// The attributes of a user; `None`: there is no such user.
    async fn attributes(&self, wanted: &Wanted<'_>) -> Result<Option<Vec<AttributeType>>, AwsError> {
        let client = self.client(wanted).await?;
        let asked = client.admin_get_user().user_pool_id(wanted.pool).username(wanted.username).send().await;
        match asked {
            Ok(user) => Ok(Some(user.user_attributes.unwrap_or_default())),
            Err(error) => {
                let code = error.code().map(str::to_owned);
                let error = AwsError::of(SERVICE, &wanted.user(), error, code.as_deref(), NO_USER);
                if error.kind == AwsErrorKind::Absent { Ok(None) } else { Err(error) }
            }
        }
    }

    async fn make(&self, wanted: &Wanted<'_>, creation: &Creation) -> Result<(), AwsError> {
        let client = self.client(wanted).await?;
        let mut request = client
            .admin_create_user()
            .user_pool_id(wanted.pool)
            .username(wanted.username)
            // A migration's user gets no invitation by mail.
            .message_action(MessageActionType::Suppress)
            .set_user_attributes(
                attribute(MARK, &format!("{MARK_PREFIX}{}", creation.owner)).map(|mark| vec![mark]),
            );
        if let Some(email) = &creation.email {
            for (name, value) in [("email", email.as_str()), ("email_verified", "true")] {
                if let Some(attribute) = attribute(name, value) {
                    request = request.user_attributes(attribute);
                }
            }
        }
        match request.send().await {
            Ok(_) => Ok(()),
            // Somebody was quicker: it is there.
            Err(error) if error.code() == Some("UsernameExistsException") => Ok(()),
            Err(error) => {
                let code = error.code().map(str::to_owned);
                Err(AwsError::of(SERVICE, &wanted.user(), error, code.as_deref(), &[]))
            }
        }
    }

    /// Removes a user that [`Provider::create`] made for this owner, and no other.
    ///
    /// # Errors
    /// The argument is no `POOL/username#attribute`, or Cognito does not do it.
    pub async fn remove(&self, argument: &str, owner: &str) -> Result<Removal, ProviderError> {
        let wanted = Wanted::parse(argument)?;
        let told =
            |error: AwsError| error.for_provider("cognito-idp:AdminGetUser and cognito-idp:AdminDeleteUser");
        let Some(attributes) = self.attributes(&wanted).await.map_err(told)? else {
            return Ok(Removal::Absent);
        };
        if value_of(&attributes, MARK) != Some(&format!("{MARK_PREFIX}{owner}")) {
            return Ok(Removal::NotOurs);
        }
        let client = self.client(&wanted).await.map_err(told)?;
        let removed =
            client.admin_delete_user().user_pool_id(wanted.pool).username(wanted.username).send().await;
        match removed {
            Ok(_) => Ok(Removal::Removed),
            Err(error) => {
                let code = error.code().map(str::to_owned);
                let error = AwsError::of(SERVICE, &wanted.user(), error, code.as_deref(), NO_USER);
                if error.kind == AwsErrorKind::Absent { Ok(Removal::Absent) } else { Err(told(error)) }
            }
        }
    }
}

/// An attribute; its builder fails only without a name.
fn attribute(name: &str, value: &str) -> Option<AttributeType> {
    AttributeType::builder().name(name).value(value).build().ok()
}

fn value_of<'a>(attributes: &'a [AttributeType], name: &str) -> Option<&'a str> {
    attributes.iter().find(|attribute| attribute.name() == name)?.value()
}

/// The attribute that was asked for; the error names those that there are.
fn found(attributes: &[AttributeType], wanted: &Wanted<'_>) -> Result<Found, ProviderError> {
    match value_of(attributes, wanted.attribute) {
        Some(value) => Ok(Found { value: value.to_owned(), secret: false }),
        None => {
            let known: Vec<String> =
                attributes.iter().map(|attribute| format!("`{}`", attribute.name())).collect();
            let message =
                format!("the Cognito user `{}` has no attribute `{}`", wanted.user(), wanted.attribute);
            Err(ProviderError::absent(message, format!("its attributes: {}", known.join(", "))))
        }
    }
}

#[async_trait]
impl Provider for CognitoUsers {
    fn name(&self) -> &'static str {
        "cognito"
    }

    async fn lookup(&self, argument: &str) -> Result<Option<Found>, ProviderError> {
        let wanted = Wanted::parse(argument)?;
        let attributes = self.attributes(&wanted).await;
        match attributes.map_err(|error| error.for_provider("cognito-idp:AdminGetUser"))? {
            Some(attributes) => found(&attributes, &wanted).map(Some),
            None => Ok(None),
        }
    }

    async fn create(&self, argument: &str, creation: &Creation) -> Result<Option<Found>, ProviderError> {
        let wanted = Wanted::parse(argument)?;
        self.make(&wanted, creation)
            .await
            .map_err(|error| error.for_provider("cognito-idp:AdminCreateUser"))?;
        self.lookup(argument).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_names_pool_user_and_attribute() {
        let parsed =
            |text| Wanted::parse(text).map(|wanted| (wanted.pool, wanted.username, wanted.attribute));
        assert_eq!(parsed("us-east-1_A/ann#email").ok(), Some(("us-east-1_A", "ann", "email")));
        assert_eq!(parsed("us-east-1_A/ann").ok(), Some(("us-east-1_A", "ann", "sub")));
        assert_eq!(parsed("p/a/b#sub").ok(), Some(("p", "a/b", "sub")));
        for wrong in ["", "pool", "/ann", "pool/", "pool/#sub", "pool/ann#"] {
            let error = parsed(wrong).unwrap_err();
            assert!(error.message.contains(wrong) && !error.absent, "{error}");
        }
    }

    #[test]
    fn an_attribute_that_is_not_there_is_told_with_those_that_are() {
        let attributes: Vec<_> =
            ["sub", "email"].into_iter().filter_map(|name| attribute(name, "v")).collect();
        let wanted = |attribute| Wanted { pool: "p", username: "u", attribute };
        assert_eq!(found(&attributes, &wanted("sub")).unwrap().value, "v");
        let error = found(&attributes, &wanted("phone")).unwrap_err();
        assert_eq!((error.hint.as_str(), error.absent), ("its attributes: `sub`, `email`", true));
    }
}
