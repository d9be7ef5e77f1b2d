//! Whole records: columns put together into items, checked, measured, priced and fingerprinted.

use super::cell::{Cells, Look};
use super::ignore::Ignore;
use super::item::{self, Rest};
use super::value::{canonical, preview};
use super::{Conversion, conversion};
use crate::definition::{Definition, KeyElement, KeyRole, Projection, ProjectionType, ScalarKind};
use crate::limits;
use arrow::array::RecordBatch;
use arrow::array::StringArray;
use arrow::datatypes::Schema;
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use whimbrel_model::canonical::Canonical;
use whimbrel_model::{Capacity, Fingerprint, FingerprintKey, Stage};
use whimbrel_store::{Encoded, Nulls, Refusal, WriteRequest};

/// An item as the SDK takes it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// Where keys lie in a table and its indexes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The table's key attributes, partition key first.
    pub(crate) key: Vec<KeyAttribute>,
    /// Global and local indexes.
    pub(crate) indexes: Vec<IndexLayout>,
}

/// A key attribute of a table or index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyAttribute {
    pub(crate) name: String,
    pub(crate) kind: ScalarKind,
    pub(crate) role: KeyRole,
}

/// An index, as far as a write touches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexLayout {
    pub(crate) name: String,
    pub(crate) global: bool,
    pub(crate) key: Vec<KeyAttribute>,
    projection: Projection,
}

impl Layout {
    /// The layout of a definition.
    pub(crate) fn of(definition: &Definition) -> Self {
        let key = |schema: &[KeyElement]| {
            let attribute = |element: &KeyElement| KeyAttribute {
                name: element.attribute_name.clone(),
                kind: definition.kind_of(&element.attribute_name).unwrap_or(ScalarKind::S),
                role: element.key_type,
            };
            schema.iter().map(attribute).collect()
        };
        let indexes = definition.indexes().map(|(index, global)| IndexLayout {
            name: index.index_name.clone(),
            global,
            key: key(&index.key_schema),
            projection: index.projection.clone(),
        });
        Self { indexes: indexes.collect(), key: key(&definition.key_schema) }
    }

    /// The canonical form of an item's key, in the table's order.
    pub(crate) fn key_of(&self, item: &Item) -> Canonical {
        canonical_key(self.key.iter().map(|attribute| item.get(&attribute.name)))
    }

    /// The fingerprint of an item that was read from the table.
    pub(crate) fn fingerprint(&self, item: &Item, ignore: &Ignore, key: &FingerprintKey) -> Fingerprint {
        let mut entries: Vec<_> = item.iter().filter(|(name, _)| !ignore.whole(name)).collect();
        entries.sort_unstable_by_key(|(name, _)| *name);
        let mut record = Canonical::default();
        record.map(entries.len());
        for (name, value) in entries {
            record.key(name);
            ignore.canonical(&mut record, name, value);
        }
        key.fingerprint(&self.key_of(item), &record)
    }

    /// Which attribute is a key of which place, by name.
    fn keys(&self) -> impl Iterator<Item = &KeyAttribute> {
        self.key.iter().chain(self.indexes.iter().flat_map(|index| &index.key))
    }

    /// Whether the attribute is a key of the table.
    pub(crate) fn is_key(&self, name: &str) -> bool {
        self.key.iter().any(|key| key.name == name)
    }
}

fn canonical_key<'v>(values: impl ExactSizeIterator<Item = Option<&'v AttributeValue>>) -> Canonical {
    let mut key = Canonical::default();
    key.list(values.len());
    for value in values {
        match value {
            Some(value) => canonical(&mut key, value),
            None => key.null(),
        }
    }
    key
}

/// A record as the attributes of an item.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// What is written, by column of its encoder; `None` is left out.
    pub(crate) values: Box<[Option<AttributeValue>]>,
    /// What its whole item holds besides, by name.
    rest: Vec<Rest>,
    /// Its size by DynamoDB's count.
    pub(crate) bytes: u64,
    /// Write units of the item itself.
    pub(crate) table_units: u64,
    /// Write units of the indexes that take it.
    pub(crate) index_units: u64,
    /// Its fingerprint.
    pub(crate) fingerprint: Fingerprint,
}

impl Prepared {
    /// What its whole item holds besides the columns, by name.
    pub(crate) fn rest(&self) -> impl Iterator<Item = (&str, &AttributeValue)> {
        self.rest.iter().map(|rest| (rest.name.as_str(), &rest.value))
    }

