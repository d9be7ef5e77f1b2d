//! What a table is to look like: the JSON that `aws dynamodb create-table --cli-input-json` takes, or the
//! short form `{key, sort_key, billing}`; and how a table that is there differs from it.

use aws_sdk_dynamodb::operation::create_table::builders::CreateTableInputBuilder;
use aws_sdk_dynamodb::types as sdk;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// A table's definition in the API's own words. Written out again, it is what `create` sends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Definition {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) table_name: Option<String>,
    pub(crate) attribute_definitions: Vec<AttributeDefinition>,
    pub(crate) key_schema: Vec<KeyElement>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) local_secondary_indexes: Vec<Index>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) global_secondary_indexes: Vec<Index>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) billing_mode: Option<BillingMode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provisioned_throughput: Option<Throughput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_demand_throughput: Option<OnDemandThroughput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream_specification: Option<StreamSpecification>,
    #[serde(default, rename = "SSESpecification", skip_serializing_if = "Option::is_none")]
    sse_specification: Option<SseSpecification>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table_class: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deletion_protection_enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<Tag>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct AttributeDefinition {
    pub(crate) attribute_name: String,
    pub(crate) attribute_type: ScalarKind,
}

/// The type of a key attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ScalarKind {
    S,
    N,
    B,
}

impl fmt::Display for ScalarKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S => "S",
            Self::N => "N",
            Self::B => "B",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct KeyElement {
    pub(crate) attribute_name: String,
    pub(crate) key_type: KeyRole,
}

