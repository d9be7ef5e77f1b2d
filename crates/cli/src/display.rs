//! Progress: bars on a terminal, a line every few seconds elsewhere.

use crate::console::Console;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use whimbrel_engine::Progress;
use whimbrel_engine::progress::FlowSnapshot;
use whimbrel_model::{Counts, FlowName};
use whimbrel_report::figures::{count, seconds, share};
use whimbrel_store::Meter;

const REDRAW: Duration = Duration::from_millis(200);
/// Characters of a step that are shown.
const SHOWN_CHARACTERS: usize = 140;
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows a run until the token is cancelled.
pub async fn show(
    console: Console,
    title: String,
    progress: Arc<Progress>,
    meter: Arc<Meter>,
    stall_after: Duration,
    ended: CancellationToken,
) {
    let mut display = Display::new(console, title, stall_after);
    let mut ticks = tokio::time::interval(REDRAW);
    loop {
        tokio::select! {
            () = ended.cancelled() => break,
            _ = ticks.tick() => display.update(&progress, &meter),
        }
    }
    display.finish(&progress, &meter);
}

struct Display {
    console: Console,
    title: String,
    began: Instant,
    /// Records that earlier stretches of the run had accounted for.
    base: Option<u64>,
    bars: Option<Bars>,
    last_line: Instant,
    stall_after: Duration,
    last_change: (u64, Instant),
    stalled: bool,
    /// The steps that were said.
    steps: usize,
}

impl Display {
    fn new(console: Console, title: String, stall_after: Duration) -> Self {
        let now = Instant::now();
        let bars = (console.progress && console.live).then(Bars::new);
        Self {
            console,
            title,
            began: now,
            base: None,
            bars,
            last_line: now,
            stall_after,
            last_change: (0, now),
            stalled: false,
            steps: 0,
        }
    }

    /// Says each step once, when the run comes to it.
    fn say_steps(&mut self, progress: &Progress) {
        if !self.console.progress {
            return;
        }
        for step in progress.steps_after(self.steps) {
            self.steps += 1;
            let mut shown: String = step.replace('\n', " ").chars().take(SHOWN_CHARACTERS).collect();
            if shown.len() < step.len() {
                shown.push('…');
            }
            let line = self.console.paint().step(&format!("Step {}: {shown}", self.steps));
            match &self.bars {
                Some(bars) => bars.say(&line),
                None => self.console.say(line),
            }
        }
    }

    fn update(&mut self, progress: &Progress, meter: &Meter) {
        self.say_steps(progress);
        let flows = progress.snapshot();
        if flows.is_empty() {
            return;
        }
        let done: u64 = flows.iter().map(|flow| flow.counts.read).sum();
        let base = *self.base.get_or_insert(done);
        self.watch(done);
        let expected = progress.expected_records();
        let line = self.line(&flows, done, base, expected, meter);
        match &mut self.bars {
            Some(bars) => bars.draw(&flows, done, expected, &line),
            None if self.console.progress && self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                self.console.say(format!("{}: {line}", self.title));
            }
            None => {}
        }
    }

    /// Says once when nothing has moved for too long.
    fn watch(&mut self, done: u64) {
        if done != self.last_change.0 {
            self.last_change = (done, Instant::now());
            self.stalled = false;
        } else if !self.stalled && self.last_change.1.elapsed() >= self.stall_after {
            self.stalled = true;
            let text = format!("no progress for {}", seconds(self.stall_after.as_secs_f64()));
            tracing::warn!("{text}");
            self.console.say(format!("warning: {}: {text}", self.title));
        }
    }

    fn line(
        &self,
        flows: &[FlowSnapshot],
        done: u64,
        base: u64,
        expected: Option<u64>,
        meter: &Meter,
    ) -> String {
        let rejected: u64 = flows.iter().map(|flow| flow.counts.rejected).sum();
        let elapsed = self.began.elapsed().as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = (done - base) as f64 / elapsed.max(0.001);
        let mut line = count(done);
        if let Some(expected) = expected.map(|expected| expected.max(done)).filter(|expected| *expected > 0) {
            #[expect(clippy::cast_precision_loss, reason = "a share for people")]
            let (part, left) = (done as f64 / expected as f64, (expected - done) as f64);
            line = format!("{line} of {} records ({})", count(expected), share(part));
            if rate > 0.0 && left > 0.0 {
                line = format!("{line}, about {} left", seconds(left / rate));
            }
        }
        line = format!("{line}, {}/s", whimbrel_report::figures::units(rate));
        if rejected > 0 {
            line = format!("{line}, {} rejected", count(rejected));
        }
        if meter.retries() > 0 {
            line = format!("{line}, {} requests sent again", count(meter.retries()));
        }
        if meter.throttles() > 0 {
            line = format!("{line}, throttled {} times", count(meter.throttles()));
        }
        line
    }

    fn finish(mut self, progress: &Progress, meter: &Meter) {
        self.update(progress, meter);
        if let Some(bars) = self.bars.take() {
            bars.clear();
        }
    }
}

/// The bars: one in all, and one for each flow that moves.
struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    flows: BTreeMap<FlowName, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let total = all.add(ProgressBar::new(0).with_style(style("{prefix:24!} {bar:30.cyan} {msg}")));
        total.set_prefix("total");
        Self { all, total, flows: BTreeMap::new() }
    }

    /// Says a line above the bars.
    fn say(&self, line: &str) {
        // A display that cannot be written to has nobody looking at it.
        let _ = self.all.println(line);
    }

    fn draw(&mut self, flows: &[FlowSnapshot], done: u64, expected: Option<u64>, line: &str) {
        self.total.set_length(expected.unwrap_or(0).max(done));
        self.total.set_position(done);
        self.total.set_message(line.to_owned());
        for flow in flows.iter().filter(|flow| flow.counts != Counts::default()) {
            let (all, total) = (&self.all, &self.total);
            let bar = self.flows.entry(flow.flow.clone()).or_insert_with(|| {
                let bar = ProgressBar::new(0).with_style(style(match flow.estimate {
                    Some(_) => "{prefix:24!} {bar:30.green} {human_pos} of {human_len}{msg}",
                    // How a scan's records divide among its flows is only known in the end: the bar is their share.
                    None => "{prefix:24!} {bar:30.green} {human_pos}{msg}",
                }));
                bar.set_prefix(flow.flow.to_string());
                all.insert_before(total, bar)
            });
            bar.set_length(flow.estimate.or(expected).unwrap_or(0).max(flow.counts.read));
            bar.set_position(flow.counts.read);
            if flow.counts.rejected > 0 {
                bar.set_message(format!(", {} rejected", count(flow.counts.rejected)));
            }
        }
    }

    fn clear(self) {
        // A display that cannot be cleared has nobody looking at it.
        let _ = self.all.clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
