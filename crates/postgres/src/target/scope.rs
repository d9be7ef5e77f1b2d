//! A flow's scope: columns with their values, or members of JSON columns, `cmetadata.user_id`.

use super::catalog::{Table, TargetColumn};
use crate::encode::Wire;
use crate::template::literal;

/// A member of a JSON column that a scope names.
pub(crate) struct Member<'a> {
    pub column: &'a TargetColumn,
    pub key: &'a str,
}

/// The member that a name in a scope stands for; `None`: it stands for a column.
pub(crate) fn member<'a>(table: &'a Table, name: &'a str) -> Option<Member<'a>> {
    if table.column(name).is_some() {
        return None;
    }
    let (column, key) = name.split_once('.')?;
    let column = table.column(column).filter(|column| matches!(column.wire, Wire::Json | Wire::Jsonb))?;
    Some(Member { column, key })
}

impl Member<'_> {
    /// The member of a JSON value, as text.
    pub(crate) fn of(&self, value: &str) -> String {
        // A name with U+0000, which no literal has, is in no JSON of PostgreSQL either.
        format!("(({value}) ->> {})", literal(self.key).unwrap_or_else(|| "NULL".to_owned()))
    }
}
