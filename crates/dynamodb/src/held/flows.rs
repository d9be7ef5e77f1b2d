//! The flows into a table: which item belongs to which, and its fingerprint over that flow's columns.

use super::MalformedItem;
use crate::classes::Classes;
use crate::types::ignore::Ignore;
use crate::types::item::is_item;
use crate::types::read::{Attribute, Text};
use crate::types::row::Layout;
use crate::types::value::canonical;
use arrow::datatypes::Schema;
use aws_sdk_dynamodb::types::AttributeValue;
use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::decimal::Decimal;
use whimbrel_model::{Fingerprint, FingerprintKey};
use whimbrel_store::{HeldFlow, KeyPattern, WriteRequest};

/// The flows into a table.
#[derive(Debug)]
pub(crate) struct Flows {
    /// The table's key attributes, in its order.
    pub(super) key: Vec<String>,
    flows: Vec<Flow>,
    classes: Classes,
    /// The attributes that are looked at, each with its place among an item's values.
    places: HashMap<String, usize>,
    /// The places of the key.
    key_places: Vec<usize>,
    /// The places of the attributes that classes look at.
    class_places: Vec<usize>,
    /// Whether a flow writes whole items, so that every attribute counts.
    wants_all: bool,
    fingerprint_key: FingerprintKey,
}

/// A flow, by what it writes.
#[derive(Debug)]
struct Flow {
    /// All its columns.
    written: BTreeSet<String>,
    /// It writes whole items: every attribute is its own.
    is_whole: bool,
    /// Those that are compared, by name.
    compared: Vec<Column>,
    ignore: Ignore,
    /// The places of the attributes that name the tenant, with what they hold in each of its items.
    scope: Vec<(usize, String)>,
}

#[derive(Debug)]
struct Column {
    name: String,
    place: usize,
    partly_ignored: bool,
}

/// The attributes of an item, as far as they are looked at.
#[derive(Debug)]
pub(super) struct Values<'n, V> {
    /// Those that have a place.
    at: Vec<Option<V>>,
    /// All others, where a flow writes whole items.
    rest: Vec<(Cow<'n, str>, V)>,
}

impl<V> Values<'_, V> {
    fn clear(&mut self) {
        self.at.fill_with(|| None);
        self.rest.clear();
    }
}

/// What is used again from item to item.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    key: Canonical,
    record: Canonical,
}

/// A value of an attribute, as a page or as the SDK holds it.
pub(super) trait HeldValue {
    /// The text of an S.
    fn text(&self) -> Option<&str>;
    /// The digits of an N.
    fn number(&self) -> Option<&str>;
    /// Appends the value in canonical form.
    fn append(&self, into: &mut Canonical) -> Result<(), MalformedItem>;
    /// The value as the SDK holds it.
    fn value(&self) -> Result<Cow<'_, AttributeValue>, MalformedItem>;
}

impl HeldValue for Attribute<'_> {
    fn text(&self) -> Option<&str> {
        if let Self::S(text) = self { Some(text) } else { None }
    }

    fn number(&self) -> Option<&str> {
        if let Self::N(digits) = self { Some(digits) } else { None }
    }

    fn append(&self, into: &mut Canonical) -> Result<(), MalformedItem> {
        Ok(self.canonical(into)?)
    }

    fn value(&self) -> Result<Cow<'_, AttributeValue>, MalformedItem> {
        Ok(Cow::Owned(Attribute::value(self)?))
    }
}

impl HeldValue for &AttributeValue {
    fn text(&self) -> Option<&str> {
        self.as_s().ok().map(String::as_str)
    }

    fn number(&self) -> Option<&str> {
        self.as_n().ok().map(String::as_str)
    }

    fn append(&self, into: &mut Canonical) -> Result<(), MalformedItem> {
        canonical(into, self);
        Ok(())
    }

    fn value(&self) -> Result<Cow<'_, AttributeValue>, MalformedItem> {
        Ok(Cow::Borrowed(self))
    }
}

impl Flows {
    /// # Errors
    /// A path under `ignore` that cannot be read, said with the reason.
    pub(crate) fn of(
        flows: &[HeldFlow],
        layout: &Layout,
        fingerprint_key: &FingerprintKey,
    ) -> Result<Self, String> {
        let named = flows.iter().map(|flow| (flow.constants.as_slice(), &*flow.columns, &flow.request));
        Self::new(named, layout, fingerprint_key)
    }

