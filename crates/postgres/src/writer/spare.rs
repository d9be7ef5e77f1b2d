//! Memory of batches that were written, for those that follow: a batch's rows take about a megabyte, and to get it
//! from the system anew each time costs more than to fill it.

use bytes::BytesMut;
use std::sync::{Mutex, PoisonError};

/// How many batches' memory is kept, and how much of one.
const KEPT: usize = 4;
const MOST_BYTES: usize = 4 << 20;

/// Memory that all writers of a target share.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    kept: Mutex<Vec<BytesMut>>,
}

impl Spare {
    /// Some that was used before, or none.
    pub(super) fn take(&self) -> BytesMut {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps some, unless there is enough.
    pub(super) fn give(&self, memory: BytesMut) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT && memory.capacity() <= MOST_BYTES {
            kept.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, MOST_BYTES, Spare};
    use bytes::BytesMut;

    #[test]
    fn no_more_is_kept_than_may_be() {
        let spare = Spare::default();
        spare.give(BytesMut::with_capacity(MOST_BYTES + 1));
        assert_eq!(spare.take().capacity(), 0);
        (0..KEPT + 2).for_each(|_| spare.give(BytesMut::with_capacity(1_000)));
        assert_eq!((0..KEPT + 2).filter(|_| spare.take().capacity() >= 1_000).count(), KEPT);
    }
}
