//! What the spec says of a PostgreSQL store, with libpq's defaults from the environment.

use serde_json::{Map, Value};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

mod certificates;
mod passfile;
mod url;

/// How long connecting may take in all: name, socket, TLS and login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for an embedded server, which starts when somebody connects, and after a kill recovers first: a busy machine
/// can make that long.
const EMBEDDED_CONNECT_TIMEOUT: Duration = Duration::from_mins(5);
const DEFAULT_PORT: u16 = 5432;
/// Where servers keep their sockets when no host is named, in libpq's usual builds.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
const KEYS: [&str; 13] = [
    "host",
    "port",
    "user",
    "password",
    "database",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "connect_timeout",
    "application_name",
    "options",
    "foreign_keys",
];

/// Why a configuration cannot be used. Never holds a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    message: String,
}

impl ConfigError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name or address, for TCP.
    Tcp(String),
    /// The folder of a unix socket.
    Unix(PathBuf),
}

/// How much TLS is asked for, with libpq's meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Plain first, TLS where the server refuses that.
    Allow,
    /// TLS first, plain where the server refuses that. The certificate is not looked at.
    Prefer,
    /// TLS; the certificate is looked at only where `sslrootcert` is given.
    Require,
    /// TLS, and the certificate has a known root.
    VerifyCa,
    /// TLS, and the certificate has a known root and the host's name.
    VerifyFull,
}

/// What becomes of the foreign keys of a table that is there, while it is filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForeignKeys {
    /// They stay in force: a record that refers to nothing is a reject when it comes.
    #[default]
    Kept,
    /// They are taken off a table that is empty, and made again behind the load, as those of new tables are: a record
    /// that refers to nothing then is taken out, and a reject.
    AfterLoad,
}

/// Text that cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// A client's certificate, and the key that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// A PEM file: the certificate, and those between it and its root behind it.
    pub certificate: PathBuf,
    /// A PEM file: the private key, not encrypted.
    pub key: PathBuf,
}

/// How a PostgreSQL database is reached. `Display` is a URL without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    /// Where the server listens.
    pub host: Host,
    /// The port, also of a unix socket.
    pub port: u16,
    /// The role.
    pub user: String,
    /// The password, where one is known.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// How much TLS is asked for.
    pub ssl_mode: SslMode,
    /// A PEM file of root certificates; `None`: those of the machine.
    pub ssl_root_cert: Option<PathBuf>,
    /// What the client shows of itself where the server asks for a certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// How long connecting may take in all.
    pub connect_timeout: Duration,
    /// What the server shows for our sessions.
    pub application_name: String,
    /// Command-line options for the server process of a session.
    pub options: Option<String>,
    /// What becomes of the foreign keys of tables that are there.
    pub foreign_keys: ForeignKeys,
    /// The server takes one connection at a time and does not survive one that is cut: one connection is
    /// kept for all work, drained and closed in order.
    pub single_connection: bool,
    /// What plans and summaries call it in place of its address.
    pub shown_as: Option<String>,
}

impl PostgresConfig {
    /// The same for a server that is embedded in a process: it takes one connection, and time to start.
    #[must_use]
    pub fn embedded(self) -> Self {
        Self { single_connection: true, connect_timeout: EMBEDDED_CONNECT_TIMEOUT, ..self }
    }

    /// Reads what the spec holds below `postgres:`, a URL or a map. What is missing comes from libpq's
    /// variables (`PGHOST`, `PGPASSWORD`, …), its password file, and its certificates in the home folder.
    ///
    /// # Errors
    /// An unknown key, a value of a wrong type, or a URL that cannot be read.
    pub fn from_value(value: &Value) -> Result<Self, ConfigError> {
        Self::from_value_with(value, &|name| std::env::var(name).ok().filter(|text| !text.is_empty()))
    }

    fn from_value_with(value: &Value, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let given = match value {
            Value::String(text) => url::parse(text)?,
            Value::Object(map) => from_map(map)?,
            _ => {
                return Err(ConfigError::new("`postgres` is a URL (postgres://user@host/database) or a map"));
            }
        };
        given.resolve(env)
    }
}

