//! Counting a flow's items where they lie.

use crate::client::Connector;
use crate::definition::{KeyRole, ScalarKind};
use crate::error::Failure;
use crate::pacing::{Pacer, Patience, persistently};
use crate::types::row::{Item, Layout};
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, TryStreamExt as _};
use std::collections::HashMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use whimbrel_store::{KeyPattern, Result, StoreError};

/// How long counting is tried again without a page of progress.
const PATIENCE: Duration = Duration::from_secs(60);
const SEGMENTS: i32 = 4;

/// A page of a count: its items, and the key that the next page begins after.
type Page = (u64, Option<Item>);

/// Conditions on attributes, in DynamoDB's expression language.
#[derive(Debug, Default)]
struct Conditions {
    key: Vec<String>,
    filter: Vec<String>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Conditions {
    /// Puts conditions on the partition key to use where all of it is given: then one partition is read.
    fn of(layout: &Layout, patterns: &[KeyPattern]) -> Self {
        let whole = |name: &str| patterns.iter().any(|pattern| pattern.whole && pattern.column == name);
        let query = layout.key.iter().filter(|key| key.role == KeyRole::Hash).all(|key| whole(&key.name));
        let mut conditions = Self::default();
        for (number, pattern) in patterns.iter().enumerate() {
            let key = layout.key.iter().find(|key| key.name == pattern.column);
            let text = pattern.text.clone();
            let value = match key.map(|key| key.kind) {
                Some(ScalarKind::N) => AttributeValue::N(text),
                Some(ScalarKind::B) => AttributeValue::B(text.into_bytes().into()),
                Some(ScalarKind::S) | None => AttributeValue::S(text),
            };
            conditions.names.insert(format!("#c{number}"), pattern.column.clone());
            conditions.values.insert(format!(":v{number}"), value);
            let condition = match pattern.whole {
                true => format!("#c{number} = :v{number}"),
                false => format!("begins_with(#c{number}, :v{number})"),
            };
            if query && key.is_some() { &mut conditions.key } else { &mut conditions.filter }.push(condition);
        }
        conditions
    }

    fn names(&self) -> Option<HashMap<String, String>> {
        Some(self.names.clone()).filter(|names| !names.is_empty())
    }

    fn values(&self) -> Option<HashMap<String, AttributeValue>> {
        Some(self.values.clone()).filter(|values| !values.is_empty())
    }
}

fn joined(conditions: &[String]) -> Option<String> {
    (!conditions.is_empty()).then(|| conditions.join(" AND "))
}

/// Whether the table holds no item.
///
/// # Errors
/// The store fails.
pub(crate) async fn is_empty(connector: &Connector, table: &str) -> Result<bool> {
    let connection = connector.connection().await?;
    let look = async || {
        let scan =
            connection.client.scan().table_name(table).select(Select::Count).limit(1).consistent_read(true);
        match scan.send().await {
            Ok(output) => Ok(output.count == 0 && output.last_evaluated_key.is_none()),
            Err(error) => Err(connection.failure(error).await),
        }
    };
    let stop = CancellationToken::new();
    let mut patience = Patience::new(None, PATIENCE, &stop, None);
    persistently(&mut patience, || look().boxed()).await.map_err(|impatience| {
        impatience.into_error(connector.name(), format!("cannot read table \"{table}\""))
    })
}

/// Counts the items that carry each of the given attributes: a Query where the partition key is among them,
/// else a Scan of the whole table in segments.
///
/// # Errors
/// The store fails.
pub(crate) async fn count(
    connector: &Connector,
    table: &str,
    layout: &Layout,
    patterns: &[KeyPattern],
) -> Result<u64> {
    let connection = connector.connection().await?;
    let client = &connection.client;
    let conditions = &Conditions::of(layout, patterns);
    if !conditions.key.is_empty() {
        let page = async |after| {
            let query = client.query().table_name(table).select(Select::Count).consistent_read(true);
            let query = query
                .set_key_condition_expression(joined(&conditions.key))
                .set_filter_expression(joined(&conditions.filter))
                .set_expression_attribute_names(conditions.names())
                .set_expression_attribute_values(conditions.values())
                .set_exclusive_start_key(after);
            match query.send().await {
                Ok(output) => Ok((counted(output.count), output.last_evaluated_key)),
                Err(error) => Err(connection.failure(error).await),
            }
        };
        return pages(connector, table, |after| page(after).boxed()).await;
    }
    let segments = (0..SEGMENTS).map(|segment| {
        let page = move |after| async move {
            let scan = client.scan().table_name(table).select(Select::Count).consistent_read(true);
            let scan = scan
                .segment(segment)
                .total_segments(SEGMENTS)
                .set_filter_expression(joined(&conditions.filter))
                .set_expression_attribute_names(conditions.names())
                .set_expression_attribute_values(conditions.values())
                .set_exclusive_start_key(after);
            match scan.send().await {
                Ok(output) => Ok((counted(output.count), output.last_evaluated_key)),
                Err(error) => Err(connection.failure(error).await),
            }
        };
        pages(connector, table, move |after| page(after).boxed())
    });
    let segments: FuturesUnordered<_> = segments.collect();
    segments.try_fold(0, |sum, items| async move { Ok::<_, StoreError>(sum + items) }).await
}

fn counted(count: i32) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

async fn pages<'r>(
    connector: &Connector,
    table: &str,
    page: impl Fn(Option<Item>) -> BoxFuture<'r, std::result::Result<Page, Failure>>,
) -> Result<u64> {
    let (stop, pacer) = (CancellationToken::new(), Pacer::new());
    let mut patience = Patience::new(Some(&pacer), PATIENCE, &stop, None);
    let (mut sum, mut after) = (0, None);
    loop {
        let answer = persistently(&mut patience, || page(after.clone())).await;
        let (items, next) = answer.map_err(|impatience| {
            impatience.into_error(connector.name(), format!("cannot count the items of table \"{table}\""))
        })?;
        patience.progressed();
        sum += items;
        match next {
            Some(next) => after = Some(next),
            None => return Ok(sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Definition;
    use serde_json::json;

    fn conditions(patterns: &[(&str, &str, bool)]) -> (Vec<String>, Vec<String>) {
        let definition = json!({"key": "pk", "sort_key": {"name": "n", "type": "N"}});
        let layout = Layout::of(&Definition::read("t", &definition).unwrap());
        let pattern = |(column, text, whole): &(&str, &str, bool)| KeyPattern {
            column: (*column).to_owned(),
            text: (*text).to_owned(),
            whole: *whole,
        };
        let conditions = Conditions::of(&layout, &patterns.iter().map(pattern).collect::<Vec<_>>());
        (conditions.key, conditions.filter)
    }

    #[test]
    fn a_whole_partition_key_makes_a_query() {
        let (key, filter) = conditions(&[("pk", "USER#1", true), ("n", "7", true), ("kind", "user", true)]);
        assert_eq!(key, ["#c0 = :v0", "#c1 = :v1"]);
        assert_eq!(filter, ["#c2 = :v2"]);
        let (key, filter) = conditions(&[("pk", "USER#", false), ("kind", "user", true)]);
        assert_eq!(key, Vec::<String>::new());
        assert_eq!(filter, ["begins_with(#c0, :v0)", "#c1 = :v1"]);
    }
}
