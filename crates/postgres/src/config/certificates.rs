//! The certificates of a connection. Where none are named they are those that libpq takes: `root.crt`,
//! `postgresql.crt` and `postgresql.key` in `~/.postgresql` (PostgreSQL's documentation, "SSL Client File Usage").

use super::{ClientCertificate, ConfigError};
use std::path::{Path, PathBuf};

/// The file of roots; `None`: those of the machine, which `system` asks for where the home folder has others.
pub(super) fn root(env: &dyn Fn(&str) -> Option<String>, named: Option<String>) -> Option<PathBuf> {
    match named {
        Some(named) => (named != "system").then(|| PathBuf::from(named)),
        None => at_home(env, "root.crt"),
    }
}

/// What the client shows of itself. A certificate in the home folder without its key, or with one that only its owner's
/// words open, is none: most servers ask for none.
pub(super) fn of_client(
    env: &dyn Fn(&str) -> Option<String>,
    certificate: Option<String>,
    key: Option<String>,
) -> Result<Option<ClientCertificate>, ConfigError> {
    let alone = |one: &str, other: &str| {
        ConfigError::new(format!("`{one}` stands alone: name the PEM file of its `{other}`, too"))
    };
    let is_named = (certificate.is_some(), key.is_some());
    let certificate = certificate.map(PathBuf::from).or_else(|| at_home(env, "postgresql.crt"));
    let key = key.map(PathBuf::from).or_else(|| at_home(env, "postgresql.key"));
    match (certificate, key) {
        (Some(_), Some(key)) if is_named == (false, false) && is_encrypted(&key) => {
            tracing::warn!(path = %key.display(), "the private key is encrypted and not shown; `sslcert` and `sslkey` name another");
            Ok(None)
        }
        (Some(certificate), Some(key)) => Ok(Some(ClientCertificate { certificate, key })),
        _ if is_named.0 => Err(alone("sslcert", "sslkey")),
        _ if is_named.1 => Err(alone("sslkey", "sslcert")),
        _ => Ok(None),
    }
}

/// One of libpq's files, where it is there.
fn at_home(env: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<PathBuf> {
    let path = Path::new(&env("HOME")?).join(".postgresql").join(name);
    path.is_file().then_some(path)
}

/// Both forms of PEM keys say so: PKCS #8 in its label (RFC 7468), OpenSSL's older one in a header.
fn is_encrypted(key: &Path) -> bool {
    std::fs::read_to_string(key).is_ok_and(|text| text.contains("ENCRYPTED"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a home folder that has these.
    struct Home(tempfile::TempDir);

    impl Home {
        fn with(names: &[&str]) -> Self {
            let home = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir(home.0.path().join(".postgresql")).unwrap();
            names.iter().for_each(|name| std::fs::write(home.file(name), "").unwrap());
            home
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.path().join(".postgresql").join(name)
        }

        fn env(&self, name: &str) -> Option<String> {
            (name == "HOME").then(|| self.0.path().to_str().unwrap().to_owned())
        }

        fn root(&self, named: Option<&str>) -> Option<PathBuf> {
            root(&|name| self.env(name), named.map(str::to_owned))
        }

        /// The certificate and the key, or what is said.
        fn of_client(&self, named: [Option<&str>; 2]) -> Result<Option<[PathBuf; 2]>, String> {
            let [certificate, key] = named.map(|named| named.map(str::to_owned));
            let found = of_client(&|name| self.env(name), certificate, key);
            let found = found.map_err(|error| error.to_string())?;
            Ok(found.map(|found| [found.certificate, found.key]))
        }
    }

    #[test]
    fn the_home_folder_fills_what_is_not_named() {
        let home = Home::with(&["root.crt", "postgresql.crt", "postgresql.key"]);
        let [certificate, key] = ["postgresql.crt", "postgresql.key"].map(|name| home.file(name));
        assert_eq!(home.root(None), Some(home.file("root.crt")));
        assert_eq!(home.root(Some("/a.crt")), Some(PathBuf::from("/a.crt")));
        assert_eq!(home.root(Some("system")), None);
        assert_eq!(home.of_client([None, None]), Ok(Some([certificate.clone(), key.clone()])));
        assert_eq!(home.of_client([Some("/a.crt"), None]), Ok(Some([PathBuf::from("/a.crt"), key])));
        assert_eq!(home.of_client([None, Some("/a.key")]), Ok(Some([certificate, PathBuf::from("/a.key")])));
    }

    #[test]
    fn what_the_home_folder_lacks_is_not_shown() {
        for names in [&[][..], &["postgresql.crt"], &["postgresql.key"]] {
            let home = Home::with(names);
            assert_eq!(home.root(None), None);
            assert_eq!(home.of_client([None, None]), Ok(None), "{names:?}");
        }
        let home = Home::with(&["postgresql.crt", "postgresql.key"]);
        std::fs::write(home.file("postgresql.key"), "-----BEGIN ENCRYPTED PRIVATE KEY-----").unwrap();
        assert_eq!(home.of_client([None, None]), Ok(None));
        assert!(home.of_client([Some("/a.crt"), None]).unwrap().is_some());
        let home = Home::with(&[]);
        assert!(home.of_client([Some("/a.crt"), None]).unwrap_err().contains("`sslkey`"));
        assert!(home.of_client([None, Some("/a.key")]).unwrap_err().contains("`sslcert`"));
    }
}