    /// One flow that takes everything.
    ///
    /// # Errors
    /// As [`Flows::of`].
    pub(crate) fn one(
        columns: &Schema,
        request: &WriteRequest,
        layout: &Layout,
        fingerprint_key: &FingerprintKey,
    ) -> Result<Self, String> {
        Self::new([(&[][..], columns, request)], layout, fingerprint_key)
    }

    fn new<'f>(
        named: impl IntoIterator<Item = (&'f [KeyPattern], &'f Schema, &'f WriteRequest)>,
        layout: &Layout,
        fingerprint_key: &FingerprintKey,
    ) -> Result<Self, String> {
        let mut places = HashMap::new();
        let mut place = |name: &String| {
            let next = places.len();
            *places.entry(name.clone()).or_insert(next)
        };
        let key: Vec<String> = layout.key.iter().map(|key| key.name.clone()).collect();
        let key_places = key.iter().map(&mut place).collect();
        let (mut flows, mut constants) = (Vec::new(), Vec::new());
        for (patterns, columns, request) in named {
            let ignore = Ignore::parse(&request.ignore)?;
            let is_whole = columns.fields().iter().any(|field| is_item(field));
            let fields = columns.fields().iter().filter(|field| !is_item(field));
            let written: BTreeSet<String> = fields.map(|field| field.name().clone()).collect();
            let column = |name: &String| Column {
                place: place(name),
                partly_ignored: ignore.is_within(name),
                name: name.clone(),
            };
            let compared = written.iter().filter(|name| !ignore.whole(name)).map(column).collect();
            let scope = request.scope.iter().map(|(name, value)| (place(name), value.clone())).collect();
            flows.push(Flow { written, is_whole, compared, ignore, scope });
            constants.push(patterns);
        }
        let classes = Classes::of(constants);
        let class_places = classes.columns().iter().map(&mut place).collect();
        let fingerprint_key = fingerprint_key.clone();
        let wants_all = flows.iter().any(|flow| flow.is_whole);
        Ok(Self { key, flows, classes, places, key_places, class_places, wants_all, fingerprint_key })
    }

