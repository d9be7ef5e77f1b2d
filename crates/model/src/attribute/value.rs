//! A value out of DynamoDB JSON or plain JSON, borrowed from the text where it can be.

use crate::decimal::Decimal;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::fmt;

/// An attribute value; bytes stay base64.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute<'a> {
    /// Text.
    S(Cow<'a, str>),
    /// A number by its text.
    N(Cow<'a, str>),
    /// Bytes in base64.
    B(Cow<'a, str>),
    /// A truth value.
    Bool(bool),
    /// NULL.
    Null,
    /// A set with its tag: `SS`, `NS` or `BS`.
    Set(&'static str, Vec<Text<'a>>),
    /// A list.
    L(Vec<Attribute<'a>>),
    /// A map, sorted by name.
    M(Vec<(Text<'a>, Attribute<'a>)>),
    /// An object or an array of plain JSON, as it was written: no store's attribute, and read like one.
    Document(&'a str),
}

/// The tags of attribute values, as DynamoDB JSON writes them.
const TAGS: [&str; 10] = ["S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "L", "M"];

impl<'a> Attribute<'a> {
    /// The tag of its type.
    pub fn tag(&self) -> &'static str {
        match self {
            Self::S(_) => "S",
            Self::N(_) => "N",
            Self::B(_) => "B",
            Self::Bool(_) => "BOOL",
            Self::Null => "NULL",
            Self::Set(tag, _) => tag,
            Self::L(_) => "L",
            Self::M(_) => "M",
            Self::Document(_) => "a document",
        }
    }

    /// Whether plain JSON holds the value and can be told from DynamoDB JSON.
    pub fn is_plain(&self) -> bool {
        let looks_tagged = match self {
            Self::M(entries) => entries.len() == 1 && TAGS.contains(&&*entries[0].0.0),
            _ => false,
        };
        !looks_tagged && self.holds_no_bytes_or_sets()
    }

    fn holds_no_bytes_or_sets(&self) -> bool {
        match self {
            Self::S(_) | Self::N(_) | Self::Bool(_) | Self::Null | Self::Document(_) => true,
            Self::B(_) | Self::Set(..) => false,
            Self::L(values) => values.iter().all(Self::holds_no_bytes_or_sets),
            Self::M(entries) => entries.iter().all(|(_, value)| value.holds_no_bytes_or_sets()),
        }
    }

    /// The value in plain JSON: numbers with all their digits, sets as arrays, bytes in base64.
    ///
    /// # Errors
    /// A number that is none.
    pub fn plain_json(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Document(text) => Ok((*text).to_owned()),
            other => serde_json::to_string(&Plain(other)),
        }
    }

    /// A value of plain JSON; objects and arrays stay as they are written.
    ///
    /// # Errors
    /// Text that is no JSON value.
    pub fn of_plain(text: &'a str) -> Result<Self, serde_json::Error> {
        Ok(match text.as_bytes().first() {
            Some(b'"') => Self::S(serde_json::from_str::<Text<'a>>(text)?.0),
            Some(b'{' | b'[') => Self::Document(text),
            Some(b't' | b'f') => Self::Bool(serde_json::from_str(text)?),
            Some(b'n') => serde_json::from_str::<()>(text).map(|()| Self::Null)?,
            _ => Self::N(Cow::Borrowed(text)),
        })
    }

    /// The value in DynamoDB JSON.
    ///
    /// # Errors
    /// None that the type allows; what the writer of JSON may answer.
    pub fn dynamodb_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(&Tagged(self))
    }
}

/// Puts the names of an item's maps in order, at every depth: maps have none of their own, and a server may
/// send them differently each time.
///
/// # Errors
/// Text that is no item.
pub fn dynamodb_json(item: &str) -> Result<String, serde_json::Error> {
    let Entries(entries) = serde_json::from_str(item)?;
    serde_json::to_string(&TaggedEntries(&entries))
}

/// An item of DynamoDB JSON as an object of plain JSON: every attribute, numbers with all their digits, sets as
/// arrays, bytes in base64.
///
/// # Errors
/// Text that is no item, or a number that is none.
pub fn item_to_plain(item: &str) -> Result<String, serde_json::Error> {
    let Entries(entries) = serde_json::from_str(item)?;
    let mut text = Vec::with_capacity(item.len());
    let entries = entries.iter().map(|(Text(name), value)| (name, Plain(value)));
    serde_json::Serializer::new(&mut text).collect_map(entries)?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// An object of plain JSON as an item of DynamoDB JSON: strings as S, numbers as N with all their digits, true and
/// false as BOOL, null as NULL, arrays as L, objects as M.
///
/// # Errors
/// Text that is no object, or one that holds a name twice.
pub fn plain_to_item(object: &str) -> Result<String, serde_json::Error> {
    match crate::json::parse(object)? {
        Value::Object(entries) => serde_json::to_string(&ItemOf(&entries)),
        _ => Err(serde::ser::Error::custom("it is no object")),
    }
}

/// A map of plain JSON, its values as attributes.
struct ItemOf<'a>(&'a Map<String, Value>);

impl Serialize for ItemOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, AttributeOf(value))))
    }
}

