//! What a report comes to: a sentence, an exit code, and what to do next.

use crate::figures::{count, share};
use crate::report::{DepthFacts, Outcome, Report, RunFacts, VerificationFacts};
use whimbrel_model::RunId;

impl Report {
    /// Fills in what follows from the rest: the sentence, the exit code, what to do next.
    pub fn conclude(&mut self) {
        let found = self.verification.as_ref();
        let different = found.is_some_and(|found| !found.equal);
        let sentences = self.run.as_ref().map(|run| of_run(self.outcome, run)).into_iter();
        let sentences: Vec<String> = sentences.chain(found.map(of_verification)).collect();
        self.sentence = sentences.join(" ");
        self.exit_code = exit_code(self.outcome, different);
        self.next = next(self, different);
    }
}

fn exit_code(outcome: Outcome, different: bool) -> Option<u8> {
    match outcome {
        Outcome::Complete | Outcome::Incomplete | Outcome::Equal | Outcome::Different if different => Some(4),
        Outcome::Complete | Outcome::Equal => Some(0),
        Outcome::Incomplete => Some(3),
        Outcome::Failed => Some(1),
        // Interrupted is 130, a limit 5; only the process itself knew which.
        Outcome::Paused
        | Outcome::Running
        | Outcome::Killed
        | Outcome::Abandoned
        | Outcome::Undone
        | Outcome::Undoing
        | Outcome::Different => None,
    }
}

fn of_run(outcome: Outcome, run: &RunFacts) -> String {
    let totals = &run.totals;
    let due = totals.read.saturating_sub(totals.filtered);
    let (arrived, all) = (count(totals.arrived()), count(due));
    let unmatched: u64 = run.unmatched.iter().map(|pattern| pattern.records).sum();
    let mut sentence = match outcome {
        Outcome::Complete if due == 0 => "There was no record to move.".to_owned(),
        Outcome::Complete if due == 1 => "The one record arrived.".to_owned(),
        Outcome::Complete => format!("Every record arrived: {arrived} of {all}."),
        Outcome::Incomplete => {
            let rate = run.success_rate.map(|rate| format!(" ({})", share(rate))).unwrap_or_default();
            let rejected = format!("{} {}", count(totals.rejected), was_or_were(totals.rejected));
            format!(
                "{arrived} of {all} records arrived{rate}; {rejected} rejected, each kept whole with its reason."
            )
        }
        Outcome::Failed => format!("The run stopped before its end, with {arrived} records arrived."),
        Outcome::Paused => format!("The run paused before its end, with {arrived} records arrived."),
        Outcome::Running => format!("The run is under way: {arrived} records have arrived so far."),
        Outcome::Killed => format!("The run's process ended without a word, with {arrived} records arrived."),
        Outcome::Abandoned => {
            format!("The run was set aside for a newer one, with {arrived} records arrived.")
        }
        Outcome::Undone => "The run was undone: the targets are as they were before it.".to_owned(),
        Outcome::Undoing => "The run is undone in part.".to_owned(),
        Outcome::Equal | Outcome::Different => String::new(),
    };
    sentence.push_str(&deletions(run));
    if unmatched > 0 {
        let records = if unmatched == 1 { "record belongs" } else { "records belong" };
        sentence.push_str(&format!(" {} {records} to no flow.", count(unmatched)));
    }
    if !run.balanced {
        sentence.push_str(" The counts of a flow do not add up: a mistake in whimbrel, please report it.");
    }
    sentence
}

/// What became of what the sources no longer have.
fn deletions(run: &RunFacts) -> String {
    let (mut deleted, mut left, mut nothing) = (0, 0, false);
    for deletions in run.flows.iter().filter_map(|flow| flow.deletions.as_ref()) {
        deleted += deletions.deleted;
        left += deletions.left;
        nothing |= deletions.nothing.is_some();
    }
    let records = |records: u64| match records {
        1 => "1 record that the sources no longer have".to_owned(),
        many => format!("{} records that the sources no longer have", count(many)),
    };
    let stay = if left == 1 { "stays" } else { "stay" };
    let mut said = match (deleted, left) {
        (0, 0) => String::new(),
        (0, left) => format!(" {} {stay}.", records(left)),
        (deleted, 0) => format!(" {} {} deleted.", records(deleted), was_or_were(deleted)),
        (deleted, left) => {
            format!(" {} {} deleted, {} {stay}.", records(deleted), was_or_were(deleted), count(left))
        }
    };
    if nothing {
        said.push_str(" Of a flow nothing was deleted that its source may no longer have.");
    }
    said
}

fn was_or_were(records: u64) -> &'static str {
    if records == 1 { "was" } else { "were" }
}

fn of_verification(found: &VerificationFacts) -> String {
    let compared = count(found.compared());
    let looked = match &found.depth {
        DepthFacts::Assertions => String::new(),
        DepthFacts::Count => format!("the numbers of records were compared ({compared})"),
        DepthFacts::Sample { .. } => format!("{compared} records, chosen at random, were compared"),
        DepthFacts::All => format!("every record was compared ({compared})"),
    };
    let mut parts = Vec::new();
    if !looked.is_empty() {
        parts.push(match found.difference_count {
            0 => format!("{looked} and no difference found"),
            1 => format!("{looked} and 1 difference found"),
            many => format!("{looked} and {} differences found", count(many)),
        });
    }
    let all = found.assertions.len();
    match (found.failed_assertions(), all) {
        (_, 0) => {}
        (0, 1) => parts.push("the assertion holds".to_owned()),
        (0, all) => parts.push(format!("all {all} assertions hold")),
        (1, all) => parts.push(format!("1 of {all} assertions does not hold")),
        (failed, all) => parts.push(format!("{failed} of {all} assertions do not hold")),
    }
    match parts.is_empty() {
        true => "Nothing was verified.".to_owned(),
        false => format!("Verified: {}.", parts.join("; ")),
    }
}

fn next(report: &Report, different: bool) -> Vec<String> {
    let mut next = Vec::new();
    let run = report.run.as_ref().map(|run| RunId::new(run.id.as_str()));
    let run = run.as_ref().map(RunId::short).unwrap_or_default();
    match report.outcome {
        Outcome::Incomplete => {
            let facts = report.run.as_ref();
            if facts.is_some_and(|facts| facts.totals.rejected > 0) {
                next.push(format!(
                    "Fix what the reasons name, then `whimbrel retry {run}` replays the rejects."
                ));
            }
            if facts.is_some_and(|facts| !facts.unmatched.is_empty()) {
                let what = "Add a flow for the records that no flow takes, or write `unmatched: ignore` in the spec.";
                next.push(what.to_owned());
            }
        }
        Outcome::Failed | Outcome::Paused | Outcome::Killed => next.push(format!(
            "`whimbrel resume {run}` goes on where it stopped; nothing that arrived is read again."
        )),
        Outcome::Running => next.push(format!("`whimbrel status {run}` shows how far it is.")),
        Outcome::Complete if report.verification.is_none() => {
            next.push("`whimbrel verify SPEC` reads the target back and compares.".to_owned());
        }
        Outcome::Undoing => next.push(format!(
            "`whimbrel undo {run}` shows what is in the way of the rest; with --confirm it goes on."
        )),
        Outcome::Complete | Outcome::Abandoned | Outcome::Undone | Outcome::Equal | Outcome::Different => {}
    }
    if different {
        let what = "Look at the differences below: each names its record, and what source and target hold.";
        next.push(what.to_owned());
    }
    next
}
