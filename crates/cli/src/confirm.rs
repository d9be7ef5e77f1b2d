//! Destructive acts are confirmed: in a protected environment by its name.

use crate::failure::Result;
use whimbrel_engine::EngineError;
use whimbrel_spec::Resolved;

/// Refuses an act that destroys or takes over something, unless `--confirm` allows it. In an environment that is
/// marked `protected` its name must stand behind `--confirm`; elsewhere a name that stands there must be the right one.
///
/// # Errors
/// The act is not confirmed, or under another name.
pub fn confirmed(resolved: &Resolved, act: &str, given: Option<&str>) -> Result<()> {
    let environment = resolved.environment.as_deref();
    let name = environment.unwrap_or(&resolved.migration);
    let what = match environment {
        Some(environment) if resolved.protected => format!("the protected environment `{environment}`"),
        Some(environment) => format!("environment `{environment}`"),
        None => format!("migration `{}`", resolved.migration),
    };
    let typed = match given {
        Some("") if !resolved.protected => return Ok(()),
        Some(typed) if typed == name => return Ok(()),
        Some("") | None => String::new(),
        Some(typed) => format!(", and not with `{typed}`"),
    };
    let flag = if resolved.protected || !typed.is_empty() {
        format!("--confirm {name}")
    } else {
        "--confirm".to_owned()
    };
    let message = format!("{act} in {what} has to be confirmed{typed}");
    Err(EngineError::refused(message, format!("if that is meant, add `{flag}`")).into())
}
