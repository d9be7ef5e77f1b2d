//! What was asked for behind a run and is not done yet: a verification, reports. It is noted beside the run before
//! the run begins, so that a run that is complete when the process is killed still is proven by `resume`.

use crate::args::VerifyArgs;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use whimbrel_engine::EngineError;

/// The file's name, in the run's folder.
const FILE: &str = "due.json";

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// The depth of the verification.
    #[serde(default)]
    verify: Option<String>,
    /// The files of the reports.
    #[serde(default)]
    report: Vec<PathBuf>,
}

impl Due {
    /// What these arguments ask for.
    #[must_use]
    pub fn of(args: &VerifyArgs) -> Self {
        Self { verify: args.verify.map(|depth| depth.to_string()), report: args.report.clone() }
    }

    /// The same as arguments; what is given now wins.
    #[must_use]
    pub fn args(self, given: VerifyArgs) -> VerifyArgs {
        let verify = given.verify.or_else(|| self.verify.and_then(|depth| depth.parse().ok()));
        let report = if given.report.is_empty() { self.report } else { given.report };
        VerifyArgs { verify, report }
    }

    /// What is due of the run in this folder; `None` where nothing is.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        let text = std::fs::read(folder.join(FILE)).ok()?;
        // The file gets its name when it is whole.
        serde_json::from_slice(&text).ok()
    }

    /// Notes it beside the run.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note(&self, folder: &Path) -> Result<(), EngineError> {
        if *self == Self::default() {
            return Self::done(folder);
        }
        let (path, draft) = (folder.join(FILE), folder.join(format!("{FILE}.part")));
        let text = serde_json::to_vec(self).map_err(|error| EngineError::Internal(error.to_string()))?;
        let write = || {
            std::fs::create_dir_all(folder)?;
            std::fs::write(&draft, text)?;
            std::fs::rename(&draft, &path)
        };
        write().map_err(|source| EngineError::file("write", &path, source))
    }

    /// Nothing is due any more.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn done(folder: &Path) -> Result<(), EngineError> {
        let path = folder.join(FILE);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(EngineError::file("remove", path, source))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::VerifyDepth;

    #[test]
    fn what_was_asked_for_is_due_until_it_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let asked = VerifyArgs { verify: Some(VerifyDepth::Sample(7)), report: vec!["r.md".into()] };
        Due::of(&asked).note(folder.path()).unwrap();
        let due = Due::read(folder.path()).expect("it is due");
        let args = due.clone().args(VerifyArgs::default());
        assert_eq!((args.verify, args.report), (asked.verify, asked.report));
        let given = VerifyArgs { verify: Some(VerifyDepth::All), report: Vec::new() };
        assert_eq!(due.args(given).verify, Some(VerifyDepth::All));
        Due::done(folder.path()).unwrap();
        Due::done(folder.path()).unwrap();
        assert_eq!(Due::read(folder.path()), None);
        Due::of(&VerifyArgs::default()).note(folder.path()).unwrap();
        assert_eq!(Due::read(folder.path()), None, "nothing was asked for");
    }
}
