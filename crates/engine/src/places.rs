//! The places of slices that are read at a time.
//!
//! A slice that is read to its end gives its place to the next one: what is left of it, to encode and to write its last
//! batches and to wait for the disk or for a commit, leaves the source without work. So up to half as many more slices are
//! under way as there are places: each takes memory.

use crate::error::{EngineError, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All places of a run.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    count: usize,
}

impl Places {
    /// `count` slices are read at a time, one at the least.
    pub(crate) fn new(count: usize) -> Self {
        let count = count.max(1);
        Self { free: Arc::new(Semaphore::new(count)), count }
    }

    /// How many slices may be under way at once, those included that are read to their end.
    pub(crate) fn slices(&self) -> usize {
        self.count.saturating_add(self.count.div_ceil(2))
    }

    /// A place, once one is free.
    ///
    /// # Errors
    /// None that should ever be seen.
    pub(crate) async fn take(&self) -> Result<Arc<Place>> {
        let place = Place { free: Arc::clone(&self.free), held: Mutex::default() };
        place.take().await?;
        Ok(Arc::new(place))
    }
}

/// A slice's place; free when it is dropped, or earlier.
pub struct Place {
    free: Arc<Semaphore>,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Place {
    /// Takes a place again, unless the slice has one: it is to be read anew from its checkpoint.
    pub(crate) async fn take(&self) -> Result<()> {
        if self.held().is_none() {
            let permit = Arc::clone(&self.free).acquire_owned().await;
            *self.held() =
                Some(permit.map_err(|_| EngineError::Internal("the slices' places were closed".to_owned()))?);
        }
        Ok(())
    }

    /// The slice is read to its end: another may be read.
    pub(crate) fn leave(&self) {
        self.held().take();
    }

    fn held(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn a_place_is_free_when_its_slice_is_read_or_gone() {
        let places = Places::new(2);
        let (first, second) = (places.take().await.unwrap(), places.take().await.unwrap());
        assert!(places.take().now_or_never().is_none());
        first.leave();
        let third = places.take().now_or_never().unwrap().unwrap();
        assert!(first.take().now_or_never().is_none(), "a slice that goes on needs a place again");
        drop(second);
        first.take().now_or_never().unwrap().unwrap();
        first.take().now_or_never().unwrap().unwrap();
        assert!(places.take().now_or_never().is_none());
        drop((first, third));
        assert_eq!(places.free.available_permits(), 2);
    }

    #[test]
    fn there_is_one_place_at_the_least() {
        assert_eq!(Places::new(0).slices(), 2);
    }
}
