//! libpq's password file: `host:port:database:user:password`, `*` for any, `\` before `:` and `\`.

use super::{Host, Secret};
use std::path::{Path, PathBuf};

/// The password that the file has for this connection: the first line that fits.
pub(super) fn find(
    env: &dyn Fn(&str) -> Option<String>,
    host: &Host,
    port: u16,
    database: &str,
    user: &str,
) -> Option<Secret> {
    let path = match env("PGPASSFILE") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env("HOME")?).join(".pgpass"),
    };
    if is_open_to_others(&path) {
        tracing::warn!(path = %path.display(), "the password file is readable by others and is ignored, as libpq does; chmod 600 it");
        return None;
    }
    let text = std::fs::read_to_string(&path).ok()?;
    let host = match host {
        Host::Tcp(host) => host.clone(),
        // libpq calls every default socket folder `localhost`.
        Host::Unix(folder) if super::SOCKET_FOLDERS.iter().any(|known| Path::new(known) == folder) => {
            "localhost".to_owned()
        }
        Host::Unix(folder) => folder.display().to_string(),
    };
    let wanted = [host, port.to_string(), database.to_owned(), user.to_owned()];
    text.lines().find_map(|line| password_of(line, &wanted)).map(Secret)
}

fn password_of(line: &str, wanted: &[String; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let fields = fields(line);
    let (password, place) = fields.split_last()?;
    let fits = place.len() == wanted.len()
        && place.iter().zip(wanted).all(|(field, want)| field == "*" || field == want);
    fits.then(|| password.clone())
}

/// The first four fields and the rest, unescaped.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        let unescaped = match char {
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => chars.next().unwrap_or('\\'),
            other => other,
        };
        if let Some(field) = fields.last_mut() {
            field.push(unescaped);
        }
    }
    fields
}

#[cfg(unix)]
fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_is_taken() {
        let wanted = ["h", "5432", "d:b", "u"].map(str::to_owned);
        assert_eq!(password_of("h:5432:d\\:b:u:a\\\\b\\:c:d", &wanted).as_deref(), Some("a\\b:c:d"));
        assert_eq!(password_of("*:*:*:u:p", &wanted).as_deref(), Some("p"));
        assert_eq!(password_of("other:*:*:u:p", &wanted), None);
        assert_eq!(password_of("#*:*:*:*:p", &wanted), None);
        assert_eq!(password_of("*:*:*", &wanted), None);
    }
}
