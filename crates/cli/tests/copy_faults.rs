//! Dumps that are killed, that find no room, and that an object store refuses: never half a file under its name.

use crate::parcels;
use crate::place::{Ended, Place, folders, until};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const FROM: &str = "embedded:data/parcels.pg?table=parcels";

/// The lines of a dump, sorted: slices may be cut otherwise.
fn lines(place: &Place, name: &str) -> Vec<String> {
    let as_text = "as-text.ndjson";
    if !name.ends_with(".ndjson") {
        place.run(&["copy", name, as_text, "--mode", "upsert"]).expect(0);
    }
    let name = if name.ends_with(".ndjson") { name } else { as_text };
    let text = std::fs::read_to_string(place.path(name)).expect("the dump is there");
    assert!(text.ends_with('\n'), "the last line is whole");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_dump_survives_kills_and_has_its_name_only_when_it_is_whole() {
    survives_kills("dump.ndjson");
}

#[test]
fn a_dump_to_parquet_survives_kills() {
    survives_kills("dump.parquet");
}

fn survives_kills(name: &str) {
    let place = parcels::place();
    let began = Instant::now();
    let whole = format!("whole-{name}");
    place.run(&["copy", FROM, &whole, "--batch-size", "50"]).expect(0);
    let took = began.elapsed();
    let expected = lines(&place, &whole);
    assert_eq!(expected.len() as u64, parcels::PARCELS);

    for round in 1..=4_u32 {
        let dump = place.path(name);
        let mut running = place.start(&["copy", FROM, name, "--batch-size", "50", "--new"]);
        let mut killed = 0;
        // The later rounds are killed nearer to the end, where the parts are put together.
        let moment = took * (4 + round * 3) / 18;
        let ended: Ended = loop {
            let began = Instant::now();
            while began.elapsed() < moment && !running.has_ended() {
                std::thread::sleep(Duration::from_millis(1));
            }
            if killed == 2 || running.has_ended() {
                break running.wait();
            }
            running.kill();
            killed += 1;
            if dump.exists() {
                assert_eq!(lines(&place, name), expected, "what has the name is whole");
            }
            running = place.start(&["resume"]);
        };
        // One that was killed in its last moment has nothing to resume.
        assert!(matches!(ended.code, Some(0 | 2)), "{ended:?}");
        if !dump.exists() {
            // Killed before the run began: beside one that did begin, this is refused.
            place.run(&["copy", FROM, name, "--batch-size", "50"]).expect(0);
        }
        assert_eq!(lines(&place, name), expected, "round {round}");
        std::fs::remove_file(&dump).expect("the dump can be removed");
        let left: Vec<_> = folders(&place.path("")).into_iter().filter(|path| is_parts(path)).collect();
        assert_eq!(left, Vec::<std::path::PathBuf>::new(), "no part is left");
    }
}

fn is_parts(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".whimbrel-parts"))
}

/// A small disk of its own at a folder, taken away in the end.
struct Disk(std::path::PathBuf);

impl Disk {
    /// `None` where this user may not mount.
    fn at(folder: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).expect("the folder can be made");
        let option = format!("size={size}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs"]).arg(folder).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(folder.to_owned()))
    }

    fn grow(&self, size: &str) {
        let option = format!("remount,size={size}");
        let grown =
            Command::new("mount").args(["-o", &option]).arg(&self.0).status().expect("mount is there");
        assert!(grown.success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_dump_that_finds_no_room_goes_on_when_there_is_some() {
    let place = parcels::place();
    let Some(disk) = Disk::at(&place.path("small"), "1m") else {
        writeln!(std::io::stderr(), "SKIPPED: a full disk needs the right to mount one")
            .expect("it can be written");
        return;
    };
    for (file, room, more) in [("dump.ndjson", "512k", "8m"), ("dump.parquet", "192k", "16m")] {
        disk.grow(room);
        let name = format!("small/{file}");
        let full = place.run(&["copy", FROM, &name, "--json"]);
        assert!(matches!(full.code, Some(1 | 5)), "{full:?}");
        full.one_error();
        assert!(full.err.contains("make room") && full.err.contains("whimbrel resume"), "{}", full.err);
        assert!(!place.path(&name).exists(), "half a dump has no name");
        disk.grow(more);
        let resumed = place.run(&["resume", "--json", "--verify"]).expect(0).json();
        assert_eq!(resumed["totals"]["created"], parcels::PARCELS, "{file}");
        assert_eq!(resumed["verify"]["outcome"], "equal");
        std::fs::remove_file(place.path(&name)).expect("it can be removed");
    }
}

/// An object store that answers as it is told, over HTTP.
struct Refusing {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Refusing {
    /// `answer` says status and body for a method and a path.
    fn start(answer: fn(&str, &str) -> (&'static str, &'static str)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || stream.map(|stream| serve(stream, answer, &seen)));
            }
        });
        Self { address, asked, stop }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    stream: TcpStream,
    answer: fn(&str, &str) -> (&'static str, &'static str),
    seen: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink()).ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?, words.next()?);
    seen.lock().ok()?.push(format!("{method} {path}"));
    let (status, body) = answer(method, path);
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .ok()
}