    /// One attribute of that.
    pub(crate) fn rest_value(&self, name: &str) -> Option<&AttributeValue> {
        let at = self.rest.binary_search_by(|rest| rest.name.as_str().cmp(name)).ok()?;
        self.rest.get(at).map(|rest| &rest.value)
    }
}

/// What a record comes to: enough to tell whether it is the same, without its values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Its size by DynamoDB's count.
    pub(crate) bytes: u64,
    /// Write units of the item itself.
    pub(crate) table_units: u64,
    /// Write units of the indexes that take it.
    pub(crate) index_units: u64,
    /// Its fingerprint.
    pub(crate) fingerprint: Fingerprint,
}

/// An attribute of a prepared record, by its name.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    /// The name.
    pub(crate) name: &'a str,
    /// The name as a JSON string.
    pub(crate) json_name: &'a str,
    /// A key of the table.
    pub(crate) is_table_key: bool,
}

/// One column of a flow.
#[derive(Debug)]
pub(crate) struct Column {
    /// The attribute's name.
    pub(crate) name: String,
    /// The name as a JSON string.
    pub(crate) json_name: String,
    /// A key of the table: it names the item and is never set.
    pub(crate) is_table_key: bool,
    /// A key of an index.
    pub(crate) is_index_key: bool,
    /// Its place in the schema.
    position: usize,
    conversion: Conversion,
    ignored: bool,
    partly_ignored: bool,
}

impl Column {
    fn is_key(&self) -> bool {
        self.is_table_key || self.is_index_key
    }

    /// Its value without what is ignored within it.
    fn canonical(&self, into: &mut Canonical, value: &AttributeValue, ignore: &Ignore) {
        if self.partly_ignored {
            ignore.canonical(into, &self.name, value);
        } else {
            canonical(into, value);
        }
    }

    /// The same of a value as it lies in a batch; nothing lies within texts and digits.
    fn canonical_look(&self, into: &mut Canonical, value: &Look<'_>, ignore: &Ignore) {
        match value {
            Look::Value(value) => self.canonical(into, value, ignore),
            plain => plain.canonical(into),
        }
    }
}

/// An index by the columns that it holds.
#[derive(Debug)]
struct IndexColumns {
    /// `None` where the flow has no column for one of its keys: no item of the flow is in it.
    key: Option<Vec<usize>>,
    /// `None`: all of them.
    projected: Option<Vec<usize>>,
}

/// The columns of a flow in the order of their names, which is that of the canonical form.
#[derive(Debug)]
pub(crate) struct Encoder<'a> {
    layout: &'a Layout,
    ignore: &'a Ignore,
    /// The columns, by name.
    pub(crate) columns: Vec<Column>,
    /// The columns of the table's key, in its order; `None`: the flow lacks it.
    key: Vec<Option<usize>>,
    /// The columns that are keys of table or index, with what they must be.
    checked: Vec<(usize, &'a KeyAttribute)>,
    indexes: Vec<IndexColumns>,
    /// The place in the schema of the column of whole items.
    item: Option<usize>,
    nulls: Nulls,
    fingerprint_key: &'a FingerprintKey,
}

/// What is used again from row to row.
#[derive(Default)]
struct Scratch {
    key: Canonical,
    record: Canonical,
    sizes: Vec<u64>,
}

/// A record's values, by column, as they lie in a batch; `None` is left out.
type Looks<'c> = Vec<Option<Look<'c>>>;

