//! What a first look at the items shows: DynamoDB has no schema that would say it.

use super::page::Page;
use super::plan::Plan;
use crate::types::read::{Attribute, Reading, Text};
use std::collections::{BTreeMap, BTreeSet};

/// How many items are looked at.
pub(super) const SAMPLE_ITEMS: i32 = 100;
/// How many names a note lists.
const NAMES_SHOWN: usize = 20;

/// The attributes of some items.
#[derive(Debug)]
pub(super) struct Sample {
    /// How many items.
    pub(super) items: usize,
    /// Whether there are more than these.
    pub(super) more: bool,
    /// The types that each attribute was seen with, and how often.
    attributes: BTreeMap<String, (usize, BTreeSet<&'static str>)>,
}

impl Sample {
    /// # Errors
    /// An item is not as DynamoDB writes it.
    pub(super) fn of(page: &Page) -> Result<Self, serde_json::Error> {
        let mut attributes: BTreeMap<String, (usize, BTreeSet<&'static str>)> = BTreeMap::new();
        for number in 0..page.len() {
            let item: BTreeMap<Text<'_>, Attribute<'_>> = serde_json::from_str(page.item(number))?;
            for (Text(name), attribute) in item {
                let seen = attributes.entry(name.into_owned()).or_default();
                seen.0 += 1;
                seen.1.insert(attribute.tag());
            }
        }
        Ok(Self { items: page.len(), more: page.last_key.is_some(), attributes })
    }

    /// What a person should know of the items.
    pub(super) fn notes(&self, plan: &Plan) -> Vec<String> {
        if self.items == 0 {
            return Vec::new();
        }
        let items = match (self.items, self.more) {
            (1, false) => "the one item".to_owned(),
            (items, false) => format!("all {items} items"),
            (1, true) => "the first item looked at".to_owned(),
            (items, true) => format!("the first {items} items looked at"),
        };
        let reads = |name: &str| plan.columns.iter().any(|column| column.name == name);
        let reads_all = plan.columns.iter().any(|column| column.reading == Reading::Item);
        let mut notes = Vec::new();
        let unread: Vec<&str> =
            self.attributes.keys().map(String::as_str).filter(|name| !reads_all && !reads(name)).collect();
        if !unread.is_empty() {
            notes.push(format!("in {items}, attributes that nothing reads: {}", listed(&unread)));
        }
        let absent: Vec<&str> = plan
            .columns
            .iter()
            .filter(|column| column.reading != Reading::Item && !self.attributes.contains_key(&column.name))
            .map(|column| column.name.as_str())
            .collect();
        if !absent.is_empty() {
            notes.push(format!("columns that none of {items} has: {}", listed(&absent)));
        }
        let mixed = |(name, (_, tags)): (&String, &(usize, BTreeSet<&'static str>))| {
            let tags: Vec<_> = tags.iter().copied().collect();
            (tags.len() > 1 && reads(name)).then(|| format!("{name} ({})", tags.join(", ")))
        };
        let mixed: Vec<String> = self.attributes.iter().filter_map(mixed).collect();
        if !mixed.is_empty() {
            let mixed: Vec<&str> = mixed.iter().map(String::as_str).collect();
            notes.push(format!("in {items}, columns of several types: {}", listed(&mixed)));
        }
        notes
    }
}

fn listed(names: &[&str]) -> String {
    let shown = names[..names.len().min(NAMES_SHOWN)].join(", ");
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}
