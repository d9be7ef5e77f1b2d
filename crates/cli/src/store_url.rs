//! One URL grammar for whatever holds records: `postgres://…?table=`, `dynamodb://TABLE?region=`, a path, `-`.

use std::fmt;

/// What a URL names: a store, and in it a table, a collection or a file.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// A table of PostgreSQL.
    Postgres {
        /// The database.
        database: Database,
        /// The table, with its schema where it has one; `None`: the whole database.
        table: Option<String>,
    },
    /// A table of DynamoDB.
    DynamoDb {
        /// The table.
        table: String,
        /// The region, where it is said.
        region: Option<String>,
        /// The URL of another service, or `embedded:PATH`.
        endpoint: Option<String>,
        /// The profile of the AWS configuration.
        profile: Option<String>,
    },
    /// A table of a SQLite file.
    Sqlite {
        /// The file.
        path: String,
        /// The table; `None`: the whole database.
        table: Option<String>,
    },
    /// A collection of a Chroma folder or server.
    Chroma {
        /// The folder, or the server's URL.
        path: String,
        /// The collection.
        collection: String,
    },
    /// A file, a folder of files, or an export of a DynamoDB table.
    File {
        /// The folder that it lies in, or the beginning of a URL.
        root: String,
        /// Its name there.
        name: String,
        /// The URL of another S3 service than AWS's own.
        endpoint: Option<String>,
        /// The region of the bucket.
        region: Option<String>,
    },
    /// Standard input or output.
    Standard,
}

/// How a PostgreSQL database is reached.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A URL without a password, or `embedded:PATH`.
    Url(String),
    /// A URL that held a password, in parts.
    Parts {
        /// The parts by the names that the spec has for them.
        parts: Vec<(String, String)>,
        /// The password.
        password: Password,
    },
}

impl Database {
    /// Whether a parameter of the URL has this value.
    #[must_use]
    pub fn says(&self, name: &str, value: &str) -> bool {
        let is_it = |(its_name, its_value): (&str, &str)| its_name == name && its_value == value;
        match self {
            Self::Url(url) => {
                let query = url.split_once('?').map_or("", |(_, query)| query);
                query.split('&').filter_map(|pair| pair.split_once('=')).any(is_it)
            }
            Self::Parts { parts, .. } => {
                parts.iter().map(|(name, value)| (name.as_str(), value.as_str())).any(is_it)
            }
        }
    }

    /// The database's name, for people; where the URL does not say it, `postgres`.
    #[must_use]
    pub fn name(&self) -> &str {
        let named = match self {
            Self::Url(url) => {
                let address = url.split(['?']).next().unwrap_or_default();
                address.rsplit_once("://").map_or_else(
                    || std::path::Path::new(address.trim_start_matches("embedded:")).file_stem()?.to_str(),
                    |(_, address)| address.split_once('/').map(|(_, name)| name),
                )
            }
            Self::Parts { parts, .. } => {
                parts.iter().find(|(name, _)| name == "database").map(|(_, value)| value.as_str())
            }
        };
        named.filter(|name| !name.is_empty()).unwrap_or("postgres")
    }
}

/// A password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// Why a text names nothing, without the text itself: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongUrl {
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub hint: String,
}

type Result<T> = std::result::Result<T, WrongUrl>;

fn wrong<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T> {
    Err(WrongUrl { message: message.into(), hint: hint.into() })
}

const POSTGRES: &str = "`postgres://user@host:5432/db?table=users`";
const DYNAMODB: &str = "`dynamodb://TABLE?region=eu-west-1`";

