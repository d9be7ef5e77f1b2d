//! The values of variables, each asked for when it is first needed.

use super::Choices;
use crate::elements::variables::Variable;
use crate::error::{Position, Result, SpecError, SpecErrorKind};
use crate::names::suggest;
use crate::provider::{Creation, Found, Provider, ProviderError, Providers};
use crate::redact::Redactor;
use crate::resolved::CreatedValue;
use crate::span::TextSpan;
use crate::spec::Spec;
use crate::template::{Part, Reference, Target, Template};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

/// What stands for a value that only a run makes: no record can have it, and a UUID's column takes it.
const NOT_MADE_YET: &str = "00000000-0000-0000-0000-000000000000";

/// Whom what is made for a variable belongs to, as it is written on it.
#[must_use]
pub fn owner(migration: &str, environment: Option<&str>) -> String {
    format!("{migration}/{}", environment.unwrap_or_default())
}

/// A text of the spec that is to be filled in, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) span: TextSpan,
    /// Whether a store is opened with it: an error then says how to try without one.
    pub(super) for_store: bool,
    /// The variable whose value it is.
    variable: Option<&'a str>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, span: TextSpan, for_store: bool) -> Self {
        Self { text, span, for_store, variable: None }
    }
}

pub(super) struct Values<'a> {
    spec: &'a Spec,
    environment: Option<String>,
    choices: &'a Choices,
    providers: &'a Providers,
    known: BTreeMap<String, String>,
    asked: BTreeMap<(String, String), Option<Found>>,
    pub(super) secrets: Redactor,
    /// The values that a run makes where they are not there.
    pub(super) creations: Vec<CreatedValue>,
}

type Answer<'b> = Pin<Box<dyn Future<Output = Result<String>> + Send + 'b>>;

