//! What a run costs, as a plan and a summary show it.

use crate::figures::{share, units, usd};
use std::fmt::Write;
use whimbrel_engine::costs::Cost;
use whimbrel_model::Capacity;

/// Why more may have been used.
const AT_LEAST: &str = "    a process of this run was killed: what was on its way then, at most a batch of each slice under way, is not \
                        counted\n";

/// Units and dollars; nothing where no metered store is used.
pub fn lines(capacity: Capacity, cost: &Cost, text: &mut String) {
    let all = capacity.write_units + capacity.spared_write_units;
    if all <= 0.0 && capacity.read_units <= 0.0 {
        return;
    }
    let spared = match capacity.spared_write_units {
        spared if spared > 0.0 => format!(" ({} spared)", units(spared)),
        _ => String::new(),
    };
    let at_least = if cost.at_least { "at least " } else { "" };
    let _ = writeln!(
        text,
        "  {at_least}{} write units{spared}, {} read units: {at_least}{} on AWS ({})",
        units(capacity.write_units),
        units(capacity.read_units),
        usd(cost.actual),
        cost.prices
    );
    if cost.at_least {
        text.push_str(AT_LEAST);
    }
    let saved = cost.saved();
    if capacity.spared_write_units <= 0.0 && saved.abs() < 1e-9 {
        return;
    }
    let _ = writeln!(text, "  Cost optimization:");
    let _ = writeln!(text, "    Potential cost (all writes): {}", usd(cost.all));
    let _ = writeln!(text, "    Actual cost (changed only):  {}", usd(cost.actual));
    let savings = match cost.saved_share() {
        _ if saved < 0.0 => format!("none: looking cost {} more than it saved", usd(-saved)),
        Some(part) => format!("{} ({})", usd(saved), share(part)),
        None => usd(saved),
    };
    let _ = writeln!(text, "    Savings:                     {savings}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(capacity: Capacity, all: f64, actual: f64) -> String {
        let mut text = String::new();
        lines(
            capacity,
            &Cost { all, actual, prices: "us-east-1 on demand, November 2024".to_owned(), at_least: false },
            &mut text,
        );
        text
    }

    #[test]
    fn savings_are_shown_where_there_are_any() {
        let capacity = Capacity { read_units: 200.0, write_units: 57.0, spared_write_units: 143.0 };
        insta::assert_snapshot!(shown(capacity, 0.25, 0.0713), @"
          57 write units (143 spared), 200 read units: $0.0713 on AWS (us-east-1 on demand, November 2024)
          Cost optimization:
            Potential cost (all writes): $0.2500
            Actual cost (changed only):  $0.0713
            Savings:                     $0.1787 (71.5 %)
        ");
        let first = Capacity { read_units: 50.0, write_units: 100.0, ..Capacity::default() };
        insta::assert_snapshot!(shown(first, 0.1, 0.15), @"
          100 write units, 50 read units: $0.1500 on AWS (us-east-1 on demand, November 2024)
          Cost optimization:
            Potential cost (all writes): $0.1000
            Actual cost (changed only):  $0.1500
            Savings:                     none: looking cost $0.0500 more than it saved
        ");
        let plain = Capacity { write_units: 100.0, ..Capacity::default() };
        assert_eq!(shown(plain, 0.1, 0.1).lines().count(), 1);
        assert_eq!(shown(Capacity::default(), 0.0, 0.0), "");
    }

    #[test]
    fn what_a_killed_run_used_is_told_as_at_least() {
        let mut text = String::new();
        let cost = Cost { all: 0.1, actual: 0.1, prices: "as given".to_owned(), at_least: true };
        lines(Capacity { write_units: 100.0, ..Capacity::default() }, &cost, &mut text);
        insta::assert_snapshot!(text, @"
          at least 100 write units, 0 read units: at least $0.1000 on AWS (as given)
            a process of this run was killed: what was on its way then, at most a batch of each slice under way, is not counted
        ");
    }
}
