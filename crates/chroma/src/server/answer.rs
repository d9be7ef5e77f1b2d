//! What a server answers when it is asked for records.
//!
//! An embedding comes as decimal numbers. Servers up to 0.6 turn each 32-bit float into a 64-bit one and print that
//! with as many digits as name it alone; later ones print as many as name the 32-bit float alone. Either text lies
//! nearer to the float than to any other 32-bit float, so reading it as one, rounded once and correctly, gives its
//! bits back. By way of a 64-bit float the second text would be rounded twice.

use crate::catalog::Metric;
use crate::types::{Entry, Record, State};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// Keys of the metadata that are none of the user's, under which servers keep them.
const OWN_KEYS: [&str; 2] = ["chroma:document", "chroma:uri"];

/// Lists side by side. What was not asked for is null, or not there.
#[derive(Deserialize)]
struct Lists<'a> {
    ids: Vec<String>,
    #[serde(borrow, default)]
    embeddings: Option<Vec<Option<&'a RawValue>>>,
    #[serde(default)]
    documents: Option<Vec<Option<String>>>,
    #[serde(default)]
    metadatas: Option<Vec<Option<Map<String, Value>>>>,
    #[serde(default)]
    uris: Option<Vec<Option<String>>>,
}

/// A record as it came.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) record: Record,
    /// Columns that it cannot be read into, and why. Of an embedding that is not there nothing is said.
    pub(super) refused: Vec<(&'static str, String)>,
}

/// Records by their ids.
pub(super) type Found = HashMap<String, Fetched>;

