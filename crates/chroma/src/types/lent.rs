//! Memory of embeddings that were handed on in batches, to be used again: to take it from the system anew for each batch
//! costs more than to fill it.

use arrow::buffer::{Buffer, ScalarBuffer};
use std::sync::{Arc, Mutex, PoisonError};

/// How many batches' memory is kept track of: more are not on their way at a time.
const MOST: usize = 32;

/// Memory that all who read a collection share.
#[derive(Clone, Default)]
pub(crate) struct Lent(Arc<Mutex<Vec<Buffer>>>);

impl Lent {
    /// Floats as a batch holds them. Once nobody holds them any longer, their memory is there for another batch.
    pub(super) fn lend(&self, floats: Vec<f32>) -> ScalarBuffer<f32> {
        let floats = ScalarBuffer::from(floats);
        let mut lent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lent.len() < MOST {
            lent.push(floats.inner().clone());
        }
        floats
    }

    /// Room for a batch like the one before, of so many floats: memory that is free again, or new.
    pub(super) fn room_for(&self, floats: usize) -> Vec<f32> {
        let mut lent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else can come to hold what only this list holds.
        let free = lent.iter().position(|buffer| buffer.strong_count() == 1);
        if let Some(Ok(mut room)) = free.map(|at| lent.swap_remove(at).into_vec::<f32>()) {
            room.clear();
            return room;
        }
        // To grow step by step would copy what is there several times.
        Vec::with_capacity(floats + floats / 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_once_nobody_holds_it() {
        let lent = Lent::default();
        let floats = vec![1.0, 2.0, 3.0];
        let address = floats.as_ptr();
        let batch = lent.lend(floats);
        let other = batch.clone();
        drop(batch);
        let room = lent.room_for(3);
        assert_ne!(room.as_ptr(), address);
        assert_eq!(other[..], [1.0, 2.0, 3.0]);
        drop(other);
        let room = lent.room_for(100);
        assert_eq!((room.as_ptr(), room.len()), (address, 0));
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let lent = Lent::default();
        let batches: Vec<_> = (0..MOST + 2).map(|_| lent.lend(vec![0.5])).collect();
        drop(batches);
        let rooms: Vec<_> = (0..MOST + 2).map(|_| lent.room_for(0)).collect();
        assert_eq!(rooms.iter().filter(|room| room.capacity() > 0).count(), MOST);
    }
}
