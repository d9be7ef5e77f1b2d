//! No value of a record in a log, however much is logged; and what a run serves while it goes on.

use crate::parcels;
use crate::place::{Place, until};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// Begins every text of the source that is no key.
const VALUE: &str = "zq7value";

/// The parcels, each title and name recognisable, and every thousandth rejected with its title in the reason.
fn place() -> Place {
    let place = Place::new();
    parcels::write(&place);
    let check = "- { expect: \"title <> ''\", else: \"Parcel {id} has no title\" }";
    assert!(parcels::SPEC.contains(check));
    let more = format!("{check}\n      - {{ expect: \"id % 1000 <> 1\", else: \"Refused: {{title}}\" }}");
    place.write("parcels.yaml", &parcels::SPEC.replace(check, &more));
    let script = parcels::sql(parcels::PARCELS, parcels::SENDERS);
    let script = script.replace("'parcel ' ||", &format!("'{VALUE} ' ||"));
    let script = script.replace("'sender ' ||", &format!("'{VALUE} ' ||"));
    parcels::fill(&place, "data/parcels.pg", &script);
    place
}

#[test]
fn no_value_of_a_record_is_logged_at_any_level() {
    let place = place();
    let command = ["run", "parcels.yaml", "--env", "demo", "--create", "--log", "json"];
    let ended = place.start_with(&command, |command| {
        command.env("RUST_LOG", "trace");
    });
    let ended = ended.wait().expect(3);
    let rejects = std::fs::read_dir(place.only_run()).expect("the run's folder").flatten();
    let kept = rejects.filter(|entry| entry.path().is_file()).any(|entry| {
        std::fs::read(entry.path()).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(VALUE))
    });
    assert!(kept, "the rejects are kept with their values, so that they could be in the log");
    let log = std::fs::read_to_string(place.only_run().join("run.log")).expect("the run's log");
    let shown = log.lines().find(|line| line.contains(VALUE));
    assert_eq!(shown, None);
    assert!(log.contains("rejected"), "{log}");
    let lines = ended.err.lines().filter(|line| line.starts_with('{'));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    assert!(!lines.is_empty());
    for line in &lines {
        assert!(!line.to_string().contains(VALUE), "{line}");
        let target = line["target"].as_str().expect("a target");
        let fine = matches!(line["level"].as_str(), Some("DEBUG" | "TRACE"));
        assert!(!fine || target.starts_with("whimbrel"), "{line}");
    }
    let reject =
        lines.iter().find(|line| line["fields"]["message"] == "rejected").expect("a reject is logged");
    assert!(reject["fields"]["key"].as_str().is_some_and(|key| key.contains("\"id\"")), "{reject}");
}

#[test]
fn a_run_serves_its_figures_while_it_goes_on() {
    let place = parcels::place();
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("a free port");
    let metrics = address.to_string();
    // Small batches leave time to look.
    let command =
        ["run", "parcels.yaml", "--env", "demo", "--create", "--metrics", &metrics, "--batch-size", "20"];
    let mut running = place.start(&command);
    let text = until("figures of a run that goes on", || {
        assert!(!running.has_ended(), "the run ended before its figures were seen");
        page(address).filter(|text| text.contains("outcome=\"created\""))
    });
    for name in ["whimbrel_progress_ratio", "whimbrel_batches", "whimbrel_journal_free_bytes", "# EOF"] {
        assert!(text.contains(name), "{name}\n{text}");
    }
    running.wait().expect(3);
    assert_eq!(page(address), None, "nothing is served when the run is over");
}

/// What is served there; `None`: nothing.
pub fn page(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
