//! PostgreSQL as a store, against real servers: an embedded one, and the one that
//! `WHIMBREL_TEST_POSTGRES_URL` names, where it is set (each test makes a database of its own there).

mod asked;
mod changed;
mod conformance;
mod epochs;
mod failures;
mod held;
mod late_keys;
mod server;
mod slices;
mod tables;
mod target;
mod target_plans;
mod target_tables;
mod tls;
mod types;
mod values;
mod wanted;
