//! The store on a disk, in an object store in memory, and in the one that the environment names.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod export;
mod growing;
mod nested;
mod reading;
mod support;
mod writing;