const DENIED: &str = "<Error><Code>AccessDenied</Code><Message>no</Message></Error>";
const BUSY: &str = "<Error><Code>SlowDown</Code><Message>later</Message></Error>";
const MISSING: &str = "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>";
const NOTHING: &str = "<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>";

fn with_account(command: &mut Command) {
    command
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "hush-hush")
        .env("AWS_ALLOW_HTTP", "true");
}

#[test]
fn an_object_store_that_refuses_is_one_error_and_nothing_has_the_name() {
    let place = parcels::place();
    // Reading is allowed, and there is nothing; writing is not.
    let store = Refusing::start(|method, path| match method {
        "GET" if path.contains("list-type") => ("200 OK", NOTHING),
        "GET" | "HEAD" => ("404 Not Found", MISSING),
        _ => ("403 Forbidden", DENIED),
    });
    let to = format!("s3://b/dump.ndjson?endpoint=http://{}&region=us-east-1", store.address);
    let refused = place.start_with(&["copy", FROM, &to], with_account).wait().expect(1);
    refused.one_error();
    assert!(refused.err.contains("dump.ndjson") && refused.err.contains("hint: "), "{}", refused.err);
    assert!(!refused.err.contains("hush-hush"), "{}", refused.err);
    let written = store.asked().into_iter().filter(|asked| asked.starts_with("PUT")).collect::<Vec<_>>();
    assert!(written.iter().all(|asked| asked.contains(".whimbrel-parts")), "{written:?}");

    // Not even looking is allowed.
    let store = Refusing::start(|_, _| ("403 Forbidden", DENIED));
    let to = format!("s3://b/dump.ndjson?endpoint=http://{}&region=us-east-1", store.address);
    let refused = place.start_with(&["copy", FROM, &to, "--new"], with_account).wait().expect(1);
    refused.one_error();
    assert!(refused.err.contains("hint: "), "{}", refused.err);
}

const CSV: &str = "id,name\n1,one\n2,two\n";
/// What a part of a file is answered with, and the file's own head.
const PART: &str = "206 Partial Content\r\nETag: \"1\"\r\nLast-Modified: Tue, 02 Jan 2024 00:00:00 GMT\r\nContent-Range: bytes 0-19/20";
const HEAD: &str = "200 OK\r\nETag: \"1\"\r\nLast-Modified: Tue, 02 Jan 2024 00:00:00 GMT";

#[test]
fn an_object_store_that_fails_for_a_while_is_asked_again() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    assert_eq!(CSV.len(), 20);
    let place = Place::new();
    let store = Refusing::start(|method, _| match (ASKED.fetch_add(1, Ordering::Relaxed) % 4, method) {
        (3, "HEAD") => (HEAD, CSV),
        (3, _) => (PART, CSV),
        (1, _) => ("503 Slow Down", BUSY),
        _ => ("500 Internal Server Error", BUSY),
    });
    let from = format!("s3://b/in.csv?endpoint=http://{}&region=us-east-1", store.address);
    let copied = place.start_with(&["copy", &from, "out.ndjson", "--json"], with_account).wait().expect(0);
    assert_eq!(copied.json()["totals"]["created"], 2);
    assert!(store.asked().len() >= 8, "{:?}", store.asked());
    let text = std::fs::read_to_string(place.path("out.ndjson")).expect("the file is there");
    assert_eq!(text, "{\"id\":\"1\",\"name\":\"one\"}\n{\"id\":\"2\",\"name\":\"two\"}\n");
}

#[test]
fn a_reader_that_goes_away_is_no_failure_of_the_copy() {
    let place = parcels::place();
    let mut running = place.whimbrel(&["copy", FROM, "-"]);
    let mut child = running
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut head = [0; 64];
    child.stdout.take().expect("its output").read_exact(&mut head).expect("it writes");
    assert!(head.starts_with(b"{\"id\":"), "{head:?}");
    let code = until("its end", || child.try_wait().expect("it can be asked"));
    assert_eq!(code.code(), Some(0));
}
