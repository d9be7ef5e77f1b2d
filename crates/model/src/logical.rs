//! What a column means where its Arrow type alone does not say it: Arrow extension types on fields.

use arrow::datatypes::{DataType, Field};
use std::collections::HashMap;

/// The metadata key under which Arrow keeps an extension type's name.
pub const EXTENSION_NAME: &str = "ARROW:extension:name";
/// The metadata key under which a source records its own name of the type, `numeric(10,2)`.
pub const SOURCE_TYPE: &str = "whimbrel:source_type";

/// The metadata key under which a source of vectors records by which distance they are searched: `l2`, `cosine`, `ip`.
pub const METRIC: &str = "whimbrel:metric";

/// A meaning on top of an Arrow storage type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logical {
    /// A JSON document as text, every digit kept (`arrow.json` on a string).
    Json,
    /// An exact decimal number of any size as text, also `NaN`, `Infinity`, `-Infinity` (`whimbrel.number`).
    Number,
    /// A UUID as its canonical 36 characters (`whimbrel.uuid` on a string).
    Uuid,
}

impl Logical {
    /// The extension name that fields carry.
    #[must_use]
    pub fn extension_name(self) -> &'static str {
        match self {
            Self::Json => "arrow.json",
            Self::Number => "whimbrel.number",
            Self::Uuid => "whimbrel.uuid",
        }
    }

    /// What the field means, where it says so.
    #[must_use]
    pub fn of(field: &Field) -> Option<Self> {
        let name = field.metadata().get(EXTENSION_NAME)?;
        [Self::Json, Self::Number, Self::Uuid].into_iter().find(|logical| logical.extension_name() == name)
    }

    /// A string field with this meaning.
    #[must_use]
    pub fn field(self, name: &str, nullable: bool) -> Field {
        let metadata = HashMap::from([(EXTENSION_NAME.to_owned(), self.extension_name().to_owned())]);
        Field::new(name, DataType::Utf8, nullable).with_metadata(metadata)
    }
}

/// The field with its source's own type name recorded.
#[must_use]
pub fn with_source_type(field: Field, source_type: &str) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(SOURCE_TYPE.to_owned(), source_type.to_owned());
    field.with_metadata(metadata)
}

/// The digits and the digits behind the point of a number whose source holds no others, as `numeric(10,2)` of PostgreSQL
/// does. `None`: the field is no [`Logical::Number`], or of no such type; also where the point would lie outside the digits.
#[must_use]
pub fn declared_digits(field: &Field) -> Option<(u8, i8)> {
    Logical::of(field).filter(|logical| *logical == Logical::Number)?;
    let declared = field.metadata().get(SOURCE_TYPE)?.strip_prefix("numeric(")?.strip_suffix(')')?;
    let (precision, scale) = declared.split_once(',').unwrap_or((declared, "0"));
    let (precision, scale): (u8, i8) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    (scale >= 0 && i16::from(scale) <= i16::from(precision)).then_some((precision, scale))
}

/// The type's name for people: the source's own where it is known, else the meaning, else Arrow's.
#[must_use]
pub fn type_name(field: &Field) -> String {
    if let Some(name) = field.metadata().get(SOURCE_TYPE) {
        return name.clone();
    }
    match Logical::of(field) {
        Some(Logical::Json) => "json".to_owned(),
        Some(Logical::Number) => "number".to_owned(),
        Some(Logical::Uuid) => "uuid".to_owned(),
        None => match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text".to_owned(),
            DataType::Timestamp(_, None) => "timestamp".to_owned(),
            DataType::Timestamp(_, Some(_)) => "timestamp with zone".to_owned(),
            DataType::Date32 => "date".to_owned(),
            DataType::List(element) => format!("{}[]", type_name(element)),
            other => other.to_string().to_lowercase(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_declared_where_the_source_holds_no_others() {
        for (source_type, expected) in [
            ("numeric(10,2)", Some((10, 2))),
            ("numeric(76,0)", Some((76, 0))),
            ("numeric(5)", Some((5, 0))),
            ("numeric", None),
            ("numeric(5,-2)", None),
            ("numeric(2,4)", None),
            ("numeric(1000,2)", None),
            // SQLite keeps what it is given.
            ("sqlite numeric(10,2)", None),
        ] {
            let field = with_source_type(Logical::Number.field("n", true), source_type);
            assert_eq!(declared_digits(&field), expected, "{source_type}");
        }
        let text = with_source_type(Field::new("n", DataType::Utf8, true), "numeric(10,2)");
        assert_eq!(declared_digits(&text), None);
    }
}
