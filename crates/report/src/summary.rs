//! The summary of a run as text.

use crate::cost;
use crate::failing;
use crate::figures::{bytes, count, seconds, share, units};
use crate::paint::Paint;
use crate::table::table;
use std::fmt::Write;
use whimbrel_engine::{RunOutcome, Summary};
use whimbrel_model::Counts;

/// Reasons shown; all of them are in the reject file.
const SHOWN_REASONS: usize = 10;

/// From this share of rejects on, the summary warns.
const WARNED_REJECT_RATE: f64 = 0.05;

const HEADS: [&str; 9] =
    ["flow", "read", "created", "updated", "unchanged", "skipped", "rejected", "filtered", "arrived"];
const LEFT_OUT_WHEN_ZERO: [&str; 5] = ["updated", "unchanged", "skipped", "rejected", "filtered"];

/// The summary for a terminal.
#[must_use]
pub fn summary(summary: &Summary, paint: Paint) -> String {
    let mut text = heading(summary, paint);
    for (name, location) in &summary.stores {
        let _ = writeln!(text, "  {name}: {location}");
    }
    let mut rows: Vec<Vec<String>> =
        summary.flows.iter().map(|(flow, counts)| row(flow.as_str(), counts)).collect();
    if rows.len() > 1 {
        rows.push(row("total", &summary.totals));
    }
    text.push('\n');
    text.push_str(&table(&HEADS, &rows, &LEFT_OUT_WHEN_ZERO));
    text.push('\n');
    if let Some(rate) = summary.totals.success_rate() {
        let which = match summary.outcome {
            RunOutcome::Complete | RunOutcome::Incomplete => "the records",
            RunOutcome::Failed | RunOutcome::Paused => "what was read so far",
        };
        let line = format!("{} of {which} arrived.", share(rate));
        let line = if rate < 1.0 { paint.warn(&line) } else { paint.good(&line) };
        let _ = writeln!(text, "  {line}");
    }
    deletions(summary, paint, &mut text);
    rejects(summary, paint, &mut text);
    failing::unmatched(&summary.unmatched, paint, &mut text);
    failing::shared(summary.shared, &mut text);
    figures(summary, &mut text);
    text
}

fn heading(summary: &Summary, paint: Paint) -> String {
    let what = match summary.outcome {
        RunOutcome::Complete => "complete: every record arrived",
        RunOutcome::Incomplete if summary.rejects.count == 0 && summary.unmatched.is_empty() => {
            "done: every record arrived, but records stay that the source no longer has"
        }
        RunOutcome::Incomplete => "done, but not every record arrived",
        RunOutcome::Failed => "stopped before its end",
        RunOutcome::Paused => "paused before its end; it can be resumed",
    };
    let environment = summary.environment.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let resumes = match summary.resumes {
        0 => String::new(),
        1 => ", resumed once".to_owned(),
        times => format!(", resumed {times} times"),
    };
    let title = format!("{}{environment}: {what}", summary.migration);
    let title = match summary.outcome {
        RunOutcome::Complete => paint.good(&title),
        RunOutcome::Incomplete | RunOutcome::Paused => paint.warn(&title),
        RunOutcome::Failed => paint.bad(&title),
    };
    format!("{title}\n  run: {}{resumes}\n", summary.run)
}

fn row(name: &str, counts: &Counts) -> Vec<String> {
    let figures = [
        counts.read,
        counts.created,
        counts.updated,
        counts.unchanged,
        counts.skipped,
        counts.rejected,
        counts.filtered,
    ];
    let rate = counts.success_rate().map(share).unwrap_or_default();
    std::iter::once(name.to_owned()).chain(figures.map(count)).chain([rate]).collect()
}

/// What became of the records that the source no longer has.
fn deletions(summary: &Summary, paint: Paint, text: &mut String) {
    for (flow, deletions) in &summary.deletions {
        if let Some(reason) = &deletions.nothing {
            let _ = writeln!(text, "  {}", paint.warn(&format!("{flow}: nothing was deleted: {reason}.")));
            continue;
        }
        let deleted = count(deletions.deleted);
        let _ = writeln!(text, "  {flow}: {deleted} deleted that the source no longer has.");
        if deletions.left > 0 {
            let line = format!("{flow}: {} of those stay:", count(deletions.left));
            let _ = writeln!(text, "  {}", paint.warn(&line));
            deletions.first_left.iter().for_each(|one| {
                let _ = writeln!(text, "    {}", failing::cut(one));
            });
        }
    }
}

fn rejects(summary: &Summary, paint: Paint, text: &mut String) {
    let rejects = &summary.rejects;
    if rejects.count == 0 {
        return;
    }
    let due = summary.totals.read.saturating_sub(summary.totals.filtered).max(1);
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    let rate = rejects.count as f64 / due as f64;
    let warning = if rate > WARNED_REJECT_RATE {
        format!(", {} of all: more than a few are a warning", share(rate))
    } else {
        String::new()
    };
    let _ = writeln!(text, "\n  {}", paint.bad(&format!("{} rejected{warning}:", count(rejects.count))));
    for reason in rejects.reasons.iter().take(SHOWN_REASONS) {
        let _ = writeln!(
            text,
            "  {:>8}  {} ({}): {}",
            count(reason.count),
            reason.flow,
            reason.stage,
            failing::cut(&reason.reason)
        );
    }
    if rejects.reasons.len() > SHOWN_REASONS {
        let known: u64 = rejects.reasons.iter().take(SHOWN_REASONS).map(|reason| reason.count).sum();
        let _ = writeln!(text, "  {:>8}  for other reasons", count(rejects.count.saturating_sub(known)));
    }
    for (flow, first) in &rejects.first {
        let all = summary.flows.get(flow).map_or(0, |counts| counts.rejected);
        let shown = u64::try_from(first.len()).unwrap_or(u64::MAX);
        let which =
            if all > shown { format!(", the first {shown} of {}", count(all)) } else { String::new() };
        let _ = writeln!(text, "  {flow}{which}:");
        failing::list(first, first.len(), "    ", text);
    }
    if let Some(file) = &rejects.file {
        let _ = writeln!(text, "  Each is kept whole in {file}.");
    }
}

fn figures(summary: &Summary, text: &mut String) {
    let read = summary.totals.read;
    let _ = write!(
        text,
        "  {} in {}, {} of {} slices",
        bytes(summary.totals.bytes),
        seconds(summary.seconds),
        summary.slices_done,
        summary.slices
    );
    if summary.resumes == 0 && summary.seconds > 0.0 && read > 0 {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = read as f64 / summary.seconds;
        let _ = write!(text, ", {} records/s read", units(rate));
    }
    text.push('\n');
    cost::lines(summary.capacity, &summary.cost_usd, text);
    if summary.retries > 0 || summary.throttles > 0 {
        let _ = writeln!(
            text,
            "  {} requests sent again, {} throttled",
            count(summary.retries),
            count(summary.throttles)
        );
    }
}
