//! Looking for rows that a table will refuse before it does: one query for all of them in place of an error for
//! each. What these queries do not find is found by halving.

use super::merge::Plan;
use crate::target::catalog::{Check, ForeignKey};
use crate::template::{identifier, literal};
use whimbrel_store::Mode;

/// A text as a constant; names hold no U+0000.
fn quoted(text: &str) -> String {
    literal(text).unwrap_or_else(|| "''".to_owned())
}

impl Plan<'_> {
    /// Each answers with the numbers of rows and why they are refused, in the server's own words.
    pub(super) fn probes(&self, stage: &str) -> Vec<String> {
        // A trigger may make a row fit, and an update leaves many rows alone.
        if self.mode == Mode::Update || !self.table.triggers.is_empty() {
            return Vec::new();
        }
        let is_written = |names: &[String]| {
            let columns = self.encoder.columns();
            names.iter().all(|name| columns.iter().any(|column| column.name == *name))
        };
        let checks = self.table.checks.iter().filter(|check| is_written(&check.columns));
        let foreign_keys = self.table.foreign_keys.iter().filter(|key| is_written(&key.columns));
        let (own, foreign_keys): (Vec<_>, Vec<_>) =
            foreign_keys.partition(|key| key.parent == self.table.oid);
        // Without its index a key that is made later would be looked for in all of the table.
        let late = usize::from(self.table.is_key_late);
        let unique = self.table.keys.iter().zip(&self.table.key_names).skip(late);
        let unique = unique.filter(|(key, _)| *key != self.key && is_written(key));
        self.inputs(stage)
            .chain(checks.map(|check| self.check(stage, check)))
            .chain(foreign_keys.into_iter().map(|key| self.foreign_key(stage, key)))
            .chain(unique.map(|(key, name)| self.unique(stage, key, name)))
            // Last, since what is refused for another reason takes along what refers to it.
            .chain(own.into_iter().map(|key| self.own_key(stage, key)))
            .collect()
    }

    /// Text that a type does not take.
    fn inputs(&self, stage: &str) -> impl Iterator<Item = String> {
        let columns = self.encoder.columns().iter().enumerate();
        let read_by_server = columns.filter(|(_, column)| column.wire.is_cast() && self.table.can_test_input);
        let queries = read_by_server.filter_map(|(at, column)| {
            let type_name = quoted(&self.table.column(&column.name)?.type_name);
            Some(format!(
                "SELECT p.n, (pg_catalog.pg_input_error_info(p.c{at}, {type_name})).message FROM {stage} p \
                 WHERE NOT pg_catalog.pg_input_is_valid(p.c{at}, {type_name})"
            ))
        });
        queries.collect::<Vec<_>>().into_iter()
    }

    fn check(&self, stage: &str, check: &Check) -> String {
        let columns = self.encoder.columns().iter();
        let columns =
            columns.map(|column| format!("{} AS {}", self.staged(&column.name), identifier(&column.name)));
        let name = self.table.sql.rsplit('.').next().unwrap_or_default();
        let reason =
            format!("new row for relation {name} violates check constraint {}", identifier(&check.name));
        format!(
            "SELECT \"whimbrel n\", {} FROM (SELECT p.n AS \"whimbrel n\", {} FROM {stage} p) AS staged WHERE NOT ({})",
            quoted(&reason),
            columns.collect::<Vec<_>>().join(", "),
            check.expression
        )
    }

    /// `Key (a, b)=(1, 2)`, as an expression.
    fn shown_key(&self, names: &[String]) -> String {
        let values: Vec<_> =
            names.iter().map(|name| format!("left(({})::text, 100)", self.staged(name))).collect();
        let head = quoted(&format!("Key ({})=(", names.join(", ")));
        format!("{head} || concat_ws(', ', {}) || ')'", values.join(", "))
    }

    /// Rows that will be left alone are not refused for what they refer to.
    fn is_new(&self) -> String {
        match self.mode {
            Mode::Insert | Mode::SkipExisting if !self.key.is_empty() => {
                format!("NOT EXISTS (SELECT 1 FROM {} t WHERE {})", self.table.sql, self.by_key())
            }
            _ => "TRUE".to_owned(),
        }
    }

    /// Why a row is refused that refers to nothing, as an expression.
    fn orphaned(&self, key: &ForeignKey) -> String {
        let table = self.table.sql.rsplit('.').next().unwrap_or_default();
        let reason = format!(
            "insert or update on table {table} violates foreign key constraint {}: ",
            identifier(&key.name)
        );
        let missing = format!(" is not present in table {}.", identifier(&key.parent_name.1));
        format!("{} || {} || {}", quoted(&reason), self.shown_key(&key.columns), quoted(&missing))
    }

    /// Whether a staged row, `p`, is new and refers to a row that the table does not hold.
    fn is_alone(&self, key: &ForeignKey) -> String {
        let (schema, name) = &key.parent_name;
        let present = key.columns.iter().map(|column| format!("{} IS NOT NULL", self.staged(column)));
        let equal = key.parent_columns.iter().zip(&key.columns);
        let equal =
            equal.map(|(parent, column)| format!("q.{} = {}", identifier(parent), self.staged(column)));
        format!(
            "{} AND {} AND NOT EXISTS (SELECT 1 FROM {}.{} q WHERE {})",
            present.collect::<Vec<_>>().join(" AND "),
            self.is_new(),
            identifier(schema),
            identifier(name),
            equal.collect::<Vec<_>>().join(" AND ")
        )
    }

    fn foreign_key(&self, stage: &str, key: &ForeignKey) -> String {
        format!("SELECT p.n, {} FROM {stage} p WHERE {}", self.orphaned(key), self.is_alone(key))
    }

    /// Of a table that refers to itself: a row may refer to another of its batch, which then has to stay as well.
    fn own_key(&self, stage: &str, key: &ForeignKey) -> String {
        let equal = key.parent_columns.iter().zip(&key.columns);
        let equal = equal
            .map(|(parent, column)| format!("{} = {}", self.staged_in("s", parent), self.staged(column)));
        let (refers, alone) = (equal.collect::<Vec<_>>().join(" AND "), self.is_alone(key));
        format!(
            "WITH RECURSIVE orphan(n) AS (\
               SELECT p.n FROM {stage} p WHERE {alone} AND NOT EXISTS (SELECT 1 FROM {stage} s WHERE {refers}) \
               UNION SELECT p.n FROM orphan o JOIN {stage} s ON s.n = o.n JOIN {stage} p ON {refers} WHERE {alone}) \
             SELECT p.n, {} FROM orphan JOIN {stage} p ON p.n = orphan.n",
            self.orphaned(key)
        )
    }

    /// Another row holds the values, and none of the batch takes them from it.
    fn unique(&self, stage: &str, key: &[String], name: &str) -> String {
        let reason = format!("duplicate key value violates unique constraint {}: ", identifier(name));
        let equal = key.iter().map(|column| format!("t.{} = {}", identifier(column), self.staged(column)));
        let stays = if self.key.is_empty() {
            "TRUE".to_owned()
        } else {
            format!("NOT EXISTS (SELECT 1 FROM {stage} other WHERE {})", self.by_key_of("other"))
        };
        format!(
            "SELECT p.n, {} || {} || ' already exists.' FROM {stage} p WHERE {} \
             AND EXISTS (SELECT 1 FROM {} t WHERE {} AND {stays})",
            quoted(&reason),
            self.shown_key(key),
            self.is_new(),
            self.table.sql,
            equal.collect::<Vec<_>>().join(" AND ")
        )
    }
}
