//! A report as one page for a browser: no script, nothing from elsewhere, every foreign text escaped.

mod changes;
mod charts;
mod markup;
mod sections;

use crate::figures::{count, seconds, units, usd};
use crate::report::{Report, RunFacts, Tone, VerificationFacts};
use markup::{sentence, text, value};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

/// What the page may load: nothing but its own style and pictures within itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// The report as a page.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut page = String::with_capacity(64 * 1024);
    head(report, &mut page);
    header(report, &mut page);
    page.push_str("<main>\n");
    if let Some(run) = &report.run {
        sections::flows(run, &mut page);
        sections::speed(run, &mut page);
        sections::rejects(run, &mut page);
        sections::unmatched(run, &mut page);
        changes::deletions(run, &mut page);
        changes::undone(run, &mut page);
    }
    if let Some(found) = &report.verification {
        sections::verification(found, &mut page);
    }
    if let Some(run) = &report.run {
        sections::columns(run, &mut page);
        sections::costs(run, &mut page);
    }
    sections::facts(report, &mut page);
    page.push_str("</main>\n");
    let _ = write!(
        page,
        "<footer><p>Made by whimbrel {} on {}. The same report for programs, signed off by a digest: \
         <code>whimbrel report RUN --out receipt.json</code></p></footer>\n</body>\n</html>\n",
        text(&report.version),
        text(&crate::wording::moment(&report.written))
    );
    page
}

fn head(report: &Report, page: &mut String) {
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{}: {} – whimbrel</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        text(&report.migration),
        report.outcome.title()
    );
}

fn header(report: &Report, page: &mut String) {
    let tone = tone(report.outcome.tone());
    let environment = report
        .environment
        .as_deref()
        .map(|name| format!(" <span class=\"environment\">{}</span>", markup::name(name)))
        .unwrap_or_default();
    let _ = write!(
        page,
        "<header>\n<p class=\"kicker\">Migration report</p>\n<h1>{}{environment}</h1>\n\
         <p class=\"badges\"><span class=\"badge {tone}\">{}</span>",
        markup::name(&report.migration),
        report.outcome.title()
    );
    if let Some(found) = report.verification.as_ref().filter(|_| report.run.is_some()) {
        let (tone, word) =
            if found.equal { ("good", "Verified: equal") } else { ("bad", "Verified: different") };
        let _ = write!(page, "<span class=\"badge {tone}\">{word}</span>");
    }
    if let Some(code) = report.exit_code {
        let _ = write!(page, "<span class=\"quiet\">exit code {code}</span>");
    }
    let _ = write!(page, "</p>\n<p class=\"lead\">{}</p>\n", text(&report.sentence));
    if let Some(error) = report.run.as_ref().and_then(|run| run.error.as_deref()) {
        let _ = writeln!(page, "<p class=\"error\">{}</p>", value(error));
    }
    for next in &report.next {
        let _ = writeln!(page, "<p class=\"next\"><span>Next</span> {}</p>", sentence(next));
    }
    match (&report.run, &report.verification) {
        (Some(run), _) => run_tiles(run, page),
        (None, Some(found)) => verification_tiles(found, page),
        (None, None) => {}
    }
    page.push_str("</header>\n");
}

fn tone(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Warning => "warning",
        Tone::Bad => "bad",
        Tone::Pending => "pending",
    }
}

fn run_tiles(run: &RunFacts, page: &mut String) {
    let mut tiles = vec![
        ("Read", count(run.totals.read), ""),
        ("Arrived", crate::wording::arrived(&run.totals), ""),
        ("Rejected", count(run.totals.rejected), if run.totals.rejected > 0 { "alarm" } else { "" }),
        ("Took", seconds(run.seconds), ""),
    ];
    if let Some(mean) = run.throughput.mean_per_s {
        tiles.push(("Records/s", units(mean), ""));
    }
    if run.cost.actual_usd > 0.0 {
        tiles.push(("Cost", usd(run.cost.actual_usd), ""));
    }
    self::tiles(&tiles, page);
}

fn verification_tiles(found: &VerificationFacts, page: &mut String) {
    let alarm = |wrong: bool| if wrong { "alarm" } else { "" };
    let failed = u64::try_from(found.failed_assertions()).unwrap_or(u64::MAX);
    let all = u64::try_from(found.assertions.len()).unwrap_or(u64::MAX);
    let held = format!("{} of {}", count(all - failed), count(all));
    tiles(
        &[
            ("Compared", count(found.compared()), ""),
            ("Differences", count(found.difference_count), alarm(found.difference_count > 0)),
            ("Assertions held", held, alarm(failed > 0)),
            ("Took", seconds(found.seconds), ""),
        ],
        page,
    );
}

fn tiles(tiles: &[(&str, String, &str)], page: &mut String) {
    page.push_str("<dl class=\"tiles\">\n");
    for (name, figure, class) in tiles {
        let _ = writeln!(page, "<div><dt>{name}</dt><dd class=\"{class}\">{}</dd></div>", text(figure));
    }
    page.push_str("</dl>\n");
}
