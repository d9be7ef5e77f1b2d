//! Charts as inline SVG. Shapes stretch to the width that there is; words stand beside them as text of the page, so
//! that they are as large on a phone as elsewhere.

use super::markup::{name, text, value};
use crate::figures::{count, float, seconds, units};
use crate::report::{FlowFacts, RejectFacts, RunFacts, Throughput};
use crate::throughput::{Course, courses};
use crate::wording;
use std::fmt::Write;

/// The inner width of a chart.
const WIDTH: f64 = 1_000.0;
/// The inner height of the chart of rates.
const HEIGHT: f64 = 220.0;
/// The inner width of a pause.
const PAUSE_WIDTH: f64 = 18.0;
/// The least width of a part of a bar: what is there is seen.
const LEAST_PART: f64 = 6.0;

/// Records a second over time; a sentence where the run was too short.
pub fn throughput(throughput: &Throughput, page: &mut String) {
    let courses = courses(throughput);
    let Some(sentence) = wording::speed(throughput).filter(|_| !courses.is_empty()) else {
        page.push_str("<p class=\"quiet\">The run was too short for a curve.</p>\n");
        return;
    };
    let peak = courses.iter().flat_map(|course| &course.rates).copied().fold(0.0, f64::max);
    let top = nice(peak);
    let _ = write!(
        page,
        "<figure><figcaption>{}</figcaption>\n<div class=\"plot\"><div class=\"axis\" aria-hidden=\"true\">\
         <span>{}/s</span><span>{}</span><span>0</span></div>\n",
        text(&sentence),
        units(top),
        half(top)
    );
    let _ = write!(
        page,
        "<svg class=\"curve\" role=\"img\" aria-labelledby=\"speed-t speed-d\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         preserveAspectRatio=\"none\"><title id=\"speed-t\">Throughput over time</title>\
         <desc id=\"speed-d\">{}</desc>",
        text(&sentence)
    );
    for line in [0.0, 0.5, 1.0] {
        let y = tenths(1.0 + line * (HEIGHT - 2.0));
        let _ = write!(page, "<path class=\"grid\" d=\"M0 {y}H{WIDTH}\"/>");
    }
    curves(&courses, top, page);
    page.push_str("</svg></div>\n");
    ends(throughput, page);
    page.push_str("</figure>\n");
}

fn curves(courses: &[Course], top: f64, page: &mut String) {
    let pauses = float(u64::try_from(courses.len().saturating_sub(1)).unwrap_or(0));
    let pause_width = PAUSE_WIDTH.min(WIDTH / 3.0 / pauses.max(1.0));
    let scale = (WIDTH - pauses * pause_width) / courses.iter().map(|course| course.seconds).sum::<f64>();
    let mut x = 0.0;
    for (number, course) in courses.iter().enumerate() {
        if number > 0 {
            let (from, wide) = (tenths(x), tenths(pause_width));
            let _ = write!(
                page,
                "<rect class=\"pause\" x=\"{from}\" y=\"0\" width=\"{wide}\" height=\"{HEIGHT}\"><title>a pause of {}</title></rect>",
                seconds(course.pause_seconds)
            );
            x += pause_width;
        }
        let wide = course.seconds * scale;
        let step = wide / float(u64::try_from(course.rates.len()).unwrap_or(1)).max(1.0);
        let line = line(&course.rates, x, step, top);
        let (from, until) = (tenths(x), tenths(x + wide));
        let _ = write!(page, "<path class=\"area\" d=\"M{from} {HEIGHT}L{line}L{until} {HEIGHT}Z\"/>");
        let _ = write!(page, "<path class=\"line\" d=\"M{line}\"/>");
        x += wide;
    }
}

/// Through the middle of each interval, level at both ends.
fn line(rates: &[f64], from: f64, step: f64, top: f64) -> String {
    let y = |rate: f64| tenths(HEIGHT - 1.0 - (rate / top).clamp(0.0, 1.0) * (HEIGHT - 2.0));
    let mut points = Vec::with_capacity(rates.len() + 2);
    let mut x = from;
    if let Some(first) = rates.first() {
        points.push(format!("{} {}", tenths(x), y(*first)));
    }
    for rate in rates {
        points.push(format!("{} {}", tenths(x + step / 2.0), y(*rate)));
        x += step;
    }
    if let Some(last) = rates.last() {
        points.push(format!("{} {}", tenths(x), y(*last)));
    }
    points.join("L")
}

fn ends(throughput: &Throughput, page: &mut String) {
    let (Some(first), Some(last)) = (throughput.stretches.first(), throughput.stretches.last()) else {
        return;
    };
    let same_day = first.began.get(..10) == last.ended.get(..10);
    let shown = |moment: &str| {
        let moment = wording::moment(moment);
        if same_day { moment.get(11..).unwrap_or(&moment).to_owned() } else { moment }
    };
    let _ = writeln!(
        page,
        "<div class=\"ends\" aria-hidden=\"true\"><span>{}</span><span>{}</span></div>",
        text(&shown(&first.began)),
        text(&shown(&last.ended))
    );
}

