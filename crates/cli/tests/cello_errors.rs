//! What goes wrong with Cello's four jobs: one error each, and what to do next; the password is asked for unseen.

use crate::errors::{assert_error, closed_port};
use crate::parcels;
use crate::place::{Ended, Place, Shipped, ended, until};
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

const HOST: &str = "db_host=127.0.0.1";

/// A folder with the specs in it, so that errors name them alike everywhere.
fn place() -> Place {
    let (place, cello) = (Place::new(), Shipped::named("cello"));
    for name in ["dump.yaml", "load.yaml", "repair.yaml", "repair-from-dump.yaml", "dynamodb-schema.json"] {
        let text = std::fs::read_to_string(cello.file(name)).expect("a file of the migration");
        place.write(&format!("cello/{name}"), &text);
    }
    place
}

fn run(place: &Place, spec: &str, environment: &str, more: &[&str]) -> Ended {
    let spec = format!("cello/{spec}");
    place.run(&[&["run", &spec, "--env", environment, "--no-progress"], more].concat())
}

/// The guide's arguments, with a server that nobody has.
fn guide(port: u16) -> Vec<String> {
    ["db_user=cello_user", "db_name=cello_db", &format!("{HOST}:{port}")]
        .iter()
        .flat_map(|value| ["--set".to_owned(), (*value).to_owned()])
        .collect()
}

#[test]
fn a_dump_without_its_database() {
    let place = place();
    let given = guide(closed_port());
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let unasked = run(&place, "dump.yaml", "live", &given).expect(2);
    assert_error("cello_a_password_that_cannot_be_asked_for", &unasked);
    let nobody = run(&place, "dump.yaml", "live", &[]).expect(2);
    assert_error("cello_a_dump_without_a_user", &nobody);
    let with = [&given[..], &["--set", "password=s3cr3t"]].concat();
    let refused = run(&place, "dump.yaml", "live", &with).expect(1);
    assert!(!refused.err.contains("s3cr3t"), "{}", refused.err);
    assert_error("cello_a_dump_of_a_server_that_is_not_there", &refused);
    assert!(!place.path("migration_data.json").exists());
}

#[test]
fn a_load_without_a_file_that_is_whole() {
    let place = place();
    assert_error("cello_a_load_without_its_file", &run(&place, "load.yaml", "demo", &["--create"]));
    place.write("torn.json", r#"{"a": {"repository": "r", "tokens": []}, "b": {"repository": "#);
    let torn = run(&place, "load.yaml", "demo", &["--create", "--set", "data_file=torn.json"]).expect(3);
    assert!(torn.err.contains("4 rejected"), "{}", torn.err);
    assert!(torn.err.contains("the file ends within"), "{}", torn.err);
    place.write("list.json", r#"[{"project": "a"}]"#);
    let list = run(&place, "load.yaml", "demo", &["--create", "--set", "data_file=list.json"]);
    assert!(matches!(list.code, Some(1..=3)), "{}", list.err);
    assert!(!list.err.contains("panicked"), "{}", list.err);
}

#[test]
fn a_load_or_a_repair_without_its_table() {
    let place = place();
    place.write("migration_data.json", r#"{"a": {"repository": "r", "tokens": []}}"#);
    assert_error("cello_a_load_without_its_table", &run(&place, "load.yaml", "demo", &[]));
    assert_error("cello_a_repair_without_its_table", &run(&place, "repair.yaml", "demo", &[]));
    place.write("ddb-dump.json", r#"[{"pk": "PROJECT#a", "sk": "METADATA"}]"#);
    let dumped = run(&place, "repair-from-dump.yaml", "demo", &[]);
    assert_error("cello_a_repair_from_a_dump_without_its_table", &dumped);
}

#[test]
fn a_password_is_asked_for_without_echo() {
    let place = place();
    let arguments = guide(closed_port()).join(" ");
    let line = format!("{} run cello/dump.yaml --env live {arguments}", env!("CARGO_BIN_EXE_whimbrel"));
    // A terminal of its own, which would show what is typed.
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    place.bare(&mut command);
    let Ok(mut terminal) =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    else {
        return println!("skipped: the program `script` is not there");
    };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let reader = {
        let (seen, mut out) = (Arc::clone(&seen), terminal.stdout.take().expect("standard output"));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut bytes) {
                seen.lock().expect("nobody panics").extend_from_slice(&bytes[..length]);
            }
        })
    };
    let text = || String::from_utf8_lossy(&seen.lock().expect("nobody panics")).into_owned();
    until("the question", || text().contains("Password: ").then_some(()));
    let mut keyboard = terminal.stdin.take().expect("standard input");
    keyboard.write_all(b"hunter2-zq8w\n").expect("it can be typed");
    let ended = ended(terminal.wait_with_output().expect("it ends"));
    reader.join().expect("the reader ends");
    drop(keyboard);
    assert_eq!(ended.code, Some(1), "{}", text());
    assert_eq!(text().matches("Password: ").count(), 1, "asked once:\n{}", text());
    assert!(text().contains("127.0.0.1"), "it went on to connect:\n{}", text());
    assert!(!text().contains("hunter2"), "{}", text());
}

#[test]
fn flows_into_one_file_agree_on_what_it_is() {
    let place = place();
    parcels::fill(&place, "data/cello.pg", &Shipped::named("cello").script());
    let spec = std::fs::read_to_string(place.path("cello/dump.yaml")).expect("the spec");
    let own = "shape: { object_by: project }";
    let list = "shape: { object_by: project, list: tokens }";
    let wrong = [
        (own, "nulls: omit", "do not both have a `shape`"),
        (own, "shape: { records_by: project }", "have different shapes"),
        ("key: token_id, shape: { object_by: project, list: tokens }", own, "both write its documents"),
        (own, list, "both write the list `tokens`"),
        (list, "shape: { object_by: project, list: repository }", "both write the member `repository`"),
    ];
    for (from, to, why) in wrong {
        assert_eq!(spec.matches(from).count(), 1);
        place.write("cello/wrong.yaml", &spec.replace(from, to));
        let refused = place.run(&["plan", "cello/wrong.yaml", "--env", "demo"]).expect(2);
        refused.one_error();
        assert!(refused.err.contains(why) && refused.err.contains("hint: "), "{why}: {}", refused.err);
    }
    assert!(!place.path("migration_data.json").exists());
}
