//! From a configuration to a logged-in connection, in steps of our own, so that each failure has its name:
//! no such host, refused, no answer, TLS refused, wrong password, no such database.

use super::gathered::{Gathered, GatheredTls};
use super::tls;
use crate::config::{Host, PostgresConfig, SslMode};
use crate::error::{from_driver, io_hint, io_kind};
use socket2::{SockRef, TcpKeepalive};
use std::error::Error as _;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::config::{SslMode as DriverSslMode, SslNegotiation};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Connection, NoTls};
use tokio_util::either::Either;
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// A server that is gone is noticed after about two minutes of silence.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// The protocol's request for TLS: its length, and a version number that is none.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F];

pub(super) struct Connected {
    pub client: Client,
    /// Carries the bytes; ends when the client is dropped and all is said.
    pub driver: JoinHandle<()>,
    pub has_tls: bool,
}

#[cfg(unix)]
type Socket = Either<TcpStream, tokio::net::UnixStream>;
#[cfg(not(unix))]
type Socket = Either<TcpStream, TcpStream>;

/// How TLS is used in one attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Plain,
    TlsIfOffered,
    Tls,
}

/// Why an attempt failed, and whether the other way (with or without TLS) may do better.
struct Failure {
    error: StoreError,
    try_the_other: bool,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self { error, try_the_other: false }
    }
}

pub(super) async fn connect(store: &StoreName, config: &PostgresConfig) -> Result<Connected> {
    let attempts: &[Attempt] = match (&config.host, config.ssl_mode) {
        (Host::Unix(_), _) | (_, SslMode::Disable) => &[Attempt::Plain],
        (_, SslMode::Allow) => &[Attempt::Plain, Attempt::Tls],
        (_, SslMode::Prefer) => &[Attempt::TlsIfOffered, Attempt::Plain],
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Attempt::Tls],
    };
    let within = async {
        let mut first_error = None;
        for attempt in attempts {
            match connect_once(store, config, *attempt).await {
                Ok(connected) => return Ok(connected),
                Err(failure) if failure.try_the_other => {
                    first_error.get_or_insert(failure.error);
                }
                Err(failure) => return Err(first_error.unwrap_or(failure.error)),
            }
        }
        Err(first_error
            .unwrap_or_else(|| StoreError::new(StoreErrorKind::Internal, store, "no way to connect")))
    };
    match tokio::time::timeout(config.connect_timeout, within).await {
        Ok(result) => result,
        Err(_) => {
            let seconds = config.connect_timeout.as_secs();
            let context = format!("cannot connect to {config}: no answer within {seconds} s");
            let error = StoreError::new(StoreErrorKind::Unreachable, store, context);
            Err(error.with_hint(if config.single_connection {
                "the embedded database may still recover from a kill, or the machine is too busy: try once more"
            } else {
                "a firewall, a wrong address, or a server that hangs; `connect_timeout` gives it longer"
            }))
        }
    }
}

async fn connect_once(
    store: &StoreName,
    config: &PostgresConfig,
    attempt: Attempt,
) -> std::result::Result<Connected, Failure> {
    let mut socket = open_socket(store, config).await?;
    let use_tls = match attempt {
        Attempt::Plain => false,
        Attempt::TlsIfOffered => offers_tls(store, config, &mut socket).await?,
        Attempt::Tls if offers_tls(store, config, &mut socket).await? => true,
        Attempt::Tls => {
            let context = format!("cannot connect to {config}: the server does not offer TLS");
            let hint = "`sslmode=prefer` allows a connection without; it is readable on its way";
            return Err(StoreError::new(StoreErrorKind::Mismatch, store, context).with_hint(hint).into());
        }
    };
    let mut driver = tokio_postgres::Config::new();
    driver.user(&config.user).dbname(&config.database).application_name(&config.application_name);
    if let Some(password) = &config.password {
        driver.password(password.reveal());
    }
    if let Some(options) = &config.options {
        driver.options(options);
    }
    let result = if use_tls {
        // The request for TLS is made above; what follows is the handshake alone.
        driver.ssl_mode(DriverSslMode::Require).ssl_negotiation(SslNegotiation::Direct);
        let host = if let Host::Tcp(host) = &config.host { host.as_str() } else { "" };
        let mut tls = tls::connector(store, config)?;
        let tls = MakeTlsConnect::<Socket>::make_tls_connect(&mut tls, host);
        let tls = tls.unwrap_or_else(|never| match never {});
        let tls = GatheredTls(tls);
        driver.connect_raw(socket, tls).await.map(|(client, connection)| (client, spawn(connection)))
    } else {
        driver.ssl_mode(DriverSslMode::Disable);
        let socket = Gathered::new(socket);
        driver.connect_raw(socket, NoTls).await.map(|(client, connection)| (client, spawn(connection)))
    };
    match result {
        Ok((client, driver)) => Ok(Connected { client, driver, has_tls: use_tls }),
        Err(error) => Err(login_failure(store, config, error)),
    }
}

