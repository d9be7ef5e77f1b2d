//! The page's sections.

use super::charts;
use super::markup::{Cell, lines, name, sentence, table, text, value};
use crate::figures::count;
use crate::report::{ComparedFlow, FlowFacts, Report, RunFacts, VerificationFacts};
use crate::wording;
use std::fmt::Write;
use whimbrel_model::Counts;

pub(super) fn begin(id: &str, title: &str, page: &mut String) {
    let _ = writeln!(page, "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{}</h2>", text(title));
}

pub(super) fn end(page: &mut String) {
    page.push_str("</section>\n");
}

pub(super) fn figure(records: u64) -> Cell {
    Cell::Figure(count(records))
}

/// A figure that should be zero.
pub(super) fn alarm(records: u64) -> Cell {
    if records == 0 { Cell::Figure("0".to_owned()) } else { Cell::Alarm(count(records)) }
}

pub fn flows(run: &RunFacts, page: &mut String) {
    begin("flows", "Flows", page);
    charts::flows(run, page);
    // Rejects are always named, other parts where there are some.
    let shown = |name: &str| {
        name == "created"
            || name == "rejected"
            || wording::parts(&run.totals).iter().any(|(part, n)| *part == name && *n > 0)
    };
    let row = |name: String, counts: &Counts| {
        let mut row = vec![Cell::Text(name), figure(counts.read)];
        for (part, records) in wording::parts(counts).into_iter().filter(|(part, _)| shown(part)) {
            row.push(if part == "rejected" { alarm(records) } else { figure(records) });
        }
        row.push(Cell::Figure(text(&wording::arrived(counts))));
        row
    };
    let heads = wording::parts(&run.totals).into_iter().map(|(part, _)| part).filter(|part| shown(part));
    let heads: Vec<&str> = ["flow", "read"].into_iter().chain(heads).chain(["arrived"]).collect();
    let mut rows: Vec<Vec<Cell>> = run.flows.iter().map(|flow| row(name(&flow.name), &flow.counts)).collect();
    if rows.len() > 1 {
        rows.push(row("<strong>total</strong>".to_owned(), &run.totals));
    }
    table("Counts of each flow", &heads, &rows, page);
    let (class, mark) = if run.balanced { ("good", "✓") } else { ("bad", "✗") };
    let _ = writeln!(
        page,
        "<p class=\"equation {class}\"><span class=\"mark\" aria-hidden=\"true\">{mark}</span> <span class=\"sum\">{}</span> <span class=\"quiet\">{}</span></p>",
        text(&wording::equation(&run.totals)),
        text(wording::balance(run))
    );
    if run.shared > 0 {
        let _ = writeln!(
            page,
            "<p class=\"quiet\">Records that more than one flow takes: {}. Each of them counts them.</p>",
            count(run.shared)
        );
    }
    end(page);
}

pub fn speed(run: &RunFacts, page: &mut String) {
    begin("throughput", "Throughput", page);
    charts::throughput(&run.throughput, page);
    end(page);
}

pub fn rejects(run: &RunFacts, page: &mut String) {
    let rejects = &run.rejects;
    if rejects.count == 0 {
        return;
    }
    begin("rejects", &format!("Rejects: {}", count(rejects.count)), page);
    if rejects.reasons.is_empty() {
        page.push_str("<p class=\"quiet\">Their reasons are listed when the run has ended.</p>\n");
    } else {
        charts::reasons(rejects, page);
    }
    if !rejects.samples.is_empty() {
        page.push_str("<h3>The first of each flow</h3>\n");
        let rows: Vec<Vec<Cell>> = rejects
            .samples
            .iter()
            .map(|sample| {
                let texts = [name(&sample.flow), format!("<code>{}</code>", value(&sample.key))];
                let rest = [sample.stage.to_string(), value(&sample.reason)];
                texts.into_iter().chain(rest).map(Cell::Text).collect()
            })
            .collect();
        table("The first rejects of each flow", &["flow", "key", "stage", "reason"], &rows, page);
    }
    if let Some(file) = &rejects.file {
        let _ = writeln!(page, "<p class=\"quiet\">Each is kept whole in <code>{}</code>.</p>", value(file));
    }
    end(page);
}

