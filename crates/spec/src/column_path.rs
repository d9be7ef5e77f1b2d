//! `store.table.column` of a verify rule: which part is what.

use crate::names::{nearest, suggest};
use crate::spec::Spec;
use std::collections::BTreeSet;

/// The parts of a column's path, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColumnPath<'a> {
    pub(crate) store: &'a str,
    /// It may hold `${…}`.
    pub(crate) table: &'a str,
    /// The byte at which the table begins.
    pub(crate) table_at: usize,
    pub(crate) column: &'a str,
}

/// The stores that flows read or write.
pub(crate) fn used_stores(spec: &Spec) -> BTreeSet<&str> {
    let flows = || spec.document().flows.values();
    let read = flows().filter_map(|flow| flow.from.as_ref()?.store.as_deref());
    read.chain(written_stores(spec)).collect()
}

fn written_stores(spec: &Spec) -> BTreeSet<&str> {
    let targets = spec.document().flows.values().flat_map(|flow| &flow.into);
    targets.flat_map(|into| into.as_slice()).filter_map(|into| into.store.as_deref()).collect()
}

/// Reads a path. Without a store before it, the table is one of the only store that is written to.
///
/// # Errors
/// What is wrong, and what to write instead.
pub(crate) fn read<'a>(spec: &'a Spec, text: &'a str) -> Result<ColumnPath<'a>, (String, String)> {
    let dots = dots(text);
    let (Some(first), Some(last)) = (dots.first().copied(), dots.last().copied()) else {
        let hint = "write `table.column`, or `store.table.column`".to_owned();
        return Err((format!("`{text}` does not say of which table it is a column"), hint));
    };
    let column = &text[last + 1..];
    let empty = |part: &str| part.trim().is_empty();
    let parts =
        [0].into_iter().chain(dots.iter().map(|dot| dot + 1)).zip(dots.iter().copied().chain([text.len()]));
    if parts.into_iter().any(|(from, to)| empty(&text[from..to])) || column.contains("${") {
        return Err((format!("`{text}` names no column"), "write `store.table.column`".to_owned()));
    }
    let before = &text[..first];
    let stores = || spec.document().stores.keys().map(String::as_str);
    if first < last {
        if stores().any(|store| store == before) {
            return Ok(ColumnPath {
                store: before,
                table: &text[first + 1..last],
                table_at: first + 1,
                column,
            });
        }
        if nearest(before, stores()).is_some() {
            return Err((format!("there is no store `{before}`"), suggest(before, "stores", stores())));
        }
    }
    let targets = written_stores(spec);
    match targets.iter().copied().collect::<Vec<_>>().as_slice() {
        [only] => Ok(ColumnPath { store: only, table: &text[..last], table_at: 0, column }),
        several => {
            let places: Vec<_> = several.iter().map(|store| format!("`{store}.{text}`")).collect();
            let message = format!("in which store is the table of `{text}`?");
            Err((message, format!("name it: {}", places.join(" or "))))
        }
    }
}

/// The dots of a text that stand outside of `${…}`.
fn dots(text: &str) -> Vec<usize> {
    let mut depth = 0_usize;
    let mut dots = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '{' if depth > 0 || text[..at].ends_with('$') => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            '.' if depth == 0 => dots.push(at),
            _ => {}
        }
    }
    dots
}
