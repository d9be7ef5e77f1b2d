//! The layout of DynamoDB's export to S3: a folder with `manifest-summary.json`, `manifest-files.json` and
//! `data/*.json.gz`.
//!
//! The manifest says of each data file how many items it holds and the MD5 of its bytes; both are compared when
//! the file is read. It may be a copy on a disk: data files are found by their names, whatever bucket and prefix
//! the manifest names.

use super::{DataFile, Found};
use crate::client::{FileRef, Place};
use crate::error::{Fault, Outcome};
use crate::format::Format;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use whimbrel_store::StoreErrorKind;

const SUMMARY: &str = "manifest-summary.json";
const FILES: &str = "manifest-files.json";
/// A manifest is a line of some 200 bytes a data file; one that is larger than this is none.
const LARGEST_MANIFEST_BYTES: u64 = 256 << 20;

/// What a manifest says of a data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// How many items it holds.
    pub(crate) items: u64,
    /// The MD5 of its bytes, in base64.
    pub(crate) md5: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    item_count: u64,
    output_format: Option<String>,
    export_type: Option<String>,
    table_arn: Option<String>,
    export_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    item_count: u64,
    md5_checksum: Option<String>,
    data_file_s3_key: String,
}

/// Whether a path is that of a data file of an export: `…/AWSDynamoDB/ID/data/NAME.gz`. Only full exports in DynamoDB
/// JSON are told so; those in Ion end in `.ion.gz`.
pub(super) fn is_data(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let (name, data, _, folder) = (parts.next(), parts.next(), parts.next(), parts.next());
    let is_gzip = name.is_some_and(|name| name.ends_with(".gz") && !name.ends_with(".ion.gz"));
    is_gzip && data == Some("data") && folder == Some("AWSDynamoDB")
}

/// The export in this folder, or the one that lies in it as DynamoDB has laid it, `AWSDynamoDB/ID`; `None`: there is none.
pub(super) async fn find(place: &Place, folder: &str, files: &[FileRef]) -> Outcome<Option<Found>> {
    let of = |file: &FileRef| {
        let within = file.path.strip_prefix(folder)?.strip_suffix(SUMMARY)?;
        let is_laid = within.is_empty() || file.path.contains("AWSDynamoDB/");
        is_laid.then(|| within.to_owned())
    };
    let mut all: Vec<String> = files.iter().filter_map(of).collect();
    all.sort();
    match all.as_slice() {
        [] => Ok(None),
        [only] => one(place, &format!("{folder}{only}"), files).await,
        [first, ..] if first.is_empty() => one(place, folder, files).await,
        [first, second, ..] => {
            let (first, second) = (first.trim_end_matches('/'), second.trim_end_matches('/'));
            Err(broken(format!(
                "there are several exports, {first} and {second} among them: name one of them"
            )))
        }
    }
}

async fn one(place: &Place, folder: &str, files: &[FileRef]) -> Outcome<Option<Found>> {
    let by_path: BTreeMap<&str, &FileRef> =
        files.iter().filter_map(|file| Some((file.path.strip_prefix(folder)?, file))).collect();
    let Some(summary) = by_path.get(SUMMARY) else { return Ok(None) };
    let summary: Summary = parse(SUMMARY, &checked(place, &by_path, summary, "manifest-summary.md5").await?)?;
    if let Some(format) = summary.output_format.as_deref().filter(|format| *format != "DYNAMODB_JSON") {
        let what =
            format!("the export's format is {format}; only DYNAMODB_JSON can be read, not yet another");
        return Err(Fault::found(StoreErrorKind::Unsupported, what));
    }
    if summary.export_type.as_deref() == Some("INCREMENTAL_EXPORT") {
        let what = "the export is incremental; only full exports can be read, not yet another";
        return Err(Fault::found(StoreErrorKind::Unsupported, what));
    }
    let list = by_path.get(FILES).ok_or_else(|| broken(format!("the export lacks its {FILES}")))?;
    let list = checked(place, &by_path, list, "manifest-files.md5").await?;
    let lines = list.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let lines = lines.map(|line| parse(FILES, line)).collect::<Outcome<Vec<Line>>>()?;
    let items: u64 = lines.iter().map(|line| line.item_count).sum();
    if items != summary.item_count {
        let said = summary.item_count;
        return Err(broken(format!("{SUMMARY} says {said} items, and the files of {FILES} hold {items}")));
    }
    let data = lines.into_iter().map(|line| data_file(&by_path, line)).collect::<Outcome<Vec<_>>>()?;
    let of = summary.table_arn.map(|arn| format!(" of {arn}")).unwrap_or_default();
    let at = summary.export_time.map(|time| format!(" as it was at {time}")).unwrap_or_default();
    let notes =
        vec![format!("an export{of}{at}: {items} items in {} files, as its manifest says", data.len())];
    Ok(Some(Found { format: Format::DynamoDbJson, files: data, records: Some(items), notes }))
}

fn data_file(by_path: &BTreeMap<&str, &FileRef>, line: Line) -> Outcome<DataFile> {
    let name = line.data_file_s3_key.rsplit('/').next().unwrap_or_default();
    let file = by_path.get(format!("data/{name}").as_str());
    let file = file.ok_or_else(|| broken(format!("the export lacks its data file \"data/{name}\"")))?;
    let expected = Expected { items: line.item_count, md5: line.md5_checksum };
    Ok(DataFile { file: (*file).clone(), expected: Some(expected) })
}

/// A manifest's bytes, compared with the MD5 beside it where there is one.
async fn checked(
    place: &Place,
    by_path: &BTreeMap<&str, &FileRef>,
    file: &FileRef,
    md5: &str,
) -> Outcome<Vec<u8>> {
    if file.size > LARGEST_MANIFEST_BYTES {
        return Err(broken(format!("{} is too large to be a manifest", file.name())));
    }
    let bytes = place.fetch(file).await?;
    if let Some(md5) = by_path.get(md5).filter(|md5| md5.size < 1024) {
        let digest = Md5::digest(&bytes);
        let hexadecimal: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let said = place.fetch(md5).await?;
        let said = said.trim_ascii();
        if said != BASE64.encode(digest).as_bytes() && !said.eq_ignore_ascii_case(hexadecimal.as_bytes()) {
            return Err(broken(format!("{} does not have the MD5 that {} says", file.name(), md5.name())));
        }
    }
    Ok(bytes)
}

fn parse<'de, T: Deserialize<'de>>(name: &str, bytes: &'de [u8]) -> Outcome<T> {
    serde_json::from_slice(bytes).map_err(|error| broken(format!("{name} cannot be read: {error}")))
}

fn broken(what: String) -> Fault {
    Fault::found(StoreErrorKind::Mismatch, what)
}
