//! The counts of a flow, and the equation that they must satisfy.

use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// What became of the records that reached a flow.
///
/// `read = created + updated + unchanged + skipped + rejected + filtered` holds for every slice, flow and
/// run, or the run has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records that reached the flow, after `where` and `each`.
    pub read: u64,
    /// Records that the target did not hold and now holds.
    pub created: u64,
    /// Records that the target held with other content and now holds with ours.
    pub updated: u64,
    /// Records that the target held with the same content; nothing was written.
    pub unchanged: u64,
    /// Records whose key the target held already, left as they were (`skip_existing`).
    pub skipped: u64,
    /// Records that did not arrive, each kept whole with its reason.
    pub rejected: u64,
    /// Records that the flow's own transform dropped.
    pub filtered: u64,
    /// Bytes that the target received, in the target's own measure.
    pub bytes: u64,
}

impl Counts {
    /// Every record that is accounted for.
    #[must_use]
    pub fn accounted(&self) -> u64 {
        self.arrived() + self.rejected + self.filtered
    }

    /// Records that the target holds after the run.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.created + self.updated + self.unchanged + self.skipped
    }

    /// Whether the count equation holds.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.read == self.accounted()
    }

    /// Arrived records as a share of those that should arrive; `None` where there were none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a share for people, not a count")]
    pub fn success_rate(&self) -> Option<f64> {
        let due = self.read.checked_sub(self.filtered).filter(|due| *due > 0)?;
        Some(self.arrived() as f64 / due as f64)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.read += other.read;
        self.created += other.created;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.skipped += other.skipped;
        self.rejected += other.rejected;
        self.filtered += other.filtered;
        self.bytes += other.bytes;
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        let mut total = Self::default();
        iter.for_each(|counts| total += counts);
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_equation_fails_when_one_record_is_missing() {
        let mut counts = Counts {
            read: 6,
            created: 1,
            updated: 1,
            unchanged: 1,
            skipped: 1,
            rejected: 1,
            filtered: 1,
            bytes: 9,
        };
        assert!(counts.balanced());
        counts.read += 1;
        assert!(!counts.balanced());
    }

    #[test]
    fn filtered_records_do_not_lower_the_success_rate() {
        let counts = Counts { read: 10, created: 4, filtered: 5, rejected: 1, ..Counts::default() };
        assert_eq!(counts.success_rate(), Some(0.8));
        assert_eq!(Counts::default().success_rate(), None);
    }
}
