//! Queries over stores in memory: what is asked of a store, and what becomes of its answers.

mod answers;
mod memory;
mod refusals;
