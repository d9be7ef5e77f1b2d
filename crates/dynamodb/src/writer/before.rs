//! What records take the place of: read and handed over before they are sent, and each then written only where its key
//! still holds just that.

use super::Parts;
use super::compare::Comparing;
use super::delivery::{Row, rejected};
use super::update::NO_ITEM;
use crate::client::Connection;
use crate::gets::Tally;
use crate::types::ignore::Ignore;
use crate::types::json;
use crate::types::row::{Encoder, Item};
use std::sync::Arc;
use whimbrel_model::Capacity;
use whimbrel_store::{BeforeImage, BeforeImages, Mode, Outcome, Refusal, Result};

/// Takes the before-images of a batch.
pub(super) struct Imaging<'a> {
    pub(super) parts: &'a Parts,
    pub(super) encoder: &'a Encoder<'a>,
    pub(super) connection: &'a Connection,
    pub(super) images: &'a Arc<dyn BeforeImages>,
    pub(super) contested: bool,
}

/// A row that need not be sent has its outcome.
pub(super) enum Looked {
    Send(Row),
    Settled(Outcome),
}

type Prepared = std::result::Result<Row, Refusal>;

/// An item's text, in DynamoDB JSON.
pub(super) fn text(item: &Item) -> String {
    let mut names: Vec<_> = item.iter().collect();
    names.sort_unstable_by_key(|(name, _)| *name);
    let mut text = vec![b'{'];
    for (number, (name, value)) in names.into_iter().enumerate() {
        if number > 0 {
            text.push(b',');
        }
        json::text(&mut text, name);
        text.push(b':');
        json::value(&mut text, value);
    }
    text.push(b'}');
    // It is made of texts.
    String::from_utf8(text).unwrap_or_default()
}

impl Imaging<'_> {
    /// The rows as they are to be sent, the hashes of the keys whose images were handed over, and what looking at
    /// the keys used.
    ///
    /// # Errors
    /// The store fails, or the images cannot be kept.
    pub(super) async fn rows(
        &self,
        rows: Vec<Prepared>,
    ) -> Result<(Vec<std::result::Result<Looked, Refusal>>, Vec<u128>, Capacity)> {
        let tally = Tally::default();
        let comparing = Comparing { parts: self.parts, encoder: self.encoder, connection: self.connection };
        let mut found = comparing.held(&rows, &tally).await?;
        let (mut images, mut looked) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows {
            looked.push(row.map(|row| {
                let held = found.remove(&row.prepared.fingerprint.key);
                let row = self.look(row, held.as_ref());
                if let Looked::Send(row) = &row {
                    images.push(self.image(row, held.as_ref()));
                }
                row
            }));
        }
        let keys = images.iter().map(|image| image.key).collect();
        if !images.is_empty() {
            self.images.keep(images).await?;
        }
        Ok((looked, keys, tally.used()))
    }

    fn look(&self, row: Row, held: Option<&Item>) -> Looked {
        let mode = self.parts.request.mode;
        let Some(item) = held else {
            return match mode {
                Mode::Update => Looked::Settled(rejected(NO_ITEM)),
                _ => Looked::Send(Row::create(row.prepared)),
            };
        };
        let fingerprint = row.prepared.fingerprint;
        match mode {
            Mode::Upsert if self.print(item) == self.print(&self.encoder.item(&row.prepared)) => {
                Looked::Settled(Outcome::Unchanged(fingerprint))
            }
            Mode::Upsert => Looked::Send(Row::replace(self.encoder, row.prepared, item)),
            Mode::Changed if self.encoder.held(item).record == fingerprint.record => {
                Looked::Settled(Outcome::Unchanged(fingerprint))
            }
            Mode::Changed => Looked::Send(Row::change(self.encoder, row.prepared, item)),
            Mode::Update => match row.confirmed(self.encoder, item) {
                Ok(row) if !row.has_nothing_to_write() => Looked::Send(row),
                Ok(_) if self.contested => Looked::Settled(Outcome::Updated(fingerprint)),
                Ok(_) => Looked::Settled(Outcome::Unchanged(fingerprint)),
                Err(refused) => Looked::Settled(refused),
            },
            Mode::Insert | Mode::SkipExisting => {
                let key = &self.parts.context.fingerprint_key;
                let same =
                    self.parts.layout.fingerprint(item, &self.parts.ignore, key).record == fingerprint.record;
                Looked::Settled(match mode {
                    _ if self.contested && same => Outcome::Created(fingerprint),
                    Mode::SkipExisting => Outcome::Skipped,
                    _ => rejected("the key exists already"),
                })
            }
        }
    }

    /// The hash of all that an item holds.
    fn print(&self, item: &Item) -> u128 {
        let key = &self.parts.context.fingerprint_key;
        self.parts.layout.fingerprint(item, &Ignore::default(), key).record
    }

    fn image(&self, row: &Row, held: Option<&Item>) -> BeforeImage {
        let becomes = match held {
            None => self.encoder.item(&row.prepared),
            Some(item) => row.applied(self.encoder, item),
        };
        BeforeImage {
            key: row.prepared.fingerprint.key,
            key_text: text(&self.encoder.key_item(&row.prepared)),
            before: held.map(text),
            was: held.map(|item| self.print(item)),
            becomes: Some(self.print(&becomes)),
        }
    }
}
