//! Keeps secrets out of everything that is shown or kept.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// What stands in place of a secret.
const MASK: &str = "***";

/// Knows every secret that a spec resolved to and takes them out of any text.
#[derive(Clone, Default)]
pub struct Redactor {
    /// The longest first, so that a secret inside another does not spoil it.
    secrets: Vec<String>,
}

impl Redactor {
    /// Takes note of a secret and of the forms in which it travels: percent-encoded in URLs, escaped in JSON.
    pub fn add(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let encoded = percent_encoded(secret);
        let escaped = serde_json::Value::from(secret).to_string();
        let escaped = escaped.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned();
        let mut all: BTreeSet<String> = std::mem::take(&mut self.secrets).into_iter().collect();
        all.extend(
            [secret.to_owned(), encoded.to_lowercase(), encoded, escaped]
                .into_iter()
                .filter(|s| !s.is_empty()),
        );
        self.secrets = all.into_iter().collect();
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// The text without secrets: known ones and passwords in URLs.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let known = self.known(text);
        match mask_url_passwords(&known) {
            Cow::Borrowed(_) => known,
            Cow::Owned(masked) => Cow::Owned(masked),
        }
    }

    fn known<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.secrets.iter().any(|secret| text.contains(secret.as_str())) {
            return Cow::Borrowed(text);
        }
        let mut clean = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            if let Some(secret) = self.secrets.iter().find(|secret| rest.starts_with(secret.as_str())) {
                clean.push_str(MASK);
                rest = &rest[secret.len()..];
            } else {
                clean.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        Cow::Owned(clean)
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} forms)", self.secrets.len())
    }
}

/// Everything but unreserved characters of a URL as `%XX`.
fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// What `%XX` stands for; what is no such form stays.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where the passwords of the URLs in a text stand, as byte ranges. It would rather take too much than too
/// little: a password may hold characters that no URL should.
fn url_passwords(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(scheme) = text[from..].find("://") {
        let start = from + scheme + 3;
        let length =
            text[start..].find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>'));
        let end = length.map_or(text.len(), |length| start + length);
        let url = &text[start..end];
        let query = url.find('?').unwrap_or(url.len());
        let at = url[..query].rfind('@').or_else(|| url.rfind('@'));
        if let Some((at, colon)) = at.and_then(|at| Some((at, url[..at].find(':')?))) {
            found.push(start + colon + 1..start + at);
        }
        for parameter in ["?password=", "&password="] {
            if let Some(name) = url.find(parameter) {
                let value = name + parameter.len();
                let length = url[value..].find('&').unwrap_or(url.len() - value);
                found.push(start + value..start + value + length);
            }
        }
        from = end;
    }
    found.retain(|range| !range.is_empty());
    found.sort_by_key(|range| range.start);
    found
}

/// The passwords in the URLs of a text, as they are written and as they are meant.
pub(crate) fn passwords_in_urls(text: &str) -> Vec<String> {
    let ranges = url_passwords(text);
    ranges
        .into_iter()
        .flat_map(|range| [text[range.clone()].to_owned(), percent_decoded(&text[range])])
        .collect()
}

/// Masks the password of every URL in a text: `postgres://user:***@host/db`.
#[must_use]
pub fn mask_url_passwords(text: &str) -> Cow<'_, str> {
    let ranges = url_passwords(text);
    if ranges.iter().all(|range| &text[range.clone()] == MASK) {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut from = 0;
    for range in ranges {
        masked.push_str(text.get(from..range.start).unwrap_or_default());
        masked.push_str(MASK);
        from = from.max(range.end);
    }
    masked.push_str(text.get(from..).unwrap_or_default());
    Cow::Owned(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_secrets_go_first_and_encoded_forms_go_too() {
        let mut redactor = Redactor::default();
        redactor.add("pass");
        redactor.add("pass/word\"1");
        assert_eq!(redactor.redact("pass/word\"1 pass passage"), "*** *** ***age");
        assert_eq!(redactor.redact("x=pass%2Fword%221 pass%2fword%221"), "x=*** ***");
        assert_eq!(redactor.redact(r#"{"p":"pass/word\"1"}"#), r#"{"p":"***"}"#);
        assert_eq!(redactor.redact("nothing here"), "nothing here");
        assert!(!format!("{redactor:?}").contains("pass"));
    }

    #[test]
    fn an_empty_secret_hides_nothing_and_a_short_one_does() {
        let mut redactor = Redactor::default();
        redactor.add("");
        assert_eq!(redactor.redact("abc"), "abc");
        redactor.add("b");
        assert_eq!(redactor.redact("abc"), "a***c");
    }

    #[test]
    fn passwords_of_urls_are_masked_in_any_text() {
        for (text, masked) in [
            ("postgres://u:pw@h:5432/db", "postgres://u:***@h:5432/db"),
            (
                "cannot reach `postgres://u:p@w/x@h/db?a=1`, twice postgres://v:q@h",
                "cannot reach `postgres://u:***@h/db?a=1`, twice postgres://v:***@h",
            ),
            ("postgres://h/db?user=u&password=pw&x=1", "postgres://h/db?user=u&password=***&x=1"),
            ("postgres://u@h:5432/db", "postgres://u@h:5432/db"),
            ("postgres://u:p?w@h/db", "postgres://u:***@h/db"),
            ("http://localhost:8000", "http://localhost:8000"),
        ] {
            assert_eq!(mask_url_passwords(text), masked);
            assert_eq!(mask_url_passwords(masked), masked);
        }
    }

    #[test]
    fn passwords_are_known_as_written_and_as_meant() {
        assert_eq!(passwords_in_urls("postgres://u:a%40b@h"), ["a%40b", "a@b"]);
    }
}
