//! A report as Markdown: for a repository, an issue, a message.

use crate::figures::count;
use crate::report::{Report, RunFacts, VerificationFacts};
use crate::shown::{cut, visible, visible_lines};
use crate::throughput::courses;
use crate::wording;
use std::fmt::Write;
use whimbrel_model::Counts;

/// Characters of a foreign text that are shown.
const SHOWN_CHARACTERS: usize = 600;
/// Rejects that are named.
const SAMPLES: usize = 20;

/// The report as Markdown.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let environment = report.environment.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let title = escaped(&format!("{}{environment}", report.migration));
    let mut page = format!("# {title}: {}\n\n", report.outcome.title());
    let _ = writeln!(page, "{}", escaped(&report.sentence));
    let code = report.exit_code.map(|code| format!(" Exit code {code}.")).unwrap_or_default();
    for line in &report.next {
        let _ = writeln!(page, "\nNext: {}", commands(line));
    }
    if !code.is_empty() {
        let _ = writeln!(page, "\n{}", code.trim());
    }
    if let Some(run) = &report.run {
        if let Some(error) = &run.error {
            let _ = writeln!(page, "\n> {}", escaped(error));
        }
        flows(run, &mut page);
        speed(run, &mut page);
        rejects(run, &mut page);
        unmatched(run, &mut page);
        deletions(run, &mut page);
        undone(run, &mut page);
    }
    if let Some(found) = &report.verification {
        verification(found, &mut page);
    }
    if let Some(run) = &report.run {
        columns(run, &mut page);
        costs(run, &mut page);
    }
    facts(report, &mut page);
    page
}

fn flows(run: &RunFacts, page: &mut String) {
    page.push_str("\n## Flows\n\n");
    let heads =
        ["flow", "read", "created", "updated", "unchanged", "skipped", "rejected", "filtered", "arrived"];
    let row = |name: &str, counts: &Counts| {
        let figures = wording::parts(counts).map(|(_, records)| count(records));
        let mut row = vec![escaped(name), count(counts.read)];
        row.extend(figures);
        row.push(escaped(&wording::arrived(counts)));
        row
    };
    let mut rows: Vec<Vec<String>> = run.flows.iter().map(|flow| row(&flow.name, &flow.counts)).collect();
    if rows.len() > 1 {
        rows.push(row("total", &run.totals));
    }
    table(&heads, &rows, page);
    let _ = writeln!(page, "\n{}. {}", wording::equation(&run.totals), wording::balance(run));
}

/// One character an interval, from the lowest to the highest rate.
fn speed(run: &RunFacts, page: &mut String) {
    let Some(line) = wording::speed(&run.throughput) else { return };
    let _ = writeln!(page, "\n## Throughput\n\n{line}");
    let courses = courses(&run.throughput);
    let peak = courses.iter().flat_map(|course| &course.rates).copied().fold(0.0, f64::max);
    if peak > 0.0 && courses.iter().any(|course| course.rates.len() > 2) {
        let curves: Vec<String> = courses
            .iter()
            .map(|course| course.rates.iter().map(|rate| block(rate / peak)).collect::<String>())
            .collect();
        let _ = writeln!(page, "\n`{}`", curves.join(" ‖ "));
    }
}

fn block(share: f64) -> char {
    let blocks = [(0.06, '▁'), (0.19, '▂'), (0.31, '▃'), (0.44, '▄'), (0.56, '▅'), (0.69, '▆'), (0.81, '▇')];
    blocks.iter().find(|(below, _)| share < *below).map_or('█', |(_, block)| *block)
}

