//! What there is to be written into: columns, keys, triggers and foreign keys of a table.

use super::late_key;
use crate::catalog::resolve;
use crate::client::Lease;
use crate::encode::{Meaning, Wire};
use crate::error::from_driver;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// Since this version a server tests text for a type without raising an error.
const TESTS_INPUT: u32 = 160_000;

/// A column as writing needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetColumn {
    pub name: String,
    /// The type as PostgreSQL names it.
    pub type_name: String,
    /// The type without its domain: what a staging table's column has.
    pub base_name: String,
    pub wire: Wire,
    pub is_not_null: bool,
    /// Whether it fills itself where nothing is written.
    pub has_default: bool,
    pub is_generated: bool,
    pub identity: Identity,
}

/// Whether a column numbers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    None,
    ByDefault,
    Always,
}

/// Where columns of one table refer to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignKey {
    pub name: String,
    pub parent: u32,
    /// Schema and name of the other table.
    pub parent_name: (String, String),
    pub columns: Vec<String>,
    pub parent_columns: Vec<String>,
}

/// A condition on single rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub name: String,
    pub expression: String,
    pub columns: Vec<String>,
}

/// A table that is written into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub oid: u32,
    /// Its name without its schema.
    pub name: String,
    /// Schema and name, quoted.
    pub sql: String,
    pub is_partitioned: bool,
    pub columns: Vec<TargetColumn>,
    /// Unique keys that can tell rows apart, the primary key first.
    pub keys: Vec<Vec<String>>,
    pub has_primary_key: bool,
    /// Whether the primary key is only noted: it is made behind the load, and no statement may rest on it.
    pub is_key_late: bool,
    /// The names of their indexes, in the same order.
    pub key_names: Vec<String>,
    pub checks: Vec<Check>,
    /// Whether the server can say of a text whether a type takes it, without an error.
    pub can_test_input: bool,
    /// Names of triggers that a write fires.
    pub triggers: Vec<String>,
    /// Names of rules that rewrite inserts, and of those that rewrite updates.
    pub insert_rules: Vec<String>,
    pub update_rules: Vec<String>,
    pub foreign_keys: Vec<ForeignKey>,
    /// Columns whose numbers come from a sequence, and the sequence.
    pub sequences: Vec<(String, String)>,
}

impl Table {
    pub(crate) fn column(&self, name: &str) -> Option<&TargetColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether the columns, in any order, are a unique key.
    pub(crate) fn is_unique(&self, names: &[String]) -> bool {
        let same =
            |key: &Vec<String>| key.len() == names.len() && key.iter().all(|name| names.contains(name));
        self.keys.iter().any(same)
    }
}

/// Reads a table by the name that the spec gives it; `None`: it does not exist.
pub(crate) async fn find(store: &StoreName, lease: &Lease, name: &str) -> Result<Option<Table>> {
    match read(store, lease, name).await {
        Ok(table) => Ok(Some(table)),
        Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`find`]; that there is none is an error with the tables that there are.
pub(crate) async fn read(store: &StoreName, lease: &Lease, name: &str) -> Result<Table> {
    let resolved = resolve(store, lease, name).await?;
    if !matches!(resolved.kind, 'r' | 'p') {
        let what = match resolved.kind {
            'v' => "a view",
            'm' => "a materialised view",
            _ => "a foreign table",
        };
        let context = format!("{} is {what}, and records are written into tables only", resolved.sql);
        return Err(StoreError::new(StoreErrorKind::Unsupported, store, context));
    }
    let looking = Looking { store, lease, oid: resolved.oid, sql: &resolved.sql };
    // Asked for at once: a server that is far away is waited for once.
    let (keys, triggers, columns, checks, foreign_keys, sequences) = futures::try_join!(
        looking.keys(),
        looking.triggers(),
        looking.columns(),
        looking.checks(),
        looking.foreign_keys(),
        looking.sequences(),
    )?;
    let (mut keys, mut key_names, mut has_primary_key) = keys;
    let late = if has_primary_key || resolved.kind != 'r' {
        None
    } else {
        late_key::noted(store, lease, resolved.oid).await?
    };
    let is_key_late = late.is_some();
    if let Some((name, columns)) = late {
        keys.insert(0, columns);
        key_names.insert(0, name);
        has_primary_key = true;
    }
    let (triggers, insert_rules, update_rules) = triggers;
    Ok(Table {
        columns,
        keys,
        has_primary_key,
        is_key_late,
        key_names,
        checks,
        can_test_input: lease.server().version_number >= TESTS_INPUT,
        triggers,
        insert_rules,
        update_rules,
        foreign_keys,
        sequences,
        oid: resolved.oid,
        name: resolved.name,
        is_partitioned: resolved.kind == 'p',
        sql: resolved.sql,
    })
}

struct Looking<'a> {
    store: &'a StoreName,
    lease: &'a Lease,
    oid: u32,
    sql: &'a str,
}