impl<'a> Encoder<'a> {
    /// Plans the columns.
    ///
    /// # Errors
    /// The refusal that every record gets: a column has no place in DynamoDB (which `plan` says earlier).
    pub(crate) fn new(
        schema: &Schema,
        request: &WriteRequest,
        ignore: &'a Ignore,
        layout: &'a Layout,
        fingerprint_key: &'a FingerprintKey,
    ) -> Result<Self, Refusal> {
        let column = |(position, field): (usize, &std::sync::Arc<arrow::datatypes::Field>)| {
            let name = field.name().clone();
            let asked = request.forms.get(&name).map(String::as_str);
            let conversion = conversion(field, asked).map_err(|reason| refusal(&name, &reason))?;
            Ok(Column {
                is_table_key: layout.is_key(&name),
                is_index_key: layout.indexes.iter().flat_map(|index| &index.key).any(|key| key.name == name),
                ignored: ignore.whole(&name),
                partly_ignored: ignore.is_within(&name),
                json_name: Value::String(name.clone()).to_string(),
                name,
                position,
                conversion,
            })
        };
        let fields = schema.fields().iter().enumerate();
        let item = fields.clone().find(|(_, field)| item::is_item(field)).map(|(position, _)| position);
        let fields = fields.filter(|(position, _)| Some(*position) != item);
        let mut columns = fields.map(column).collect::<Result<Vec<_>, Refusal>>()?;
        columns.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let place = |name: &str| columns.binary_search_by(|column| column.name.as_str().cmp(name)).ok();
        let key = layout.key.iter().map(|key| place(&key.name)).collect();
        let checked = layout.keys().filter_map(|key| Some((place(&key.name)?, key))).collect();
        let indexes = layout.indexes.iter().map(|index| index_columns(layout, index, place)).collect();
        let nulls = request.nulls;
        Ok(Self { layout, ignore, key, checked, indexes, item, nulls, fingerprint_key, columns })
    }

    /// Turns records into items, one result a record, in order.
    pub(crate) fn encode(&self, records: &RecordBatch) -> Vec<Result<Prepared, Refusal>> {
        self.each(records, |looks, rest, measured| {
            let Measured { bytes, table_units, index_units, fingerprint } = measured;
            let values = looks.drain(..).map(|look| look.map(Look::into_value)).collect();
            Prepared { values, rest, bytes, table_units, index_units, fingerprint }
        })
    }

    /// What records come to, without items made of them; refused is what [`Encoder::encode`] refuses.
    pub(crate) fn measure(&self, records: &RecordBatch) -> Vec<Result<Measured, Refusal>> {
        self.each(records, |_, _, measured| measured)
    }