/// What a key attribute decides: the partition, or the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum KeyRole {
    Hash,
    Range,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Index {
    pub(crate) index_name: String,
    pub(crate) key_schema: Vec<KeyElement>,
    pub(crate) projection: Projection,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provisioned_throughput: Option<Throughput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_demand_throughput: Option<OnDemandThroughput>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Projection {
    pub(crate) projection_type: ProjectionType,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) non_key_attributes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ProjectionType {
    All,
    KeysOnly,
    Include,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum BillingMode {
    Provisioned,
    PayPerRequest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct Throughput {
    pub(crate) read_capacity_units: i64,
    pub(crate) write_capacity_units: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct OnDemandThroughput {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_read_request_units: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_write_request_units: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct StreamSpecification {
    stream_enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream_view_type: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SseSpecification {
    #[serde(default, rename = "Enabled", skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(default, rename = "SSEType", skip_serializing_if = "Option::is_none")]
    sse_type: Option<String>,
    #[serde(default, rename = "KMSMasterKeyId", skip_serializing_if = "Option::is_none")]
    kms_master_key_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Tag {
    key: String,
    value: String,
}

/// A definition that cannot be read or cannot be right.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionError {
    /// The file is not there or not readable.
    #[error("cannot read {path}")]
    File { path: String, source: std::io::Error },
    /// It is not what `create-table --cli-input-json` takes.
    #[error("{place} is not what `aws dynamodb create-table --cli-input-json` takes")]
    Json { place: String, source: serde_json::Error },
    /// It contradicts itself.
    #[error("{0}")]
    Wrong(String),
}

impl Definition {
    /// Reads what the spec says of a table: `{ "file": PATH }` or `{ "key": …, "sort_key": …, "billing": … }`.
    /// The spec's name of the table holds, whatever the file says.
    pub(crate) fn read(table: &str, spec: &Value) -> Result<Self, DefinitionError> {
        let wrong = |text: String| DefinitionError::Wrong(text);
        let Value::Object(map) = spec else {
            return Err(wrong(format!(
                "the definition of table `{table}` is a map: file, or key, sort_key, billing"
            )));
        };
        let mut definition = match map.get("file") {
            Some(Value::String(path)) if map.len() == 1 => Self::from_file(path)?,
            Some(_) => return Err(wrong(format!("`file` of table `{table}` is a path and stands alone"))),
            None => Self::from_short_form(table, map)?,
        };
        definition.table_name = Some(table.to_owned());
        definition.check(table)?;
        Ok(definition)
    }

    fn from_file(path: &str) -> Result<Self, DefinitionError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| DefinitionError::File { path: path.to_owned(), source })?;
        serde_json::from_str(&text).map_err(|source| DefinitionError::Json { place: path.to_owned(), source })
    }

    fn from_short_form(table: &str, map: &Map<String, Value>) -> Result<Self, DefinitionError> {
        const KEYS: [&str; 3] = ["key", "sort_key", "billing"];
        let wrong = |text: String| Err(DefinitionError::Wrong(text));
        if let Some(key) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return wrong(format!(
                "table `{table}` has no key `{key}`; it takes file, or {}",
                KEYS.join(", ")
            ));
        }
        match map.get("billing") {
            None | Some(Value::Null) => {}
            Some(Value::String(mode)) if mode == "on_demand" || mode.is_empty() => {}
            Some(_) => {
                return wrong(format!(
                    "`billing` of table `{table}` is on_demand; provisioned capacity is written in a CreateTable `file`"
                ));
            }
        }
        let mut definition = Self { billing_mode: Some(BillingMode::PayPerRequest), ..Self::default() };
        for (name, key_type) in [("key", KeyRole::Hash), ("sort_key", KeyRole::Range)] {
            match map.get(name) {
                None | Some(Value::Null) if key_type == KeyRole::Range => {}
                Some(value) => {
                    let attribute = short_attribute(table, name, value)?;
                    let attribute_name = attribute.attribute_name.clone();
                    definition.key_schema.push(KeyElement { attribute_name, key_type });
                    definition.attribute_definitions.push(attribute);
                }
                None => return wrong(format!("table `{table}` needs a `key`")),
            }
        }
        Ok(definition)
    }

    fn check(&self, table: &str) -> Result<(), DefinitionError> {
        let wrong =
            |text: String| Err(DefinitionError::Wrong(format!("the definition of table `{table}`: {text}")));
        let mut used = BTreeMap::new();
        let places = self.indexes().map(|(index, _)| (index.index_name.as_str(), &index.key_schema));
        for (place, schema) in std::iter::once(("the table", &self.key_schema)).chain(places) {
            if schema.first().is_none_or(|first| first.key_type != KeyRole::Hash) {
                return wrong(format!("the key schema of {place} does not begin with a HASH attribute"));
            }
            for element in schema {
                used.insert(element.attribute_name.as_str(), place);
            }
        }
        for (name, place) in &used {
            if self.kind_of(name).is_none() {
                return wrong(format!("`{name}` is a key of {place} and is missing in AttributeDefinitions"));
            }
        }
        if let Some(unused) =
            self.attribute_definitions.iter().find(|a| !used.contains_key(a.attribute_name.as_str()))
        {
            return wrong(format!(
                "`{}` in AttributeDefinitions is no key of the table or an index",
                unused.attribute_name
            ));
        }
        if self.billing() == BillingMode::Provisioned && self.provisioned_throughput.is_none() {
            return wrong(
                "it is PROVISIONED (the default of BillingMode) and ProvisionedThroughput is missing"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// All indexes, each with whether it is global.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = (&Index, bool)> {
        let local = self.local_secondary_indexes.iter().map(|index| (index, false));
        self.global_secondary_indexes.iter().map(|index| (index, true)).chain(local)
    }

    /// The type of a key attribute.
    pub(crate) fn kind_of(&self, attribute: &str) -> Option<ScalarKind> {
        self.attribute_definitions.iter().find(|a| a.attribute_name == attribute).map(|a| a.attribute_type)
    }

    /// How capacity is paid for; the API's default where it is not said.
    pub(crate) fn billing(&self) -> BillingMode {
        self.billing_mode.unwrap_or(BillingMode::Provisioned)
    }

    /// What is there as a definition: the part of a description that definitions are compared by.
    pub(crate) fn of(table: &sdk::TableDescription) -> Self {
        let attributes = table.attribute_definitions().iter().filter_map(|attribute| {
            let attribute_type = scalar_kind(attribute.attribute_type())?;
            Some(AttributeDefinition {
                attribute_name: attribute.attribute_name().to_owned(),
                attribute_type,
            })
        });
        let billing = table.billing_mode_summary().and_then(|summary| summary.billing_mode());
        let on_demand = matches!(billing, Some(sdk::BillingMode::PayPerRequest));
        let local = table.local_secondary_indexes().iter();
        let global = table.global_secondary_indexes().iter();
        Self {
            table_name: table.table_name().map(str::to_owned),
            attribute_definitions: attributes.collect(),
            key_schema: key_schema(table.key_schema()),
            local_secondary_indexes: local
                .map(|index| {
                    described_index(index.index_name(), index.key_schema(), index.projection(), None)
                })
                .collect(),
            global_secondary_indexes: global
                .map(|index| {
                    let throughput = index.provisioned_throughput().filter(|_| !on_demand);
                    described_index(index.index_name(), index.key_schema(), index.projection(), throughput)
                })
                .collect(),
            billing_mode: Some(if on_demand { BillingMode::PayPerRequest } else { BillingMode::Provisioned }),
            provisioned_throughput: table.provisioned_throughput().filter(|_| !on_demand).map(throughput),
            ..Self::default()
        }
    }

    /// How what is there differs from this, one sentence a difference; indexes by name.
    pub(crate) fn differences(&self, there: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let (wanted, found) = (self.shown_key(&self.key_schema), there.shown_key(&there.key_schema));
        if wanted != found {
            differences.push(format!("its key is {found}, the definition says {wanted}"));
        }
        if self.billing() != there.billing() {
            differences.push(format!(
                "it is billed {}, the definition says {}",
                there.shown_billing(),
                self.shown_billing()
            ));
        }
        for (index, global) in self.indexes() {
            let name = &index.index_name;
            let Some((found, _)) = there.indexes().find(|(i, g)| i.index_name == *name && *g == global)
            else {
                differences.push(format!("its index `{name}` is missing"));
                continue;
            };
            let (wanted_key, found_key) =
                (self.shown_key(&index.key_schema), there.shown_key(&found.key_schema));
            if wanted_key != found_key {
                differences.push(format!(
                    "the key of index `{name}` is {found_key}, the definition says {wanted_key}"
                ));
            }
            if !same_projection(&index.projection, &found.projection) {
                differences
                    .push(format!("index `{name}` projects other attributes than the definition says"));
            }
        }
        for (index, global) in there.indexes() {
            if !self.indexes().any(|(i, g)| i.index_name == index.index_name && g == global) {
                differences.push(format!("it has an index `{}` that the definition lacks", index.index_name));
            }
        }
        differences
    }

    fn shown_key(&self, schema: &[KeyElement]) -> String {
        let shown = |element: &KeyElement| {
            let kind =
                self.kind_of(&element.attribute_name).map_or_else(|| "?".to_owned(), |kind| kind.to_string());
            let role = match element.key_type {
                KeyRole::Hash => "HASH",
                KeyRole::Range => "RANGE",
            };
            format!("{} {kind} {role}", element.attribute_name)
        };
        format!("({})", schema.iter().map(shown).collect::<Vec<_>>().join(", "))
    }

    /// For people: `on demand`, `provisioned with 5 write units a second`.
    pub(crate) fn shown_billing(&self) -> String {
        match (self.billing(), &self.provisioned_throughput) {
            (BillingMode::PayPerRequest, _) => "on demand".to_owned(),
            (BillingMode::Provisioned, Some(units)) => {
                format!("provisioned with {} write units a second", units.write_capacity_units)
            }
            (BillingMode::Provisioned, None) => "provisioned".to_owned(),
        }
    }

    /// The request that makes the table.
    ///
    /// # Errors
    /// A part that the SDK refuses, by name.
    pub(crate) fn to_input(&self) -> Result<CreateTableInputBuilder, aws_sdk_dynamodb::error::BuildError> {
        let mut input = CreateTableInputBuilder::default()
            .set_table_name(self.table_name.clone())
            .set_key_schema(Some(sdk_key_schema(&self.key_schema)?))
            .set_billing_mode(self.billing_mode.map(|mode| match mode {
                BillingMode::Provisioned => sdk::BillingMode::Provisioned,
                BillingMode::PayPerRequest => sdk::BillingMode::PayPerRequest,
            }))
            .set_provisioned_throughput(self.provisioned_throughput.map(sdk_throughput).transpose()?)
            .set_on_demand_throughput(self.on_demand_throughput.map(sdk_on_demand))
            .set_table_class(self.table_class.as_deref().map(sdk::TableClass::from))
            .set_deletion_protection_enabled(self.deletion_protection_enabled);
        for attribute in &self.attribute_definitions {
            let kind = sdk::ScalarAttributeType::from(attribute.attribute_type.to_string().as_str());
            let definition = sdk::AttributeDefinition::builder().attribute_name(&attribute.attribute_name);
            input = input.attribute_definitions(definition.attribute_type(kind).build()?);
        }
        for index in &self.local_secondary_indexes {
            let builder = sdk::LocalSecondaryIndex::builder().index_name(&index.index_name);
            let builder = builder.set_key_schema(Some(sdk_key_schema(&index.key_schema)?));
            input =
                input.local_secondary_indexes(builder.projection(sdk_projection(&index.projection)).build()?);
        }
        for index in &self.global_secondary_indexes {
            let builder = sdk::GlobalSecondaryIndex::builder().index_name(&index.index_name);
            let builder = builder.set_key_schema(Some(sdk_key_schema(&index.key_schema)?));
            let builder = builder.projection(sdk_projection(&index.projection));
            let builder = builder
                .set_provisioned_throughput(index.provisioned_throughput.map(sdk_throughput).transpose()?);
            let builder = builder.set_on_demand_throughput(index.on_demand_throughput.map(sdk_on_demand));
            input = input.global_secondary_indexes(builder.build()?);
        }
        if let Some(stream) = &self.stream_specification {
            let view = stream.stream_view_type.as_deref().map(sdk::StreamViewType::from);
            let stream = sdk::StreamSpecification::builder().stream_enabled(stream.stream_enabled);
            input = input.stream_specification(stream.set_stream_view_type(view).build()?);
        }
        if let Some(sse) = &self.sse_specification {
            let builder = sdk::SseSpecification::builder().set_enabled(sse.enabled);
            let builder = builder.set_sse_type(sse.sse_type.as_deref().map(sdk::SseType::from));
            input =
                input.sse_specification(builder.set_kms_master_key_id(sse.kms_master_key_id.clone()).build());
        }
        for tag in &self.tags {
            input = input.tags(sdk::Tag::builder().key(&tag.key).value(&tag.value).build()?);
        }
        Ok(input)
    }
}

fn short_attribute(table: &str, key: &str, value: &Value) -> Result<AttributeDefinition, DefinitionError> {
    let wrong = || {
        DefinitionError::Wrong(format!("`{key}` of table `{table}` is a name or {{ name, type: S, N or B }}"))
    };
    match value {
        Value::String(name) if !name.is_empty() => {
            Ok(AttributeDefinition { attribute_name: name.clone(), attribute_type: ScalarKind::S })
        }
        Value::Object(map) if map.keys().all(|key| key == "name" || key == "type") => {
            let name =
                map.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()).ok_or_else(wrong)?;
            let attribute_type = match map.get("type").map(Value::as_str) {
                None | Some(Some("S" | "text")) => ScalarKind::S,
                Some(Some("N" | "number")) => ScalarKind::N,
                Some(Some("B" | "binary")) => ScalarKind::B,
                Some(_) => return Err(wrong()),
            };
            Ok(AttributeDefinition { attribute_name: name.to_owned(), attribute_type })
        }
        _ => Err(wrong()),
    }
}

fn scalar_kind(kind: &sdk::ScalarAttributeType) -> Option<ScalarKind> {
    match kind.as_str() {
        "S" => Some(ScalarKind::S),
        "N" => Some(ScalarKind::N),
        "B" => Some(ScalarKind::B),
        _ => None,
    }
}

fn key_schema(schema: &[sdk::KeySchemaElement]) -> Vec<KeyElement> {
    let element = |element: &sdk::KeySchemaElement| {
        let key_type = if *element.key_type() == sdk::KeyType::Hash { KeyRole::Hash } else { KeyRole::Range };
        KeyElement { attribute_name: element.attribute_name().to_owned(), key_type }
    };
    schema.iter().map(element).collect()
}

fn described_index(
    name: Option<&str>,
    schema: &[sdk::KeySchemaElement],
    projection: Option<&sdk::Projection>,
    provisioned: Option<&sdk::ProvisionedThroughputDescription>,
) -> Index {
    let projection_type = match projection.and_then(|projection| projection.projection_type()) {
        Some(sdk::ProjectionType::KeysOnly) => ProjectionType::KeysOnly,
        Some(sdk::ProjectionType::Include) => ProjectionType::Include,
        _ => ProjectionType::All,
    };
    let non_key_attributes =
        projection.map(|projection| projection.non_key_attributes().to_vec()).unwrap_or_default();
    Index {
        index_name: name.unwrap_or_default().to_owned(),
        key_schema: key_schema(schema),
        projection: Projection { projection_type, non_key_attributes },
        provisioned_throughput: provisioned.map(throughput),
        on_demand_throughput: None,
    }
}

fn throughput(units: &sdk::ProvisionedThroughputDescription) -> Throughput {
    Throughput {
        read_capacity_units: units.read_capacity_units().unwrap_or_default(),
        write_capacity_units: units.write_capacity_units().unwrap_or_default(),
    }
}

fn same_projection(one: &Projection, other: &Projection) -> bool {
    let sorted = |projection: &Projection| {
        let mut names = projection.non_key_attributes.clone();
        names.sort_unstable();
        names
    };
    one.projection_type == other.projection_type && sorted(one) == sorted(other)
}

type Built<T> = Result<T, aws_sdk_dynamodb::error::BuildError>;

fn sdk_key_schema(schema: &[KeyElement]) -> Built<Vec<sdk::KeySchemaElement>> {
    let element = |element: &KeyElement| {
        let role = match element.key_type {
            KeyRole::Hash => sdk::KeyType::Hash,
            KeyRole::Range => sdk::KeyType::Range,
        };
        sdk::KeySchemaElement::builder().attribute_name(&element.attribute_name).key_type(role).build()
    };
    schema.iter().map(element).collect()
}

fn sdk_projection(projection: &Projection) -> sdk::Projection {
    let kind = match projection.projection_type {
        ProjectionType::All => sdk::ProjectionType::All,
        ProjectionType::KeysOnly => sdk::ProjectionType::KeysOnly,
        ProjectionType::Include => sdk::ProjectionType::Include,
    };
    let names = Some(projection.non_key_attributes.clone()).filter(|names| !names.is_empty());
    sdk::Projection::builder().projection_type(kind).set_non_key_attributes(names).build()
}

fn sdk_throughput(units: Throughput) -> Built<sdk::ProvisionedThroughput> {
    sdk::ProvisionedThroughput::builder()
        .read_capacity_units(units.read_capacity_units)
        .write_capacity_units(units.write_capacity_units)
        .build()
}

fn sdk_on_demand(units: OnDemandThroughput) -> sdk::OnDemandThroughput {
    sdk::OnDemandThroughput::builder()
        .set_max_read_request_units(units.max_read_request_units)
        .set_max_write_request_units(units.max_write_request_units)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error(spec: &Value) -> String {
        let error = Definition::read("users", spec).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {cause}")
    }

    #[test]
    fn the_short_form_is_an_on_demand_table() {
        let definition =
            Definition::read("users", &json!({"key": "id", "sort_key": {"name": "n", "type": "N"}})).unwrap();
        assert_eq!(
            serde_json::to_value(&definition).unwrap(),
            json!({
                "TableName": "users",
                "AttributeDefinitions": [
                    {"AttributeName": "id", "AttributeType": "S"}, {"AttributeName": "n", "AttributeType": "N"}],
                "KeySchema": [
                    {"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "n", "KeyType": "RANGE"}],
                "BillingMode": "PAY_PER_REQUEST"
            })
        );
    }

    #[test]
    fn wrong_definitions_say_what_is_wrong() {
        for (spec, word) in [
            (json!({}), "needs a `key`"),
            (json!({"key": 1}), "`key`"),
            (json!({"key": {"name": "id", "type": "X"}}), "S, N or B"),
            (json!({"key": "id", "sort": "x"}), "`sort`"),
            (json!({"key": "id", "billing": "provisioned"}), "on_demand"),
            (json!({"file": "/nonexistent/table.json"}), "/nonexistent/table.json"),
            (json!({"file": "x", "key": "id"}), "stands alone"),
        ] {
            let error = error(&spec);
            assert!(error.contains(word), "{error}");
        }
    }

    fn full() -> Value {
        json!({
            "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "g", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
            "GlobalSecondaryIndexes": [{
                "IndexName": "by_g", "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["a", "b"]}}],
            "BillingMode": "PAY_PER_REQUEST",
            "Tags": [{"Key": "k", "Value": "v"}]
        })
    }

    fn parsed(value: &Value) -> Result<Definition, serde_json::Error> {
        serde_json::from_str(&value.to_string())
    }

    #[test]
    fn unknown_keys_are_named() {
        let mut value = full();
        value["GlobalSecondaryIndex"] = json!([]);
        assert!(parsed(&value).unwrap_err().to_string().contains("GlobalSecondaryIndex"));
    }

    #[test]
    fn definitions_that_contradict_themselves_are_refused() {
        let definition = parsed(&full()).unwrap();
        assert!(definition.check("t").is_ok());
        let mut undefined = definition.clone();
        undefined.attribute_definitions.pop();
        assert!(undefined.check("t").unwrap_err().to_string().contains("`g` is a key of by_g"));
        let mut unused = definition.clone();
        unused.global_secondary_indexes.clear();
        assert!(unused.check("t").unwrap_err().to_string().contains("`g` in AttributeDefinitions"));
        let mut unpaid = definition;
        unpaid.billing_mode = None;
        assert!(unpaid.check("t").unwrap_err().to_string().contains("ProvisionedThroughput is missing"));
    }

    #[test]
    fn differences_are_listed() {
        let wanted = parsed(&full()).unwrap();
        assert_eq!(wanted.differences(&wanted), Vec::<String>::new());
        let mut there = wanted.clone();
        there.global_secondary_indexes[0].projection.non_key_attributes.reverse();
        assert_eq!(
            wanted.differences(&there),
            Vec::<String>::new(),
            "the order of projected names means nothing"
        );
        there.global_secondary_indexes[0].projection.projection_type = ProjectionType::All;
        there.attribute_definitions[0].attribute_type = ScalarKind::N;
        there.billing_mode = Some(BillingMode::Provisioned);
        let mut extra = there.global_secondary_indexes[0].clone();
        extra.index_name = "extra".to_owned();
        there.global_secondary_indexes.push(extra);
        let text = wanted.differences(&there).join("\n");
        for part in
            ["(pk N HASH)", "billed provisioned", "`by_g` projects", "`extra` that the definition lacks"]
        {
            assert!(text.contains(part), "{text}");
        }
        there.global_secondary_indexes.clear();
        assert!(wanted.differences(&there).join("\n").contains("`by_g` is missing"));
    }
}