/// Follows domains to their base; an array's element stands beside it (`int2vector` and `oidvector` are none).
const COLUMNS: &str = "\
WITH RECURSIVE base AS ( \
  SELECT a.attnum, t.oid, t.typtype, t.typbasetype, a.atttypmod AS typmod, t.typnotnull AS refuses_null, \
    t.typtypmod AS next_typmod, greatest(a.attndims, t.typndims)::int4 AS dimensions \
  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
  WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped \
  UNION ALL \
  SELECT b.attnum, t.oid, t.typtype, t.typbasetype, b.next_typmod, b.refuses_null OR t.typnotnull, t.typtypmod, greatest(b.dimensions, t.typndims) \
  FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype WHERE b.typtype = 'd') \
SELECT a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod) || pg_catalog.repeat('[]', a.attndims - 1), \
  pg_catalog.format_type(t.oid, b.typmod), a.attnotnull OR b.refuses_null, a.atthasdef OR t.typdefault IS NOT NULL, \
  a.attgenerated::text, a.attidentity::text, t.oid, t.typtype::text, t.typsend::pg_catalog.regproc::text, b.typmod, \
  CASE WHEN t.typcategory = 'A' AND t.typlen = -1 AND t.oid NOT IN (22, 30) THEN e.oid ELSE 0 END, coalesce(e.typtype, 'b')::text, \
  coalesce(e.typsend, 0)::pg_catalog.regproc::text, \
  ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum l WHERE l.enumtypid IN (t.oid, e.oid) ORDER BY l.enumsortorder), b.dimensions \
FROM pg_catalog.pg_attribute a JOIN base b ON b.attnum = a.attnum AND b.typtype <> 'd' \
JOIN pg_catalog.pg_type t ON t.oid = b.oid LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem \
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const KEYS: &str = "\
SELECT ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(number, place) \
  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY k.place), i.indisprimary, x.relname::text \
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate \
AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY i.indisprimary DESC, i.indexrelid";

/// What is not enforced (since PostgreSQL 18) is read from the row as JSON, for older servers lack the column.
const FOREIGN_KEYS: &str = "\
SELECT c.confrelid, n.nspname::text, p.relname::text, \
  ARRAY(SELECT a.attname::text FROM unnest(c.conkey) WITH ORDINALITY AS k(number, place) \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number ORDER BY k.place), \
  ARRAY(SELECT a.attname::text FROM unnest(c.confkey) WITH ORDINALITY AS k(number, place) \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.number ORDER BY k.place), c.conname::text \
FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class p ON p.oid = c.confrelid \
JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace \
WHERE c.contype = 'f' AND c.conrelid = $1 AND c.conparentid = 0 \
AND coalesce(to_jsonb(c) ->> 'conenforced', 'true') = 'true' ORDER BY c.conname";