fn rejects(run: &RunFacts, page: &mut String) {
    let rejects = &run.rejects;
    if rejects.count == 0 {
        return;
    }
    let _ = writeln!(page, "\n## Rejects ({})\n", count(rejects.count));
    let mut rows: Vec<Vec<String>> = rejects
        .reasons
        .iter()
        .map(|reason| {
            let texts = [&reason.flow, &reason.stage.to_string(), &reason.reason, &reason.example];
            std::iter::once(count(reason.count)).chain(texts.map(|text| escaped(text))).collect()
        })
        .collect();
    if rejects.other > 0 {
        let what =
            if rows.is_empty() { "reasons are listed when the run has ended" } else { "other reasons" };
        rows.push(vec![count(rejects.other), String::new(), String::new(), what.to_owned(), String::new()]);
    }
    table(&["records", "flow", "stage", "reason", "first"], &rows, page);
    if !rejects.samples.is_empty() {
        page.push_str("\nThe first of each flow:\n\n");
        for sample in rejects.samples.iter().take(SAMPLES) {
            let _ = writeln!(
                page,
                "- {}, {}: {}",
                escaped(&sample.flow),
                escaped(&sample.key),
                escaped(&sample.reason)
            );
        }
    }
    if let Some(file) = &rejects.file {
        let _ = writeln!(page, "\nEach is kept whole in {}.", escaped(file));
    }
}

fn unmatched(run: &RunFacts, page: &mut String) {
    if run.unmatched.is_empty() {
        return;
    }
    page.push_str("\n## Records that no flow takes\n\n");
    let rows: Vec<Vec<String>> =
        run.unmatched.iter().map(|pattern| vec![count(pattern.records), escaped(&pattern.pattern)]).collect();
    table(&["records", "key"], &rows, page);
}

fn deletions(run: &RunFacts, page: &mut String) {
    let flows: Vec<_> =
        run.flows.iter().filter_map(|flow| Some((&flow.name, flow.deletions.as_ref()?))).collect();
    if flows.is_empty() {
        return;
    }
    page.push_str("\n## Deleted, as the sources no longer have it\n\n");
    let rows: Vec<Vec<String>> = flows
        .iter()
        .map(|(name, deletions)| vec![escaped(name), count(deletions.deleted), count(deletions.left)])
        .collect();
    table(&["flow", "deleted", "left"], &rows, page);
    for (name, deletions) in &flows {
        if let Some(reason) = &deletions.nothing {
            let _ = writeln!(page, "\n{}: nothing was deleted: {}.", escaped(name), escaped(reason));
        }
        if !deletions.first_left.is_empty() {
            let _ = writeln!(page, "\n{}: the first that stay:\n", escaped(name));
            deletions.first_left.iter().for_each(|one| {
                let _ = writeln!(page, "- {}", escaped(one));
            });
        }
    }
}

fn undone(run: &RunFacts, page: &mut String) {
    let Some(undone) = &run.undone else { return };
    page.push_str("\n## Undone\n\n");
    let rows: Vec<Vec<String>> = undone
        .tables
        .iter()
        .map(|table| {
            let texts = [&table.store, &table.table, wording::undone(&table.way)].map(escaped);
            let figures = [table.restored, table.removed, table.conflicts].map(count);
            texts.into_iter().chain(figures).collect()
        })
        .collect();
    table(&["store", "table", "", "brought back", "gone", "written by others since"], &rows, page);
    for table in undone.tables.iter().filter(|table| !table.conflicting.is_empty()) {
        let _ = writeln!(page, "\n{}: written by others since, and left:\n", escaped(&table.table));
        table.conflicting.iter().for_each(|key| {
            let _ = writeln!(page, "- {}", escaped(key));
        });
    }
    let _ = writeln!(page, "\nThe undoing ended on {}.", escaped(&wording::moment(&undone.ended)));
}