    /// Takes records one by one and makes something of each.
    fn each<T>(
        &self,
        records: &RecordBatch,
        make: impl Fn(&mut Looks<'_>, Vec<Rest>, Measured) -> T,
    ) -> Vec<Result<T, Refusal>> {
        let cells = self.columns.iter().map(|column| cells(column, records)).collect::<Result<Vec<_>, _>>();
        let items = item::column(records, self.item)
            .map_err(|error| refusal(item::ITEM, &format!("cannot be read: {error}")));
        match cells.and_then(|cells| Ok((cells, items?))) {
            Ok((cells, items)) => {
                let (mut scratch, mut looks) = (Scratch::default(), Vec::with_capacity(self.columns.len()));
                let mut one = |row| {
                    looks.clear();
                    let (rest, measured) = self.row(&cells, items.as_ref(), row, &mut scratch, &mut looks)?;
                    Ok(make(&mut looks, rest, measured))
                };
                (0..records.num_rows()).map(&mut one).collect()
            }
            Err(refusal) => (0..records.num_rows()).map(|_| Err(refusal.clone())).collect(),
        }
    }

    /// The fingerprint of an item that was read from the table, over these columns.
    pub(crate) fn held(&self, item: &Item) -> Fingerprint {
        let compared = || {
            let columns = self.columns.iter().filter(|column| !column.ignored);
            columns.filter_map(|column| Some((column, item.get(&column.name)?)))
        };
        let mut record = Canonical::default();
        record.map(compared().count());
        for (column, value) in compared() {
            record.key(&column.name);
            column.canonical(&mut record, value, self.ignore);
        }
        self.fingerprint_key.fingerprint(&self.layout.key_of(item), &record)
    }

    /// The key hashes alone; `None` where a record has no usable key.
    pub(crate) fn keys(&self, records: &RecordBatch) -> Vec<Option<u128>> {
        self.key_values(records)
            .into_iter()
            .map(|values| values.map(|values| self.key_hash(&values)))
            .collect()
    }

    /// The keys alone, each with its hash, as the SDK takes them; `None` where a record has no usable key.
    pub(crate) fn key_items(&self, records: &RecordBatch) -> Vec<Option<(u128, Item)>> {
        let names = || self.layout.key.iter().map(|key| key.name.clone());
        let item = |values: Vec<AttributeValue>| (self.key_hash(&values), names().zip(values).collect());
        self.key_values(records).into_iter().map(|values| values.map(item)).collect()
    }

    fn key_hash(&self, values: &[AttributeValue]) -> u128 {
        let key = canonical_key(values.iter().map(Some));
        self.fingerprint_key.fingerprint(&key, &Canonical::default()).key
    }

    /// The values of each record's key, in the table's order.
    fn key_values(&self, records: &RecordBatch) -> Vec<Option<Vec<AttributeValue>>> {
        let Some(columns) = self.key.iter().copied().collect::<Option<Vec<usize>>>() else {
            return vec![None; records.num_rows()];
        };
        let cells = columns.iter().map(|column| cells(&self.columns[*column], records));
        let Ok(cells) = cells.collect::<Result<Vec<_>, _>>() else { return vec![None; records.num_rows()] };
        let values = |row: usize| {
            let value = |(cells, key): (&Cells, &KeyAttribute)| {
                let value = (!cells.is_null(row)).then(|| cells.value(row).ok()).flatten()?;
                limits::key_value(&value, key.kind, key.role).ok().map(|()| value)
            };
            cells.iter().zip(&self.layout.key).map(value).collect()
        };
        (0..records.num_rows()).map(values).collect()
    }

    fn row<'c>(
        &self,
        cells: &'c [Cells],
        items: Option<&StringArray>,
        row: usize,
        scratch: &mut Scratch,
        values: &mut Looks<'c>,
    ) -> Result<(Vec<Rest>, Measured), Refusal> {
        let Scratch { key, record, sizes } = scratch;
        sizes.clear();
        for (column, cells) in self.columns.iter().zip(cells) {
            if cells.is_null(row) && (self.nulls == Nulls::Omit || column.is_key()) {
                values.push(None);
                sizes.push(0);
                continue;
            }
            let value = cells.look(row).map_err(|reason| refusal(&column.name, &reason))?;
            let nesting = value.nesting();
            if nesting > limits::NESTING {
                let reason =
                    format!("nests {nesting} levels deep, DynamoDB takes {} within an item", limits::NESTING);
                return Err(refusal(&column.name, &reason));
            }
            sizes.push(limits::bytes(column.name.len()) + value.size());
            values.push(Some(value));
        }
        let rest = item::rest(items, row, |name| self.place(name).is_some()).map_err(refused)?;
        let bytes = sizes.iter().sum::<u64>() + rest.iter().map(|rest| rest.bytes).sum::<u64>();
        self.check(values, &rest, sizes, bytes)?;
        key.clear();
        key.list(self.key.len());
        for value in self.key.iter().map(|column| column.and_then(|at| values[at].as_ref())) {
            match value {
                Some(value) => value.canonical(key),
                None => key.null(),
            }
        }
        self.record(values, &rest, record);
        let fingerprint = self.fingerprint_key.fingerprint(key, record);
        let index_units = match self.item {
            None => self.index_units(values, sizes, bytes),
            Some(_) => self.index_units_of_item(values, &rest, sizes, bytes),
        };
        let table_units = limits::write_units(bytes);
        Ok((rest, Measured { bytes, table_units, index_units, fingerprint }))
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.columns.binary_search_by(|column| column.name.as_str().cmp(name)).ok()
    }

