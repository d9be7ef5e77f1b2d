//! Dates and times, where the spec declares them.

use crate::fixture::{Fixture, column, declared, records};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn all_of_sqlites_forms_become_instants() {
    let fixture = Fixture::new(
        "CREATE TABLE t (at DATETIME); INSERT INTO t VALUES ('2024-02-29'), ('2024-02-29 12:30'), ('2024-02-29T12:30:15.25'), \
         ('2024-02-29 12:30:15.123456Z'), ('2024-02-29T12:30:15+05:30'), (julianday('2024-02-29 12:30:15.250')), \
         (unixepoch('2024-02-29 12:30:15')), (1709209815.5), ('1969-12-31 23:59:59.999999'), (NULL)",
    );
    let read = column(&*fixture.source(declared("t", &[("at", "timestamp")])), "at").await;
    assert_eq!(
        json!(read),
        json!([
            "2024-02-29T00:00:00Z",
            "2024-02-29T12:30:00Z",
            "2024-02-29T12:30:15.250Z",
            "2024-02-29T12:30:15.123456Z",
            "2024-02-29T07:00:15Z",
            "2024-02-29T12:30:15.250Z",
            "2024-02-29T12:30:15Z",
            "2024-02-29T12:30:15.500Z",
            "1969-12-31T23:59:59.999999Z",
            null
        ])
    );
    let texts = column(&*fixture.table("t"), "at").await;
    assert_eq!(texts[6], "1709209815", "what nobody declares stays as it is");
    let mut days = fixture.source(declared("t", &[("at", "date")]));
    let (rows, unreadable) = records(&*days).await;
    assert_eq!((rows[0]["at"].as_str(), unreadable.len()), (Some("2024-02-29"), 8));
    days = fixture.source(declared("t", &[("at", "integer")]));
    assert_eq!(records(&*days).await.1.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ambiguous_is_rejected_with_its_reason() {
    let fixture = Fixture::new(
        "CREATE TABLE t (at); INSERT INTO t VALUES (2460370), (1709209815000), ('2460370.5'), ('12:30'), ('2023-02-29'), \
         ('yesterday'), ('2024-02-29 12:30:15.1234567'), (x'00'), (0)",
    );
    let (_, unreadable) = records(&*fixture.source(declared("t", &[("at", "timestamp")]))).await;
    assert_eq!(unreadable.len(), 9);
    for (value, word) in unreadable.iter().zip([
        "Julian day or seconds",
        "milliseconds",
        "number as text",
        "time without a date",
        "no calendar",
        "no date or time",
        "more digits",
        "a blob",
        "Julian day or seconds",
    ]) {
        assert!(value.reason.contains(word), "{}", value.reason);
        assert!(value.reason.starts_with("it is to be read as timestamp and holds"), "{}", value.reason);
    }
    assert_eq!(unreadable[0].raw, b"2460370");
}
