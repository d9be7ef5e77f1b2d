//! One page of a scan or query, as the service sent it.
//!
//! The SDK would make a map of strings of each item, whatever of it is wanted, at several times the cost of
//! all the rest of reading. So the SDK signs, sends and judges the answer, and the body of a good one is taken
//! out of its hands before it reads it: an item stays a stretch of the body's text, and is decoded once,
//! straight into columns.

use super::access::{Access, Expression};
use super::plan::{Part, Plan};
use crate::client::{ATTEMPT_TIMEOUT, Connection};
use crate::error::Failure;
use crate::types::row::Item;
use aws_sdk_dynamodb::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_dynamodb::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use aws_smithy_types::Blob;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::error::Error;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// More room than for this many bytes is not made on the word of a header. DynamoDB's pages end at 1 MB of values;
/// their JSON is seldom twice that.
const LARGEST_PAGE: usize = 4 << 20;

/// A page.
#[derive(Debug)]
pub(crate) struct Page {
    body: String,
    items: Vec<Range<usize>>,
    /// The position behind the page, in DynamoDB JSON; `None`: the part ends with it.
    pub(super) last_key: Option<Map<String, Value>>,
    /// Read units that it used; `None` where the server does not say.
    pub(crate) read_units: Option<f64>,
    /// How many items were looked at, those left out by a filter included.
    pub(super) scanned: u64,
}

/// The body of an answer. An item is passed over here, and decoded when its turn comes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    #[serde(borrow, default)]
    items: Vec<&'a RawValue>,
    #[serde(default)]
    last_evaluated_key: Option<Map<String, Value>>,
    #[serde(default)]
    consumed_capacity: Option<ConsumedCapacity>,
    #[serde(default)]
    scanned_count: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ConsumedCapacity {
    #[serde(default)]
    capacity_units: Option<f64>,
}

impl Page {
    /// # Errors
    /// The body is not what the API says.
    pub(crate) fn of(body: Vec<u8>) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let body = String::from_utf8(body)?;
        let parsed: Body<'_> = serde_json::from_str(&body)?;
        let start = body.as_ptr().addr();
        let range = |item: &&RawValue| {
            let from = item.get().as_ptr().addr() - start;
            from..from + item.get().len()
        };
        let items = parsed.items.iter().map(range).collect();
        let last_key = parsed.last_evaluated_key.filter(|key| !key.is_empty());
        let read_units = parsed.consumed_capacity.and_then(|capacity| capacity.capacity_units);
        let scanned = parsed.scanned_count;
        Ok(Self { items, last_key, read_units, scanned, body })
    }

    /// How many items there are.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// An item in DynamoDB JSON; empty where there is none of that number.
    pub(crate) fn item(&self, number: usize) -> &str {
        self.items.get(number).and_then(|range| self.body.get(range.clone())).unwrap_or_default()
    }
}

/// What a page is asked with.
#[derive(Clone, Debug)]
pub(super) struct PageRequest {
    pub(super) table: String,
    pub(super) plan: Arc<Plan>,
    pub(super) part: Part,
    /// The key that the page begins after.
    pub(super) after: Option<Item>,
    /// How many items may be looked at; `None`: as many as a page holds.
    pub(super) limit: Option<i32>,
}

/// The body of an answer, on its way past the SDK.
#[derive(Clone, Debug, Default)]
struct Taken(Arc<Mutex<Option<SdkBody>>>);

impl Intercept for Taken {
    fn name(&self) -> &'static str {
        "TakeBody"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let response = context.response_mut();
        if response.status().as_u16() == 200 {
            let body = std::mem::replace(response.body_mut(), SdkBody::from("{}"));
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
        Ok(())
    }
}

impl Taken {
    async fn bytes(self) -> Result<Vec<u8>, Failure> {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let body = body.ok_or_else(|| Failure::protocol("an answer without a body"))?;
        let collected = tokio::time::timeout(ATTEMPT_TIMEOUT, joined(ByteStream::new(body))).await;
        collected.map_err(Failure::lost)?.map_err(Failure::lost)
    }
}

impl PageRequest {
    /// Asks for the page once.
    ///
    /// # Errors
    /// The store fails, or the answer is not what the API says.
    pub(super) async fn send(&self, connection: &Connection) -> Result<Page, Failure> {
        let taken = Taken::default();
        match &self.part {
            Part::Scan { segment, of } => self.scan(connection, *segment, *of, &taken).await?,
            Part::Query { key, .. } => {
                let expression = match &self.plan.access {
                    Access::Query(query) => query.expression(key).map(|expression| (query, expression)),
                    Access::Scan => None,
                };
                let (query, expression) =
                    expression.ok_or_else(|| Failure::protocol("a part of another plan"))?;
                self.query(connection, query.index.clone(), expression, &taken).await?;
            }
        }
        Page::of(taken.bytes().await?).map_err(|error| Failure::protocol(&error.to_string()))
    }

