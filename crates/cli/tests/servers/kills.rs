//! Runs on real servers that are killed at any moment, and resumed.

use super::{Database, Live, expected_parcels};
use crate::items::{self, Items};
use crate::kills::{Case, Target, kills, rows, write_letters};
use crate::letters;
use crate::parcels;
use crate::place::until;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, PutRequest,
    ScalarAttributeType, WriteRequest,
};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::process::Command;

impl Target for Live {
    fn environment(&self) -> &'static str {
        "live"
    }

    fn variable(&self, trial: &str) -> String {
        format!("table={}", self.tables.name(trial))
    }

    fn surroundings(&self, command: &mut Command) {
        Live::surroundings(self, command);
    }

    fn items(&self, trial: &str) -> Items {
        let items = self.tables.items(trial);
        items::assert_same(&items, &expected_parcels(&self.database));
        items
    }
}

/// Conditional writes are those in which a resumed run might take its own items for another's.
#[test]
fn parcels_under_insert_and_skip_existing_survive_kills() {
    let Some(live) = Live::with_parcels(2_200, 1_200) else { return };
    live.place.write("parcels.yaml", &parcels::SPEC.replace("mode: upsert", "mode: insert"));
    let spec = "parcels.yaml".to_owned();
    Case { place: &live.place, spec, target: &live, exit: 3, only: None }.survives(kills(4));
}

/// They and their messages are enough for a second segment of the scan.
const CONVERSATIONS: u64 = 2_000;

/// Two flows out of one scan, each trial into a database of its own.
struct Letters {
    live: Live,
    expected: letters::Expected,
    /// The tables are there before the run, so that PostgreSQL watches their foreign key from the start and messages
    /// wait for their conversations; else the program makes them, and finds orphans behind the load.
    are_made: bool,
    databases: RefCell<BTreeMap<String, Database>>,
}

impl Letters {
    fn new(live: Live, are_made: bool) -> Self {
        write_letters(&live.place);
        let (items, expected) = letters::items(CONVERSATIONS);
        fill(&live, &items);
        Self { live, expected, are_made, databases: RefCell::default() }
    }

    fn case(&self) -> Case<'_> {
        let spec = "letters.yaml".to_owned();
        Case { place: &self.live.place, spec, target: self, exit: 3, only: None }
    }
}

impl Target for Letters {
    fn environment(&self) -> &'static str {
        "live"
    }

    fn variable(&self, trial: &str) -> String {
        format!("database={}", self.databases.borrow()[trial].url())
    }

    fn surroundings(&self, command: &mut Command) {
        self.live.surroundings(command);
        command.env("LETTERS_TABLE", self.live.tables.name(letters::TABLE));
    }

    fn items(&self, trial: &str) -> Items {
        rows(self.databases.borrow()[trial].documents(letters::ROWS), self.expected)
    }

    fn batch_size(&self) -> &'static str {
        "200"
    }

    fn assert_counts(&self, flows: &Value) {
        self.expected.assert_counts(flows);
    }

    fn prepare(&self, trial: &str) {
        let name = format!("{}_{}", self.live.database.name(), trial.replace('-', "_"));
        let database = Database::make(&self.live.database.server, &name);
        if self.are_made {
            database.script(letters::SCHEMA);
        }
        self.databases.borrow_mut().insert(trial.to_owned(), database);
    }

    fn clear(&self, trial: &str) {
        self.databases.borrow_mut().remove(trial);
    }
}

/// Makes the table and writes the items into it, in the order in which they come.
fn fill(live: &Live, items: &[Value]) {
    let (tables, name) = (&live.tables, live.tables.name(letters::TABLE));
    let key = |name: &str, role| KeySchemaElement::builder().attribute_name(name).key_type(role).build();
    let attribute = |name: &str| {
        AttributeDefinition::builder().attribute_name(name).attribute_type(ScalarAttributeType::S).build()
    };
    let create = tables.client.create_table().table_name(&name).billing_mode(BillingMode::PayPerRequest);
    let create = create
        .key_schema(key("pk", KeyType::Hash).expect("a key"))
        .key_schema(key("sk", KeyType::Range).expect("a key"))
        .attribute_definitions(attribute("pk").expect("an attribute"))
        .attribute_definitions(attribute("sk").expect("an attribute"));
    tables.runtime.block_on(create.send()).expect("the table can be made");
    for part in items.chunks(25) {
        let puts = part.iter().map(|item| {
            let put = PutRequest::builder().set_item(Some(item_of(item))).build().expect("an item");
            WriteRequest::builder().put_request(put).build()
        });
        let write = tables.client.batch_write_item().request_items(&name, puts.collect()).send();
        let written = tables.runtime.block_on(write).expect("items can be written");
        assert!(written.unprocessed_items.is_none_or(|left| left.is_empty()), "a local table takes all");
    }
}

fn item_of(item: &Value) -> HashMap<String, AttributeValue> {
    let attributes = item.as_object().expect("an item").iter();
    attributes.map(|(name, value)| (name.clone(), attribute_of(value))).collect()
}

/// The types that the items here have.
fn attribute_of(value: &Value) -> AttributeValue {
    let (tag, content) = value.as_object().and_then(|map| map.iter().next()).expect("an attribute");
    let text = || content.as_str().expect("a text").to_owned();
    match tag.as_str() {
        "S" => AttributeValue::S(text()),
        "N" => AttributeValue::N(text()),
        "BOOL" => AttributeValue::Bool(content.as_bool().expect("a truth value")),
        "NULL" => AttributeValue::Null(true),
        "M" => AttributeValue::M(item_of(content)),
        other => panic!("no item here holds {other}"),
    }
}

#[test]
fn conversations_and_their_messages_survive_kills() {
    let Some(live) = Live::new() else { return };
    Letters::new(live, false).case().survives(kills(3));
}

/// Between the last step behind the load and the end of the run, the target is not as the run found it: its foreign key
/// is back, and would have made messages wait from the start.
#[test]
fn a_run_that_is_killed_behind_its_steps_survives() {
    let Some(live) = Live::new() else { return };
    let letters = Letters::new(live, false);
    let has_key =
        "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = to_regclass('messages')";
    // The tables are made with the key, which is taken off before the first batch.
    let loads = "SELECT count(*) FROM pg_tables WHERE tablename = 'messages'";
    for attempt in 0..5 {
        let trial = format!("behind-{attempt}");
        letters.prepare(&trial);
        let mut running = letters.case().begin_trial(&trial);
        let number = |sql: &str| letters.databases.borrow()[&trial].number(sql);
        until("the load", || (number(loads) == 1 && number(has_key) == 0).then_some(()));
        until("the foreign key to come back", || (number(has_key) == 1).then_some(()));
        if running.has_ended() {
            continue;
        }
        running.kill();
        letters.case().goes_on(&trial);
        return;
    }
    panic!("the run ended each time before it could be killed");
}

#[test]
fn messages_that_wait_for_their_conversations_survive_kills() {
    let Some(live) = Live::new() else { return };
    Letters::new(live, true).case().survives(kills(3));
}
