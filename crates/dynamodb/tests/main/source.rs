//! Reading: tables are filled through the SDK, so that what is read is compared with what another program put.

mod conditions;
mod failures;
mod suite;
mod values;

use crate::fixture::{endpoint, store_at, table_name};
use arrow::array::RecordBatch;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType,
    Projection, ProjectionType, PutRequest, ScalarAttributeType, TableStatus, WriteRequest,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::TryStreamExt as _;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;
use whimbrel_model::{Cursor, SlicePart, record};
use whimbrel_store::conformance::context;
use whimbrel_store::{Condition, ReadBatch, ReadRequest, Relation, RunContext, Source, Store};

/// A key attribute and its type: `("pk", "S")`.
type Key = (&'static str, &'static str);

/// A table that is read.
pub struct Filled {
    pub client: Client,
    pub name: String,
}

fn client(endpoint: &str) -> Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("local", "local", None, None, "test"));
    Client::from_conf(config.build())
}

fn schema(key: &[Key]) -> Vec<KeySchemaElement> {
    let roles = [KeyType::Hash, KeyType::Range];
    let element = |((name, _), role): (&Key, KeyType)| {
        KeySchemaElement::builder().attribute_name(*name).key_type(role).build().unwrap()
    };
    key.iter().zip(roles).map(element).collect()
}

impl Filled {
    /// A table with these keys and global indexes, which project everything.
    pub async fn with(key: &[Key], indexes: &[(&str, &[Key])], items: &[Value]) -> Self {
        let (client, name) = (client(&endpoint()), table_name());
        let mut attributes: Vec<Key> =
            key.iter().chain(indexes.iter().flat_map(|(_, key)| key.iter())).copied().collect();
        attributes.sort_unstable();
        attributes.dedup();
        let define = |(name, kind): Key| {
            let kind = ScalarAttributeType::from(kind);
            AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap()
        };
        let all = Projection::builder().projection_type(ProjectionType::All).build();
        let index = |(name, key): &(&str, &[Key])| {
            let index = GlobalSecondaryIndex::builder().index_name(*name).projection(all.clone());
            index.set_key_schema(Some(schema(key))).build().unwrap()
        };
        let indexes: Vec<_> = indexes.iter().map(index).collect();
        let create = client
            .create_table()
            .table_name(&name)
            .set_key_schema(Some(schema(key)))
            .set_attribute_definitions(Some(attributes.into_iter().map(define).collect()))
            .set_global_secondary_indexes(Some(indexes).filter(|indexes| !indexes.is_empty()))
            .billing_mode(BillingMode::PayPerRequest);
        create.send().await.unwrap();
        let is_active = async || {
            let table = client.describe_table().table_name(&name).send().await.unwrap().table.unwrap();
            table.table_status == Some(TableStatus::Active)
        };
        while !is_active().await {}
        let table = Self { client, name };
        table.put(items).await;
        table
    }

    pub async fn put(&self, items: &[Value]) {
        for chunk in items.chunks(25) {
            let write = |value: &Value| {
                let put = PutRequest::builder().set_item(Some(item(value))).build().unwrap();
                WriteRequest::builder().put_request(put).build()
            };
            let requests = chunk.iter().map(write).collect();
            let answer =
                self.client.batch_write_item().request_items(&self.name, requests).send().await.unwrap();
            assert!(answer.unprocessed_items.unwrap_or_default().is_empty());
        }
    }

    pub fn request(&self, wanted: &[&str]) -> ReadRequest {
        ReadRequest {
            relation: Relation::Table(self.name.clone()),
            slice_by: Vec::new(),
            columns: [].into(),
            parameters: [].into(),
            wanted: Some(wanted.iter().map(|name| (*name).to_owned()).collect()),
            condition: None,
            wants_all: false,
            whole: false,
            batch_records: 1000,
            batch_bytes: 1 << 20,
        }
    }

    pub fn source(&self, request: ReadRequest) -> Arc<dyn Source> {
        store_at(&endpoint()).source(request).unwrap()
    }

    /// The rows under a condition, from all slices.
    pub async fn rows(&self, wanted: &[&str], condition: Condition) -> Vec<Map<String, Value>> {
        let source = self.source(ReadRequest { condition: Some(condition), ..self.request(wanted) });
        let mut rows = Vec::new();
        for part in source.slices(2).await.unwrap() {
            rows.extend(lines(&all(&*source, &part, None, &context()).await.unwrap()));
        }
        rows
    }
}

/// An item or a map out of DynamoDB JSON.
pub fn item(value: &Value) -> HashMap<String, AttributeValue> {
    value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), attribute(value))).collect()
}

fn attribute(value: &Value) -> AttributeValue {
    let (tag, value) = value.as_object().unwrap().iter().next().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let blob = |value: &Value| Blob::new(BASE64.decode(value.as_str().unwrap()).unwrap());
    let list = || value.as_array().unwrap().iter();
    match tag.as_str() {
        "S" => AttributeValue::S(text(value)),
        "N" => AttributeValue::N(text(value)),
        "B" => AttributeValue::B(blob(value)),
        "BOOL" => AttributeValue::Bool(value.as_bool().unwrap()),
        "NULL" => AttributeValue::Null(true),
        "SS" => AttributeValue::Ss(list().map(text).collect()),
        "NS" => AttributeValue::Ns(list().map(text).collect()),
        "BS" => AttributeValue::Bs(list().map(blob).collect()),
        "L" => AttributeValue::L(list().map(attribute).collect()),
        "M" => AttributeValue::M(item(value)),
        other => panic!("no tag of an attribute: {other}"),
    }
}

/// All batches of a part.
pub async fn all(
    source: &dyn Source,
    part: &SlicePart,
    after: Option<&Cursor>,
    context: &RunContext,
) -> whimbrel_store::Result<Vec<ReadBatch>> {
    source.read(part, after, context).await?.try_collect().await
}

pub fn lines(batches: &[ReadBatch]) -> Vec<Map<String, Value>> {
    let rows = |batch: &RecordBatch| {
        (0..batch.num_rows()).map(|row| record::to_json(batch, row)).collect::<Vec<_>>()
    };
    batches.iter().flat_map(|batch| rows(&batch.records)).collect()
}
