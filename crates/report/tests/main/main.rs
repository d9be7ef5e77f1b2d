//! What reports look like, that nothing in them is taken for markup, and that they stay small.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod fixture;
mod pages;
mod runs;
mod schema;

use fixture::{plain, report};
use whimbrel_report::Format;
use whimbrel_report::receipt::is_unchanged;

#[test]
fn markdown_as_it_is() {
    insta::assert_snapshot!(Format::Markdown.render(&report(&plain)));
}

#[test]
fn the_receipt_as_it_is() {
    let mut report = report(&plain);
    for stretch in report.run.iter_mut().flat_map(|run| &mut run.throughput.stretches) {
        stretch.samples.truncate(3);
    }
    let receipt = whimbrel_report::receipt(&report);
    assert!(is_unchanged(&receipt));
    insta::assert_snapshot!(format!("{receipt:#}"));
}

#[test]
fn a_verification_alone_has_no_run() {
    let mut report = report(&plain);
    report.run = None;
    report.outcome = whimbrel_report::report::Outcome::Different;
    report.conclude();
    assert_eq!(report.exit_code, Some(4));
    insta::assert_snapshot!(Format::Markdown.render(&report));
    pages::assert_well_formed(&Format::Html.render(&report));
}
