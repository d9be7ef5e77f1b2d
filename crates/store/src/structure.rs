//! What a database is made of beside its records: for a copy of all of it.
//!
//! A store that is copied whole says what it holds in these terms, and a store that takes it says what would make the
//! same there. What the terms do not hold is named in notes, never left out in silence.

use arrow::datatypes::Field;
use std::collections::BTreeSet;

/// All tables of a database.
#[derive(Clone, Debug, Default)]
pub struct Structure {
    /// The tables, by name.
    pub tables: Vec<TableStructure>,
    /// What is not copied, or not as it is: a sentence each.
    pub notes: Vec<String>,
    /// Tables that are not among these though the database has them, a sentence for each reason.
    pub others: Vec<String>,
}

/// A table.
#[derive(Clone, Debug, Default)]
pub struct TableStructure {
    /// Its name, as the database has it.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<ColumnStructure>,
    /// The columns of the primary key, in its order; empty where there is none.
    pub primary_key: Vec<String>,
    /// Unique constraints without a name of their own, the primary key left out.
    pub unique: Vec<Vec<String>>,
    /// Indexes that were made by a statement of their own.
    pub indexes: Vec<IndexStructure>,
    /// Foreign keys.
    pub foreign_keys: Vec<ForeignKeyStructure>,
}

/// A column.
#[derive(Clone, Debug)]
pub struct ColumnStructure {
    /// Its name and the type that its values have elsewhere.
    pub field: Field,
    /// The word that a spec declares under `columns`, where the values would be read as something else without it.
    pub declared: Option<String>,
    /// Whether it never is NULL.
    pub is_not_null: bool,
    /// What it is where nothing is said.
    pub default: Option<DefaultValue>,
    /// Whether the database works its values out of others.
    pub is_generated: bool,
    /// Whether the database counts it up where nothing is said: the number that is next, as far as it is known.
    pub counter: Option<Counter>,
}

/// A column that is counted up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// The first number that is free even if the records do not say so; `None`: the records say it.
    pub next: Option<i64>,
}

/// What a column is where nothing is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultValue {
    /// A text.
    Text(String),
    /// A number, as its text.
    Number(String),
    /// A truth value.
    Boolean(bool),
    /// The moment of the transaction, in UTC.
    Now,
    /// Its day.
    Today,
    /// Its time of day.
    TimeOfDay,
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexStructure {
    /// Its name.
    pub name: String,
    /// Whether it keeps its columns unique.
    pub is_unique: bool,
    /// Its columns, and whether each descends.
    pub columns: Vec<(String, bool)>,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKeyStructure {
    /// The columns that refer.
    pub columns: Vec<String>,
    /// The table that they refer to.
    pub parent: String,
    /// Its columns, as many.
    pub parent_columns: Vec<String>,
    /// What happens when the parent goes.
    pub on_delete: ReferenceAction,
    /// What happens when the parent's key changes.
    pub on_update: ReferenceAction,
    /// Whether it is checked at the end of a transaction.
    pub is_deferred: bool,
}

/// What becomes of a record when the one that it refers to goes or changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReferenceAction {
    /// The change is refused at the end of the statement.
    #[default]
    NoAction,
    /// The change is refused at once.
    Restrict,
    /// It goes or changes, too.
    Cascade,
    /// Its columns become NULL.
    SetNull,
    /// Its columns take their defaults.
    SetDefault,
}

/// What makes a structure in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// Statements, each with a semicolon behind it.
    pub sql: String,
    /// What is not made, or not as it was: a sentence each.
    pub notes: Vec<String>,
    /// Whether foreign keys hold from the first record on, so that a table must wait for those that it refers to.
    pub is_enforced: bool,
}

impl TableStructure {
    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&ColumnStructure> {
        self.columns.iter().find(|column| column.field.name() == name)
    }

    /// Whether these columns, in whatever order, name at most one record.
    #[must_use]
    pub fn is_unique(&self, columns: &[String]) -> bool {
        let wanted: BTreeSet<&String> = columns.iter().collect();
        let is_same = |names: &[String]| names.iter().collect::<BTreeSet<_>>() == wanted;
        let index = |index: &IndexStructure| {
            index.is_unique && index.columns.iter().map(|(name, _)| name).collect::<BTreeSet<_>>() == wanted
        };
        !columns.is_empty()
            && (is_same(&self.primary_key)
                || self.unique.iter().any(|names| is_same(names))
                || self.indexes.iter().any(index))
    }
}

