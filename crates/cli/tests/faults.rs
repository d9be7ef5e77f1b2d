//! A disk that is full, a store that stops: one clear error, nothing lost.

use crate::interruption::await_checkpoint;
use crate::items;
use crate::parcels::{self, READ, SENDERS};
use crate::place::until;
use dynoxide::Database;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use tokio::runtime::Runtime;

/// A DynamoDB API in this process, which can stop and come back at the same address.
pub struct Server {
    address: SocketAddr,
    /// What it holds, in memory.
    pub database: Database,
    runtime: Option<Runtime>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let database = Database::memory().expect("a database");
        let mut server = Self { address, database, runtime: None };
        server.serve(listener);
        server
    }

    fn serve(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).expect("a listener that waits for nobody");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let database = self.database.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            dynoxide::server::serve_on(listener, database).await;
        });
        self.runtime = Some(runtime);
    }

    /// Closes the port and every connection.
    fn stop(&mut self) {
        self.runtime.take().expect("it runs").shutdown_timeout(std::time::Duration::from_secs(5));
    }

    fn come_back(&mut self) {
        let listener = until("the port to be free again", || TcpListener::bind(self.address).ok());
        self.serve(listener);
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

#[test]
fn a_target_that_stops_in_the_middle_ends_the_run_and_nothing_is_lost() {
    let place = parcels::place();
    let mut server = Server::start();
    let items = format!("items={}", server.endpoint());
    let run =
        ["run", "parcels.yaml", "--env", "demo", "--create", "--batch-size", "50", "--json", "--set", &items];
    let credentials = |command: &mut Command| {
        command.env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "nothing");
    };
    let mut running = place.start_with(&run, credentials);
    await_checkpoint(&place, &mut running);
    server.stop();
    let ended = running.wait().expect(1);
    ended.one_error();
    assert!(ended.err.contains("store `ddb`"), "{}", ended.err);
    assert!(ended.err.contains("whimbrel resume"), "{}", ended.err);
    let summary = ended.json();
    assert_eq!(summary["outcome"], "failed");
    assert!(summary["totals"]["read"].as_u64().expect("a number") < READ + SENDERS);

    server.come_back();
    let resumed =
        place.start_with(&["resume", "--json", "--verify=count"], credentials).wait().expect(3).json();
    assert_eq!(resumed["totals"]["read"], READ + SENDERS);
    assert_eq!(resumed["verify"]["outcome"], "equal");

    place.run(&["run", "parcels.yaml", "--env", "demo", "--create", "--journal", "undisturbed"]).expect(3);
    items::assert_same(&items::of(&server.database, "parcels"), &parcels::items(&place));
}

/// The journal on a file system of its own, which is full in the middle of the run and grows before the resume. The
/// file system is one of memory in a name space of its own, so that nothing stays mounted.
const FULL_DISK: &str = r#"
    mkdir journal
    mount -t tmpfs -o size=600k none journal || exit 77
    "$0" run parcels.yaml --env demo --create --batch-size 50 --json --journal journal >full.json 2>full.txt
    echo $? >full.code
    mount -o remount,size=64m none journal || exit 78
    exec "$0" resume --json --journal journal
"#;

#[test]
fn a_full_disk_ends_the_run_and_room_lets_it_go_on() {
    let place = parcels::place();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", FULL_DISK, env!("CARGO_BIN_EXE_whimbrel")]);
    place.bare(&mut command);
    let resumed = match command.output() {
        Ok(output) if output.status.code() != Some(77) && place.path("journal").exists() => {
            crate::place::ended(output).expect(3)
        }
        _ => return println!("skipped: no file system can be mounted here"),
    };
    let read = |name: &str| std::fs::read_to_string(place.path(name)).expect("a file of the first run");
    let first = read("full.txt");
    assert_eq!(read("full.code").trim(), "1", "{first}");
    assert_eq!(first.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{first}");
    assert!(first.contains("disk is full") && first.contains("whimbrel resume"), "{first}");
    assert_eq!(resumed.json()["totals"]["read"], READ + SENDERS);

    let found = parcels::items(&place);
    let other = ["--set", "items=embedded:other.dynamodb", "--journal", "undisturbed"];
    place.run(&[&["run", "parcels.yaml", "--env", "demo", "--create"], &other[..]].concat()).expect(3);
    items::assert_same(&found, &items::in_file(&place.path("other.dynamodb"), "parcels"));
}

#[test]
fn a_target_whose_table_was_dropped_is_not_the_one_of_the_run() {
    let place = parcels::place();
    let run = ["run", "parcels.yaml", "--env", "demo", "--create", "--batch-size", "50"];
    let mut running = place.start(&run);
    await_checkpoint(&place, &mut running);
    running.kill();
    std::fs::remove_file(place.path("data/parcels.dynamodb")).expect("the target can go");
    for log in ["data/parcels.dynamodb-wal", "data/parcels.dynamodb-shm"] {
        // SQLite's own files: they are there after a kill.
        let _ = std::fs::remove_file(place.path(log));
    }
    let refused = place.run(&["resume"]);
    refused.one_error();
    assert!(matches!(refused.code, Some(1 | 2)), "{}", refused.err);
    assert!(refused.err.contains("is not the one"), "{}", refused.err);
}
