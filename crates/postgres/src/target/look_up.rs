//! What a table holds under given keys.
//!
//! The keys travel in the binary form in which they would be written. Where PostgreSQL reads a column out of text, it
//! is asked whether the record's text is what it holds: two texts of one value are then no difference.

use super::held::{Contents, Query, Reading, Understanding};
use crate::catalog::{self, Layout};
use crate::client::{Lease, Purpose};
use crate::copy::OwnRow;
use crate::encode::{Encoder, Rows};
use crate::error::{from_driver, is_about_a_value};
use crate::rows::RowBuffer;
use crate::sql;
use crate::target::catalog::Table;
use crate::template::identifier;
use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use bytes::{BufMut as _, BytesMut};
use std::sync::Arc;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use whimbrel_model::{Capacity, StoreName};
use whimbrel_store::{HeldBatch, HeldFlow, LookedUp, Result, RunContext, StoreError, StoreErrorKind};

/// How many values one statement takes at the most; the protocol has room for 65,535.
const MOST_VALUES: usize = 20_000;
/// How many keys are looked up at a time.
const MOST_KEYS: usize = 1_000;
/// Around a statement that may fail on a value.
const SAVE: &str = "SAVEPOINT whimbrel_look_up";
const UNDO: &str = "ROLLBACK TO SAVEPOINT whimbrel_look_up; RELEASE SAVEPOINT whimbrel_look_up";
const KEEP: &str = "RELEASE SAVEPOINT whimbrel_look_up";

/// How records of one schema are looked up; made once.
pub(super) struct LookUp {
    pub(super) schema: SchemaRef,
    encoder: Encoder,
    query: Query,
    layout: Layout,
    understanding: Arc<Understanding>,
    /// Columns of the encoder: those of the key.
    key: Vec<Asked>,
    /// Those that PostgreSQL reads out of text, and their places among what is read.
    texts: Vec<(Asked, usize)>,
}

/// A column whose values are sent.
struct Asked {
    /// Its place in the encoder.
    field: usize,
    name: String,
    /// What stands behind a placeholder.
    cast: String,
}

impl Asked {
    fn new(table: &Table, encoder: &Encoder, name: &str) -> Option<Self> {
        let field = encoder.columns().iter().position(|column| column.name == name)?;
        let column = table.column(name)?;
        let cast = if column.wire.is_cast() {
            format!("::pg_catalog.text::{}", column.type_name)
        } else {
            format!("::{}", column.base_name)
        };
        Some(Self { field, name: name.to_owned(), cast })
    }
}

/// What was found, row by row.
struct Found {
    buffer: RowBuffer,
    /// For each row that was found, the record that asked for it.
    asked_by: Vec<usize>,
    /// For each row, and each column that PostgreSQL reads: whether the record's text is what it holds.
    same: Vec<Vec<bool>>,
}

/// A value in binary form.
#[derive(Debug)]
struct Raw<'a>(Option<&'a [u8]>);

