//! What was measured, as a table and as JSON.

use crate::route::{Clock, Figures, Limit, Measurement, Outcome};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

const HEADINGS: [&str; 6] = ["route", "records/s", "by wall", "CPU µs/rec", "peak MB", "of limit"];

/// Records a second.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn rate(rows: u64, time: Duration) -> f64 {
    rows as f64 / time.as_secs_f64().max(1e-9)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn cpu_us(rows: u64, figures: &Figures) -> Option<f64> {
    figures.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / rows as f64)
}

/// How near whimbrel comes to a limit.
fn ratio(rows: u64, figures: &Figures, limit: &Limit) -> f64 {
    let time = match limit.by {
        Clock::Run => figures.run,
        Clock::Wall => figures.wall,
    };
    rate(rows, time) / limit.records_per_second.max(1e-9)
}

/// The least of the limits, which peers are not.
fn least(measured: &Measurement) -> Option<&Limit> {
    let limits = measured.limits.iter().filter(|limit| !limit.is_peer);
    limits.min_by(|one, other| one.records_per_second.total_cmp(&other.records_per_second))
}

/// One JSON object.
pub(crate) fn json(rows: u64, measured: &[Measurement]) -> Value {
    let routes = measured.iter().map(|measured| {
        let figures = match &measured.outcome {
            Outcome::Done(figures) => Some(figures),
            Outcome::Refused(_) | Outcome::Failed(_) => None,
        };
        let limit = |limit: &Limit| {
            let of = figures.map(|figures| ratio(rows, figures, limit));
            json!({
                "what": limit.what, "records_per_second": limit.records_per_second, "reached": of,
                "is_peer": limit.is_peer,
            })
        };
        let limits: Vec<_> = measured.limits.iter().map(limit).collect();
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
                route["of_limit"] = json!(least(measured).map(|limit| ratio(rows, figures, limit)));
            }
        }
        route
    });
    json!({"rows": rows, "routes": routes.collect::<Vec<_>>()})
}

/// A table for people.
pub(crate) fn table(rows: u64, measured: &[Measurement]) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail, here and below.
    let _ = writeln!(text, "{} records\n", grouped(&rows.to_string()));
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
        let _ = write!(text, "\n{}: ", measured.route);
        if let Outcome::Refused(why) | Outcome::Failed(why) = &measured.outcome {
            let _ = write!(text, "{why}; ");
        }
        let limits = measured.limits.iter().map(|limit| {
            let rate = whole(limit.records_per_second);
            match &measured.outcome {
                Outcome::Done(figures) => {
                    format!("{} {rate}/s ({:.0} %)", limit.what, ratio(rows, figures, limit) * 100.0)
                }
                Outcome::Refused(_) | Outcome::Failed(_) => format!("{} {rate}/s", limit.what),
            }
        });
        text.push_str(&limits.collect::<Vec<_>>().join(", "));
    }
    text.trim_end().to_owned()
}

fn line(rows: u64, measured: &Measurement) -> Vec<String> {
    let none = || "–".to_owned();
    let of = match &measured.outcome {
        Outcome::Done(figures) => {
            #[expect(clippy::cast_precision_loss, reason = "figures for people")]
            let megabytes = |bytes: u64| format!("{:.0}", bytes as f64 / (1024.0 * 1024.0));
            let of_limit = least(measured).map(|limit| ratio(rows, figures, limit) * 100.0);
            [
                whole(rate(rows, figures.run)),
                whole(rate(rows, figures.wall)),
                cpu_us(rows, figures).map_or_else(none, |us| format!("{us:.1}")),
                figures.peak_bytes.map_or_else(none, megabytes),
                of_limit.map_or_else(none, |percent| format!("{percent:.0} %")),
            ]
        }
        Outcome::Refused(_) => ["refused".to_owned(), none(), none(), none(), none()],
        Outcome::Failed(_) => ["failed".to_owned(), none(), none(), none(), none()],
    };
    [measured.route.clone()].into_iter().chain(of).collect()
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

    fn measured(outcome: Outcome) -> Measurement {
        let limits =
            vec![Limit::part("reading", 1e6), Limit::part("writing", 5e4), Limit::process("a peer", 1e4)];
        Measurement { route: "a-b".to_owned(), outcome, limits }
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
        assert_eq!(route["limits"][0]["reached"], json!(0.025));
        assert_eq!(route["limits"][2]["reached"], json!(2.0), "whole processes are compared");
    }

    #[test]
    fn the_table_shows_what_was_not_done() {
        let rows = [measured(Outcome::Done(figures())), measured(Outcome::Refused("not yet".to_owned()))];
        let text = table(1_234_567, &rows);
        assert!(
            text.starts_with("1,234,567 records")
                && text.contains("a-b: not yet; reading 1,000,000/s, writing 50,000/s, a peer 10,000/s"),
            "{text}"
        );
        assert!(text.contains("308,642") && text.contains("refused"), "{text}");
        assert!(
            text.contains("reading 1,000,000/s (31 %), writing 50,000/s (617 %), a peer 10,000/s (2469 %)"),
            "{text}"
        );
    }
}
