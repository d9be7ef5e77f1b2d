//! Values of variables that a run makes, Cognito users: what is said of them, and how they are removed.

use crate::failure::Result;
use whimbrel_aws::{CognitoUsers, Removal, Session};
use whimbrel_engine::EngineError;
use whimbrel_spec::{CreatedValue, Resolved};

/// What a plan or a rehearsal says of values that are stood in for; one line each.
pub fn stood_in(resolved: &Resolved) -> impl Iterator<Item = String> {
    resolved.creations.iter().filter(|value| !value.existed).map(|value| {
        format!(
            "There is no Cognito user `{}` yet: `run` makes it; until then 00000000-… stands for its value.",
            value.argument
        )
    })
}

/// What a run says of values that it has just made; one line each.
pub fn made(resolved: &Resolved) -> impl Iterator<Item = String> {
    let made = resolved.creations.iter().filter(|value| !value.existed);
    made.map(|value| format!("The Cognito user `{}` was made; `clean` removes it.", value.argument))
}

/// Removes what runs made, and nothing else: what became of each value, in words. `None`: it is gone.
///
/// # Errors
/// AWS does not do it.
pub async fn remove(aws: Session, resolved: &Resolved) -> Result<Vec<(String, Option<String>)>> {
    let users = CognitoUsers::new(aws);
    let mut removed = Vec::new();
    for value in &resolved.creations {
        let left = remove_one(&users, value).await?;
        removed.push((value.argument.clone(), left));
    }
    Ok(removed)
}

async fn remove_one(users: &CognitoUsers, value: &CreatedValue) -> Result<Option<String>> {
    let removal = users.remove(&value.argument, &value.owner).await;
    match removal {
        Ok(Removal::Removed) => Ok(None),
        Ok(Removal::Absent) => Ok(Some("it is not there".to_owned())),
        Ok(Removal::NotOurs) => Ok(Some("whimbrel did not make it in this environment".to_owned())),
        Err(error) => {
            let (message, hint) = (error.to_string(), error.hint);
            Err(EngineError::refused(
                format!("the Cognito user `{}` is not removed: {message}", value.argument),
                hint,
            )
            .into())
        }
    }
}