impl Place {
    /// Reads a URL, a path or `-`.
    ///
    /// # Errors
    /// It names no place, or says something of it that nobody knows.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text == "-" {
            return Ok(Self::Standard);
        }
        if text.is_empty() {
            return wrong("the place is empty", format!("write {POSTGRES}, {DYNAMODB}, a path, or `-`"));
        }
        let server = text.strip_prefix("chroma:").or_else(|| text.strip_prefix("chroma+"));
        if let Some(server) =
            server.filter(|text| text.starts_with("http://") || text.starts_with("https://"))
        {
            return chroma_server(server);
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme.to_ascii_lowercase().as_str() {
                "postgres" | "postgresql" => postgres(rest),
                "dynamodb" => dynamodb(rest),
                "s3" | "gs" | "az" | "abfs" | "abfss" | "http" | "https" => object(scheme, rest),
                "file" => file(rest),
                "sqlite" => sqlite(rest),
                "chroma" => chroma(rest),
                _ => wrong(
                    "the URL's scheme is none that whimbrel knows",
                    "known are postgres, dynamodb, sqlite, chroma, s3, gs, az and paths of files",
                ),
            };
        }
        match text.split_once(':') {
            Some(("embedded", rest)) => embedded(rest),
            Some(("sqlite", rest)) => sqlite(rest),
            Some(("chroma", rest)) => chroma(rest),
            Some(("postgres" | "postgresql", _)) => {
                wrong("a PostgreSQL URL has two slashes behind its scheme", format!("write {POSTGRES}"))
            }
            Some(("dynamodb", _)) => {
                wrong("a DynamoDB URL has two slashes behind its scheme", format!("write {DYNAMODB}"))
            }
            _ => file(text),
        }
    }

    /// Whether it is a database that holds tables, and none is named.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::Postgres { table: None, .. } | Self::Sqlite { table: None, .. })
    }

    /// The place of a table in a database.
    #[must_use]
    pub fn of_table(self, name: &str) -> Self {
        let table = Some(name.to_owned());
        match self {
            Self::Postgres { database, .. } => Self::Postgres { database, table },
            Self::Sqlite { path, .. } => Self::Sqlite { path, table },
            other => other,
        }
    }

    /// The name of what is copied, for people: a table, a collection, a file; of a whole database the database's.
    #[must_use]
    pub fn relation(&self) -> &str {
        match self {
            Self::Postgres { table: Some(table), .. } | Self::Sqlite { table: Some(table), .. } => table,
            Self::Postgres { table: None, database } => database.name(),
            Self::Sqlite { table: None, path } => {
                let stem = std::path::Path::new(path).file_stem().and_then(|stem| stem.to_str());
                stem.unwrap_or("database")
            }
            Self::DynamoDb { table, .. } => table,
            Self::Chroma { collection, .. } => collection,
            Self::File { name, .. } => name,
            Self::Standard => "-",
        }
    }

    /// The password that the URL held.
    #[must_use]
    pub fn password(&self) -> Option<&Password> {
        match self {
            Self::Postgres { database: Database::Parts { password, .. }, .. } => Some(password),
            _ => None,
        }
    }

    fn shown(&self) -> String {
        let kind = match self {
            Self::Postgres { .. } => "postgres",
            Self::DynamoDb { .. } => "dynamodb",
            Self::Sqlite { .. } => "sqlite",
            Self::Chroma { .. } => "chroma",
            Self::File { .. } => "file",
            Self::Standard => "standard stream",
        };
        format!("{kind} {}", self.relation())
    }
}

/// The part before `?`, and the parameters behind it, decoded.
fn parameters(text: &str) -> (&str, Vec<(String, String)>) {
    let Some((before, query)) = text.split_once('?') else { return (text, Vec::new()) };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let decoded = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    });
    (before, decoded.collect())
}

/// Takes a parameter out; an empty one counts as unset.
fn take(parameters: &mut Vec<(String, String)>, name: &str) -> Result<Option<String>> {
    let Some(at) = parameters.iter().position(|(other, _)| other == name) else { return Ok(None) };
    let (_, value) = parameters.remove(at);
    if parameters.iter().any(|(other, _)| other == name) {
        return wrong(format!("the URL says `{name}` twice"), "keep one of them");
    }
    Ok(Some(value).filter(|value| !value.is_empty()))
}

fn refuse_others(parameters: &[(String, String)], kind: &str, known: &str) -> Result<()> {
    match parameters.first() {
        None => Ok(()),
        Some((name, _)) => {
            let name: String = name.chars().take(40).collect();
            wrong(format!("a {kind} URL has no parameter `{name}`"), format!("it has {known}"))
        }
    }
}

fn needed(value: Option<String>, kind: &str, name: &str) -> Result<String> {
    match value {
        Some(value) => Ok(value),
        None => {
            wrong(format!("the {kind} URL names no {name}"), format!("add `?{name}=NAME`, behind `?` or `&`"))
        }
    }
}