/// The place of a table that refers to itself by way of others, of those the one that refers to the fewest; what only
/// refers to a circle is not in it.
fn in_circle(tables: &[TableStructure]) -> Option<usize> {
    let parents = |table: &TableStructure| -> Vec<usize> {
        let others = table.foreign_keys.iter().filter(|key| key.parent != table.name);
        others.filter_map(|key| tables.iter().position(|other| other.name == key.parent)).collect()
    };
    let refers_to_itself = |start: usize| {
        let (mut seen, mut open) = (BTreeSet::new(), parents(&tables[start]));
        while let Some(at) = open.pop() {
            if seen.insert(at) {
                open.extend(parents(&tables[at]));
            }
        }
        seen.contains(&start)
    };
    (0..tables.len()).filter(|at| refers_to_itself(*at)).min_by_key(|at| parents(&tables[*at]).len())
}

impl Structure {
    /// The table of that name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&TableStructure> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Puts each table behind those that it refers to, as far as they do not refer to one another in a circle.
    /// Answers with the tables that each must wait for, in the new order.
    pub fn order_by_dependency(&mut self) -> Vec<BTreeSet<String>> {
        let mut waiting = std::mem::take(&mut self.tables);
        let mut placed: BTreeSet<String> = BTreeSet::new();
        let mut waits = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let is_there = |parent: &String| !waiting.iter().any(|table| table.name == *parent);
            let is_free = |table: &TableStructure| {
                table.foreign_keys.iter().all(|key| key.parent == table.name || is_there(&key.parent))
            };
            // In a circle one table comes first; what it refers to follows.
            let first = waiting.iter().position(is_free).or_else(|| in_circle(&waiting));
            let table = waiting.remove(first.unwrap_or(0));
            let parents = table.foreign_keys.iter().map(|key| key.parent.clone());
            waits.push(parents.filter(|parent| placed.contains(parent)).collect());
            placed.insert(table.name.clone());
            self.tables.push(table);
        }
        waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, parents: &[&str]) -> TableStructure {
        let key = |parent: &&str| ForeignKeyStructure {
            columns: vec!["p".to_owned()],
            parent: (*parent).to_owned(),
            parent_columns: vec!["id".to_owned()],
            on_delete: ReferenceAction::NoAction,
            on_update: ReferenceAction::NoAction,
            is_deferred: false,
        };
        let foreign_keys = parents.iter().map(key).collect();
        TableStructure { name: name.to_owned(), foreign_keys, ..TableStructure::default() }
    }

    #[test]
    fn parents_come_first_and_circles_end() {
        let tables = vec![
            table("a", &["c", "a"]),
            table("b", &["x", "c"]),
            table("c", &["d"]),
            table("d", &[]),
            table("0", &["f", "c"]),
            table("e", &["f"]),
            table("f", &["e"]),
        ];
        let mut structure = Structure { tables, ..Structure::default() };
        let waits = structure.order_by_dependency();
        let names: Vec<_> = structure.tables.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["d", "c", "a", "b", "e", "f", "0"]);
        let waits: Vec<Vec<_>> =
            waits.iter().map(|waits| waits.iter().map(String::as_str).collect()).collect();
        let expected: [&[&str]; 7] = [&[], &["d"], &["c"], &["c"], &[], &["e"], &["c", "f"]];
        assert_eq!(waits, expected);
    }

    #[test]
    fn a_unique_key_is_one_in_any_order() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let found = TableStructure {
            primary_key: names(&["a", "b"]),
            indexes: vec![IndexStructure {
                name: "i".to_owned(),
                is_unique: true,
                columns: vec![("c".to_owned(), true)],
            }],
            ..TableStructure::default()
        };
        assert!(found.is_unique(&names(&["b", "a"])) && found.is_unique(&names(&["c"])));
        assert!(!found.is_unique(&names(&["a"])) && !found.is_unique(&[]));
    }
}
