//! Which files a table is, and in which format: a file, a folder of files, or an export of a DynamoDB table.

mod export;

pub(crate) use export::Expected;

use crate::client::{FileRef, Place};
use crate::error::{Fault, Outcome};
use crate::format::{Format, format_of_name};
use whimbrel_store::StoreErrorKind;

/// How many names a message lists.
const NAMES_SHOWN: usize = 20;

/// A file of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataFile {
    /// Which file.
    pub(crate) file: FileRef,
    /// What a manifest says of it.
    pub(crate) expected: Option<Expected>,
}

/// The files of a table.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// How their records are written.
    pub(crate) format: Format,
    /// In the order of their paths; at least one, but in an export of an empty table.
    pub(crate) files: Vec<DataFile>,
    /// How many records a manifest says that there are.
    pub(crate) records: Option<u64>,
    /// What a person should know.
    pub(crate) notes: Vec<String>,
}

/// Looks a table up: below the root of a place, by its path there.
pub(crate) async fn find(place: &Place, table: &str, format: Option<Format>) -> Outcome<Found> {
    let path = place.path_of(table);
    if let Some(file) = place.find(&path).await? {
        let format = format.or_else(|| format_of_path(&file.path)).ok_or_else(|| no_format(&file.path))?;
        let files = vec![DataFile { file, expected: None }];
        return Ok(Found { format, files, records: None, notes: Vec::new() });
    }
    let mut folder = path.trim_end_matches('/').to_owned();
    if !folder.is_empty() {
        folder.push('/');
    }
    let files = place.list(&folder).await?;
    if let Some(found) = export::find(place, &folder, &files).await? {
        return Ok(found);
    }
    of_folder(place, table, format, files).await
}

async fn of_folder(
    place: &Place,
    table: &str,
    wanted: Option<Format>,
    files: Vec<FileRef>,
) -> Outcome<Found> {
    let known = |file: FileRef| Some((wanted.or_else(|| format_of_path(&file.path))?, file));
    let passed_over = files.len();
    let known: Vec<(Format, FileRef)> = files.into_iter().filter_map(known).collect();
    let passed_over = passed_over - known.len();
    let Some(format) = known.first().map(|(format, _)| *format) else {
        return Err(missing(place, table, passed_over).await);
    };
    if let Some((other, file)) = known.iter().find(|(other, _)| *other != format) {
        let what = format!(
            "the folder holds files of more than one format: \"{}\" is {format}, \"{}\" is {other}",
            known[0].1.name(),
            file.name()
        );
        return Err(Fault::found(StoreErrorKind::Unsupported, what));
    }
    let mut notes = Vec::new();
    if known.len() > 1 {
        notes.push(format!("{} files; one that is added later is not read", known.len()));
    }
    if wanted.is_none() && known.iter().any(|(_, file)| export::is_data(&file.path)) {
        notes.push(
            "data files of an export without its manifest: whether all are there cannot be told".to_owned(),
        );
    }
    if passed_over > 0 {
        notes.push(format!("{passed_over} files are passed over: their names say no format"));
    }
    let files = known.into_iter().map(|(_, file)| DataFile { file, expected: None }).collect();
    Ok(Found { format, files, records: None, notes })
}

/// What a path says: the name of the file, or that it is a data file of an export, whose name may say nothing.
fn format_of_path(path: &str) -> Option<Format> {
    if export::is_data(path) { Some(Format::DynamoDbJson) } else { format_of_name(path) }
}

/// There is no such file, with those that there are.
async fn missing(place: &Place, table: &str, passed_over: usize) -> Fault {
    if passed_over > 0 {
        return no_format(&place.path_of(table));
    }
    let root = place.path_of("");
    let prefix = if root.is_empty() { root } else { format!("{}/", root.trim_end_matches('/')) };
    let there = place.list(&prefix).await.unwrap_or_default();
    let names: Vec<_> =
        there.iter().map(|file| file.path.strip_prefix(&prefix).unwrap_or(&file.path)).collect();
    let what = match names.len() {
        0 => format!("there is no file \"{}\"", place.path_of(table)),
        _ => {
            let shown = names[..names.len().min(NAMES_SHOWN)].join(", ");
            let more = names.len().saturating_sub(NAMES_SHOWN);
            let more = if more > 0 { format!(", and {more} more") } else { String::new() };
            format!("there is no file \"{}\"; there are {shown}{more}", place.path_of(table))
        }
    };
    Fault::found(StoreErrorKind::NotFound, what)
}

fn no_format(path: &str) -> Fault {
    let what = format!("the name \"{path}\" says no format; say it with `format:`");
    Fault::found(StoreErrorKind::Unsupported, what)
}
