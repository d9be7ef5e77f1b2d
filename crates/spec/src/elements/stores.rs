//! `stores`

use super::text::TemplateText;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A database, by exactly one of its kinds.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a store"))]
pub struct Store {
    /// A PostgreSQL database: a URL, `embedded:PATH`, or its parts.
    #[serde(default)]
    pub postgres: Option<Postgres>,
    /// DynamoDB, in one account and region.
    #[serde(default)]
    pub dynamodb: Option<DynamoDb>,
    /// A SQLite database: the path of its file, relative to the spec.
    #[serde(default)]
    pub sqlite: Option<TemplateText>,
    /// Chroma: the path of a persistent directory, relative to the spec, or the URL of a server, or their parts.
    #[serde(default)]
    pub chroma: Option<Chroma>,
    /// A folder of files: a path relative to the spec, the URL of an object store, or its parts.
    #[serde(default)]
    pub files: Option<Files>,
    /// The format of files, where their names do not say it.
    #[serde(default)]
    pub format: Option<FileFormat>,
    /// The SQL file that `create` runs, relative to the spec. Without one the tables follow from the flows.
    #[serde(default)]
    pub schema: Option<TemplateText>,
}

/// A PostgreSQL database.
#[derive(Clone, Debug)]
pub enum Postgres {
    /// `postgres://user@host:5432/db?sslmode=verify-full`, or `embedded:PATH`.
    Url(TemplateText),
    /// The URL in parts.
    Parts(Box<PostgresParts>),
}

impl<'de> Deserialize<'de> for Postgres {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = match value {
            Value::Object(_) => serde_json::from_value(value).map(Self::Parts),
            _ => serde_json::from_value(value).map(Self::Url),
        };
        read.map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Postgres {
    fn schema_name() -> Cow<'static, str> {
        "Postgres".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let url = generator.subschema_for::<TemplateText>();
        let parts = generator.subschema_for::<PostgresParts>();
        json_schema!({ "anyOf": [url, parts] })
    }
}

/// A PostgreSQL database in parts. A part that is missing or empty comes from PG* variables, `~/.pgpass` or
/// PostgreSQL's defaults.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a store's `postgres`"))]
pub struct PostgresParts {
    /// The host, `host:port` or the directory of a Unix socket.
    #[serde(default)]
    pub host: Option<TemplateText>,
    /// The port.
    #[serde(default)]
    pub port: Option<Whole>,
    /// The role to connect as.
    #[serde(default)]
    pub user: Option<TemplateText>,
    /// Its password; shown nowhere.
    #[serde(default)]
    pub password: Option<TemplateText>,
    /// The database.
    #[serde(default)]
    pub database: Option<TemplateText>,
    /// How far TLS is asked for: `disable`, `allow`, `prefer`, `require`, `verify-ca`, `verify-full`.
    #[serde(default)]
    pub sslmode: Option<TemplateText>,
    /// The certificate authorities to trust, a PEM file relative to the spec.
    #[serde(default)]
    pub sslrootcert: Option<TemplateText>,
    /// The client's certificate, a PEM file relative to the spec.
    #[serde(default)]
    pub sslcert: Option<TemplateText>,
    /// The client's private key, a PEM file relative to the spec.
    #[serde(default)]
    pub sslkey: Option<TemplateText>,
    /// How many seconds connecting may take.
    #[serde(default)]
    pub connect_timeout: Option<Whole>,
    /// What the server shows for our connections.
    #[serde(default)]
    pub application_name: Option<TemplateText>,
    /// Command-line options for the server process of a connection.
    #[serde(default)]
    pub options: Option<TemplateText>,
    /// What becomes of the foreign keys of tables that are there: `kept`, or `after_load`: off while an empty table is
    /// filled, and made again, checked, behind the load.
    #[serde(default)]
    pub foreign_keys: Option<TemplateText>,
}

/// Files below a folder, or below a prefix of an object store.
#[derive(Clone, Debug)]
pub enum Files {
    /// A path, or `s3://bucket/prefix/`, `gs://…`, `az://…`.
    Root(TemplateText),
    /// The same in parts.
    Parts(Box<FilesParts>),
}

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = match value {
            Value::Object(_) => serde_json::from_value(value).map(Self::Parts),
            _ => serde_json::from_value(value).map(Self::Root),
        };
        read.map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Files {
    fn schema_name() -> Cow<'static, str> {
        "Files".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let root = generator.subschema_for::<TemplateText>();
        let parts = generator.subschema_for::<FilesParts>();
        json_schema!({ "anyOf": [root, parts] })
    }
}

/// Files in parts. What is missing or empty comes from the object store's own variables (`AWS_*` and the like).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a store's `files`"))]
pub struct FilesParts {
    /// A path relative to the spec, or a URL.
    pub path: TemplateText,
    /// The URL of another S3 service than AWS's own.
    #[serde(default)]
    pub endpoint: Option<TemplateText>,
    /// The region of the bucket.
    #[serde(default)]
    pub region: Option<TemplateText>,
}

/// A Chroma directory or server.
#[derive(Clone, Debug)]
pub enum Chroma {
    /// The path of the directory, or the URL of the server.
    Folder(TemplateText),
    /// The same in parts.
    Parts(Box<ChromaParts>),
}

impl<'de> Deserialize<'de> for Chroma {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = match value {
            Value::Object(_) => serde_json::from_value(value).map(Self::Parts),
            _ => serde_json::from_value(value).map(Self::Folder),
        };
        read.map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Chroma {
    fn schema_name() -> Cow<'static, str> {
        "Chroma".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let folder = generator.subschema_for::<TemplateText>();
        let parts = generator.subschema_for::<ChromaParts>();
        json_schema!({ "anyOf": [folder, parts] })
    }
}

