//! What the names in a flow's SQL stand for where its records are elements of other records.
//!
//! `"$.name"` is always the parent's column, `"@.name"` always the element's field. A name alone is the parent's
//! where its source has that column by itself (a column of a table, of a header, of a schema, or a key), and
//! else the element's: so it never depends on what one record happens to hold.

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use whimbrel_model::attribute::{Column, ITEM, Reading};
use whimbrel_model::{Logical, StoreName};
use whimbrel_spec::resolved::{ELEMENT, Each, POSITION};
use whimbrel_store::{Condition, ReadRequest, Result, SourceDescription, StoreError, StoreErrorKind};

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// A column of the source.
    Parent(String),
    /// A field of the element.
    Field(String),
    /// The key of the member.
    Key,
    /// The number of the element.
    Position,
    /// The element whole.
    Element,
}

/// The columns of a source whose records are elements.
#[derive(Debug)]
pub(super) struct Names {
    store: StoreName,
    each: Each,
    /// The columns that the parents' source has by itself.
    own: BTreeSet<String>,
    /// The columns that name a parent.
    key: Vec<String>,
    /// The column that holds the document.
    pub(super) document: String,
    /// What is wanted, by name, in the order of the columns.
    pub(super) wanted: Vec<(String, Meant)>,
    /// How the elements' fields are read, each once.
    pub(super) fields: Vec<Column>,
    /// How an element is read as a whole.
    pub(super) element: Reading,
}

impl Names {
    /// `found` is what the source says of itself where nothing in particular is wanted, `request` what the flows
    /// want, by their names.
    ///
    /// # Errors
    /// A name that cannot be what the spec says.
    pub(super) fn new(
        store: &StoreName,
        each: &Each,
        found: &SourceDescription,
        request: &ReadRequest,
    ) -> Result<Self> {
        let refused =
            |kind, context: String, hint: String| Err(StoreError::new(kind, store, context).with_hint(hint));
        let columns = || found.schema.fields().iter().map(|field| field.name().clone());
        let is_open = columns().any(|name| name == ITEM);
        let own: BTreeSet<String> = columns().collect();
        let named = own.iter().cloned().collect::<Vec<_>>().join(", ");
        let document = each.path.column.clone().unwrap_or_else(|| ITEM.to_owned());
        if !is_open && !own.contains(&document) {
            return match &each.path.column {
                Some(column) => refused(
                    StoreErrorKind::NotFound,
                    format!("`each`: the source has no column `{column}`"),
                    format!("it has: {named}"),
                ),
                None => refused(
                    StoreErrorKind::Unsupported,
                    format!("`each`: a record is no document, it has columns: {named}"),
                    "name the one that holds the document: `$.column[*]`".to_owned(),
                ),
            };
        }
        if let Some(key) = each.key_as.as_ref().filter(|key| own.contains(*key)) {
            return refused(
                StoreErrorKind::Unsupported,
                format!("`key_as: {key}`: the source has a column of that name"),
                "give the keys another name".to_owned(),
            );
        }
        let mut names = Self {
            store: store.clone(),
            each: each.clone(),
            own,
            key: found.key.clone(),
            document,
            wanted: Vec::new(),
            fields: Vec::new(),
            element: Reading::Json,
        };
        names.want(request);
        names.declare(&request.columns)?;
        Ok(names)
    }

    /// What a name stands for.
    pub(super) fn meant(&self, name: &str) -> Meant {
        match name {
            POSITION => Meant::Position,
            ELEMENT => Meant::Element,
            _ if self.each.key_as.as_deref() == Some(name) => Meant::Key,
            _ => match (name.strip_prefix("$."), name.strip_prefix("@.")) {
                (Some(column), _) => Meant::Parent(column.to_owned()),
                (_, Some(field)) => Meant::Field(field.to_owned()),
                _ if self.own.contains(name) => Meant::Parent(name.to_owned()),
                _ => Meant::Field(name.to_owned()),
            },
        }
    }

    /// Gathers the columns: what names a record first, then what is wanted.
    fn want(&mut self, request: &ReadRequest) {
        let mut names = self.record_key();
        match &request.wanted {
            Some(wanted) => names.extend(wanted.iter().cloned()),
            None => {
                let others = self.own.iter().filter(|name| **name != self.document && **name != ITEM);
                names.extend(others.cloned());
                names.extend(request.columns.keys().cloned());
                names.extend(self.each.key_as.clone());
                names.extend([POSITION, ELEMENT].map(str::to_owned));
            }
        }
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        self.wanted = names.into_iter().map(|name| (name.clone(), self.meant(&name))).collect();
    }

    /// The columns that name a record: those of its parent, and what tells it from its siblings.
    pub(super) fn record_key(&self) -> Vec<String> {
        let key_as = self.each.key_as.clone();
        // The keys of one object are different ones; those of several may be the same.
        let is_enough = key_as.is_some() && self.each.path.is_simple();
        let position = (!is_enough).then(|| POSITION.to_owned());
        self.key.iter().cloned().chain(key_as).chain(position).collect()
    }

