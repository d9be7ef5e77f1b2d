//! Writes a DynamoDB export of some million items to a folder for temporary files and reads it from one slice:
//! `cargo run --release -p whimbrel-files --example reading_rate -- [MILLIONS] [gz]`.
//!
//! Says how many MB of DynamoDB JSON one core reads in a second, and the most memory that was in use.
#![expect(clippy::print_stdout, reason = "what it finds is its output")]

use flate2::Compression;
use flate2::write::GzEncoder;
use futures::TryStreamExt as _;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;
use whimbrel_files::{FilesConfig, FilesStore};
use whimbrel_store::{ReadRequest, Relation, Store as _, conformance};

const ITEMS_PER_FILE: u64 = 500_000;

fn write(folder: &Path, items: u64, packed: bool) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir(folder.join("data"))?;
    let mut manifest = String::new();
    let suffix = if packed { ".gz" } else { "" };
    for (file, from) in (0..items).step_by(500_000).enumerate() {
        let count = ITEMS_PER_FILE.min(items - from);
        let out = BufWriter::with_capacity(
            1 << 20,
            File::create(folder.join(format!("data/{file}.json{suffix}")))?,
        );
        let mut out: Box<dyn Write> =
            if packed { Box::new(GzEncoder::new(out, Compression::fast())) } else { Box::new(out) };
        for id in from..from + count {
            let text = "It was the best of times, it was the worst of times. ".repeat(3);
            writeln!(
                out,
                r#"{{"Item":{{"pk":{{"S":"USER#{id:08}"}},"sk":{{"S":"CONV#{id}"}},"title":{{"S":"{text}"}},"count":{{"N":"{id}"}},"active":{{"BOOL":true}},"createdAt":{{"S":"2024-01-31T23:59:59.123456Z"}},"filterValues":{{"M":{{"a":{{"S":"x"}},"b":{{"L":[{{"N":"1"}},{{"N":"2.50"}}]}}}}}}}}}}"#
            )?;
        }
        out.flush()?;
        drop(out);
        manifest += &format!("{{\"itemCount\":{count},\"dataFileS3Key\":\"x/data/{file}.json{suffix}\"}}\n");
    }
    std::fs::write(folder.join("manifest-files.json"), manifest)?;
    std::fs::write(folder.join("manifest-summary.json"), format!("{{\"itemCount\":{items}}}"))?;
    Ok(())
}

fn most_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find(|line| line.starts_with("VmHWM")).map(str::to_owned)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let millions: f64 = std::env::args().nth(1).map_or(Ok(1.0), |text| text.parse())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of items")]
    let items = (millions * 1e6) as u64;
    let packed = std::env::args().nth(2).is_some();
    let folder = tempfile::tempdir()?;
    write(folder.path(), items, packed)?;
    let store = FilesStore::new("export".into(), &FilesConfig::at(folder.path().display().to_string()))?;
    let wanted = ["pk", "sk", "title", "count", "active", "createdAt", "filterValues"].map(str::to_owned);
    let source = store.source(ReadRequest {
        relation: Relation::Table(String::new()),
        slice_by: Vec::new(),
        columns: [("count".to_owned(), "number".to_owned())].into(),
        parameters: [].into(),
        wanted: Some(wanted.into()),
        condition: None,
        wants_all: true,
        whole: false,
        batch_records: 8_192,
        batch_bytes: 8 << 20,
    })?;
    let started = Instant::now();
    let (mut bytes, mut records) = (0, 0);
    for part in source.slices(1).await? {
        let mut batches = source.read(&part, None, &conformance::context()).await?;
        while let Some(batch) = batches.try_next().await? {
            bytes += batch.bytes;
            records += batch.records.num_rows();
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let rate = bytes as f64 / 1e6 / seconds;
    println!(
        "{records} items, {} MB in {seconds:.1} s: {rate:.0} MB/s; {:?}",
        bytes / 1_000_000,
        most_memory()
    );
    Ok(())
}
