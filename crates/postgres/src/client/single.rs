//! The one connection of a server that takes no more, and whose turn it is.

use super::{Purpose, Slot};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// How long one read may keep the connection from who waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The only connection, leased in turn.
#[derive(Default)]
pub(super) struct Single {
    slot: Arc<Mutex<Slot>>,
    /// The number of the latest lease, twice, and one more where it reads records. Written by who holds the slot.
    turn: AtomicU64,
}

impl Single {
    /// The connection, however long that takes.
    pub(super) async fn take(&self) -> OwnedMutexGuard<Slot> {
        Arc::clone(&self.slot).lock_owned().await
    }

    /// The connection, unless one and the same read keeps it all the while: whoever reads keeps it until all is read,
    /// and may itself wait for what the connection is wanted for. Those who write or look something up end by
    /// themselves, however slow the machine is.
    pub(super) async fn take_unless_read(&self) -> Option<OwnedMutexGuard<Slot>> {
        let taken = self.take();
        tokio::pin!(taken);
        loop {
            let turn = self.turn.load(Ordering::Relaxed);
            match tokio::time::timeout(PATIENCE, &mut taken).await {
                Ok(slot) => return Some(slot),
                Err(_) if turn % 2 == 1 && self.turn.load(Ordering::Relaxed) == turn => return None,
                Err(_) => {}
            }
        }
    }

    /// Says what the slot, which the caller holds, is now used for.
    pub(super) fn begin_turn(&self, purpose: Purpose) {
        let number = self.turn.load(Ordering::Relaxed) / 2 + 1;
        self.turn.store(number * 2 + u64::from(purpose == Purpose::Read), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn hold(single: &Single, purpose: Purpose, held: Duration) {
        let _slot = single.take().await;
        single.begin_turn(purpose);
        tokio::time::sleep(held).await;
    }

    /// Whether the connection is had by who asks for it a second later than all others.
    async fn is_had(single: &Single) -> bool {
        tokio::time::sleep(Duration::from_secs(1)).await;
        single.take_unless_read().await.is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn one_long_read_is_not_waited_for() {
        let single = Single::default();
        assert!(is_had(&single).await, "it is free");
        let (is_had, ()) = tokio::join!(is_had(&single), hold(&single, Purpose::Read, PATIENCE * 2));
        assert!(!is_had);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_writers_and_reads_that_end_are_waited_for() {
        for (purpose, held) in [
            (Purpose::Write, PATIENCE * 3),
            (Purpose::Catalog, PATIENCE * 3),
            (Purpose::Read, PATIENCE * 3 / 4),
        ] {
            let single = Single::default();
            let others = [hold(&single, purpose, held), hold(&single, purpose, held)];
            let (is_had, _) = tokio::join!(is_had(&single), futures::future::join_all(others));
            assert!(is_had, "{purpose:?}");
        }
    }
}
