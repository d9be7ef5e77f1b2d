//! `${secret:name}`: a secret of AWS Secrets Manager; `${secret:name#key}`: one key of a secret that is JSON, as
//! the secrets of RDS are.

use crate::session::{AwsError, Session};
use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::ProvideErrorMetadata;
use serde_json::Value;
use whimbrel_spec::{Found, Provider, ProviderError};

const SERVICE: &str = "Secrets Manager";

/// Secrets Manager.
#[derive(Clone, Debug)]
pub struct Secrets {
    session: Session,
}

impl Secrets {
    /// The secrets that a session reaches.
    #[must_use]
    pub fn new(session: Session) -> Self {
        Self { session }
    }

    async fn text(&self, name: &str) -> Result<Option<String>, AwsError> {
        let client = Client::new(self.session.config(SERVICE).await?);
        let answer = client.get_secret_value().secret_id(name).send().await.map_err(|error| {
            let code = error.code().map(str::to_owned);
            AwsError::of(SERVICE, name, error, code.as_deref(), &["ResourceNotFoundException"])
        })?;
        let bytes = answer.secret_binary.and_then(|bytes| String::from_utf8(bytes.into_inner()).ok());
        Ok(answer.secret_string.or(bytes))
    }
}

/// One key of a JSON object. The error never holds a value, only the keys.
fn key_of(text: &str, name: &str, key: &str) -> Result<String, ProviderError> {
    let Ok(Value::Object(object)) = serde_json::from_str::<Value>(text) else {
        let message = format!("the secret `{name}` is no JSON object, so it has no key `{key}`");
        return Err(ProviderError::new(message, format!("write `${{secret:{name}}}` for the whole of it")));
    };
    match object.get(key) {
        Some(Value::String(value)) => Ok(value.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(_) => Err(ProviderError::new(
            format!("`{key}` of the secret `{name}` is neither text, number nor boolean"),
            "name another key",
        )),
        None => {
            let known: Vec<String> = object.keys().map(|key| format!("`{key}`")).collect();
            let message = format!("the secret `{name}` has no key `{key}`");
            Err(ProviderError::absent(message, format!("its keys: {}", known.join(", "))))
        }
    }
}

#[async_trait]
impl Provider for Secrets {
    fn name(&self) -> &'static str {
        "secret"
    }

    async fn lookup(&self, argument: &str) -> Result<Option<Found>, ProviderError> {
        let (name, key) = match argument.split_once('#') {
            Some((name, key)) => (name, Some(key)),
            None => (argument, None),
        };
        if name.is_empty() {
            return Err(ProviderError::new("a secret has no name", "write `${secret:NAME}`"));
        }
        let text = self.text(name).await.map_err(|error| {
            error.for_provider("secretsmanager:GetSecretValue (and kms:Decrypt on its key)")
        })?;
        let value = match (text, key) {
            (Some(text), Some(key)) => Some(key_of(&text, name, key)?),
            (text, _) => text,
        };
        Ok(value.map(|value| Found { value, secret: true }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_secret_that_is_json() {
        let secret = r#"{"username":"ann","password":"p#w","port":5432,"tags":[1]}"#;
        assert_eq!(key_of(secret, "db", "password").unwrap(), "p#w");
        assert_eq!(key_of(secret, "db", "port").unwrap(), "5432");
        let missing = key_of(secret, "db", "host").unwrap_err();
        assert!(missing.absent);
        assert_eq!(missing.hint, "its keys: `username`, `password`, `port`, `tags`");
        for (text, key) in [(secret, "tags"), ("plain", "host")] {
            let error = key_of(text, "db", key).unwrap_err();
            assert!(!error.absent && !error.to_string().contains("ann"), "{error}");
        }
    }
}
