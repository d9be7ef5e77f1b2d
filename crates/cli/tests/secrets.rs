//! A password is shown nowhere and kept nowhere.

use crate::parcels;
use crate::place::folders;
use std::path::Path;

const PASSWORD: &str = "hunter2-zq8w";

#[test]
fn a_password_is_neither_shown_nor_kept() {
    let place = parcels::place();
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its address");
    let url = format!("postgres://ann:{PASSWORD}@{closed}/db?sslmode=disable");
    let commands: &[&[&str]] = &[
        &["run", "parcels.yaml", "--log", "text"],
        &["plan", "parcels.yaml"],
        &["check", "parcels.yaml", "--json"],
    ];
    for command in commands {
        let with_url = |command: &mut std::process::Command| {
            command.env("DATABASE_URL", &url).env("WHIMBREL_LOG", "debug");
            command.env("AWS_ENDPOINT_URL_DYNAMODB", "embedded:data/parcels.dynamodb");
        };
        let ended = place.start_with(command, with_url).wait().expect(1);
        for text in [&ended.out, &ended.err] {
            assert!(!text.contains(PASSWORD), "{command:?}:\n{text}");
        }
    }
    assert_kept_nowhere(&place.path(".whimbrel"));
}

#[test]
fn a_secret_that_is_given_by_hand_is_not_kept() {
    let place = parcels::place();
    let spec = parcels::SPEC.replace(r#"digits: "4""#, r#"digits: { default: "4", secret: true }"#);
    let spec = spec.replace("kind <> 'draft'", "kind <> 'draft' AND title <> $digits");
    place.write("parcels.yaml", &spec);
    let secret = format!("digits={PASSWORD}");
    let run = ["run", "parcels.yaml", "--env", "demo", "--create", "--set", &secret, "--log", "json"];
    let ended = place.run(&run).expect(3);
    for text in [&ended.out, &ended.err] {
        assert!(!text.contains(PASSWORD), "{text}");
    }
    assert!(place.only_run().join("run.log").is_file());
    assert_kept_nowhere(&place.path(".whimbrel"));
}

fn assert_kept_nowhere(folder: &Path) {
    for path in folders(folder) {
        if path.is_dir() {
            assert_kept_nowhere(&path);
        } else {
            let bytes = std::fs::read(&path).expect("a file of the journal");
            let found = bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
            assert!(!found, "{} holds the password", path.display());
        }
    }
}
