//! How a file's records are written, by its name or by what the spec says.

use std::fmt;

/// A format of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An array of objects, or objects one behind the other.
    Json,
    /// One object a line.
    NdJson,
    /// RFC 4180, with the columns' names in the first record.
    Csv,
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC, the file format or the stream format.
    Arrow,
    /// Items of DynamoDB JSON, `{"Item": {…}}` each: one a line, or as an array.
    DynamoDbJson,
}

/// The words for formats, as `format:` takes them.
pub(crate) const FORMATS: [(&str, Format); 8] = [
    ("json", Format::Json),
    ("ndjson", Format::NdJson),
    ("jsonl", Format::NdJson),
    ("csv", Format::Csv),
    ("parquet", Format::Parquet),
    ("arrow", Format::Arrow),
    ("dynamodb-json", Format::DynamoDbJson),
    ("dynamodb", Format::DynamoDbJson),
];

impl Format {
    /// What `format:` says.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        FORMATS.into_iter().find(|(known, _)| *known == word).map(|(_, format)| format)
    }

    fn of_suffix(suffix: &str) -> Option<Self> {
        Some(match suffix {
            "json" => Self::Json,
            "ndjson" | "jsonl" => Self::NdJson,
            "csv" => Self::Csv,
            "parquet" => Self::Parquet,
            "arrow" | "arrows" | "ipc" | "feather" => Self::Arrow,
            _ => return None,
        })
    }

    /// Whether it is a sequence of bytes that can be compressed as a whole.
    pub(crate) fn is_text(self) -> bool {
        !matches!(self, Self::Parquet | Self::Arrow)
    }

    /// Whether what batches became stands in the file as it is, one behind the other.
    pub(crate) fn is_appended(self) -> bool {
        self != Self::Arrow
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::NdJson => "NDJSON",
            Self::Csv => "CSV",
            Self::Parquet => "Parquet",
            Self::Arrow => "Arrow IPC",
            Self::DynamoDbJson => "DynamoDB JSON",
        })
    }
}

/// How a file's bytes are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// They are as they are.
    #[default]
    None,
    /// gzip, one member or several.
    Gzip,
    /// Zstandard, one frame or several.
    Zstd,
}

impl Compression {
    /// What the name's last suffix says, and the name without it.
    #[must_use]
    pub fn of_name(name: &str) -> (Self, &str) {
        match name.rsplit_once('.') {
            Some((rest, suffix)) if suffix.eq_ignore_ascii_case("gz") => (Self::Gzip, rest),
            Some((rest, suffix)) if ["zst", "zstd"].iter().any(|s| suffix.eq_ignore_ascii_case(s)) => {
                (Self::Zstd, rest)
            }
            _ => (Self::None, name),
        }
    }
}

/// What a file's name says of it: `users.dynamodb.json.gz` is DynamoDB JSON in gzip. `None`: its suffix says
/// nothing.
pub(crate) fn format_of_name(name: &str) -> Option<Format> {
    let (_, name) = Compression::of_name(name);
    let file = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let (stem, suffix) = file.rsplit_once('.')?;
    let format = Format::of_suffix(suffix)?;
    let inner = stem.rsplit('.').next().unwrap_or_default();
    let is_tagged = matches!(inner, "dynamodb" | "ddb") && matches!(format, Format::Json | Format::NdJson);
    Some(if is_tagged { Format::DynamoDbJson } else { format })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_format_and_compression() {
        for (name, format, compression) in [
            ("a.json", Some(Format::Json), Compression::None),
            ("x/y.JSONL.gz", Some(Format::NdJson), Compression::Gzip),
            ("a.dynamodb.json.gz", Some(Format::DynamoDbJson), Compression::Gzip),
            ("a.csv.zst", Some(Format::Csv), Compression::Zstd),
            ("a.parquet", Some(Format::Parquet), Compression::None),
            ("a.arrow", Some(Format::Arrow), Compression::None),
            ("v1.2/a", None, Compression::None),
            ("a.txt", None, Compression::None),
        ] {
            assert_eq!((format_of_name(name), Compression::of_name(name).0), (format, compression), "{name}");
        }
        assert_eq!(Format::of_word("dynamodb-json"), Some(Format::DynamoDbJson));
        assert_eq!(Format::of_word("xml"), None);
    }
}
