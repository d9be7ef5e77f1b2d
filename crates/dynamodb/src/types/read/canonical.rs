//! Attribute values as they came, in canonical form and as the SDK holds them.

use super::attribute::{Attribute, Text};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::{DecodeError, Engine as _};
use whimbrel_model::canonical::Canonical;

impl Attribute<'_> {
    /// Appends the value in canonical form: the same bytes as [`crate::types::value::canonical`] appends for it.
    ///
    /// # Errors
    /// Bytes that are no base64 text.
    pub(crate) fn canonical(&self, into: &mut Canonical) -> Result<(), DecodeError> {
        match self {
            Self::S(text) => into.text(text),
            Self::N(text) => into.number(text),
            Self::B(text) => into.binary(&BASE64.decode(text.as_bytes())?),
            Self::Bool(value) => into.bool(*value),
            Self::Null => into.null(),
            Self::Set("NS", texts) => into.set(texts, |one, Text(text)| one.number(text)),
            Self::Set("BS", texts) => into.set(blobs(texts)?, |one, blob| one.binary(&blob)),
            Self::Set(_, texts) => into.set(texts, |one, Text(text)| one.text(text)),
            Self::L(values) => {
                into.list(values.len());
                return values.iter().try_for_each(|value| value.canonical(into));
            }
            Self::M(entries) => {
                // Entries are sorted by name as they are read.
                into.map(entries.len());
                return entries.iter().try_for_each(|(Text(name), value)| {
                    into.key(name);
                    value.canonical(into)
                });
            }
        }
        Ok(())
    }

    /// The value as the SDK holds it.
    ///
    /// # Errors
    /// Bytes that are no base64 text.
    pub(crate) fn value(&self) -> Result<AttributeValue, DecodeError> {
        let owned = |texts: &[Text<'_>]| texts.iter().map(|Text(text)| text.to_string()).collect();
        Ok(match self {
            Self::S(text) => AttributeValue::S(text.to_string()),
            Self::N(text) => AttributeValue::N(text.to_string()),
            Self::B(text) => AttributeValue::B(Blob::new(BASE64.decode(text.as_bytes())?)),
            Self::Bool(value) => AttributeValue::Bool(*value),
            Self::Null => AttributeValue::Null(true),
            Self::Set("NS", texts) => AttributeValue::Ns(owned(texts)),
            Self::Set("BS", texts) => AttributeValue::Bs(blobs(texts)?.into_iter().map(Blob::new).collect()),
            Self::Set(_, texts) => AttributeValue::Ss(owned(texts)),
            Self::L(values) => {
                AttributeValue::L(values.iter().map(Attribute::value).collect::<Result<_, _>>()?)
            }
            Self::M(entries) => {
                let entry =
                    |(Text(name), value): &(Text<'_>, Attribute<'_>)| Ok((name.to_string(), value.value()?));
                AttributeValue::M(entries.iter().map(entry).collect::<Result<_, DecodeError>>()?)
            }
        })
    }
}

fn blobs(texts: &[Text<'_>]) -> Result<Vec<Vec<u8>>, DecodeError> {
    texts.iter().map(|Text(text)| BASE64.decode(text.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{json, value};

    fn form(text: &str) -> Vec<u8> {
        let mut canonical = Canonical::default();
        serde_json::from_str::<Attribute<'_>>(text).unwrap().canonical(&mut canonical).unwrap();
        canonical.bytes().to_vec()
    }

    #[test]
    fn read_and_written_values_have_one_form() {
        for text in [
            r#"{"S":"NUL \u0000 \"ü\" 😀"}"#,
            r#"{"S":""}"#,
            r#"{"N":"-0.00"}"#,
            r#"{"N":"12345678901234567890123456789012345678"}"#,
            r#"{"N":"1E-130"}"#,
            r#"{"B":"AP8="}"#,
            r#"{"B":""}"#,
            r#"{"BOOL":true}"#,
            r#"{"BOOL":false}"#,
            r#"{"NULL":true}"#,
            r#"{"SS":["b","","a"]}"#,
            r#"{"NS":["10","1E1","-2.50"]}"#,
            r#"{"BS":["AP8=","AA=="]}"#,
            r#"{"L":[]}"#,
            r#"{"L":[{"S":"b"},{"L":[{"NULL":true}]},{"N":"1"}]}"#,
            r#"{"M":{}}"#,
            r#"{"M":{"z":{"M":{"b":{"BS":["AA=="]},"a":{"BOOL":true}}},"a\"":{"N":"7"}}}"#,
        ] {
            let attribute: Attribute<'_> = serde_json::from_str(text).unwrap();
            let owned = attribute.value().unwrap();
            let mut canonical = Canonical::default();
            value::canonical(&mut canonical, &owned);
            assert_eq!(form(text), canonical.bytes(), "{text}");
            let mut written = Vec::new();
            json::value(&mut written, &owned);
            assert_eq!(form(std::str::from_utf8(&written).unwrap()), form(text), "{text}");
        }
    }

    #[test]
    fn spelling_and_order_do_not_matter_where_values_have_none() {
        for (one, other) in [
            (r#"{"N":"1"}"#, r#"{"N":"1.0"}"#),
            (r#"{"N":"-0"}"#, r#"{"N":"0"}"#),
            (r#"{"N":"1e2"}"#, r#"{"N":"100"}"#),
            (r#"{"NS":["1","20"]}"#, r#"{"NS":["2E1","1.0"]}"#),
            (r#"{"SS":["a","b"]}"#, r#"{"SS":["b","a"]}"#),
            (r#"{"M":{"a":{"N":"1"},"b":{"S":""}}}"#, r#"{"M":{"b":{"S":""},"a":{"N":"1.0"}}}"#),
            (r#"{"S":"\u0061"}"#, r#"{"S":"a"}"#),
        ] {
            assert_eq!(form(one), form(other), "{one} {other}");
        }
        for (one, other) in [
            (r#"{"L":[{"N":"1"},{"N":"2"}]}"#, r#"{"L":[{"N":"2"},{"N":"1"}]}"#),
            (r#"{"N":"1"}"#, r#"{"S":"1"}"#),
            (r#"{"S":"AA=="}"#, r#"{"B":"AA=="}"#),
            (r#"{"SS":["a"]}"#, r#"{"L":[{"S":"a"}]}"#),
            (r#"{"L":[]}"#, r#"{"NULL":true}"#),
            (r#"{"M":{"a":{"NULL":true}}}"#, r#"{"M":{}}"#),
            (
                r#"{"N":"12345678901234567890123456789012345678"}"#,
                r#"{"N":"12345678901234567890123456789012345679"}"#,
            ),
        ] {
            assert_ne!(form(one), form(other), "{one} {other}");
        }
        let broken: Attribute<'_> = serde_json::from_str(r#"{"L":[{"B":"?"}]}"#).unwrap();
        assert!(broken.canonical(&mut Canonical::default()).is_err() && broken.value().is_err());
    }
}