fn embedded(rest: &str) -> Result<Place> {
    let (path, mut parameters) = parameters(rest);
    if path.is_empty() {
        return wrong("`embedded:` names no folder", "write `embedded:data/app.pg?table=users`");
    }
    let table = take(&mut parameters, "table")?;
    refuse_others(&parameters, "embedded PostgreSQL", "`table`")?;
    Ok(Place::Postgres { database: Database::Url(format!("embedded:{path}")), table })
}

fn postgres(rest: &str) -> Result<Place> {
    // A password may hold a `?` that should have been encoded: what is behind the last `@` is no password.
    let host = rest.rfind('@').map_or(0, |at| at + 1);
    let behind = &rest[host..];
    let (address, mut parameters) = parameters(behind);
    let table = take(&mut parameters, "table")?;
    let user_info = &rest[..host.saturating_sub(1)];
    let (user, written) = match user_info.split_once(':') {
        Some((user, password)) => (user, Some(password.to_owned()).filter(|password| !password.is_empty())),
        None => (user_info, None),
    };
    let asked = take(&mut parameters, "password")?;
    let password = asked.or_else(|| written.map(|written| decoded(&written)));
    let database = match password {
        None => {
            let at = if host > 0 { "@" } else { "" };
            let query: Vec<String> = parameters
                .iter()
                .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
                .collect();
            let mark = if query.is_empty() { "" } else { "?" };
            Database::Url(format!("postgres://{user}{at}{address}{mark}{}", query.join("&")))
        }
        Some(password) => {
            let parts = postgres_parts(user, address, parameters)?;
            Database::Parts { parts, password: Password(password) }
        }
    };
    Ok(Place::Postgres { database, table })
}

/// The parts of an address and its parameters, by the names that the spec has for them.
fn postgres_parts(
    user: &str,
    address: &str,
    parameters: Vec<(String, String)>,
) -> Result<Vec<(String, String)>> {
    let (host, database) = address.split_once('/').unwrap_or((address, ""));
    if host.contains(',') {
        return wrong("the URL names more than one host", "name the one that is to be used");
    }
    let (host, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    };
    let own = [("host", host), ("port", port.unwrap_or_default()), ("user", user), ("database", database)];
    let mut parts: Vec<(String, String)> = own
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect();
    for (name, value) in parameters {
        let name = match name.as_str() {
            "dbname" => "database".to_owned(),
            "hostaddr" => "host".to_owned(),
            // Used wherever the server offers it, or never.
            "channel_binding" | "gssencmode" => continue,
            _ => name,
        };
        // A path is relative to the folder that one is in, and the spec may lie elsewhere.
        let value = match name.as_str() {
            "sslrootcert" if value == "system" => value,
            "sslrootcert" | "sslcert" | "sslkey" => absolute(&value),
            _ => value,
        };
        parts.retain(|(other, _)| *other != name);
        parts.push((name, value));
    }
    Ok(parts)
}

fn dynamodb(rest: &str) -> Result<Place> {
    let (table, mut parameters) = parameters(rest);
    let table = decoded(table.trim_end_matches('/'));
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if table.is_empty() || !table.chars().all(is_name) {
        return wrong(
            "the DynamoDB URL names no table",
            format!("write {DYNAMODB}: a table's name is letters, digits, `_`, `-` and `.`"),
        );
    }
    let region = take(&mut parameters, "region")?;
    let endpoint = take(&mut parameters, "endpoint")?;
    let profile = take(&mut parameters, "profile")?;
    refuse_others(&parameters, "DynamoDB", "`region`, `endpoint` and `profile`")?;
    Ok(Place::DynamoDb { table, region, endpoint, profile })
}

fn sqlite(rest: &str) -> Result<Place> {
    let (path, mut parameters) = parameters(rest);
    if path.is_empty() {
        return wrong("the SQLite URL names no file", "write `sqlite:PATH?table=NAME`");
    }
    let table = take(&mut parameters, "table")?;
    refuse_others(&parameters, "SQLite", "`table`")?;
    Ok(Place::Sqlite { path: path.to_owned(), table })
}

