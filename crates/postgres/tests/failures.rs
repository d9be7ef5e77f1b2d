//! What goes wrong: one error each, with its kind and a next step.

use crate::server::{on_each_server, on_real_server};
use futures::FutureExt as _;
use serde_json::json;
use std::time::Duration;
use tokio::net::TcpListener;
use whimbrel_model::StoreName;
use whimbrel_postgres::config::{Host, Secret, SslMode};
use whimbrel_postgres::{PostgresConfig, PostgresStore};
use whimbrel_store::{Store as _, StoreError, StoreErrorKind};

async fn failure(config: PostgresConfig) -> StoreError {
    let store = PostgresStore::new(StoreName::new("pg"), config);
    let error = store.identity().await.expect_err("there is nothing to connect to");
    let findings = store.check().await;
    assert!(!findings[0].ok && findings[0].hint.is_some(), "{findings:?}");
    assert!(!format!("{error:?}").contains("s3cret"));
    error
}

fn config(port: u16) -> PostgresConfig {
    let url = format!("postgres://someone:s3cret@127.0.0.1:{port}/db?connect_timeout=1");
    PostgresConfig::from_value(&json!(url)).expect("a URL")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = failure(config(port)).await;
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    assert!(error.hint().unwrap().contains("nothing listens"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = failure(config(listener.local_addr().unwrap().port())).await;
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    assert!(error.to_string().contains("no answer within 1 s"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_does_not_exist() {
    let mut config = config(5432);
    config.host = Host::Tcp("no-such-host.invalid".to_owned());
    config.connect_timeout = Duration::from_secs(20);
    let error = failure(config).await;
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    assert!(error.to_string().contains("there is no host `no-such-host.invalid`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_socket() {
    let mut config = config(5432);
    config.host = Host::Unix("/nonexistent".into());
    let error = failure(config).await;
    assert_eq!(error.kind(), StoreErrorKind::Unreachable);
    assert!(error.hint().unwrap().contains("no socket"));
}

/// A port that answers every first word in the same way.
async fn answering(answer: &'static [u8]) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut word = [0; 8];
            if socket.read_exact(&mut word).await.is_ok() {
                let _ = socket.write_all(answer).await;
            }
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_refused() {
    let mut config = config(answering(b"N").await);
    config.ssl_mode = SslMode::Require;
    let error = failure(config).await;
    assert_eq!(error.kind(), StoreErrorKind::Mismatch);
    assert!(error.to_string().contains("does not offer TLS"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_listens() {
    let mut config = config(answering(b"HTTP/1.1 400 Bad Request\r\n").await);
    config.ssl_mode = SslMode::VerifyFull;
    let error = failure(config).await;
    assert_eq!(error.kind(), StoreErrorKind::Protocol);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_lists_those_that_there_are() {
    on_each_server(|fixture| {
        async {
            let error = fixture.table("users").describe().await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::NotFound);
            assert!(error.hint().unwrap().contains("has no tables"), "{error:?}");
            fixture.run("CREATE SCHEMA s; CREATE TABLE user_s (x int); CREATE TABLE other (x int); CREATE TABLE s.users2 (x int)").await;
            let error = fixture.table("users").describe().await.unwrap_err();
            let hint = error.hint().unwrap();
            assert!(hint.starts_with("there are user_s, ") && hint.contains("s.users2"), "{hint}");
            let error = fixture.query("SELECT * FROM userz", &[]).describe().await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::NotFound);
            for name in ["", ".", "a.", "\0", "\""] {
                assert_eq!(fixture.table(name).describe().await.unwrap_err().kind(), StoreErrorKind::NotFound, "{name:?}");
            }
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_and_permissions() {
    on_real_server(|fixture| {
        async {
            let role = format!("{}_reader", fixture.config.database);
            fixture.run(&format!("CREATE ROLE {role} LOGIN; CREATE TABLE open (a int, b int); CREATE TABLE closed (a int); GRANT SELECT (a) ON open TO {role}")).await;
            let as_reader = PostgresConfig { user: role.clone(), ..fixture.config.clone() };
            let store = PostgresStore::new(StoreName::new("pg"), as_reader);
            let table = |name: &str| store.source(crate::server::request(whimbrel_store::Relation::Table(name.to_owned()))).unwrap();
            let error = table("closed").describe().await.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Forbidden);
            assert!(error.hint().unwrap().contains("GRANT SELECT ON \"public\".\"closed\""), "{error:?}");
            let error = table("open").describe().await.unwrap_err();
            assert!(error.to_string().contains("may not read the column `b` of"), "{error}");
            store.close().await;
            let mut missing = fixture.config.clone();
            missing.database = "no such database".to_owned();
            assert_eq!(failure(missing).await.kind(), StoreErrorKind::NotFound);
            let mut nobody = fixture.config.clone();
            (nobody.user, nobody.password) = ("nobody here".to_owned(), Some(Secret::new("s3cret")));
            let error = failure(nobody).await;
            assert_eq!(error.kind(), StoreErrorKind::Unauthenticated);
            assert!(error.hint().is_some_and(|hint| !hint.contains("pg_hba")), "{error:?}");
            fixture.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
        }
        .boxed_local()
    })
    .await;
}
