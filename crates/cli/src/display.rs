//! Progress: bars and one status line on a terminal, a line every few seconds elsewhere; and warnings in both.

use crate::console::Console;
use crate::disk;
use crate::status::{self, Status};
use crate::warnings::{Notice, Seen, Warnings};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use whimbrel_engine::activity::Doing;
use whimbrel_engine::progress::FlowSnapshot;
use whimbrel_engine::{Progress, memory};
use whimbrel_model::{Counts, FlowName};
use whimbrel_report::figures::count;
use whimbrel_store::Meter;

const REDRAW: Duration = Duration::from_millis(200);
/// Disk and memory need not be looked at with each drawing.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Characters of a step that are shown.
const SHOWN_CHARACTERS: usize = 140;
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How many drawings are looked back at for what the run mostly waits for: 3 seconds.
const REMEMBERED: usize = 15;
/// A plea for patience is worth a word for so long.
const THROTTLED_FOR: Duration = Duration::from_secs(5);
/// Columns of a line that no terminal limits.
const UNLIMITED: usize = 1_000;

/// What is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What the lines begin with.
    pub title: String,
    /// The run.
    pub progress: Arc<Progress>,
    /// Its stores.
    pub meter: Arc<Meter>,
    /// The journal's folder, whose disk must not be full.
    pub journal: PathBuf,
    /// After how long without progress that is said.
    pub stall_after: Duration,
}

/// Shows a run until the token is cancelled.
pub async fn show(console: Console, watched: Watched, ended: CancellationToken) {
    let mut display = Display::new(console, watched);
    let mut ticks = tokio::time::interval(REDRAW);
    loop {
        tokio::select! {
            () = ended.cancelled() => break,
            _ = ticks.tick() => display.update(Instant::now()),
        }
    }
    display.finish();
}

struct Display {
    console: Console,
    watched: Watched,
    began: Instant,
    bars: Option<Bars>,
    last_line: Instant,
    last_look: Option<Instant>,
    warnings: Warnings,
    waits: Waits,
    /// Pleas for patience, and when there was one more.
    throttled: (u64, Option<Instant>),
    /// The steps that were said.
    steps: usize,
}

impl Display {
    fn new(console: Console, watched: Watched) -> Self {
        let now = Instant::now();
        Self {
            console,
            began: now,
            bars: (console.progress && console.live).then(Bars::new),
            last_line: now,
            last_look: None,
            warnings: Warnings::new(watched.stall_after),
            waits: Waits::default(),
            throttled: (0, None),
            steps: 0,
            watched,
        }
    }

    fn update(&mut self, now: Instant) {
        self.say_steps();
        let slices = self.watched.progress.activity().slices(now);
        self.waits
            .look(slices.iter().filter_map(|slice| slice.doing.clone()).map(|(doing, _)| doing).collect());
        let flows = self.watched.progress.snapshot();
        let throttles = self.watched.meter.throttles();
        if throttles > self.throttled.0 {
            self.throttled = (throttles, Some(now));
        }
        if self.last_look.is_none_or(|last| now.saturating_duration_since(last) >= LOOK_EVERY) {
            self.last_look = Some(now);
            self.warn(now, &flows);
        }
        if flows.is_empty() {
            return;
        }
        let status = self.status(now, &flows);
        match &mut self.bars {
            Some(bars) => bars.draw(&flows, &status),
            None if self.console.progress && now.saturating_duration_since(self.last_line) >= LINE_EVERY => {
                self.last_line = now;
                self.console.say(format!("{}: {}", self.watched.title, status.line(UNLIMITED)));
            }
            None => {}
        }
    }

    fn status(&self, now: Instant, flows: &[FlowSnapshot]) -> Status {
        let Watched { progress, meter, .. } = &self.watched;
        let (rate, left) = progress.pace(now);
        let throttled = |at: Instant| now.saturating_duration_since(at) < THROTTLED_FOR;
        Status {
            extent: progress.extent(),
            read: flows.iter().map(|flow| flow.counts.read).sum(),
            rate,
            left,
            slices: progress.slices(),
            oldest: progress.activity().slices(now).into_iter().next(),
            waits_for: self.waits.mostly(),
            throttled: self.throttled.1.is_some_and(throttled),
            rejected: flows.iter().map(|flow| flow.counts.rejected).sum(),
            retries: meter.retries(),
            throttles: meter.throttles(),
            step: meter.step(),
        }
    }

    /// Says each step once, when the run comes to it.
    fn say_steps(&mut self) {
        if !self.console.progress {
            return;
        }
        for step in self.watched.progress.steps_after(self.steps) {
            self.steps += 1;
            let line = self.console.paint().step(&format!("Step {}: {}", self.steps, one_line(&step)));
            self.say(&line);
        }
    }

    /// Says what has become wrong, and what is well again.
    fn warn(&mut self, now: Instant, flows: &[FlowSnapshot]) {
        let Watched { progress, meter, journal, .. } = &self.watched;
        let waits_for = progress.activity().longest(now).map(|(doing, _)| status::waits_for(&doing, false));
        let step = || progress.steps_after(0).last().map(|step| format!("at the step: {}", one_line(step)));
        let memory = progress.activity().budget().map(|budget| (memory::resident_bytes(), budget.expected));
        let seen = Seen {
            at: now.saturating_duration_since(self.began),
            idle: progress.idle(now),
            waits_for: waits_for.or_else(step),
            flows: flows.iter().map(|flow| (flow.flow.clone(), flow.counts)).collect(),
            answers: meter.answers(),
            throttles: meter.throttles(),
            memory,
            space: disk::space(journal),
        };
        for notice in self.warnings.watch(&seen) {
            match notice {
                Notice::Begins(text) => {
                    tracing::warn!("{text}");
                    self.say(&format!("warning: {}: {text}", self.watched.title));
                }
                Notice::Ends(text) => {
                    tracing::info!("a warning ends: {text}");
                    self.say(&format!("{}: warning over: {text}", self.watched.title));
                }
            }
        }
    }

    fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.say(line),
            None => self.console.say(line),
        }
    }

    fn finish(mut self) {
        self.last_look = None;
        self.update(Instant::now());
        if let Some(bars) = self.bars.take() {
            bars.clear();
        }
    }
}

fn one_line(step: &str) -> String {
    let mut shown: String = step.replace('\n', " ").chars().take(SHOWN_CHARACTERS).collect();
    if shown.len() < step.len() {
        shown.push('…');
    }
    shown
}

/// What the slices waited for at the last few looks.
#[derive(Debug, Default)]
struct Waits(VecDeque<Vec<Doing>>);

impl Waits {
    fn look(&mut self, doing: Vec<Doing>) {
        self.0.push_back(doing);
        while self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }

    /// What most of them did.
    fn mostly(&self) -> Option<Doing> {
        let mut seen: BTreeMap<&Doing, usize> = BTreeMap::new();
        for doing in self.0.iter().flatten() {
            *seen.entry(doing).or_default() += 1;
        }
        seen.into_iter().max_by_key(|(_, times)| *times).map(|(doing, _)| doing.clone())
    }
}

/// One line for each flow that moves, and one for the whole.
struct Bars {
    all: MultiProgress,
    status: ProgressBar,
    flows: BTreeMap<FlowName, ProgressBar>,
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let status = all.add(ProgressBar::new(0).with_style(style("{wide_msg}")));
        Self { all, status, flows: BTreeMap::new() }
    }

    /// Says a line above the bars.
    fn say(&self, line: &str) {
        // A display that cannot be written to has nobody looking at it.
        let _ = self.all.println(line);
    }

    fn draw(&mut self, flows: &[FlowSnapshot], status: &Status) {
        let columns = columns();
        self.status.set_message(status.line(columns));
        self.status.tick();
        for flow in flows.iter().filter(|flow| flow.counts != Counts::default()) {
            let (all, last) = (&self.all, &self.status);
            let bar = self.flows.entry(flow.flow.clone()).or_insert_with(|| {
                let bar = ProgressBar::new(0);
                bar.set_prefix(status::shown(flow.flow.as_str()));
                all.insert_before(last, bar)
            });
            bar.set_style(style(&template(columns)));
            bar.set_length(flow.estimate.or(status.extent.expected).unwrap_or(0).max(flow.counts.read));
            bar.set_position(flow.counts.read);
            bar.set_message(flow_message(flow));
        }
    }

    fn clear(self) {
        // A display that cannot be cleared has nobody looking at it.
        let _ = self.all.clear();
    }
}

/// How a flow's line looks in so many columns: name and bar give way first.
fn template(columns: usize) -> String {
    match columns {
        0..40 => "{prefix:10!} {wide_msg}".to_owned(),
        40..80 => "{prefix:14!} {bar:10.green} {wide_msg}".to_owned(),
        _ => "{prefix:24!} {bar:30.green} {wide_msg}".to_owned(),
    }
}

fn flow_message(flow: &FlowSnapshot) -> String {
    let read = count(flow.counts.read);
    let mut text = match flow.estimate {
        Some(estimate) => format!("{read} of {}", count(estimate.max(flow.counts.read))),
        // How a scan's records divide among its flows is only known in the end: the bar is their share.
        None => read,
    };
    if flow.counts.rejected > 0 {
        text.push_str(&format!(", {} rejected", count(flow.counts.rejected)));
    }
    text
}

/// The columns of the terminal on standard error.
fn columns() -> usize {
    let (_, columns) = console::Term::stderr().size();
    // The last column stays free: some terminals begin a new line there.
    usize::from(columns).saturating_sub(1).max(10)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_model::StoreName;

    #[test]
    fn what_is_mostly_waited_for_does_not_flicker() {
        let mut waits = Waits::default();
        let (app, main) = (Doing::Reading(StoreName::new("app")), Doing::Writing(StoreName::new("main")));
        assert_eq!(waits.mostly(), None);
        for _ in 0..10 {
            waits.look(vec![main.clone(), main.clone(), app.clone()]);
        }
        waits.look(vec![app.clone(), app.clone()]);
        assert_eq!(waits.mostly(), Some(main));
        for _ in 0..REMEMBERED {
            waits.look(vec![app.clone()]);
        }
        assert_eq!(waits.mostly(), Some(app));
    }

    #[test]
    fn every_width_has_a_line() {
        for columns in [10, 39, 40, 79, 80, 300] {
            assert!(ProgressStyle::with_template(&template(columns)).is_ok(), "{columns}");
        }
    }

    #[test]
    fn a_flow_says_what_it_read_and_rejected() {
        let counts = Counts { read: 1_200, created: 1_190, rejected: 10, ..Counts::default() };
        let flow = FlowSnapshot { flow: FlowName::new("users"), estimate: Some(5_000), counts };
        insta::assert_snapshot!(flow_message(&flow), @"1,200 of 5,000, 10 rejected");
        let counts = Counts { rejected: 0, ..counts };
        insta::assert_snapshot!(flow_message(&FlowSnapshot { estimate: None, counts, ..flow }), @"1,200");
    }
}