impl<'a> Values<'a> {
    pub(super) fn new(
        spec: &'a Spec,
        environment: Option<String>,
        choices: &'a Choices,
        providers: &'a Providers,
    ) -> Result<Self> {
        let names = spec.variable_names();
        if let Some(name) = choices.set.keys().find(|name| !names.contains(&name.as_str())) {
            let message = format!("`--set {name}=…`: there is no variable `{name}`");
            let hint = suggest(name, "variables", names.iter().copied());
            return Err(SpecError::at(SpecErrorKind::Usage, None, message, hint));
        }
        let (known, asked) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self {
            spec,
            environment,
            choices,
            providers,
            known,
            asked,
            secrets: Redactor::default(),
            creations: Vec::new(),
        })
    }

    /// The text with every variable in it filled in.
    pub(super) async fn fill(&mut self, source: Source<'_>) -> Result<String> {
        let template = Template::parse(source.text).map_err(|error| {
            SpecError::invalid(source.span.at_byte(source.text, error.at), error.message, error.hint)
        })?;
        self.template(&template, source).await
    }

    fn template<'b>(&'b mut self, template: &'b Template, source: Source<'b>) -> Answer<'b> {
        Box::pin(async move {
            let mut filled = String::new();
            for part in &template.parts {
                match part {
                    Part::Text(text) => filled.push_str(text),
                    Part::Reference(reference) => filled.push_str(&self.reference(reference, source).await?),
                }
            }
            Ok(filled)
        })
    }

    async fn reference(&mut self, reference: &Reference, source: Source<'_>) -> Result<String> {
        let at = source.span.at_byte(source.text, reference.at);
        let value = match &reference.target {
            Target::Variable(name) => self.variable(name, at, source.for_store).await,
            Target::Provider { name, argument } => {
                let argument = self.template(argument, source).await?;
                self.ask(name, &argument, at, source).await
            }
        };
        match (&reference.default, value) {
            (Some(default), Ok(value)) if value.is_empty() => self.template(default, source).await,
            (Some(default), Err(error)) if error.kind() == SpecErrorKind::NoValue => {
                self.template(default, source).await
            }
            (_, value) => value,
        }
    }

    /// The value of a variable: `--set`, else the environment's, else the spec's own.
    pub(super) async fn variable(&mut self, name: &str, at: Position, for_store: bool) -> Result<String> {
        if let Some(value) = self.built_in(name, at) {
            return value;
        }
        if let Some(value) = self.known.get(name) {
            return Ok(value.clone());
        }
        let spec = self.spec;
        let declared = spec.document().variables.get(name);
        let (value, stands) = match self.choices.set.get(name) {
            Some(value) => (value.clone(), None),
            None => {
                let Some((text, span)) = self.written(name) else {
                    return Err(self.without_value(name, at));
                };
                let source = Source { text: &text, span, for_store, variable: Some(name) };
                (Box::pin(self.fill(source)).await?, Some(span.start))
            }
        };
        if let Some(oneof) = declared.and_then(Variable::oneof) {
            let allowed = oneof.iter().map(|value| value.0.as_str());
            if allowed.clone().all(|allowed| allowed != value) {
                let secret = declared.is_some_and(Variable::is_secret);
                let shown = if secret { "***" } else { value.as_str() };
                let kind = if stands.is_some() { SpecErrorKind::Invalid } else { SpecErrorKind::Usage };
                let message = format!("`{name}` cannot be `{}`", crate::check::shorten(shown));
                return Err(SpecError::at(kind, stands, message, suggest(&value, "allowed values", allowed)));
            }
        }
        if declared.is_some_and(Variable::is_secret) {
            self.secrets.add(&value);
        }
        self.known.insert(name.to_owned(), value.clone());
        Ok(value)
    }

    /// What the spec writes for a variable in the chosen environment.
    fn written(&self, name: &str) -> Option<(String, TextSpan)> {
        let document = self.spec.document();
        let environment = self.environment.as_deref();
        let overriding = environment.and_then(|environment| {
            let value = document.environments.get(environment)?.variables.get(name)?;
            Some((value, vec!["environments", environment, "variables", name]))
        });
        let (value, path) = match overriding {
            Some(found) => found,
            None => match document.variables.get(name)? {
                Variable::Value(value) => (value, vec!["variables", name]),
                Variable::Declared(declaration) => {
                    (declaration.default.as_ref()?, vec!["variables", name, "default"])
                }
            },
        };
        Some((value.0.clone(), self.spec.tree.find(&path)?.span()))
    }

    fn built_in(&self, name: &str, at: Position) -> Option<Result<String>> {
        let (value, why) = match name {
            "environment" => (&self.environment, "the spec has no environments"),
            "run_id" => (&self.choices.run_id, "it is known in a run only"),
            "run_started" => (&self.choices.run_started, "it is known in a run only"),
            "working_folder" => (&self.choices.working_folder, "it is known to the program only"),
            _ => return None,
        };
        Some(value.clone().ok_or_else(|| {
            let message = format!("`{name}` has no value: {why}");
            SpecError::at(SpecErrorKind::NoValue, at, message, format!("give it a default: `${{{name}:-…}}`"))
        }))
    }

    fn without_value(&self, name: &str, at: Position) -> SpecError {
        let document = self.spec.document();
        let elsewhere =
            document.environments.iter().find(|(_, content)| content.variables.contains_key(name));
        let message = match (&self.environment, elsewhere) {
            (Some(environment), Some(_)) => {
                format!("`{name}` has no value in the environment `{environment}`")
            }
            _ => format!("the variable `{name}` has no value"),
        };
        let hint = match elsewhere {
            Some((other, _)) if !document.variables.contains_key(name) => {
                format!("give it one as `{other}` does, or with `--set {name}=…`")
            }
            _ => format!("give it one with `--set {name}=…`, or a default in the spec"),
        };
        SpecError::at(SpecErrorKind::NoValue, at, message, hint)
    }

    async fn ask(
        &mut self,
        provider: &str,
        argument: &str,
        at: Position,
        source: Source<'_>,
    ) -> Result<String> {
        let question = (provider.to_owned(), argument.to_owned());
        if !self.asked.contains_key(&question) {
            let providers = self.providers;
            let Some(asked) = providers.get(provider) else {
                let message = format!("the provider `{provider}` cannot be asked here");
                let hint = self.by_hand(source, "give the value in another way");
                return Err(SpecError::at(SpecErrorKind::Provider, at, message, hint));
            };
            let found = self.look_up_or_create(asked, argument, source).await.map_err(|error| {
                let kind = if error.absent { SpecErrorKind::NoValue } else { SpecErrorKind::Provider };
                SpecError::at(kind, at, error.message.clone(), error.hint.clone()).caused_by(error)
            })?;
            if let Some(found) = found.as_ref().filter(|found| found.secret) {
                self.secrets.add(&found.value);
            }
            self.asked.insert(question.clone(), found);
        }
        match self.asked.get(&question) {
            Some(Some(found)) => Ok(found.value.clone()),
            _ => Err(self.nothing_found(provider, argument, at, source)),
        }
    }

    /// A value that is not there is made only by a run, and only where the variable says so. A preview goes on
    /// with a value that nothing has.
    async fn look_up_or_create(
        &mut self,
        provider: &dyn Provider,
        argument: &str,
        source: Source<'_>,
    ) -> std::result::Result<Option<Found>, ProviderError> {
        let found = provider.lookup(argument).await?;
        let Some(creation) = self.creation(provider, source) else {
            return Ok(found);
        };
        self.creations.push(CreatedValue {
            provider: provider.name(),
            argument: argument.to_owned(),
            owner: creation.owner.clone(),
            existed: found.is_some(),
        });
        if found.is_some() {
            return Ok(found);
        }
        if self.choices.preview {
            return Ok(Some(Found { value: NOT_MADE_YET.to_owned(), secret: false }));
        }
        match self.choices.run_id {
            Some(_) => provider.create(argument, &creation).await,
            None => Ok(None),
        }
    }

    /// How the value of the variable in hand is made, where its spec says that it is to be made.
    fn creation(&self, provider: &dyn Provider, source: Source<'_>) -> Option<Creation> {
        let document = self.spec.document();
        let wanted = document.variables.get(source.variable?)?.creation()?;
        (provider.name() == "cognito").then(|| Creation {
            email: wanted.email.as_ref().map(|email| email.0.clone()),
            owner: owner(&document.migration, self.environment.as_deref()),
        })
    }

    fn nothing_found(&self, provider: &str, argument: &str, at: Position, source: Source<'_>) -> SpecError {
        let (message, first) = match provider {
            "env" => (
                format!("the environment variable `{argument}` is not set"),
                format!("set it: `export {argument}=…`"),
            ),
            "file" => (format!("there is no file `{argument}`"), "paths are relative to the spec".to_owned()),
            "cognito" => (
                format!("there is no Cognito user `{argument}`"),
                "make it, let `run` make it (`cognito: { create: true }` at the variable)".to_owned(),
            ),
            _ => (format!("`{provider}` has no value for `{argument}`"), "check the argument".to_owned()),
        };
        let mut hint = self.by_hand(source, &first);
        if let Some(environment) = self.spec.embedded_environment().filter(|_| source.for_store)
            && self.environment.as_ref() != Some(&environment)
        {
            hint.push_str(&format!("; to try it without any server: `--env {environment}`"));
        }
        SpecError::at(SpecErrorKind::NoValue, at, message, hint)
    }

    fn by_hand(&self, source: Source<'_>, first: &str) -> String {
        match source.variable {
            Some(name) => format!("{first}, or give `--set {name}=…`"),
            None => first.to_owned(),
        }
    }
}
