//! The statements that bring records from a staging table into their table.

use super::before::Images;
use crate::encode::{Encoder, Meaning, Wire};
use crate::target::catalog::{Identity, Table};
use crate::target::scope::member;
use crate::template::{identifier, literal};
use whimbrel_store::Mode;

/// What a batch is written with. In merges `$1` and `$2` bound the numbers of the rows, the second excluded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statements {
    /// `COPY` straight into the table; `None`: not all columns can be sent in their own form.
    pub direct: Option<String>,
    /// The staging table's name, quoted.
    pub stage: String,
    /// Makes the staging table.
    pub make: String,
    /// `COPY` into the staging table: the row's number, then its columns, then the guards.
    pub copy: String,
    /// Writes rows and answers with those that were created, those that were there, and how many were written.
    pub merge: String,
    /// Of rows by their numbers (`$1`): which stand in the table, within the scope, with the same content, and
    /// which guarded columns hold something else. `None`: the table has no key.
    pub classify: Option<String>,
    /// Keeps what a merge writes over. `None`: the table has no key.
    pub images: Option<Images>,
    /// Queries that find staged rows which the table will refuse, with the reason, without an error.
    pub probes: Vec<String>,
}

/// What statements are made of.
pub(crate) struct Plan<'a> {
    pub table: &'a Table,
    pub encoder: &'a Encoder,
    pub mode: Mode,
    pub key: &'a [String],
    pub scope: &'a [String],
    /// Names of guarded columns, in the order in which they are staged.
    pub guards: &'a [String],
}

