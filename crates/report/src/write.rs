//! Reports into files: which form a file has follows from its suffix.

use crate::report::Report;
use std::path::{Path, PathBuf};
use whimbrel_engine::{EngineError, Result};

/// The forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One page for a browser.
    Html,
    /// Text for a repository or an issue.
    Markdown,
    /// The receipt, for programs.
    Json,
}

impl Format {
    /// The form of a file: `.html` or `.htm`, `.md` or `.markdown`, `.json`.
    ///
    /// # Errors
    /// Another suffix.
    pub fn of(path: &Path) -> Result<Self> {
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        match suffix.to_ascii_lowercase().as_str() {
            "html" | "htm" => Ok(Self::Html),
            "md" | "markdown" => Ok(Self::Markdown),
            "json" => Ok(Self::Json),
            _ => Err(EngineError::refused(
                format!("{} is in no form that a report has", path.display()),
                "end it in .html, .md or .json, or name a folder with a slash behind it",
            )),
        }
    }

    /// The report in this form.
    #[must_use]
    pub fn render(self, report: &Report) -> String {
        match self {
            Self::Html => crate::html::html(report),
            Self::Markdown => crate::markdown::markdown(report),
            Self::Json => format!("{:#}\n", crate::receipt::receipt(report)),
        }
    }
}

/// The files of a report: one, in the form that its suffix says; or each form in a folder, which is there already or is
/// said by a slash behind its name.
///
/// # Errors
/// The suffix names no form.
pub fn files(path: &Path) -> Result<Vec<(PathBuf, Format)>> {
    let is_folder = path.as_os_str().to_string_lossy().ends_with(['/', std::path::MAIN_SEPARATOR]);
    if !is_folder && !path.is_dir() {
        return Ok(vec![(path.to_owned(), Format::of(path)?)]);
    }
    let names =
        [("report.html", Format::Html), ("report.md", Format::Markdown), ("receipt.json", Format::Json)];
    Ok(names.into_iter().map(|(name, format)| (path.join(name), format)).collect())
}

/// Writes a report into its [`files`], each whole or not at all. Missing folders are made.
///
/// # Errors
/// The suffix names no form, or a file cannot be written.
pub fn write(report: &Report, path: &Path) -> Result<()> {
    files(path)?.into_iter().try_for_each(|(file, format)| replace(&file, format.render(report).as_bytes()))
}

/// Puts a text in the place of a file.
pub(crate) fn replace(path: &Path, text: &[u8]) -> Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".part");
    let put = || {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&draft, text)?;
        std::fs::rename(&draft, path)
    };
    put().map_err(|source| EngineError::file("write", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_says_the_form() {
        assert_eq!(Format::of(Path::new("a/r.HTML")).unwrap(), Format::Html);
        assert_eq!(Format::of(Path::new("r.md")).unwrap(), Format::Markdown);
        assert_eq!(Format::of(Path::new("r.json")).unwrap(), Format::Json);
        assert!(Format::of(Path::new("r.pdf")).is_err() && Format::of(Path::new("html")).is_err());
    }

    #[test]
    fn a_folder_has_every_form() {
        let folder = tempfile::tempdir().unwrap();
        let names =
            |path: &Path| -> Vec<_> { files(path).unwrap().into_iter().map(|(file, _)| file).collect() };
        let expected = ["report.html", "report.md", "receipt.json"];
        assert_eq!(names(folder.path()), expected.map(|name| folder.path().join(name)));
        assert_eq!(names(Path::new("new/")), expected.map(|name| Path::new("new").join(name)));
        assert_eq!(names(Path::new("r.md")), [Path::new("r.md")]);
        assert!(files(Path::new("new")).is_err());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/r.md");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }
}
