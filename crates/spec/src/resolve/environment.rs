//! Which environment a command works in.

use crate::error::{Result, SpecError, SpecErrorKind};
use crate::names::suggest;
use crate::spec::Spec;

/// The chosen environment, or the default one; `None` where the spec has none.
pub(super) fn choose(spec: &Spec, chosen: Option<&str>) -> Result<Option<String>> {
    let environments = spec.environments();
    let names = || environments.iter().map(|environment| environment.name.as_str());
    let at = (!environments.is_empty()).then(|| spec.key_position(&["environments"]));
    match chosen {
        Some(name) if names().any(|known| known == name) => Ok(Some(name.to_owned())),
        Some(name) => {
            let message = format!("there is no environment `{name}`");
            let hint = match environments.is_empty() {
                true => "the spec has no environments; leave `--env` out".to_owned(),
                false => suggest(name, "environments", names()),
            };
            Err(SpecError::at(SpecErrorKind::Usage, at, message, hint))
        }
        None if environments.is_empty() => Ok(None),
        None => match environments.iter().find(|environment| environment.default) {
            Some(default) => Ok(Some(default.name.clone())),
            None => {
                let list = names().map(|name| format!("`--env {name}`")).collect::<Vec<_>>().join(" or ");
                let message = "no environment is chosen, and the spec has no default one";
                let hint = format!("add {list}, or write `default: true` in one of them");
                Err(SpecError::at(SpecErrorKind::Usage, at, message, hint))
            }
        },
    }
}
