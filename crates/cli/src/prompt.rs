//! `${prompt:Question}`: asks a person, without echo.

use async_trait::async_trait;
use std::io::IsTerminal;
use whimbrel_spec::{Found, Provider, ProviderError};

/// Asks on the terminal; off a terminal it is an error, never a wait.
#[derive(Clone, Copy, Debug)]
pub struct Prompt;

#[async_trait]
impl Provider for Prompt {
    fn name(&self) -> &'static str {
        "prompt"
    }

    async fn lookup(&self, question: &str) -> Result<Option<Found>, ProviderError> {
        let term = console::Term::stderr();
        if !std::io::stdin().is_terminal() || !term.is_term() {
            return Err(ProviderError::new(
                format!("`{question}` would have to be asked for, and this is not a terminal"),
                "give the value with --set NAME=VALUE or by the environment variable that the spec names",
            ));
        }
        let question = question.to_owned();
        let asked = tokio::task::spawn_blocking(move || {
            term.write_str(&format!("{question}: "))?;
            term.read_secure_line()
        });
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            ProviderError::new("nothing could be read from the terminal", "give the value with --set")
                .caused_by(error)
        };
        let value =
            asked.await.map_err(|error| failed(error.into()))?.map_err(|error| failed(error.into()))?;
        Ok(Some(Found { value, secret: true }))
    }
}
