//! Single requests under a condition: an item is written or deleted only where it still is what was read.

use crate::client::Connector;
use crate::error::Failure;
use crate::gets::{Tally, units};
use crate::limits;
use crate::pacing::{Impatience, Pacer, Patience, persistently};
use crate::types::row::{Item, Layout, write_units};
use aws_sdk_dynamodb::types::{AttributeValue, ConsumedCapacity};
use futures::future::BoxFuture;
use std::collections::HashMap;
use whimbrel_model::Capacity;
use whimbrel_store::{RunContext, WriteRequest};

/// How many requests are under way at once.
pub(super) const REQUESTS: usize = 16;
/// How many attributes an expression can compare: it holds 300 operators, and each takes one and an `AND`.
pub(super) const MOST_GUARDS: usize = 140;

/// A table to which single requests go, and what they are measured and limited by.
#[derive(Clone, Copy)]
pub(crate) struct Conditional<'a> {
    pub(crate) connector: &'a Connector,
    pub(crate) pacer: &'a Pacer,
    pub(crate) request: &'a WriteRequest,
    pub(crate) layout: &'a Layout,
    pub(crate) context: &'a RunContext,
}

/// Whether a request was carried out, its condition being met, and what it used, as far as the answer says.
pub(super) type Sent = Result<(bool, Option<Capacity>), Failure>;

impl Conditional<'_> {
    /// Sends one request for so many units, paced, budgeted and repeated as need be; `false`: its condition was not
    /// met.
    pub(super) async fn send<'s>(
        &self,
        units: u64,
        tally: &Tally,
        request: impl FnMut() -> BoxFuture<'s, Sent>,
    ) -> Result<bool, Impatience> {
        let context = self.context;
        let mut patience =
            Patience::new(Some(self.pacer), context.retry_for, &context.stop, Some(&context.meter));
        let estimate = write_units(units);
        let permit = self.pacer.acquire(estimate.write_units, &context.stop, &context.stop).await;
        let permit = permit.ok_or(Impatience::Stopped)?;
        context.budget.reserve(estimate).map_err(Impatience::Spent)?;
        let answer = persistently(&mut patience, request).await;
        let used = match &answer {
            Ok((_, used)) => used.unwrap_or(estimate),
            Err(_) => Capacity::default(),
        };
        tally.settle(context, estimate, used);
        permit.used(used.write_units);
        let (is_met, _) = answer?;
        permit.answered(1);
        patience.progressed();
        Ok(is_met)
    }
}

/// That every attribute of an item holds what was read: the condition with its names and values. `None` where one
/// expression cannot compare them all.
pub(super) struct Unchanged {
    pub(super) condition: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: HashMap<String, AttributeValue>,
}

impl Unchanged {
    pub(super) fn of(item: &Item) -> Option<Self> {
        if item.len() > MOST_GUARDS {
            return None;
        }
        let mut unchanged = Self { condition: String::new(), names: HashMap::new(), values: HashMap::new() };
        let mut conditions = Vec::with_capacity(item.len());
        for (number, (name, value)) in item.iter().enumerate() {
            conditions.push(format!("#{number}=:{number}"));
            unchanged.names.insert(format!("#{number}"), name.clone());
            unchanged.values.insert(format!(":{number}"), value.clone());
        }
        unchanged.condition = conditions.join(" AND ");
        Some(unchanged)
    }

    /// That there still is no item of a key.
    pub(super) fn absent(key: &Item) -> Option<Self> {
        let names = HashMap::from([("#k".to_owned(), key.keys().next()?.clone())]);
        Some(Self { condition: "attribute_not_exists(#k)".to_owned(), names, values: HashMap::new() })
    }
}

/// What a write used, as its answer says.
pub(super) fn used(consumed: Option<ConsumedCapacity>) -> Option<Capacity> {
    let used = Capacity { write_units: units(consumed.as_slice()), ..Capacity::default() };
    consumed.map(|_| used)
}

/// The bytes of an item, as DynamoDB counts them.
pub(super) fn size(item: &Item) -> u64 {
    item.iter().map(|(name, value)| limits::bytes(name.len()) + limits::size(value)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_attributes_are_compared_or_none() {
        let item = |attributes: usize| -> Item {
            (0..attributes).map(|n| (format!("a{n}"), AttributeValue::N(n.to_string()))).collect()
        };
        let unchanged = Unchanged::of(&item(MOST_GUARDS)).expect("as many as one expression takes");
        assert_eq!((unchanged.names.len(), unchanged.values.len()), (MOST_GUARDS, MOST_GUARDS));
        assert_eq!(unchanged.condition.matches(" AND ").count(), MOST_GUARDS - 1);
        for (short, name) in &unchanged.names {
            assert_eq!(unchanged.values[&short.replace('#', ":")], item(MOST_GUARDS)[name]);
        }
        assert!(Unchanged::of(&item(MOST_GUARDS + 1)).is_none());
    }
}
