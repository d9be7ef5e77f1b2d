//! Where a server is, and what lets us in.

use super::ConfigError;
use reqwest::Url;
use std::fmt;

/// A running server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    url: Url,
    /// What lets us in.
    pub login: Login,
}

/// What lets us into a server. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// Nothing: the server is open.
    Open,
    /// A token, which goes into `X-Chroma-Token` and, as a bearer's, into `Authorization`: servers look at either.
    Token(String),
    /// A user and a password, the basic authorization of HTTP.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

impl Login {
    /// Reads what the spec says.
    pub(super) fn of(
        token: Option<String>,
        user: Option<String>,
        password: Option<String>,
    ) -> Result<Self, ConfigError> {
        match (token, user, password) {
            (None, None, None) => Ok(Self::Open),
            (Some(token), None, None) => Ok(Self::Token(token)),
            (None, Some(user), password) => Ok(Self::Basic { user, password: password.unwrap_or_default() }),
            (Some(_), ..) => Err(ConfigError(
                "a Chroma server is entered by its `token`, or by `user` and `password`, not by both"
                    .to_owned(),
            )),
            (None, None, Some(_)) => {
                Err(ConfigError("the `password` of a Chroma server lacks its `user`".to_owned()))
            }
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Token(_) => "Token(***)",
            Self::Basic { .. } => "Basic(***)",
        })
    }
}

impl Address {
    /// Reads a URL such as `http://localhost:8000`; a path is one that a proxy has put in front.
    ///
    /// # Errors
    /// It is none of HTTP, or says more than where the server is. The message does not repeat it: it may hold a
    /// password.
    pub fn new(url: &str, login: Login) -> Result<Self, ConfigError> {
        let wrong = |what: &str| Err(ConfigError(format!("the `url` of a Chroma server {what}")));
        let Ok(url) = Url::parse(url) else { return wrong("is written `http://HOST:8000`") };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return wrong("is written `http://HOST:8000` or `https://HOST`");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong(
                "holds no user and no password: give them as `user` and `password`, or give a `token`",
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return wrong("ends with its path: give `tenant` and `database` as keys of their own");
        }
        Ok(Self { url, login })
    }

    /// The URL without a slash at its end; a port that goes without saying is left out.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// The URL below which the paths of the API begin.
    pub(crate) fn base(&self) -> &Url {
        &self.url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_has_one_url() {
        for text in ["HTTP://Chroma:80", "http://chroma/", "http://chroma"] {
            assert_eq!(Address::new(text, Login::Open).unwrap().url(), "http://chroma");
        }
        for wrong in
            ["http://me:secret@h", "http://me@h", "ftp://h", "h:8000", "http://h?tenant=x", "http://", ""]
        {
            let error = Address::new(wrong, Login::Open).unwrap_err().to_string();
            assert!(error.contains("`url`") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn there_is_one_way_in() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(Login::of(None, None, None).unwrap(), Login::Open);
        let basic = Login::Basic { user: "u".to_owned(), password: String::new() };
        assert_eq!(Login::of(None, some("u"), None).unwrap(), basic);
        assert!(Login::of(some("t"), some("u"), None).is_err());
        assert!(Login::of(None, None, some("p")).is_err());
    }
}
