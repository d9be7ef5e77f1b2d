//! The spec language: from YAML to what the engine takes.
//!
//! Text becomes a tree in which every key knows its line and column; the tree is checked against the language's
//! JSON Schema and then for what a schema cannot say; [`Spec`] is what passed, nothing asked of anybody yet.
//! [`resolve`] chooses an environment and flows, asks providers for the values that those need, and yields
//! [`Resolved`], plain data. Every mistake is one [`SpecError`] with its place and what to write instead.
//!
//! This crate opens no database and knows no provider but environment variables and files.

mod check;
mod coherence;
mod column_path;
mod defaults;
mod duration;
mod each;
pub mod elements;
mod error;
mod names;
mod node;
mod order;
pub mod provider;
mod redact;
mod resolve;
pub mod resolved;
mod schema;
mod span;
mod spec;
mod sql;
mod template;

pub use each::{EachPath, EachStep};
pub use error::{Position, Result, SpecError, SpecErrorKind};
pub use provider::{Creation, Found, Provider, ProviderError, Providers};
pub use redact::{Redactor, mask_url_passwords};
pub use resolve::{Choices, resolve};
pub use resolved::{CreatedValue, Resolved, ResolvedFlow, ResolvedStore};
pub use schema::json_schema;
pub use span::{SqlText, TextSpan, TextStyle};
pub use spec::{EnvironmentSummary, Spec, load, parse};