fn verification(found: &VerificationFacts, page: &mut String) {
    let word = if found.equal { "equal" } else { "different" };
    let _ = writeln!(page, "\n## Verification: {word}\n\n{}", wording::depth(found));
    if !found.flows.is_empty() {
        page.push('\n');
        let row = |flow: &crate::report::ComparedFlow| {
            let figures = [flow.compared, flow.missing, flow.extra, flow.different, flow.kept, flow.rejected];
            std::iter::once(escaped(&flow.name)).chain(figures.map(count)).collect()
        };
        let rows: Vec<Vec<String>> = found.flows.iter().map(row).collect();
        table(&["flow", "compared", "missing", "extra", "different", "kept", "rejected"], &rows, page);
    }
    if let Some(others) = wording::others(found) {
        let _ = writeln!(page, "\n{others}");
    }
    if !found.assertions.is_empty() {
        page.push('\n');
        let row = |assertion: &crate::report::AssertionFacts| {
            let holds = if assertion.ok { "pass" } else { "**fail**" };
            let texts = [&assertion.name, &assertion.expected, &assertion.value];
            std::iter::once(holds.to_owned()).chain(texts.map(|text| escaped(text))).collect()
        };
        let rows: Vec<Vec<String>> = found.assertions.iter().map(row).collect();
        table(&["", "assertion", "expected", "measured"], &rows, page);
        for assertion in found.assertions.iter().filter(|assertion| !assertion.examples.is_empty()) {
            let examples: Vec<String> = assertion.examples.iter().map(|example| escaped(example)).collect();
            let _ = writeln!(page, "\n{}: {}", escaped(&assertion.name), examples.join(" · "));
        }
    }
    differences(found, page);
    for note in &found.notes {
        let _ = writeln!(page, "\nNote: {}", escaped(note));
    }
}

fn differences(found: &VerificationFacts, page: &mut String) {
    if found.differences.is_empty() {
        return;
    }
    page.push('\n');
    let value = |value: &Option<String>| value.as_deref().map_or_else(|| "*not there*".to_owned(), escaped);
    let mut rows = Vec::new();
    for difference in &found.differences {
        let flow = difference.flow.as_deref().unwrap_or("no flow");
        let since = difference.since.as_deref().map(|since| format!(", {}", since.replace('_', " ")));
        let kind = format!("{}{}", difference.kind, since.unwrap_or_default());
        let head = [flow, kind.as_str(), difference.key.as_str()].map(escaped);
        if difference.attributes.is_empty() {
            rows.push(head.iter().cloned().chain([String::new(), String::new(), String::new()]).collect());
        }
        for attribute in &difference.attributes {
            let tail = [escaped(&attribute.name), value(&attribute.source), value(&attribute.target)];
            rows.push(head.iter().cloned().chain(tail).collect::<Vec<_>>());
        }
    }
    table(&["flow", "difference", "key", "attribute", "source", "target"], &rows, page);
    let shown = u64::try_from(found.differences.len()).unwrap_or(u64::MAX);
    if found.difference_count > shown {
        let _ = writeln!(page, "\nThe first {} of {}.", count(shown), count(found.difference_count));
    }
    if let Some(file) = &found.differences_file {
        let _ = writeln!(page, "\nAll of them are in {}.", escaped(file));
    }
}

fn columns(run: &RunFacts, page: &mut String) {
    if run.flows.iter().all(|flow| flow.plan.is_none()) {
        return;
    }
    page.push_str("\n## Columns\n");
    for flow in run.flows.iter().filter(|flow| flow.plan.is_some()) {
        let _ = writeln!(page, "\n### {}\n\n{}", escaped(&flow.name), escaped(&wording::route(flow)));
        let (exact, other) = wording::fidelity(flow);
        if !exact.is_empty() {
            let names: Vec<String> = exact.iter().map(|name| escaped(name)).collect();
            let _ = writeln!(page, "\nExact: {}", names.join(", "));
        }
        if !other.is_empty() {
            page.push('\n');
            let rows: Vec<Vec<String>> =
                other.iter().map(|column| column.iter().map(|text| escaped(text)).collect()).collect();
            table(&["column", "from", "into", "how"], &rows, page);
        }
        let plan = flow.plan.iter();
        for note in plan.clone().flat_map(|plan| &plan.notes) {
            let _ = writeln!(page, "\n- {}", escaped(note));
        }
        for ddl in plan.flat_map(|plan| &plan.ddl) {
            fenced(ddl, page);
        }
    }
}

fn costs(run: &RunFacts, page: &mut String) {
    let rows = wording::costs(run);
    if rows.is_empty() {
        return;
    }
    page.push_str("\n## Costs\n\n");
    table(
        &["", "planned", "actual", "all records"],
        &rows.into_iter().map(Vec::from).collect::<Vec<_>>(),
        page,
    );
    let _ = writeln!(page, "\n{}", commands(&wording::cost_note(run)));
}

