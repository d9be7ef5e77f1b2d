//! Flows into one table, told apart by what is constant in their items.

use whimbrel_store::KeyPattern;

/// Tells flows' items apart.
#[derive(Debug)]
pub(crate) struct Classes {
    constants: Vec<Vec<Constant>>,
    /// The flows, the one with the longest constants first: an item belongs to the first that fits.
    order: Vec<usize>,
    /// The attributes that are looked at, by name.
    columns: Vec<String>,
}

#[derive(Debug)]
struct Constant {
    /// Its attribute, by its place among those that are looked at.
    column: usize,
    text: String,
    whole: bool,
}

impl Classes {
    /// The constants of each flow.
    pub(crate) fn of<'p>(flows: impl IntoIterator<Item = &'p [KeyPattern]>) -> Self {
        let flows: Vec<&[KeyPattern]> = flows.into_iter().collect();
        let length = |flow: usize| {
            let lengths = flows[flow].iter().map(|pattern| pattern.text.len() + usize::from(pattern.whole));
            lengths.sum::<usize>()
        };
        let mut order: Vec<usize> = (0..flows.len()).collect();
        order.sort_by_key(|flow| std::cmp::Reverse(length(*flow)));
        let names = flows.iter().flat_map(|patterns| patterns.iter().map(|pattern| &pattern.column));
        let mut columns: Vec<String> = names.cloned().collect();
        columns.sort_unstable();
        columns.dedup();
        let constant = |pattern: &KeyPattern| {
            let column = columns.binary_search(&pattern.column).ok()?;
            Some(Constant { column, text: pattern.text.clone(), whole: pattern.whole })
        };
        let constants = flows.iter().map(|patterns| patterns.iter().filter_map(constant).collect()).collect();
        Self { constants, order, columns }
    }

    /// The attributes that are looked at.
    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// How many flows there are.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The flow that an item belongs to: the first that fits, of those that may take it. `text` gives the text
    /// of an attribute that is looked at.
    pub(crate) fn class<'t>(
        &self,
        text: impl Fn(usize) -> Option<&'t str>,
        may_take: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let fits = |constant: &Constant| {
            text(constant.column).is_some_and(|text| {
                if constant.whole { text == constant.text } else { text.starts_with(&constant.text) }
            })
        };
        self.order.iter().copied().find(|flow| may_take(*flow) && self.constants[*flow].iter().all(fits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(constants: &[(&str, &str, bool)]) -> Vec<KeyPattern> {
        let pattern = |(column, text, whole): &(&str, &str, bool)| KeyPattern {
            column: (*column).to_owned(),
            text: (*text).to_owned(),
            whole: *whole,
        };
        constants.iter().map(pattern).collect()
    }

    #[test]
    fn an_item_belongs_to_the_flow_with_the_longest_constants() {
        let flows = [
            patterns(&[("pk", "USER#", false)]),
            patterns(&[("pk", "USER#", false), ("sk", "METADATA", true)]),
            patterns(&[("pk", "FEED#", false)]),
            patterns(&[("pk", "USER#", false)]),
        ];
        let classes = Classes::of(flows.iter().map(Vec::as_slice));
        assert_eq!((classes.columns(), classes.len()), (&["pk".to_owned(), "sk".to_owned()][..], 4));
        for (item, expected) in [
            ([Some("USER#1"), Some("METADATA")], Some(1)),
            ([Some("USER#1"), Some("METADATA2")], Some(0)),
            ([Some("USER#1"), None], Some(0)),
            ([Some("OTHER#1"), Some("METADATA")], None),
            ([None, None], None),
        ] {
            assert_eq!(classes.class(|column| item[column], |_| true), expected, "{item:?}");
        }
        assert_eq!(classes.class(|_| Some("USER#1"), |flow| flow > 2), Some(3), "of those that may take it");
    }

    #[test]
    fn without_constants_everything_is_the_flows_own() {
        let classes = Classes::of([&[][..]]);
        assert!(classes.columns().is_empty());
        assert_eq!(classes.class(|_| None, |_| true), Some(0));
    }
}
