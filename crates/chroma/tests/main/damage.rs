//! Damaged indexes: whatever is done to their files, an embedding is the one that was written, or is said to be lost or
//! doubtful. None is another record's in silence.

use crate::fixture::{EVERYTHING, Fixture, read, request, store};
use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::Float32Type;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use whimbrel_chroma::ChromaConfig;
use whimbrel_chroma::config::Lost;
use whimbrel_model::record::text_at;
use whimbrel_store::Store as _;

type Change = Box<dyn Fn(&mut Vec<u8>)>;

/// What is done to one file of an index.
struct Damage {
    file: &'static str,
    what: String,
    change: Change,
}

fn damage(file: &'static str, what: impl Into<String>, change: impl Fn(&mut Vec<u8>) + 'static) -> Damage {
    Damage { file, what: what.into(), change: Box::new(change) }
}

/// Adds to a number of the header.
fn shifted(at: usize, by: i64) -> Damage {
    damage("header.bin", format!("{by} at byte {at}"), move |bytes| {
        let field = bytes.get_mut(at..at + 8).expect("a field").first_chunk_mut::<8>().expect("eight bytes");
        *field = u64::from_le_bytes(*field).wrapping_add_signed(by).to_le_bytes();
    })
}

fn damages() -> Vec<Damage> {
    let count = [-1, -700, 1, 37, 400, 100_000].map(|by| shifted(20, by));
    let sizes = [(28, 4), (28, -4), (36, 4), (44, 4), (44, -4), (12, -5_000), (68, 1)]
        .map(|(at, by)| shifted(at, by));
    let cuts = [0, 99, 20_000].into_iter().flat_map(|length| {
        ["data_level0.bin", "length.bin", "header.bin", "index_metadata.pickle"]
            .map(|file| damage(file, format!("cut to {length}"), move |bytes| bytes.truncate(length)))
    });
    // Spread over the whole file, each another bit.
    let flips = (0..14_usize).map(|number| {
        damage("index_metadata.pickle", format!("flip {number}"), move |bytes| {
            let at = bytes.len() * number / 14 + number % 7;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (number % 8);
            }
        })
    });
    count.into_iter().chain(sizes).chain(cuts).chain(flips).collect()
}

/// The folder of the index with the most ids.
fn largest_index(directory: &Path) -> PathBuf {
    let folders =
        std::fs::read_dir(directory).expect("a folder").map(|entry| entry.expect("an entry").path());
    let size =
        |folder: &PathBuf| folder.join("index_metadata.pickle").metadata().map_or(0, |file| file.len());
    folders.filter(|path| path.is_dir()).max_by_key(size).expect("an index")
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// How many embeddings are as they should be, and how many are said not to be.
async fn judge(
    fixture: &Fixture,
    collection: &str,
    truth: &HashMap<&str, &Value>,
    place: &str,
) -> (usize, usize) {
    let mut config = ChromaConfig::at(fixture.directory());
    config.lost = Some(Lost::Null);
    let source = store(config).source(request(collection, &EVERYTHING)).expect("a source");
    let (mut right, mut said) = (0, 0);
    for batch in read(&source).await.unwrap_or_else(|error| panic!("{place}: {error:?}")) {
        for row in 0..batch.records.num_rows() {
            let text = |name: &str| text_at(batch.records.column_by_name(name).expect("a column"), row);
            let (id, state) = (text("id").expect("an id"), text("vector_state").expect("a state"));
            let lists = batch.records.column_by_name("embedding").expect("embeddings").as_list::<i32>();
            if lists.is_null(row) || state == "stale" {
                said += 1;
                continue;
            }
            let known =
                STANDARD.decode(truth[id]["embedding"].as_str().expect("an embedding")).expect("base64");
            let found = lists.value(row);
            assert_eq!(
                found.as_primitive::<Float32Type>().values().to_vec(),
                floats(&known),
                "{place}: {id} is {state}"
            );
            right += 1;
        }
    }
    (right, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_embedding_is_another_ones_in_silence() {
    let collection = "docs_l2";
    for name in ["0.4.24", "0.5.23", "1.0.21"] {
        let fixture = Fixture::unpack(name);
        let folder = largest_index(&fixture.directory());
        let all = fixture.truth();
        let of = |one: &&Value| one["name"] == collection && one["tenant"] == "default_tenant";
        let truth =
            all["collections"].as_array().expect("collections").iter().find(of).expect("the collection");
        let records = truth["records"].as_array().expect("records");
        let truth: HashMap<&str, &Value> =
            records.iter().map(|record| (record["id"].as_str().expect("an id"), record)).collect();
        assert_eq!(judge(&fixture, collection, &truth, name).await, (records.len(), 0));
        let mut noticed = 0;
        for damage in damages() {
            let path = folder.join(damage.file);
            let Ok(good) = std::fs::read(&path) else { continue };
            let mut bad = good.clone();
            (damage.change)(&mut bad);
            std::fs::write(&path, &bad).expect("the file is damaged");
            let place = format!("{name}: {}: {}", damage.file, damage.what);
            let (right, said) = judge(&fixture, collection, &truth, &place).await;
            assert_eq!(right + said, records.len(), "{place}: no record is missing");
            noticed += usize::from(said > 0);
            std::fs::write(&path, &good).expect("the file is good again");
        }
        // The log of 0.4 to 0.5.5 has every embedding: damage there costs nothing.
        assert_eq!(noticed > 12, name != "0.4.24", "{name}: {noticed}");
    }
}