/// A value of plain JSON as an attribute.
struct AttributeOf<'a>(&'a Value);

impl Serialize for AttributeOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match self.0 {
            Value::Null => map.serialize_entry("NULL", &true)?,
            Value::Bool(value) => map.serialize_entry("BOOL", value)?,
            Value::Number(number) => map.serialize_entry("N", number.as_str())?,
            Value::String(text) => map.serialize_entry("S", text)?,
            Value::Array(values) => {
                map.serialize_entry("L", &values.iter().map(AttributeOf).collect::<Vec<_>>())?;
            }
            Value::Object(entries) => map.serialize_entry("M", &ItemOf(entries))?,
        }
        map.end()
    }
}

/// Text, borrowed where nothing in it is escaped.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text<'a>(
    /// The text.
    pub Cow<'a, str>,
);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text)))
    }
}

/// The one key of an attribute value.
struct Tag;

impl<'de> DeserializeSeed<'de> for Tag {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Tag {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the type of an attribute value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<&'static str, E> {
        TAGS.into_iter()
            .find(|tag| *tag == text)
            .ok_or_else(|| E::custom(format_args!("there is no attribute type {text:?}")))
    }
}

impl<'de> Deserialize<'de> for Attribute<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AttributeVisitor)
    }
}

struct AttributeVisitor;

impl<'de> Visitor<'de> for AttributeVisitor {
    type Value = Attribute<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an attribute value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attribute<'de>, A::Error> {
        let tag = map.next_key_seed(Tag)?.ok_or_else(|| de::Error::custom("an attribute without a type"))?;
        let text = |Text(text)| text;
        let value = match tag {
            "S" => Attribute::S(text(map.next_value()?)),
            "N" => Attribute::N(text(map.next_value()?)),
            "B" => Attribute::B(text(map.next_value()?)),
            "BOOL" => Attribute::Bool(map.next_value()?),
            "NULL" => map.next_value::<bool>().map(|_| Attribute::Null)?,
            "L" => Attribute::L(map.next_value()?),
            "M" => Attribute::M(map.next_value::<Entries<'de>>()?.0),
            set => Attribute::Set(set, map.next_value()?),
        };
        match map.next_key::<IgnoredAny>()? {
            None => Ok(value),
            Some(_) => Err(de::Error::custom("an attribute of two types")),
        }
    }
}

/// The entries of a map or of an item, sorted by name.
struct Entries<'a>(Vec<(Text<'a>, Attribute<'a>)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of attribute values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        entries.sort_unstable_by(|(left, _): &(Text<'_>, _), (right, _)| left.cmp(right));
        match entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            None => Ok(Entries(entries)),
            Some(_) => Err(de::Error::custom("a map that holds a name twice")),
        }
    }
}

/// Plain JSON.
struct Plain<'a, 'b>(&'a Attribute<'b>);

impl Serialize for Plain<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Attribute::S(text) | Attribute::B(text) => serializer.serialize_str(text),
            Attribute::N(text) => number(text)?.serialize(serializer),
            Attribute::Bool(value) => serializer.serialize_bool(*value),
            Attribute::Null => serializer.serialize_unit(),
            Attribute::Document(text) => raw(text)?.serialize(serializer),
            Attribute::Set("NS", texts) => {
                let mut sequence = serializer.serialize_seq(Some(texts.len()))?;
                texts.iter().try_for_each(|Text(text)| sequence.serialize_element(&number(text)?))?;
                sequence.end()
            }
            Attribute::Set(_, texts) => serializer.collect_seq(texts.iter().map(|Text(text)| text)),
            Attribute::L(values) => serializer.collect_seq(values.iter().map(Plain)),
            Attribute::M(entries) => {
                serializer.collect_map(entries.iter().map(|(Text(name), value)| (name, Plain(value))))
            }
        }
    }
}

/// The number with the digits that it has; JSON wants a digit before the point and no plus sign, and where a
/// server does without, its normal form stands in.
fn number<E: serde::ser::Error>(text: &str) -> Result<Number, E> {
    let as_it_is = text.parse::<Number>().ok();
    let number = as_it_is.or_else(|| Decimal::parse(text)?.to_string().parse().ok());
    number.ok_or_else(|| E::custom("an N that is no number"))
}

fn raw<E: serde::ser::Error>(text: &str) -> Result<&RawValue, E> {
    serde_json::from_str(text).map_err(E::custom)
}

/// DynamoDB JSON.
struct Tagged<'a, 'b>(&'a Attribute<'b>);

