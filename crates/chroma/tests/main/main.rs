//! The store against directories that chromadb itself has written.

mod conformance;
mod fixture;
mod truth;
