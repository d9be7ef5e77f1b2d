//! TLS as servers speak it, by way of a proxy that ends it: certificates of every kind, on either side.

use crate::server::{Fixture, on_real_server, read_all, request};
use futures::FutureExt as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use whimbrel_model::StoreName;
use whimbrel_postgres::config::{ClientCertificate, Host, SslMode};
use whimbrel_postgres::{PostgresConfig, PostgresStore};
use whimbrel_store::{Relation, Store as _, StoreError, StoreErrorKind};

/// A certificate or a key that `make.sh` there has made.
fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(format!("{name}.pem"))
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file(name)).expect("a certificate")
}

/// What a server does that shows this certificate, and may ask for one that `root` signed.
fn acceptor(shown: &str, asks: bool) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().expect("TLS");
    let builder = if asks {
        let mut roots = RootCertStore::empty();
        roots.add(certificate("root")).expect("a root");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::from_pem_file(file(&format!("{shown}.key"))).expect("a key");
    TlsAcceptor::from(Arc::new(builder.with_single_cert(vec![certificate(shown)], key).expect("a server")))
}

/// Ends the TLS of each connection, and passes it on to the server at this address; answers with its port.
async fn proxy(server: String, acceptor: TlsAcceptor) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (server, acceptor) = (server.clone(), acceptor.clone());
            tokio::spawn(async move {
                // A request for TLS is a length and a number that is no version.
                let mut asked = [0; 8];
                client.read_exact(&mut asked).await.expect("a request for TLS");
                assert_eq!(asked, [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F]);
                client.write_all(b"S").await.expect("answered");
                // What is refused the client has to say.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(server).await.expect("the server");
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

/// How a database is reached by way of a proxy.
struct Way<'a> {
    fixture: &'a Fixture,
    port: u16,
}

impl Way<'_> {
    /// Reads by it: certificates checked so, by this root, under this name of the host, with this one shown.
    async fn read(
        &self,
        ssl_mode: SslMode,
        root: Option<&str>,
        host: &str,
        shown: Option<[&str; 2]>,
    ) -> Result<usize, StoreError> {
        let client_certificate = shown
            .map(|[certificate, key]| ClientCertificate { certificate: file(certificate), key: file(key) });
        let config = PostgresConfig {
            host: Host::Tcp(host.to_owned()),
            port: self.port,
            ssl_mode,
            ssl_root_cert: root.map(file),
            client_certificate,
            ..self.fixture.config.clone()
        };
        let store = PostgresStore::new(StoreName::new("pg"), config);
        store.identity().await?;
        let findings = store.check().await;
        assert!(findings[0].text.contains("over TLS"), "{findings:?}");
        let sql = "SELECT i::bigint AS id, repeat('x', 99) AS text FROM generate_series(1, 20000) AS i";
        let source = store.source(request(Relation::Query(sql.to_owned()))).expect("a source");
        let records = read_all(source.as_ref(), 1).await.iter().map(|batch| batch.records.num_rows()).sum();
        drop(source);
        store.close().await;
        Ok(records)
    }

    /// What is said of it where it is refused.
    async fn refused(
        &self,
        ssl_mode: SslMode,
        root: Option<&str>,
        host: &str,
        shown: Option<[&str; 2]>,
    ) -> String {
        let error = self.read(ssl_mode, root, host, shown).await.expect_err("refused");
        assert_eq!(error.kind(), StoreErrorKind::Mismatch, "{error:?}");
        assert!(error.hint().is_some(), "{error:?}");
        error.to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_servers() {
    use SslMode::{Prefer, Require, VerifyCa, VerifyFull};
    on_real_server(|fixture| {
        async {
            let way = Way { fixture, port: proxy(fixture.address(), acceptor("server", false)).await };
            for (mode, root, host) in [
                (Prefer, None, "127.0.0.1"),
                (Require, None, "127.0.0.1"),
                (Require, Some("root"), "127.0.0.1"),
                (VerifyCa, Some("root"), "127.0.0.1"),
                (VerifyFull, Some("root"), "localhost"),
            ] {
                let read = way.read(mode, root, host, None).await;
                assert_eq!(read.expect("read"), 20_000, "{mode:?} {root:?} {host}");
            }
            way.refused(Require, Some("lone"), "localhost", None).await;
            way.refused(VerifyCa, None, "localhost", None).await;
            way.refused(VerifyCa, Some("lone"), "localhost", None).await;
            way.refused(VerifyFull, Some("root"), "127.0.0.1", None).await;
            // One that is its own root.
            let way = Way { fixture, port: proxy(fixture.address(), acceptor("lone", false)).await };
            assert_eq!(way.read(VerifyCa, Some("lone"), "127.0.0.1", None).await.expect("read"), 20_000);
            assert_eq!(way.read(VerifyFull, Some("lone"), "localhost", None).await.expect("read"), 20_000);
            way.refused(VerifyFull, Some("lone"), "127.0.0.1", None).await;
            way.refused(VerifyCa, Some("root"), "localhost", None).await;
            way.refused(VerifyCa, None, "localhost", None).await;
        }
        .boxed_local()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_clients() {
    on_real_server(|fixture| {
        async {
            let way = Way { fixture, port: proxy(fixture.address(), acceptor("server", true)).await };
            let (mode, root, host) = (SslMode::VerifyFull, Some("root"), "localhost");
            let read = way.read(mode, root, host, Some(["client", "client.key"])).await;
            assert_eq!(read.expect("read"), 20_000);
            for (shown, said) in [
                (None, "TLS failed"),
                // Of another root; not each other's; no key; nothing there.
                (Some(["lone", "lone.key"]), "TLS failed"),
                (Some(["client", "lone.key"]), "do not belong together"),
                (Some(["client", "client"]), "cannot read `sslkey`"),
                (Some(["nowhere", "client.key"]), "cannot read `sslcert`"),
            ] {
                let refused = way.refused(mode, root, host, shown).await;
                assert!(refused.contains(said), "{shown:?}: {refused}");
            }
        }
        .boxed_local()
    })
    .await;
}
