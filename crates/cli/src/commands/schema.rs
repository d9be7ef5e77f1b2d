//! `whimbrel schema`

use super::Program;
use crate::console::Console;
use crate::failure::{Exit, Result};

/// Prints the JSON Schema of the spec.
///
/// # Errors
/// None.
pub fn schema(_: &Program) -> Result<Exit> {
    Console::output(&whimbrel_spec::json_schema());
    Ok(Exit::Done)
}
