//! Values of variables that come from elsewhere, in the whole program.

use crate::place::Place;

const SPEC: &str = r#"
migration: m
variables:
  pool: "${cdk:outputs.json#UserPoolId}"
  user: { default: "${cognito:${pool}/ann#sub}", cognito: { create: true, email: ann@example.com } }
  folder: { default: "${ssm:/m/folder}" }
stores:
  from: { files: "${folder}" }
  to: { files: out }
flows:
  f:
    from: { store: from, path: a.ndjson }
    transform: SELECT id, $user AS user_id FROM input
    into: { store: to, path: b.ndjson, key: id }
"#;

fn place() -> Place {
    let place = Place::new();
    place.write("m.yaml", SPEC);
    place.write("data/a.ndjson", "{\"id\":\"1\"}\n");
    place.write("outputs.json", r#"[{"OutputKey":"UserPoolId","OutputValue":"eu-west-1_A"}]"#);
    place
}

#[test]
fn a_value_given_by_hand_asks_nobody() {
    let place = place();
    let by_hand = ["run", "m.yaml", "--create", "--set", "user=u-1", "--set", "folder=data"];
    place.run(&by_hand).expect(0);
    let written = std::fs::read_to_string(place.path("out/b.ndjson")).unwrap();
    assert_eq!(written.trim(), r#"{"id":"1","user_id":"u-1"}"#);
}

#[test]
fn what_aws_does_not_answer_names_the_value_and_the_next_step() {
    let place = place();
    let ended = place.run(&["plan", "m.yaml", "--set", "user=u-1"]).expect(2);
    ended.one_error();
    assert!(ended.err.contains("SSM Parameter Store: no AWS region is named"), "{}", ended.err);
    assert!(ended.err.contains("hint: set AWS_REGION"), "{}", ended.err);
    let ended =
        place.whimbrel(&["plan", "m.yaml", "--set", "user=u-1"]).env("AWS_REGION", "eu-west-1").output();
    let err = String::from_utf8(ended.unwrap().stderr).unwrap();
    assert!(err.contains("no AWS credentials to ask for `/m/folder` with"), "{err}");
    place.write("outputs.json", "[]");
    let ended = place.run(&["plan", "m.yaml", "--set", "folder=data"]).expect(2);
    assert!(ended.err.contains("has no output `UserPoolId`"), "{}", ended.err);
}
