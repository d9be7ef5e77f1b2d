//! `mode: changed` and what belongs to it.

use crate::changed;
use crate::wrong::{BASE, refused, text_refused};

#[test]
fn what_belongs_to_changed_is_refused_elsewhere() {
    for key in ["compare: journal", "compare: target", "delete_missing: true"] {
        let name = key.split(':').next().unwrap();
        let shown = refused("      nulls: omit\n", &format!("      nulls: omit\n      {key}\n"));
        assert!(shown.contains(&format!("m/x.yaml:40:7: `{name}` belongs to `mode: changed`")), "{shown}");
        assert!(shown.contains("hint: add `mode: changed`, or leave it out"), "{shown}");
    }
    assert_eq!(refused("mode: upsert", "mode: changed"), "accepted");
    assert_eq!(refused("mode: upsert", "mode: changed\n      compare: journal"), "accepted");
    assert_eq!(refused("mode: upsert", "mode: upsert\n      delete_missing: false"), "accepted");
    assert!(refused("mode: upsert", "mode: changed\n      compare: memory").contains("`compare` cannot be"));
}

#[test]
fn what_other_flows_write_is_not_deleted() {
    let deleting = changed(BASE, "mode: upsert", "mode: changed\n      delete_missing: true");
    let shown = text_refused(&deleting);
    assert!(
        shown.contains(
            "m/x.yaml:39:7: `delete_missing` of the flow `users` would delete what the flow `orders`"
        )
    );
    let scoped = |users: &str, orders: &str| {
        let one = changed(&deleting, "      nulls: omit", &format!("      scope: {{ tenant: {users} }}"));
        text_refused(&changed(&one, "mode: skip_existing", &format!("mode: insert, scope: {{ {orders} }}")))
    };
    assert_eq!(scoped("a", "tenant: b"), "accepted");
    for other in ["tenant: a", "tenant: $user_id", "other: b"] {
        assert!(scoped("a", other).contains("would delete"), "{other}");
    }
    let elsewhere = deleting.replace("table: \"${table}\", key: pk", "table: orders, key: pk");
    assert_eq!(text_refused(&elsewhere), "accepted");
}