impl Serialize for Tagged<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        let tag = self.0.tag();
        match self.0 {
            Attribute::S(text) | Attribute::N(text) | Attribute::B(text) => map.serialize_entry(tag, text)?,
            Attribute::Bool(value) => map.serialize_entry(tag, value)?,
            Attribute::Null => map.serialize_entry(tag, &true)?,
            Attribute::Document(_) => {
                return Err(serde::ser::Error::custom("a document of plain JSON is no attribute"));
            }
            Attribute::Set(_, texts) => map.serialize_entry(tag, &Texts(texts))?,
            Attribute::L(values) => map.serialize_entry(tag, &TaggedList(values))?,
            Attribute::M(entries) => map.serialize_entry(tag, &TaggedEntries(entries))?,
        }
        map.end()
    }
}

struct Texts<'a, 'b>(&'a [Text<'b>]);

impl Serialize for Texts<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|Text(text)| text))
    }
}

struct TaggedList<'a, 'b>(&'a [Attribute<'b>]);

impl Serialize for TaggedList<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Tagged))
    }
}

struct TaggedEntries<'a, 'b>(&'a [(Text<'b>, Attribute<'b>)]);

impl Serialize for TaggedEntries<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(Text(name), value)| (name, Tagged(value))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(text: &str) -> Attribute<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn plain_json_keeps_digits_and_sorts_names() {
        let value = attribute(
            r#"{"M":{"z":{"L":[{"N":"1.50"},{"NULL":true},{"BOOL":false},{"S":"ü\u0000\""}]},"a":{"N":"1E+125"}}}"#,
        );
        assert!(value.is_plain());
        assert_eq!(value.plain_json().unwrap(), r#"{"a":1e+125,"z":[1.50,null,false,"ü\u0000\""]}"#);
        let digits = "12345678901234567890123456789012345678";
        let value = format!(r#"{{"L":[{{"N":"{digits}"}},{{"N":".5"}},{{"N":"+7"}}]}}"#);
        assert_eq!(attribute(&value).plain_json().unwrap(), format!("[{digits},0.5,7]"));
        assert!(attribute(r#"{"N":"1e"}"#).plain_json().is_err());
    }

    #[test]
    fn sets_and_bytes_are_not_plain_and_print_as_they_were() {
        for text in [
            r#"{"SS":["a","b"]}"#,
            r#"{"L":[{"B":"AP8="}]}"#,
            r#"{"M":{"a":{"M":{"deep":{"NS":["1"]}}}}}"#,
            r#"{"M":{"SS":{"L":[{"S":"a"}]}}}"#,
        ] {
            let value = attribute(text);
            assert!(!value.is_plain(), "{text}");
            assert_eq!(value.dynamodb_json().unwrap(), text);
        }
        assert_eq!(attribute(r#"{"NS":["1","2.50"]}"#).plain_json().unwrap(), "[1,2.50]");
    }

    #[test]
    fn what_is_no_attribute_value_is_an_error() {
        for text in [r"{}", r#"{"X":"1"}"#, r#"{"S":"a","N":"1"}"#, r#"{"S":1}"#, r#"{"M":{"a":1}}"#] {
            assert!(serde_json::from_str::<Attribute<'_>>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Attribute<'_>>(r#"{"M":{"a":{"S":""},"a":{"S":""}}}"#).is_err());
    }

    #[test]
    fn whole_records_change_their_notation() {
        let item = r#"{"b":{"B":"AP8="},"n":{"N":"12345678901234567890123456789012345678"},"s":{"SS":["a"]},"x":{"M":{"e":{"L":[]},"z":{"NULL":true}}}}"#;
        let plain =
            r#"{"b":"AP8=","n":12345678901234567890123456789012345678,"s":["a"],"x":{"e":[],"z":null}}"#;
        assert_eq!(item_to_plain(item).unwrap(), plain);
        let again = r#"{"b":{"S":"AP8="},"n":{"N":"12345678901234567890123456789012345678"},"s":{"L":[{"S":"a"}]},"x":{"M":{"e":{"L":[]},"z":{"NULL":true}}}}"#;
        assert_eq!(plain_to_item(plain).unwrap(), again);
        assert_eq!(plain_to_item(r#"{"d": -1.50e-7}"#).unwrap(), r#"{"d":{"N":"-1.50e-7"}}"#);
        for text in ["[]", "1", r#"{"a":1,"a":2}"#, r#"{"a":"#] {
            assert!(plain_to_item(text).is_err(), "{text}");
        }
        assert!(item_to_plain(r#"{"a":1}"#).is_err());
    }

    #[test]
    fn an_item_is_sorted_at_every_depth() {
        let item = r#"{"b":{"M":{"y":{"NULL":true},"x":{"S":""}}},"a":{"BS":["AA=="]}}"#;
        let sorted = r#"{"a":{"BS":["AA=="]},"b":{"M":{"x":{"S":""},"y":{"NULL":true}}}}"#;
        assert_eq!(dynamodb_json(item).unwrap(), sorted);
    }
}
