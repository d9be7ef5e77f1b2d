//! One request: sent once, its answer sorted by record.
//!
//! The bodies of requests with many records are written here, straight from the values: the SDK wants each item
//! as a map of owned names and values, which costs more than all the rest of a write. Everything else, from
//! signing to the answer, is the SDK's.

use super::delivery::{Delivery, Row, Way};
use crate::error::{Failure, Fault};
use crate::gets::units;
use crate::limits::STATEMENT_BYTES;
use crate::types::json;
use crate::types::row::Item;
use aws_sdk_dynamodb::config::http::HttpRequest;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementResponse, ConsumedCapacity, ReturnConsumedCapacity,
};
use whimbrel_model::Capacity;

/// More attributes than this go into a plain conditional put: a statement binds each one separately.
const STATEMENT_ATTRIBUTES: usize = 100;

/// What the store said of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is durable.
    Written,
    /// Its key holds something; in an update: it holds nothing, or something else than was read.
    Exists,
    /// It is refused, and why.
    Refused(String),
}

/// What one request came to.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// Records that the store has decided on.
    pub(super) settled: Vec<(usize, Verdict)>,
    /// Records that it has not.
    pub(super) again: Vec<usize>,
    /// Those of them that may have been written.
    pub(super) unsure: Vec<usize>,
    /// Why there is something left.
    pub(super) failure: Option<Failure>,
    /// What the store says it used; `None` where it does not say.
    consumed: Option<Capacity>,
}

impl Attempt {
    pub(super) fn failed(rows: &[usize], failure: Failure) -> Self {
        let unsure = if failure.fault == Fault::Unknown { rows.to_vec() } else { Vec::new() };
        Self { again: rows.to_vec(), unsure, failure: Some(failure), ..Self::default() }
    }

    /// What the request used, as far as one can know: what the store says, else what was estimated for the
    /// records that it decided on or may have written.
    pub(super) fn used(&self, estimate: Capacity, rows: usize) -> Capacity {
        #[expect(clippy::cast_precision_loss, reason = "a request has at most 25 records")]
        let share = (self.settled.len() + self.unsure.len()).min(rows) as f64 / rows.max(1) as f64;
        let estimated = Capacity { write_units: estimate.write_units * share, ..Capacity::default() };
        self.consumed.unwrap_or(estimated)
    }

    pub(super) fn written(rows: &[usize]) -> Self {
        Self { settled: rows.iter().map(|row| (*row, Verdict::Written)).collect(), ..Self::default() }
    }

    /// The row cannot be written, and nothing was sent.
    pub(super) fn refused(row: usize, reason: String) -> Self {
        Self {
            settled: vec![(row, Verdict::Refused(reason))],
            consumed: Some(Capacity::default()),
            ..Self::default()
        }
    }

    /// The request of a single row failed.
    pub(super) fn alone(row: usize, failure: Failure) -> Self {
        let mut attempt = Self::default();
        attempt.add(row, failure);
        attempt
    }

    /// With what the store says it used.
    pub(super) fn consumed(mut self, consumed: &[ConsumedCapacity]) -> Self {
        let said = !consumed.is_empty();
        self.consumed = said.then(|| Capacity { write_units: units(consumed), ..Capacity::default() });
        self
    }

    /// One statement failed, the others stand.
    pub(super) fn add(&mut self, row: usize, failure: Failure) {
        match failure.fault {
            Fault::Exists => return self.settled.push((row, Verdict::Exists)),
            Fault::Refused => return self.settled.push((row, Verdict::Refused(failure.reason))),
            Fault::Unknown => self.unsure.push(row),
            Fault::Throttled | Fault::NotSent | Fault::Fatal => {}
        }
        self.again.push(row);
        // What cannot be healed outweighs what can.
        if self.failure.as_ref().is_none_or(|known| known.fault.is_retryable()) {
            self.failure = Some(failure);
        }
    }
}

