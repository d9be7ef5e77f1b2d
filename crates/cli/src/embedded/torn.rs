//! Files of an embedded PostgreSQL that a kill left half copied.
//!
//! The embedded PostgreSQL keeps a folder as an overlay: what was never written is read from a template in the user's
//! cache, and a file is copied from there into the folder before it is first opened for writing. That copy is made in
//! place. A process killed in the middle of it leaves a file that is shorter than the template's and equal to its
//! beginning, and PostgreSQL then finds blocks missing. Such a file was never written to, so the template still has
//! all of it: it is copied again before the server starts, this time under another name that is renamed.
//!
//! The layout is that of `pglite-oxide` 0.5.1 (`src/pglite/base.rs` and `src/pglite/postgres_mod.rs`), which is pinned.

use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Where a cluster lies below the folder of its database.
const CLUSTER: &str = "tmp/pglite/base";

/// What says that a cluster is an overlay, and over which template. It is written in place at every start.
const MANIFEST: &str = ".pglite-oxide-pgdata-overlay.json";

/// A copy of the manifest beside the cluster, for when a kill falls into the writing of it.
const MANIFEST_COPY: &str = "overlay.json";

/// The file that a running server holds locked.
const LOCK: &str = ".pglite-oxide.lock";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    template_archive_sha256: String,
}

/// Copies again what a kill left half copied.
///
/// To be called before the server starts. A folder that another process holds is left alone: the server's own start
/// then says so. A file is only ever replaced by one that begins with the same bytes.
///
/// # Errors
///
/// Where a file cannot be read or written.
pub(super) fn mend(folder: &Path) -> io::Result<()> {
    let cluster = folder.join(CLUSTER);
    if !cluster.exists() {
        return Ok(());
    }
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK))?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let Some(manifest) = manifest(folder, &cluster)? else { return Ok(()) };
    let Some(template) = template(&manifest) else { return Ok(()) };
    mend_folder(&cluster, &template)
}

/// The manifest, from its copy where it is torn; nothing where there is no overlay.
fn manifest(folder: &Path, cluster: &Path) -> io::Result<Option<Manifest>> {
    let (path, copy) = (cluster.join(MANIFEST), folder.join(MANIFEST_COPY));
    let Some(text) = read(&path)? else { return Ok(None) };
    if let Ok(manifest) = serde_json::from_slice(&text) {
        if read(&copy)?.as_ref() != Some(&text) {
            replace(&copy, &text[..])?;
        }
        return Ok(Some(manifest));
    }
    let Some(text) = read(&copy)? else {
        // Torn before the first start came further: nothing was ever kept in this folder.
        std::fs::remove_file(&path)?;
        return Ok(None);
    };
    replace(&path, &text[..])?;
    Ok(serde_json::from_slice(&text).ok())
}

/// The folder of the template, where the cache holds it.
fn template(manifest: &Manifest) -> Option<PathBuf> {
    let places = directories::ProjectDirs::from("dev", "pglite-oxide", "pglite-oxide")?;
    let formats = std::fs::read_dir(places.cache_dir().join("pgdata-template")).ok()?;
    let candidates = formats.flatten().map(|format| format.path().join(&manifest.template_archive_sha256));
    candidates.map(|root| root.join("base")).find(|base| base.is_dir())
}

fn mend_folder(upper: &Path, lower: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(upper)? {
        let entry = entry?;
        let (path, whole) = (entry.path(), lower.join(entry.file_name()));
        let Ok(there) = std::fs::symlink_metadata(&whole) else { continue };
        let here = entry.metadata()?;
        if here.is_dir() && there.is_dir() {
            mend_folder(&path, &whole)?;
        } else if here.is_file()
            && there.is_file()
            && here.len() < there.len()
            && is_beginning(&path, &whole)?
        {
            replace(&path, File::open(&whole)?)?;
            tracing::info!(file = %path.display(), "a file of the embedded PostgreSQL was half copied; copied again");
        }
    }
    Ok(())
}

/// Whether all of one file is the beginning of the other.
fn is_beginning(part: &Path, whole: &Path) -> io::Result<bool> {
    let part = std::fs::read(part)?;
    let mut beginning = Vec::with_capacity(part.len());
    File::open(whole)?.take(part.len() as u64).read_to_end(&mut beginning)?;
    Ok(part == beginning)
}

/// Writes a file whole or not at all.
fn replace(path: &Path, mut content: impl io::Read) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::copy(&mut content, &mut file)?;
    file.flush()?;
    file.persist(path)?;
    Ok(())
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A template and an overlay over it with these files.
    fn overlay(upper: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let (over, below) = (place.path().join("over"), place.path().join("below"));
        for folder in [&over, &below] {
            std::fs::create_dir_all(folder.join("global")).unwrap();
        }
        std::fs::write(below.join("global/1"), b"one whole block").unwrap();
        std::fs::write(below.join("2"), b"another block").unwrap();
        for (name, content) in upper {
            std::fs::write(over.join(name), content).unwrap();
        }
        (place, over, below)
    }

    #[test]
    fn half_a_copy_becomes_a_whole_one() {
        let (_place, over, below) = overlay(&[("global/1", b"one wh"), ("2", b"")]);
        mend_folder(&over, &below).unwrap();
        assert_eq!(std::fs::read(over.join("global/1")).unwrap(), b"one whole block");
        assert_eq!(std::fs::read(over.join("2")).unwrap(), b"another block");
        assert_eq!(std::fs::read_dir(&over).unwrap().count(), 2, "nothing is left over");
    }

    #[test]
    fn what_was_written_to_stays() {
        let files: [(&str, &[u8]); 3] = [("global/1", b"new"), ("2", b"another block and more"), ("3", b"")];
        let (_place, over, below) = overlay(&files);
        mend_folder(&over, &below).unwrap();
        for (name, content) in files {
            assert_eq!(std::fs::read(over.join(name)).unwrap(), content, "{name}");
        }
    }

    #[test]
    fn a_torn_manifest_is_restored_from_its_copy() {
        let place = tempfile::tempdir().unwrap();
        let cluster = place.path().join(CLUSTER);
        std::fs::create_dir_all(&cluster).unwrap();
        let whole = br#"{"templateArchiveSha256":"ab","postgresVersion":"17"}"#;
        std::fs::write(cluster.join(MANIFEST), whole).unwrap();
        assert_eq!(manifest(place.path(), &cluster).unwrap().unwrap().template_archive_sha256, "ab");
        std::fs::write(cluster.join(MANIFEST), b"").unwrap();
        assert_eq!(manifest(place.path(), &cluster).unwrap().unwrap().template_archive_sha256, "ab");
        assert_eq!(std::fs::read(cluster.join(MANIFEST)).unwrap(), whole);
        std::fs::remove_file(place.path().join(MANIFEST_COPY)).unwrap();
        std::fs::write(cluster.join(MANIFEST), b"{").unwrap();
        assert!(manifest(place.path(), &cluster).unwrap().is_none());
        assert!(!cluster.join(MANIFEST).exists());
    }
}
