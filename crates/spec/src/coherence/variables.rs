//! Variables: every name exists, every provider is known, none needs itself, and embedded stores are nobody's
//! silent default.

use super::Findings;
use crate::check::{SqlAt, TemplateAt, Texts, shorten};
use crate::elements::variables::Variable;
use crate::names::suggest;
use crate::provider::{BUILT_IN, PROVIDERS};
use crate::span::TextSpan;
use crate::spec::Spec;
use crate::sql::{self, Finding};
use crate::template::{Part, Target, Template};
use std::collections::BTreeMap;

pub(super) fn check(spec: &Spec, texts: &Texts, findings: &mut Findings) {
    declarations(spec, findings);
    environments(spec, findings);
    for at in &texts.templates {
        references(spec, at, findings);
        silent_default(at, findings);
    }
    for at in &texts.sql {
        parameters(spec, at, findings);
    }
    circles(spec, &texts.templates, findings);
}

fn known(spec: &Spec) -> impl Iterator<Item = &str> + Clone {
    let own: Vec<&str> = spec.variable_names();
    own.into_iter().chain(BUILT_IN.iter().copied())
}

fn declarations(spec: &Spec, findings: &mut Findings) {
    let document = spec.document();
    for (name, variable) in &document.variables {
        built_in(spec, &["variables", name], findings);
        let Some(oneof) = variable.oneof() else { continue };
        let shown = |value: &str| if variable.is_secret() { "***".to_owned() } else { shorten(value) };
        let allowed = oneof.iter().map(|value| value.0.as_str());
        if let (Variable::Declared(_), Some(default)) = (variable, variable.default())
            && !default.0.contains("${")
            && !oneof.contains(default)
        {
            let at = spec.position(&["variables", name, "default"]);
            let message = format!("`{name}` cannot be `{}`", shown(&default.0));
            findings.add(at, message, suggest(&default.0, "allowed values", allowed.clone()));
        }
        for (environment, content) in &document.environments {
            let Some(value) = content.variables.get(name) else { continue };
            if !value.0.contains("${") && !oneof.contains(value) {
                let at = spec.position(&["environments", environment, "variables", name]);
                let message = format!("`{name}` cannot be `{}`", shown(&value.0));
                findings.add(at, message, suggest(&value.0, "allowed values", allowed.clone()));
            }
        }
    }
}

fn built_in(spec: &Spec, path: &[&str], findings: &mut Findings) {
    if let Some(name) = path.last().filter(|name| BUILT_IN.contains(name)) {
        let message = format!("`{name}` is a variable that whimbrel gives itself");
        findings.add(spec.key_position(path), message, format!("choose another name, `my_{name}`"));
    }
}

fn environments(spec: &Spec, findings: &mut Findings) {
    let environments = spec.environments();
    let mut defaults = environments.iter().filter(|environment| environment.default);
    if let (Some(first), Some(second)) = (defaults.next(), defaults.next()) {
        let at = spec.key_position(&["environments", &second.name, "default"]);
        let message = format!("`{}` and `{}` are both the default environment", first.name, second.name);
        findings.add(at, message, "keep `default: true` in one of them");
    }
    for environment in &environments {
        let Some(content) = spec.document().environments.get(&environment.name) else { continue };
        let stores = || spec.document().stores.keys().map(String::as_str);
        for (store, _) in content.guards.iter().filter(|(store, _)| stores().all(|known| known != *store)) {
            let at = spec.key_position(&["environments", &environment.name, "guards", store]);
            let hint = suggest(store, "stores", stores());
            findings.add(at, format!("there is no store `{store}` to be guarded"), hint);
        }
        for name in content.variables.keys() {
            built_in(spec, &["environments", &environment.name, "variables", name], findings);
        }
    }
}

fn references(spec: &Spec, at: &TemplateAt, findings: &mut Findings) {
    for reference in at.template.references() {
        let place = at.span.at_byte(&at.text, reference.at);
        match &reference.target {
            Target::Variable(name) => {
                if known(spec).all(|known| known != name) {
                    let message = format!("there is no variable `{name}`");
                    let hint = match PROVIDERS.iter().find(|provider| *provider == name) {
                        Some(provider) => format!("a provider needs an argument: `${{{provider}:…}}`"),
                        None => suggest(name, "variables", known(spec)),
                    };
                    findings.add(place, message, hint);
                }
            }
            Target::Provider { name, .. } if PROVIDERS.contains(&name.as_str()) => {}
            Target::Provider { name, .. } => {
                let message = format!("there is no provider `{name}`");
                findings.add(place, message, suggest(name, "providers", PROVIDERS.iter().copied()));
            }
        }
    }
}

