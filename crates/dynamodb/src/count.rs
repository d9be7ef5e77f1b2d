//! Counting a flow's items where they lie.

use crate::classes::Classes;
use crate::client::Connector;
use crate::error::Failure;
use crate::pacing::{Pacer, Patience, persistently};
use crate::types::row::Item;
use aws_sdk_dynamodb::types::Select;
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

/// Only what is looked at is sent back, `#c0`, `#c1`, …; `None` where nothing is.
fn projection(classes: &Classes) -> Option<String> {
    let names = (0..classes.columns().len()).map(|number| format!("#c{number}"));
    Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
}

fn names(classes: &Classes) -> Option<HashMap<String, String>> {
    let names = classes.columns().iter().enumerate();
    let names = names.map(|(number, name)| (format!("#c{number}"), name.clone()));
    Some(names.collect::<HashMap<_, _>>()).filter(|names| !names.is_empty())
}

/// Counts a page of so many items. Without a projection every item belongs to whoever comes first.
fn count_page(classes: &Classes, items: &[Item], number: i32) -> Held {
    let mut held = Held { flows: vec![0; classes.len()], others: 0 };
    let mut add = |flow: Option<usize>, number: u64| match flow {
        Some(flow) => held.flows[flow] += number,
        None => held.others += number,
    };
    if classes.columns().is_empty() {
        add(classes.class(|_| None, |_| true), u64::try_from(number).unwrap_or(0));
        return held;
    }
    for item in items {
        let text = |column: usize| item.get(&classes.columns()[column])?.as_s().ok().map(String::as_str);
        add(classes.class(text, |_| true), 1);
    }
    held
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
    let classes = &Classes::of(patterns.iter().map(Vec::as_slice));
    let select = if classes.columns().is_empty() { Select::Count } else { Select::SpecificAttributes };
    let segments = (0..SEGMENTS).map(|segment| {
        let select = select.clone();
        let page = move |after| {
            let scan = client.scan().table_name(table).select(select.clone()).consistent_read(true);
            let scan = scan
                .segment(segment)
                .total_segments(SEGMENTS)
                .set_projection_expression(projection(classes))
                .set_expression_attribute_names(names(classes))
                .set_exclusive_start_key(after);
            async move {
                match scan.send().await {
                    Ok(output) => {
                        Ok((count_page(classes, output.items(), output.count), output.last_evaluated_key))
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
    use aws_sdk_dynamodb::types::AttributeValue;

    fn patterns(constants: &[(&str, &str, bool)]) -> Vec<KeyPattern> {
        let pattern = |(column, text, whole): &(&str, &str, bool)| KeyPattern {
            column: (*column).to_owned(),
            text: (*text).to_owned(),
            whole: *whole,
        };
        constants.iter().map(pattern).collect()
    }

    #[test]
    fn pages_are_counted_by_flow() {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let item = |pk: &str| Item::from([("pk".to_owned(), text(pk))]);
        let flows = [patterns(&[("pk", "USER#", false)]), patterns(&[("pk", "FEED#", false)])];
        let classes = Classes::of(flows.iter().map(Vec::as_slice));
        let items = [item("USER#1"), item("USER#2"), item("OTHER#1")];
        assert_eq!(count_page(&classes, &items, 3), Held { flows: vec![2, 0], others: 1 });
        assert_eq!(projection(&classes).as_deref(), Some("#c0"));
    }

    #[test]
    fn without_constants_everything_is_the_flows_own() {
        let classes = Classes::of([&[][..]]);
        assert_eq!(count_page(&classes, &[], 7), Held { flows: vec![7], others: 0 });
        assert_eq!(projection(&classes), None);
    }
}
