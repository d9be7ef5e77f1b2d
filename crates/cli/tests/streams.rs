//! Results on standard output, words on standard error, and how much of them.

use crate::parcels;

const SPEC: &[&str] = &["parcels.yaml", "--env", "demo"];

#[test]
fn json_is_one_object_on_standard_output() {
    let place = parcels::place();
    let with = |command: &'static str, more: &'static [&'static str]| {
        [&[command], SPEC, &["--json", "--quiet"], more].concat()
    };
    let commands: Vec<(Vec<&str>, i32, &str)> = vec![
        (with("check", &[]), 0, "ok"),
        (with("plan", &["--all"]), 3, "flows"),
        (with("create", &[]), 0, "tables"),
        (with("run", &["--verify=count"]), 3, "verify"),
        (vec!["status", "--json", "--quiet"], 0, "state"),
        (vec!["list", "--json", "--quiet"], 0, "runs"),
    ];
    for (command, code, key) in commands {
        let ended = place.run(&command).expect(code);
        assert_eq!(ended.err, "", "{command:?} is quiet");
        assert!(ended.json().get(key).is_some(), "{command:?}: {}", ended.out);
    }
    let failed = place.run(&["status", "0000ffff", "--json"]).expect(2);
    let object = failed.json();
    assert_eq!((object["outcome"].as_str(), object["exit"].as_u64()), (Some("failed"), Some(2)));
    assert!(object["error"].is_string() && object["hint"].is_string(), "{object}");
    failed.one_error();
}

#[test]
fn without_json_a_run_speaks_on_standard_error_alone() {
    let place = parcels::place();
    let run = place.run(&[&["run"], SPEC, &["--create"]].concat()).expect(3);
    assert_eq!(run.out, "");
    assert!(run.err.contains("rejected"), "{}", run.err);
    let quiet = place.run(&[&["run"], SPEC, &["--quiet"]].concat()).expect(3);
    assert_eq!((quiet.out.as_str(), quiet.err.as_str()), ("", ""));
    for results in [&["list"][..], &["status"], &["schema"]] {
        let ended = place.run(results).expect(0);
        assert!(!ended.out.is_empty(), "{results:?} has its result on standard output");
        assert_eq!(ended.err, "", "{results:?}");
    }
}