    /// The canonical form of a record, attributes by name.
    fn record(&self, values: &[Option<Look<'_>>], rest: &[Rest], into: &mut Canonical) {
        let columns = self.columns.iter().zip(values);
        let columns = columns.filter_map(|(column, value)| Some((column, value.as_ref()?)));
        let mut columns = columns.filter(|(column, _)| !column.ignored).peekable();
        let mut rest = rest.iter().filter(|rest| !self.ignore.whole(&rest.name)).peekable();
        into.clear();
        into.map(columns.clone().count() + rest.clone().count());
        loop {
            let is_rest = match (columns.peek(), rest.peek()) {
                (None, None) => return,
                (Some((column, _)), Some(rest)) => rest.name < column.name,
                (None, Some(_)) => true,
                (Some(_), None) => false,
            };
            if is_rest {
                rest.next().into_iter().for_each(|rest| rest.canonical(into, self.ignore));
            } else if let Some((column, value)) = columns.next() {
                into.key(&column.name);
                column.canonical_look(into, value, self.ignore);
            }
        }
    }

    /// What DynamoDB would refuse of the item as a whole.
    fn check(
        &self,
        values: &[Option<Look<'_>>],
        rest: &[Rest],
        sizes: &[u64],
        bytes: u64,
    ) -> Result<(), Refusal> {
        for (key, column) in self.layout.key.iter().zip(&self.key) {
            if column.is_none_or(|at| values[at].is_none()) {
                return Err(refusal(&key.name, "is a key of the table and must not be NULL or missing"));
            }
        }
        for (column, key) in &self.checked {
            // A key of an index may be absent: the item is then not in that index.
            if let Some(value) = &values[*column] {
                value.key_value(key.kind, key.role).map_err(|reason| refusal(&key.name, &reason))?;
            }
        }
        if !rest.is_empty() {
            for key in self.layout.keys() {
                if let Ok(at) = rest.binary_search_by(|rest| rest.name.cmp(&key.name)) {
                    limits::key_value(&rest[at].value, key.kind, key.role)
                        .map_err(|reason| refusal(&key.name, &reason))?;
                }
            }
        }
        if bytes <= limits::ITEM_BYTES {
            return Ok(());
        }
        let columns = self.columns.iter().zip(sizes).map(|(column, size)| (column.name.as_str(), *size));
        let sizes = columns.chain(rest.iter().map(|rest| (rest.name.as_str(), rest.bytes)));
        let (largest, size) = sizes.max_by_key(|(_, size)| *size).unwrap_or_default();
        Err(refused(format!(
            "the item is {} KB, DynamoDB takes {} KB; its largest attribute is `{largest}` with {} KB",
            kilobytes(bytes),
            kilobytes(limits::ITEM_BYTES),
            kilobytes(size)
        )))
    }

    /// Write units of the indexes that take an item.
    fn index_units(&self, values: &[Option<Look<'_>>], sizes: &[u64], whole: u64) -> u64 {
        let of_index = |index: &IndexColumns| {
            let key = index.key.as_ref().filter(|key| key.iter().all(|column| values[*column].is_some()))?;
            let size = match &index.projected {
                None => whole,
                Some(projected) => projected.iter().chain(key).map(|column| sizes[*column]).sum(),
            };
            Some(limits::write_units(size))
        };
        self.indexes.iter().filter_map(of_index).sum()
    }

    /// Write units of the indexes that take a whole item, whose attributes are known only now.
    fn index_units_of_item(
        &self,
        values: &[Option<Look<'_>>],
        rest: &[Rest],
        sizes: &[u64],
        whole: u64,
    ) -> u64 {
        let size = |name: &str| match self.place(name) {
            Some(at) => values[at].as_ref().map(|_| sizes[at]),
            None => {
                let at = rest.binary_search_by(|rest| rest.name.as_str().cmp(name)).ok()?;
                Some(rest[at].bytes)
            }
        };
        let of_index = |index: &IndexLayout| {
            if !index.key.iter().all(|key| size(&key.name).is_some()) {
                return None;
            }
            let included = match index.projection.projection_type {
                ProjectionType::All => return Some(limits::write_units(whole)),
                ProjectionType::KeysOnly => &[][..],
                ProjectionType::Include => &index.projection.non_key_attributes[..],
            };
            let keys = self.layout.key.iter().chain(&index.key).map(|key| &key.name);
            let names: BTreeSet<&String> = keys.chain(included).collect();
            Some(limits::write_units(names.into_iter().filter_map(|name| size(name)).sum()))
        };
        self.layout.indexes.iter().filter_map(of_index).sum()
    }

    /// How many indexes hold one of the columns, and how many have one as a key.
    pub(crate) fn indexes_of(&self, columns: &[usize]) -> (u64, u64) {
        let is_key = |index: &&IndexColumns| {
            index.key.as_ref().is_none_or(|key| columns.iter().any(|column| key.contains(column)))
        };
        let holds = |index: &&IndexColumns| {
            let held = |projected: &Vec<usize>| columns.iter().any(|column| projected.contains(column));
            index.projected.as_ref().is_none_or(held) || is_key(index)
        };
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        (count(self.indexes.iter().filter(holds).count()), count(self.indexes.iter().filter(is_key).count()))
    }

    /// The attributes that are there, by name.
    pub(crate) fn attributes<'s>(
        &'s self,
        prepared: &'s Prepared,
    ) -> impl Iterator<Item = (Named<'s>, &'s AttributeValue)> {
        let columns = self.columns.iter().zip(&prepared.values).filter_map(|(column, value)| {
            let Column { name, json_name, is_table_key, .. } = column;
            Some((Named { name, json_name, is_table_key: *is_table_key }, value.as_ref()?))
        });
        let rest = prepared.rest.iter().map(|Rest { name, json_name, value, .. }| {
            (Named { name, json_name, is_table_key: false }, value)
        });
        columns.chain(rest)
    }

    /// The record as the SDK takes it.
    pub(crate) fn item(&self, prepared: &Prepared) -> Item {
        self.attributes(prepared).map(|(column, value)| (column.name.to_owned(), value.clone())).collect()
    }

    /// The key attributes of a record alone.
    pub(crate) fn key_item(&self, prepared: &Prepared) -> Item {
        let keys = self.attributes(prepared).filter(|(column, _)| column.is_table_key);
        keys.map(|(column, value)| (column.name.to_owned(), value.clone())).collect()
    }

    /// The record for people, attributes by name.
    pub(crate) fn encoded(&self, prepared: &Prepared) -> Encoded {
        let shown: Map<_, _> = self
            .attributes(prepared)
            .map(|(column, value)| (column.name.to_owned(), preview(value)))
            .collect();
        Encoded {
            preview: Value::Object(shown),
            bytes: prepared.bytes,
            capacity: write_units(prepared.table_units + prepared.index_units),
            fingerprint: prepared.fingerprint,
        }
    }
}

fn index_columns(
    layout: &Layout,
    index: &IndexLayout,
    place: impl Fn(&str) -> Option<usize>,
) -> IndexColumns {
    let included = match index.projection.projection_type {
        ProjectionType::All => None,
        ProjectionType::KeysOnly => Some(&[][..]),
        ProjectionType::Include => Some(&index.projection.non_key_attributes[..]),
    };
    let key: Option<Vec<usize>> = index.key.iter().map(|key| place(&key.name)).collect();
    let projected = included.map(|included| {
        let names = layout.key.iter().map(|key| &key.name).chain(included);
        let mut columns: Vec<usize> = names.filter_map(|name| place(name)).collect();
        columns.sort_unstable();
        columns.dedup();
        columns.retain(|column| key.as_ref().is_none_or(|key| !key.contains(column)));
        columns
    });
    IndexColumns { key, projected }
}

fn cells(column: &Column, records: &RecordBatch) -> Result<Cells, Refusal> {
    Cells::new(records.column(column.position), &column.conversion.form)
        .map_err(|error| refusal(&column.name, &format!("cannot be read: {error}")))
}

/// A refusal before sending, of one column's value.
pub(crate) fn refusal(column: &str, reason: &str) -> Refusal {
    refused(format!("`{column}` {reason}"))
}

/// A refusal before sending.
pub(crate) fn refused(reason: String) -> Refusal {
    Refusal { stage: Stage::Convert, reason }
}

/// With one digit, rounded up, so that one byte too many never reads as the limit itself.
fn kilobytes(bytes: u64) -> String {
    let tenths = (bytes * 10).div_ceil(1024);
    if tenths.is_multiple_of(10) {
        (tenths / 10).to_string()
    } else {
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

/// Units as capacity.
#[expect(clippy::cast_precision_loss, reason = "an item costs a few thousand units at the most")]
pub(crate) fn write_units(units: u64) -> Capacity {
    Capacity { write_units: units as f64, ..Capacity::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use serde_json::json;
    use std::sync::Arc;
    use whimbrel_store::Mode;

    fn definition() -> Definition {
        serde_json::from_value(json!({
            "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "n", "AttributeType": "N"},
                {"AttributeName": "g", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "n", "KeyType": "RANGE"}],
            "GlobalSecondaryIndexes": [
                {"IndexName": "all", "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}],
                 "Projection": {"ProjectionType": "ALL"}},
                {"IndexName": "keys", "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}],
                 "Projection": {"ProjectionType": "KEYS_ONLY"}},
                {"IndexName": "some", "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}],
                 "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["text"]}}],
            "BillingMode": "PAY_PER_REQUEST"
        }))
        .unwrap()
    }

    #[derive(Debug)]
    struct Encoding {
        item: Item,
        units: f64,
        prepared: Prepared,
    }

    fn request() -> WriteRequest {
        WriteRequest {
            flow: "flow".into(),
            table: "t".into(),
            key: Vec::new(),
            mode: Mode::Upsert,
            scope: [].into(),
            nulls: Nulls::Omit,
            forms: [].into(),
            ignore: vec!["text".into()],
            allow_lossy: Vec::new(),
            shape: None,
            collection: None,
        }
    }

    fn encode(
        pk: Option<&str>,
        g: Option<&str>,
        text: &str,
        request: &WriteRequest,
    ) -> Result<Encoding, Refusal> {
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("pk", Arc::new(StringArray::from(vec![pk])) as ArrayRef, true),
            ("n", Arc::new(Int64Array::from(vec![1])), true),
            ("g", Arc::new(StringArray::from(vec![g])), true),
            ("text", Arc::new(StringArray::from(vec![text])), true),
        ])
        .unwrap();
        let (layout, key) = (Layout::of(&definition()), FingerprintKey::new([1; 32]));
        let ignore = Ignore::parse(&request.ignore).unwrap();
        let encoder = Encoder::new(batch.schema_ref(), request, &ignore, &layout, &key).unwrap();
        let prepared = encoder.encode(&batch).remove(0);
        let keys = encoder.keys(&batch).remove(0);
        let comes_to = |measured: Measured| {
            (measured.fingerprint, measured.bytes, measured.table_units, measured.index_units)
        };
        let made = prepared.as_ref().map(|made| {
            let Prepared { fingerprint, bytes, table_units, index_units, .. } = *made;
            comes_to(Measured { fingerprint, bytes, table_units, index_units })
        });
        assert_eq!(encoder.measure(&batch).remove(0).map(comes_to), made.map_err(Clone::clone));
        if let Ok(prepared) = &prepared {
            assert_eq!(keys, Some(prepared.fingerprint.key), "the key alone has the same hash");
        }
        prepared.map(|prepared| Encoding {
            item: encoder.item(&prepared),
            units: encoder.encoded(&prepared).capacity.write_units,
            prepared,
        })
    }

    #[test]
    fn indexes_cost_what_they_hold() {
        let units = |g, text: &str| encode(Some("a"), g, text, &request()).unwrap().units;
        let long = "x".repeat(3000);
        assert!((units(None, &long) - 3.0).abs() < f64::EPSILON, "an absent index key keeps the item out");
        assert!((units(Some("g"), &long) - (3.0 + 3.0 + 1.0 + 3.0)).abs() < f64::EPSILON);
    }

    #[test]
    fn keys_are_checked_in_table_and_indexes() {
        for (pk, g, word) in [
            (None, None, "`pk` is a key of the table"),
            (Some(""), None, "`pk` is a key and must not be empty"),
            (Some("a"), Some(""), "`g` is a key and must not be empty"),
            (Some(&*"x".repeat(2049)), None, "2049 bytes"),
        ] {
            let reason = encode(pk, g, "t", &request()).unwrap_err().reason;
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn a_null_is_written_only_where_it_can_be() {
        let mut request = request();
        assert!(!encode(Some("a"), None, "t", &request).unwrap().item.contains_key("g"));
        request.nulls = Nulls::Null;
        assert!(
            !encode(Some("a"), None, "t", &request).unwrap().item.contains_key("g"),
            "an index key is never NULL"
        );
    }

    #[test]
    fn large_items_name_their_largest_attribute() {
        // 2 + 1, 1 + 2, 4 bytes of names and values besides the text itself.
        let fits = usize::try_from(limits::ITEM_BYTES).unwrap() - 10;
        assert_eq!(
            encode(Some("a"), None, &"x".repeat(fits), &request()).unwrap().prepared.bytes,
            limits::ITEM_BYTES
        );
        let reason = encode(Some("a"), None, &"x".repeat(fits + 1), &request()).unwrap_err().reason;
        assert_eq!(
            reason,
            "the item is 400.1 KB, DynamoDB takes 400 KB; its largest attribute is `text` with 400 KB"
        );
    }

    #[test]
    fn what_is_read_back_has_the_same_fingerprint() {
        let Encoding { mut item, prepared, .. } = encode(Some("a"), Some("g"), "t", &request()).unwrap();
        let (layout, key) = (Layout::of(&definition()), FingerprintKey::new([1; 32]));
        let ignore = Ignore::parse(&["text".to_owned()]).unwrap();
        assert_eq!(layout.fingerprint(&item, &ignore, &key), prepared.fingerprint);
        item.insert("text".to_owned(), AttributeValue::S("other".to_owned()));
        assert_eq!(
            layout.fingerprint(&item, &ignore, &key),
            prepared.fingerprint,
            "what is ignored does not count"
        );
        item.insert("g".to_owned(), AttributeValue::S("other".to_owned()));
        assert_ne!(layout.fingerprint(&item, &ignore, &key).record, prepared.fingerprint.record);
        assert_eq!(layout.fingerprint(&item, &ignore, &key).key, prepared.fingerprint.key);
    }
}