/// A Chroma directory or server in parts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a store's `chroma`"))]
pub struct ChromaParts {
    /// The path of the directory, relative to the spec.
    #[serde(default)]
    pub path: Option<TemplateText>,
    /// The tenant of collections that are named without one.
    #[serde(default)]
    pub tenant: Option<TemplateText>,
    /// The database of collections that are named without one.
    #[serde(default)]
    pub database: Option<TemplateText>,
    /// What becomes of a record whose embedding Chroma has lost: `reject`, or `null` for an embedding that is NULL.
    #[serde(default)]
    pub lost: Option<LostRule>,
    /// In place of `path`, the URL of a running server: `http://localhost:8000`.
    #[serde(default)]
    pub url: Option<TemplateText>,
    /// What lets us into a server, in `X-Chroma-Token` and as a bearer's token.
    #[serde(default)]
    pub token: Option<TemplateText>,
    /// In place of `token`, a user of a server.
    #[serde(default)]
    pub user: Option<TemplateText>,
    /// The user's password.
    #[serde(default)]
    pub password: Option<TemplateText>,
}

/// What becomes of a record whose embedding is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LostRule {
    /// It is a reject.
    Reject,
    /// It goes on, with NULL for an embedding.
    Null,
}

/// How records are written in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    /// An array of objects.
    Json,
    /// One object a line.
    Ndjson,
    /// The same.
    Jsonl,
    /// RFC 4180, with the columns' names first.
    Csv,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC.
    Arrow,
    /// Items of DynamoDB JSON.
    DynamodbJson,
}

impl FileFormat {
    /// The word in the spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::DynamodbJson => "dynamodb-json",
        }
    }
}

/// A whole number, or a variable that holds one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole(pub String);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) => Ok(Self(number.to_string())),
            _ => Err(serde::de::Error::custom("expected a whole number")),
        }
    }
}

impl JsonSchema for Whole {
    fn schema_name() -> Cow<'static, str> {
        "WholeNumber".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let text = generator.subschema_for::<TemplateText>();
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": 65535 }, text] })
    }
}

/// DynamoDB. What is missing or empty comes from AWS_* variables and the AWS configuration.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a store's `dynamodb`"))]
pub struct DynamoDb {
    /// The region.
    #[serde(default)]
    pub region: Option<TemplateText>,
    /// The URL of another server than AWS's own, or `embedded:PATH`.
    #[serde(default)]
    pub endpoint: Option<TemplateText>,
    /// The profile of the AWS configuration.
    #[serde(default)]
    pub profile: Option<TemplateText>,
    /// Whether reading sees every write that was answered before; it costs twice the read units.
    #[serde(default)]
    pub consistent_reads: bool,
    /// How `create` makes tables, by their names.
    #[serde(default)]
    #[schemars(extend("x-keys" = "template", "x-label" = "`tables`"))]
    pub tables: BTreeMap<String, TableDefinition>,
    /// Capacity that is raised while a run goes on.
    #[serde(default)]
    pub capacity: Option<Capacity>,
}

/// Capacity of provisioned tables.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a store's `capacity`"))]
pub struct Capacity {
    /// What the tables of a run and their indexes take at least while it goes on; put back behind it.
    pub during_run: DuringRun,
}

/// Units a second.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "`during_run`"))]
pub struct DuringRun {
    /// Read units a second.
    #[serde(default)]
    pub read: Option<std::num::NonZeroU32>,
    /// Write units a second.
    #[serde(default)]
    pub write: Option<std::num::NonZeroU32>,
}

/// How a DynamoDB table is made: by a file, or by its key.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a table's definition"))]
pub struct TableDefinition {
    /// A CreateTable request in JSON, relative to the spec.
    #[serde(default)]
    pub file: Option<TemplateText>,
    /// The attribute of the partition key: its name, or `{ name, type }`.
    #[serde(default)]
    pub key: Option<KeyAttribute>,
    /// The attribute of the sort key: its name, or `{ name, type }`.
    #[serde(default)]
    pub sort_key: Option<KeyAttribute>,
    /// How the table is paid for.
    #[serde(default)]
    pub billing: Option<Billing>,
}

/// How a table is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Billing {
    /// By request.
    OnDemand,
}

/// An attribute of a table's key.
#[derive(Clone, Debug)]
pub enum KeyAttribute {
    /// A text, by its name.
    Name(TemplateText),
    /// With its type.
    Typed(TypedAttribute),
}

impl<'de> Deserialize<'de> for KeyAttribute {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = match value {
            Value::Object(_) => serde_json::from_value(value).map(Self::Typed),
            _ => serde_json::from_value(value).map(Self::Name),
        };
        read.map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for KeyAttribute {
    fn schema_name() -> Cow<'static, str> {
        "KeyAttribute".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = generator.subschema_for::<TemplateText>();
        let typed = generator.subschema_for::<TypedAttribute>();
        json_schema!({ "anyOf": [name, typed] })
    }
}

/// An attribute of a table's key with its type.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-label" = "a key attribute"))]
pub struct TypedAttribute {
    /// The attribute's name.
    pub name: TemplateText,
    /// Its type; a text if nothing is said.
    #[serde(default, rename = "type")]
    pub kind: AttributeType,
}

/// The type of a key attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttributeType {
    /// Text.
    #[default]
    Text,
    /// A number.
    Number,
    /// Bytes.
    Binary,
}