/// Embedded stores come from an environment that names them, or stand in a store itself: never from a default.
fn silent_default(at: &TemplateAt, findings: &mut Findings) {
    let path: Vec<&str> = at.path.iter().map(String::as_str).collect();
    if path.first() == Some(&"environments") {
        return;
    }
    let begins = |template: &Template| matches!(template.parts.first(), Some(Part::Text(text)) if text.starts_with("embedded:"));
    let is_default = path.first() == Some(&"variables") && !path.contains(&"oneof") && begins(&at.template);
    let nested =
        at.template.references().into_iter().find(|reference| reference.default.as_ref().is_some_and(begins));
    let byte = nested.map(|reference| reference.at).or(is_default.then_some(0));
    if let Some(byte) = byte {
        findings.add(
            at.span.at_byte(&at.text, byte),
            "an embedded store is never a silent default",
            "name it in an environment: `environments: { demo: { variables: { … } } }`",
        );
    }
}

fn parameters(spec: &Spec, at: &SqlAt, findings: &mut Findings) {
    for finding in sql::scan(&at.text) {
        let place = |byte| at.span.at_byte(&at.text, byte);
        match finding {
            Finding::Named { name, at: byte } if at.names_tables => {
                if known(spec).all(|known| known != name) {
                    let message = format!("there is no variable `{name}` for the table `\"${{{name}}}\"`");
                    findings.add(place(byte), message, suggest(name, "variables", known(spec)));
                }
            }
            Finding::Spliced { at: byte } if at.names_tables => {
                let hint = "a value is `$name`, bound and never pasted in; a table's name is `\"${name}\"`, alone \
                            in double quotes";
                findings.add(place(byte), "`${…}` has no place in SQL", hint);
            }
            Finding::Spliced { at: byte } | Finding::Named { at: byte, .. } => {
                let name = at
                    .text
                    .get(byte + 2..)
                    .and_then(|rest| rest.split(['}', ':']).next())
                    .unwrap_or_default();
                let hint = if name.is_empty() || name.contains(char::is_whitespace) {
                    "write `$name`: the value is bound, never pasted in".to_owned()
                } else {
                    format!("write `${name}`: the value is bound, never pasted in")
                };
                findings.add(place(byte), "`${…}` has no place in SQL", hint);
            }
            Finding::Numbered { at: byte } => {
                findings.add(
                    place(byte),
                    "parameters in SQL have names, not numbers",
                    "write `$name` of a variable",
                );
            }
            Finding::Parameter { name, at: byte } => {
                if known(spec).all(|known| known != name) {
                    let message = format!("there is no variable `{name}` for the parameter `${name}`");
                    findings.add(place(byte), message, suggest(name, "variables", known(spec)));
                }
            }
        }
    }
}

/// A variable's references, where its value stands.
type Graph<'a> = BTreeMap<&'a str, (Vec<&'a str>, TextSpan)>;

fn circles(spec: &Spec, templates: &[TemplateAt], findings: &mut Findings) {
    let graph = |scope: &[&str]| {
        let inside = templates.iter().filter(|at| {
            at.path.len() > scope.len()
                && at.path.iter().zip(scope).all(|(step, scope)| step == scope)
                && !at.path.iter().skip(scope.len() + 1).any(|step| step == "oneof")
        });
        inside
            .map(|at| {
                let references =
                    at.template.references().into_iter().filter_map(|reference| match &reference.target {
                        Target::Variable(name) => Some(name.as_str()),
                        Target::Provider { .. } => None,
                    });
                (at.path[scope.len()].as_str(), (references.collect(), at.span))
            })
            .collect::<Graph<'_>>()
    };
    let base = graph(&["variables"]);
    let names: Vec<String> = spec.environments().into_iter().map(|environment| environment.name).collect();
    let mut graphs = vec![base.clone()];
    for name in &names {
        let mut overridden = base.clone();
        overridden.extend(graph(&["environments", name, "variables"]));
        graphs.push(overridden);
    }
    for graph in &graphs {
        for (name, (_, span)) in graph {
            if let Some(way) = way_back(graph, name) {
                let way = way.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" → ");
                findings.add(
                    span.start,
                    format!("the variable `{name}` needs itself: {way}"),
                    "give one of them a value of its own",
                );
            }
        }
    }
}

/// The shortest way from a variable back to itself.
fn way_back<'a>(graph: &Graph<'a>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut ways = std::collections::VecDeque::from([vec![start]]);
    let mut seen = std::collections::BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let (next, _) = way.last().and_then(|last| graph.get(last))?.clone();
        for name in next {
            let mut longer = way.clone();
            longer.push(name);
            if name == start {
                return Some(longer);
            }
            if graph.contains_key(name) && seen.insert(name) {
                ways.push_back(longer);
            }
        }
    }
    None
}
