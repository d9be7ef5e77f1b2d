//! What items that were read say, in plain JSON, made only where somebody looks.

use super::flows::Flows;
use crate::source::Page;
use crate::types::read::{Attribute, Text};
use crate::types::row::Item;
use crate::types::value::preview;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use whimbrel_store::HeldContents;

/// The items of a page, as stretches of its text.
pub(super) struct PageContents {
    page: Page,
    /// The number in the page of each item that is a record.
    items: Vec<usize>,
    /// The flow of each.
    of: Vec<Option<usize>>,
    flows: Arc<Flows>,
}

impl PageContents {
    pub(super) fn new(page: Page, items: Vec<usize>, of: Vec<Option<usize>>, flows: &Arc<Flows>) -> Self {
        Self { page, items, of, flows: Arc::clone(flows) }
    }

    fn attributes(&self, row: usize, shows: impl Fn(&str) -> bool) -> Map<String, Value> {
        let item = self.items.get(row).map_or("{}", |number| self.page.item(*number));
        // What nobody looked at as it was decoded may still be malformed: it is shown as the text that it is.
        let item: BTreeMap<Text<'_>, &serde_json::value::RawValue> =
            serde_json::from_str(item).unwrap_or_default();
        let shown = |raw: &serde_json::value::RawValue| {
            let attribute = serde_json::from_str::<Attribute<'_>>(raw.get()).ok();
            let value = attribute.and_then(|attribute| attribute.value().ok());
            value.map_or_else(|| Value::String(raw.get().to_owned()), |value| preview(&value))
        };
        let wanted = item.into_iter().filter(|(Text(name), _)| shows(name));
        wanted.map(|(Text(name), raw)| (name.into_owned(), shown(raw))).collect()
    }
}

impl fmt::Debug for PageContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items", self.items.len())
    }
}

impl HeldContents for PageContents {
    fn key(&self, row: usize) -> Map<String, Value> {
        self.attributes(row, |name| self.flows.key.iter().any(|key| key == name))
    }

    fn record(&self, row: usize) -> Map<String, Value> {
        let flow = self.of.get(row).copied().flatten();
        self.attributes(row, |name| self.flows.shows(flow, name))
    }

    fn version(&self, row: usize) -> Value {
        self.items.get(row).map_or(Value::Null, |number| self.page.item(*number).into())
    }
}

/// Items of one flow that were looked up by their keys.
pub(super) struct ItemContents {
    items: Vec<Item>,
    flows: Flows,
}

impl ItemContents {
    pub(super) fn new(items: Vec<Item>, flows: Flows) -> Self {
        Self { items, flows }
    }

    fn attributes(&self, row: usize, shows: impl Fn(&str) -> bool) -> Map<String, Value> {
        let item = self.items.get(row).into_iter().flatten().filter(|(name, _)| shows(name));
        let item: BTreeMap<_, _> = item.collect();
        item.into_iter().map(|(name, value)| (name.clone(), preview(value))).collect()
    }
}

impl fmt::Debug for ItemContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items", self.items.len())
    }
}

impl HeldContents for ItemContents {
    fn key(&self, row: usize) -> Map<String, Value> {
        self.attributes(row, |name| self.flows.key.iter().any(|key| key == name))
    }

    fn record(&self, row: usize) -> Map<String, Value> {
        self.attributes(row, |name| self.flows.shows(Some(0), name))
    }
}
