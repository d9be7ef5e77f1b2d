//! Whole runs over a store in memory whose faults are scripted, and the journal's own promises.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod document_store;
mod duplicates;
mod each;
mod journal;
mod ledger_store;
mod ledgers;
mod memory_store;
mod runs;
mod samples;