impl Looking<'_> {
    async fn rows(&self, sql: &str) -> Result<Vec<Row>> {
        let rows = self.lease.client().query_typed(sql, &[(&self.oid, Type::OID)]).await;
        rows.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: tokio_postgres::Error) -> StoreError {
        from_driver(self.store, format!("cannot read what the table {} is", self.sql), error)
    }

    async fn columns(&self) -> Result<Vec<TargetColumn>> {
        let rows = self.rows(COLUMNS).await?;
        rows.iter().map(column).collect::<std::result::Result<_, _>>().map_err(|error| self.failed(error))
    }

    async fn keys(&self) -> Result<(Vec<Vec<String>>, Vec<String>, bool)> {
        let (mut keys, mut names, mut has_primary_key) = (Vec::new(), Vec::new(), false);
        for row in self.rows(KEYS).await? {
            let key: Vec<String> = row.try_get(0).map_err(|error| self.failed(error))?;
            let is_primary: bool = row.try_get(1).map_err(|error| self.failed(error))?;
            has_primary_key |= is_primary;
            if !key.is_empty() && !keys.contains(&key) {
                keys.push(key);
                names.push(row.try_get(2).map_err(|error| self.failed(error))?);
            }
        }
        Ok((keys, names, has_primary_key))
    }

    async fn checks(&self) -> Result<Vec<Check>> {
        let sql = "SELECT c.conname::text, pg_catalog.pg_get_expr(c.conbin, c.conrelid), \
             ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a \
               WHERE a.attrelid = c.conrelid AND a.attnum = ANY(c.conkey)) \
             FROM pg_catalog.pg_constraint c WHERE c.conrelid = $1 AND c.contype = 'c' \
             AND coalesce(to_jsonb(c) ->> 'conenforced', 'true') = 'true' ORDER BY c.conname";
        let check = |row: &Row| {
            Ok(Check { name: row.try_get(0)?, expression: row.try_get(1)?, columns: row.try_get(2)? })
        };
        let rows = self.rows(sql).await?;
        let checks = rows.iter().map(check).collect::<std::result::Result<_, _>>();
        checks.map_err(|error| self.failed(error))
    }

    async fn triggers(&self) -> Result<(Vec<String>, Vec<String>, Vec<String>)> {
        let sql = "SELECT ARRAY(SELECT tgname::text FROM pg_catalog.pg_trigger WHERE tgrelid = $1 \
             AND NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgtype & 20 <> 0 ORDER BY tgname), \
             ARRAY(SELECT rulename::text FROM pg_catalog.pg_rewrite WHERE ev_class = $1 AND ev_type = '3' \
               AND ev_enabled IN ('O', 'A') ORDER BY rulename), \
             ARRAY(SELECT rulename::text FROM pg_catalog.pg_rewrite WHERE ev_class = $1 AND ev_type = '2' \
               AND ev_enabled IN ('O', 'A') ORDER BY rulename)";
        let rows = self.rows(sql).await?;
        let row = rows.first().ok_or_else(|| {
            StoreError::new(StoreErrorKind::Protocol, self.store, "the server does not name its triggers")
        })?;
        let names = |at: usize| row.try_get(at).map_err(|error| self.failed(error));
        Ok((names(0)?, names(1)?, names(2)?))
    }

    async fn foreign_keys(&self) -> Result<Vec<ForeignKey>> {
        let foreign_key = |row: &Row| {
            Ok(ForeignKey {
                parent: row.try_get(0)?,
                parent_name: (row.try_get(1)?, row.try_get(2)?),
                columns: row.try_get(3)?,
                parent_columns: row.try_get(4)?,
                name: row.try_get(5)?,
            })
        };
        let rows = self.rows(FOREIGN_KEYS).await?;
        let keys = rows.iter().map(foreign_key).collect::<std::result::Result<_, _>>();
        keys.map_err(|error| self.failed(error))
    }

    async fn sequences(&self) -> Result<Vec<(String, String)>> {
        let sql = "SELECT name, sequence FROM (SELECT a.attname::text AS name, a.attnum, \
             pg_catalog.pg_get_serial_sequence(a.attrelid::pg_catalog.regclass::text, a.attname) AS sequence \
             FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped) AS all_columns \
             WHERE sequence IS NOT NULL ORDER BY attnum";
        let rows = self.rows(sql).await?;
        let pairs = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        pairs.collect::<std::result::Result<_, _>>().map_err(|error| self.failed(error))
    }
}

