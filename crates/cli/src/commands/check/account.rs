//! Who asks AWS, and whether that one may do what the run does.

use crate::args::Values;
use crate::aws;
use std::collections::{BTreeMap, BTreeSet};
use whimbrel_aws::{Account, Allowance, Caller, Purpose, policy};
use whimbrel_spec::Resolved;
use whimbrel_spec::resolved::{ResolvedStore, StoreKind};
use whimbrel_store::Finding;

/// Statements without which a run goes on.
const SAFEGUARDS: [&str; 2] = ["dynamodb:DescribeContinuousBackups", "dynamodb:ListTagsOfResource"];

/// What makes a table.
const CREATE_TABLE: &str = "dynamodb:CreateTable";

/// What there is to say of a DynamoDB store's account.
pub(super) async fn findings(
    resolved: &Resolved,
    text: &str,
    store: &ResolvedStore,
    values: &Values,
) -> Vec<Finding> {
    if store.kind != StoreKind::DynamoDb {
        return Vec::new();
    }
    if aws::is_embedded(store) {
        return vec![Finding::good("an embedded store has no accounts: everything is allowed")];
    }
    let reach = aws::reach(store, values);
    if reach.endpoint.as_deref().is_some_and(aws::is_local) && !aws::has_credentials(&reach) {
        return vec![Finding::good("a server on this machine that asks nobody who he is")];
    }
    let account = Account::reach(&reach).await;
    let caller = match account.caller().await {
        Ok(caller) => caller,
        // Emulators of DynamoDB alone have no STS.
        Err(error) if reach.endpoint.is_some() => {
            let endpoint = reach.endpoint.unwrap_or_default();
            return vec![Finding::good(format!(
                "{endpoint} does not tell who asks ({error}): permissions could not be asked for"
            ))];
        }
        Err(error) => {
            let hint = error.hint("sts:GetCallerIdentity");
            return vec![Finding { ok: false, text: error.to_string(), hint: Some(hint) }];
        }
    };
    let mut found = vec![Finding::good(format!("AWS account {} as {}", caller.account, caller.arn))];
    found.extend(allowed(&account, &caller, resolved, text, values).await);
    found
}

/// What there is to say of making a DynamoDB store's missing tables: nothing where that may be done, or nobody can be
/// asked. A run does not need it where somebody else makes them.
pub(super) async fn creation(
    resolved: &Resolved,
    text: &str,
    store: &ResolvedStore,
    values: &Values,
    missing: &BTreeSet<String>,
) -> Vec<Finding> {
    if store.kind != StoreKind::DynamoDb || aws::is_embedded(store) {
        return Vec::new();
    }
    let account = Account::reach(&aws::reach(store, values)).await;
    let Ok(caller) = account.caller().await else { return Vec::new() };
    let Some(principal) = caller.principal() else { return Vec::new() };
    let placed = aws::placed(resolved, values, &caller.account, account.region());
    let wanted = policy(resolved, text, &[Purpose::Create], &placed);
    let Ok(allowances) = account.allowances(&principal, &wanted).await else { return Vec::new() };
    let is_missing = |arn: &str| arn.split_once(":table/").is_some_and(|(_, name)| missing.contains(name));
    let makes = |one: &&Allowance| one.action == CREATE_TABLE && !one.is_allowed && is_missing(&one.resource);
    let told = |one: &Allowance| {
        Finding::good(format!(
            "may not {CREATE_TABLE} on {}: it has to be made by somebody who may (`policy --for create`)",
            one.resource
        ))
    };
    allowances.iter().filter(makes).map(told).collect()
}

async fn allowed(
    account: &Account,
    caller: &Caller,
    resolved: &Resolved,
    text: &str,
    values: &Values,
) -> Vec<Finding> {
    if caller.is_root() {
        return vec![Finding::good("the account's root user may do everything; better take another one")];
    }
    let Some(principal) = caller.principal() else {
        return vec![Finding::good("IAM knows no such principal: permissions could not be asked for")];
    };
    let placed = aws::placed(resolved, values, &caller.account, account.region());
    let wanted = policy(resolved, text, &[Purpose::Run], &placed);
    match account.allowances(&principal, &wanted).await {
        Ok(allowances) => told(&allowances, &principal),
        Err(error) => vec![Finding::good(format!(
            "permissions could not be asked for ({error}); `iam:SimulatePrincipalPolicy` on {principal} lets `check` ask"
        ))],
    }
}

/// A line for each resource, and one for each action that is not allowed on it.
fn told(allowances: &[Allowance], principal: &str) -> Vec<Finding> {
    let mut by_resource: BTreeMap<&str, Vec<&Allowance>> = BTreeMap::new();
    for allowance in allowances {
        by_resource.entry(&allowance.resource).or_default().push(allowance);
    }
    let mut found = Vec::new();
    for (resource, asked) in by_resource {
        let place = if resource == "*" { "" } else { &format!(" on {resource}") };
        let may: Vec<&str> =
            asked.iter().filter(|one| one.is_allowed).map(|one| one.action.as_str()).collect();
        if !may.is_empty() {
            found.push(Finding::good(format!("may {}{place}", may.join(", "))));
        }
        for one in asked.iter().filter(|one| !one.is_allowed) {
            let action = &one.action;
            if SAFEGUARDS.contains(&action.as_str()) {
                found.push(Finding::good(format!(
                    "may not {action}{place}: a run goes on without it, and sees less"
                )));
                continue;
            }
            let why = if one.is_forbidden { ": a policy denies it" } else { "" };
            found.push(Finding {
                ok: false,
                text: format!("may not {action}{place}{why}"),
                hint: Some(format!(
                    "allow it to {principal}; `whimbrel policy SPEC --for run` prints all that is needed"
                )),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_stands_alone() {
        let one = |action: &str, is_allowed| Allowance {
            action: action.to_owned(),
            resource: "arn:t".to_owned(),
            is_allowed,
            is_forbidden: false,
        };
        let found = told(
            &[one("dynamodb:Scan", true), one("dynamodb:PutItem", false), one(SAFEGUARDS[1], false)],
            "arn:u",
        );
        let lines: Vec<(bool, &str)> =
            found.iter().map(|finding| (finding.ok, finding.text.as_str())).collect();
        assert_eq!(
            lines,
            [
                (true, "may dynamodb:Scan on arn:t"),
                (false, "may not dynamodb:PutItem on arn:t"),
                (
                    true,
                    "may not dynamodb:ListTagsOfResource on arn:t: a run goes on without it, and sees less"
                ),
            ]
        );
    }
}