impl Plan<'_> {
    pub(crate) fn statements(&self) -> Statements {
        let columns = self.encoder.columns();
        let names: Vec<_> = columns.iter().map(|column| identifier(&column.name)).collect();
        let fields: Vec<_> = (0..columns.len()).map(|at| format!("c{at}")).collect();
        let guards: Vec<_> = (0..self.guards.len()).map(|at| format!("g{at}")).collect();
        let mut declared = vec!["n integer NOT NULL".to_owned()];
        declared.extend(
            fields
                .iter()
                .zip(columns)
                .map(|(field, column)| format!("{field} {}", self.stage_type(&column.name, &column.wire))),
        );
        declared.extend(guards.iter().zip(self.guards).map(|(field, name)| {
            let wire =
                self.table.column(name).map_or(Wire::Cast(Meaning::Text), |column| column.wire.clone());
            format!("{field} {}", self.stage_type(name, &wire))
        }));
        let declared = declared.join(", ");
        let hash = blake3::hash(declared.as_bytes()).to_hex();
        let stage = format!("pg_temp.\"whimbrel_{}_{}\"", self.table.oid, &hash[..12]);
        let staged: Vec<_> = std::iter::once("n".to_owned()).chain(fields).chain(guards).collect();
        let is_direct = columns.iter().all(|column| !column.wire.is_cast());
        let into = format!("{} ({})", self.table.sql, names.join(", "));
        Statements {
            direct: is_direct.then(|| format!("COPY {into} FROM STDIN (FORMAT binary)")),
            make: format!(
                "CREATE TEMP TABLE IF NOT EXISTS {} ({declared}) ON COMMIT DELETE ROWS",
                &stage[8..]
            ),
            copy: format!("COPY {stage} ({}) FROM STDIN (FORMAT binary)", staged.join(", ")),
            merge: match self.mode {
                Mode::Update => self.update(&stage),
                Mode::Changed => self.change(&stage, &names),
                Mode::Insert | Mode::Upsert | Mode::SkipExisting => self.insert(&stage, &names),
            },
            classify: (!self.key.is_empty()).then(|| self.classify(&stage)),
            images: (!self.key.is_empty()).then(|| self.images(&stage)),
            probes: self.probes(&stage),
            stage,
        }
    }

    /// The column's own type; text where PostgreSQL itself is to read it. Constraints of a domain are checked
    /// where the row arrives.
    fn stage_type(&self, name: &str, wire: &Wire) -> String {
        match (wire, self.table.column(name)) {
            (Wire::Cast(_), _) | (_, None) => "text".to_owned(),
            (_, Some(column)) => column.base_name.clone(),
        }
    }

    fn cast(&self, name: &str, field: &str) -> String {
        match self.table.column(name) {
            Some(column) if column.wire.is_cast() => format!("{field}::{}", column.type_name),
            _ => field.to_owned(),
        }
    }

    /// A staged column by its name.
    pub(super) fn staged(&self, name: &str) -> String {
        self.staged_in("p", name)
    }

    /// As [`Plan::staged`], of a row with another alias.
    pub(super) fn staged_in(&self, alias: &str, name: &str) -> String {
        let at = self.encoder.columns().iter().position(|column| column.name == name);
        at.map_or_else(|| "NULL".to_owned(), |at| self.cast(name, &format!("{alias}.c{at}")))
    }

    /// Whether a row of the table is of the same scope as a record, of which `column` gives a column.
    fn in_scope(&self, name: &str, column: impl Fn(&str) -> String) -> String {
        match member(self.table, name) {
            Some(member) => {
                let base = &member.column.name;
                let held = member.of(&format!("t.{}", identifier(base)));
                format!("{held} IS NOT DISTINCT FROM {}", member.of(&column(base)))
            }
            None => self.same(name, &column(name)),
        }
    }

    fn same(&self, name: &str, staged: &str) -> String {
        let held = format!("t.{}", identifier(name));
        let by_text = self.table.column(name).is_none_or(|column| match &column.wire {
            Wire::Json | Wire::Cast(_) => true,
            // To their own equality the two zeros are one.
            Wire::Vector(_) | Wire::HalfVector(_) | Wire::SparseVector(_) => true,
            Wire::Array(element, _) => **element == Wire::Json,
            _ => false,
        });
        // Types without an equality of their own are compared as PostgreSQL writes them.
        if by_text {
            format!("{held}::text IS NOT DISTINCT FROM ({staged})::text")
        } else {
            format!("{held} IS NOT DISTINCT FROM {staged}")
        }
    }

    pub(super) fn by_key(&self) -> String {
        self.by_key_of("p")
    }

    /// Whether a row of the table, `t`, has the key of a staged row.
    pub(super) fn by_key_of(&self, alias: &str) -> String {
        let equal = |name: &String| format!("t.{} = {}", identifier(name), self.staged_in(alias, name));
        self.key.iter().map(equal).collect::<Vec<_>>().join(" AND ")
    }

    fn inside(&self) -> String {
        all(self.scope.iter().map(|name| self.in_scope(name, |column| self.staged(column))))
    }

    /// Whether what is compared of a record is what the table holds.
    fn unchanged(&self) -> String {
        let compared = self.encoder.columns().iter();
        let compared = compared.filter(|column| !column.is_ignored && !self.key.contains(&column.name));
        all(compared.map(|column| {
            let (name, staged) = (&column.name, self.staged(&column.name));
            if column.without.is_empty() {
                return self.same(name, &staged);
            }
            let held = column.without.sql(&format!("(t.{})::jsonb", identifier(name)));
            format!("{held} IS NOT DISTINCT FROM {}", column.without.sql(&format!("({staged})::jsonb")))
        }))
    }

    /// Columns that an existing row takes from a record.
    fn set_columns(&self) -> Vec<&str> {
        let names = self.encoder.columns().iter().map(|column| column.name.as_str());
        let is_set = |name: &&str| {
            let is_always = self.table.column(name).is_some_and(|column| column.identity == Identity::Always);
            !is_always && !self.key.iter().chain(self.scope).any(|other| other == name)
        };
        names.filter(is_set).collect()
    }

    /// `INSERT INTO table AS t (…) SELECT …` of the rows of a merge that satisfy a condition.
    fn insert_where(&self, stage: &str, names: &[String], condition: &str) -> String {
        let columns = self.encoder.columns();
        let values: Vec<_> = columns.iter().map(|column| self.staged(&column.name)).collect();
        let is_identity =
            |name: &str| self.table.column(name).is_some_and(|column| column.identity != Identity::None);
        let overriding = if columns.iter().any(|column| is_identity(&column.name)) {
            " OVERRIDING SYSTEM VALUE"
        } else {
            ""
        };
        format!(
            "INSERT INTO {} AS t ({}){overriding} SELECT {} FROM {stage} p \
             WHERE p.n >= $1 AND p.n < $2 AND {condition} ORDER BY p.n",
            self.table.sql,
            names.join(", "),
            values.join(", ")
        )
    }

    fn insert(&self, stage: &str, names: &[String]) -> String {
        let into = self.insert_where(stage, names, "TRUE");
        if self.key.is_empty() {
            return format!(
                "WITH made AS ({into} RETURNING 1) \
                 SELECT NULL::integer[], NULL::integer[], (SELECT count(*) FROM made)"
            );
        }
        let quoted: Vec<_> = self.key.iter().map(|name| identifier(name)).collect();
        let action = if self.mode == Mode::Upsert { self.overwrite() } else { "DO NOTHING".to_owned() };
        let returned: Vec<_> =
            quoted.iter().enumerate().map(|(at, name)| format!("t.{name} AS k{at}")).collect();
        let joined = self.key.iter().enumerate();
        let joined: Vec<_> = joined.map(|(at, name)| format!("m.k{at} = {}", self.staged(name))).collect();
        // A row that was never updated has no later version. Partitions do not tell, there one looks first.
        let (was, mark, is_new) = if self.table.is_partitioned {
            let was = format!(
                "was AS MATERIALIZED (SELECT p.n FROM {stage} p JOIN {} t ON {} WHERE p.n >= $1 AND p.n < $2), ",
                self.table.sql,
                self.by_key()
            );
            (was, "TRUE", "p.n NOT IN (SELECT n FROM was)")
        } else {
            (String::new(), "(t.xmax = 0)", "m.is_new")
        };
        format!(
            "WITH {was}made AS ({into} ON CONFLICT ({}) {action} RETURNING {}, {mark} AS is_new) \
             SELECT array_agg(p.n) FILTER (WHERE {is_new}), array_agg(p.n) FILTER (WHERE NOT ({is_new})), \
             (SELECT count(*) FROM made) FROM made m JOIN {stage} p ON {} AND p.n >= $1 AND p.n < $2",
            quoted.join(", "),
            returned.join(", "),
            joined.join(" AND ")
        )
    }

    fn overwrite(&self) -> String {
        let mut set = self.set_columns();
        if set.is_empty() {
            // What is set to itself is found to have been there.
            set.extend(self.key.first().map(String::as_str));
        }
        let set: Vec<_> =
            set.into_iter().map(identifier).map(|name| format!("{name} = EXCLUDED.{name}")).collect();
        let scope = all(self
            .scope
            .iter()
            .map(|name| self.in_scope(name, |column| format!("EXCLUDED.{}", identifier(column)))));
        format!("DO UPDATE SET {} WHERE {scope}", set.join(", "))
    }

    fn update(&self, stage: &str) -> String {
        let set = self.set_columns();
        if set.is_empty() {
            return "SELECT NULL::integer[], NULL::integer[], 0::bigint WHERE $1::integer <= $2::integer"
                .to_owned();
        }
        let set = set.into_iter().map(|name| format!("{} = {}", identifier(name), self.staged(name)));
        let set = set.collect::<Vec<_>>().join(", ");
        let guards = all(self.guard_pairs().map(|(name, field)| self.same(name, &self.cast(name, &field))));
        format!(
            "WITH made AS (UPDATE {} AS t SET {set} FROM {stage} p WHERE p.n >= $1 AND p.n < $2 AND {} AND {} \
             AND {guards} AND NOT ({}) RETURNING p.n) \
             SELECT NULL::integer[], (SELECT array_agg(n) FROM made), (SELECT count(*) FROM made)",
            self.table.sql,
            self.by_key(),
            self.inside(),
            self.unchanged()
        )
    }

    /// Creates what is missing and sets what differs. The row that was compared is told by `xmin`: where another
    /// transaction has written to it since, the update waits for that transaction, looks again and lets it be.
    fn change(&self, stage: &str, names: &[String]) -> String {
        let set = self.set_columns();
        let table = &self.table.sql;
        let missing = format!("NOT EXISTS (SELECT 1 FROM {table} t WHERE {})", self.by_key());
        let quoted: Vec<_> = self.key.iter().map(|name| identifier(name)).collect();
        let returned: Vec<_> =
            quoted.iter().enumerate().map(|(at, name)| format!("t.{name} AS k{at}")).collect();
        let joined = self.key.iter().enumerate();
        let joined: Vec<_> = joined.map(|(at, name)| format!("m.k{at} = {}", self.staged(name))).collect();
        let updated = if set.is_empty() {
            "SELECT NULL::integer AS n WHERE FALSE".to_owned()
        } else {
            let set = set.into_iter().map(|name| format!("{} = {}", identifier(name), self.staged(name)));
            format!(
                "UPDATE {table} AS t SET {} FROM differing p WHERE {} AND t.xmin = p.seen RETURNING p.n",
                set.collect::<Vec<_>>().join(", "),
                self.by_key()
            )
        };
        format!(
            "WITH made AS ({} ON CONFLICT ({}) DO NOTHING RETURNING {}), \
             differing AS MATERIALIZED (SELECT p.*, t.xmin AS seen FROM {stage} p JOIN {table} t ON {} \
             WHERE p.n >= $1 AND p.n < $2 AND {} AND NOT ({})), \
             updated AS ({updated}) \
             SELECT (SELECT array_agg(p.n) FROM made m JOIN {stage} p ON {} AND p.n >= $1 AND p.n < $2), \
             (SELECT array_agg(n) FROM updated), (SELECT count(*) FROM made) + (SELECT count(*) FROM updated)",
            self.insert_where(stage, names, &missing),
            quoted.join(", "),
            returned.join(", "),
            self.by_key(),
            self.inside(),
            self.unchanged(),
            joined.join(" AND ")
        )
    }

    fn guard_pairs(&self) -> impl Iterator<Item = (&String, String)> {
        self.guards.iter().enumerate().map(|(at, name)| (name, format!("p.g{at}")))
    }

    fn classify(&self, stage: &str) -> String {
        let conflicts = self.guard_pairs().map(|(name, field)| {
            let same = self.same(name, &self.cast(name, &field));
            let name = literal(name).unwrap_or_else(|| "''".to_owned());
            format!("CASE WHEN NOT ({same}) THEN {name} END")
        });
        let head = ["', '".to_owned(), "NULL::text".to_owned()];
        let conflicts = head.into_iter().chain(conflicts).collect::<Vec<_>>().join(", ");
        format!(
            "SELECT p.n, ({}), ({}), concat_ws({conflicts}) FROM {stage} p JOIN {} t ON {} WHERE p.n = ANY($1)",
            self.inside(),
            self.unchanged(),
            self.table.sql,
            self.by_key()
        )
    }
}

/// Conditions that must all hold.
fn all(conditions: impl Iterator<Item = String>) -> String {
    let conditions: Vec<_> = conditions.collect();
    if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") }
}
