//! The SQLite store against SQLite itself, on files in temporary folders.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod conformance;
mod files;
mod fixture;
mod held;
mod ledger;
mod moments;
mod round_trips;
mod slices;
mod snapshots;
mod target;
mod values;
