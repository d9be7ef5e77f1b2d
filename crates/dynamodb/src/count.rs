//! Counting a flow's items where they lie.

use crate::client::Connector;
use crate::error::Failure;
use crate::pacing::{Pacer, Patience, persistently};
use crate::types::row::Item;
use aws_sdk_dynamodb::types::{AttributeValue, Select};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, TryStreamExt as _};
use std::collections::HashMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use whimbrel_store::{Held, KeyPattern, Result, StoreError};

/// How long counting is tried again without a page of progress.
const PATIENCE: Duration = Duration::from_secs(60);
const SEGMENTS: i32 = 4;

/// A page of a count: how many of its items belong to whom, and the key that the next page begins after.
type Page = (Held, Option<Item>);

/// Tells flows' items apart by what is constant in them.
struct Classes<'a> {
    patterns: &'a [Vec<KeyPattern>],
    /// The flows, the one with the longest constants first: an item belongs to the first that fits.
    order: Vec<usize>,
    /// The attributes that are looked at, `#c0`, `#c1`, …
    columns: Vec<&'a str>,
}

impl<'a> Classes<'a> {
    fn of(patterns: &'a [Vec<KeyPattern>]) -> Self {
        let length = |flow: usize| {
            let lengths =
                patterns[flow].iter().map(|pattern| pattern.text.len() + usize::from(pattern.whole));
            lengths.sum::<usize>()
        };
        let mut order: Vec<usize> = (0..patterns.len()).collect();
        order.sort_by_key(|flow| std::cmp::Reverse(length(*flow)));
        let mut columns: Vec<&str> =
            patterns.iter().flatten().map(|pattern| pattern.column.as_str()).collect();
        columns.sort_unstable();
        columns.dedup();
        Self { patterns, order, columns }
    }

    /// Only what is looked at is sent back; `None` where nothing is.
    fn projection(&self) -> Option<String> {
        let names = (0..self.columns.len()).map(|number| format!("#c{number}"));
        Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
    }

    fn names(&self) -> Option<HashMap<String, String>> {
        let names =
            self.columns.iter().enumerate().map(|(number, name)| (format!("#c{number}"), (*name).to_owned()));
        Some(names.collect::<HashMap<_, _>>()).filter(|names| !names.is_empty())
    }

    fn class(&self, item: &Item) -> Option<usize> {
        let fits = |pattern: &KeyPattern| match item.get(&pattern.column) {
            Some(AttributeValue::S(text)) if pattern.whole => *text == pattern.text,
            Some(AttributeValue::S(text)) => text.starts_with(&pattern.text),
            _ => false,
        };
        self.order.iter().copied().find(|flow| self.patterns[*flow].iter().all(fits))
    }

    /// Counts a page. Without a projection every item belongs to whoever comes first.
    fn count(&self, items: &[Item], number: i32) -> Held {
        let mut held = Held { flows: vec![0; self.patterns.len()], others: 0 };
        if self.columns.is_empty() {
            match self.order.first() {
                Some(flow) => held.flows[*flow] = counted(number),
                None => held.others = counted(number),
            }
            return held;
        }
        for item in items {
            match self.class(item) {
                Some(flow) => held.flows[flow] += 1,
                None => held.others += 1,
            }
        }
        held
    }
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

/// Counts the items of each flow in one scan of the whole table, in segments.
///
/// # Errors
/// The store fails.
pub(crate) async fn count(connector: &Connector, table: &str, patterns: &[Vec<KeyPattern>]) -> Result<Held> {
    let connection = connector.connection().await?;
    let client = &connection.client;
    let classes = &Classes::of(patterns);
    let select = if classes.columns.is_empty() { Select::Count } else { Select::SpecificAttributes };
    let segments = (0..SEGMENTS).map(|segment| {
        let select = select.clone();
        let page = move |after| {
            let scan = client.scan().table_name(table).select(select.clone()).consistent_read(true);
            let scan = scan
                .segment(segment)
                .total_segments(SEGMENTS)
                .set_projection_expression(classes.projection())
                .set_expression_attribute_names(classes.names())
                .set_exclusive_start_key(after);
            async move {
                match scan.send().await {
                    Ok(output) => {
                        Ok((classes.count(output.items(), output.count), output.last_evaluated_key))
                    }
                    Err(error) => Err(connection.failure(error).await),
                }
            }
        };
        pages(connector, table, patterns.len(), move |after| page(after).boxed())
    });
    let segments: FuturesUnordered<_> = segments.collect();
    let nothing = Held { flows: vec![0; patterns.len()], others: 0 };
    segments.try_fold(nothing, |sum, held| async move { Ok::<_, StoreError>(plus(sum, &held)) }).await
}

fn plus(mut sum: Held, more: &Held) -> Held {
    sum.flows.iter_mut().zip(&more.flows).for_each(|(sum, more)| *sum += more);
    sum.others += more.others;
    sum
}

fn counted(count: i32) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

async fn pages<'r>(
    connector: &Connector,
    table: &str,
    flows: usize,
    page: impl Fn(Option<Item>) -> BoxFuture<'r, std::result::Result<Page, Failure>>,
) -> Result<Held> {
    let (stop, pacer) = (CancellationToken::new(), Pacer::new());
    let mut patience = Patience::new(Some(&pacer), PATIENCE, &stop, None);
    let (mut sum, mut after) = (Held { flows: vec![0; flows], others: 0 }, None);
    loop {
        let answer = persistently(&mut patience, || page(after.clone())).await;
        let (held, next) = answer.map_err(|impatience| {
            impatience.into_error(connector.name(), format!("cannot count the items of table \"{table}\""))
        })?;
        patience.progressed();
        sum = plus(sum, &held);
        match next {
            Some(next) => after = Some(next),
            None => return Ok(sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(constants: &[(&str, &str, bool)]) -> Vec<KeyPattern> {
        let pattern = |(column, text, whole): &(&str, &str, bool)| KeyPattern {
            column: (*column).to_owned(),
            text: (*text).to_owned(),
            whole: *whole,
        };
        constants.iter().map(pattern).collect()
    }

    fn item(pk: &str, sk: &str) -> Item {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        HashMap::from([("pk".to_owned(), text(pk)), ("sk".to_owned(), text(sk))])
    }

    #[test]
    fn an_item_belongs_to_the_flow_with_the_longest_constants() {
        let flows = [
            patterns(&[("pk", "USER#", false)]),
            patterns(&[("pk", "USER#", false), ("sk", "METADATA", true)]),
            patterns(&[("pk", "FEED#", false)]),
        ];
        let items = [item("USER#1", "METADATA"), item("USER#1", "METADATA2"), item("OTHER#1", "METADATA")];
        let held = Classes::of(&flows).count(&items, 3);
        assert_eq!(held, Held { flows: vec![1, 1, 0], others: 1 });
    }

    #[test]
    fn without_constants_everything_is_the_flows_own() {
        assert_eq!(Classes::of(&[Vec::new()]).count(&[], 7), Held { flows: vec![7], others: 0 });
        assert_eq!(Classes::of(&[Vec::new()]).projection(), None);
    }
}
