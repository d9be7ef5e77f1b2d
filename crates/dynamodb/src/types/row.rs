//! Whole records: columns put together into items, checked, measured, priced and fingerprinted.

use super::cell::Cells;
use super::value::{canonical, preview};
use super::{Conversion, conversion};
use crate::definition::{Definition, KeyElement, KeyRole, Projection, ProjectionType, ScalarKind};
use crate::limits;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
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
        let mut key = Canonical::default();
        key.list(self.key.len());
        for attribute in &self.key {
            match item.get(&attribute.name) {
                Some(value) => canonical(&mut key, value),
                None => key.null(),
            }
        }
        key
    }

    /// The key attributes of an item alone.
    pub(crate) fn key_item(&self, item: &Item) -> Item {
        let attribute = |key: &KeyAttribute| Some((key.name.clone(), item.get(&key.name)?.clone()));
        self.key.iter().filter_map(attribute).collect()
    }

    /// The fingerprint of an item that was read from the table.
    pub(crate) fn fingerprint(
        &self,
        item: &Item,
        ignore: &HashSet<String>,
        key: &FingerprintKey,
    ) -> Fingerprint {
        let mut entries: Vec<_> = item.iter().filter(|(name, _)| !ignore.contains(*name)).collect();
        entries.sort_unstable_by_key(|(name, _)| *name);
        let mut record = Canonical::default();
        record.map(entries.len());
        for (name, value) in entries {
            record.key(name);
            canonical(&mut record, value);
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

    /// Write units of one item: the table's, and those of each index that takes the item.
    fn units(&self, sizes: &HashMap<&str, u64>, whole: u64) -> u64 {
        let part = |names: &mut dyn Iterator<Item = &str>| -> u64 {
            let names: HashSet<&str> = names.collect();
            names.iter().filter_map(|name| sizes.get(name)).sum()
        };
        let of_index = |index: &IndexLayout| {
            if index.key.iter().any(|key| !sizes.contains_key(key.name.as_str())) {
                return 0;
            }
            let keys = || self.key.iter().chain(&index.key).map(|key| key.name.as_str());
            let included = index.projection.non_key_attributes.iter().map(String::as_str);
            limits::write_units(match index.projection.projection_type {
                ProjectionType::All => whole,
                ProjectionType::KeysOnly => part(&mut keys()),
                ProjectionType::Include => part(&mut keys().chain(included)),
            })
        };
        limits::write_units(whole) + self.indexes.iter().map(of_index).sum::<u64>()
    }
}

/// A record as an item.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// What is sent.
    pub(crate) item: Item,
    /// Its size by DynamoDB's count.
    pub(crate) bytes: u64,
    /// What writing it is expected to cost.
    pub(crate) capacity: Capacity,
    /// Its fingerprint.
    pub(crate) fingerprint: Fingerprint,
}

impl Prepared {
    /// The record for people, attributes by name.
    pub(crate) fn encoded(&self) -> Encoded {
        let mut names: Vec<_> = self.item.iter().collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        let shown: Map<_, _> =
            names.into_iter().map(|(name, value)| (name.clone(), preview(value))).collect();
        Encoded {
            preview: Value::Object(shown),
            bytes: self.bytes,
            capacity: self.capacity,
            fingerprint: self.fingerprint,
        }
    }
}

/// One column of a flow.
struct Column {
    name: String,
    /// Its place in the schema.
    position: usize,
    conversion: Conversion,
    ignored: bool,
    /// A key of the table or an index is left out where it is NULL, whatever `nulls` says.
    is_key: bool,
}

/// The columns of a flow in the order of their names, which is that of the canonical form.
pub(crate) struct Encoder<'a> {
    layout: &'a Layout,
    columns: Vec<Column>,
    nulls: Nulls,
    fingerprint_key: &'a FingerprintKey,
}

impl<'a> Encoder<'a> {
    /// Plans the columns.
    ///
    /// # Errors
    /// The refusal that every record gets: a column has no place in DynamoDB (which `plan` says earlier).
    pub(crate) fn new(
        schema: &Schema,
        request: &WriteRequest,
        layout: &'a Layout,
        fingerprint_key: &'a FingerprintKey,
    ) -> Result<Self, Refusal> {
        let column = |(position, field): (usize, &std::sync::Arc<arrow::datatypes::Field>)| {
            let name = field.name().clone();
            let asked = request.forms.get(&name).map(String::as_str);
            let conversion = conversion(field, asked).map_err(|reason| refusal(&name, &reason))?;
            let ignored = request.ignore.contains(&name);
            let is_key = layout.keys().any(|key| key.name == name);
            Ok(Column { name, position, conversion, ignored, is_key })
        };
        let mut columns =
            schema.fields().iter().enumerate().map(column).collect::<Result<Vec<_>, Refusal>>()?;
        columns.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(Self { layout, columns, nulls: request.nulls, fingerprint_key })
    }

    /// Turns records into items, one result a record, in order.
    pub(crate) fn encode(&self, records: &RecordBatch) -> Vec<Result<Prepared, Refusal>> {
        let cells = |column: &Column| {
            Cells::new(records.column(column.position), &column.conversion.form)
                .map_err(|error| refusal(&column.name, &format!("cannot be read: {error}")))
        };
        match self.columns.iter().map(cells).collect::<Result<Vec<_>, Refusal>>() {
            Ok(cells) => {
                let mut canonical = (Canonical::default(), Canonical::default());
                (0..records.num_rows()).map(|row| self.row(&cells, row, &mut canonical)).collect()
            }
            Err(refusal) => vec![Err(refusal); records.num_rows()],
        }
    }