fn chroma(rest: &str) -> Result<Place> {
    let (path, mut parameters) = parameters(rest);
    if path.is_empty() {
        return wrong("the Chroma URL names no folder", "write `chroma:PATH?collection=NAME`");
    }
    let collection = needed(take(&mut parameters, "collection")?, "Chroma", "collection")?;
    refuse_others(&parameters, "Chroma", "`collection`")?;
    Ok(Place::Chroma { path: path.to_owned(), collection })
}

/// A collection of a server.
fn chroma_server(url: &str) -> Result<Place> {
    if url.split('?').next().is_some_and(|address| address.contains('@')) {
        let hint =
            "put a token into the environment, as CHROMA_TOKEN; a user and a password belong into a spec";
        return wrong("the URL of a Chroma server holds a name or a password", hint);
    }
    chroma(url)
}

/// An object of a bucket, or all below a prefix.
fn object(scheme: &str, rest: &str) -> Result<Place> {
    let (path, mut parameters) = parameters(rest);
    if path.contains('@') {
        return wrong("the URL of an object store holds a name or a password", "put it into the environment");
    }
    let trimmed = path.trim_end_matches('/');
    let Some((folder, name)) = trimmed.rsplit_once('/').filter(|(folder, _)| !folder.is_empty()) else {
        return wrong("the URL names a bucket and nothing in it", format!("write `{scheme}://bucket/key`"));
    };
    let endpoint = take(&mut parameters, "endpoint")?;
    let region = take(&mut parameters, "region")?;
    refuse_others(&parameters, "bucket's", "`endpoint` and `region`")?;
    let root = format!("{scheme}://{folder}/");
    Ok(Place::File { root, name: name.to_owned(), endpoint, region })
}

/// A path on this machine. It is taken as it is: a name may hold anything.
fn file(text: &str) -> Result<Place> {
    let path = std::path::Path::new(text);
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return wrong("the path names no file", "name a file or a folder of files: `dump.json`");
    };
    let root = path.parent().and_then(|root| root.to_str()).filter(|root| !root.is_empty()).unwrap_or(".");
    Ok(Place::File { root: root.to_owned(), name: name.to_owned(), endpoint: None, region: None })
}

