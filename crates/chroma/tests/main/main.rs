//! The store against directories that chromadb itself has written, and against servers.

mod conformance;
mod damage;
mod fixture;
mod served;
mod server;
mod truth;