    fn row(
        &self,
        cells: &[Cells],
        row: usize,
        (key, record): &mut (Canonical, Canonical),
    ) -> Result<Prepared, Refusal> {
        let present = |(column, cells): &(&Column, &Cells)| {
            !cells.is_null(row) || (self.nulls == Nulls::Null && !column.is_key)
        };
        let columns = || self.columns.iter().zip(cells).filter(present);
        key.clear();
        record.clear();
        record.map(columns().filter(|(column, _)| !column.ignored).count());
        let mut item = Item::with_capacity(self.columns.len());
        let mut sizes = HashMap::with_capacity(self.columns.len());
        let mut bytes = 0;
        for (column, cells) in columns() {
            let value = cells.value(row).map_err(|reason| refusal(&column.name, &reason))?;
            let nesting = limits::nesting(&value);
            if nesting > limits::NESTING {
                let reason =
                    format!("nests {nesting} levels deep, DynamoDB takes {} within an item", limits::NESTING);
                return Err(refusal(&column.name, &reason));
            }
            let size = limits::bytes(column.name.len()) + limits::size(&value);
            bytes += size;
            sizes.insert(column.name.as_str(), size);
            if !column.ignored {
                record.key(&column.name);
                canonical(record, &value);
            }
            item.insert(column.name.clone(), value);
        }
        self.check(&item, &sizes, bytes)?;
        let key = self.layout.key_of(&item);
        let units = self.layout.units(&sizes, bytes);
        let capacity = Capacity { read_units: 0.0, write_units: float(units) };
        let fingerprint = self.fingerprint_key.fingerprint(&key, record);
        Ok(Prepared { item, bytes, capacity, fingerprint })
    }

    /// What DynamoDB would refuse of the item as a whole.
    fn check(&self, item: &Item, sizes: &HashMap<&str, u64>, bytes: u64) -> Result<(), Refusal> {
        for key in &self.layout.key {
            if !item.contains_key(&key.name) {
                return Err(refusal(&key.name, "is a key of the table and must not be NULL or missing"));
            }
        }
        for key in self.layout.keys() {
            // A key of an index may be absent: the item is then not in that index.
            if let Some(value) = item.get(&key.name) {
                limits::key_value(value, key.kind, key.role).map_err(|reason| refusal(&key.name, &reason))?;
            }
        }
        if bytes <= limits::ITEM_BYTES {
            return Ok(());
        }
        let (largest, size) =
            sizes.iter().max_by_key(|(_, size)| **size).map_or(("", 0), |(name, size)| (*name, *size));
        Err(refused(format!(
            "the item is {} KB, DynamoDB takes {} KB; its largest attribute is `{largest}` with {} KB",
            kilobytes(bytes),
            kilobytes(limits::ITEM_BYTES),
            kilobytes(size)
        )))
    }
}

/// A refusal before sending, of one column's value.
fn refusal(column: &str, reason: &str) -> Refusal {
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

#[expect(clippy::cast_precision_loss, reason = "an item costs a few thousand units at the most")]
fn float(units: u64) -> f64 {
    units as f64
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

    fn request() -> WriteRequest {
        WriteRequest {
            table: "t".into(),
            key: Vec::new(),
            mode: Mode::Upsert,
            nulls: Nulls::Omit,
            forms: [].into(),
            ignore: vec!["text".into()],
            allow_lossy: Vec::new(),
        }
    }

    fn encode(
        pk: Option<&str>,
        g: Option<&str>,
        text: &str,
        request: &WriteRequest,
    ) -> Result<Prepared, Refusal> {
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("pk", Arc::new(StringArray::from(vec![pk])) as ArrayRef, true),
            ("n", Arc::new(Int64Array::from(vec![1])), true),
            ("g", Arc::new(StringArray::from(vec![g])), true),
            ("text", Arc::new(StringArray::from(vec![text])), true),
        ])
        .unwrap();
        let (layout, key) = (Layout::of(&definition()), FingerprintKey::new([1; 32]));
        Encoder::new(batch.schema_ref(), request, &layout, &key).unwrap().encode(&batch).remove(0)
    }

    #[test]
    fn indexes_cost_what_they_hold() {
        let units = |g, text: &str| encode(Some("a"), g, text, &request()).unwrap().capacity.write_units;
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
        assert_eq!(encode(Some("a"), None, &"x".repeat(fits), &request()).unwrap().bytes, limits::ITEM_BYTES);
        let reason = encode(Some("a"), None, &"x".repeat(fits + 1), &request()).unwrap_err().reason;
        assert_eq!(
            reason,
            "the item is 400.1 KB, DynamoDB takes 400 KB; its largest attribute is `text` with 400 KB"
        );
    }

    #[test]
    fn what_is_read_back_has_the_same_fingerprint() {
        let prepared = encode(Some("a"), Some("g"), "t", &request()).unwrap();
        let (layout, key) = (Layout::of(&definition()), FingerprintKey::new([1; 32]));
        let ignore = HashSet::from(["text".to_owned()]);
        let mut item = prepared.item.clone();
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
