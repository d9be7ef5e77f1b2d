//! `variables`

use super::text::Scalar;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;

/// A variable: its value, or more about it.
#[derive(Clone, Debug)]
pub enum Variable {
    /// `region: us-east-1`
    Value(Scalar),
    /// `dataset: { default: golden, oneof: [golden, full] }`
    Declared(VariableDeclaration),
}

/// A variable with more than a value.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a variable"))]
pub struct VariableDeclaration {
    /// Its value where neither the environment nor `--set` gives one.
    #[serde(default)]
    pub default: Option<Scalar>,
    /// The only values that it may have.
    #[serde(default)]
    #[schemars(extend("minItems" = 1))]
    pub oneof: Option<Vec<Scalar>>,
    /// Whether its value is shown nowhere.
    #[serde(default)]
    pub secret: bool,
    /// What it is for, for people.
    #[serde(default)]
    pub description: Option<String>,
    /// How a `${cognito:…}` that is not there is made.
    #[serde(default)]
    pub cognito: Option<CognitoCreation>,
}

/// How the user of a variable's `${cognito:…}` is made where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a variable's `cognito`"))]
pub struct CognitoCreation {
    /// Whether `run` makes it; `clean` then removes it.
    #[serde(default)]
    pub create: bool,
    /// Its e-mail address.
    #[serde(default)]
    pub email: Option<Scalar>,
}

impl Variable {
    /// Its value as the spec writes it.
    #[must_use]
    pub fn default(&self) -> Option<&Scalar> {
        match self {
            Self::Value(value) => Some(value),
            Self::Declared(declaration) => declaration.default.as_ref(),
        }
    }

    /// Whether its value is shown nowhere.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        matches!(self, Self::Declared(VariableDeclaration { secret: true, .. }))
    }

    /// How the user of its `${cognito:…}` is made, where it is to be made.
    #[must_use]
    pub fn creation(&self) -> Option<&CognitoCreation> {
        match self {
            Self::Declared(declaration) => declaration.cognito.as_ref().filter(|cognito| cognito.create),
            Self::Value(_) => None,
        }
    }

    /// The only values that it may have; `None`: any.
    #[must_use]
    pub fn oneof(&self) -> Option<&[Scalar]> {
        match self {
            Self::Value(_) => None,
            Self::Declared(declaration) => declaration.oneof.as_deref(),
        }
    }
}

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = match value {
            Value::Object(_) => serde_json::from_value(value).map(Self::Declared),
            _ => serde_json::from_value(value).map(Self::Value),
        };
        read.map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Variable {
    fn schema_name() -> Cow<'static, str> {
        "Variable".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let scalar = generator.subschema_for::<Scalar>();
        let declaration = generator.subschema_for::<VariableDeclaration>();
        json_schema!({ "anyOf": [scalar, declaration] })
    }
}
