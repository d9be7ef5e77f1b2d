//! The driver's errors as the contract's: decided by SQLSTATE and by the kind of an I/O error, never by text.

use std::error::Error as _;
use std::io;
use tokio_postgres::error::{DbError, ErrorPosition, SqlState};
use whimbrel_model::StoreName;
use whimbrel_store::{StoreError, StoreErrorKind};

/// What the server said, in its own words, as the cause of a [`StoreError`].
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
pub(crate) struct ServerMessage {
    message: String,
    code: String,
}

/// An error of the driver, with what was being done.
pub(crate) fn from_driver(
    store: &StoreName,
    doing: impl Into<String>,
    error: tokio_postgres::Error,
) -> StoreError {
    if let Some(db) = error.as_db_error() {
        return from_server(store, doing, db);
    }
    if let Some(io) = error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        return StoreError::new(io_kind(io), store, doing).caused_by(error);
    }
    let kind = if error.is_closed() { StoreErrorKind::Unreachable } else { StoreErrorKind::Protocol };
    StoreError::new(kind, store, doing).caused_by(error)
}

fn from_server(store: &StoreName, doing: impl Into<String>, db: &DbError) -> StoreError {
    let mut message = db.message().to_owned();
    if let Some(detail) = db.detail() {
        message = format!("{message}: {detail}");
    }
    if let Some(ErrorPosition::Original(position)) = db.position() {
        message = format!("{message}, at character {position}");
    }
    let cause = ServerMessage { message, code: db.code().code().to_owned() };
    let error = StoreError::new(kind_of(db.code()), store, doing).caused_by(cause);
    match hint_of(db.code(), db.routine(), db.file())
        .map(str::to_owned)
        .or_else(|| db.hint().map(str::to_owned))
    {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The contract's kind for a SQLSTATE.
pub(crate) fn kind_of(code: &SqlState) -> StoreErrorKind {
    match code.code() {
        // Cut by the server: restarting, shutting down, starting up, idle too long.
        "57P01" | "57P02" | "57P03" | "57P05" => StoreErrorKind::Unreachable,
        "57P04" => StoreErrorKind::NotFound,
        // The transaction that held the snapshot is over.
        "25P01" | "25P02" | "25P03" | "25P04" | "72000" => StoreErrorKind::SnapshotLost,
        // Cancelled, deadlocked, not serialisable, a lock not had in time.
        "57014" | "40001" | "40P01" | "55P03" => StoreErrorKind::Overloaded,
        "42501" => StoreErrorKind::Forbidden,
        "3D000" | "3F000" | "42P01" | "42703" | "42704" | "42883" => StoreErrorKind::NotFound,
        // Damaged data does not heal by asking again.
        "XX001" | "XX002" => StoreErrorKind::Protocol,
        code => match code.get(..2).unwrap_or_default() {
            "08" => StoreErrorKind::Unreachable,
            "28" => StoreErrorKind::Unauthenticated,
            "53" | "58" | "XX" => StoreErrorKind::Overloaded,
            "0A" => StoreErrorKind::Unsupported,
            _ => StoreErrorKind::Mismatch,
        },
    }
}

/// Where the server's code refuses a role that it does not know or that may not log in. A line of pg_hba.conf
/// that refuses gives the same SQLSTATE.
const ROLE_CHECK: &str = "InitializeSessionUserId";

/// Where the server's code has all of XML; one that is built without libxml refuses every value there.
const XML_FILE: &str = "xml.c";

/// `routine` is the function of the server that failed, `file` the file of its code.
fn hint_of(code: &SqlState, routine: Option<&str>, file: Option<&str>) -> Option<&'static str> {
    Some(match code.code() {
        "0A000" if file == Some(XML_FILE) => {
            "this server is built without XML, as embedded PostgreSQL is: run against a native server that has it"
        }
        "28000" if routine == Some(ROLE_CHECK) => {
            "check the role's name: `user` in the spec, the URL, or PGUSER; `\\du` in psql lists those that there are and whether they may log in"
        }
        "28P01" => "check user and password: `user`/`password` in the spec, PGUSER/PGPASSWORD, or ~/.pgpass",
        "28000" => {
            "the server lets this user, database, address or TLS mode in by no line of its pg_hba.conf; where that asks for a client's certificate, `sslcert` and `sslkey` name it"
        }
        "3D000" => "check the database's name in the URL; `psql -l` lists those that there are",
        "42501" => {
            "the role needs USAGE on the schema, SELECT on what is read, and on what is written what its mode does; `whimbrel check` names what it lacks"
        }
        "53300" => "the server has no connection left; lower --parallel or raise max_connections",
        "57P03" => "the server is starting up or recovering",
        _ => return None,
    })
}

/// Whether an error is about a value and not about the server, the session or the statement, where a statement is
/// known to be one that works: PostgreSQL looks up names that stand in text (`regclass`), and reads text that has a
/// grammar (`tsquery`), and says of such text what it says of statements.
pub(crate) fn is_about_a_value(db: &DbError) -> bool {
    let code = db.code().code();
    match code.get(..2).unwrap_or_default() {
        // Cardinality, data, constraints, routines that raise, views' checks, limits of the row, PL/pgSQL.
        "21" | "22" | "23" | "38" | "39" | "44" | "54" | "P0" => true,
        // A table of that name; of one that a statement or a trigger names it says where.
        "42" if code == "42P01" => db.position().is_none() && db.where_().is_none(),
        // Not the privilege, nor the column that is gone.
        "42" => !matches!(code, "42501" | "42703"),
        // A schema of that name.
        "3F" => true,
        _ => false,
    }
}

/// Whether PostgreSQL says of a statement, too, what it says here of a value.
pub(crate) fn is_said_of_statements(code: &SqlState) -> bool {
    matches!(code.code().get(..2), Some("42" | "3F"))
}

/// The contract's kind for an I/O error on a connection.
pub(crate) fn io_kind(error: &io::Error) -> StoreErrorKind {
    match error.kind() {
        io::ErrorKind::PermissionDenied => StoreErrorKind::Forbidden,
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => StoreErrorKind::Protocol,
        _ => StoreErrorKind::Unreachable,
    }
}

/// The next step for an I/O error while connecting.
pub(crate) fn io_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there: is the server running, and are host and port right?"
        }
        io::ErrorKind::NotFound => {
            "there is no socket in that folder: is the server running there, on that port?"
        }
        io::ErrorKind::PermissionDenied => "the socket or the network is closed to this user",
        io::ErrorKind::TimedOut => "no answer: a firewall, a wrong address, or a server that hangs",
        _ => "check host, port and network; `whimbrel check` tries again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_is_not_there_is_no_matter_of_addresses() {
        let hint = |routine| hint_of(&SqlState::from_code("28000"), routine, None).unwrap();
        assert!(hint(Some(ROLE_CHECK)).contains("role's name"));
        assert!(hint(Some("ClientAuthentication")).contains("pg_hba.conf"));
        assert!(hint(None).contains("pg_hba.conf"));
    }

    #[test]
    fn a_server_without_xml_says_where_there_is_one() {
        let hint = |file| hint_of(&SqlState::FEATURE_NOT_SUPPORTED, Some("xml_in"), file);
        assert!(hint(Some("xml.c")).is_some_and(|hint| hint.contains("native server")));
        assert_eq!(hint(Some("copy.c")), None);
    }

    #[test]
    fn states_decide_what_can_be_tried_again() {
        let kind = |code: &str| kind_of(&SqlState::from_code(code));
        for code in ["57P01", "53300", "08006", "40001", "57014", "25P02", "XX000"] {
            assert!(kind(code).is_retryable(), "{code}");
        }
        for code in ["28P01", "3D000", "42501", "42P01", "42601", "22012", "0A000", "XX001"] {
            assert!(!kind(code).is_retryable(), "{code}");
        }
        assert_eq!(kind("25P02"), StoreErrorKind::SnapshotLost);
        assert_eq!(kind("42P01"), StoreErrorKind::NotFound);
        assert_eq!(kind(""), StoreErrorKind::Mismatch);
    }
}