/// An answer that cannot be taken apart.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misshapen {
    #[error(transparent)]
    NoJson(#[from] serde_json::Error),
    #[error("it has {has} {what} for {ids} records")]
    Uneven { what: &'static str, has: usize, ids: usize },
    #[error("it has the record {0:?} twice")]
    Twice(String),
}

/// Takes an answer apart.
///
/// # Errors
/// Nobody can say which value belongs to which record.
pub(super) fn records(answer: &[u8], metric: &Metric) -> Result<Found, Misshapen> {
    let Lists { ids, embeddings, documents, metadatas, uris } = serde_json::from_slice(answer)?;
    let mut embeddings = Side::of("embeddings", embeddings, ids.len())?;
    let mut documents = Side::of("documents", documents, ids.len())?;
    let mut metadatas = Side::of("metadata", metadatas, ids.len())?;
    let mut uris = Side::of("URIs", uris, ids.len())?;
    let mut found = HashMap::with_capacity(ids.len());
    for id in ids {
        let mut refused = Vec::new();
        let embedding = embeddings.next().and_then(|raw| match floats(raw.get()) {
            Ok(floats) => Some(floats),
            Err(reason) => {
                refused.push(("embedding", reason));
                None
            }
        });
        let metadata = entries(metadatas.next().unwrap_or_default(), &mut refused);
        // What the index keeps normalised comes multiplied again; the server does not say of which records that is so.
        let state = if *metric == Metric::Cosine { State::Rebuilt } else { State::Exact };
        let record = Record {
            id: id.clone(),
            document: documents.next(),
            uri: uris.next(),
            metadata,
            state: if embedding.is_some() { state } else { State::Lost },
            embedding,
        };
        if found.insert(id.clone(), Fetched { record, refused }).is_some() {
            return Err(Misshapen::Twice(id));
        }
    }
    Ok(found)
}

/// One of the lists.
struct Side<T>(std::vec::IntoIter<Option<T>>);

impl<T> Side<T> {
    fn of(what: &'static str, list: Option<Vec<Option<T>>>, ids: usize) -> Result<Self, Misshapen> {
        let list = list.unwrap_or_else(|| (0..ids).map(|_| None).collect());
        if list.len() != ids {
            return Err(Misshapen::Uneven { what, has: list.len(), ids });
        }
        Ok(Self(list.into_iter()))
    }

    fn next(&mut self) -> Option<T> {
        self.0.next().flatten()
    }
}

/// The floats of an embedding, out of the text of a list.
fn floats(text: &str) -> Result<Vec<f32>, String> {
    let inner = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let inner = inner.ok_or("the server gives something else than a list of numbers for the embedding")?;
    if inner.trim().is_empty() {
        return Ok(Vec::new());
    }
    let float = |number: &str| {
        let number = number.trim();
        match number.parse::<f32>() {
            Ok(float) if float.is_finite() => Ok(float),
            _ if number == "null" => {
                Err("the embedding holds NaN or an infinity, which the server gives as null: its \
                 persistent directory has the value"
                    .to_owned())
            }
            _ => Err("the embedding holds what is no 32-bit float".to_owned()),
        }
    };
    inner.split(',').map(float).collect()
}

/// The metadata by name.
fn entries(metadata: Map<String, Value>, refused: &mut Vec<(&'static str, String)>) -> Vec<(String, Entry)> {
    let mut entries = BTreeMap::new();
    for (name, value) in metadata {
        if OWN_KEYS.contains(&name.as_str()) {
            continue;
        }
        if value.is_null() {
            refused.push((
                "metadata",
                format!("the server gives null for `{name}`, where it has NaN or an infinity: its persistent directory has \
                     the value"),
            ));
            continue;
        }
        entries.insert(name, Entry::of_value(value));
    }
    entries.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn one(answer: &str, metric: &Metric) -> Fetched {
        let mut found = records(answer.as_bytes(), metric).unwrap();
        assert_eq!(found.len(), 1);
        found.drain().next().unwrap().1
    }

    /// Recorded from 1.5.9, shortened.
    #[test]
    fn an_answer_of_the_second_generation() {
        let answer = r#"{"ids":["ü0 \u0000x/\"y\"","id-1"],"embeddings":[[50.742382,-4.3868422e-7],[858811600.0,0.000013718987]],
            "documents":["doc \u0000 ü",null],"uris":[null,"file://1"],"metadatas":[{"big":4611686018427387905,"f":1.0,
            "g":0.30000000000000004,"b":false,"s":"text\u0000","list":[1,2]},null],"include":["documents","metadatas","embeddings","uris"]}"#;
        let found = records(answer.as_bytes(), &Metric::L2).unwrap();
        let first = &found["ü0 \u{0}x/\"y\""];
        assert_eq!(first.record.embedding.as_deref(), Some([50.742_382_f32, -4.386_842_2e-7].as_slice()));
        assert_eq!(first.record.document.as_deref(), Some("doc \u{0} ü"));
        let names: Vec<_> = first.record.metadata.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["b", "big", "f", "g", "list", "s"]);
        assert_eq!(first.record.metadata[1].1, Entry::Integer(4_611_686_018_427_387_905));
        assert_eq!(first.record.metadata[2].1, Entry::Float(1.0));
        assert_eq!(first.record.metadata[3].1, Entry::Float(0.1 + 0.2));
        let second = &found["id-1"];
        assert_eq!(
            (second.record.uri.as_deref(), second.record.document.as_deref()),
            (Some("file://1"), None)
        );
        assert!(second.record.metadata.is_empty() && first.refused.is_empty() && second.refused.is_empty());
        assert_eq!(second.record.state, State::Exact);
        assert_eq!(one(r#"{"ids":["a"],"embeddings":[[1]]}"#, &Metric::Cosine).record.state, State::Rebuilt);
    }

    /// Every 32-bit float comes back from either text: that of the float itself, and that of the 64-bit one.
    #[test]
    fn floats_come_back_bit_for_bit_however_they_are_printed() {
        let mut bits = 1_u32;
        let mut count = 0;
        for _ in 0..200_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let float = f32::from_bits(bits);
            if !float.is_finite() {
                continue;
            }
            for text in
                [format!("[{float:?}]"), format!("[ {:?} ]", f64::from(float)), format!("[{float:e}]")]
            {
                assert_eq!(floats(&text).unwrap()[0].to_bits(), bits, "{text}");
            }
            count += 1;
        }
        assert!(count > 190_000);
        for edge in [f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1), -0.0, 0.0] {
            assert_eq!(floats(&format!("[{edge:?}]")).unwrap()[0].to_bits(), edge.to_bits());
        }
        // A text that a 64-bit float would first take to the middle between two 32-bit floats, and then to the wrong one.
        let near = "1.00000017881393432617187499";
        #[expect(clippy::cast_possible_truncation, reason = "that is the mistake")]
        let twice = near.parse::<f64>().unwrap() as f32;
        assert_ne!(floats(&format!("[{near}]")).unwrap()[0], twice);
    }

    #[test]
    fn what_json_does_not_hold_is_refused_by_record() {
        let found =
            one(r#"{"ids":["a"],"embeddings":[[1.5,null]],"metadatas":[{"x":null,"y":1}]}"#, &Metric::L2);
        let columns: Vec<_> = found.refused.iter().map(|(column, _)| *column).collect();
        assert_eq!(columns, ["embedding", "metadata"]);
        assert!(found.refused[1].1.contains("`x`"));
        assert_eq!(one(r#"{"ids":["a"],"embeddings":[[1e39]]}"#, &Metric::L2).refused.len(), 1);
        let lost = one(r#"{"ids":["a"],"embeddings":[null],"documents":null}"#, &Metric::L2);
        assert_eq!((lost.record.state, lost.refused.len()), (State::Lost, 0));
        assert!(one(r#"{"ids":["a"],"embeddings":[[]]}"#, &Metric::L2).record.embedding.unwrap().is_empty());
    }

    #[test]
    fn values_never_go_to_another_record() {
        for (answer, said) in [
            (json!({"ids": ["a", "b"], "embeddings": [[1.0]]}), "1 embeddings for 2 records"),
            (json!({"ids": ["a"], "documents": []}), "0 documents for 1 records"),
            (json!({"ids": ["a", "a"]}), "twice"),
            (json!({"embeddings": []}), "ids"),
        ] {
            let error = records(answer.to_string().as_bytes(), &Metric::L2).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