    /// Room for the values of an item.
    pub(super) fn no_values<V>(&self) -> Values<'static, V> {
        let mut at = Vec::new();
        at.resize_with(self.places.len(), || None);
        Values { at, rest: Vec::new() }
    }

    /// Decodes the attributes of an item that are looked at, and passes over the others.
    ///
    /// # Errors
    /// Text that is no item.
    pub(super) fn decode<'t>(
        &self,
        item: &'t str,
        values: &mut Values<'t, Attribute<'t>>,
    ) -> Result<(), MalformedItem> {
        values.clear();
        let mut deserializer = serde_json::Deserializer::from_str(item);
        deserializer.deserialize_map(ItemVisitor { flows: self, values })?;
        Ok(deserializer.end()?)
    }

    /// Takes the attributes of an item that are looked at.
    pub(super) fn take<'i>(
        &self,
        item: impl Iterator<Item = (&'i String, &'i AttributeValue)>,
        values: &mut Values<'i, &'i AttributeValue>,
    ) {
        values.clear();
        for (name, value) in item {
            match self.places.get(name) {
                Some(place) => values.at[*place] = Some(value),
                None if self.wants_all => values.rest.push((Cow::Borrowed(name), value)),
                None => {}
            }
        }
    }

    /// The flow that an item belongs to; within, `None`: to none. Without: the item is another tenant's, and
    /// nobody's business here.
    pub(super) fn belongs(&self, values: &Values<'_, impl HeldValue>) -> Option<Option<usize>> {
        let values = &values.at;
        let text = |column: usize| values[self.class_places[column]].as_ref()?.text();
        let in_scope = |flow: usize| {
            self.flows[flow]
                .scope
                .iter()
                .all(|(place, wanted)| values[*place].as_ref().is_some_and(|value| is(value, wanted)))
        };
        let flow = self.classes.class(text, in_scope);
        let concerns = flow.is_some() || self.flows.is_empty() || (0..self.flows.len()).any(in_scope);
        concerns.then_some(flow)
    }

    /// The fingerprint of an item over the columns of its flow; of an item of no flow, over its key.
    ///
    /// # Errors
    /// A value that is not what its type says.
    pub(super) fn fingerprint(
        &self,
        flow: Option<usize>,
        values: &Values<'_, impl HeldValue>,
        scratch: &mut Scratch,
    ) -> Result<Fingerprint, MalformedItem> {
        let Scratch { key, record } = scratch;
        let Values { at: values, rest } = values;
        key.clear();
        key.list(self.key_places.len());
        for place in &self.key_places {
            match &values[*place] {
                Some(value) => value.append(key)?,
                None => key.null(),
            }
        }
        let Some(flow) = flow.and_then(|flow| self.flows.get(flow)) else {
            return Ok(self.fingerprint_key.fingerprint(key, key));
        };
        record.clear();
        if flow.is_whole {
            self.whole(flow, values, rest, record)?;
            return Ok(self.fingerprint_key.fingerprint(key, record));
        }
        let present =
            || flow.compared.iter().filter_map(|column| Some((column, values[column.place].as_ref()?)));
        record.map(present().count());
        for (column, value) in present() {
            record.key(&column.name);
            if column.partly_ignored {
                flow.ignore.canonical(record, &column.name, value.value()?.as_ref());
            } else {
                value.append(record)?;
            }
        }
        Ok(self.fingerprint_key.fingerprint(key, record))
    }

    /// Every attribute of an item, by name, in canonical form.
    fn whole(
        &self,
        flow: &Flow,
        values: &[Option<impl HeldValue>],
        rest: &[(Cow<'_, str>, impl HeldValue)],
        record: &mut Canonical,
    ) -> Result<(), MalformedItem> {
        enum Value<'v, P, R> {
            Placed(&'v P),
            Rest(&'v R),
        }
        let placed = self
            .places
            .iter()
            .filter_map(|(name, place)| Some((name.as_str(), Value::Placed(values[*place].as_ref()?))));
        let rest = rest.iter().map(|(name, value)| (&**name, Value::Rest(value)));
        let mut all: Vec<_> = placed.chain(rest).filter(|(name, _)| !flow.ignore.whole(name)).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        record.map(all.len());
        for (name, value) in all {
            record.key(name);
            match value {
                Value::Placed(value) => append(flow, name, value, record)?,
                Value::Rest(value) => append(flow, name, value, record)?,
            }
        }
        Ok(())
    }

    /// Whether an attribute is shown of an item of the flow; of an item of none everything is.
    pub(super) fn shows(&self, flow: Option<usize>, name: &str) -> bool {
        let flow = flow.and_then(|flow| self.flows.get(flow));
        flow.is_none_or(|flow| flow.is_whole || flow.written.contains(name))
    }
}

fn append(
    flow: &Flow,
    name: &str,
    value: &impl HeldValue,
    into: &mut Canonical,
) -> Result<(), MalformedItem> {
    if flow.ignore.is_within(name) {
        flow.ignore.canonical(into, name, value.value()?.as_ref());
        Ok(())
    } else {
        value.append(into)
    }
}

/// Whether a value is the one that a scope names.
fn is(value: &impl HeldValue, wanted: &str) -> bool {
    match (value.text(), value.number()) {
        (Some(text), _) => text == wanted,
        (None, Some(digits)) => {
            Decimal::parse(digits).is_some_and(|number| Decimal::parse(wanted) == Some(number))
        }
        (None, None) => false,
    }
}

/// Decodes the attributes that are looked at.
struct ItemVisitor<'a, 't> {
    flows: &'a Flows,
    values: &'a mut Values<'t, Attribute<'t>>,
}

impl<'t> Visitor<'t> for ItemVisitor<'_, 't> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { flows, values } = self;
        while let Some(Text(name)) = map.next_key::<Text<'t>>()? {
            match flows.places.get(&*name).and_then(|place| values.at.get_mut(*place)) {
                None if flows.wants_all => values.rest.push((name, map.next_value()?)),
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(value @ None) => *value = Some(map.next_value()?),
                Some(Some(_)) => return Err(A::Error::custom("an item that holds a name twice")),
            }
        }
        Ok(())
    }
}