impl ToSql for Raw<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.0.map_or(Ok(IsNull::Yes), |bytes| {
            out.put_slice(bytes);
            Ok(IsNull::No)
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(
        _: &Type,
        bytes: &'a [u8],
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(bytes)))
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A session for reading. The only connection may be busy with a read that waits for this very look-up.
pub(super) async fn lease(reading: &Reading<'_>) -> Result<Lease> {
    let hint = "records of an embedded database cannot be looked up while it is read; compare all records";
    reading.connections.lease_unless_read(Purpose::Catalog, hint).await
}

impl LookUp {
    pub(super) async fn new(reading: &Reading<'_>, schema: &SchemaRef, lease: &Lease) -> Result<Self> {
        let request = reading.request.clone();
        let key = reading.key(&request, schema)?;
        if key.is_empty() {
            return Err(reading.no_key());
        }
        let encoder = super::route::encoder(reading.store, &request, reading.table, &key, schema)?;
        let flow = HeldFlow { constants: Vec::new(), columns: Arc::clone(schema), request };
        let query = reading.query(std::slice::from_ref(&flow))?;
        let layout = catalog::layout(reading.store, lease, &query.request()).await?;
        let asked = |name: &String| Asked::new(reading.table, &encoder, name);
        let texts = query.columns().iter().enumerate().filter_map(|(at, name)| {
            let is_cast = reading.table.column(name).is_some_and(|column| column.wire.is_cast());
            Some((asked(name).filter(|_| is_cast)?, at))
        });
        Ok(Self {
            schema: Arc::clone(schema),
            key: key.iter().filter_map(asked).collect(),
            texts: texts.collect(),
            understanding: Arc::clone(&query.understanding),
            encoder,
            query,
            layout,
        })
    }

    /// What the table holds under the records' keys.
    pub(super) async fn look_up(
        &self,
        store: &StoreName,
        lease: &Lease,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Result<LookedUp> {
        let rows = self.encoder.encode(records, &context.fingerprint_key);
        let fields: Vec<_> = (0..records.num_rows()).map(|row| self.fields(&rows, row)).collect();
        let mut found = Found {
            buffer: RowBuffer::new(&self.layout.schema, &self.layout.columns),
            asked_by: Vec::new(),
            same: Vec::new(),
        };
        let asked: Vec<usize> = (0..fields.len()).filter(|row| fields[*row].is_some()).collect();
        let per_row = self.key.len() + self.texts.len();
        let at_once = (MOST_VALUES / per_row.max(1)).clamp(1, MOST_KEYS);
        let mut waiting: Vec<(Vec<usize>, bool)> =
            asked.chunks(at_once).rev().map(|rows| (rows.to_vec(), !self.texts.is_empty())).collect();
        while let Some((rows, compares)) = waiting.pop() {
            if self.ask(store, lease, &fields, &rows, compares, &mut found).await? {
                continue;
            }
            // A value that its type does not take: the record that has it is asked about alone.
            match rows.len() {
                1 if compares => waiting.push((rows, false)),
                1 => {}
                count => {
                    let (one, other) = rows.split_at(count / 2);
                    waiting.extend([(other.to_vec(), compares), (one.to_vec(), compares)]);
                }
            }
        }
        self.settle(store, &fields, found, context)
    }

    /// A record's fields, one by one, in the encoder's order; `None`: it cannot be written.
    fn fields<'a>(&self, rows: &'a Rows, row: usize) -> Option<Vec<Option<&'a [u8]>>> {
        let mut rest = rows.fields(row).ok()?;
        let mut fields = Vec::with_capacity(self.encoder.columns().len());
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = usize::try_from(i32::from_be_bytes(*length)).ok();
            let (field, after) = length.map_or(Some((None, after)), |length| {
                after.split_at_checked(length).map(|(field, after)| (Some(field), after))
            })?;
            fields.push(field);
            rest = after;
        }
        Some(fields)
    }

    /// The statement for so many records.
    fn statement(&self, rows: usize, compares: bool) -> String {
        let mut number = 0;
        let mut placeholder = |cast: &str| {
            number += 1;
            format!("${number}{cast}")
        };
        let texts = if compares { &self.texts[..] } else { &[] };
        let values = (0..rows).map(|row| {
            let keys = self.key.iter().map(|asked| asked.cast.as_str());
            // What the record's text would be written as, as text again.
            let keys: Vec<_> = keys.map(&mut placeholder).collect();
            let texts = texts.iter().map(|(asked, _)| {
                let value = placeholder(&asked.cast);
                format!("({value})::pg_catalog.text")
            });
            let all: Vec<_> = std::iter::once(row.to_string()).chain(keys).chain(texts).collect();
            format!("({})", all.join(", "))
        });
        let values = values.collect::<Vec<_>>().join(", ");
        let names = (0..self.key.len()).map(|at| format!("k{at}"));
        let names = names.chain((0..texts.len()).map(|at| format!("t{at}")));
        let names: Vec<_> = std::iter::once("n".to_owned()).chain(names).collect();
        let on = self.key.iter().enumerate();
        let on: Vec<_> =
            on.map(|(at, asked)| format!("input.{} = v.k{at}", identifier(&asked.name))).collect();
        let same = texts.iter().enumerate().map(|(at, (asked, _))| {
            format!("(input.{})::pg_catalog.text IS NOT DISTINCT FROM v.t{at}", identifier(&asked.name))
        });
        let head: Vec<_> = std::iter::once("v.n".to_owned()).chain(same).collect();
        format!(
            "SELECT {}, {} FROM (VALUES {values}) AS v ({}) JOIN (SELECT * FROM {}) AS input ON {}",
            head.join(", "),
            sql::fields(&self.layout).join(", "),
            names.join(", "),
            self.query.from(),
            on.join(" AND ")
        )
    }

    /// `false`: one of the records has a value that its type does not take, and nothing was found.
    async fn ask(
        &self,
        store: &StoreName,
        lease: &Lease,
        fields: &[Option<Vec<Option<&[u8]>>>],
        rows: &[usize],
        compares: bool,
        found: &mut Found,
    ) -> Result<bool> {
        let failed = |error| from_driver(store, "cannot look records up by their keys", error);
        let texts = if compares { &self.texts[..] } else { &[] };
        let sent = || self.key.iter().chain(texts.iter().map(|(asked, _)| asked));
        let values = rows.iter().flat_map(|row| {
            let fields = fields[*row].as_deref().unwrap_or_default();
            sent().map(|asked| Raw(fields.get(asked.field).copied().flatten()))
        });
        let values: Vec<Raw<'_>> = values.collect();
        let parameters: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
        let client = lease.client();
        let may_fail = !self.texts.is_empty();
        if may_fail {
            client.batch_execute(SAVE).await.map_err(failed)?;
        }
        let statement = self.statement(rows.len(), compares);
        let answer = match client.prepare(&statement).await {
            Ok(statement) => client.query(&statement, &parameters).await,
            Err(error) => return Err(failed(error)),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if may_fail && error.as_db_error().is_some_and(is_about_a_value) => {
                client.batch_execute(UNDO).await.map_err(failed)?;
                return Ok(false);
            }
            Err(error) => return Err(failed(error)),
        };
        if may_fail {
            client.batch_execute(KEEP).await.map_err(failed)?;
        }
        for row in &answer {
            let number: i32 = row.try_get(0).map_err(failed)?;
            let asked_by = usize::try_from(number).ok().and_then(|number| rows.get(number));
            let same = (0..texts.len()).map(|at| row.try_get(1 + at)).collect::<std::result::Result<_, _>>();
            let values = (1 + texts.len()..row.len()).map(|at| row.try_get::<_, Raw<'_>>(at));
            let values = values.collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
            let unread = StoreError::new(StoreErrorKind::Protocol, store, "cannot read what was looked up");
            let held = match OwnRow::of_values(values.iter().map(|value| value.0)) {
                Ok(held) => held,
                Err(error) => return Err(unread.caused_by(error)),
            };
            found.buffer.push(held.as_rows()).map_err(|error| unread.caused_by(error))?;
            found.asked_by.extend(asked_by);
            found.same.push(same.map_err(failed)?);
        }
        Ok(true)
    }

    /// Records with their fingerprints, in the words of those that asked where those are the same.
    fn settle(
        &self,
        store: &StoreName,
        fields: &[Option<Vec<Option<&[u8]>>>],
        mut found: Found,
        context: &RunContext,
    ) -> Result<LookedUp> {
        let broken = |error| {
            StoreError::new(StoreErrorKind::Internal, store, "cannot hold what was looked up")
                .caused_by(error)
        };
        let taken = found.buffer.take().map_err(|error| {
            StoreError::new(StoreErrorKind::Internal, store, "cannot hold what was looked up")
                .caused_by(error)
        })?;
        let mut columns = taken.records.columns().to_vec();
        for (text, (asked, at)) in self.texts.iter().enumerate() {
            let held = &taken.records.columns()[*at];
            let Some(held) = held.as_string_opt::<i32>() else { continue };
            let own = |row: usize| {
                let is_same = found.same[row].get(text).copied().unwrap_or(false);
                let sent =
                    fields[found.asked_by[row]].as_deref().and_then(|fields| *fields.get(asked.field)?);
                let sent = sent.filter(|_| is_same).and_then(|sent| std::str::from_utf8(sent).ok());
                sent.or_else(|| held.is_valid(row).then(|| held.value(row)))
            };
            let merged: StringArray = (0..held.len()).map(own).collect();
            columns[*at] = Arc::new(merged) as ArrayRef;
        }
        let flows = vec![Some(0); taken.records.num_rows()];
        let compared = RecordBatch::try_new(taken.records.schema(), columns).map_err(broken)?;
        let records =
            self.understanding.records(&compared, &flows, &taken.unreadable, &context.fingerprint_key);
        let mut rows = vec![None; fields.len()];
        for (place, asked_by) in found.asked_by.iter().enumerate() {
            rows[*asked_by] = Some(place);
        }
        let held = HeldBatch {
            contents: Arc::new(Contents::new(&self.understanding, taken.records)),
            records,
            bytes: u64::try_from(taken.bytes).unwrap_or(u64::MAX),
            capacity: Capacity::default(),
        };
        Ok(LookedUp { rows, held })
    }
}
