//! `postgres://user:password@host:port/database?setting=value`, read here because the driver's own parser
//! refuses `sslmode=verify-full`.

use super::{ConfigError, Given, Secret, split_port};

pub(super) fn parse(text: &str) -> Result<Given, ConfigError> {
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    let rest = rest.ok_or_else(|| {
        ConfigError::new("a PostgreSQL URL begins with postgres:// (postgres://user@host:5432/database)")
    })?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let mut given = Given::default();
    // A password may hold an `@` that nobody encoded: the last one ends it.
    let place = match authority.rsplit_once('@') {
        Some((login, place)) => {
            let (user, password) = login.split_once(':').map_or((login, None), |(u, p)| (u, Some(p)));
            if !user.is_empty() {
                given.user = Some(decode(user)?);
            }
            given.password = password.map(decode).transpose()?.map(Secret);
            place
        }
        None => authority,
    };
    let (host, port) = match split_port(place) {
        Some((host, port)) => (host, Some(port)),
        None => (place.to_owned(), None),
    };
    if !host.starts_with('[') && host.contains(':') && host.matches(':').count() == 1 {
        let port = host.rsplit(':').next().unwrap_or_default();
        return Err(ConfigError::new(format!("{port:?} in a PostgreSQL URL is not a port")));
    }
    given.host = Some(decode(&host)?).filter(|host| !host.is_empty());
    given.port = port;
    given.database = Some(decode(database)?).filter(|name| !name.is_empty());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        given.set(&decode(key)?, decode(value)?)?;
    }
    Ok(given)
}

/// Undoes percent encoding. The error never shows the text: it may be a password.
fn decode(text: &str) -> Result<String, ConfigError> {
    let invalid =
        || ConfigError::new("a PostgreSQL URL holds a `%` that is not followed by two hex digits; write %25");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let value = digit().zip(digit()).ok_or_else(invalid)?;
        bytes.push(u8::try_from(value.0 * 16 + value.1).map_err(|_| invalid())?);
    }
    String::from_utf8(bytes)
        .map_err(|_| ConfigError::new("a PostgreSQL URL is not UTF-8 after percent decoding"))
}
