//! Files of an embedded PostgreSQL that a kill left half made.
//!
//! The embedded PostgreSQL keeps a folder as an overlay: what was never written is read from a template in the user's
//! cache, and a file is copied from there into the folder before it is first opened for writing. That copy is made in
//! place. A process killed in the middle of it leaves a file that is shorter than the template's and equal to its
//! beginning, and PostgreSQL then finds blocks missing. Such a file was never written to, so the template still has
//! all of it: it is copied again before the server starts, this time under another name that is renamed.
//!
//! Notes that the embedded PostgreSQL keeps for itself are written in place, too, one of them at every start. A process
//! killed in the middle leaves an empty one, and no later start gets past it.
//!
//! The layout is that of `pglite-oxide` 0.5.1 (`src/pglite/base.rs` and `src/pglite/postgres_mod.rs`), which is pinned.

use serde::Deserialize;
use serde::de::IgnoredAny;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Where a cluster lies below the folder of its database.
const CLUSTER: &str = "tmp/pglite/base";

/// What says that a cluster is an overlay, and over which template. It is written in place at every start.
const MANIFEST: &str = ".pglite-oxide-pgdata-overlay.json";

/// A copy of the manifest beside the cluster, for when a kill falls into the writing of it.
const MANIFEST_COPY: &str = "overlay.json";

/// What says how a folder's runtime is laid out. It is written in place at every start, and where it is missing, the
/// server decides as it did at first.
const LAYOUT: &str = "tmp/pglite/.pglite-oxide-runtime-layout.json";

/// What says which extensions a template in the cache holds. Written last, after the template was renamed to its place.
const EXTENSION_TEMPLATE: &str = "extension-template.json";

/// The file that a running server holds locked.
const LOCK: &str = ".pglite-oxide.lock";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    template_archive_sha256: String,
}

/// Copies again what a kill left half copied, and takes away notes that it left half written.
///
/// To be called before the server starts. A folder that another process holds is left alone: the server's own start
/// then says so. A file of the database is only ever replaced by one that begins with the same bytes.
///
/// # Errors
///
/// Where a file cannot be read or written.
pub(super) fn mend(folder: &Path) -> io::Result<()> {
    // Without a place for a cache the server does not start, and says so.
    let Some(places) = directories::ProjectDirs::from("dev", "pglite-oxide", "pglite-oxide") else {
        return Ok(());
    };
    mend_cache(places.cache_dir())?;
    mend_database(folder, places.cache_dir())
}

fn mend_database(folder: &Path, cache: &Path) -> io::Result<()> {
    let cluster = folder.join(CLUSTER);
    if !cluster.exists() && !folder.join(LAYOUT).exists() {
        return Ok(());
    }
    let lock = File::options().create(true).truncate(false).write(true).open(folder.join(LOCK))?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    remove_half_written(&folder.join(LAYOUT))?;
    let Some(manifest) = manifest(folder, &cluster)? else { return Ok(()) };
    let Some(template) = template(&manifest, cache)? else { return Ok(()) };
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

/// Takes out of the cache, which all embedded PostgreSQL of a user share, what a kill left half made there: a runtime
/// that was not unpacked to its end, which the next start would take for a whole one, and the half written note of a
/// template. Both are then made anew.
fn mend_cache(cache: &Path) -> io::Result<()> {
    each_locked(&cache.join("runtime"), |runtime| {
        // Every start that finds the runtime, or has unpacked it, ends with that note.
        if runtime.exists() && !runtime.join(LAYOUT).exists() {
            tracing::info!(folder = %runtime.display(), "the embedded PostgreSQL was half unpacked; unpacked again");
            std::fs::remove_dir_all(runtime)?;
        }
        Ok(())
    })?;
    for format in entries(&cache.join("pgdata-extension-template"))? {
        each_locked(&format, |template| remove_half_written(&template.join(EXTENSION_TEMPLATE)))?;
    }
    Ok(())
}

/// Calls for each entry of one of the cache's folders, holding its lock as the server does.
fn each_locked(folder: &Path, act: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    for path in entries(&folder.join(".locks"))? {
        let lock = File::options().write(true).open(&path)?;
        lock.lock()?;
        act(&folder.join(path.file_stem().unwrap_or_default()))?;
    }
    Ok(())
}

/// The paths in a folder; none where there is no folder.
fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Takes a note away that is not whole JSON.
fn remove_half_written(note: &Path) -> io::Result<()> {
    match read(note)? {
        Some(text) if serde_json::from_slice::<IgnoredAny>(&text).is_err() => std::fs::remove_file(note),
        _ => Ok(()),
    }
}

/// The folder of the template, where the cache holds it.
fn template(manifest: &Manifest, cache: &Path) -> io::Result<Option<PathBuf>> {
    let formats = entries(&cache.join("pgdata-template"))?.into_iter();
    let mut candidates = formats.map(|format| format.join(&manifest.template_archive_sha256).join("base"));
    Ok(candidates.find(|base| base.is_dir()))
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

    #[test]
    fn a_torn_note_of_the_layout_is_taken_away() {
        let (place, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let layout = place.path().join(LAYOUT);
        std::fs::create_dir_all(layout.parent().unwrap()).unwrap();
        std::fs::write(&layout, r#"{"kind":"shared"}"#).unwrap();
        mend_database(place.path(), cache.path()).unwrap();
        assert!(layout.exists(), "a whole one stays");
        std::fs::write(&layout, "").unwrap();
        mend_database(place.path(), cache.path()).unwrap();
        assert!(!layout.exists());
    }

    #[test]
    fn what_was_half_made_in_the_cache_is_made_anew() {
        let cache = tempfile::tempdir().unwrap();
        let (runtimes, templates) =
            (cache.path().join("runtime"), cache.path().join("pgdata-extension-template/v1"));
        for (folder, names) in
            [(&runtimes, ["half", "whole", "none"]), (&templates, ["half", "whole", "none"])]
        {
            std::fs::create_dir_all(folder.join(".locks")).unwrap();
            for name in names {
                std::fs::write(folder.join(".locks").join(name).with_extension("lock"), "").unwrap();
            }
        }
        let (half, whole) = (runtimes.join("half"), runtimes.join("whole"));
        for runtime in [&half, &whole] {
            std::fs::create_dir_all(runtime.join("tmp/pglite/bin")).unwrap();
        }
        // Another process may be writing it anew: that says nothing about what was unpacked.
        std::fs::write(whole.join(LAYOUT), "").unwrap();
        for (name, note) in [("half", ""), ("whole", "{}")] {
            std::fs::create_dir_all(templates.join(name)).unwrap();
            std::fs::write(templates.join(name).join(EXTENSION_TEMPLATE), note).unwrap();
        }
        mend_cache(cache.path()).unwrap();
        assert!(!half.exists());
        assert!(whole.join("tmp/pglite/bin").exists());
        assert!(!templates.join("half").join(EXTENSION_TEMPLATE).exists());
        assert!(templates.join("whole").join(EXTENSION_TEMPLATE).exists());
    }
}