/// What became of each flow's records: a bar of equal length for each, in parts.
pub fn flows(run: &RunFacts, page: &mut String) {
    let seen = |name: &str| wording::parts(&run.totals).iter().any(|(part, n)| *part == name && *n > 0);
    page.push_str(
        "<figure><figcaption>What became of each flow’s records</figcaption>\n<ul class=\"legend\">",
    );
    for (name, _) in wording::parts(&run.totals).iter().filter(|(name, _)| seen(name)) {
        let _ = write!(page, "<li><span class=\"key {name}\"></span>{name}</li>");
    }
    page.push_str("</ul>\n<ol class=\"bars\">\n");
    for (number, flow) in run.flows.iter().enumerate() {
        let _ = write!(
            page,
            "<li><div class=\"row\"><span class=\"name\">{}</span><span class=\"figure\">{}</span></div>",
            name(&flow.name),
            arrived(flow)
        );
        bar(flow, number, page);
        page.push_str("</li>\n");
    }
    page.push_str("</ol></figure>\n");
}

fn arrived(flow: &FlowFacts) -> String {
    let due = flow.counts.read.saturating_sub(flow.counts.filtered);
    format!("{} of {} arrived", count(flow.counts.arrived()), count(due))
}

fn bar(flow: &FlowFacts, number: usize, page: &mut String) {
    let parts = wording::parts(&flow.counts);
    let _ = write!(
        page,
        "<svg class=\"bar\" role=\"img\" aria-labelledby=\"flow-{number}-t flow-{number}-d\" viewBox=\"0 0 {WIDTH} 10\" \
         preserveAspectRatio=\"none\"><title id=\"flow-{number}-t\">{}</title><desc id=\"flow-{number}-d\">{}</desc>",
        text(&flow.name),
        text(&wording::equation(&flow.counts))
    );
    let _ = write!(page, "<rect class=\"track\" width=\"{WIDTH}\" height=\"10\"/>");
    let widths = widths(&parts.map(|(_, records)| records));
    let mut x = 0.0;
    for ((part, records), wide) in parts.iter().zip(widths) {
        if *records > 0 {
            let _ = write!(
                page,
                "<rect class=\"{part}\" x=\"{}\" width=\"{}\" height=\"10\"><title>{} {part}</title></rect>",
                tenths(x),
                tenths(wide),
                count(*records)
            );
        }
        x += wide;
    }
    page.push_str("</svg>");
}

/// Widths in proportion, none that is there narrower than can be seen.
fn widths(records: &[u64]) -> Vec<f64> {
    let all: u64 = records.iter().sum();
    if all == 0 {
        return vec![0.0; records.len()];
    }
    let wide = |records: &u64| {
        let wide = float(*records) / float(all) * WIDTH;
        if *records > 0 { wide.max(LEAST_PART) } else { 0.0 }
    };
    let widths: Vec<f64> = records.iter().map(wide).collect();
    let sum: f64 = widths.iter().sum();
    widths.into_iter().map(|wide| wide * WIDTH / sum).collect()
}

/// How many records each reason cost, the most frequent as long as the page is wide.
pub fn reasons(rejects: &RejectFacts, page: &mut String) {
    let most = rejects.reasons.iter().map(|reason| reason.count).max().unwrap_or(0).max(1);
    page.push_str("<figure><figcaption>Rejects by reason</figcaption>\n<ol class=\"bars\">\n");
    for (number, reason) in rejects.reasons.iter().enumerate() {
        let wide = (float(reason.count) / float(most) * WIDTH).max(LEAST_PART);
        let _ = writeln!(
            page,
            "<li><div class=\"row\"><span class=\"name\">{} <span class=\"quiet\">{}, {}</span></span><span class=\"figure\">{count}</span></div>\
             <svg class=\"bar thin\" role=\"img\" aria-labelledby=\"why-{number}-t\" viewBox=\"0 0 {WIDTH} 10\" preserveAspectRatio=\"none\">\
             <title id=\"why-{number}-t\">{}: {count}</title><rect class=\"track\" width=\"{WIDTH}\" height=\"10\"/>\
             <rect class=\"rejected\" width=\"{}\" height=\"10\"/></svg></li>",
            value(&reason.reason),
            name(&reason.flow),
            reason.stage,
            text(&reason.reason),
            tenths(wide),
            count = count(reason.count),
        );
    }
    page.push_str("</ol>\n");
    if rejects.other > 0 {
        let _ = writeln!(page, "<p class=\"quiet\">{} more for other reasons.</p>", count(rejects.other));
    }
    page.push_str("</figure>\n");
}

/// The next round figure.
fn nice(value: f64) -> f64 {
    if value <= 1.0 {
        return 1.0;
    }
    let decade = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0];
    steps.iter().map(|step| step * decade).find(|step| *step >= value).unwrap_or(10.0 * decade)
}

fn half(top: f64) -> String {
    if top < 2.0 { String::new() } else { units(top / 2.0) }
}

/// A coordinate with one digit behind the point, and none where it is whole.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_in_round_figures() {
        assert_eq!([nice(0.0), nice(7.1), nice(100.0), nice(1_234.0)], [1.0, 8.0, 100.0, 1_500.0]);
    }

    #[test]
    fn one_record_of_a_million_is_seen_and_the_bar_is_full() {
        let found = widths(&[1_000_000, 0, 1]);
        assert!(found[2] > 5.0 && found[1] == 0.0);
        assert!((found.iter().sum::<f64>() - WIDTH).abs() < 0.001);
        assert_eq!(widths(&[0, 0]), [0.0, 0.0]);
    }
}
