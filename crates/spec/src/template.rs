//! Texts with variables in them: `${name}`, `${provider:argument}`, `:-default` on any, nested freely.
//! `$${` stands for `${` itself.

/// The deepest nesting of references.
const DEEPEST: usize = 32;

/// A text with references to variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    Reference(Box<Reference>),
}

/// One `${…}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The byte of the text at which its `$` stands.
    pub(crate) at: usize,
    pub(crate) target: Target,
    /// What it stands for when the target is unset or empty.
    pub(crate) default: Option<Template>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Variable(String),
    Provider { name: String, argument: Template },
}

/// Why a text is no template.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TemplateError {
    /// The byte at which it goes wrong.
    pub(crate) at: usize,
    pub(crate) message: String,
    pub(crate) hint: &'static str,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parser = Parser { text, at: 0, depth: 0 };
        parser.template(&[])
    }

    /// Every reference in it, the nested ones included.
    pub(crate) fn references(&self) -> Vec<&Reference> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
    }

    fn collect<'a>(&'a self, found: &mut Vec<&'a Reference>) {
        for part in &self.parts {
            let Part::Reference(reference) = part else { continue };
            found.push(reference);
            if let Target::Provider { argument, .. } = &reference.target {
                argument.collect(found);
            }
            if let Some(default) = &reference.default {
                default.collect(found);
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Reads until one of the ends stands at this level, or to the end of the text.
    fn template(&mut self, ends: &[&str]) -> Result<Template, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        while let Some(next) = self.rest().chars().next() {
            if ends.iter().any(|end| self.rest().starts_with(end)) {
                break;
            }
            if self.rest().starts_with("$${") {
                literal.push_str("${");
                self.at += 3;
            } else if self.rest().starts_with("${") {
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Reference(Box::new(self.reference()?)));
            } else {
                literal.push(next);
                self.at += next.len_utf8();
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Template { parts })
    }

    fn reference(&mut self) -> Result<Reference, TemplateError> {
        let at = self.at;
        self.depth += 1;
        if self.depth > DEEPEST {
            let message = format!("`${{…}}` is nested deeper than {DEEPEST} levels");
            return Err(TemplateError { at, message, hint: "give a part of it a name under `variables`" });
        }
        self.at += 2;
        let target = self.target(at)?;
        let default = if self.rest().starts_with(":-") {
            self.at += 2;
            Some(self.template(&["}"])?)
        } else {
            None
        };
        if !self.rest().starts_with('}') {
            return Err(TemplateError {
                at,
                message: "`${` is not closed".to_owned(),
                hint: "close it with `}`; `$${` stands for `${` itself",
            });
        }
        self.at += 1;
        self.depth -= 1;
        Ok(Reference { at, target, default })
    }

    fn target(&mut self, at: usize) -> Result<Target, TemplateError> {
        let end = self.rest().find([':', '}', '$']).unwrap_or(self.rest().len());
        let name = self.rest()[..end].to_owned();
        let well_formed =
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let closed = self.rest()[end..].starts_with([':', '}']);
        if closed && !well_formed {
            return Err(TemplateError {
                at,
                message: format!("`${{{name}` names no variable"),
                hint: "write `${name}`, `${provider:argument}` or `${name:-default}`",
            });
        }
        self.at += end;
        let is_provider = self.rest().starts_with(':') && !self.rest().starts_with(":-");
        if !is_provider {
            return Ok(Target::Variable(name));
        }
        self.at += 1;
        let argument = self.template(&[":-", "}"])?;
        Ok(Target::Provider { name, argument })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(template: &Template) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => format!("'{text}'"),
            Part::Reference(reference) => {
                let target = match &reference.target {
                    Target::Variable(name) => name.clone(),
                    Target::Provider { name, argument } => format!("{name}({})", show(argument)),
                };
                let default = reference.default.as_ref().map(|default| format!(" or [{}]", show(default)));
                format!("<{target}{}>", default.unwrap_or_default())
            }
        };
        template.parts.iter().map(part).collect::<Vec<_>>().join("+")
    }

    fn parsed(text: &str) -> String {
        Template::parse(text).map_or_else(|error| format!("{}: {}", error.at, error.message), |t| show(&t))
    }

    #[test]
    fn references_defaults_and_nesting() {
        assert_eq!(parsed("plain $5 and }"), "'plain $5 and }'");
        assert_eq!(parsed("a${b}c"), "'a'+<b>+'c'");
        assert_eq!(parsed("${env:A:-}"), "<env('A') or []>");
        assert_eq!(
            parsed("${env:PG${x}:-${prompt:Pass word}}"),
            "<env('PG'+<x>) or [<prompt('Pass word')>]>"
        );
        assert_eq!(parsed("${file:/a/b:c}"), "<file('/a/b:c')>");
        assert_eq!(parsed("$${not} ${yes:-$${}"), "'${not} '+<yes or ['${']>");
    }

    #[test]
    fn mistakes_are_found_where_they_begin() {
        assert_eq!(parsed("ab${c"), "2: `${` is not closed");
        assert_eq!(parsed("${a:-${b}"), "0: `${` is not closed");
        assert_eq!(parsed("${}"), "0: `${` names no variable");
        assert_eq!(parsed("${a b}"), "0: `${a b` names no variable");
        assert_eq!(parsed(&"${a:-".repeat(40)), "160: `${…}` is nested deeper than 32 levels");
    }
}
