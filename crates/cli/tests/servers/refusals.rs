//! What a user sees where a server refuses: one error that names who, what and the remedy.

use super::{Live, assert_error};
use crate::place::Ended;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

/// A run whose source has another URL.
fn from(live: &Live, url: &str) -> Ended {
    let table = format!("table={}", live.tables.name("items"));
    let run = ["run", "parcels.yaml", "--create", "--set", &table];
    let running = live.place.start_with(&run, |command| {
        live.surroundings(command);
        command.env("DATABASE_URL", url);
    });
    running.wait()
}

#[test]
fn a_role_without_a_table() {
    let Some(live) = Live::with_parcels(110, 60) else { return };
    let url = live.database.url_as_role("GRANT SELECT ON senders TO $role");
    let refused = from(&live, &url).expect(1);
    assert_error(&live, "a_role_without_a_table", &refused);
    assert!(refused.err.contains("_role") && refused.err.contains("GRANT SELECT"), "{}", refused.err);
    let check = live.place.start_with(&["check", "parcels.yaml"], |command| {
        live.surroundings(command);
        command.env("DATABASE_URL", &url);
    });
    let check = check.wait().expect(1);
    assert!(check.err.contains("parcels") || check.out.contains("parcels"), "{}\n{}", check.out, check.err);
}

#[test]
fn a_role_without_a_column() {
    let Some(live) = Live::with_parcels(110, 60) else { return };
    let url = live
        .database
        .url_as_role("GRANT SELECT ON parcels TO $role; GRANT SELECT (id, name) ON senders TO $role");
    let refused = from(&live, &url).expect(1);
    assert_error(&live, "a_role_without_a_column", &refused);
    let err = &refused.err;
    assert!(err.contains("joined_at") && err.contains("senders") && err.contains("GRANT"), "{err}");
}

#[test]
fn a_database_that_is_not_there() {
    let Some(live) = Live::with_parcels(11, 6) else { return };
    let refused = from(&live, &live.database.url_of("no_such_database")).expect(2);
    assert_error(&live, "a_database_that_is_not_there", &refused);
}

#[test]
fn a_role_that_is_not_there() {
    let Some(live) = Live::with_parcels(11, 6) else { return };
    let url = format!("{}&user=nobody&password=s3cret", live.database.url());
    let refused = from(&live, &url).expect(1);
    assert_error(&live, "a_role_that_is_not_there", &refused);
    assert!(!refused.err.contains("s3cret"), "{}", refused.err);
}

/// The servers of the tests ask nobody for a password, and their configuration is not ours to change: this one says
/// what PostgreSQL says to a wrong one.
fn refuse_password(listener: &TcpListener) -> std::io::Result<()> {
    loop {
        let (mut client, _) = listener.accept()?;
        // TLS is asked for first, and declined.
        if packet(&mut client)? == [4, 210, 22, 47] {
            client.write_all(b"N")?;
            packet(&mut client)?;
        }
        // A password in clear, please.
        client.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3])?;
        client.read_exact(&mut [0])?;
        packet(&mut client)?;
        let fields = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"ann\"\0\0";
        let length = u32::try_from(fields.len() + 4).expect("a short answer");
        client.write_all(&[&b"E"[..], &length.to_be_bytes(), fields].concat())?;
    }
}

/// What follows a length of four bytes, which counts itself.
fn packet(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut rest = vec![0; u32::from_be_bytes(length).saturating_sub(4).min(10_000) as usize];
    client.read_exact(&mut rest)?;
    Ok(rest)
}

#[test]
fn a_wrong_password() {
    let Some(live) = Live::with_parcels(11, 6) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || refuse_password(&listener));
    let refused = from(&live, &format!("postgres://ann:s3cret@{address}/db")).expect(1);
    assert_error(&live, "a_wrong_password", &refused);
    assert!(!refused.err.contains("s3cret"), "{}", refused.err);
}

#[test]
fn a_target_that_is_not_there() {
    let Some(live) = Live::with_parcels(11, 6) else { return };
    let there = format!("table={}", live.tables.name("parcels"));
    live.run(&["create", "parcels.yaml", "--set", &there]).expect(0);
    let missing = format!("table={}", live.tables.name("parcel"));
    let refused = live.run(&["run", "parcels.yaml", "--set", &missing]);
    assert!(matches!(refused.code, Some(1 | 2)), "{}", refused.err);
    refused.one_error();
    // Others may have tables there, too.
    let missing = format!("there is no table \"{}\"", live.tables.name("parcel"));
    assert!(refused.err.contains(&missing), "{}", refused.err);
    assert!(refused.err.contains(&live.tables.name("parcels")), "{}", refused.err);
    assert!(refused.err.contains("--create"), "{}", refused.err);
}

#[test]
fn no_credentials() {
    let Some(live) = Live::with_parcels(11, 6) else { return };
    let environment = |command: &mut std::process::Command| {
        command.env("DATABASE_URL", live.database.url());
    };
    let refused = live.place.start_with(&["run", "parcels.yaml", "--create"], environment).wait().expect(1);
    assert_error(&live, "no_credentials", &refused);
}