impl fmt::Display for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(shown_as) = &self.shown_as {
            return f.write_str(shown_as);
        }
        match &self.host {
            Host::Tcp(host) if host.contains(':') => {
                write!(f, "postgres://[{host}]:{}/{}", self.port, self.database)
            }
            Host::Tcp(host) => write!(f, "postgres://{host}:{}/{}", self.port, self.database),
            Host::Unix(folder) => {
                write!(f, "postgres:///{}?host={}&port={}", self.database, folder.display(), self.port)
            }
        }
    }
}

/// What was written, before defaults.
#[derive(Debug, Default)]
struct Given {
    host: Option<String>,
    port: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    database: Option<String>,
    ssl_mode: Option<String>,
    ssl_root_cert: Option<String>,
    ssl_cert: Option<String>,
    ssl_key: Option<String>,
    connect_timeout: Option<String>,
    application_name: Option<String>,
    options: Option<String>,
    foreign_keys: Option<String>,
}

impl Given {
    /// Sets a value by its key; libpq's names are understood too.
    fn set(&mut self, key: &str, value: String) -> Result<(), ConfigError> {
        let place = match key {
            "host" | "hostaddr" => &mut self.host,
            "port" => &mut self.port,
            "user" => &mut self.user,
            "password" => {
                self.password = Some(Secret(value));
                return Ok(());
            }
            "database" | "dbname" => &mut self.database,
            "sslmode" => &mut self.ssl_mode,
            "sslrootcert" => &mut self.ssl_root_cert,
            "sslcert" => &mut self.ssl_cert,
            "sslkey" => &mut self.ssl_key,
            "connect_timeout" => &mut self.connect_timeout,
            "application_name" => &mut self.application_name,
            "options" => &mut self.options,
            "foreign_keys" => &mut self.foreign_keys,
            // Channel binding is used wherever the server offers it, and GSS encryption never.
            "channel_binding" | "gssencmode" => return Ok(()),
            _ => {
                let known = KEYS.join(", ");
                return Err(ConfigError::new(format!(
                    "unknown PostgreSQL setting `{key}`; known are {known}"
                )));
            }
        };
        *place = Some(value);
        Ok(())
    }

    fn resolve(self, env: &dyn Fn(&str) -> Option<String>) -> Result<PostgresConfig, ConfigError> {
        let port = self.port.or_else(|| env("PGPORT"));
        let port = port.map_or(Ok(DEFAULT_PORT), |text| number(&text, "port"))?;
        let host = self.host.filter(|host| !host.is_empty()).or_else(|| env("PGHOST"));
        let host = host.map_or_else(|| default_host(port), |text| host_of(&text))?;
        let user = self.user.or_else(|| env("PGUSER")).or_else(|| env("USER")).or_else(|| env("LOGNAME"));
        let user = user.ok_or_else(|| ConfigError::new("no PostgreSQL user: write `user`, or set PGUSER"))?;
        let database = self.database.filter(|name| !name.is_empty()).or_else(|| env("PGDATABASE"));
        let database = database.unwrap_or_else(|| user.clone());
        let ssl_mode = self.ssl_mode.or_else(|| env("PGSSLMODE"));
        let ssl_mode = ssl_mode.map_or(Ok(SslMode::Prefer), |text| ssl_mode_of(&text))?;
        let ssl_root_cert = certificates::root(env, self.ssl_root_cert.or_else(|| env("PGSSLROOTCERT")));
        let ssl_cert = self.ssl_cert.or_else(|| env("PGSSLCERT"));
        let client_certificate =
            certificates::of_client(env, ssl_cert, self.ssl_key.or_else(|| env("PGSSLKEY")))?;
        let connect_timeout = match self.connect_timeout.or_else(|| env("PGCONNECT_TIMEOUT")) {
            Some(text) => Duration::from_secs(u64::from(number::<u32>(&text, "connect_timeout")?.max(1))),
            None => CONNECT_TIMEOUT,
        };
        let foreign_keys = self.foreign_keys.map_or(Ok(ForeignKeys::Kept), |text| foreign_keys_of(&text))?;
        let password = self.password.filter(|password| !password.0.is_empty());
        let password = password.or_else(|| env("PGPASSWORD").map(Secret));
        let password = password.or_else(|| passfile::find(env, &host, port, &database, &user));
        Ok(PostgresConfig {
            host,
            port,
            user,
            password,
            database,
            ssl_mode,
            ssl_root_cert,
            client_certificate,
            connect_timeout,
            application_name: self
                .application_name
                .or_else(|| env("PGAPPNAME"))
                .unwrap_or_else(|| "whimbrel".to_owned()),
            options: self.options.or_else(|| env("PGOPTIONS")),
            foreign_keys,
            single_connection: false,
            shown_as: None,
        })
    }
}

