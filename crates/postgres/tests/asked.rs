//! What the server is asked: each way there and back costs as much as some hundred rows.

use crate::server::on_real_server;
use crate::target::{batch, checkpoint, people, request, writer};
use futures::FutureExt as _;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use whimbrel_store::conformance::context;
use whimbrel_store::{Mode, Store as _};

/// What was sent on each connection, from its first byte on.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// Stands before a server and writes down what it is asked.
async fn listening_proxy(to: String) -> (u16, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heard = Heard::default();
    let all = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (from_client, mut to_client) = client.into_split();
            let server = TcpStream::connect(&to).await.expect("the server");
            let (mut from_server, to_server) = server.into_split();
            all.lock().expect("no panic").push(Vec::new());
            let connection = all.lock().expect("no panic").len() - 1;
            tokio::spawn(listen(from_client, to_server, Arc::clone(&all), connection));
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        }
    });
    (port, heard)
}

async fn listen(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, heard: Heard, connection: usize) {
    let mut bytes = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        heard.lock().expect("no panic")[connection].extend_from_slice(&bytes[..count]);
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// The kinds of messages on a connection and the texts of simple queries, without the rows of a `COPY`. Source:
/// PostgreSQL's documentation, "Message Formats"; the first message has no kind.
fn messages(bytes: &[u8]) -> Vec<(char, String)> {
    let length = |at: usize| {
        let length = bytes[at..].first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        usize::try_from(length).expect("it is in memory")
    };
    let (mut at, mut messages) = (length(0), Vec::new());
    while at < bytes.len() {
        let (kind, end) = (char::from(bytes[at]), at + 1 + length(at + 1));
        let text = if kind == 'Q' { String::from_utf8_lossy(&bytes[at + 5..end - 1]) } else { "".into() };
        if kind != 'd' {
            messages.push((kind, text.into_owned()));
        }
        at = end;
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_straight_into_the_table_asks_five_times() {
    on_real_server(|fixture| {
        async {
            fixture.run("CREATE TABLE people (id bigint PRIMARY KEY, name text)").await;
            let (port, heard) = listening_proxy(fixture.address()).await;
            let store = fixture.by_way_of(port);
            let insert = store.target(request("people", Mode::Insert)).expect("a target");
            let writer = writer(&insert, true, &context()).await;
            writer.last().await.expect("the ledger");
            let mut asked = Vec::new();
            for seq in 1..=3 {
                let number = i64::try_from(seq).expect("it is small");
                writer.write(batch(people(&[number], &["a"]), seq)).await.expect("written");
                writer.commit(&checkpoint(seq), 1).await.expect("committed");
                let heard = heard.lock().expect("no panic");
                asked.push(heard.iter().map(|bytes| messages(bytes)).collect::<Vec<_>>());
            }
            let sent =
                |connections: &[Vec<(char, String)>]| connections.iter().map(Vec::len).collect::<Vec<_>>();
            let (second, third) = (sent(&asked[1]), &asked[2]);
            assert_eq!(second.len(), third.len(), "no connection is new");
            let news = third.iter().zip(second).flat_map(|(all, known)| &all[known..]);
            let (kinds, texts): (String, Vec<&str>) = news.map(|(kind, text)| (*kind, text.as_str())).unzip();
            // Nothing is parsed anew. Begin and lock, savepoint and COPY, the rows' end, the ledger's row, commit.
            assert_eq!(kinds, ["QBES", "QBES", "cS", "BES", "Q"].concat(), "{texts:?}");
            let large = third.iter().flatten().filter(|(_, text)| text.contains("octet_length(repeat("));
            assert_eq!(large.count(), 1, "a large piece of memory is asked for once a connection");
            store.close().await;
        }
        .boxed_local()
    })
    .await;
}
