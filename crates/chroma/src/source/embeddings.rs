//! Embeddings, out of the log and out of the index.

use crate::error::{Fault, Outcome};
use crate::records::Prepared;
use crate::types::State;
use rusqlite::types::ToSqlOutput::Borrowed;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement, params};

/// How far a normalised embedding that was multiplied again may be from the original, as a share of its norm.
const NEAR: f32 = 1e-5;

/// Looks embeddings up one by one.
pub(super) struct Embeddings<'c> {
    prepared: &'c Prepared,
    queued: Statement<'c>,
    /// What was written of an id before the index was, the latest first.
    before: Statement<'c>,
    /// Room for one embedding, as it lies in the index and as floats.
    bytes: Vec<u8>,
    floats: Vec<f32>,
}

impl<'c> Embeddings<'c> {
    pub(super) fn prepare(connection: &'c Connection, prepared: &'c Prepared) -> Outcome<Self> {
        let queued = "SELECT vector, encoding FROM chroma.embeddings_queue WHERE seq_id = ?1";
        let before = "SELECT q.vector, q.encoding, l.operation = 0, l.seq = r.seq FROM log l \
             JOIN chroma.embeddings_queue q ON q.seq_id = l.seq JOIN records r ON r.id = l.id \
             WHERE l.id = ?1 AND l.seq <= ?2 AND l.has_embedding ORDER BY l.seq DESC";
        Ok(Self {
            prepared,
            queued: connection.prepare(queued)?,
            before: connection.prepare(before)?,
            bytes: Vec::new(),
            floats: Vec::new(),
        })
    }

    /// Takes the room of an embedding back that is needed no longer.
    pub(super) fn give_back(&mut self, floats: Vec<f32>) {
        self.floats = floats;
    }

    /// What an operation of the log wrote, bit for bit.
    pub(super) fn queued(&mut self, seq: i64) -> Outcome<Vec<f32>> {
        let mut rows = self.queued.query([seq])?;
        match rows.next()? {
            Some(row) => floats(row.get_ref(0)?, row.get_ref(1)?),
            None => Err(Fault::mismatch(format!("operation {seq} is gone from the log"))),
        }
    }

    /// What the index holds. Where it is normalised, the log's original goes before it, if it is the same embedding.
    pub(super) fn indexed(&mut self, slot: u32, id: ValueRef<'_>) -> Outcome<(Vec<f32>, State)> {
        let Some(index) = &self.prepared.index else {
            return Err(Fault::mismatch("there is no index"));
        };
        index.embedding(slot, &mut self.bytes, &mut self.floats)?;
        if !self.prepared.is_normalised() {
            return Ok((std::mem::take(&mut self.floats), State::Exact));
        }
        // Norms that are zero or beyond the floats leave nothing to compare with.
        let says_nothing = self.floats.iter().all(|float| *float == 0.0)
            || self.floats.iter().any(|float| !float.is_finite());
        let mut rows = self.before.query(params![Borrowed(id), self.prepared.index_seq])?;
        while let Some(row) = rows.next()? {
            let (is_add, is_latest): (bool, bool) = (row.get(2)?, row.get(3)?);
            let original = floats(row.get_ref(0)?, row.get_ref(1)?)?;
            // An add may have done nothing; unless the record says that it was the last that did something.
            let is_it = if says_nothing { !is_add || is_latest } else { is_near(&original, &self.floats) };
            if is_it && original.len() == self.floats.len() {
                return Ok((original, State::Exact));
            }
        }
        Ok((std::mem::take(&mut self.floats), State::Rebuilt))
    }
}

fn is_near(original: &[f32], rebuilt: &[f32]) -> bool {
    let norm = original.iter().map(|float| f64::from(*float).powi(2)).sum::<f64>().sqrt();
    let most = f64::from(NEAR) * norm;
    let is_near = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs() <= most;
    original.len() == rebuilt.len() && original.iter().zip(rebuilt).all(is_near)
}

/// The floats of an operation of the log.
fn floats(vector: ValueRef<'_>, encoding: ValueRef<'_>) -> Outcome<Vec<f32>> {
    let unknown = |what: &str| Fault::mismatch(format!("the log holds an embedding {what}"));
    match encoding {
        ValueRef::Text(b"FLOAT32") | ValueRef::Null => {}
        _ => return Err(unknown("in another encoding than FLOAT32")),
    }
    let ValueRef::Blob(bytes) = vector else { return Err(unknown("that is none")) };
    let (chunks, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(unknown("that is cut off"));
    }
    Ok(chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_original_is_known_by_its_nearness() {
        let original = [3.0_f32, -4.0, 1e-20];
        let rebuilt = original.map(|float| float / 5.0 * 5.000_000_5);
        assert!(is_near(&original, &rebuilt));
        assert!(!is_near(&original, &[3.0, -4.001, 0.0]));
        assert!(!is_near(&original, &[3.0, -4.0]));
    }

    #[test]
    fn a_log_entry_that_is_cut_off_is_refused() {
        let encoding = ValueRef::Text(b"FLOAT32");
        assert_eq!(floats(ValueRef::Blob(&1.5_f32.to_le_bytes()), encoding).unwrap(), [1.5]);
        assert!(floats(ValueRef::Blob(&[0; 5]), encoding).is_err());
        assert!(floats(ValueRef::Blob(&[0; 4]), ValueRef::Text(b"INT32")).is_err());
    }
}
