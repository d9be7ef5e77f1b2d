//! The page's sections on what a run deleted, and on how it was undone.

use super::markup::{Cell, name, table, text, value};
use super::sections::{alarm, begin, end, figure};
use crate::report::RunFacts;
use crate::wording;
use std::fmt::Write;

pub fn deletions(run: &RunFacts, page: &mut String) {
    let flows: Vec<_> =
        run.flows.iter().filter_map(|flow| Some((&flow.name, flow.deletions.as_ref()?))).collect();
    if flows.is_empty() {
        return;
    }
    begin("deleted", "Deleted, as the sources no longer have it", page);
    let row = |(flow, deletions): &(&String, &crate::report::DeletionFacts)| {
        vec![Cell::Text(name(flow)), figure(deletions.deleted), alarm(deletions.left)]
    };
    let rows: Vec<Vec<Cell>> = flows.iter().map(row).collect();
    table("What was deleted by each flow", &["flow", "deleted", "left"], &rows, page);
    for (flow, deletions) in &flows {
        if let Some(reason) = &deletions.nothing {
            let _ = writeln!(
                page,
                "<p class=\"alarm\">{}: nothing was deleted: {}.</p>",
                name(flow),
                value(reason)
            );
        }
        keys(&format!("{}: the first that stay", name(flow)), &deletions.first_left, page);
    }
    end(page);
}

pub fn undone(run: &RunFacts, page: &mut String) {
    let Some(undone) = &run.undone else { return };
    begin("undone", "Undone", page);
    let row = |table: &crate::report::TableUndoneFacts| {
        let texts = [value(&table.store), value(&table.table), text(wording::undone(&table.way))];
        let figures = [figure(table.restored), figure(table.removed), alarm(table.conflicts)];
        texts.into_iter().map(Cell::Text).chain(figures).collect()
    };
    let rows: Vec<Vec<Cell>> = undone.tables.iter().map(row).collect();
    let heads = ["store", "table", "", "brought back", "gone", "written by others since"];
    table("What undoing did to each table", &heads, &rows, page);
    for table in &undone.tables {
        keys(&format!("{}: written by others since, and left", name(&table.table)), &table.conflicting, page);
    }
    let ended = text(&wording::moment(&undone.ended));
    let _ = writeln!(page, "<p class=\"quiet\">The undoing ended on {ended}.</p>");
    end(page);
}

/// A list under a heading that is safe already.
fn keys(heading: &str, keys: &[String], page: &mut String) {
    if keys.is_empty() {
        return;
    }
    let _ = writeln!(page, "<h3>{heading}</h3>\n<ul class=\"notes\">");
    keys.iter().for_each(|key| {
        let _ = writeln!(page, "<li><code>{}</code></li>", value(key));
    });
    page.push_str("</ul>\n");
}