/// The path from the root; as it is where the present folder is gone.
pub fn absolute(path: &str) -> String {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// What `%XX` stands for; what is no such form stays.
fn decoded(text: &str) -> String {
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

/// The text as a parameter of a URL.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str, table: &str) -> Place {
        Place::Postgres { database: Database::Url(text.to_owned()), table: Some(table.to_owned()) }
    }

    fn file(root: &str, name: &str) -> Place {
        Place::File { root: root.to_owned(), name: name.to_owned(), endpoint: None, region: None }
    }

    #[test]
    fn places_by_their_urls() {
        let dynamodb = |table: &str, endpoint: Option<&str>| Place::DynamoDb {
            table: table.to_owned(),
            region: None,
            endpoint: endpoint.map(str::to_owned),
            profile: None,
        };
        for (text, expected) in [
            ("-", Place::Standard),
            ("postgres://ann@h:5433/db?table=tokens", url("postgres://ann@h:5433/db", "tokens")),
            (
                "postgresql://h/db?sslmode=require&table=app.tok%20ens",
                url("postgres://h/db?sslmode=require", "app.tok ens"),
            ),
            ("embedded:data/a.pg?table=t", url("embedded:data/a.pg", "t")),
            ("dynamodb://cello", dynamodb("cello", None)),
            ("dynamodb://cello/?endpoint=http%3A%2F%2Fl:8000", dynamodb("cello", Some("http://l:8000"))),
            ("dynamodb://a.b-c_1?endpoint=embedded:x.db", dynamodb("a.b-c_1", Some("embedded:x.db"))),
            (
                "sqlite:a/b.db?table=t",
                Place::Sqlite { path: "a/b.db".to_owned(), table: Some("t".to_owned()) },
            ),
            ("sqlite:a/b.db", Place::Sqlite { path: "a/b.db".to_owned(), table: None }),
            (
                "chroma:data/c?collection=x",
                Place::Chroma { path: "data/c".to_owned(), collection: "x".to_owned() },
            ),
            (
                "chroma:http://h:8000?collection=t/d/x",
                Place::Chroma { path: "http://h:8000".to_owned(), collection: "t/d/x".to_owned() },
            ),
            (
                "chroma+https://h/c?collection=x",
                Place::Chroma { path: "https://h/c".to_owned(), collection: "x".to_owned() },
            ),
            ("dump.json", file(".", "dump.json")),
            ("/var/a b?.csv.gz", file("/var", "a b?.csv.gz")),
            ("out/dump/", file("out", "dump")),
            ("s3://bucket/a/b.parquet", file("s3://bucket/a/", "b.parquet")),
            ("gs://bucket/export/", file("gs://bucket/", "export")),
        ] {
            assert!(Place::parse(text).as_ref() == Ok(&expected), "{text}: {:?}", Place::parse(text));
        }
        let Ok(Place::File { endpoint, region, .. }) =
            Place::parse("s3://b/k.json?endpoint=http://l:9000&region=r")
        else {
            panic!("a file");
        };
        assert_eq!((endpoint.as_deref(), region.as_deref()), (Some("http://l:9000"), Some("r")));
    }

    #[test]
    fn a_place_without_a_table_is_the_whole_database() {
        for (text, name) in [
            ("postgres://ann:hush@h/shop", "shop"),
            ("postgres://h:1/shop?sslmode=require&table=", "shop"),
            ("postgres://h", "postgres"),
            ("embedded:data/app.pg", "app"),
            ("sqlite:data/chinook.sqlite", "chinook"),
        ] {
            let Ok(place) = Place::parse(text) else { panic!("{text}") };
            assert!(place.is_whole() && place.relation() == name, "{text}: {}", place.relation());
            let table = place.of_table("t");
            assert!(!table.is_whole() && table.relation() == "t", "{text}");
        }
        assert!(!Place::parse("dynamodb://cello").is_ok_and(|place| place.is_whole()));
    }

    #[test]
    fn a_password_is_taken_out_of_its_url() {
        for (text, password, expected) in [
            (
                "postgres://ann:p%40w@h:5433/db?table=t&sslmode=require",
                "p@w",
                "host=h port=5433 user=ann database=db sslmode=require",
            ),
            ("postgres://ann:p@w/x?y@h/db?table=t", "p@w/x?y", "host=h user=ann database=db"),
            ("postgres://[::1]:1/db?table=t&password=a%26b", "a&b", "host=::1 port=1 database=db"),
            ("postgres://ann:x@/db?host=/run/pg&table=t", "x", "user=ann database=db host=/run/pg"),
        ] {
            let Ok(place) = Place::parse(text) else { panic!("{text}") };
            let Place::Postgres { database: Database::Parts { parts, password: found }, .. } = &place else {
                panic!("{text}: {place:?}");
            };
            let parts: Vec<_> = parts.iter().map(|(name, value)| format!("{name}={value}")).collect();
            assert_eq!((found.0.as_str(), parts.join(" ").as_str()), (password, expected), "{text}");
            assert!(!format!("{place:?} {found:?}").contains(password), "{place:?}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused_without_being_shown() {
        for (text, message) in [
            ("", "the place is empty"),
            ("postgres://h/db?table=a&table=b", "the URL says `table` twice"),
            ("postgres://ann:hush@a,b/db?table=t", "the URL names more than one host"),
            ("postgres:ann:hush@h/db?table=t", "a PostgreSQL URL has two slashes behind its scheme"),
            ("dynamodb:cello", "a DynamoDB URL has two slashes behind its scheme"),
            ("dynamodb://", "the DynamoDB URL names no table"),
            ("dynamodb://a/b", "the DynamoDB URL names no table"),
            ("dynamodb://cello?regin=x", "a DynamoDB URL has no parameter `regin`"),
            ("embedded:", "`embedded:` names no folder"),
            ("sqlite:?table=t", "the SQLite URL names no file"),
            ("chroma:c", "the Chroma URL names no collection"),
            ("mysql://u:hush@h/db", "the URL's scheme is none that whimbrel knows"),
            ("s3://bucket", "the URL names a bucket and nothing in it"),
            ("s3://u:hush@bucket/key", "the URL of an object store holds a name or a password"),
            ("/", "the path names no file"),
        ] {
            let Err(error) = Place::parse(text) else { panic!("{text} is taken") };
            assert_eq!(error.message, message, "{text}");
            assert!(!error.hint.is_empty() && !format!("{error:?}").contains("hush"), "{text}: {error:?}");
        }
    }
}
