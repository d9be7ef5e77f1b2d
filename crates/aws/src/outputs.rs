//! `${cdk:FILE#Key}`: an output of a CDK or CloudFormation stack, from a file of outputs. Both shapes are read:
//! that of `aws cloudformation describe-stacks --query Stacks[].Outputs[]`, an array of
//! `{"OutputKey": …, "OutputValue": …}`, and that of `cdk deploy --outputs-file`, `{Stack: {Key: value}}`.

use async_trait::async_trait;
use serde_json::Value;
use std::io;
use std::path::PathBuf;
use whimbrel_spec::{Found, Provider, ProviderError};

/// Files of stack outputs.
#[derive(Clone, Debug)]
pub struct CdkOutputs {
    base_dir: PathBuf,
}

/// Why an output cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OutputsError {
    /// The argument is not `FILE#Key`.
    #[error("`{0}` is no `FILE#Key` of a file of stack outputs")]
    Malformed(String),
    /// The file is not there or cannot be read.
    #[error("the file of stack outputs `{}` cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is no JSON, or of neither shape.
    #[error("`{}` is no file of stack outputs", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Where it is no JSON.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// No stack of the file has such an output.
    #[error("the file of stack outputs `{}` has no output `{key}`", path.display())]
    NoOutput {
        /// The file.
        path: PathBuf,
        /// The output.
        key: String,
        /// The outputs that it has.
        known: Vec<String>,
    },
    /// Several stacks of the file have it, with different values.
    #[error("several stacks in `{}` have an output `{key}`", path.display())]
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// The output.
        key: String,
        /// The stacks that have it.
        stacks: Vec<String>,
    },
}

impl OutputsError {
    /// Whether the value is simply not there, so that a default may take its place.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        match self {
            Self::NoOutput { .. } => true,
            Self::Unreadable { source, .. } => source.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Malformed(_) => "write `${cdk:FILE#Key}`".to_owned(),
            Self::Unreadable { .. } => {
                "write it with `cdk deploy --outputs-file`; paths are relative to the spec".to_owned()
            }
            Self::Shape { .. } => {
                "it is an array of OutputKey and OutputValue, or an object of stacks with their outputs"
                    .to_owned()
            }
            Self::NoOutput { known, .. } if known.is_empty() => "it has no outputs".to_owned(),
            Self::NoOutput { known, .. } => format!("its outputs: {}", quoted(known)),
            Self::Ambiguous { key, stacks, .. } => {
                format!("name the stack: `STACK.{key}`, of {}", quoted(stacks))
            }
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// One output: its stack, where the file says it, its key and its value.
struct Output {
    stack: Option<String>,
    key: String,
    value: String,
}

impl CdkOutputs {
    /// Files by paths that are relative to this folder, the spec's.
    pub fn new(base_dir: impl Into<PathBuf>) -> Self {
        Self { base_dir: base_dir.into() }
    }

