//! A verification as text.

use crate::figures::count;
use crate::paint::Paint;
use crate::table::table;
use whimbrel_verify::{Outcome, Verification};

/// The verification for a terminal.
#[must_use]
pub fn verification(verification: &Verification, paint: Paint) -> String {
    let head = match verification.outcome {
        Outcome::Equal => {
            paint.good("verify: the numbers of records are equal (a count does not compare contents)")
        }
        Outcome::Different => paint.bad("verify: the numbers of records differ"),
    };
    let rows: Vec<Vec<String>> = verification
        .flows
        .iter()
        .map(|(flow, found)| {
            let figures = [found.compared, found.missing, found.extra, found.different];
            std::iter::once(flow.to_string()).chain(figures.map(count)).collect()
        })
        .collect();
    let heads = ["flow", "compared", "missing", "extra", "different"];
    format!("{head}\n\n{}", table(&heads, &rows, &["different"]))
}