pub fn unmatched(run: &RunFacts, page: &mut String) {
    if run.unmatched.is_empty() {
        return;
    }
    begin("unmatched", "Records that no flow takes", page);
    let rows: Vec<Vec<Cell>> = run
        .unmatched
        .iter()
        .map(|pattern| {
            vec![Cell::Text(format!("<code>{}</code>", value(&pattern.pattern))), figure(pattern.records)]
        })
        .collect();
    table("Records that no flow takes, by the pattern of their keys", &["key", "records"], &rows, page);
    end(page);
}

pub fn verification(found: &VerificationFacts, page: &mut String) {
    let word = if found.equal { "equal" } else { "different" };
    begin("verification", &format!("Verification: {word}"), page);
    let _ = writeln!(page, "<p>{}</p>", text(&wording::depth(found)));
    if !found.flows.is_empty() {
        let row = |flow: &ComparedFlow| {
            let wrong = [flow.missing, flow.extra, flow.different].map(alarm);
            let rest = [flow.kept, flow.rejected].map(figure);
            let head = [Cell::Text(name(&flow.name)), figure(flow.compared)];
            head.into_iter().chain(wrong).chain(rest).collect()
        };
        let rows: Vec<Vec<Cell>> = found.flows.iter().map(row).collect();
        let heads = ["flow", "compared", "missing", "extra", "different", "kept", "rejected"];
        table("What was found of each flow", &heads, &rows, page);
    }
    if let Some(others) = wording::others(found) {
        let _ = writeln!(page, "<p class=\"alarm\">{}</p>", text(&others));
    }
    assertions(found, page);
    differences(found, page);
    for note in &found.notes {
        let _ = writeln!(page, "<p class=\"note\">{}</p>", value(note));
    }
    end(page);
}

fn assertions(found: &VerificationFacts, page: &mut String) {
    if found.assertions.is_empty() {
        return;
    }
    page.push_str("<h3>Assertions</h3>\n");
    let mut rows = Vec::new();
    for assertion in &found.assertions {
        let (class, word) = if assertion.ok { ("good", "pass") } else { ("bad", "fail") };
        let examples =
            assertion.examples.iter().map(|example| format!("<br><code>{}</code>", value(example)));
        let examples: String = examples.collect();
        rows.push(vec![
            Cell::Text(format!("<span class=\"badge small {class}\">{word}</span>")),
            Cell::Text(format!("{}{examples}", value(&assertion.name))),
            Cell::Text(format!("<code>{}</code>", value(&assertion.expected))),
            Cell::Text(format!("<code>{}</code>", value(&assertion.value))),
        ]);
    }
    table("Assertions of the spec", &["", "assertion", "expected", "measured"], &rows, page);
}

fn differences(found: &VerificationFacts, page: &mut String) {
    if found.differences.is_empty() {
        return;
    }
    page.push_str("<h3>Differences</h3>\n");
    let held = |held: &Option<String>| match held {
        Some(held) => format!("<code>{}</code>", value(held)),
        None => "<span class=\"quiet\">not there</span>".to_owned(),
    };
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for difference in &found.differences {
        let flow = difference
            .flow
            .as_deref()
            .map_or_else(|| "<span class=\"quiet\">no flow</span>".to_owned(), name);
        let since = difference
            .since
            .as_deref()
            .map(|since| format!("<br><span class=\"quiet\">{}</span>", text(&since.replace('_', " "))));
        let kind = format!("{}{}", text(&difference.kind), since.unwrap_or_default());
        let key = format!("<code>{}</code>", value(&difference.key));
        let mut head = [flow, kind, key];
        if difference.attributes.is_empty() {
            rows.push(head.iter().cloned().chain([const { String::new() }; 3]).map(Cell::Text).collect());
        }
        for attribute in &difference.attributes {
            let tail = [value(&attribute.name), held(&attribute.source), held(&attribute.target)];
            rows.push(head.iter().cloned().chain(tail).map(Cell::Text).collect());
            // A record is named once.
            head = [const { String::new() }; 3];
        }
    }
    let heads = ["flow", "difference", "key", "attribute", "source", "target"];
    table("Records that differ", &heads, &rows, page);
    let shown = u64::try_from(found.differences.len()).unwrap_or(u64::MAX);
    if found.difference_count > shown {
        let all = count(found.difference_count);
        let _ = writeln!(page, "<p class=\"quiet\">The first {} of {all}.</p>", count(shown));
    }
    if let Some(file) = &found.differences_file {
        let _ = writeln!(page, "<p class=\"quiet\">All of them are in <code>{}</code>.</p>", value(file));
    }
}

