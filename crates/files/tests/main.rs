//! The store on a disk and in an object store in memory.

mod export;
mod reading;
mod support;