fn spawn<S, T>(connection: Connection<S, T>) -> JoinHandle<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a PostgreSQL connection ended");
        }
    })
}

async fn open_socket(store: &StoreName, config: &PostgresConfig) -> Result<Socket> {
    let failed = |error: io::Error| {
        let hint = io_hint(&error);
        let context = format!("cannot connect to {config}");
        StoreError::new(io_kind(&error), store, context).caused_by(error).with_hint(hint)
    };
    match &config.host {
        Host::Tcp(host) => {
            let found = tokio::net::lookup_host((host.as_str(), config.port)).await.map_err(|error| {
                let context = format!("cannot connect to {config}: there is no host `{host}`");
                let error = StoreError::new(StoreErrorKind::Unreachable, store, context).caused_by(error);
                error.with_hint("check the host's name, and that this machine can resolve it")
            })?;
            let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in found {
                match TcpStream::connect(address).await {
                    Ok(stream) => return keep_alive(stream).map_err(failed),
                    Err(error) => last = error,
                }
            }
            Err(failed(last))
        }
        #[cfg(unix)]
        Host::Unix(folder) => {
            let path = folder.join(format!(".s.PGSQL.{}", config.port));
            let stream = tokio::net::UnixStream::connect(path).await.map_err(failed)?;
            Ok(Either::Right(stream))
        }
        #[cfg(not(unix))]
        Host::Unix(_) => {
            Err(StoreError::new(StoreErrorKind::Unsupported, store, "this system has no unix sockets"))
        }
    }
}

fn keep_alive(stream: TcpStream) -> io::Result<Socket> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(Either::Left(stream))
}

/// Asks for TLS; the server answers with one byte.
async fn offers_tls(store: &StoreName, config: &PostgresConfig, socket: &mut Socket) -> Result<bool> {
    let mut answer = [0];
    let asked = async {
        socket.write_all(&SSL_REQUEST).await?;
        socket.read_exact(&mut answer).await
    };
    asked.await.map_err(|error| {
        let context = format!("cannot connect to {config}: the connection was closed at the first word");
        let error = StoreError::new(StoreErrorKind::Unreachable, store, context).caused_by(error);
        error.with_hint("is this a PostgreSQL server's port?")
    })?;
    match answer {
        [b'S'] => Ok(true),
        [b'N'] => Ok(false),
        _ => {
            let context = format!("{config} does not speak PostgreSQL's protocol");
            let error = StoreError::new(StoreErrorKind::Protocol, store, context);
            Err(error.with_hint("is this a PostgreSQL server's port?"))
        }
    }
}

fn login_failure(store: &StoreName, config: &PostgresConfig, error: tokio_postgres::Error) -> Failure {
    let doing = format!("cannot log in to {config} as `{}`", config.user);
    if let Some(db) = error.as_db_error() {
        let try_the_other = *db.code() == SqlState::INVALID_AUTHORIZATION_SPECIFICATION;
        return Failure { error: from_driver(store, doing, error), try_the_other };
    }
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    if io.and_then(io::Error::get_ref).is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>)
    {
        let context = format!("cannot connect to {config}: TLS failed");
        let hint = "`sslrootcert` names the root that signed the server's certificate, or that certificate itself; \
            `sslmode` says what is checked: `verify-ca` all but the host's name";
        let error =
            StoreError::new(StoreErrorKind::Mismatch, store, context).caused_by(error).with_hint(hint);
        return Failure { error, try_the_other: true };
    }
    if io.is_some() || error.is_closed() {
        return from_driver(store, format!("{doing}: the connection was lost"), error).into();
    }
    // What is left is a login that the driver could not carry through.
    let kind = StoreErrorKind::Unauthenticated;
    if config.password.is_none() {
        let context = format!("{doing}: the server asks for a password, and none is known");
        let hint = "set PGPASSWORD, write `password` in the spec, or add a line to ~/.pgpass";
        return StoreError::new(kind, store, context).with_hint(hint).into();
    }
    let error =
        StoreError::new(kind, store, format!("{doing}: the login was not understood")).caused_by(error);
    error.with_hint("password (clear, MD5, SCRAM) and trust are understood; others not yet").into()
}
