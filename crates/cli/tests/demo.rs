//! `whimbrel demo`: from nothing to a verified target.

use crate::items;
use crate::place::Place;
use serde_json::json;
use std::collections::BTreeMap;

#[test]
fn cello_arrives_in_the_shape_that_its_code_reads() {
    let place = Place::new();
    let demo = place.run(&["demo", "cello", "--json"]).expect(0).json();
    assert_eq!(demo["run"]["outcome"], "complete");
    assert_eq!(demo["run"]["flows"]["projects"]["created"], 300);
    assert_eq!(demo["run"]["flows"]["tokens"]["created"], 6000);
    assert_eq!(demo["run"]["rejects"]["count"], 0);
    assert_eq!(demo["verify"]["outcome"], "equal");
    let report = demo["report"].as_str().expect("the report's path");
    assert!(place.path(report).is_file(), "{report}");

    let items = items::in_file(&place.path("data/cello.dynamodb"), "cello");
    assert_eq!(items.len(), 6300);
    let project = &items[&("PROJECT#edge-données".to_owned(), "METADATA".to_owned())];
    assert_eq!(
        *project,
        json!({"pk": {"S": "PROJECT#edge-données"}, "sk": {"S": "METADATA"},
               "repository": {"S": "https://github.com/example/edge-donnees"}})
    );
    let token = &items
        [&("PROJECT#catalog-jobs-2".to_owned(), "TOKEN#tkn-000054fb-3d3c-c319-7d0a-3aea1e12342e".to_owned())];
    assert_eq!(
        *token,
        json!({"pk": {"S": "PROJECT#catalog-jobs-2"}, "sk": {"S": "TOKEN#tkn-000054fb-3d3c-c319-7d0a-3aea1e12342e"},
               "created_at": {"S": "2021-05-25T18:42:41.058753000Z"}, "expires_at": {"S": "2022-05-25T18:42:41.058753000Z"}})
    );
    // Whole seconds keep their nine digits.
    let tokens = items.iter().filter(|((_, sk), _)| sk.starts_with("TOKEN#"));
    let times = tokens.flat_map(|(_, item)| [&item["created_at"]["S"], &item["expires_at"]["S"]]);
    let lengths: Vec<usize> = times.map(|time| time.as_str().expect("a time").len()).collect();
    assert_eq!(lengths.len(), 12_000);
    assert!(lengths.iter().all(|length| *length == "2022-02-02T18:01:49.345261000Z".len()));

    let again = place.run(&["demo", "cello", "--json"]).expect(0).json();
    assert_eq!(again["run"]["totals"]["skipped"], 6300);
    assert_eq!(again["run"]["totals"]["created"], 0);
    assert_eq!(again["verify"]["outcome"], "equal");
    items::assert_same(&items::in_file(&place.path("data/cello.dynamodb"), "cello"), &items);
}

#[test]
fn ratel_becomes_one_table_with_three_indexes() {
    let place = Place::new();
    let demo = place.run(&["demo", "ratel", "--json"]).expect(0).json();
    assert_eq!(demo["run"]["outcome"], "complete");
    assert_eq!(demo["run"]["totals"]["created"], 29_967);
    assert_eq!(demo["run"]["totals"]["read"], 29_967);
    assert_eq!(demo["verify"]["outcome"], "equal");

    let items = items::in_file(&place.path("data/ratel.dynamodb"), "ratel-local");
    assert_eq!(items.len(), 29_967);
    for index in ["gsi1_pk", "gsi1_sk", "gsi2_pk", "gsi2_sk"] {
        let keyed = items.values().filter(|item| item[index]["S"].is_string()).count();
        assert!(keyed > 1000, "{index}: {keyed} items");
    }
    check_followers(&items);

    let again = place.run(&["demo", "ratel", "--json"]).expect(0).json();
    assert_eq!(again["run"]["totals"]["updated"], 29_967);
    assert_eq!(again["run"]["totals"]["created"], 0);
    items::assert_same(&items::in_file(&place.path("data/ratel.dynamodb"), "ratel-local"), &items);
}

/// A follower's item has these attributes and no others, and each user's denormalised counts agree with them.
fn check_followers(items: &items::Items) {
    let followers: Vec<_> = items.values().filter(|item| item["type"]["S"] == "FOLLOWER").collect();
    let follower = followers.first().expect("there are followers");
    let (user, by) = (&follower["user_id"], &follower["follower_id"]);
    let (user, by) = (text(user), text(by));
    let created_at = follower["created_at"]["N"].as_str().expect("a number");
    assert!(created_at.bytes().all(|byte| byte.is_ascii_digit()), "{created_at}");
    let number = |item: &serde_json::Value| item.as_object().expect("an attribute").keys().next().cloned();
    let kind = number(&follower["user_id"]).expect("a type");
    assert_eq!(
        **follower,
        json!({
            "pk": {"S": format!("USER#{user}")}, "sk": {"S": format!("FOLLOWER#{by}")}, "type": {"S": "FOLLOWER"},
            "gsi1_pk": {"S": format!("USER#{by}")}, "gsi1_sk": {"S": format!("FOLLOWING#{user}")},
            "user_id": {kind.clone(): user}, "follower_id": {kind: by}, "created_at": {"N": created_at},
        })
    );
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for follower in &followers {
        *counts.entry(("followers_count", text(&follower["user_id"]))).or_default() += 1;
        *counts.entry(("followings_count", text(&follower["follower_id"]))).or_default() += 1;
    }
    let users: Vec<_> = items.values().filter(|item| item["type"]["S"] == "USER").collect();
    assert!(users.len() > 100);
    for user in users {
        let id = text(&user["id"]);
        for attribute in ["followers_count", "followings_count"] {
            let count = counts.get(&(attribute, id)).copied().unwrap_or(0);
            assert_eq!(user[attribute]["N"], count.to_string(), "user {id}: {attribute}");
        }
    }
}

/// The text of a text or number attribute.
fn text(attribute: &serde_json::Value) -> &str {
    attribute["N"].as_str().or_else(|| attribute["S"].as_str()).expect("a text or a number")
}
