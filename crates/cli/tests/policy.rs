//! `policy`: what is allowed follows from the spec, and what the spec does not say is told beside it.

use crate::place::{Ended, Place};
use serde_json::Value;
use std::collections::BTreeMap;

const SPEC: &str = r#"
migration: walk
undo: UNDO
stores:
  app:
    dynamodb:
      region: eu-west-1
      capacity: { during_run: { write: 100 } }
      tables: { sealed: { file: sealed.json }, named: { file: named.json }, plain: { key: id } }
  lake: { files: "s3://lake/raw" }
flows:
  sealed:
    from: { store: app, table: origin, where: "kind = 'a'" }
    columns: { kind: text }
    into: { store: app, table: sealed, key: id, mode: upsert }
  named:
    from: { store: lake, path: items.ndjson }
    columns: { id: text }
    into: { store: app, table: named, key: id, mode: MODE }
  out:
    from: { store: app, table: plain }
    into: { store: lake, path: out.ndjson }
"#;

fn table(key: &str) -> String {
    format!(
        r#"{{ "BillingMode": "PAY_PER_REQUEST", "SSESpecification": {{ "Enabled": true, "SSEType": "KMS", "KMSMasterKeyId": "{key}" }},
             "AttributeDefinitions": [{{ "AttributeName": "id", "AttributeType": "S" }}],
             "KeySchema": [{{ "AttributeName": "id", "KeyType": "HASH" }}] }}"#
    )
}

fn place(undo: bool) -> Place {
    let place = Place::new();
    place.write("walk.yaml", &SPEC.replace("UNDO", &undo.to_string()).replace("MODE", "changed"));
    place.write("sealed.json", &table("1234abcd-12ab-34cd-56ef-1234567890ab"));
    place.write("named.json", &table("alias/walk"));
    place
}

/// The statements of a policy, and how it ended.
fn policy(place: &Place, arguments: &[&str]) -> (BTreeMap<String, Value>, Ended) {
    let all = [&["policy", "walk.yaml", "--account", "123456789012"], arguments].concat();
    let ended = place.run(&all).expect(0);
    let document: Value = serde_json::from_str(&ended.out).expect("JSON");
    let statements = document["Statement"].as_array().expect("statements");
    let named = |one: &Value| (one["Sid"].as_str().expect("a name").to_owned(), one.clone());
    let named: BTreeMap<String, Value> = statements.iter().map(named).collect();
    assert_eq!(named.len(), statements.len(), "each name is there once");
    (named, ended)
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

#[test]
fn keys_of_one_s_own_are_allowed_where_the_definition_names_them() {
    let place = place(false);
    let (run, _) = policy(&place, &["--for", "run"]);
    let key = &run["RunTargetKeyEuwest1"];
    assert_eq!(
        texts(&key["Resource"]),
        ["arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"]
    );
    assert_eq!(
        texts(&key["Action"]),
        ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"]
    );
    assert_eq!(key["Condition"]["StringEquals"]["kms:ViaService"], "dynamodb.eu-west-1.amazonaws.com");
    // An alias is a name of a key, and no resource.
    let alias = &run["RunTargetKeyEuwest1Walk"];
    assert_eq!(texts(&alias["Resource"]), ["arn:aws:kms:eu-west-1:123456789012:key/*"]);
    assert_eq!(alias["Condition"]["ForAnyValue:StringEquals"]["kms:ResourceAliases"], "alias/walk");
    let (create, _) = policy(&place, &["--for", "create"]);
    assert!(texts(&create["CreateTargetKeyEuwest1"]["Action"]).contains(&"kms:CreateGrant"));
    let (verify, _) = policy(&place, &["--for", "verify"]);
    assert_eq!(texts(&verify["VerifyTargetKeyEuwest1"]["Action"]), ["kms:Decrypt", "kms:DescribeKey"]);
    let (clean, _) = policy(&place, &["--for", "clean"]);
    assert!(clean.keys().all(|name| !name.contains("Key")), "{clean:?}");
}

#[test]
fn what_a_spec_does_not_say_is_told_beside_the_policy() {
    let place = place(false);
    let (_, ended) = policy(&place, &[]);
    assert!(
        ended.err.contains("note: table origin: the spec does not say what it is encrypted with"),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("note: S3: objects under a KMS key of your own need kms:Decrypt"),
        "{}",
        ended.err
    );
    for left_out in
        ["`run --backup` (`--for backup`)", "`verify --repair` (`--for repair`)", "`undo` (`--for undo`)"]
    {
        assert!(ended.err.contains(&format!("note: not in it: {left_out}")), "{left_out}: {}", ended.err);
    }
    assert!(!ended.err.contains("run --create"), "{}", ended.err);
}

#[test]
fn purposes_follow_from_the_spec_and_the_flag() {
    let begins = |statements: &BTreeMap<String, Value>, purpose: &str| {
        statements.keys().any(|name| name.starts_with(purpose))
    };
    let (plain, _) = policy(&place(false), &[]);
    for purpose in ["Create", "Run", "Verify", "Clean"] {
        assert!(begins(&plain, purpose), "{purpose}");
    }
    for purpose in ["Undo", "Backup", "Repair"] {
        assert!(!begins(&plain, purpose), "{purpose}");
    }
    let (undoable, _) = policy(&place(true), &[]);
    assert!(begins(&undoable, "UndoRestore"), "{:?}", undoable.keys());
    let images = texts(&undoable["RunUpsertWithImages"]["Action"]);
    assert!(
        images.contains(&"dynamodb:BatchGetItem") && images.contains(&"dynamodb:PartiQLUpdate"),
        "{images:?}"
    );
    let (more, _) = policy(&place(false), &["--for", "backup,repair,undo"]);
    let tables = |names: &[&str], behind: &str| -> Vec<String> {
        names
            .iter()
            .map(|name| format!("arn:aws:dynamodb:eu-west-1:123456789012:table/{name}{behind}"))
            .collect()
    };
    assert_eq!(texts(&more["BackupTable"]["Resource"]), tables(&["named", "origin", "plain", "sealed"], ""));
    assert_eq!(
        texts(&more["BackupLook"]["Resource"]),
        tables(&["named", "origin", "plain", "sealed"], "/backup/*")
    );
    assert_eq!(texts(&more["UndoEmpty"]["Action"]), ["dynamodb:DeleteItem", "dynamodb:Scan"]);
    assert!(!more.contains_key("UndoRestore"), "nothing was kept to be restored");
    assert_eq!(texts(&more["RepairUpsert"]["Resource"]), tables(&["sealed"], ""));
}

#[test]
fn tables_are_queried_by_their_indexes_too_and_raised_where_the_spec_says_so() {
    let place = place(false);
    let (run, _) = policy(&place, &["--for", "run"]);
    let origin = "arn:aws:dynamodb:eu-west-1:123456789012:table/origin";
    assert_eq!(texts(&run["RunQuery"]["Resource"]), [origin, &format!("{origin}/index/*")]);
    assert_eq!(texts(&run["RunCapacity"]["Action"]), ["dynamodb:UpdateTable"]);
    assert!(texts(&run["RunCapacity"]["Resource"]).contains(&origin));
    let (verify, _) = policy(&place, &["--for", "verify"]);
    assert!(!verify.contains_key("VerifyCapacity"), "only a run raises anything");
    // Parts of files that a killed run left are removed, and nothing else in the bucket is.
    assert_eq!(texts(&run["RunRemoveParts"]["Resource"]), ["arn:aws:s3:::lake/raw/.whimbrel-parts/*"]);
}