fn column(row: &Row) -> std::result::Result<TargetColumn, tokio_postgres::Error> {
    let (generated, identity): (String, String) = (row.try_get(5)?, row.try_get(6)?);
    let (kind, send): (String, String) = (row.try_get(8)?, row.try_get(9)?);
    let modifier: i32 = row.try_get(10)?;
    let element: u32 = row.try_get(11)?;
    let (element_kind, element_send): (String, String) = (row.try_get(12)?, row.try_get(13)?);
    let labels: Vec<String> = row.try_get(14)?;
    let wire = if element == 0 {
        wire_of(row.try_get(7)?, &kind, &send, modifier, labels)
    } else {
        match wire_of(element, &element_kind, &element_send, modifier, labels) {
            // Arrays that were declared with more dimensions than one are read by PostgreSQL.
            _ if row.try_get::<_, i32>(15)? > 1 => Wire::Cast(Meaning::List(Box::new(Meaning::Text))),
            // As are arrays of what PostgreSQL has to read itself: it reads them as a whole.
            Wire::Cast(meaning) => Wire::Cast(Meaning::List(Box::new(meaning))),
            inner => Wire::Array(Box::new(inner), element),
        }
    };
    let is_identity = !identity.is_empty();
    Ok(TargetColumn {
        name: row.try_get(0)?,
        type_name: row.try_get(1)?,
        base_name: row.try_get(2)?,
        wire,
        is_not_null: row.try_get(3)?,
        has_default: row.try_get::<_, bool>(4)? || is_identity,
        is_generated: !generated.is_empty(),
        identity: match identity.as_str() {
            "a" => Identity::Always,
            "d" => Identity::ByDefault,
            _ => Identity::None,
        },
    })
}

/// The form in which values of a type are sent; `kind`: `b` base, `e` enum, …; the oids never change.
fn wire_of(oid: u32, kind: &str, send: &str, modifier: i32, labels: Vec<String>) -> Wire {
    let limit = usize::try_from(modifier - 4).ok().filter(|_| modifier >= 4);
    let dimensions = usize::try_from(modifier).ok().filter(|count| *count > 0);
    let digits = u32::try_from(modifier).unwrap_or(6).min(6);
    match oid {
        16 => Wire::Bool,
        17 => Wire::Bytea,
        19 | 25 => Wire::Text { limit: None, is_padded: false },
        1043 => Wire::Text { limit, is_padded: false },
        1042 => Wire::Text { limit, is_padded: true },
        20 => Wire::Int8,
        21 => Wire::Int2,
        23 => Wire::Int4,
        26 => Wire::Oid,
        114 => Wire::Json,
        3802 => Wire::Jsonb,
        700 => Wire::Float4,
        701 => Wire::Float8,
        1082 => Wire::Date,
        1083 => Wire::Time(digits),
        1114 => Wire::Timestamp(digits),
        1184 => Wire::TimestampTz(digits),
        1700 if modifier >= 4 => {
            let packed = modifier - 4;
            // The scale is a signed number of eleven bits.
            let scale = ((packed & 0x7ff) ^ 1024) - 1024;
            Wire::Numeric(Some((i64::from(packed >> 16 & 0xffff), i64::from(scale))))
        }
        1700 => Wire::Numeric(None),
        2950 => Wire::Uuid,
        1560 | 1562 => Wire::Bits(Meaning::of(oid, send, modifier)),
        _ => match (kind, send) {
            ("e", _) => Wire::Enum(labels.into()),
            // citext is text on the wire.
            ("b", "citextsend") => Wire::Text { limit: None, is_padded: false },
            ("b", "vector_send") => Wire::Vector(dimensions),
            ("b", "halfvec_send") => Wire::HalfVector(dimensions),
            ("b", "sparsevec_send") => Wire::SparseVector(dimensions),
            _ => Wire::Cast(Meaning::of(oid, send, modifier)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_are_read() {
        let of = |oid, modifier| wire_of(oid, "b", "", modifier, Vec::new());
        assert_eq!(of(1043, 504), Wire::Text { limit: Some(500), is_padded: false });
        assert_eq!(of(1043, -1), Wire::Text { limit: None, is_padded: false });
        assert_eq!(of(1700, (10 << 16 | 2) + 4), Wire::Numeric(Some((10, 2))));
        assert_eq!(of(1700, (3 << 16 | (-2 & 0x7ff)) + 4), Wire::Numeric(Some((3, -2))));
        assert_eq!(of(1700, -1), Wire::Numeric(None));
        assert_eq!(of(1184, 3), Wire::TimestampTz(3));
        assert_eq!(of(1184, -1), Wire::TimestampTz(6));
        assert_eq!(of(869, -1), Wire::Cast(Meaning::Address));
    }
}