fn facts(report: &Report, page: &mut String) {
    page.push_str("\n## Run and environment\n\n");
    let run = report.run.as_ref().map(wording::run).unwrap_or_default();
    let rows = run.into_iter().chain(wording::environment(report));
    let mut rows: Vec<Vec<String>> =
        rows.map(|(name, value)| vec![name.to_owned(), escaped(&value)]).collect();
    for store in &report.stores {
        rows.push(vec![format!("Store {}", escaped(&store.name)), escaped(&store.location)]);
    }
    table(&["", ""], &rows, page);
}

/// A table; the cells are escaped already.
fn table(heads: &[&str], rows: &[Vec<String>], page: &mut String) {
    let _ = writeln!(page, "| {} |", heads.join(" | "));
    let figures = |column: usize| {
        !rows.is_empty()
            && rows
                .iter()
                .all(|row| row[column].starts_with(|c: char| c.is_ascii_digit() || matches!(c, '–' | '$')))
    };
    let rules: Vec<&str> =
        (0..heads.len()).map(|column| if figures(column) { "---:" } else { "---" }).collect();
    let _ = writeln!(page, "| {} |", rules.join(" | "));
    for row in rows {
        let _ = writeln!(page, "| {} |", row.join(" | "));
    }
}

/// A statement in a fence that it cannot close.
fn fenced(text: &str, page: &mut String) {
    let text = visible_lines(&cut(text, 20_000));
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let _ = writeln!(page, "\n{fence}\n{text}\n{fence}");
}

/// Our own sentence, whose backquotes are meant: the rest is escaped.
fn commands(sentence: &str) -> String {
    let parts = sentence.split('`').enumerate();
    let part = |(number, part): (usize, &str)| {
        if number % 2 == 1 { format!("`{}`", visible(part)) } else { escaped(part) }
    };
    parts.map(part).collect()
}

/// A foreign text that Markdown and the HTML within it take as text, in one line.
fn escaped(text: &str) -> String {
    let text = visible(&cut(text, SHOWN_CHARACTERS));
    let mut safe = String::with_capacity(text.len() + 8);
    let mut before: Option<char> = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let after = rest.peek().copied();
        let within_a_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '_' if within_a_word(before) && within_a_word(after) => safe.push('_'),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' | '@' | '$' => safe.extend(['\\', c]),
            // No address becomes a link by itself.
            ':' if after == Some('/') => safe.push_str("\\:"),
            '.' if safe.ends_with("www") => safe.push_str("\\."),
            '-' | '+' | '=' if before.is_none() => safe.extend(['\\', c]),
            '.' | ')'
                if after.is_none_or(char::is_whitespace)
                    && !safe.is_empty()
                    && safe.chars().all(|c| c.is_ascii_digit()) =>
            {
                safe.extend(['\\', c]);
            }
            c => safe.push(c),
        }
        before = Some(c);
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_values_stays_text() {
        assert_eq!(escaped("<script>alert(1)</script>"), "&lt;script&gt;alert(1)&lt;/script&gt;");
        assert_eq!(
            escaped("a|b `c` *d* [e](http://f) user_id _g_"),
            "a\\|b \\`c\\` \\*d\\* \\[e\\](http\\://f) user_id \\_g\\_"
        );
        assert_eq!(escaped("# h\n- i"), "\\# h↵- i");
        assert_eq!(escaped("1. one"), "1\\. one");
        assert_eq!(escaped("www.example.org"), "www\\.example.org");
        assert_eq!(commands("Try `whimbrel resume *x*` <now>"), "Try `whimbrel resume *x*` &lt;now&gt;");
    }

    #[test]
    fn a_fence_cannot_be_closed_from_within() {
        let mut page = String::new();
        fenced("SELECT 1\n````\n# no heading", &mut page);
        assert_eq!(page, "\n`````\nSELECT 1\n````\n# no heading\n`````\n");
    }
}
