//! Values that a spec looks up on AWS, as its text names them.

use super::{Drawn, Purpose};
use std::collections::BTreeSet;

impl Drawn<'_> {
    /// Values that the spec looks up; every command needs them.
    pub(super) fn values(&mut self, text: &str) {
        let region = self.placed.region.clone();
        for (provider, argument) in asked(text) {
            match provider {
                "ssm" => {
                    let name = argument.split(':').next().unwrap_or_default().trim_start_matches('/');
                    let arn = self.value("ssm", &region, &argument, &format!("parameter/{name}"));
                    self.allow("Parameters", &["ssm:GetParameter"], arn);
                }
                "secret" => {
                    let name = argument.split('#').next().unwrap_or_default();
                    // A secret's ARN ends with six characters of its own.
                    let arn = self.value("secretsmanager", &region, name, &format!("secret:{name}-??????"));
                    self.allow("Secrets", &["secretsmanager:GetSecretValue"], arn);
                }
                _ => {
                    let pool = argument.split('/').next().unwrap_or_default();
                    let arn = self.placed.arn("cognito-idp", &region, &format!("userpool/{pool}"));
                    self.allow("Users", &["cognito-idp:AdminGetUser"], arn.clone());
                    match self.purpose {
                        Purpose::Run if makes_users(text) => {
                            self.allow("MakeUsers", &["cognito-idp:AdminCreateUser"], arn);
                        }
                        Purpose::Clean if makes_users(text) => {
                            self.allow("RemoveUsers", &["cognito-idp:AdminDeleteUser"], arn);
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// The ARN of a value, which may be named by its ARN.
    fn value(&self, service: &str, region: &str, name: &str, rest: &str) -> String {
        if name.starts_with("arn:") { name.to_owned() } else { self.placed.arn(service, region, rest) }
    }
}

/// Whether the spec has users made that are not there.
fn makes_users(text: &str) -> bool {
    let mut places = text.match_indices("create:").map(|(at, word)| text[at + word.len()..].trim_start());
    text.contains("cognito:") && places.any(|rest| rest.starts_with("true"))
}

/// `${provider:argument}` of the providers on AWS. What stands for something else within an argument is any text.
pub(super) fn asked(text: &str) -> BTreeSet<(&'static str, String)> {
    let mut found = BTreeSet::new();
    for provider in ["ssm", "secret", "cognito"] {
        let opening = format!("${{{provider}:");
        for (at, _) in text.match_indices(&opening) {
            if text[..at].ends_with('$') {
                continue;
            }
            found.insert((provider, argument(&text[at + opening.len()..])));
        }
    }
    found
}

/// The argument of a reference, up to its end or its default.
fn argument(text: &str) -> String {
    let mut argument = String::new();
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        let rest = &text[at..];
        match c {
            '$' if rest.starts_with("${") => {
                depth += 1;
                if depth == 1 {
                    argument.push('*');
                }
            }
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ':' if depth == 0 && rest.starts_with(":-") => break,
            _ if depth == 0 => argument.push(c),
            _ => {}
        }
    }
    argument
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_in_the_spec_s_text() {
        let text = "a: ${ssm:/app/${stage:-x}/url:-none}, b: $${ssm:/no}, c: ${secret:db#password} ${env:X:-${cognito:pool/ann#sub}}";
        let found: Vec<_> = asked(text).into_iter().collect();
        let found: Vec<(&str, &str)> = found.iter().map(|(p, a)| (*p, a.as_str())).collect();
        assert_eq!(found, [("cognito", "pool/ann#sub"), ("secret", "db#password"), ("ssm", "/app/*/url")]);
    }

    #[test]
    fn users_are_made_where_the_spec_says_so() {
        assert!(makes_users("user: { default: x, cognito: { create: true, email: a@b } }"));
        assert!(!makes_users("user: ${cognito:pool/ann#sub}, cognito: { create: false }"));
    }
}
