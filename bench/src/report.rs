//! What was measured, as a table and as JSON.

use crate::route::{Figures, Measurement, Outcome};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

const HEADINGS: [&str; 8] =
    ["route", "records/s", "by wall", "CPU µs/rec", "peak MB", "target max/s", "requests/s", "of limit"];

/// Records a second.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn rate(rows: u64, time: Duration) -> f64 {
    rows as f64 / time.as_secs_f64().max(1e-9)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn cpu_us(rows: u64, figures: &Figures) -> Option<f64> {
    figures.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / rows as f64)
}

/// How near whimbrel comes to the slower one of source and target.
fn ratio(rows: u64, figures: &Figures, measured: &Measurement) -> f64 {
    rate(rows, figures.run) / measured.source.rows_per_second.min(measured.target.items_per_second)
}

/// One JSON object.
pub(crate) fn json(rows: u64, measured: &[Measurement]) -> Value {
    let routes = measured.iter().map(|measured| {
        let limits = json!({
            "source_rows_per_second": measured.source.rows_per_second,
            "source_bytes_per_second": measured.source.bytes_per_second,
            "target_items_per_second": measured.target.items_per_second,
            "target_requests_per_second": measured.target.requests_per_second,
        });
        let mut route = json!({"route": measured.route, "limits": limits});
        match &measured.outcome {
            Outcome::Refused(why) => route["refused"] = json!(why),
            Outcome::Failed(why) => route["failed"] = json!(why),
            Outcome::Done(figures) => {
                route["records_per_second"] = json!(rate(rows, figures.run));
                route["records_per_second_wall"] = json!(rate(rows, figures.wall));
                route["seconds"] = json!(figures.run.as_secs_f64());
                route["wall_seconds"] = json!(figures.wall.as_secs_f64());
                route["cpu_us_per_record"] = json!(cpu_us(rows, figures));
                route["peak_memory_bytes"] = json!(figures.peak_bytes);
                route["of_limit"] = json!(ratio(rows, figures, measured));
            }
        }
        route
    });
    json!({"rows": rows, "routes": routes.collect::<Vec<_>>()})
}

/// A table for people.
pub(crate) fn table(rows: u64, measured: &[Measurement]) -> String {
    let mut text = String::new();
    if let Some(first) = measured.first() {
        let (per_second, bytes) = (first.source.rows_per_second, first.source.bytes_per_second);
        // Writing into a string cannot fail, here and below.
        let _ = writeln!(
            text,
            "{} rows of about 285 bytes; PostgreSQL gives at most {} rows/s ({:.0} MB/s)\n",
            grouped(&rows.to_string()),
            whole(per_second),
            bytes / 1e6
        );
    }
    let mut lines = vec![HEADINGS.map(str::to_owned).to_vec()];
    lines.extend(measured.iter().map(|measured| line(rows, measured)));
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    for line in &lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    for measured in measured {
        if let Outcome::Refused(why) | Outcome::Failed(why) = &measured.outcome {
            let _ = write!(text, "\n{}: {why}", measured.route);
        }
    }
    text.trim_end().to_owned()
}

fn line(rows: u64, measured: &Measurement) -> Vec<String> {
    let none = || "–".to_owned();
    let (of, limit) = match &measured.outcome {
        Outcome::Done(figures) => {
            #[expect(clippy::cast_precision_loss, reason = "figures for people")]
            let megabytes = |bytes: u64| format!("{:.0}", bytes as f64 / (1024.0 * 1024.0));
            let of = [
                whole(rate(rows, figures.run)),
                whole(rate(rows, figures.wall)),
                cpu_us(rows, figures).map_or_else(none, |us| format!("{us:.1}")),
                figures.peak_bytes.map_or_else(none, megabytes),
            ];
            (of, format!("{:.0} %", ratio(rows, figures, measured) * 100.0))
        }
        Outcome::Refused(_) => (["refused".to_owned(), none(), none(), none()], none()),
        Outcome::Failed(_) => (["failed".to_owned(), none(), none(), none()], none()),
    };
    let target = [measured.target.items_per_second, measured.target.requests_per_second].map(whole);
    [measured.route.clone()].into_iter().chain(of).chain(target).chain([limit]).collect()
}

fn whole(number: f64) -> String {
    grouped(&format!("{number:.0}"))
}

/// `1234567` as `1,234,567`.
fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::CopyLimit;
    use crate::hammer::HammerLimit;

    fn measured(outcome: Outcome) -> Measurement {
        Measurement {
            route: "a-b".to_owned(),
            outcome,
            source: CopyLimit { rows_per_second: 1e6, bytes_per_second: 2e8 },
            target: HammerLimit { requests_per_second: 2_000.0, items_per_second: 50_000.0 },
        }
    }

    fn figures() -> Figures {
        Figures {
            run: Duration::from_secs(4),
            wall: Duration::from_secs(5),
            cpu: Some(Duration::from_secs(2)),
            peak_bytes: Some(100 << 20),
        }
    }

    #[test]
    fn figures_are_by_record() {
        let route = &json(100_000, &[measured(Outcome::Done(figures()))])["routes"][0];
        assert_eq!(route["records_per_second"], json!(25_000.0));
        assert_eq!(route["records_per_second_wall"], json!(20_000.0));
        assert_eq!(route["cpu_us_per_record"], json!(20.0));
        assert_eq!(route["of_limit"], json!(0.5));
    }

    #[test]
    fn the_table_shows_what_was_not_done() {
        let rows = [measured(Outcome::Done(figures())), measured(Outcome::Refused("not yet".to_owned()))];
        let text = table(1_234_567, &rows);
        assert!(text.starts_with("1,234,567 rows") && text.ends_with("a-b: not yet"), "{text}");
        assert!(text.contains("308,642") && text.contains("refused"), "{text}");
    }
}