    async fn scan(
        &self,
        connection: &Connection,
        segment: i32,
        of: i32,
        taken: &Taken,
    ) -> Result<(), Failure> {
        let filter = self.plan.filter.as_ref().map(|(filter, _)| filter.clone()).unwrap_or_default();
        let request = connection
            .client
            .scan()
            .table_name(&self.table)
            .segment(segment)
            .total_segments(of)
            .consistent_read(self.plan.consistent)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .set_limit(self.limit)
            .set_filter_expression(Some(filter.text).filter(|text| !text.is_empty()))
            .set_expression_attribute_names(Some(filter.names).filter(|names| !names.is_empty()))
            .set_expression_attribute_values(Some(filter.values).filter(|values| !values.is_empty()))
            .set_exclusive_start_key(self.after.clone());
        match request.customize().interceptor(taken.clone()).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(connection.failure(error).await),
        }
    }

    async fn query(
        &self,
        connection: &Connection,
        index: Option<String>,
        key: Expression,
        taken: &Taken,
    ) -> Result<(), Failure> {
        let filter = self.plan.filter.as_ref().map(|(filter, _)| filter.clone()).unwrap_or_default();
        let request = connection
            .client
            .query()
            .table_name(&self.table)
            .set_index_name(index)
            .key_condition_expression(key.text)
            .consistent_read(self.plan.consistent)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .set_limit(self.limit)
            .set_filter_expression(Some(filter.text).filter(|text| !text.is_empty()))
            .set_expression_attribute_names(Some(key.names.into_iter().chain(filter.names).collect()))
            .set_expression_attribute_values(Some(key.values.into_iter().chain(filter.values).collect()))
            .set_exclusive_start_key(self.after.clone());
        match request.customize().interceptor(taken.clone()).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(connection.failure(error).await),
        }
    }
}

/// The whole of a body. Each part is copied as it comes, while it is still in the cache, into room for all of them.
async fn joined(mut body: ByteStream) -> Result<Vec<u8>, aws_smithy_types::byte_stream::error::Error> {
    let announced = usize::try_from(body.size_hint().0).unwrap_or(0);
    let mut whole = Vec::with_capacity(announced.min(LARGEST_PAGE));
    while let Some(part) = body.try_next().await? {
        whole.extend_from_slice(&part);
    }
    Ok(whole)
}

/// A key in DynamoDB JSON as the SDK takes it; `None` where it is none.
pub(super) fn key_item(key: &Map<String, Value>) -> Option<Item> {
    let attribute = |value: &Value| {
        let (tag, text) = value.as_object().filter(|map| map.len() == 1)?.iter().next()?;
        let text = text.as_str()?;
        Some(match tag.as_str() {
            "S" => AttributeValue::S(text.to_owned()),
            "N" => AttributeValue::N(text.to_owned()),
            "B" => AttributeValue::B(Blob::new(BASE64.decode(text).ok()?)),
            _ => return None,
        })
    };
    key.iter().map(|(name, value)| Some((name.clone(), attribute(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_into_items() {
        let body = r#"{"Count":2,"Items":[ {"a":{"S":"ü\"}"}} ,{"a":{"N":"1"}}],"ScannedCount":3,
            "LastEvaluatedKey":{"a":{"B":"AP8="}},"ConsumedCapacity":{"CapacityUnits":0.5,"TableName":"t"}}"#;
        let page = Page::of(body.as_bytes().to_vec()).unwrap();
        assert_eq!((page.len(), page.scanned, page.read_units), (2, 3, Some(0.5)));
        assert_eq!(
            [page.item(0), page.item(1), page.item(2)],
            [r#"{"a":{"S":"ü\"}"}}"#, r#"{"a":{"N":"1"}}"#, ""]
        );
        let key = key_item(&page.last_key.unwrap()).unwrap();
        assert_eq!(key["a"], AttributeValue::B(Blob::new(vec![0, 255])));
        for body in ["", "7", r#"{"Items":[{"a":}]}"#, r#"{"Items":[{"a"#] {
            assert!(Page::of(body.as_bytes().to_vec()).is_err(), "{body}");
        }
        assert_eq!(Page::of(b"{\"Items\":[]}".to_vec()).unwrap().last_key, None);
    }
}