    /// The value of `FILE#Key` or `FILE#Stack.Key`.
    ///
    /// # Errors
    /// The file cannot be read or has no such output, or several stacks have it.
    pub async fn value(&self, argument: &str) -> Result<String, OutputsError> {
        let (file, key) = argument
            .rsplit_once('#')
            .filter(|(file, key)| !file.is_empty() && !key.is_empty())
            .ok_or_else(|| OutputsError::Malformed(argument.to_owned()))?;
        let path = self.base_dir.join(file);
        let text = tokio::fs::read_to_string(&path)
            .await
            .map_err(|source| OutputsError::Unreadable { path: path.clone(), source })?;
        let value = serde_json::from_str(&text)
            .map_err(|source| OutputsError::Shape { path: path.clone(), source: Some(source) })?;
        let outputs =
            outputs(&value).ok_or_else(|| OutputsError::Shape { path: path.clone(), source: None })?;
        choose(&outputs, key, path)
    }
}

/// The outputs of a file of either shape; `None`: it is of neither.
fn outputs(value: &Value) -> Option<Vec<Output>> {
    match value {
        Value::Array(entries) => entries
            .iter()
            .map(|entry| {
                let text = |key| Some(entry.get(key)?.as_str()?.to_owned());
                Some(Output { stack: None, key: text("OutputKey")?, value: text("OutputValue")? })
            })
            .collect(),
        Value::Object(stacks) => {
            let mut found = Vec::new();
            for (stack, of_stack) in stacks {
                for (key, value) in of_stack.as_object()? {
                    let value = value.as_str()?.to_owned();
                    found.push(Output { stack: Some(stack.clone()), key: key.clone(), value });
                }
            }
            Some(found)
        }
        _ => None,
    }
}

fn choose(outputs: &[Output], key: &str, path: PathBuf) -> Result<String, OutputsError> {
    let named = |output: &&Output| {
        let qualified = output.stack.as_ref().map(|stack| format!("{stack}.{}", output.key));
        output.key == key || qualified.as_deref() == Some(key)
    };
    let found: Vec<&Output> = outputs.iter().filter(named).collect();
    let key = key.to_owned();
    match found.as_slice() {
        [] => {
            let known = outputs.iter().map(|output| output.key.clone()).collect();
            Err(OutputsError::NoOutput { path, key, known })
        }
        [first, rest @ ..] if rest.iter().all(|other| other.value == first.value) => Ok(first.value.clone()),
        several => {
            let stacks = several.iter().filter_map(|output| output.stack.clone()).collect();
            Err(OutputsError::Ambiguous { path, key, stacks })
        }
    }
}

#[async_trait]
impl Provider for CdkOutputs {
    fn name(&self) -> &'static str {
        "cdk"
    }

    async fn lookup(&self, argument: &str) -> Result<Option<Found>, ProviderError> {
        match self.value(argument).await {
            Ok(value) => Ok(Some(Found { value, secret: false })),
            Err(error) => {
                let (hint, is_absent) = (error.hint(), error.is_absent());
                Err(crate::told(error, hint, is_absent))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRAY: &str = r#"[{"OutputKey":"UserPoolId","OutputValue":"us-east-1_A","Description":"x"},
        {"OutputKey":"ApiUrl","OutputValue":"https://a"}]"#;
    const STACKS: &str = r#"{"Auth":{"UserPoolId":"us-east-1_A","Url":"https://a"},"Api":{"Url":"https://b","Same":"1"},"C":{"Same":"1"}}"#;

    async fn looked_up(text: &str, key: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("out.json"), text).unwrap();
        let found = CdkOutputs::new(folder.path()).lookup(&format!("out.json#{key}")).await;
        found.map(|found| found.unwrap().value).map_err(|error| {
            let absent = if error.absent { " (absent)" } else { "" };
            let said = format!("{error}{absent}; {}", error.hint);
            said.replace(&folder.path().display().to_string(), "DIR")
        })
    }

    #[tokio::test]
    async fn both_shapes_are_read() {
        for (text, key, value) in [
            (ARRAY, "UserPoolId", "us-east-1_A"),
            (STACKS, "UserPoolId", "us-east-1_A"),
            (STACKS, "Api.Url", "https://b"),
            (STACKS, "Same", "1"),
        ] {
            assert_eq!(looked_up(text, key).await.as_deref(), Ok(value), "{key}");
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_told() {
        let said = |text, key| async move { looked_up(text, key).await.unwrap_err() };
        assert_eq!(
            said(ARRAY, "UserPool").await,
            "the file of stack outputs `DIR/out.json` has no output `UserPool` (absent); its outputs: `UserPoolId`, `ApiUrl`"
        );
        assert_eq!(
            said(STACKS, "Url").await,
            "several stacks in `DIR/out.json` have an output `Url`; name the stack: `STACK.Url`, of `Auth`, `Api`"
        );
        for text in ["7", "[{}]", r#"{"a":1}"#, "{"] {
            let said = said(text, "Url").await;
            assert!(said.starts_with("`DIR/out.json` is no file of stack outputs; it is"), "{said}");
        }
        let missing = CdkOutputs::new("/no/such").lookup("f.json#A").await.unwrap_err();
        assert!(missing.absent, "{missing}");
        let malformed = CdkOutputs::new("/no/such").lookup("f.json").await.unwrap_err();
        assert!(!malformed.absent, "{malformed}");
    }
}
