
use crate::fixture::{plain, report};
use whimbrel_report::Format;
#[test]
fn zz() {
    std::fs::write("/tmp/brw/sample.html", Format::Html.render(&report(&plain))).unwrap();
    let hostile = |text: &str| format!("<script>alert(1)</script>\u{202e}\n{text}{}", "ü&".repeat(200));
    std::fs::write("/tmp/brw/hostile.html", Format::Html.render(&report(&hostile))).unwrap();
    std::fs::write("/tmp/brw/sample.json", Format::Json.render(&report(&plain))).unwrap();
}