impl Delivery<'_> {
    /// Whether the row cannot share a request.
    pub(super) fn goes_alone(&self, row: usize) -> bool {
        let Some(row) = self.row(row) else { return false };
        match row.way {
            Way::Put => false,
            Way::Create => {
                self.encoder.attributes(&row.prepared).count() > STATEMENT_ATTRIBUTES
                    || self.insert_length(row) > STATEMENT_BYTES
            }
            Way::Update => self.update_goes_alone(row),
        }
    }

    /// Sends the rows once.
    pub(super) async fn attempt(&self, rows: &[usize]) -> Attempt {
        let way = rows.first().and_then(|row| self.row(*row)).map(|row| row.way);
        match (way, rows) {
            // All of a batch are put, or none.
            (Some(Way::Put), _) => self.put(rows).await,
            (Some(Way::Create), [row]) if self.goes_alone(*row) => self.put_new(*row).await,
            (Some(Way::Update), [row]) if self.goes_alone(*row) => self.update_alone(*row).await,
            _ => self.execute(rows).await,
        }
    }

    /// What the answer is to say of the units: the sum, and where there are indexes, theirs in it.
    pub(super) fn wanted_capacity(&self) -> ReturnConsumedCapacity {
        if self.parts.layout.indexes.is_empty() {
            ReturnConsumedCapacity::Total
        } else {
            ReturnConsumedCapacity::Indexes
        }
    }

    fn body(&self, rows: &[usize]) -> Vec<u8> {
        let bytes: u64 = rows.iter().map(|row| self.bytes(*row)).sum();
        let attributes = rows.len() * self.encoder.columns.len();
        Vec::with_capacity(usize::try_from(bytes).unwrap_or(0) + attributes * 16 + 256)
    }

    /// `BatchWriteItem`: each item takes the place of what its key held.
    async fn put(&self, rows: &[usize]) -> Attempt {
        let mut body = self.body(rows);
        body.extend(b"{\"RequestItems\":{");
        json::text(&mut body, &self.parts.request.table);
        body.push(b':');
        json::list(&mut body, self.rows(rows), |body, (_, row)| {
            body.extend(b"{\"PutRequest\":{\"Item\":{");
            for (number, (column, value)) in self.encoder.attributes(&row.prepared).enumerate() {
                body.extend(if number == 0 { &b""[..] } else { b"," });
                body.extend(column.json_name.as_bytes());
                body.push(b':');
                json::value(body, value);
            }
            body.extend(b"}}}");
        });
        body.push(b'}');
        self.ask_for_capacity(&mut body);
        // The SDK chooses the endpoint by the table's name, which may be an ARN.
        let request = self.connection.client.batch_write_item();
        let request = request.request_items(&self.parts.request.table, Vec::new());
        let output = match request.customize().mutate_request(with_body(body)).send().await {
            Ok(output) => output,
            Err(error) => return Attempt::failed(rows, self.connection.failure(error).await),
        };
        let consumed = output.consumed_capacity.unwrap_or_default();
        let unprocessed = output.unprocessed_items.unwrap_or_default();
        if unprocessed.is_empty() {
            return Attempt::written(rows).consumed(&consumed);
        }
        let again: Option<Vec<usize>> = unprocessed
            .values()
            .flatten()
            .map(|request| self.row_of(rows, request.put_request()?.item()))
            .collect();
        let Some(again) = again else {
            let failure = Failure::protocol("an unprocessed item was given back that was never sent");
            return Attempt::failed(rows, failure).consumed(&consumed);
        };
        let done: Vec<usize> = rows.iter().copied().filter(|row| !again.contains(row)).collect();
        let failure = Some(Failure::gave_back("some items were given back unprocessed"));
        Attempt { again, failure, ..Attempt::written(&done).consumed(&consumed) }
    }

    /// The row of a batch that has the item's key.
    fn row_of(&self, rows: &[usize], item: &Item) -> Option<usize> {
        let key = self.parts.layout.key_of(item);
        let key = self.parts.context.fingerprint_key.fingerprint(&key, &key).key;
        self.rows(rows).find(|(_, row)| row.prepared.fingerprint.key == key).map(|(number, _)| number)
    }

    /// `BatchExecuteStatement`: one guarded statement for each row, each with an answer of its own.
    async fn execute(&self, rows: &[usize]) -> Attempt {
        let mut body = self.body(rows);
        let (mut text, mut parameters) = (String::new(), Vec::new());
        body.extend(b"{\"Statements\":[");
        for (number, row) in rows.iter().filter_map(|row| self.row(*row)).enumerate() {
            text.clear();
            parameters.clear();
            match row.way {
                Way::Update => self.update_statement(row, &mut text, &mut parameters),
                Way::Create | Way::Put => self.insert_statement(row, &mut text, &mut parameters),
            }
            body.extend(if number == 0 { &b"{\"Statement\":"[..] } else { b",{\"Statement\":" });
            json::text(&mut body, &text);
            body.extend(b",\"Parameters\":");
            json::list(&mut body, parameters.iter().copied(), json::value);
            body.push(b'}');
        }
        body.push(b']');
        self.ask_for_capacity(&mut body);
        let request = self.connection.client.batch_execute_statement();
        let output = match request.customize().mutate_request(with_body(body)).send().await {
            Ok(output) => output,
            Err(error) => return Attempt::failed(rows, self.connection.failure(error).await),
        };
        if output.responses().len() != rows.len() {
            let failure = Failure::protocol("the store did not answer each statement");
            return Attempt::failed(rows, failure).consumed(output.consumed_capacity());
        }
        let mut attempt = Attempt::default().consumed(output.consumed_capacity());
        for (row, response) in rows.iter().zip(output.responses()) {
            match statement_failure(response) {
                Some(failure) => attempt.add(*row, failure),
                None => attempt.settled.push((*row, Verdict::Written)),
            }
        }
        attempt
    }

    /// Ends a body with the question for units.
    fn ask_for_capacity(&self, body: &mut Vec<u8>) {
        body.extend(b",\"ReturnConsumedCapacity\":\"");
        body.extend(self.wanted_capacity().as_str().as_bytes());
        body.extend(b"\"}");
    }

    /// `INSERT INTO "table" VALUE {'a': ?, …}`, attributes by name.
    fn insert_statement<'s>(
        &'s self,
        row: &'s Row,
        text: &mut String,
        parameters: &mut Vec<&'s AttributeValue>,
    ) {
        text.push_str("INSERT INTO ");
        quote(text, '"', &self.parts.request.table);
        text.push_str(" VALUE {");
        for (number, (column, value)) in self.encoder.attributes(&row.prepared).enumerate() {
            if number > 0 {
                text.push_str(", ");
            }
            quote(text, '\'', column.name);
            text.push_str(": ?");
            parameters.push(value);
        }
        text.push('}');
    }

    /// At least the length of the statement.
    fn insert_length(&self, row: &Row) -> usize {
        let names: usize = self
            .encoder
            .attributes(&row.prepared)
            .map(|(column, _)| column.name.len() + column.name.matches('\'').count() + "'': ?, ".len())
            .sum();
        "INSERT INTO  VALUE {}".len() + 2 * self.parts.request.table.len() + 2 + names
    }

    /// `PutItem` where the key holds nothing: for an item whose statement would be too long.
    async fn put_new(&self, number: usize) -> Attempt {
        let (Some(row), Some(key)) = (self.row(number), self.parts.layout.key.first()) else {
            return Attempt::failed(&[number], Failure::protocol("an item or its key is missing"));
        };
        let request = self.connection.client.put_item().table_name(&self.parts.request.table);
        let request = request
            .set_item(Some(self.encoder.item(&row.prepared)))
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", &key.name)
            .return_consumed_capacity(self.wanted_capacity());
        match request.send().await {
            Ok(output) => Attempt::written(&[number]).consumed(output.consumed_capacity.as_slice()),
            Err(error) => Attempt::alone(number, self.connection.failure(error).await),
        }
    }
}

