//! Slices and cursors: ranges of ids of one collection.

use serde::{Deserialize, Serialize};
use whimbrel_model::{Cursor, SlicePart};

/// The ids above one and up to another, by their bytes; `None` is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// The collection's UUID: one of the same name may be another.
    pub(super) collection: String,
    pub(super) above: Option<String>,
    pub(super) upto: Option<String>,
}

impl Part {
    /// All ids.
    pub(super) fn whole(collection: &str) -> Self {
        Self { collection: collection.to_owned(), above: None, upto: None }
    }

    /// What of a slice lies behind a cursor; `None`: they are another store's.
    pub(super) fn of(part: &SlicePart, after: Option<&Cursor>) -> Option<Self> {
        let part: Self = serde_json::from_value(part.0.clone()).ok()?;
        match after {
            None => Some(part),
            Some(cursor) => Some(Self { above: Some(cursor.0.as_str()?.to_owned()), ..part }),
        }
    }

    pub(super) fn into_slice(self) -> SlicePart {
        SlicePart(serde_json::to_value(self).unwrap_or_default())
    }

    /// Cuts behind each of the ids, which ascend and lie in it.
    pub(super) fn cut_at(self, ids: Vec<String>) -> Vec<Self> {
        let Self { collection, mut above, upto } = self;
        let ends = ids.into_iter().map(Some).chain([upto]);
        let part = |upto: Option<String>| Self {
            collection: collection.clone(),
            above: std::mem::replace(&mut above, upto.clone()),
            upto,
        };
        ends.map(part).collect()
    }
}

/// The cursor behind an id.
pub(super) fn cursor(id: &str) -> Cursor {
    Cursor(id.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_they_were_and_cover_everything() {
        let parts = Part::whole("c").cut_at(vec!["a\u{0}".to_owned(), "ü".to_owned()]);
        let bounds: Vec<_> = parts.iter().map(|part| (part.above.as_deref(), part.upto.as_deref())).collect();
        assert_eq!(bounds, [(None, Some("a\u{0}")), (Some("a\u{0}"), Some("ü")), (Some("ü"), None)]);
        let kept = serde_json::to_string(&parts[1].clone().into_slice()).unwrap();
        let kept: SlicePart = serde_json::from_str(&kept).unwrap();
        assert_eq!(Part::of(&kept, None).as_ref(), Some(&parts[1]));
        let rest = Part::of(&kept, Some(&cursor("b"))).unwrap();
        assert_eq!((rest.above.as_deref(), rest.upto.as_deref()), (Some("b"), Some("ü")));
        assert_eq!(Part::of(&SlicePart("x".into()), None), None);
        assert_eq!(Part::of(&kept, Some(&Cursor(7.into()))), None);
    }
}