pub fn columns(run: &RunFacts, page: &mut String) {
    if run.flows.iter().all(|flow| flow.plan.is_none()) {
        return;
    }
    begin("columns", "Columns", page);
    for flow in run.flows.iter().filter(|flow| flow.plan.is_some()) {
        flow_columns(flow, page);
    }
    end(page);
}

fn flow_columns(flow: &FlowFacts, page: &mut String) {
    let _ = writeln!(
        page,
        "<h3>{}</h3>\n<p class=\"quiet route\">{}</p>",
        name(&flow.name),
        value(&wording::route(flow))
    );
    let (exact, other) = wording::fidelity(flow);
    if !other.is_empty() {
        let cell = |(index, column): (usize, &String)| {
            Cell::Text(if index == 3 { value(column) } else { format!("<code>{}</code>", value(column)) })
        };
        let rows: Vec<Vec<Cell>> =
            other.iter().map(|column| column.iter().enumerate().map(cell).collect()).collect();
        table("Columns that change their form", &["column", "from", "into", "how"], &rows, page);
    }
    if !exact.is_empty() {
        let names: Vec<String> = exact.iter().map(|name| format!("<code>{}</code>", value(name))).collect();
        let _ =
            writeln!(page, "<p class=\"exact\"><span class=\"quiet\">exact:</span> {}</p>", names.join(" "));
    }
    let Some(plan) = &flow.plan else { return };
    if !plan.notes.is_empty() {
        page.push_str("<ul class=\"notes\">\n");
        for note in &plan.notes {
            let _ = writeln!(page, "<li>{}</li>", value(note));
        }
        page.push_str("</ul>\n");
    }
    if !plan.ddl.is_empty() {
        page.push_str("<details><summary>How the table was made</summary>\n");
        for ddl in &plan.ddl {
            let _ = writeln!(page, "<pre tabindex=\"0\">{}</pre>", lines(ddl));
        }
        page.push_str("</details>\n");
    }
}

pub fn costs(run: &RunFacts, page: &mut String) {
    let costs = wording::costs(run);
    if costs.is_empty() {
        return;
    }
    begin("costs", "Costs", page);
    let row = |[what, planned, actual, projected]: [String; 4]| {
        let figures = [planned, actual, projected].map(|figure| Cell::Figure(text(&figure)));
        std::iter::once(Cell::Text(text(&what))).chain(figures).collect()
    };
    let rows: Vec<Vec<Cell>> = costs.into_iter().map(row).collect();
    table("Costs", &["", "planned", "actual", "all records"], &rows, page);
    let _ = writeln!(page, "<p class=\"quiet\">{}</p>", sentence(&wording::cost_note(run)));
    end(page);
}

pub fn facts(report: &Report, page: &mut String) {
    page.push_str("<div class=\"pair\">\n");
    if let Some(run) = &report.run {
        begin("run", "Run", page);
        list(wording::run(run).into_iter().map(|(name, value)| (name.to_owned(), value)), page);
        end(page);
    }
    begin("environment", "Environment", page);
    let rows = wording::environment(report).into_iter().map(|(name, value)| (name.to_owned(), value));
    let stores = report.stores.iter().map(|store| (format!("Store {}", store.name), store.location.clone()));
    list(rows.chain(stores), page);
    end(page);
    page.push_str("</div>\n");
    fingerprints(report, page);
}

fn fingerprints(report: &Report, page: &mut String) {
    let Some(run) = &report.run else { return };
    begin("fingerprints", "Fingerprints", page);
    page.push_str(
        "<p class=\"quiet\">A digest of what the run wrote, by flow: the same again from the same records, another \
         from any other. Keyed, so that it tells nothing of the records.</p>\n",
    );
    let rows: Vec<Vec<Cell>> = run
        .flows
        .iter()
        .map(|flow| {
            let digest = format!("<code>{}</code>", text(&flow.fingerprints.digest));
            vec![Cell::Text(name(&flow.name)), figure(flow.fingerprints.records), Cell::Text(digest)]
        })
        .collect();
    table("Fingerprints of each flow", &["flow", "records", "digest"], &rows, page);
    end(page);
}

fn list(rows: impl Iterator<Item = (String, String)>, page: &mut String) {
    page.push_str("<dl class=\"facts\">\n");
    for (name, shown) in rows {
        let _ = writeln!(page, "<div><dt>{}</dt><dd>{}</dd></div>", text(&name), value(&shown));
    }
    page.push_str("</dl>\n");
}