/// Puts a body in the place of that which the SDK has written, before the request is signed.
fn with_body(body: Vec<u8>) -> impl Fn(&mut HttpRequest) + Send + Sync + 'static {
    move |request| {
        request.headers_mut().insert("content-length", body.len().to_string());
        *request.body_mut() = body.clone().into();
    }
}

/// Appends a quoted name, quotes within it doubled.
pub(super) fn quote(text: &mut String, quote: char, name: &str) {
    text.push(quote);
    for character in name.chars() {
        if character == quote {
            text.push(quote);
        }
        text.push(character);
    }
    text.push(quote);
}

fn statement_failure(response: &BatchStatementResponse) -> Option<Failure> {
    let error = response.error()?;
    let code = error.code().map(|code| code.as_str()).unwrap_or_default();
    Some(Failure::answered(200, code, error.message().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        let mut text = String::new();
        quote(&mut text, '\'', "b'c\"");
        quote(&mut text, '"', "b'c\"😀");
        assert_eq!(text, "'b''c\"'\"b'c\"\"😀\"");
    }

    #[test]
    fn units_without_a_word_of_the_store_are_estimated() {
        let estimate = Capacity { write_units: 10.0, ..Capacity::default() };
        let used = |attempt: &Attempt| attempt.used(estimate, 4).write_units;
        assert!((used(&Attempt::written(&[0, 1, 2, 3])) - 10.0).abs() < f64::EPSILON);
        assert!((used(&Attempt::written(&[0, 1])) - 5.0).abs() < f64::EPSILON);
        let lost = Attempt::failed(&[0, 1, 2, 3], Failure::answered(500, "", ""));
        assert!((used(&lost) - 10.0).abs() < f64::EPSILON, "it may have been written");
        let refused = Attempt::failed(&[0, 1, 2, 3], Failure::answered(400, "ThrottlingException", ""));
        assert!(used(&refused).abs() < f64::EPSILON);
        let said = ConsumedCapacity::builder().capacity_units(3.0).build();
        assert!((used(&Attempt::written(&[0]).consumed(&[said])) - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn one_failed_statement_leaves_the_others_alone() {
        let mut attempt = Attempt::default();
        attempt.add(0, Failure::answered(200, "DuplicateItem", ""));
        attempt.add(1, Failure::answered(200, "ThrottlingError", ""));
        attempt.add(2, Failure::answered(200, "InternalServerError", ""));
        attempt.add(3, Failure::answered(200, "ValidationError", "bad"));
        assert_eq!(attempt.settled[0], (0, Verdict::Exists));
        assert_eq!(attempt.settled[1], (3, Verdict::Refused("ValidationError: bad".to_owned())));
        assert_eq!((&attempt.again[..], &attempt.unsure[..]), (&[1, 2][..], &[2][..]));
        attempt.add(4, Failure::answered(200, "AccessDenied", ""));
        attempt.add(5, Failure::answered(200, "ThrottlingError", ""));
        assert_eq!(attempt.failure.unwrap().fault, Fault::Fatal);
    }
}