fn from_map(map: &Map<String, Value>) -> Result<Given, ConfigError> {
    let mut given = Given::default();
    for (key, value) in map {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => {
                return Err(ConfigError::new(format!("`{key}` of a PostgreSQL store is a text or a number")));
            }
        };
        given.set(key, text)?;
    }
    // `host: db.example.org:5433` is common in environment files.
    if let Some((host, port)) = given.host.as_deref().and_then(split_port) {
        if given.port.as_ref().is_some_and(|given| *given != port) {
            return Err(ConfigError::new("`host` and `port` name different ports"));
        }
        (given.host, given.port) = (Some(host), Some(port));
    }
    Ok(given)
}

/// Splits `host:port` and `[v6]:port`; a lone IPv6 address has no port.
fn split_port(text: &str) -> Option<(String, String)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if host.starts_with('/') || (bare.is_none() && host.contains(':')) || port.is_empty() {
        return None;
    }
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| (bare.unwrap_or(host).to_owned(), port.to_owned()))
}

fn host_of(text: &str) -> Result<Host, ConfigError> {
    if text.contains(',') {
        return Err(ConfigError::new("a list of PostgreSQL hosts is not supported yet; name one"));
    }
    if text.starts_with('/') {
        return Ok(Host::Unix(PathBuf::from(text)));
    }
    Ok(Host::Tcp(text.trim_start_matches('[').trim_end_matches(']').to_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "stands beside `host_of` in one expression")]
fn default_host(port: u16) -> Result<Host, ConfigError> {
    let folders = SOCKET_FOLDERS.iter().map(PathBuf::from);
    let found = folders.into_iter().find(|folder| folder.join(format!(".s.PGSQL.{port}")).exists());
    Ok(found.map_or_else(|| Host::Tcp("localhost".to_owned()), Host::Unix))
}

fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, ConfigError> {
    text.trim()
        .parse()
        .map_err(|_| ConfigError::new(format!("`{what}` {text:?} is not a number in its range")))
}

fn ssl_mode_of(text: &str) -> Result<SslMode, ConfigError> {
    Ok(match text {
        "disable" => SslMode::Disable,
        "allow" => SslMode::Allow,
        "prefer" => SslMode::Prefer,
        "require" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-full" => SslMode::VerifyFull,
        _ => {
            return Err(ConfigError::new(format!(
                "`sslmode` {text:?} is none of disable, allow, prefer, require, verify-ca, verify-full"
            )));
        }
    })
}

fn foreign_keys_of(text: &str) -> Result<ForeignKeys, ConfigError> {
    match text {
        "kept" => Ok(ForeignKeys::Kept),
        "after_load" => Ok(ForeignKeys::AfterLoad),
        _ => Err(ConfigError::new(format!("`foreign_keys` {text:?} is none of kept, after_load"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value, env: &[(&str, &str)]) -> Result<PostgresConfig, ConfigError> {
        let find =
            |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        PostgresConfig::from_value_with(value, &find)
    }

    #[test]
    fn a_url_is_read_whole() {
        let url = "postgres://some%20one:p%40ss%2F@db.example.org:6543/my%20db?sslmode=verify-full&sslrootcert=/c.pem&connect_timeout=3&application_name=x&foreign_keys=after_load";
        let config = read(&json!(url), &[("PGHOST", "elsewhere")]).unwrap();
        assert_eq!(config.host, Host::Tcp("db.example.org".to_owned()));
        assert_eq!(
            (config.port, config.user.as_str(), config.database.as_str()),
            (6543, "some one", "my db")
        );
        assert_eq!(config.password, Some(Secret::new("p@ss/")));
        assert_eq!((config.ssl_mode, config.foreign_keys), (SslMode::VerifyFull, ForeignKeys::AfterLoad));
        assert_eq!(config.ssl_root_cert, Some(PathBuf::from("/c.pem")));
        assert_eq!(config.connect_timeout, Duration::from_secs(3));
        assert_eq!(config.to_string(), "postgres://db.example.org:6543/my db");
        assert!(!format!("{config:?}").contains("p@ss"));
    }

    #[test]
    fn hosts_of_every_kind() {
        let host = |url: &str| read(&json!(url), &[("PGUSER", "u")]).unwrap();
        assert_eq!(host("postgres://u@[::1]:7/d").host, Host::Tcp("::1".to_owned()));
        assert_eq!(host("postgres://u@[::1]:7/d").to_string(), "postgres://[::1]:7/d");
        assert_eq!(
            host("postgresql://u@/d?host=%2Frun%2Fpg&port=9").host,
            Host::Unix(PathBuf::from("/run/pg"))
        );
        assert_eq!(host("postgres://u@%2Frun%2Fpg/d").host, Host::Unix(PathBuf::from("/run/pg")));
        let map =
            read(&json!({ "host": "h:5433", "user": "u", "password": 7, "database": "d" }), &[]).unwrap();
        assert_eq!((map.host, map.port), (Host::Tcp("h".to_owned()), 5433));
        assert_eq!(map.password, Some(Secret::new("7")));
    }

    #[test]
    fn the_environment_fills_what_is_missing() {
        let env = [
            ("PGHOST", "h"),
            ("PGPORT", "1"),
            ("PGUSER", "u"),
            ("PGPASSWORD", "p"),
            ("PGSSLMODE", "require"),
            ("PGSSLCERT", "/a.crt"),
            ("PGSSLKEY", "/a.key"),
        ];
        let config = read(&json!({}), &env).unwrap();
        assert_eq!((config.host, config.port), (Host::Tcp("h".to_owned()), 1));
        assert_eq!((config.user.as_str(), config.database.as_str()), ("u", "u"));
        assert_eq!((config.password, config.ssl_mode), (Some(Secret::new("p")), SslMode::Require));
        let [certificate, key] = ["/a.crt", "/a.key"].map(PathBuf::from);
        assert_eq!(config.client_certificate, Some(ClientCertificate { certificate, key }));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let error = |value: Value| read(&value, &[("PGUSER", "u")]).unwrap_err().to_string();
        assert!(error(json!("postgres://h/d?sslmod=require")).contains("`sslmod`"));
        assert!(error(json!("postgres://h/d?sslmode=maybe")).contains("verify-full"));
        assert!(error(json!("postgres://h/d?foreign_keys=off")).contains("after_load"));
        assert!(error(json!("postgres://h:port/d")).contains("port"));
        assert!(error(json!("postgres://h/d?sslcert=a.crt")).contains("`sslkey`"));
        assert!(error(json!("postgres://h/d?sslkey=a.key")).contains("`sslcert`"));
        assert!(error(json!("mysql://h/d")).contains("postgres://"));
        assert!(error(json!({ "hosts": "h" })).contains("`hosts`"));
        assert!(error(json!({ "host": "h:1", "port": 2 })).contains("different ports"));
        assert!(!error(json!("postgres://u:secret@h:x/d")).contains("secret"));
        assert!(read(&json!("postgres://h/d"), &[]).unwrap_err().to_string().contains("PGUSER"));
    }
}
