//! Whole runs over a store in memory whose faults are scripted, and the journal's own promises.

mod journal;
mod memory_store;
mod runs;
