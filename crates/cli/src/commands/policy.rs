//! `whimbrel policy`

use super::Program;
use crate::args::{PolicyArgs, PolicyFor};
use crate::aws;
use crate::confirm::confirmed;
use crate::console::Console;
use crate::failure::{Exit, Result};
use crate::workspace::Workspace;
use serde_json::json;
use std::fmt::Write;
use whimbrel_aws::{Account, Caller, Policy, Purpose, Reach, UserOrder, Users, notes, policy};
use whimbrel_engine::EngineError;

/// Prints the least-privilege policy of a spec, or makes or removes a user who has it.
///
/// # Errors
/// The spec is wrong, or AWS fails.
pub async fn policy_command(program: &Program, args: &PolicyArgs) -> Result<Exit> {
    let workspace = Workspace::preview(&args.spec).await?;
    let reach = Reach {
        profile: args.spec.values.aws_profile.clone(),
        region: args.spec.values.region.clone(),
        endpoint: None,
    };
    if let Some(user) = &args.delete_user {
        confirmed(&workspace.resolved, "removing a user", program.common.confirm.as_deref())?;
        let (users, ..) = users(&workspace, args, &reach, user).await?;
        return remove(program, &users, user).await;
    }
    if let Some(user) = &args.create_user {
        let (users, wanted, notes) = users(&workspace, args, &reach, user).await?;
        let made = make(program, &users, &wanted, user).await?;
        say(program, &notes);
        return Ok(made);
    }
    let account = args.account.as_deref().unwrap_or("*");
    let region = std::env::var("AWS_REGION").or_else(|_| std::env::var("AWS_DEFAULT_REGION")).ok();
    let (wanted, notes) = drawn(&workspace, args, account, region);
    Console::output(&wanted);
    say(program, &notes);
    Ok(Exit::Done)
}

fn say(program: &Program, notes: &[String]) {
    notes.iter().for_each(|note| program.console.say(format!("note: {note}")));
}

/// The policy, and what it cannot know.
fn drawn(
    workspace: &Workspace,
    args: &PolicyArgs,
    account: &str,
    region: Option<String>,
) -> (Policy, Vec<String>) {
    let resolved = &workspace.resolved;
    let purposes: Vec<Purpose> = match args.purposes.as_slice() {
        [] => Purpose::usual(resolved),
        chosen => chosen.iter().map(|purpose| purpose.purpose()).collect(),
    };
    let placed = aws::placed(resolved, &args.spec.values, account, region.filter(|r| !r.is_empty()));
    let text = workspace.text();
    (policy(resolved, text, &purposes, &placed), notes(resolved, text, &purposes, &placed))
}

impl PolicyFor {
    fn purpose(self) -> Purpose {
        match self {
            Self::Create => Purpose::Create,
            Self::Run => Purpose::Run,
            Self::Backup => Purpose::Backup,
            Self::Repair => Purpose::Repair,
            Self::Undo => Purpose::Undo,
            Self::Verify => Purpose::Verify,
            Self::Clean => Purpose::Clean,
        }
    }
}

/// What deals with one user, and the policy for that user.
async fn users(
    workspace: &Workspace,
    args: &PolicyArgs,
    reach: &Reach,
    user: &str,
) -> Result<(Users, Policy, Vec<String>)> {
    let account = Account::reach(reach).await;
    let Caller { account: number, arn } = account
        .caller()
        .await
        .map_err(|error| EngineError::refused(error.to_string(), error.hint("sts:GetCallerIdentity")))?;
    let resolved = &workspace.resolved;
    let environment = resolved.environment.clone().unwrap_or_default();
    let own = format!("whimbrel-{}", resolved.migration);
    let own = if environment.is_empty() { own } else { format!("{own}-{environment}") };
    let order = UserOrder {
        user: user.to_owned(),
        policy: args.policy_name.clone().unwrap_or(own),
        path: args.path.clone(),
        account: number.clone(),
        partition: arn.split(':').nth(1).unwrap_or("aws").to_owned(),
        migration: resolved.migration.clone(),
        environment,
    };
    let (wanted, notes) = drawn(workspace, args, &number, account.region());
    let users = Users::new(&account, order).map_err(|error| refused(&error))?;
    Ok((users, wanted, notes))
}

fn refused(error: &whimbrel_aws::UserError) -> EngineError {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    EngineError::refused(format!("{error}{cause}"), error.hint())
}

async fn make(program: &Program, users: &Users, wanted: &Policy, user: &str) -> Result<Exit> {
    let made = users.make(wanted).await.map_err(|error| refused(&error))?;
    let mut text = String::new();
    let _ = writeln!(text, "user {user} {}", if made.is_new { "made" } else { "was there" });
    let policy = if made.policy_changed { "made or brought up to date" } else { "is as it is to be" };
    let _ = writeln!(text, "policy {} {policy}, and is the user's", made.policy_arn);
    match &made.key {
        Some(key) => {
            let _ = writeln!(
                text,
                "access key, shown this once and kept nowhere:\nAWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={}",
                key.id, key.secret
            );
        }
        None => text.push_str("the user has an access key already; none was made\n"),
    }
    let key = made.key.as_ref().map(|key| json!({ "id": key.id, "secret": key.secret }));
    let value = json!({
        "user": user,
        "created": made.is_new,
        "policy": made.policy_arn,
        "policy_changed": made.policy_changed,
        "access_key": key,
    });
    program.console.print(&value, text);
    Ok(Exit::Done)
}

async fn remove(program: &Program, users: &Users, user: &str) -> Result<Exit> {
    let (had_user, had_policy) = users.remove().await.map_err(|error| refused(&error))?;
    let gone = |was_there| if was_there { "removed" } else { "was not there" };
    let text = format!("user {user} {}\nits policy {}\n", gone(had_user), gone(had_policy));
    program.console.print(&json!({ "user": had_user, "policy": had_policy }), text);
    Ok(Exit::Done)
}
