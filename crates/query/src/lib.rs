//! SQL over the stores of a spec, for people and for assertions: each store is a schema, its tables are found by
//! name when a query names them, and nothing is ever written.
//!
//! [`Query`] is the text, parsed: it knows which stores it names, so that only those need to be opened.
//! [`Session`] answers it. `docs/query.md` says what a user may expect.

mod binding;
mod condition;
mod error;
mod names;
mod numbers;
mod rows;
mod scan;
mod session;
mod statement;
mod table;
mod whole;

pub use binding::Bindings;
pub use error::{QueryError, Result};
pub use numbers::{Numbers, OPEN_SCALE};
pub use rows::{json_row, text_of};
pub use session::{Answer, Declared, Session, Settings, TableColumns, declared};
pub use statement::Query;