    fn declare(&mut self, declared: &BTreeMap<String, String>) -> Result<()> {
        let refused = |name: &str, word: &str, what: &str| {
            let context = format!("`columns` declares `{name}` as {word}, and it is {what}");
            Err(StoreError::new(StoreErrorKind::Unsupported, &self.store, context)
                .with_hint(format!("leave `{name}` out of `columns`")))
        };
        let mut fields: BTreeMap<String, Reading> = BTreeMap::new();
        let wanted = self.wanted.iter().filter_map(|(_, meant)| match meant {
            Meant::Field(field) => Some((field.clone(), Reading::Text)),
            _ => None,
        });
        fields.extend(wanted);
        let mut element = self.element;
        for (name, word) in declared {
            let Some(reading) = Reading::declared(word) else {
                return refused(name, word, "no type that there is");
            };
            match self.meant(name) {
                Meant::Field(field) => drop(fields.insert(field, reading)),
                Meant::Element => element = reading,
                Meant::Key if reading != Reading::Text => {
                    return refused(name, word, "text: the key of a member");
                }
                Meant::Position if reading != Reading::Integer => {
                    return refused(name, word, "a number: the place of the element");
                }
                Meant::Parent(column) if column == self.document && reading != Reading::Json => {
                    return refused(name, word, "a document, which `each` opens");
                }
                Meant::Parent(_) | Meant::Key | Meant::Position => {}
            }
        }
        self.element = element;
        self.fields = fields.into_iter().map(|(name, reading)| Column { name, reading }).collect();
        Ok(())
    }

    /// What is asked of the parents' source.
    pub(super) fn request(&self, request: ReadRequest) -> ReadRequest {
        let parents = self.wanted.iter().filter_map(|(_, meant)| match meant {
            Meant::Parent(column) => Some(column.clone()),
            _ => None,
        });
        let mut columns: BTreeMap<String, String> = request
            .columns
            .iter()
            .filter_map(|(name, word)| match self.meant(name) {
                Meant::Parent(column) => Some((column, word.clone())),
                _ => None,
            })
            .collect();
        if self.document != ITEM {
            columns.insert(self.document.clone(), "json".to_owned());
        }
        let wanted = parents.chain(self.key.iter().cloned()).chain([self.document.clone()]);
        ReadRequest {
            wanted: Some(wanted.collect()),
            columns,
            condition: request.condition.as_ref().and_then(|condition| self.of_parents(condition)),
            // Nobody counts parents.
            wants_all: false,
            whole: false,
            ..request
        }
    }

    /// What a condition says of the parents alone.
    fn of_parents(&self, condition: &Condition) -> Option<Condition> {
        let column = |name: &String| match self.meant(name) {
            Meant::Parent(column) => Some(column),
            _ => None,
        };
        Some(match condition {
            Condition::All(all) => {
                let said: Vec<_> = all.iter().filter_map(|one| self.of_parents(one)).collect();
                (!said.is_empty()).then_some(Condition::All(said))?
            }
            Condition::Any(any) => {
                Condition::Any(any.iter().map(|one| self.of_parents(one)).collect::<Option<_>>()?)
            }
            Condition::Compare(name, comparison, literal) => {
                Condition::Compare(column(name)?, *comparison, literal.clone())
            }
            Condition::StartsWith(name, text) => Condition::StartsWith(column(name)?, text.clone()),
            Condition::Present(name) => Condition::Present(column(name)?),
        })
    }

    /// The columns of the records, given those of the parents.
    ///
    /// # Errors
    /// The parents lack a column.
    pub(super) fn schema(&self, parents: &Schema) -> Result<SchemaRef> {
        let field = |(name, meant): &(String, Meant)| match meant {
            Meant::Parent(column) => match parents.field_with_name(column) {
                Ok(field) => Ok(field.clone().with_name(name)),
                Err(_) => Err(self.lacks(column, parents)),
            },
            Meant::Field(field) => Ok(self.reading(field).field(name, true)),
            Meant::Key => Ok(Field::new(name, DataType::Utf8, true)),
            Meant::Position => Ok(Field::new(name, DataType::Int64, false)),
            Meant::Element if self.element == Reading::Json => Ok(Logical::Json.field(name, true)),
            Meant::Element => Ok(self.element.field(name, true)),
        };
        Ok(Arc::new(Schema::new(self.wanted.iter().map(field).collect::<Result<Vec<_>>>()?)))
    }

    /// The place of an element's field.
    pub(super) fn place(&self, field: &str) -> Option<usize> {
        self.fields.iter().position(|column| column.name == field)
    }

    fn reading(&self, field: &str) -> Reading {
        self.place(field).map_or(Reading::Text, |place| self.fields[place].reading)
    }

    /// The name under which a column of the parents, or a field of the elements, goes on.
    pub(super) fn name_of(&self, meant: &Meant) -> Option<&str> {
        self.wanted.iter().find(|(_, other)| other == meant).map(|(name, _)| name.as_str())
    }

    fn lacks(&self, column: &str, parents: &Schema) -> StoreError {
        let names: Vec<&str> = parents.fields().iter().map(|field| field.name().as_str()).collect();
        StoreError::new(StoreErrorKind::NotFound, &self.store, format!("the source has no column `{column}`"))
            .with_hint(format!("it has: {}", names.join(", ")))
    }

    pub(super) fn failed(&self, kind: StoreErrorKind, context: impl Into<String>) -> StoreError {
        StoreError::new(kind, &self.store, context)
    }

    pub(super) fn each(&self) -> &Each {
        &self.each
    }
}
